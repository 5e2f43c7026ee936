//! The file with the next keys: written before they are put to use, so that a crash or a full disk leaves either
//! nothing, or a file that the next run of the same command goes on with.

use std::io::{ErrorKind, Write as _};
use std::path::{Path, PathBuf};

use countersign::ServiceName;
use countersign::store::file::{read_private, write_new};
use countersign::store::{Exported, Peer};

use crate::failure::{Context as _, Failure};
use crate::home::Home;

/// The file for a credential's keys in `exchange/`.
pub(crate) fn place(home: &Home, peer: &ServiceName, number: u32) -> PathBuf {
    home.exchange_directory().join(format!("{peer}.{number}.keys"))
}

/// Peer and number of a file that [`place`] named.
pub(crate) fn named(path: &Path) -> Option<(ServiceName, u32)> {
    let name = path.file_name()?.to_str()?.strip_suffix(".keys")?;
    let (peer, number) = name.rsplit_once('.')?;
    Some((peer.parse().ok()?, number.parse().ok()?))
}

/// Keys in a file, not in use yet.
pub(super) struct Written {
    pub(super) path: PathBuf,
    pub(super) exported: Exported,
    /// Whether an interrupted run has left them.
    pub(super) found: bool,
}

impl Written {
    /// Writes them where the user said.
    pub(super) fn at(path: &Path, exported: Exported) -> Result<Self, Failure> {
        match write_new(path, 0o600, exported.text().as_bytes()) {
            Ok(()) => Ok(Self { path: path.to_owned(), exported, found: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => Err(Failure::new(format!(
                "{} is there already, and is left as it is: choose another name. Nothing was changed",
                path.display()
            ))),
            Err(error) => Err(unwritten(path, &error)),
        }
    }

    /// Writes them into `exchange/`. Goes on with the file that an interrupted run left there: it may have been sent.
    pub(super) fn inside(home: &Home, exported: Exported, peer: &Peer, keep: bool) -> Result<Self, Failure> {
        home.make_exchange_directory()?;
        let path = place(home, &peer.name, exported.number);
        match write_new(&path, 0o600, exported.text().as_bytes()) {
            Ok(()) => Ok(Self { path, exported, found: false }),
            Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                let left = left_behind(&path, &exported, peer, keep).ok_or_else(|| {
                    Failure::new(format!(
                        "{0} is in the way: its keys were never put to use, and are not those of this command. Nothing was changed. `rm {0}` and try again",
                        path.display()
                    ))
                })?;
                Ok(Self { path, exported: left, found: true })
            }
            Err(error) => Err(unwritten(&path, &error)),
        }
    }

    /// Takes back what this run has written.
    pub(super) fn discard(self) {
        if !self.found {
            let _ = std::fs::remove_file(self.path);
        }
    }
}

fn unwritten(path: &Path, error: &std::io::Error) -> Failure {
    Failure::new(format!("{}: {error}; nothing was changed", path.display()))
}

/// What an interrupted run of the same command has left.
fn left_behind(path: &Path, wanted: &Exported, peer: &Peer, keep: bool) -> Option<Exported> {
    let text = read_private(path).ok()?;
    let left = Exported::parse(std::str::from_utf8(&text).ok()?).ok()?;
    let same = left.maker == wanted.maker
        && left.taker == wanted.taker
        && left.number == wanted.number
        && left.replaces == wanted.replaces
        && left.keys.profile() == wanted.keys.profile()
        && left.keys.directions() == wanted.keys.directions()
        && left.keys.keep_api_keys_of(peer) == keep;
    same.then_some(left)
}

/// To standard output, all of it or an error: unlike what is shown, it must not get lost unnoticed.
pub(super) fn print(exported: &Exported) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    stdout
        .write_all(exported.text().as_bytes())
        .and_then(|()| stdout.flush())
        .context(|| "the keys could not be written to standard output".to_owned())
}

/// Removes the file in `exchange/` of a credential whose rotation is over; says so, if there was one.
pub(crate) fn remove(home: &Home, peer: &ServiceName, number: u32) -> Option<String> {
    let path = place(home, peer, number);
    match std::fs::remove_file(&path) {
        Ok(()) => Some(format!("removed {}\n", path.display())),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => Some(format!("remove {} yourself: {error}\n", path.display())),
    }
}

/// Removes all files in `exchange/` of a peer; says what was done.
pub(crate) fn remove_all(home: &Home, peer: &ServiceName) -> String {
    let entries = std::fs::read_dir(home.exchange_directory()).into_iter().flatten().flatten();
    let of_peer = entries.filter_map(|entry| named(&entry.path())).filter(|(name, _)| name == peer);
    let mut numbers: Vec<u32> = of_peer.map(|(_, number)| number).collect();
    numbers.sort_unstable();
    numbers.into_iter().filter_map(|number| remove(home, peer, number)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_is_named_after_its_credential() {
        let name: ServiceName = "billing-eu".parse().unwrap();
        let path = place(&Home::at("/home".into()), &name, 12);
        assert_eq!(path, Path::new("/home/exchange/billing-eu.12.keys"));
        assert_eq!(named(&path), Some((name, 12)));
        for other in ["x", "x.keys", "x.y.keys", "X.1.keys", "x.1.keys.unfinished", "x.-1.keys"] {
            assert_eq!(named(Path::new(other)), None, "{other}");
        }
    }
}
