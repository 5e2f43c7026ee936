//! The examples, the vectors and the recipes of the key exchange, run with the programs that they are for. They need
//! bash, curl, openssl and Python, so they are left out unless `COUNTERSIGN_TEST_EXTERNAL=1`: `cargo xtask test`.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::path::{Path, PathBuf};
use std::process::Command;

use support::{ApiKeyPair, Done, Home, Pair, Serving, finish};

/// Whether other programs may be run; says so if not.
fn left_out() -> bool {
    support::left_out("bash, curl, openssl and python3")
}

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A program of the repository, with no settings but these.
fn program(interpreter: &str, path: &str, arguments: &[&str], settings: &[(&str, &str)]) -> Command {
    let mut command = Command::new(interpreter);
    command.arg(repository().join(path)).args(arguments);
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("COUNTERSIGN_")) {
        command.env_remove(name);
    }
    command.env("PYTHONDONTWRITEBYTECODE", "1").envs(settings.iter().copied());
    command
}

/// `orders` over HTTP on loopback and over HTTPS.
fn serve_both(home: &Home) -> Serving {
    Serving::start(home, &["--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0"])
}

#[track_caller]
fn assert_billing(done: Done) {
    assert_eq!(done.json()["service"], "billing");
}

#[test]
fn the_callers_of_guide_1_reach_serve() {
    if left_out() {
        return;
    }
    let pair = Pair::new();
    let serving = serve_both(&pair.orders);
    let secret = pair.billing.secret_file("secret", &pair.secret);
    let certificate = pair.orders.certificate();
    for url in &serving.urls {
        let settings = [
            ("COUNTERSIGN_URL", url.as_str()),
            ("COUNTERSIGN_API_KEY", &pair.billing_key),
            ("COUNTERSIGN_THEIR_KEY", &pair.orders_key),
            ("COUNTERSIGN_SECRET_FILE", &secret),
            ("COUNTERSIGN_CA", &certificate),
        ];
        for flow in [&["/hello?a=b"][..], &["--per-request", "/hello"]] {
            let script = program("bash", "examples/shared-secret/call.sh", flow, &settings);
            assert_billing(pair.billing.finish(script, b""));
            let python = [&["shared-secret"][..], flow].concat();
            let python = program("python3", "examples/python/client.py", &python, &settings);
            assert_billing(pair.billing.finish(python, b""));
        }
        let mut wrong = settings;
        let other = pair.billing.secret_file("other", &support::new_secret());
        wrong[3].1 = &other;
        for caller in [
            program("bash", "examples/shared-secret/call.sh", &["/hello"], &wrong),
            program("python3", "examples/python/client.py", &["shared-secret", "/hello"], &wrong),
        ] {
            pair.billing.finish(caller, b"").refused(1, &["401"]);
        }
    }
    assert_eq!(pair.orders.recorded("reason", "wrong-signature"), 4);
}

#[test]
fn the_callers_of_guide_2_reach_serve() {
    if left_out() {
        return;
    }
    let pair = ApiKeyPair::new();
    let serving = serve_both(&pair.orders);
    let key = pair.billing.secret_file("key", &pair.key);
    let certificate = pair.orders.certificate();
    for url in &serving.urls {
        let settings = [
            ("COUNTERSIGN_URL", url.as_str()),
            ("COUNTERSIGN_API_KEY_FILE", &key),
            ("COUNTERSIGN_CA", &certificate),
        ];
        let script = program("bash", "examples/api-key/call.sh", &["/hello"], &settings);
        assert_billing(pair.billing.finish(script, b""));
        let python = program("python3", "examples/python/client.py", &["api-key", "/hello"], &settings);
        assert_billing(pair.billing.finish(python, b""));
    }
}

/// The example server, over HTTPS with the certificate of `orders` or over HTTP.
fn python_server(home: &Home, settings: &[(&str, &str)], profile: &str, tls: bool, more: &[&str]) -> Serving {
    let key = home.path().join("tls/key.pem");
    let (certificate, key) = (home.certificate(), key.to_str().unwrap().to_owned());
    let mut arguments = vec!["--profile", profile];
    if tls {
        arguments.extend(["--cert", &certificate, "--key", &key]);
    }
    arguments.extend(more);
    let command = program("python3", "examples/python/server.py", &arguments, settings);
    Serving::of(command, &home.beside("python.log"), 1)
}

#[test]
fn call_reaches_the_example_server_in_both_profiles() {
    if left_out() {
        return;
    }
    for (tls, more) in [(true, &[][..]), (false, &[]), (true, &["--minimal"]), (false, &["--minimal"])] {
        let pair = Pair::new();
        let secret = pair.orders.secret_file("secret", &pair.secret);
        let settings = [
            ("COUNTERSIGN_API_KEY", pair.orders_key.as_str()),
            ("COUNTERSIGN_THEIR_KEY", &pair.billing_key),
            ("COUNTERSIGN_SECRET_FILE", &secret),
        ];
        let server = python_server(&pair.orders, &settings, "shared-secret", tls, more);
        pair.meet(server.url(), &["--tls-ca", &pair.orders.certificate()]);
        let hello = format!("{}/hello", server.url());
        assert_eq!(pair.billing.run(&["call", &hello]).json()["message"], "hello", "{more:?}");
        assert_eq!(pair.billing.run(&["call", "-d", "four", &hello]).json()["receivedBytes"], 4);

        let pair = ApiKeyPair::new();
        let key = pair.orders.secret_file("key", &pair.key);
        let settings = [("COUNTERSIGN_API_KEY_FILE", key.as_str())];
        let server = python_server(&pair.orders, &settings, "api-key", tls, more);
        pair.meet(server.url(), &["--tls-pin", &pair.orders.pin()]);
        let hello = format!("{}/hello", server.url());
        assert_eq!(pair.billing.run(&["call", &hello]).json()["message"], "hello", "{more:?}");
    }
}

