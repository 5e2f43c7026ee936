//! The form of a backup: a line that says what it is, a line of JSON that says whose it is and from when, and all
//! files, sealed under the master key together with those two lines.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::store::master::MasterKey;
use countersign::store::random;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use crate::failure::Failure;

const MAGIC: &[u8] = b"countersign backup 1\n";

/// What can be read without a key.
#[derive(Debug, Serialize, Deserialize)]
pub(crate) struct Header {
    pub(crate) service: String,
    /// RFC 3339, UTC.
    pub(crate) created: String,
}

/// One file.
pub(crate) struct Kept {
    /// `NAME` or `tls/NAME`.
    pub(crate) name: String,
    /// Its permission bits.
    pub(crate) mode: u32,
    pub(crate) bytes: Zeroizing<Vec<u8>>,
}

pub(crate) struct Backup {
    pub(crate) header: Header,
    pub(crate) files: Vec<Kept>,
}

#[derive(Serialize, Deserialize)]
struct Written {
    name: String,
    mode: u32,
    base64: Zeroizing<String>,
}

impl Backup {
    pub(crate) fn seal(&self, master: &MasterKey) -> Result<Vec<u8>, Failure> {
        let files: Vec<Written> = self
            .files
            .iter()
            .map(|file| Written {
                name: file.name.clone(),
                mode: file.mode,
                base64: Zeroizing::new(STANDARD.encode(file.bytes.as_slice())),
            })
            .collect();
        let plain = whole(&files)?;
        let mut bytes = MAGIC.to_vec();
        bytes.extend(serde_json::to_vec(&self.header)?);
        bytes.push(b'\n');
        let sealed = master.backup_key().seal(random(), &bytes, &plain);
        bytes.extend(sealed);
        Ok(bytes)
    }

    /// Opens what [`Backup::seal`] wrote.
    pub(crate) fn open(bytes: &[u8], master: &MasterKey) -> Result<Self, Failure> {
        let (head, header, sealed) = split(bytes)?;
        let plain = master.backup_key().open(head, sealed).map_err(|_| {
            Failure::new(
                "the backup does not open: it was made under another master key (every change of the master key leaves the backups before it to the old one), or it was damaged or changed",
            )
        })?;
        let written: Vec<Written> = serde_json::from_slice(&plain).map_err(|_| {
            Failure::new("the backup was written by a later version of Countersign; use that version")
        })?;
        let files = written.into_iter().map(Kept::try_from).collect::<Result<_, _>>()?;
        Ok(Self { header, files })
    }

    /// Whose it is and from when: not to be relied on before it has been opened.
    pub(crate) fn header(bytes: &[u8]) -> Result<Header, Failure> {
        split(bytes).map(|(_, header, _)| header)
    }
}

/// As JSON, in a buffer that is measured first: one that grows leaves the TLS key behind in memory.
fn whole(files: &[Written]) -> Result<Zeroizing<Vec<u8>>, Failure> {
    let mut length = Length(0);
    serde_json::to_writer(&mut length, files)?;
    let mut bytes = Zeroizing::new(Vec::with_capacity(length.0));
    serde_json::to_writer(&mut *bytes, files)?;
    Ok(bytes)
}

struct Length(usize);

impl std::io::Write for Length {
    fn write(&mut self, bytes: &[u8]) -> std::io::Result<usize> {
        self.0 += bytes.len();
        Ok(bytes.len())
    }

    fn flush(&mut self) -> std::io::Result<()> {
        Ok(())
    }
}

impl TryFrom<Written> for Kept {
    type Error = Failure;

    fn try_from(written: Written) -> Result<Self, Failure> {
        // Sealed by us; and still it may not lead out of the data directory.
        let inner = written.name.strip_prefix("tls/").unwrap_or(&written.name);
        let plain = !inner.is_empty() && !inner.contains('/') && inner != "." && inner != "..";
        let bytes = STANDARD.decode(written.base64.as_bytes()).map(Zeroizing::new);
        match bytes {
            Ok(bytes) if plain => Ok(Self { name: written.name, mode: written.mode & 0o777, bytes }),
            _ => Err(Failure::new(
                "the backup holds a file that cannot be restored; use the version that wrote it",
            )),
        }
    }
}

/// Both lines, the second one read, and what is sealed.
fn split(bytes: &[u8]) -> Result<(&[u8], Header, &[u8]), Failure> {
    let none = || Failure::new("this is no backup of Countersign, or of a later version");
    let rest = bytes.strip_prefix(MAGIC).ok_or_else(none)?;
    let end = rest.iter().position(|byte| *byte == b'\n').ok_or_else(none)?;
    let (line, sealed) = rest.split_at_checked(end + 1).ok_or_else(none)?;
    let head = bytes.get(..MAGIC.len() + line.len()).ok_or_else(none)?;
    let header = serde_json::from_slice(line).map_err(|_| none())?;
    Ok((head, header, sealed))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use super::*;

    fn backup() -> Backup {
        let header = Header { service: "orders".into(), created: "2026-01-02T03:04:05.000Z".into() };
        let bytes = Zeroizing::new(b"\x00\xffbytes".to_vec());
        Backup { header, files: vec![Kept { name: "tls/key.pem".into(), mode: 0o600, bytes }] }
    }

    #[test]
    fn what_was_sealed_comes_back_and_no_byte_of_it_can_be_changed() {
        let master = MasterKey::generate();
        let sealed = backup().seal(&master).unwrap();
        assert!(!sealed.windows(5).any(|window| window == b"key.p"));
        let opened = Backup::open(&sealed, &master).unwrap();
        let [file] = opened.files.as_slice() else { panic!("one file") };
        assert_eq!(
            (file.name.as_str(), file.mode, &file.bytes[..]),
            ("tls/key.pem", 0o600, &b"\x00\xffbytes"[..])
        );
        assert!(Backup::open(&sealed, &MasterKey::generate()).is_err());
        for at in 0..sealed.len() {
            let mut changed = sealed.clone();
            changed[at] ^= 1;
            assert!(Backup::open(&changed, &master).is_err(), "byte {at}");
            assert!(Backup::open(&sealed[..at], &master).is_err(), "cut to {at}");
        }
    }

    #[test]
    fn the_plaintext_is_written_into_a_buffer_that_never_grows() {
        let base64 = Zeroizing::new(STANDARD.encode([7; 5_000]));
        let files = [Written { name: "tls/\"\n.pem".into(), mode: 0o600, base64 }];
        let bytes = whole(&files).unwrap();
        assert_eq!(bytes.as_slice(), serde_json::to_vec(&files).unwrap());
        assert_eq!(bytes.capacity(), bytes.len());
    }

    #[test]
    fn no_name_leads_out_of_the_data_directory() {
        let master = MasterKey::generate();
        for name in ["../x", "tls/../x", "/x", "tls/", "", ".", "..", "tls/..", "a/b", "tls//x"] {
            let mut backup = backup();
            backup.files[0].name = name.to_owned();
            assert!(Backup::open(&backup.seal(&master).unwrap(), &master).is_err(), "{name:?}");
        }
    }
}
