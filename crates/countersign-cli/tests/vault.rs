//! `[secrets] from = "vault"` and the master key under Transit: the real binary with a real OpenBao.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

#[path = "../../countersign-store/tests/bao/mod.rs"]
mod bao;
mod support;

use std::path::Path;
use std::process::Command;
use std::time::{Duration, Instant};

use bao::Bao;
use support::{Done, Home, Pair, Serving, eventually, exchange, files, finish};

/// The least that `serve` needs, and what an operator needs.
fn policies(bao: &Bao) {
    for (name, data) in [("serve", "\"read\", \"update\""), ("operator", "\"create\", \"read\", \"update\"")]
    {
        bao.policy(
            name,
            &format!(
                "path \"secret/data/countersign/orders/peers\" {{ capabilities = [{data}] }}\n\
                 path \"secret/metadata/countersign/orders/peers\" {{ capabilities = [\"read\"] }}\n"
            ),
        );
    }
    bao.run(&["auth", "enable", "approle"]);
}

/// Gives a home its login and its config; `more` are further settings.
fn use_vault(home: &Home, bao: &Bao, more: &str) {
    let (role_id, secret_id) = bao.approle("orders", &["token_policies=serve", "token_ttl=10m"]);
    home.file("role-id", 0o400, role_id.as_bytes());
    home.secret_file("secret-id", &secret_id);
    home.hide(&bao.token);
    home.configure(&format!(
        "[secrets]\nfrom = \"vault\"\n\n[secrets.vault]\naddress = \"{}\"\nrole_id = \"file:../role-id\"\n\
         secret_id = \"file:../secret-id\"\ntimeout_seconds = 2\n{more}\n",
        bao.address
    ));
}

/// A command in the name of an operator.
fn operate(home: &Home, bao: &Bao, arguments: &[&str]) -> Done {
    let token = bao.token(&["-policy=operator", "-ttl=5m"]);
    home.hide(&token);
    let mut command = home.command(arguments);
    command.env("COUNTERSIGN_VAULT_TOKEN", token);
    home.finish(command, b"")
}

fn add_billing(pair: &Pair, bao: &Bao) {
    let file = pair.orders.secret_file("secret", &pair.secret);
    let keys = ["--our-key", &pair.orders_key, "--their-key", &pair.billing_key, "--secret-file", &file];
    operate(
        &pair.orders,
        bao,
        &[&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys].concat(),
    )
    .ok();
}

fn serve(home: &Home) -> Serving {
    Serving::start(home, &["--listen", "http://127.0.0.1:0", "--admin", "127.0.0.1:0"])
}

fn get(serving: &Serving, path: &str) -> (u16, String) {
    let admin = support::serving::address(&serving.urls[1]);
    let reply = exchange(admin, "GET", path, &[], b"");
    (reply.status, String::from_utf8_lossy(&reply.body).into_owned())
}

/// Whether `billing` can authenticate.
fn passes(pair: &Pair, serving: &Serving) -> bool {
    let key = serde_json::json!({"apiKey": pair.billing_key});
    let reply = support::raw::post(serving.address(), "/authenticate", &[], &key);
    reply.status == 200
        && pair.answer(serving.address(), reply.json()["challenge"].as_str().unwrap()).status == 200
}

