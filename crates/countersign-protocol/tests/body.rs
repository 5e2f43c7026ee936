//! The bodies of the two endpoints: accepted exactly when a reader written by hand, for flat objects of
//! strings and nothing else, finds the right members.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

use std::iter::Peekable;
use std::str::Chars;

use countersign_protocol::refusal::{Malformed, Refusal};
use countersign_protocol::wire::MAX_BODY;
use countersign_protocol::wire::body::{AnyChallenge, read_authenticate, read_verify};
use countersign_protocol::{api_key, shared_secret};
use proptest::prelude::*;
use proptest::strategy::ValueTree as _;
use proptest::test_runner::TestRunner;

const KEY: &str = "csk_ODClY4BUu1V3HRJAKPOWYQ";
const HEX: &str = "4daeb3c73645165c4e60bd38e4b8e51ae9b74abae7badcb06752fcfc768c572f";
const GUIDE1: &str = "5u4eJwjofPE7rR79S5eCeQ==";
const GUIDE2: &str = "1678886400.12345abcde";

/// The members of a JSON object (RFC 8259) whose values are all strings; `None` for anything else.
fn flat_object(body: &[u8]) -> Option<Vec<(String, String)>> {
    let text = std::str::from_utf8(body).ok().filter(|text| text.len() <= 4096)?;
    let mut rest = text.chars().peekable();
    let mut members = Vec::new();
    expect(&mut rest, '{')?;
    space(&mut rest);
    if rest.next_if_eq(&'}').is_none() {
        loop {
            let name = string(&mut rest)?;
            expect(&mut rest, ':')?;
            members.push((name, string(&mut rest)?));
            space(&mut rest);
            match rest.next()? {
                ',' => {}
                '}' => break,
                _ => return None,
            }
        }
    }
    space(&mut rest);
    rest.next().is_none().then_some(members)
}

fn space(rest: &mut Peekable<Chars<'_>>) {
    while rest.next_if(|c| [' ', '\t', '\r', '\n'].contains(c)).is_some() {}
}

fn expect(rest: &mut Peekable<Chars<'_>>, wanted: char) -> Option<()> {
    space(rest);
    rest.next_if_eq(&wanted).map(|_| ())
}

fn string(rest: &mut Peekable<Chars<'_>>) -> Option<String> {
    expect(rest, '"')?;
    let mut units: Vec<u16> = Vec::new();
    loop {
        let c = match rest.next()? {
            '"' => return String::from_utf16(&units).ok(),
            '\\' => match rest.next()? {
                'u' => {
                    let digits: String = rest.by_ref().take(4).collect();
                    let hex = digits.len() == 4 && digits.chars().all(|c| c.is_ascii_hexdigit());
                    units.push(u16::from_str_radix(&digits, 16).ok().filter(|_| hex)?);
                    continue;
                }
                'b' => '\u{8}',
                'f' => '\u{c}',
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                same @ ('"' | '\\' | '/') => same,
                _ => return None,
            },
            control if control < ' ' => return None,
            other => other,
        };
        units.extend(c.encode_utf16(&mut [0; 2]).iter());
    }
}

/// The one value of a member; `Err` when it is there twice.
fn one<'a>(members: &'a [(String, String)], wanted: &str) -> Result<Option<&'a str>, ()> {
    let mut found = members.iter().filter(|(name, _)| name == wanted).map(|(_, value)| value.as_str());
    let first = found.next();
    if found.next().is_some() { Err(()) } else { Ok(first) }
}

fn known(members: &[(String, String)], names: &[&str]) -> bool {
    members.iter().all(|(name, _)| names.contains(&name.as_str()))
}

fn is_key(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && text.chars().all(|c| c.is_ascii_alphanumeric() || "+/=._~-".contains(c))
}

/// What `/authenticate` is to make of a body.
fn expected_authenticate(body: &[u8]) -> Result<Option<String>, ()> {
    if body.is_empty() {
        return Ok(None);
    }
    let members = flat_object(body).filter(|members| known(members, &["apiKey"])).ok_or(())?;
    match one(&members, "apiKey")? {
        Some(key) if is_key(key) => Ok(Some(key.to_owned())),
        Some(_) => Err(()),
        None => Ok(None),
    }
}

