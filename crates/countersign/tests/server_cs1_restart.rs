//! Stops, crashes and clocks of a server under `cs1`: what goes on afterwards, and what must not.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use countersign::protocol::UnixTime;
use countersign::protocol::cs1::accept;
use countersign::protocol::cs1::request::Nonce;
use countersign::store::{State, StateStore as _};
use http::Request;
use server_support::*;

#[tokio::test]
async fn cs_42_after_a_clean_stop_sessions_go_on_and_replays_do_not() {
    let mut target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::post("/orders"), "content");
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    for _ in 0..3 {
        target.authenticator.flush().unwrap();
        target.restart();
        target.turned_away(&target.send(request.clone()).await, 401, "request-replayed", "request-replayed");
    }
    let next = session.sign(Request::get("/orders"), "");
    target.let_in(&session.signer(), &next, &target.send(next.clone()).await);
}

#[tokio::test]
async fn cs_43_after_a_crash_what_may_have_been_taken_needs_a_nonce_of_the_server() {
    let mut target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::get("/orders"), "");
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    target.restart();
    target.turned_away(&target.send(request.clone()).await, 401, "nonce-required", "nonce-required");
    // What was never sent is asked for as well: nobody can tell.
    let fresh = session.sign(Request::get("/orders"), "");
    let answer = target.send(fresh).await;
    target.turned_away(&answer, 401, "nonce-required", "nonce-required");
    let signer = session.signer();
    let nonce = accept::asked(&answer.headers, &signer.name).unwrap();
    let repeated = signer.sign_with(Request::get("/orders"), "", Nonce::OfServer(&nonce));
    target.let_in(&signer, &repeated, &target.send(repeated.clone()).await);
    target.turned_away(&target.send(repeated.clone()).await, 401, "request-replayed", "request-replayed");
    // A nonce of the server from before the next crash is none.
    target.restart();
    target.turned_away(&target.send(repeated).await, 401, "nonce-required", "nonce-required");
    // Later than that it goes on by itself. (The run before may have gone on for some seconds after its last note.)
    target.advance(15);
    let signer = Signer { now: target.clock.now(), ..session.signer() };
    let later = signer.sign(Request::post("/orders"), "content");
    target.let_in(&signer, &later, &target.send(later.clone()).await);
    target.turned_away(&target.send(request).await, 401, "nonce-required", "nonce-required");
}

#[tokio::test]
async fn cs_43_a_clean_stop_after_a_crash_does_not_make_up_for_what_was_lost() {
    let mut target = Target::direct();
    let session = target.session().await;
    let signed = session.sign(Request::post("/orders"), "content");
    target.let_in(&session.signer(), &signed, &target.send(signed.clone()).await);
    let direct = {
        let signer = target.direct_signer();
        let request = signer.sign(Request::post("/orders"), "content");
        target.let_in(&signer, &request, &target.send(request.clone()).await);
        request
    };
    for crash in [true, false, false, true, true, false] {
        if !crash {
            target.authenticator.flush().unwrap();
        }
        target.restart();
        for request in [&signed, &direct] {
            let answer = target.send(request.clone()).await;
            target.turned_away(&answer, 401, "nonce-required", "nonce-required");
        }
        target.advance(1);
    }
}

#[tokio::test]
async fn cs_43_what_was_changed_or_came_from_a_backup_counts_as_lost() {
    let mut target = Target::direct();
    target.authenticator.flush().unwrap();
    // A store in which this does not open: here one that has no other state either.
    for state in [State::TicketKeys, State::ReplayLog] {
        target.state.forget(state).unwrap();
    }
    target.state.keep(State::Lost, UnixTime(0), b"").unwrap();
    target.restart();
    let request = target.direct_signer().sign(Request::post("/orders"), "content");
    target.turned_away(&target.send(request).await, 401, "nonce-required", "nonce-required");
}

#[tokio::test]
async fn cs_43_a_nonce_is_given_to_nobody_without_a_valid_mac() {
    let mut target = Target::new();
    let session = target.session().await;
    target.restart();
    let mut keys = session.0.keys.clone();
    std::mem::swap(&mut keys.client_to_server, &mut keys.server_to_client);
    let request = Signer { keys, ..session.signer() }.sign(Request::get("/orders"), "");
    let answer = target.send(request).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
    assert_eq!(answer.header("accept-signature"), None);
}

