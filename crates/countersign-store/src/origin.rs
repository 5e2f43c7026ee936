//! Where a key, a secret or a token comes from if it is not in a store: an environment variable, a file that Docker
//! or Kubernetes mounts, a systemd credential. Read anew each time, and never part of an error.

use std::ffi::OsString;
use std::fmt;
use std::io::ErrorKind;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use countersign_protocol::secret::strip_line_end;
use zeroize::Zeroizing;

use crate::file::{self, ReadError};

/// Longer than any key, secret or token with its line end, in bytes.
const MAX: usize = 4096;

/// A place that holds one value and, maybe, one line end after it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// `env:NAME`
    Environment(String),
    /// `file:/path`
    File(PathBuf),
    /// `credential:NAME`: a file of that name in `$CREDENTIALS_DIRECTORY`, where systemd puts it for one service.
    Credential(String),
}

/// Neither `env:`, `file:` nor `credential:`. Does not hold the text, which may be a secret put in the wrong place.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "this is no place to read a secret from: give `env:NAME`, `file:/path` or `credential:NAME` (and if a secret stands here, take it out and generate another one)"
)]
pub struct OriginFormError;

/// Which permissions a secret file may have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Modes {
    /// Its group may read it (0440: how Kubernetes mounts for an `fsGroup`); nobody else, and only its owner writes.
    Strict,
    /// Everybody may read it, as Docker and Kubernetes mount secrets by default: every process in the container
    /// has it then. Only its owner writes.
    DangerReadableByOthers,
}

/// Why a value could not be had.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum OriginError {
    /// The variable, the file or the credential is not there.
    #[error("{0} is not there")]
    Missing(Origin),
    /// The program does not run under systemd, or the unit has no credentials.
    #[error("{0} is not there: $CREDENTIALS_DIRECTORY is not set (`LoadCredential=` in the unit sets it)")]
    NoCredentials(Origin),
    /// The file cannot be read.
    #[error("{origin}: {error}")]
    Io {
        /// Where.
        origin: Origin,
        /// What the system said.
        error: std::io::Error,
    },
    /// Others can read or change the file.
    #[error(
        "{origin} can be read or changed by others (mode {mode:04o}): mount it with mode 0400, or 0440 and a group of its own (docs/secrets.md), and consider whether it has been read"
    )]
    Mode {
        /// Where.
        origin: Origin,
        /// Its permission bits.
        mode: u32,
    },
    /// Not a text of at most 4096 bytes.
    #[error("{0} does not hold one line of text")]
    Form(Origin),
}

impl OriginError {
    /// Whether there is simply nothing there yet.
    #[must_use]
    pub const fn is_missing(&self) -> bool {
        matches!(self, Self::Missing(_) | Self::NoCredentials(_))
    }
}

impl FromStr for Origin {
    type Err = OriginFormError;

    fn from_str(text: &str) -> Result<Self, OriginFormError> {
        let named =
            |name: &str| name.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte));
        match text.split_once(':') {
            Some(("env", name)) if !name.is_empty() && named(name) => Ok(Self::Environment(name.to_owned())),
            Some(("file", path)) if !path.is_empty() => Ok(Self::File(path.into())),
            // A name, not a path: it must not lead out of the directory.
            Some(("credential", name)) if !name.is_empty() && named(name) && !name.starts_with('.') => {
                Ok(Self::Credential(name.to_owned()))
            }
            _ => Err(OriginFormError),
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Environment(name) => write!(f, "the environment variable {name}"),
            Self::File(path) => write!(f, "the file {}", path.display()),
            Self::Credential(name) => write!(f, "the systemd credential {name}"),
        }
    }
}

impl Origin {
    /// The same, with a relative path taken as below `directory`.
    #[must_use]
    pub fn below(self, directory: &Path) -> Self {
        match self {
            Self::File(path) => Self::File(directory.join(path)),
            other => other,
        }
    }

    /// Reads the value, without the one line end that files bring.
    ///
    /// # Errors
    /// See [`OriginError`].
    pub fn read(
        &self,
        modes: Modes,
        environment: impl Fn(&str) -> Option<OsString>,
    ) -> Result<Zeroizing<String>, OriginError> {
        let text = match self {
            Self::Environment(name) => {
                let value = environment(name).ok_or_else(|| OriginError::Missing(self.clone()))?;
                Zeroizing::new(value.into_string().map_err(|_| OriginError::Form(self.clone()))?)
            }
            Self::File(path) => self.read_file(path, modes)?,
            Self::Credential(name) => {
                let directory = environment("CREDENTIALS_DIRECTORY")
                    .ok_or_else(|| OriginError::NoCredentials(self.clone()))?;
                // systemd decides about the modes of its credentials.
                self.read_file(&Path::new(&directory).join(name), Modes::DangerReadableByOthers)?
            }
        };
        let value = strip_line_end(&text);
        if value.len() > MAX || value.contains(['\n', '\r']) {
            return Err(OriginError::Form(self.clone()));
        }
        Ok(Zeroizing::new(value.to_owned()))
    }

