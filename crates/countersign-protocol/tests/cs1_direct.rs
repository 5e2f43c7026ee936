//! `cs1` without a handshake, and nonces that the server gives (sections 9 and 10 of `specs/cs1.md`).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "tests")]

mod support;

use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::accept::{ACCEPT_SIGNATURE, ask, asked};
use countersign_protocol::cs1::nonce::{NonceIssuer, ServerNonce};
use countersign_protocol::cs1::request::{Claimed, Nonce, SigningAs, sign_as};
use countersign_protocol::cs1::{KeyName, Policy, response};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use http::{HeaderMap, HeaderValue};
use proptest::prelude::*;
use support::*;
use zeroize::Zeroizing;

fn at(seconds: i64) -> UnixTime {
    UnixTime(NOW.0.checked_add_signed(seconds).unwrap())
}

fn issuer() -> NonceIssuer {
    NonceIssuer::new(&Zeroizing::new([3; 32]))
}

/// Until when the nonce has to be remembered.
fn verified(fields: &HeaderMap, policy: Policy<'_>) -> Result<UnixTime, Refusal> {
    let claimed = Claimed::read(fields)?.unwrap();
    let mut remembered = None;
    claimed.verify(&key(), &parts(fields), policy)?.claim(&[0; 16], |_, until| {
        remembered = Some(until);
        Ok(())
    })?;
    Ok(remembered.unwrap())
}

fn request(name: KeyName<'_>, created: UnixTime, window: u64, nonce: Option<&ServerNonce>) -> HeaderMap {
    let key = key();
    let own = signing(&key, name);
    let nonce = nonce.map_or(own.nonce, Nonce::OfServer);
    signed_as(&SigningAs { now: created, window, nonce, ..own }, &[]).0
}

/// What two stock libraries emit, told to use the label `cs`: `http-message-signatures` 3.0.0 for Python with and without
/// `alg`, and `http-message-signatures` 1.0.6 for Node with its parameters listed.
const STOCK: [(&str, &str); 3] = [
    (
        "created=1800000000;keyid=\"csk_AAAAAAAAAAAAAAAAAAAAAA:csk_BBBBBBBBBBBBBBBBBBBBBB\";alg=\"hmac-sha256\";expires=1800000020;nonce=\"000102030405060708090a0b0c0d0e0f\";tag=\"countersign-direct\"",
        "mqlJWfvwFjVlqvv3MwM7/6OGvXyru52h4DHyD/LnuIc=",
    ),
    (
        "created=1800000000;keyid=\"csk_AAAAAAAAAAAAAAAAAAAAAA:csk_BBBBBBBBBBBBBBBBBBBBBB\";expires=1800000020;nonce=\"000102030405060708090a0b0c0d0e0f\";tag=\"countersign-direct\"",
        "A5W/87SardxecSsQCNb0TFOevz1hhE4+Q7NOXaqip9c=",
    ),
    (
        "keyid=\"csk_AAAAAAAAAAAAAAAAAAAAAA:csk_BBBBBBBBBBBBBBBBBBBBBB\";alg=\"hmac-sha256\";created=1800000000;expires=1800000020;nonce=\"000102030405060708090a0b0c0d0e0f\";tag=\"countersign-direct\"",
        "LXwnKQMvF631jF38zGj3tuAteNDJnLxxfWLIbTm2H9Q=",
    ),
];

/// CS-23, section 9.
#[test]
fn what_stock_libraries_emit_is_taken() {
    let content = b"{\"item\": 1}";
    let digest = countersign_protocol::cs1::content::content_digest(content).unwrap();
    for (parameters, signature) in STOCK {
        let input = format!(
            "cs=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-type\" \"content-digest\");{parameters}"
        );
        let fields = headers(&[
            ("content-type", "application/json"),
            ("content-digest", digest.to_str().unwrap()),
            ("signature-input", &input),
            ("signature", &format!("cs=:{signature}:")),
        ]);
        assert_eq!(Claimed::read(&fields).unwrap().unwrap().key_name(), DIRECT);
        assert_eq!(verified(&fields, Policy::at(NOW)), Ok(NOW.plus(25)), "{parameters}");
    }
}

