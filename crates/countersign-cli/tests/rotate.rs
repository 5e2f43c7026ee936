//! `rotate`: what it makes, what it takes in, what it refuses, and what a crash or a full disk leaves.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::process::Stdio;

use support::life::{exported, fingerprint, hide, known, rotate, states, take, value};
use support::{ApiKeyPair, Home, Pair, Serving, eventually, new_key, new_secret};

const NOWHERE: &str = "https://orders.example";

#[test]
fn the_file_is_private_and_both_sides_see_the_same_fingerprint() {
    for profile in ["cs1", "shared-secret", "api-key"] {
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

    for profile in ["cs1", "shared-secret"] {
        let (orders, billing) = known(profile);
        let text = fs::read_to_string(rotate(&orders, "billing", &[], &billing)).unwrap();
        assert!(text.contains("\nSECRET=css_") && !text.contains("MAKER_SECRET"), "one secret, as before");
    }

    let orders = Home::of("orders");
    let files = [orders.secret_file("a", &new_secret()), orders.secret_file("b", &new_secret())];
    let keys = ["--our-key", &new_key(), "--their-key", &new_key()];
    let secrets = ["--our-secret-file", &files[0], "--their-secret-file", &files[1]];
    orders
        .run(&[&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys, &secrets].concat())
        .ok();
    let text = fs::read_to_string(rotate(&orders, "billing", &[], &orders)).unwrap();
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

    let (orders, billing) = known("cs1");
    let before = orders.run(&["peer", "show", "billing", "--json"]).json();
    let file = rotate(&orders, "billing", &["--keep-api-keys"], &billing);
    assert_eq!(value(&file, "PROFILE"), "cs1");
    assert_eq!(value(&file, "TAKER_API_KEY"), before["credentials"][0]["theirKey"]);
    take(&billing, "orders", &file, &[]);

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
fn under_cs1_one_secret_is_given() {
    let (orders, billing) = known("cs1");
    let next = new_secret();
    for (home, name) in [(&orders, "billing"), (&billing, "orders")] {
        let file = home.secret_file("next", &next);
        let one_each = ["--our-secret-file", &file, "--their-secret-file", &file];
        home.run(&[&["rotate", name, "--keep-api-keys"][..], &one_each].concat())
            .refused(2, &["one secret for both directions"]);
        home.run(&["rotate", name, "--keep-api-keys", "--secret-file", &file]).ok();
    }
    assert_eq!(fingerprint(&orders, "billing", 1), fingerprint(&billing, "orders", 1));
    let shown = orders.run(&["peer", "show", "billing", "--json"]).json();
    assert_eq!(shown["credentials"][0]["ourKey"], shown["credentials"][1]["ourKey"]);
    assert_ne!(fingerprint(&orders, "billing", 0), fingerprint(&orders, "billing", 1));
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
    rotate(&pair.orders, "billing", &["--deadline", "6s"], &pair.billing);
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
