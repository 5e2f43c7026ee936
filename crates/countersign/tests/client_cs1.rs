//! The client under the profile `cs1`: what it takes for an answer, and what it does otherwise. `specs/cs1.md` has the numbers.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod client_support;

use std::sync::{Arc, Mutex};

use bytes::Bytes;
use client_support::signed::{Script, Signing};
use client_support::{Fake, Said, get, post, read};
use countersign::audit::{MemorySink, Outcome};
use countersign::client::{Client, ClientError, Narration, Unproved};
use countersign::protocol::cs1::Coverage;
use countersign::protocol::wire::reply::ReplyError;
use http::header::{ETAG, SERVER};
use http::{HeaderValue, Request, Response, StatusCode};
use serde_json::json;
use tower::ServiceExt as _;

async fn started(script: Script) -> (Signing, Client) {
    let orders = Signing::start(script).await;
    let client = Client::new(&orders.peer()).unwrap();
    (orders, client)
}

fn why(error: &ClientError) -> Unproved {
    match error {
        ClientError::OutcomeUnknown { why, .. } => *why,
        other => panic!("{other}"),
    }
}

#[tokio::test]
async fn a_signed_answer_is_handed_on_verified_and_with_its_coverage() {
    let answer = |seen: &client_support::Seen| {
        let mut response = Response::new(seen.body.clone());
        *response.status_mut() = StatusCode::IM_A_TEAPOT;
        response.headers_mut().insert(ETAG, HeaderValue::from_static("\"x\""));
        response
    };
    let change = |response: &mut Response<Bytes>| {
        // A hop's to write, and covered by nothing.
        response.headers_mut().insert(SERVER, HeaderValue::from_static("hop"));
    };
    let script = Script { answer: Box::new(answer), change: Box::new(change), ..Script::default() };
    let (orders, client) = started(script).await;
    for request in [post("/items?a=b", "data"), get("/items"), Request::head("/").body(Bytes::new()).unwrap()]
    {
        let sent = request.body().clone();
        let response = client.send(request).await.unwrap();
        assert_eq!(response.status(), StatusCode::IM_A_TEAPOT);
        assert!(response.body().is_verified());
        let coverage = response.extensions().get::<Coverage>().unwrap();
        assert!(coverage.covers(&ETAG) && !coverage.covers(&SERVER));
        assert_eq!(read(response).await, sent);
    }
    assert_eq!((orders.handshakes(), orders.accepted()), (1, 3));
    let headers = orders.seen().pop().unwrap().headers;
    assert_eq!(headers["te"], "trailers");
    assert!(!headers.contains_key("authorization") && !headers.contains_key("x-api-key"));
}

#[tokio::test]
async fn the_client_is_a_tower_service() {
    let (_orders, client) = started(Script::default()).await;
    let response = client.oneshot(post("/", "data")).await.unwrap();
    assert_eq!(read(response).await, "POST data");
}

#[tokio::test]
async fn cs_3_a_server_that_has_or_leaves_another_profile_is_an_error() {
    let keys = client_support::Keys::new();
    let of = |status: u16, body: serde_json::Value| -> Said { (status, vec![], body.to_string()) };
    let unknown =
        json!({"type": "urn:countersign:problem:unsupported-protocol", "title": "Use shared-secret"});
    for (status, body) in [
        (200, json!({"challenge": client_support::CHALLENGE, "expiresIn": 30})),
        (400, unknown),
        (404, json!({})),
        (200, json!({"authenticated": true, "token": "csb.AAAA"})),
    ] {
        let proof = keys.clone();
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            "/authenticate" => of(status, body.clone()),
            // As a server of guide 1 would go on.
            "/verify_challenge" => (200, proof.proof(seen), json!({"authenticated": true}).to_string()),
            _ => (200, vec![], "served".to_owned()),
        })
        .await;
        let client = Client::new(&keys.orders_by_cs1_at(fake.url())).unwrap();
        let error = client.send(post("/x", "the data")).await.unwrap_err();
        assert!(matches!(error, ClientError::Handshake { .. }), "{error}");
        assert_eq!(fake.paths(), ["/authenticate"], "nothing else is tried");
    }
}

