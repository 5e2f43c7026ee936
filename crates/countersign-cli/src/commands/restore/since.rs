//! What the trail says was changed between a backup and its restoring: all of that is undone, and a credential that
//! was revoked is good again.

use std::path::Path;

use countersign::audit::{Direction, Entry, Outcome, tail};
use countersign::protocol::wire::printable;
use countersign::store::Peer;

use crate::failure::{Context as _, Failure};

/// The record of a restoring. Its `count` is the number of the last change that the backup knows.
pub(crate) const RESTORED: &str = "store-restored";

/// More records than this are not looked through.
const MOST: usize = 10_000_000;

/// All changes that people made, oldest first.
pub(crate) fn changes(audit: &Path) -> Result<Vec<Entry>, Failure> {
    let (entries, _) = tail(audit, MOST).context(|| audit.display().to_string())?;
    let mut changes: Vec<Entry> = entries
        .into_iter()
        .filter(|entry| {
            let record = &entry.record;
            record.direction == Direction::Local
                && record.outcome == Outcome::Changed
                && record.step != "trail"
        })
        .collect();
    changes.sort_by_key(|entry| entry.seq);
    Ok(changes)
}

/// Those that came after the last one that a backup knows, as far as they matter now.
pub(crate) fn undone(changes: &[Entry], known: u64) -> Vec<&Entry> {
    let matters = |entry: &&Entry| !["backup-made", RESTORED].contains(&entry.record.reason.as_str());
    changes.iter().filter(|entry| entry.seq > known).filter(matters).collect()
}

/// Of what was undone by the last restoring, what still lets somebody in who had been shut out.
pub(crate) fn still_open<'a>(changes: &'a [Entry], peers: &[Peer]) -> Vec<&'a Entry> {
    let Some(restored) = changes.iter().rfind(|entry| entry.record.reason == RESTORED) else {
        return Vec::new();
    };
    let known = restored.record.count.unwrap_or(0);
    let mut open: Vec<&Entry> =
        undone(changes, known).into_iter().filter(|entry| entry.seq < restored.seq).collect();
    open.retain(|entry| shuts_out(&entry.record.reason) && lets_in(entry, peers));
    // Done again since: what is there now was made later.
    open.retain(|entry| {
        !changes.iter().any(|later| {
            later.seq > restored.seq
                && later.record.reason == entry.record.reason
                && later.record.service == entry.record.service
                && later.record.credential == entry.record.credential
        })
    });
    open
}

/// One change and what is to be done about it, in a line.
pub(crate) fn line(entry: &Entry, command: &str) -> String {
    let record = &entry.record;
    let whom = record.credential.as_deref().or(record.service.as_deref()).unwrap_or("-");
    let (time, reason, whom) =
        (printable(&entry.time, 30), printable(&record.reason, 30), printable(whom, 80));
    format!("{time}  {reason:<20} {whom}\n{:26}→ {}", "", mend(entry, command))
}

/// The command that does it again.
pub(crate) fn mend(entry: &Entry, command: &str) -> String {
    let record = &entry.record;
    let name = printable(record.service.as_deref().unwrap_or("NAME"), 80);
    let number = number(entry).map_or_else(String::new, |number| format!(" --credential {number}"));
    match record.reason.as_str() {
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

fn lets_in(entry: &Entry, peers: &[Peer]) -> bool {
    let named = |peer: &&Peer| entry.record.service.as_deref() == Some(peer.name.as_str());
    let Some(peer) = peers.iter().find(named) else { return false };
    match number(entry) {
        Some(number) => peer.credentials.iter().any(|one| one.number == number),
        None => !peer.credentials.is_empty(),
    }
}

/// The number of the credential that it is about, if it is about one.
fn number(entry: &Entry) -> Option<u32> {
    entry.record.credential.as_deref()?.rsplit_once('/')?.1.parse().ok()
}
