//! All keys of a new pair, made here; the other side's half goes into a file.

use std::io::{ErrorKind, Write as _};
use std::path::Path;

use countersign::client::BaseUrl;
use countersign::protocol::cs1::Binding;
use countersign::store::file::write_new;
use countersign::store::{Cs1Options, Introduction, Peer, StoreError, random};
use countersign::{ApiKey, NewKeys, NewPeer, Profile, ServiceName, SharedSecret, Trust};
use countersign_gateway::TlsIdentity;
use serde_json::json;
use zeroize::Zeroizing;

use super::args::PeerExportArgs;
use super::seal::Readers;
use super::{DECLARED, passphrase, place};
use crate::change::{self, Change};
use crate::commands::peer;
use crate::config::Config;
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::show;

pub(crate) fn export(home: &Home, args: &PeerExportArgs) -> Result<(), Failure> {
    // Everything that can be wrong with the arguments is said before a secret is asked for.
    let stores = home.changeable(DECLARED)?;
    let config = home.config()?;
    let (name, profile) = (&args.peer.name, args.profile);
    if !matches!(profile, Profile::Cs1 | Profile::SharedSecret) {
        return Err(Failure::usage(
            "--profile: cs1, or shared-secret; keys of the profile api-key are exchanged by hand (docs/key-exchange.md)",
        ));
    }
    if *name == config.service {
        return Err(Failure::new(format!("`{name}` is this service itself")));
    }
    let cs1 = Cs1Options { binding: args.binding.unwrap_or(Binding::None), danger_direct: false };
    cs1.check(profile, false).map_err(|error| Failure::usage(error.to_string()))?;
    let trust = peer::trust(args.tls_ca.as_deref(), args.tls_pin.as_ref())?;
    let their_url = args.their_url.as_deref().map(BaseUrl::parse).transpose()?.map(|url| url.to_string());
    let (url, pin) = ours(home, &config, args)?;
    refuse_known(&stores, name)?;
    let readers = readers(args)?;

    let introduction = Introduction {
        maker: config.service,
        taker: name.clone(),
        url,
        pin,
        binding: cs1.binding,
        keys: fresh(profile)?,
    };
    let sealed = readers.seal(&introduction.text())?;
    let new = NewPeer {
        name: name.clone(),
        url: their_url,
        trust,
        danger_unproven_server: false,
        cs1,
        keys: introduction.keys.clone(),
    };
    let _lock = home.lock()?;
    refuse_known(&stores, name)?;
    let made = Made { home, stores: &stores, args, readers: &readers, introduction: &introduction };
    match args.out.as_deref() {
        Some(path) if path == Path::new("-") => made.printed(new, &sealed),
        Some(path) => made.filed(new, &sealed, path),
        None => {
            home.make_exchange_directory()?;
            made.filed(new, &sealed, &place(home, name))
        }
    }
}

/// Where the other side calls us, and our TLS key there.
fn ours(
    home: &Home,
    config: &Config,
    args: &PeerExportArgs,
) -> Result<(Option<String>, Option<[u8; 32]>), Failure> {
    let configured = config.serve.external_urls.first().map(|url| {
        let (url, scheme) = (&url.0, if url.0.is_https() { "https" } else { "http" });
        format!("{scheme}://{}{}", url.authority(), url.prefix())
    });
    let Some(url) = args.url.clone().or(configured) else { return Ok((None, None)) };
    let url = BaseUrl::parse(&url)?.to_string();
    if url.len() > countersign::store::exchange::introduction::MAX_URL {
        return Err(Failure::usage("--url: it is too long to be exported"));
    }
    if args.no_tls_pin || !url.starts_with("https://") {
        return Ok((Some(url), None));
    }
    let (certificate, key) = home.tls_files(config);
    let pin = TlsIdentity::load(&certificate, &key).and_then(|identity| identity.pin());
    let pin = pin.context(|| {
        "our TLS key, which the other side is to trust, cannot be told (--no-tls-pin leaves it out, where an authority that everybody trusts has signed the certificate)".to_owned()
    })?;
    Ok((Some(url), Some(pin)))
}

fn refuse_known(stores: &Stores, name: &ServiceName) -> Result<(), Failure> {
    match stores.peers.get(name) {
        Ok(_) => Err(StoreError::NameTaken(name.clone()).into()),
        Err(StoreError::NoSuchPeer(_)) => Ok(()),
        Err(error) => Err(error.into()),
    }
}

fn readers(args: &PeerExportArgs) -> Result<Readers, Failure> {
    if !args.recipients.is_empty() {
        return Readers::keys(&args.recipients);
    }
    let missing = "who is to be able to read it? --recipient age1…, or --passphrase-file FILE (- for standard input, env:NAME)";
    let text = passphrase(args.passphrase_file.as_ref(), missing)?;
    let readers = Readers::passphrase(&text)?;
    if args.passphrase_file.is_none() && *crate::secret_input::prompt("again")? != *text {
        return Err(Failure::new("these were two different passphrases; nothing was changed"));
    }
    Ok(readers)
}

/// Both API keys and the one secret of a pair.
fn fresh(profile: Profile) -> Result<NewKeys, Failure> {
    let key = || ApiKey::generate(&random());
    let secret = SharedSecret::generate(&Zeroizing::new(random()));
    Ok(match profile {
        Profile::Cs1 => NewKeys::cs1(key(), key(), secret)?,
        _ => NewKeys::shared_secret(key(), key(), secret.clone(), secret)?,
    })
}

