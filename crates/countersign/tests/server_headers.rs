//! What travels on to the handler and back: no credentials of ours, no forged identity, everything else.

#![cfg(feature = "server")]

mod server_support;

use serde_json::json;
use server_support::*;

/// Every spelling that somebody behind a CGI-like interface reads as one of ours.
const FORGED: [&str; 16] = [
    "x-countersign-service",
    "X-COUNTERSIGN-SERVICE",
    "x_countersign_service",
    "X_Countersign_Service",
    "x-countersign_service",
    "x_countersign-credential",
    "x.countersign.service",
    "x~countersign!profile",
    "x-countersign-profile",
    "x-countersign-",
    "x-countersign-anything-else",
    "x_api_key",
    "x_signature",
    "x_challenge",
    "x_client_challenge",
    "x.client.challenge",
];

#[tokio::test]
async fn forged_identities_and_our_credentials_do_not_reach_the_handler() {
    let world = World::new();
    let forged = FORGED.map(|name| (name, "admin/1".to_owned()));
    let other = [
        ("cookie", "a=b".to_owned()),
        ("x-forwarded-for", "203.0.113.1".to_owned()),
        ("x-countersigned", "kept: another name".to_owned()),
        ("x-request-id", "chosen-by-the-caller".to_owned()),
    ];
    let challenge = world.knock(&world.billing.key).await;
    let mut signed = world.billing.signed(&challenge);
    signed.push(("x-client-challenge", "AAAAAAAAAAAAAAAAAAAAAA==".to_owned()));
    let token = vec![("authorization", format!("Bearer {}", world.guide_1_token().await))];
    for credentials in [signed, token] {
        let answer = world.orders(&[&credentials[..], &forged, &other].concat()).await;
        assert_eq!(answer.status, 200);
        let seen = answer.json();
        assert_eq!(seen["service"], "billing");
        let id = world.record_of(&answer).request_id;
        let expected = json!({
            "cookie": ["a=b"],
            "x-forwarded-for": ["203.0.113.1"],
            "x-countersigned": ["kept: another name"],
            "x-request-id": [id],
        });
        assert_eq!(seen["headers"], expected);
    }
}

#[tokio::test]
async fn forged_identities_prove_nothing() {
    let world = World::new();
    let answer = world.orders(&FORGED.map(|name| (name, "admin/1".to_owned()))).await;
    world.assert_refused(&answer, 401, "credentials-required", "no-credentials");
}

#[tokio::test]
async fn an_authorization_that_is_not_ours_belongs_to_the_handler() {
    let world = World::new();
    for foreign in ["Basic dXNlcjpwYXNz", "Bearer eyJhbGciOiJub25lIn0.e30.", "Negotiate YII="] {
        let foreign = ("authorization", foreign.to_owned());
        let alone = world.orders(std::slice::from_ref(&foreign)).await;
        world.assert_refused(&alone, 401, "credentials-required", "no-credentials");
        let challenge = world.knock(&world.billing.key).await;
        let headers = [world.billing.signed(&challenge), vec![foreign.clone()]].concat();
        let answer = world.orders(&headers).await;
        assert_eq!(answer.json()["headers"]["authorization"], json!([foreign.1]));
    }
}

#[tokio::test]
async fn an_authorization_that_is_not_ours_does_not_disturb_the_endpoints() {
    let world = World::new();
    let basic = [("authorization", "Basic dXNlcjpwYXNz".to_owned())];
    let asked = world.send(post("/authenticate", &basic, asking(&world.billing.key).to_string())).await;
    let body = world.billing.answer(&asked.text("challenge")).to_string();
    assert_eq!(world.send(post("/verify_challenge", &basic, body)).await.status, 200);
}

#[tokio::test]
async fn a_handler_cannot_speak_as_us() {
    let world = World::new();
    let forger = |headers| {
        let mut request = orders(headers);
        *request.uri_mut() = http::Uri::from_static("/forger");
        request
    };
    let token = [("authorization", format!("Bearer {}", world.guide_1_token().await))];
    let answer = world.send(forger(&token)).await;
    assert_eq!((answer.status, answer.header("x-harmless")), (200, Some("forged")));
    for name in ["x-api-key", "x_api_key", "x-signature", "x_signature", "x.api.key"] {
        assert_eq!(answer.header(name), None, "{name}");
    }
    // Where we speak ourselves, there is one voice.
    let challenge = world.knock(&world.billing.key).await;
    let mut signed = world.billing.signed(&challenge);
    signed.push(("x-client-challenge", "AAAAAAAAAAAAAAAAAAAAAA==".to_owned()));
    let answer = world.send(forger(&signed)).await;
    assert_eq!(answer.headers.get_all("x-api-key").iter().count(), 1);
    assert_eq!(answer.header("x-api-key"), Some(world.billing.server_key.expose()));
    assert_eq!(answer.headers.get_all("x-signature").iter().count(), 1);
}

#[tokio::test]
async fn paths_beside_the_routes_are_not_open() {
    let world = World::new();
    for path in ["/", "/orders/", "/authenticate/", "/ORDERS"] {
        let mut request = orders(&[]);
        *request.uri_mut() = path.parse().unwrap();
        let answer = world.send(request).await;
        assert!([401, 404].contains(&answer.status), "{path}: {}", answer.status);
    }
}
