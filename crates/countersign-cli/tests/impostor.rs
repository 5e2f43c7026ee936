//! Servers that are not who `call` thinks they are. It must give up before the request itself is sent.

mod support;

use serde_json::{Value, json};
use support::{ApiKeyPair, Exchange, Fake, Home, Pair, Serving, new_secret};

const CHALLENGE: &str = "AAECAwQFBgcICQoLDA0ODw==";
const VERDICT: &str = r#"{"authenticated":true,"service":"billing","token":"csb.AAAA","expiresIn":300}"#;

/// Gives a challenge, takes whatever comes, and answers it with these headers.
fn impostor(
    proof: impl Fn(&Value, &Exchange) -> Vec<(&'static str, String)> + Send + Sync + 'static,
) -> Fake {
    Fake::new(move |mut exchange| match exchange.seen.path.as_str() {
        "/authenticate" => {
            exchange.body();
            exchange.respond_json(&json!({"challenge": CHALLENGE, "expiresIn": 30}));
        }
        "/verify_challenge" => {
            let answer = exchange.json();
            let headers = proof(&answer, &exchange);
            let headers: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
            exchange.respond(200, &headers, VERDICT.as_bytes());
        }
        _ => exchange.respond(200, &[], b"I am orders, believe me"),
    })
}

/// Calls the fake server; it must not get further than the handshake.
#[track_caller]
fn assert_refused(billing: &Home, fake: &Fake, said: &[&str]) {
    let url = format!("{}/data", fake.url);
    billing.run(&["call", "-v", "-d", "the data", &url]).stderr.lines().for_each(drop);
    let done = billing.run(&["call", "-d", "the data", &url]);
    done.refused(1, said);
    let endpoints = ["/authenticate", "/verify_challenge"];
    assert!(fake.paths().iter().all(|path| endpoints.contains(&path.as_str())), "{:?}", fake.paths());
}

#[test]
fn a_server_that_says_yes_to_everything_gets_no_data() {
    let pair = Pair::new();
    let fake = impostor(|_, _| Vec::new());
    pair.meet(&fake.url, &[]);
    assert_refused(&pair.billing, &fake, &["did not prove who it is", "nothing was sent"]);
    assert_eq!(pair.billing.recorded("reason", "server-unproven"), 2);
}

#[test]
fn a_server_with_a_wrong_proof_gets_no_data() {
    type Forge = Box<dyn Fn(&Value, &Exchange, &str, &str) -> Vec<(&'static str, String)> + Send + Sync>;
    let text = |value: &Value, member: &str| value[member].as_str().unwrap().to_owned();
    let forgeries: Vec<Forge> = vec![
        // The right key, which is public, and some signature.
        Box::new(|_, _, theirs, _| vec![("X-API-Key", theirs.to_owned()), ("X-Signature", "0".repeat(64))]),
        // The caller's own proof, sent back under either key.
        Box::new(move |answer, _, theirs, _| {
            vec![("X-API-Key", theirs.to_owned()), ("X-Signature", text(answer, "signedChallenge"))]
        }),
        Box::new(move |answer, _, _, ours| {
            vec![("X-API-Key", ours.to_owned()), ("X-Signature", text(answer, "signedChallenge"))]
        }),
        // A proof for the caller's challenge with another pair's secret.
        Box::new(|_, exchange, theirs, _| {
            let challenge = exchange.seen.header("x-client-challenge").unwrap().parse().unwrap();
            let secret: countersign::SharedSecret = new_secret().parse().unwrap();
            let proof = countersign::protocol::shared_secret::sign(
                &secret.mac_key(),
                &theirs.parse().unwrap(),
                &challenge,
            );
            vec![("X-API-Key", theirs.to_owned()), ("X-Signature", proof.to_hex())]
        }),
        // No signature at all, and signatures that are none.
        Box::new(|_, _, theirs, _| vec![("X-API-Key", theirs.to_owned()), ("X-Signature", String::new())]),
        Box::new(|_, _, theirs, _| {
            vec![("X-API-Key", theirs.to_owned()), ("X-Signature", "not hexadecimal".repeat(4))]
        }),
        Box::new(|_, _, theirs, _| {
            vec![
                ("X-API-Key", theirs.to_owned()),
                ("X-Signature", "0".repeat(64)),
                ("X-Signature", "1".repeat(64)),
            ]
        }),
    ];
    for (number, forge) in forgeries.into_iter().enumerate() {
        let pair = Pair::new();
        let (ours, theirs) = (pair.billing_key.clone(), pair.orders_key.clone());
        let fake = impostor(move |answer, exchange| forge(answer, exchange, &theirs, &ours));
        pair.meet(&fake.url, &["--danger-unproven-server"]);
        assert_refused(&pair.billing, &fake, &["proof is wrong"]);
        assert_eq!(pair.billing.recorded("reason", "server-impostor"), 2, "forgery {number}");
    }
}

#[test]
fn nothing_but_a_challenge_of_the_profile_is_signed() {
    let guide_1 = [
        json!({"challenge": "1678886400.12345abcde"}),
        json!({"challenge": "GET /admin"}),
        json!({"challenge": ""}),
        json!({"challenge": "AAECAwQFBgcICQoLDA0ODx=="}),
        json!({"challenge": "AAECAwQFBgcICQoLDA0ODw"}),
        json!({"challenge": format!("{CHALLENGE}\n")}),
        json!({"challenge": "A".repeat(5000)}),
        json!({"challenge": "\u{1b}[31m"}),
        json!({"challenge": 1}),
        json!({"challenge": null}),
        json!({}),
        json!([CHALLENGE]),
    ];
    let guide_2 = [
        json!({"challenge": CHALLENGE}),
        json!({"challenge": "1678886400.short"}),
        json!({"challenge": "1678886400.0123456789\u{661}"}),
        json!({"challenge": "1678886400.0123456789\n"}),
        json!({"challenge": format!("1678886400.{}", "a".repeat(65))}),
    ];
    let asked = std::sync::Arc::new(std::sync::Mutex::new(json!({})));
    let asking = std::sync::Arc::clone(&asked);
    let fake = Fake::new(move |mut exchange| {
        exchange.body();
        exchange.respond_json(&asking.lock().unwrap());
    });
    let (one, two) = (Pair::new(), ApiKeyPair::new());
    one.meet(&fake.url, &[]);
    two.meet(&fake.url, &[]);
    for (billing, challenges) in [(&one.billing, &guide_1[..]), (&two.billing, &guide_2)] {
        for challenge in challenges {
            *asked.lock().unwrap() = challenge.clone();
            let done = billing.run(&["call", "-d", "the data", &fake.url]);
            assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{challenge}: {done:?}");
        }
    }
    assert!(fake.paths().iter().all(|path| path == "/authenticate"), "{:?}", fake.paths());
}

#[test]
fn a_server_that_will_not_authenticate_or_talks_nonsense_gets_no_data() {
    let pair = Pair::new();
    let answers: [(u16, &str); 9] = [
        (401, r#"{"type":"x","title":"\u001b[31mno\u0007","requestId":"\u001b[2J"}"#),
        (200, r#"{"authenticated":false}"#),
        (200, "<html>"),
        (200, ""),
        (204, ""),
        (302, "{}"),
        (307, "{}"),
        (500, "{}"),
        (999, "{}"),
    ];
    let step = std::sync::Arc::new(std::sync::Mutex::new((200, "")));
    let next = std::sync::Arc::clone(&step);
    let fake = Fake::new(move |mut exchange| {
        exchange.body();
        let (status, body) = *next.lock().unwrap();
        exchange.respond(status, &[("Location", "/data")], body.as_bytes());
    });
    pair.meet(&fake.url, &[]);
    for answer in answers {
        *step.lock().unwrap() = answer;
        assert_refused(&pair.billing, &fake, &[]);
    }
}

#[test]
fn an_answer_without_end_is_not_read_to_its_end() {
    let pair = Pair::new();
    let fake = Fake::new(|mut exchange| {
        exchange.body();
        exchange.send("HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n\r\n");
        while std::io::Write::write_all(exchange.reader().get_mut(), &[b' '; 4096]).is_ok() {}
    });
    pair.meet(&fake.url, &[]);
    assert_refused(&pair.billing, &fake, &["more than 64 KiB"]);
}

#[test]
fn a_strangers_server_is_called_unproven_only_where_that_was_asked_for() {
    let pair = Pair::new();
    let fake = impostor(|_, _| Vec::new());
    pair.meet(&fake.url, &["--danger-unproven-server"]);
    let text = pair.billing.run(&["call", &format!("{}/data", fake.url)]).ok();
    assert_eq!(text, "I am orders, believe me");
    let seen = fake.seen().pop().unwrap();
    assert_eq!(seen.header("authorization"), Some("Bearer csb.AAAA"));
    assert!(pair.billing.run(&["peer", "show", "orders"]).ok().contains("danger"));
}

#[test]
fn a_strangers_server_without_endpoints_is_answered_on_each_request() {
    let pair = Pair::new();
    // Guide 1 without endpoints: our own server, whose endpoints are hidden.
    let real = Serving::http(&pair.orders);
    let address = real.address().to_owned();
    let fake = Fake::new(move |mut exchange| {
        let body = exchange.body();
        if exchange.seen.method == "POST" && exchange.seen.path != "/data" {
            return exchange.respond(404, &[], b"");
        }
        let kept = exchange.seen.headers.iter().filter(|(name, _)| name.starts_with("x-"));
        let headers: Vec<_> = kept.map(|(name, value)| (name.as_str(), value.as_str())).collect();
        let reply = support::exchange(&address, &exchange.seen.method, &exchange.seen.path, &headers, &body);
        let headers: Vec<_> = reply.headers.iter().filter(|(name, _)| name == "www-authenticate").collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        exchange.respond(reply.status, &headers, &reply.body);
    });
    pair.meet(&fake.url, &["--danger-unproven-server"]);
    let url = format!("{}/data", fake.url);
    assert_eq!(pair.billing.run(&["call", "-d", "the data", &url]).json()["service"], "billing");
    assert_eq!(fake.paths(), ["/authenticate", "/data", "/data"]);
    // The knock carries no data, and without --danger-… there is none at all.
    assert!(matches!(fake.seen()[1].header("content-length"), None | Some("0")));
    pair.billing.run(&["peer", "remove", "orders"]).ok();
    pair.meet(&fake.url, &[]);
    pair.billing.run(&["call", "-d", "the data", &url]).refused(1, &["404"]);
}