/// What was made, and what is left to be done with it.
struct Made<'a> {
    home: &'a Home,
    stores: &'a Stores,
    args: &'a PeerExportArgs,
    readers: &'a Readers,
    introduction: &'a Introduction,
}

impl Made<'_> {
    /// Into a file, which is there before the keys are in use: a crash leaves nothing, or a file that opens nothing.
    fn filed(&self, new: NewPeer, sealed: &[u8], path: &Path) -> Result<(), Failure> {
        let name = new.name.clone();
        match write_new(path, 0o600, sealed) {
            Ok(()) => {}
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                return Err(Failure::new(format!(
                    "{0} is there already, and is left as it is. {name} is not a peer of this service: if an interrupted `peer export` or a peer that is gone has left the file, its keys open nothing: `rm {0}` and try again. Nothing was changed",
                    path.display()
                )));
            }
            Err(error) => {
                return Err(Failure::new(format!("{}: {error}; nothing was changed", path.display())));
            }
        }
        let peer = match self.stores.peers.add(new, show::now()) {
            Ok(peer) => peer,
            // A store may have done it and then failed to say so.
            Err(error) => match self.stores.peers.get(&name) {
                Ok(peer) if peer.newest_fingerprint() == Some(&self.introduction.keys.fingerprint()) => peer,
                Ok(_) | Err(StoreError::NoSuchPeer(_)) => {
                    let _ = std::fs::remove_file(path);
                    return Err(error.into());
                }
                Err(_) => {
                    return Err(Failure::new(format!(
                        "{error}. Whether {name} was added cannot be told now; its keys are in {}, and `countersign peer show {name}` will tell",
                        path.display()
                    )));
                }
            },
        };
        let recorded = self.record(&peer);
        let told = self.tell(&peer, Some(path));
        Failure::both(told, recorded)
    }

    /// To standard output, once they are in use: whoever reads there takes in at once what comes.
    fn printed(&self, new: NewPeer, sealed: &[u8]) -> Result<(), Failure> {
        let peer = self.stores.peers.add(new, show::now())?;
        let recorded = self.record(&peer);
        let mut stdout = std::io::stdout().lock();
        if let Err(error) = stdout.write_all(sealed).and_then(|()| stdout.flush()) {
            return Err(self.undo(&peer, &error));
        }
        drop(stdout);
        show::err(&show::printable_lines(&self.story(&peer, None)));
        recorded
    }

    /// Takes back what nobody has got the keys of.
    fn undo(&self, peer: &Peer, why: &std::io::Error) -> Failure {
        let why = format!("the file could not be written to standard output: {why}");
        if let Err(error) = self.stores.peers.remove(&peer.name) {
            return Failure::new(format!(
                "{why}; and {0} could not be removed again ({error}): `countersign peer remove {0}`",
                peer.name
            ));
        }
        let change = Change {
            profile: Some(peer.profile),
            detail: Some("its keys could not be written".to_owned()),
            ..Change::of("peer-export", "peer-removed", &peer.name)
        };
        let unrecorded = change::record(self.home, &self.stores.local, change).err();
        let unrecorded = unrecorded.map(|failure| format!("; {}", failure.message())).unwrap_or_default();
        Failure::new(format!("{why}. {} was not added{unrecorded}", peer.name))
    }

    fn record(&self, peer: &Peer) -> Result<(), Failure> {
        let change = Change {
            credential: peer.credentials.last().map(|credential| credential.id(&peer.name)),
            profile: Some(peer.profile),
            detail: Some(format!("its keys were made here, and written {}", self.readers.shown())),
            ..Change::of("peer-export", "peer-added", &peer.name)
        };
        change::record(self.home, &self.stores.local, change)
    }

    fn tell(&self, peer: &Peer, path: Option<&Path>) -> Result<(), Failure> {
        if !self.args.json {
            return show::done(&show::printable_lines(&self.story(peer, path)));
        }
        let made = self.introduction;
        show::json(&json!({
            "peer": peer.name.as_str(),
            "profile": peer.profile.as_str(),
            "fingerprint": made.keys.fingerprint().as_str(),
            "file": path.map(|path| path.display().to_string()),
            "recipients": self.args.recipients,
            "passphrase": matches!(self.readers, Readers::Passphrase(_)),
            "url": made.url,
            "tlsPin": made.pin.as_ref().map(Trust::pin_text),
            "binding": (peer.profile == Profile::Cs1).then(|| made.binding.as_str()),
        }))
    }

    fn story(&self, peer: &Peer, path: Option<&Path>) -> String {
        let (name, made) = (&peer.name, self.introduction);
        let place = path.map_or_else(|| "was printed".to_owned(), |path| format!("is in {}", path.display()));
        let passphrase = match self.readers {
            Readers::Passphrase(_) => "Never send the passphrase on the way that the file takes.\n",
            Readers::Keys(_) => "",
        };
        let reached = made.url.as_deref().map_or_else(
            || format!("No URL of this service is in it, so {name} can be called and cannot call: --url\n"),
            |url| format!("{name} calls this service at {url}\n"),
        );
        format!(
            "added {name} (profile {})\nfingerprint {}\nWhat {name} needs {place}, encrypted {}. There: countersign peer import FILE\n\
             {passphrase}{reached}\
             Then compare the fingerprint by phone (docs/key-exchange.md). If it differs: `countersign peer remove {name}`, on both sides.\n",
            peer.profile,
            made.keys.fingerprint(),
            self.readers.shown(),
        )
    }
}
