//! A pair made with an encrypted file: `peer export` on one side, `peer import` on the other.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use serde_json::Value;
use support::life::{exported, states};
use support::{Done, Home, Serving, finish, left_out, new_secret};

/// A key pair of the tests of `age`.
const RECIPIENT: &str = "age1zvkyg2lqzraa2lnjvqej32nkuu0ues2s82hzrye869xeexvn73equnujwj";
const IDENTITY: &str = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
const PASSPHRASE: &str = "a passphrase that nobody guesses";

fn pair() -> (Home, Home) {
    (Home::of("orders"), Home::of("billing"))
}

fn identity(home: &Home) -> String {
    let text = format!("# created: today\n# public key: {RECIPIENT}\n{IDENTITY}\n");
    home.hide(IDENTITY);
    home.file("age.key", 0o600, text.as_bytes())
}

/// `peer export billing` for the key, into a file with this name beside the home.
fn export(orders: &Home, name: &str, options: &[&str]) -> (PathBuf, Value) {
    let out = orders.beside(name);
    let to =
        ["peer", "export", "billing", "--recipient", RECIPIENT, "--json", "--out", out.to_str().unwrap()];
    let said = orders.run(&[&to[..], options].concat()).json();
    (out, said)
}

fn import(billing: &Home, file: &std::path::Path, options: &[&str]) -> Done {
    let key = identity(billing);
    billing.run(&[&["peer", "import", file.to_str().unwrap(), "--identity", &key][..], options].concat())
}

fn shown(home: &Home, name: &str) -> Value {
    home.run(&["peer", "show", name, "--json"]).json()
}

fn nobody(home: &Home) {
    assert_eq!(home.run(&["peer", "list", "--json"]).json().as_array().unwrap().len(), 0);
}

#[test]
fn a_pair_that_a_file_made_has_one_fingerprint_and_calls() {
    for profile in ["cs1", "shared-secret"] {
        let (orders, billing) = pair();
        let server = Serving::https(&orders);
        let (file, said) = export(&orders, "billing.age", &["--profile", profile, "--url", server.url()]);
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
        assert_eq!((&said["url"], &said["tlsPin"]), (&server.url().into(), &orders.pin().into()));
        let digits = said["fingerprint"].as_str().unwrap();
        let done = import(&billing, &file, &["--fingerprint", &digits.replace(' ', "-"), "--json"]).json();
        assert_eq!((&done["fingerprint"], &done["fingerprintGiven"]), (&digits.into(), &true.into()));
        for (home, name) in [(&orders, "billing"), (&billing, "orders")] {
            let peer = shown(home, name);
            assert_eq!(
                (&peer["profile"], &peer["credentials"][0]["fingerprint"]),
                (&profile.into(), &digits.into())
            );
        }
        support::eventually("the server has taken the peer over", || {
            billing.run(&["call", &format!("{}/hello", server.url())]).code == 0
        });
    }
}

#[test]
fn without_more_the_operators_are_told_to_compare_and_the_trail_knows() {
    let (orders, billing) = pair();
    let said = orders.run(&["peer", "export", "billing", "--recipient", RECIPIENT]).ok();
    assert!(said.contains("fingerprint") && said.contains("cannot call: --url"), "{said}");
    assert_eq!(exported(&orders), ["billing.peer.age"]);
    let said = import(&billing, &orders.path().join("exchange/billing.peer.age"), &[]).ok();
    for text in
        ["at a number that you knew before", "all six groups", "peer remove orders", "No URL is in it"]
    {
        assert!(said.contains(text), "no {text:?} in {said}");
    }
    for (home, step, detail) in [
        (&orders, "peer-export", "its keys were made here, and written for one age key"),
        (&billing, "peer-import", "orders made its keys; its fingerprint was not given"),
    ] {
        let record = home.records().pop().unwrap();
        assert_eq!((&record["step"], &record["reason"]), (&step.into(), &"peer-added".into()));
        assert!(record["detail"].as_str().unwrap().starts_with(detail), "{record}");
    }
    let said = orders.run(&["peer", "remove", "billing"]).ok();
    assert!(said.contains("billing.peer.age") && exported(&orders).is_empty(), "{said}");
}

