//! Pairing by spoken words with the real binary: what it gives, and what an operator sees when it does not come to it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use support::Serving;
use support::pairing::{Offering, accept, orders_and_billing, wrong};

// PA-1, PA-22, PA-27
#[test]
fn six_words_give_both_sides_one_pair_and_requests_pass() {
    let (orders, serving, billing) = orders_and_billing();
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    assert_eq!(words.split(' ').count(), 6);
    let shouted = words.to_uppercase().replace(' ', "-");
    let paired = accept(&billing, serving.url(), &shouted, &["--json"]).json();
    assert_eq!((&paired["peer"], &paired["proved"]), (&"orders".into(), &true.into()), "{paired}");
    let there = offering.event("paired");
    assert_eq!((&there["peer"], &there["url"]), (&"billing".into(), &serde_json::Value::Null));
    assert_eq!(there["fingerprint"], paired["fingerprint"]);
    offering.event("proved");
    assert_eq!(offering.end().0, 0);

    let answer = billing.run(&["call", &format!("{}/x", serving.url())]).ok();
    assert!(answer.contains("\"service\":\"billing\""), "{answer}");
    let shown = billing.run(&["peer", "show", "orders", "--json"]).json();
    assert_eq!((&shown["profile"], &shown["binding"]), (&"cs1".into(), &"none".into()));
    assert_eq!(shown["tls"], format!("pinned key {}", orders.pin()));
    for (home, step) in [(&orders, "pair-offer"), (&billing, "pair-accept")] {
        let added = home.records().into_iter().find(|record| record["reason"] == "peer-added").unwrap();
        assert_eq!(added["step"], step);
    }
    assert_eq!(orders.recorded("reason", "paired"), 1);
    assert_eq!(orders.recorded("reason", "pairing-claimed"), 1);
    assert_eq!(billing.recorded("reason", "paired"), 1);
}

// PA-4
#[test]
fn both_sides_can_call_each_other_when_both_serve() {
    let (orders, serving, billing) = orders_and_billing();
    let other = Serving::https(&billing);
    let mut offering = Offering::start(&orders, &["--binding", "tls-exporter", "--name", "accounts"]);
    let words = billing.file("words", 0o600, offering.words().as_bytes());
    let options = ["--words-file", &words, "--url", other.url(), "--name", "shop"];
    let said = billing.run(&[&["pair", "accept", serving.url()][..], &options].concat()).ok();
    assert!(said.contains("paired with shop") && said.contains("Both sides have authenticated"), "{said}");
    let there = offering.event("paired");
    assert_eq!((&there["peer"], &there["binding"]), (&"accounts".into(), &"tls-exporter".into()));
    offering.event("proved");
    assert!(orders.run(&["call", &format!("{}/x", other.url())]).ok().contains("\"shop\""));
    assert!(billing.run(&["call", &format!("{}/x", serving.url())]).ok().contains("\"accounts\""));
}

// PA-7, PA-9, PA-20
#[test]
fn a_wrong_word_burns_the_code_and_the_third_closes_the_offer() {
    let (orders, serving, billing) = orders_and_billing();
    let mut offering = Offering::start(&orders, &[]);
    let mut words = offering.words();
    for next in [true, true, false] {
        accept(&billing, serving.url(), &wrong(&words), &[]).refused(1, &["Ask for the words"]);
        // The right ones come too late.
        let used = accept(&billing, serving.url(), &words, &[]);
        used.refused(1, &["Ask for the words"]);
        if next {
            let fresh = offering.next_words("pairing-wrong-words");
            let two = |words: &str| words.split(' ').take(2).map(str::to_owned).collect::<Vec<_>>();
            assert_eq!(two(&fresh), two(&words), "the offer is the same");
            assert_ne!(fresh, words);
            words = fresh;
        }
    }
    offering.event("burned");
    let closed = offering.event("closed");
    assert!(closed["reason"].as_str().unwrap().contains("all 3 codes"), "{closed}");
    let (code, said) = offering.end();
    assert!(code == 1 && said.contains("offer again"), "{said}");
    accept(&billing, serving.url(), &words, &[]).refused(1, &["Ask for the words"]);
    for home in [&orders, &billing] {
        assert_eq!(home.run(&["peer", "list", "--json"]).json(), serde_json::json!([]));
    }
    assert_eq!(orders.recorded("reason", "pairing-wrong-words"), 3);
    assert_eq!(billing.recorded("reason", "pairing-failed"), 7);
}

#[test]
fn after_a_wrong_word_the_next_words_pair() {
    let (orders, serving, billing) = orders_and_billing();
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    accept(&billing, serving.url(), &wrong(&words), &[]).refused(1, &["Ask for the words"]);
    let words = offering.next_words("pairing-wrong-words");
    accept(&billing, serving.url(), &words, &[]).ok();
    offering.event("paired");
}
