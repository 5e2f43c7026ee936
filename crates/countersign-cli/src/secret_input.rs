//! How secrets come in: never as an argument.

use std::fs::File;
use std::io::{IsTerminal as _, Read};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use countersign::protocol::secret::strip_line_end;
use countersign::{ApiKey, SharedSecret};
use zeroize::Zeroizing;

use crate::failure::{Context as _, Failure};

/// Longer than any key or secret with its line end.
const MAX: u64 = 1024;

/// Where a secret is read from: a file, `-` for standard input, `env:NAME` for an environment variable.
#[derive(Clone, Debug)]
pub(crate) enum SecretSource {
    StandardInput,
    Environment(String),
    File(PathBuf),
}

impl FromStr for SecretSource {
    type Err = std::convert::Infallible;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        Ok(match text.strip_prefix("env:") {
            _ if text == "-" => Self::StandardInput,
            Some(name) => Self::Environment(name.to_owned()),
            None => Self::File(text.into()),
        })
    }
}

impl SecretSource {
    /// Reads the secret, without the one line end that files and pipes bring.
    pub(crate) fn read(&self, what: &str) -> Result<Zeroizing<String>, Failure> {
        if matches!(self, Self::StandardInput) && std::io::stdin().is_terminal() {
            return prompt(what);
        }
        let text = self.text(what, MAX)?;
        Ok(Zeroizing::new(strip_line_end(&text).to_owned()))
    }

    /// Reads a text of several lines and `max` bytes with secrets in it.
    pub(crate) fn text(&self, what: &str, max: u64) -> Result<Zeroizing<String>, Failure> {
        Ok(match self {
            Self::StandardInput => read(std::io::stdin(), what, max)?,
            Self::Environment(name) => match std::env::var(name) {
                Ok(value) => Zeroizing::new(value),
                Err(_) => {
                    return Err(Failure::new(format!("{what}: there is no environment variable {name}")));
                }
            },
            Self::File(path) => {
                let file = File::open(path)
                    .map_err(|error| Failure::new(format!("{what}: {}: {error}", named(path))))?;
                check_mode(&file, path)?;
                read(file, what, max)?
            }
        })
    }
}

/// A path as it may be repeated. Somebody who gives the secret itself where a file belongs finds it only in the
/// shell's history, not in a log as well.
fn named(path: &Path) -> String {
    let text = path.to_string_lossy();
    let like_a_path = text.starts_with(['/', '.', '~']);
    let like_a_secret =
        !like_a_path && (text.parse::<SharedSecret>().is_ok() || text.parse::<ApiKey>().is_ok());
    if like_a_secret && !path.exists() { "the file that was named".to_owned() } else { text.into_owned() }
}

/// Asks on the terminal, without showing what is typed.
pub(crate) fn prompt(what: &str) -> Result<Zeroizing<String>, Failure> {
    rpassword::prompt_password(format!("{what}: "))
        .map(Zeroizing::new)
        .context(|| format!("{what}: cannot ask on the terminal"))
}

fn read(source: impl Read, what: &str, max: u64) -> Result<Zeroizing<String>, Failure> {
    // Reserved at once: a growing string would leave pieces behind.
    let mut text = Zeroizing::new(String::with_capacity(usize::try_from(max)?.saturating_add(1)));
    source.take(max + 1).read_to_string(&mut text).map_err(|error| {
        if error.kind() == std::io::ErrorKind::InvalidData {
            Failure::new(format!("{what}: it is not text"))
        } else {
            Failure::new(format!("{what}: {error}"))
        }
    })?;
    if text.len() as u64 > max {
        return Err(Failure::new(format!("{what}: it is longer than {max} bytes")));
    }
    Ok(text)
}

/// A secret that others can read is none. Pipes (`<(command)`) are fine.
fn check_mode(file: &File, path: &Path) -> Result<(), Failure> {
    let metadata = file.metadata().context(|| path.display().to_string())?;
    if metadata.is_file() && metadata.mode() & 0o077 != 0 {
        let (path, mode) = (path.display(), metadata.mode() & 0o7777);
        return Err(Failure::new(format!(
            "{path} can be read by others (mode {mode:04o}). `chmod 600 {path}` if nobody has read it; else generate a new secret"
        )));
    }
    Ok(())
}
