//! The header fields: what a request presents, and the challenge in `WWW-Authenticate`.

#![allow(clippy::unwrap_used, reason = "tests")]

use countersign_protocol::refusal::{Malformed, Refusal};
use countersign_protocol::shared_secret::{Challenge, Lifetime};
use countersign_protocol::wire::header::{
    self, Presented, X_API_KEY, X_CHALLENGE, X_CLIENT_CHALLENGE, X_SIGNATURE,
};
use countersign_protocol::wire::www_authenticate;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const KEY: &str = "csk_ODClY4BUu1V3HRJAKPOWYQ";
const CHALLENGE: &str = "5u4eJwjofPE7rR79S5eCeQ==";
const SIGNATURE: &str = "4daeb3c73645165c4e60bd38e4b8e51ae9b74abae7badcb06752fcfc768c572f";

#[derive(Clone, Copy, Debug, PartialEq)]
enum Field {
    Absent,
    Right,
    Wrong,
    Twice,
}

#[derive(Clone, Copy, Debug, PartialEq)]
enum Authorization {
    Absent,
    Ours,
    Upstreams,
    OursTwice,
    OursBesideUpstreams,
}

fn put(headers: &mut HeaderMap, name: &HeaderName, field: Field, right: &'static str) {
    let values: &[&'static str] = match field {
        Field::Absent => &[],
        Field::Right => &[right],
        Field::Wrong => &["not of the form"],
        Field::Twice => &[right, right],
    };
    for value in values {
        headers.append(name, HeaderValue::from_static(value));
    }
}

fn request(authorization: Authorization, [key, challenge, signature, client]: [Field; 4]) -> HeaderMap {
    let mut headers = HeaderMap::new();
    let values: &[&'static str] = match authorization {
        Authorization::Absent => &[],
        Authorization::Ours => &["bearer csb.token"],
        Authorization::Upstreams => &["Bearer eyJ.another", "Basic YTpi"],
        Authorization::OursTwice => &["Bearer csb.token", "Bearer csb.token"],
        Authorization::OursBesideUpstreams => &["Basic YTpi", "Bearer csb.token"],
    };
    for value in values {
        headers.append(AUTHORIZATION, HeaderValue::from_static(value));
    }
    put(&mut headers, &X_API_KEY, key, KEY);
    put(&mut headers, &X_CHALLENGE, challenge, CHALLENGE);
    put(&mut headers, &X_SIGNATURE, signature, SIGNATURE);
    put(&mut headers, &X_CLIENT_CHALLENGE, client, CHALLENGE);
    headers
}

#[test]
fn every_combination_of_the_fields_is_decided_by_form_alone() {
    use Field::{Absent, Right, Twice, Wrong};
    let fields = [Absent, Right, Wrong, Twice];
    let mut decided = 0;
    for authorization in [
        Authorization::Absent,
        Authorization::Ours,
        Authorization::Upstreams,
        Authorization::OursTwice,
        Authorization::OursBesideUpstreams,
    ] {
        for combination in 0..256_usize {
            let [key, challenge, signature, client] =
                [0, 2, 4, 6].map(|shift| *fields.get(combination >> shift & 3).unwrap());
            let headers = request(authorization, [key, challenge, signature, client]);
            let presented = header::presented(&headers);
            let context =
                format!("{authorization:?} {key:?} {challenge:?} {signature:?} {client:?}: {presented:?}");
            let repeated = [key, challenge, signature, client].contains(&Twice)
                || matches!(authorization, Authorization::OursTwice | Authorization::OursBesideUpstreams);
            let present = |field| field != Absent;
            let token = authorization == Authorization::Ours;
            let right = if repeated {
                matches!(
                    presented,
                    Err(Refusal::Malformed(Malformed::RepeatedHeader(_) | Malformed::HeaderValue(_)))
                )
            } else if client == Wrong {
                matches!(presented, Err(Refusal::Malformed(Malformed::HeaderValue("X-Client-Challenge"))))
            } else if token && (present(key) || present(challenge) || present(signature)) {
                matches!(presented, Err(Refusal::TwoMethods))
            } else if token {
                matches!(presented, Ok(Presented::Token("csb.token")))
            } else if !present(key) && (present(challenge) || present(signature)) {
                matches!(presented, Err(Refusal::MissingKey))
            } else if !present(key) {
                matches!(presented, Ok(Presented::Nothing))
            } else if [key, challenge, signature].contains(&Wrong) {
                matches!(presented, Err(Refusal::Malformed(Malformed::HeaderValue(_))))
            } else {
                match presented {
                    Ok(Presented::Key { api_key, missing }) => {
                        let expected = match (challenge, signature) {
                            (Absent, Absent) => None,
                            (Absent, _) => Some("X-Challenge"),
                            _ => Some("X-Signature"),
                        };
                        api_key.expose() == KEY
                            && missing == expected
                            && !(present(challenge) && present(signature))
                    }
                    Ok(Presented::Signed { api_key, challenge: read, signature: tag, client_challenge }) => {
                        api_key.expose() == KEY
                            && present(challenge)
                            && read.as_str() == CHALLENGE
                            && present(signature)
                            && tag.to_hex() == SIGNATURE
                            && client_challenge.is_some() == present(client)
                    }
                    _ => false,
                }
            };
            assert!(right, "{context}");
            decided += 1;
        }
    }
    assert_eq!(decided, 5 * 256);
}