#[tokio::test]
async fn cs_7_a_changed_share_ticket_or_expiry_ends_the_handshake() {
    let changes: [fn(&mut serde_json::Value); 6] = [
        |fourth| fourth["ephemeral"] = "AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8".into(),
        |fourth| fourth["ticket"] = format!("cst.{}", "A".repeat(64)).into(),
        |fourth| fourth["expiresIn"] = 599.into(),
        |fourth| fourth["serverProof"] = "A".repeat(43).into(),
        |fourth| fourth["authenticated"] = false.into(),
        |fourth| {
            fourth.as_object_mut().unwrap().remove("serverProof");
        },
    ];
    for fourth in changes {
        let (orders, client) = started(Script { fourth: Box::new(fourth), ..Script::default() }).await;
        let error = client.send(post("/x", "the data")).await.unwrap_err();
        assert!(matches!(error, ClientError::Handshake { .. }), "{error}");
        assert_eq!(orders.requests(), 0, "nothing is sent to it");
    }
}

#[tokio::test]
async fn the_proof_of_a_server_that_holds_another_secret_is_none() {
    let orders = Signing::start(Script::default()).await;
    let mut keys = orders.keys.clone();
    keys.secret = client_support::Keys::new().secret;
    let sink = Arc::new(MemorySink::default());
    let url = orders.peer().url.unwrap();
    let client = Client::builder().audit(sink.clone()).build(&keys.orders_by_cs1_at(&url)).unwrap();
    // The client proves itself first, so it is the server that refuses.
    let error = client.send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Handshake { error: ReplyError::Status { status: 401, .. }, .. }),
        "{error}"
    );
    assert_eq!(sink.records()[0].outcome, Outcome::Refused);
}

#[tokio::test]
async fn cs_35_an_unsigned_answer_is_not_handed_on_whatever_it_says() {
    for status in [200, 204, 302, 403, 404, 421, 429, 500, 503] {
        let instead = move |_: &client_support::Seen, _: usize| {
            let answer = Response::builder().status(status).header("retry-after", "7");
            Some(
                answer
                    .body(Bytes::from_static(b"{\"type\":\"urn:countersign:problem:rate-limited\"}"))
                    .unwrap(),
            )
        };
        let script = Script { instead: Box::new(instead), ..Script::default() };
        let (orders, client) = started(script).await;
        for request in [get("/x"), post("/x", "data")] {
            let error = client.send(request).await.unwrap_err();
            assert_eq!(why(&error), Unproved::Unsigned);
            let text = error.to_string();
            assert!(text.contains(&status.to_string()) && text.contains("may or may not"), "{text}");
            if status != 204 {
                assert!(text.contains("`rate-limited`, and to try again in 7 s"), "{text}");
            }
        }
        assert_eq!((orders.handshakes(), orders.requests()), (1, 2), "no session and no request is repeated");
    }
}

#[tokio::test]
async fn cs_35_an_answer_that_was_changed_on_its_way_is_none() {
    type Change = fn(&mut Response<Bytes>);
    let changes: [(Change, Unproved); 8] = [
        (|response| *response.body_mut() = Bytes::from_static(b"POST date"), Unproved::Content),
        (|response| *response.body_mut() = Bytes::new(), Unproved::Content),
        (|response| *response.status_mut() = StatusCode::CREATED, Unproved::Signature),
        (
            |response| {
                response.headers_mut().insert("location", HeaderValue::from_static("/other"));
            },
            Unproved::Uncovered("location"),
        ),
        (
            |response| {
                response.headers_mut().remove("signature");
                response.headers_mut().remove("signature-input");
            },
            Unproved::Unsigned,
        ),
        (
            |response| {
                response.headers_mut().remove("signature-input");
            },
            Unproved::Signature,
        ),
        (
            |response| {
                response.headers_mut().remove("content-digest");
            },
            Unproved::Uncovered("content-digest"),
        ),
        (
            |response| {
                response.headers_mut().insert("countersign-body", HeaderValue::from_static("stream"));
            },
            Unproved::Uncovered("countersign-body"),
        ),
    ];
    for (number, (change, expected)) in changes.into_iter().enumerate() {
        let script = Script { change: Box::new(change), ..Script::default() };
        let orders = Signing::start(script).await;
        let sink = Arc::new(MemorySink::default());
        let client = Client::builder().audit(sink.clone()).build(&orders.peer()).unwrap();
        let error = client.send(post("/x", "data")).await.unwrap_err();
        let found = why(&error);
        assert!(
            found == expected
                || matches!((found, expected), (Unproved::Uncovered(_), Unproved::Uncovered(_))),
            "{number}: {found}"
        );
        let last = sink.records().pop().unwrap();
        assert_eq!((last.outcome, &*last.reason), (Outcome::Refused, "response-unproved"));
    }
}

