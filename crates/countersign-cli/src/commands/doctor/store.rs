//! The master key, the store, and the ages of what is in it.

use countersign::PeerStore as _;
use countersign::audit::AuditKey;
use countersign::protocol::UnixTime;
use countersign::store::master::Source;
use countersign::store::sqlite::{self, SqliteStore};
use countersign::store::{Listing, Rotation, StoreError};

use super::files::files;
use super::finding::{Findings, path};
use crate::commands::restore;
use crate::commands::rotate::named;
use crate::config::{Config, SecretsFrom};
use crate::home::Home;
use crate::show;

/// Restoring is told on a page of its own.
const RESTORE: &str = "restore the store and its master key together from a backup (docs/backup.md)";

/// Looks at the store; what is in it, as far as it opens.
pub(super) fn check(home: &Home, config: Option<&Config>, findings: &mut Findings) -> Option<Listing> {
    let file = home.store_file();
    let whole = intact(home, findings);
    let key = match home.master_key() {
        Ok(key) => {
            findings.ok("master-key", format!("it is in {}", home.master_key_source()));
            key
        }
        Err(failure) => {
            findings.fail("master-key", failure.message(), key_mend(home));
            return None;
        }
    };
    if !whole {
        return None;
    }
    let opened = SqliteStore::open(&file, &key).and_then(|store| store.read_all());
    match opened {
        Ok(listing) => {
            for damaged in &listing.damaged {
                findings.fail("store", damaged.to_string(), damaged_mend(home, damaged));
            }
            if listing.damaged.is_empty() {
                let local = config.is_none_or(|config| config.secrets.from() == SecretsFrom::Store);
                let what = format!("{} peers, and all of their keys open", listing.peers.len());
                let elsewhere = "it opens; the peers are elsewhere ([secrets] from)".to_owned();
                findings.ok("store", if local { what } else { elsewhere });
            }
            Some(listing)
        }
        Err(StoreError::WrongMasterKey) => {
            findings.fail("master-key", StoreError::WrongMasterKey.to_string(), RESTORE);
            None
        }
        Err(error) => {
            findings.fail("store", error.to_string(), RESTORE);
            None
        }
    }
}

/// Whether the file is a whole database of a version that this program knows. That needs no key.
fn intact(home: &Home, findings: &mut Findings) -> bool {
    let file = home.store_file();
    match sqlite::inspect(&file) {
        Ok(found) if found.damage.is_empty() => {
            two_keys(home, found.rewrap_open, findings);
            findings.ok("database", format!("{} is intact (schema {})", file.display(), found.schema));
            true
        }
        Ok(found) => {
            let what = format!("{} is damaged: {}", file.display(), found.damage.join("; "));
            findings.fail("database", what, RESTORE);
            false
        }
        Err(error @ StoreError::TooNew) => {
            findings.fail("database", error.to_string(), "install that version of Countersign");
            false
        }
        Err(error @ StoreError::NoStore { .. }) => {
            let mend = format!(
                "{RESTORE}; or `countersign --home {} init --service NAME` in an empty directory",
                path(home.path())
            );
            findings.fail("database", error.to_string(), mend);
            false
        }
        Err(error) => {
            findings.fail("database", error.to_string(), RESTORE);
            false
        }
    }
}

/// A change of the master key that was begun and not finished, or what a crash left of one.
fn two_keys(home: &Home, open: bool, findings: &mut Findings) {
    let (next, command) = (home.next_master_key_file(), format!("countersign --home {}", path(home.path())));
    let in_file = matches!(home.master_key_source(), Source::File(_));
    if open && in_file && next.symlink_metadata().is_ok() {
        let what = "a change of the master key was interrupted: two keys open the store";
        findings.warn("master-key", what, format!("{command} master-key rotate"));
    } else if open {
        let what = "a change of the master key is open: two keys open the store";
        let mend = format!(
            "{command} master-key rotate --finish   (if the new key is in {}; else --abandon)",
            home.master_key_source()
        );
        findings.warn("master-key", what, mend);
    } else if next.symlink_metadata().is_ok() {
        let what = format!(
            "{} is what an interrupted change of the master key left; it opens nothing",
            next.display()
        );
        let mend =
            if in_file { format!("{command} master-key rotate") } else { format!("rm {}", path(&next)) };
        findings.warn("leftovers", what, mend);
    }
}

fn key_mend(home: &Home) -> String {
    if let Source::Transit(_) = home.master_key_source() {
        return "see to Vault, or give the key from elsewhere until it answers: COUNTERSIGN_MASTER_KEY, or the systemd credential (docs/secrets.md)".to_owned();
    }
    let file = home.master_key_file();
    let mode = std::os::unix::fs::MetadataExt::mode;
    match file.metadata() {
        Ok(found) if mode(&found) & 0o077 != 0 => format!("chmod 600 {}", path(&file)),
        _ => format!("put the right key back into {}: {RESTORE}", home.master_key_source()),
    }
}

