//! Signed requests and responses of `cs1`: what we sign, the general RFC 9421 verifies, and the reverse; and everything
//! that must not pass. Numbers are those of `specs/cs1.md`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::collections::HashSet;

use countersign_httpsig::{
    self as httpsig, Component, FieldTypes, HmacSha256, Message, SignatureInput, Target, signatures,
};
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::KeyName;
use countersign_protocol::cs1::content::{ContentRule, content_digest};
use countersign_protocol::cs1::request::{Claimed, RequestParts, Signing, Verified, join_cookies, sign};
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const NOW: UnixTime = UnixTime(1_800_000_000);
const KEY: [u8; 32] = [7; 32];
const TICKET: &str = "cst.AAAA_BBBB-CCCCAAAA_BBBB-CCCCAAAA_BBBB-CCCCAAAA_BBBB-CCCC";
const NONCE: &str = "000102030405060708090a0b0c0d0e0f";

fn headers(lines: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in lines {
        fields.append(HeaderName::try_from(*name).unwrap(), HeaderValue::try_from(*value).unwrap());
    }
    fields
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

fn signing(key: &MacKey) -> Signing<'_> {
    let nonce = std::array::from_fn(|index| u8::try_from(index).unwrap());
    Signing { key, ticket: TICKET, now: NOW, window: 60, nonce }
}

/// A request with these fields and content, signed as our client does.
fn signed(lines: &[(&str, &str)], content: &[u8]) -> HeaderMap {
    let mut fields = headers(lines);
    if !content.is_empty() {
        fields.insert("content-digest", content_digest(content).unwrap());
    }
    signed_fields(fields)
}

fn signed_fields(mut fields: HeaderMap) -> HeaderMap {
    let key = MacKey::new(&KEY);
    let instructions = sign(&signing(&key), &parts(&fields)).unwrap();
    fields.insert("signature-input", instructions.signature_input);
    fields.insert("signature", instructions.signature);
    fields
}

fn check_at<'a>(parts: &RequestParts<'a>, now: UnixTime) -> Result<Verified<'a>, Refusal> {
    let claimed = Claimed::read(parts.fields)?.ok_or(Refusal::NoCredentials)?;
    assert_eq!(claimed.key_name(), KeyName::Ticket(TICKET));
    claimed.verify(&MacKey::new(&KEY), parts, now)?.claim(&[0; 16], |_, _| Ok(()))
}

fn check<'a>(parts: &RequestParts<'a>) -> Result<Verified<'a>, Refusal> {
    check_at(parts, NOW)
}

/// Changes a request that was signed rightly, and says why it is refused.
fn after(change: impl FnOnce(&mut HeaderMap)) -> Refusal {
    let mut fields = signed(&[("content-type", "application/json"), ("if-match", "\"1\"")], b"{}");
    change(&mut fields);
    check(&parts(&fields)).unwrap_err()
}

/// Signs what `input` says, with a stock library and the right key.
fn by_the_general_part(fields: &mut HeaderMap, label: &str, input: &SignatureInput) {
    let key = HmacSha256::new(&KEY).unwrap();
    let message = general(fields);
    let instructions = httpsig::sign(&message, label, input, &key, &FieldTypes::standard()).unwrap();
    instructions.apply(fields);
}

fn general(fields: &HeaderMap) -> Message<'_> {
    Message::Request(general_request(fields))
}

fn general_request(fields: &HeaderMap) -> httpsig::Request<'_> {
    let target = Target::origin("https", "Orders.Example:443", "/invoices", Some("page=2"));
    httpsig::Request { method: "POST", target, fields, trailers: None }
}

fn input(components: &[&str]) -> SignatureInput {
    let components = components.iter().map(|text| format!("\"{text}\"").parse::<Component>().unwrap());
    let input = SignatureInput::new(components).unwrap();
    let input = input.created(NOW.0).unwrap().expires(NOW.0 + 60).unwrap();
    input.nonce(NONCE).unwrap().keyid(TICKET).unwrap().tag("countersign").unwrap()
}

const DERIVED: [&str; 4] = ["@method", "@authority", "@path", "@query"];

#[test]
fn what_we_sign_we_and_the_general_part_verify() {
    for (lines, content) in [
        (&[][..], &b""[..]),
        (&[("content-type", "application/json"), ("authorization", "Basic YTpi"), ("x-other", "1")], b"{}"),
        (&[("cookie", "a=1"), ("range", "bytes=0-1"), ("idempotency-key", "k"), ("if-none-match", "*")], b""),
    ] {
        let fields = signed(lines, content);
        let verified = check(&parts(&fields)).unwrap();
        let mut content_check = verified.content().check();
        content_check.update(content);
        content_check.finish().unwrap();
        let claimed = signatures(&fields).unwrap();
        let key = HmacSha256::new(&KEY).unwrap();
        httpsig::verify(&general(&fields), &claimed[0], &key, &FieldTypes::standard()).unwrap();
    }
}

