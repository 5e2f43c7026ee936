//! `countersign pair accept`

use std::io::{BufRead as _, IsTerminal as _, Read as _};
use std::sync::Arc;
use std::time::Duration;

use countersign::audit::{AuditSink as _, Direction, Outcome, Record};
use countersign::client::pairing::{Ours, accept};
use countersign::client::{BaseUrl, Client};
use countersign::protocol::pairing::words::{MAX_TEXT, typed_words};
use countersign::protocol::pairing::{Code, CodeError, REPEAT_WITHIN};
use countersign::protocol::wire::printable;
use countersign::store::{Peer, StoreError};
use countersign::{NewPeer, Profile};
use serde_json::json;
use zeroize::Zeroizing;

use super::args::AcceptArgs;
use super::{check_name, fingerprint, line, own_pin, record, stores};
use crate::config::Config;
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::show;

pub(super) fn run(home: &Home, args: &AcceptArgs) -> Result<(), Failure> {
    // Everything that can be wrong is said before anybody reads words, and before anything is sent.
    let config = home.config()?;
    let stores = stores(home)?;
    check_name(&config, &*stores.peers, args.name.as_ref())?;
    let base = BaseUrl::parse(&args.url)?;
    let ours = ours(home, &config, args)?;
    let code = code(args)?;
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let is_taken = |name: &_| !matches!(stores.peers.get(name), Err(StoreError::NoSuchPeer(_)));
        let accepted = accept(&code, &base, ours, is_taken).await;
        let new = match accepted {
            Ok(new) => new,
            Err(error) => {
                let written = attempt(home, &stores, None, error.code());
                return Failure::both(Err(error.into()), written);
            }
        };
        let peer = match add(&stores, new) {
            Ok(peer) => peer,
            Err(failure) => {
                return Failure::both(Err(failure), attempt(home, &stores, None, "pairing-unstored"));
            }
        };
        let written = attempt(home, &stores, Some(&peer), "paired");
        let recorded = written.and(record(home, &stores, "pair-accept", &peer));
        let proved = prove(home, &stores, &peer, args.timeout).await;
        Failure::both(tell(args, &peer, proved), recorded)
    })
}

/// What this side states of itself.
fn ours(home: &Home, config: &Config, args: &AcceptArgs) -> Result<Ours, Failure> {
    let url = match (&args.own_url, config.serve.external_urls.first()) {
        (Some(given), _) => Some(BaseUrl::parse(given)?),
        (None, Some(external)) => Some(BaseUrl::parse(&external.0.to_string())?),
        (None, None) => None,
    };
    let pin = match &url {
        Some(url) if url.is_tls() => Some(own_pin(home, config)?),
        _ => None,
    };
    Ok(Ours {
        service: config.service.clone(),
        name: args.name.clone(),
        url: url.map(|url| url.to_string()),
        pin,
        system_trust: args.system_trust,
        timeout: Duration::from_secs(args.timeout),
        repeat: Duration::from_secs(REPEAT_WITHIN / 2),
    })
}

/// The words, from a file or from whoever sits here.
fn code(args: &AcceptArgs) -> Result<Code, Failure> {
    let max = MAX_TEXT as u64;
    let text = match &args.words_file {
        Some(source) => source.text("the words", max)?,
        None if std::io::stdin().is_terminal() => {
            show::err("The six words that the other side's operator reads out: ");
            // Shown as they are typed: they are good once, and are typed from hearing.
            let mut text = Zeroizing::new(String::with_capacity(MAX_TEXT + 1));
            let read = std::io::stdin().lock().take(max + 1).read_line(&mut text);
            read.context(|| "the words cannot be read".to_owned())?;
            text
        }
        None => {
            return Err(Failure::usage(
                "there is no terminal to ask for the words: give --words-file with a file that only you can read, or - for standard input",
            ));
        }
    };
    text.parse().map_err(|error| match error {
        CodeError::Unknown(at) => {
            let word = typed_words(&text).nth(at.saturating_sub(1)).unwrap_or_default();
            Failure::usage(format!("`{}`: {error}", printable(word, 20)))
        }
        error => Failure::usage(error.to_string()),
    })
}

fn add(stores: &Stores, new: NewPeer) -> Result<Peer, Failure> {
    let name = new.name.clone();
    stores.peers.add(new, show::now()).context(|| {
        format!(
            "the other side holds the pair, and here `{name}` could not be stored: its operator removes this service again, then pair anew"
        )
    })
}

/// Writes down what the attempt came to.
fn attempt(home: &Home, stores: &Stores, peer: Option<&Peer>, reason: &'static str) -> Result<(), Failure> {
    let outcome = if peer.is_some() { Outcome::Accepted } else { Outcome::Refused };
    let record = Record {
        service: peer.map(|peer| peer.name.to_string()),
        profile: Some(Profile::Cs1),
        ..Record::new(Direction::Outbound, "pair-accept", outcome, reason)
    };
    let trail = home.trail(&stores.local, "call")?;
    trail.submit(record).wait().context(|| "what was attempted is not on the trail".to_owned())
}

/// One handshake under the new pair.
async fn prove(home: &Home, stores: &Stores, peer: &Peer, seconds: u64) -> Result<(), Failure> {
    let builder = Client::builder()
        .timeout(Duration::from_secs(seconds))
        .audit(home.trail(&stores.local, "call")?)
        .follow(Arc::clone(&stores.peers));
    Ok(builder.build(peer)?.prove().await?)
}

fn tell(args: &AcceptArgs, peer: &Peer, proved: Result<(), Failure>) -> Result<(), Failure> {
    let (name, digits) = (&peer.name, fingerprint(peer));
    let url = peer.url.as_deref().unwrap_or_default();
    if args.json {
        line(&json!({
            "event": "paired",
            "peer": name.as_str(),
            "profile": peer.profile.as_str(),
            "url": url,
            "binding": peer.cs1.binding.as_str(),
            "fingerprint": digits,
            "proved": proved.is_ok(),
        }))?;
    } else {
        show::done(&show::printable_lines(&format!(
            "paired with {name}\nurl         {url}\nfingerprint {digits}\n"
        )))?;
        if proved.is_ok() {
            show::out(&format!(
                "Both sides have authenticated with it: `countersign call {url}/` works now.\n"
            ))?;
        }
    }
    proved.map_err(|failure| {
        Failure::new(format!(
            "the pair is stored on both sides, but the first handshake under it failed: {}\n`countersign doctor` looks at what is in the way",
            failure.message()
        ))
    })
}
