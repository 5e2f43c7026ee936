//! `keygen`, `init`, and what stands between a home and its master key.

#![allow(clippy::unwrap_used, reason = "what breaks in a helper ends the test")]

mod support;

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;

use countersign::{ApiKey, SharedSecret};
use support::{Home, countersign, files, finish};

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o7777
}

/// Every file with its bytes.
fn content(home: &Home) -> Vec<(std::path::PathBuf, Vec<u8>)> {
    let mut all: Vec<_> =
        files(&home.path()).into_iter().map(|path| (path.clone(), fs::read(path).unwrap())).collect();
    all.sort();
    all
}

#[test]
fn keygen_prints_a_fresh_key_and_a_fresh_secret_a_line_each() {
    let run = |arguments: &[&str]| {
        let mut command = countersign();
        command.arg("keygen").args(arguments);
        finish(command, b"").ok()
    };
    let text = run(&[]);
    let lines: Vec<_> = text.lines().collect();
    let key = lines[0].strip_prefix("API_KEY=").unwrap();
    let secret = lines[1].strip_prefix("SECRET=").unwrap();
    assert_eq!(lines.len(), 2);
    assert!(key.starts_with("csk_") && key.parse::<ApiKey>().is_ok_and(|key| key.check_as_secret().is_ok()));
    assert!(secret.starts_with("css_") && secret.parse::<SharedSecret>().is_ok());
    assert_ne!(run(&[]), text);
    let json: serde_json::Value = serde_json::from_str(&run(&["--json"])).unwrap();
    assert!(json["apiKey"].as_str().unwrap().parse::<ApiKey>().is_ok());
    assert!(json["secret"].as_str().unwrap().parse::<SharedSecret>().is_ok());
}

#[test]
fn what_init_makes_is_for_its_owner_alone() {
    let home = Home::of("orders");
    let at = |name: &str| home.path().join(name);
    for directory in ["", "tls"] {
        assert_eq!(mode(&at(directory)), 0o700, "{directory}");
    }
    for file in ["countersign.toml", "master.key", "store.sqlite", "tls/key.pem"] {
        assert_eq!(mode(&at(file)), 0o600, "{file}");
    }
    assert!(at("tls/certificate.pem").exists());
    // What later commands add is no more open.
    home.run(&["peer", "list"]).ok();
    let _serving = support::Serving::http(&home);
    for file in files(&home.path()) {
        let public = file.ends_with("tls/certificate.pem");
        assert!(public || mode(&file) & 0o077 == 0, "{} has mode {:o}", file.display(), mode(&file));
    }
}

#[test]
fn init_prints_the_pin_that_status_shows() {
    let home = Home::empty();
    let text = home.run(&["init", "--service", "orders"]).ok();
    let pin = home.pin();
    assert!(pin.starts_with("sha256/") && text.contains(&pin), "{text}");
    assert!(home.run(&["status"]).ok().contains(&pin));
}

#[test]
fn a_second_init_changes_nothing() {
    let home = Home::of("orders");
    let before = content(&home);
    home.run(&["init", "--service", "billing"]).refused(1, &["already", "nothing was changed"]);
    assert_eq!(content(&home), before);
}

#[test]
fn an_interrupted_init_can_be_run_again_and_keeps_what_there_is() {
    let home = Home::of("orders");
    let config = home.path().join("countersign.toml");
    let pin = home.pin();
    let master = fs::read(home.path().join("master.key")).unwrap();
    fs::remove_file(&config).unwrap();
    home.run(&["status"]).refused(1, &["countersign init"]);
    home.run(&["init", "--service", "orders"]).ok();
    assert_eq!(home.pin(), pin);
    assert_eq!(fs::read(home.path().join("master.key")).unwrap(), master);
    // A key without its certificate: peers may have its pin, so that it is kept.
    let key = fs::read(home.path().join("tls/key.pem")).unwrap();
    fs::remove_file(&config).unwrap();
    fs::remove_file(home.certificate()).unwrap();
    home.run(&["init", "--service", "orders"]).ok();
    assert_eq!(home.pin(), pin);
    assert_eq!(fs::read(home.path().join("tls/key.pem")).unwrap(), key);
    support::Serving::https(&home);
    // But not if others can read it.
    fs::remove_file(&config).unwrap();
    fs::remove_file(home.certificate()).unwrap();
    fs::set_permissions(home.path().join("tls/key.pem"), fs::Permissions::from_mode(0o640)).unwrap();
    home.run(&["init", "--service", "orders"]).refused(1, &["can be read by others", "chmod 600"]);
    assert_eq!(fs::read(home.path().join("tls/key.pem")).unwrap(), key);
}

