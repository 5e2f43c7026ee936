//! The bases that `explain` shows are those that are signed.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use countersign_protocol::cs1::content::content_digest;
use countersign_protocol::cs1::explain::{base, is_of_hops, required, value};
use countersign_protocol::cs1::request::sign_as;
use countersign_protocol::mac::MacKey;
use http::HeaderMap;
use support::{TICKET, headers, key, parts, signing};

fn message() -> HeaderMap {
    let mut fields = headers(&[
        ("host", "orders.example"),
        ("content-type", " application/json "),
        ("cookie", "a=b"),
        ("accept", "text/html"),
        ("accept", "*/*"),
        ("x-request-id", "7"),
        ("x-forwarded-for", "10.0.0.1"),
    ]);
    fields.insert("content-digest", content_digest(b"{}").unwrap());
    fields
}

#[test]
fn the_base_is_the_one_that_is_signed() {
    let (fields, key) = (message(), key());
    let parts = parts(&fields);
    let signed = sign_as(&signing(&key, TICKET), &parts).unwrap();
    let input = signed.signature_input.to_str().unwrap();
    let params = input.strip_prefix("cs=").unwrap();
    let list = params.split(['(', ')']).nth(1).unwrap();
    let components: Vec<&str> = list.split(' ').map(|one| one.trim_matches('"')).collect();
    let base = base(&parts, &components, params);
    let mac = key.mac(&[&base]);
    let text = signed.signature.to_str().unwrap();
    use base64::Engine as _;
    let expected = base64::engine::general_purpose::STANDARD.encode(mac.as_bytes());
    assert_eq!(text, format!("cs=:{expected}:"));
    assert!(required(&fields).iter().all(|name| components.contains(name)));
    assert!(components.iter().all(|name| !is_of_hops(name)));
    assert_ne!(MacKey::new(&[8; 32]).mac(&[&base]).as_bytes(), mac.as_bytes());
}

#[test]
fn what_has_to_be_covered_is_named_and_has_its_value() {
    let fields = message();
    let parts = parts(&fields);
    let names = ["@method", "@authority", "@path", "@query", "content-digest", "content-type", "cookie"];
    assert_eq!(required(&fields), names);
    let text = |name: &str| value(&parts, name).map(|value| String::from_utf8(value).unwrap());
    assert_eq!(text("@query").as_deref(), Some("?page=2"));
    assert_eq!(text("content-type").as_deref(), Some("application/json"));
    assert_eq!(text("accept").as_deref(), Some("text/html, */*"));
    for missing in ["date", "@status", "@target-uri", "", "no field"] {
        assert_eq!(text(missing), None, "{missing}");
    }
    assert!(is_of_hops("host") && is_of_hops("x-forwarded-host") && !is_of_hops("x-other"));
}

#[test]
fn what_is_not_there_is_written_as_empty() {
    let fields = headers(&[]);
    let base = base(&parts(&fields), &["@path", "date"], "(\"@path\" \"date\")");
    let lines = "\"@path\": /invoices\n\"date\": \n\"@signature-params\": (\"@path\" \"date\")";
    assert_eq!(String::from_utf8(base).unwrap(), lines);
}
