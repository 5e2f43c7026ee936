//! Streams of `cs1` (section 8 of `specs/cs1.md`): content whose MAC comes behind it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use countersign_protocol::cs1::content::{ContentRule, content_digest};
use countersign_protocol::cs1::request::{self, Claimed, RequestParts};
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::cs1::stream::StreamSigner;
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;
use support::*;

const STREAM: (&str, &str) = ("countersign-body", "stream");
const MAC: &str = "countersign-body-mac";

fn rule_of(fields: &HeaderMap) -> Result<ContentRule, Refusal> {
    let claimed = Claimed::read(fields)?.unwrap();
    let verified = claimed.verify(&key(), &parts(fields), NOW)?.claim(&[0; 16], |_, _| Ok(()))?;
    Ok(verified.keep().content)
}

/// The trailers of a stream with this content, our own among them.
fn ended(mut signer: Box<StreamSigner>, content: &[&[u8]], others: &[(&str, &str)]) -> HeaderMap {
    content.iter().for_each(|piece| signer.update(piece));
    let mut trailers = headers(others);
    trailers.insert(MAC, signer.finish(&trailers).unwrap());
    trailers
}

fn finish(rule: &ContentRule, content: &[&[u8]], trailers: Option<&HeaderMap>) -> Result<(), Refusal> {
    let mut check = rule.check();
    content.iter().for_each(|piece| check.update(piece));
    check.finish_with(trailers)
}

/// CS-38.
#[test]
fn a_stream_is_taken_in_whatever_pieces_with_the_trailer_that_its_signer_gives() {
    let (fields, made) = signed(&[STREAM]);
    let rule = rule_of(&fields).unwrap();
    assert!(matches!(rule, ContentRule::Stream(_)));
    let trailers = ended(made.stream.unwrap(), &[b"ab", b"", b"c"], &[]);
    assert_eq!(finish(&rule, &[b"abc"], Some(&trailers)), Ok(()));
    assert_eq!(finish(&rule, &[b"a", b"bc", b""], Some(&trailers)), Ok(()));
    for wrong in [&[&b"abd"[..]][..], &[b"ab"], &[b"abc", b"\0"], &[], &[b"acb"]] {
        assert_eq!(finish(&rule, wrong, Some(&trailers)), Err(Refusal::DigestMismatch));
    }
}

/// CS-38, in the other direction.
#[test]
fn a_response_can_be_a_stream_and_its_trailer_is_of_no_other_message() {
    let (asked, made) = signed(&[STREAM]);
    let (answer, answer_made) = answered(&asked, &[STREAM]);
    let rule = response::verify(&answer_key(), &answer_parts(&asked, &answer)).unwrap().keep().content;
    let trailers = ended(answer_made.stream.unwrap(), &[b"abc"], &[]);
    assert_eq!(finish(&rule, &[b"abc"], Some(&trailers)), Ok(()));
    let of_the_request = ended(made.stream.unwrap(), &[b"abc"], &[]);
    assert_eq!(finish(&rule, &[b"abc"], Some(&of_the_request)), Err(Refusal::DigestMismatch));
    let (_, again) = answered(&asked, &[STREAM, ("x-a", "1")]);
    let of_another = ended(again.stream.unwrap(), &[b"abc"], &[]);
    assert_eq!(finish(&rule, &[b"abc"], Some(&of_another)), Err(Refusal::DigestMismatch));
}

#[test]
fn only_a_message_that_announces_a_stream_gives_the_means_to_end_one() {
    assert!(signed(&[]).1.stream.is_none());
    let digest = content_digest(b"{}").unwrap();
    assert!(signed(&[("content-digest", digest.to_str().unwrap())]).1.stream.is_none());
    let (asked, made) = signed(&[STREAM]);
    assert!(made.stream.is_some());
    assert!(answered(&asked, &[]).1.stream.is_none());
}