#[test]
fn everything_that_was_agreed_is_in_the_file_and_can_be_overridden() {
    let (orders, billing) = pair();
    let config = orders.path().join("countersign.toml");
    let text = fs::read_to_string(&config).unwrap();
    let set = "[serve]\nexternal_urls = [\"https://orders.example/api\"]\n";
    fs::write(&config, text.replacen("[serve]\n", set, 1)).unwrap();
    let pin = billing.pin();
    let more = ["--binding", "tls-exporter", "--their-url", "https://billing.example", "--tls-pin", &pin];
    let (file, _) = export(&orders, "one.age", &more);
    let ours = shown(&orders, "billing");
    assert_eq!((&ours["url"], &ours["binding"]), (&"https://billing.example".into(), &"tls-exporter".into()));
    assert_eq!(ours["tls"], format!("pinned key {pin}"));
    import(&billing, &file, &["--name", "shop"]).ok();
    let theirs = shown(&billing, "shop");
    assert_eq!(
        (&theirs["url"], &theirs["binding"]),
        (&"https://orders.example/api".into(), &"tls-exporter".into())
    );
    assert_eq!(theirs["tls"], format!("pinned key {}", orders.pin()));
    billing.run(&["peer", "remove", "shop"]).ok();
    import(&billing, &file, &["--url", "https://10.0.0.1:8443", "--tls-ca", &orders.certificate()]).ok();
    let theirs = shown(&billing, "orders");
    assert_eq!(
        (&theirs["url"], &theirs["tls"]),
        (&"https://10.0.0.1:8443".into(), &"given certificates".into())
    );

    orders.run(&["peer", "remove", "billing"]).ok();
    let (file, said) = export(&orders, "two.age", &["--no-tls-pin"]);
    assert!(said["tlsPin"].is_null());
    billing.run(&["peer", "remove", "orders"]).ok();
    import(&billing, &file, &[]).ok();
    assert_eq!(shown(&billing, "orders")["tls"], "the system's certificate authorities");
}

#[test]
fn a_passphrase_opens_what_was_written_with_it_and_another_one_does_not() {
    let (orders, billing) = pair();
    let file = orders.beside("billing.age");
    let out = ["--out", file.to_str().unwrap(), "--passphrase-file"];
    let to = ["peer", "export", "billing"];
    let short = orders.secret_file("short", "fifteen letters");
    orders.run(&[&to[..], &out, &[&short]].concat()).refused(1, &["shorter than 16", "Nothing was changed"]);
    assert!(!file.exists());
    let open = orders.file("open", 0o644, b"a passphrase that others read");
    orders.run(&[&to[..], &out, &[&open]].concat()).refused(1, &["can be read by others"]);
    orders.hide(PASSPHRASE);
    let said = orders.run_with(&[&to[..], &out, &["-"]].concat(), PASSPHRASE.as_bytes()).ok();
    assert!(said.contains("Never send the passphrase"), "{said}");

    let path = file.to_str().unwrap();
    billing.run(&["peer", "import", path]).refused(2, &["where is the passphrase?"]);
    import(&billing, &file, &[]).refused(2, &["encrypted with a passphrase", "--passphrase-file"]);
    let wrong = billing.secret_file("wrong", "a passphrase that somebody guesses");
    billing
        .run(&["peer", "import", path, "--passphrase-file", &wrong])
        .refused(1, &["passphrase is another one"]);
    nobody(&billing);
    let mut command = billing.command(&["peer", "import", path, "--passphrase-file", "env:PASSPHRASE"]);
    command.env("PASSPHRASE", PASSPHRASE);
    billing.finish(command, b"").ok();
    assert_eq!(states(&billing, "orders"), ["orders/1 current"]);
}

#[test]
fn a_file_for_another_key_a_changed_one_and_one_that_was_cut_off_change_nothing() {
    let (orders, billing) = pair();
    let (file, _) = export(&orders, "billing.age", &[]);
    let text = fs::read_to_string(&file).unwrap();
    let other = billing
        .secret_file("other", "AGE-SECRET-KEY-1GQ9778VQXMMJVE8SK7J6VT8UJ4HDQAJUVSFCWCM02D8GEWQ72PVQ2Y5J33");
    let path = file.to_str().unwrap();
    billing
        .run(&["peer", "import", path, "--identity", &other])
        .refused(1, &["this key does not open it", "Nothing was changed"]);
    billing.run(&["peer", "import", path]).refused(2, &["encrypted for an age key", "--identity"]);
    let given = |bytes: &[u8]| import(&billing, billing.file("given", 0o644, bytes).as_ref(), &[]);
    let middle = text.len() / 2;
    let changed = if text.as_bytes()[middle] == b'A' { "B" } else { "A" };
    given([&text[..middle], changed, &text[middle + 1..]].concat().as_bytes())
        .refused(1, &["Nothing was changed"]);
    for length in [0, 1, 40, middle, text.len() - 40] {
        given(&text.as_bytes()[..length]).refused(1, &["Nothing was changed"]);
    }
    given(&vec![b'x'; 70_000]).refused(1, &["longer than 65536"]);
    given(b"FORM=countersign-peer-1\n").refused(1, &["not an age file"]);
    given(b"\xff\xfe\x00").refused(1, &["not an age file"]);
    let missing = billing.beside("missing");
    import(&billing, &missing, &[]).refused(1, &["No such file"]);
    let wrong = ["--fingerprint", "00000 11111 22222 33333 44444 55555"];
    import(&billing, &file, &wrong).refused(1, &["not that of these keys", "Nothing was changed"]);
    nobody(&billing);
    import(&billing, &file, &[]).ok();
}

