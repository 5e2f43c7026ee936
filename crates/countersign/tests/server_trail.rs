//! The trail: every attempt is on it with its exact reason and without anything confidential, and nothing is
//! accepted that cannot be written down.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture ends the test")]

mod server_support;

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};

use countersign::audit::{
    AuditError, AuditKey, AuditSink, MemoryHeads, MemorySink, Outcome, Promise, Record, Settings, Ticket,
    Trail, tail,
};
use countersign::protocol::refusal::Refusal;
use countersign::store::Ending;
use countersign::{PeerStore as _, Profile};
use http::Request;
use server_support::*;
use tower::ServiceExt as _;

#[tokio::test]
async fn every_attempt_is_on_the_trail_with_who_how_where_and_why() {
    let world = World::new();
    let token = world.guide_1_token().await;
    world.with_token(&token).await;
    world.guide_2_token().await;
    world.post("/authenticate", &asking(&new_key())).await;
    world.send_from(ELSEWHERE, orders(&[])).await;
    world.send(post("/verify_challenge", &[], "{")).await;

    let trail: Vec<_> = world
        .sink
        .records()
        .into_iter()
        .map(|record| {
            let credential = record.credential.unwrap_or_default();
            let credential =
                if credential.starts_with("unknown:") { "unknown" } else { &credential }.to_owned();
            (record.step, credential, record.profile, record.outcome, record.reason)
        })
        .collect();
    let (guide_1, guide_2) = (Some(Profile::SharedSecret), Some(Profile::ApiKey));
    let expected = [
        ("authenticate", "billing/1", guide_1, Outcome::Challenged, "challenge-sent"),
        ("verify-challenge", "billing/1", guide_1, Outcome::Accepted, "accepted"),
        ("token", "billing/1", guide_1, Outcome::Accepted, "accepted"),
        ("authenticate", "reports/1", guide_2, Outcome::Challenged, "challenge-sent"),
        ("verify-challenge", "reports/1", guide_2, Outcome::Accepted, "accepted"),
        ("authenticate", "unknown", None, Outcome::Refused, "unknown-key"),
        ("request", "", None, Outcome::Refused, "no-credentials"),
        ("verify-challenge", "", None, Outcome::Refused, "malformed"),
    ];
    let expected = expected.map(|(step, credential, profile, outcome, reason)| {
        (step.to_owned(), credential.to_owned(), profile, outcome, reason.to_owned())
    });
    assert_eq!(trail, expected);
    let sources: Vec<_> = world.sink.records().iter().map(|record| record.source.unwrap()).collect();
    for (index, source) in sources.iter().enumerate() {
        assert_eq!(source.to_string(), if index == 6 { ELSEWHERE } else { HOME });
    }
}

#[tokio::test]
async fn one_unknown_key_has_one_name_and_two_have_two() {
    let world = World::new();
    let (one, other) = (new_key(), new_key());
    let mut names = Vec::new();
    for key in [&one, &one, &other] {
        let answer = world.post("/authenticate", &asking(key)).await;
        names.push(world.record_of(&answer).credential.unwrap());
    }
    assert_eq!(names[0], names[1]);
    assert_ne!(names[0], names[2]);
    assert!(names[0].len() == "unknown:".len() + 8);
}

