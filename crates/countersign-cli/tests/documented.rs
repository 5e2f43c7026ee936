//! The commands in `docs/backup.md` and `docs/secrets.md` do what is written there.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::path::Path;
use std::process::Command;

use support::{Done, Home, Pair, left_out};

/// The block that follows `<!-- test: NAME -->` in a page.
fn block(page: &str, name: &str) -> String {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs").join(page);
    let text = std::fs::read_to_string(path).unwrap();
    let (_, rest) =
        text.split_once(&format!("<!-- test: {name} -->\n```sh\n")).unwrap_or_else(|| panic!("{name}"));
    rest.split_once("\n```").unwrap().0.to_owned()
}

/// Runs the block where `orders` is the data directory of this service.
fn run(orders: &Home, before: &str, commands: &str) -> Done {
    let place = orders.beside("place");
    std::fs::create_dir(&place).unwrap();
    std::fs::rename(orders.path(), place.join("orders")).unwrap();
    let script = orders.file("script.sh", 0o600, format!("{before}\n{commands}\n").as_bytes());
    let binaries = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths([binaries.to_owned()].into_iter().chain(std::env::split_paths(&path)));
    let mut bash = Command::new("bash");
    bash.args(["-euo", "pipefail", &script]).env("PATH", path.unwrap()).current_dir(&place);
    for variable in ["COUNTERSIGN_HOME", "COUNTERSIGN_MASTER_KEY", "CREDENTIALS_DIRECTORY"] {
        bash.env_remove(variable);
    }
    support::finish(bash, b"")
}

#[test]
fn the_backup_page_restores_a_service() {
    if left_out("bash") {
        return;
    }
    let pair = Pair::new();
    let commands = block("backup.md", "restore");
    let before = "countersign --home orders backup orders.backup";
    let text = run(&pair.orders, before, &commands).ok();
    assert!(text.contains("restored orders as it was") && text.contains("knows of no change"), "{text}");
    // And with something to be told.
    let pair = Pair::new();
    let before = format!("{before}\ncountersign --home orders peer remove billing");
    let done = run(&pair.orders, &before, &commands);
    assert!(done.code == 1 && done.stdout.contains("billing is let in again"), "{done:?}");
    assert!(done.stdout.contains("→ countersign --home restored peer remove billing"), "{done:?}");
}

#[test]
fn the_secrets_page_changes_a_master_key_that_is_in_the_environment() {
    if left_out("bash, openssl") {
        return;
    }
    let pair = Pair::new();
    let commands = block("secrets.md", "master-key");
    let before = "export COUNTERSIGN_MASTER_KEY=$(cat orders/master.key)\nrm orders/master.key";
    let text = run(&pair.orders, before, &commands).ok();
    assert!(text.contains("is the only one that opens the store now"), "{text}");
}
