//! Messages for the tests of `cs1`: one target, one session, one pair.

#![allow(dead_code, reason = "each test file takes what it needs")]

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::request::{Instructions, Nonce, RequestParts, SigningAs, sign_as};
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::cs1::{KeyName, PairKeys};
use countersign_protocol::mac::MacKey;
use http::{HeaderMap, HeaderName, HeaderValue};

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const KEY: [u8; 32] = [7; 32];
pub(crate) const ANSWER_KEY: [u8; 32] = [9; 32];
pub(crate) const TICKET: KeyName<'static> =
    KeyName::Ticket("cst.AAAA_BBBB-CCCCAAAA_BBBB-CCCCAAAA_BBBB-CCCCAAAA_BBBB-CCCC");
pub(crate) const CLIENT: &str = "csk_AAAAAAAAAAAAAAAAAAAAAA";
pub(crate) const SERVER: &str = "csk_BBBBBBBBBBBBBBBBBBBBBB";
pub(crate) const DIRECT: KeyName<'static> = KeyName::Direct { client: CLIENT, server: SERVER };

pub(crate) fn key() -> MacKey {
    MacKey::new(&KEY)
}

pub(crate) fn answer_key() -> MacKey {
    MacKey::new(&ANSWER_KEY)
}

pub(crate) fn pair() -> PairKeys {
    let secret = "css_Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3A".parse().unwrap();
    PairKeys::derive(&secret, &CLIENT.parse().unwrap(), &SERVER.parse().unwrap())
}

pub(crate) fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    fields
}

pub(crate) fn parts(fields: &HeaderMap) -> RequestParts<'_> {
    RequestParts {
        method: "POST",
        authority: "orders.example",
        path: "/invoices",
        query: Some("page=2"),
        fields,
    }
}

pub(crate) fn answer_parts<'a>(request: &'a HeaderMap, fields: &'a HeaderMap) -> ResponseParts<'a> {
    ResponseParts { status: 200, fields, request: parts(request) }
}

/// What is signed under this name, at this time.
pub(crate) fn signing<'a>(key: &'a MacKey, name: KeyName<'a>) -> SigningAs<'a> {
    let nonce = Nonce::Random(std::array::from_fn(|index| u8::try_from(index).unwrap()));
    SigningAs { key, name, now: NOW, window: 20, nonce }
}

fn with(fields: &mut HeaderMap, instructions: &Instructions) {
    fields.insert("signature-input", instructions.signature_input.clone());
    fields.insert("signature", instructions.signature.clone());
}

/// A signed request, and what else signing gave.
pub(crate) fn signed_as(signing: &SigningAs<'_>, lines: &[(&str, &str)]) -> (HeaderMap, Instructions) {
    let mut fields = headers(lines);
    let instructions = sign_as(signing, &parts(&fields)).unwrap();
    with(&mut fields, &instructions);
    (fields, instructions)
}

/// A signed request of a session.
pub(crate) fn signed(lines: &[(&str, &str)]) -> (HeaderMap, Instructions) {
    signed_as(&signing(&key(), TICKET), lines)
}

/// A signed response.
pub(crate) fn answered(request: &HeaderMap, lines: &[(&str, &str)]) -> (HeaderMap, Instructions) {
    let mut fields = headers(lines);
    let instructions = response::sign(&answer_key(), &answer_parts(request, &fields), NOW).unwrap();
    with(&mut fields, &instructions);
    (fields, instructions)
}
