//! The published vectors: a client or server that passes them agrees with every other one on both guides.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use countersign_protocol::identity::{ApiKey, FormError, ServiceName};
use countersign_protocol::mac::{MacKey, Tag, encode_hex};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::challenge::Standing;
use countersign_protocol::shared_secret::{self, Issuer, Lifetime};
use countersign_protocol::wire::body;
use countersign_protocol::{LengthPrefixed, UnixTime, api_key};
use countersign_testkit::vectors::{Case, cases, folders, list};
use zeroize::Zeroizing;

#[test]
fn every_folder_is_of_a_kind_that_is_tested() {
    const KINDS: [&str; 22] = [
        "shared-secret/proof-",
        "shared-secret/challenge-",
        "api-key/proof-",
        "api-key/challenge-form",
        "api-key-form",
        "cs1/handshake-",
        "cs1/challenge-form",
        "cs1/small-order",
        "cs1/request-",
        "cs1/response-",
        "cs1/direct-",
        "cs1/stream-",
        "pairing/exchange-",
        "pairing/code-form",
        "pairing/share-form",
        "rotation/agreed-",
        "rotation/request-form",
        "secret-form",
        "service-name-form",
        "signature-form",
        "strict-json",
        "printed-examples",
    ];
    let folders = folders();
    for folder in &folders {
        assert!(KINDS.iter().any(|kind| folder.starts_with(kind)), "nothing tests vectors/{folder}");
    }
    for kind in KINDS {
        assert!(folders.iter().any(|folder| folder.starts_with(kind)), "no case of {kind}");
    }
}

#[test]
fn a_shared_secret_proof_is_made_of_the_provers_secret_key_and_challenge() {
    let mut roles = Vec::new();
    for case in cases("shared-secret/proof-") {
        let api_key: ApiKey = case.text("apiKey").parse().unwrap();
        let challenge: shared_secret::Challenge = case.text("challenge").parse().unwrap();
        let secret = MacKey::new(case.text("secret").as_bytes());
        let signature = shared_secret::sign(&secret, &api_key, &challenge).to_hex();
        assert_eq!(signature, case.text("signature"), "{}", case.name);
        agrees_with_its_intermediates(&case);
        roles.push(case.text("role").to_owned());
    }
    for role in ["caller", "server"] {
        assert!(roles.iter().any(|found| found == role), "no case of the role {role}");
    }
}

#[test]
fn an_api_key_proof_is_made_of_the_key_and_the_challenge() {
    for case in cases("api-key/proof-") {
        let api_key: ApiKey = case.text("apiKey").parse().unwrap();
        let challenge: api_key::Challenge = case.text("challenge").parse().unwrap();
        let signature = api_key::sign(&api_key, &challenge).to_hex();
        assert_eq!(signature, case.text("signature"), "{}", case.name);
        agrees_with_its_intermediates(&case);
    }
}

/// What goes into HMAC, byte for byte, as the vector says it.
fn agrees_with_its_intermediates(case: &Case) {
    let tag = MacKey::new(&case.bytes("key_hex")).mac(&[&case.bytes("message_hex")]);
    assert_eq!(tag.to_hex(), case.text("signature"), "{}", case.name);
}