#[test]
fn an_authorization_that_is_not_ours_belongs_to_the_upstream() {
    for value in
        ["Basic csb.token", "Bearer", "Bearer eyJ.csb.", "csb.token", "Bearer CSB.token", "Bearercsb.token"]
    {
        let mut headers = HeaderMap::new();
        headers.append(AUTHORIZATION, HeaderValue::from_static(value));
        headers.append(AUTHORIZATION, HeaderValue::from_static("Digest x"));
        assert_eq!(header::bearer_token(&headers), Ok(None), "{value}");
    }
}

fn any_value() -> impl Strategy<Value = HeaderValue> {
    let bytes = prop_oneof![
        prop::collection::vec(any::<u8>(), 0..40),
        "(Bearer|bearer) *(csb\\.)?[ -~]{0,10}".prop_map(String::into_bytes),
        "[A-Za-z0-9+/]{21}[AQgw]==".prop_map(String::into_bytes),
        "(Countersign|countersign|Basic|[a-z]{1,3})?([ \t,=\"\\\\]|challenge|realm|[a-zA-Z0-9+/]{1,4}){0,20}"
            .prop_map(String::into_bytes),
    ];
    bytes.prop_filter_map("a header value", |bytes| HeaderValue::from_bytes(&bytes).ok())
}

/// Challenges of other schemes, as other servers' middleware adds them.
fn other_scheme() -> impl Strategy<Value = String> {
    prop_oneof![
        Just("Negotiate".to_owned()),
        "(Negotiate|NTLM|Bearer) [A-Za-z0-9._~+/-]{1,12}={0,2}",
        "Basic realm=\"[a-z ,=]{0,12}\"(, charset=\"UTF-8\")?",
        "Bearer realm=\"a \\\\\"Countersign challenge=x\\\\\"\", error=invalid_token",
        "Digest (challenge|nonce)=\"[A-Za-z0-9+/=]{0,12}\" , qop=\"auth, auth-int\"",
    ]
}

fn countersign() -> impl Strategy<Value = (String, Challenge)> {
    let parts = ("[a-z0-9][a-z0-9-]{0,62}", any::<[u8; 16]>(), 5_u64..=120);
    parts.prop_map(|(realm, bytes, seconds)| {
        let challenge = Challenge::from_bytes(bytes);
        let lifetime = Lifetime::seconds(seconds).unwrap();
        (www_authenticate::write(&realm.parse().unwrap(), Some((&challenge, lifetime))), challenge)
    })
}

fn challenge_in(values: &[String]) -> Option<String> {
    let values = values.iter().map(|value| (WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap()));
    www_authenticate::challenge(&values.collect())
}