#[test]
fn an_init_on_a_full_disk_can_be_run_again_wherever_it_broke_off() {
    let mut broken = 0;
    for blocks in 0..400 {
        let home = Home::empty();
        // No file may get longer than this, which fails as a full disk does.
        let mut limited = std::process::Command::new("sh");
        limited.args(["-c", "trap '' XFSZ; ulimit -f $0 && exec \"$@\"", &blocks.to_string()]);
        let command = home.command(&["init", "--service", "orders"]);
        limited.arg(command.get_program()).args(command.get_args());
        for (name, value) in command.get_envs() {
            match value {
                Some(value) => limited.env(name, value),
                None => limited.env_remove(name),
            };
        }
        let done = home.finish(limited, b"");
        let left: Vec<_> = files(&home.path());
        let unfinished = |path: &&std::path::PathBuf| path.to_str().unwrap().contains("unfinished");
        assert_eq!(left.iter().find(unfinished), None);
        if done.code == 0 {
            break;
        }
        broken += 1;
        done.refused(1, &[]);
        home.run(&["init", "--service", "orders"]).ok();
        home.run(&["peer", "list"]).ok();
    }
    assert!(broken > 2, "the limit did nothing");
}

#[test]
fn what_an_older_interrupted_init_left_is_named_and_not_touched() {
    let torn = |keep: &[&str], file: &str, text: &str| {
        let home = Home::of("orders");
        for name in ["countersign.toml", "tls/certificate.pem", "tls/key.pem", "store.sqlite", "master.key"] {
            if !keep.contains(&name) {
                fs::remove_file(home.path().join(name)).unwrap();
            }
        }
        let path = home.path().join(file);
        fs::write(&path, text).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        let remove = format!("remove {}", path.display());
        home.run(&["init", "--service", "orders"]).refused(1, &[&remove, "`countersign init` again"]);
        assert_eq!(fs::read_to_string(&path).unwrap(), text);
        fs::remove_file(&path).unwrap();
        home.run(&["init", "--service", "orders"]).ok();
        support::Serving::https(&home);
    };
    let (key, store) = ("master.key", "store.sqlite");
    for text in ["", "AAAA"] {
        torn(&[], key, text);
        torn(&[key, store], "tls/key.pem", text);
        torn(&[key, store, "tls/key.pem"], "tls/certificate.pem", text);
    }
    torn(&[key], store, "");
    for text in ["", "# Countersign.", "service = \"ord"] {
        torn(&[key, store, "tls/key.pem", "tls/certificate.pem"], "countersign.toml", text);
    }
    // A certificate without its key, and with the key of another.
    let (home, other) = (Home::of("orders"), Home::of("other"));
    let key = home.path().join("tls/key.pem");
    fs::remove_file(home.path().join("countersign.toml")).unwrap();
    fs::remove_file(&key).unwrap();
    home.run(&["init", "--service", "orders"]).refused(1, &["its key", "put the key back"]);
    fs::copy(other.path().join("tls/key.pem"), &key).unwrap();
    let remove = format!("remove {}", home.certificate());
    home.run(&["init", "--service", "orders"]).refused(1, &["cannot be used", &remove]);
}

#[test]
fn a_home_that_everybody_can_write_to_is_refused() {
    let home = Home::of("orders");
    let set = |mode| fs::set_permissions(home.path(), fs::Permissions::from_mode(mode)).unwrap();
    let chmod = format!("chmod 700 {}", home.path().display());
    for mode in [0o777, 0o702] {
        set(mode);
        for arguments in [
            &["peer", "list"][..],
            &["peer", "remove", "billing"],
            &["status"],
            &["serve", "--listen", "http://127.0.0.1:0"],
            &["call", "http://127.0.0.1:1/"],
        ] {
            home.run(arguments).refused(1, &["everybody can write", &chmod]);
        }
        fs::rename(home.path().join("countersign.toml"), home.beside("config")).unwrap();
        let before = content(&home);
        home.run(&["init", "--service", "orders"]).refused(1, &["everybody can write", &chmod]);
        assert_eq!(content(&home), before);
        fs::rename(home.beside("config"), home.path().join("countersign.toml")).unwrap();
    }
    for mode in [0o1777, 0o755, 0o700] {
        set(mode);
        home.run(&["peer", "list"]).ok();
    }
}

#[test]
fn the_certificate_is_for_loopback_and_the_given_hosts() {
    let home = Home::empty();
    home.run(&["init", "--service", "orders", "--host", "orders.example", "--host", "192.0.2.7"]).ok();
    let text = fs::read_to_string(home.certificate()).unwrap();
    let der = {
        use rustls::pki_types::pem::PemObject as _;
        rustls::pki_types::CertificateDer::from_pem_slice(text.as_bytes()).unwrap()
    };
    let has = |bytes: &[u8]| der.windows(bytes.len()).any(|window| window == bytes);
    assert!(has(b"localhost") && has(b"orders.example") && has(&[192, 0, 2, 7]) && has(&[127, 0, 0, 1]));
}

