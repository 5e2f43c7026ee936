//! `rotate`: what it makes, what it takes in, what it refuses, and what a crash or a full disk leaves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use support::life::{hide, meet, rotate, states, status, take, value};
use support::{ApiKeyPair, Home, Pair, Serving, countersign, eventually, finish, new_key, new_secret};

const NOWHERE: &str = "https://orders.example";

/// Two services that know each other; nobody serves.
fn known(profile: &str) -> (Home, Home) {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    meet((&orders, NOWHERE), (&billing, "https://billing.example"), profile);
    (orders, billing)
}

fn exported(home: &Home) -> Vec<String> {
    let entries = fs::read_dir(home.path().join("exchange")).into_iter().flatten();
    let mut names: Vec<_> = entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
    names.sort();
    names
}

fn fingerprint(home: &Home, peer: &str, number: usize) -> String {
    let peer = status(home, peer);
    peer["credentials"][number]["fingerprint"].as_str().unwrap().to_owned()
}

#[test]
fn the_file_is_private_and_both_sides_see_the_same_fingerprint() {
    for profile in ["shared-secret", "api-key"] {
        let (orders, billing) = known(profile);
        let file = rotate(&orders, "billing", &[], &billing);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!(file.parent().unwrap().metadata().unwrap().permissions().mode() & 0o7777, 0o700);
        assert_eq!(exported(&orders), ["billing.2.keys"]);
        assert_eq!((value(&file, "MADE_BY"), value(&file, "MADE_FOR")), ("orders".into(), "billing".into()));
        assert_eq!(states(&orders, "billing"), ["billing/1 old", "billing/2 next"]);
        take(&billing, "orders", &file, &[]);
        for number in 0..2 {
            let digits = fingerprint(&orders, "billing", number);
            assert_eq!(digits, fingerprint(&billing, "orders", number));
        }
        let dashed = fingerprint(&orders, "billing", 1).replace(' ', "-");
        assert_eq!(value(&file, "FINGERPRINT"), dashed);
    }
}

#[test]
fn only_what_a_pair_has_is_made_anew() {
    let pair = ApiKeyPair::new();
    pair.meet(NOWHERE, &[]);
    let file = rotate(&pair.orders, "billing", &[], &pair.billing);
    let text = fs::read_to_string(&file).unwrap();
    assert!(text.contains("TAKER_API_KEY=csk_") && !text.contains("MAKER_API_KEY"), "billing calls, only");
    take(&pair.billing, "orders", &file, &[]);

    let (orders, billing) = known("shared-secret");
    let text = fs::read_to_string(rotate(&orders, "billing", &[], &billing)).unwrap();
    assert!(text.contains("\nSECRET=css_") && !text.contains("MAKER_SECRET"), "one secret, as before");

    let orders = Home::of("orders");
    let files = [orders.secret_file("a", &new_secret()), orders.secret_file("b", &new_secret())];
    let keys = ["--our-key", &new_key(), "--their-key", &new_key()];
    let secrets = ["--our-secret-file", &files[0], "--their-secret-file", &files[1]];
    orders
        .run(&[&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys, &secrets].concat())
        .ok();
    let text = fs::read_to_string(rotate(&orders, "billing", &[], &billing)).unwrap();
    assert!(
        text.contains("\nMAKER_SECRET=css_") && text.contains("\nTAKER_SECRET=css_"),
        "one each, as before"
    );
}

#[test]
fn api_keys_stay_if_they_are_to() {
    let pair = Pair::new();
    pair.meet(NOWHERE, &[]);
    let file = rotate(&pair.orders, "billing", &["--keep-api-keys"], &pair.billing);
    assert_eq!(value(&file, "MAKER_API_KEY"), pair.orders_key);
    assert_eq!(value(&file, "TAKER_API_KEY"), pair.billing_key);
    assert_ne!(value(&file, "SECRET"), pair.secret);
    take(&pair.billing, "orders", &file, &[]);
    pair.orders.run(&["rotate", "billing", "--abandon"]).ok();
    let shown = pair.orders.run(&["peer", "show", "billing", "--json"]).json();
    assert_eq!(shown["credentials"][0]["theirKey"], pair.billing_key);

    let (orders, _) = known("api-key");
    orders.run(&["rotate", "billing", "--keep-api-keys"]).refused(2, &["the key is the secret"]);
    pair.orders.run(&["revoke", "billing"]).ok();
    pair.orders.run(&["rotate", "billing", "--keep-api-keys"]).refused(2, &["do not come back"]);
}

