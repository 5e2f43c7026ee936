//! Header fields: what a request presents, what must not travel on, and the challenge in a server's answer.

use countersign::server::strip_credentials;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::{Challenge, Lifetime};
use countersign_protocol::wire::header::{
    Presented, X_API_KEY, X_CHALLENGE, X_CLIENT_CHALLENGE, X_SIGNATURE, presented as read,
};
use countersign_protocol::wire::www_authenticate;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::challenges::is_guide1;
use crate::identity::{is_api_key, is_signature};
use crate::input;

/// What is to be made of a request.
#[derive(Debug, PartialEq)]
enum Expected {
    Malformed,
    TwoMethods,
    MissingKey,
    Nothing,
    Token(String),
    Key(String, Option<&'static str>),
    Signed(String, String, String, Option<String>),
}

/// The value of a field that may come once; `Err` if it is there in another way.
fn once(headers: &HeaderMap, name: &HeaderName) -> Result<Option<String>, ()> {
    let values: Vec<&HeaderValue> = headers.get_all(name).iter().collect();
    match values.as_slice() {
        [] => Ok(None),
        [value] => {
            let visible = |byte: &u8| (b' '..=b'~').contains(byte) || *byte == b'\t';
            if !value.as_bytes().iter().all(visible) {
                return Err(());
            }
            Ok(Some(String::from_utf8(value.as_bytes().to_vec()).unwrap()))
        }
        _ => Err(()),
    }
}

/// Our token in a field `Authorization`.
fn token(value: &HeaderValue) -> Option<String> {
    let text = value.to_str().ok()?;
    let (scheme, token) = text.split_once(' ')?;
    let token = token.trim_matches(' ');
    (scheme.eq_ignore_ascii_case("bearer") && token.starts_with("csb.")).then(|| token.to_owned())
}

fn expected(headers: &HeaderMap) -> Result<Expected, Expected> {
    let malformed = |()| Expected::Malformed;
    let authorizations: Vec<&HeaderValue> = headers.get_all(AUTHORIZATION).iter().collect();
    let token = authorizations.iter().filter_map(|value| token(value)).next_back();
    if token.is_some() && authorizations.len() > 1 {
        return Err(Expected::Malformed);
    }
    let key = once(headers, &X_API_KEY).map_err(malformed)?;
    let challenge = once(headers, &X_CHALLENGE).map_err(malformed)?;
    let signature = once(headers, &X_SIGNATURE).map_err(malformed)?;
    let client = once(headers, &X_CLIENT_CHALLENGE).map_err(malformed)?;
    let all = |value: &Option<String>, form: fn(&str) -> bool| value.as_deref().is_none_or(form);
    if !all(&client, is_guide1) {
        return Err(Expected::Malformed);
    }
    match (token, key) {
        (Some(_), key) if key.is_some() || challenge.is_some() || signature.is_some() => {
            Err(Expected::TwoMethods)
        }
        (Some(token), _) => Ok(Expected::Token(token)),
        (None, None) if challenge.is_some() || signature.is_some() => Err(Expected::MissingKey),
        (None, None) => Ok(Expected::Nothing),
        (None, Some(key)) => {
            if !is_api_key(&key) || !all(&challenge, is_guide1) || !all(&signature, is_signature) {
                return Err(Expected::Malformed);
            }
            Ok(match (challenge, signature) {
                (None, None) => Expected::Key(key, None),
                (None, Some(_)) => Expected::Key(key, Some("X-Challenge")),
                (Some(_), None) => Expected::Key(key, Some("X-Signature")),
                (Some(challenge), Some(signature)) => {
                    Expected::Signed(key, challenge, signature.to_ascii_lowercase(), client)
                }
            })
        }
    }
}

pub(crate) fn presented(input: &[u8]) {
    let headers = input::headers(input);
    let found = match read(&headers) {
        Ok(Presented::Nothing) => Ok(Expected::Nothing),
        Ok(Presented::Token(token)) => Ok(Expected::Token(token.to_owned())),
        Ok(Presented::Key { api_key, missing }) => Ok(Expected::Key(api_key.expose().to_owned(), missing)),
        Ok(Presented::Signed { api_key, challenge, signature, client_challenge }) => Ok(Expected::Signed(
            api_key.expose().to_owned(),
            challenge.to_string(),
            signature.to_hex(),
            client_challenge.map(|challenge| challenge.to_string()),
        )),
        Err(Refusal::Malformed(_)) => Err(Expected::Malformed),
        Err(Refusal::TwoMethods) => Err(Expected::TwoMethods),
        Err(Refusal::MissingKey) => Err(Expected::MissingKey),
        Err(other) => panic!("headers are not refused as {other:?}"),
    };
    assert_eq!(found, expected(&headers));
}

/// Whether a service behind us, or a CGI program there, could take this name for one that only we may use.
fn is_ours(name: &str) -> bool {
    let spelled: String =
        name.chars().map(|c| if c.is_ascii_alphanumeric() { c.to_ascii_lowercase() } else { '-' }).collect();
    let exact =
        ["x-countersign", "x-request-id", "x-api-key", "x-challenge", "x-signature", "x-client-challenge"];
    exact.contains(&spelled.as_str()) || spelled.starts_with("x-countersign-")
}

pub(crate) fn strip(input: &[u8]) {
    let before = input::headers(input);
    let mut after = before.clone();
    strip_credentials(&mut after);
    // Nothing is left that we, or whoever is behind us, would take for credentials or for an identity.
    assert!(matches!(read(&after), Ok(Presented::Nothing)));
    assert!(!after.keys().any(|name| is_ours(name.as_str())));
    let mut left = after.get_all(AUTHORIZATION).iter().map(HeaderValue::as_bytes);
    assert!(!left.any(|value| value.starts_with(b"csb.")));
    // What is not ours is left as it was.
    for name in before.keys().filter(|name| !is_ours(name.as_str()) && *name != AUTHORIZATION) {
        assert!(before.get_all(name).iter().eq(after.get_all(name).iter()), "{name}");
    }
    let holds_token = |value: &HeaderValue| value.as_bytes().windows(4).any(|window| window == b"csb.");
    if !before.get_all(AUTHORIZATION).iter().any(holds_token) {
        assert!(before.get_all(AUTHORIZATION).iter().eq(after.get_all(AUTHORIZATION).iter()));
    }
    assert!(after.keys().all(|name| before.contains_key(name)));
    let once = after.clone();
    strip_credentials(&mut after);
    assert_eq!(after, once, "stripping again changes nothing");
}

/// The first parameter `challenge` of the first `Countersign` that has one, as the crate `http-auth` reads it;
/// `None` if that crate cannot read all of it.
fn by_http_auth(text: &str) -> Option<Option<String>> {
    let mut found = None;
    for challenge in http_auth::ChallengeParser::new(text) {
        let challenge = challenge.ok()?;
        if found.is_none() && challenge.scheme.eq_ignore_ascii_case("countersign") {
            let mut named =
                challenge.params.iter().filter(|(name, _)| name.eq_ignore_ascii_case("challenge"));
            found = named.next().map(|(_, value)| value.to_unescaped());
        }
    }
    Some(found)
}

fn challenge_in<'a>(values: impl IntoIterator<Item = &'a str>) -> Option<String> {
    let values = values.into_iter().map(|value| (WWW_AUTHENTICATE, HeaderValue::from_str(value).unwrap()));
    www_authenticate::challenge(&values.collect())
}

pub(crate) fn www_authenticate(input: &[u8]) {
    let Ok(value) = HeaderValue::from_bytes(input) else { return };
    let found = www_authenticate::challenge(&HeaderMap::from_iter([(WWW_AUTHENTICATE, value.clone())]));
    let Ok(text) = value.to_str() else {
        assert_eq!(found, None, "what is not ASCII is not read");
        return;
    };
    // What is found is in there, but for backslashes.
    if let Some(found) = &found {
        let mut rest = text.chars();
        assert!(found.chars().all(|wanted| rest.any(|c| c == wanted)));
    }
    if let Some(theirs) = by_http_auth(text) {
        assert_eq!(found, theirs, "another reader of RFC 9110");
    }
    // Ours is found whatever stands behind it, and in a field of its own whatever stands in another.
    let ours = Challenge::from_bytes([7; 16]);
    let written = www_authenticate::write(&"orders".parse().unwrap(), Some((&ours, Lifetime::default())));
    assert_eq!(challenge_in([format!("{written}, {text}").as_str()]), Some(ours.to_string()));
    assert_eq!(challenge_in([written.as_str(), text]), Some(ours.to_string()));
    assert_eq!(challenge_in([text, written.as_str()]), found.or_else(|| Some(ours.to_string())));
}