#[test]
fn what_a_stock_library_signs_is_accepted_whatever_the_order_and_more_that_is_covered() {
    let mut fields = headers(&[("content-type", "text/plain"), ("x-more", " a b ")]);
    let names = ["x-more", "@query", "content-type", "@path", "@method", "@authority"];
    by_the_general_part(&mut fields, "cs", &input(&names));
    check(&parts(&fields)).unwrap();

    let mut fields = HeaderMap::new();
    let components = DERIVED.map(|text| format!("\"{text}\"").parse::<Component>().unwrap());
    let reordered =
        SignatureInput::new(components).unwrap().tag("countersign").unwrap().keyid(TICKET).unwrap();
    let reordered = reordered.alg("hmac-sha256").unwrap().nonce(NONCE).unwrap();
    let reordered = reordered.expires(NOW.0 + 60).unwrap().created(NOW.0).unwrap();
    by_the_general_part(&mut fields, "cs", &reordered);
    check(&parts(&fields)).unwrap();
}

/// CS-24: each field of the list, present and not covered, although the signature is right.
#[test]
fn what_is_there_and_counts_has_to_be_covered() {
    for name in [
        "authorization",
        "content-digest",
        "content-encoding",
        "content-range",
        "content-type",
        "cookie",
        "countersign-body",
        "idempotency-key",
        "if-match",
        "if-modified-since",
        "if-none-match",
        "if-range",
        "if-unmodified-since",
        "range",
        "x-http-method",
        "x-http-method-override",
        "x-method-override",
    ] {
        let mut fields = headers(&[(name, "1")]);
        by_the_general_part(&mut fields, "cs", &input(&DERIVED));
        assert_eq!(check(&parts(&fields)).unwrap_err(), Refusal::Uncovered(name));
    }
    for left_out in DERIVED {
        let mut fields = HeaderMap::new();
        let rest: Vec<_> = DERIVED.into_iter().filter(|name| *name != left_out).collect();
        by_the_general_part(&mut fields, "cs", &input(&rest));
        assert_eq!(check(&parts(&fields)).unwrap_err(), Refusal::Uncovered(left_out));
    }
    let mut fields = HeaderMap::new();
    by_the_general_part(&mut fields, "cs", &input(&[]));
    assert_eq!(check(&parts(&fields)).unwrap_err(), Refusal::Uncovered("@method"), "empty coverage");
}

/// CS-24: what is covered and was taken away.
#[test]
fn what_was_signed_cannot_be_taken_away_or_put_in() {
    let stripped = after(|fields| {
        fields.remove("if-match");
    });
    assert_eq!(stripped, Refusal::Uncovered("if-match"));
    for name in ["authorization", "x-http-method-override", "cookie", "range", "if-none-match"] {
        let added = after(|fields| {
            fields.insert(HeaderName::try_from(name).unwrap(), HeaderValue::from_static("x"));
        });
        assert_eq!(added, Refusal::Uncovered(name));
    }
    let changed = after(|fields| {
        fields.insert("content-type", HeaderValue::from_static("text/html"));
    });
    assert_eq!(changed, Refusal::WrongSignature);
    let doubled = after(|fields| {
        fields.append("if-match", HeaderValue::from_static("\"2\""));
    });
    assert_eq!(doubled, Refusal::WrongSignature);
}

#[test]
fn the_target_cannot_be_changed() {
    let fields = signed(&[], b"");
    let right = parts(&fields);
    check(&right).unwrap();
    for wrong in [
        RequestParts { method: "PUT", ..right },
        RequestParts { method: "post", ..right },
        RequestParts { authority: "other.example", ..right },
        RequestParts { authority: "orders.example:8443", ..right },
        RequestParts { path: "/invoices/", ..right },
        RequestParts { path: "/Invoices", ..right },
        RequestParts { path: "", ..right },
        RequestParts { query: None, ..right },
        RequestParts { query: Some("page=3"), ..right },
    ] {
        assert_eq!(check(&wrong).unwrap_err(), Refusal::WrongSignature, "{wrong:?}");
    }
    for unclean in [
        RequestParts { path: "/a\n\"@query\": ?", ..right },
        RequestParts { authority: "a b", ..right },
        RequestParts { query: Some("\r\n"), ..right },
        RequestParts { path: "/\u{e9}", ..right },
    ] {
        assert_eq!(check(&unclean).unwrap_err(), Refusal::SignatureForm, "{unclean:?}");
    }
}

/// CS-28: what is one and the same.
#[test]
fn an_absent_query_is_an_empty_one_and_an_empty_path_is_a_slash() {
    let none = HeaderMap::new();
    let bare = RequestParts { path: "", query: None, ..parts(&none) };
    let key = MacKey::new(&KEY);
    let instructions = sign(&signing(&key), &bare).unwrap();
    let mut fields = HeaderMap::new();
    fields.insert("signature-input", instructions.signature_input);
    fields.insert("signature", instructions.signature);
    check(&RequestParts { path: "/", query: Some(""), ..parts(&fields) }).unwrap();
}

