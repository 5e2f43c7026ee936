//! Rate limits: who is held up, for how long, and who is not.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken helper ends the test")]

mod server_support;

use countersign::ApiKey;
use countersign::audit::Outcome;
use countersign::server::Limits;
use countersign::store::Quota;
use proptest::prelude::*;
use server_support::*;

/// The default bursts, and one a minute afterwards: however slow the machine, no test waits long enough by itself.
fn world() -> World {
    World::with(|builder| {
        builder.limits(Limits {
            failures_per_source: Quota::per_minute(1, 60),
            failures_per_key: Quota::per_minute(1, 20),
            ..Limits::default()
        })
    })
}

/// Wrong signatures by somebody who has a key of `billing`, until one is not looked at any more.
async fn exhaust(world: &World, source: &str) -> Answer {
    for attempt in 0..100 {
        let answer = world.send_from(source, orders(&guess(world))).await;
        if answer.status == 429 {
            assert_eq!(attempt, 20, "failures of one key and source before the first 429");
            return answer;
        }
        assert_problem(&answer, 401, "challenge-invalid");
    }
    unreachable!("failures are limited")
}

/// The right key with a challenge that nobody issued.
fn guess(world: &World) -> Vec<(&'static str, String)> {
    Caller { key: world.billing.key.clone(), ..Caller::new() }.signed("AAAAAAAAAAAAAAAAAAAAAA==")
}

fn knock(key: &ApiKey) -> http::Request<bytes::Bytes> {
    orders(&[("x-api-key", key.expose().to_owned())])
}

#[tokio::test]
async fn failures_with_one_key_hold_up_this_key_at_this_source_only() {
    let world = world();
    let refused = exhaust(&world, HOME).await;
    world.assert_refused(&refused, 429, "rate-limited", "rate-limited-key-failures");
    // Even the right answer is not looked at, and a challenge is not given.
    for request in [
        orders(&guess(&world)),
        knock(&world.billing.key),
        post("/authenticate", &[], asking(&world.billing.key).to_string()),
        post("/verify_challenge", &[], world.billing.answer("AAAAAAAAAAAAAAAAAAAAAA==").to_string()),
    ] {
        let answer = world.send(request).await;
        world.assert_refused(&answer, 429, "rate-limited", "rate-limited-key-failures");
    }
    // Another key from here, and this key from elsewhere, go on.
    assert_eq!(world.send(knock(&new_key())).await.status, 401);
    let challenge = world.send_from(ELSEWHERE, knock(&world.billing.key)).await.challenge();
    let answer = world.send_from(ELSEWHERE, orders(&world.billing.signed(&challenge))).await;
    assert_eq!(answer.status, 200, "nobody can lock a key out for others");
}

#[tokio::test]
async fn whoever_waits_as_long_as_retry_after_says_is_heard_again() {
    let world = world();
    let wait: u64 = exhaust(&world, HOME).await.header("retry-after").unwrap().parse().unwrap();
    assert!(wait <= 60, "one a minute: {wait}");
    world.advance(wait);
    let challenge = world.knock(&world.billing.key).await;
    assert_eq!(world.orders(&world.billing.signed(&challenge)).await.status, 200);
    // One more failure is one too many again.
    assert_eq!(world.orders(&guess(&world)).await.status, 401);
    assert_eq!(world.orders(&guess(&world)).await.status, 429);
    world.advance(20 * 60);
    exhaust(&world, HOME).await;
}

#[tokio::test]
async fn failures_with_many_keys_hold_up_their_source_only() {
    let world = world();
    for _ in 0..60 {
        let answer = world.post("/authenticate", &asking(&new_key())).await;
        world.assert_refused(&answer, 401, "authentication-failed", "unknown-key");
    }
    let answer = world.post("/authenticate", &asking(&new_key())).await;
    world.assert_refused(&answer, 429, "rate-limited", "rate-limited-source-failures");
    let answer = world.send(knock(&world.billing.key)).await;
    world.assert_refused(&answer, 429, "rate-limited", "rate-limited-source-failures");
    assert_eq!(world.send_from(ELSEWHERE, knock(&world.billing.key)).await.status, 401);
    world.advance(60);
    assert_eq!(world.send(knock(&world.billing.key)).await.status, 401);
}

