//! `countersign pair offer`

use std::time::{Duration, Instant};

use countersign::protocol::pairing::{
    CONFIRM_WITHIN, Code, MAX_CODES, OFFER_LIFETIME, OfferId, PairingRefusal, Password,
};
use countersign::store::pairing::{Choices, NoCode, Offer, PairingStore, Stage};
use countersign::store::{Peer, random};
use serde_json::json;
use tokio::signal::unix::{SignalKind, signal};
use zeroize::Zeroizing;

use super::args::OfferArgs;
use super::{check_name, fingerprint, line, own_pin, pin, record, stores};
use crate::failure::Failure;
use crate::home::{Home, Stores};
use crate::{show, state};

/// How often the store is asked.
const EVERY: Duration = Duration::from_millis(100);
/// For how long the peer is waited for once it is there, to prove that it has the pair too.
const PROOF: Duration = Duration::from_secs(15);

pub(super) fn run(home: &Home, args: &OfferArgs) -> Result<(), Failure> {
    if !(1..=OFFER_LIFETIME).contains(&args.lifetime.0) {
        return Err(Failure::usage("--for: an offer is open for 1s to 10m"));
    }
    let config = home.config()?;
    let stores = stores(home)?;
    check_name(&config, &*stores.peers, args.name.as_ref())?;
    if !state::is_served(home)? {
        return Err(Failure::new(format!(
            "nobody would answer: no `countersign serve` runs on {0}. Start it (`countersign --home {0} serve`), then offer again",
            home.path().display()
        )));
    }
    let mut pins: Vec<_> = args.pins.iter().filter_map(pin).collect();
    if config.listeners().is_empty() || config.listeners().iter().any(|listener| listener.tls) {
        pins.push(own_pin(home, &config)?);
    }
    let choices =
        Choices { name: args.name.clone(), binding: args.binding, pins, system_trust: args.system_trust };
    let urls = home.external(&config).into_iter().map(|external| external.url.to_string()).collect();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let shown = Shown { json: args.json, urls };
    runtime.block_on(wait(home, &stores, choices, args.lifetime.0, &shown))
}

/// A new offer with an id that nobody else has at the moment.
fn open(stores: &Stores, choices: &Choices, lifetime: u64) -> Result<Offer, Failure> {
    for _ in 0..100 {
        let now = show::now();
        let (id, password) = (OfferId::generate(&random()), fresh());
        let offer = Offer::new(id, password, choices.clone(), now.plus(lifetime));
        if stores.local.open(&offer, now)? {
            return Ok(offer);
        }
    }
    Err(Failure::new("no free offer was found: try again"))
}

fn fresh() -> Password {
    Password::generate(&Zeroizing::new(random()))
}

async fn wait(
    home: &Home,
    stores: &Stores,
    choices: Choices,
    lifetime: u64,
    shown: &Shown,
) -> Result<(), Failure> {
    let mut terminate = signal(SignalKind::terminate())?;
    let mut interrupt = signal(SignalKind::interrupt())?;
    let id = open(stores, &choices, lifetime)?.id;
    // The wall clock may be set while somebody reads words out.
    let end = Instant::now() + Duration::from_secs(lifetime);
    let result = tokio::select! {
        _ = terminate.recv() => Err(Failure::new("the offer is withdrawn")),
        _ = interrupt.recv() => Err(Failure::new("the offer is withdrawn")),
        result = follow(stores, id, end, shown) => result,
    };
    let peer = match result {
        Ok(peer) => peer,
        Err(failure) => return Err(close(stores, id, shown, failure)),
    };
    let recorded = record(home, stores, "pair-offer", &peer);
    let told = shown.paired(&peer);
    let proved = tokio::select! {
        _ = terminate.recv() => false,
        _ = interrupt.recv() => false,
        proved = proved(stores, &peer) => proved,
    };
    let told = told.and(shown.proved(&peer, proved));
    // Once the peer has it, nobody asks for the answer again.
    let told = if proved { told.and(stores.local.withdraw(id).map_err(Failure::from)) } else { told };
    Failure::both(told, recorded)
}

/// Shows the words, and the next ones when they are burned, until there is a peer.
async fn follow(stores: &Stores, id: OfferId, end: Instant, shown: &Shown) -> Result<Peer, Failure> {
    let mut told = 0;
    loop {
        let Some(mut offer) = stores.local.offer(id)? else {
            return Err(Failure::new("the offer was removed by somebody else"));
        };
        let now = show::now();
        match &offer.stage {
            Stage::Open { password } if told < offer.codes => {
                told = offer.codes;
                let code = Code { offer: id, password: password.clone() };
                shown.code(&code, offer.codes, end)?;
            }
            Stage::Open { .. } if Instant::now() >= end => return Err(Failure::new(EXPIRED)),
            Stage::Paired { name, .. } => return Ok(stores.peers.get(name)?),
            _ if offer.is_burned(now) => {
                let why = match &offer.stage {
                    Stage::Failed { why } => why.clone(),
                    _ => PairingRefusal::TooLate.code().to_owned(),
                };
                match offer.next_code(fresh(), now) {
                    // If somebody was faster, the next look tells.
                    Ok(()) => {
                        if stores.local.replace(&offer)? {
                            shown.burned(&why)?;
                        }
                    }
                    Err(NoCode::Exhausted) => {
                        shown.burned(&why)?;
                        return Err(Failure::new(format!(
                            "all {MAX_CODES} codes of this offer are used: it is closed. If the other side's operator typed what you read, somebody else knows the first two words, or stands in between; see `countersign audit tail`, then offer again"
                        )));
                    }
                    Err(_) => return Err(Failure::new(EXPIRED)),
                }
                continue;
            }
            // Whatever the wall clock says.
            _ if Instant::now() >= end + Duration::from_secs(2 * CONFIRM_WITHIN) => {
                return Err(Failure::new(EXPIRED));
            }
            _ => {}
        }
        tokio::time::sleep(EVERY).await;
    }
}