/// CS-28: HTTP/2 may split a cookie. Pieces are joined before they are signed or verified.
#[test]
fn a_cookie_in_pieces_is_refused_until_it_is_joined() {
    let mut split = signed(&[("cookie", "a=1; b=2")], b"");
    split.remove("cookie");
    split.append("cookie", HeaderValue::from_static("a=1"));
    split.append("cookie", HeaderValue::from_static("b=2"));
    assert_eq!(check(&parts(&split)).unwrap_err(), Refusal::SignatureForm);
    join_cookies(&mut split);
    check(&parts(&split)).unwrap();
    join_cookies(&mut split);
    assert_eq!(split["cookie"], "a=1; b=2", "one line stays as it is");
    // As a stock library joins them, which no server reads as two cookies.
    let mut stock = headers(&[("cookie", "a=1"), ("cookie", "b=2")]);
    by_the_general_part(&mut stock, "cs", &input(&[&DERIVED[..], &["cookie"]].concat()));
    assert_eq!(check(&parts(&stock)).unwrap_err(), Refusal::SignatureForm);
}

/// CS-48: readers differ in which of two lines they take.
#[test]
fn a_covered_field_on_two_lines_is_refused_unless_it_is_a_list() {
    let twice = |name: &str| {
        let mut fields = headers(&[(name, "1"), (name, "2")]);
        let ours = sign(&signing(&MacKey::new(&KEY)), &parts(&fields)).map(|_| ());
        by_the_general_part(&mut fields, "cs", &input(&[&DERIVED[..], &[name]].concat()));
        let theirs = check(&parts(&fields)).map(|_| ());
        assert_eq!(ours, theirs, "{name}");
        ours
    };
    for name in ["if-match", "if-none-match", "content-encoding", "cache-control", "accept"] {
        assert_eq!(twice(name), Ok(()), "{name}");
    }
    for name in ["authorization", "content-type", "idempotency-key", "range", "x-more", "set-cookie"] {
        assert_eq!(twice(name), Err(Refusal::SignatureForm), "{name}");
    }
    let request = signed(&[], b"");
    for (name, taken) in
        [("location", false), ("etag", false), ("set-cookie", true), ("www-authenticate", true)]
    {
        let fields = headers(&[(name, "a"), (name, "b")]);
        let made = response::sign(&MacKey::new(&ANSWER_KEY), &answer_parts(&request, &fields), NOW);
        assert_eq!(made.err(), (!taken).then_some(Refusal::SignatureForm), "{name}");
    }
}

/// CS-29.
#[test]
fn all_fields_are_signed_but_for_those_of_hops_and_a_handler_can_ask_which() {
    let lines =
        [("x-tenant", "7"), ("accept", "a/b"), ("via", "1.1 a"), ("x-forwarded-for", "::1"), ("date", "x")];
    let name = |name: &'static str| HeaderName::from_static(name);
    let request = signed(&lines, b"{}");
    let covered = request["signature-input"].to_str().unwrap();
    assert!(covered.starts_with(
        "cs=(\"@method\" \"@authority\" \"@path\" \"@query\" \"accept\" \"content-digest\" \"x-tenant\");"
    ));
    let mut changed = request.clone();
    changed.append("via", HeaderValue::from_static("1.1 b"));
    changed.insert("x-added", HeaderValue::from_static("by a proxy"));
    let verified = check(&parts(&changed)).unwrap();
    assert!(verified.covers(&name("x-tenant")) && verified.covers(&name("content-digest")));
    for other in ["via", "x-added", "x-forwarded-for", "date", "authorization"] {
        assert!(!verified.covers(&name(other)), "{other}");
    }
    let answer = answered(&request, &[("x-tenant", "7"), ("server", "x"), ("set-cookie", "a=1")], b"");
    let parts = answer_parts(&request, &answer);
    let verified = verify(&parts).unwrap();
    assert!(verified.covers(&name("x-tenant")) && verified.covers(&name("set-cookie")));
    assert!(!verified.covers(&name("server")) && !verified.covers(&name("signature")));
}

#[test]
fn a_signature_is_verified_with_the_message_of_which_it_was_read() {
    let one = signed(&[], b"");
    let same = one.clone();
    let claimed = Claimed::read(&one).unwrap().unwrap();
    let refused = claimed.verify(&MacKey::new(&KEY), &parts(&same), NOW).map(|_| ()).unwrap_err();
    assert_eq!(refused, Refusal::SignatureForm);
    assert!(claimed.verify(&MacKey::new(&KEY), &parts(&one), NOW).is_ok());
}

