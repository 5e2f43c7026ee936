//! Who owns the files, who else may read them, what was left behind, and how much room there is.

use std::fs::Metadata;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{StatVfsMountFlags, statvfs};

use super::finding::{Findings, path};
use crate::home::Home;

/// With less free space than this, in bytes, something will fail soon.
const LITTLE: u64 = 64 * 1024 * 1024;
/// With less than this, somebody should see to it.
const ENOUGH: u64 = 512 * 1024 * 1024;

pub(super) fn check(home: &Home, findings: &mut Findings) {
    let Ok(metadata) = home.path().metadata() else { return };
    permissions(home, &metadata, findings);
    leftovers(home, findings);
    room(home, findings);
}

fn permissions(home: &Home, metadata: &Metadata, findings: &mut Findings) {
    let before = findings.count(super::finding::Level::Ok);
    let mut bad = 0;
    let directories =
        [home.path().to_owned(), home.path().join("tls"), home.audit_directory(), home.exchange_directory()];
    for directory in directories.iter().filter(|directory| directory.is_dir()) {
        let Ok(found) = directory.metadata() else { continue };
        bad += usize::from(!mode(directory, &found, 0o700, findings));
        bad += usize::from(!owner(directory, &found, metadata.uid(), findings));
    }
    for file in
        files(home.path()).into_iter().chain(directories.iter().skip(1).flat_map(|inner| files(inner)))
    {
        let Ok(found) = file.metadata() else { continue };
        // A certificate is public.
        if file != home.certificate_file() {
            bad += usize::from(!mode(&file, &found, 0o600, findings));
        }
        bad += usize::from(!owner(&file, &found, metadata.uid(), findings));
    }
    let me = rustix::process::geteuid().as_raw();
    if me != metadata.uid() {
        bad += 1;
        let what = format!(
            "the data directory belongs to user {}, and this is user {me}: what a command makes here may be out of the service's reach",
            metadata.uid()
        );
        findings.warn(
            "user",
            what,
            format!("sudo -u '#{}' countersign --home {} doctor", metadata.uid(), path(home.path())),
        );
    }
    if bad == 0 && before == findings.count(super::finding::Level::Ok) {
        findings.ok("permissions", "everything is for its owner alone");
    }
}

/// Whether nobody but the owner can read or change it.
fn mode(file: &Path, metadata: &Metadata, wanted: u32, findings: &mut Findings) -> bool {
    let mode = metadata.mode() & 0o7777;
    if mode & 0o077 == 0 {
        return true;
    }
    let what = format!("others can reach {} (mode {mode:04o}); consider whether they have", file.display());
    let mend = format!("chmod {wanted:o} {}", path(file));
    let is_key = file.ends_with("master.key") || file.ends_with("tls/key.pem");
    if is_key || mode & 0o022 != 0 {
        findings.fail("permissions", what, mend);
    } else {
        findings.warn("permissions", what, mend);
    }
    false
}

fn owner(file: &Path, metadata: &Metadata, wanted: u32, findings: &mut Findings) -> bool {
    if metadata.uid() == wanted {
        return true;
    }
    let what = format!(
        "{} belongs to user {}, the data directory to user {wanted}: the service cannot use it",
        file.display(),
        metadata.uid()
    );
    findings.fail("permissions", what, format!("chown {wanted} {}", path(file)));
    false
}

/// The files in a directory, by name.
pub(super) fn files(directory: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(directory).into_iter().flatten().flatten();
    let mut files: Vec<PathBuf> = entries.map(|entry| entry.path()).filter(|path| path.is_file()).collect();
    files.sort();
    files
}

/// What a crash left of making a file.
fn leftovers(home: &Home, findings: &mut Findings) {
    for directory in [home.path().to_owned(), home.path().join("tls"), home.exchange_directory()] {
        for file in files(&directory) {
            if file.to_string_lossy().contains(".unfinished") {
                let what = format!("{} is what a crash left of making another file", file.display());
                findings.warn("leftovers", what, format!("rm {}", path(&file)));
            }
        }
    }
}

fn room(home: &Home, findings: &mut Findings) {
    let Ok(found) = statvfs(home.path()) else { return };
    if found.f_flag.contains(StatVfsMountFlags::RDONLY) {
        let what = "the data directory is on a file system that is mounted read-only: no attempt can be written to the trail, and so none is accepted";
        findings.fail(
            "disk",
            what,
            format!("mount -o remount,rw \"$(findmnt -nro TARGET -T {})\"", path(home.path())),
        );
        return;
    }
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let shown = format!("{} MiB are free for the data directory", free / (1024 * 1024));
    let mend = format!("du -xh {} | sort -h | tail", path(home.path()));
    if free < LITTLE || (found.f_files > 0 && found.f_favail < 64) {
        let what = format!("{shown} ({} files): when it is full, nothing is accepted", found.f_favail);
        findings.fail("disk", what, mend);
    } else if free < ENOUGH {
        findings.warn("disk", shown, mend);
    } else {
        findings.ok("disk", shown);
    }
}
