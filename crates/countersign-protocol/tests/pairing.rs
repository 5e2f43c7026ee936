//! Pairing, both roles in one process (specs/pairing.md).

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

use countersign_protocol::cs1::Binding;
use countersign_protocol::pairing::accepter::{self, AwaitConfirmation, PairingError, Randomness};
use countersign_protocol::pairing::message::{Conclusion, Confirm, Message, Share, Start};
use countersign_protocol::pairing::offerer::{self, Claimed};
use countersign_protocol::pairing::{Code, Pair, Statement, Terms, decoy};
use countersign_protocol::wire::{Incoming, Outgoing};
use http::HeaderMap;
use proptest::prelude::*;
use zeroize::Zeroizing;

const URL: &str = "https://orders.example:8443";
const WORDS: &str = "abandon zoo able zone youth zebra";
const SEEN: [u8; 32] = [5; 32];

fn code(words: &str) -> Code {
    words.parse().unwrap()
}

fn randomness(seed: u8) -> Randomness {
    Randomness { session: [seed; 16], scalar: Zeroizing::new([seed; 64]) }
}

fn statement() -> Statement {
    Statement {
        service: "billing".parse().unwrap(),
        url: Some("https://billing.example".to_owned()),
        pin: Some([6; 32]),
        seen: Some(SEEN),
    }
}

fn terms() -> Terms {
    Terms { pins: vec![[4; 32], SEEN], binding: Binding::TlsExporter }
}

fn read_start(request: &Outgoing) -> Start {
    match Message::read(&request.body).unwrap() {
        Message::Start(start) => start,
        Message::Confirm(_) => panic!("P1"),
    }
}

fn read_confirm(request: &Outgoing) -> Confirm {
    match Message::read(&request.body).unwrap() {
        Message::Confirm(confirm) => confirm,
        Message::Start(_) => panic!("P3"),
    }
}

fn ok(body: &[u8]) -> Incoming<'_> {
    static NONE: std::sync::LazyLock<HeaderMap> = std::sync::LazyLock::new(HeaderMap::new);
    Incoming { status: 200, headers: &NONE, body }
}

/// Up to P3: what the offerer holds, what the accepter sends, and what it waits for.
fn until_confirm(typed: &str, spoken: &str, seed: u8) -> (Claimed, Confirm, AwaitConfirmation) {
    let (request, waiting) = accepter::start(&code(typed), URL, &randomness(seed)).unwrap();
    let start = read_start(&request);
    let service = "orders".parse().unwrap();
    let random = Zeroizing::new([seed ^ 0xff; 64]);
    let (share, claimed) = offerer::claim(&code(spoken).password, &service, &start, &random).unwrap();
    let ready = waiting.receive(&ok(&share.write())).unwrap();
    assert_eq!(ready.service().as_str(), "orders");
    let (request, waiting) = ready.confirm(&statement(), [seed; 12]);
    (claimed, read_confirm(&request), waiting)
}

fn keys(pair: &Pair) -> [String; 3] {
    [pair.secret.expose(), pair.accepter_key.expose(), pair.offerer_key.expose()].map(ToOwned::to_owned)
}

// PA-10, PA-17, PA-22
#[test]
fn both_sides_hold_one_fresh_pair_and_what_the_other_side_stated() {
    let mut seen = Vec::new();
    for seed in [1, 2] {
        let (claimed, confirm, waiting) = until_confirm(WORDS, WORDS, seed);
        // It waits in a store.
        let claimed = Claimed::from_bytes(&claimed.to_bytes()).unwrap();
        assert!(claimed.is_of(&confirm));
        let verified = claimed.verify(&confirm).unwrap();
        assert_eq!(*verified.statement(), statement());
        let (conclusion, theirs) = verified.conclude(&terms(), [9; 12]);
        let paired = waiting.receive(&ok(&conclusion.write())).unwrap();
        assert_eq!((paired.service.as_str(), &paired.terms), ("orders", &terms()));
        assert_eq!(keys(&paired.pair), keys(&theirs));
        assert!(theirs.secret.expose().starts_with("css_"));
        assert!(theirs.accepter_key.expose().starts_with("csk_"));
        seen.extend(keys(&theirs));
    }
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 6, "each exchange gives other keys, and the three are different");
}

// PA-20
#[test]
fn a_wrong_word_is_found_out_by_the_offerer_and_opens_nothing() {
    let (claimed, confirm, _) = until_confirm("abandon zoo able zone youth zero", WORDS, 1);
    assert!(claimed.verify(&confirm).is_err());
}

// PA-12
#[test]
fn nothing_of_one_exchange_passes_in_another() {
    let (first, confirm, waiting) = until_confirm(WORDS, WORDS, 1);
    let (second, other_confirm, other_waiting) = until_confirm(WORDS, WORDS, 2);
    assert!(!second.is_of(&confirm));
    // Not even with the session of the other one written into it.
    let forged = Confirm { session: other_confirm.session, ..confirm.clone() };
    assert!(second.is_of(&forged) && second.verify(&forged).is_err());
    let (conclusion, _) = first.verify(&confirm).unwrap().conclude(&terms(), [9; 12]);
    assert_eq!(other_waiting.receive(&ok(&conclusion.write())).unwrap_err(), PairingError::Impostor);
    drop(waiting);
}

