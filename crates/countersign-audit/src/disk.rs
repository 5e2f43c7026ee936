//! Room on the disk that is kept for the moment when there is no other.

use std::fs::{File, OpenOptions};
use std::io::{self, ErrorKind, Write as _};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::{Path, PathBuf};

use rustix::fs::{FallocateFlags, fallocate, statvfs};

/// Whether this error says that there is no room.
pub(crate) fn is_full(error: &io::Error) -> bool {
    matches!(error.kind(), ErrorKind::StorageFull | ErrorKind::QuotaExceeded)
}

/// The file `reserve` of a trail's directory; all writers share it.
#[derive(Debug)]
pub(crate) struct Reserve {
    directory: PathBuf,
    bytes: u64,
}

impl Reserve {
    pub(crate) fn new(directory: &Path, bytes: u64) -> Self {
        Self { directory: directory.to_owned(), bytes }
    }

    fn path(&self) -> PathBuf {
        self.directory.join("reserve")
    }

    /// Sets the room aside, unless that was done or would take the last there is. `true` if it is there now.
    pub(crate) fn make(&self) -> io::Result<bool> {
        if self.bytes == 0 {
            return Ok(false);
        }
        match self.path().metadata() {
            Ok(there) if there.len() == self.bytes => return Ok(true),
            // The setting was changed.
            Ok(there) if there.len() > self.bytes => {
                OpenOptions::new().write(true).open(self.path())?.set_len(self.bytes)?;
                return Ok(true);
            }
            _ => {}
        }
        let disk = statvfs(&self.directory)?;
        if disk.f_bavail.saturating_mul(disk.f_frsize) < self.bytes.saturating_mul(2) {
            return Ok(false);
        }
        let made = self.allocate();
        if made.is_err() {
            let _ = std::fs::remove_file(self.path());
        }
        made.map(|()| true)
    }

    /// Bytes that the file system has really given: a hole would be worth nothing.
    fn allocate(&self) -> io::Result<()> {
        let mut file =
            OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(self.path())?;
        if fallocate(&file, FallocateFlags::empty(), 0, self.bytes).is_err() {
            // Not every file system can. Written bytes it has to keep.
            write_zeros(&mut file, self.bytes)?;
        }
        file.sync_all()
    }

    /// Gives the room up. `false` if there was none.
    pub(crate) fn release(&self) -> bool {
        std::fs::remove_file(self.path()).is_ok()
    }
}

fn write_zeros(file: &mut File, mut bytes: u64) -> io::Result<()> {
    let zeros = [0; 64 * 1024];
    while bytes > 0 {
        let piece = usize::try_from(bytes).unwrap_or(usize::MAX).min(zeros.len());
        file.write_all(zeros.get(..piece).unwrap_or(&zeros))?;
        bytes -= piece as u64;
    }
    Ok(())
}