#[test]
fn tls_1_3_alone_is_spoken_with_http_2_and_1() {
    if left_out() {
        return;
    }
    let home = Home::of("orders");
    let serving = Serving::https(&home);
    let curl = |options: &[&str]| {
        let mut command = Command::new("curl");
        command.args(["--disable", "--silent", "--noproxy", "*", "--cacert", &home.certificate()]);
        command.args(["--write-out", "%{http_code} %{http_version}", "--output", "/dev/null"]);
        command.args(options).arg(serving.url());
        finish(command, b"")
    };
    assert_eq!(curl(&["--http1.1"]).ok(), "401 1.1");
    assert_eq!(curl(&["--http2"]).ok(), "401 2");
    assert_ne!(curl(&["--tls-max", "1.2"]).code, 0);
}

#[test]
fn the_examples_hold_against_each_other() {
    if !left_out() {
        finish(program("python3", "examples/check.py", &[], &[]), b"").ok();
    }
}

#[test]
fn the_client_of_cs1_in_python_does_what_the_specification_says() {
    if !left_out() {
        finish(program("python3", "examples/python/test_cs1_client.py", &[], &[]), b"").ok();
    }
}

#[test]
fn the_vectors_are_what_their_script_makes() {
    if !left_out() {
        finish(program("python3", "vectors/generate.py", &["--check"], &[]), b"").ok();
    }
}

/// Name and commands of every `<!-- test: NAME -->` with the `sh` block that follows it.
fn recipes(text: &str) -> Vec<(String, String)> {
    let mut recipes = Vec::new();
    for part in text.split("<!-- test: ").skip(1) {
        let (name, rest) = part.split_once(" -->\n").unwrap_or_else(|| panic!("a mark without end: {part}"));
        let block = rest.strip_prefix("```sh\n").and_then(|block| block.split_once("\n```"));
        let (commands, _) = block.unwrap_or_else(|| panic!("no sh block follows the mark {name}"));
        recipes.push((name.to_owned(), commands.to_owned()));
    }
    assert!(!recipes.is_empty(), "no recipe");
    recipes
}

#[test]
fn every_recipe_of_the_guides_ends_with_a_call_that_works() {
    if left_out() {
        return;
    }
    let guide = |name: &str| recipes(&std::fs::read_to_string(repository().join("docs").join(name)).unwrap());
    let exchanges = guide("key-exchange.md").into_iter().map(|recipe| (recipe, None));
    let rotations = ["cs1", "shared-secret"]
        .into_iter()
        .flat_map(|profile| guide("rotation.md").into_iter().map(move |recipe| (recipe, Some(profile))));
    let binaries = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let path = std::env::join_paths(
        [binaries.to_owned()].into_iter().chain(std::env::split_paths(&std::env::var_os("PATH").unwrap())),
    );
    let path = path.unwrap();
    for ((name, commands), known) in exchanges.chain(rotations) {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let serving = Serving::https(&orders);
        if let Some(profile) = known {
            support::life::meet((&orders, serving.url()), (&billing, "https://billing.example"), profile);
        }
        // No other machine, and more patience on a loaded one.
        let prefix = "ssh() { shift; \"$@\"; }\nsleep() { command sleep 3; }\n";
        let script = billing.file("recipe.sh", 0o600, format!("{prefix}{commands}\n").as_bytes());
        let mut bash = Command::new("bash");
        bash.args(["-euo", "pipefail", &script]).env("PATH", &path).env("HOME", "/nonexistent");
        for variable in ["COUNTERSIGN_HOME", "COUNTERSIGN_MASTER_KEY", "CREDENTIALS_DIRECTORY"] {
            bash.env_remove(variable);
        }
        bash.env("ORDERS", orders.path()).env("BILLING", billing.path()).current_dir(billing.path());
        bash.env("ORDERS_URL", serving.url()).env("ORDERS_PIN", orders.pin());
        let done = finish(bash, b"");
        assert_eq!(done.code, 0, "{name}: {done:?}");
        assert!(done.stdout.contains(r#""service":"billing""#), "{name}: {done:?}");
        assert!(
            !done.stdout.contains("css_") && !done.stderr.contains("css_"),
            "{name}: a secret came out: {done:?}"
        );
        let fingerprint = |home: &Home, peer: &str| {
            let shown = home.run(&["peer", "show", peer, "--json"]).json();
            shown["credentials"][0]["fingerprint"].clone()
        };
        assert_eq!(fingerprint(&orders, "billing"), fingerprint(&billing, "orders"), "{name}");
    }
}
