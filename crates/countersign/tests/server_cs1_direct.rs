//! Requests under `cs1` without a handshake: who may, when, and with whose nonce.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use countersign::PeerStore as _;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::nonce::ServerNonce;
use countersign::protocol::cs1::request::Nonce;
use countersign::protocol::cs1::{Binding, Exporter, PairKeys, accept};
use countersign::server::{Limits, TlsExporter};
use countersign::store::{Cs1Options, Quota};
use http::Request;
use server_support::*;
use zeroize::Zeroizing;

const DERIVED: [&str; 4] = ["@method", "@authority", "@path", "@query"];

fn signer_of<'a>(pair: &'a Pair, target: &Target) -> Signer<'a> {
    Signer { name: pair.name(), keys: pair.direct(), now: target.clock.now(), window: 30 }
}

#[tokio::test]
async fn cs_40_where_it_is_off_the_right_keys_get_what_unknown_ones_get() {
    let target = Target::new();
    let stranger = Pair::new();
    let mixed = Pair { servers: Pair::new().servers, ..target.pair.clone() };
    let wrong = Pair { secret: stranger.secret.clone(), ..target.pair.clone() };
    let mut told = Vec::new();
    for (pair, reason) in [
        (&target.pair, "direct-off"),
        (&stranger, "unknown-key"),
        (&mixed, "unknown-key"),
        (&wrong, "direct-off"),
    ] {
        let request = signer_of(pair, &target).sign(Request::post("/orders"), "content");
        let answer = target.send(request).await;
        target.turned_away(&answer, 401, "authentication-failed", reason);
        told.push((answer.uniform(), answer.body.len()));
    }
    assert!(told.iter().all(|one| *one == told[0]), "{told:?}");
}

#[tokio::test]
async fn cs_40_where_it_is_on_the_pair_gets_in_and_nobody_else() {
    let target = Target::direct();
    let signer = target.direct_signer();
    let request = signer.sign(Request::post("/orders"), "content");
    target.let_in(&signer, &request, &target.send(request.clone()).await);
    target.turned_away(&target.send(request).await, 401, "request-replayed", "request-replayed");
    let stranger = Pair::new();
    for (pair, reason) in [
        (Pair { secret: stranger.secret.clone(), ..target.pair.clone() }, "wrong-signature"),
        (Pair { servers: stranger.servers.clone(), ..target.pair.clone() }, "unknown-key"),
        (stranger, "unknown-key"),
        // C:S swapped: the server's own key calls.
        (
            Pair {
                ours: target.pair.servers.clone(),
                servers: target.pair.ours.clone(),
                ..target.pair.clone()
            },
            "own-key",
        ),
    ] {
        let request = signer_of(&pair, &target).sign(Request::get("/orders"), "");
        target.turned_away(&target.send(request).await, 401, "authentication-failed", reason);
    }
    // The name of the pair, and keys of the other direction or for responses.
    let Pair { ours, servers, secret } = &target.pair;
    let reversed = PairKeys::derive(secret, servers, ours).direct().clone();
    let mut answering = target.pair.direct();
    std::mem::swap(&mut answering.client_to_server, &mut answering.server_to_client);
    for keys in [reversed, answering] {
        let request = Signer { keys, ..target.direct_signer() }.sign(Request::get("/orders"), "");
        target.turned_away(&target.send(request).await, 401, "authentication-failed", "wrong-signature");
    }
}

#[tokio::test]
async fn cs_40_where_an_exporter_is_configured_it_cannot_be_on_and_is_refused() {
    let both = Cs1Options { binding: Binding::TlsExporter, danger_direct: true };
    let target = Target::bound();
    let other = Pair::new().peer("other", both);
    assert!(target.store.add(other, UnixTime(2)).is_err());
    let exporter = Exporter::new(Zeroizing::new([1; 32]));
    for bound in [false, true] {
        let mut signer = target.direct_signer();
        if bound {
            signer.keys = signer.keys.on_connection(&exporter);
        }
        let mut request = signer.sign(Request::get("/orders"), "");
        request.extensions_mut().insert(TlsExporter(exporter.clone()));
        target.turned_away(&target.send(request).await, 401, "authentication-failed", "direct-off");
    }
}

