//! Files that are there whole or not at all, and private ones that are read only while they are private.

use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use rustix::fs::OFlags;
use zeroize::Zeroizing;

use crate::random;

/// Writes a new file with this mode, durably: after a full disk or a crash it is there with all of `bytes` or
/// not at all.
///
/// # Errors
/// [`io::ErrorKind::AlreadyExists`] if anything is at `path`, which then stays as it is; or the file cannot be
/// written.
pub fn write_new(path: &Path, mode: u32, bytes: &[u8]) -> io::Result<()> {
    let (unfinished, mut file) = Unfinished::create(path, mode)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    unfinished.publish(path)
}

/// Gives a file another name in the same directory, durably, in the place of what has that name.
///
/// # Errors
/// It cannot be renamed, or not durably: then either name may be found after a power cut.
pub fn replace(path: &Path, target: &Path) -> io::Result<()> {
    std::fs::rename(path, target)?;
    sync_directory_of(target)
}

/// Removes a file, durably.
///
/// # Errors
/// It cannot be removed, or not durably: then it may be there again after a power cut.
pub fn remove(path: &Path) -> io::Result<()> {
    std::fs::remove_file(path)?;
    sync_directory_of(path)
}

/// Makes what happened to names in this file's directory durable.
fn sync_directory_of(path: &Path) -> io::Result<()> {
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new(".")))?.sync_all()
}

/// Why a private file was not read.
#[derive(Debug, thiserror::Error)]
pub enum ReadError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// Others than its owner can read or change it; these are its permission bits.
    #[error("it can be read by others (mode {0:04o})")]
    Mode(u32),
}

/// Reads a file that only its owner may reach. The file that is checked is the one that is read, even if
/// another is put at `path` in between. A pipe or a device is refused: it could keep the reader waiting.
///
/// # Errors
/// See [`ReadError`].
pub fn read_private(path: &Path) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let (file, length) = open_guarded(path, 0o077)?;
    read_whole(file, length)
}

/// Reads a file with none of the `forbidden` permission bits, at most `max` bytes of it.
pub(crate) fn read_guarded(path: &Path, forbidden: u32, max: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    let (file, length) = open_guarded(path, forbidden)?;
    read_whole(file.take(max as u64), length.min(max))
}

/// The file and its length in bytes. Links are followed: secrets are often mounted so. To open a pipe would already be
/// to wait for its other end, and what was looked at before could be another one by then.
fn open_guarded(path: &Path, forbidden: u32) -> Result<(File, usize), ReadError> {
    let flags = OFlags::NONBLOCK.bits().cast_signed();
    let file = OpenOptions::new().read(true).custom_flags(flags).open(path)?;
    let metadata = file.metadata()?;
    if !metadata.is_file() {
        return Err(ReadError::Io(io::Error::other("it is not a file")));
    }
    if metadata.mode() & forbidden != 0 {
        return Err(ReadError::Mode(metadata.mode() & 0o7777));
    }
    Ok((file, usize::try_from(metadata.len()).unwrap_or(0)))
}

fn read_whole(mut file: impl Read, length: usize) -> Result<Zeroizing<Vec<u8>>, ReadError> {
    // Room for all of it at once: a growing vector would leave plaintext behind.
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.saturating_add(1)));
    file.read_to_end(&mut bytes)?;
    Ok(bytes)
}

/// A file under a random name beside the one it is to become. Dropping it removes that name, however it ended.
#[derive(Debug)]
pub(crate) struct Unfinished(PathBuf);

impl Unfinished {
    /// Makes an empty one with this mode.
    pub(crate) fn create(target: &Path, mode: u32) -> io::Result<(Self, File)> {
        let name = format!("{:032x}.unfinished", u128::from_be_bytes(random()));
        let path = target.with_added_extension(name);
        let file = OpenOptions::new().write(true).create_new(true).mode(mode).open(&path)?;
        Ok((Self(path), file))
    }

    /// Where it is until then.
    #[cfg(feature = "sqlite")]
    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    /// Gives what was written and synced its final name, durably. Unlike a rename, a link does not replace what
    /// is there.
    pub(crate) fn publish(self, target: &Path) -> io::Result<()> {
        std::fs::hard_link(&self.0, target)?;
        drop(self);
        sync_directory_of(target)
    }
}