/// Section 9: the keys and the id of the pair, in both directions, and no others.
#[test]
fn a_pair_signs_both_ways_without_a_handshake() {
    let keys = pair().direct().clone();
    let [to_server, to_client] =
        [&keys.client_to_server, &keys.server_to_client].map(|key| MacKey::new(&**key));
    let (asked, _) = signed_as(&signing(&to_server, DIRECT), &[("content-type", "a/b")]);
    let input = asked["signature-input"].to_str().unwrap();
    assert!(input.ends_with(&format!(";keyid=\"{CLIENT}:{SERVER}\";tag=\"countersign-direct\"")), "{input}");
    let claimed = Claimed::read(&asked).unwrap().unwrap();
    let KeyName::Direct { client, server } = claimed.key_name() else { unreachable!() };
    assert_eq!((client, server), (CLIENT, SERVER));
    claimed.verify(&to_server, &parts(&asked), NOW).unwrap().claim(&keys.id, |_, _| Ok(())).unwrap();
    assert!(claimed.verify(&to_client, &parts(&asked), NOW).is_err());

    let mut answer = headers(&[("etag", "\"1\"")]);
    let made = response::sign(&to_client, &answer_parts(&asked, &answer), NOW).unwrap();
    let input = made.signature_input.to_str().unwrap();
    assert!(input.ends_with(&format!(";keyid=\"{CLIENT}:{SERVER}\";tag=\"countersign-direct\"")), "{input}");
    answer.insert("signature-input", made.signature_input);
    answer.insert("signature", made.signature);
    response::verify(&to_client, &answer_parts(&asked, &answer)).unwrap();
    assert!(response::verify(&to_server, &answer_parts(&asked, &answer)).is_err());

    let secret = "css_Zm9vYmFyMTIzNDU2Nzg5MGFiY2RlZmdoaWprbG1ub3A".parse().unwrap();
    let reversed = countersign_protocol::cs1::PairKeys::derive(
        &secret,
        &SERVER.parse().unwrap(),
        &CLIENT.parse().unwrap(),
    );
    assert_ne!(reversed.direct().id, keys.id);
    assert_ne!(*reversed.direct().client_to_server, *keys.client_to_server);
}

/// CS-23: a name of one kind is never one of the other.
#[test]
fn tag_and_name_have_to_be_of_one_kind() {
    let reads = |keyid: &str, tag: &str| {
        let input = format!(
            "cs=(\"@method\");created=1;expires=2;nonce=\"0123456789abcdef\";keyid=\"{keyid}\";tag=\"{tag}\""
        );
        let signature = format!("cs=:{}=:", "A".repeat(43));
        let fields = headers(&[("signature-input", &input), ("signature", &signature)]);
        Claimed::read(&fields).map(|claimed| claimed.unwrap().key_name().to_string())
    };
    let pair = format!("{CLIENT}:{SERVER}");
    let ticket = TICKET.to_string();
    assert_eq!(reads(&pair, "countersign-direct"), Ok(pair.clone()));
    assert_eq!(reads(&ticket, "countersign"), Ok(ticket.clone()));
    for (keyid, tag) in [
        (pair.as_str(), "countersign"),
        (&ticket, "countersign-direct"),
        (CLIENT, "countersign-direct"),
        (&format!("{CLIENT}:"), "countersign-direct"),
        (&format!(":{SERVER}"), "countersign-direct"),
        (&format!("{pair}:{SERVER}"), "countersign-direct"),
        (&format!("{CLIENT} :{SERVER}"), "countersign-direct"),
        (&format!("short:{SERVER}"), "countersign-direct"),
        (&format!("{}:{SERVER}", "a".repeat(129)), "countersign-direct"),
        (&pair, "countersign-Direct"),
        ("", "countersign"),
        ("", "countersign-direct"),
    ] {
        assert_eq!(reads(keyid, tag), Err(Refusal::SignatureForm), "{keyid} {tag}");
    }
}

