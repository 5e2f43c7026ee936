//! Many tasks on many threads with one challenge: exactly one succeeds.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

mod server_support;

use std::sync::Arc;

use bytes::Bytes;
use countersign::audit::Outcome;
use countersign::server::Limits;
use countersign::store::Quota;
use http::Request;
use server_support::*;
use tokio::sync::Barrier;

const TASKS: usize = 24;
const ROUNDS: usize = 20;

/// Sends them all at once.
async fn race(world: &Arc<World>, requests: Vec<Request<Bytes>>) -> Vec<Answer> {
    let start = Arc::new(Barrier::new(requests.len()));
    let tasks: Vec<_> = requests
        .into_iter()
        .map(|request| {
            let (world, start) = (world.clone(), start.clone());
            tokio::spawn(async move {
                start.wait().await;
                world.send(request).await
            })
        })
        .collect();
    let mut answers = Vec::new();
    for task in tasks {
        answers.push(task.await.unwrap());
    }
    answers
}

/// One 200, and for every other a 401 whose reason is one of these.
fn assert_one_winner(world: &World, answers: &[Answer], reasons: &[&str]) {
    let mut winners = 0;
    for answer in answers {
        let record = world.record_of(answer);
        if answer.status == 200 {
            winners += 1;
            assert_eq!(record.outcome, Outcome::Accepted);
        } else {
            assert_eq!((answer.status, record.outcome), (401, Outcome::Refused));
            assert!(reasons.contains(&record.reason.as_str()), "{}", record.reason);
        }
    }
    assert_eq!(winners, 1);
}

fn strict() -> Arc<World> {
    Arc::new(World::with(|builder| builder.limits(generous())))
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_answers_to_one_challenge_on_the_route_exactly_one_passes() {
    let world = strict();
    for _ in 0..ROUNDS {
        let challenge = world.knock(&world.billing.key).await;
        let requests = (0..TASKS).map(|_| orders(&world.billing.signed(&challenge))).collect();
        let answers = race(&world, requests).await;
        assert_one_winner(&world, &answers, &["challenge-used"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_answers_to_one_challenge_on_the_endpoint_exactly_one_gets_a_token() {
    let world = strict();
    for _ in 0..ROUNDS {
        let body = world.billing.answer(&world.ask(&world.billing.key).await).to_string();
        let requests = (0..TASKS).map(|_| post("/verify_challenge", &[], body.clone())).collect();
        let answers = race(&world, requests).await;
        assert_one_winner(&world, &answers, &["challenge-used"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn route_and_endpoint_race_for_one_challenge_too() {
    let world = strict();
    for _ in 0..ROUNDS {
        let challenge = world.knock(&world.billing.key).await;
        let body = world.billing.answer(&challenge).to_string();
        let requests = (0..TASKS)
            .map(|task| match task % 2 {
                0 => orders(&world.billing.signed(&challenge)),
                _ => post("/verify_challenge", &[], body.clone()),
            })
            .collect();
        let answers = race(&world, requests).await;
        assert_one_winner(&world, &answers, &["challenge-used"]);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_answers_under_guide_2_exactly_one_gets_a_token() {
    let world = strict();
    for _ in 0..ROUNDS {
        // The more are outstanding, the longer a verification takes, and the more of them overlap.
        for _ in 1..64 {
            world.ask(&world.reports).await;
        }
        let body = answer_2(&world.reports, &world.ask(&world.reports).await).to_string();
        let requests = (0..TASKS).map(|_| post("/verify_challenge", &[], body.clone())).collect();
        let answers = race(&world, requests).await;
        assert_one_winner(&world, &answers, &["challenge-used", "wrong-signature"]);
        world.advance(60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn racing_answers_to_different_challenges_all_pass() {
    let world = strict();
    for _ in 0..ROUNDS / 4 {
        let mut requests = Vec::new();
        for _ in 0..TASKS {
            let challenge = world.knock(&world.billing.key).await;
            requests.push(orders(&world.billing.signed(&challenge)));
            let challenge = world.ask(&world.reports).await;
            requests.push(post("/verify_challenge", &[], answer_2(&world.reports, &challenge).to_string()));
        }
        assert!(race(&world, requests).await.iter().all(|answer| answer.status == 200));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn of_racing_requests_for_challenges_exactly_sixty_four_get_one() {
    let world = strict();
    for _ in 0..3 {
        let request = || post("/authenticate", &[], asking(&world.reports).to_string());
        let answers = race(&world, (0..100).map(|_| request()).collect()).await;
        let count = |status| answers.iter().filter(|answer| answer.status == status).count();
        assert_eq!((count(200), count(429)), (64, 36));
        world.advance(60);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn a_removal_is_final_for_every_request_that_begins_after_it() {
    let world = strict();
    for _ in 0..ROUNDS {
        let token = world.guide_1_token().await;
        let bearer = [("authorization", format!("Bearer {token}"))];
        let before = {
            let world = world.clone();
            let requests = (0..TASKS).map(|_| orders(&bearer)).collect();
            tokio::spawn(async move { race(&world, requests).await })
        };
        world.remove("billing");
        let after = race(&world, (0..TASKS).map(|_| orders(&bearer)).collect()).await;
        assert!(after.iter().all(|answer| answer.status == 401));
        let before = before.await.unwrap();
        assert!(before.iter().all(|answer| [200, 401].contains(&answer.status)));
        world.add(guide_1_peer("billing", &world.billing));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn guesses_that_race_get_no_further_than_guesses_one_after_the_other() {
    let world = World::with(|builder| {
        let failures = Quota::per_minute(1, 20);
        builder.limits(Limits { failures_per_key: failures, failures_per_source: failures, ..generous() })
    });
    let world = Arc::new(world);
    let guess = world.billing.signed("AAAAAAAAAAAAAAAAAAAAAA==");
    let answers = race(&world, (0..400).map(|_| orders(&guess)).collect()).await;
    let looked_at = answers.iter().filter(|answer| answer.status == 401).count();
    assert!(answers.iter().all(|answer| [401, 429].contains(&answer.status)));
    // Each of four threads may have asked before the last failure was counted.
    assert!((20..=20 + 4).contains(&looked_at), "{looked_at} guesses were looked at");
}
