//! `doctor`: each test breaks one thing, sees it found, runs the command that is named where there is one, and sees
//! it gone.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::Command;

use countersign::PeerStore as _;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use rcgen::{CertificateParams, KeyPair};
use serde_json::Value;
use support::{Done, Exchange, Fake, Home, Pair, Serving, finish, left_out, new_key, new_secret};

/// What `doctor` finds; `options` beside `--json`.
#[track_caller]
fn findings(home: &Home, options: &[&str]) -> Vec<Value> {
    let done = home.run(&[&["doctor", "--json"][..], options].concat());
    read(&done)
}

#[track_caller]
fn read(done: &Done) -> Vec<Value> {
    let json: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    assert_eq!(done.code, i32::from(json["failed"] != 0), "{done:?}");
    json["findings"].as_array().unwrap().clone()
}

/// The one finding of this check and level that says so.
#[track_caller]
fn found(findings: &[Value], check: &str, level: &str, said: &str) -> Value {
    let mut matching = findings.iter().filter(|finding| {
        finding["check"] == check
            && finding["level"] == level
            && finding["what"].as_str().unwrap().contains(said)
    });
    let found = matching.next().unwrap_or_else(|| panic!("no {check} {level} {said:?} in {findings:#?}"));
    assert!(matching.next().is_none(), "{findings:#?}");
    found.clone()
}

/// Nothing but `ok` of this check.
#[track_caller]
fn assert_fine(home: &Home, check: &str) {
    let findings = findings(home, &["--offline"]);
    let bad: Vec<_> =
        findings.iter().filter(|found| found["check"] == check && found["level"] != "ok").collect();
    assert!(bad.is_empty(), "{bad:#?}");
}

/// Runs the command that a finding names, without the remark after it.
#[track_caller]
fn mend(home: &Home, finding: &Value) {
    let command = finding["mend"].as_str().unwrap().split("   (").next().unwrap().to_owned();
    let mut shell = Command::new("sh");
    let program = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = format!("{}:{}", program.display(), std::env::var("PATH").unwrap());
    shell.args(["-c", &command]).env("PATH", path).current_dir(home.beside(""));
    finish(shell, b"").ok();
}

/// Breaks something, sees it found, mends it as told, sees it gone.
#[track_caller]
fn mended(home: &Home, check: &str, level: &str, said: &str) {
    let finding = found(&findings(home, &["--offline"]), check, level, said);
    mend(home, &finding);
    assert_fine(home, check);
}

fn chmod(path: &Path, mode: u32) {
    fs::set_permissions(path, fs::Permissions::from_mode(mode)).unwrap();
}

#[test]
fn a_new_home_is_in_order() {
    let home = Home::of("orders");
    let findings = findings(&home, &[]);
    for check in [
        "config",
        "permissions",
        "database",
        "master-key",
        "store",
        "trail",
        "trail-chain",
        "trail-budget",
        "clock",
        "certificate",
        "key-age",
    ] {
        found(&findings, check, "ok", "");
    }
    let text = home.run(&["doctor"]).ok();
    assert!(text.contains("ok    certificate"), "{text}");
}

#[test]
fn no_home_and_half_a_home_are_mended_by_init() {
    let home = Home::empty();
    let finding = found(&findings(&home, &[]), "home", "fail", "no Countersign service");
    let mut named = finding.clone();
    named["mend"] = finding["mend"].as_str().unwrap().replace("NAME", "orders").into();
    mend(&home, &named);
    assert_fine(&home, "home");
    fs::remove_file(home.path().join("countersign.toml")).unwrap();
    let mut named = found(&findings(&home, &[]), "config", "fail", "no Countersign service");
    named["mend"] = named["mend"].as_str().unwrap().replace("NAME", "orders").into();
    mend(&home, &named);
    assert_fine(&home, "config");
}