#[tokio::test]
async fn by_default_twenty_failures_with_a_key_and_sixty_with_many_are_a_minutes_worth() {
    for (fresh, burst, wait) in [(false, 20, 3), (true, 60, 1)] {
        let world = World::new();
        let key = new_key();
        let mut failures = 0;
        let refused = loop {
            let key = if fresh { new_key() } else { key.clone() };
            let answer = world.post("/authenticate", &asking(&key)).await;
            if answer.status == 429 {
                break answer;
            }
            failures += 1;
        };
        assert!((burst..burst + 10).contains(&failures), "{failures}");
        let told: u64 = refused.header("retry-after").unwrap().parse().unwrap();
        assert!(told <= wait, "{told}");
        world.advance(wait);
        assert_eq!(world.post("/authenticate", &asking(&key)).await.status, 401);
    }
}

#[tokio::test]
async fn a_good_token_passes_while_failures_at_its_source_are_limited() {
    let world = world();
    let (billing, reports) = (world.guide_1_token().await, world.guide_2_token().await);
    exhaust(&world, HOME).await;
    for _ in 0..60 {
        world.post("/authenticate", &asking(&new_key())).await;
    }
    let answer = world.post("/authenticate", &asking(&new_key())).await;
    world.assert_refused(&answer, 429, "rate-limited", "rate-limited-source-failures");
    for token in [billing, reports] {
        assert_eq!(world.with_token(&token).await.status, 200);
    }
}

/// After a restart every honest caller comes with one.
#[tokio::test]
async fn tokens_that_do_not_open_are_refused_and_are_no_failures() {
    let world = world();
    for _ in 0..100 {
        let answer = world.with_token("csb.forged-forged-forged").await;
        world.assert_refused(&answer, 401, "session-invalid", "token-key");
    }
    assert_eq!(world.post("/authenticate", &asking(&world.billing.key)).await.status, 200);
}

#[tokio::test]
async fn refused_requests_on_protected_routes_are_limited_by_source_and_a_good_token_is_not() {
    let one_a_minute = Quota::per_minute(1, 5);
    let world = World::with(|builder| {
        builder.limits(Limits { refused_per_source: one_a_minute, ..Limits::default() })
    });
    let token = world.guide_1_token().await;
    for _ in 0..5 {
        assert_eq!(world.orders(&[]).await.status, 401);
    }
    let answer = world.orders(&[]).await;
    world.assert_refused(&answer, 429, "rate-limited", "rate-limited-refused");
    assert_eq!(world.orders(&[("x-api-key", "short".to_owned())]).await.status, 429);
    assert_eq!(world.send(knock(&world.billing.key)).await.status, 401, "a challenge may be asked for");
    assert_eq!(world.send_from(ELSEWHERE, orders(&[])).await.status, 401);
    for _ in 0..20 {
        assert_eq!(world.with_token(&token).await.status, 200);
    }
}

#[tokio::test]
async fn a_flood_of_rate_limited_attempts_is_folded_into_lines_that_count_them() {
    let one_a_minute = Quota::per_minute(1, 1);
    let world = World::with(|builder| {
        builder.limits(Limits { refused_per_source: one_a_minute, ..Limits::default() })
    });
    for _ in 0..1_001 {
        world.orders(&[]).await;
    }
    let records = world.sink.records();
    assert!(records.len() < 100, "{} lines", records.len());
    world.authenticator.flush().unwrap();
    let records = world.sink.records();
    let total: u64 = records.iter().map(|record| record.count.unwrap_or(1)).sum();
    assert_eq!(total, 1_001, "none is lost");
    let folded = records.last().unwrap();
    assert_eq!((folded.reason.as_str(), folded.step.as_str()), ("rate-limited-refused", "request"));
    assert_eq!(folded.source.unwrap().to_string(), HOME);
}

#[tokio::test]
async fn a_flood_from_everywhere_is_folded_as_well_and_every_accepted_attempt_has_its_line() {
    let world = world();
    let token = world.guide_1_token().await;
    let before = world.sink.records().len();
    for number in 0..9_000_u32 {
        let source = std::net::Ipv4Addr::from(0x1400_0000 + number).to_string();
        // Half of them name a peer: its key is public.
        let request = if number % 2 == 0 { orders(&[]) } else { knock(&world.billing.key) };
        assert_eq!(world.send_from(&source, request).await.status, 401);
        let request = post("/authenticate", &[], asking(&world.billing.key).to_string());
        assert_eq!(world.send_from(&source, request).await.status, 200);
    }
    assert_eq!(world.with_token(&token).await.status, 200);
    let records = world.sink.records();
    let lines = records.len() - before;
    // Those without a peer's key fit into the strangers' room, the others do not fit into the named ones', which gets
    // larger by 50 a second.
    assert!((9_500..13_000).contains(&lines), "{lines} lines");
    assert_eq!(records.last().unwrap().outcome, Outcome::Accepted);
    world.authenticator.flush().unwrap();
    let records = world.sink.records();
    assert!(records.len() < before + lines + 5);
    let total: u64 = records.iter().skip(before).map(|record| record.count.unwrap_or(1)).sum();
    assert_eq!(total, 18_001, "none is lost");
}