const EXPIRED: &str =
    "the offer's time is over: it is closed. Offer again when the other side's operator is ready";

/// Withdraws the offer, whatever state it is in; adds what is not known for sure.
fn close(stores: &Stores, id: OfferId, shown: &Shown, failure: Failure) -> Failure {
    let failure = match withdraw(stores, id) {
        Ok(true) => failure,
        Ok(false) => Failure::new(format!(
            "{}. But the other side had confirmed already: see `countersign peer list`, and remove the peer if it should not be there",
            failure.message()
        )),
        Err(error) => Failure::new(format!(
            "{}; it could not be withdrawn ({}) and closes by itself within ten minutes",
            failure.message(),
            error.message()
        )),
    };
    if shown.json {
        // What cannot be written is told by the exit code.
        let _ = line(&json!({"event": "closed", "reason": failure.message()}));
    }
    failure
}

/// `false` if the other side was faster and has confirmed.
fn withdraw(stores: &Stores, id: OfferId) -> Result<bool, Failure> {
    while let Some(mut offer) = stores.local.offer(id)? {
        if !offer.end() {
            return Ok(false);
        }
        // Ended first, so that no exchange that goes on in this moment comes to anything.
        if stores.local.replace(&offer)? {
            stores.local.withdraw(id)?;
        }
    }
    Ok(true)
}

/// Whether the peer has shown in time that it holds the pair.
async fn proved(stores: &Stores, peer: &Peer) -> bool {
    let end = Instant::now() + PROOF;
    while Instant::now() < end {
        let known = stores.peers.get(&peer.name);
        if known.is_ok_and(|peer| peer.credentials.iter().any(|one| one.used_inbound.is_some())) {
            return true;
        }
        tokio::time::sleep(EVERY).await;
    }
    false
}

/// How it is shown.
struct Shown {
    json: bool,
    /// Where the other side may find this service.
    urls: Vec<String>,
}

impl Shown {
    fn code(&self, code: &Code, count: u8, end: Instant) -> Result<(), Failure> {
        let words = code.spoken();
        let left = end.saturating_duration_since(Instant::now()).as_secs();
        if self.json {
            return line(&json!({
                "event": if count == 1 { "offer" } else { "code" },
                "words": words.as_str(),
                "code": count,
                "codes": MAX_CODES,
                "expiresIn": left,
                "urls": self.urls,
            }));
        }
        let how = if count == 1 { "Read these words" } else { "Now read these words" };
        let near = |url: &&String| {
            !url.contains("//localhost") && !url.contains("//127.") && !url.contains("//[::1]")
        };
        let url = self.urls.iter().find(near).map_or("URL", String::as_str);
        show::out(&show::printable_lines(&format!(
            "{how} to the other side's operator, on a call with somebody whom you know:\n\n    {}\n\nThere: `countersign pair accept {url}` (or another URL of this service).\nGood for one attempt, within {}; code {count} of {MAX_CODES}. Ctrl-C withdraws the offer.\n",
            words.as_str(),
            show::span(left),
        )))
    }

    fn burned(&self, why: &str) -> Result<(), Failure> {
        if self.json {
            return line(&json!({"event": "burned", "reason": why}));
        }
        let meaning = match why {
            "pairing-wrong-words" => "somebody came with other words, or changed them on the way",
            "pairing-too-late" => "somebody began with it and did not go on",
            "pairing-misbound" => {
                "the other side saw another TLS key than ours: somebody stands in between, or a proxy ends TLS (give its key with --tls-pin)"
            }
            "pairing-name-taken" => {
                "the words were right, but a peer of that name is here already: remove it, or offer again with --name"
            }
            "pairing-unusable" => {
                "the words were right, but the other side stated a URL that cannot be called"
            }
            _ => why,
        };
        show::out(&format!("\nThis code is used: {meaning}.\n"))
    }

    fn paired(&self, peer: &Peer) -> Result<(), Failure> {
        let (url, digits) = (peer.url.as_deref(), fingerprint(peer));
        if self.json {
            return line(&json!({
                "event": "paired",
                "peer": peer.name.as_str(),
                "profile": peer.profile.as_str(),
                "url": url,
                "binding": peer.cs1.binding.as_str(),
                "fingerprint": digits,
            }));
        }
        let url = url.map_or_else(|| "none: it only calls".to_owned(), show::printable_lines);
        show::done(&format!("\npaired with {}\nurl         {url}\nfingerprint {digits}\n", peer.name))
    }

    fn proved(&self, peer: &Peer, proved: bool) -> Result<(), Failure> {
        if self.json {
            return line(
                &json!({"event": if proved { "proved" } else { "unproved" }, "peer": peer.name.as_str()}),
            );
        }
        let name = &peer.name;
        show::out(&if proved {
            format!("{name} has authenticated with it: both sides hold the pair.\n")
        } else {
            format!(
                "{name} has not authenticated with it yet. If its `pair accept` failed, remove it (`countersign peer remove {name}`) and pair anew; else compare the fingerprint.\n"
            )
        })
    }
}
