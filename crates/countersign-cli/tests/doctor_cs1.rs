//! `doctor` about peers under `cs1`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use serde_json::Value;
use support::{Home, new_key, new_secret};

fn add(home: &Home, options: &[&str]) {
    let secret = home.secret_file("secret", &new_secret());
    let (ours, theirs) = (new_key(), new_key());
    let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &secret];
    home.run(&[&["peer", "add", "orders", "--profile", "cs1"][..], &keys, options].concat()).ok();
}

/// What is found that is not in order, as `check level`, with what is said.
fn bad(home: &Home, check: &str) -> Vec<(String, String, String)> {
    let done = home.run(&["doctor", "--json", "--offline"]);
    let json: Value = serde_json::from_str(&done.stdout).unwrap();
    let text = |found: &Value, name: &str| found[name].as_str().unwrap().to_owned();
    let findings = json["findings"].as_array().unwrap().iter();
    let bad = findings.filter(|found| found["check"] == check && found["level"] != "ok");
    bad.map(|found| (text(found, "level"), text(found, "what"), text(found, "mend"))).collect()
}

#[test]
fn requests_without_a_handshake_are_a_danger_that_is_named() {
    let home = Home::of("billing");
    add(&home, &["--danger-direct"]);
    let bad = bad(&home, "danger");
    assert_eq!((bad.len(), &*bad[0].0), (1, "warn"));
    assert!(bad[0].1.contains("without forward secrecy") && bad[0].2.contains("without --danger-direct"));
}

#[test]
fn names_that_the_certificate_does_not_have_and_a_proxy_without_urls_are_found() {
    let home = Home::of("billing");
    add(&home, &[]);
    let config = home.path().join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let set =
        |line: &str| std::fs::write(&config, text.replace("[serve]", &format!("[serve]\n{line}"))).unwrap();
    set("external_urls = [\"https://localhost:8443\", \"https://[::1]:8443\"]");
    assert_eq!(bad(&home, "certificate"), []);
    set("external_urls = [\"https://localhost:8443\", \"https://billing.example/api\"]");
    let found = bad(&home, "certificate");
    assert_eq!((found.len(), &*found[0].0), (1, "warn"));
    assert!(
        found[0].1.contains("billing.example") && found[0].2.contains("DNS:billing.example"),
        "{found:?}"
    );
    set("trusted_proxies = [\"10.0.0.7\"]");
    let found = bad(&home, "external-urls");
    assert_eq!((found.len(), &*found[0].0), (1, "warn"));
    set("trusted_proxies = [\"10.0.0.7\"]\nexternal_urls = [\"https://localhost\"]");
    assert_eq!(bad(&home, "external-urls"), []);
}

#[test]
fn a_binding_that_cannot_hold_is_found() {
    let home = Home::of("billing");
    add(&home, &["--binding", "tls-exporter", "--url", "https://orders.example"]);
    assert_eq!(bad(&home, "binding"), []);
    home.run(&["peer", "remove", "orders"]).ok();
    add(&home, &["--binding", "tls-exporter", "--url", "http://127.0.0.1:1"]);
    let found = bad(&home, "binding");
    assert_eq!((found.len(), &*found[0].0), (1, "fail"));
    assert!(found[0].1.contains("no call can succeed") && found[0].2.contains("https://"), "{found:?}");
    // We are called over plain HTTP: a proxy in front ends TLS.
    let config = home.path().join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    std::fs::write(&config, text.replace("https://127.0.0.1:8443", "http://127.0.0.1:8080")).unwrap();
    let found = bad(&home, "binding");
    assert_eq!((found.len(), &*found[1].0), (2, "warn"));
    assert!(found[1].1.contains("cannot call this service"), "{found:?}");
    home.run(&["peer", "remove", "orders"]).ok();
    add(&home, &["--url", "http://127.0.0.1:1"]);
    assert_eq!(bad(&home, "binding"), [], "without a binding both are fine");
}