/// What `/verify_challenge` is to make of it: key, signature in lower case, challenge.
fn expected_verify(body: &[u8]) -> Result<(String, String, Option<String>), ()> {
    let names = ["apiKey", "challenge", "signedChallenge"];
    let members = flat_object(body).filter(|members| known(members, &names)).ok_or(())?;
    let key = one(&members, "apiKey")?.filter(|key| is_key(key)).ok_or(())?;
    let hex = |text: &&str| text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
    let signature = one(&members, "signedChallenge")?.filter(hex).ok_or(())?;
    let challenge = one(&members, "challenge")?;
    // Which texts have their forms is tested in `forms.rs`.
    let is_challenge = |text: &str| {
        text.parse::<shared_secret::Challenge>().is_ok() || text.parse::<api_key::Challenge>().is_ok()
    };
    if challenge.is_some_and(|text| !is_challenge(text)) {
        return Err(());
    }
    Ok((key.to_owned(), signature.to_lowercase(), challenge.map(str::to_owned)))
}

fn found_authenticate(body: &[u8]) -> Result<Option<String>, ()> {
    read_authenticate(body).map(|key| key.map(|key| key.expose().to_owned())).map_err(drop)
}

fn found_verify(body: &[u8]) -> Result<(String, String, Option<String>), ()> {
    let read = read_verify(body).map_err(drop)?;
    let challenge = read.challenge.map(|challenge| match challenge {
        AnyChallenge::SharedSecret(challenge) => challenge.to_string(),
        AnyChallenge::ApiKey(challenge) => challenge.to_string(),
    });
    Ok((read.api_key.expose().to_owned(), read.signature.to_hex(), challenge))
}

/// A JSON string of this text, each character as it is or escaped in one of the ways there are.
fn quoted(text: &'static str) -> impl Strategy<Value = String> {
    prop::collection::vec(0_u8..12, text.len()).prop_map(|ways| {
        let escaped = |(c, way): (char, u8)| match (way, c) {
            (0, c) => format!("\\u{:04x}", u32::from(c)),
            (1, c) => format!("\\u{:04X}", u32::from(c)),
            (2, '/') => "\\/".to_owned(),
            (_, c) => c.to_string(),
        };
        format!("\"{}\"", text.chars().zip(ways).map(escaped).collect::<String>())
    })
}

fn member() -> impl Strategy<Value = String> {
    let right = prop_oneof![
        (quoted("apiKey"), quoted(KEY)),
        (quoted("signedChallenge"), quoted(HEX)),
        (quoted("challenge"), prop_oneof![quoted(GUIDE1), quoted(GUIDE2)]),
    ];
    let name = prop::sample::select(vec!["apiKey", "apikey", "challenge", "signedChallenge", "extra", ""]);
    let value = prop::sample::select(vec![
        "\"short\"",
        "\"\"",
        "null",
        "true",
        "1",
        "[]",
        "{}",
        "\"é\"",
        "\"\\ud800\"",
    ]);
    let wrong = (name, value).prop_map(|(name, value)| (format!("\"{name}\""), value.to_owned()));
    let space = || "[ \t\r\n]{0,2}";
    (prop_oneof![12 => right, 1 => wrong], space(), space(), space(), space())
        .prop_map(|((name, value), a, b, c, d)| format!("{a}{name}{b}:{c}{value}{d}"))
}

