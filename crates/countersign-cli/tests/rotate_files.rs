//! The file with the keys of a rotation: where it goes, what is refused, and what a full disk or a kill leaves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use support::life::{exported, fingerprint, hide, known, rotate, states, take, value};
use support::{Home, countersign, finish, new_key, new_secret};

#[test]
fn a_damaged_or_foreign_file_is_refused_and_changes_nothing() {
    let (orders, billing) = known("shared-secret");
    let file = rotate(&orders, "billing", &[], &billing);
    let text = fs::read_to_string(&file).unwrap();
    let from = |text: &[u8]| {
        let given = billing.file("given", 0o600, text);
        billing.run(&["rotate", "orders", "--from", &given])
    };
    let lines: Vec<_> = text.lines().collect();
    for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
        // Cut off before this line, without it, and with its last character changed.
        from(lines[..index].join("\n").as_bytes()).refused(1, &["the other side's keys"]);
        from(text.replace(line, "").as_bytes()).refused(1, &["the other side's keys"]);
        // Names and number are for people.
        if !line.starts_with("MADE_") && !line.starts_with("CREDENTIAL") {
            let last = if line.ends_with('1') { "2" } else { "1" };
            from(text.replace(line, &format!("{}{last}", &line[..line.len() - 1])).as_bytes())
                .refused(1, &[]);
        }
    }
    from(b"").refused(1, &["not what `countersign rotate` writes"]);
    from(b"API_KEY=csk_x\nSECRET=css_x\n").refused(1, &["not what `countersign rotate` writes"]);
    from(b"\xff\xfe").refused(1, &["not text"]);
    from("#".repeat(5000).as_bytes()).refused(1, &["longer than 4096"]);
    assert_eq!(states(&billing, "orders"), ["orders/1 current"]);

    // Of another pair, and of another profile.
    let (stranger, _) = known("shared-secret");
    let foreign = rotate(&stranger, "billing", &[], &billing);
    let refused = ["do not follow those that orders has here", "compare fingerprints"];
    from(&fs::read(foreign).unwrap()).refused(1, &refused);
    for profile in ["api-key", "cs1"] {
        let (stranger, _) = known(profile);
        let other = rotate(&stranger, "billing", &[], &billing);
        from(&fs::read(other).unwrap()).refused(1, &["profile shared-secret"]);
    }
    assert_eq!(states(&billing, "orders"), ["orders/1 current"]);
    take(&billing, "orders", &file, &[]);
}

/// Keys that somebody made who has the first credential of the pair, and the fingerprint of these keys.
fn stolen(orders: &Home, billing: &Home) -> (String, String) {
    let file = rotate(orders, "billing", &[], billing);
    let stolen = billing.file("stolen", 0o600, &fs::read(&file).unwrap());
    let fingerprint = value(&file, "FINGERPRINT");
    orders.run(&["rotate", "billing", "--abandon"]).ok();
    (stolen, fingerprint)
}

#[test]
fn keys_that_follow_what_has_been_replaced_are_refused() {
    let (orders, billing) = known("shared-secret");
    let (stolen, fingerprint) = stolen(&orders, &billing);
    let file = rotate(&orders, "billing", &[], &billing);
    take(&billing, "orders", &file, &["--fingerprint", &value(&file, "FINGERPRINT")]);
    billing.run(&["rotate", "orders", "--finish"]).ok();
    // Not even if somebody reads out the digits: what lives says who may follow.
    for more in [&[][..], &["--fingerprint", &fingerprint]] {
        let refused = billing.run(&[&["rotate", "orders", "--from", &stolen][..], more].concat());
        refused.refused(1, &["do not follow those", "Nothing was changed"]);
    }
    billing.run(&["revoke", "orders", "--credential", "1", "--compromised"]).ok();
    billing.run(&["rotate", "orders", "--from", &stolen]).refused(1, &["do not follow those"]);
    assert_eq!(states(&billing, "orders"), ["orders/2 current"]);
}

#[test]
fn after_a_revocation_keys_are_taken_in_when_their_fingerprint_was_read_out() {
    for how in [&["--compromised"][..], &[]] {
        let (orders, billing) = known("shared-secret");
        let (stolen, stolen_digits) = stolen(&orders, &billing);
        for (home, name) in [(&orders, "billing"), (&billing, "orders")] {
            home.run(&[&["revoke", name][..], how].concat()).ok();
        }
        let refused = billing.run(&["rotate", "orders", "--from", &stolen]);
        refused.refused(1, &["read out the fingerprint", "--fingerprint", "Nothing was changed"]);
        assert!(!refused.stderr.contains(&stolen_digits[..11]), "nobody is to copy it from there");
        let made = orders.run(&["rotate", "billing"]).ok();
        let file = orders.path().join("exchange/billing.3.keys");
        hide(&orders, &fs::read_to_string(&file).unwrap());
        hide(&billing, &fs::read_to_string(&file).unwrap());
        assert!(made.contains("--fingerprint") && made.contains("not on the channel"), "{made}");
        // As the maker's operator reads it.
        let digits = made.lines().find_map(|line| line.strip_prefix("fingerprint ")).unwrap();
        let from = |file: &str, digits: &str| {
            billing.run(&["rotate", "orders", "--from", file, "--fingerprint", digits])
        };
        from(&stolen, digits).refused(1, &["not that of these keys", "Nothing was changed"]);
        assert_eq!(from(&stolen, "12345").code, 2);
        let path = file.to_str().unwrap();
        from(path, &stolen_digits).refused(1, &["not that of these keys"]);
        from(path, &digits.replace(' ', "")).ok();
        assert_eq!(states(&billing, "orders"), ["orders/2 current"]);
    }
}