#[test]
fn a_config_that_cannot_be_read_does_not_keep_the_rest_from_being_looked_at() {
    let home = Home::of("orders");
    let before = fs::read(home.path().join("countersign.toml")).unwrap();
    home.configure("[challenge]\nlifetime_seconds = 3");
    let findings = findings(&home, &[]);
    let finding = found(&findings, "config", "fail", "3 is not between 5 and 120");
    assert!(finding["mend"].as_str().unwrap().contains("countersign.toml"));
    found(&findings, "store", "ok", "0 peers");
    fs::write(home.path().join("countersign.toml"), before).unwrap();
    assert_fine(&home, "config");
}

#[test]
fn what_others_can_reach_is_found_and_closed() {
    let home = Home::of("orders");
    let at = |name: &str| home.path().join(name);
    for (name, mode, level) in [
        ("countersign.toml", 0o644, "warn"),
        ("countersign.toml", 0o666, "fail"),
        ("store.sqlite", 0o640, "warn"),
        ("tls", 0o755, "warn"),
        ("", 0o750, "warn"),
        ("", 0o777, "fail"),
    ] {
        chmod(&at(name), mode);
        mended(&home, "permissions", level, "others can reach");
    }
    for name in ["master.key", "tls/key.pem"] {
        chmod(&at(name), 0o640);
        let all = findings(&home, &[]);
        let other = if name == "master.key" { "master-key" } else { "certificate" };
        assert!(
            found(&all, other, "fail", "can be read by others")["mend"]
                .as_str()
                .unwrap()
                .starts_with("chmod 600")
        );
        mended(&home, "permissions", "fail", "others can reach");
        assert_fine(&home, other);
    }
}

#[test]
fn a_file_of_another_user_is_found() {
    let home = Home::of("orders");
    let file = home.path().join("store.sqlite");
    if std::os::unix::fs::chown(&file, Some(1), None).is_err() {
        println!("left out: only root can give files away");
        return;
    }
    mended(&home, "permissions", "fail", "belongs to user 1");
    std::os::unix::fs::chown(home.path(), Some(1), None).unwrap();
    let finding = found(&findings(&home, &[]), "user", "warn", "belongs to user 1");
    assert!(finding["mend"].as_str().unwrap().starts_with("sudo -u '#1'"), "{finding}");
}

#[test]
fn what_a_crash_left_behind_is_found_and_removed() {
    let home = Home::of("orders");
    for name in
        ["store.sqlite.0123456789abcdef0123456789abcdef.unfinished", "tls/key.pem.00.unfinished-journal"]
    {
        fs::write(home.path().join(name), "").unwrap();
        chmod(&home.path().join(name), 0o600);
        mended(&home, "leftovers", "warn", "a crash left");
    }
}

#[test]
fn a_clock_that_is_behind_what_has_happened_is_found() {
    let home = Home::of("orders");
    Serving::http(&home);
    let line = r#"{"v":1,"seq":1,"time":"2199-01-01T00:00:00.000Z","direction":"inbound","step":"token","outcome":"refused","reason":"token-invalid","requestId":"00"}"#;
    let trail = home.path().join("audit/serve.jsonl");
    fs::write(&trail, format!("{line}\n")).unwrap();
    let finding = found(&findings(&home, &[]), "clock", "fail", "the trail was last written");
    assert!(finding["mend"].as_str().unwrap().starts_with("timedatectl"), "{finding}");
    fs::remove_file(trail).unwrap();
    assert_fine(&home, "clock");
}

#[test]
fn lines_of_the_trail_that_cannot_be_read_are_counted() {
    let home = Home::of("orders");
    Serving::http(&home);
    fs::write(home.path().join("audit/serve.jsonl"), "{\"v\":1,\n").unwrap();
    found(&findings(&home, &[]), "trail", "warn", "1 lines");
}