/// CS-38: missing, cut off, doubled, not canonical.
#[test]
fn a_stream_without_its_one_right_trailer_is_refused() {
    let (fields, made) = signed(&[STREAM]);
    let rule = rule_of(&fields).unwrap();
    let good = ended(made.stream.unwrap(), &[b"abc"], &[]);
    let refused = |trailers: Option<&HeaderMap>| finish(&rule, &[b"abc"], trailers).unwrap_err();
    assert_eq!(refused(None), Refusal::DigestMismatch);
    assert_eq!(refused(Some(&HeaderMap::new())), Refusal::DigestMismatch);
    let mut check = rule.check();
    check.update(b"abc");
    assert_eq!(check.finish(), Err(Refusal::DigestMismatch), "nobody asked for trailers");
    let mut twice = good.clone();
    twice.append(MAC, good[MAC].clone());
    assert_eq!(refused(Some(&twice)), Refusal::DigestMismatch);
    let text = good[MAC].to_str().unwrap();
    assert_eq!(text.len(), 43);
    let last = text.chars().last().unwrap();
    // The next letter differs in the two bits that 43 characters have to spare.
    let next = char::from(u8::try_from(last).unwrap() + 1);
    for wrong in [
        format!("{text}="),
        format!("{}{next}", &text[..42]),
        format!("\"{text}\""),
        format!("{text}A"),
        text[..42].to_owned(),
        String::new(),
    ] {
        assert_eq!(refused(Some(&headers(&[(MAC, &wrong)]))), Refusal::DigestMismatch, "{wrong}");
    }
}

/// CS-52.
#[test]
fn every_other_trailer_is_covered_once_for_each_of_its_lines_and_in_their_order() {
    let (fields, made) = signed(&[STREAM]);
    let rule = rule_of(&fields).unwrap();
    let good = ended(made.stream.unwrap(), &[b"abc"], &[("x-b", "1"), ("x-a", " 2 "), ("x-b", "0")]);
    let mac = good[MAC].to_str().unwrap();
    let with =
        |others: &[(&str, &str)]| finish(&rule, &[b"abc"], Some(&headers(&[others, &[(MAC, mac)]].concat())));
    assert_eq!(
        with(&[("x-a", "2"), ("X-B", "1"), ("x-b", "0")]),
        Ok(()),
        "white space and the order of names"
    );
    for wrong in [
        &[("x-a", "2"), ("x-b", "0"), ("x-b", "1")][..],
        &[("x-a", "2"), ("x-b", "1")],
        &[("x-a", "2"), ("x-b", "1"), ("x-b", "0"), ("x-b", "0")],
        &[("x-a", "2"), ("x-b", "1, 0")],
        &[("x-a", "3"), ("x-b", "1"), ("x-b", "0")],
        &[("x-b", "2"), ("x-a", "1"), ("x-a", "0")],
        &[("x-a", "2"), ("x-b", "1"), ("x-b", "0"), ("grpc-status", "0")],
        &[],
    ] {
        assert_eq!(with(wrong), Err(Refusal::DigestMismatch), "{wrong:?}");
    }
}

/// CS-38, CS-49.
#[test]
fn a_body_field_of_another_value_is_neither_signed_nor_taken() {
    let (asked, _) = signed(&[]);
    for value in ["", "Stream", "streams", "stream, stream", "\"stream\"", "stream;a", "none"] {
        let fields = headers(&[("countersign-body", value)]);
        let made = request::sign_as(&signing(&key(), TICKET), &parts(&fields));
        assert_eq!(made.unwrap_err(), Refusal::SignatureForm, "{value}");
        let made = response::sign(&answer_key(), &answer_parts(&asked, &fields), NOW);
        assert_eq!(made.unwrap_err(), Refusal::SignatureForm, "{value}");
    }
    // By somebody who signs it all the same, as another field of the same length.
    let (fields, _) = signed(&[("countersign-bodx", "streams")]);
    let input = fields["signature-input"].to_str().unwrap().replace("bodx", "body");
    let base = [
        "\"@method\": POST\n\"@authority\": orders.example\n\"@path\": /invoices\n\"@query\": ?page=2\n",
        "\"countersign-body\": streams\n\"@signature-params\": ",
        input.strip_prefix("cs=").unwrap(),
    ];
    use base64::Engine as _;
    let mac = key().mac(&base.map(str::as_bytes));
    let signature = format!("cs=:{}:", base64::engine::general_purpose::STANDARD.encode(mac.as_bytes()));
    let forged =
        headers(&[("countersign-body", "streams"), ("signature-input", &input), ("signature", &signature)]);
    assert_eq!(rule_of(&forged).unwrap_err(), Refusal::SignatureForm);
}

