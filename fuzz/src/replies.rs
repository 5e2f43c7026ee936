//! What a stranger's server answers: leniently read, never trusted, never shown raw.

use countersign_protocol::api_key;
use countersign_protocol::identity::ApiKey;
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::Malformed;
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::{self, Challenge, client};
use countersign_protocol::wire::body::{AnyChallenge, read_verify};
use countersign_protocol::wire::header::{X_API_KEY, X_SIGNATURE};
use countersign_protocol::wire::reply::{ReplyError, Session};
use countersign_protocol::wire::{Incoming, Outgoing};
use http::HeaderMap;
use serde_json::Value;

use crate::challenges::{is_guide1, is_guide2};
use crate::input;
use crate::requests::Members;

fn our_key() -> ApiKey {
    ApiKey::generate(&[1; 16])
}

fn credential() -> client::Credential {
    let secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef").mac_key();
    client::Credential::new(our_key(), secret.clone(), ApiKey::generate(&[2; 16]), secret)
}

/// A status code and a body, with a zero byte between them; 200 if the first is no number.
fn answer(input: &[u8]) -> (u16, &[u8]) {
    let (status, body) = input::two(input);
    (input::text(status).parse().unwrap_or(200), body)
}

/// The members of a JSON object, those with these names once at most; `Err` if this is none of the kind, and `None`
/// where `serde_json` cannot say: it is stricter with what it keeps than with what it passes over.
fn members(body: &[u8], names: &[&str]) -> Option<Result<Vec<(String, Value)>, ()>> {
    if !body.trim_ascii_start().starts_with(b"{") {
        return Some(Err(()));
    }
    let Members(members) = serde_json::from_slice(body).ok()?;
    let repeated = |name: &&str| members.iter().filter(|(found, _)| found == name).count() > 1;
    Some(if names.iter().any(repeated) { Err(()) } else { Ok(members) })
}

fn member(members: &[(String, Value)], name: &str) -> Value {
    members.iter().find(|(found, _)| found == name).map_or(Value::Null, |(_, value)| value.clone())
}

/// What an answer to `/authenticate` comes to, with the challenge if it is one that `is_form` takes.
fn expected_challenge(
    status: u16,
    body: &[u8],
    is_form: fn(&str) -> bool,
) -> Option<Result<String, ReplyError>> {
    if status != 200 {
        return None;
    }
    let Ok(members) = members(body, &["challenge"])? else { return Some(Err(ReplyError::NotJson)) };
    Some(match member(&members, "challenge") {
        Value::Null => Err(ReplyError::NoChallenge),
        Value::String(text) if is_form(&text) => Ok(text),
        Value::String(_) => Err(ReplyError::ForeignShape),
        _ => Err(ReplyError::NotJson),
    })
}

fn assert_error(error: &ReplyError, status: u16) {
    let shown = format!("{error}{error:?}");
    input::assert_printable(&shown);
    assert!(shown.len() < 1_500, "{} bytes", shown.len());
    assert_eq!(matches!(error, ReplyError::Status { .. }), status != 200);
}

/// The challenge that a request answers, and whether its signature is the one made by `sign`.
fn signed(request: &Outgoing) -> (String, bool) {
    let verify = read_verify(&request.body).unwrap();
    assert!(verify.api_key == our_key());
    let Some(AnyChallenge::SharedSecret(challenge)) = verify.challenge else {
        return (String::new(), false);
    };
    let secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef").mac_key();
    let expected = shared_secret::sign(&secret, &our_key(), &challenge);
    (challenge.to_string(), expected.to_hex() == verify.signature.to_hex())
}

/// Answers to `/authenticate`: nothing is signed but a challenge of the profile.
pub(crate) fn challenge_answers(input: &[u8]) {
    let (status, body) = answer(input);
    let (headers, key, credential) = (HeaderMap::new(), our_key(), credential());
    let answer = Incoming { status, headers: &headers, body };
    let guide1 = client::start(&credential, None).1.receive(&answer).map(|(request, _)| signed(&request));
    if let Ok((challenge, right)) = &guide1 {
        assert!(*right && is_guide1(challenge));
    }
    let guide1 = guide1.map(|(challenge, _)| challenge);
    let guide2 = api_key::client::start(&key)
        .1
        .receive(&answer)
        .map(|(request, _)| read_verify(&request.body).unwrap().signature.to_hex());
    for (found, error) in [(guide1.is_ok(), guide1.as_ref().err()), (guide2.is_ok(), guide2.as_ref().err())] {
        assert!(!found || status == 200);
        if let Some(error) = error {
            assert_error(error, status);
        }
    }
    assert!(guide1.is_err() || guide2.is_err(), "one challenge for both guides");
    if let Some(expected) = expected_challenge(status, body, is_guide1) {
        assert_eq!(guide1, expected);
    }
    if let Some(expected) = expected_challenge(status, body, is_guide2) {
        let sign = |challenge: String| {
            api_key::sign(&our_key(), &challenge.parse::<api_key::Challenge>().unwrap()).to_hex()
        };
        assert_eq!(guide2, expected.map(sign));
    }
    // A server that gives our own challenge back gets no signature under it.
    if let Ok(challenge) = guide1.and_then(|text| text.parse::<Challenge>().map_err(|_| ReplyError::NotJson))
    {
        let (_, waiting) = client::start(&credential, Some(*challenge.as_bytes()));
        assert!(matches!(waiting.receive(&answer), Err(ReplyError::ForeignShape)));
    }
}

