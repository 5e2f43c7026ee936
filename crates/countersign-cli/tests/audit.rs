//! The trail: every attempt, for the exact reason, without a secret.

mod support;

use serde_json::{Value, json};
use support::raw::{Reply, post};
use support::{ApiKeyPair, Fake, Home, Pair, Serving, exchange, new_key};

#[test]
fn every_attempt_is_on_the_trail_with_its_exact_reason_and_request_id() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let address = serving.address();
    let (key, unknown) = (pair.billing_key.as_str(), new_key());
    let get = |headers: &[(&str, &str)]| exchange(address, "GET", "/", headers, b"");
    let mut expected: Vec<(Reply, &str, &str, &str)> = Vec::new();
    let mut did = |reply, step, outcome, reason| expected.push((reply, step, outcome, reason));

    did(get(&[]), "request", "refused", "no-credentials");
    did(get(&[("X-API-Key", key)]), "request", "challenged", "challenge-sent");
    did(get(&[("X-API-Key", &unknown)]), "request", "challenged", "challenge-sent");
    did(get(&[("X-API-Key", "short")]), "request", "refused", "malformed");
    did(get(&[("X-Signature", &"0".repeat(64))]), "request", "refused", "missing-key");
    let signature = "0".repeat(64);
    did(get(&[("X-API-Key", key), ("X-Signature", &signature)]), "request", "refused", "missing-header");
    did(get(&[("Authorization", "Bearer csb.x"), ("X-API-Key", key)]), "request", "refused", "two-methods");
    did(get(&[("Authorization", "Bearer csb.x")]), "token", "refused", "token-form");
    did(
        post(address, "/authenticate", &[], &json!({"apiKey": unknown})),
        "authenticate",
        "refused",
        "unknown-key",
    );
    did(
        post(address, "/authenticate", &[], &json!({"apiKey": pair.orders_key})),
        "authenticate",
        "refused",
        "own-key",
    );
    did(post(address, "/authenticate", &[], &json!({"apiKey": 1})), "authenticate", "refused", "malformed");
    let challenge = pair.challenge(address);
    let wrong = json!({"apiKey": key, "challenge": challenge, "signedChallenge": signature});
    did(post(address, "/verify_challenge", &[], &wrong), "verify-challenge", "refused", "wrong-signature");
    let good = pair.answer(address, &challenge);
    let token = format!("Bearer {}", good.json()["token"].as_str().unwrap());
    did(good, "verify-challenge", "accepted", "accepted");
    did(pair.answer(address, &challenge), "verify-challenge", "refused", "challenge-used");
    let foreign = "AAECAwQFBgcICQoLDA0ODw==";
    did(pair.answer(address, foreign), "verify-challenge", "refused", "challenge-foreign");
    did(get(&[("Authorization", &token)]), "token", "accepted", "accepted");
    pair.orders.hide(token.strip_prefix("Bearer ").unwrap());
    pair.orders.hide(&pair.sign(&challenge));
    pair.orders.hide(&unknown);

    let trail = pair.orders.trail();
    for (reply, step, outcome, reason) in expected {
        let id = reply.header("x-request-id").unwrap();
        let found: Vec<&Value> = trail.iter().filter(|record| record["requestId"] == id).collect();
        assert_eq!(found.len(), 1, "{reason}: {reply:?}");
        let said = [&found[0]["step"], &found[0]["outcome"], &found[0]["reason"]];
        assert_eq!(said, [&json!(step), &json!(outcome), &json!(reason)], "{reply:?}");
        assert_eq!(found[0]["direction"], "inbound");
        assert_eq!(found[0]["source"], "127.0.0.1");
        if outcome == "accepted" {
            assert_eq!(
                (&found[0]["credential"], &found[0]["service"]),
                (&json!("billing/1"), &json!("billing"))
            );
        }
    }
    // 16 attempts and the challenge in between; the numbers of one writer have no gap.
    let numbers: Vec<_> = trail.iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    assert_eq!(numbers, (1..=17).collect::<Vec<_>>());
}