/// CS-24, CS-33.
#[test]
fn that_content_is_a_stream_cannot_be_put_in_or_taken_away() {
    let (mut fields, _) = signed(&[STREAM]);
    fields.remove("countersign-body");
    assert_eq!(rule_of(&fields).unwrap_err(), Refusal::Uncovered("countersign-body"));
    let (mut fields, _) = signed(&[]);
    fields.insert("countersign-body", HeaderValue::from_static("stream"));
    assert_eq!(rule_of(&fields).unwrap_err(), Refusal::Uncovered("countersign-body"));
    let (asked, _) = signed(&[]);
    let (mut answer, _) = answered(&asked, &[]);
    answer.insert("countersign-body", HeaderValue::from_static("stream"));
    let refused = response::verify(&answer_key(), &answer_parts(&asked, &answer)).unwrap_err();
    assert_eq!(refused, Refusal::Uncovered("countersign-body"));
}

/// CS-51.
#[test]
fn with_a_digest_beside_a_stream_both_have_to_be_right() {
    let digest = content_digest(b"abc").unwrap();
    let lines = [STREAM, ("content-digest", digest.to_str().unwrap())];
    let (fields, made) = signed(&lines);
    let rule = rule_of(&fields).unwrap();
    let signer = made.stream.unwrap();
    let trailers = ended(signer.clone(), &[b"abc"], &[]);
    assert_eq!(finish(&rule, &[b"abc"], Some(&trailers)), Ok(()));
    assert_eq!(finish(&rule, &[b"abc"], None), Err(Refusal::DigestMismatch), "the digest alone");
    let mut other = signer;
    other.update(b"abd");
    assert_eq!(other.finish(&HeaderMap::new()).unwrap_err(), Refusal::DigestMismatch, "never signed");
    // A trailer that is right for other content: from who signs the same message without the digest's check.
    let mac_of = |content: &[u8]| {
        use base64::Engine as _;
        use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
        let signature = fields["signature"].to_str().unwrap();
        let signature = STANDARD.decode(&signature[4..signature.len() - 1]).unwrap();
        let body_key = MacKey::new(key().mac(&[b"\0\0\0\x04body\x01"]).as_bytes());
        let length = u64::try_from(content.len()).unwrap().to_be_bytes();
        let hash = <sha2::Sha256 as sha2::Digest>::digest(content);
        let lp = countersign_protocol::lp;
        let mac = body_key.mac(&[&lp(&[&signature]), &length, &lp(&[&hash, b""])]);
        headers(&[(MAC, &URL_SAFE_NO_PAD.encode(mac.as_bytes()))])
    };
    assert_eq!(mac_of(b"abc"), trailers);
    assert_eq!(finish(&rule, &[b"abd"], Some(&mac_of(b"abd"))), Err(Refusal::DigestMismatch));
}

/// CS-33, CS-51.
#[test]
fn a_response_that_has_no_content_is_no_stream() {
    let unsigned = headers(&[]);
    for (method, status, empty) in
        [("HEAD", 200, true), ("GET", 204, true), ("GET", 304, true), ("GET", 200, false)]
    {
        let of = |fields| RequestParts { method, ..parts(fields) };
        let made = request::sign_as(&signing(&key(), TICKET), &of(&unsigned)).unwrap();
        let mut asked = HeaderMap::new();
        asked.insert("signature-input", made.signature_input);
        asked.insert("signature", made.signature);
        let bare = headers(&[STREAM]);
        let parts = |fields| ResponseParts { status, fields, request: of(&asked) };
        let made = response::sign(&answer_key(), &parts(&bare), NOW).unwrap();
        assert_eq!(made.stream.is_none(), empty, "{method} {status}");
        let mut answer = bare.clone();
        answer.insert("signature-input", made.signature_input);
        answer.insert("signature", made.signature);
        let rule = response::verify(&answer_key(), &parts(&answer)).unwrap().keep().content;
        assert_eq!(matches!(rule, ContentRule::Empty), empty, "{method} {status}");
        assert_eq!(finish(&rule, &[], None).is_ok(), empty, "{method} {status}");
    }
}

