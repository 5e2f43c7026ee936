//! What people and programs see of a credential's life: its state, its age, when it was used, how long it is good for.

use countersign::protocol::UnixTime;
use countersign::store::agreement::Step;
use countersign::store::{Credential, Ended, Peer, Rotation};
use serde_json::{Value, json};

use crate::show;

/// For how long those that have ended are shown in lists, in seconds.
const SHOWN: u64 = 30 * 24 * 60 * 60;

/// Where a live credential stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum State {
    /// The only one.
    Current,
    /// It has come, and the one before it is still good.
    Next { has_it: bool },
    /// Its successor is there. It ends then; without a time, when the peer has the successor.
    Old { ends: Option<UnixTime> },
    /// Its time is over; nobody has tidied it away yet.
    Over,
}

impl State {
    pub(crate) fn of(peer: &Peer, credential: &Credential, now: UnixTime) -> Self {
        let ends = peer.ends(credential);
        if ends.is_some_and(|end| end <= now) {
            return Self::Over;
        }
        let mut others = peer.accepted(now).filter(|other| other.number != credential.number);
        match others.next() {
            None => Self::Current,
            Some(other) if other.number > credential.number => Self::Old { ends },
            Some(_) => Self::Next { has_it: credential.confirmed.is_some() },
        }
    }

    const fn word(self) -> &'static str {
        match self {
            Self::Current => "current",
            Self::Next { .. } => "next",
            Self::Old { .. } => "old",
            Self::Over => "ended",
        }
    }

    pub(crate) fn text(self, peer: &Peer, now: UnixTime) -> String {
        match (self, peer.step().map(|(step, _)| step)) {
            (Self::Current, Some(Step::Proposed)) => return "current: the next is proposed".to_owned(),
            (Self::Current, None) if peer.wanted().is_some() => {
                return "current: the next is wanted".to_owned();
            }
            (Self::Next { .. }, Some(Step::Ready)) => return format!("next: agreed, {} confirms", peer.name),
            (Self::Next { .. }, Some(Step::Pending)) => {
                return format!("next: answered, {} confirms", peer.name);
            }
            _ => {}
        }
        match self {
            Self::Current => "current".to_owned(),
            Self::Next { has_it: false } => format!("next: waiting for {}", peer.name),
            Self::Next { has_it: true } => format!("next: {} has it", peer.name),
            Self::Old { ends: Some(end) } => format!("old: ends in {}", show::age(now, end)),
            Self::Old { ends: None } => format!("old: until {} has the next", peer.name),
            Self::Over => "ended: its time is over".to_owned(),
        }
    }
}

/// When something happened, for a person.
pub(crate) fn ago(at: Option<UnixTime>, now: UnixTime) -> String {
    at.map_or_else(|| "never".to_owned(), |at| format!("{} ago", show::age(at, now)))
}

/// When a peer's newest credential is to be rotated, for a person.
pub(crate) fn due(peer: &Peer, now: UnixTime) -> String {
    match peer.due() {
        None if peer.credentials.is_empty() => "-".to_owned(),
        None => "never".to_owned(),
        Some(due) if due <= now => format!("since {}", show::age(due, now)),
        Some(due) => format!("in {}", show::age(now, due)),
    }
}

/// One line for each credential of a peer, and whether it is the one that somebody should see to.
pub(crate) fn rows(peer: &Peer, now: UnixTime) -> Vec<(Vec<String>, bool)> {
    let newest = peer.credentials.last().map(|credential| credential.number);
    let live = peer.credentials.iter().map(|credential| {
        let is_newest = newest == Some(credential.number);
        let cells = vec![
            credential.id(&peer.name).to_string(),
            peer.profile.to_string(),
            State::of(peer, credential, now).text(peer, now),
            show::age(credential.created, now),
            if is_newest { due(peer, now) } else { "-".to_owned() },
            ago(credential.used_inbound, now),
            ago(credential.used_outbound, now),
            credential.fingerprint.to_string(),
        ];
        (cells, is_newest && peer.is_overdue(now))
    });
    let ended = peer.ended.iter().filter(|ended| {
        let last =
            peer.credentials.is_empty() && peer.ended.last().is_some_and(|one| one.number == ended.number);
        last || now.since(ended.ended) < SHOWN
    });
    let ended = ended.map(|ended| {
        let cells = vec![
            format!("{}/{}", peer.name, ended.number),
            peer.profile.to_string(),
            ended_text(ended, now),
            show::age(ended.created, now),
            "-".to_owned(),
            "-".to_owned(),
            "-".to_owned(),
            ended.fingerprint.to_string(),
        ];
        (cells, false)
    });
    let mut rows: Vec<_> = ended.chain(live).collect();
    if peer.credentials.is_empty() && peer.ended.is_empty() {
        let none = ["-", peer.profile.as_str(), "no credential", "-", "-", "-", "-", "-"];
        let mut cells = none.map(str::to_owned).to_vec();
        if let Some(name) = cells.first_mut() {
            *name = peer.name.to_string();
        }
        rows.push((cells, false));
    }
    rows
}

