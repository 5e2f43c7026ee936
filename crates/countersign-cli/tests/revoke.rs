//! `revoke`: the next request is refused, tokens die, and the trail says so.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::fs;
use std::time::Instant;

use serde_json::json;
use support::life::{rotate, states, take, value};
use support::raw::{exchange, post};
use support::{ApiKeyPair, Pair, Serving, eventually};

/// Within a second, it was promised; a loaded machine gets more, and says how much it took.
fn dies(address: &str, token: &str) {
    let start = Instant::now();
    eventually("the token dies", || {
        exchange(address, "GET", "/", &[("Authorization", token)], b"").status == 401
    });
    println!("refused after {:?}", start.elapsed());
}

#[test]
fn in_a_running_server_the_next_request_is_refused_and_the_token_is_dead() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let to = serving.address();
    let token = pair.bearer(to);
    assert_eq!(exchange(to, "GET", "/", &[("Authorization", &token)], b"").status, 200);
    let open = pair.challenge(to);
    let said = pair.orders.run(&["revoke", "billing"]).ok();
    for told in
        ["revoked billing/1", "Neither side can call", "countersign rotate billing", "tell its operator"]
    {
        assert!(said.contains(told), "{said}");
    }
    dies(to, &token);
    // A challenge that was given before does not help either.
    pair.answer(to, &open).assert_problem(401, "authentication-failed");
    post(to, "/authenticate", &[], &json!({"apiKey": pair.billing_key}))
        .assert_problem(401, "authentication-failed");
    for (member, reason) in [("reason", "credential-revoked"), ("reason", "token-orphaned")] {
        assert!(pair.orders.recorded(member, reason) > 0, "{reason}");
    }
    let records = pair.orders.records();
    let change = records.iter().find(|record| record["step"] == "revoke").unwrap();
    assert_eq!((&change["credential"], &change["reason"]), (&"billing/1".into(), &"revoked".into()));
    assert!(change["detail"].as_str().unwrap().starts_with("by user"));
    pair.orders.run(&["revoke", "billing"]).refused(1, &["have ended already", "countersign rotate billing"]);
}

#[test]
fn what_is_compromised_is_an_alarm_and_a_new_credential_sets_the_pair_going_again() {
    let mut pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let call = format!("{}/", serving.url());
    pair.billing.run(&["call", &call]).ok();
    let token = pair.bearer(serving.address());
    let said = pair.orders.run(&["revoke", "billing", "--compromised"]).ok();
    assert!(said.contains("On the other side as well") && said.contains("audit tail"), "{said}");
    dies(serving.address(), &token);
    assert_eq!(pair.billing.run(&["call", &call]).code, 1);
    assert!(pair.orders.recorded("reason", "credential-compromised") > 0);
    assert!(pair.orders.run(&["status"]).ok().contains("ended: compromised"));
    assert!(pair.orders.run(&["peer", "list"]).ok().contains("none: compromised"));

    pair.billing.run(&["revoke", "orders", "--compromised"]).ok();
    let refused = pair.billing.run(&["call", &call]);
    assert!(refused.code == 1 && refused.stderr.contains("countersign rotate orders"), "{refused:?}");
    let file = rotate(&pair.orders, "billing", &[], &pair.billing);
    // Whoever had the old keys can make new ones that follow them: the operators compare.
    let path = file.to_str().unwrap();
    let asked =
        ["has ended (compromised)", "read out the fingerprint", "--fingerprint", "Nothing was changed"];
    pair.billing.run(&["rotate", "orders", "--from", path]).refused(1, &asked);
    take(&pair.billing, "orders", &file, &["--fingerprint", &value(&file, "FINGERPRINT")]);
    eventually("they talk again", || pair.billing.run(&["call", &call]).code == 0);
    assert_eq!(states(&pair.orders, "billing"), ["billing/2 current"]);
    // The old keys are still an alarm.
    post(serving.address(), "/authenticate", &[], &json!({"apiKey": pair.billing_key}))
        .assert_problem(401, "authentication-failed");
    pair.billing_key = value(&file, "TAKER_API_KEY");
    pair.secret = value(&file, "SECRET");
    assert_eq!(pair.get(serving.address(), "/").status, 200);
}

