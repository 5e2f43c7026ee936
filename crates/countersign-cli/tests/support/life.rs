//! Rotations as operators make them.

use std::path::{Path, PathBuf};

use serde_json::Value;

use super::{Home, new_key, new_secret};

/// `countersign rotate NAME …`; the file with the keys. They are hidden at both sides.
#[track_caller]
pub fn rotate(maker: &Home, name: &str, options: &[&str], taker: &Home) -> PathBuf {
    let shown = maker.run(&["peer", "show", name, "--json"]).json();
    // Under cs1 the two would agree on it by themselves.
    let by_hand: &[&str] = if shown["profile"] == "cs1" { &["--by-hand"] } else { &[] };
    let said = maker.run(&[&["rotate", name][..], by_hand, options].concat()).ok();
    let path = said.lines().find_map(|line| line.split_once("other side are in ")).unwrap().1;
    let path = maker.beside("").join(path);
    let text = std::fs::read_to_string(&path).unwrap();
    for home in [maker, taker] {
        hide(home, &text);
    }
    path
}

/// Hides what is secret in a file with keys.
pub fn hide(home: &Home, text: &str) {
    let api_key = text.contains("PROFILE=api-key");
    for (name, value) in text.lines().filter_map(|line| line.split_once('=')) {
        if name.ends_with("SECRET") || (api_key && name.ends_with("API_KEY")) {
            home.hide(value);
        }
    }
}

/// `countersign rotate NAME --from FILE`
#[track_caller]
pub fn take(home: &Home, name: &str, file: &Path, options: &[&str]) {
    let file = file.to_str().unwrap();
    home.run(&[&["rotate", name, "--from", file][..], options].concat()).ok();
}

/// A value of a file with keys.
pub fn value(file: &Path, name: &str) -> String {
    let text = std::fs::read_to_string(file).unwrap();
    let found = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    found.unwrap_or_else(|| panic!("no {name}")).to_owned()
}

/// The peer as `status --json` has it, whatever its exit code.
#[track_caller]
pub fn status(home: &Home, name: &str) -> Value {
    let done = home.run(&["status", "--json"]);
    let json: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    json["peers"].as_array().unwrap().iter().find(|peer| peer["name"] == name).unwrap().clone()
}

/// The states of a peer's live credentials, oldest first.
pub fn states(home: &Home, name: &str) -> Vec<String> {
    let peer = status(home, name);
    let states = peer["credentials"].as_array().unwrap().iter();
    states
        .map(|one| format!("{} {}", one["id"].as_str().unwrap(), one["life"]["state"].as_str().unwrap()))
        .collect()
}

/// `orders`, which is reached at this URL whatever it listens on, and `billing`, which calls it under `cs1`.
pub fn meet_at(url: &str) -> (Home, Home) {
    meet_at_with(url, &[])
}

/// The same with more options for both.
pub fn meet_at_with(url: &str, options: &[&str]) -> (Home, Home) {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    orders.configure_serve(&format!("external_urls = [\"{url}\"]"));
    meet_with((&orders, url), (&billing, "https://billing.example"), "cs1", options);
    (orders, billing)
}

/// Two services that know each other, each with the URL of the other.
pub fn meet(orders: (&Home, &str), billing: (&Home, &str), profile: &str) {
    meet_with(orders, billing, profile, &[]);
}

fn meet_with(orders: (&Home, &str), billing: (&Home, &str), profile: &str, options: &[&str]) {
    let keys = [new_key(), new_key()];
    let secret = new_secret();
    for ((home, _), (other, url), name, [ours, theirs]) in [
        (orders, billing, "billing", [&keys[0], &keys[1]]),
        (billing, orders, "orders", [&keys[1], &keys[0]]),
    ] {
        let pin = other.pin();
        let to = ["peer", "add", name, "--profile", profile, "--url", url, "--tls-pin", &pin];
        if profile == "api-key" {
            let files = [home.secret_file("ours", ours), home.secret_file("theirs", theirs)];
            home.run(&[&to[..], &["--our-key-file", &files[0], "--their-key-file", &files[1]]].concat()).ok();
        } else {
            let file = home.secret_file("secret", &secret);
            let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", &file];
            home.run(&[&to[..], &keys, options].concat()).ok();
        }
    }
}

/// Two services that know each other; nobody serves.
pub fn known(profile: &str) -> (Home, Home) {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    meet((&orders, "https://orders.example"), (&billing, "https://billing.example"), profile);
    (orders, billing)
}

pub fn exported(home: &Home) -> Vec<String> {
    let entries = std::fs::read_dir(home.path().join("exchange")).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

pub fn fingerprint(home: &Home, peer: &str, number: usize) -> String {
    let peer = status(home, peer);
    peer["credentials"][number]["fingerprint"].as_str().unwrap().to_owned()
}

/// Peers as JSON without ages, uses and schedules: what decides who is let in, and what is sealed.
pub fn without_ages(mut peers: Vec<Value>) -> Vec<Value> {
    for peer in &mut peers {
        let members = peer.as_object_mut().unwrap();
        for name in ["due", "overdue", "overdueFrom", "rotateEverySeconds", "rotation"] {
            members.remove(name);
        }
        for credential in members["credentials"].as_array_mut().unwrap() {
            credential.as_object_mut().unwrap().remove("life");
        }
    }
    peers
}

/// What `peer list` says of them.
pub fn listed(home: &Home) -> Vec<Value> {
    without_ages(serde_json::from_value(home.run(&["peer", "list", "--json"]).json()).unwrap())
}