#[test]
fn a_service_goes_on_through_an_outage_restarts_in_it_and_is_current_again_afterwards() {
    let Some(bao) = Bao::with_files(None) else { return };
    policies(&bao);
    let pair = Pair::undeclared();
    use_vault(&pair.orders, &bao, "");
    add_billing(&pair, &bao);
    let serving = serve(&pair.orders);
    assert!(passes(&pair, &serving));
    assert_eq!(get(&serving, "/readyz"), (200, "ready\n".to_owned()));
    assert!(get(&serving, "/metrics").1.contains("countersign_secrets_stale_seconds 0\n"));

    bao.kill();
    eventually("the outage is told", || get(&serving, "/readyz").1.contains("with a copy"));
    assert!(serving.log().contains("peers are taken from the copy"), "{}", serving.log());
    assert!(passes(&pair, &serving));
    let status = pair.orders.run(&["status"]);
    assert!(status.stderr.contains("warning: Vault cannot be reached"), "{status:?}");
    assert!(status.ok().contains("this is the copy of"));
    let json = pair.orders.run(&["status", "--json"]).json();
    assert_eq!(json["secretsStale"]["maxSeconds"], 86_400);
    let refused = pair.orders.run(&["peer", "remove", "billing"]);
    assert_eq!(refused.code, 1);
    assert!(refused.stderr.contains("Nothing was changed"), "{refused:?}");

    drop(serving);
    let serving = serve(&pair.orders);
    assert!(passes(&pair, &serving), "a restart takes the copy");
    eventually("the metric counts", || {
        let text = get(&serving, "/metrics").1;
        text.contains("countersign_secrets_stale_seconds ") && !text.contains("stale_seconds 0\n")
    });

    bao.start();
    bao.unseal();
    eventually("it is current again", || get(&serving, "/readyz").1 == "ready\n");
    assert!(serving.log().contains("Vault answers again"), "{}", serving.log());
    operate(&pair.orders, &bao, &["peer", "remove", "billing"]).ok();
    eventually("what was changed is in effect", || !passes(&pair, &serving));
    let secret_id = std::fs::read_to_string(pair.orders.beside("secret-id")).unwrap();
    for hidden in [bao.token.as_str(), &pair.secret, secret_id.trim()] {
        assert!(!serving.log().contains(hidden), "{}", serving.log());
    }
}

#[test]
fn beyond_its_age_a_copy_lets_nobody_in_and_a_service_does_not_start() {
    let Some(bao) = Bao::with_files(None) else { return };
    policies(&bao);
    let pair = Pair::undeclared();
    use_vault(&pair.orders, &bao, "max_stale_seconds = 2");
    add_billing(&pair, &bao);
    let serving = serve(&pair.orders);
    assert!(passes(&pair, &serving));
    bao.seal();
    eventually("it is too old", || serving.log().contains("more than max_stale_seconds = 2"));
    pair.orders.run(&["status"]).refused(1, &["sealed", "more than max_stale_seconds = 2"]);
    let mut second = pair.orders.command(&["serve", "--listen", "http://127.0.0.1:0"]);
    second.env("RUST_LOG", "off");
    pair.orders.finish(second, b"").refused(1, &["more than max_stale_seconds = 2"]);
    // The store's own patience of thirty seconds comes after that.
    let start = Instant::now();
    while passes(&pair, &serving) {
        assert!(start.elapsed() < Duration::from_secs(90), "{}", serving.log());
        std::thread::sleep(Duration::from_millis(200));
    }
    assert_eq!(get(&serving, "/readyz").0, 503);
    bao.unseal();
    eventually("it goes on by itself", || passes(&pair, &serving));
}