#[test]
fn the_key_of_profile_api_key_is_nowhere_on_the_trail() {
    let pair = ApiKeyPair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    pair.billing.run(&["call", serving.url()]).ok();
    let address = serving.address();
    let wrong = json!({"apiKey": pair.key, "signedChallenge": "0".repeat(64)});
    post(address, "/verify_challenge", &[], &wrong).assert_problem(401, "authentication-failed");
    exchange(address, "GET", "/", &[("X-API-Key", &pair.key)], b"").assert_problem(401, "challenge-required");
    let reasons: Vec<_> = pair.orders.trail().iter().map(|record| record["reason"].clone()).collect();
    assert_eq!(reasons, ["challenge-sent", "accepted", "accepted", "nothing-outstanding", "challenge-sent"]);
    // Home looks for the key in all files when it is dropped.
}

#[test]
fn calls_are_on_the_callers_trail() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    pair.billing.run(&["call", serving.url()]).ok();
    pair.orders.run(&["peer", "remove", "billing"]).ok();
    support::eventually("the server has taken it over", || {
        pair.billing.run(&["call", serving.url()]).code == 1
    });
    drop(serving);
    let fake = Fake::new(|mut exchange| exchange.respond(200, &[], b"{}"));
    pair.billing.run(&["peer", "remove", "orders"]).ok();
    pair.meet(&fake.url, &[]);
    pair.billing.run(&["call", &fake.url]).refused(1, &[]);
    let url = fake.url.clone();
    drop(fake);
    pair.billing.run(&["call", &url]).refused(1, &[]);
    let trail = pair.billing.trail();
    let mut reasons: Vec<_> = trail.iter().map(|record| record["reason"].as_str().unwrap()).collect();
    reasons.dedup();
    assert_eq!(reasons, ["accepted", "refused-by-server", "bad-answer", "unreachable"]);
    assert!(trail.iter().all(|record| record["direction"] == "outbound" && record["service"] == "orders"));
}

#[test]
fn tail_shows_the_last_records_of_all_writers_by_time() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.orders.secret_file("other", &support::new_secret());
    for _ in 0..3 {
        exchange(serving.address(), "GET", "/", &[], b"");
    }
    // The called service calls itself back under another name: a second writer.
    let peer = ["peer", "add", "self", "--profile", "api-key", "--url", serving.url(), "--our-key-file"];
    let key = pair.orders.secret_file("key", &new_key());
    pair.orders.run(&[&peer[..], &[&key]].concat()).ok();
    pair.orders.run(&["call", serving.url()]).refused(1, &[]);
    let tail = |count: &str| pair.orders.run(&["audit", "tail", "-n", count]).ok().lines().count();
    // Three requests, two peers added, and the call at both of its ends.
    assert_eq!((tail("0"), tail("1"), tail("2"), tail("100")), (0, 1, 2, 7));
    let all = pair.orders.records();
    assert!(all.iter().any(|record| record["direction"] == "outbound"));
    let times: Vec<_> = all.iter().map(|record| record["time"].as_str().unwrap()).collect();
    assert!(times.is_sorted());
}

#[test]
fn callers_at_the_same_time_share_one_trail_without_a_gap() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    std::thread::scope(|scope| {
        for _ in 0..6 {
            scope.spawn(|| pair.billing.run(&["call", serving.url()]).ok());
        }
    });
    let mut numbers: Vec<_> =
        pair.billing.trail().iter().map(|record| record["seq"].as_u64().unwrap()).collect();
    numbers.sort_unstable();
    assert_eq!(numbers, (1..=6).collect::<Vec<_>>());
    assert_eq!(pair.orders.recorded("step", "token"), 6);
}

#[test]
fn half_a_line_that_a_crash_left_is_told_and_the_trail_goes_on() {
    let home = Home::of("orders");
    let (file, mut serving) = (home.path().join("audit/serve.jsonl"), Serving::http(&home));
    exchange(serving.address(), "GET", "/", &[], b"");
    serving.terminate();
    serving.ended();
    let mut text = std::fs::read_to_string(&file).unwrap();
    text.push_str("{\"v\":2,\"seq\":2,\"ti\u{1b}[31m");
    std::fs::write(&file, text).unwrap();
    let done = home.run(&["audit", "tail", "--json"]);
    assert!(done.stderr.contains("1 lines of the trail cannot be read"), "{done:?}");
    let serving = Serving::http(&home);
    exchange(serving.address(), "GET", "/", &[], b"");
    let done = home.run(&["audit", "tail", "--json"]);
    assert_eq!(done.stderr, "", "it is cut off");
    let numbers: Vec<Value> =
        done.stdout.lines().map(|line| serde_json::from_str::<Value>(line).unwrap()["seq"].clone()).collect();
    assert_eq!(numbers, [1, 2]);
}

