//! Tickets of `cs1` in wrong hands, at the wrong place, too late, or changed.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use std::sync::Arc;
use std::time::Duration;

use countersign::protocol::UnixTime;
use countersign::protocol::cs1::{Binding, Exporter, KeyName};
use countersign::server::{Authenticator, TlsExporter};
use countersign::store::{Cs1Options, Ending, State, StateStore as _, Which};
use countersign::{MemoryStore, PeerStore};
use http::Request;
use server_support::*;
use zeroize::Zeroizing;

fn exporter(byte: u8) -> Exporter {
    Exporter::new(Zeroizing::new([byte; 32]))
}

#[tokio::test]
async fn cs_22_a_ticket_is_no_bearer_token() {
    let target = Target::new();
    let session = target.session().await;
    for value in [format!("Bearer {}", session.0.ticket), session.0.ticket.to_string()] {
        let answer = target.orders(&[("authorization", value)]).await;
        target.turned_away(&answer, 401, "credentials-required", "no-credentials");
    }
    // Nor in the clothes of one.
    let dressed = format!("Bearer csb.{}", session.0.ticket.strip_prefix("cst.").unwrap());
    let answer = target.orders(&[("authorization", dressed)]).await;
    target.turned_away(&answer, 401, "session-invalid", "token-key");
}

#[tokio::test]
async fn cs_21_a_bearer_token_is_no_ticket() {
    let target = Target::new();
    let session = target.session().await;
    let token = target.guide_1_token().await;
    let dressed = format!("cst.{}", token.strip_prefix("csb.").unwrap());
    for (name, told, reason) in [
        (dressed.as_str(), "session-invalid", "ticket-key"),
        (&token, "signature-malformed", "signature-form"),
    ] {
        let signer = Signer { name: KeyName::Ticket(&dressed), ..session.signer() };
        let params = signer.params().replace(&dressed, name);
        let request = bare(Request::get("/orders"));
        let request = signer.forge(request, &["@method", "@authority", "@path", "@query"], &params);
        target.turned_away(&target.send(request).await, 401, told, reason);
    }
}

#[tokio::test]
async fn a_ticket_of_another_server_is_none_here() {
    let (one, two) = (Target::new(), Target::new());
    let session = one.session().await;
    let request = session.sign(Request::get("/orders"), "");
    two.turned_away(&two.send(request).await, 401, "session-invalid", "ticket-key");
    assert_eq!(one.send(session.sign(Request::get("/orders"), "")).await.status, 200);
}

#[tokio::test]
async fn cs_4_a_ticket_of_the_same_keys_under_another_service_name_is_none() {
    let mut target = Target::new();
    let session = target.session().await;
    let builder = Authenticator::builder("invoices".parse().unwrap(), target.store.clone());
    let builder = builder.audit(target.sink.clone()).clock(target.clock.clone()).limits(generous());
    let other = builder.external_urls([reached()]).state(target.state.clone()).build().unwrap();
    target.authenticator = other;
    target.serve(axum::Router::new().fallback(|| async { "ran" }));
    let answer = target.send(session.sign(Request::get("/orders"), "")).await;
    assert_eq!((answer.status, answer.header("signature")), (401, None));
    assert_eq!(answer.text("type"), "urn:countersign:problem:session-invalid");
    assert_eq!(target.record_of(&answer).reason, "ticket-seal");
}

#[tokio::test]
async fn a_ticket_with_one_bit_changed_is_none_whichever_it_is() {
    let target = Target::new();
    let session = target.session().await;
    let signer = session.signer();
    let alphabet = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_";
    for at in 4..signer.name.to_string().len() {
        let mut ticket = session.0.ticket.as_bytes().to_vec();
        let place = alphabet.iter().position(|one| *one == ticket[at]).unwrap();
        ticket[at] = alphabet[place ^ 0x20];
        let ticket = String::from_utf8(ticket).unwrap();
        let request =
            Signer { name: KeyName::Ticket(&ticket), ..signer.clone() }.sign(Request::get("/o"), "");
        let answer = target.send(request).await;
        assert_problem(&answer, 401, "session-invalid");
        unsigned(&answer);
        let reason = target.record_of(&answer).reason;
        assert!(["ticket-key", "ticket-seal", "ticket-form"].contains(&reason.as_str()), "{at}: {reason}");
    }
    let whole = &*session.0.ticket;
    for ticket in [&whole[..whole.len() - 1], &format!("{whole}A")] {
        let request = Signer { name: KeyName::Ticket(ticket), ..signer.clone() }.sign(Request::get("/o"), "");
        assert_problem(&target.send(request).await, 401, "session-invalid");
    }
    assert_eq!(target.began(), 0);
}

#[tokio::test]
async fn cs_19_a_ticket_is_refused_from_its_expiry_on() {
    let target = Target::new();
    let session = target.session().await;
    let at = |seconds: u64| Signer { now: UnixTime(session.now().0 + seconds), ..session.signer() };
    target.advance(597);
    let signer = at(597);
    let request = signer.sign(Request::get("/orders"), "");
    target.let_in(&signer, &request, &target.send(request.clone()).await);
    target.advance(4);
    let request = at(601).sign(Request::get("/orders"), "");
    target.turned_away(&target.send(request).await, 401, "session-invalid", "ticket-expired");
}