/// Whatever the other side has to refuse.
#[test]
fn what_would_be_refused_is_not_signed() {
    let key = MacKey::new(&KEY);
    let none = HeaderMap::new();
    let refused = |signing: &Signing<'_>, parts: &RequestParts<'_>| sign(signing, parts).unwrap_err();
    for unclean in [
        RequestParts { authority: "Orders.example", ..parts(&none) },
        RequestParts { path: "/a\\b", ..parts(&none) },
        RequestParts { query: Some("a\\b"), ..parts(&none) },
    ] {
        assert_eq!(refused(&signing(&key), &unclean), Refusal::SignatureForm, "{unclean:?}");
    }
    for ticket in ["", "cst.short", "cst.\";tag=\"x", &TICKET[4..]] {
        let signing = Signing { ticket, ..signing(&key) };
        assert_eq!(refused(&signing, &parts(&none)), Refusal::SignatureForm, "{ticket}");
    }
    let many = |count: usize| {
        let names: Vec<_> = (0..count).map(|number| format!("x-{number}")).collect();
        headers(&names.iter().map(|name| (name.as_str(), "1")).collect::<Vec<_>>())
    };
    check(&parts(&signed_fields(many(60)))).unwrap();
    assert_eq!(refused(&signing(&key), &parts(&many(61))), Refusal::SignatureForm);

    let request = signed(&[], b"");
    for (name, value) in [("countersign-body", "streams"), ("content-digest", "md5=:AAAA:")] {
        let fields = headers(&[(name, value)]);
        assert_eq!(refused(&signing(&key), &parts(&fields)), Refusal::SignatureForm, "{name}");
        let made = response::sign(&MacKey::new(&ANSWER_KEY), &answer_parts(&request, &fields), NOW);
        assert_eq!(made.unwrap_err(), Refusal::SignatureForm, "{name}");
    }
    let shouted = RequestParts { authority: "Orders.example", ..parts(&request) };
    let answer = ResponseParts { status: 200, fields: &none, request: shouted };
    let made = response::sign(&MacKey::new(&ANSWER_KEY), &answer, NOW);
    assert_eq!(made.unwrap_err(), Refusal::SignatureForm, "bound to a request that nobody could sign");
}

/// CS-23.
#[test]
fn only_the_one_form_of_the_signature_fields_is_taken() {
    let good = signed(&[], b"");
    let input = good["signature-input"].to_str().unwrap().to_owned();
    let signature = good["signature"].to_str().unwrap().to_owned();
    let reads = |input: &str, signature: &str| {
        let fields = headers(&[("signature-input", input), ("signature", signature)]);
        Claimed::read(&fields).map(|claimed| claimed.is_some())
    };
    assert_eq!(reads(&input, &signature), Ok(true));
    let replaced = |from: &str, to: &str| input.replacen(from, to, 1);
    for wrong in [
        replaced("cs=", "sig1="),
        replaced("cs=", "CS="),
        format!("{input}, other=(\"@method\")"),
        format!("other=(), {input}"),
        replaced(";tag=\"countersign\"", ""),
        replaced("\"countersign\"", "\"countersign-direct\""),
        replaced("\"countersign\"", "\"Countersign\""),
        replaced(";tag=\"countersign\"", ";tag=\"countersign\";tag=\"countersign\""),
        replaced(";created=", ";created=1;created="),
        replaced(";created=1800000000", ""),
        replaced(";created=1800000000", ";created=\"1800000000\""),
        replaced(";created=1800000000", ";created=01800000000"),
        replaced(";created=1800000000", ";created=-1800000000"),
        replaced(";created=1800000000", ";created=1800000000.0"),
        replaced(";created=1800000000", ";created=1800000000000000000000"),
        replaced(";expires=1800000060", ""),
        replaced(&format!(";nonce=\"{NONCE}\""), ""),
        replaced(NONCE, "short"),
        replaced(NONCE, &"a".repeat(129)),
        replaced(NONCE, "with a space in it"),
        replaced(NONCE, "aaaaaaaaaaaaaaaa\\\"a"),
        replaced(&format!(";keyid=\"{TICKET}\""), ""),
        format!("{input};alg=\"ed25519\""),
        format!("{input};alg=\"hmac-sha512\""),
        format!("{input};alg=hmac-sha256"),
        format!("{input};x=1"),
        format!("{input};x"),
        format!("{input} "),
        replaced(";created", "; created"),
        replaced(")", ""),
        replaced("(", ""),
        "cs".to_owned(),
        String::new(),
    ] {
        assert_eq!(reads(&wrong, &signature), Err(Refusal::SignatureForm), "{wrong}");
    }
    for wrong in [
        signature.replacen("cs=", "sig1=", 1),
        format!("{signature}, other=:AA==:"),
        "cs=:AAAA:".to_owned(),
        "cs=::".to_owned(),
        signature.replacen(':', "", 1),
        signature.trim_end_matches(':').to_owned(),
        format!("{signature};a"),
        format!("cs=:{}=:", "A".repeat(42) + "B"),
        "cs=1".to_owned(),
        String::new(),
    ] {
        assert_eq!(reads(&input, &wrong), Err(Refusal::SignatureForm), "{wrong}");
    }
    let both = |name: &'static str| {
        let mut twice = good.clone();
        twice.append(name, good[name].clone());
        Claimed::read(&twice).map(|_| ()).unwrap_err()
    };
    assert_eq!(both("signature-input"), Refusal::SignatureForm);
    assert_eq!(both("signature"), Refusal::SignatureForm);
    let only = |name: &'static str| {
        let mut lacking = good.clone();
        lacking.remove(name);
        Claimed::read(&lacking).map(|_| ()).unwrap_err()
    };
    assert_eq!(only("signature-input"), Refusal::SignatureForm);
    assert_eq!(only("signature"), Refusal::SignatureForm);
    assert!(Claimed::read(&HeaderMap::new()).unwrap().is_none());
}

