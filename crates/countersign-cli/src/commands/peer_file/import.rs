//! The peer that the other side has written down.

use std::fs::File;
use std::io::Read;
use std::path::Path;

use countersign::client::{BaseUrl, tls_config};
use countersign::protocol::fingerprint::Fingerprint;
use countersign::store::{Cs1Options, Introduction, Peer};
use countersign::{NewPeer, ServiceName, Trust};
use serde_json::json;
use zeroize::Zeroizing;

use super::args::PeerImportArgs;
use super::seal::{MAX_FILE, Opener, Sealed};
use super::{DECLARED, passphrase};
use crate::change::{self, Change};
use crate::commands::peer;
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::secret_input::SecretSource;
use crate::show;

/// A file with secret keys: remarks and a few dozen lines.
const MAX_IDENTITIES: u64 = 16 * 1024;

pub(crate) fn import(home: &Home, args: &PeerImportArgs) -> Result<(), Failure> {
    // Everything that can be wrong with the arguments is said before a secret is asked for.
    let stores = home.changeable(DECLARED)?;
    let service = home.config()?.service;
    let given_url = args.url.as_deref().map(BaseUrl::parse).transpose()?;
    let given_trust = (args.tls_ca.is_some() || args.tls_pin.is_some())
        .then(|| peer::trust(args.tls_ca.as_deref(), args.tls_pin.as_ref()))
        .transpose()?;
    let text = opened(args)?;
    let what = || shown(&args.file);
    let read = Introduction::parse(&text).context(what)?;

    let name = args.name.clone().unwrap_or_else(|| read.maker.clone());
    if name == service {
        return Err(Failure::new(if args.name.is_some() {
            format!("--name: `{name}` is this service itself")
        } else {
            format!(
                "{} was made by a service named `{name}`, and so is this one: either it was made here and belongs on the other side, or give the peer another name with --name. Nothing was changed",
                what()
            )
        }));
    }
    let url = match (given_url, &read.url) {
        (Some(url), _) => Some(url.to_string()),
        (None, Some(url)) => {
            Some(BaseUrl::parse(url).context(|| format!("{}: the URL in it", what()))?.to_string())
        }
        (None, None) => None,
    };
    let trust = given_trust.unwrap_or_else(|| read.pin.map_or(Trust::System, Trust::Pin));
    if url.is_some() && trust != Trust::System {
        tls_config(&trust)?;
    }
    let fingerprint = read.keys.fingerprint();
    if args.fingerprint.as_ref().is_some_and(|read_out| !read_out.is(&fingerprint)) {
        return Err(Failure::new(
            "the fingerprint that was given is not that of these keys: either it was misread, or they are not the ones that the other side made. Nothing was changed",
        ));
    }
    let new = NewPeer {
        name: name.clone(),
        url,
        trust,
        danger_unproven_server: false,
        cs1: Cs1Options { binding: read.binding, danger_direct: false },
        keys: read.keys.clone().exchanged(),
    };
    let _lock = home.lock()?;
    refuse_known(&stores, &name, &fingerprint)?;
    let peer = stores.peers.add(new, show::now())?;
    let compared = args.fingerprint.is_some();
    let change = Change {
        credential: peer.credentials.last().map(|credential| credential.id(&peer.name)),
        profile: Some(peer.profile),
        detail: Some(format!(
            "{} made its keys; its fingerprint was {}",
            read.maker,
            if compared { "given and is right" } else { "not given" }
        )),
        ..Change::of("peer-import", "peer-added", &peer.name)
    };
    let recorded = change::record(home, &stores.local, change);
    Failure::both(tell(&peer, &read, &service, &fingerprint, args), recorded)
}