#[test]
fn of_two_credentials_one_is_revoked_and_the_other_lives() {
    for (revoked, left) in [(1, 2), (2, 1)] {
        let mut pair = Pair::new();
        let serving = Serving::http(&pair.orders);
        let to = serving.address().to_owned();
        let file = rotate(&pair.orders, "billing", &[], &pair.billing);
        let old = pair.bearer(&to);
        pair.billing_key = value(&file, "TAKER_API_KEY");
        pair.secret = value(&file, "SECRET");
        let mut new = String::new();
        eventually("the new one is taken over", || {
            let reply = post(&to, "/authenticate", &[], &json!({"apiKey": pair.billing_key}));
            if reply.status == 200 {
                new = pair.bearer(&to);
            }
            reply.status == 200
        });
        let number = revoked.to_string();
        let said = pair.orders.run(&["revoke", "billing", "--credential", &number]).ok();
        assert!(said.contains(&format!("Still accepted: billing/{left}")), "{said}");
        let (dead, alive) = if revoked == 1 { (&old, &new) } else { (&new, &old) };
        dies(&to, dead);
        assert_eq!(exchange(&to, "GET", "/", &[("Authorization", alive)], b"").status, 200);
        assert_eq!(states(&pair.orders, "billing"), [format!("billing/{left} current")]);
        assert_eq!(file.exists(), revoked == 1, "its file goes with it");
        pair.orders.run(&["revoke", "billing", "--credential", &number]).refused(1, &["no live credential"]);
        // That somebody else had it can become known later.
        pair.orders.run(&["revoke", "billing", "--credential", &number, "--compromised"]).ok();
        let shown = pair.orders.run(&["peer", "show", "billing", "--json"]).json();
        assert_eq!(shown["ended"][0]["how"], "compromised");
    }
}

#[test]
fn a_key_that_is_the_secret_is_revoked_too() {
    let pair = ApiKeyPair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let call = format!("{}/", serving.url());
    pair.billing.run(&["call", &call]).ok();
    pair.orders.run(&["revoke", "billing"]).ok();
    eventually("it is refused", || pair.billing.run(&["call", &call]).code == 1);
    let file = rotate(&pair.orders, "billing", &[], &pair.billing);
    assert!(!fs::read_to_string(&file).unwrap().contains("MAKER_API_KEY"), "billing calls, only, as before");
    take(&pair.billing, "orders", &file, &[]);
    eventually("they talk again", || pair.billing.run(&["call", &call]).code == 0);
}

#[test]
fn a_revocation_is_in_effect_although_the_trail_cannot_be_written() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let token = pair.bearer(serving.address());
    // The file of the commands that change peers, in the way of which stands a directory.
    let admin = pair.orders.path().join("audit/admin.jsonl");
    fs::rename(&admin, pair.orders.beside("admin.jsonl")).unwrap();
    fs::create_dir(&admin).unwrap();
    let done = pair.orders.run(&["revoke", "billing", "--compromised"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stdout.contains("revoked billing/1"), "{done:?}");
    assert!(done.stderr.contains("in effect, but is not on the trail"), "{done:?}");
    dies(serving.address(), &token);
}

#[test]
fn a_revocation_is_in_effect_although_nothing_can_be_said_of_it() {
    let full = || fs::File::options().write(true).open("/dev/full").unwrap();
    let pair = Pair::new();
    let done = pair.orders.command(&["revoke", "billing"]).stdout(full()).output().unwrap();
    assert_eq!(done.status.code(), Some(1));
    let said = String::from_utf8(done.stderr).unwrap();
    assert!(said.contains("the change is made and in effect"), "{said}");
    assert_eq!(states(&pair.orders, "billing"), Vec::<String>::new(), "none lives");
    // Nor that nothing can be said.
    let mut again = pair.orders.command(&["revoke", "billing"]);
    assert_eq!(again.stdout(full()).stderr(full()).status().unwrap().code(), Some(1));
}

