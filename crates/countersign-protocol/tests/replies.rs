//! A stranger's answers: leniently read, never trusted, never shown raw.

use countersign_protocol::identity::ApiKey;
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::client as guide1;
use countersign_protocol::wire::reply::{ReplyError, Session};
use countersign_protocol::wire::{Incoming, printable};
use countersign_protocol::{api_key, shared_secret};
use http::HeaderMap;
use proptest::prelude::*;

const GUIDE1: &str = "5u4eJwjofPE7rR79S5eCeQ==";
const GUIDE2: &str = "1678886400.12345abcde";

fn credential() -> guide1::Credential {
    let secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef");
    let (ours, theirs) = (ApiKey::generate(&[1; 16]), ApiKey::generate(&[2; 16]));
    guide1::Credential::new(ours, secret.mac_key(), theirs, secret.mac_key())
}

/// The answer to `/authenticate`, for a client of either guide.
fn authenticate(status: u16, body: &[u8]) -> [Result<(), ReplyError>; 2] {
    let (credential, key, headers) = (credential(), ApiKey::generate(&[1; 16]), HeaderMap::new());
    let answer = Incoming { status, headers: &headers, body };
    [
        guide1::start(&credential, None).1.receive(&answer).map(drop),
        api_key::client::start(&key).1.receive(&answer).map(drop),
    ]
}

