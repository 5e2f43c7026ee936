//! The next credential, made here or given by hand.

use std::path::Path;
use std::time::Duration;

use countersign::protocol::UnixTime;
use countersign::store::{Ending, Exported, Next, Peer, Which};
use countersign::{CredentialId, NewKeys, Profile};

use super::file::{self, Written};
use super::{Times, newest, refuse_open, until};
use crate::args::{KeyArgs, RotateArgs};
use crate::change::{self, Change};
use crate::failure::Failure;
use crate::home::{Home, Stores};
use crate::keys::given_keys;
use crate::show;

/// Within this time a running server takes a change over.
const LIVE: Duration = Duration::from_secs(1);

pub(super) fn make(home: &Home, stores: &Stores, args: &RotateArgs, times: Times) -> Result<(), Failure> {
    let peer = stores.peers.get(&args.peer.name)?;
    if args.keep_api_keys {
        can_keep(&peer)?;
    }
    if args.keys.any() {
        // Everything that can be wrong is said before a secret is asked for.
        refuse_open(home, &peer, show::now())?;
        let keys = given(&peer, args)?;
        let _lock = home.lock()?;
        let now = show::now();
        let peer = begin(stores, &peer, keys, times, now)?;
        let recorded = record(home, stores, &peer, times, "its keys were given");
        settle();
        let told = show::done(&story(&peer, now, &Handing::ByHand)?);
        return Failure::both(told, recorded);
    }
    let config = home.config()?;
    let _lock = home.lock()?;
    let (peer, now) = (stores.peers.get(&args.peer.name)?, show::now());
    refuse_open(home, &peer, now)?;
    let replaces = peer.newest_fingerprint().cloned();
    let exported = Exported {
        maker: config.service,
        taker: peer.name.clone(),
        number: peer.next_number(),
        replaces: replaces.ok_or_else(|| Failure::new(format!("{} never had a credential", peer.name)))?,
        keys: NewKeys::following(&peer, args.keep_api_keys)?,
    };
    match args.out.as_deref() {
        Some(path) if path == Path::new("-") => printed(home, stores, &peer, &exported, times, now),
        Some(path) => {
            let written = Written::at(path, exported)?;
            filed(home, stores, &peer, written, times, now)
        }
        None => {
            let written = Written::inside(home, exported, &peer, args.keep_api_keys)?;
            filed(home, stores, &peer, written, times, now)
        }
    }
}

/// The file is there; now the keys are put to use.
fn filed(
    home: &Home,
    stores: &Stores,
    peer: &Peer,
    written: Written,
    times: Times,
    now: UnixTime,
) -> Result<(), Failure> {
    let (fingerprint, number) = (written.exported.keys.fingerprint(), written.exported.number);
    let begun = begin(stores, peer, written.exported.keys.clone(), times, now);
    let peer = match begun {
        Ok(peer) => peer,
        // A store may have done it and then failed to say so.
        Err(failure) => match stores.peers.get(&peer.name) {
            Ok(peer)
                if newest(&peer).is_ok_and(|new| new.number == number && new.fingerprint == fingerprint) =>
            {
                peer
            }
            Ok(_) => {
                written.discard();
                return Err(failure);
            }
            Err(_) => {
                return Err(Failure::new(format!(
                    "{}. Whether the rotation has begun cannot be told now; the keys are in {}, and `countersign rotate {} --check` will tell",
                    failure.message(),
                    written.path.display(),
                    peer.name
                )));
            }
        },
    };
    let recorded = record(home, stores, &peer, times, "its keys were made here");
    settle();
    let mut where_from = format!(
        "The keys for the other side are in {}\nThey are secret. Hand them over on a confidential channel",
        written.path.display()
    );
    if written.found {
        where_from.insert_str(0, "An interrupted run had written its keys already. ");
    }
    let told = show::done(&story(&peer, now, &Handing::File(where_from))?);
    Failure::both(told, recorded)
}

/// To standard output, once they are in use: whoever reads there takes in at once what comes.
fn printed(
    home: &Home,
    stores: &Stores,
    peer: &Peer,
    exported: &Exported,
    times: Times,
    now: UnixTime,
) -> Result<(), Failure> {
    let peer = begin(stores, peer, exported.keys.clone(), times, now)?;
    let recorded = record(home, stores, &peer, times, "its keys were made here");
    settle();
    if let Err(failure) = file::print(exported) {
        return Err(undo(home, stores, &peer, &failure));
    }
    show::err(&show::printable_lines(&story(
        &peer,
        now,
        &Handing::File("The keys for the other side were printed".to_owned()),
    )?));
    recorded
}