#[test]
fn keys_of_another_peer_are_told_as_such() {
    let (orders, billing) = known("shared-secret");
    let file = rotate(&orders, "billing", &[], &billing);
    let (ours, theirs, secret) = (new_key(), new_key(), billing.secret_file("third", &new_secret()));
    let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &secret];
    billing.run(&[&["peer", "add", "third", "--profile", "shared-secret"][..], &keys].concat()).ok();
    billing.run(&["rotate", "third", "--from", file.to_str().unwrap()]).refused(1, &["they are for orders"]);
}

#[test]
fn keys_come_in_from_standard_input_and_the_environment_and_never_from_what_others_can_read() {
    let (orders, billing) = known("shared-secret");
    let file = rotate(&orders, "billing", &[], &billing);
    let text = fs::read_to_string(&file).unwrap();
    for mode in [0o644, 0o640, 0o604] {
        let open = billing.file("open", mode, text.as_bytes());
        billing
            .run(&["rotate", "orders", "--from", &open])
            .refused(1, &["can be read by others", "chmod 600"]);
    }
    let missing = billing.beside("missing");
    billing.run(&["rotate", "orders", "--from", missing.to_str().unwrap()]).refused(1, &["No such file"]);
    billing.run(&["rotate", "orders", "--from", "env:NOT_THERE"]).refused(1, &["NOT_THERE"]);
    billing.run_with(&["rotate", "orders", "--from", "-"], text.as_bytes()).ok();
    billing.run(&["rotate", "orders", "--abandon"]).ok();
    orders.run(&["rotate", "billing", "--abandon"]).ok();
    let text = fs::read_to_string(rotate(&orders, "billing", &[], &billing)).unwrap();
    let mut command = billing.command(&["rotate", "orders", "--from", "env:KEYS"]);
    command.env("KEYS", text.replace('\n', "\r\n"));
    billing.finish(command, b"").ok();
}

#[test]
fn a_file_is_written_where_it_is_wanted_and_never_over_another() {
    let (orders, billing) = known("shared-secret");
    let there = orders.file("there", 0o644, b"before");
    orders
        .run(&["rotate", "billing", "--out", &there])
        .refused(1, &["is there already", "Nothing was changed"]);
    assert_eq!(fs::read(&there).unwrap(), b"before");
    let nowhere = orders.beside("no/such/directory");
    orders
        .run(&["rotate", "billing", "--out", nowhere.to_str().unwrap()])
        .refused(1, &["nothing was changed"]);
    assert_eq!(states(&orders, "billing"), ["billing/1 current"]);
    let out = orders.beside("out");
    let file = rotate(&orders, "billing", &["--out", out.to_str().unwrap()], &billing);
    assert_eq!((file.metadata().unwrap().permissions().mode() & 0o7777, exported(&orders).len()), (0o600, 0));
    take(&billing, "orders", &file, &[]);
}

#[test]
fn on_standard_output_are_the_keys_and_nothing_else() {
    let (orders, billing) = known("api-key");
    let mut command = countersign();
    command.arg("--home").arg(orders.path()).args(["rotate", "billing", "--out", "-"]);
    let done = finish(command, b"");
    assert_eq!(done.code, 0);
    hide(&orders, &done.stdout);
    assert!(done.stderr.contains("billing/2 is the next credential") && !done.stderr.contains("csk_"));
    billing.run_with(&["rotate", "orders", "--from", "-"], done.stdout.as_bytes()).ok();
    assert!(exported(&orders).is_empty());
}

#[test]
fn keys_that_cannot_be_printed_are_not_put_to_use() {
    let (orders, _) = known("shared-secret");
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = orders.command(&["rotate", "billing", "--out", "-"]);
    let output = child.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(1));
    assert!(said.contains("No space left") && said.contains("called off"), "{said}");
    let records = orders.records();
    let reasons: Vec<_> = records.iter().skip(1).map(|record| record["reason"].as_str().unwrap()).collect();
    assert_eq!(reasons, ["rotation-started", "rotation-abandoned"]);
    assert_eq!(states(&orders, "billing"), ["billing/1 current"]);
}

