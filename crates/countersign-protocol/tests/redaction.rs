//! Whatever holds a key, a secret, a signature or a token shows nothing of it in `Debug`.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::fmt::Debug;

use countersign_protocol::aead::AeadKey;
use countersign_protocol::api_key::{self, server as guide2};
use countersign_protocol::identity::{ApiKey, FormError};
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::mac::{MacKey, encode_hex};
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::client::{self as guide1, Credential};
use countersign_protocol::shared_secret::server::{Attempt, Effort};
use countersign_protocol::shared_secret::{Challenge, Issuer, Lifetime, sign};
use countersign_protocol::token::TokenKeys;
use countersign_protocol::wire::body::{read_authenticate, read_verify};
use countersign_protocol::wire::header::{X_API_KEY, X_CHALLENGE, X_SIGNATURE, presented};
use countersign_protocol::wire::reply::VerdictReply;
use countersign_protocol::{UnixTime, api_key::client as client2};
use countersign_testkit::pair::Pair;
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

/// Texts and bytes that must not be seen, in any of the ways in which `Debug` writes bytes.
struct Hidden(Vec<String>);

impl Hidden {
    fn of(texts: &[&str]) -> Self {
        let spellings = texts.iter().flat_map(|text| {
            let bytes = text.as_bytes();
            let list = format!("{bytes:?}");
            // Debug may cut a list anywhere, so four bytes in a row are enough.
            let [first, middle] = [0, bytes.len() / 2].map(|at| format!("{:?}", &bytes[at..at + 4]));
            let inner = |list: &str| list.trim_matches(['[', ']']).to_owned();
            let [start, rest] = [0, text.len() / 2].map(|at| text[at..at + 8].to_owned());
            [start, rest, inner(&list), inner(&first), inner(&middle), encode_hex(&bytes[..8])]
        });
        Self(spellings.collect())
    }

    fn in_debug_of(&self, what: &str, value: &dyn Debug) {
        let shown = [format!("{value:?}"), format!("{value:#?}")];
        let one_line =
            |text: &String| text.split_whitespace().collect::<Vec<_>>().join(" ").replace(",]", "]");
        for text in shown.iter().map(one_line) {
            for hidden in &self.0 {
                assert!(!text.contains(hidden.as_str()), "{what} shows {hidden}: {text}");
            }
        }
    }
}

#[test]
fn the_search_finds_what_is_shown_as_text_as_bytes_and_on_many_lines() {
    let text = "csk_ODClY4BUu1V3HRJAKPOWYQ";
    for shown in [&text as &dyn Debug, &text.as_bytes(), &Some(text), &text.as_bytes()[10..20].to_vec()] {
        let found = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            Hidden::of(&[text]).in_debug_of("this", &shown);
        }));
        assert!(found.is_err(), "{shown:?}");
    }
}

#[test]
fn keys_and_secrets_show_nothing() {
    let seed: [u8; 32] = *b"Z9#x7Kq!mW2p$Lr8vTn4*Yb6Jc1@Hd5%";
    let text = std::str::from_utf8(&seed).unwrap();
    let bytes = Zeroizing::new(seed);
    let key = ApiKey::generate(b"Z9#x7Kq!mW2p$Lr8");
    let secret = SharedSecret::generate(&seed);
    let mac_key = secret.mac_key();
    let challenge = Challenge::from_bytes([1; 16]);
    let tag = sign(&mac_key, &key, &challenge);
    let hex = tag.to_hex();
    let hidden = Hidden::of(&[key.expose(), secret.expose(), text, &hex]);

    hidden.in_debug_of("ApiKey", &key);
    hidden.in_debug_of("SharedSecret", &secret);
    hidden.in_debug_of("MacKey", &mac_key);
    hidden.in_debug_of("MacKey of bytes", &MacKey::new(&seed));
    hidden.in_debug_of("Tag", &tag);
    hidden.in_debug_of("LookupKey", &LookupKey::new(&bytes));
    let hash = LookupKey::new(&bytes).hash(key.expose());
    hidden.in_debug_of("LookupHash", &hash);
    Hidden::of(&[&encode_hex(&hash.as_bytes()[4..])]).in_debug_of("LookupHash", &hash);
    hidden.in_debug_of("AeadKey", &AeadKey::new(&bytes));
    hidden.in_debug_of("Issuer", &Issuer::new(&bytes, "orders".parse().unwrap(), Lifetime::default()));
    let mut forty = Zeroizing::new([0; 40]);
    forty.iter_mut().zip(seed.iter().chain(&seed)).for_each(|(to, from)| *to = *from);
    hidden.in_debug_of("TokenKeys", &TokenKeys::new("orders".parse().unwrap(), &forty, UnixTime(1)));
    hidden.in_debug_of("Attempt", &Attempt { api_key: &key, challenge: &challenge, signature: &tag });
    hidden.in_debug_of("guide 2's Attempt", &guide2::Attempt { api_key: &key, signature: &tag, echo: None });
    hidden.in_debug_of("Effort", &Effort { macs: 1, decoy: &mac_key });
    let credential = Credential::new(key.clone(), mac_key.clone(), key, mac_key);
    hidden.in_debug_of("Credential", &credential);
}