#[test]
fn a_revocation_waits_for_no_rotation() {
    let pair = Pair::new();
    let home = fs::File::open(pair.orders.path()).unwrap();
    home.lock().unwrap();
    pair.orders.run(&["revoke", "billing"]).ok();
    home.unlock().unwrap();
}

#[test]
fn what_is_over_does_not_come_back_when_its_successor_is_revoked() {
    let pair = Pair::new();
    // Nobody serves, and so nobody has tidied up.
    rotate(&pair.orders, "billing", &["--grace", "1s", "--deadline", "2s"], &pair.billing);
    eventually("the old one is over", || states(&pair.orders, "billing")[0].ends_with("ended"));
    let said = pair.orders.run(&["revoke", "billing", "--credential", "2"]).ok();
    assert!(said.contains("revoked billing/2:") && said.contains("Neither side can call"), "{said}");
    assert!(states(&pair.orders, "billing").is_empty());
    let ended = pair.orders.run(&["peer", "show", "billing", "--json"]).json()["ended"].clone();
    assert_eq!((&ended[0]["how"], &ended[1]["how"]), (&"retired".into(), &"revoked".into()));
    let serving = Serving::http(&pair.orders);
    post(serving.address(), "/authenticate", &[], &json!({"apiKey": pair.billing_key}))
        .assert_problem(401, "authentication-failed");
}

#[test]
fn that_it_was_a_leak_can_be_said_after_the_revocation() {
    let pair = Pair::new();
    pair.orders.run(&["revoke", "billing"]).ok();
    let said = pair.orders.run(&["revoke", "billing", "--compromised"]).ok();
    assert!(said.contains("billing/1"), "{said}");
    let serving = Serving::http(&pair.orders);
    post(serving.address(), "/authenticate", &[], &json!({"apiKey": pair.billing_key}))
        .assert_problem(401, "authentication-failed");
    assert!(pair.orders.recorded("reason", "credential-compromised") > 0);
    pair.orders.run(&["revoke", "billing", "--compromised"]).refused(1, &["have ended already"]);
}

#[test]
fn what_is_not_there_is_not_revoked() {
    let pair = Pair::new();
    let revoke = |rest: &[&str]| pair.orders.run(&[&["revoke"][..], rest].concat());
    revoke(&["nobody"]).refused(1, &["no peer named `nobody`"]);
    for more in [&[][..], &["--compromised"]] {
        revoke(&[&["billing", "--credential", "7"][..], more].concat()).refused(1, &["no live credential 7"]);
    }
    for wrong in ["0", "-1", "x", "4294967296"] {
        assert_eq!(revoke(&["billing", "--credential", wrong]).code, 2, "{wrong}");
    }
    assert_eq!(states(&pair.orders, "billing"), ["billing/1 current"]);
    let still = pair.orders.records().iter().filter(|record| record["step"] == "revoke").count();
    assert_eq!(still, 0);
}

#[test]
fn of_racing_revocations_one_is_told_that_it_did_it() {
    let pair = Pair::new();
    let racers: Vec<_> = (0..6)
        .map(|_| {
            let mut command = pair.orders.command(&["revoke", "billing"]);
            command.stdout(std::process::Stdio::null()).stderr(std::process::Stdio::null()).spawn().unwrap()
        })
        .collect();
    let won =
        racers.into_iter().filter_map(|mut racer| racer.wait().unwrap().code().filter(|code| *code == 0));
    assert_eq!(won.count(), 1);
    let records = pair.orders.records();
    assert_eq!(records.iter().filter(|record| record["step"] == "revoke").count(), 1);
}