#[tokio::test]
async fn guesses_under_guide_2_are_limited_too() {
    let world = world();
    let challenge = world.ask(&world.reports).await;
    let mut wrong = answer_2(&world.reports, &challenge);
    wrong["signedChallenge"] = "0".repeat(64).into();
    for _ in 0..20 {
        let answer = world.post("/verify_challenge", &wrong).await;
        world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
    }
    let right = answer_2(&world.reports, &challenge).to_string();
    let answer = world.send(post("/verify_challenge", &[], right.clone())).await;
    world.assert_refused(&answer, 429, "rate-limited", "rate-limited-key-failures");
    let answer = world.send_from(ELSEWHERE, post("/verify_challenge", &[], right)).await;
    assert_eq!(answer.status, 200, "none of the wrong signatures took the challenge away");
}

#[tokio::test]
async fn requests_to_the_endpoints_are_limited_by_source_and_by_key_and_source() {
    let limits =
        Limits { per_source: Quota::per_minute(1, 5), per_key: Quota::per_minute(1, 2), ..Limits::default() };
    let world = World::with(|builder| builder.limits(limits));
    let ask = || post("/authenticate", &[], asking(&world.billing.key).to_string());
    for _ in 0..2 {
        assert_eq!(world.send(ask()).await.status, 200);
    }
    let answer = world.send(ask()).await;
    let record = world.assert_refused(&answer, 429, "rate-limited", "rate-limited-key");
    assert_eq!(record.credential.as_deref(), Some("billing/1"));
    for _ in 0..2 {
        assert_eq!(world.post("/authenticate", &asking(&world.reports)).await.status, 200, "another key");
    }
    let answer = world.send(post("/verify_challenge", &[], "not even JSON")).await;
    let record = world.assert_refused(&answer, 429, "rate-limited", "rate-limited-source");
    assert_eq!(record.credential, None, "nothing was looked at");
    for source in [ELSEWHERE, "2001:db8::1"] {
        assert_eq!(world.send_from(source, ask()).await.status, 200, "another source");
    }
    world.advance(60);
    assert_eq!(world.send(ask()).await.status, 200);
    assert_eq!(world.send(ask()).await.status, 429);
}

#[tokio::test]
async fn an_ipv6_network_is_one_source_and_a_mapped_address_is_its_ipv4() {
    let limits = Limits { per_source: Quota::per_minute(1, 1), ..Limits::default() };
    let world = World::with(|builder| builder.limits(limits));
    let ask = || post("/authenticate", &[], asking(&world.billing.key).to_string());
    for (source, status) in [
        ("2001:db8::1", 200),
        ("2001:db8::ffff:ffff:ffff:ffff", 429),
        ("2001:db8:0:1::1", 200),
        ("::ffff:203.0.113.9", 200),
        ("203.0.113.9", 429),
    ] {
        let answer = world.send_from(source, ask()).await;
        assert_eq!(answer.status, status, "{source}");
        let expected = source.trim_start_matches("::ffff:");
        assert_eq!(world.record_of(&answer).source.unwrap().to_string(), expected);
    }
}

#[tokio::test]
async fn malformed_early_and_late_requests_are_no_failures() {
    let world = world();
    let late = world.knock(&world.billing.key).await;
    world.advance(40);
    let key = ("x-api-key", world.billing.key.expose().to_owned());
    for _ in 0..100 {
        assert_eq!(world.orders(&[]).await.status, 401);
        assert_eq!(world.orders(&[("x-api-key", "short".to_owned())]).await.status, 400);
        let answer = world.orders(&world.billing.signed(&late)).await;
        world.assert_refused(&answer, 401, "challenge-expired", "challenge-expired");
        let answer = world.orders(&[key.clone(), ("x-challenge", late.clone())]).await;
        world.assert_refused(&answer, 401, "missing-component", "missing-header");
    }
    let challenge = world.knock(&world.billing.key).await;
    assert_eq!(world.orders(&world.billing.signed(&challenge)).await.status, 200);
}