/// CS-49.
#[test]
fn a_name_that_could_not_be_read_is_not_signed_with() {
    let key = key();
    let none = HeaderMap::new();
    for (client, server) in [("", SERVER), (CLIENT, "a:b:c:d:e:f:g:h:i"), (CLIENT, "\";tag=\"countersign")] {
        let name = KeyName::Direct { client, server };
        let refused = sign_as(&signing(&key, name), &parts(&none)).unwrap_err();
        assert_eq!(refused, Refusal::SignatureForm, "{client} {server}");
    }
}

/// Section 9: the tag of a response is that of its request.
#[test]
fn a_response_of_the_other_kind_is_none() {
    let (of_session, _) = signed(&[]);
    let (of_pair, _) = signed_as(&signing(&key(), DIRECT), &[]);
    for (asked, own, other) in
        [(&of_session, "countersign", "countersign-direct"), (&of_pair, "countersign-direct", "countersign")]
    {
        let (answer, _) = answered(asked, &[]);
        response::verify(&answer_key(), &answer_parts(asked, &answer)).unwrap();
        let mut changed = answer.clone();
        let input = answer["signature-input"].to_str().unwrap();
        let input = input.replace(&format!("\"{own}\""), &format!("\"{other}\""));
        changed.insert("signature-input", HeaderValue::try_from(input).unwrap());
        let refused = response::verify(&answer_key(), &answer_parts(asked, &changed)).unwrap_err();
        assert_eq!(refused, Refusal::SignatureForm);
    }
}

/// CS-55: a right MAC does not help where the key is not named, or another one, or where there should be no name.
#[test]
fn a_response_names_the_pair_without_a_handshake_and_nothing_in_a_session() {
    let (of_session, _) = signed(&[]);
    let (of_pair, _) = signed_as(&signing(&key(), DIRECT), &[]);
    for (asked, name) in [(&of_session, TICKET), (&of_pair, DIRECT)] {
        let seen = |keyid: &str| {
            let (target, list) = (parts(asked), answered(asked, &[]).0["signature-input"].clone());
            let list = list.to_str().unwrap().split_once(");").unwrap().0[3..].to_owned();
            let params = format!("{list});created=1800000000{keyid};tag=\"{}\"", name.tag());
            let of_request = |name: &str| asked[name].to_str().unwrap()[3..].to_owned();
            let base = format!(
                "\"@status\": 200\n\"@method\";req: {}\n\"@authority\";req: {}\n\"@path\";req: {}\n\"@query\";req: ?{}\n\
                 \"signature-input\";req;key=\"cs\": {}\n\"signature\";req;key=\"cs\": {}\n\"@signature-params\": {params}",
                target.method,
                target.authority,
                target.path,
                target.query.unwrap(),
                of_request("signature-input"),
                of_request("signature")
            );
            let mac = STANDARD.encode(answer_key().mac(&[base.as_bytes()]).as_bytes());
            let fields = headers(&[
                ("signature-input", &format!("cs={params}")),
                ("signature", &format!("cs=:{mac}:")),
            ]);
            response::verify(&answer_key(), &answer_parts(asked, &fields)).map(|_| ())
        };
        let (ours, reversed) =
            (format!(";keyid=\"{CLIENT}:{SERVER}\""), format!(";keyid=\"{SERVER}:{CLIENT}\""));
        let ticket = format!(";keyid=\"{TICKET}\"");
        for keyid in ["", &ours, &reversed, &ticket, ";keyid=\"\""] {
            let right = if name == DIRECT { keyid == ours } else { keyid.is_empty() };
            let expected = if right { Ok(()) } else { Err(Refusal::SignatureForm) };
            assert_eq!(seen(keyid), expected, "{name} {keyid}");
        }
    }
}