/// CS-23, CS-24: identifiers that the profile does not have, in a signature that is right.
#[test]
fn components_with_parameters_or_of_other_kinds_are_refused() {
    for component in [
        "\"content-type\";sf",
        "\"content-type\";bs",
        "\"x-a\";key=\"a\"",
        "\"@target-uri\"",
        "\"@scheme\"",
        "\"@request-target\"",
        "\"@query-param\";name=\"page\"",
    ] {
        let mut fields = headers(&[("content-type", "a/b"), ("x-a", "a=1")]);
        let components = DERIVED.map(|text| format!("\"{text}\""));
        let components = components.iter().map(String::as_str).chain(["\"content-type\"", component]);
        let components = components.map(|text| text.parse::<Component>().unwrap());
        let input =
            SignatureInput::new(components).unwrap().created(NOW.0).unwrap().expires(NOW.0 + 9).unwrap();
        let input = input.nonce(NONCE).unwrap().keyid(TICKET).unwrap().tag("countersign").unwrap();
        let types =
            FieldTypes::standard().with(HeaderName::from_static("content-type"), httpsig::FieldType::Item);
        let key = HmacSha256::new(&KEY).unwrap();
        if let Ok(instructions) = httpsig::sign(&general(&fields), "cs", &input, &key, &types) {
            instructions.apply(&mut fields);
            assert_eq!(check(&parts(&fields)).unwrap_err(), Refusal::SignatureForm, "{component}");
        }
    }
    // Twice the same, which the general part does not even make.
    for twice in ["\"@method\" \"@method\"", "\"x-a\" \"x-a\"", "\"content-type\" \"content-type\""] {
        let fields = headers(&[
            ("content-type", "a/b"),
            ("x-a", "1"),
            (
                "signature-input",
                &format!(
                    "cs=({twice});created=1800000000;expires=1800000060;nonce=\"{NONCE}\";keyid=\"{TICKET}\";tag=\"countersign\""
                ),
            ),
            ("signature", &format!("cs=:{}=:", "A".repeat(43))),
        ]);
        assert_eq!(check(&parts(&fields)).unwrap_err(), Refusal::SignatureForm, "{twice}");
    }
}

/// CS-25.
#[test]
fn a_signature_is_good_in_its_window_only() {
    let fields = signed(&[], b"");
    for (now, good) in [(-6, false), (-5, true), (0, true), (59, true), (60, false), (3600, false)] {
        let now = UnixTime(NOW.0.checked_add_signed(now).unwrap());
        assert_eq!(check_at(&parts(&fields), now).err(), (!good).then_some(Refusal::ClockSkew), "{now}");
    }
    let with = |created: u64, expires: u64| {
        let mut fields = HeaderMap::new();
        let input = input(&DERIVED).created(created).unwrap().expires(expires).unwrap();
        by_the_general_part(&mut fields, "cs", &input);
        check(&parts(&fields)).map(|_| ())
    };
    assert_eq!(with(NOW.0, NOW.0 + 60), Ok(()));
    assert_eq!(with(NOW.0, NOW.0 + 61), Err(Refusal::ClockSkew), "for too long");
    assert_eq!(with(NOW.0, NOW.0 + 3600), Err(Refusal::ClockSkew), "an hour off");
    assert_eq!(with(NOW.0 + 6, NOW.0 + 30), Err(Refusal::ClockSkew), "ahead");
    assert_eq!(with(NOW.0, NOW.0), Err(Refusal::ClockSkew), "never good");
    assert_eq!(with(0, 999_999_999_999_999), Err(Refusal::ClockSkew));
}

/// CS-26.
#[test]
fn a_request_is_accepted_once_and_its_nonce_remembered_longer_than_it_is_good() {
    let fields = signed(&[], b"");
    let mut burned = HashSet::new();
    let mut claim = || {
        let claimed = Claimed::read(&fields).unwrap().unwrap();
        claimed.verify(&MacKey::new(&KEY), &parts(&fields), NOW).unwrap().claim(&[0; 16], |nonce, until| {
            assert_eq!(until, NOW.plus(65));
            if burned.insert(nonce) { Ok(()) } else { Err(Refusal::RequestReplayed) }
        })
    };
    claim().unwrap();
    assert_eq!(claim().unwrap_err(), Refusal::RequestReplayed);
}

#[test]
fn the_key_of_another_session_or_direction_is_none() {
    let fields = signed(&[], b"");
    let claimed = Claimed::read(&fields).unwrap().unwrap();
    for other in [[8; 32], [0; 32]] {
        let refused = claimed.verify(&MacKey::new(&other), &parts(&fields), NOW);
        assert_eq!(refused.map(|_| ()).unwrap_err(), Refusal::WrongSignature);
    }
}

