//! A disk that is really full: a small file system in a mount namespace of its own.

use std::path::{Path, PathBuf};
use std::process::Command;

/// Where the small file system is, in the process that has it.
const ON: &str = "COUNTERSIGN_TEST_SMALL_DISK";

/// Runs this test again in a process of its own, with a file system of so many MiB, on which temporary directories are
/// as well. `None` in the first process, and, which is said, where no such file system can be had.
///
/// # Panics
/// The test fails in its own process.
#[must_use]
pub fn on_a_small_disk(mib: u32, test: &str) -> Option<PathBuf> {
    if let Some(path) = std::env::var_os(ON) {
        return Some(path.into());
    }
    let directory = tempfile::tempdir().expect("a temporary directory");
    let mounted = |then: &str| {
        let script = format!("mount -t tmpfs -o size={mib}m none \"$1\" && {then}");
        let mut command = Command::new("unshare");
        command.args(["-rm", "sh", "-c", &script, "sh"]).arg(directory.path());
        command
    };
    if !mounted("true").output().is_ok_and(|output| output.status.success()) {
        println!("left out: needs `unshare -rm` and a tmpfs, which this system does not give");
        return None;
    }
    let mut command = mounted("shift && exec \"$@\"");
    command.arg(std::env::current_exe().expect("this program")).args(["--exact", test, "--nocapture"]);
    command.env(ON, directory.path()).env("TMPDIR", directory.path());
    let output = command.output().expect("`unshare` was there a moment ago");
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && text.contains("1 passed"), "{text}{errors}");
    None
}

/// Leaves so many bytes of room.
///
/// # Panics
/// There is less already.
pub fn fill(disk: &Path, room: u64) {
    let there = rustix::fs::statvfs(disk).expect("a file system");
    let surplus = (there.f_bavail * there.f_frsize).checked_sub(room).expect("more room than that");
    let ballast = vec![b'x'; usize::try_from(surplus).expect("a small disk")];
    std::fs::write(ballast_of(disk), ballast).expect("there is room for it");
}

/// Gives back what [`fill`] took.
///
/// # Panics
/// It took nothing.
pub fn free(disk: &Path) {
    std::fs::remove_file(ballast_of(disk)).expect("it was filled");
}

fn ballast_of(disk: &Path) -> PathBuf {
    disk.join("ballast")
}