#[test]
fn a_peer_is_revoked_here_when_vault_cannot_be_told_and_the_command_says_so() {
    let Some(bao) = Bao::dev() else { return };
    policies(&bao);
    let pair = Pair::undeclared();
    use_vault(&pair.orders, &bao, "");
    add_billing(&pair, &bao);
    let serving = serve(&pair.orders);
    assert!(passes(&pair, &serving));
    let place = ["-mount=secret", "countersign/orders/peers"];
    bao.feed(&["kv", "put", place[0], place[1], "-"], r#"{"form": "x"}"#);
    eventually("it is noticed", || serving.log().contains("peers are taken from the copy"));
    assert!(passes(&pair, &serving), "peers go on being let in");
    let done = operate(&pair.orders, &bao, &["revoke", "billing"]);
    done.refused_with_output(1, "revoked billing/1");
    assert!(done.stderr.contains("billing/1 ended on this node, and on no other yet"), "{done:?}");
    assert!(done.stderr.contains("bao kv rollback"), "{done:?}");
    eventually("it is shut out", || !passes(&pair, &serving));
    let records = pair.orders.records();
    let record = records.iter().find(|one| one["reason"] == "revoked").unwrap();
    assert_eq!(record["credential"], "billing/1");
    assert!(record["detail"].as_str().unwrap().contains("Vault could not be told"), "{record}");
    bao.run(&["kv", "rollback", "-version=1", place[0], place[1]]);
    eventually("Vault is told", || serving.log().contains("Vault knows what was ended here"));
    assert!(!passes(&pair, &serving));
}

#[test]
fn an_operator_whose_token_has_ended_revokes_on_this_node() {
    let Some(bao) = Bao::dev() else { return };
    policies(&bao);
    let pair = Pair::undeclared();
    use_vault(&pair.orders, &bao, "");
    add_billing(&pair, &bao);
    let serving = serve(&pair.orders);
    assert!(passes(&pair, &serving));
    let ended = |arguments: &[&str]| {
        let mut command = pair.orders.command(arguments);
        command.env("COUNTERSIGN_VAULT_TOKEN", "hvs.ended-ended-ended");
        pair.orders.finish(command, b"")
    };
    ended(&["revoke", "nobody"]).refused(1, &["does not allow reading"]);
    let done = ended(&["revoke", "billing"]);
    done.refused_with_output(1, "revoked billing/1");
    assert!(done.stderr.contains("billing is shut out on this node"), "{done:?}");
    eventually("it is shut out", || !passes(&pair, &serving));
    eventually("Vault is told", || serving.log().contains("Vault knows what was ended here"));
}

#[test]
fn a_service_does_not_run_with_an_operators_token() {
    let pair = Pair::undeclared();
    let table = "[secrets]\nfrom = \"vault\"\n\n[secrets.vault]\naddress = \"http://127.0.0.1:1\"\ntoken = \"env:A\"\n";
    pair.orders.configure(table);
    let mut command = pair.orders.command(&["serve", "--listen", "http://127.0.0.1:0"]);
    command.env("COUNTERSIGN_VAULT_TOKEN", "hvs.operator-operator");
    pair.orders.finish(command, b"").refused(1, &["COUNTERSIGN_VAULT_TOKEN is set", "Unset it"]);
}

#[test]
fn a_command_with_another_login_does_not_take_the_services_copy_away() {
    let Some(bao) = Bao::dev() else { return };
    policies(&bao);
    let pair = Pair::undeclared();
    pair.orders.hide(&bao.token);
    pair.orders.configure(&format!(
        "[secrets]\nfrom = \"vault\"\n\n[secrets.vault]\naddress = \"{}\"\ntoken = \"env:VAULT_TOKEN\"\n",
        bao.address
    ));
    add_billing(&pair, &bao);
    let mut command = pair.orders.command(&["status"]);
    command.env("VAULT_TOKEN", "hvs.another-another");
    pair.orders.finish(command, b"").refused(1, &["does not allow reading"]);
    bao.kill();
    let mut command = pair.orders.command(&["peer", "list"]);
    command.env("VAULT_TOKEN", &bao.token);
    assert!(pair.orders.finish(command, b"").ok().contains("billing"), "the copy is there");
}

#[test]
fn two_nodes_share_their_peers() {
    let Some(bao) = Bao::dev() else { return };
    policies(&bao);
    let (pair, second) = (Pair::undeclared(), Home::of("orders"));
    use_vault(&pair.orders, &bao, "");
    use_vault(&second, &bao, "");
    let nodes = [serve(&pair.orders), serve(&second)];
    add_billing(&pair, &bao);
    for node in &nodes {
        eventually("both let it in", || passes(&pair, node));
    }
    operate(&second, &bao, &["peer", "remove", "billing"]).ok();
    for node in &nodes {
        eventually("both refuse it", || !passes(&pair, node));
    }
    let denied = pair.orders.run(&["peer", "list", "--json"]).json();
    assert_eq!(denied, serde_json::json!([]));
}

#[test]
fn a_login_that_is_taken_back_is_told_and_ends_the_service() {
    let Some(bao) = Bao::dev() else { return };
    policies(&bao);
    let pair = Pair::undeclared();
    use_vault(&pair.orders, &bao, "");
    add_billing(&pair, &bao);
    let serving = serve(&pair.orders);
    assert!(passes(&pair, &serving));
    bao.run(&["delete", "auth/approle/role/orders"]);
    bao.run(&["token", "revoke", "-mode=path", "auth/approle"]);
    eventually("the log says so", || serving.log().contains("Vault refuses: in 30 seconds nobody"));
    pair.orders.run(&["status"]).refused(1, &["refuses the login with AppRole"]);
    let doctor = pair.orders.run(&["doctor", "--json"]);
    assert!(doctor.stdout.contains("refuses the login with AppRole"), "{doctor:?}");
    // As if it were locked out: Vault says the same.
    bao.run(&["auth", "disable", "approle"]);
    let doctor = pair.orders.run(&["doctor", "--json"]);
    assert!(doctor.stdout.contains("bao auth tune -user-lockout-disable=true approle"), "{doctor:?}");
}

/// Findings of `doctor` with this name.
fn found(home: &Home, environment: &[(&str, &str)], check: &str) -> Vec<(String, String)> {
    let mut command = home.command(&["doctor", "--json"]);
    command.envs(environment.iter().copied());
    let done = home.finish(command, b"");
    let json: serde_json::Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    let findings = json["findings"].as_array().unwrap().iter().filter(|one| one["check"] == check);
    let text = |value: &serde_json::Value| value.as_str().unwrap().to_owned();
    findings.map(|one| (text(&one["level"]), text(&one["what"]))).collect()
}

#[test]
fn doctor_looks_at_vault() {
    let Some(bao) = Bao::with_files(None) else { return };
    policies(&bao);
    let pair = Pair::undeclared();
    use_vault(&pair.orders, &bao, "");
    let one = |environment: &[(&str, &str)], check: &str, level: &str, said: &str| {
        let all = found(&pair.orders, environment, check);
        assert!(all.iter().any(|(found, what)| found == level && what.contains(said)), "{check}: {all:?}");
    };
    let offline = pair.orders.run(&["doctor", "--offline", "--json"]);
    assert!(offline.stdout.contains("there is no copy"), "{offline:?}");
    one(&[], "vault", "ok", "no document yet");
    add_billing(&pair, &bao);
    one(&[], "vault", "ok", "1 peers in ");
    one(&[], "vault-login", "ok", "the token ends in");
    one(&[], "vault-policy", "ok", "may be read and changed");
    one(&[], "vault-copy", "ok", "it is used for 24 h");
    one(&[("COUNTERSIGN_VAULT_TOKEN", &bao.token)], "vault-policy", "warn", "everything");
    bao.policy("reads", "path \"secret/data/countersign/orders/peers\" { capabilities = [\"read\"] }");
    let reads = bao.token(&["-policy=reads", "-ttl=5m"]);
    pair.orders.hide(&reads);
    one(&[("COUNTERSIGN_VAULT_TOKEN", &reads)], "vault-policy", "warn", "may not change");
    one(&[("COUNTERSIGN_VAULT_TOKEN", &reads)], "vault-login", "warn", "the token ends in");
    bao.seal();
    one(&[], "vault", "fail", "sealed");
}

#[test]
fn a_master_key_under_transit_opens_nothing_without_vault() {
    let Some(bao) = Bao::with_files(None) else { return };
    bao.run(&["secrets", "enable", "transit"]);
    bao.run(&["write", "-f", "transit/keys/orders"]);
    let pair = Pair::new();
    let home = &pair.orders;
    home.hide(&bao.token);
    home.configure(&format!(
        "[secrets.vault]\naddress = \"{}\"\ntoken = \"file:../token\"\ntimeout_seconds = 2\ntransit_key = \"orders\"",
        bao.address
    ));
    home.secret_file("token", &bao.token);
    let plain = std::fs::read_to_string(home.path().join("master.key")).unwrap();
    home.hide(plain.trim());
    // While a second key opens the store, nothing would be won.
    let other = home.secret_file("new.key", "MTIzNDU2Nzg5MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTI=");
    let mut command = home.command(&["master-key", "rotate", "--new-key-file", &other]);
    command.env("COUNTERSIGN_MASTER_KEY", plain.trim());
    home.finish(command, b"").ok();
    home.run(&["master-key", "transit"]).refused(1, &["a change of the master key is open"]);
    assert!(home.path().join("master.key").exists());
    home.run(&["master-key", "rotate", "--abandon"]).ok();
    let left = ["master.key.next", "master.key.0123.unfinished"].map(|name| home.path().join(name));
    for path in &left {
        std::fs::write(path, &plain).unwrap();
    }
    let said = home.run(&["master-key", "transit"]).ok();
    assert!(said.contains("is removed"), "{said}");
    assert!(!left.iter().any(|path| path.exists()), "no other file has the key");
    assert!(!home.path().join("master.key").exists());
    let wrapped = || std::fs::read_to_string(home.path().join("master.key.transit")).unwrap();
    assert!(wrapped().starts_with("vault:v1:"));
    assert!(home.run(&["peer", "list"]).ok().contains("billing"));
    home.run(&["master-key", "transit"]).ok();

    bao.run(&["write", "-f", "transit/keys/orders/rotate"]);
    let said = home.run(&["master-key", "transit", "--rewrap"]).ok();
    assert!(said.contains("version v2") && wrapped().starts_with("vault:v2:"), "{said}");
    bao.run(&["write", "transit/keys/orders/config", "min_decryption_version=2"]);
    let serving = serve(home);
    assert!(passes(&pair, &serving));

    bao.seal();
    home.run(&["peer", "list"]).refused(1, &["the master key in", "sealed", "from elsewhere"]);
    assert!(passes(&pair, &serving), "what runs goes on");
    let mut command = home.command(&["peer", "list"]);
    command.env("COUNTERSIGN_MASTER_KEY", plain.trim());
    assert!(home.finish(command, b"").ok().contains("billing"));
    bao.unseal();

    for damaged in ["vault:v2:AAAA\n", "nonsense\n", &plain] {
        let kept = wrapped();
        std::fs::write(home.path().join("master.key.transit"), damaged).unwrap();
        home.run(&["peer", "list"]).refused(1, &["does not decrypt the master key"]);
        std::fs::write(home.path().join("master.key.transit"), kept).unwrap();
    }
    home.run(&["master-key", "transit", "--undo"]).ok();
    assert_eq!(std::fs::read_to_string(home.path().join("master.key")).unwrap(), plain);
    assert!(!home.path().join("master.key.transit").exists());
    assert!(home.run(&["peer", "list"]).ok().contains("billing"));
    let steps: Vec<_> = home.records().iter().map(|one| one["reason"].as_str().unwrap().to_owned()).collect();
    for reason in ["master-key-wrapped", "master-key-rewrapped", "master-key-unwrapped"] {
        assert!(steps.iter().any(|step| step == reason), "{steps:?}");
    }
}

#[test]
fn a_change_of_the_master_key_that_stops_halfway_takes_nothing_away() {
    let Some(bao) = Bao::dev() else { return };
    let pair = Pair::new();
    let home = &pair.orders;
    home.configure(&format!(
        "[secrets.vault]\naddress = \"{}\"\ntoken = \"file:../token\"\ntransit_key = \"orders\"",
        bao.address
    ));
    home.secret_file("token", &bao.token);
    // There is no such engine, and then no such key.
    home.run(&["master-key", "transit"]).refused(1, &["nothing mounted"]);
    bao.run(&["secrets", "enable", "transit"]);
    bao.policy("wrap", "path \"transit/encrypt/orders\" { capabilities = [\"update\"] }");
    let token = bao.token(&["-policy=wrap"]);
    home.hide(&token);
    let limited = || {
        let mut command = home.command(&["master-key", "transit"]);
        command.env("COUNTERSIGN_VAULT_TOKEN", &token);
        home.finish(command, b"")
    };
    assert_eq!(limited().code, 1);
    bao.run(&["write", "-f", "transit/keys/orders"]);
    // It can be wrapped, and could not be had back.
    limited().refused(1, &["does not allow using transit/decrypt/orders"]);
    assert!(home.path().join("master.key").exists() && !home.path().join("master.key.transit").exists());
    assert!(home.run(&["peer", "list"]).ok().contains("billing"));
}

/// Name and commands of every `<!-- test: vault-… -->` with the `sh` block that follows it.
fn recipes(text: &str) -> Vec<(&str, &str)> {
    text.split("<!-- test: ")
        .skip(1)
        .map(|part| {
            let (name, rest) = part.split_once(" -->\n").unwrap();
            let block = rest.strip_prefix("```sh\n").and_then(|block| block.split_once("\n```"));
            (name, block.unwrap_or_else(|| panic!("no sh block follows the mark {name}")).0)
        })
        // The others need no Vault, and are tried elsewhere.
        .filter(|(name, _)| name.starts_with("vault-"))
        .collect()
}

#[test]
fn every_recipe_of_the_secrets_guide_works_one_after_the_other() {
    if support::left_out("bash") {
        return;
    }
    let Some(bao) = Bao::dev() else { return };
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/secrets.md");
    let text = std::fs::read_to_string(page).unwrap();
    let orders = Home::of("orders");
    let etc = orders.beside("etc");
    std::fs::create_dir(&etc).unwrap();
    let binaries = Path::new(env!("CARGO_BIN_EXE_countersign")).parent().unwrap();
    let own = [binaries.to_owned(), bao.programs().to_owned()];
    let path = std::env::var_os("PATH").unwrap();
    let path = std::env::join_paths(own.into_iter().chain(std::env::split_paths(&path))).unwrap();
    let mut all = recipes(&text);
    // The others are run by `documented.rs`.
    all.retain(|(name, _)| name.starts_with("vault-"));
    assert!(all.len() >= 4, "{all:?}");
    for (name, commands) in all {
        let script = orders.file("recipe.sh", 0o600, format!("{commands}\n").as_bytes());
        let mut bash = Command::new("bash");
        bash.env_clear().envs(bao.environment()).env("PATH", &path);
        bash.env("ORDERS", orders.path()).env("ETC", &etc).current_dir(orders.path());
        bash.args(["-euo", "pipefail", &script]);
        let done = finish(bash, b"");
        assert_eq!(done.code, 0, "{name}: {done:?}");
        assert!(
            done.stdout.contains("secrets  Vault at ") && done.stdout.contains("billing/1"),
            "{name}: {done:?}"
        );
        assert!(!done.stdout.contains("css_") && !done.stderr.contains("css_"), "{name}: {done:?}");
    }
    assert!(!orders.path().join("master.key").exists());
    let wrapped = std::fs::read_to_string(orders.path().join("master.key.transit")).unwrap();
    assert!(wrapped.starts_with("vault:v2:"));
    let shown = bao.run(&["kv", "get", "-field=countersign", "-mount=countersign", "services/orders/peers"]);
    let shown: serde_json::Value = serde_json::from_str(&shown).unwrap();
    let secret = shown["peers"]["billing"]["credentials"][0]["keys"]["shared-secret"]["ourSecret"].as_str();
    for file in files(&orders.path()) {
        let bytes = std::fs::read(&file).unwrap();
        let secret = secret.unwrap().as_bytes();
        assert!(!bytes.windows(secret.len()).any(|window| window == secret), "{}", file.display());
    }
}