/// Calls off what nobody has got the keys of.
fn undo(home: &Home, stores: &Stores, peer: &Peer, failure: &Failure) -> Failure {
    let (name, why) = (&peer.name, failure.message());
    let number = peer.credentials.last().map_or(0, |newest| newest.number);
    let ended = match stores.end(name, Which::Number(number), Ending::Abandoned) {
        Ok(ended) => ended,
        Err(error) => {
            return Failure::new(format!(
                "{why}; and the rotation could not be called off ({}): `countersign rotate {name} --abandon`",
                error.message()
            ));
        }
    };
    let change = Change {
        credential: Some(CredentialId { peer: name.clone(), number }),
        profile: Some(peer.profile),
        detail: Some("its keys could not be written".to_owned()),
        ..Change::of("rotate", "rotation-abandoned", name)
    };
    let unrecorded = Failure::both(change::record(home, &stores.local, change), ended.untold).err();
    let unrecorded = unrecorded.map(|failure| format!("; {}", failure.message())).unwrap_or_default();
    Failure::new(format!("{why}; the rotation was called off{unrecorded}"))
}

/// Puts the keys to use.
fn begin(stores: &Stores, peer: &Peer, keys: NewKeys, times: Times, now: UnixTime) -> Result<Peer, Failure> {
    let next = Next { keys, overlap: times.overlap(now), confirmed: false, follows: None };
    Ok(stores.peers.rotate(&peer.name, next, now)?)
}

/// Gives a running server the time to take the keys over: once the other side has them, it may send them at once and
/// often, and each refusal would count against the limits on failures.
pub(super) fn settle() {
    std::thread::sleep(LIVE);
}

fn record(home: &Home, stores: &Stores, peer: &Peer, times: Times, how: &str) -> Result<(), Failure> {
    let change = Change {
        credential: Some(newest(peer)?.id(&peer.name)),
        profile: Some(peer.profile),
        detail: Some(format!("{how}; {}", times.detail())),
        ..Change::of("rotate", "rotation-started", &peer.name)
    };
    change::record(home, &stores.local, change)
}

/// Where API keys are public, and while there are keys to keep.
fn can_keep(peer: &Peer) -> Result<(), Failure> {
    if peer.profile == Profile::ApiKey {
        return Err(Failure::usage(
            "--keep-api-keys: under the profile api-key the key is the secret, and there is nothing else to change",
        ));
    }
    if peer.credentials.is_empty() {
        return Err(Failure::usage(format!(
            "--keep-api-keys: all credentials of {} have ended, and their keys do not come back",
            peer.name
        )));
    }
    Ok(())
}

/// Keys that were agreed with the other side, for the same directions as now.
fn given(peer: &Peer, args: &RotateArgs) -> Result<NewKeys, Failure> {
    let mut keys: KeyArgs = args.keys.clone();
    if args.keep_api_keys
        && let Some((ours, theirs)) = peer.api_keys()
    {
        (keys.our_key, keys.their_key) = (Some(ours.clone()), Some(theirs.clone()));
    }
    let keys = given_keys(peer.profile, &keys)?;
    if keys.directions() != peer.directions() {
        return Err(Failure::usage(format!(
            "{} has keys for other directions now; give the same: --our-key-file if this service calls it, --their-key-file if it is called",
            peer.name
        )));
    }
    Ok(keys)
}

/// How the other side gets the keys.
enum Handing {
    /// From a file or standard output, as this says.
    File(String),
    /// As they were given here.
    ByHand,
}

/// What has been done, and what is to be done.
fn story(peer: &Peer, now: UnixTime, handing: &Handing) -> Result<String, Failure> {
    let (name, new) = (&peer.name, newest(peer)?);
    let old = peer.accepted(now).find(|one| one.number < new.number);
    let keys = match handing {
        Handing::File(said) => format!(
            "{said}.\nWith Countersign there:  countersign rotate NAME --from FILE   (NAME: this service's name there)\n"
        ),
        Handing::ByHand => "\
            The other side needs the same keys. With Countersign there: `rotate` with the same values, and then on one\n\
            side, once both have them: `--finish --danger-unconfirmed`, since neither knows that the other has them.\n"
            .to_owned(),
    };
    let finish = if old.is_some() {
        format!(
            "If so, end the old one:  countersign rotate {name} --finish   (it removes what is in exchange/, too)\n"
        )
    } else {
        String::new()
    };
    let old = old.map_or_else(
        || {
            format!(
                "No other one is accepted. If {name} has none either, it asks for this fingerprint (--fingerprint): read it to its\n\
                 operator, and not on the channel on which the keys go.\n"
            )
        },
        |old| format!("Both are accepted. {}: {}\n", old.id(name), until(peer, old, now)),
    );
    Ok(format!(
        "{} is the next credential of {name} (profile {})\nfingerprint {}\n{old}{keys}\
         Has {name} used it?      countersign rotate {name} --check\n{finish}",
        new.id(name),
        peer.profile,
        new.fingerprint,
    ))
}