#[test]
fn in_a_wrong_order_each_step_says_what_to_do() {
    let (orders, billing) = known("shared-secret");
    for step in ["--finish", "--abandon"] {
        orders.run(&["rotate", "billing", step]).refused(1, &["no rotation of billing is open"]);
    }
    assert!(orders.run(&["rotate", "billing", "--check"]).ok().contains("no rotation of billing is open"));
    let file = rotate(&orders, "billing", &[], &billing);
    let path = file.to_str().unwrap();
    orders.run(&["rotate", "billing"]).refused(1, &["is open", path, "--check", "--abandon"]);
    orders.run(&["rotate", "billing", "--finish"]).refused(1, &["has not used", "--danger-unconfirmed"]);
    orders.run(&["rotate", "billing", "--from", path]).refused(1, &["this side made them", "other side"]);
    let check = orders.run(&["rotate", "billing", "--check"]);
    assert_eq!(check.code, 1);
    assert!(check.stdout.contains("has not used billing/2 yet") && check.stderr.contains("still waiting"));
    let check = orders.run(&["rotate", "billing", "--check", "--json"]);
    assert_eq!(check.code, 1);
    let check: serde_json::Value = serde_json::from_str(&check.stdout).unwrap();
    assert_eq!((&check["waiting"], &check["rotation"]["state"]), (&true.into(), &"waiting".into()));

    take(&billing, "orders", &file, &[]);
    billing.run(&["rotate", "orders", "--from", path]).refused(1, &["taken in before"]);
    billing.run(&["rotate", "orders"]).refused(1, &["is open", "--finish"]);
    assert!(billing.run(&["rotate", "orders", "--check"]).ok().contains("orders has orders/2"));
    billing.run(&["rotate", "orders", "--finish"]).ok();
    billing.run(&["rotate", "orders", "--abandon"]).refused(1, &["no rotation"]);
}

#[test]
fn a_rotation_is_called_off_on_both_sides_and_its_keys_do_not_come_back() {
    let (orders, billing) = known("api-key");
    let file = rotate(&orders, "billing", &[], &billing);
    let copy = billing.file("copy", 0o600, &fs::read(&file).unwrap());
    take(&billing, "orders", &file, &[]);
    let said = orders.run(&["rotate", "billing", "--abandon"]).ok();
    assert!(said.contains("removed") && said.contains("rotate NAME --abandon"), "{said}");
    assert!(!file.exists());
    billing.run(&["rotate", "orders", "--abandon"]).ok();
    assert_eq!(states(&orders, "billing"), ["billing/1 current"]);
    assert_eq!(states(&billing, "orders"), ["orders/1 current"]);
    billing.run(&["rotate", "orders", "--from", &copy]).refused(1, &["abandoned", "does not come back"]);
    let file = rotate(&orders, "billing", &[], &billing);
    assert!(file.ends_with("billing.3.keys"), "numbers are not used again");
    take(&billing, "orders", &file, &[]);
}

#[test]
fn what_is_in_use_is_not_called_off() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let file = rotate(&pair.orders, "billing", &[], &pair.billing);
    take(&pair.billing, "orders", &file, &[]);
    let call = format!("{}/", serving.url());
    pair.billing.run(&["call", &call]).ok();
    eventually("its use is known", || pair.orders.run(&["rotate", "billing", "--check"]).code == 0);
    for (home, name) in [(&pair.orders, "billing"), (&pair.billing, "orders")] {
        home.run(&["rotate", name, "--abandon"]).refused(1, &["in use already", "--finish", "revoke"]);
    }
}

#[test]
fn when_both_sides_have_made_keys_one_of_them_has_to_give_way() {
    let (orders, billing) = known("shared-secret");
    let ours = rotate(&orders, "billing", &[], &billing);
    rotate(&billing, "orders", &[], &orders);
    let path = ours.to_str().unwrap();
    billing.run(&["rotate", "orders", "--from", path]).refused(1, &["both sides", "--abandon"]);
    billing.run(&["rotate", "orders", "--abandon"]).ok();
    take(&billing, "orders", &ours, &[]);
    assert_eq!(states(&billing, "orders"), ["orders/1 old", "orders/3 next"]);
}

#[test]
fn of_racing_rotations_one_begins_and_its_file_has_the_keys_in_use() {
    let (orders, billing) = known("api-key");
    let racers: Vec<_> = (0..6)
        .map(|_| {
            let mut command = orders.command(&["rotate", "billing"]);
            command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap()
        })
        .collect();
    let mut won = 0;
    for racer in racers {
        let output = racer.wait_with_output().unwrap();
        let said = String::from_utf8(output.stderr).unwrap();
        match output.status.code() {
            Some(0) => won += 1,
            _ => assert!(said.contains("a rotation of billing is open"), "{said}"),
        }
    }
    assert_eq!(won, 1);
    assert_eq!(exported(&orders), ["billing.2.keys"]);
    let file = orders.path().join("exchange/billing.2.keys");
    hide(&orders, &fs::read_to_string(&file).unwrap());
    take(&billing, "orders", &file, &[]);
    assert_eq!(fingerprint(&orders, "billing", 1), fingerprint(&billing, "orders", 1));
}