#[test]
fn errors_about_a_key_or_a_secret_do_not_repeat_it() {
    let text = "Z9#x7Kq!mW2p$Lr8vTn4*Yb6Jc1@Hd5%\u{1b}";
    let errors: [FormError; 3] = [
        text.parse::<ApiKey>().unwrap_err(),
        text.parse::<SharedSecret>().unwrap_err(),
        text[..20].parse::<SharedSecret>().unwrap_err(),
    ];
    for error in errors {
        Hidden::of(&[text]).in_debug_of("FormError", &error);
        Hidden::of(&[text]).in_debug_of("FormError", &error.to_string());
    }
}

#[test]
fn every_state_and_message_of_both_guides_shows_nothing() {
    let mut pair = Pair::new();
    let (credential, reports) = (pair.credential(), pair.reports_key.clone());
    let texts = [&pair.caller_key, &pair.server_key, &pair.reports_key].map(|key| key.expose().to_owned());
    let secrets = [pair.caller_secret.expose().to_owned(), pair.server_secret.expose().to_owned()];
    let texts: Vec<&str> = texts.iter().chain(&secrets).map(String::as_str).collect();
    let hidden = Hidden::of(&texts);

    let (request, waiting) = guide1::start(&credential, Some([1; 16]));
    hidden.in_debug_of("guide 1's request", &request);
    hidden.in_debug_of("guide 1's AwaitChallenge", &waiting);
    hidden.in_debug_of("a read body", &read_authenticate(&request.body));
    let (request, waiting) = waiting.receive(&pair.post(&request).incoming()).unwrap();
    hidden.in_debug_of("guide 1's second request", &request);
    hidden.in_debug_of("guide 1's AwaitVerdict", &waiting);
    let read = read_verify(&request.body).unwrap();
    let signature = read.signature.to_hex();
    Hidden::of(&[&signature]).in_debug_of("a read body", &read);
    Hidden::of(&[&signature]).in_debug_of("guide 1's second request", &request);
    hidden.in_debug_of("a read body", &read);
    let answer = pair.post(&request);
    let session = waiting.receive(&answer.incoming()).unwrap();
    let token = session.token.clone().unwrap();
    let with_token = Hidden::of(&[token.expose()]);
    with_token.in_debug_of("Incoming", &answer.incoming());
    with_token.in_debug_of("Session", &session);
    with_token.in_debug_of("BearerToken", &token);
    assert_eq!(format!("{token:?}"), "BearerToken(…)");
    let service = "billing".parse().unwrap();
    let token = Some(token.expose());
    let reply = VerdictReply { authenticated: true, service: &service, token, expires_in: Some(300) };
    with_token.in_debug_of("VerdictReply", &reply);
    assert_eq!(format!("{reply:?}"), r#"VerdictReply { service: "billing", .. }"#);
    hidden.in_debug_of("the knock", &guide1::knock(&credential));

    let (request, waiting) = client2::start(&reports);
    hidden.in_debug_of("guide 2's request", &request);
    hidden.in_debug_of("guide 2's AwaitChallenge", &waiting);
    let (request, waiting) = waiting.receive(&pair.post(&request).incoming()).unwrap();
    hidden.in_debug_of("guide 2's second request", &request);
    hidden.in_debug_of("guide 2's AwaitVerdict", &waiting);
    let challenge = api_key::Challenge::generate(pair.now, &[2; 16]);
    let signature = api_key::sign(&reports, &challenge);
    let attempt = guide2::Attempt { api_key: &reports, signature: &signature, echo: None };
    let outstanding = [challenge];
    let unclaimed = guide2::verify(attempt, &outstanding).unwrap();
    Hidden::of(&[&signature.to_hex()]).in_debug_of("guide 2's Unclaimed", &unclaimed);
    hidden.in_debug_of("guide 2's Verified", &unclaimed.claim(|_| Ok(())));
}

#[test]
fn what_a_request_presents_shows_nothing() {
    let (key, token) = ("csk_ODClY4BUu1V3HRJAKPOWYQ", "csb.PSd3kq0xVnR7tLw2YbZ8Jc1HmG5");
    let signature = "4daeb3c73645165c4e60bd38e4b8e51ae9b74abae7badcb06752fcfc768c572f";
    let hidden = Hidden::of(&[key, token, signature]);
    let mut headers = HeaderMap::new();
    let bearer = HeaderValue::from_str(&format!("Bearer {token}")).unwrap();
    headers.insert(http::header::AUTHORIZATION, bearer);
    hidden.in_debug_of("a token", &presented(&headers).unwrap());
    let mut headers = HeaderMap::new();
    headers.insert(X_API_KEY, HeaderValue::from_static(key));
    hidden.in_debug_of("a key", &presented(&headers).unwrap());
    headers.insert(X_CHALLENGE, HeaderValue::from_static("5u4eJwjofPE7rR79S5eCeQ=="));
    headers.insert(X_SIGNATURE, HeaderValue::from_static(signature));
    hidden.in_debug_of("a signature", &presented(&headers).unwrap());
}