/// An object of such members, and up to two bytes changed, put in or taken out.
fn body() -> impl Strategy<Value = Vec<u8>> {
    let edits = prop::collection::vec((any::<prop::sample::Index>(), 0_u8..3, any::<u8>()), 0..3);
    let edits = prop_oneof![2 => Just(Vec::new()), 1 => edits];
    (prop::collection::vec(member(), 0..4), "[ \t\r\n]{0,2}", edits).prop_map(|(members, space, edits)| {
        let mut body = format!("{space}{{{}}}{space}", members.join(",")).into_bytes();
        for (place, edit, byte) in edits {
            let place = place.index(body.len());
            match edit {
                0 => body[place] = byte,
                1 => body.insert(place, byte),
                _ => drop(body.remove(place)),
            }
        }
        body
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2_000))]

    #[test]
    fn authenticate_takes_exactly_the_grammar(body in body()) {
        prop_assert_eq!(found_authenticate(&body), expected_authenticate(&body));
    }

    #[test]
    fn verify_challenge_takes_exactly_the_grammar(body in body()) {
        prop_assert_eq!(found_verify(&body), expected_verify(&body));
    }

    #[test]
    fn arbitrary_bytes_are_refused_without_a_panic(body in prop::collection::vec(any::<u8>(), 0..300)) {
        prop_assert_eq!(found_authenticate(&body), expected_authenticate(&body));
        prop_assert_eq!(found_verify(&body), expected_verify(&body));
    }

    #[test]
    fn a_refusal_never_repeats_bytes_of_the_body(secret in "[A-Z]{12}", shape in 0_usize..5) {
        let body = match shape {
            0 => format!("{{\"{secret}\":1}}"),
            1 => format!("{{\"apiKey\":\"{secret}\"}}"),
            2 => format!("{{\"apiKey\":\"{KEY}\",\"signedChallenge\":\"{secret}\"}}"),
            3 => format!("{secret}{{"),
            _ => format!("{{\"apiKey\":{secret}}}"),
        };
        let shown = [read_authenticate(body.as_bytes()).map(drop), read_verify(body.as_bytes()).map(drop)];
        for refusal in shown.into_iter().filter_map(Result::err) {
            let shown = format!("{refusal} {refusal:?} {:?}", refusal.problem());
            prop_assert!(!shown.contains(&secret));
        }
    }
}

#[test]
fn the_generated_bodies_are_right_and_wrong_often_enough_to_mean_something() {
    let right = format!(r#"{{"apiKey":"{KEY}","challenge":"{GUIDE1}","signedChallenge":"{HEX}"}}"#);
    assert!(found_verify(right.as_bytes()).is_ok());
    let mut runner = TestRunner::deterministic();
    let count = |accepts: fn(&[u8]) -> bool, runner: &mut TestRunner| {
        (0..2_000).filter(|_| accepts(&body().new_tree(runner).unwrap().current())).count()
    };
    let authenticate = count(|body| read_authenticate(body).is_ok(), &mut runner);
    let verify = count(|body| read_verify(body).is_ok(), &mut runner);
    assert!((100..1_900).contains(&authenticate), "{authenticate} of 2000 accepted");
    assert!((50..1_900).contains(&verify), "{verify} of 2000 accepted");
}

#[test]
fn a_body_of_4096_bytes_is_read_and_one_more_is_not() {
    let body = format!("{:<width$}", format!("{{\"apiKey\":\"{KEY}\"}}"), width = MAX_BODY);
    assert!(read_authenticate(body.as_bytes()).is_ok());
    let longer = format!("{body} ");
    assert_eq!(read_authenticate(longer.as_bytes()).unwrap_err(), Malformed::BodyTooLarge.into());
}

#[test]
fn a_body_that_names_a_protocol_is_told_that_it_is_not_spoken() {
    for body in [
        format!(r#"{{"protocol":"cs1","apiKey":"{KEY}","nonce":"x"}}"#),
        format!(r#"{{"apiKey":"{KEY}","signedChallenge":"{HEX}","protocol":null}}"#),
    ] {
        assert_eq!(read_authenticate(body.as_bytes()).unwrap_err(), Refusal::UnsupportedProtocol, "{body}");
        assert_eq!(read_verify(body.as_bytes()).unwrap_err(), Refusal::UnsupportedProtocol, "{body}");
    }
}

#[test]
fn every_optional_member_is_text_when_it_is_there() {
    let body = format!(r#"{{"apiKey":"{KEY}","signedChallenge":"{HEX}","challenge":null}}"#);
    assert!(matches!(read_verify(body.as_bytes()), Err(Refusal::Malformed(Malformed::BodyMembers { .. }))));
    assert!(read_authenticate(br#"{"apiKey":null}"#).is_err());
}