    fn read_file(&self, path: &Path, modes: Modes) -> Result<Zeroizing<String>, OriginError> {
        let forbidden = match modes {
            Modes::Strict => 0o027,
            Modes::DangerReadableByOthers => 0o022,
        };
        let bytes = file::read_guarded(path, forbidden, MAX + 2).map_err(|error| match error {
            ReadError::Io(error) if error.kind() == ErrorKind::NotFound => OriginError::Missing(self.clone()),
            ReadError::Io(error) => OriginError::Io { origin: self.clone(), error },
            ReadError::Mode(mode) => OriginError::Mode { origin: self.clone(), mode },
        })?;
        let text = std::str::from_utf8(&bytes).map_err(|_| OriginError::Form(self.clone()))?;
        Ok(Zeroizing::new(text.to_owned()))
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
    fn the_three_forms_are_read_and_nothing_else() {
        assert_eq!("env:A_B".parse(), Ok(Origin::Environment("A_B".to_owned())));
        assert_eq!("file:/run/secrets/x".parse(), Ok(Origin::File("/run/secrets/x".into())));
        assert_eq!("credential:x.y".parse(), Ok(Origin::Credential("x.y".to_owned())));
        for wrong in [
            "",
            "env:",
            "file:",
            "credential:../x",
            "credential:a/b",
            "credential:..",
            "css_abcdef",
            "vault:x",
        ] {
            let error = wrong.parse::<Origin>().unwrap_err();
            assert!(wrong.is_empty() || !error.to_string().contains(&format!(" {wrong} ")), "{wrong}");
        }
    }

    #[test]
    fn one_line_end_is_dropped_and_more_lines_are_refused() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        let origin = Origin::File(path.clone());
        for (content, read) in
            [("value", Some("value")), ("value\n", Some("value")), ("value\r\n", Some("value"))]
                .into_iter()
                .chain([("two\nlines", None), ("value\n\n", None)])
        {
            std::fs::write(&path, content).unwrap();
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
            assert_eq!(
                origin.read(Modes::Strict, none).ok().as_deref().map(String::as_str),
                read,
                "{content:?}"
            );
            std::fs::remove_file(&path).unwrap();
        }
        std::fs::write(&path, "x".repeat(MAX + 1)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o400)).unwrap();
        assert!(matches!(origin.read(Modes::Strict, none), Err(OriginError::Form(_))));
    }

    #[test]
    fn a_file_that_others_can_read_needs_the_danger_option_and_one_they_can_change_is_never_read() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secret");
        std::fs::write(&path, "value").unwrap();
        let origin = Origin::File(path.clone());
        for (mode, strict, danger) in [
            (0o400, true, true),
            (0o600, true, true),
            (0o440, true, true),
            (0o444, false, true),
            (0o644, false, true),
            (0o620, false, false),
            (0o602, false, false),
            (0o666, false, false),
        ] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            for (modes, good) in [(Modes::Strict, strict), (Modes::DangerReadableByOthers, danger)] {
                let read = origin.read(modes, none);
                assert_eq!(read.is_ok(), good, "{mode:o} {modes:?}");
                if let Err(error) = read {
                    let text = error.to_string();
                    assert!(text.contains(&format!("{mode:04o}")) && !text.contains("value"), "{text}");
                }
            }
        }
    }

    #[test]
    fn a_credential_is_a_file_in_its_directory() {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("billing"), "value\n").unwrap();
        let origin = Origin::Credential("billing".to_owned());
        let systemd = |name: &str| (name == "CREDENTIALS_DIRECTORY").then(|| directory.path().into());
        assert_eq!(origin.read(Modes::Strict, systemd).unwrap().as_str(), "value");
        let error = origin.read(Modes::Strict, none).unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("LoadCredential"), "{error}");
        let error = Origin::Credential("other".to_owned()).read(Modes::Strict, systemd).unwrap_err();
        assert!(error.is_missing() && error.to_string().contains("credential other"), "{error}");
    }

    #[test]
    fn what_is_missing_or_no_file_is_named() {
        let error = Origin::Environment("NOT_SET".to_owned()).read(Modes::Strict, none).unwrap_err();
        assert_eq!(error.to_string(), "the environment variable NOT_SET is not there");
        let directory = tempfile::tempdir().unwrap();
        let error = Origin::File(directory.path().to_owned()).read(Modes::Strict, none).unwrap_err();
        assert!(!error.is_missing() && error.to_string().contains("not a file"), "{error}");
    }
}