fn damaged_mend(home: &Home, damaged: &StoreError) -> String {
    let home = path(home.path());
    match damaged {
        StoreError::Damaged(named) => {
            let name = named.split('/').next().unwrap_or_default();
            format!(
                "countersign --home {home} peer remove {}   (then add it again; or {RESTORE})",
                super::finding::quoted(name)
            )
        }
        _ => RESTORE.to_owned(),
    }
}

/// After a backup was restored: what had been shut out and is let in again.
pub(super) fn restored(home: &Home, listing: &Listing, findings: &mut Findings) {
    // A store or a trail that cannot be read is told elsewhere.
    let Ok(store) = home.local_store() else { return };
    let key = AuditKey::new(store.audit_key());
    let Ok(history) = restore::History::read(&home.audit_directory(), &key) else { return };
    let command = format!("countersign --home {}", path(home.path()));
    for change in restore::still_open(&history.changes, &listing.peers, show::now()) {
        let what = format!(
            "{} is let in again: it was shut out ({}, {}) after the backup from which this service was restored",
            change.whom(),
            change.reason,
            change.time
        );
        findings.fail("restored", what, restore::mend(change, &command));
    }
    if let Some(warning) = history.warning_since_restoring() {
        let what =
            format!("{warning}. So it cannot be told whether somebody who was shut out is let in again");
        findings.fail("restored", what, format!("{command} audit verify   (and docs/audit.md)"));
    }
}

/// Credentials that are older than they should get, and rotations that wait for somebody.
pub(super) fn ages(home: &Home, listing: &Listing, findings: &mut Findings) {
    let (now, home) = (show::now(), path(home.path()));
    let mut overdue = 0;
    for peer in &listing.peers {
        if peer.credentials.is_empty() {
            overdue += 1;
            let what = format!("{} has no credential: all of them have ended", peer.name);
            findings.warn("key-age", what, replace(&home, peer.name.as_str()));
        } else if peer.is_overdue(now) {
            overdue += 1;
            let created = peer.credentials.last().map_or(now, |credential| credential.created);
            let age = show::age(created, now);
            match peer.rotation(now) {
                Rotation::Waiting { .. } => {
                    let what =
                        format!("{} has not used its next credential, which was made {age} ago", peer.name);
                    findings.warn(
                        "key-age",
                        what,
                        format!(
                            "countersign --home {home} rotate {} --check   (and ask its operator to put it to use)",
                            peer.name
                        ),
                    );
                }
                _ => {
                    let what =
                        format!("the credential of {} is {age} old, and due to be replaced", peer.name);
                    findings.warn("key-age", what, replace(&home, peer.name.as_str()));
                }
            }
        }
        if peer.danger_unproven_server {
            let what = format!("{} is called even if its server does not prove itself (danger)", peer.name);
            let mend = format!(
                "countersign --home {home} peer remove {0}, and add it again without --danger-unproven-server",
                peer.name
            );
            findings.warn("danger", what, mend);
        }
    }
    if overdue == 0 {
        findings.ok("key-age", "no credential is older than it should be");
    }
}

fn replace(home: &str, name: &str) -> String {
    format!("countersign --home {home} rotate {name}")
}

/// The latest time that the store has seen.
pub(super) fn newest(listing: &Listing) -> Option<UnixTime> {
    let peers = listing.peers.iter();
    peers
        .flat_map(|peer| {
            let credentials = peer.credentials.iter();
            let live = credentials
                .flat_map(|one| [Some(one.created), one.confirmed, one.used_inbound, one.used_outbound]);
            live.flatten().chain(peer.ended.iter().map(|ended| ended.ended)).chain([peer.created])
        })
        .max()
}

/// Files with keys for other sides that nobody needs any more.
pub(super) fn exported(home: &Home, listing: &Listing, findings: &mut Findings) {
    let (now, mut left) = (show::now(), 0);
    for file in files(&home.exchange_directory()) {
        let Some((name, number)) = named(&file) else { continue };
        let peer = listing.peers.iter().find(|peer| peer.name == name);
        // What belongs to a peer that cannot be read is left alone.
        if peer.is_none() && !listing.damaged.is_empty() {
            continue;
        }
        let credential =
            peer.and_then(|peer| peer.credentials.iter().find(|credential| credential.number == number));
        let why = match (peer, credential) {
            (_, Some(credential)) if credential.confirmed.is_none() => continue,
            (_, Some(_)) => format!("{name} has used them already"),
            (Some(peer), None) if number >= peer.next_number() => {
                "an interrupted `rotate` left them, and they were never put to use".to_owned()
            }
            _ => format!("{name}/{number} has ended"),
        };
        left += 1;
        let age = file.metadata().and_then(|found| found.modified()).ok();
        let age = age.and_then(|at| at.duration_since(std::time::UNIX_EPOCH).ok());
        let age =
            age.map_or_else(String::new, |at| format!(", {} old", show::age(UnixTime(at.as_secs()), now)));
        let what = format!("{} holds keys in the clear{age}, and nobody needs it: {why}", file.display());
        findings.warn("exported-keys", what, format!("rm {}", path(&file)));
    }
    if left == 0 {
        findings.ok("exported-keys", "no file with keys is left over from a rotation");
    }
}
