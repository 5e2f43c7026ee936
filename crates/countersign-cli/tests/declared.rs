//! Peers in `countersign.toml`, with their secrets in files, the environment and systemd credentials.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::os::unix::fs::PermissionsExt as _;

use support::{Home, Pair, Serving, eventually, new_key, new_secret};

/// A pair of which `orders` has its peer in its config, and the secret where `place` says.
fn declared(place: &str) -> Pair {
    let pair = Pair::undeclared();
    pair.orders.hide(&pair.secret);
    pair.orders.configure(&format!(
        "[secrets]\nfrom = \"config\"\n\n[[peer]]\nname = \"billing\"\nprofile = \"shared-secret\"\n\
         our_key = \"{}\"\ntheir_key = \"{}\"\nsecret = \"{place}\"\nnext_secret = \"file:{}\"\n",
        pair.orders_key,
        pair.billing_key,
        pair.orders.beside("next").display(),
    ));
    pair
}

/// A new file in the place of the old one, as mounts do it.
fn mount(home: &Home, name: &str, mode: u32, text: &str) {
    let next = home.file("being-written", 0o600, format!("{text}\n").as_bytes());
    std::fs::set_permissions(&next, std::fs::Permissions::from_mode(mode)).unwrap();
    std::fs::rename(next, home.beside(name)).unwrap();
}

#[test]
fn a_secret_in_a_mounted_file_serves_and_its_change_is_live() {
    let mut pair = declared("file:../mounted");
    mount(&pair.orders, "mounted", 0o440, &pair.secret);
    let serving = Serving::http(&pair.orders);
    let bearer = pair.bearer(serving.address());
    let status = |bearer: &str| {
        support::exchange(serving.address(), "GET", "/", &[("Authorization", bearer)], b"").status
    };
    assert_eq!(status(&bearer), 200);
    // Both secrets are good while both are there; then the next one takes the place of the first.
    let (first, second) = (pair.secret.clone(), new_secret());
    pair.orders.hide(&second);
    mount(&pair.orders, "next", 0o400, &second);
    pair.secret = second.clone();
    let changes = |count| {
        eventually("a change is in effect", || serving.log().matches("are in effect").count() == count);
    };
    changes(1);
    assert_eq!(pair.answer(serving.address(), &pair.challenge(serving.address())).status, 200);
    assert_eq!(status(&bearer), 200, "the first one is still there");
    mount(&pair.orders, "mounted", 0o440, &second);
    eventually("tokens of the first one end", || status(&bearer) == 401);
    pair.secret = first;
    assert_eq!(pair.answer(serving.address(), &pair.challenge(serving.address())).status, 401);
    pair.secret = second;
    let bearer = pair.bearer(serving.address());
    assert_eq!(status(&bearer), 200);
    std::fs::remove_file(pair.orders.beside("mounted")).unwrap();
    std::fs::remove_file(pair.orders.beside("next")).unwrap();
    eventually("a secret that is gone shuts its peer out", || status(&bearer) == 401);
    eventually("the log says why", || {
        serving.log().contains("the peer `billing` is left out: the secret: the file ")
    });
    assert!(!serving.log().contains(&pair.secret));
}