/// The head of [`rows`].
pub(crate) const HEAD: [&str; 8] =
    ["CREDENTIAL", "PROFILE", "STATE", "AGE", "DUE", "THEY USED IT", "WE USED IT", "FINGERPRINT"];

pub(crate) fn ended_text(ended: &Ended, now: UnixTime) -> String {
    format!("ended: {} {} ago", ended.how.as_str(), show::age(ended.ended, now))
}

/// A peer's state in a word or two.
pub(crate) fn summary(peer: &Peer, now: UnixTime) -> String {
    match (peer.accepted(now).count(), peer.ended.last(), peer.rotation(now)) {
        (0, Some(ended), _) => format!("none: {}", ended.how.as_str()),
        (0, None, _) => "none".to_owned(),
        (_, _, Rotation::Idle) if peer.is_overdue(now) => "current, overdue".to_owned(),
        (_, _, Rotation::Idle) => "current".to_owned(),
        (_, _, Rotation::Waiting { .. }) if peer.is_overdue(now) => "next: waiting, overdue".to_owned(),
        (_, _, Rotation::Waiting { .. }) => "next: waiting".to_owned(),
        (_, _, Rotation::Confirmed { .. }) => "next: confirmed".to_owned(),
    }
}

/// What [`crate::commands::peer::describe`] says of one live credential beside its keys.
pub(crate) fn credential_json(peer: &Peer, credential: &Credential, now: UnixTime) -> Value {
    let state = State::of(peer, credential, now);
    json!({
        "state": state.word(),
        "ageSeconds": now.since(credential.created),
        "confirmed": credential.confirmed.map(|at| at.0),
        "usedInbound": credential.used_inbound.map(|at| at.0),
        "usedOutbound": credential.used_outbound.map(|at| at.0),
        "ends": peer.ends(credential).map(|at| at.0),
    })
}

/// What is left of one that has ended.
pub(crate) fn ended_json(peer: &Peer, ended: &Ended) -> Value {
    json!({
        "id": format!("{}/{}", peer.name, ended.number),
        "number": ended.number,
        "state": "ended",
        "how": ended.how.as_str(),
        "created": ended.created.0,
        "ended": ended.ended.0,
        "fingerprint": ended.fingerprint.as_str(),
    })
}

/// Where a rotation in band stands, for a person; `None` if none goes on.
pub(crate) fn in_band(peer: &Peer, now: UnixTime) -> Option<String> {
    let name = &peer.name;
    let newest = peer.credentials.last().map_or_else(String::new, |one| one.id(name).to_string());
    let Some((step, since)) = peer.step() else {
        let since = show::age(peer.wanted()?, now);
        return Some(format!(
            "a rotation is wanted since {since}, and {name} has to begin it: its `serve` asks about once a minute"
        ));
    };
    let since = show::age(since, now);
    Some(match step {
        Step::Proposed => format!(
            "a rotation was proposed to {name} {since} ago, which has not answered yet. {newest} is in use"
        ),
        Step::Ready => format!(
            "{newest} was agreed on with {name} {since} ago, which has not confirmed it yet. Both are accepted, the old one is in use"
        ),
        Step::Pending => format!(
            "{name} has proposed {newest} {since} ago, and has not confirmed it yet. Both are accepted, the old one is in use"
        ),
        Step::Current => format!(
            "{newest} was confirmed by {name}, which has not used it yet. Both are accepted, the new one is in use"
        ),
    })
}

/// Where the peer's rotation stands.
pub(crate) fn rotation_json(peer: &Peer, now: UnixTime) -> Value {
    let mut rotation = overlap_json(peer, now);
    if let (Some(members), Some((step, since))) = (rotation.as_object_mut(), peer.step()) {
        members.insert("inBand".to_owned(), json!({"step": step.as_str(), "since": since.0}));
    }
    if let (Some(members), Some(since)) = (rotation.as_object_mut(), peer.wanted()) {
        members.insert("wantedSince".to_owned(), json!(since.0));
    }
    rotation
}

fn overlap_json(peer: &Peer, now: UnixTime) -> Value {
    match peer.rotation(now) {
        Rotation::Idle => json!({"state": "idle"}),
        Rotation::Waiting { grace_ends, deadline } => {
            json!({"state": "waiting", "graceEnds": grace_ends.0, "deadline": deadline.map(|at| at.0)})
        }
        Rotation::Confirmed { ends } => json!({"state": "confirmed", "oldEnds": ends.0}),
    }
}
