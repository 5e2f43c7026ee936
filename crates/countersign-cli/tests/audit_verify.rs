//! `audit verify`, `audit export` and `audit tail --follow` with the real command.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::fs;
use std::io::{BufRead as _, BufReader};
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::process::Stdio;

use serde_json::{Value, json};
use support::{Connection, Home, Pair, Serving, eventually, exchange};

/// `orders` has been called some times, by its peer and by strangers.
fn called() -> (Pair, Serving) {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    for _ in 0..2 {
        pair.billing.run(&["call", serving.url()]).ok();
        exchange(serving.address(), "GET", "/", &[], b"");
    }
    (pair, serving)
}

/// Does something to the lines of a file.
type Tampering = fn(&mut Vec<String>);

fn file(home: &Home) -> PathBuf {
    home.path().join("audit/serve.jsonl")
}

fn change(home: &Home, change: impl FnOnce(&mut Vec<String>)) {
    let text = fs::read_to_string(file(home)).unwrap();
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    change(&mut lines);
    fs::write(file(home), lines.concat()).unwrap();
}

#[test]
fn a_whole_trail_is_told_and_so_is_each_writers_last_record() {
    let (pair, serving) = called();
    // While the server runs.
    let text = pair.orders.run(&["audit", "verify"]).ok();
    assert!(text.contains("whole  admin    1 records, 1 to 1, 1 files"), "{text}");
    let report = pair.orders.run(&["audit", "verify", "--json"]).json();
    assert_eq!((&report["whole"], &report["faults"]), (&json!(true), &json!([])));
    let serve = &report["writers"][1];
    assert_eq!((&serve["writer"], &serve["first"], &serve["last"]), (&json!("serve"), &json!(1), &json!(8)));
    let anchor = serve["anchor"].as_str().unwrap();
    assert!(text.contains(anchor), "{text}");
    pair.orders.run(&["audit", "verify", "--expect", anchor]).ok();
    let other = anchor.replace(":8:", ":7:");
    pair.orders.run(&["audit", "verify", "--expect", &other]).refused_with_output(1, "was written anew");
    pair.orders.run(&["audit", "verify", "--expect", "serve:8"]).refused(2, &["WRITER:NUMBER:MAC"]);
    drop(serving);
    let empty = Home::of("nobody");
    assert!(empty.run(&["audit", "verify"]).ok().contains("nothing was ever written"));
}

#[test]
fn what_somebody_did_to_the_trail_is_named_and_the_exit_code_is_1() {
    let tamperings: [(&str, &str, Tampering); 4] = [
        ("changed", "record 2 was changed (serve.jsonl, line 2)", |lines| {
            lines[1] = lines[1].replace("accepted", "refused");
        }),
        ("missing", "record 2 is removed between record 1 and record 3", |lines| drop(lines.remove(1))),
        ("moved", "record 2 stands behind record 3 (serve.jsonl, line 3)", |lines| lines.swap(1, 2)),
        ("cut-off", "the store knows of 8, the files end with record 7", |lines| drop(lines.pop())),
    ];
    let (pair, mut serving) = called();
    // A kill could come between the last record and its head.
    serving.terminate();
    serving.ended();
    let whole = fs::read(file(&pair.orders)).unwrap();
    for (kind, said, tamper) in tamperings {
        fs::write(file(&pair.orders), &whole).unwrap();
        change(&pair.orders, tamper);
        let done = pair.orders.run(&["audit", "verify"]);
        done.refused_with_output(1, said);
        assert!(done.stderr.contains("the trail is not whole: 1 fault"), "{done:?}");
        let done = pair.orders.run(&["audit", "verify", "--json"]);
        let report: Value = serde_json::from_str(&done.stdout).unwrap();
        assert_eq!(
            (done.code, &report["whole"], &report["faults"][0]["kind"]),
            (1, &json!(false), &json!(kind))
        );
    }
    // Nothing is put right by writing on.
    let serving = Serving::http(&pair.orders);
    exchange(serving.address(), "GET", "/", &[], b"");
    pair.orders.run(&["audit", "verify"]).refused_with_output(1, "record 8");
}