// PA-11: every message, both names, the URL and the offer are under the keys.
#[test]
fn what_is_changed_on_the_way_ends_the_exchange() {
    let changes: [fn(&mut Start); 3] = [
        |start| start.url = "https://evil.example:8443".to_owned(),
        |start| start.offer = "zoo-zoo".parse().unwrap(),
        |start| start.session[0] ^= 1,
    ];
    for change in changes {
        let (request, waiting) = accepter::start(&code(WORDS), URL, &randomness(1)).unwrap();
        let mut start = read_start(&request);
        change(&mut start);
        let random = Zeroizing::new([3; 64]);
        let service = "orders".parse().unwrap();
        let (share, claimed) = offerer::claim(&code(WORDS).password, &service, &start, &random).unwrap();
        let ready = waiting.receive(&ok(&share.write())).unwrap();
        let (request, _) = ready.confirm(&statement(), [1; 12]);
        assert!(claimed.verify(&read_confirm(&request)).is_err());
    }
    // The offerer's name.
    let (request, waiting) = accepter::start(&code(WORDS), URL, &randomness(1)).unwrap();
    let random = Zeroizing::new([3; 64]);
    let service = "orders".parse().unwrap();
    let (share, claimed) =
        offerer::claim(&code(WORDS).password, &service, &read_start(&request), &random).unwrap();
    let share = Share { service: "evil".parse().unwrap(), ..share };
    let (request, _) = waiting.receive(&ok(&share.write())).unwrap().confirm(&statement(), [1; 12]);
    assert!(claimed.verify(&read_confirm(&request)).is_err());
}

// PA-14
#[test]
fn a_share_of_zeros_is_no_message_and_a_decoy_leads_nowhere() {
    let (request, waiting) = accepter::start(&code(WORDS), URL, &randomness(1)).unwrap();
    let mut start = read_start(&request);
    start.share = [0; 32];
    assert!(Message::read(&Message::Start(start).write()).is_err());
    let zero = br#"{"service":"orders","share":"AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA"}"#;
    assert_eq!(waiting.receive(&ok(zero)).unwrap_err(), PairingError::Form);

    let (_, waiting) = accepter::start(&code(WORDS), URL, &randomness(1)).unwrap();
    let share = Share { service: "orders".parse().unwrap(), share: decoy(&[7; 64]) };
    let (_, waiting) = waiting.receive(&ok(&share.write())).unwrap().confirm(&statement(), [1; 12]);
    let (claimed, confirm, _) = until_confirm(WORDS, WORDS, 1);
    let (conclusion, _) = claimed.verify(&confirm).unwrap().conclude(&terms(), [9; 12]);
    assert_eq!(waiting.receive(&ok(&conclusion.write())).unwrap_err(), PairingError::Impostor);
}

// PA-24
#[test]
fn another_tls_key_than_the_one_that_was_seen_ends_the_exchange() {
    let (claimed, confirm, waiting) = until_confirm(WORDS, WORDS, 1);
    let other = Terms { pins: vec![[4; 32]], ..terms() };
    let (conclusion, _) = claimed.verify(&confirm).unwrap().conclude(&other, [9; 12]);
    assert_eq!(waiting.receive(&ok(&conclusion.write())).unwrap_err(), PairingError::Misbound);
}

#[test]
fn nothing_secret_is_shown() {
    let (claimed, confirm, waiting) = until_confirm(WORDS, WORDS, 1);
    let shown = format!("{claimed:?} {confirm:?} {waiting:?}");
    assert!(!shown.contains("able") && shown.len() < 600, "{shown}");
    assert!(Claimed::from_bytes(&claimed.to_bytes()[1..]).is_none());
    assert!(Claimed::from_bytes(&[]).is_none());
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    // PA-11, PA-13
    #[test]
    fn any_changed_byte_of_p3_or_p4_is_noticed(at: prop::sample::Index, bit in 0..8_u8, third: bool) {
        let (claimed, mut confirm, waiting) = until_confirm(WORDS, WORDS, 1);
        if third {
            let index = at.index(confirm.sealed.len());
            confirm.sealed[index] ^= 1 << bit;
            prop_assert!(claimed.verify(&confirm).is_err());
        } else {
            let (conclusion, _) = claimed.verify(&confirm).unwrap().conclude(&terms(), [9; 12]);
            let mut sealed = conclusion.sealed.clone();
            let index = at.index(sealed.len());
            sealed[index] ^= 1 << bit;
            let changed = Conclusion { sealed, ..conclusion };
            prop_assert!(waiting.receive(&ok(&changed.write())).is_err());
        }
    }

    // PA-13
    #[test]
    fn no_bytes_panic_and_what_is_read_is_written_the_same(bytes: Vec<u8>) {
        if let Ok(message) = Message::read(&bytes) {
            let written = message.write();
            prop_assert_eq!(Message::read(&written).unwrap().write(), written);
        }
        if let Ok(share) = Share::read(&bytes) {
            prop_assert_eq!(Share::read(&share.write()).unwrap(), share);
        }
        let _ = Conclusion::read(&bytes);
    }
}

// Section 8
#[test]
fn before_the_words_are_proved_every_refusal_is_the_same_bytes() {
    use countersign_protocol::pairing::PairingRefusal::{NoOffer, TooLate, WrongWords};
    let bodies = [NoOffer, TooLate, WrongWords].map(|refusal| refusal.problem().body("request-1", None));
    assert!(bodies.iter().all(|body| *body == bodies[0]));
}