/// CS-41.
#[test]
fn without_a_handshake_created_and_expires_are_half_a_minute_from_our_clock_at_most() {
    let seen = |created: i64, window: u64, now: i64| {
        verified(&request(DIRECT, at(created), window, None), Policy::at(at(now)))
    };
    assert_eq!(seen(0, 30, 0), Ok(NOW.plus(35)));
    assert_eq!(seen(0, 9999, 0), Ok(NOW.plus(35)), "what is too long is not signed");
    assert_eq!(seen(-30, 30, -1), Ok(NOW.plus(5)));
    for (created, window, now) in [(-31, 30, 0), (0, 1, 1), (0, 30, 30), (1, 30, 0), (29, 2, 0), (31, 1, 0)] {
        assert_eq!(seen(created, window, now), Err(Refusal::ClockSkew), "{created} {window} {now}");
    }
    assert_eq!(seen(-29, 30, 0), Ok(NOW.plus(6)));
    assert_eq!(seen(29, 1, 0), Ok(NOW.plus(35)));
    // The window of a session is another one.
    assert_eq!(verified(&request(TICKET, at(29), 1, None), Policy::at(NOW)), Err(Refusal::ClockSkew));
    assert_eq!(verified(&request(TICKET, at(-55), 60, None), Policy::at(NOW)), Ok(NOW.plus(10)));
}

/// CS-41, CS-53.
#[test]
fn with_a_nonce_of_the_server_no_clock_is_needed_without_a_handshake() {
    let issuer = issuer();
    let nonce = issuer.issue(NOW, [1; 16]);
    for created in [-1_000_000, -31, 0, 31, 1_000_000] {
        let fields = request(DIRECT, at(created), 30, Some(&nonce));
        for (now, good) in [(-6, false), (-5, true), (0, true), (30, true), (31, false)] {
            let seen = verified(&fields, Policy::at(at(now)).with_nonces(&issuer));
            let expected = if good { Ok(NOW.plus(35)) } else { Err(Refusal::NonceRequired) };
            assert_eq!(seen, expected, "{created} {now}");
        }
    }
    // It is asked for, where one can be given.
    let late = request(DIRECT, at(-60), 30, None);
    assert_eq!(verified(&late, Policy::at(NOW).with_nonces(&issuer)), Err(Refusal::NonceRequired));
    assert_eq!(verified(&late, Policy::at(NOW)), Err(Refusal::ClockSkew));
}

/// CS-53: also when its `created` comes into the window, under another key after a crash, and where none are given.
#[test]
fn a_request_with_a_nonce_of_the_server_never_passes_again_once_it_may_be_forgotten() {
    let issuer = issuer();
    let nonce = issuer.issue(NOW, [1; 16]);
    let fields = request(DIRECT, at(1000), 30, Some(&nonce));
    let until = verified(&fields, Policy::at(NOW).with_nonces(&issuer)).unwrap();
    let restarted = NonceIssuer::new(&Zeroizing::new([4; 32]));
    for now in [until, at(999), at(1000), at(1029)] {
        let again = verified(&fields, Policy::at(now).with_nonces(&issuer));
        assert_eq!(again, Err(Refusal::NonceRequired), "{now}");
        let elsewhere = verified(&fields, Policy::at(now).with_nonces(&restarted).after_crash(at(1)));
        assert_eq!(elsewhere, Err(Refusal::NonceRequired), "{now}");
        assert_eq!(verified(&fields, Policy::at(now)), Err(Refusal::NonceRequired), "{now}");
    }
}

/// CS-53.
#[test]
fn a_request_of_a_session_has_to_be_in_its_window_whatever_its_nonce() {
    let issuer = issuer();
    let nonce = issuer.issue(NOW, [1; 16]);
    let seen = |created: i64| {
        verified(&request(TICKET, at(created), 60, Some(&nonce)), Policy::at(NOW).with_nonces(&issuer))
    };
    assert_eq!(seen(0), Ok(NOW.plus(35)));
    assert_eq!(seen(-59), Ok(NOW.plus(35)));
    assert_eq!(seen(-60), Err(Refusal::ClockSkew));
    assert_eq!(seen(6), Err(Refusal::ClockSkew));
}