#[test]
fn what_somebody_wrote_into_the_trail_is_shown_harmlessly() {
    let home = Home::of("orders");
    let record = json!({
        "v": 1, "seq": 1, "time": "2026-01-01T00:00:00.000Z\u{9b}31m", "direction": "inbound", "step": "\u{1b}[2J",
        "outcome": "refused", "reason": "\u{7f}\u{85}", "requestId": "\r\n", "service": "\u{1b}]0;x\u{7}",
    });
    std::fs::create_dir(home.path().join("audit")).unwrap();
    std::fs::write(home.path().join("audit/serve.jsonl"), format!("{record}\n")).unwrap();
    // Home::run looks for control characters in what comes out.
    assert_eq!(home.records(), [record]);
}

#[test]
fn without_a_trail_nothing_is_served_and_nothing_is_called() {
    let pair = Pair::new();
    pair.meet("http://127.0.0.1:1", &[]);
    for (home, writer, arguments) in [
        (&pair.orders, "serve", &["serve", "--listen", "http://127.0.0.1:0"][..]),
        (&pair.billing, "call", &["call", "http://127.0.0.1:1/"]),
    ] {
        std::fs::create_dir_all(home.path().join(format!("audit/{writer}.jsonl"))).unwrap();
        home.run(arguments).refused(1, &["audit trail", "cannot be written"]);
    }
}

#[test]
fn changes_of_peers_are_on_the_trail_with_who_made_them() {
    let pair = Pair::new();
    pair.meet("http://127.0.0.1:1", &[]);
    pair.orders.run(&["peer", "remove", "billing"]).ok();
    pair.orders.run(&["peer", "remove", "billing"]).refused(1, &["no peer"]);
    let records = pair.orders.records();
    let said: Vec<_> = records.iter().map(|record| (&record["step"], &record["reason"])).collect();
    assert_eq!(
        said,
        [(&json!("peer-add"), &json!("peer-added")), (&json!("peer-remove"), &json!("peer-removed"))]
    );
    for record in &records {
        assert_eq!((&record["direction"], &record["outcome"]), (&json!("local"), &json!("changed")));
        assert_eq!(record["service"], "billing");
        assert!(record["detail"].as_str().unwrap().contains("by user "), "{record}");
    }
    assert_eq!(
        (&records[0]["credential"], &records[0]["profile"]),
        (&json!("billing/1"), &json!("shared-secret"))
    );
    assert!(records[0]["requestId"].is_null());
}

#[test]
fn a_change_that_cannot_be_written_down_is_made_and_told() {
    let pair = Pair::new();
    pair.meet("http://127.0.0.1:1", &[]);
    std::fs::remove_file(pair.orders.path().join("audit/admin.jsonl")).unwrap();
    std::fs::create_dir(pair.orders.path().join("audit/admin.jsonl")).unwrap();
    let done = pair.orders.run(&["peer", "remove", "billing"]);
    done.refused_with_output(1, "removed billing");
    assert!(done.stderr.contains("the change is made and in effect, but is not on the trail"), "{done:?}");
    assert_eq!(pair.orders.run(&["peer", "list", "--json"]).json(), json!([]));
}

#[test]
fn lines_of_an_earlier_version_are_put_aside_and_still_shown() {
    let home = Home::of("orders");
    let old = json!({
        "v": 1, "seq": 41, "time": "2026-01-01T00:00:00.000Z", "direction": "inbound", "step": "request",
        "outcome": "refused", "reason": "no-credentials", "requestId": "0123",
    });
    std::fs::create_dir(home.path().join("audit")).unwrap();
    std::fs::write(home.path().join("audit/serve.jsonl"), format!("{old}\n")).unwrap();
    let serving = Serving::http(&home);
    exchange(serving.address(), "GET", "/", &[], b"");
    assert!(serving.log().contains("put aside"), "{}", serving.log());
    let records = home.records();
    assert_eq!(records[0], old);
    assert_eq!((&records[1]["v"], &records[1]["seq"]), (&json!(2), &json!(1)));
    let aside = std::fs::read_to_string(home.path().join("audit/serve.v1.jsonl")).unwrap();
    assert_eq!(aside, format!("{old}\n"));
}