#[test]
fn a_call_takes_its_secret_from_the_environment_and_a_server_from_a_systemd_credential() {
    let pair = declared("credential:billing.secret");
    let credentials = pair.orders.beside("credentials");
    std::fs::create_dir(&credentials).unwrap();
    std::fs::write(credentials.join("billing.secret"), format!("{}\n", pair.secret)).unwrap();
    let mut command = pair.orders.command(&["serve", "--listen", "http://127.0.0.1:0"]);
    command.env("CREDENTIALS_DIRECTORY", &credentials);
    let serving = Serving::of(command, &pair.orders.beside("serve.log"), 1);

    pair.billing.hide(&pair.secret);
    pair.billing.configure(&format!(
        "[secrets]\nfrom = \"config\"\n\n[[peer]]\nname = \"orders\"\nprofile = \"shared-secret\"\nurl = \"{}\"\n\
         our_key = \"{}\"\ntheir_key = \"env:ORDERS_KEY\"\nour_secret = \"env:ORDERS_SECRET\"\n\
         their_secret = \"env:ORDERS_SECRET\"\n",
        serving.url(),
        pair.billing_key,
    ));
    let call = |secret: Option<&str>| {
        let mut command = pair.billing.command(&["call", &format!("{}/", serving.url())]);
        command.env("ORDERS_KEY", &pair.orders_key);
        if let Some(secret) = secret {
            command.env("ORDERS_SECRET", secret);
        }
        pair.billing.finish(command, b"")
    };
    assert!(call(Some(&pair.secret)).ok().contains("\"billing\""));
    let wrong = new_secret();
    pair.billing.hide(&wrong);
    assert_eq!(call(Some(&wrong)).code, 1);
    let missing = call(None);
    assert_eq!(missing.code, 1);
    assert!(
        missing.stderr.contains("the secret: the environment variable ORDERS_SECRET is not there"),
        "{missing:?}"
    );
}

#[test]
fn under_api_key_both_keys_come_from_files() {
    let home = Home::of("orders");
    let (ours, theirs) = (new_key(), new_key());
    let (ours_file, theirs_file) = (home.secret_file("ours", &ours), home.secret_file("theirs", &theirs));
    home.configure(&format!(
        "[secrets]\nfrom = \"config\"\n[[peer]]\nname = \"billing\"\nprofile = \"api-key\"\n\
         our_key = \"file:{ours_file}\"\ntheir_key = \"file:{theirs_file}\"\n"
    ));
    let serving = Serving::http(&home);
    let body = serde_json::json!({"apiKey": theirs});
    assert_eq!(support::raw::post(serving.address(), "/authenticate", &[], &body).status, 200);
}

#[test]
fn the_command_line_shows_such_peers_and_does_not_change_them() {
    let pair = declared("file:../mounted");
    mount(&pair.orders, "mounted", 0o440, &pair.secret);
    let listed = pair.orders.run(&["peer", "list", "--json"]).json();
    assert_eq!(listed[0]["credentials"][0]["id"], "billing/1");
    let status = pair.orders.run(&["status"]).ok();
    assert!(status.contains("declared in countersign.toml") && status.contains("billing/1"), "{status}");
    let said = "declared elsewhere";
    pair.orders.run(&["peer", "remove", "billing"]).refused(1, &[said]);
    let file = pair.orders.secret_file("other", &new_secret());
    let keys = ["--our-key", &new_key(), "--their-key", &new_key(), "--secret-file", &file];
    let add = ["peer", "add", "shipping", "--profile", "shared-secret"];
    pair.orders.run(&[&add[..], &keys].concat()).refused(1, &[said]);
}

#[test]
fn doctor_fails_while_a_declared_peer_is_left_out() {
    let pair = declared("file:../mounted");
    let left_out = pair.orders.run(&["doctor", "--offline"]);
    left_out.refused_with_output(1, "the secret: the file ");
    left_out.refused_with_output(1, "correct the [[peer]] in ");
    mount(&pair.orders, "mounted", 0o440, &pair.secret);
    let there = pair.orders.run(&["doctor", "--offline"]).ok();
    assert!(there.contains("1, and all of their keys are there"), "{there}");
}

#[test]
fn a_file_that_others_can_read_needs_an_option_named_danger() {
    let pair = declared("file:../mounted");
    mount(&pair.orders, "mounted", 0o444, &pair.secret);
    let done = pair.orders.run(&["peer", "list"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("mode 0444") && done.stderr.contains("0440"), "{done:?}");
    let config = pair.orders.path().join("countersign.toml");
    let text = std::fs::read_to_string(&config).unwrap();
    let open = text.replace("from = \"config\"\n", "from = \"config\"\ndanger_readable_by_others = true\n");
    std::fs::write(config, open).unwrap();
    assert!(pair.orders.run(&["peer", "list"]).ok().contains("billing"));
}
