//! `RateLimit-Policy` and `RateLimit`: what they say, where, and that they tell nobody whether a key exists.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken helper ends the test")]

mod server_support;

use countersign::ApiKey;
use countersign::server::Limits;
use countersign::store::Quota;
use http::Request;
use server_support::*;

const POLICY: &str = concat!(
    r#""source";q=1000;w=2, "key";q=500;w=2, "refused";q=400;w=4, "#,
    r#""source-failures";q=60;w=60, "key-failures";q=20;w=60, "challenges";q=64"#
);

/// Name, `r` and `t` of the field `RateLimit`.
#[track_caller]
fn limit(answer: &Answer) -> (String, u64, u64) {
    assert_eq!(answer.headers.get_all("ratelimit").iter().count(), 1, "{answer:?}");
    let text = answer.header("ratelimit").unwrap();
    let (name, rest) = text.strip_prefix('"').unwrap().split_once("\";r=").unwrap();
    let (remaining, seconds) = rest.split_once(";t=").unwrap();
    (name.to_owned(), remaining.parse().unwrap(), seconds.parse().unwrap())
}

fn wrong(key: &ApiKey) -> Request<bytes::Bytes> {
    let caller = Caller { key: key.clone(), ..Caller::new() };
    post("/verify_challenge", &[], caller.answer("AAAAAAAAAAAAAAAAAAAAAA==").to_string())
}

#[tokio::test]
async fn every_answer_of_the_endpoints_names_the_limits_and_what_is_left_of_the_tightest() {
    let world = World::new();
    let ask = |key: &ApiKey| post("/authenticate", &[], asking(key).to_string());
    let unknown = new_key();
    let get = || Request::get("/authenticate").body(bytes::Bytes::new()).unwrap();
    for (request, status, name, remaining) in [
        (ask(&world.billing.key), 200, "key-failures", 20),
        (ask(&world.reports), 200, "key-failures", 20),
        (ask(&unknown), 401, "key-failures", 19),
        (ask(&unknown), 401, "key-failures", 18),
        (wrong(&world.billing.key), 401, "key-failures", 19),
        (post("/verify_challenge", &[], "no JSON"), 400, "source-failures", 57),
        (get(), 405, "source-failures", 57),
    ] {
        let answer = world.send(request).await;
        assert_eq!(answer.status, status);
        assert_eq!(answer.header("ratelimit-policy"), Some(POLICY));
        let (told, left, wait) = limit(&answer);
        assert_eq!((told.as_str(), left), (name, remaining), "{answer:?}");
        assert!(wait <= 3, "until one more is there: {wait}");
        assert_eq!(answer.header("retry-after"), None);
    }
    let challenge = world.ask(&world.billing.key).await;
    let answer = world.post("/verify_challenge", &world.billing.answer(&challenge)).await;
    assert_eq!((answer.status, limit(&answer).0.as_str()), (200, "key-failures"));
}

#[tokio::test]
async fn a_429_names_the_limit_that_was_hit_and_agrees_with_retry_after() {
    let one = |burst| Quota::per_minute(1, burst);
    let strict = |name| {
        let mut limits = generous();
        match name {
            "source" => limits.per_source = one(3),
            "key" => limits.per_key = one(3),
            "refused" => limits.refused_per_source = one(3),
            "source-failures" => limits.failures_per_source = one(3),
            _ => limits.failures_per_key = one(3),
        }
        World::with(|builder| builder.limits(limits))
    };
    for name in ["source", "key", "refused", "source-failures", "key-failures"] {
        let world = strict(name);
        let send = async || match name {
            "refused" => world.orders(&[]).await,
            _ => world.send(wrong(&world.billing.key)).await,
        };
        for _ in 0..3 {
            assert_ne!(send().await.status, 429, "{name}");
        }
        let answer = send().await;
        assert_problem(&answer, 429, "rate-limited");
        let wait = answer.header("retry-after").unwrap().parse().unwrap();
        assert_eq!(limit(&answer), (name.to_owned(), 0, wait));
        assert!(answer.header("ratelimit-policy").unwrap().contains(&format!("\"{name}\";q=3;w=180")));
    }
    let world = World::new();
    for _ in 0..64 {
        world.ask(&world.reports).await;
    }
    let answer = world.post("/authenticate", &asking(&world.reports)).await;
    let wait = answer.header("retry-after").unwrap().parse().unwrap();
    assert_eq!(limit(&answer), ("challenges".to_owned(), 0, wait));
}

#[tokio::test]
async fn protected_routes_say_nothing_of_limits_until_one_is_hit() {
    let world = World::new();
    let token = world.guide_1_token().await;
    for answer in [world.orders(&[]).await, world.with_token(&token).await] {
        assert!(
            !answer.headers.contains_key("ratelimit") && !answer.headers.contains_key("ratelimit-policy")
        );
    }
}

/// Guesses with a known key, with one of the other profile, with our own and with unknown ones get the same fields,
/// from the first to the 429 and beyond.
#[tokio::test]
async fn the_fields_do_not_tell_whether_a_key_exists() {
    let limits = Limits { failures_per_key: Quota::per_minute(1, 20), ..generous() };
    let fields = async |pick: fn(&World) -> ApiKey| {
        let world = World::with(|builder| builder.limits(limits));
        let key = pick(&world);
        let mut told = Vec::new();
        for attempt in 0..25 {
            let on_route = Caller { key: key.clone(), ..Caller::new() }.signed("AAAAAAAAAAAAAAAAAAAAAA==");
            let request = if attempt % 2 == 0 { orders(&on_route) } else { wrong(&key) };
            let answer = world.send(request).await;
            let field = |name| answer.header(name).map(str::to_owned);
            told.push((answer.uniform(), ["ratelimit", "ratelimit-policy", "retry-after"].map(field)));
        }
        assert_eq!(told.last().unwrap().0.0, 429);
        told
    };
    let unknown = fields(|_| new_key()).await;
    assert_eq!(unknown, fields(|_| new_key()).await, "the clock is of no account here");
    assert_eq!(unknown, fields(|world| world.billing.key.clone()).await);
    assert_eq!(unknown, fields(|world| world.billing.server_key.clone()).await);
    assert_eq!(unknown, fields(|world| world.reports.clone()).await);
}
