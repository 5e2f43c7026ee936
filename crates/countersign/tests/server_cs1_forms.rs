//! Signatures under `cs1` of another form, time or kind than the profile has, and beside other credentials.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a failed check is a failed test")]

mod server_support;

use bytes::Bytes;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::KeyName;
use http::{HeaderValue, Request};
use server_support::*;

const DERIVED: [&str; 4] = ["@method", "@authority", "@path", "@query"];

#[tokio::test]
async fn cs_23_parameters_that_are_not_the_profile_s_are_refused() {
    let target = Target::new();
    let session = target.session().await;
    let signer = session.signer();
    let params = signer.params();
    let ticket = format!("keyid=\"{}\"", &*session.0.ticket);
    let bad = [
        params.replace("tag=\"countersign\"", "tag=\"countersign-direct\""),
        params.replace("tag=\"countersign\"", "tag=\"web-bot-auth\""),
        params.replace(";tag=\"countersign\"", ""),
        format!("{params};alg=\"ed25519\""),
        format!("{params};alg=\"hmac-sha512\""),
        format!("{params};alg=hmac-sha256"),
        format!("{params};tag=\"countersign\""),
        format!("{params};x=1"),
        params.replace(";keyid", ";keyId"),
        params.replace(&ticket, "keyid=\"cst.\""),
        params.replace(&ticket, "keyid=\"other\""),
        params.replace(&format!(";{ticket}"), ""),
        params.replace("nonce=\"", "nonce=\"!"),
        params.split(";nonce").next().unwrap().to_owned(),
        params.replace(";created=", ";created=-"),
        params.replace(";created=", ";created=0"),
        params.replace(";expires=", "; expires="),
        params.replace(";expires=", ";expires=\"").replace(";nonce", "\";nonce"),
    ];
    for params in bad {
        let request = signer.forge(bare(Request::get("/orders")), &DERIVED, &params);
        let answer = target.send(request).await;
        if params.contains("keyid=\"cst.\"") {
            target.turned_away(&answer, 401, "session-invalid", "ticket-form");
        } else {
            target.turned_away(&answer, 401, "signature-malformed", "signature-form");
        }
    }
    let params = format!("{params};alg=\"hmac-sha256\"");
    let request = signer.forge(bare(Request::get("/orders")), &DERIVED, &params);
    target.let_in(&signer, &request, &target.send(request.clone()).await);
}

#[tokio::test]
async fn cs_23_two_signatures_two_lines_or_another_label_are_refused() {
    let target = Target::new();
    let session = target.session().await;
    let request = session.sign(Request::get("/orders"), "");
    let of = |name: &str| request.headers()[name].to_str().unwrap().to_owned();
    let (input, signature) = (of("signature-input"), of("signature"));
    let other = |text: &str| text.replacen("cs=", "sig1=", 1);
    let cases: [(Vec<String>, Vec<String>); 9] = [
        (vec![other(&input)], vec![other(&signature)]),
        (vec![input.clone()], vec![other(&signature)]),
        (vec![format!("{}, {input}", other(&input))], vec![format!("{}, {signature}", other(&signature))]),
        (vec![format!("{input}, {}", other(&input))], vec![format!("{signature}, {}", other(&signature))]),
        (vec![input.clone(), other(&input)], vec![signature.clone(), other(&signature)]),
        (vec![input.clone(), input.clone()], vec![signature.clone()]),
        (vec![input.clone()], vec![signature.clone(), signature.clone()]),
        (vec![input.clone()], vec![]),
        (vec![], vec![signature.clone()]),
    ];
    for (inputs, signatures) in cases {
        let request = with(request.clone(), |fields| {
            fields.remove("signature-input");
            fields.remove("signature");
            for input in &inputs {
                fields.append("signature-input", input.parse().unwrap());
            }
            for signature in &signatures {
                fields.append("signature", signature.parse().unwrap());
            }
        });
        let answer = target.send(request).await;
        target.turned_away(&answer, 401, "signature-malformed", "signature-form");
    }
    // Other spellings of the same structured field.
    for (from, to) in [("cs=(", "cs=( "), ("cs=", "cs= "), ("\" \"", "\"  \""), (";created", "; created")] {
        let request = with(request.clone(), |fields| {
            fields.insert("signature-input", input.replacen(from, to, 1).parse().unwrap());
        });
        target.turned_away(&target.send(request).await, 401, "signature-malformed", "signature-form");
    }
    target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
}