#[test]
fn an_export_has_what_was_asked_for_in_stable_columns() {
    let (pair, _serving) = called();
    let lines = |arguments: &[&str]| -> Vec<Value> {
        let text = pair.orders.run(&[&["audit", "export"][..], arguments].concat()).ok();
        text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    };
    let all = lines(&[]);
    assert_eq!(all.len(), 9);
    assert!(all.iter().all(|record| ["serve", "admin"].contains(&record["writer"].as_str().unwrap())));
    assert_eq!(lines(&["--outcome", "accepted"]).len(), 4);
    assert_eq!(lines(&["--peer", "billing"]).len(), 7);
    assert_eq!(lines(&["--peer", "nobody"]).len(), 0);
    let middle = all[4]["time"].as_str().unwrap();
    let (before, after) = (lines(&["--until", middle]), lines(&["--since", middle]));
    assert_eq!(before.len() + after.len(), 9);
    assert!(before.iter().all(|record| record["time"].as_str().unwrap() < middle));
    assert_eq!(lines(&["--since", "2999-01-01"]).len(), 0);
    let table = pair.orders.run(&["audit", "export", "--format", "csv"]).ok();
    let head = table.lines().next().unwrap();
    assert_eq!(
        head,
        "writer,seq,time,direction,service,credential,profile,step,source,outcome,reason,detail,requestId,count,\
         firstTime,lastTime,sourceNetwork,v,prev,mac"
    );
    assert_eq!(table.lines().count(), 10);
    assert!(
        table.contains(",inbound,billing,billing/1,shared-secret,token,127.0.0.1,accepted,accepted,"),
        "{table}"
    );
}

#[test]
fn an_export_to_a_file_is_private_and_whole_or_not_there() {
    let (pair, _serving) = called();
    let out = pair.orders.beside("trail.csv");
    let arguments = ["audit", "export", "--format", "csv", "--out", out.to_str().unwrap()];
    let done = pair.orders.run(&arguments);
    assert_eq!((done.code, done.stdout.as_str()), (0, ""), "{done:?}");
    assert!(done.stderr.contains("9 records"), "{done:?}");
    assert_eq!(fs::metadata(&out).unwrap().permissions().mode() & 0o777, 0o600);
    let before = fs::read(&out).unwrap();
    pair.orders.run(&arguments).refused(1, &["it is there already"]);
    assert_eq!(fs::read(&out).unwrap(), before);
    fs::remove_file(&out).unwrap();
    change(&pair.orders, |lines| lines[1] = lines[1].replace("accepted", "refused"));
    pair.orders
        .run(&arguments)
        .refused(1, &["nothing is exported", "record 2 was changed", "--danger-unverified"]);
    assert!(!out.exists());
    let done = pair.orders.run(&[&arguments[..], &["--danger-unverified"]].concat());
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stderr.contains("not verified") && out.exists(), "{done:?}");
    let beside: Vec<_> =
        fs::read_dir(pair.orders.beside("")).unwrap().map(|it| it.unwrap().file_name()).collect();
    assert!(!beside.iter().any(|name| name.to_string_lossy().ends_with(".unfinished")), "{beside:?}");
}