#[tokio::test]
async fn cs_12_of_several_processes_each_takes_only_what_has_its_own_nonce() {
    let direct = Cs1Options { danger_direct: true, ..Cs1Options::default() };
    let first = Target::with(direct, |builder| builder.one_of_several(true));
    let mut second = Target::with(direct, |builder| builder.one_of_several(true));
    // Another process with the same pair, under the same name.
    second.remove("ledger");
    second.pair = first.pair.clone();
    second.add(first.pair.peer("ledger", direct));
    first.advance(100);
    second.advance(100);
    let own = first.direct_signer().sign(Request::post("/orders"), "content");
    let mut nonces = Vec::new();
    for process in [&first, &second] {
        let answer = process.send(own.clone()).await;
        process.turned_away(&answer, 401, "nonce-required", "nonce-required");
        nonces.push(accept::asked(&answer.headers, &first.pair.name()).unwrap());
    }
    for (giver, other, nonce) in [(&first, &second, &nonces[0]), (&second, &first, &nonces[1])] {
        let signer = giver.direct_signer();
        let request = signer.sign_with(Request::post("/orders"), "content", Nonce::OfServer(nonce));
        giver.let_in(&signer, &request, &giver.send(request.clone()).await);
        other.turned_away(&other.send(request.clone()).await, 401, "nonce-required", "nonce-required");
        giver.turned_away(&giver.send(request).await, 401, "request-replayed", "request-replayed");
    }
}

#[tokio::test]
async fn cs_12_who_keeps_no_state_takes_requests_without_a_handshake_only_with_its_own_nonce() {
    let pair = Pair::new();
    let world = World::with_pair(&pair, Cs1Options { danger_direct: true, ..Cs1Options::default() });
    world.advance(100);
    let signer = Signer { name: pair.name(), keys: pair.direct(), now: world.clock.now(), window: 30 };
    let answer = world.send(signer.sign(Request::post("/orders"), "content")).await;
    world.assert_refused(&answer, 401, "nonce-required", "nonce-required");
    let nonce = accept::asked(&answer.headers, &signer.name).unwrap();
    let request = signer.sign_with(Request::post("/orders"), "content", Nonce::OfServer(&nonce));
    let answer = world.send(request.clone()).await;
    assert_eq!(answer.status, 200);
    signer.verify(&request, &answer).unwrap();
}

#[tokio::test]
async fn cs_41_outside_of_the_window_a_nonce_is_asked_for() {
    let target = Target::direct();
    let now = target.clock.now().0;
    let signed = |created: u64, expires: u64| {
        let signer = target.direct_signer();
        let params = signer.params();
        let params = params
            .replace(&format!("created={}", signer.now.0), &format!("created={created}"))
            .replace(&format!("expires={}", signer.now.0 + 30), &format!("expires={expires}"));
        signer.forge(bare(Request::get("/orders")), &DERIVED, &params)
    };
    for (created, expires) in [
        (now - 60, now + 20),
        (now + 60, now + 90),
        (now, now + 3_600),
        (now - 20, now - 10),
        (now, now + 45),
    ] {
        let answer = target.send(signed(created, expires)).await;
        target.turned_away(&answer, 401, "nonce-required", "nonce-required");
        assert!(accept::asked(&answer.headers, &target.pair.name()).is_some());
    }
    for (created, expires) in [(now - 25, now + 20), (now + 20, now + 25)] {
        let request = signed(created, expires);
        target.let_in(&target.direct_signer(), &request, &target.send(request.clone()).await);
    }
}

#[tokio::test]
async fn cs_53_a_nonce_of_the_server_is_good_once_for_half_a_minute_and_cannot_be_made_up() {
    let target = Target::direct();
    // A clock that is a year behind.
    let behind = UnixTime(target.clock.now().0 - 31_536_000);
    let signer = Signer { now: behind, ..target.direct_signer() };
    let ask = async || {
        let answer = target.send(signer.sign(Request::post("/orders"), "content")).await;
        target.turned_away(&answer, 401, "nonce-required", "nonce-required");
        accept::asked(&answer.headers, &signer.name).unwrap()
    };
    let nonce = ask().await;
    let signed =
        |nonce: &ServerNonce| signer.sign_with(Request::post("/orders"), "content", Nonce::OfServer(nonce));
    let request = signed(&nonce);
    target.let_in(&signer, &request, &target.send(request.clone()).await);
    target.turned_away(&target.send(request).await, 401, "request-replayed", "request-replayed");
    let request = signer.sign_with(Request::get("/other"), "", Nonce::OfServer(&nonce));
    target.turned_away(&target.send(request).await, 401, "request-replayed", "request-replayed");
    // Too old.
    let old = ask().await;
    target.advance(31);
    for nonce in [&old, &nonce] {
        target.turned_away(&target.send(signed(nonce)).await, 401, "nonce-required", "nonce-required");
    }
    // Made up, changed, or of another server.
    let fresh = ask().await;
    let changed = format!("{}{}", &fresh.as_str()[..40], "A".repeat(fresh.as_str().len() - 40));
    let made_up = format!("csn.{}", "A".repeat(54));
    let other = Target::direct();
    let answer =
        other.send(Signer { now: behind, ..other.direct_signer() }.sign(Request::get("/o"), "")).await;
    let foreign = accept::asked(&answer.headers, &other.pair.name()).unwrap();
    for nonce in [changed, made_up, foreign.as_str().to_owned(), "csn.AAAAAAAAAAAAAAAA".to_owned()] {
        let nonce: ServerNonce = nonce.parse().unwrap();
        let answer = target.send(signed(&nonce)).await;
        target.turned_away(&answer, 401, "nonce-required", "nonce-required");
        // Nor in the window of time.
        let signer = target.direct_signer();
        let request = signer.sign_with(Request::get("/orders"), "", Nonce::OfServer(&nonce));
        target.turned_away(&target.send(request).await, 401, "nonce-required", "nonce-required");
    }
}