#[tokio::test]
async fn a_foreign_signature_beside_a_guide_s_credentials_is_the_business_of_who_is_behind() {
    let target = Target::new();
    let token = target.guide_1_token().await;
    let foreign = [
        ("authorization", format!("Bearer {token}")),
        ("signature-input", "sig1=(\"@method\");created=1".to_owned()),
        ("signature", "sig1=:AAAA:".to_owned()),
    ];
    let answer = target.orders(&foreign).await;
    assert_eq!(answer.status, 200, "{:?}", answer.body);
    assert_eq!(answer.json()["headers"]["signature"][0], "sig1=:AAAA:");
    assert_eq!((answer.json()["service"].clone(), target.began()), ("billing".into(), 1));
    unsigned(&answer);
}

#[tokio::test]
async fn a_signature_of_ours_beside_other_credentials_is_two_methods() {
    let target = Target::new();
    let session = target.session().await;
    let token = target.guide_1_token().await;
    let challenge = target.knock(&target.billing.key).await;
    let key = ("x-api-key", target.billing.key.expose().to_owned());
    let others = [
        vec![key.clone()],
        target.billing.signed(&challenge),
        vec![("x-signature", "00".to_owned())],
        vec![("x-challenge", challenge)],
        vec![("authorization", format!("Bearer {token}"))],
        vec![("authorization", "Bearer csb.x".to_owned())],
        vec![("authorization", "Bearer csb.x".to_owned()), ("authorization", "Basic Og==".to_owned())],
    ];
    for lines in others {
        let request = with(session.sign(Request::get("/orders"), ""), |fields| {
            for (name, value) in &lines {
                fields.append(*name, value.parse().unwrap());
            }
        });
        target.turned_away(&target.send(request).await, 400, "two-methods", "two-methods");
    }
    // A signed credential for somebody behind is none of ours.
    let request = session.sign(Request::get("/orders").header("authorization", "Bearer theirs"), "");
    let seen = target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    assert_eq!(seen["headers"]["authorization"][0], "Bearer theirs");
}

#[tokio::test]
async fn cs_25_what_is_dated_outside_of_the_window_is_refused() {
    let target = Target::new();
    let session = target.session().await;
    target.advance(100);
    let now = target.clock.now().0;
    let signed = |created: u64, expires: u64| {
        let signer = Signer { now: UnixTime(created), window: expires - created, ..session.signer() };
        signer.forge(bare(Request::get("/orders")), &DERIVED, &signer.params())
    };
    let bad = [
        (now + 30, now + 60),
        (now, now + 3_600),
        (now - 61, now - 1),
        (now - 90, now + 10),
        (now - 10, now),
    ];
    for (created, expires) in bad {
        let answer = target.send(signed(created, expires)).await;
        target.turned_away(&answer, 401, "clock-skew", "clock-skew");
        assert_eq!(answer.header("accept-signature"), None);
    }
    // That the time is wrong is told to nobody whose MAC is wrong.
    let request = with(signed(now + 30, now + 60), |fields| {
        fields.insert(
            "signature",
            HeaderValue::from_static("cs=:AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA=:"),
        );
    });
    target.turned_away(&target.send(request).await, 401, "authentication-failed", "wrong-signature");
    for (created, expires) in [(now + 4, now + 60), (now - 50, now + 10)] {
        let request = signed(created, expires);
        target.let_in(&session.signer(), &request, &target.send(request.clone()).await);
    }
}

#[tokio::test]
async fn cs_26_a_nonce_is_good_once_whatever_else_is_signed_with_it() {
    let target = Target::new();
    let session = target.session().await;
    let signer = session.signer();
    let params = signer.params();
    let request = signer.forge(bare(Request::get("/orders")), &DERIVED, &params);
    target.let_in(&signer, &request, &target.send(request.clone()).await);
    let other = signer.forge(bare(Request::post("/other")), &DERIVED, &params);
    target.turned_away(&target.send(other).await, 401, "request-replayed", "request-replayed");
    // Of another session it is another one.
    let second = target.session().await;
    let signer = second.signer();
    let KeyName::Ticket(ticket) = signer.name else { panic!("a session has a ticket") };
    let params = params.replace(&*session.0.ticket, ticket);
    let request = signer.forge(bare(Request::get("/orders")), &DERIVED, &params);
    target.let_in(&signer, &request, &target.send(request.clone()).await);
}