#[test]
fn a_trail_that_somebody_touched_is_found_and_so_is_a_reserve_that_is_used_up() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    for _ in 0..3 {
        support::exchange(serving.address(), "GET", "/", &[], b"");
    }
    found(&findings(&pair.orders, &[]), "trail-chain", "ok", "4 records");
    let room = |home: &Home| {
        let findings = findings(home, &[]);
        findings.iter().find(|found| found["check"] == "trail-room").unwrap()["level"].clone()
    };
    let before = room(&pair.orders);
    let reserve = pair.orders.path().join("audit/reserve");
    fs::remove_file(reserve).unwrap();
    let finding = found(&findings(&pair.orders, &[]), "trail-room", "warn", "16 MiB that are kept for it");
    assert!(finding["mend"].as_str().unwrap().starts_with("df -h "), "{finding}");
    drop(serving);
    drop(Serving::http(&pair.orders));
    assert_eq!(room(&pair.orders), before);
    let trail = pair.orders.path().join("audit/serve.jsonl");
    let text = fs::read_to_string(&trail).unwrap();
    fs::write(&trail, text.split_inclusive('\n').take(2).collect::<String>()).unwrap();
    let finding = found(&findings(&pair.orders, &[]), "trail-chain", "fail", "record 3 is cut off");
    assert!(finding["mend"].as_str().unwrap().contains("audit verify   ("), "{finding}");
}