#[test]
fn nobody_and_this_service_itself_have_no_rotation() {
    let (orders, _) = known("shared-secret");
    for name in ["nobody", "orders"] {
        for rest in [&[][..], &["--check"], &["--finish"], &["--abandon"], &["--from", "/nonexistent"]] {
            orders.run(&[&["rotate", name][..], rest].concat()).refused(1, &["there is no peer named"]);
        }
    }
    orders.run(&["rotate", "../x"]).refused(2, &["a-z"]);
    Home::empty().run(&["rotate", "billing"]).refused(1, &["countersign init"]);
}

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
    let refused = ["do not follow any that orders has here", "compare fingerprints"];
    from(&fs::read(foreign).unwrap()).refused(1, &refused);
    let (stranger, _) = known("api-key");
    let other = rotate(&stranger, "billing", &[], &billing);
    from(&fs::read(other).unwrap()).refused(1, &["profile shared-secret"]);
    assert_eq!(states(&billing, "orders"), ["orders/1 current"]);
    take(&billing, "orders", &file, &[]);
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
    for profile in ["shared-secret", "api-key"] {
        let (orders, billing) = known(profile);
        let file = killed_in_between(&orders, &billing);
        let text = fs::read_to_string(&file).unwrap();
        let doctor = orders.run(&["doctor", "--offline"]).ok();
        assert!(doctor.contains("an interrupted `rotate` left them"), "{doctor}");
        let said = orders.run(&["rotate", "billing"]).ok();
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
fn keys_that_were_agreed_with_a_stranger_are_given() {
    let mut pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let secret = new_secret();
    let file = pair.orders.secret_file("next", &secret);
    let rotate = |keys: &[&str]| pair.orders.run(&[&["rotate", "billing"][..], keys].concat());
    rotate(&["--secret-file", &file]).refused(2, &["--our-key and --their-key"]);
    rotate(&["--our-key-file", &file]).refused(2, &["profile api-key"]);
    rotate(&["--secret-file", "/nonexistent", "--keep-api-keys"]).refused(1, &["No such file"]);
    let old = pair.orders.file("old", 0o600, pair.secret.as_bytes());
    rotate(&["--keep-api-keys", "--secret-file", &old]).refused(1, &["earlier credential", "needs new ones"]);
    rotate(&["--our-key", &pair.billing_key, "--their-key", &pair.orders_key, "--secret-file", &file])
        .refused(1, &["earlier credential"]);
    assert_eq!(states(&pair.orders, "billing"), ["billing/1 current"]);

    let said = rotate(&["--keep-api-keys", "--secret-file", &file]).ok();
    assert!(said.contains("The other side needs the same keys"), "{said}");
    assert!(exported(&pair.orders).is_empty(), "whoever gave them has them");
    rotate(&["--keep-api-keys", "--secret-file", &file]).refused(1, &["is open"]);
    assert_eq!(pair.get(serving.address(), "/").status, 200, "the old secret");
    pair.secret = secret;
    eventually("the new secret is taken over", || {
        pair.answer(serving.address(), &pair.challenge(serving.address())).status == 200
    });
    eventually("its use is known", || pair.orders.run(&["rotate", "billing", "--check"]).code == 0);
}

#[test]
fn given_keys_are_for_the_same_directions_and_belong_to_nobody_else() {
    let pair = ApiKeyPair::new();
    let (next, other) = (new_key(), new_key());
    let file = pair.orders.secret_file("next", &next);
    pair.orders.run(&["rotate", "billing", "--our-key-file", &file]).refused(2, &["other directions"]);
    let others = pair.orders.secret_file("other", &other);
    pair.orders.run(&["peer", "add", "third", "--profile", "api-key", "--their-key-file", &others]).ok();
    pair.orders.run(&["rotate", "billing", "--their-key-file", &others]).refused(1, &["the peer `third`"]);
    pair.orders.run(&["rotate", "billing", "--their-key-file", &file]).ok();
    assert_eq!(states(&pair.orders, "billing"), ["billing/1 old", "billing/2 next"]);
}

#[test]
fn a_deadline_shuts_out_who_has_not_changed_over() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    rotate(&pair.orders, "billing", &["--deadline", "2s"], &pair.billing);
    assert_eq!(pair.get(serving.address(), "/").status, 200);
    eventually("the old one is over", || states(&pair.orders, "billing") == ["billing/2 current"]);
    let knock = || {
        let body = serde_json::json!({"apiKey": pair.billing_key});
        support::raw::post(serving.address(), "/authenticate", &[], &body).status
    };
    eventually("it is refused", || knock() == 401);
    let check = pair.orders.run(&["rotate", "billing", "--check"]);
    assert_eq!(check.code, 1);
    assert!(check.stdout.contains("no other one is accepted"), "{check:?}");
}