impl Drop for Unfinished {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn names(directory: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(directory).unwrap();
        entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect()
    }

    #[test]
    fn a_new_file_has_its_bytes_and_mode_and_nothing_is_left_beside_it() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_new(&path, 0o600, b"text").unwrap();
        assert_eq!(std::fs::read(&path).unwrap(), b"text");
        assert_eq!(path.metadata().unwrap().mode() & 0o7777, 0o600);
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn what_is_there_is_never_replaced_or_followed() {
        let directory = tempfile::tempdir().unwrap();
        let (full, dangling) = (directory.path().join("full"), directory.path().join("dangling"));
        std::fs::write(&full, "before").unwrap();
        std::os::unix::fs::symlink(directory.path().join("elsewhere"), &dangling).unwrap();
        for path in [&full, &dangling] {
            assert_eq!(write_new(path, 0o600, b"after").unwrap_err().kind(), io::ErrorKind::AlreadyExists);
        }
        assert_eq!(std::fs::read(&full).unwrap(), b"before");
        let mut left = names(directory.path());
        left.sort();
        assert_eq!(left, ["dangling", "full"]);
    }

    #[test]
    fn of_many_writers_at_once_one_wins_with_all_of_its_bytes() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        let wins: Vec<u8> = std::thread::scope(|scope| {
            let writers: Vec<_> = (0..8)
                .map(|index| {
                    (
                        index,
                        scope.spawn({
                            let path = &path;
                            move || write_new(path, 0o600, &[index; 9000])
                        }),
                    )
                })
                .collect();
            writers
                .into_iter()
                .filter_map(|(index, writer)| writer.join().unwrap().ok().map(|()| index))
                .collect()
        });
        let [winner] = wins[..] else { panic!("one wins: {wins:?}") };
        assert_eq!(std::fs::read(&path).unwrap(), [winner; 9000]);
        assert_eq!(names(directory.path()), ["file"]);
    }

    #[test]
    fn the_file_that_was_checked_is_the_one_that_is_read() {
        let directory = tempfile::tempdir().unwrap();
        let at = |name: &str| directory.path().join(name);
        write_new(&at("private"), 0o600, b"private").unwrap();
        write_new(&at("public"), 0o644, b"public").unwrap();
        std::os::unix::fs::symlink("private", at("file")).unwrap();
        let done = std::sync::atomic::AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for name in ["public", "private"].into_iter().cycle() {
                    std::os::unix::fs::symlink(name, at("next")).unwrap();
                    std::fs::rename(at("next"), at("file")).unwrap();
                    if done.load(std::sync::atomic::Ordering::Relaxed) {
                        break;
                    }
                }
            });
            let wrong =
                (0..5_000).filter_map(|_| read_private(&at("file")).ok()).find(|read| **read != b"private");
            done.store(true, std::sync::atomic::Ordering::Relaxed);
            assert!(wrong.is_none(), "what others can change was taken for private");
        });
    }

    #[test]
    fn a_pipe_a_device_and_a_directory_are_refused_and_not_waited_for() {
        let directory = tempfile::tempdir().unwrap();
        let pipe = directory.path().join("pipe");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::from_raw_mode(0o600)).unwrap();
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&pipe, &link).unwrap();
        for path in [&pipe, &link, Path::new("/dev/zero"), directory.path()] {
            for read in [read_private(path), read_guarded(path, 0, 100)] {
                assert!(matches!(read, Err(ReadError::Io(_))), "{}", path.display());
            }
        }
    }

    #[test]
    fn a_private_file_that_others_reach_is_not_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("file");
        write_new(&path, 0o600, b"text").unwrap();
        assert_eq!(**read_private(&path).unwrap(), b"text"[..]);
        for mode in [0o640, 0o604, 0o620, 0o601] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert!(matches!(read_private(&path), Err(ReadError::Mode(found)) if found == mode), "{mode:o}");
        }
        let missing = read_private(&directory.path().join("missing"));
        assert!(matches!(missing, Err(ReadError::Io(error)) if error.kind() == io::ErrorKind::NotFound));
    }
}
