//! What the other side is told: informative about the protocol, uniform about credentials.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::collections::BTreeSet;

use countersign_protocol::identity::ApiKey;
use countersign_protocol::problem::{Problem, TYPE_PREFIX};
use countersign_protocol::refusal::{Malformed, Refusal, Scope};
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::client::{self as guide1, Credential};
use countersign_protocol::token::TokenError;
use countersign_testkit::pair::Pair;
use countersign_testkit::server::Answer;
use proptest::prelude::*;
use serde_json::Value;

const UNIFORM: [Refusal; 8] = [
    Refusal::UnknownKey,
    Refusal::CredentialRetired,
    Refusal::CredentialRevoked,
    Refusal::CredentialCompromised,
    Refusal::OwnKey,
    Refusal::WrongProfile,
    Refusal::WrongSignature,
    Refusal::NothingOutstanding,
];

fn malformed() -> [Malformed; 12] {
    [
        Malformed::RepeatedHeader("X-API-Key"),
        Malformed::HeaderValue("X-Challenge"),
        Malformed::BodyTooLarge,
        Malformed::BodyIncomplete,
        Malformed::BodyNotUtf8,
        Malformed::BodyNotAnObject,
        Malformed::BodySyntax { line: 1, column: 2 },
        Malformed::BodyMembers { line: 3, column: 4 },
        Malformed::Member("apiKey"),
        Malformed::NoKey,
        Malformed::Host,
        Malformed::Path,
    ]
}

fn refusals() -> Vec<Refusal> {
    let scopes =
        [Scope::Source, Scope::Key, Scope::Refused, Scope::SourceFailures, Scope::KeyFailures, Scope::Nonces];
    let limits = scopes.map(|scope| Refusal::RateLimited { retry_after: 9, scope });
    let tokens = [TokenError::Form, TokenError::Key, TokenError::Seal, TokenError::Expired];
    let others = [
        Refusal::TwoMethods,
        Refusal::UnsupportedProtocol,
        Refusal::NoCredentials,
        Refusal::MissingKey,
        Refusal::ChallengeSent,
        Refusal::MissingHeader("X-Signature"),
        Refusal::ChallengeExpired,
        Refusal::ChallengeForeign,
        Refusal::ChallengeUsed,
        Refusal::TokenOrphaned,
        Refusal::TokensOff,
        Refusal::TooManyChallenges { retry_after: 9 },
        Refusal::ReplayLogFull,
        Refusal::AuditUnavailable,
        Refusal::StoreStale,
    ];
    let malformed = malformed().map(Refusal::Malformed);
    let all = UNIFORM.into_iter().chain(limits).chain(tokens.map(Refusal::Token));
    all.chain(others).chain(malformed).collect()
}

fn problems() -> Vec<Problem> {
    let without_refusal = [
        Problem::NotFound,
        Problem::MethodNotAllowed,
        Problem::MethodNotForwarded,
        Problem::UpstreamUnreachable,
        Problem::UpstreamTimeout,
    ];
    refusals().iter().map(Refusal::problem).chain(without_refusal).collect()
}

#[test]
fn everything_wrong_with_a_credential_is_the_same_bytes() {
    for challenge in [None, Some(("5u4eJwjofPE7rR79S5eCeQ==", 30))] {
        let bodies: BTreeSet<Vec<u8>> =
            UNIFORM.iter().map(|refusal| refusal.problem().body("request-1", challenge)).collect();
        assert_eq!(bodies.len(), 1);
    }
    let tokens = [Refusal::TokenOrphaned, Refusal::TokensOff];
    let tokens = tokens.into_iter().chain(
        [TokenError::Form, TokenError::Key, TokenError::Seal, TokenError::Expired].map(Refusal::Token),
    );
    let bodies: BTreeSet<Vec<u8>> = tokens.map(|refusal| refusal.problem().body("request-1", None)).collect();
    assert_eq!(bodies.len(), 1);
}

/// An answer with its fresh challenge replaced: all that may differ between two of them.
fn comparable(answer: &Answer) -> (u16, String, String) {
    let body = String::from_utf8(answer.body.clone()).unwrap();
    let json: Value = serde_json::from_str(&body).unwrap();
    let challenge = json.get("challenge").and_then(Value::as_str).unwrap_or("there is none");
    let headers = answer.headers.iter().map(|(name, value)| format!("{name}: {}", value.to_str().unwrap()));
    let headers = headers.collect::<Vec<_>>().join("\n").replace(challenge, "*");
    (answer.status, headers, body.replace(challenge, "*"))
}

