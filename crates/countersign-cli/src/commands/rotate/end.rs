//! A rotation ends: the old credential is retired, or the new one is called off.

use countersign::store::{Ending, Which};

use super::{file, open};
use crate::args::RotateArgs;
use crate::change::{self, Change};
use crate::failure::Failure;
use crate::home::{Home, Stores};
use crate::show;

/// Retires the old credential, once the peer has the new one.
pub(super) fn finish(home: &Home, stores: &Stores, args: &RotateArgs) -> Result<(), Failure> {
    let _lock = home.lock()?;
    let (peer, now) = (stores.peers.get(&args.peer.name)?, show::now());
    let name = &peer.name;
    let (old, new) = open(&peer, now)?;
    let confirmed = new.confirmed.is_some();
    if !confirmed && !args.danger_unconfirmed {
        return Err(Failure::new(format!(
            "{name} has not used {} yet: ending {} now would shut it out. Hand the keys over, and wait for `countersign rotate {name} --check`; if nobody uses the old one any more, --danger-unconfirmed",
            new.id(name),
            old.id(name)
        )));
    }
    let ended = stores.end(name, Which::Number(old.number), Ending::Retired)?;
    let detail = if confirmed { "its successor is in use" } else { "its successor was not in use (danger)" };
    let change = Change {
        credential: Some(old.id(name)),
        profile: Some(peer.profile),
        detail: Some(detail.to_owned()),
        ..Change::of("rotate", "rotation-finished", name)
    };
    let recorded = change::record(home, &stores.local, change);
    let removed = file::remove(home, name, new.number).unwrap_or_default();
    let told = show::done(&format!(
        "{} is retired: it and its tokens are refused within a second. {} is in use.\n{removed}",
        old.id(name),
        new.id(name)
    ));
    Failure::both(told, Failure::both(recorded, ended.untold))
}

/// Ends the new credential, if nobody has used it.
pub(super) fn abandon(home: &Home, stores: &Stores, args: &RotateArgs) -> Result<(), Failure> {
    let _lock = home.lock()?;
    let (peer, now) = (stores.peers.get(&args.peer.name)?, show::now());
    let name = &peer.name;
    let (old, new) = open(&peer, now)?;
    // One that the other side made counts as confirmed from the start, and can still be called off.
    if new.used_inbound.is_some() || new.used_outbound.is_some() {
        return Err(Failure::new(format!(
            "{0} is in use already, so the rotation cannot be called off: `countersign rotate {name} --finish` completes it, `countersign revoke {name} --credential {1}` ends the new one in any case",
            new.id(name),
            new.number
        )));
    }
    let ended = stores.end(name, Which::Number(new.number), Ending::Abandoned)?;
    let change = Change {
        credential: Some(new.id(name)),
        profile: Some(peer.profile),
        ..Change::of("rotate", "rotation-abandoned", name)
    };
    let recorded = change::record(home, &stores.local, change);
    let removed = file::remove(home, name, new.number).unwrap_or_default();
    let told = show::done(&format!(
        "{} is called off, and {} stays in use.\n{removed}\
         If the other side has taken the new keys in, it has to call them off as well, before its grace period ends:\n  \
         countersign rotate NAME --abandon   (there, with this service's name)\n",
        new.id(name),
        old.id(name)
    ));
    Failure::both(told, Failure::both(recorded, ended.untold))
}