#[test]
fn names_that_are_none_are_refused_and_made_harmless() {
    for bad in [
        "",
        "Orders",
        "-orders",
        "or ders",
        "orders\n",
        "\u{1b}[31morders",
        "or'd\"ers",
        "\u{9b}31m",
        "ordérs",
    ] {
        let home = Home::empty();
        let done = home.run(&["init", &format!("--service={bad}")]);
        done.refused(2, &["--service"]);
        assert!(!home.path().exists(), "{bad:?}");
    }
    let home = Home::empty();
    let done = home.run(&["init", "--service", "orders", "--host", "\u{1b}[31m\nevil"]);
    assert_eq!(done.code, 1, "{done:?}");
    assert!(!home.path().join("countersign.toml").exists());
}

#[test]
fn a_home_with_a_hostile_name_is_shown_harmlessly() {
    let directory = tempfile::tempdir().unwrap();
    let home = directory.path().join("a\u{1b}[31m\u{9b}b");
    for arguments in [
        &["init", "--service", "orders"][..],
        &["status"],
        &["status", "--json"],
        &["init", "--service", "a"],
    ] {
        let mut command = countersign();
        command.arg("--home").arg(&home).args(arguments);
        finish(command, b"");
    }
}

#[test]
fn the_home_may_come_from_the_environment() {
    let home = Home::of("orders");
    let mut command = countersign();
    command.env("COUNTERSIGN_HOME", home.path()).args(["status", "--json"]);
    assert_eq!(finish(command, b"").json()["service"], "orders");
    let mut command = countersign();
    command.env_remove("HOME").arg("status");
    finish(command, b"").refused(2, &["--home"]);
}

#[test]
fn a_home_that_is_none_is_told_as_such() {
    let home = Home::empty();
    for arguments in [
        &["status"][..],
        &["peer", "list"],
        &["audit", "tail"],
        &["serve", "--listen", "http://127.0.0.1:0"],
        &["call", "http://127.0.0.1:1/"],
    ] {
        home.run(arguments).refused(1, &["countersign init --service NAME"]);
    }
    assert!(!home.path().exists());
}

#[test]
fn without_the_right_master_key_nothing_is_done_and_nothing_is_overwritten() {
    let home = Home::of("orders");
    let key = home.path().join("master.key");
    let right = fs::read(&key).unwrap();
    home.hide(std::str::from_utf8(&right).unwrap().trim());
    let other = Home::of("other");
    let commands = [&["peer", "list"][..], &["status"], &["serve", "--listen", "http://127.0.0.1:0"]];
    let refuse = |said: &[&str]| {
        let before = content(&home);
        for arguments in commands {
            home.run(arguments).refused(1, said);
        }
        fs::rename(home.path().join("countersign.toml"), home.beside("config")).unwrap();
        home.run(&["init", "--service", "orders"]).refused(1, said);
        fs::rename(home.beside("config"), home.path().join("countersign.toml")).unwrap();
        let kept = |(path, _): &(std::path::PathBuf, Vec<u8>)| !path.to_str().unwrap().contains("sqlite-");
        let (mut before, mut after) = (before, content(&home));
        before.retain(kept);
        after.retain(kept);
        assert_eq!(before, after);
    };
    fs::copy(other.path().join("master.key"), &key).unwrap();
    refuse(&["the master key is not the one"]);
    fs::write(&key, "too short\n").unwrap();
    refuse(&["does not hold a master key"]);
    fs::write(&key, &right).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o640)).unwrap();
    refuse(&["can be read by others", "chmod 600"]);
    fs::remove_file(&key).unwrap();
    refuse(&["master key", "master.key"]);
    // Back in place, everything is as it was; and the environment does as well.
    let mut command = home.command(&["peer", "list"]);
    command.env("COUNTERSIGN_MASTER_KEY", std::str::from_utf8(&right).unwrap());
    home.finish(command, b"").ok();
    fs::write(&key, &right).unwrap();
    fs::set_permissions(&key, fs::Permissions::from_mode(0o600)).unwrap();
    home.run(&["peer", "list"]).ok();
}

#[test]
fn an_empty_home_variable_counts_as_none() {
    let home = Home::empty();
    let data = home.beside("data");
    let mut command = countersign();
    command.args(["init", "--service", "orders"]).env("COUNTERSIGN_HOME", "").env("XDG_DATA_HOME", &data);
    finish(command, b"").ok();
    assert!(data.join("countersign/countersign.toml").exists());
}