/// CS-43.
#[test]
fn after_a_crash_what_may_have_been_accepted_before_needs_a_nonce() {
    let issuer = issuer();
    let policy = |now: i64| Policy::at(at(now)).with_nonces(&issuer).after_crash(NOW);
    let session = |created: i64, now: i64| verified(&request(TICKET, at(created), 60, None), policy(now));
    assert_eq!(session(-50, 1), Err(Refusal::NonceRequired));
    assert_eq!(session(5, 1), Err(Refusal::NonceRequired));
    assert_eq!(session(6, 1), Ok(NOW.plus(71)));
    assert_eq!(session(5, 64), Err(Refusal::NonceRequired));
    assert_eq!(session(-60, 1), Err(Refusal::ClockSkew), "out of its window anyway");
    // As far ahead as these are taken.
    let direct = |created: i64, now: i64| verified(&request(DIRECT, at(created), 1, None), policy(now));
    assert_eq!(direct(30, 1), Err(Refusal::NonceRequired));
    assert_eq!(direct(31, 31), Ok(NOW.plus(37)));
    // Signed again.
    let nonce = issuer.issue(at(1), [1; 16]);
    for name in [TICKET, DIRECT] {
        let again = request(name, at(0), 30, Some(&nonce));
        assert_eq!(verified(&again, policy(2)), Ok(NOW.plus(36)));
    }
    let late = verified(&request(TICKET, at(0), 60, Some(&nonce)), policy(32));
    assert_eq!(late, Err(Refusal::NonceRequired), "too old");
}

/// CS-43, CS-53: nobody without a valid MAC is asked for a nonce.
#[test]
fn only_who_signed_rightly_is_asked_for_a_nonce() {
    let issuer = issuer();
    let fields = request(DIRECT, at(-60), 30, None);
    let claimed = Claimed::read(&fields).unwrap().unwrap();
    let policy = Policy::at(NOW).with_nonces(&issuer).after_crash(NOW);
    let refused = claimed.verify(&answer_key(), &parts(&fields), policy).map(|_| ()).unwrap_err();
    assert_eq!(refused, Refusal::WrongSignature);
    assert_eq!(Refusal::NonceRequired.problem().status(), 401);
}

/// CS-26: a nonce of the server is burned like any other.
#[test]
fn a_nonce_of_the_server_is_good_once_in_a_session() {
    let issuer = issuer();
    let nonce = issuer.issue(NOW, [1; 16]);
    let fields = request(TICKET, NOW, 60, Some(&nonce));
    let mut burned = HashSet::new();
    let mut claim = |session: [u8; 16]| {
        let claimed = Claimed::read(&fields).unwrap().unwrap();
        let policy = Policy::at(NOW).with_nonces(&issuer);
        let unclaimed = claimed.verify(&key(), &parts(&fields), policy).unwrap();
        let log = |id, _| if burned.insert(id) { Ok(()) } else { Err(Refusal::RequestReplayed) };
        unclaimed.claim(&session, log).map(|_| ())
    };
    assert_eq!(claim([0; 16]), Ok(()));
    assert_eq!(claim([0; 16]), Err(Refusal::RequestReplayed));
    assert_eq!(claim([1; 16]), Ok(()), "of another session");
}

/// CS-53.
#[test]
fn a_nonce_of_the_server_has_its_form_and_its_mac() {
    let issuer = issuer();
    let nonce = issuer.issue(NOW, [0xff; 16]);
    let text = nonce.as_str();
    assert_eq!((text.len(), &text[..4]), (58, "csn."));
    assert_eq!(text.parse(), Ok(nonce.clone()));
    assert_eq!(issuer.check(text, NOW), Some(NOW));
    assert_eq!(NonceIssuer::new(&Zeroizing::new([4; 32])).check(text, NOW), None);
    assert_ne!(issuer.issue(NOW, [0; 16]), nonce);
    for wrong in [
        "",
        "csn.",
        &text[4..],
        &text[..57],
        &format!("{text}A"),
        &format!("{text}="),
        &format!("csn.{}", "A".repeat(54)),
    ] {
        assert_eq!(issuer.check(wrong, NOW), None, "{wrong}");
    }
    for not in ["csn.", "csn.abcdefghijk", "CSN.abcdefghijklm", "abcdefghijklmnopq", "csn.abcdefghij klm"] {
        assert!(not.parse::<ServerNonce>().is_err(), "{not}");
    }
}

