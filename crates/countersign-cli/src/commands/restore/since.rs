//! What the trail says was changed between a backup and its restoring: all of that is undone, and a credential that
//! was revoked is good again.
//!
//! Whoever can write into the trail's directory is not to say what an operator should run: only lines that the writer
//! `admin` has made count, and what goes into a command is read as a name or a number and nothing else.

use std::io::ErrorKind;
use std::path::Path;

use countersign::ServiceName;
use countersign::audit::{AuditKey, Direction, Entry, Outcome, Records};
use countersign::protocol::UnixTime;
use countersign::protocol::wire::printable;
use countersign::store::{Credential, Peer};
use time::OffsetDateTime;
use time::format_description::well_known::Rfc3339;

use crate::commands::doctor::quoted;
use crate::failure::{Context as _, Failure};

/// The record of a restoring. Its `count` is the number of the last change that the backup knows.
pub(crate) const RESTORED: &str = "store-restored";

/// Who writes changes down.
const WRITER: &str = "admin";

/// One change that a person made.
#[derive(Debug)]
pub(crate) struct Change {
    seq: u64,
    pub(crate) time: String,
    pub(crate) reason: String,
    service: Option<ServiceName>,
    /// Of the credential that it is about, if it is about one.
    number: Option<u32>,
    count: Option<u64>,
}

/// All changes that people made.
#[derive(Debug)]
pub(crate) struct History {
    /// Oldest first.
    pub(crate) changes: Vec<Change>,
    /// Why these are not all of them, if something is wrong with the trail.
    pub(crate) amiss: Option<String>,
    /// Numbers of the first and the last record.
    ends: Option<(u64, u64)>,
    /// Whether this service was restored, ever, as far as anybody has written.
    restored: bool,
}

impl History {
    /// What the trail in this directory shows under its key.
    pub(crate) fn read(audit: &Path, key: &AuditKey) -> Result<Self, Failure> {
        let mut history = Self::believed(audit, key)?;
        history.restored = history.changes.iter().any(|change| change.reason == RESTORED);
        if history.amiss.is_some() && !history.restored {
            // Behind what is believed nothing but this is taken from there, and all that it does is to warn.
            let all = Records::open(audit, None).context(|| audit.display().to_string())?;
            history.restored =
                all.flatten().any(|one| one.writer == WRITER && one.entry.record.reason == RESTORED);
        }
        Ok(history)
    }

    fn believed(audit: &Path, key: &AuditKey) -> Result<Self, Failure> {
        let mut history = Self { changes: Vec::new(), amiss: None, ends: None, restored: false };
        let mut last: Option<u64> = None;
        let records = match Records::chained(audit, WRITER, key) {
            Ok(records) => records,
            Err(error) => return history.stopped(&error, last).context(|| audit.display().to_string()),
        };
        for record in records {
            let entry = match record {
                Ok(record) => record.entry,
                Err(error) => return history.stopped(&error, last).context(|| audit.display().to_string()),
            };
            match last {
                Some(last) if entry.seq <= last => {
                    history.amiss = Some(format!(
                        "behind record {last} stands record {}, so that somebody has moved lines; what comes there is left out",
                        entry.seq
                    ));
                    return Ok(history);
                }
                Some(last) if entry.seq > last + 1 && history.amiss.is_none() => {
                    history.amiss =
                        Some(format!("the records {} to {} are missing", last + 1, entry.seq - 1));
                }
                _ => {}
            }
            last = Some(entry.seq);
            history.ends = Some((history.ends.map_or(entry.seq, |(first, _)| first), entry.seq));
            history.changes.extend(Change::of(entry));
        }
        Ok(history)
    }

    /// A line that is not the writer's ends it; nothing behind it is believed.
    fn stopped(mut self, error: &std::io::Error, last: Option<u64>) -> std::io::Result<Self> {
        if error.kind() != ErrorKind::InvalidData {
            return Err(std::io::Error::new(error.kind(), error.to_string()));
        }
        let last = last.map_or_else(|| "at its beginning".to_owned(), |last| format!("behind record {last}"));
        self.amiss = Some(format!(
            "{last} stand lines that it did not write; nothing from there on is believed, and what was changed then is not named here"
        ));
        Ok(self)
    }

