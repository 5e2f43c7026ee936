//! `countersign rotate`: the next credential of a peer is made or taken in; the old one ends when the peer has the new
//! one, or when the operator says so. Under `cs1` the two services agree on it in band.

mod end;
mod file;
mod in_band;
mod make;
mod take;

use countersign::protocol::UnixTime;
use countersign::store::agreement::Step;
use countersign::store::{Credential, Overlap, Peer, Rotation};
use serde_json::json;

use crate::args::{OverlapArgs, RotateArgs};
use crate::duration::Span;
use crate::failure::Failure;
use crate::home::{Home, Stores};
use crate::{life, show};

pub(crate) use file::{named, place, remove, remove_all};
pub(crate) use take::ReadOut;

/// For how long both are good at least, unless it is stated.
const GRACE: Span = Span::days(7);

pub(crate) fn run(home: &Home, args: &RotateArgs) -> Result<(), Failure> {
    if args.open.check {
        return check(home, args);
    }
    let stores = home.changeable(
        "mount the next secret where `next_secret` of its [[peer]] table says, on both sides, then put it in the place of the old one",
    )?;
    let peer = stores.peers.get(&args.peer.name)?;
    if args.open.finish && peer.step().is_some_and(|(step, _)| step != Step::Current) {
        return Err(in_band::unfinished(&peer));
    }
    if args.open.finish {
        end::finish(home, &stores, args)
    } else if args.open.abandon && (peer.step().is_some() || peer.wanted().is_some()) {
        in_band::abandon(home, &stores, &peer)
    } else if args.open.abandon {
        end::abandon(home, &stores, args)
    } else if args.from.is_none() && in_band::applies(&peer, args) {
        in_band::run(home, &stores, args, &peer)
    } else {
        let overlap = Times::of(&args.overlap)?;
        if let Some(source) = &args.from {
            take::take(home, &stores, args, source, overlap)
        } else {
            make::make(home, &stores, args, overlap)
        }
    }
}

/// For how long both credentials are good.
#[derive(Clone, Copy, Debug)]
struct Times {
    grace: Span,
    deadline: Option<Span>,
}

impl Times {
    fn of(args: &OverlapArgs) -> Result<Self, Failure> {
        let (grace, deadline) = (args.grace, args.deadline);
        if deadline.is_some_and(|deadline| deadline.0 == 0) {
            return Err(Failure::usage(
                "--deadline: at least 1s; `countersign revoke` ends a credential at once",
            ));
        }
        if let (Some(grace), Some(deadline)) = (grace, deadline)
            && deadline < grace
        {
            return Err(Failure::usage(format!(
                "the deadline ({deadline}) would end the old credential within the grace period ({grace})"
            )));
        }
        let grace = grace.unwrap_or_else(|| deadline.map_or(GRACE, |deadline| deadline.min(GRACE)));
        Ok(Self { grace, deadline })
    }

    fn overlap(self, now: UnixTime) -> Overlap {
        Overlap::new(now, self.grace.0, self.deadline.map(|deadline| deadline.0))
    }

    /// For the trail.
    fn detail(self) -> String {
        let deadline = self.deadline.map_or_else(|| "none".to_owned(), |deadline| deadline.to_string());
        format!("grace {}, deadline {deadline}", self.grace)
    }
}

/// The newest credential of a peer, which a store that has just added one gives back.
fn newest(peer: &Peer) -> Result<&Credential, Failure> {
    peer.credentials.last().ok_or_else(|| Failure::new(format!("{} has no credential", peer.name)))
}

/// The two credentials of a rotation that is open.
fn open(peer: &Peer, now: UnixTime) -> Result<(&Credential, &Credential), Failure> {
    let mut live = peer.accepted(now);
    match (live.next(), live.next()) {
        (Some(old), Some(new)) => Ok((old, new)),
        _ => Err(Failure::new(format!(
            "no rotation of {0} is open; `countersign rotate {0}` begins one, `countersign status` shows what there is",
            peer.name
        ))),
    }
}

