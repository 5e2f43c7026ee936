//! The master key: 32 bytes that wrap the keys of a store. It comes from a 0600 file, an environment variable
//! or a systemd credential, never from an argument.

use std::ffi::OsString;
use std::fmt;
use std::path::{Path, PathBuf};

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::aead::AeadKey;
use countersign_protocol::secret::strip_line_end;
use zeroize::Zeroizing;

use crate::file::{self, ReadError};
use crate::random;

/// The environment variable that can hold the master key (base64 of 32 bytes).
pub const ENVIRONMENT_VARIABLE: &str = "COUNTERSIGN_MASTER_KEY";
/// The name of the systemd credential that can hold it (`LoadCredential=countersign-master-key:…`).
pub const SYSTEMD_CREDENTIAL: &str = "countersign-master-key";

/// A master key. Redacted, zeroised.
pub struct MasterKey(Zeroizing<[u8; 32]>);

/// Where a master key is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Source {
    /// In this environment variable.
    Environment(&'static str),
    /// In this file, written by systemd for this service alone.
    SystemdCredential(PathBuf),
    /// Wrapped by Vault's Transit engine, in this file.
    Transit(PathBuf),
    /// In this file, readable by its owner alone.
    File(PathBuf),
}

/// Why there is no master key.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum MasterKeyError {
    /// The file cannot be read.
    #[error("the master key cannot be read from {origin}: {error}")]
    Io {
        /// Where it should be.
        origin: Source,
        /// What the system said.
        error: std::io::Error,
    },
    /// Others can read the file.
    #[error(
        "the master key file {path} can be read by others (mode {mode:04o}): `chmod 600 {path}`, and consider whether it has been read"
    )]
    Mode {
        /// The file.
        path: String,
        /// Its permission bits.
        mode: u32,
    },
    /// Vault has to unwrap it.
    #[error("the master key in {path} is wrapped by Vault's Transit engine, which was not asked")]
    Wrapped {
        /// The file.
        path: String,
    },
    /// Not the base64 of 32 bytes.
    #[error("{origin} does not hold a master key: the base64 of 32 bytes (`openssl rand -base64 32`)")]
    Form {
        /// Where it was read.
        origin: Source,
    },
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::SystemdCredential(path) => write!(f, "the systemd credential {}", path.display()),
            Self::Transit(path) => write!(f, "the file {} (wrapped by Vault)", path.display()),
            Self::File(path) => write!(f, "the file {}", path.display()),
        }
    }
}

impl Source {
    /// The place that counts: the environment variable if it is set, else the systemd credential if this
    /// service has one, else the wrapped key beside `file` if there is one (`FILE.transit`), else `file`.
    #[must_use]
    pub fn choose(file: &Path, environment: impl Fn(&str) -> Option<OsString>) -> Self {
        if environment(ENVIRONMENT_VARIABLE).is_some() {
            return Self::Environment(ENVIRONMENT_VARIABLE);
        }
        if let Some(directory) = environment("CREDENTIALS_DIRECTORY") {
            let path = Path::new(&directory).join(SYSTEMD_CREDENTIAL);
            if path.exists() {
                return Self::SystemdCredential(path);
            }
        }
        let wrapped = Self::transit_file(file);
        if wrapped.exists() { Self::Transit(wrapped) } else { Self::File(file.to_owned()) }
    }

    /// Where the wrapped key is beside `file`.
    #[must_use]
    pub fn transit_file(file: &Path) -> PathBuf {
        file.with_added_extension("transit")
    }
}

impl MasterKey {
    /// A new random key.
    #[must_use]
    pub fn generate() -> Self {
        Self(Zeroizing::new(random()))
    }