#[tokio::test]
async fn cs_33_the_answer_to_another_request_is_none() {
    let first = Arc::new(Mutex::new(None));
    let change = move |response: &mut Response<Bytes>| {
        let mut kept = first.lock().unwrap();
        let first: &Response<Bytes> = kept.get_or_insert_with(|| response.clone());
        *response = first.clone();
    };
    let (_orders, client) = started(Script { change: Box::new(change), ..Script::default() }).await;
    assert!(client.send(post("/x", "data")).await.is_ok());
    // The same request, and the same answer, with another nonce.
    let error = client.send(post("/x", "data")).await.unwrap_err();
    assert_eq!(why(&error), Unproved::Signature);
}

/// What a server said in M2 and in M4.
type Answers = Arc<Mutex<Vec<serde_json::Value>>>;

/// A server, and what it says in its handshakes from the first on.
async fn overheard() -> (Signing, Answers) {
    let answers = Answers::default();
    let keeps = |answers: &Answers| {
        let answers = Arc::clone(answers);
        Box::new(move |answer: &mut serde_json::Value| answers.lock().unwrap().push(answer.clone()))
    };
    let (second, fourth) = (keeps(&answers), keeps(&answers));
    (Signing::start(Script { second, fourth, ..Script::default() }).await, answers)
}

/// Somebody in between who has these two answers for whoever asks.
async fn relay(second: serde_json::Value, fourth: serde_json::Value) -> Fake {
    Fake::start(move |seen| match seen.path.as_str() {
        "/authenticate" => (200, vec![], second.to_string()),
        "/verify_challenge" => (200, vec![], fourth.to_string()),
        _ => (200, vec![], "served".to_owned()),
    })
    .await
}

#[tokio::test]
async fn cs_7_a_relays_answer_for_another_pair_or_from_another_handshake_is_none() {
    let (other, theirs) = overheard().await;
    assert!(Client::new(&other.peer()).unwrap().send(get("/")).await.is_ok());
    let (orders, ours) = overheard().await;
    for _ in 0..2 {
        assert!(Client::new(&orders.peer()).unwrap().send(get("/")).await.is_ok());
    }
    let (theirs, ours) = (theirs.lock().unwrap().clone(), ours.lock().unwrap().clone());
    let [their_second, their_fourth] = theirs.try_into().unwrap();
    let [second, fourth, later_second, later_fourth] = ours.try_into().unwrap();
    for (second, fourth) in [
        (their_second.clone(), their_fourth.clone()),
        (second.clone(), their_fourth),
        (their_second, fourth.clone()),
        (second.clone(), fourth.clone()),
        (second, later_fourth),
        (later_second, fourth),
    ] {
        let relay = relay(second, fourth).await;
        let mut peer = orders.peer();
        peer.url = Some(relay.url().to_owned());
        let error = Client::new(&peer).unwrap().send(post("/x", "the data")).await.unwrap_err();
        assert!(matches!(error, ClientError::Handshake { error: ReplyError::ServerImpostor, .. }), "{error}");
        assert_eq!(relay.paths(), ["/authenticate", "/verify_challenge"], "nothing else is sent");
    }
}