#[tokio::test]
async fn cs_24_more_than_64_components_one_twice_or_one_with_parameters_are_refused() {
    let target = Target::new();
    let session = target.session().await;
    let signer = session.signer();
    let names: Vec<String> = (0..61).map(|number| format!("x-{number}")).collect();
    let many: Vec<&str> = DERIVED.into_iter().chain(names.iter().map(String::as_str)).collect();
    let request = names.iter().fold(Request::get("/orders"), |request, name| request.header(name, "1"));
    let cases: [(http::request::Builder, Vec<&str>); 5] = [
        (request, many),
        (Request::get("/orders"), [&DERIVED[..], &["@method"]].concat()),
        (Request::get("/orders").header("x-a", "1"), [&DERIVED[..], &["x-a", "x-a"]].concat()),
        (Request::get("/orders"), [&DERIVED[..], &["@target-uri"]].concat()),
        (Request::get("/orders").header("x-a", "1"), [&DERIVED[..], &["X-A"]].concat()),
    ];
    for (request, components) in cases {
        let request = signer.forge(bare(request), &components, &signer.params());
        target.turned_away(&target.send(request).await, 401, "signature-malformed", "signature-form");
    }
    let request = session.sign(Request::get("/orders"), "");
    let request = with(request, |fields| {
        let input = fields["signature-input"].to_str().unwrap().replace("\"@path\"", "\"@path\";req");
        fields.insert("signature-input", input.parse().unwrap());
    });
    target.turned_away(&target.send(request).await, 401, "signature-malformed", "signature-form");
}

#[tokio::test]
async fn nothing_at_all_is_told_to_sign_and_says_nothing_of_the_profile() {
    let target = Target::new();
    let answer = target.send(bare(Request::get("/orders")).map(|_| Bytes::new())).await;
    target.turned_away(&answer, 401, "credentials-required", "no-credentials");
}

#[tokio::test]
async fn cs_46_of_all_that_is_wrong_the_first_in_the_order_is_told_and_the_rest_not_looked_at() {
    let target = Target::new();
    let session = target.session().await;
    let nonce = "AAAAAAAAAAAAAAAAAAAAAA";
    // In the order of CS-46: this one and those after it are wrong.
    let request = |first: usize| {
        let wrong = |place: usize| place >= first;
        let (now, ticket) = (session.now().0, session.0.ticket.to_string());
        let ticket = if wrong(1) { ticket.replacen("cst.", "cst.AAAA", 1) } else { ticket };
        let mut keys = session.0.keys.clone();
        if wrong(4) {
            std::mem::swap(&mut keys.client_to_server, &mut keys.server_to_client);
        }
        let (created, expires) = if wrong(5) { (now - 100, now - 50) } else { (now, now + 60) };
        let unused = format!("unused-until-now-{first}");
        let nonce = if wrong(6) { nonce } else { &unused };
        let more = if wrong(0) { ";more" } else { "" };
        let params = format!(
            ";created={created};expires={expires};nonce=\"{nonce}\";keyid=\"{ticket}\";tag=\"countersign\"{more}"
        );
        let covered = ["@method", "@authority", "@path", "content-digest", "@query"];
        let covered = if wrong(3) { &covered[..4] } else { &covered[..] };
        let mut unsigned = bare(Request::post("/orders"));
        let digest = countersign::protocol::cs1::content::content_digest(b"content").unwrap();
        unsigned.headers_mut().insert("content-digest", digest);
        *unsigned.body_mut() = if wrong(7) { "Content" } else { "content" }.into();
        let signer = Signer { name: KeyName::Ticket(&ticket), keys, ..session.signer() };
        let mut signed = signer.forge(unsigned, covered, &params);
        if wrong(2) {
            signed.headers_mut().insert("host", "elsewhere.example".parse().unwrap());
        }
        signed
    };
    // The nonce is used.
    let mut params = session.signer().params();
    let made = params.split("nonce=\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    params = params.replacen(&made, nonce, 1);
    let covered = ["@method", "@authority", "@path", "@query"];
    let first = session.signer().forge(bare(Request::get("/orders")), &covered, &params);
    assert_eq!(target.send(first).await.status, 200);
    target.began();
    for (place, told) in [
        "signature-malformed",
        "session-invalid",
        "misdirected",
        "missing-component",
        "authentication-failed",
        "clock-skew",
        "request-replayed",
        "digest-mismatch",
    ]
    .into_iter()
    .enumerate()
    {
        let answer = target.send(request(place)).await;
        assert_problem(&answer, if told == "misdirected" { 421 } else { 401 }, told);
        unsigned(&answer);
        assert_eq!(target.began(), 0);
    }
    assert_eq!(target.send(request(8)).await.status, 200);
}
