//! `countersign backup`: one sealed file from which `countersign restore` makes the data directory again.

mod sealed;

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use countersign::audit;
use countersign::store::file;
use zeroize::Zeroizing;

pub(crate) use self::sealed::{Backup, Header, Kept};
use crate::args::BackupArgs;
use crate::change::{self, Change};
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show;

/// More than this is no data directory of ours, in bytes.
const MOST: u64 = 256 * 1024 * 1024;

pub(crate) fn run(home: &Home, args: &BackupArgs) -> Result<(), Failure> {
    let config = home.config()?;
    let shown = args.file.display().to_string();
    if args.file.symlink_metadata().is_ok() {
        return Err(Failure::new(format!("there is something at {shown} already; nothing was changed")));
    }
    let store = home.local_store()?;
    let key = home.master_key()?;
    let mut files = files(home)?;
    files.push(Kept { name: STORE.to_owned(), mode: 0o600, bytes: store.copy(&args.file)? });
    let header = Header { service: config.service.to_string(), created: audit::now() };
    let count = files.len();
    let bytes = Backup { header, files }.seal(&key)?;
    file::write_new(&args.file, 0o600, &bytes).context(|| shown.clone())?;
    let recorded = change::record(home, &store, Change::here("backup", "backup-made"));
    show::out(&show::printable_lines(&format!(
        "wrote {count} files of {} to {shown}, sealed\n\
         It opens with the present master key ({}) and no other: keep a copy of that key, in another place.\n\
         The trail is not in it.\n",
        config.service,
        home.master_key_source(),
    )))?;
    recorded
}

/// The name of the store in a backup and in a data directory.
pub(crate) const STORE: &str = "store.sqlite";

/// What stands in the data directory and in `tls/`, but for the store, the master key and what is unfinished.
fn files(home: &Home) -> Result<Vec<Kept>, Failure> {
    let mut files = Vec::new();
    let mut total = 0;
    for (prefix, directory) in [("", home.path().to_owned()), ("tls/", home.path().join("tls"))] {
        for path in in_directory(&directory)? {
            let Some(name) = path.file_name().and_then(|name| name.to_str()) else { continue };
            if !path.is_file() || is_left_out(name) {
                continue;
            }
            let metadata = path.metadata().context(|| path.display().to_string())?;
            total += metadata.len();
            if total > MOST {
                return Err(Failure::new(format!(
                    "the data directory holds more than {} MiB beside store and trail: move away what is not Countersign's",
                    MOST / 1024 / 1024
                )));
            }
            let bytes = Zeroizing::new(std::fs::read(&path).context(|| path.display().to_string())?);
            files.push(Kept { name: format!("{prefix}{name}"), mode: metadata.mode() & 0o777, bytes });
        }
    }
    Ok(files)
}

fn in_directory(directory: &Path) -> Result<Vec<PathBuf>, Failure> {
    let entries = match std::fs::read_dir(directory) {
        Ok(entries) => entries,
        // A certificate may be elsewhere.
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(error).context(|| directory.display().to_string()),
    };
    let mut paths = Vec::new();
    for entry in entries {
        paths.push(entry.context(|| directory.display().to_string())?.path());
    }
    paths.sort();
    Ok(paths)
}

fn is_left_out(name: &str) -> bool {
    name.starts_with(STORE) || name.starts_with("master.key") || name.contains(".unfinished")
}