/// CS-27.
#[test]
fn content_is_what_was_signed_or_nothing() {
    let rule = |lines: &[(&str, &str)], content: &[u8]| {
        check(&parts(&signed(lines, content))).unwrap().keep().content
    };
    let finish = |rule: &ContentRule, pieces: &[&[u8]]| {
        let mut check = rule.check();
        pieces.iter().for_each(|piece| check.update(piece));
        check.finish()
    };
    let of_ab = rule(&[], b"ab");
    assert_eq!(finish(&of_ab, &[b"ab"]), Ok(()));
    assert_eq!(finish(&of_ab, &[b"a", b"", b"b"]), Ok(()));
    for wrong in [&[&b"ac"[..]][..], &[b"a"], &[b"ab", b"c"], &[]] {
        assert_eq!(finish(&of_ab, wrong), Err(Refusal::DigestMismatch));
    }
    let empty = rule(&[], b"");
    assert_eq!(finish(&empty, &[]), Ok(()));
    assert_eq!(finish(&empty, &[b""]), Ok(()));
    assert_eq!(finish(&empty, &[b"a"]), Err(Refusal::Uncovered("content-digest")), "a body without a digest");
    // A digest of no content is fine, and says that there is none.
    let of_nothing = content_digest(b"").unwrap();
    let of_nothing = rule(&[("content-digest", of_nothing.to_str().unwrap())], b"");
    assert_eq!(finish(&of_nothing, &[]), Ok(()));
    assert_eq!(finish(&of_nothing, &[b"a"]), Err(Refusal::DigestMismatch));
    // Other algorithms beside it are not looked at; alone they are not enough.
    let sha256 = content_digest(b"ab").unwrap().to_str().unwrap().to_owned();
    let both = format!("sha-512=:{}==:, {sha256}", "A".repeat(86));
    assert_eq!(finish(&rule(&[("content-digest", &both)], b""), &[b"ab"]), Ok(()));
    let beside = format!("md5=:AAAA:, sha-512=1, {sha256}");
    assert_eq!(finish(&rule(&[("content-digest", &beside)], b""), &[b"ab"]), Ok(()));
    let twice = format!("{sha256}, {sha256}");
    let refused = |value: &str| {
        let mut fields = headers(&[("content-digest", value)]);
        by_the_general_part(&mut fields, "cs", &input(&[&DERIVED[..], &["content-digest"]].concat()));
        check(&parts(&fields)).unwrap_err()
    };
    assert_eq!(refused(&twice), Refusal::SignatureForm);
    for value in ["md5=:AAAA:", "sha-256=:AAAA:", "sha-256=x", "", &format!("sha-512=:{}==:", "A".repeat(86))]
    {
        assert_eq!(refused(value), Refusal::SignatureForm, "{value}");
    }
}

#[test]
fn a_request_is_not_signed_twice_nor_with_what_cannot_be_covered() {
    let key = MacKey::new(&KEY);
    let once = signed(&[], b"");
    assert_eq!(sign(&signing(&key), &parts(&once)).unwrap_err(), Refusal::SignatureForm);
    let mut latin = HeaderMap::new();
    latin.insert("authorization", HeaderValue::from_bytes(b"Basic \xe9").unwrap());
    assert_eq!(sign(&signing(&key), &parts(&latin)).unwrap_err(), Refusal::Uncovered("authorization"));
}

// Responses.

const ANSWER_KEY: [u8; 32] = [9; 32];

fn answer_parts<'a>(request: &'a HeaderMap, fields: &'a HeaderMap) -> ResponseParts<'a> {
    ResponseParts { status: 200, fields, request: parts(request) }
}

fn answered(request: &HeaderMap, lines: &[(&str, &str)], content: &[u8]) -> HeaderMap {
    let mut fields = headers(lines);
    if !content.is_empty() {
        fields.insert("content-digest", content_digest(content).unwrap());
    }
    let key = MacKey::new(&ANSWER_KEY);
    let instructions = response::sign(&key, &answer_parts(request, &fields), NOW).unwrap();
    fields.insert("signature-input", instructions.signature_input);
    fields.insert("signature", instructions.signature);
    fields
}

fn verify<'a>(parts: &ResponseParts<'a>) -> Result<response::Verified<'a>, Refusal> {
    response::verify(&MacKey::new(&ANSWER_KEY), parts)
}

#[test]
fn a_response_that_we_sign_we_and_the_general_part_verify() {
    let request = signed(&[], b"{}");
    for lines in [
        &[][..],
        &[
            ("content-type", "a/b"),
            ("etag", "\"1\""),
            ("location", "/x"),
            ("x-other", "1"),
            ("retry-after", "1"),
        ],
        &[("set-cookie", "a=1, b"), ("set-cookie", " c=2 "), ("cache-control", "no-store")],
    ] {
        let fields = answered(&request, lines, b"[]");
        verify(&answer_parts(&request, &fields)).unwrap();
        let claimed = signatures(&fields).unwrap();
        let message = Message::Response(httpsig::Response {
            status: 200,
            fields: &fields,
            trailers: None,
            request: Some(general_request(&request)),
        });
        let key = HmacSha256::new(&ANSWER_KEY).unwrap();
        httpsig::verify(&message, &claimed[0], &key, &FieldTypes::standard()).unwrap();
    }
}