/// CS-50.
#[test]
fn trailers_of_content_that_is_no_stream_count_for_nothing() {
    let digest = content_digest(b"abc").unwrap();
    let (fields, _) = signed(&[("content-digest", digest.to_str().unwrap())]);
    let rule = rule_of(&fields).unwrap();
    let trailers = headers(&[(MAC, "AAAA"), ("x-a", "1")]);
    assert_eq!(finish(&rule, &[b"abc"], Some(&trailers)), Ok(()));
    assert_eq!(finish(&rule, &[b"abd"], Some(&trailers)), Err(Refusal::DigestMismatch));
}

/// CS-49, CS-52.
#[test]
fn a_stream_that_has_its_trailer_already_is_not_signed() {
    let (_, made) = signed(&[STREAM]);
    let refused = made.stream.unwrap().finish(&headers(&[(MAC, "AAAA")]));
    assert_eq!(refused.unwrap_err(), Refusal::SignatureForm);
}

#[test]
fn nothing_of_a_stream_shows_its_key() {
    let (fields, made) = signed(&[STREAM]);
    let rule = rule_of(&fields).unwrap();
    assert_eq!(format!("{rule:?} {:?}", made.stream.unwrap()), "Stream(…) StreamSigner(…)");
    assert_eq!(format!("{:?}", rule.check()), "ContentCheck(Stream(StreamCheck(…)))");
}

type Lines = Vec<(String, String)>;

fn trailer_lines() -> impl Strategy<Value = Lines> {
    prop::collection::vec((prop::sample::select(&["x-a", "x-b", "grpc-status"][..]), "[!-~]{0,4}"), 0..4)
        .prop_map(|lines| lines.into_iter().map(|(name, value)| (name.to_owned(), value)).collect())
}

fn map(lines: &Lines) -> HeaderMap {
    headers(&lines.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect::<Vec<_>>())
}

proptest! {
    /// Whatever pieces either side has.
    #[test]
    fn pieces_make_no_difference_and_every_change_does(
        content in prop::collection::vec(any::<u8>(), 0..200),
        cuts in prop::collection::vec(any::<prop::sample::Index>(), 0..5),
        others in trailer_lines(),
        other_content in prop::collection::vec(any::<u8>(), 0..3),
        other_lines in trailer_lines(),
        flip in (any::<prop::sample::Index>(), 0..8_u8),
    ) {
        let (fields, made) = signed(&[STREAM]);
        let rule = rule_of(&fields).unwrap();
        let mut signer = made.stream.unwrap();
        signer.update(&content);
        let sent = map(&others);
        let mac = signer.finish(&sent).unwrap();
        let with_mac = |mut trailers: HeaderMap| {
            trailers.insert(HeaderName::from_static(MAC), mac.clone());
            trailers
        };
        let trailers = with_mac(sent.clone());

        let mut places: Vec<usize> = cuts.iter().map(|cut| cut.index(content.len() + 1)).collect();
        places.extend([0, content.len()]);
        places.sort_unstable();
        let pieces: Vec<&[u8]> = places.windows(2).map(|pair| &content[pair[0]..pair[1]]).collect();
        prop_assert_eq!(finish(&rule, &pieces, Some(&trailers)), Ok(()));

        let mut changed = content.clone();
        if let Some(byte) = changed.get_mut(flip.0.index(content.len().max(1))) {
            *byte ^= 1 << flip.1;
            prop_assert!(finish(&rule, &[&changed], Some(&trailers)).is_err());
            prop_assert!(finish(&rule, &[&content[1..]], Some(&trailers)).is_err());
        }
        if !other_content.is_empty() {
            prop_assert!(finish(&rule, &[&content, &other_content], Some(&trailers)).is_err());
        }
        let in_order = |mut lines: Lines| {
            lines.sort_by(|one, other| one.0.cmp(&other.0));
            lines
        };
        if in_order(other_lines.clone()) != in_order(others) {
            prop_assert!(finish(&rule, &pieces, Some(&with_mac(map(&other_lines)))).is_err());
        }
        let mut wrong = mac.as_bytes().to_vec();
        wrong[flip.0.index(43)] ^= 1 << (flip.1 % 7);
        if let Ok(wrong) = HeaderValue::from_bytes(&wrong) {
            let mut trailers = sent;
            trailers.insert(MAC, wrong);
            prop_assert!(finish(&rule, &pieces, Some(&trailers)).is_err());
        }
    }
}
