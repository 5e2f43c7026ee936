//! The bodies of the two endpoints: accepted exactly when `serde_json`, asked for nothing but the members, finds the
//! right ones once.

use std::fmt;

use countersign_protocol::refusal::{Malformed, Refusal};
use countersign_protocol::wire::MAX_BODY;
use countersign_protocol::wire::body::{AnyChallenge, read_authenticate, read_verify};
use serde::de::{Deserialize, Deserializer, MapAccess, Visitor};
use serde_json::Value;

use crate::challenges::{is_guide1, is_guide2};
use crate::identity::{is_api_key, is_signature};
use crate::input;

/// The members of a JSON object in order, repeated ones too.
pub(crate) struct Members(pub(crate) Vec<(String, Value)>);

impl<'de> Deserialize<'de> for Members {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct Reader;
        impl<'de> Visitor<'de> for Reader {
            type Value = Members;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Members, A::Error> {
                let mut members = Vec::new();
                while let Some(member) = map.next_entry()? {
                    members.push(member);
                }
                Ok(Members(members))
            }
        }
        from.deserialize_map(Reader)
    }
}

/// The members, all of them strings, each known and there once at most.
pub(crate) fn strings(body: &[u8], names: &[&str]) -> Option<Vec<(String, String)>> {
    if body.len() > MAX_BODY {
        return None;
    }
    let Members(members) = serde_json::from_slice(body).ok()?;
    let mut found: Vec<(String, String)> = Vec::new();
    for (name, value) in members {
        let Value::String(text) = value else { return None };
        if !names.contains(&name.as_str()) || found.iter().any(|(before, _)| *before == name) {
            return None;
        }
        found.push((name, text));
    }
    Some(found)
}

pub(crate) fn member<'a>(members: &'a [(String, String)], name: &str) -> Option<&'a str> {
    members.iter().find(|(found, _)| found == name).map(|(_, text)| text.as_str())
}

/// A refusal is about form, points into the body, and repeats nothing of it.
fn assert_refusal(refusal: Refusal, body: &[u8]) {
    match refusal {
        Refusal::Malformed(
            Malformed::BodySyntax { line, column } | Malformed::BodyMembers { line, column },
        ) => {
            let lines: Vec<&[u8]> = body.split(|byte| *byte == b'\n').collect();
            // The parser stands behind the line's end when it misses something there.
            let length = lines[line - 1].len();
            assert!(column <= length + 1, "line {line}, column {column}, but its length is {length}");
        }
        Refusal::UnsupportedProtocol => {
            // What is passed over may hold what `serde_json` would not keep, a number beyond all bounds for one.
            if let Ok(Members(members)) = serde_json::from_slice(body) {
                assert!(members.iter().any(|(name, _)| name == "protocol"));
            }
        }
        Refusal::Malformed(_) => {}
        other => panic!("a body is not refused as {other:?}"),
    }
    input::assert_printable(&refusal.to_string());
    assert_eq!(refusal.problem().status(), 400);
    assert!(!refusal.is_failure());
}

pub(crate) fn authenticate_body(body: &[u8]) {
    let expected = if body.is_empty() {
        Some(None)
    } else {
        strings(body, &["apiKey"]).map(|members| member(&members, "apiKey").map(str::to_owned))
    };
    let expected = expected.filter(|key| key.as_deref().is_none_or(is_api_key));
    match read_authenticate(body) {
        Ok(found) => assert_eq!(expected, Some(found.map(|key| key.expose().to_owned()))),
        Err(refusal) => {
            assert_eq!(expected, None);
            assert_refusal(refusal, body);
        }
    }
}

pub(crate) fn verify_body(body: &[u8]) {
    let members = strings(body, &["apiKey", "challenge", "signedChallenge"]);
    let expected = members.as_ref().and_then(|members| {
        let key = member(members, "apiKey").filter(|key| is_api_key(key))?;
        let signature = member(members, "signedChallenge").filter(|text| is_signature(text))?;
        let challenge = member(members, "challenge");
        let fits = challenge.is_none_or(|text| is_guide1(text) || is_guide2(text));
        fits.then(|| (key.to_owned(), signature.to_ascii_lowercase(), challenge.map(str::to_owned)))
    });
    match read_verify(body) {
        Ok(found) => {
            let challenge = found.challenge.map(|challenge| match challenge {
                AnyChallenge::SharedSecret(challenge) => challenge.to_string(),
                AnyChallenge::ApiKey(challenge) => challenge.to_string(),
            });
            let found = (found.api_key.expose().to_owned(), found.signature.to_hex(), challenge);
            assert_eq!(expected, Some(found));
        }
        Err(refusal) => {
            assert_eq!(expected, None);
            assert_refusal(refusal, body);
        }
    }
}