#[test]
fn settings_that_leave_no_room_for_refused_attempts_are_found_and_mended() {
    let home = Home::of("orders");
    home.configure("[audit]\nrotate_mib = 1\nkeep_mib = 2");
    let finding = found(&findings(&home, &["--offline"]), "trail-budget", "warn", "18 lines a day");
    let setting = finding["mend"].as_str().unwrap().split('`').nth(1).unwrap().to_owned();
    let config = home.path().join("countersign.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, text.replace("keep_mib = 2", &setting)).unwrap();
    assert_fine(&home, "trail-budget");
}

#[test]
fn a_file_of_the_trail_that_cannot_be_written_is_not_taken_out_of_its_chain() {
    let pair = Pair::new();
    // Nobody can write this one, not even root.
    fs::create_dir_all(pair.orders.path().join("audit/call.jsonl")).unwrap();
    let finding = found(&findings(&pair.orders, &["--offline"]), "trail", "fail", "nothing is accepted");
    let mend = finding["mend"].as_str().unwrap();
    assert!(mend.starts_with("chown ") && !mend.contains("mv "), "{mend}");
}

#[test]
fn a_peer_whose_clock_differs_is_found() {
    let pair = Pair::new();
    let server = Fake::new(|mut exchange: Exchange| {
        exchange.respond(401, &[("Date", "Sun, 06 Nov 1994 08:49:37 GMT")], b"");
    });
    pair.meet(&server.url, &[]);
    let all = findings(&pair.billing, &[]);
    found(&all, "peer", "ok", "orders");
    found(&all, "clock", "warn", "orders's clock is");
    // Nothing but the head was asked for, without credentials.
    let seen = server.seen();
    assert!(seen.iter().all(|seen| seen.method == "HEAD" && seen.header("x-api-key").is_none()), "{seen:?}");
    assert_eq!(seen.len(), 1);
    assert!(findings(&pair.billing, &["--offline"]).iter().all(|found| found["check"] != "peer"));
    assert_eq!(server.seen().len(), 1, "--offline leaves the network alone");
}

/// Puts a certificate with these dates and the home's own key in the place of the one that is there.
fn certify(home: &Home, years: (i32, i32)) {
    let key = KeyPair::from_pem(&fs::read_to_string(home.path().join("tls/key.pem")).unwrap()).unwrap();
    let mut params = CertificateParams::new(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    params.not_before = rcgen::date_time_ymd(years.0, 1, 1);
    params.not_after = rcgen::date_time_ymd(years.1, 1, 1);
    fs::write(home.certificate(), params.self_signed(&key).unwrap().pem()).unwrap();
}

#[test]
fn a_certificate_that_is_not_good_today_is_found_and_renewed_with_the_same_key() {
    let home = Home::of("orders");
    let pin = home.pin();
    certify(&home, (2190, 2199));
    found(&findings(&home, &[]), "certificate", "fail", "not valid yet");
    certify(&home, (1990, 2000));
    let finding = found(&findings(&home, &[]), "certificate", "fail", "expired");
    if left_out("openssl") {
        return;
    }
    mend(&home, &finding);
    assert_fine(&home, "certificate");
    assert_eq!(home.pin(), pin);
    Serving::https(&home);
}

#[test]
fn a_certificate_that_does_not_go_with_its_key_or_address_is_found() {
    let (home, other) = (Home::of("orders"), Home::of("other"));
    let key = home.path().join("tls/key.pem");
    let right = fs::read(&key).unwrap();
    fs::copy(other.path().join("tls/key.pem"), &key).unwrap();
    let finding = found(&findings(&home, &[]), "certificate", "fail", "cannot be used");
    if !left_out("openssl") {
        mend(&home, &finding);
        assert_fine(&home, "certificate");
    }
    fs::write(&key, right).unwrap();
    certify(&home, (2000, 2190));
    let config = home.path().join("countersign.toml");
    let text =
        fs::read_to_string(&config).unwrap().replace("https://127.0.0.1:8443", "https://127.0.0.2:8443");
    fs::write(config, text).unwrap();
    let finding = found(&findings(&home, &[]), "certificate", "warn", "does not name 127.0.0.2");
    if !left_out("openssl") {
        mend(&home, &finding);
        assert_fine(&home, "certificate");
    }
    fs::remove_file(&key).unwrap();
    found(&findings(&home, &[]), "certificate", "fail", "key.pem");
}

#[test]
fn a_pin_that_differs_is_named_and_with_the_named_one_the_peer_is_trusted() {
    let pair = Pair::new();
    let serving = Serving::https(&pair.orders);
    let other = format!("sha256/{}=", "A".repeat(43));
    pair.meet(serving.url(), &["--tls-pin", &other]);
    let finding = found(&findings(&pair.billing, &[]), "peer", "fail", "another key than the pinned one");
    let right = pair.orders.pin();
    assert!(finding["what"].as_str().unwrap().contains(&other), "{finding}");
    assert!(finding["mend"].as_str().unwrap().contains(&format!("--tls-pin {right}")), "{finding}");
    pair.billing.run(&["peer", "remove", "orders"]).ok();
    pair.meet(serving.url(), &["--tls-pin", &right]);
    let all = findings(&pair.billing, &[]);
    found(&all, "peer", "ok", "is trusted");
    found(&all, "clock", "ok", "orders's clock agrees");
}

#[test]
fn a_server_that_no_authority_vouches_for_and_one_that_is_not_there_are_found() {
    let pair = Pair::new();
    let serving = Serving::https(&pair.orders);
    pair.meet(serving.url(), &["--tls-ca", &pair.billing.certificate()]);
    let finding = found(&findings(&pair.billing, &[]), "peer", "fail", "is not trusted");
    assert!(finding["mend"].as_str().unwrap().contains(&pair.orders.pin()), "{finding}");
    pair.billing.run(&["peer", "remove", "orders"]).ok();
    pair.meet(serving.url(), &["--tls-ca", &pair.orders.certificate()]);
    found(&findings(&pair.billing, &[]), "peer", "ok", "is trusted");
    drop(serving);
    found(&findings(&pair.billing, &[]), "peer", "fail", "refused");
}

#[test]
fn what_is_wrong_with_the_master_key_is_told_without_stopping() {
    let home = Home::of("orders");
    let key = home.path().join("master.key");
    let right = fs::read(&key).unwrap();
    home.hide(std::str::from_utf8(&right).unwrap().trim());
    fs::remove_file(&key).unwrap();
    let all = findings(&home, &[]);
    found(&all, "master-key", "fail", "cannot be read from");
    found(&all, "database", "ok", "intact");
    found(&all, "certificate", "ok", "");
    fs::write(&key, "nonsense").unwrap();
    chmod(&key, 0o600);
    found(&findings(&home, &[]), "master-key", "fail", "does not hold a master key");
    fs::copy(Home::of("other").path().join("master.key"), &key).unwrap();
    found(&findings(&home, &[]), "master-key", "fail", "not the one this store was made with");
    fs::write(&key, right).unwrap();
    assert_fine(&home, "master-key");
}

#[test]
fn a_store_that_is_damaged_newer_or_gone_is_told_without_stopping() {
    let home = Home::of("orders");
    let file = home.path().join("store.sqlite");
    let right = fs::read(&file).unwrap();
    let with = |bytes: &[u8]| {
        fs::write(&file, bytes).unwrap();
        let all = findings(&home, &[]);
        found(&all, "certificate", "ok", "");
        all
    };
    let mut torn = right.clone();
    torn.truncate(right.len() / 2);
    let finding = found(&with(&torn), "database", "fail", "");
    assert!(finding["mend"].as_str().unwrap().contains("docs/backup.md"), "{finding}");
    found(
        &with(b"no database at all, and longer than a header of one has to be"),
        "database",
        "fail",
        "not a database",
    );
    found(&with(b""), "database", "fail", "no store");
    let mut newer = right.clone();
    newer[60..64].copy_from_slice(&1000_u32.to_be_bytes());
    found(&with(&newer), "database", "fail", "later version");
    fs::remove_file(&file).unwrap();
    found(&findings(&home, &[]), "database", "fail", "no store");
    fs::write(&file, right).unwrap();
    assert_fine(&home, "database");
}

#[test]
fn a_damaged_peer_is_named_and_removed() {
    let pair = Pair::new();
    let home = &pair.orders;
    let path = home.path().join("store.sqlite");
    let mut bytes = fs::read(&path).unwrap();
    let fingerprint =
        home.run(&["peer", "show", "billing", "--json"]).json()["credentials"][0]["fingerprint"].clone();
    let fingerprint = fingerprint.as_str().unwrap();
    let place = bytes.windows(fingerprint.len()).position(|window| window == fingerprint.as_bytes()).unwrap();
    bytes[place] = if bytes[place] == b'1' { b'2' } else { b'1' };
    fs::write(&path, bytes).unwrap();
    mended(home, "store", "fail", "billing/1 does not open");
}

#[test]
fn a_credential_that_is_due_is_named() {
    let pair = Pair::new();
    let source = Source::File(pair.orders.path().join("master.key"));
    let store = SqliteStore::open(
        &pair.orders.path().join("store.sqlite"),
        &MasterKey::load(&source, |_| None).unwrap(),
    );
    store.unwrap().set_schedule(&"billing".parse().unwrap(), Some(0)).unwrap();
    let finding = found(&findings(&pair.orders, &[]), "key-age", "warn", "due to be replaced");
    assert!(finding["mend"].as_str().unwrap().contains("billing"), "{finding}");
}

#[test]
fn settings_that_bite_are_found() {
    let home = Home::of("orders");
    let mut limited = Command::new("sh");
    let command = home.command(&["doctor", "--json"]);
    limited
        .args(["-c", "ulimit -n 256; exec \"$@\"", "sh"])
        .arg(command.get_program())
        .args(command.get_args());
    let all = read(&home.finish(limited, b""));
    found(&all, "open-files", "warn", "takes 96 connections, not 4096");
    let config = home.path().join("countersign.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(&config, format!("danger_plain_http = true\n{text}[token]\nenabled = false\n")).unwrap();
    let file = home.secret_file("key", &new_key());
    home.run(&["peer", "add", "billing", "--profile", "api-key", "--their-key-file", &file]).ok();
    found(&findings(&home, &[]), "limits", "warn", "tokens are switched off");
    mended(&home, "danger", "warn", "danger_plain_http");
    fs::write(&config, text.replace("[serve]", "[serve]\nmax_connections = 10")).unwrap();
    found(&findings(&home, &[]), "limits", "warn", "max_connections_per_source");
    fs::write(&config, text.replace("[serve]", "[serve]\nupstream = \"http://127.0.0.1:1\"")).unwrap();
    found(&findings(&home, &[]), "upstream", "warn", "cannot be reached");
}

#[test]
fn an_unproven_server_is_a_danger_that_is_named() {
    let home = Home::of("billing");
    let secret = home.secret_file("secret", &new_secret());
    let keys = ["--our-key", &new_key(), "--their-key", &new_key(), "--secret-file", &secret];
    let peer = ["peer", "add", "orders", "--profile", "shared-secret", "--danger-unproven-server"];
    home.run(&[&peer[..], &keys].concat()).ok();
    found(&findings(&home, &[]), "danger", "warn", "does not prove itself");
}
