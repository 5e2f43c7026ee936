//! Keys and secrets that were agreed with the other side and are given on the command line.

use countersign::store::KeysError;
use countersign::{ApiKey, NewKeys, Profile, SharedSecret};

use crate::args::KeyArgs;
use crate::failure::{Context as _, Failure};
use crate::secret_input::{SecretSource, prompt};

/// Reads what the options name, once all of them are known to fit the profile.
pub(crate) fn given_keys(profile: Profile, args: &KeyArgs) -> Result<NewKeys, Failure> {
    match profile {
        Profile::Cs1 => cs1_keys(args),
        Profile::SharedSecret => shared_secret_keys(args),
        Profile::ApiKey => api_key_keys(args),
        other => Err(Failure::new(format!("the profile {other} cannot be given by hand"))),
    }
}

fn cs1_keys(args: &KeyArgs) -> Result<NewKeys, Failure> {
    let (our_key, their_key) = public_keys(Profile::Cs1, args)?;
    if args.our_secret_file.is_some() || args.their_secret_file.is_some() {
        return Err(Failure::usage(
            "the profile cs1 has one secret for both directions: --secret-file, and neither --our-secret-file nor --their-secret-file",
        ));
    }
    let secret = match &args.secret_file {
        Some(one) => read_secret(one, "secret")?,
        None => asked_secret()?,
    };
    Ok(NewKeys::cs1(our_key.clone(), their_key.clone(), secret)?)
}

/// Our API key and theirs, which are no secrets.
fn public_keys(profile: Profile, args: &KeyArgs) -> Result<(&ApiKey, &ApiKey), Failure> {
    if args.our_key_file.is_some() || args.their_key_file.is_some() {
        return Err(Failure::usage(format!(
            "--our-key-file and --their-key-file belong to the profile api-key; {profile} takes --our-key and --their-key"
        )));
    }
    match (&args.our_key, &args.their_key) {
        (Some(our_key), Some(their_key)) => Ok((our_key, their_key)),
        _ => Err(Failure::usage(format!("the profile {profile} needs --our-key and --their-key"))),
    }
}

/// The one secret of a pair, from the terminal.
fn asked_secret() -> Result<SharedSecret, Failure> {
    if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
        return Err(Failure::usage(
            "where is the secret? --secret-file FILE, or - for standard input, or env:NAME",
        ));
    }
    parse_secret(&prompt("secret")?, "secret")
}

fn shared_secret_keys(args: &KeyArgs) -> Result<NewKeys, Failure> {
    let (our_key, their_key) = public_keys(Profile::SharedSecret, args)?;
    let (ours, theirs) = match (&args.secret_file, &args.our_secret_file, &args.their_secret_file) {
        (Some(one), None, None) => {
            let secret = read_secret(one, "secret")?;
            (secret.clone(), secret)
        }
        (None, Some(ours), Some(theirs)) => {
            if matches!((ours, theirs), (SecretSource::StandardInput, SecretSource::StandardInput)) {
                return Err(Failure::usage("only one of two secrets can come from standard input"));
            }
            (read_secret(ours, "our secret")?, read_secret(theirs, "their secret")?)
        }
        _ => {
            let secret = asked_secret()?;
            (secret.clone(), secret)
        }
    };
    Ok(NewKeys::shared_secret(our_key.clone(), their_key.clone(), ours, theirs)?)
}

fn api_key_keys(args: &KeyArgs) -> Result<NewKeys, Failure> {
    if args.our_key.is_some() || args.their_key.is_some() {
        return Err(Failure::usage(
            "under the profile api-key the key is the secret, which must not be an argument: --our-key-file, --their-key-file",
        ));
    }
    if args.secret_file.is_some() || args.our_secret_file.is_some() {
        return Err(Failure::usage("the profile api-key has no secret beside the key"));
    }
    if matches!(
        (&args.our_key_file, &args.their_key_file),
        (Some(SecretSource::StandardInput), Some(SecretSource::StandardInput))
    ) {
        return Err(Failure::usage("only one of two keys can come from standard input"));
    }
    if args.our_key_file.is_none() && args.their_key_file.is_none() {
        return Err(Failure::usage(KeysError::NoKey.to_string()));
    }
    let read = |source: &Option<SecretSource>, what: &str| {
        source.as_ref().map(|source| read_key(source, what)).transpose()
    };
    let keys = (read(&args.our_key_file, "our key")?, read(&args.their_key_file, "their key")?);
    Ok(NewKeys::api_key(keys.0, keys.1)?)
}

fn read_secret(source: &SecretSource, what: &str) -> Result<SharedSecret, Failure> {
    parse_secret(&source.read(what)?, what)
}

fn parse_secret(text: &str, what: &str) -> Result<SharedSecret, Failure> {
    text.parse().context(|| format!("{what}: it cannot be used"))
}

fn read_key(source: &SecretSource, what: &str) -> Result<ApiKey, Failure> {
    source.read(what)?.parse().context(|| format!("{what}: it cannot be used"))
}