/// CS-33: what HEAD, 204 and 304 say of content is about another response.
#[test]
fn a_response_that_has_no_content_is_not_held_against_its_digest() {
    let digest = content_digest(b"elsewhere").unwrap();
    let fields = headers(&[("content-digest", digest.to_str().unwrap())]);
    let unsigned = HeaderMap::new();
    for (method, status, empty) in [
        ("HEAD", 200, true),
        ("GET", 204, true),
        ("GET", 304, true),
        ("GET", 200, false),
        ("POST", 201, false),
    ] {
        let key = MacKey::new(&KEY);
        let instructions = sign(&signing(&key), &RequestParts { method, ..parts(&unsigned) }).unwrap();
        let mut request = HeaderMap::new();
        request.insert("signature-input", instructions.signature_input);
        request.insert("signature", instructions.signature);
        let request = RequestParts { method, ..parts(&request) };
        let key = MacKey::new(&ANSWER_KEY);
        let made = response::sign(&key, &ResponseParts { status, fields: &fields, request }, NOW).unwrap();
        let mut answer = fields.clone();
        answer.insert("signature-input", made.signature_input);
        answer.insert("signature", made.signature);
        let rule = verify(&ResponseParts { status, fields: &answer, request }).unwrap().keep().content;
        assert_eq!(matches!(rule, ContentRule::Empty), empty, "{method} {status}");
        assert_eq!(rule.check().finish().is_ok(), empty, "{method} {status}");
    }
}

/// CS-33, CS-35.
#[test]
fn a_response_to_another_request_is_none() {
    let request = signed(&[], b"{}");
    let fields = answered(&request, &[], b"[]");
    // The same request signed again, with another nonce.
    let key = MacKey::new(&KEY);
    let unsigned = {
        let mut unsigned = request.clone();
        unsigned.remove("signature");
        unsigned.remove("signature-input");
        unsigned
    };
    let again = sign(&Signing { nonce: [1; 16], ..signing(&key) }, &parts(&unsigned)).unwrap();
    let mut other = unsigned;
    other.insert("signature-input", again.signature_input);
    other.insert("signature", again.signature);
    assert_eq!(verify(&answer_parts(&other, &fields)).unwrap_err(), Refusal::WrongSignature);
    let elsewhere = ResponseParts {
        request: RequestParts { path: "/other", ..parts(&request) },
        ..answer_parts(&request, &fields)
    };
    assert_eq!(verify(&elsewhere).unwrap_err(), Refusal::WrongSignature);
    let unsigned = headers(&[]);
    assert_eq!(verify(&answer_parts(&unsigned, &fields)).unwrap_err(), Refusal::SignatureForm);
    // A request whose fields are not in the one form: the general part would write them anew.
    let mut spaced = request.clone();
    let input = request["signature-input"].to_str().unwrap().replacen("\" \"", "\"  \"", 1);
    spaced.insert("signature-input", HeaderValue::try_from(input).unwrap());
    assert_eq!(verify(&answer_parts(&spaced, &fields)).unwrap_err(), Refusal::SignatureForm);
}

#[test]
fn a_response_cannot_be_changed_stripped_or_made_up() {
    let request = signed(&[], b"");
    let lines = [("content-type", "a/b"), ("set-cookie", "a=1"), ("etag", "\"1\"")];
    let good = answered(&request, &lines, b"[]");
    let refused = |change: &dyn Fn(&mut HeaderMap)| {
        let mut fields = good.clone();
        change(&mut fields);
        verify(&answer_parts(&request, &fields)).unwrap_err()
    };
    let status = ResponseParts { status: 201, ..answer_parts(&request, &good) };
    assert_eq!(verify(&status).unwrap_err(), Refusal::WrongSignature);
    let insert = |name: &'static str, value: &'static str| {
        move |fields: &mut HeaderMap| drop(fields.insert(name, HeaderValue::from_static(value)))
    };
    assert_eq!(refused(&insert("content-type", "text/html")), Refusal::WrongSignature);
    assert_eq!(refused(&insert("set-cookie", "a=2")), Refusal::WrongSignature);
    assert_eq!(refused(&insert("location", "https://evil.example")), Refusal::Uncovered("location"));
    assert_eq!(refused(&insert("www-authenticate", "Basic")), Refusal::Uncovered("www-authenticate"));
    assert_eq!(refused(&|fields| drop(fields.remove("etag"))), Refusal::Uncovered("etag"));
    assert_eq!(
        refused(&|fields| drop(fields.remove("content-digest"))),
        Refusal::Uncovered("content-digest")
    );
    assert_eq!(refused(&|fields| drop(fields.remove("signature"))), Refusal::SignatureForm);
    assert_eq!(
        refused(&|fields| {
            fields.remove("signature");
            fields.remove("signature-input");
        }),
        Refusal::SignatureForm,
        "a stripped signature"
    );
    // The request's own signature fields put in the place of the response's.
    assert_eq!(
        refused(&|fields| {
            fields.insert("signature-input", request["signature-input"].clone());
            fields.insert("signature", request["signature"].clone());
        }),
        Refusal::SignatureForm
    );
    let other = response::verify(&MacKey::new(&KEY), &answer_parts(&request, &good));
    assert_eq!(other.unwrap_err(), Refusal::WrongSignature, "the key of the other direction");
}