/// What is in the file.
fn opened(args: &PeerImportArgs) -> Result<Zeroizing<String>, Failure> {
    let from_stdin = |source: &Option<SecretSource>| matches!(source, Some(SecretSource::StandardInput));
    let file_from_stdin = args.file == Path::new("-");
    if file_from_stdin && (from_stdin(&args.identity) || from_stdin(&args.passphrase_file)) {
        return Err(Failure::usage("the file and what opens it cannot both come from standard input"));
    }
    let what = || shown(&args.file);
    let read = if file_from_stdin { bytes(std::io::stdin()) } else { File::open(&args.file).and_then(bytes) };
    let file = read.context(what)?;
    let sealed = Sealed::read(&file).map_err(|failure| about(&args.file, &failure))?;
    let opener = match (&args.identity, sealed.wants_passphrase()) {
        (Some(source), false) => Opener::keys(&source.text("--identity", MAX_IDENTITIES)?)?,
        (Some(_), true) => {
            return Err(Failure::usage(format!(
                "{} is encrypted with a passphrase, and no key opens it: --passphrase-file",
                what()
            )));
        }
        (None, false) => {
            return Err(Failure::usage(format!(
                "{} is encrypted for an age key: --identity FILE, with the secret part of it",
                what()
            )));
        }
        (None, true) => {
            let missing =
                "where is the passphrase? --passphrase-file FILE, or - for standard input, or env:NAME";
            Opener::passphrase(&passphrase(args.passphrase_file.as_ref(), missing)?)
        }
    };
    sealed.open(&opener).map_err(|failure| about(&args.file, &failure))
}

/// One byte more than is taken, at most.
fn bytes(source: impl Read) -> std::io::Result<Vec<u8>> {
    let mut bytes = Vec::new();
    source.take(MAX_FILE + 1).read_to_end(&mut bytes)?;
    Ok(bytes)
}

fn shown(file: &Path) -> String {
    if file == Path::new("-") { "standard input".to_owned() } else { file.display().to_string() }
}

fn about(file: &Path, failure: &Failure) -> Failure {
    Failure::new(format!("{}: {}. Nothing was changed", shown(file), failure.message()))
}

/// Keys that are here already, and a name that is taken.
fn refuse_known(stores: &Stores, name: &ServiceName, fingerprint: &Fingerprint) -> Result<(), Failure> {
    let peers = stores.peers.read_all()?.peers;
    for peer in &peers {
        let live = peer.credentials.iter().map(|one| (one.number, &one.fingerprint));
        let ended = peer.ended.iter().map(|one| (one.number, &one.fingerprint));
        if let Some((number, _)) = live.chain(ended).find(|(_, known)| *known == fingerprint) {
            return Err(Failure::new(format!(
                "these are the keys of {}/{number}, which is here already: either this side made them, and the file belongs on the other side, or it has been imported before. Nothing was changed",
                peer.name
            )));
        }
    }
    if peers.iter().any(|peer| peer.name == *name) {
        return Err(Failure::new(format!(
            "there is a peer named `{name}` already, with other keys. If this is another service, give it another name with --name. If it is the same, its keys are replaced with `countersign rotate` (docs/rotation.md), or from the start: `countersign peer remove {name}`, and this again. Nothing was changed"
        )));
    }
    Ok(())
}

fn tell(
    peer: &Peer,
    read: &Introduction,
    service: &ServiceName,
    fingerprint: &Fingerprint,
    args: &PeerImportArgs,
) -> Result<(), Failure> {
    let (name, compared) = (&peer.name, args.fingerprint.is_some());
    if args.json {
        return show::json(&json!({
            "peer": name.as_str(),
            "profile": peer.profile.as_str(),
            "madeBy": read.maker.as_str(),
            "madeFor": read.taker.as_str(),
            "fingerprint": fingerprint.as_str(),
            "fingerprintGiven": compared,
            "url": peer.url,
            "tls": peer::trust_text(&peer.trust),
            "binding": (peer.profile == countersign::Profile::Cs1).then(|| peer.cs1.binding.as_str()),
        }));
    }
    let mut text = format!("added {name} (profile {})\nfingerprint {fingerprint}\n", peer.profile);
    text.push_str(&match &peer.url {
        Some(url) => format!("url {url}, tls {}\n", peer::trust_text(&peer.trust)),
        None => format!("No URL is in it: {name} can call this service, and is not called.\n"),
    });
    if read.taker != *service {
        text.push_str(&format!(
            "{} calls this service `{}`, which calls itself `{service}`.\n",
            read.maker, read.taker
        ));
    }
    text.push_str(&if compared {
        "It is the fingerprint that was read out.\n".to_owned()
    } else {
        format!(
            "Now call the operator of {name}, at a number that you knew before, and compare all six groups (docs/key-exchange.md).\n\
             If they differ, somebody else may have made these keys: `countersign peer remove {name}`, on both sides.\n"
        )
    });
    text.push_str("Remove the file.\n");
    show::done(&show::printable_lines(&text))
}
