//! What is refused although a lenient reader of RFC 9421 and RFC 9530 could make something of it.

#![allow(clippy::unwrap_used, reason = "tests")]

use countersign_httpsig::digest::{CONTENT_DIGEST, DigestAlgorithm, Digests, claimed_digest, digest_value};
use countersign_httpsig::{
    BaseError, Component, DigestError, FieldTypes, FormError, HmacSha256, MAX_COMPONENTS, Message, Request,
    SignError, SignatureInput, Target, component_value, sign, signature, signatures,
};
use http::{HeaderMap, HeaderName, HeaderValue};

fn fields(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    fields
}

fn both(input: &str, signature: &str) -> HeaderMap {
    fields(&[("signature-input", input), ("signature", signature)])
}

#[test]
fn other_labels_are_skipped_and_the_wanted_one_stands_once() {
    let labels = |input, signed| signature(&both(input, signed), "cs").map(|found| found.is_some());
    assert_eq!(labels("cs=()", "cs=:AA==:"), Ok(true));
    assert_eq!(labels("a=(date), cs=(), b=1", "cs=:AA==:, c=()"), Ok(true), "others are not looked at");
    assert_eq!(labels("a=()", "a=:AA==:"), Ok(false));
    assert_eq!(labels("cs=(\"date\"), a=(), cs=()", "cs=:AA==:"), Err(FormError::Repeated));
    assert_eq!(labels("cs=()", "cs=:AA==:, cs=:AQ==:"), Err(FormError::Repeated));
    assert_eq!(labels("cs=()", "a=:AA==:"), Err(FormError::Labels));
    assert_eq!(signature(&HeaderMap::new(), "cs"), Ok(None));
    let lines =
        fields(&[("signature-input", "cs=()"), ("signature-input", "cs=()"), ("signature", "cs=:AA==:")]);
    assert_eq!(signature(&lines, "cs"), Err(FormError::Repeated), "on two lines");
    assert_eq!(
        signatures(&both("cs=(), cs=()", "cs=:AA==:")),
        Err(FormError::Repeated),
        "where all are wanted"
    );
}

#[test]
fn a_member_that_stands_twice_cannot_be_covered() {
    let fields = fields(&[("x-dict", "a=1, b=2, a=3")]);
    let target = Target::origin("https", "orders.example", "/", None);
    let message = Message::Request(Request { method: "GET", target, fields: &fields, trailers: None });
    let value = |key| {
        let component = Component::field(HeaderName::from_static("x-dict")).member(key);
        component_value(&component, &message, &FieldTypes::standard())
    };
    assert_eq!(value("a"), Err(BaseError::Form(FormError::Repeated)));
    assert_eq!(value("b").unwrap(), "2");
}

#[test]
fn a_signature_over_more_components_than_anyone_needs_is_refused() {
    let covering = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("\"x-{number}\"")).collect();
        let read = signatures(&both(&format!("cs=({})", names.join(" ")), "cs=:AA==:")).map(|_| ());
        let made =
            SignatureInput::new(names.iter().map(|name| name.parse::<Component>().unwrap())).map(|_| ());
        assert_eq!(read, made);
        read
    };
    assert_eq!(covering(MAX_COMPONENTS), Ok(()));
    assert_eq!(covering(MAX_COMPONENTS + 1), Err(FormError::TooMany));
}

#[test]
fn times_before_1970_are_refused() {
    for parameter in ["created=-1", "expires=-1", "created=-999999999999999"] {
        let read = signatures(&both(&format!("cs=();{parameter}"), "cs=:AA==:"));
        assert_eq!(read, Err(FormError::SignatureParameter), "{parameter}");
    }
    assert!(signatures(&both("cs=();created=0;expires=0", "cs=:AA==:")).is_ok());
}

#[test]
fn a_parameter_given_again_replaces_the_one_before() {
    let field = || Component::field(HeaderName::from_static("signature"));
    assert_eq!(field().member("a").of_request().member("b").to_string(), "\"signature\";key=\"b\";req");
    assert_eq!(field().of_request().of_request().to_string(), "\"signature\";req");
}

#[test]
fn a_label_that_the_message_has_already_is_not_signed_with() {
    let key = HmacSha256::new(&[7; 32]).unwrap();
    let input = SignatureInput::new([Component::method()]).unwrap();
    let with = |fields: &HeaderMap, label| {
        let target = Target::origin("https", "orders.example", "/", None);
        let message = Message::Request(Request { method: "GET", target, fields, trailers: None });
        sign(&message, label, &input, &key, &FieldTypes::standard())
    };
    let mut signed = HeaderMap::new();
    with(&signed, "cs").unwrap().apply(&mut signed);
    assert_eq!(with(&signed, "cs"), Err(SignError::LabelTaken));
    let half = fields(&[("signature", "cs=:AA==:")]);
    assert_eq!(with(&half, "cs"), Err(SignError::LabelTaken));
    with(&signed, "proxy").unwrap().apply(&mut signed);
    assert_eq!(signatures(&signed).unwrap().len(), 2);
}

#[test]
fn a_digest_stands_once_beside_whatever_others() {
    let good = digest_value(DigestAlgorithm::Sha256, b"a").unwrap();
    let good = good.to_str().unwrap();
    let sha256 = |value: &str| {
        let fields = fields(&[("content-digest", value)]);
        claimed_digest(&fields, &CONTENT_DIGEST, DigestAlgorithm::Sha256).map(|digest| digest.is_some())
    };
    assert_eq!(sha256(good), Ok(true));
    for beside in ["md5=:AA==:", "sha-512=:AA==:", "x=1, y", "md5=:AA==:, md5=:AQ==:"] {
        assert_eq!(sha256(&format!("{beside}, {good}")), Ok(true), "{beside}");
        assert_eq!(sha256(&format!("{good}, {beside}")), Ok(true), "{beside}");
        assert_eq!(sha256(beside), Ok(false), "{beside}");
    }
    let twice = format!("{good}, {good}");
    assert_eq!(sha256(&twice), Err(FormError::Repeated));
    let read = Digests::read(&fields(&[("content-digest", &twice)]), &CONTENT_DIGEST);
    assert_eq!(read, Err(DigestError::Form(FormError::Repeated)));
    let read = Digests::read(&fields(&[("content-digest", &format!("md5=:AA==:, {good}"))]), &CONTENT_DIGEST);
    assert_eq!(read.unwrap().verify(b"a"), Ok(()));
}
