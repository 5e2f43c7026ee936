//! `status`, `peer list|show|schedule`, `doctor`, the log and the metrics: what they say of a credential's life.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::fs;
use std::process::Command;

use serde_json::Value;
use support::life::{meet, rotate, status, take};
use support::raw::exchange;
use support::serving::address;
use support::{ApiKeyPair, Done, Home, Pair, Serving, eventually, finish, left_out};

fn schedule(home: &Home, name: &str, every: &str) -> Done {
    home.run(&["peer", "schedule", name, "--every", every])
}

/// `status` once the peer is overdue.
fn overdue(home: &Home, name: &str) -> Done {
    schedule(home, name, "1s").ok();
    let mut done = home.run(&["status"]);
    eventually("it is overdue", || {
        done = home.run(&["status"]);
        done.code != 0
    });
    done
}

#[test]
fn a_new_peer_is_due_in_ninety_days_and_a_schedule_is_set() {
    let pair = Pair::new();
    let home = &pair.orders;
    let peer = status(home, "billing");
    let created = peer["credentials"][0]["created"].as_u64().unwrap();
    assert_eq!(peer["due"].as_u64().unwrap(), created + 90 * 86_400);
    assert_eq!((&peer["overdue"], &peer["rotateEverySeconds"]), (&false.into(), &(90 * 86_400).into()));
    assert!(schedule(home, "billing", "30d").ok().contains("every 30d; due in"));
    assert_eq!(status(home, "billing")["due"].as_u64().unwrap(), created + 30 * 86_400);
    assert!(schedule(home, "billing", "never").ok().contains("rotated never"));
    assert_eq!(status(home, "billing")["due"], Value::Null);
    assert!(home.run(&["peer", "show", "billing"]).ok().contains("every never, due never"));
    schedule(home, "nobody", "1d").refused(1, &["no peer named `nobody`"]);
    for wrong in ["0s", "1", "1w", "", "always", "4000d"] {
        schedule(home, "billing", wrong).refused(2, &["`never`, or a whole number"]);
    }
    let records = home.records();
    let set: Vec<_> = records.iter().filter(|record| record["reason"] == "schedule-set").collect();
    assert_eq!(set.len(), 2);
    assert!(set[0]["detail"].as_str().unwrap().starts_with("every 30d; by user"));
}

