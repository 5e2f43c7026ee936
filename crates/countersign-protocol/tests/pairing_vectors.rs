//! The vectors of pairing: both roles, byte for byte, against a generator that shares no code (its own ristretto255 and
//! AES-GCM-SIV included).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_protocol::cs1::Binding;
use countersign_protocol::pairing::accepter::{self, Randomness};
use countersign_protocol::pairing::message::{Message, Share};
use countersign_protocol::pairing::{Code, Pair, Pin, Statement, Terms, offerer};
use countersign_protocol::wire::Incoming;
use countersign_testkit::vectors::{Case, cases, list};
use http::HeaderMap;
use serde_json::Value;
use zeroize::Zeroizing;

fn json(text: impl AsRef<[u8]>) -> Value {
    serde_json::from_slice(text.as_ref()).unwrap()
}

fn pin(value: &Value) -> Option<Pin> {
    value.as_str().map(|text| URL_SAFE_NO_PAD.decode(text).unwrap().try_into().unwrap())
}

fn statement(case: &Case) -> Statement {
    let value = json(case.text("statement"));
    Statement {
        service: value["service"].as_str().unwrap().parse().unwrap(),
        url: value["url"].as_str().map(ToOwned::to_owned),
        pin: pin(&value["pin"]),
        seen: pin(&value["seen"]),
    }
}

fn terms(case: &Case) -> Terms {
    let value = json(case.text("terms"));
    assert_eq!(value["profile"], "cs1");
    Terms {
        binding: Binding::parse(value["binding"].as_str().unwrap()).unwrap(),
        pins: value["pins"].as_array().unwrap().iter().filter_map(pin).collect(),
    }
}

fn assert_pair(pair: &Pair, case: &Case) {
    let keys = [pair.secret.expose(), pair.accepter_key.expose(), pair.offerer_key.expose()];
    assert_eq!(keys, ["secret", "accepterKey", "offererKey"].map(|name| case.text(name)), "{}", case.name);
}

// PA-10, PA-11, PA-12
#[test]
fn both_roles_make_every_message_of_an_exchange_and_the_same_pair() {
    for case in cases("pairing/exchange-") {
        let headers = HeaderMap::new();
        let answer = |name| Incoming { status: 200, headers: &headers, body: case.text(name).as_bytes() };
        let code: Code = case.text("words").parse().unwrap();
        assert_eq!(code.password.spelled().as_bytes(), case.bytes("prs_hex"));
        let drawn = Randomness {
            session: case.array("session_hex"),
            scalar: Zeroizing::new(case.array("accepter_scalar_hex")),
        };
        let (request, waiting) = accepter::start(&code, case.text("url"), &drawn).unwrap();
        assert_eq!(json(&*request.body), json(case.text("p1")), "{}", case.name);

        let Message::Start(start) = Message::read(case.text("p1").as_bytes()).unwrap() else { panic!("P1") };
        assert_eq!(start.share.as_slice(), case.bytes("ya_hex"));
        let service = case.text("service").parse().unwrap();
        let scalar = Zeroizing::new(case.array("offerer_scalar_hex"));
        let (share, claimed) = offerer::claim(&code.password, &service, &start, &scalar).unwrap();
        assert_eq!(json(share.write()), json(case.text("p2")), "{}", case.name);
        assert_eq!(Share::read(case.text("p2").as_bytes()).unwrap(), share);
        // session, root and H2, as they wait in a store.
        let kept = [case.bytes("session_hex"), case.bytes("root_hex"), case.bytes("h2_hex")].concat();
        assert_eq!(claimed.to_bytes().as_slice(), kept, "{}", case.name);

        let ready = waiting.receive(&answer("p2")).unwrap();
        let (request, waiting) = ready.confirm(&statement(&case), case.array("nonce3_hex"));
        assert_eq!(json(&*request.body), json(case.text("p3")), "{}", case.name);

        let Message::Confirm(confirm) = Message::read(case.text("p3").as_bytes()).unwrap() else {
            panic!("P3")
        };
        let verified = claimed.verify(&confirm).unwrap();
        assert_eq!(*verified.statement(), statement(&case));
        let (conclusion, pair) = verified.conclude(&terms(&case), case.array("nonce4_hex"));
        assert_eq!(json(conclusion.write()), json(case.text("p4")), "{}", case.name);
        assert_pair(&pair, &case);

        let paired = waiting.receive(&answer("p4")).unwrap();
        assert_eq!((&paired.terms, &paired.service), (&terms(&case), &service));
        assert_pair(&paired.pair, &case);
    }
}

// PA-6
#[test]
fn codes_have_their_form() {
    for case in list("pairing/code-form") {
        assert_eq!(case.text("value").parse::<Code>().is_ok(), case.flag("accept"), "{}", case.text("why"));
    }
}

// PA-14
#[test]
fn shares_have_their_form() {
    for case in list("pairing/share-form") {
        let share = URL_SAFE_NO_PAD.encode(case.bytes("share_hex"));
        let message = format!(r#"{{"service":"orders","share":"{share}"}}"#);
        assert_eq!(Share::read(message.as_bytes()).is_ok(), case.flag("accept"), "{}", case.text("why"));
    }
}
