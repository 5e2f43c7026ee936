//! A store that was changed behind the command's back: what is told, and what goes on.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use support::{Home, Pair, Serving, eventually, new_key, new_secret};

/// Changes the URL of a peer in the file, as somebody without the master key can.
fn damage(home: &Home, url: &str) {
    let path = home.path().join("store.sqlite");
    let mut bytes = std::fs::read(&path).unwrap();
    let place = bytes.windows(url.len()).position(|window| window == url.as_bytes()).unwrap();
    bytes[place + url.len() - 1] ^= 1;
    std::fs::write(&path, bytes).unwrap();
}

#[test]
fn a_damaged_peer_is_told_of_and_the_others_go_on() {
    let pair = Pair::new();
    let home = &pair.orders;
    let secret = home.secret_file("other", &new_secret());
    let url = ["--url", "https://shipping.example"];
    let keys = ["--our-key", &new_key(), "--their-key", &new_key(), "--secret-file", &secret];
    let add = ["peer", "add", "shipping", "--profile", "shared-secret"];
    home.run(&[&add[..], &keys, &url].concat()).ok();
    damage(home, "https://shipping.example");

    let said = "the stored credential shipping/1 does not open";
    for arguments in [&["peer", "list"][..], &["status"], &["peer", "list", "--json"], &["status", "--json"]]
    {
        let done = home.run(arguments);
        assert_eq!(done.code, 1, "{done:?}");
        assert!(done.stderr.contains(said) && done.stderr.contains("remove the peer"), "{done:?}");
        assert!(done.stdout.contains("billing") && !done.stdout.contains("shipping"), "{done:?}");
        if arguments.contains(&"--json") {
            let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap();
            let peers = if arguments[0] == "peer" { &json } else { &json["peers"] };
            assert_eq!(peers.as_array().unwrap().len(), 1, "{json}");
        }
    }
    home.run(&["peer", "show", "billing"]).ok();
    home.run(&["peer", "show", "shipping"]).refused(1, &[said]);
    let serving = Serving::http(home);
    assert_eq!(pair.get(serving.address(), "/").status, 200);
    assert_eq!(serving.log().matches(said).count(), 1, "{}", serving.log());
    home.run(&["peer", "remove", "shipping"]).ok();
    home.run(&["peer", "list"]).ok();
    home.run(&["status"]).ok();
}

#[test]
fn a_store_that_is_replaced_under_a_running_server_is_told_of() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let store = pair.orders.path().join("store.sqlite");
    std::fs::copy(&store, pair.orders.beside("copy")).unwrap();
    std::fs::rename(pair.orders.beside("copy"), &store).unwrap();
    let said = "was replaced or removed while in use; restart the service";
    eventually("the server says so", || serving.log().contains(said));
}
