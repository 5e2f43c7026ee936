//! `countersign restore`: a data directory from a backup.
//!
//! Files are written whole, the config last: until it is there, there is no service, and the command can be run
//! again. A marker says from which backup it was begun.

mod since;

use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign::audit::{AuditKey, AuditSink as _, Direction, Outcome, Record, Settings};
use countersign::open_trail;
use countersign::store::file;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;

pub(crate) use self::since::{History, mend, still_open};
use super::backup::{Backup, Header, STORE};
use crate::args::RestoreArgs;
use crate::config::Config;
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show;

const CONFIG: &str = "countersign.toml";
const MARKER: &str = "restore.unfinished";
const AUDIT: &str = "audit";
const MASTER_KEY: &str = "master.key";

pub(crate) fn run(home: &Home, args: &RestoreArgs) -> Result<(), Failure> {
    let bytes = std::fs::read(&args.file).context(|| args.file.display().to_string())?;
    Backup::header(&bytes)?;
    make(home.path())?;
    home.check()?;
    let _lock = home.try_lock()?;
    let master = master_key(home)?;
    let backup = Backup::open(&bytes, &master)?;
    clear(home, &backup, &marker_text(&bytes))?;
    write(home, &backup)?;
    let store = SqliteStore::open(&home.store_file(), &master)?;
    let undone = note(home, &store, &backup)?;
    for kept in backup.files.iter().filter(|kept| kept.name == CONFIG) {
        put(home, &kept.name, kept.mode, &kept.bytes)?;
    }
    let marker = home.path().join(MARKER);
    std::fs::remove_file(&marker).context(|| marker.display().to_string())?;
    show::out(&show::printable_lines(&told(home, &backup.header, undone.as_ref())))
}

/// What a restoring undoes, as far as the trail can tell.
struct Undone {
    lines: Vec<String>,
    /// What is wrong with the trail.
    warning: Option<String>,
}

fn make(path: &Path) -> Result<(), Failure> {
    std::fs::DirBuilder::new()
        .recursive(true)
        .mode(0o700)
        .create(path)
        .context(|| format!("cannot make {}", path.display()))
}

fn master_key(home: &Home) -> Result<MasterKey, Failure> {
    if let Source::File(path) = home.master_key_source()
        && !path.exists()
    {
        return Err(Failure::new(format!(
            "the backup opens with the master key of the time when it was made, and there is none: put it into {} (mode 0600), or into COUNTERSIGN_MASTER_KEY",
            path.display()
        )));
    }
    home.master_key()
}

/// Which backup it is: its authentication tag.
fn marker_text(bytes: &[u8]) -> String {
    let tag = bytes.get(bytes.len().saturating_sub(16)..).unwrap_or_default();
    tag.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Refuses a directory in which there is anything but a master key and a trail, or what this command left when it was
/// interrupted, which it removes.
fn clear(home: &Home, backup: &Backup, marker: &str) -> Result<(), Failure> {
    let begun = home.path().join(MARKER);
    let again = std::fs::read_to_string(&begun).is_ok_and(|found| found == marker);
    let shown = home.path().display();
    if home.config_file().symlink_metadata().is_ok() {
        return Err(Failure::new(format!(
            "there is a Countersign service in {shown}; restore into an empty directory. Nothing was changed"
        )));
    }
    let mut ours: Vec<PathBuf> = backup.files.iter().map(|kept| home.path().join(&kept.name)).collect();
    ours.extend(["-journal", "-wal", "-shm"].map(|suffix| home.path().join(format!("{STORE}{suffix}"))));
    let mut left = Vec::new();
    for directory in [home.path().to_owned(), home.path().join("tls")] {
        for entry in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
            let (path, name) = (entry.path(), entry.file_name());
            let expected = directory == home.path() && (name == AUDIT || name == MASTER_KEY || path == begun);
            if expected || (again && name == "tls") {
                continue;
            }
            let name = name.to_string_lossy();
            let unfinished = name.ends_with(".unfinished");
            if (unfinished && name.starts_with(MARKER)) || (again && (unfinished || ours.contains(&path))) {
                left.push(path);
                continue;
            }
            return Err(Failure::new(format!(
                "{} is in the way: restore into an empty directory, in which at most the master key (master.key) and the trail (audit) are. Nothing was changed",
                path.display()
            )));
        }
    }
    for path in left {
        std::fs::remove_file(&path).context(|| format!("cannot remove {}", path.display()))?;
    }
    if again {
        return Ok(());
    }
    let written = file::write_new(&begun, 0o600, marker.as_bytes());
    written.context(|| format!("{} cannot be written; it is what an interrupted `restore` of another backup leaves, or there is no room", begun.display()))
}

