//! Both guides from end to end in virtual time, and what either end does when the other one cheats.

#![allow(clippy::unwrap_used, reason = "tests")]

use countersign_protocol::api_key::{self, MAX_OUTSTANDING};
use countersign_protocol::identity::{ApiKey, Profile};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::client::{self as guide1, Credential};
use countersign_protocol::shared_secret::{Challenge, sign};
use countersign_protocol::token::{MAX_LIFETIME, TokenError};
use countersign_protocol::wire::Outgoing;
use countersign_protocol::wire::header::{X_API_KEY, X_CLIENT_CHALLENGE, X_SIGNATURE};
use countersign_protocol::wire::reply::ReplyError;
use countersign_testkit::pair::Pair;
use countersign_testkit::server::Answer;
use http::{HeaderMap, HeaderValue};

#[test]
fn every_flow_ends_in_a_token_that_opens_protected_routes_until_it_expires() {
    let mut pair = Pair::new();
    let (credential, reports) = (pair.credential(), pair.reports_key.clone());
    let sessions = [
        ("billing", pair.on_the_endpoints(&credential, false).unwrap()),
        ("billing", pair.on_the_endpoints(&credential, true).unwrap()),
        ("reports", pair.with_an_api_key(&reports).unwrap()),
    ];
    for seconds in [0, MAX_LIFETIME - 1] {
        pair.wait(seconds);
        for (caller, session) in &sessions {
            assert_eq!(session.expires_in, Some(MAX_LIFETIME));
            let answer = pair.with_the_token(session);
            assert_eq!((answer.status, answer.body.as_slice()), (200, caller.as_bytes()));
        }
    }
    pair.wait(1);
    for (_, session) in &sessions {
        let refusal = pair.with_the_token(session).refusal;
        assert_eq!(refusal, Some(Refusal::Token(TokenError::Expired)));
    }
}

#[test]
fn a_protected_route_challenges_the_key_and_takes_the_answer() {
    let mut pair = Pair::new();
    let answer = pair.on_a_protected_route(&pair.credential()).unwrap();
    assert_eq!((answer.status, answer.body.as_slice()), (200, b"billing".as_slice()));
}

#[test]
fn every_live_secret_of_a_key_is_accepted_during_a_rotation() {
    let mut pair = Pair::new();
    let key = ApiKey::generate(&[3; 16]);
    let secrets: [SharedSecret; 3] = std::array::from_fn(|_| SharedSecret::generate(&pair.random.bytes()));
    let [first, second, third] = &secrets;
    pair.server.add(
        &"rotating".parse().unwrap(),
        Profile::SharedSecret,
        key.clone(),
        &[first, second, third],
    );
    for (number, secret) in (1..).zip(&secrets) {
        let theirs = pair.server_secret.mac_key();
        let credential = Credential::new(key.clone(), secret.mac_key(), pair.server_key.clone(), theirs);
        let session = pair.on_the_endpoints(&credential, true).unwrap();
        let claims = pair.server.open(session.token.unwrap().expose(), pair.now).unwrap();
        assert_eq!(claims.credential.to_string(), format!("rotating/{number}"));
    }
}

#[test]
fn an_answer_sent_again_is_refused() {
    let mut pair = Pair::new();
    let credential = pair.credential();
    let knocked = pair.server.protected(&guide1::knock(&credential), pair.now);
    let headers = guide1::answer(&credential, &knocked.incoming()).unwrap();
    assert_eq!(pair.server.protected(&headers, pair.now).status, 200);
    for _ in 0..40 {
        let refusal = pair.server.protected(&headers, pair.now).refusal.unwrap();
        assert!(matches!(refusal, Refusal::ChallengeUsed | Refusal::ChallengeExpired), "{refusal}");
        pair.wait(1);
    }

    let key = pair.reports_key.clone();
    let (request, waiting) = api_key::client::start(&key);
    let (request, _) = waiting.receive(&pair.post(&request).incoming()).unwrap();
    assert_eq!(pair.post(&request).status, 200);
    assert_eq!(pair.post(&request).refusal, Some(Refusal::WrongSignature));
}

#[test]
fn a_challenge_can_be_answered_for_30_seconds() {
    for (seconds, status) in [(0, 200), (30, 200), (31, 401), (255, 401), (256, 401), (10_000, 401)] {
        let mut pair = Pair::new();
        let credential = pair.credential();
        let knocked = pair.server.protected(&guide1::knock(&credential), pair.now);
        let headers = guide1::answer(&credential, &knocked.incoming()).unwrap();
        let key = pair.reports_key.clone();
        let (request, waiting) = api_key::client::start(&key);
        let (request, _) = waiting.receive(&pair.post(&request).incoming()).unwrap();
        pair.wait(seconds);
        assert_eq!(pair.server.protected(&headers, pair.now).status, status, "guide 1, {seconds} s");
        assert_eq!(pair.post(&request).status, status, "guide 2, {seconds} s");
    }
}

