//! What is kept of a verified message of `cs1` when its fields are handed on (CS-48).

#![allow(clippy::unwrap_used, reason = "tests")]

mod support;

use countersign_protocol::cs1::request::Claimed;
use countersign_protocol::cs1::{Coverage, response};
use http::{HeaderMap, HeaderName, request::Request};
use proptest::prelude::*;
use support::*;

const NAMES: [&str; 12] = [
    "content-type",
    "cookie",
    "set-cookie",
    "signature",
    "via",
    "x",
    "x-tenant",
    "x-tenant-id",
    "tenant",
    "method",
    "req",
    "content-digest",
];

fn of_request(fields: &HeaderMap) -> Coverage {
    let claimed = Claimed::read(fields).unwrap().unwrap();
    let verified =
        claimed.verify(&key(), &parts(fields), NOW).unwrap().claim(&[0; 16], |_, _| Ok(())).unwrap();
    for name in NAMES.map(HeaderName::from_static) {
        assert_eq!(verified.covers(&name), verified.coverage().covers(&name), "{name}");
    }
    verified.keep().coverage
}

#[test]
fn a_handler_can_ask_what_was_covered_when_the_fields_are_elsewhere() {
    let (mut fields, _) = signed(&[("x-tenant", "7"), ("via", "1.1 a")]);
    let coverage = of_request(&fields);
    fields.clear();
    let request = Request::builder().extension(coverage).body(()).unwrap();
    let kept = request.extensions().get::<Coverage>().unwrap();
    assert!(kept.covers(&HeaderName::from_static("x-tenant")));
    for other in ["via", "x-tenan", "x-tenant-", "tenant", "x-added", "signature"] {
        assert!(!kept.covers(&HeaderName::from_static(other)), "{other}");
    }
}

/// CS-33: `set-cookie` is covered with `bs`, and the fields of the request are not those of the response.
#[test]
fn a_client_can_ask_what_of_a_response_was_covered() {
    let (asked, _) = signed(&[]);
    let (answer, _) = answered(&asked, &[("set-cookie", "a=1"), ("x-a", "1"), ("server", "x")]);
    let verified = response::verify(&answer_key(), &answer_parts(&asked, &answer)).unwrap();
    let coverage = verified.coverage();
    for (name, covered) in [
        ("set-cookie", true),
        ("x-a", true),
        ("server", false),
        ("signature", false),
        ("signature-input", false),
    ] {
        let name = HeaderName::from_static(name);
        assert_eq!((coverage.covers(&name), verified.covers(&name)), (covered, covered), "{name}");
    }
}

proptest! {
    /// What is kept says the same as what was verified.
    #[test]
    fn what_is_kept_agrees_with_what_was_verified(names in prop::collection::btree_set(prop::sample::select(&NAMES[..]), 0..8)) {
        let names: Vec<_> = names.into_iter().filter(|name| !matches!(*name, "signature" | "content-digest")).collect();
        let lines: Vec<_> = names.iter().map(|name| (*name, "1")).collect();
        let (fields, _) = signed(&lines);
        let coverage = of_request(&fields);
        for name in NAMES {
            let expected = names.contains(&name) && name != "via";
            prop_assert_eq!(coverage.covers(&HeaderName::from_static(name)), expected, "{}", name);
        }
        let (asked, _) = signed(&[]);
        let (answer, _) = answered(&asked, &lines);
        let verified = response::verify(&answer_key(), &answer_parts(&asked, &answer)).unwrap();
        for name in NAMES.map(HeaderName::from_static) {
            prop_assert_eq!(verified.covers(&name), verified.coverage().covers(&name), "{}", name);
        }
    }
}