#[test]
fn a_full_disk_leaves_no_half_rotation() {
    let (orders, billing) = known("shared-secret");
    let mut failed = 0;
    // From nothing at all up to enough.
    for blocks in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048] {
        let program = orders.command(&["rotate", "billing"]);
        let mut limited = std::process::Command::new("bash");
        limited.args(["-c", "trap '' XFSZ; ulimit -f $0 && exec \"$@\"", &blocks.to_string()]);
        limited.arg(program.get_program()).args(program.get_args()).env("HOME", "/nonexistent");
        let done = orders.finish(limited, b"");
        let began = states(&orders, "billing").len() == 2;
        assert_eq!(began, exported(&orders).len() == 1, "{blocks}: {done:?}");
        if began {
            assert!(done.stdout.contains("next credential"), "{blocks}: {done:?}");
            break;
        }
        assert_eq!(done.code, 1, "{blocks}: {done:?}");
        failed += 1;
    }
    assert!(failed > 0, "it never ran out of space");
    let file = orders.path().join("exchange/billing.2.keys");
    hide(&orders, &fs::read_to_string(&file).unwrap());
    take(&billing, "orders", &file, &[]);
    assert_eq!(fingerprint(&orders, "billing", 1), fingerprint(&billing, "orders", 1));
}

/// The state that `kill -9` leaves between the file and the store.
fn killed_in_between(orders: &Home, billing: &Home) -> std::path::PathBuf {
    let store = orders.path().join("store.sqlite");
    let before = fs::read(&store).unwrap();
    let file = rotate(orders, "billing", &[], billing);
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(orders.path().join(format!("store.sqlite{end}")));
    }
    fs::write(&store, before).unwrap();
    assert_eq!(states(orders, "billing"), ["billing/1 current"]);
    assert!(file.exists());
    file
}

#[test]
fn a_run_that_was_killed_is_completed_with_the_keys_that_it_wrote() {
    for profile in ["cs1", "shared-secret", "api-key"] {
        let (orders, billing) = known(profile);
        let file = killed_in_between(&orders, &billing);
        let text = fs::read_to_string(&file).unwrap();
        let doctor = orders.run(&["doctor", "--offline"]).ok();
        assert!(doctor.contains("an interrupted `rotate` left them"), "{doctor}");
        let again = ["rotate", "billing", "--by-hand"];
        let said = orders.run(&again).ok();
        assert!(said.contains("An interrupted run had written its keys already"), "{said}");
        assert_eq!(fs::read_to_string(&file).unwrap(), text);
        take(&billing, "orders", &file, &[]);
        assert_eq!(fingerprint(&orders, "billing", 1), fingerprint(&billing, "orders", 1));
    }
}

#[test]
fn what_is_left_of_another_command_is_in_the_way() {
    let (orders, billing) = known("shared-secret");
    let file = killed_in_between(&orders, &billing);
    let text = fs::read_to_string(&file).unwrap();
    let refused = || {
        let said = ["is in the way", "rm ", "Nothing was changed"];
        orders.run(&["rotate", "billing", "--keep-api-keys"]).refused(1, &said);
        assert_eq!(states(&orders, "billing"), ["billing/1 current"]);
    };
    refused();
    for wrong in ["", "something else", &text.replace("MADE_FOR=billing", "MADE_FOR=other")] {
        fs::write(&file, wrong).unwrap();
        orders.run(&["rotate", "billing"]).refused(1, &["is in the way"]);
    }
    fs::remove_file(&file).unwrap();
    rotate(&orders, "billing", &["--keep-api-keys"], &billing);
}

#[test]
fn an_exchange_directory_that_others_reach_is_not_used() {
    let (orders, _) = known("shared-secret");
    let directory = orders.path().join("exchange");
    fs::create_dir(&directory).unwrap();
    fs::set_permissions(&directory, fs::Permissions::from_mode(0o755)).unwrap();
    orders.run(&["rotate", "billing"]).refused(1, &["others can reach", "chmod 700"]);
    assert_eq!(states(&orders, "billing"), ["billing/1 current"]);
}

#[test]
fn with_a_peer_its_exported_keys_go() {
    let (orders, billing) = known("shared-secret");
    rotate(&orders, "billing", &[], &billing);
    // Of a peer with a longer name.
    let others = orders.path().join("exchange/billing-eu.2.keys");
    fs::write(&others, "").unwrap();
    fs::set_permissions(&others, fs::Permissions::from_mode(0o600)).unwrap();
    let said = orders.run(&["peer", "remove", "billing"]).ok();
    assert!(said.contains("removed") && said.contains("exchange/billing.2.keys"), "{said}");
    assert_eq!(exported(&orders), ["billing-eu.2.keys"]);
}