fn is_b64token(text: &str) -> bool {
    let body = text.trim_end_matches('=');
    (1..=4096).contains(&text.len())
        && !body.is_empty()
        && body.chars().all(|c| c.is_ascii_alphanumeric() || "-._~+/".contains(c))
}

/// A token, and for how many seconds it is good.
type Shown = (Option<String>, Option<u64>);

fn expected_session(body: &[u8]) -> Option<Result<Shown, ReplyError>> {
    if body.trim_ascii().is_empty() {
        return Some(Ok((None, None)));
    }
    let Ok(members) = members(body, &["authenticated", "token", "expiresIn"])? else {
        return Some(Err(ReplyError::NotJson));
    };
    let token = match member(&members, "token") {
        Value::Null => None,
        Value::String(text) => Some(text),
        _ => return Some(Err(ReplyError::NotJson)),
    };
    match member(&members, "authenticated") {
        Value::Null | Value::Bool(true) => {}
        Value::Bool(false) => return Some(Err(ReplyError::NotAuthenticated)),
        _ => return Some(Err(ReplyError::NotJson)),
    }
    if token.as_deref().is_some_and(|token| !is_b64token(token)) {
        return Some(Err(ReplyError::TokenForm));
    }
    #[allow(clippy::cast_sign_loss, reason = "float to integer saturates")]
    let seconds = match member(&members, "expiresIn") {
        Value::Number(number) => number.as_u64().or_else(|| number.as_f64().map(|number| number as u64)),
        _ => None,
    };
    Some(Ok((token, seconds)))
}

/// Answers to `/verify_challenge`: what is taken as a token fits into a header.
pub(crate) fn verdict_answers(input: &[u8]) {
    let (status, body) = answer(input);
    let (headers, key) = (HeaderMap::new(), our_key());
    let first =
        Incoming { status: 200, headers: &headers, body: br#"{"challenge":"1678886400.12345abcde"}"# };
    let (_, waiting) = api_key::client::start(&key).1.receive(&first).unwrap();
    let found = waiting.receive(&Incoming { status, headers: &headers, body });
    assert!(found.is_err() || status == 200);
    if let Err(error) = &found {
        assert_error(error, status);
    }
    let shown = found.map(|Session { token, expires_in }| {
        let token = token.map(|token| token.expose().to_owned());
        assert!(token.as_deref().is_none_or(is_b64token));
        (token, expires_in)
    });
    if let Some(expected) = expected_session(body).filter(|_| status == 200) {
        assert_eq!(shown, expected);
    }
}

/// The one value of a field; `None` if there is none, `Err` if it is there in another way.
fn once(headers: &HeaderMap, name: &http::HeaderName) -> Result<Option<String>, ()> {
    let values: Vec<_> = headers.get_all(name).iter().map(|value| value.to_str()).collect();
    match values.as_slice() {
        [] => Ok(None),
        [Ok(value)] => Ok(Some((*value).to_owned())),
        _ => Err(()),
    }
}

/// The header fields with which a server proves itself: one key and one signature are right.
pub(crate) fn server_proof(input: &[u8]) {
    let headers = input::headers(input);
    let secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef").mac_key();
    let (theirs, challenge) = (ApiKey::generate(&[2; 16]), Challenge::from_bytes([7; 16]));
    let right = shared_secret::sign(&secret, &theirs, &challenge).to_hex();
    let expected = match (once(&headers, &X_API_KEY), once(&headers, &X_SIGNATURE)) {
        (Err(()), _) | (_, Err(())) => Err(ReplyError::ServerImpostor),
        (Ok(Some(key)), Ok(Some(signature))) => {
            if key == theirs.expose() && signature.to_ascii_lowercase() == right {
                Ok(())
            } else {
                Err(ReplyError::ServerImpostor)
            }
        }
        _ => Err(ReplyError::ServerUnproven),
    };
    assert_eq!(client::check_server(&credential(), &challenge, &headers), expected);
}

/// A problem document as we write it comes back whole, and whatever one says is shown as plain text.
pub(crate) fn problem(input: &[u8]) {
    let text = input::text(input);
    for problem in [Problem::Malformed(Malformed::Host), Problem::ChallengeRequired, Problem::NotFound] {
        let written = problem.body(&text, Some((&text, 30)));
        let read: Value = serde_json::from_slice(&written).unwrap();
        assert_eq!(read["requestId"], text);
        assert_eq!(read["challenge"], text);
        assert_eq!(read["status"], problem.status());
        assert_eq!(read["detail"].as_str().map(str::to_owned), problem.detail());
        let shown = shown(problem.status(), &written);
        assert!(shown.contains(problem.title()), "{shown}");
    }
    shown(500, input);
    let members = serde_json::json!({ "title": text, "requestId": text }).to_string();
    shown(500, members.as_bytes());
}

fn shown(status: u16, body: &[u8]) -> String {
    let (headers, key) = (HeaderMap::new(), our_key());
    let error = api_key::client::start(&key).1.receive(&Incoming { status, headers: &headers, body });
    let error = error.map(drop).unwrap_err();
    assert_error(&error, status);
    error.to_string()
}
