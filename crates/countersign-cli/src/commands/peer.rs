use std::path::Path;

use countersign::client::{BaseUrl, tls_config};
use countersign::store::{Credential, Keys, KeysError, Listing, Peer, StoreError};
use countersign::{ApiKey, NewKeys, NewPeer, Profile, SharedSecret, Trust};
use serde_json::{Value, json};

use crate::args::{PeerAddArgs, PeerCommand};
use crate::change::{self, Change};
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::secret_input::{SecretSource, prompt};
use crate::show;

pub(crate) fn run(home: &Home, command: PeerCommand) -> Result<(), Failure> {
    match command {
        PeerCommand::Add(args) => add(home, &args),
        PeerCommand::List(output) => list(home, output.json),
        PeerCommand::Show(args) => {
            let peer = home.store()?.get(&args.peer.name)?;
            if args.output.json { show::json(&describe(&peer)) } else { show_one(&peer) }
        }
        PeerCommand::Remove(peer) => {
            let Stores { peers, local } = home.stores()?;
            peers.remove(&peer.name)?;
            change::record(home, &local, Change::of("peer-remove", "peer-removed", &peer.name))?;
            show::out(&format!("removed {}; a running server refuses it within a second\n", peer.name))
        }
    }
}

fn add(home: &Home, args: &PeerAddArgs) -> Result<(), Failure> {
    // Everything that can be wrong with the arguments is said before a secret is asked for.
    let Stores { peers: store, local } = home.stores()?;
    // Kept as the parser writes it: in ASCII, percent-encoded.
    let url = args.url.as_deref().map(BaseUrl::parse).transpose()?.map(|url| url.to_string());
    let trust = trust(args)?;
    if args.url.is_some() {
        tls_config(&trust).or_else(|error| match trust {
            // A machine without authorities can still add the peer and be called by it.
            Trust::System => Ok(tls_config(&Trust::Pin([0; 32]))?),
            _ => Err(error),
        })?;
    }
    if args.peer.name == home.config()?.service {
        return Err(Failure::new(format!("`{}` is this service itself", args.peer.name)));
    }
    let keys = match args.profile {
        Profile::SharedSecret => shared_secret_keys(args)?,
        Profile::ApiKey => api_key_keys(args)?,
        other => return Err(Failure::new(format!("the profile {other} cannot be added by hand"))),
    };
    let peer = NewPeer {
        name: args.peer.name.clone(),
        url,
        trust,
        danger_unproven_server: args.danger_unproven_server,
        keys,
    };
    let peer = store.add(peer, show::now())?;
    let change = Change {
        credential: peer.credentials.last().map(|credential| credential.id(&peer.name)),
        profile: Some(peer.profile),
        ..Change::of("peer-add", "peer-added", &peer.name)
    };
    let recorded = change::record(home, &local, change);
    let fingerprint = peer.credentials.last().map(|credential| credential.fingerprint.to_string());
    show::out(&format!(
        "added {} (profile {})\nfingerprint {}\nThe other side must see the same digits: `countersign peer show`, and read them to each other.\n",
        peer.name,
        peer.profile,
        fingerprint.unwrap_or_default(),
    ))?;
    recorded
}

fn trust(args: &PeerAddArgs) -> Result<Trust, Failure> {
    match (&args.tls_ca, &args.tls_pin) {
        (Some(path), _) => {
            let pem = std::fs::read_to_string(path).context(|| path.display().to_string())?;
            let trust = Trust::Ca(pem);
            tls_config(&trust).context(|| path.display().to_string())?;
            Ok(trust)
        }
        (None, Some(pin)) => Ok(pin.clone()),
        (None, None) => Ok(Trust::System),
    }
}

fn shared_secret_keys(args: &PeerAddArgs) -> Result<NewKeys, Failure> {
    if args.our_key_file.is_some() || args.their_key_file.is_some() {
        return Err(Failure::usage(
            "--our-key-file and --their-key-file belong to the profile api-key; shared-secret takes --our-key and --their-key",
        ));
    }
    let (Some(our_key), Some(their_key)) = (&args.our_key, &args.their_key) else {
        return Err(Failure::usage("the profile shared-secret needs --our-key and --their-key"));
    };
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
            if !std::io::IsTerminal::is_terminal(&std::io::stdin()) {
                return Err(Failure::usage(
                    "where is the secret? --secret-file FILE, or - for standard input, or env:NAME",
                ));
            }
            let secret = parse_secret(&prompt("secret")?, "secret")?;
            (secret.clone(), secret)
        }
    };
    Ok(NewKeys::shared_secret(our_key.clone(), their_key.clone(), ours, theirs)?)
}