#[tokio::test]
async fn cs_53_a_session_has_to_be_in_its_window_also_with_a_nonce_of_the_server() {
    let target = Target::direct();
    let session = target.session().await;
    let behind = UnixTime(target.clock.now().0 - 31_536_000);
    let direct = Signer { now: behind, ..target.direct_signer() };
    let answer = target.send(direct.sign(Request::get("/orders"), "")).await;
    let nonce = accept::asked(&answer.headers, &direct.name).unwrap();
    target.began();
    let signer = Signer { now: UnixTime(session.now().0 + 60), ..session.signer() };
    let request = signer.sign_with(Request::get("/orders"), "", Nonce::OfServer(&nonce));
    target.turned_away(&target.send(request).await, 401, "clock-skew", "clock-skew");
}

#[tokio::test]
async fn cs_23_the_name_of_one_kind_is_none_of_the_other() {
    let target = Target::direct();
    let session = target.session().await;
    let direct = target.direct_signer();
    let pair = direct.name.to_string();
    let bare = || bare(Request::get("/orders"));
    let params = session.signer().params().replace(&*session.0.ticket, &pair);
    let as_session = session.signer().forge(bare(), &DERIVED, &params);
    let params = direct.params().replace(&pair, &session.0.ticket);
    let as_direct = direct.forge(bare(), &DERIVED, &params);
    let no_pair = direct.forge(bare(), &DERIVED, &direct.params().replace(&pair, target.pair.ours.expose()));
    for request in [as_session, as_direct, no_pair] {
        target.turned_away(&target.send(request).await, 401, "signature-malformed", "signature-form");
    }
}

#[tokio::test]
async fn guessing_is_limited_and_a_good_session_from_the_same_address_is_not_locked_out() {
    let target = Target::with(Cs1Options { danger_direct: true, ..Cs1Options::default() }, |builder| {
        builder.limits(Limits {
            failures_per_source: Quota::per_minute(1, 60),
            failures_per_key: Quota::per_minute(1, 20),
            ..Limits::default()
        })
    });
    let session = target.session().await;
    let wrong = Pair { secret: Pair::new().secret, ..target.pair.clone() };
    for _ in 0..20 {
        let request = signer_of(&wrong, &target).sign(Request::get("/orders"), "");
        target.turned_away(&target.send(request).await, 401, "authentication-failed", "wrong-signature");
    }
    // Without a handshake the right keys are held up too, and so is a handshake; with the same key from elsewhere neither is.
    let request = target.direct_signer().sign(Request::get("/orders"), "");
    target.turned_away(&target.send(request).await, 429, "rate-limited", "rate-limited-key-failures");
    let (m2, _) = target.dance(&target.pair, Binding::None, None, |_| (), |_| ()).await;
    target.turned_away(&m2, 429, "rate-limited", "rate-limited-key-failures");
    let request = target.direct_signer().sign(Request::get("/orders"), "");
    target.let_in(&target.direct_signer(), &request, &target.send_from(ELSEWHERE, request.clone()).await);
    // Wrong signatures under this session's ticket, which anybody has seen who sees the traffic.
    let mut keys = session.0.keys.clone();
    std::mem::swap(&mut keys.client_to_server, &mut keys.server_to_client);
    for _ in 0..100 {
        let request = Signer { keys: keys.clone(), ..session.signer() }.sign(Request::get("/orders"), "");
        target.turned_away(&target.send(request).await, 401, "authentication-failed", "wrong-signature");
    }
    let request = session.sign(Request::post("/orders"), "content");
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
}

#[tokio::test]
async fn a_proof_that_is_wrong_counts_as_a_failure() {
    let target = Target::with(Cs1Options::default(), |builder| {
        builder.limits(Limits { failures_per_key: Quota::per_minute(1, 20), ..Limits::default() })
    });
    let wrong = Pair { secret: Pair::new().secret, ..target.pair.clone() };
    for _ in 0..20 {
        let (_, m4) = target.dance(&wrong, Binding::None, None, |_| (), |_| ()).await;
        target.turned_away(&m4.unwrap(), 401, "authentication-failed", "wrong-signature");
    }
    let (m2, _) = target.dance(&target.pair, Binding::None, None, |_| (), |_| ()).await;
    target.turned_away(&m2, 429, "rate-limited", "rate-limited-key-failures");
}