#[tokio::test]
async fn cs_20_tickets_outlive_the_change_of_keys_and_erased_keys_open_none() {
    let mut target = Target::new();
    let kept = |target: &Target| target.state.kept(State::TicketKeys).unwrap().unwrap().bytes.len();
    let one = kept(&target);
    target.advance(12 * 60 * 60 - 100);
    let before = target.session().await;
    target.advance(200);
    // Whoever seals next changes the keys.
    let after = target.session().await;
    let kid = |session: &Session| session.0.ticket[4..14].to_owned();
    assert_ne!(kid(&before), kid(&after), "two generations");
    for session in [&before, &after] {
        let signer = Signer { now: target.clock.now(), ..session.signer() };
        let request = signer.sign(Request::get("/orders"), "");
        target.let_in(&signer, &request, &target.send(request.clone()).await);
    }
    let refused = async |target: &Target, session: &Session, reason: &str| {
        let signer = Signer { now: target.clock.now(), ..session.signer() };
        let answer = target.send(signer.sign(Request::get("/orders"), "")).await;
        target.turned_away(&answer, 401, "session-invalid", reason);
    };
    // While its keys are there, a ticket that is over is known as such; once they are erased, it is anybody's bytes.
    let watching = tokio::spawn(target.authenticator.clone().watch());
    eventually("both generations are written down", || kept(&target) > one).await;
    target.advance(610);
    eventually("the old one is gone from there too", || kept(&target) == one).await;
    refused(&target, &before, "ticket-key").await;
    refused(&target, &after, "ticket-expired").await;
    watching.abort();
    target.authenticator.flush().unwrap();
    target.restart();
    refused(&target, &before, "ticket-key").await;
}

/// Waits for what the server does by itself.
async fn eventually(what: &str, done: impl Fn() -> bool) {
    for _ in 0..1500 {
        if done() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}");
}

#[tokio::test]
async fn cs_19_a_revoked_credential_ends_its_sessions_with_the_next_request() {
    let target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::get("/orders"), "");
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    target.store.end(&"ledger".parse().unwrap(), Which::All, Ending::Revoked, UnixTime(3)).unwrap();
    assert!(target.authenticator.refresh().unwrap());
    let answer = target.send(session.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 401, "session-invalid", "token-orphaned");
    let (_, m4) = target.dance(&target.pair, Binding::None, None, |_| (), |_| ()).await;
    target.turned_away(&m4.unwrap(), 401, "authentication-failed", "credential-revoked");
}

#[tokio::test]
async fn a_session_does_not_outlive_a_peer_that_is_removed_and_added_anew_with_the_same_keys() {
    let target = Target::new();
    let session = target.session().await;
    target.remove("ledger");
    let answer = target.send(session.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 401, "session-invalid", "token-orphaned");
    target.add(target.pair.peer("ledger", Cs1Options::default()));
    let answer = target.send(session.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 401, "session-invalid", "token-orphaned");
    let session = target.session().await;
    assert_eq!(target.send(session.sign(Request::get("/orders"), "")).await.status, 200);
}

#[tokio::test]
async fn cs_32_a_session_is_worth_nothing_on_a_connection_that_its_keys_are_not_for() {
    let target = Target::bound();
    let (ours, theirs) = (exporter(1), exporter(2));
    let session = target.shake_bound(&target.pair, Binding::TlsExporter, Some(&ours)).await.unwrap();
    let on = |request: Request<bytes::Bytes>, exporter: Option<&Exporter>| {
        let mut request = request;
        if let Some(exporter) = exporter {
            request.extensions_mut().insert(TlsExporter(exporter.clone()));
        }
        request
    };
    let signer = Signer { keys: session.0.keys.on_connection(&ours), ..session.signer() };
    let sign = || signer.sign(Request::post("/orders"), "content");
    let request = on(sign(), Some(&ours));
    target.let_in(&signer, &request, &target.send(request.clone()).await);
    let answer = target.send(on(sign(), Some(&theirs))).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    let answer = target.send(on(sign(), None)).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-binding");
    // The session's own keys, before they are bound to a connection.
    let answer = target.send(on(session.sign(Request::get("/orders"), ""), Some(&ours))).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    // Another connection of the same client.
    let signer = Signer { keys: session.0.keys.on_connection(&theirs), ..session.signer() };
    let request = on(signer.sign(Request::get("/orders"), ""), Some(&theirs));
    target.let_in(&signer, &request, &target.send(request.clone()).await);
}

#[tokio::test]
async fn the_ticket_and_the_keys_of_two_sessions_do_not_go_together() {
    let target = Target::new();
    let (one, two) = (target.session().await, target.session().await);
    let signer = Signer { keys: two.0.keys.clone(), ..one.signer() };
    let answer = target.send(signer.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    // Nor do keys of the other direction.
    let mut keys = one.0.keys.clone();
    std::mem::swap(&mut keys.client_to_server, &mut keys.server_to_client);
    let answer = target.send(Signer { keys, ..one.signer() }.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
}

#[tokio::test]
async fn a_session_does_not_go_on_with_a_server_that_has_kept_nothing() {
    let mut target = Target::new();
    let session = target.session().await;
    target.state = Arc::new(MemoryStore::new());
    target.restart();
    let answer = target.send(session.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 401, "session-invalid", "ticket-key");
}