    /// The sentence for people, if something is wrong, or if this does not begin where what is known ends: with the
    /// change of that number.
    pub(crate) fn warning(&self, known: Option<u64>) -> Option<String> {
        if let Some(amiss) = &self.amiss {
            return Some(format!("the trail of the writer {WRITER} was changed by somebody else: {amiss}"));
        }
        let known = known.filter(|known| *known > 0)?;
        match self.ends {
            None => {
                Some(format!("of the writer {WRITER} there is no record, and there were {known} at least"))
            }
            Some((first, _)) if first > known + 1 => Some(format!(
                "the records {} to {} of the writer {WRITER} are not there: retention or somebody has removed them",
                known + 1,
                first - 1
            )),
            Some((_, last)) if last < known => Some(format!(
                "the trail of the writer {WRITER} ends with record {last}, and there were {known} at least"
            )),
            Some(_) => None,
        }
    }

    /// The same for a service that runs: on one that was never restored, nothing was undone, and what is wrong with its
    /// trail is told elsewhere.
    pub(crate) fn warning_since_restoring(&self) -> Option<String> {
        let known = || self.changes.iter().rfind(|change| change.reason == RESTORED)?.count;
        if self.restored { self.warning(known()) } else { None }
    }
}

impl Change {
    fn of(entry: Entry) -> Option<Self> {
        let Entry { seq, time, record, .. } = entry;
        let changed = record.direction == Direction::Local
            && record.outcome == Outcome::Changed
            && record.step != "trail";
        let number = || record.credential.as_deref()?.rsplit_once('/')?.1.parse().ok();
        changed.then(|| Self {
            seq,
            time: printable(&time, 30),
            reason: printable(&record.reason, 30),
            service: record.service.as_deref().and_then(|name| name.parse().ok()),
            number: number(),
            count: record.count,
        })
    }

    /// When it was written, to the second.
    fn at(&self) -> Option<UnixTime> {
        let time = OffsetDateTime::parse(&self.time, &Rfc3339).ok()?;
        u64::try_from(time.unix_timestamp()).ok().map(UnixTime)
    }

    /// The credential, or else the peer.
    pub(crate) fn whom(&self) -> String {
        match (&self.service, self.number) {
            (Some(service), Some(number)) => format!("{service}/{number}"),
            (Some(service), None) => service.to_string(),
            (None, _) => "-".to_owned(),
        }
    }
}

/// Those that came after the last one that a backup knows, as far as they matter now.
pub(crate) fn undone(changes: &[Change], known: u64) -> Vec<&Change> {
    let matters = |change: &&Change| !["backup-made", RESTORED].contains(&change.reason.as_str());
    changes.iter().filter(|change| change.seq > known).filter(matters).collect()
}

/// Of what was undone by the last restoring, what still lets somebody in who had been shut out.
pub(crate) fn still_open<'a>(changes: &'a [Change], peers: &[Peer], now: UnixTime) -> Vec<&'a Change> {
    let Some(restored) = changes.iter().rfind(|change| change.reason == RESTORED) else {
        return Vec::new();
    };
    let known = restored.count.unwrap_or(0);
    let since: Vec<&Change> = changes.iter().filter(|change| change.seq > restored.seq).collect();
    let mut open: Vec<&Change> =
        undone(changes, known).into_iter().filter(|change| change.seq < restored.seq).collect();
    // What was made since has the number of an old one, and nothing else of it.
    let is_old = |peer: &Peer, one: &Credential| {
        let made = since.iter().any(|later| {
            makes(&later.reason)
                && later.service.as_ref() == Some(&peer.name)
                && later.number == Some(one.number)
        });
        // A clock that was ahead when it was made says nothing.
        let later = restored.at().is_some_and(|at| at < one.created && one.created <= now);
        !made && !later
    };
    open.retain(|change| shuts_out(&change.reason) && lets_in(change, peers, is_old));
    // Done again since: what is there now was made later.
    open.retain(|change| {
        !since.iter().any(|later| {
            later.reason == change.reason && later.service == change.service && later.number == change.number
        })
    });
    open
}

/// One change and what is to be done about it, in a line.
pub(crate) fn line(change: &Change, command: &str) -> String {
    let Change { time, reason, .. } = change;
    format!("{time}  {reason:<20} {}\n{:26}→ {}", change.whom(), "", mend(change, command))
}

/// The command that does it again.
pub(crate) fn mend(change: &Change, command: &str) -> String {
    let name = change.service.as_ref().map_or_else(|| "NAME".to_owned(), |name| quoted(name.as_str()));
    let number = change.number.map_or_else(String::new, |number| format!(" --credential {number}"));
    match change.reason.as_str() {
        "peer-removed" => format!("{command} peer remove {name}"),
        "revoked" => format!("{command} revoke {name}{number}"),
        "revoked-compromised" => format!("{command} revoke {name}{number} --compromised"),
        "peer-added" => format!("add {name} again, with its keys or new ones: {command} peer add {name} …"),
        "master-key-changed" | "master-key-added" => {
            format!(
                "{command} master-key rotate   (the key that is in use now is the one before that change)"
            )
        }
        "schedule-set" => format!("{command} peer schedule {name} …"),
        _ => format!("keys that were made then are lost here: agree on new ones with {name}"),
    }
}

