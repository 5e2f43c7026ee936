//! Peers under the profile `cs1`: added, shown, declared, and what is refused.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use serde_json::Value;
use support::{Done, Home, new_key, new_secret};

/// `peer add NAME --profile cs1` with fresh keys, a secret from standard input and these options.
fn add(home: &Home, name: &str, options: &[&str]) -> Done {
    let secret = new_secret();
    home.hide(&secret);
    let (ours, theirs) = (new_key(), new_key());
    let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", "-"];
    let peer = ["peer", "add", name, "--profile", "cs1"];
    home.run_with(&[&peer[..], &keys, options].concat(), secret.as_bytes())
}

fn shown(home: &Home, name: &str) -> Value {
    home.run(&["peer", "show", name, "--json"]).json()
}

#[test]
fn both_sides_see_the_same_fingerprint_and_the_public_keys() {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    let (a, b, secret) = (new_key(), new_key(), new_secret());
    let mut seen = Vec::new();
    for (home, name, ours, theirs) in [(&orders, "billing", &a, &b), (&billing, "orders", &b, &a)] {
        let file = home.secret_file("secret", &secret);
        let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", &file];
        let to = ["peer", "add", name, "--profile", "cs1", "--url", "https://peer.example"];
        let said = home.run(&[&to[..], &keys].concat()).ok();
        assert!(said.contains("profile cs1") && said.contains("fingerprint"), "{said}");
        let peer = shown(home, name);
        assert_eq!((&peer["profile"], &peer["binding"]), (&"cs1".into(), &"none".into()));
        assert_eq!(peer["dangerDirect"], false);
        let credential = &peer["credentials"][0];
        assert_eq!((&credential["ourKey"], &credential["theirKey"]), (&(**ours).into(), &(**theirs).into()));
        seen.push(credential["fingerprint"].clone());
        let text = home.run(&["peer", "show", name]).ok();
        assert!(text.contains("binding      none") && text.contains(ours.as_str()), "{text}");
        assert!(home.run(&["peer", "list"]).ok().contains("cs1"));
        assert_eq!(home.run(&["status", "--json"]).json()["peers"][0]["profile"], "cs1");
    }
    assert_eq!(seen[0], seen[1]);
}

#[test]
fn the_same_keys_under_another_profile_have_another_fingerprint() {
    let (a, b, secret) = (new_key(), new_key(), new_secret());
    let fingerprint = |profile: &str| {
        let home = Home::of("orders");
        let file = home.secret_file("secret", &secret);
        let keys = ["--our-key", &a, "--their-key", &b, "--secret-file", &file];
        home.run(&[&["peer", "add", "billing", "--profile", profile][..], &keys].concat()).ok();
        shown(&home, "billing")["credentials"][0]["fingerprint"].clone()
    };
    assert_ne!(fingerprint("cs1"), fingerprint("shared-secret"), "the operators hear that they differ");
}

#[test]
fn a_binding_and_requests_without_a_handshake_are_chosen_by_name_and_shown() {
    let home = Home::of("orders");
    add(&home, "bound", &["--binding", "tls-exporter"]).ok();
    add(&home, "direct", &["--danger-direct"]).ok();
    add(&home, "plain", &["--binding", "none"]).ok();
    let both = |name: &str| {
        let peer = shown(&home, name);
        (peer["binding"].as_str().unwrap().to_owned(), peer["dangerDirect"].as_bool().unwrap())
    };
    assert_eq!(both("bound"), ("tls-exporter".to_owned(), false));
    assert_eq!(both("direct"), ("none".to_owned(), true));
    assert_eq!(both("plain"), ("none".to_owned(), false));
    let text = home.run(&["peer", "show", "direct"]).ok();
    assert!(text.contains("danger       its requests are taken without a handshake"), "{text}");
    let listed = home.run(&["peer", "list", "--json"]).json();
    assert_eq!(listed[0]["binding"], "tls-exporter");
}

