//! `cs1`: the bodies of its handshake, its challenges, and its signed messages, whose fast reader is held against the
//! general part of RFC 9421.

use countersign_httpsig::{
    self as httpsig, FieldTypes, HmacSha256, Message, SigningKey as _, Target, signature_base, signatures,
};
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::nonce::NonceIssuer;
use countersign_protocol::cs1::request::{Claimed, RequestParts};
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::cs1::{Challenge, Policy};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::wire::MAX_BODY;
use countersign_protocol::wire::cs1::{read_hello, read_proof};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::identity::is_api_key;
use crate::input;
use crate::requests::{member, strings};

const KEY: [u8; 32] = [7; 32];
const NOW: UnixTime = UnixTime(1_800_000_000);

/// 32 bytes in canonical base64url without padding: 43 characters, of which the last one has two bits to spare.
pub(crate) fn is_bytes(text: &str) -> bool {
    text.len() == 43
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
        && text.ends_with(|last| "AEIMQUYcgkosw048".contains(last))
}

fn is_challenge(text: &str) -> bool {
    let Some((time, rest)) = text.split_once('.') else { return false };
    time.len() == 10
        && time.bytes().all(|byte| byte.is_ascii_digit())
        && !time.starts_with('0')
        && (16..=128).contains(&rest.len())
        && rest.bytes().all(|byte| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_'))
}

pub(crate) fn challenge(input: &[u8]) {
    let text = input::text(input);
    let read = text.parse::<Challenge>();
    assert_eq!(read.is_ok(), is_challenge(&text));
    if let Ok(challenge) = read {
        assert_eq!(challenge.as_str(), text);
        assert_eq!(challenge.time().0.to_string(), text[..10]);
    }
}

/// M1 and M3: taken exactly when `serde_json` finds the right members, once each.
pub(crate) fn bodies(input: &[u8]) {
    assert!(input.len() <= MAX_BODY || read_hello(input).is_err());
    let is_hello = |members: &[(String, String)]| {
        let of = |name| member(members, name);
        of("protocol") == Some("cs1")
            && ["apiKey", "peerKey"].iter().all(|name| of(name).is_some_and(is_api_key))
            && ["nonce", "ephemeral"].iter().all(|name| of(name).is_some_and(is_bytes))
            && matches!(of("binding"), Some("none" | "tls-exporter"))
    };
    let names = ["protocol", "apiKey", "peerKey", "nonce", "ephemeral", "binding"];
    let members = strings(input, &names);
    assert_eq!(read_hello(input).is_ok(), members.is_some_and(|members| is_hello(&members)));
    let more: Vec<&str> = names.iter().copied().chain(["challenge", "signedChallenge"]).collect();
    let members = strings(input, &more);
    let is_proof = |members: Vec<(String, String)>| {
        is_hello(&members)
            && member(&members, "challenge").is_some_and(is_challenge)
            && member(&members, "signedChallenge").is_some_and(is_bytes)
    };
    assert_eq!(read_proof(input).is_ok(), members.is_some_and(is_proof));
}

/// The fields of a message. What they say of a signature is signed by the general part, if it can make a base of it:
/// then the fast reader refuses for a reason of the profile, or accepts. It never finds another base.
fn sign_by_the_general_part(fields: &mut HeaderMap, message: impl Fn(&HeaderMap) -> Option<String>) -> bool {
    let dummy = format!("cs=:{}=:", "A".repeat(43));
    fields.insert("signature", HeaderValue::try_from(dummy).unwrap());
    let Some(base) = message(fields) else { return false };
    let signature = HmacSha256::new(&KEY).unwrap().sign(base.as_bytes());
    use base64::Engine as _;
    let encoded = base64::engine::general_purpose::STANDARD.encode(signature);
    fields.insert("signature", HeaderValue::try_from(format!("cs=:{encoded}:")).unwrap());
    true
}

const TARGET: Target<'static> = Target::origin("https", "orders.example", "/invoices", Some("page=2"));

fn general_request(fields: &HeaderMap) -> httpsig::Request<'_> {
    httpsig::Request { method: "POST", target: TARGET, fields, trailers: None }
}

fn parts(fields: &HeaderMap) -> RequestParts<'_> {
    RequestParts {
        method: "POST",
        authority: "orders.example",
        path: "/invoices",
        query: Some("page=2"),
        fields,
    }
}

fn only(fields: &HeaderMap) -> Option<httpsig::Claimed> {
    let mut claimed = signatures(fields).ok()?;
    if claimed.len() == 1 { claimed.pop().filter(|one| one.label == "cs") } else { None }
}

pub(crate) fn request(input: &[u8]) {
    let mut fields = input::headers(input);
    let signed = sign_by_the_general_part(&mut fields, |fields| {
        let claimed = only(fields)?;
        signature_base(&Message::Request(general_request(fields)), &claimed.input, &FieldTypes::standard())
            .ok()
    });
    let Ok(Some(claimed)) = Claimed::read(&fields) else { return };
    let issuer = NonceIssuer::new(&Zeroizing::new([3; 32]));
    let policy = Policy::at(NOW).with_nonces(&issuer);
    let verified = claimed.verify(&MacKey::new(&KEY), &parts(&fields), policy);
    // The general part joins cookies in pieces as it joins all fields.
    let crumbs = fields.get_all("cookie").iter().count() > 1;
    match verified {
        Ok(_) => assert!(signed, "accepted, and the general part has no base for it"),
        Err(Refusal::WrongSignature) => assert!(!signed || crumbs, "two bases for one message"),
        Err(_) => {}
    }
}

pub(crate) fn response(input: &[u8]) {
    let (asked, answered) = input::two(input);
    let asked = input::headers(asked);
    let mut fields = input::headers(answered);
    let signed = sign_by_the_general_part(&mut fields, |fields| {
        let claimed = only(fields)?;
        let message = Message::Response(httpsig::Response {
            status: 200,
            fields,
            trailers: None,
            request: Some(general_request(&asked)),
        });
        signature_base(&message, &claimed.input, &FieldTypes::standard()).ok()
    });
    let parts = ResponseParts { status: 200, fields: &fields, request: parts(&asked) };
    match response::verify(&MacKey::new(&KEY), &parts) {
        Ok(_) => assert!(signed, "accepted, and the general part has no base for it"),
        Err(Refusal::WrongSignature) => assert!(!signed, "two bases for one message"),
        Err(_) => {}
    }
}
