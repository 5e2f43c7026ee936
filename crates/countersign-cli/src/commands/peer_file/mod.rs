//! `countersign peer export` and `peer import`: a pair is made where there is no way between the two but a file and a
//! telephone. One side makes all keys and writes the other's half, encrypted; the operators compare a fingerprint.

pub(crate) mod args;
mod export;
mod import;
mod seal;

use std::path::PathBuf;

use countersign::ServiceName;
use zeroize::Zeroizing;

use crate::failure::Failure;
use crate::home::Home;
use crate::secret_input::{SecretSource, prompt};

pub(crate) use export::export;
pub(crate) use import::import;

/// What has to be done where peers are declared.
const DECLARED: &str = "declare it there as well, with keys of `countersign keygen`";

/// The file for a peer in `exchange/`.
fn place(home: &Home, peer: &ServiceName) -> PathBuf {
    home.exchange_directory().join(format!("{peer}.peer.age"))
}

/// Removes the file in `exchange/` of a peer that is gone; says so, if there was one.
pub(crate) fn remove(home: &Home, peer: &ServiceName) -> String {
    let path = place(home, peer);
    match std::fs::remove_file(&path) {
        Ok(()) => format!("removed {}\n", path.display()),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => String::new(),
        Err(error) => format!("remove {} yourself: {error}\n", path.display()),
    }
}

/// A passphrase, from where it was said to be or from the terminal.
fn passphrase(source: Option<&SecretSource>, otherwise: &str) -> Result<Zeroizing<String>, Failure> {
    match source {
        Some(source) => source.read("passphrase"),
        None if std::io::IsTerminal::is_terminal(&std::io::stdin()) => prompt("passphrase"),
        None => Err(Failure::usage(otherwise.to_owned())),
    }
}