#[test]
fn a_file_is_imported_once_by_the_other_side_and_under_a_free_name() {
    let (orders, billing) = pair();
    let (file, _) = export(&orders, "billing.age", &[]);
    import(&orders, &file, &[]).refused(1, &["made by a service named `orders`", "Nothing was changed"]);
    import(&orders, &file, &["--name", "other"])
        .refused(1, &["keys of billing/1", "belongs on the other side"]);
    import(&orders, &file, &["--name", "orders"]).refused(1, &["is this service itself"]);
    import(&billing, &file, &[]).ok();
    for more in [&[][..], &["--name", "again"]] {
        import(&billing, &file, more)
            .refused(1, &["keys of orders/1", "imported before", "Nothing was changed"]);
    }
    // The other side begins again.
    orders.run(&["peer", "remove", "billing"]).ok();
    let (second, _) = export(&orders, "second.age", &[]);
    import(&billing, &second, &[]).refused(1, &["a peer named `orders` already, with other keys", "--name"]);
    assert_eq!(billing.run(&["peer", "list", "--json"]).json().as_array().unwrap().len(), 1);
    billing.run(&["revoke", "orders"]).ok();
    import(&billing, &file, &["--name", "again"]).refused(1, &["keys of orders/1"]);
}

#[test]
fn what_cannot_be_exported_is_said_before_anything_is_made() {
    let orders = Home::of("orders");
    orders.hide(IDENTITY);
    let to = |name: &str, options: &[&str]| orders.run(&[&["peer", "export", name][..], options].concat());
    let key = ["--recipient", RECIPIENT];
    to("billing", &[]).refused(2, &["who is to be able to read it?"]);
    to("billing", &["--recipient", IDENTITY]).refused(2, &["the secret part of an age key"]);
    to("billing", &["--recipient", "age1short"]).refused(2, &["not the public part"]);
    to("orders", &key).refused(1, &["is this service itself"]);
    to("billing", &[&key[..], &["--profile", "api-key"]].concat()).refused(2, &["by hand"]);
    to("billing", &[&key[..], &["--profile", "shared-secret", "--binding", "tls-exporter"]].concat())
        .refused(2, &["cs1"]);
    to("billing", &[&key[..], &["--url", "ftp://x"]].concat()).refused(1, &[]);
    let there = orders.file("there", 0o644, b"before");
    to("billing", &[&key[..], &["--out", &there]].concat())
        .refused(1, &["is there already", "Nothing was changed"]);
    assert_eq!(fs::read(&there).unwrap(), b"before");
    let nowhere = orders.beside("no/such/directory");
    to("billing", &[&key[..], &["--out", nowhere.to_str().unwrap()]].concat())
        .refused(1, &["nothing was changed"]);
    nobody(&orders);
    to("billing", &key).ok();
    to("billing", &[&key[..], &["--out", "other.age"]].concat())
        .refused(1, &["there is a peer named `billing` already"]);
    assert!(!orders.beside("other.age").exists());
}

#[test]
fn on_standard_output_is_the_file_and_nothing_else_or_nothing_was_changed() {
    let (orders, billing) = pair();
    let to = ["peer", "export", "billing", "--recipient", RECIPIENT, "--out", "-"];
    let full = fs::File::options().write(true).open("/dev/full").unwrap();
    let mut child = orders.command(&to);
    let output = child.stdout(full).stderr(Stdio::piped()).spawn().unwrap().wait_with_output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert!(output.status.code() == Some(1) && said.contains("billing was not added"), "{said}");
    nobody(&orders);
    let done = orders.run(&to);
    assert!(done.code == 0 && done.stderr.contains("fingerprint"), "{done:?}");
    let key = identity(&billing);
    billing.run_with(&["peer", "import", "-", "--identity", &key], done.stdout.as_bytes()).ok();
    assert!(exported(&orders).is_empty());
    let both = billing.run_with(&["peer", "import", "-", "--identity", "-"], b"x");
    both.refused(2, &["cannot both come from standard input"]);
}

