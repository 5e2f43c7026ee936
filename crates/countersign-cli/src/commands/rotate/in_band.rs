//! A rotation that the two services agree on by themselves (`specs/rotation.md`): begun here, taken to its end here, or left to the peer.

use std::sync::Arc;
use std::time::Duration;

use countersign::client::{Client, ClientError};
use countersign::rotation::{Driver, Fault, LEAST_GRACE, Progress};
use countersign::store::agreement::Step;
use countersign::store::{Move, MoveError, Peer, StoreError};
use countersign::{CredentialId, Profile};

use crate::args::RotateArgs;
use crate::change::{self, Change};
use crate::failure::Failure;
use crate::home::{Home, Stores};
use crate::show;

/// For how long one step may take: somebody is waiting.
const PATIENCE: Duration = Duration::from_secs(15);

/// Whether the peer's next credential is agreed on in band, unless somebody says otherwise.
pub(super) fn applies(peer: &Peer, args: &RotateArgs) -> bool {
    let by_hand = args.by_hand
        || args.out.is_some()
        || args.keep_api_keys
        || args.keys.any()
        || args.overlap.deadline.is_some();
    peer.profile == Profile::Cs1 && !by_hand
}

pub(super) fn run(home: &Home, stores: &Stores, args: &RotateArgs, peer: &Peer) -> Result<(), Failure> {
    let (name, now) = (&peer.name, show::now());
    if peer.accepted(now).next().is_none() {
        return Err(Failure::new(format!(
            "{name} has no credential that another one could follow. Pair anew (docs/pairing.md), or make keys and hand them over: `countersign rotate {name} --by-hand`"
        )));
    }
    if peer.step().is_none() && peer.accepted(now).count() > 1 {
        super::refuse_open(home, peer, now)?;
    }
    if matches!(peer.step(), Some((Step::Pending | Step::Current, _))) {
        return Err(unfinished(peer));
    }
    if peer.url.is_none() && args.overlap.grace.is_some() {
        return Err(Failure::usage("--grace: the side that begins says it, and that is not this one"));
    }
    if peer.url.is_none() {
        return ask(home, stores, peer);
    }
    let mut settings = home.config()?.rotation.settings();
    if let Some(grace) = args.overlap.grace {
        if grace.0 < LEAST_GRACE {
            return Err(Failure::usage(format!(
                "--grace: at least {}s, for sessions that exist have to end by themselves",
                LEAST_GRACE
            )));
        }
        settings.grace = Duration::from_secs(grace.0);
    }
    let trail = home.trail(&stores.local, "call")?;
    let client =
        Client::builder().timeout(PATIENCE).audit(trail).follow(Arc::clone(&stores.peers)).build(peer)?;
    let driver = Driver::new(Arc::clone(&stores.peers), name.clone(), client, settings);
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    let before = peer.next_number();
    let progress = runtime.block_on(driver.rotate());
    let peer = stores.peers.get(name)?;
    match progress {
        Ok(Progress::Done(number)) => {
            let recorded = record(home, stores, &peer, "rotated-in-band", Some(number));
            Failure::both(through(&peer), recorded)
        }
        Ok(Progress::Idle) if peer.next_number() == before => {
            Err(Failure::new(format!("the rotation of {name} was called off meanwhile; nothing has changed")))
        }
        // Another process, most likely `serve`, has taken it to its end meanwhile, and has it on its trail.
        Ok(Progress::Idle) => through(&peer),
        Ok(Progress::Aborted) => {
            let recorded = record(home, stores, &peer, "rotation-aborted", None);
            let told = Err(Failure::new(format!(
                "{name} had given the rotation up before it was confirmed; nothing has changed. `countersign rotate {name}` begins another one"
            )));
            Failure::both(told, recorded)
        }
        Err(fault) => Err(explain(&peer, &fault)),
    }
}

/// We cannot call the peer: it begins, when it next asks.
fn ask(home: &Home, stores: &Stores, peer: &Peer) -> Result<(), Failure> {
    let name = &peer.name;
    stores.peers.agree(name, &Move::Want, show::now()).map_err(|error| why(peer, &error))?;
    let recorded = record(home, stores, peer, "rotation-wanted", None);
    let told = show::done(&format!(
        "{name} is not called from here, so it begins: its `serve` asks about once a minute whether a rotation is wanted. `countersign rotate {name} --check` shows how far it is. (A peer that does not rotate in band never begins: `countersign rotate {name} --by-hand`.)\n"
    ));
    Failure::both(told, recorded)
}