#[test]
fn whoever_follows_sees_what_comes_and_ends_when_nobody_reads_any_more() {
    let (pair, serving) = called();
    let mut command = pair.orders.command(&["audit", "tail", "-n", "1", "-f"]);
    let mut child = command.stdout(Stdio::piped()).spawn().unwrap();
    let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
    let mut next = || serde_json::from_str::<Value>(&lines.next().unwrap().unwrap()).unwrap()["seq"].clone();
    assert_eq!(next(), 8);
    exchange(serving.address(), "GET", "/", &[], b"");
    assert_eq!(next(), 9);
    // Put aside, as rotation does it.
    let aside = pair.orders.path().join("audit/serve.000000000001.jsonl");
    fs::rename(file(&pair.orders), aside).unwrap();
    exchange(serving.address(), "GET", "/", &[], b"");
    assert_eq!(next(), 10);
    pair.orders.run(&["audit", "verify"]).ok();
    drop(lines);
    eventually("it ends without another record", || child.try_wait().unwrap().is_some());
    assert!(child.wait().unwrap().success());

    let child = pair.orders.command(&["audit", "tail", "-f"]).stdout(Stdio::piped()).spawn().unwrap();
    let mut child = child;
    let kill = std::process::Command::new("kill").args(["-INT", &child.id().to_string()]).status().unwrap();
    assert!(kill.success());
    eventually("it ends at SIGINT", || child.try_wait().unwrap().is_some());
}

#[test]
fn the_settings_of_the_trail_are_what_it_does() {
    let pair = Pair::new();
    pair.orders.configure("[audit]\nreserve_mib = 1\nrotate_mib = 1\nkeep_mib = 2");
    let serving = Serving::http(&pair.orders);
    exchange(serving.address(), "GET", "/", &[], b"");
    let reserve = pair.orders.path().join("audit/reserve");
    assert_eq!(fs::metadata(&reserve).unwrap().len(), 1 << 20);
    assert_eq!(fs::metadata(&reserve).unwrap().permissions().mode() & 0o777, 0o600);
    drop(serving);
    pair.orders.configure("");
    let config = pair.orders.path().join("countersign.toml");
    let text = fs::read_to_string(&config).unwrap();
    fs::write(
        &config,
        text.replace("keep_mib = 2", "keep_mib = 2\nwhen_full = \"danger-continue\"\ndanger_no_sync = true"),
    )
    .unwrap();
    let serving = Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--admin", "127.0.0.1:0"]);
    for said in ["danger_no_sync: attempts are answered", "danger-continue: on a full disk"] {
        assert!(serving.log().contains(said), "{}", serving.log());
    }
    let metrics = exchange(support::serving::address(&serving.urls[1]), "GET", "/metrics", &[], b"");
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(text.contains("countersign_audit_dropped_records_total 0"), "{text}");
}

#[test]
fn a_file_of_the_trail_that_somebody_makes_long_or_renames_makes_the_service_remove_nothing() {
    let pair = Pair::new();
    pair.orders.configure("[audit]\nreserve_mib = 0\nrotate_mib = 1\nkeep_mib = 5");
    let serving = Serving::http(&pair.orders);
    let bearer = pair.bearer(serving.address());
    let request = format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n");
    let audit = pair.orders.path().join("audit");
    let archives = || {
        let names = fs::read_dir(&audit).unwrap().map(|entry| entry.unwrap().path());
        let mut names: Vec<_> =
            names.filter(|path| path.file_name().unwrap().to_str().unwrap().starts_with("serve.0")).collect();
        names.sort();
        names
    };
    let mut connection = Connection::open(serving.address());
    eventually("three files are put aside", || {
        for _ in 0..100 {
            if !connection.try_send(&request) || connection.reply().is_none() {
                connection = Connection::open(serving.address());
            }
        }
        archives().len() >= 3
    });
    drop((connection, serving));
    let before = archives();
    let whole = fs::metadata(&before[0]).unwrap().len();
    let long = fs::OpenOptions::new().write(true).open(&before[0]).unwrap();
    long.set_len(whole + (3 << 20)).unwrap();
    let second = audit.join("serve.000000000002.jsonl");
    fs::rename(before.last().unwrap(), &second).unwrap();
    drop(Serving::http(&pair.orders));
    let report = pair.orders.run(&["audit", "verify", "--json"]);
    assert_eq!(report.code, 1);
    fs::rename(&second, before.last().unwrap()).unwrap();
    assert_eq!(archives(), before);
    // And it says what it saw, also when all is as it was.
    long.set_len(whole).unwrap();
    let said = pair.orders.run(&["audit", "verify"]).ok();
    assert!(said.contains("file-grown"), "{said}");
}
