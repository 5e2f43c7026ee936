//! Both guides as their callers meet them: endpoints, protected route, roles reversed, profiles pinned, and
//! peers that never mix.

#![cfg(feature = "server")]

mod server_support;

use countersign::ApiKey;
use countersign::audit::Outcome;
use countersign::protocol::shared_secret::Challenge;
use serde_json::json;
use server_support::*;

const MINE: [u8; 16] = [0x5a; 16];

fn my_challenge() -> (Challenge, Vec<(&'static str, String)>) {
    let challenge = Challenge::from_bytes(MINE);
    let header = vec![("x-client-challenge", challenge.to_string())];
    (challenge, header)
}

#[tokio::test]
async fn guide_1_on_a_protected_route_is_a_knock_and_an_answer() {
    let world = World::new();
    let knocked = world.orders(&[("x-api-key", world.billing.key.expose().to_owned())]).await;
    let record = world.assert_refused(&knocked, 401, "challenge-required", "challenge-sent");
    assert_eq!((record.step.as_str(), record.credential.as_deref()), ("request", Some("billing/1")));
    let challenge = knocked.challenge();
    assert_eq!(knocked.text("challenge"), challenge, "the body repeats the header");
    assert_eq!(knocked.json()["expiresIn"], 30);
    let expected = format!(r#"Countersign realm="orders", challenge="{challenge}", expires_in="30""#);
    assert_eq!(knocked.header("www-authenticate"), Some(expected.as_str()));

    let answered = world.orders(&world.billing.signed(&challenge)).await;
    assert_eq!(answered.status, 200);
    let seen = answered.json();
    assert_eq!(
        (&seen["service"], &seen["credential"], &seen["profile"]),
        (&json!("billing"), &json!("billing/1"), &json!("shared-secret"))
    );
    let record = world.record_of(&answered);
    assert_eq!((record.outcome, record.reason.as_str()), (Outcome::Accepted, "accepted"));
    assert_eq!(seen["headers"]["x-request-id"], json!([record.request_id]), "the handler can name it");
}

#[tokio::test]
async fn guide_1_on_the_endpoints_ends_in_a_token() {
    let world = World::new();
    let key = world.billing.key.expose().to_owned();
    let in_body = post("/authenticate", &[], asking(&world.billing.key).to_string());
    let in_header = post("/authenticate", &[("x-api-key", key.clone())], "");
    let beside_an_empty_object = post("/authenticate", &[("x-api-key", key)], "{}");
    for request in [in_body, in_header, beside_an_empty_object] {
        let asked = world.send(request).await;
        assert_eq!((asked.status, asked.header("cache-control")), (200, Some("no-store")));
        assert_eq!(asked.header("content-type"), Some("application/json"));
        assert_eq!(asked.json()["expiresIn"], 30);
        let record = world.record_of(&asked);
        assert_eq!((record.outcome, record.step.as_str()), (Outcome::Challenged, "authenticate"));
        assert_eq!(record.reason, "challenge-sent");

        let verified = world.post("/verify_challenge", &world.billing.answer(&asked.text("challenge"))).await;
        assert_eq!((verified.status, verified.header("cache-control")), (200, Some("no-store")));
        let body = verified.json();
        assert_eq!(
            (&body["authenticated"], &body["service"], &body["expiresIn"]),
            (&json!(true), &json!("billing"), &json!(300))
        );
        assert_eq!(verified.header("x-signature"), None, "nobody asked for a proof");
        let record = world.record_of(&verified);
        assert_eq!((record.outcome, record.step.as_str()), (Outcome::Accepted, "verify-challenge"));
        assert_eq!(record.credential.as_deref(), Some("billing/1"));

        let used = world.with_token(&verified.text("token")).await;
        assert_eq!((used.status, used.json()["service"].as_str()), (200, Some("billing")));
    }
}

#[tokio::test]
async fn a_signature_in_capitals_is_the_same_signature() {
    let world = World::new();
    let challenge = world.knock(&world.billing.key).await;
    let mut headers = world.billing.signed(&challenge);
    headers[2].1 = headers[2].1.to_uppercase();
    assert_eq!(world.orders(&headers).await.status, 200);
    let mut body = answer_2(&world.reports, &world.ask(&world.reports).await);
    body["signedChallenge"] = body["signedChallenge"].as_str().unwrap().to_uppercase().into();
    assert_eq!(world.post("/verify_challenge", &body).await.status, 200);
}

#[tokio::test]
async fn a_protected_route_takes_a_challenge_of_the_endpoints_and_the_other_way_round() {
    let world = World::new();
    let asked = world.ask(&world.billing.key).await;
    assert_eq!(world.orders(&world.billing.signed(&asked)).await.status, 200);
    let knocked = world.knock(&world.billing.key).await;
    assert_eq!(world.post("/verify_challenge", &world.billing.answer(&knocked)).await.status, 200);
}

#[tokio::test]
async fn guide_2_ends_in_a_token_with_and_without_the_echo() {
    let world = World::new();
    for echo in [false, true] {
        let asked = world.post("/authenticate", &asking(&world.reports)).await;
        let challenge = asked.text("challenge");
        let (seconds, random) = challenge.split_once('.').unwrap();
        assert_eq!((seconds.len(), random.len(), &asked.json()["expiresIn"]), (10, 32, &json!(30)));
        let mut body = answer_2(&world.reports, &challenge);
        if echo {
            body["challenge"] = challenge.into();
        }
        let verified = world.post("/verify_challenge", &body).await;
        assert_eq!((verified.status, verified.text("service").as_str()), (200, "reports"));
        let used = world.with_token(&verified.text("token")).await;
        assert_eq!(used.json()["credential"], "reports/1");
        assert_eq!(used.json()["profile"], "api-key");
        assert_eq!(world.record_of(&used).step, "token");
    }
}

#[tokio::test]
async fn an_echo_of_another_outstanding_challenge_is_refused_and_takes_none_away() {
    let world = World::new();
    let (first, second) = (world.ask(&world.reports).await, world.ask(&world.reports).await);
    let mut body = answer_2(&world.reports, &first);
    body["challenge"] = second.clone().into();
    let refused = world.post("/verify_challenge", &body).await;
    world.assert_refused(&refused, 401, "authentication-failed", "wrong-signature");
    for challenge in [first, second] {
        let answer = world.post("/verify_challenge", &answer_2(&world.reports, &challenge)).await;
        assert_eq!(answer.status, 200);
    }
}

#[tokio::test]
async fn a_server_proves_itself_to_a_caller_that_has_proved_itself() {
    let world = World::new();
    let (mine, header) = my_challenge();
    let expected = world.billing.proof_of_the_server(&mine);

    let body = world.billing.answer(&world.ask(&world.billing.key).await).to_string();
    let endpoint = world.send(post("/verify_challenge", &header, body)).await;
    let challenge = world.knock(&world.billing.key).await;
    let route = world.orders(&[world.billing.signed(&challenge), header].concat()).await;
    for answer in [endpoint, route] {
        assert_eq!(answer.status, 200);
        assert_eq!(answer.header("x-api-key"), Some(world.billing.server_key.expose()));
        assert_eq!(answer.header("x-signature"), Some(expected.as_str()));
    }
}

/// Also where a 200 is given: a challenge of somebody else's server must not come back signed.
#[tokio::test]
async fn nobody_else_gets_the_servers_proof() {
    let world = World::new();
    let (_, header) = my_challenge();
    let with = |more: Vec<(&'static str, String)>| [header.clone(), more].concat();
    let key = ("x-api-key", world.billing.key.expose().to_owned());
    let challenge = world.knock(&world.billing.key).await;
    let mut wrong = world.billing.signed(&challenge);
    wrong[2].1 = "0".repeat(64);
    let right = world.billing.signed(&challenge);

    for (headers, reason) in [
        (with(vec![]), "no-credentials"),
        (with(vec![key.clone()]), "challenge-sent"),
        (with(right[..2].to_vec()), "missing-header"),
        (with(vec![right[0].clone(), right[2].clone()]), "missing-header"),
        (with(wrong), "wrong-signature"),
        (with(Caller::new().signed(&challenge)), "challenge-foreign"),
    ] {
        let answer = world.orders(&headers).await;
        assert_problem(&answer, 401, &answer.text("type")["urn:countersign:problem:".len()..]);
        assert_eq!(world.record_of(&answer).reason, reason);
    }
    // Verified first, refused as used afterwards.
    assert_eq!(world.orders(&right).await.status, 200);
    let replayed = world.orders(&with(right)).await;
    world.assert_refused(&replayed, 401, "challenge-used", "challenge-used");

    let token = format!("Bearer {}", world.guide_1_token().await);
    let asked = post("/authenticate", &header, asking(&world.billing.key).to_string());
    let guide_2 = answer_2(&world.reports, &world.ask(&world.reports).await).to_string();
    for request in
        [orders(&with(vec![("authorization", token)])), asked, post("/verify_challenge", &header, guide_2)]
    {
        let answer = world.send(request).await;
        assert_eq!((answer.status, answer.header("x-signature")), (200, None));
        assert_eq!(answer.header("x-api-key"), None);
    }
}

#[tokio::test]
async fn a_key_of_guide_1_does_not_get_through_guide_2() {
    let world = World::new();
    let challenge = world.ask(&world.billing.key).await;
    assert!(!challenge.contains('.'), "the key's own profile decides: {challenge}");
    // Signed as guide 2 signs, without the challenge, and with an echo of guide 2's shape.
    let guide_2 = "1678886400.12345abcde";
    let mut echoed = answer_2(&world.billing.key, guide_2);
    echoed["challenge"] = guide_2.into();
    for body in [answer_2(&world.billing.key, guide_2), echoed] {
        let answer = world.post("/verify_challenge", &body).await;
        let record = world.assert_refused(&answer, 401, "authentication-failed", "wrong-profile");
        assert_eq!(record.credential.as_deref(), Some("billing/1"));
    }
}

#[tokio::test]
async fn a_key_of_guide_2_does_not_get_through_guide_1() {
    let world = World::new();
    // A key that is long enough to pass for a secret of guide 1.
    let secret = new_secret();
    let key: &ApiKey = &secret.expose().parse().unwrap();
    world.add(guide_2_peer("exports", None, key));
    // Guide 1's place for the key.
    let answer = world.send(post("/authenticate", &[("x-api-key", key.expose().to_owned())], "")).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-profile");

    // A knock is answered as for everybody, and the key as the secret of guide 1 opens nothing.
    let as_guide_1 = Caller { key: key.clone(), secret: secret.clone(), ..Caller::new() };
    let challenge = world.knock(key).await;
    let answer = world.orders(&as_guide_1.signed(&challenge)).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-profile");
    let answer = world.post("/verify_challenge", &as_guide_1.answer(&challenge)).await;
    let record = world.assert_refused(&answer, 401, "authentication-failed", "wrong-profile");
    assert_eq!(record.credential.as_deref(), Some("exports/1"));
}

#[tokio::test]
async fn credentials_of_two_peers_never_mix() {
    let world = World::new();
    let (shipping, exports) = (Caller::new(), new_key());
    world.add(guide_1_peer("shipping", &shipping));
    world.add(guide_2_peer("exports", None, &exports));
    let billing = &world.billing;

    // Guide 1: one's challenge, one's secret, the other's key.
    let for_billing = world.knock(&billing.key).await;
    let answer = world.orders(&shipping.signed(&for_billing)).await;
    let record = world.assert_refused(&answer, 401, "challenge-invalid", "challenge-foreign");
    assert_eq!(record.credential.as_deref(), Some("shipping/1"));
    let crossed = Caller { key: billing.key.clone(), ..shipping.clone() };
    let answer = world.orders(&crossed.signed(&for_billing)).await;
    let record = world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
    assert_eq!(record.credential.as_deref(), Some("billing/1"));
    assert_eq!(world.orders(&billing.signed(&for_billing)).await.json()["service"], "billing");

    // Guide 2: one's outstanding challenge, the other's key.
    let for_reports = world.ask(&world.reports).await;
    let for_exports = world.ask(&exports).await;
    let answer = world.post("/verify_challenge", &answer_2(&exports, &for_reports)).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
    let answer = world.post("/verify_challenge", &answer_2(&exports, &for_exports)).await;
    assert_eq!(answer.text("service"), "exports");
    let answer = world.post("/verify_challenge", &answer_2(&world.reports, &for_reports)).await;
    assert_eq!(answer.text("service"), "reports");

    // The server proves itself with the keys of the pair that asks.
    let (mine, header) = my_challenge();
    let challenge = world.knock(&shipping.key).await;
    let answer = world.orders(&[shipping.signed(&challenge), header].concat()).await;
    assert_eq!(answer.header("x-api-key"), Some(shipping.server_key.expose()));
    assert_eq!(answer.header("x-signature"), Some(shipping.proof_of_the_server(&mine).as_str()));
}