#[tokio::test]
async fn cs_7_an_answer_that_is_put_in_the_place_of_the_right_one_is_none() {
    let (other, theirs) = overheard().await;
    assert!(Client::new(&other.peer()).unwrap().send(get("/")).await.is_ok());
    let theirs = theirs.lock().unwrap().clone();
    let with = |replacement: &serde_json::Value| {
        let replacement = replacement.clone();
        Box::new(move |answer: &mut serde_json::Value| *answer = replacement.clone())
    };
    // Their challenge, on its way to us: what we say to it is nothing to our server.
    let (orders, client) = started(Script { second: with(&theirs[0]), ..Script::default() }).await;
    let error = client.send(post("/x", "the data")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Handshake { error: ReplyError::Status { status: 401, .. }, .. }),
        "{error}"
    );
    assert_eq!((orders.handshakes(), orders.requests()), (0, 0));
    // Our server takes us, and their proof comes in the place of its own.
    let (orders, client) = started(Script { fourth: with(&theirs[1]), ..Script::default() }).await;
    let error = client.send(post("/x", "the data")).await.unwrap_err();
    assert!(matches!(error, ClientError::Handshake { error: ReplyError::ServerImpostor, .. }), "{error}");
    assert_eq!((orders.handshakes(), orders.requests()), (1, 0));
}

#[tokio::test]
async fn what_a_client_says_to_a_server_of_another_pair_is_nothing_to_it() {
    // Whoever sits in between sends on to a server that is honest, and serves another pair.
    let other = Signing::start(Script::default()).await;
    let orders = Signing::start(Script::default()).await;
    let mut peer = orders.peer();
    peer.url = other.peer().url;
    let error = Client::new(&peer).unwrap().send(get("/")).await.unwrap_err();
    assert!(
        matches!(error, ClientError::Handshake { error: ReplyError::Status { status: 401, .. }, .. }),
        "{error}"
    );
    assert_eq!((other.handshakes(), other.requests()), (0, 0));
}

#[tokio::test]
async fn what_countersign_sets_itself_is_refused_before_anything_is_sent() {
    let (orders, client) = started(Script::default()).await;
    for name in [
        "signature",
        "signature-input",
        "countersign-body",
        "x-api-key",
        "x-signature",
        "host",
        "content-digest",
    ] {
        let request = Request::post("/x").header(name, "x").body(Bytes::from_static(b"data")).unwrap();
        let error = client.send(request).await.unwrap_err();
        assert!(matches!(&error, ClientError::HeaderTaken(taken) if *taken == name), "{error}");
    }
    assert!(orders.seen().is_empty());
}

#[tokio::test]
async fn cs_49_what_cannot_be_signed_is_told_before_it_is_sent() {
    let (orders, client) = started(Script::default()).await;
    let not_ascii = HeaderValue::from_bytes(b"caf\xe9").unwrap();
    let one = Request::get("/").header("x-name", not_ascii).body(Bytes::new()).unwrap();
    let two = Request::get("/").header("x-role", "a").header("x-role", "b").body(Bytes::new()).unwrap();
    let mut many = get("/");
    for number in 0..61 {
        let name: http::HeaderName = format!("x-{number}").parse().unwrap();
        many.headers_mut().insert(name, HeaderValue::from_static("x"));
    }
    for (request, expected) in [(one, "x-name"), (two, "x-role"), (many, "too many fields")] {
        let error = client.send(request).await.unwrap_err();
        assert!(matches!(error, ClientError::Unsignable(_)), "{error}");
        assert!(error.to_string().contains(expected), "{error}");
    }
    assert_eq!(orders.requests(), 0);
    // Two cookies are one (CS-28), and these lists may stand on several lines (CS-48).
    let request = Request::get("/").header("cookie", "a=b").header("cookie", "c=d");
    let request = request.header("accept", "a/b").header("accept", "c/d").body(Bytes::new()).unwrap();
    assert!(client.send(request).await.is_ok());
    assert_eq!(orders.seen().pop().unwrap().headers["cookie"], "a=b; c=d");
}

#[tokio::test]
async fn cs_37_more_than_is_held_is_an_error() {
    let answer = |_: &client_support::Seen| Response::new(Bytes::from(vec![b'x'; 2000]));
    let orders = Signing::start(Script { answer: Box::new(answer), ..Script::default() }).await;
    let client = |hold| Client::builder().hold(hold).build(&orders.peer()).unwrap();
    assert_eq!(read(client(2000).send(get("/")).await.unwrap()).await.len(), 2000);
    let error = client(1999).send(get("/")).await.unwrap_err();
    assert!(matches!(error, ClientError::ResponseTooLong { limit: 1999, .. }), "{error}");
}