#[tokio::test]
async fn sixty_four_challenges_of_guide_2_may_be_unanswered() {
    let world = world();
    let first = world.ask(&world.reports).await;
    world.advance(10);
    let mut challenges = vec![first];
    for _ in 1..64 {
        challenges.push(world.ask(&world.reports).await);
    }
    let full = world.post("/authenticate", &asking(&world.reports)).await;
    let record = world.assert_refused(&full, 429, "rate-limited", "too-many-challenges");
    assert_eq!(record.credential.as_deref(), Some("reports/1"));
    let wait: u64 = full.header("retry-after").unwrap().parse().unwrap();
    assert!((11..=21).contains(&wait), "until the first expires: {wait}");
    // Elsewhere it is as full, and another key's are counted apart.
    let request = post("/authenticate", &[], asking(&world.reports).to_string());
    assert_eq!(world.send_from(ELSEWHERE, request).await.status, 429);
    assert_eq!(world.post("/authenticate", &asking(&world.billing.key)).await.status, 200);

    // An answer makes room for one, and time makes room for what has expired.
    let answered = challenges.pop().unwrap();
    assert_eq!(world.post("/verify_challenge", &answer_2(&world.reports, &answered)).await.status, 200);
    challenges.push(world.ask(&world.reports).await);
    assert_eq!(world.post("/authenticate", &asking(&world.reports)).await.status, 429);
    world.advance(wait);
    world.ask(&world.reports).await;
    let expired = challenges.remove(0);
    let answer = world.post("/verify_challenge", &answer_2(&world.reports, &expired)).await;
    world.assert_refused(&answer, 401, "challenge-expired", "challenge-expired");
    for challenge in challenges {
        let answer = world.post("/verify_challenge", &answer_2(&world.reports, &challenge)).await;
        assert_eq!(answer.status, 200, "every one of them can still be answered");
    }
}

#[tokio::test]
async fn without_a_source_address_all_callers_share_one_limit() {
    let world = world();
    let send = |key: ApiKey| {
        let request = post("/authenticate", &[], asking(&key).to_string()).map(axum::body::Body::from);
        async { send_to(&world.app, request).await.status }
    };
    for _ in 0..60 {
        assert_eq!(send(new_key()).await, 401);
    }
    assert_eq!(send(world.billing.key.clone()).await, 429);
}

/// Of one source or another, with one key or another; `true` for an address that only belongs to the same source.
type Guess = (usize, usize, bool);

const SOURCES: [[&str; 2]; 4] = [
    ["192.0.2.1", "::ffff:192.0.2.1"],
    ["192.0.2.2", "::ffff:192.0.2.2"],
    ["2001:db8:0:1::1", "2001:db8:0:1:ffff::"],
    ["2001:db8:0:2::1", "2001:db8:0:2::2"],
];

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, ..ProptestConfig::default() })]

    /// A lock-out is for one source, or for one source with one key, and for nobody else: a model of two counts says
    /// what each attempt is answered with.
    #[test]
    fn nobody_is_held_up_but_by_attempts_of_their_own(
        guesses in prop::collection::vec((0..SOURCES.len(), 0_usize..4, any::<bool>()), 1..400),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(follow(&guesses))?;
    }
}

async fn follow(guesses: &[Guess]) -> Result<(), TestCaseError> {
    let world = world();
    let keys = [world.billing.key.clone(), new_key(), new_key(), new_key()];
    let (mut by_source, mut by_key) = ([0; SOURCES.len()], [[0; 4]; SOURCES.len()]);
    for (source, key, written_otherwise) in guesses.iter().copied() {
        let caller = Caller { key: keys[key].clone(), ..Caller::new() };
        let request = orders(&caller.signed("AAAAAAAAAAAAAAAAAAAAAA=="));
        let answer = world.send_from(SOURCES[source][usize::from(written_otherwise)], request).await;
        if by_source[source] < 60 && by_key[source][key] < 20 {
            prop_assert_eq!(answer.status, 401);
            by_source[source] += 1;
            by_key[source][key] += 1;
        } else {
            prop_assert_eq!(answer.status, 429);
        }
    }
    Ok(())
}
