//! `peer add`, `list`, `show`, `remove`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use support::{ApiKeyPair, Done, Home, Pair, new_key, new_secret};

/// `peer add NAME --profile shared-secret` with these keys and this source of the secret.
fn add(home: &Home, name: &str, ours: &str, theirs: &str, source: &str, input: &[u8]) -> Done {
    let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", source];
    home.run_with(&[&["peer", "add", name, "--profile", "shared-secret"][..], &keys].concat(), input)
}

fn peers(home: &Home) -> Vec<String> {
    let list = home.run(&["peer", "list", "--json"]).json();
    list.as_array().unwrap().iter().map(|peer| peer["name"].as_str().unwrap().to_owned()).collect()
}

fn fingerprint(home: &Home, peer: &str) -> String {
    let shown = home.run(&["peer", "show", peer, "--json"]).json();
    let fingerprint = shown["credentials"][0]["fingerprint"].as_str().unwrap().to_owned();
    assert!(home.run(&["peer", "show", peer]).ok().contains(&fingerprint));
    assert!(home.run(&["status"]).ok().contains(&fingerprint));
    fingerprint
}

#[test]
fn a_secret_comes_from_a_file_standard_input_or_the_environment_without_its_line_end() {
    let home = Home::of("orders");
    let mut fingerprints = Vec::new();
    let (ours, theirs, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    for (end, source) in
        [("", "file"), ("\n", "file"), ("\r\n", "file"), ("\r\n", "-"), ("\n", "env"), ("", "-")]
    {
        let text = format!("{secret}{end}");
        let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file"];
        let mut command = home.command(&["peer", "add", "billing", "--profile", "shared-secret"]);
        command.args(keys);
        let done = match source {
            "file" => home.finish(
                {
                    command.arg(home.file("secret", 0o600, text.as_bytes()));
                    command
                },
                b"",
            ),
            "env" => home.finish(
                {
                    command.arg("env:THE_SECRET").env("THE_SECRET", &text);
                    command
                },
                b"",
            ),
            _ => home.finish(
                {
                    command.arg("-");
                    command
                },
                text.as_bytes(),
            ),
        };
        assert!(done.ok().contains("fingerprint"), "{source} {end:?}");
        fingerprints.push(fingerprint(&home, "billing"));
        home.run(&["peer", "remove", "billing"]).ok();
    }
    fingerprints.dedup();
    assert_eq!(fingerprints.len(), 1, "the same secret each time");
}

#[test]
fn only_one_line_end_is_taken_off() {
    let home = Home::of("orders");
    let (ours, theirs, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    add(&home, "billing", &ours, &theirs, "-", format!("{secret}\n\n").as_bytes()).refused(1, &["secret"]);
    add(&home, "billing", &ours, &theirs, "-", format!("{secret} \n").as_bytes()).refused(1, &["secret"]);
}

#[test]
fn both_sides_see_the_same_fingerprint() {
    let pair = Pair::new();
    pair.meet("https://orders.example", &[]);
    assert_eq!(fingerprint(&pair.orders, "billing"), fingerprint(&pair.billing, "orders"));
    let pair = ApiKeyPair::new();
    pair.meet("https://orders.example", &[]);
    assert_eq!(fingerprint(&pair.orders, "billing"), fingerprint(&pair.billing, "orders"));
}

#[test]
fn both_sides_with_a_secret_each_see_the_same_fingerprint() {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    let (a, b, secret_a, secret_b) = (new_key(), new_key(), new_secret(), new_secret());
    for (home, peer, ours, theirs, ours_secret, theirs_secret) in [
        (&orders, "billing", &a, &b, &secret_a, &secret_b),
        (&billing, "orders", &b, &a, &secret_b, &secret_a),
    ] {
        let files = (home.secret_file("ours", ours_secret), home.secret_file("theirs", theirs_secret));
        let keys = ["--our-key", ours, "--their-key", theirs];
        let secrets = ["--our-secret-file", &files.0, "--their-secret-file", &files.1];
        let done =
            home.run(&[&["peer", "add", peer, "--profile", "shared-secret"][..], &keys, &secrets].concat());
        done.ok();
    }
    assert_eq!(fingerprint(&orders, "billing"), fingerprint(&billing, "orders"));
}

#[test]
fn a_peer_is_listed_shown_and_removed_without_its_secrets() {
    let pair = Pair::new();
    let text = pair.orders.run(&["peer", "show", "billing"]).ok();
    assert!(text.contains(&pair.billing_key) && text.contains(&pair.orders_key), "these are public: {text}");
    assert!(pair.orders.run(&["peer", "list"]).ok().contains("shared-secret"));
    let status = pair.orders.run(&["status", "--json"]).json();
    assert_eq!(status["peers"][0]["credentials"][0]["id"], "billing/1");
    pair.orders.run(&["peer", "remove", "billing"]).ok();
    assert_eq!(peers(&pair.orders), Vec::<String>::new());
    for command in ["show", "remove"] {
        pair.orders.run(&["peer", command, "billing"]).refused(1, &["no peer named `billing`"]);
    }
    assert!(pair.orders.run(&["peer", "list"]).ok().contains("no peers yet"));
}

#[test]
fn under_api_key_the_key_is_never_shown() {
    let pair = ApiKeyPair::new();
    pair.meet("https://orders.example", &[]);
    for home in [&pair.orders, &pair.billing] {
        let peer = peers(home).remove(0);
        for arguments in [&["peer", "show", &peer][..], &["peer", "show", &peer, "--json"], &["status"]] {
            // Home::run looks for the key in what comes out.
            home.run(arguments).ok();
        }
    }
}

#[test]
fn a_secret_that_others_can_read_or_that_is_not_there_is_refused() {
    let home = Home::of("orders");
    let (ours, theirs, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    for mode in [0o644, 0o640, 0o604] {
        let file = home.file("open", mode, secret.as_bytes());
        add(&home, "billing", &ours, &theirs, &file, b"").refused(1, &["can be read by others", "chmod 600"]);
    }
    let missing = home.beside("missing");
    add(&home, "billing", &ours, &theirs, missing.to_str().unwrap(), b"").refused(1, &["No such file"]);
    add(&home, "billing", &ours, &theirs, "env:NOT_THERE", b"").refused(1, &["NOT_THERE"]);
    add(&home, "billing", &ours, &theirs, home.path().to_str().unwrap(), b"").refused(1, &["secret"]);
    assert!(peers(&home).is_empty());
}

#[test]
fn a_weak_secret_is_refused_and_not_repeated() {
    let home = Home::of("orders");
    let (ours, theirs) = (new_key(), new_key());
    let mut weak: Vec<String> = vec![
        String::new(),
        "0123456789abcdefghijklmnopqrstu".to_owned(),
        "x".repeat(40),
        "hunter2-hunter2 hunter2-hunter2-hunter2".to_owned(),
        "hünter2-hünter2-hünter2-hünter2-hünter2".to_owned(),
        "your_shared_secret_your_shared_secret".to_owned(),
        "\u{1b}[31m0123456789abcdefghijklmnopqrstuvwxyz".to_owned(),
        "Aa1!".repeat(65),
        "Aa1!".repeat(1000),
    ];
    // Long enough to be taken for a secret, if everybody did not know them.
    weak.extend(printed_examples().into_iter().map(|example| format!("{example}{example}")));
    for secret in weak {
        if secret.len() > 8 {
            home.hide(&secret);
        }
        add(&home, "billing", &ours, &theirs, "-", secret.as_bytes()).refused(1, &["secret"]);
        add(&home, "billing", &ours, &theirs, &home.file("weak", 0o600, secret.as_bytes()), b"")
            .refused(1, &[]);
    }
    add(&home, "billing", &ours, &theirs, "-", b"\xff\xfe0123456789abcdefghijklmnopqrstuvwxyz")
        .refused(1, &["not text"]);
    assert!(peers(&home).is_empty());
}

fn printed_examples() -> Vec<String> {
    let text = include_str!("../../../vectors/printed-examples/vector.json");
    let vector: serde_json::Value = serde_json::from_str(text).unwrap();
    vector.as_array().unwrap().iter().map(|case| case["value"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn the_guides_printed_examples_are_refused_as_keys() {
    let home = Home::of("orders");
    let (key, secret) = (new_key(), new_secret());
    home.hide(&secret);
    for example in printed_examples() {
        add(&home, "billing", &example, &key, "-", secret.as_bytes()).refused(1, &["example"]);
        add(&home, "billing", &key, &example, "-", secret.as_bytes()).refused(1, &["example"]);
        for side in ["--our-key-file", "--their-key-file"] {
            let arguments = ["peer", "add", "billing", "--profile", "api-key", side, "-"];
            home.run_with(&arguments, example.as_bytes()).refused(1, &["example"]);
        }
    }
    assert!(peers(&home).is_empty());
}

#[test]
fn no_key_and_no_secret_serves_two_peers() {
    let pair = Pair::new();
    let home = &pair.orders;
    let (a, b, c) = (new_key(), new_key(), new_secret());
    home.hide(&c);
    let fresh = c.as_bytes();
    add(home, "other", &a, &pair.billing_key, "-", fresh).refused(1, &["in use with the peer `billing`"]);
    add(home, "other", &pair.orders_key, &b, "-", fresh).refused(1, &["`billing`"]);
    add(home, "other", &pair.billing_key, &b, "-", fresh).refused(1, &["`billing`"]);
    add(home, "other", &a, &b, "-", pair.secret.as_bytes()).refused(1, &["`billing`"]);
    let arguments = ["peer", "add", "other", "--profile", "api-key", "--their-key-file", "-"];
    home.run_with(&arguments, pair.billing_key.as_bytes()).refused(1, &["`billing`"]);
    home.run_with(&arguments, pair.secret.as_bytes()).refused(1, &[]);
    add(home, "billing", &a, &b, "-", fresh).refused(1, &["already"]);
    assert_eq!(peers(home), ["billing"]);
    // A removed peer's keys are free again.
    home.run(&["peer", "remove", "billing"]).ok();
    add(home, "other", &pair.orders_key, &pair.billing_key, "-", pair.secret.as_bytes()).ok();
}

#[test]
fn keys_that_make_no_pair_are_refused() {
    let home = Home::of("orders");
    let (key, other, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    add(&home, "billing", &key, &key, "-", secret.as_bytes()).refused(1, &["the same"]);
    add(&home, "orders", &key, &other, "-", secret.as_bytes()).refused(1, &["this service itself"]);
    add(&home, "billing", &secret, &other, "-", secret.as_bytes()).refused(1, &["also used as an API key"]);
    assert!(peers(&home).is_empty());
}

#[test]
fn hostile_names_keys_and_urls_are_refused_harmlessly() {
    let home = Home::of("orders");
    let (key, other, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    for bad in [
        "\u{1b}[2Jbilling",
        "bil\nling",
        "bil\"ling",
        "bil'ling",
        "../billing",
        "BILLING",
        "",
        "a b",
        "\u{202e}x",
    ] {
        let done = add(&home, bad, &key, &other, "-", secret.as_bytes());
        done.refused(2, &[]);
        home.run(&["peer", "show", bad]).refused(2, &[]);
        home.run(&["peer", "remove", bad]).refused(2, &[]);
    }
    for bad in
        ["\u{1b}[31m0123456789abcdef", "short", "0123456789 abcdef", "0123456789\nabcdef", "ключключключключ"]
    {
        add(&home, "billing", bad, &other, "-", secret.as_bytes()).refused(2, &["--our-key"]);
        add(&home, "billing", &key, bad, "-", secret.as_bytes()).refused(2, &["--their-key"]);
    }
    home.hide("the-password");
    for bad in [
        "http://orders.example",
        "http://user:the-password@orders.example",
        "ftp://orders.example",
        "orders.example",
        "https://orders.example/\u{1b}[31m",
        "https://orders.example/\r\nx: y",
        "https://user:the-password@orders.example",
        "https://orders.example?a=b",
        "",
    ] {
        let keys = ["--our-key", &key, "--their-key", &other, "--secret-file", "-", "--url", bad];
        let arguments = [&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys].concat();
        home.run_with(&arguments, secret.as_bytes()).refused(1, &["is"]);
    }
    assert!(peers(&home).is_empty());
}

#[test]
fn a_url_with_characters_that_a_terminal_obeys_is_kept_harmlessly() {
    let home = Home::of("orders");
    let (key, other, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    let keys = ["--our-key", &key, "--their-key", &other, "--secret-file", "-"];
    let peer = [
        "peer",
        "add",
        "billing",
        "--profile",
        "shared-secret",
        "--url",
        "https://billing.example/\u{9b}31m\u{202e}",
    ];
    home.run_with(&[&peer[..], &keys].concat(), secret.as_bytes());
    for arguments in [&["peer", "list"][..], &["peer", "list", "--json"], &["status", "--json"]] {
        // Home::run looks for control characters in what comes out.
        assert!(!home.run(arguments).ok().contains('\u{202e}'));
    }
}

#[test]
fn trust_that_cannot_be_used_is_refused_at_once() {
    let home = Home::of("orders");
    let (key, other, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    let empty = home.file("empty.pem", 0o644, b"");
    let garbage =
        home.file("garbage.pem", 0o644, b"-----BEGIN CERTIFICATE-----\n!!!\n-----END CERTIFICATE-----\n");
    let with = |options: &[&str]| {
        let keys = [
            "--our-key",
            &key,
            "--their-key",
            &other,
            "--secret-file",
            "-",
            "--url",
            "https://billing.example",
        ];
        let arguments =
            [&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys, options].concat();
        home.run_with(&arguments, secret.as_bytes())
    };
    with(&["--tls-ca", &empty]).refused(1, &["empty.pem"]);
    with(&["--tls-ca", &garbage]).refused(1, &["garbage.pem"]);
    with(&["--tls-ca", "/nonexistent"]).refused(1, &["/nonexistent"]);
    for pin in ["sha256/", "sha256/AAAA", "md5/AAAAAAAAAAAAAAAAAAAAAA==", "\u{1b}[31m"] {
        with(&["--tls-pin", pin]).refused(2, &["sha256/"]);
    }
    with(&["--tls-pin", &home.pin(), "--tls-ca", &home.certificate()]).refused(2, &["--tls-pin"]);
    with(&["--tls-ca", &home.certificate()]).ok();
}

#[test]
fn options_of_the_other_profile_and_missing_ones_are_a_wrong_use() {
    let home = Home::of("orders");
    let (key, other, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    let keys = ["--our-key", &key, "--their-key", &other];
    let file = home.secret_file("file", &secret);
    for (profile, options) in [
        ("shared-secret", &["--our-key", &key, "--secret-file", &file][..]),
        ("shared-secret", &keys),
        ("shared-secret", &[&keys[..], &["--our-secret-file", &file]].concat()),
        ("shared-secret", &[&keys[..], &["--our-secret-file", "-", "--their-secret-file", "-"]].concat()),
        ("shared-secret", &[&keys[..], &["--secret-file", &file, "--our-secret-file", &file]].concat()),
        ("shared-secret", &["--our-key-file", &file]),
        ("api-key", &keys),
        ("api-key", &["--their-key-file", &file, "--secret-file", &file]),
        ("api-key", &["--their-key-file", "-", "--our-key-file", "-"]),
        ("no-such-profile", &keys),
        // There is no option that takes the secret itself.
        ("shared-secret", &[&keys[..], &["--secret", "x"]].concat()),
        ("api-key", &["--api-key", "x"]),
    ] {
        home.run(&[&["peer", "add", "billing", "--profile", profile][..], options].concat()).refused(2, &[]);
    }
    home.run(&["peer", "add", "billing", "--profile", "api-key"]).refused(2, &["needs our key"]);
    assert!(peers(&home).is_empty());
}

#[test]
fn keys_of_profile_api_key_must_be_long_enough_and_two() {
    let home = Home::of("orders");
    let short = home.secret_file("short", "aB3dE6gH9jK2mN5pQ8sT1");
    let add = |options: &[&str]| {
        home.run(&[&["peer", "add", "billing", "--profile", "api-key"][..], options].concat())
    };
    add(&["--their-key-file", &short]).refused(1, &["the key is the secret", "22"]);
    let key = home.secret_file("key", &new_key());
    add(&["--their-key-file", &key, "--our-key-file", &key]).refused(1, &["the same"]);
    assert!(peers(&home).is_empty());
}

#[test]
fn of_additions_at_the_same_time_with_one_key_one_wins() {
    let home = Home::of("orders");
    let (ours, theirs) = (new_key(), new_key());
    let codes: Vec<i32> = std::thread::scope(|scope| {
        let add = |number: usize| {
            let (home, ours, theirs) = (&home, &ours, &theirs);
            scope.spawn(move || {
                let secret = new_secret();
                add(home, &format!("peer-{number}"), ours, theirs, "-", secret.as_bytes()).code
            })
        };
        let adding: Vec<_> = (0..6).map(add).collect();
        adding.into_iter().map(|thread| thread.join().unwrap()).collect()
    });
    assert_eq!(codes.iter().filter(|code| **code == 0).count(), 1, "{codes:?}");
    assert_eq!(peers(&home).len(), 1);
}

#[test]
fn a_secret_given_where_a_file_belongs_is_not_repeated() {
    let home = Home::of("orders");
    let (key, other, secret) = (new_key(), new_key(), new_secret());
    home.hide(&secret);
    let keys = ["--our-key", &key, "--their-key", &other, "--secret-file", &secret];
    let arguments = [&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys].concat();
    home.run(&arguments).refused(1, &["the file that was named"]);
}