fn shuts_out(reason: &str) -> bool {
    ["peer-removed", "revoked", "revoked-compromised"].contains(&reason)
}

/// Changes that bring a credential which was not there before.
fn makes(reason: &str) -> bool {
    ["peer-added", "rotation-started", "rotation-taken"].contains(&reason)
}

fn lets_in(change: &Change, peers: &[Peer], is_old: impl Fn(&Peer, &Credential) -> bool) -> bool {
    let Some(peer) = peers.iter().find(|peer| change.service.as_ref() == Some(&peer.name)) else {
        return false;
    };
    let meant = |one: &&Credential| change.number.is_none_or(|number| one.number == number);
    peer.credentials.iter().filter(meant).any(|one| is_old(peer, one))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

    use countersign::protocol::identity::ApiKey;
    use countersign::store::{MemoryStore, NewKeys, NewPeer, PeerStore as _, Trust};

    use super::*;

    #[test]
    fn a_trail_that_does_not_go_on_where_the_backup_ends_is_told() {
        let history = |ends| History { changes: Vec::new(), amiss: None, ends, restored: false };
        let warning = |ends, known| history(ends).warning(Some(known));
        for (ends, known) in [(None, 0), (Some((1, 9)), 5), (Some((6, 9)), 5), (Some((3, 5)), 5)] {
            assert_eq!(warning(ends, known), None, "{ends:?} {known}");
        }
        for (ends, known, said) in [
            (None, 5, "there is no record"),
            (Some((7, 9)), 5, "the records 6 to 6"),
            (Some((1, 4)), 5, "ends with record 4"),
        ] {
            assert!(warning(ends, known).is_some_and(|warning| warning.contains(said)), "{ends:?} {known}");
        }
    }

    fn change(seq: u64, reason: &str, number: Option<u32>, count: Option<u64>) -> Change {
        Change {
            seq,
            time: "2026-11-27T12:00:00.500Z".to_owned(),
            reason: reason.to_owned(),
            service: (reason != RESTORED).then(|| "billing".parse().unwrap()),
            number,
            count,
        }
    }

    /// The peer with one credential, made so many seconds after the restoring.
    fn billing(after: i64) -> Peer {
        let restored = change(1, RESTORED, None, None).at().unwrap();
        let at = UnixTime(restored.0.checked_add_signed(after).unwrap());
        let new = NewPeer {
            name: "billing".parse().unwrap(),
            url: None,
            trust: Trust::System,
            danger_unproven_server: false,
            cs1: Default::default(),
            keys: NewKeys::api_key(Some(ApiKey::generate(&[1; 16])), None).unwrap(),
        };
        MemoryStore::new().add(new, at).unwrap()
    }

    #[test]
    fn a_new_credential_with_the_number_of_an_old_one_is_not_taken_for_it() {
        let undone = || vec![change(5, "revoked", Some(1), None), change(6, RESTORED, None, Some(4))];
        let now = billing(1_000).credentials[0].created;
        let open = |changes: &[Change], after| still_open(changes, &[billing(after)], now).len();
        // Older, or in the same second, from which nothing follows.
        assert_eq!((open(&undone(), -500), open(&undone(), 0)), (1, 1));
        assert_eq!(open(&undone(), 1), 0);
        // Its clock was ahead.
        assert_eq!(open(&undone(), 5_000), 1);
        // The trail says that it was made since, whatever the clock said.
        for (reason, number, expected) in
            [("rotation-taken", 1, 0), ("rotation-started", 1, 0), ("peer-added", 1, 0), ("peer-added", 2, 1)]
        {
            let mut changes = undone();
            changes.push(change(7, reason, Some(number), None));
            assert_eq!(open(&changes, -500), expected, "{reason} {number}");
            // Before the restoring it is undone as all the rest is.
            changes.rotate_right(1);
            changes[0].seq = 4;
            assert_eq!(open(&changes, -500), 1, "{reason} {number}");
        }
        let removed =
            |after| open(&[change(5, "peer-removed", None, None), change(6, RESTORED, None, Some(4))], after);
        assert_eq!((removed(-500), removed(1)), (1, 0));
    }
}