/// What cannot be ended by hand, because it ends by itself.
pub(super) fn unfinished(peer: &Peer) -> Failure {
    let stands = crate::life::in_band(peer, show::now()).unwrap_or_default();
    Failure::new(format!("{stands}. It goes on by itself; nothing has changed"))
}

/// Calls off what can be called off.
pub(super) fn abandon(home: &Home, stores: &Stores, peer: &Peer) -> Result<(), Failure> {
    let name = &peer.name;
    let wanted = match (peer.step(), peer.outgoing()) {
        (None, _) => Move::Unwant,
        (Some((Step::Proposed, _)), Some(message)) => Move::Withdraw { rid: message.rid(), last: None },
        (Some((Step::Pending, _)), _) => Move::GiveUp { after: 0 },
        _ => {
            let number = peer.credentials.last().map_or(0, |newest| newest.number);
            return Err(Failure::new(format!(
                "{name} may be using {name}/{number} already, so that this rotation can only go on: `countersign rotate {name}` takes it to its end. `countersign revoke {name} --credential {number}` ends the new credential in any case, and may shut the two out of each other"
            )));
        }
    };
    stores.peers.agree(name, &wanted, show::now()).map_err(|error| why(peer, &error))?;
    if let Some((step, _)) = stores.peers.get(name)?.step() {
        return Err(Failure::new(format!(
            "the rotation of {name} went on in this moment ({}) and is not called off: `countersign rotate {name} --check`",
            step.as_str()
        )));
    }
    let recorded = record(home, stores, peer, "rotation-abandoned", None);
    let told = show::done(&format!("the rotation of {name} is called off; the credential in use stays\n"));
    Failure::both(told, recorded)
}

fn record(
    home: &Home,
    stores: &Stores,
    peer: &Peer,
    reason: &str,
    number: Option<u32>,
) -> Result<(), Failure> {
    let change = Change {
        credential: number.map(|number| CredentialId { peer: peer.name.clone(), number }),
        profile: Some(peer.profile),
        ..Change::of("rotate", reason, &peer.name)
    };
    change::record(home, &stores.local, change)
}

fn through(peer: &Peer) -> Result<(), Failure> {
    let new = super::newest(peer)?.id(&peer.name);
    show::done(&format!("{new} is agreed on with {} and in use. {}\n", peer.name, old_one(peer)))
}

/// Until when the old credential is good.
fn old_one(peer: &Peer) -> String {
    let now = show::now();
    match super::open(peer, now) {
        Ok((old, _)) => format!("{}: {}", old.id(&peer.name), super::until(peer, old, now)),
        Err(_) => "No other one is accepted".to_owned(),
    }
}

/// Why it did not get on, and what happens with what there is.
fn explain(peer: &Peer, fault: &Fault) -> Failure {
    let name = &peer.name;
    let stands = match peer.step() {
        Some((Step::Proposed, _)) => format!(
            "The proposal stays; both sides go on with the present credential. A running `serve` tries again, or `countersign rotate {name}` does; `--abandon` calls it off"
        ),
        Some((Step::Ready, _)) => format!(
            "{} is agreed on and both are accepted; {name} has to confirm it. A running `serve` goes on, or `countersign rotate {name}` does",
            peer.credentials.last().map_or_else(String::new, |new| new.id(name).to_string())
        ),
        _ => "Nothing has changed".to_owned(),
    };
    match fault {
        Fault::Store(error) => why(peer, error),
        Fault::Unsupported => Failure::new(format!(
            "{name} does not rotate in band: make keys and hand them over, `countersign rotate {name} --by-hand` (docs/rotation.md). Nothing has changed"
        )),
        Fault::Client(ClientError::NoUrl(_)) => Failure::new(fault.to_string()),
        fault => Failure::new(format!("the rotation of {name} is not through: {fault}. {stands}")),
    }
}

fn why(peer: &Peer, error: &StoreError) -> Failure {
    let name = &peer.name;
    match error {
        StoreError::Rotation(MoveError::Busy) => Failure::new(format!(
            "a rotation of {name} is open already: `countersign rotate {name} --check` shows where it stands"
        )),
        StoreError::ReadOnly(_) => Failure::new(
            "peers that are declared in countersign.toml are rotated where their secrets come from (docs/rotation.md)",
        ),
        error => Failure::new(error.to_string()),
    }
}