#[test]
fn a_stateless_challenge_is_made_byte_for_byte_and_accepted_in_its_time_only() {
    let cases = cases("shared-secret/challenge-");
    let cases: Vec<Case> =
        cases.into_iter().filter(|case| case.name != "shared-secret/challenge-form").collect();
    assert!(!cases.is_empty(), "no case of a stateless challenge");
    for case in cases {
        let (api_key, issued) = (case.text("apiKey").parse().unwrap(), UnixTime(case.number("t")));
        let random = case.array("r_hex");
        let made = issuer(&case, Lifetime::default()).issue(&api_key, issued, random);
        assert_eq!(made.as_str(), case.text("challenge"), "{}", case.name);
        assert_eq!(made.as_bytes(), &case.array("bytes_hex"), "{}", case.name);

        let message = LengthPrefixed::default().field(b"g1").field(case.text("service").as_bytes());
        let message = message.field(api_key.expose().as_bytes()).raw(&issued.0.to_be_bytes()).raw(&random);
        let message = message.finish();
        assert_eq!(encode_hex(&message), case.text("lp_message_hex"), "{}", case.name);
        let mac = MacKey::new(&case.bytes("kg1_hex")).mac(&[&message]);
        assert_eq!(mac.to_hex(), case.text("mac_hex"), "{}", case.name);
        assert_eq!(mac.first8(), case.array("tag_hex"), "{}", case.name);

        for check in case.list("checks") {
            let lifetime = Lifetime::seconds(check.number("lifetime")).unwrap();
            let standing = issuer(&case, lifetime).check(&api_key, &made, UnixTime(check.number("now")));
            let expected = match check.text("outcome") {
                "valid" => Standing::Live(issued),
                "expired" => Standing::Expired,
                "invalid" => Standing::Foreign,
                other => panic!("{}: {other}", check.name),
            };
            assert_eq!(standing, expected, "{} at {}", check.name, check.number("now"));
        }
        for altered in case.list("altered") {
            let lifetime = Lifetime::seconds(altered.number("lifetime")).unwrap();
            let challenge = altered.text("challenge").parse().unwrap();
            let (api_key, now) = (altered.text("apiKey").parse().unwrap(), UnixTime(altered.number("now")));
            assert_eq!(altered.text("outcome"), "invalid", "{}", altered.name);
            let standing = issuer(&altered, lifetime).check(&api_key, &challenge, now);
            assert_eq!(standing, Standing::Foreign, "{}", altered.name);
        }
    }
}

fn issuer(case: &Case, lifetime: Lifetime) -> Issuer {
    Issuer::new(&Zeroizing::new(case.array("kg1_hex")), case.text("service").parse().unwrap(), lifetime)
}

/// Decides every value of a list of forms.
fn decide(folder: &str, accepts: impl Fn(&str) -> bool) {
    let cases = list(folder);
    for case in &cases {
        assert_eq!(accepts(case.text("value")), case.flag("accept"), "{}", case.name);
    }
    for accepted in [true, false] {
        assert!(cases.iter().any(|case| case.flag("accept") == accepted), "{folder}: none with {accepted}");
    }
}

#[test]
fn every_form_accepts_exactly_what_the_vectors_say() {
    decide("shared-secret/challenge-form", |text| text.parse::<shared_secret::Challenge>().is_ok());
    decide("api-key/challenge-form", |text| text.parse::<api_key::Challenge>().is_ok());
    decide("api-key-form", |text| text.parse::<ApiKey>().is_ok());
    decide("service-name-form", |text| text.parse::<ServiceName>().is_ok());
    decide("signature-form", |text| Tag::from_hex(text).is_some());
    // A form says nothing about quality, and a secret is refused for its quality too.
    decide("secret-form", |text| match text.parse::<SharedSecret>() {
        Ok(_) | Err(FormError::Example { .. } | FormError::NotRandom { .. }) => true,
        Err(_) => false,
    });
}

#[test]
fn strict_json_is_one_object_with_the_one_member() {
    let cases = list("strict-json");
    for case in &cases {
        match body::read_authenticate(&case.bytes("body_hex")) {
            Ok(Some(api_key)) => {
                assert!(case.flag("accept"), "{}", case.name);
                assert_eq!(api_key.expose(), case.text("apiKey"), "{}", case.name);
            }
            // An empty body or object brings no key: it is then in the header.
            Ok(None) => assert!(!case.flag("accept"), "{}", case.name),
            Err(refusal) => {
                assert!(!case.flag("accept"), "{}: {refusal}", case.name);
                assert!(matches!(refusal, Refusal::Malformed(_)), "{}: {refusal}", case.name);
            }
        }
    }
    assert!(cases.iter().any(|case| case.flag("accept")) && cases.iter().any(|case| !case.flag("accept")));
}

#[test]
fn keys_printed_in_a_guide_do_not_serve_as_a_secret() {
    for case in list("printed-examples") {
        let printed = case.text("value");
        let as_key = printed.parse::<ApiKey>().unwrap().check_as_secret();
        assert!(matches!(as_key, Err(FormError::Example { .. })), "{}: {as_key:?}", case.name);
        let as_secret = printed.parse::<SharedSecret>();
        assert!(as_secret.is_err(), "{}", case.name);
        let longer = format!("{printed}-{printed}").parse::<SharedSecret>();
        assert!(matches!(longer, Err(FormError::Example { .. })), "{}: {longer:?}", case.name);
    }
}