#[test]
fn a_run_that_was_killed_leaves_a_file_that_opens_nothing_and_is_not_overwritten() {
    let orders = Home::of("orders");
    let store = orders.path().join("store.sqlite");
    let before = fs::read(&store).unwrap();
    let to = ["peer", "export", "billing", "--recipient", RECIPIENT];
    orders.run(&to).ok();
    for end in ["-wal", "-shm"] {
        let _ = fs::remove_file(orders.path().join(format!("store.sqlite{end}")));
    }
    fs::write(&store, before).unwrap();
    nobody(&orders);
    orders.run(&to).refused(1, &["an interrupted `peer export`", "`rm ", "Nothing was changed"]);
    fs::remove_file(orders.path().join("exchange/billing.peer.age")).unwrap();
    orders.run(&to).ok();
}

#[test]
fn a_full_disk_leaves_a_peer_with_its_file_or_neither() {
    let orders = Home::of("orders");
    for (failed, blocks) in [0, 1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048].into_iter().enumerate() {
        let program = orders.command(&["peer", "export", "billing", "--recipient", RECIPIENT]);
        let mut limited = Command::new("bash");
        limited.args(["-c", "trap '' XFSZ; ulimit -f $0 && exec \"$@\"", &blocks.to_string()]);
        limited.arg(program.get_program()).args(program.get_args()).env("HOME", "/nonexistent");
        let done = orders.finish(limited, b"");
        let added = orders.run(&["peer", "list", "--json"]).json().as_array().unwrap().len() == 1;
        assert_eq!(added, exported(&orders).len() == 1, "{blocks}: {done:?}");
        if added {
            assert!(failed > 0, "it never ran out of space");
            return;
        }
        assert_eq!(done.code, 1, "{blocks}: {done:?}");
    }
    unreachable!("it never had enough");
}

/// The text that `age` takes out of a file with this key.
fn decrypted(key: &str, file: &std::path::Path) -> String {
    let mut age = Command::new("age");
    age.args(["--decrypt", "--identity", key]).arg(file);
    let done = finish(age, b"");
    done.ok()
}

#[test]
fn the_program_age_reads_our_files_and_we_read_its() {
    if left_out("age") {
        return;
    }
    let (orders, billing) = pair();
    let made = billing.beside("made.key");
    let mut keygen = Command::new("age-keygen");
    keygen.arg("--output").arg(&made);
    let said = finish(keygen, b"").stderr;
    let recipient = said.lines().find_map(|line| line.strip_prefix("Public key: ")).unwrap();
    billing.hide(fs::read_to_string(&made).unwrap().lines().last().unwrap());
    let (made, file) = (made.to_str().unwrap(), orders.beside("billing.age"));
    let both = ["--recipient", recipient, "--recipient", RECIPIENT, "--out", file.to_str().unwrap()];
    orders.run(&[&["peer", "export", "billing"][..], &both].concat()).ok();
    let text = decrypted(made, &file);
    assert_eq!(text, decrypted(&identity(&billing), &file));
    assert!(text.contains("FORM=countersign-peer-1\n"), "the form is as documented");
    let secret = text.lines().find_map(|line| line.strip_prefix("SECRET=")).unwrap();
    orders.hide(secret);
    billing.hide(secret);

    // Written by hand and encrypted by `age`: armored and not, whole, of a later version, and with a line too much.
    let foreign = |text: &str, armor: bool| {
        let path = billing.beside("foreign.age");
        let mut age = Command::new("age");
        age.args(["--recipient", recipient, "--output"]).arg(&path);
        if armor {
            age.arg("--armor");
        }
        assert_eq!(finish(age, text.as_bytes()).code, 0);
        billing.run(&["peer", "import", path.to_str().unwrap(), "--identity", made])
    };
    foreign(&text.replace("countersign-peer-1", "countersign-peer-2"), true)
        .refused(1, &["a later version of Countersign"]);
    foreign(&format!("{text}MORE=1\n"), false).refused(1, &["line "]);
    foreign(&text.replace(secret, &new_secret()), false).refused(1, &["their fingerprint is another one"]);
    foreign(&"# remark\n".repeat(1000), false).refused(1, &["longer than 4096"]);
    foreign("API_KEY=x\n", true).refused(1, &["not what `countersign peer export` writes"]);
    nobody(&billing);
    foreign(&text, true).ok();
    billing.run(&["peer", "remove", "orders"]).ok();
    foreign(&text.replace('\n', "\r\n"), false).ok();
}