/// CS-33: each thing that a response has to cover, left out of a signature that is right.
#[test]
fn short_coverage_of_a_response_is_refused() {
    let request = signed(&[], b"");
    let all = [
        "\"@status\"",
        "\"@method\";req",
        "\"@authority\";req",
        "\"@path\";req",
        "\"@query\";req",
        "\"signature-input\";req;key=\"cs\"",
        "\"signature\";req;key=\"cs\"",
        "\"content-type\"",
        "\"set-cookie\";bs",
    ];
    let with = |components: &[&str]| {
        let mut fields = headers(&[("content-type", "a/b"), ("set-cookie", "a=1")]);
        let components = components.iter().map(|text| text.parse::<Component>().unwrap());
        let input =
            SignatureInput::new(components).unwrap().created(NOW.0).unwrap().tag("countersign").unwrap();
        let key = HmacSha256::new(&ANSWER_KEY).unwrap();
        let message = Message::Response(httpsig::Response {
            status: 200,
            fields: &fields,
            trailers: None,
            request: Some(general_request(&request)),
        });
        let instructions = httpsig::sign(&message, "cs", &input, &key, &FieldTypes::standard()).unwrap();
        instructions.apply(&mut fields);
        verify(&answer_parts(&request, &fields)).map(|_| ())
    };
    assert_eq!(with(&all), Ok(()));
    for left_out in all {
        let rest: Vec<_> = all.into_iter().filter(|one| *one != left_out).collect();
        assert!(matches!(with(&rest), Err(Refusal::Uncovered(_))), "{left_out}");
    }
    let weaker = all.map(|one| if one.contains("bs") { "\"set-cookie\"" } else { one });
    assert_eq!(with(&weaker), Err(Refusal::SignatureForm), "set-cookie without bs");
}

fn text() -> impl Strategy<Value = String> {
    "[ -~]{0,16}"
}

proptest! {
    /// The fast path and the general part agree on every message, and on every change of one.
    #[test]
    fn the_fast_path_agrees_with_the_general_part(
        lines in prop::collection::vec((prop::sample::select(&["x-a", "content-type", "cookie", "if-match"][..]), text()), 0..5),
        path in "/[!-~&&[^?#\\\\]]{0,12}",
        query in prop::option::of("[!-~&&[^#\\\\]]{0,8}"),
        flip in prop::option::of((any::<prop::sample::Index>(), 0..8u8)),
    ) {
        let lines: Vec<(&str, &str)> = lines.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let mut fields = headers(&lines);
        let key = MacKey::new(&KEY);
        let unsigned = fields.clone();
        let target = RequestParts { path: &path, query: query.as_deref(), ..parts(&unsigned) };
        let made = sign(&signing(&key), &target);
        let repeated = |name: &str| name != "if-match" && unsigned.get_all(name).iter().count() > 1;
        prop_assert_eq!(made.is_err(), unsigned.keys().any(|name| repeated(name.as_str())));
        let Ok(instructions) = made else { return Ok(()) };
        let mut signature = instructions.signature.as_bytes().to_vec();
        if let Some((place, bit)) = flip {
            let place = place.index(signature.len());
            signature[place] ^= 1 << bit;
        }
        let Ok(signature) = HeaderValue::from_bytes(&signature) else { return Ok(()) };
        fields.insert("signature-input", instructions.signature_input);
        fields.insert("signature", signature);
        let ours = check(&RequestParts { fields: &fields, ..target });
        let message = Message::Request(httpsig::Request {
            method: "POST",
            target: Target::origin("https", "orders.example", &path, query.as_deref()),
            fields: &fields,
            trailers: None,
        });
        let key = HmacSha256::new(&KEY).unwrap();
        let general = signatures(&fields).ok().and_then(|claimed| {
            httpsig::verify(&message, claimed.first()?, &key, &FieldTypes::standard()).ok().map(|_| ())
        });
        if ours.is_ok() {
            prop_assert!(general.is_some(), "accepted here and not there");
        }
        if general.is_some() && flip.is_none() {
            prop_assert!(ours.is_ok(), "{:?}", ours);
        }
    }

    #[test]
    fn no_signature_field_makes_the_scanner_panic(input in "cs=\\([ -~]{0,60}|[ -~]{0,60}", signature in "[ -~]{0,60}") {
        let fields = headers(&[("signature-input", &input), ("signature", &signature)]);
        if let Ok(Some(claimed)) = Claimed::read(&fields) {
            let refused = claimed.verify(&MacKey::new(&KEY), &parts(&fields), NOW);
            prop_assert!(refused.is_err());
        }
    }
}