#[tokio::test]
async fn cs_43_sessions_that_began_after_a_crash_need_no_nonce() {
    let mut target = Target::new();
    target.restart();
    let session = target.session().await;
    let request = session.sign(Request::post("/orders"), "content");
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
}

#[tokio::test]
async fn cs_42_a_log_that_cannot_be_read_counts_as_lost_and_is_read_once() {
    let mut target = Target::new();
    let session = target.session().await;
    let sign = || session.sign(Request::get("/orders"), "");
    target.authenticator.flush().unwrap();
    target.state.keep(State::ReplayLog, target.clock.now(), b"countersign replay log 2\n").unwrap();
    target.restart();
    target.turned_away(&target.send(sign()).await, 401, "nonce-required", "nonce-required");
    // A log that was read does not come back after a crash.
    target.authenticator.flush().unwrap();
    target.restart();
    target.advance(20);
    assert!(!target.state.has(State::ReplayLog).unwrap());
    target.restart();
    target.turned_away(&target.send(sign()).await, 401, "nonce-required", "nonce-required");
}

#[tokio::test]
async fn cs_42_nothing_is_accepted_behind_the_log_that_the_next_start_reads() {
    let mut target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::post("/orders"), "content");
    target.authenticator.flush().unwrap();
    // A connection that is open still.
    target.turned_away(&target.send(request.clone()).await, 503, "unavailable", "replay-log-full");
    let direct = Target::direct();
    direct.authenticator.flush().unwrap();
    let late = direct.direct_signer().sign(Request::post("/orders"), "content");
    direct.turned_away(&direct.send(late).await, 503, "unavailable", "replay-log-full");
    target.restart();
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    target.turned_away(&target.send(request).await, 401, "request-replayed", "request-replayed");
}

#[tokio::test]
async fn cs_45_keys_that_were_in_use_at_a_later_time_are_discarded() {
    let mut target = Target::new();
    let session = target.session().await;
    let (now, keys) = (target.clock.now(), target.state.kept(State::TicketKeys).unwrap().unwrap());
    target.state.keep(State::TicketKeys, UnixTime(now.0 + 3_600), &keys.bytes).unwrap();
    target.restart();
    let answer = target.send(session.sign(Request::get("/orders"), "")).await;
    target.turned_away(&answer, 401, "session-invalid", "ticket-key");
}

#[tokio::test]
async fn cs_43_a_clock_that_is_behind_does_not_let_direct_requests_pass_twice() {
    let mut target = Target::direct();
    let pair = target.pair.clone();
    let signer = Signer { name: pair.name(), keys: pair.direct(), now: target.clock.now(), window: 30 };
    let request = signer.sign(Request::post("/orders"), "content");
    target.let_in(&signer, &request, &target.send(request.clone()).await);
    // The run in which it was accepted went on for ten minutes; then the clock was set back, and the log is lost.
    let (now, keys) = (target.clock.now(), target.state.kept(State::TicketKeys).unwrap().unwrap());
    target.state.keep(State::TicketKeys, UnixTime(now.0 + 600), &keys.bytes).unwrap();
    target.restart();
    target.turned_away(&target.send(request).await, 401, "nonce-required", "nonce-required");
    target.advance(300);
    let signer = Signer { now: target.clock.now(), ..signer };
    let maybe = signer.sign(Request::post("/orders"), "content");
    target.turned_away(&target.send(maybe).await, 401, "nonce-required", "nonce-required");
    target.advance(400);
    let signer = Signer { now: target.clock.now(), ..signer };
    let later = signer.sign(Request::post("/orders"), "content");
    target.let_in(&signer, &later, &target.send(later.clone()).await);
}

#[tokio::test]
async fn challenges_of_before_a_restart_are_none_after_it() {
    let mut target = Target::new();
    let credential = target.pair.credential();
    let random = countersign::protocol::cs1::client::Randomness {
        nonce: [1; 32],
        ephemeral: zeroize::Zeroizing::new([2; 32]),
    };
    let binding = countersign::protocol::cs1::Binding::None;
    let (m1, waiting) = countersign::protocol::cs1::client::start(&credential, binding, &random);
    let m2 = target.say(m1, None).await;
    target.authenticator.flush().unwrap();
    target.restart();
    let (m3, _) = waiting.receive(&incoming(&m2), None).unwrap();
    target.turned_away(&target.say(m3, None).await, 401, "challenge-invalid", "challenge-foreign");
}