/// What is confidential even where it is not well-formed or in the wrong place.
#[tokio::test]
async fn no_malformed_request_leaves_its_credentials_on_the_trail() {
    let world = World::new();
    let canary = "CANARYcanary0123456789CANARY";
    for body in [
        format!(r#"{{"apiKey":"{canary}"#),
        format!(r#"{{"apiKey":"{canary}","apiKey":"{canary}"}}"#),
        format!(r#"{{"{canary}":"{canary}"}}"#),
        format!(r#"{{"apiKey":"{canary}\u001b[31m"}}"#),
        format!(r#"{{"apiKey":"{canary}","signedChallenge":"{canary}"}}"#),
        format!(r#"{{"apiKey":"{canary}","challenge":"{canary}","signedChallenge":"{}"}}"#, "0".repeat(64)),
        format!(r#"{{"apiKey":"{canary}","secret":"{canary}"}}"#),
        canary.to_owned(),
    ] {
        for path in ["/authenticate", "/verify_challenge"] {
            let answer = world.send(post(path, &[], body.clone())).await;
            let record = world.record_of(&answer);
            assert_eq!((answer.status, record.reason.as_str()), (400, "malformed"), "{path} {body}");
            assert!(record.detail.is_some());
            assert!(!String::from_utf8_lossy(&answer.body).contains("CANARY"), "nor in the answer");
        }
    }
    for name in ["x-api-key", "x-challenge", "x-signature", "x-client-challenge"] {
        let answer = world.orders(&[("x-api-key", format!("{canary}!")), (name, format!("{canary}!"))]).await;
        assert_eq!(world.record_of(&answer).reason, "malformed");
        assert!(!String::from_utf8_lossy(&answer.body).contains("CANARY"));
    }
    assert!(!serde_json::to_string(&world.sink.records()).unwrap().contains("CANARY"));
}

#[tokio::test]
async fn a_middleware_outside_finds_the_exact_reason_in_the_extensions() {
    let world = World::new();
    let response =
        world.app.clone().oneshot(Request::get("/orders").body(axum::body::Body::empty()).unwrap());
    assert_eq!(response.await.unwrap().extensions().get::<Refusal>(), Some(&Refusal::NoCredentials));
}

#[tokio::test]
async fn metrics_count_every_attempt_once() {
    let counted = Arc::new(Mutex::new(Vec::new()));
    let counter = counted.clone();
    let world = World::with(move |builder| {
        builder.counter(move |outcome, reason| counter.lock().unwrap().push((outcome, reason.to_owned())))
    });
    let token = world.guide_1_token().await;
    world.with_token(&token).await;
    world.orders(&[]).await;
    let recorded: Vec<_> =
        world.sink.records().into_iter().map(|record| (record.outcome, record.reason)).collect();
    assert_eq!(*counted.lock().unwrap(), recorded);
    assert_eq!(recorded.len(), 4);
}

/// A disk that can be full.
#[derive(Default)]
struct Disk {
    full: AtomicBool,
    kept: MemorySink,
}

impl AuditSink for Disk {
    fn submit(&self, record: Record) -> Ticket {
        if self.full.load(Ordering::SeqCst) {
            return Ticket::known(Err(AuditError::new("full", std::io::ErrorKind::StorageFull.into())));
        }
        self.kept.submit(record)
    }
}

#[tokio::test]
async fn nothing_is_decided_while_the_trail_cannot_be_written() {
    let disk = Arc::new(Disk::default());
    let world = World::with(|builder| builder.audit(disk.clone()));
    let token = world.guide_1_token().await;
    let challenges = [world.knock(&world.billing.key).await, world.knock(&world.billing.key).await];
    let guide_2 = answer_2(&world.reports, &world.ask(&world.reports).await);
    let mine = ("x-client-challenge", "AAAAAAAAAAAAAAAAAAAAAA==".to_owned());

    disk.full.store(true, Ordering::SeqCst);
    let before = disk.kept.records().len();
    let mut signed = world.billing.signed(&challenges[0]);
    signed.push(mine);
    let mut answers = vec![
        world.orders(&[]).await,
        world.orders(&[("x-api-key", world.billing.key.expose().to_owned())]).await,
        world.orders(&signed).await,
        world.with_token(&token).await,
        world.post("/authenticate", &asking(&world.billing.key)).await,
        world.post("/verify_challenge", &world.billing.answer(&challenges[1])).await,
        world.post("/authenticate", &asking(&world.reports)).await,
        world.post("/verify_challenge", &guide_2).await,
    ];
    answers.push(world.send(post("/authenticate", &[], "{")).await);
    for answer in &answers {
        assert_problem(answer, 503, "unavailable");
        assert_eq!(answer.json().get("challenge"), None, "no challenge that cannot be answered");
        assert_eq!(answer.json().get("token"), None);
    }
    assert_eq!(disk.kept.records().len(), before);

    disk.full.store(false, Ordering::SeqCst);
    assert_eq!(world.with_token(&token).await.status, 200);
    // What was burned stays burned.
    assert_eq!(world.orders(&world.billing.signed(&challenges[0])).await.status, 401);
    assert_eq!(world.post("/verify_challenge", &guide_2).await.status, 401);
}

#[tokio::test]
async fn on_disk_every_record_is_one_line_of_plain_ascii_whatever_came_in() {
    let directory = tempfile::tempdir().unwrap();
    let (key, heads) = (AuditKey::new([7; 32].into()), Box::new(MemoryHeads::default()));
    let lines = Trail::open(directory.path(), "serve", &key, heads, Settings::default()).unwrap();
    let lines = Arc::new(lines);
    let world = World::with(|builder| builder.audit(lines));
    let nasty = "\u{1b}[31m\r\n{\"v\":1}\u{9b}2J\u{202e}'; DROP TABLE peers; --\"\\\0";
    let json = serde_json::to_string(nasty).unwrap();
    let mut sent = 0;
    for body in [
        nasty.to_owned(),
        format!(r#"{{"apiKey":{json}}}"#),
        format!(r#"{{{json}:1}}"#),
        format!(
            r#"{{"apiKey":"{}","challenge":{json},"signedChallenge":{json}}}"#,
            world.billing.key.expose()
        ),
    ] {
        for path in ["/authenticate", "/verify_challenge"] {
            assert_eq!(world.send(post(path, &[], body.clone())).await.status, 400);
            sent += 1;
        }
    }
    let (records, unreadable) = tail(directory.path(), 100).unwrap();
    assert_eq!((records.len(), unreadable), (sent, 0));
    let bytes = std::fs::read(directory.path().join("serve.jsonl")).unwrap();
    assert_eq!(bytes.iter().filter(|byte| **byte == b'\n').count(), sent);
    assert!(bytes.iter().all(|byte| *byte == b'\n' || (0x20..0x7f).contains(byte)));
}

/// A disk that stands still: what was handed to it is written when the test says so.
#[derive(Default)]
struct Slow {
    slow: AtomicBool,
    waiting: Mutex<Vec<Promise>>,
}

impl AuditSink for Slow {
    fn submit(&self, _: Record) -> Ticket {
        if !self.slow.load(Ordering::Relaxed) {
            return Ticket::known(Ok(()));
        }
        let (ticket, promise) = Ticket::open();
        self.waiting.lock().unwrap().push(promise);
        ticket
    }
}

impl Slow {
    fn go_on(&self) {
        self.slow.store(false, Ordering::Relaxed);
        self.waiting.lock().unwrap().drain(..).for_each(|promise| promise.keep(Ok(())));
    }
}

#[tokio::test]
async fn what_was_decided_before_a_revocation_is_not_let_in_after_it_by_a_slow_disk() {
    for (how, token_too) in [(Ending::Revoked, true), (Ending::Compromised, false)] {
        let disk = Arc::new(Slow::default());
        let counted = Arc::new(Mutex::new(Vec::new()));
        let (sink, counter) = (disk.clone(), counted.clone());
        let world = World::with(move |builder| {
            builder.audit(sink).counter(move |outcome, reason| {
                counter.lock().unwrap().push((outcome, reason.to_owned()));
            })
        });
        let token = world.guide_1_token().await;
        let challenge = world.ask(&world.billing.key).await;
        disk.slow.store(true, Ordering::Relaxed);
        counted.lock().unwrap().clear();
        let revoke = async {
            while disk.waiting.lock().unwrap().is_empty() {
                tokio::task::yield_now().await;
            }
            let (name, all) = ("billing".parse().unwrap(), countersign::store::Which::All);
            world.store.end(&name, all, how, world.clock.now()).unwrap();
            assert!(world.authenticator.refresh().unwrap());
            disk.go_on();
        };
        let answered = async {
            if token_too {
                world.with_token(&token).await
            } else {
                world.post("/verify_challenge", &world.billing.answer(&challenge)).await
            }
        };
        let (answer, ()) = tokio::join!(answered, revoke);
        assert_eq!(answer.status, 401, "{:?}", answer.body);
        assert!(!String::from_utf8_lossy(&answer.body).contains("token\""), "no token is given out");
        let reason = if token_too { "token-orphaned" } else { "credential-compromised" };
        assert_eq!(*counted.lock().unwrap(), [(Outcome::Refused, reason.to_owned())]);
    }
}

#[tokio::test]
async fn a_disk_that_does_not_answer_refuses_after_a_while() {
    let disk = Arc::new(Slow::default());
    let sink = disk.clone();
    let world = World::with(move |builder| builder.audit(sink));
    let token = world.guide_1_token().await;
    disk.slow.store(true, Ordering::Relaxed);
    let answer = tokio::time::timeout(std::time::Duration::from_secs(60), world.with_token(&token)).await;
    assert_eq!(answer.expect("it does not wait for ever").status, 503);
    assert!(!world.authenticator.is_ready());
    disk.go_on();
    assert_eq!(world.with_token(&token).await.status, 200);
}