#[test]
fn options_that_do_not_go_together_are_a_wrong_use_and_add_nothing() {
    let home = Home::of("orders");
    let file = home.secret_file("file", &new_secret());
    for (options, said) in [
        (&["--binding", "tls-exporter", "--danger-direct"][..], "one or the other"),
        (&["--danger-unproven-server"], "always proves itself"),
        (&["--binding", "tls-unique"], "none or tls-exporter"),
        (&["--binding", ""], "none or tls-exporter"),
        (&["--our-key-file", &file], "api-key"),
    ] {
        add(&home, "billing", options).refused(2, &[said]);
    }
    let (a, b) = (new_key(), new_key());
    let keys = ["--our-key", &a, "--their-key", &b];
    let run = |profile: &str, options: &[&str]| {
        home.run(&[&["peer", "add", "billing", "--profile", profile][..], options].concat())
    };
    let one_each = ["--our-secret-file", &file, "--their-secret-file", &file];
    run("cs1", &[&keys[..], &one_each].concat()).refused(2, &["one secret for both directions"]);
    run("cs1", &keys).refused(2, &["--secret-file"]);
    run("cs1", &["--our-key", &a, "--secret-file", &file]).refused(2, &["--our-key and --their-key"]);
    let others = [&keys[..], &["--secret-file", &file]].concat();
    for option in [&["--binding", "tls-exporter"][..], &["--danger-direct"]] {
        run("shared-secret", &[&others[..], option].concat()).refused(2, &["belong to the profile cs1"]);
    }
    run("shared-secret", &[&others[..], &["--binding", "none"]].concat()).ok();
    home.run(&["peer", "remove", "billing"]).ok();
    assert_eq!(home.run(&["peer", "list", "--json"]).json(), Value::Array(Vec::new()));
}

#[test]
fn keys_and_secrets_of_another_peer_are_refused_whatever_their_profile() {
    let home = Home::of("orders");
    let (a, b, secret) = (new_key(), new_key(), new_secret());
    let file = home.secret_file("secret", &secret);
    let with = |name: &str, profile: &str, ours: &str, theirs: &str| {
        let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", &file];
        home.run(&[&["peer", "add", name, "--profile", profile][..], &keys].concat())
    };
    with("billing", "cs1", &a, &b).ok();
    for profile in ["cs1", "shared-secret"] {
        with("other", profile, &new_key(), &new_key()).refused(1, &["`billing`"]);
    }
    with("billing", "cs1", &new_key(), &new_key()).refused(1, &["already"]);
    with("other", "cs1", &a, &a).refused(1, &["the same"]);
}

/// A `[[peer]]` table for `cs1` with these lines more.
fn declare(home: &Home, more: &str) {
    let (a, b) = (new_key(), new_key());
    home.configure(&format!(
        "[secrets]\nfrom = \"config\"\n\n[[peer]]\nname = \"billing\"\nprofile = \"cs1\"\n\
         our_key = \"{a}\"\ntheir_key = \"{b}\"\n{more}\n"
    ));
}

#[test]
fn a_declared_peer_has_its_secret_its_next_one_and_its_options() {
    let home = Home::of("orders");
    let now = home.secret_file("now", &new_secret());
    let next = home.beside("next");
    declare(
        &home,
        &format!(
            "secret = \"file:{now}\"\nnext_secret = \"file:{}\"\nbinding = \"tls-exporter\"",
            next.display()
        ),
    );
    let peer = shown(&home, "billing");
    assert_eq!((&peer["binding"], &peer["dangerDirect"]), (&"tls-exporter".into(), &false.into()));
    assert_eq!(peer["credentials"].as_array().unwrap().len(), 1, "the next one is not there yet");
    home.secret_file("next", &new_secret());
    let peer = shown(&home, "billing");
    let numbers: Vec<_> = peer["credentials"].as_array().unwrap().iter().map(|one| &one["number"]).collect();
    assert_eq!(numbers, [1, 2]);
    assert_eq!(peer["credentials"][0]["ourKey"], peer["credentials"][1]["ourKey"], "API keys stay");
}

#[test]
fn a_declared_peer_with_settings_that_do_not_go_together_is_refused_with_its_line() {
    for (more, said) in [
        ("", "one secret for both directions"),
        ("our_secret = \"env:A\"\ntheir_secret = \"env:B\"", "one secret for both directions"),
        ("secret = \"env:A\"\nbinding = \"tls\"", "\"none\" or \"tls-exporter\""),
        ("secret = \"env:A\"\nbinding = \"tls-exporter\"\ndanger_direct = true", "one or the other"),
        ("secret = \"env:A\"\ndanger_unproven_server = true", "always proves itself"),
        ("secret = \"env:A\"\nnext_our_secret = \"env:B\"", "one secret for both directions"),
    ] {
        let home = Home::of("orders");
        declare(&home, more);
        home.run(&["peer", "list"]).refused(1, &["line ", said]);
    }
    let home = Home::of("orders");
    home.configure(&format!(
        "[secrets]\nfrom = \"config\"\n[[peer]]\nname = \"billing\"\nprofile = \"shared-secret\"\nour_key = \"{}\"\n\
         their_key = \"{}\"\nsecret = \"env:A\"\ndanger_direct = true\n",
        new_key(),
        new_key()
    ));
    home.run(&["peer", "list"]).refused(1, &["line ", "belong to the profile cs1"]);
}