/// A genuine answer to `/verify_challenge` of guide 1 with the server's proof, and the state that waits for it.
fn proven<'a>(pair: &mut Pair, credential: &'a Credential) -> (Answer, guide1::AwaitVerdict<'a>, Challenge) {
    let client_challenge = pair.random.bytes();
    let (request, waiting) = guide1::start(credential, Some(client_challenge));
    let (request, waiting) = waiting.receive(&pair.post(&request).incoming()).unwrap();
    let answer = pair.post(&request);
    assert_eq!(answer.status, 200);
    (answer, waiting, Challenge::from_bytes(client_challenge))
}

#[test]
fn a_server_that_does_not_prove_itself_gets_no_session() {
    type Cheat = fn(&Pair, &Challenge, &mut HeaderMap);
    fn set(headers: &mut HeaderMap, key: &ApiKey, signature: &str) {
        headers.insert(X_API_KEY, HeaderValue::from_str(key.expose()).unwrap());
        headers.insert(X_SIGNATURE, HeaderValue::from_str(signature).unwrap());
    }
    let cheats: [(&str, Cheat, ReplyError); 12] = [
        ("no key", |_, _, headers| drop(headers.remove(X_API_KEY)), ReplyError::ServerUnproven),
        ("no signature", |_, _, headers| drop(headers.remove(X_SIGNATURE)), ReplyError::ServerUnproven),
        ("neither", |_, _, headers| headers.clear(), ReplyError::ServerUnproven),
        (
            "the same key twice",
            |_, _, headers| {
                let key = headers.get(X_API_KEY).unwrap().clone();
                headers.append(X_API_KEY, key);
            },
            ReplyError::ServerImpostor,
        ),
        (
            "the same signature twice",
            |_, _, headers| {
                let signature = headers.get(X_SIGNATURE).unwrap().clone();
                headers.append(X_SIGNATURE, signature);
            },
            ReplyError::ServerImpostor,
        ),
        (
            "another key with the signature of that key",
            |pair, challenge, headers| {
                let key = ApiKey::generate(&[9; 16]);
                set(headers, &key, &sign(&pair.server_secret.mac_key(), &key, challenge).to_hex());
            },
            ReplyError::ServerImpostor,
        ),
        (
            "another key beside the right signature",
            |_, _, headers| {
                let key = ApiKey::generate(&[9; 16]);
                headers.insert(X_API_KEY, HeaderValue::from_str(key.expose()).unwrap());
            },
            ReplyError::ServerImpostor,
        ),
        (
            "a wrong signature",
            |pair, _, headers| {
                set(headers, &pair.server_key, &"00".repeat(32));
            },
            ReplyError::ServerImpostor,
        ),
        (
            "no hexadecimal",
            |pair, _, headers| set(headers, &pair.server_key, "sign"),
            ReplyError::ServerImpostor,
        ),
        (
            "the caller's own proof",
            |pair, challenge, headers| {
                let proof = sign(&pair.caller_secret.mac_key(), &pair.caller_key, challenge);
                set(headers, &pair.caller_key, &proof.to_hex());
            },
            ReplyError::ServerImpostor,
        ),
        (
            "the caller's proof under the server's key",
            |pair, challenge, headers| {
                let proof = sign(&pair.caller_secret.mac_key(), &pair.caller_key, challenge);
                set(headers, &pair.server_key, &proof.to_hex());
            },
            ReplyError::ServerImpostor,
        ),
        (
            "a proof for another challenge",
            |pair, _, headers| {
                let other = Challenge::from_bytes([0; 16]);
                let proof = sign(&pair.server_secret.mac_key(), &pair.server_key, &other);
                set(headers, &pair.server_key, &proof.to_hex());
            },
            ReplyError::ServerImpostor,
        ),
    ];
    for (name, cheat, expected) in cheats {
        let mut pair = Pair::new();
        let credential = pair.credential();
        let (mut answer, waiting, challenge) = proven(&mut pair, &credential);
        cheat(&pair, &challenge, &mut answer.headers);
        assert_eq!(waiting.receive(&answer.incoming()).unwrap_err(), expected, "{name}");
    }
    let mut pair = Pair::new();
    let credential = pair.credential();
    let (answer, waiting, _) = proven(&mut pair, &credential);
    assert!(waiting.receive(&answer.incoming()).is_ok());
}

#[test]
fn a_server_that_may_go_unproven_may_still_not_prove_itself_wrongly() {
    for (signature, expected) in [(None, Ok(())), (Some("00".repeat(32)), Err(ReplyError::ServerImpostor))] {
        let mut pair = Pair::new();
        let credential = pair.credential();
        let (mut answer, waiting, _) = proven(&mut pair, &credential);
        match signature {
            None => answer.headers.clear(),
            Some(signature) => {
                answer.headers.insert(X_SIGNATURE, HeaderValue::from_str(&signature).unwrap());
            }
        }
        let received = waiting.danger_accept_unproven_server().receive(&answer.incoming());
        assert_eq!(received.map(drop), expected);
    }
}

