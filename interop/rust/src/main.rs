//! `httpsig-hyper` against a server of cs1 that takes requests without a handshake, and as verifier of the vectors.
//!
//! ```text
//! countersign-interop client [CHECK …]    COUNTERSIGN_URL, COUNTERSIGN_API_KEY, COUNTERSIGN_THEIR_KEY, COUNTERSIGN_SECRET_FILE
//! countersign-interop vectors FOLDER      vectors/cs1
//! ```
//!
//! Prints a line for each check: `ok NAME`, `skipped NAME: WHY` or `failed NAME: WHY`. Exit status 1 if one failed.

mod client;
mod vectors;

use std::process::ExitCode;

use client::Client;

/// What went wrong, for people.
type Failure = Box<dyn std::error::Error>;

/// Fails with this text unless it is so.
fn check(holds: bool, otherwise: impl Into<String>) -> Result<(), Failure> {
    if holds { Ok(()) } else { Err(otherwise.into().into()) }
}

/// One line; whether the check has failed.
fn say(name: &str, outcome: Result<Option<&str>, Failure>) -> bool {
    match &outcome {
        Ok(None) => println!("ok {name}"),
        Ok(Some(why)) => println!("skipped {name}: {why}"),
        Err(error) => println!("failed {name}: {error}"),
    }
    outcome.is_err()
}

fn main() -> Result<ExitCode, Failure> {
    let given: Vec<String> = std::env::args().skip(1).collect();
    let given: Vec<&str> = given.iter().map(String::as_str).collect();
    let mut failed = false;
    match given.as_slice() {
        ["client", names @ ..] => {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
            let client = Client::from_environment()?;
            for name in if names.is_empty() { &client::CHECKS } else { names } {
                failed |= say(name, runtime.block_on(client.run(name)).map(|()| None));
            }
        }
        ["vectors", folder] => {
            for (name, outcome) in vectors::run(folder)? {
                failed |= say(&name, outcome);
            }
        }
        _ => {
            eprintln!(
                "usage: countersign-interop client [CHECK …]\n       countersign-interop vectors FOLDER"
            );
            return Ok(ExitCode::from(2));
        }
    }
    Ok(ExitCode::from(u8::from(failed)))
}