/// CS-53, CS-54: there and back.
#[test]
fn the_client_finds_the_nonce_with_which_it_is_to_sign_again() {
    let nonce = issuer().issue(NOW, [1; 16]);
    for name in [TICKET, DIRECT] {
        let (fields, _) = signed_as(&signing(&key(), name), &[("content-type", "a/b")]);
        let value = ask(&Claimed::read(&fields).unwrap().unwrap(), &nonce).unwrap();
        assert_eq!(
            value,
            format!(
                "cs=(\"@method\" \"@authority\" \"@path\" \"@query\" \"content-type\");created;expires;nonce=\"{}\";keyid=\"{name}\";tag=\"{}\"",
                nonce.as_str(),
                name.tag()
            )
        );
        let general = HeaderMap::from_iter([(ACCEPT_SIGNATURE, value)]);
        let requested = countersign_httpsig::requested(&general).unwrap();
        assert!(requested.len() == 1 && requested[0].created && requested[0].expires);
        assert_eq!(asked(&general, &name), Some(nonce.clone()));
        let other = if name == TICKET { DIRECT } else { TICKET };
        assert_eq!(asked(&general, &other), None);
    }
}

/// CS-54.
#[test]
fn only_a_nonce_for_this_request_is_taken_whatever_is_to_be_covered() {
    let nonce = issuer().issue(NOW, [1; 16]);
    let text = nonce.as_str();
    let found = |value: String| asked(&headers(&[("accept-signature", &value)]), &TICKET);
    let tag = "tag=\"countersign\"";
    for good in [
        format!("cs=();nonce=\"{text}\";{tag}"),
        format!("cs=(\"@new\" \"x\";unknown);nonce=\"{text}\";{tag};created;more=1"),
        format!("cs=(\"@method\");{tag};alg=\"hmac-sha256\";nonce=\"{text}\";keyid=\"{TICKET}\""),
        format!("a=(\"@new\"), cs=();nonce=\"{text}\";{tag}"),
    ] {
        assert_eq!(found(good.clone()), Some(nonce.clone()), "{good}");
    }
    for wrong in [
        String::new(),
        format!("sig=();nonce=\"{text}\";{tag}"),
        format!("cs=();nonce=\"{text}\""),
        format!("cs=();nonce=\"{text}\";tag=\"countersign-direct\""),
        format!("cs=();{tag}"),
        format!("cs=();nonce={text};{tag}"),
        format!("cs=();nonce=\"000102030405060708090a0b0c0d0e0f\";{tag}"),
        format!("cs=();nonce=\"csn.{}\";{tag}", "a".repeat(125)),
        format!("cs=();nonce=\"{text}\";{tag};keyid=\"{TICKET}x\""),
        format!("cs=();nonce=\"{text}\";{tag};alg=\"ed25519\""),
        format!("cs;nonce=\"{text}\";{tag}"),
        format!("cs=();nonce=\"{text}\";{tag}, cs=1"),
    ] {
        assert_eq!(found(wrong.clone()), None, "{wrong}");
    }
}

#[test]
fn neither_api_keys_nor_the_key_of_nonces_are_shown() {
    assert_eq!(format!("{DIRECT:?} {TICKET:?}"), "Direct(…) Ticket(…)");
    let shown = format!("{:?} {:?} {:?}", issuer(), pair(), pair().direct());
    assert!(shown.starts_with("NonceIssuer(MacKey(…)) PairKeys(…) SessionKeys { id: "), "{shown}");
}

proptest! {
    #[test]
    fn no_nonce_but_those_that_were_given_is_known(place in any::<prop::sample::Index>(), letter in "[A-Za-z0-9_-]") {
        let given = issuer().issue(NOW, [1; 16]);
        let mut text = given.as_str().to_owned();
        let place = place.index(text.len());
        text.replace_range(place..=place, &letter);
        prop_assert_eq!(issuer().check(&text, NOW).is_some(), text == given.as_str());
    }
}