proptest! {
    #[test]
    fn a_written_challenge_is_read_back((text, challenge) in countersign()) {
        prop_assert_eq!(challenge_in(&[text]), Some(challenge.to_string()));
    }

    #[test]
    fn it_is_found_beside_other_schemes_in_one_field_or_in_several(
        (text, challenge) in countersign(),
        before in prop::collection::vec(other_scheme(), 0..3),
        after in prop::collection::vec(other_scheme(), 0..3),
    ) {
        let several: Vec<String> = before.into_iter().chain([text]).chain(after).collect();
        prop_assert_eq!(challenge_in(&[several.join(", ")]), Some(challenge.to_string()));
        prop_assert_eq!(challenge_in(&several), Some(challenge.to_string()));
    }

    #[test]
    fn another_schemes_parameters_are_never_taken_for_a_challenge(others in prop::collection::vec(other_scheme(), 0..4)) {
        prop_assert_eq!(challenge_in(&[others.join(", ")]), None);
        prop_assert_eq!(challenge_in(&others), None);
    }

    #[test]
    fn without_a_challenge_none_is_read(realm in "[a-z0-9][a-z0-9-]{0,62}") {
        prop_assert_eq!(challenge_in(&[www_authenticate::write(&realm.parse().unwrap(), None)]), None);
    }

    #[test]
    fn arbitrary_values_never_cause_a_panic(values in prop::collection::vec((0_usize..6, any_value()), 0..6)) {
        let names = [X_API_KEY, X_CHALLENGE, X_SIGNATURE, X_CLIENT_CHALLENGE, AUTHORIZATION, WWW_AUTHENTICATE];
        let mut headers = HeaderMap::new();
        for (name, value) in values {
            headers.append(names.get(name).unwrap(), value);
        }
        let presented = header::presented(&headers);
        if let Ok(Presented::Key { api_key, .. } | Presented::Signed { api_key, .. }) = &presented {
            prop_assert_eq!(headers.get(X_API_KEY).unwrap().as_bytes(), api_key.expose().as_bytes());
        }
        let _ = (header::bearer_token(&headers), header::client_challenge(&headers));
        let _ = www_authenticate::challenge(&headers);
    }
}

#[test]
fn each_header_is_named_in_what_is_wrong_with_it() {
    let named = [
        (X_API_KEY, "X-API-Key"),
        (X_CHALLENGE, "X-Challenge"),
        (X_SIGNATURE, "X-Signature"),
        (X_CLIENT_CHALLENGE, "X-Client-Challenge"),
    ];
    for (name, shown) in named {
        let mut headers = HeaderMap::new();
        headers.append(&name, HeaderValue::from_static("one"));
        headers.append(&name, HeaderValue::from_static("two"));
        let refused = header::presented(&headers).unwrap_err();
        assert_eq!(refused, Refusal::Malformed(Malformed::RepeatedHeader(shown)));
        let not_ascii = HeaderMap::from_iter([(name, HeaderValue::from_bytes(b"\xe9").unwrap())]);
        let refused = header::presented(&not_ascii).unwrap_err();
        assert_eq!(refused, Refusal::Malformed(Malformed::HeaderValue(shown)));
    }
}

#[test]
fn debug_output_of_credentials_says_their_kind_and_nothing_more() {
    let fields: [(HeaderName, HeaderValue); 3] = [
        (X_API_KEY, HeaderValue::from_static(KEY)),
        (X_CHALLENGE, HeaderValue::from_static(CHALLENGE)),
        (X_SIGNATURE, HeaderValue::from_static(SIGNATURE)),
    ];
    let token = (AUTHORIZATION, HeaderValue::from_static("Bearer csb.token"));
    for (headers, shown) in [
        (HeaderMap::new(), "Nothing"),
        (HeaderMap::from_iter([token]), "Token(…)"),
        (fields.iter().take(1).cloned().collect(), "Key(…)"),
        (fields.iter().cloned().collect(), "Signed(…)"),
    ] {
        assert_eq!(format!("{:?}", header::presented(&headers).unwrap()), shown);
    }
}