#[test]
fn a_client_does_not_sign_its_own_challenge_for_the_server() {
    let pair = Pair::new();
    let credential = pair.credential();
    let reflected = Challenge::from_bytes([5; 16]);
    let (_, waiting) = guide1::start(&credential, Some([5; 16]));
    let body = format!(r#"{{"challenge":"{reflected}"}}"#);
    let answer = Answer { status: 200, headers: HeaderMap::new(), body: body.into(), refusal: None };
    assert_eq!(waiting.receive(&answer.incoming()).unwrap_err(), ReplyError::ForeignShape);
}

/// The second request of guide 1 from somebody with this secret, with a challenge to the server in it.
fn answered(pair: &mut Pair, credential: &Credential) -> Outgoing {
    let (request, waiting) = guide1::start(credential, Some([6; 16]));
    let (request, _) = waiting.receive(&pair.post(&request).incoming()).unwrap();
    assert!(request.headers.contains_key(X_CLIENT_CHALLENGE));
    request
}

#[test]
fn a_server_proves_itself_to_nobody_whose_own_signature_did_not_verify() {
    let mut pair = Pair::new();
    let stranger = SharedSecret::generate(&[8; 32]).mac_key();
    let key = pair.server_key.clone();
    let credential = Credential::new(pair.caller_key.clone(), stranger.clone(), key, stranger);
    let genuine = pair.credential();
    let wrong = answered(&mut pair, &credential);
    let right = answered(&mut pair, &genuine);
    let fresh = pair.post(&right);
    assert!(fresh.headers.contains_key(X_SIGNATURE));
    let replayed = pair.post(&right);
    let late = answered(&mut pair, &genuine);
    pair.wait(31);
    for (answer, expected) in [
        (pair.post(&wrong), Refusal::ChallengeExpired),
        (replayed, Refusal::ChallengeUsed),
        (pair.post(&late), Refusal::ChallengeExpired),
    ] {
        assert_eq!(answer.refusal, Some(expected));
        assert!(!answer.headers.contains_key(X_SIGNATURE) && !answer.headers.contains_key(X_API_KEY));
    }
    let wrong = answered(&mut pair, &credential);
    let answer = pair.post(&wrong);
    assert_eq!(answer.refusal, Some(Refusal::WrongSignature));
    assert!(!answer.headers.contains_key(X_SIGNATURE) && !answer.headers.contains_key(X_API_KEY));
}

#[test]
fn a_wrong_signature_burns_nothing() {
    let mut pair = Pair::new();
    let credential = pair.credential();
    let right = answered(&mut pair, &credential);
    let text = String::from_utf8(right.body.to_vec()).unwrap();
    let (start, signature) = text.split_at(text.len() - 66);
    let wrong = format!("{start}{}", signature.replace(|c: char| c.is_ascii_hexdigit(), "0"));
    let wrong = Outgoing { path: right.path, headers: HeaderMap::new(), body: wrong.into_bytes().into() };
    assert_eq!(pair.post(&wrong).refusal, Some(Refusal::WrongSignature));
    assert!(pair.server.burned.is_empty());
    assert_eq!(pair.post(&right).status, 200);
    assert_eq!(pair.server.burned.len(), 1);
}

#[test]
fn the_key_in_a_request_is_marked_so_that_nothing_logs_or_compresses_it() {
    let pair = Pair::new();
    assert!(guide1::knock(&pair.credential()).get(X_API_KEY).unwrap().is_sensitive());
}

#[test]
fn guide_2_answers_in_any_order_take_away_only_what_they_answer() {
    let mut pair = Pair::new();
    let key = pair.reports_key.clone();
    let mut requests: Vec<Outgoing> = Vec::new();
    for _ in 0..MAX_OUTSTANDING {
        let (request, waiting) = api_key::client::start(&key);
        requests.push(waiting.receive(&pair.post(&request).incoming()).unwrap().0);
    }
    pair.wait(10);
    let full = pair.post(&api_key::client::start(&key).0);
    assert_eq!((full.status, full.refusal), (429, Some(Refusal::TooManyChallenges { retry_after: 21 })));
    requests.reverse();
    for request in &requests {
        assert_eq!(pair.post(request).status, 200);
        assert_eq!(pair.post(request).refusal, Some(Refusal::WrongSignature));
    }
}

#[test]
fn a_challenge_repeated_in_guide_2_has_to_be_the_one_that_was_signed() {
    for (right, status) in [(true, 200), (false, 401)] {
        let mut pair = Pair::new();
        let key = pair.reports_key.clone();
        let (request, waiting) = api_key::client::start(&key);
        let answer = pair.post(&request);
        let challenge = String::from_utf8(answer.body.clone()).unwrap();
        let challenge = challenge.split('"').nth(3).unwrap();
        let echo = if right { challenge } else { "1678886400.12345abcde" };
        let (mut request, _) = waiting.receive(&answer.incoming()).unwrap();
        let body = String::from_utf8(request.body.to_vec()).unwrap();
        request.body = body.replacen('{', &format!(r#"{{"challenge":"{echo}","#), 1).into_bytes().into();
        assert_eq!(pair.post(&request).status, status, "{echo}");
    }
}