/// Everything but the config.
fn write(home: &Home, backup: &Backup) -> Result<(), Failure> {
    home.make()?;
    for kept in backup.files.iter().filter(|kept| kept.name != CONFIG) {
        put(home, &kept.name, kept.mode, &kept.bytes)?;
    }
    Ok(())
}

fn put(home: &Home, name: &str, mode: u32, bytes: &[u8]) -> Result<(), Failure> {
    let path = home.path().join(name);
    file::write_new(&path, mode, bytes).context(|| {
        format!("{} cannot be written; run `countersign restore` again when this is mended", path.display())
    })
}

/// Writes to the trail that the store was restored, and what was changed after the backup; `None` if there was no
/// trail to say so.
fn note(home: &Home, store: &SqliteStore, backup: &Backup) -> Result<Option<Undone>, Failure> {
    let known = store.audit_heads()?.load("admin")?.map_or(0, |head| head.seq);
    let had_trail = home.audit_directory().exists();
    let command = command(home);
    let history = History::read(&home.audit_directory(), &AuditKey::new(store.audit_key()))?;
    let lines = since::undone(&history.changes, known);
    let lines = lines.into_iter().map(|change| since::line(change, &command)).collect();
    let mut record = Record::new(Direction::Local, "restore", Outcome::Changed, since::RESTORED);
    record.count = Some(known);
    record.detail = Some(format!(
        "from a backup of {}; count is the last change that it knows; by user {}",
        backup.header.created,
        rustix::process::getuid().as_raw()
    ));
    let trail = open_trail(store, &home.audit_directory(), "admin", settings(backup))?;
    trail.submit(record).wait()?;
    Ok(had_trail.then(|| Undone { lines, warning: history.warning(Some(known)) }))
}

/// How the trail is to be kept: as the config in the backup says, which is not in its place yet. If that cannot be
/// read, nothing is removed.
fn settings(backup: &Backup) -> Settings {
    let text = backup.files.iter().find(|kept| kept.name == CONFIG);
    let config = text.and_then(|kept| Config::parse(std::str::from_utf8(&kept.bytes).ok()?).ok());
    let all = || Settings { keep: Duration::MAX, keep_bytes: u64::MAX, ..Settings::default() };
    config.map_or_else(all, |config| config.audit.settings(false))
}

fn command(home: &Home) -> String {
    format!("countersign --home {}", super::doctor::shell_path(home.path()))
}

fn told(home: &Home, header: &Header, undone: Option<&Undone>) -> String {
    let Header { service, created } = header;
    let mut text = format!("restored {service} as it was at {created}, in {}\n\n", home.path().display());
    match undone {
        None => text.push_str(&format!(
            "WARNING: there is no trail beside the backup, so that nobody can say what was changed after {created}.\n\
             A key that was revoked since then is good again. Before `countersign serve`: revoke what may have been\n\
             revoked, and ask the operators of all peers (docs/backup.md).\n"
        )),
        Some(Undone { lines, .. }) if lines.is_empty() => {
            text.push_str("The trail knows of no change after that.\n");
        }
        Some(Undone { lines, .. }) => {
            text.push_str(&format!(
                "WARNING: after that the trail knows of {} changes, and all of them are undone. A key that was revoked\n\
                 is good again until you revoke it again. Before `countersign serve`:\n\n",
                lines.len()
            ));
            for line in lines {
                text.push_str(line);
                text.push('\n');
            }
        }
    }
    if let Some(warning) = undone.and_then(|undone| undone.warning.as_ref()) {
        text.push_str(&format!(
            "\nWARNING: {warning}.\nWhat is said above may not be all: `countersign audit verify`, and ask whoever makes changes here.\n"
        ));
    }
    text.push_str("\n`countersign doctor` goes on to name what is still open.\n");
    text
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::super::backup::Kept;
    use super::*;

    #[test]
    fn the_trail_is_kept_as_the_config_in_the_backup_says_and_else_all_of_it() {
        let of = |config: &[&str]| {
            let file = |text: &&str| Kept {
                name: CONFIG.to_owned(),
                mode: 0o600,
                bytes: Zeroizing::new(text.as_bytes().to_vec()),
            };
            let header = Header { service: "orders".to_owned(), created: String::new() };
            let settings = settings(&Backup { header, files: config.iter().map(file).collect() });
            (settings.keep, settings.keep_bytes)
        };
        let config = "service = \"orders\"\n[audit]\nkeep_days = 3650\nkeep_mib = 16384\n";
        assert_eq!(of(&[config]), (Duration::from_secs(3650 * 86_400), 16_384 << 20));
        for unreadable in [&[][..], &["of a later version"]] {
            assert_eq!(of(unreadable), (Duration::MAX, u64::MAX));
        }
    }
}