#[test]
fn a_rotation_that_is_wrongly_asked_for_is_a_usage_error() {
    let (orders, _) = known("shared-secret");
    for (options, said) in [
        (&["--check", "--finish"][..], "cannot be used with"),
        (&["--finish", "--abandon"], "cannot be used with"),
        (&["--check", "--grace", "1d"], "cannot be used with"),
        (&["--abandon", "--out", "x"], "cannot be used with"),
        (&["--finish", "--secret-file", "x"], "cannot be used with"),
        (&["--from", "x", "--out", "y"], "cannot be used with"),
        (&["--from", "x", "--secret-file", "y"], "cannot be used with"),
        (&["--from", "x", "--keep-api-keys"], "cannot be used with"),
        (&["--out", "x", "--secret-file", "y"], "cannot be used with"),
        (&["--keep-api-keys", "--our-key", "0123456789abcdef"], "cannot be used with"),
        (&["--json"], "--check"),
        (&["--danger-unconfirmed"], "--finish"),
        (&["--grace", "7"], "a whole number and a unit"),
        (&["--deadline", "0s"], "countersign revoke"),
        (&["--grace", "2d", "--deadline", "1d"], "within the grace period"),
    ] {
        orders.run(&[&["rotate", "billing"][..], options].concat()).refused(2, &[said]);
    }
    assert_eq!(states(&orders, "billing"), ["billing/1 current"]);
}

#[test]
fn peers_that_are_declared_are_changed_where_they_are_declared() {
    let home = Home::of("orders");
    let file = home.secret_file("secret", &new_secret());
    let (ours, theirs) = (new_key(), new_key());
    home.configure(&format!(
        "[secrets]\nfrom = \"config\"\n\n[[peer]]\nname = \"billing\"\nprofile = \"shared-secret\"\n\
         our_key = \"{ours}\"\ntheir_key = \"{theirs}\"\nsecret = \"file:{file}\"\n"
    ));
    for options in [&[][..], &["--finish"], &["--abandon"], &["--from", &file]] {
        let said = ["declared in", "next_secret", "docs/secrets.md"];
        home.run(&[&["rotate", "billing"][..], options].concat()).refused(1, &said);
    }
    home.run(&["revoke", "billing"]).refused(1, &["declared in", "take its file away"]);
    home.run(&["peer", "schedule", "billing", "--every", "1d"]).refused(1, &["rotate_every_days"]);
    assert!(home.run(&["status"]).ok().contains("are changed in countersign.toml"));
    assert!(home.run(&["rotate", "billing", "--check"]).ok().contains("no rotation of billing is open"));
    assert!(!home.path().join("exchange").exists());
}

#[test]
fn each_step_is_on_the_trail_with_who_took_it() {
    let (orders, billing) = known("shared-secret");
    let file = rotate(&orders, "billing", &["--grace", "36h", "--deadline", "30d"], &billing);
    take(&billing, "orders", &file, &[]);
    orders.run(&["rotate", "billing", "--abandon"]).ok();
    billing.run(&["rotate", "orders", "--finish"]).ok();
    let steps = |home: &Home| {
        let records = home.records().into_iter().filter(|record| record["step"] == "rotate");
        let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
        let steps = records.map(|record| {
            assert_eq!((&record["direction"], &record["outcome"]), (&"local".into(), &"changed".into()));
            assert_eq!(record["profile"], "shared-secret");
            format!("{} {} {}", text(&record["reason"]), text(&record["credential"]), text(&record["detail"]))
        });
        steps.collect::<Vec<_>>()
    };
    let me = format!(
        "by user {}",
        fs::metadata(orders.path()).map(|home| std::os::unix::fs::MetadataExt::uid(&home)).unwrap()
    );
    assert_eq!(
        steps(&orders),
        [
            format!("rotation-started billing/2 its keys were made here; grace 36h, deadline 30d; {me}"),
            format!("rotation-abandoned billing/2 {me}")
        ]
    );
    assert_eq!(
        steps(&billing),
        [
            format!(
                "rotation-taken orders/2 orders made its keys, as its billing/2; grace 7d, deadline none; {me}"
            ),
            format!("rotation-finished orders/1 its successor is in use; {me}")
        ]
    );
}