#[test]
fn on_a_protected_route_nobody_learns_whether_a_key_is_known() {
    let Pair { caller_key, server_key, reports_key, .. } = Pair::new();
    let keys = [
        (caller_key, Refusal::WrongSignature),
        (ApiKey::generate(&[9; 16]), Refusal::UnknownKey),
        (server_key, Refusal::OwnKey),
        (reports_key, Refusal::WrongProfile),
    ];
    let (mut knocks, mut answers) = (Vec::new(), Vec::new());
    for (key, refusal) in keys {
        let mut pair = Pair::new();
        let guess = SharedSecret::generate(&[8; 32]).mac_key();
        let credential = Credential::new(key, guess.clone(), pair.server_key.clone(), guess);
        let knocked = pair.server.protected(&guide1::knock(&credential), pair.now);
        let headers = guide1::answer(&credential, &knocked.incoming()).unwrap();
        let answer = pair.server.protected(&headers, pair.now);
        assert_eq!(answer.refusal, Some(refusal));
        knocks.push(comparable(&knocked));
        answers.push(comparable(&answer));
    }
    assert_eq!(knocks.iter().collect::<BTreeSet<_>>().len(), 1);
    assert_eq!(answers.iter().collect::<BTreeSet<_>>().len(), 1);
}

#[test]
fn every_problem_is_json_with_type_title_status_and_request_id() {
    for problem in problems() {
        let body: Value = serde_json::from_slice(&problem.body("request-1", None)).unwrap();
        let text = |name: &str| body.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
        assert_eq!(text("type"), format!("{TYPE_PREFIX}{}", problem.name()));
        assert_eq!(text("title"), problem.title());
        assert_eq!(body.get("status").and_then(Value::as_u64), Some(u64::from(problem.status())));
        assert_eq!(text("requestId"), "request-1");
        assert_eq!(body.get("detail").and_then(Value::as_str).map(str::to_owned), problem.detail());
        assert!(body.get("challenge").is_none() && body.get("expiresIn").is_none());
        let status = http::StatusCode::from_u16(problem.status()).unwrap();
        assert!(status.is_client_error() || status.is_server_error());
        let kebab = problem.name().bytes().all(|byte| byte.is_ascii_lowercase() || byte == b'-');
        assert!(kebab && !problem.title().is_empty(), "{problem:?}");
    }
}

#[test]
fn a_challenge_is_told_in_the_body_too() {
    let body = Problem::ChallengeRequired.body("request-1", Some(("5u4eJwjofPE7rR79S5eCeQ==", 30)));
    let body: Value = serde_json::from_slice(&body).unwrap();
    assert_eq!(body.get("challenge").and_then(Value::as_str), Some("5u4eJwjofPE7rR79S5eCeQ=="));
    assert_eq!(body.get("expiresIn").and_then(Value::as_u64), Some(30));
}

#[test]
fn the_trail_has_a_code_of_its_own_for_every_reason() {
    // `malformed` says the rest in words; what a limit counted is part of its code.
    let refusals: Vec<Refusal> =
        refusals().into_iter().filter(|refusal| !matches!(refusal, Refusal::Malformed(_))).collect();
    let codes: BTreeSet<&str> = refusals.iter().map(Refusal::code).collect();
    assert_eq!(codes.len(), refusals.len());
    let words: BTreeSet<String> =
        malformed().iter().map(|malformed| Refusal::Malformed(*malformed).to_string()).collect();
    assert_eq!(words.len(), malformed().len());
}

#[test]
fn guessing_replaying_and_forging_count_as_failures_and_being_early_late_or_clumsy_does_not() {
    let failures: Vec<&str> =
        refusals().iter().filter(|refusal| refusal.is_failure()).map(Refusal::code).collect();
    let expected = [
        "unknown-key",
        "credential-retired",
        "credential-revoked",
        "credential-compromised",
        "own-key",
        "wrong-profile",
        "wrong-signature",
        "nothing-outstanding",
        "challenge-foreign",
        "challenge-used",
    ];
    assert_eq!(failures.iter().collect::<BTreeSet<_>>(), expected.iter().collect::<BTreeSet<_>>());
}

#[test]
fn what_is_said_about_credentials_is_401_about_form_400_and_about_load_429_or_503() {
    for refusal in refusals() {
        let status = match refusal {
            Refusal::Malformed(_) | Refusal::TwoMethods | Refusal::UnsupportedProtocol => 400,
            Refusal::RateLimited { .. } | Refusal::TooManyChallenges { .. } => 429,
            Refusal::ReplayLogFull | Refusal::AuditUnavailable | Refusal::StoreStale => 503,
            _ => 401,
        };
        assert_eq!(refusal.problem().status(), status, "{refusal}");
    }
}

proptest! {
    #[test]
    fn no_request_id_or_challenge_breaks_the_json(id in any::<String>(), challenge in any::<String>(), seconds in any::<u64>()) {
        for problem in problems() {
            let body = problem.body(&id, Some((&challenge, seconds)));
            let body: Value = serde_json::from_slice(&body).unwrap();
            prop_assert_eq!(body.get("requestId").and_then(Value::as_str), Some(id.as_str()));
            prop_assert_eq!(body.get("challenge").and_then(Value::as_str), Some(challenge.as_str()));
            prop_assert_eq!(body.get("expiresIn").and_then(Value::as_u64), Some(seconds));
        }
    }
}
