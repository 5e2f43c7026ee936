//! The next credential, made by the other side.

use countersign::protocol::UnixTime;
use countersign::store::exchange::MAX;
use countersign::store::{Exported, Next, Peer, StoreError};

use super::{Times, newest, refuse_open, until};
use crate::args::RotateArgs;
use crate::change::{self, Change};
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::secret_input::SecretSource;
use crate::show;

pub(super) fn take(
    home: &Home,
    stores: &Stores,
    args: &RotateArgs,
    source: &SecretSource,
    times: Times,
) -> Result<(), Failure> {
    // A wrong name is told before anything is read.
    stores.peers.get(&args.peer.name)?;
    let text = source.text("the other side's keys", MAX as u64)?;
    let exported = Exported::parse(&text).context(|| "the other side's keys".to_owned())?;
    let _lock = home.lock()?;
    let (peer, now) = (stores.peers.get(&args.peer.name)?, show::now());
    check(home, stores, &peer, &exported, now)?;
    let detail = format!(
        "{} made its keys, as its {}/{}; {}",
        exported.maker,
        exported.taker,
        exported.number,
        times.detail()
    );
    // Confirmed: whoever has made it has it.
    let next = Next { keys: exported.keys.exchanged(), overlap: times.overlap(now), confirmed: true };
    let peer = stores.peers.rotate(&peer.name, next, now)?;
    let (name, new) = (&peer.name, newest(&peer)?);
    let change = Change {
        credential: Some(new.id(name)),
        profile: Some(peer.profile),
        detail: Some(detail),
        ..Change::of("rotate", "rotation-taken", name)
    };
    let recorded = change::record(home, &stores.local, change);
    let old = peer.accepted(now).find(|one| one.number < new.number);
    let old = old.map_or_else(String::new, |old| {
        format!("Both are accepted. {}: {}\n", old.id(name), until(&peer, old, now))
    });
    show::out(&format!(
        "{} is the next credential of {name} (profile {}), taken in and used from now on\nfingerprint {}\n{old}\
         Remove the file. On the other side `countersign rotate … --check` tells when this service has used it.\n",
        new.id(name),
        peer.profile,
        new.fingerprint,
    ))?;
    recorded
}

/// Whether these keys are meant for this peer, and new.
fn check(
    home: &Home,
    stores: &Stores,
    peer: &Peer,
    exported: &Exported,
    now: UnixTime,
) -> Result<(), Failure> {
    let name = &peer.name;
    if exported.keys.profile() != peer.profile {
        return Err(StoreError::OtherProfile { peer: name.clone(), profile: peer.profile }.into());
    }
    let fingerprint = exported.keys.fingerprint();
    let live = peer.credentials.iter().find(|one| one.fingerprint == fingerprint);
    if let Some(known) = live {
        return Err(Failure::new(format!(
            "these are the keys of {}, which is here already: either this side made them, and the file belongs on the other side, or they have been taken in before. Nothing was changed",
            known.id(name)
        )));
    }
    if let Some(known) = peer.ended.iter().find(|one| one.fingerprint == fingerprint) {
        return Err(Failure::new(format!(
            "these are the keys of {name}/{}, which has ended ({}) and does not come back. The other side has to make new ones: `countersign rotate …` there",
            known.number,
            known.how.as_str()
        )));
    }
    let before = |peer: &Peer| {
        let live = peer.credentials.iter().map(|one| &one.fingerprint);
        live.chain(peer.ended.iter().map(|one| &one.fingerprint)).any(|one| *one == exported.replaces)
    };
    if !before(peer) {
        let others = stores.peers.read_all()?.peers;
        let meant = others.iter().find(|other| before(other)).map_or_else(
            || {
                "the two sides do not have the same keys now: compare fingerprints (`countersign status`)"
                    .to_owned()
            },
            |other| format!("they are for {}", other.name),
        );
        return Err(Failure::new(format!(
            "these keys do not follow any that {name} has here; {meant}. Nothing was changed"
        )));
    }
    if peer.accepted(now).count() > 1 {
        refuse_open(home, peer, now).map_err(|failure| {
            Failure::new(format!(
                "{}. (If both sides have made new keys, one of them has to call it off and take in those of the other.)",
                failure.message()
            ))
        })?;
    }
    Ok(())
}