fn api_key_keys(args: &PeerAddArgs) -> Result<NewKeys, Failure> {
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

fn list(home: &Home, as_json: bool) -> Result<(), Failure> {
    let Listing { peers, damaged } = home.store()?.read_all()?;
    if as_json {
        show::json(&peers.iter().map(describe).collect::<Vec<_>>())?;
        return complain(&damaged);
    }
    if peers.is_empty() && damaged.is_empty() {
        return show::out("no peers yet: `countersign peer add` (docs/key-exchange.md)\n");
    }
    let now = show::now();
    let rows: Vec<_> = peers
        .iter()
        .map(|peer| {
            vec![
                peer.name.to_string(),
                peer.profile.to_string(),
                peer.url.as_deref().map_or_else(|| "-".to_owned(), show::printable_lines),
                peer.credentials.len().to_string(),
                show::age(peer.created, now),
            ]
        })
        .collect();
    show::out(&show::table(&["PEER", "PROFILE", "URL", "CREDENTIALS", "ADDED"], &rows))?;
    complain(&damaged)
}

/// Fails with what is wrong with each damaged peer, after the others have been shown.
pub(crate) fn complain(damaged: &[StoreError]) -> Result<(), Failure> {
    if damaged.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = damaged.iter().map(ToString::to_string).collect();
    Err(Failure::new(lines.join("\n")))
}

fn show_one(peer: &Peer) -> Result<(), Failure> {
    let now = show::now();
    let mut text = format!("peer         {}\nprofile      {}\n", peer.name, peer.profile);
    if let Some(url) = &peer.url {
        text.push_str(&format!(
            "url          {}\ntls          {}\n",
            show::printable_lines(url),
            trust_text(&peer.trust)
        ));
    }
    if peer.danger_unproven_server {
        text.push_str("danger       its server is called even if it does not prove itself\n");
    }
    for credential in &peer.credentials {
        let (ours, theirs) = keys(credential);
        text.push_str(&format!(
            "\ncredential   {}\n  added      {} ago\n  our key    {}\n  their key  {}\n  fingerprint  {}\n",
            credential.id(&peer.name),
            show::age(credential.created, now),
            ours.as_str(),
            theirs.as_str(),
            credential.fingerprint,
        ));
    }
    text.push_str("\nRead the fingerprint to the other side's operator, on a call that you trust.\n");
    show::out(&text)
}

fn trust_text(trust: &Trust) -> String {
    match trust {
        Trust::System => "the system's certificate authorities".to_owned(),
        Trust::Ca(_) => "given certificates".to_owned(),
        Trust::Pin(pin) => format!("pinned key {}", Trust::pin_text(pin)),
    }
}

/// Our key and theirs, as far as they may be shown: under api-key a key is a secret.
fn keys(credential: &Credential) -> (String, String) {
    match &credential.keys {
        Keys::SharedSecret { our_key, their_key, .. } => {
            (our_key.expose().to_owned(), their_key.expose().to_owned())
        }
        Keys::ApiKey { ours, theirs } => {
            let known = |there: bool| if there { "set (a secret: not shown)" } else { "none" }.to_owned();
            (known(ours.is_some()), known(theirs.is_some()))
        }
    }
}

/// A peer as JSON, without secrets.
pub(crate) fn describe(peer: &Peer) -> Value {
    let credentials: Vec<Value> = peer
        .credentials
        .iter()
        .map(|credential| {
            let public = (peer.profile == Profile::SharedSecret).then(|| keys(credential));
            let (ours, theirs) = public.unzip();
            json!({
                "id": credential.id(&peer.name).to_string(),
                "number": credential.number,
                "created": credential.created.0,
                "fingerprint": credential.fingerprint.as_str(),
                "ourKey": ours,
                "theirKey": theirs,
            })
        })
        .collect();
    json!({
        "name": peer.name.as_str(),
        "profile": peer.profile.as_str(),
        "url": peer.url,
        "tls": trust_text(&peer.trust),
        "created": peer.created.0,
        "dangerUnprovenServer": peer.danger_unproven_server,
        "credentials": credentials,
    })
}

/// The PEM file of `--upstream`'s authority.
pub(crate) fn trust_in_file(path: Option<&Path>) -> Result<Trust, Failure> {
    match path {
        Some(path) => Ok(Trust::Ca(std::fs::read_to_string(path).context(|| path.display().to_string())?)),
        None => Ok(Trust::System),
    }
}