/// The answer to `/verify_challenge`.
fn verdict(status: u16, body: &[u8]) -> Result<Session, ReplyError> {
    let (key, headers) = (ApiKey::generate(&[1; 16]), HeaderMap::new());
    let body1 = format!(r#"{{"challenge":"{GUIDE2}"}}"#);
    let first = Incoming { status: 200, headers: &headers, body: body1.as_bytes() };
    let (_, waiting) = api_key::client::start(&key).1.receive(&first)?;
    waiting.receive(&Incoming { status, headers: &headers, body })
}

#[test]
fn unknown_members_are_ignored_and_all_but_the_challenge_are_optional() {
    for (body, guide) in [
        (format!(r#"{{"challenge":"{GUIDE1}"}}"#), 0),
        (format!(r#"{{"expires":1,"x":[{{}}],"challenge":"{GUIDE1}","expiresIn":"soon"}}"#), 0),
        (format!(r#"{{"challenge":"{GUIDE2}","expiresIn":30}}"#), 1),
    ] {
        let answers = authenticate(200, body.as_bytes());
        assert_eq!(answers.get(guide), Some(&Ok(())), "{body}");
        // … and what one guide signs, the other does not.
        assert_eq!(answers.get(1 - guide), Some(&Err(ReplyError::ForeignShape)), "{body}");
    }
}

#[test]
fn a_client_signs_nothing_but_a_challenge_of_its_profile() {
    for foreign in [
        "",
        "GET /admin HTTP/1.1",
        "POST /transfer?to=me&n=9",
        "5u4eJwjofPE7rR79S5eCeQ",
        "5u4eJwjofPE7rR79S5eCeR==",
        "5u4eJwjofPE7rR79S5eCeQ==\\n",
        " 5u4eJwjofPE7rR79S5eCeQ==",
        "1678886400.12345",
        "1678886400.12345abcde\\u0000",
        "167888640.12345abcdef",
    ] {
        for answer in authenticate(200, format!(r#"{{"challenge":"{foreign}"}}"#).as_bytes()) {
            assert_eq!(answer, Err(ReplyError::ForeignShape), "{foreign}");
        }
    }
}

#[test]
fn on_a_protected_route_a_client_signs_nothing_else_either() {
    let refuse = |status, value: &'static str| {
        let headers = [(http::header::WWW_AUTHENTICATE, http::HeaderValue::from_static(value))];
        let headers: HeaderMap = headers.into_iter().collect();
        guide1::answer(&credential(), &Incoming { status, headers: &headers, body: b"" }).map(drop)
    };
    let right = r#"Countersign realm="orders", challenge="5u4eJwjofPE7rR79S5eCeQ==""#;
    assert_eq!(refuse(401, right), Ok(()));
    assert_eq!(refuse(200, right), Err(ReplyError::Status { status: 200, title: None }));
    assert_eq!(refuse(401, r#"Countersign realm="orders""#), Err(ReplyError::NoChallenge));
    assert_eq!(refuse(401, r#"Bearer challenge="5u4eJwjofPE7rR79S5eCeQ==""#), Err(ReplyError::NoChallenge));
    for foreign in
        [r#"Countersign challenge="GET /admin""#, r#"Countersign challenge="1678886400.12345abcde""#]
    {
        assert_eq!(refuse(401, foreign), Err(ReplyError::ForeignShape), "{foreign}");
    }
}

#[test]
fn an_answer_that_is_not_an_object_is_no_answer() {
    for body in
        ["", "null", "[]", "\"x\"", "{", "<html>", &format!("[\"{GUIDE1}\"]"), &format!("[\"{GUIDE2}\"]")]
    {
        for answer in authenticate(200, body.as_bytes()) {
            assert_eq!(answer, Err(ReplyError::NotJson), "{body}");
        }
    }
    for body in ["null", "[]", "[true,\"token\",30]", "\"x\"", "{", "<html>"] {
        assert_eq!(verdict(200, body.as_bytes()).unwrap_err(), ReplyError::NotJson, "{body}");
    }
    for answer in authenticate(200, b"{}").into_iter().chain(authenticate(200, br#"{"challenge":null}"#)) {
        assert_eq!(answer, Err(ReplyError::NoChallenge));
    }
}

#[test]
fn a_200_is_success_unless_it_says_otherwise() {
    for body in
        ["", " \r\n", "{}", r#"{"ok":1}"#, r#"{"authenticated":true}"#, r#"{"token":null,"expiresIn":null}"#]
    {
        let session = verdict(200, body.as_bytes()).unwrap();
        assert!(session.token.is_none() && session.expires_in.is_none(), "{body}");
    }
    assert_eq!(verdict(200, br#"{"authenticated":false}"#).unwrap_err(), ReplyError::NotAuthenticated);
    for status in [100, 199, 201, 204, 301, 400, 401, 403, 429, 500] {
        let wrong = Err(ReplyError::Status { status, title: None });
        assert_eq!(verdict(status, br#"{"authenticated":true}"#).map(drop), wrong, "{status}");
        assert_eq!(
            authenticate(status, format!(r#"{{"challenge":"{GUIDE1}"}}"#).as_bytes()),
            [wrong.clone(), wrong]
        );
    }
}

#[test]
fn the_time_of_a_token_is_any_number_and_its_text_fits_into_a_header() {
    for (number, seconds) in [("300", 300), ("299.9", 299), ("-1", 0), ("0", 0), ("1e300", u64::MAX)] {
        let session =
            verdict(200, format!(r#"{{"token":"a.b-c_d~e+f/g==","expiresIn":{number}}}"#).as_bytes())
                .unwrap();
        assert_eq!(session.expires_in, Some(seconds), "{number}");
        assert_eq!(session.token.unwrap().expose(), "a.b-c_d~e+f/g==");
    }
    let long = "a".repeat(4097);
    for token in ["", "=", "a b", "a\\r\\nX-Evil: 1", "a\\u0000", "é", "a=b", "\\\"", &long] {
        let body = format!(r#"{{"token":"{token}"}}"#);
        assert_eq!(verdict(200, body.as_bytes()).unwrap_err(), ReplyError::TokenForm, "{token}");
    }
}

#[test]
fn terminal_sequences_in_a_servers_problem_never_reach_the_error_text() {
    let title = "\\u001b[31mPay\\r\\nX-Evil: 1\\u0007\\u009b2J\\u202e\\u200b\\u007f\\u0000é end";
    let body = format!(r#"{{"title":"{title}","requestId":"id\u001b]8;;x"}}"#);
    let error = verdict(401, body.as_bytes()).unwrap_err();
    let shown = "the server answered 401: ?[31mPay??X-Evil: 1??2J????? end (its request id: id?]8;;x)";
    assert_eq!(error.to_string(), shown);
}

#[test]
fn a_long_title_is_cut() {
    let body = format!(r#"{{"title":"{}","requestId":"{}"}}"#, "t".repeat(60_000), "r".repeat(1_000));
    assert!(verdict(500, body.as_bytes()).unwrap_err().to_string().len() < 400);
}

proptest! {
    #[test]
    fn whatever_a_server_says_only_plain_ascii_is_shown(title in any::<String>(), id in any::<String>()) {
        let body = serde_json::json!({ "title": title, "requestId": id }).to_string();
        for answer in authenticate(503, body.as_bytes()) {
            let error = answer.unwrap_err();
            let shown = format!("{error}{error:?}");
            prop_assert!(shown.bytes().all(|byte| (b' '..=b'~').contains(&byte)), "{}", shown);
        }
    }

    #[test]
    fn printable_text_is_kept_and_everything_else_becomes_a_question_mark(text in any::<String>(), max in 0_usize..50) {
        let safe = printable(&text, max);
        prop_assert!(safe.bytes().all(|byte| (b' '..=b'~').contains(&byte)));
        prop_assert!(safe.len() <= max + 3);
        if text.len() <= max && text.bytes().all(|byte| (b' '..=b'~').contains(&byte)) {
            prop_assert_eq!(safe, text);
        }
    }

    #[test]
    fn arbitrary_answers_never_cause_a_panic(
        status in prop_oneof![Just(200_u16), any::<u16>()],
        body in prop_oneof![
            prop::collection::vec(any::<u8>(), 0..100),
            "[\\[{](\"(challenge|token|expiresIn|authenticated|title)\"[:,]([0-9]{1,3}|-1e400|true|null|\"[ -~]{0,9}\"|\\[|\\{),?){0,4}[\\]}]"
                .prop_map(String::into_bytes),
        ],
    ) {
        let _ = verdict(status, &body);
        for answer in authenticate(status, &body) {
            // What is signed has a challenge of the right form in it, as it stands.
            if answer.is_ok() {
                prop_assert_eq!(status, 200);
                let text = String::from_utf8(body.clone()).unwrap();
                let value: serde_json::Value = serde_json::from_str(&text).unwrap();
                let challenge = value.get("challenge").and_then(|challenge| challenge.as_str()).unwrap();
                let forms = [
                    challenge.parse::<shared_secret::Challenge>().is_ok(),
                    challenge.parse::<api_key::Challenge>().is_ok(),
                ];
                prop_assert!(forms.contains(&true));
            }
        }
    }
}

#[test]
fn a_refusal_says_when_the_server_wants_to_be_tried_again() {
    let shown = |value: &'static str, body: &[u8]| {
        let value = http::HeaderValue::from_static(value);
        let headers: HeaderMap = [(http::header::RETRY_AFTER, value)].into_iter().collect();
        let key = ApiKey::generate(&[1; 16]);
        let (_, waiting) = api_key::client::start(&key);
        let refused = waiting.receive(&Incoming { status: 429, headers: &headers, body }).map(drop);
        refused.unwrap_err().to_string()
    };
    let body = br#"{"title":"Wait","requestId":"7"}"#;
    assert_eq!(
        shown("3", body),
        "the server answered 429: Wait (its request id: 7); to be tried again in 3 s"
    );
    assert_eq!(shown("3", b"no JSON"), "the server answered 429: to be tried again in 3 s");
    for wait in ["", "-3", "+3", "3.5", "99999999999", "Wed, 21 Oct 2026 07:28:00 GMT", "soon"] {
        assert_eq!(shown(wait, body), "the server answered 429: Wait (its request id: 7)", "{wait}");
    }
}