#[test]
fn an_overdue_peer_makes_the_exit_code_1_and_says_what_to_do() {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    meet((&orders, "https://orders.example"), (&billing, "https://billing.example"), "shared-secret");
    let done = overdue(&orders, "billing");
    assert_eq!(done.code, 1);
    assert!(done.stdout.contains("since ") && done.stderr.contains("countersign rotate billing"), "{done:?}");
    assert!(!done.stdout.contains('\u{1b}'), "no colours where no terminal is");
    let json = orders.run(&["status", "--json"]);
    assert_eq!(json.code, 1);
    let json: Value = serde_json::from_str(&json.stdout).unwrap();
    assert_eq!((&json["overdue"][0], &json["peers"][0]["overdue"]), (&"billing".into(), &true.into()));
    assert!(orders.run(&["peer", "list"]).ok().contains("current, overdue"));
    assert!(orders.run(&["doctor", "--offline"]).ok().contains("due to be replaced"));

    schedule(&orders, "billing", "90d").ok();
    orders.run(&["status"]).ok();
    // One that waits for the peer for longer than the grace period.
    rotate(&orders, "billing", &["--grace", "0s"], &billing);
    let done = orders.run(&["status"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(done.stderr.contains("has not used its next credential"), "{done:?}");
    assert!(orders.run(&["peer", "list"]).ok().contains("next: waiting, overdue"));
    assert!(orders.run(&["doctor", "--offline"]).ok().contains("rotate billing --check"));
    orders.run(&["rotate", "billing", "--abandon"]).ok();
    orders.run(&["status"]).ok();
}

#[test]
fn on_a_terminal_what_is_overdue_is_red_unless_colours_are_not_wanted() {
    if left_out("script") {
        return;
    }
    let pair = Pair::new();
    overdue(&pair.orders, "billing");
    let on_a_terminal = |no_color: &str| {
        let program = format!(
            "'{}' --home '{}' status",
            env!("CARGO_BIN_EXE_countersign"),
            pair.orders.path().display()
        );
        let mut script = Command::new("script");
        script.args(["-qec", &program, "/dev/null"]).env("NO_COLOR", no_color);
        let output = script.stdin(std::process::Stdio::null()).output().unwrap();
        assert_eq!(output.status.code(), Some(1));
        String::from_utf8(output.stdout).unwrap()
    };
    let shown = on_a_terminal("");
    assert!(shown.contains("\u{1b}[31mbilling/1"), "{shown:?}");
    assert_eq!(shown.matches("\u{1b}[31m").count(), 1, "only that: {shown:?}");
    assert!(!on_a_terminal("1").contains('\u{1b}'));
}

#[test]
fn states_uses_and_what_is_left_of_the_overlap_are_shown() {
    let pair = ApiKeyPair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let call = format!("{}/", serving.url());
    for home in [&pair.orders, &pair.billing] {
        let text = home.run(&["status"]).ok();
        assert_eq!(text.matches("never").count(), 2, "nobody has used it: {text}");
    }
    pair.billing.run(&["call", &call]).ok();
    let used = |home: &Home, name: &str, number: usize, by: &str| {
        status(home, name)["credentials"][number]["life"][by].as_u64().is_some()
    };
    eventually("orders knows that it was used", || used(&pair.orders, "billing", 0, "usedInbound"));
    assert!(
        used(&pair.billing, "orders", 0, "usedOutbound") && !used(&pair.billing, "orders", 0, "usedInbound")
    );

    let file = rotate(&pair.orders, "billing", &["--grace", "2d"], &pair.billing);
    let text = pair.orders.run(&["status"]).ok();
    assert!(
        text.contains("old: until billing has the next") && text.contains("next: waiting for billing"),
        "{text}"
    );
    assert!(pair.orders.run(&["peer", "list"]).ok().contains("next: waiting"));
    take(&pair.billing, "orders", &file, &["--grace", "2d"]);
    pair.billing.run(&["call", &call]).ok();
    eventually("orders knows that it was used", || used(&pair.orders, "billing", 1, "usedInbound"));
    for (home, name) in [(&pair.orders, "billing"), (&pair.billing, "orders")] {
        let text = home.run(&["status"]).ok();
        assert!(text.contains("old: ends in") && text.contains(&format!("next: {name} has it")), "{text}");
        let peer = status(home, name);
        assert_eq!(peer["rotation"]["state"], "confirmed");
        assert_eq!(peer["rotation"]["oldEnds"], peer["credentials"][0]["life"]["ends"]);
        let shown = home.run(&["peer", "show", name]).ok();
        assert!(shown.contains("state      old") && shown.contains("state      next"), "{shown}");
        home.run(&["rotate", name, "--finish"]).ok();
        let peer = status(home, name);
        assert_eq!(
            (&peer["ended"][0]["how"], &peer["rotation"]["state"]),
            (&"retired".into(), &"idle".into())
        );
        assert!(home.run(&["status"]).ok().contains("ended: retired"));
    }
}

#[test]
fn an_overdue_peer_is_named_in_the_log_of_serve_and_in_the_metrics() {
    let pair = Pair::new();
    let serving = Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    let metric = |name: &str| {
        let reply = exchange(address(&serving.urls[1]), "GET", "/metrics", &[], b"");
        let text = String::from_utf8(reply.body).unwrap();
        let start = format!("countersign_{name}{{peer=\"billing\"}} ");
        let value = text.lines().find_map(|line| line.strip_prefix(&start));
        value.map(|value| value.parse::<i64>().unwrap())
    };
    assert_eq!(metric("credential_rotation_overdue"), Some(0));
    let due = metric("credential_rotation_due_seconds").unwrap();
    assert!((89 * 86_400..=90 * 86_400).contains(&due), "{due}");
    assert!(!serving.log().contains("overdue"));
    schedule(&pair.orders, "billing", "1s").ok();
    eventually("the metric says so", || metric("credential_rotation_overdue") == Some(1));
    assert!(metric("credential_rotation_due_seconds").unwrap() <= 0);
    assert!(metric("credential_age_seconds").unwrap() >= 1);
    eventually("the log says so", || serving.log().contains("its rotation is overdue"));
    let log = serving.log();
    let line = log.lines().find(|line| line.contains("overdue")).unwrap();
    assert!(
        line.contains("WARN") && line.contains("billing/1") && line.contains("countersign rotate billing"),
        "{line}"
    );
    schedule(&pair.orders, "billing", "never").ok();
    eventually("the metric says that it is over", || metric("credential_rotation_overdue") == Some(0));
    assert_eq!(metric("credential_rotation_due_seconds"), None);
    assert_eq!(serving.log().matches("its rotation is overdue").count(), 1, "not again and again");
}

#[test]
fn files_with_keys_that_nobody_needs_are_found_and_the_command_named_removes_them() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let left = || {
        let json = pair.orders.run(&["doctor", "--offline", "--json"]).json();
        let findings = json["findings"].as_array().unwrap().clone();
        findings.into_iter().find(|found| found["check"] == "exported-keys").unwrap()
    };
    let file = rotate(&pair.orders, "billing", &[], &pair.billing);
    assert_eq!(left()["level"], "ok", "it is on its way");
    let copy = fs::read(&file).unwrap();
    take(&pair.billing, "orders", &file, &[]);
    pair.billing.run(&["call", &format!("{}/", serving.url())]).ok();
    eventually("it is confirmed", || pair.orders.run(&["rotate", "billing", "--check"]).code == 0);
    let mended = |why: &str| {
        let found = left();
        assert_eq!(found["level"], "warn", "{found}");
        assert!(found["what"].as_str().unwrap().contains(why), "{found}");
        let mut shell = Command::new("sh");
        shell.args(["-c", found["mend"].as_str().unwrap()]).current_dir(pair.orders.beside(""));
        finish(shell, b"").ok();
        assert_eq!(left()["level"], "ok");
    };
    mended("billing has used them already");
    fs::write(&file, &copy).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    pair.orders.run(&["revoke", "billing", "--credential", "1"]).ok();
    pair.orders.run(&["revoke", "billing", "--credential", "2"]).ok();
    assert!(!file.exists(), "revoke removes it");
    fs::write(&file, &copy).unwrap();
    fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600)).unwrap();
    mended("billing/2 has ended");
}