#[tokio::test]
async fn cs_36_no_redirect_is_followed() {
    let answer = |_: &client_support::Seen| {
        Response::builder().status(307).header("location", "/other").body(Bytes::new()).unwrap()
    };
    let (orders, client) = started(Script { answer: Box::new(answer), ..Script::default() }).await;
    let response = client.send(get("/")).await.unwrap();
    assert_eq!((response.status(), orders.requests()), (StatusCode::TEMPORARY_REDIRECT, 1));
}

#[tokio::test]
async fn handshakes_are_on_the_trail_and_narrated_without_keys_tickets_and_secrets() {
    let orders = Signing::start(Script::default()).await;
    let sink = Arc::new(MemorySink::default());
    let told = Arc::new(Mutex::new(String::new()));
    let listening = Arc::clone(&told);
    let narrator = Arc::new(move |narration: &Narration| {
        listening.lock().unwrap().push_str(&format!("{narration}\n"));
    });
    let client = Client::builder().audit(sink.clone()).narrator(narrator).build(&orders.peer()).unwrap();
    client.send(post("/x", "data")).await.unwrap();
    client.send(post("/x", "data")).await.unwrap();
    let records = sink.records();
    assert_eq!(records.len(), 1, "one handshake");
    assert_eq!(records[0].outcome, Outcome::Accepted);
    let told = told.lock().unwrap();
    assert!(
        told.contains("both sides have proved themselves") && told.contains("keyid=\"cst...\""),
        "{told}"
    );
    let signature = orders.seen().pop().unwrap().headers["signature"].to_str().unwrap().to_owned();
    let input = orders.seen().pop().unwrap().headers["signature-input"].to_str().unwrap().to_owned();
    let ticket = input.split("cst.").nth(1).unwrap().split('"').next().unwrap().to_owned();
    for hidden in [orders.keys.secret.expose(), orders.keys.billing.expose(), &signature, &ticket] {
        assert!(!told.contains(hidden), "{told}");
    }
    let debugged = format!("{client:?}");
    assert!(!debugged.contains(&ticket), "{debugged}");
}

#[tokio::test]
async fn cs_5_each_handshake_has_a_nonce_and_a_share_of_its_own() {
    let (orders, client) = started(Script::default()).await;
    for _ in 0..3 {
        assert!(client.send(get("/")).await.is_ok());
        orders.forget();
    }
    let seen = orders.seen();
    let of = |path: &str, member: &str| -> Vec<String> {
        let bodies = seen.iter().filter(|seen| seen.path == path);
        let bodies = bodies.map(|seen| serde_json::from_slice::<serde_json::Value>(&seen.body).unwrap());
        bodies.map(|body| body[member].as_str().unwrap().to_owned()).collect()
    };
    for member in ["nonce", "ephemeral"] {
        let mut first = of("/authenticate", member);
        assert_eq!(first, of("/verify_challenge", member), "M3 says what M1 said (CS-6)");
        first.sort();
        first.dedup();
        assert_eq!(first.len(), 3, "{member}");
    }
}

#[tokio::test]
async fn cs_44_no_handshake_over_plain_http_to_another_machine_nor_after_a_redirect() {
    let keys = client_support::Keys::new();
    let error = Client::new(&keys.orders_by_cs1_at("http://orders.example")).unwrap_err();
    assert!(matches!(error, ClientError::PlainHttp(_)), "{error}");
    let to = |path: &'static str| -> Said { (307, vec![("location", path.to_owned())], String::new()) };
    for (redirected, paths) in [
        ("/authenticate", &["/authenticate"][..]),
        ("/verify_challenge", &["/authenticate", "/verify_challenge"]),
    ] {
        let challenge = json!({"challenge": format!("1800000000.{}", "A".repeat(64)), "expiresIn": 30});
        let fake = Fake::start(move |seen| match seen.path.as_str() {
            path if path == redirected => to("/elsewhere"),
            _ => (200, vec![], challenge.to_string()),
        })
        .await;
        let client = Client::new(&keys.orders_by_cs1_at(fake.url())).unwrap();
        let error = client.send(post("/x", "the data")).await.unwrap_err();
        assert!(
            matches!(error, ClientError::Handshake { error: ReplyError::Status { status: 307, .. }, .. }),
            "{error}"
        );
        assert_eq!(fake.paths(), paths);
    }
}