/// Refuses to begin while a rotation is open, and says what can be done about it.
fn refuse_open(home: &Home, peer: &Peer, now: UnixTime) -> Result<(), Failure> {
    if let Some((step, _)) = peer.step() {
        return Err(Failure::new(format!(
            "a rotation of {0} goes on in band ({1}): `countersign rotate {0} --check` shows where it stands",
            peer.name,
            step.as_str()
        )));
    }
    let Ok((old, new)) = open(peer, now) else { return Ok(()) };
    let (name, old, number) = (&peer.name, old.id(&peer.name), new.number);
    let path = place(home, name, number);
    let keys = if path.exists() { format!(" Its keys are in {}.", path.display()) } else { String::new() };
    Err(Failure::new(match peer.rotation(now) {
        Rotation::Confirmed { ends } => format!(
            "a rotation of {name} is open: {name} has {name}/{number}, and {old} ends in {}. `countersign rotate {name} --finish` ends it now; then another one can begin",
            show::age(now, ends)
        ),
        _ => format!(
            "a rotation of {name} is open: {name} has not used {name}/{number} yet.{keys} Hand them over, and look with `countersign rotate {name} --check`; or call it off: `countersign rotate {name} --abandon`"
        ),
    }))
}

/// Until when the old credential is good, for a person.
fn until(peer: &Peer, old: &Credential, now: UnixTime) -> String {
    match (peer.ends(old), old.overlap) {
        (Some(end), _) => format!("it ends in {} ({} UTC)", show::age(now, end), show::moment(end)),
        (None, Some(overlap)) => format!(
            "it ends when {} has used the new one, and not before {} UTC",
            peer.name,
            show::moment(overlap.grace_ends)
        ),
        (None, None) => "it stays".to_owned(),
    }
}

/// Where the rotation stands: exit code 1 as long as the peer has not taken the new credential.
fn check(home: &Home, args: &RotateArgs) -> Result<(), Failure> {
    let Stores { peers, .. } = home.stores()?;
    let (peer, now) = (peers.get(&args.peer.name)?, show::now());
    let name = &peer.name;
    let newest = peer.credentials.last();
    // Also when the old one is gone already, by a deadline or a revocation: the peer is shut out until it takes the new
    // one. The very first credential is nobody's successor.
    let in_band = peer.step().map(|(step, _)| step).or(peer.wanted().map(|_| Step::Proposed));
    let waiting =
        in_band.is_some() || newest.is_some_and(|newest| newest.confirmed.is_none() && newest.number > 1);
    let old = open(&peer, now).ok().map(|(old, _)| old);
    let text = match (newest, old) {
        (None, _) => format!("{name} has no credential; `countersign rotate {name}` makes one\n"),
        (Some(_), _) if in_band.is_some() => format!("{}\n", life::in_band(&peer, now).unwrap_or_default()),
        (Some(new), Some(old)) if waiting => format!(
            "{name} has not used {} yet, which was made {} ago. Both are accepted. {}: {}\n",
            new.id(name),
            show::age(new.created, now),
            old.id(name),
            until(&peer, old, now)
        ),
        (Some(new), None) if waiting => format!(
            "{name} has not used {} yet, which was made {} ago, and no other one is accepted\n",
            new.id(name),
            show::age(new.created, now)
        ),
        (Some(new), Some(old)) => format!(
            "{name} has {}. {}: {}; `countersign rotate {name} --finish` ends it now\n",
            new.id(name),
            old.id(name),
            until(&peer, old, now)
        ),
        (Some(new), None) => format!(
            "no rotation of {name} is open. {} is {} old, and due {}\n",
            new.id(name),
            show::age(new.created, now),
            life::due(&peer, now)
        ),
    };
    if args.json {
        let uses = |credential: Option<&Credential>| {
            credential.map(|one| (one.id(name).to_string(), life::credential_json(&peer, one, now)))
        };
        let (old, new) = (uses(old), uses(newest));
        show::json(&json!({
            "peer": name.as_str(),
            "waiting": waiting,
            "rotation": life::rotation_json(&peer, now),
            "old": old.map(|(id, life)| json!({"id": id, "life": life})),
            "newest": new.map(|(id, life)| json!({"id": id, "life": life})),
        }))?;
    } else {
        show::out(&text)?;
    }
    if waiting { Err(Failure::new(format!("still waiting for {name}"))) } else { Ok(()) }
}