    /// Reads the key from where it is.
    ///
    /// # Errors
    /// See [`MasterKeyError`].
    pub fn load(
        source: &Source,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Self, MasterKeyError> {
        let text = match source {
            Source::Environment(name) => {
                let value = environment(name).unwrap_or_default();
                Zeroizing::new(value.into_string().unwrap_or_default())
            }
            // systemd decides about the modes of its credentials.
            Source::SystemdCredential(path) => std::fs::read_to_string(path)
                .map(Zeroizing::new)
                .map_err(|error| MasterKeyError::Io { origin: source.clone(), error })?,
            Source::Transit(path) => {
                return Err(MasterKeyError::Wrapped { path: path.display().to_string() });
            }
            Source::File(path) => {
                let bytes = file::read_private(path).map_err(|error| match error {
                    ReadError::Io(error) => MasterKeyError::Io { origin: source.clone(), error },
                    ReadError::Mode(mode) => MasterKeyError::Mode { path: path.display().to_string(), mode },
                })?;
                // What is not text is no key.
                Zeroizing::new(std::str::from_utf8(&bytes).unwrap_or_default().to_owned())
            }
        };
        Self::parse(&text).ok_or_else(|| MasterKeyError::Form { origin: source.clone() })
    }

    /// Base64 of 32 bytes, with or without one line end; `None` for anything else.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let decoded = STANDARD.decode(strip_line_end(text)).map(Zeroizing::new);
        let key = decoded.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok());
        key.map(|key| Self(Zeroizing::new(key)))
    }

    /// What [`MasterKey::parse`] reads.
    #[cfg(feature = "vault")]
    pub(crate) fn text(&self) -> Zeroizing<String> {
        Zeroizing::new(STANDARD.encode(self.0.as_slice()))
    }

    /// Writes the key to a new file with mode 0600, durably, whole or not at all.
    ///
    /// # Errors
    /// The file exists or cannot be written.
    pub fn write_new(&self, path: &Path) -> std::io::Result<()> {
        let text = Zeroizing::new(STANDARD.encode(self.0.as_slice()) + "\n");
        file::write_new(path, 0o600, text.as_bytes())
    }

    /// The key that wraps a store's keys.
    #[must_use]
    pub fn wrapping_key(&self) -> AeadKey {
        AeadKey::derive(&self.0, "countersign wrap 1")
    }

    /// The key that seals backups.
    #[must_use]
    pub fn backup_key(&self) -> AeadKey {
        AeadKey::derive(&self.0, "countersign backup 1")
    }
}

impl fmt::Debug for MasterKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MasterKey(…)")
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn none(_: &str) -> Option<OsString> {
        None
    }

    #[test]
    fn what_is_written_is_read_again() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        let key = MasterKey::generate();
        key.write_new(&path).unwrap();
        let read = MasterKey::load(&Source::choose(&path, none), none).unwrap();
        assert_eq!(read.0, key.0);
        assert!(key.write_new(&path).is_err(), "a key is never overwritten");
    }

    #[test]
    fn a_key_that_others_can_read_is_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("master.key");
        MasterKey::generate().write_new(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        let error = MasterKey::load(&Source::File(path), none).unwrap_err();
        assert!(error.to_string().contains("chmod 600"), "{error}");
    }

    #[test]
    fn the_environment_goes_before_the_credential_and_that_before_the_file() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("master.key");
        let credential = directory.path().join(SYSTEMD_CREDENTIAL);
        std::fs::write(&credential, STANDARD.encode([7; 32])).unwrap();
        let systemd = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.path().into());
        let both = |name: &str| {
            if name == ENVIRONMENT_VARIABLE { Some(STANDARD.encode([8; 32]).into()) } else { systemd(name) }
        };
        assert_eq!(Source::choose(&file, none), Source::File(file.clone()));
        assert_eq!(MasterKey::load(&Source::choose(&file, systemd), systemd).unwrap().0[..], [7; 32]);
        assert_eq!(MasterKey::load(&Source::choose(&file, both), both).unwrap().0[..], [8; 32]);
    }

    #[test]
    fn what_is_no_key_is_refused_without_being_shown() {
        for wrong in ["", "short", &STANDARD.encode([1; 31]), "hunter2hunter2hunter2hunter2hunter2hunter2hu"]
        {
            let environment = |_: &str| Some(OsString::from(wrong));
            let error = MasterKey::load(&Source::Environment(ENVIRONMENT_VARIABLE), environment).unwrap_err();
            assert!(wrong.is_empty() || !error.to_string().contains(wrong), "{error}");
        }
    }
}
