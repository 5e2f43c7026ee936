//! Handshakes of `cs1` that somebody changes, mixes, reflects or makes up.

#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a failed check is a failed test"
)]

mod server_support;

use countersign::protocol::cs1::server::Candidate as _;
use countersign::protocol::cs1::{Binding, Exporter, PairKeys};
use countersign::store::Cs1Options;
use serde_json::{Value, json};
use server_support::*;
use zeroize::Zeroizing;

/// 32 bytes in base64url.
fn encoded(byte: u8) -> String {
    encode(&[byte; 32]).trim_end_matches('=').replace('+', "-").replace('/', "_")
}

fn put(member: &'static str, value: impl Into<Value>) -> impl Fn(&mut Value) {
    let value = value.into();
    move |body| body[member] = value.clone()
}

#[tokio::test]
async fn cs_13_what_m1_said_and_m3_says_otherwise_is_another_handshake() {
    let target = Target::new();
    let other = Pair::new();
    target.add(other.peer("other", Cs1Options::default()));
    let changes: [(&str, Value); 5] = [
        ("nonce", encoded(1).into()),
        ("ephemeral", encoded(9).into()),
        ("apiKey", other.ours.expose().into()),
        ("peerKey", other.servers.expose().into()),
        ("binding", "tls-exporter".into()),
    ];
    for (member, value) in changes {
        for (first, third) in [(true, false), (false, true)] {
            let change = |on: bool| {
                let value = value.clone();
                move |body: &mut Value| {
                    if on {
                        body[member] = value;
                    }
                }
            };
            let (_, m4) = target.dance(&target.pair, Binding::None, None, change(first), change(third)).await;
            target.turned_away(&m4.unwrap(), 401, "challenge-invalid", "challenge-foreign");
        }
        // In both: the challenge is right, and the client's proof is not for it.
        let put = || put(member, value.clone());
        let (_, m4) = target.dance(&target.pair, Binding::None, None, put(), put()).await;
        let m4 = m4.unwrap();
        assert_problem(&m4, 401, "authentication-failed");
        unsigned(&m4);
    }
}

#[tokio::test]
async fn cs_4_roles_that_are_swapped_and_own_keys_that_are_reflected_prove_nothing() {
    let target = Target::new();
    // S calls, with C's keys and the secret of both.
    let swapped =
        Pair { ours: target.pair.servers.clone(), servers: target.pair.ours.clone(), ..target.pair.clone() };
    let (_, m4) = target.dance(&swapped, Binding::None, None, |_| (), |_| ()).await;
    target.turned_away(&m4.unwrap(), 401, "authentication-failed", "own-key");
    // As the same service on both sides, of either.
    for (key, reason) in [(&target.pair.servers, "own-key"), (&target.pair.ours, "unknown-key")] {
        let same = Pair { ours: key.clone(), servers: key.clone(), ..target.pair.clone() };
        let (_, m4) = target.dance(&same, Binding::None, None, |_| (), |_| ()).await;
        target.turned_away(&m4.unwrap(), 401, "authentication-failed", reason);
    }
}

#[tokio::test]
async fn cs_11_cs_14_unknown_pairs_get_the_same_m2_and_the_same_401_as_a_wrong_proof() {
    let target = Target::new();
    let other = Pair::new();
    target.add(other.peer("other", Cs1Options::default()));
    let pair = |ours: &Pair, servers: &Pair, secret: &Pair| Pair {
        ours: ours.ours.clone(),
        servers: servers.servers.clone(),
        secret: secret.secret.clone(),
    };
    let stranger = Pair::new();
    let wrong = pair(&target.pair, &target.pair, &stranger);
    let unknown_server = pair(&target.pair, &stranger, &target.pair);
    let mixed = pair(&target.pair, &other, &target.pair);
    let guide =
        Pair { ours: target.billing.key.clone(), servers: target.billing.server_key.clone(), ..Pair::new() };
    let mut told = Vec::new();
    for (pair, reason) in [
        (wrong, "wrong-signature"),
        (stranger, "unknown-key"),
        (unknown_server, "unknown-key"),
        (mixed, "unknown-key"),
        (guide, "wrong-profile"),
    ] {
        let (m2, m4) = target.dance(&pair, Binding::None, None, |_| (), |_| ()).await;
        let m4 = m4.unwrap();
        target.turned_away(&m4, 401, "authentication-failed", reason);
        let challenge = m2.text("challenge").len();
        told.push((m2.uniform(), challenge, m2.body.len(), m4.uniform(), m4.body.len()));
    }
    let (m2, m4) = target.dance(&target.pair, Binding::None, None, |_| (), |_| ()).await;
    assert_eq!(m4.unwrap().status, 200);
    let (first, challenge, length, ..) = &told[0];
    assert_eq!((m2.uniform().0, m2.text("challenge").len(), m2.body.len()), (first.0, *challenge, *length));
    for one in &told {
        assert_eq!((one.1, one.2, one.0.1.clone()), (told[0].1, told[0].2, told[0].0.1.clone()));
        assert_eq!((&one.3, one.4), (&told[0].3, told[0].4));
    }
}

#[tokio::test]
async fn cs_16_a_client_that_offers_a_share_of_small_order_gets_no_session_and_its_challenge_is_burned() {
    let target = Target::new();
    // RFC 7748, section 6.1: zero, one, p - 1, p, p + 1, and the two of order eight.
    let mut shares = vec![[0; 32], [0; 32], [0xff; 32], [0xff; 32], [0xff; 32]];
    shares[1][0] = 1;
    for (share, first) in shares[2..].iter_mut().zip([0xec, 0xed, 0xee]) {
        (share[0], share[31]) = (first, 0x7f);
    }
    for hex in [
        "e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800",
        "5f9c95bca3508c24b1d0b1559c83ef5b04445cc4581c8e86d8224eddd09f1157",
    ] {
        let mut share = [0; 32];
        countersign::protocol::mac::decode_hex(hex.as_bytes(), &mut share).unwrap();
        shares.push(share);
    }
    for share in shares {
        let (m3, answer) = prove(&target, &share).await;
        target.turned_away(&answer, 401, "authentication-failed", "zero-share");
        let again = target.tell("/verify_challenge", &m3, None).await;
        target.turned_away(&again, 401, "challenge-used", "challenge-used");
    }
    let (_, answer) = prove(&target, &[9; 32]).await;
    assert_eq!(answer.status, 200);
}

/// M3 with the right proof for this share, by somebody who writes it all himself (CS-6, section 3).
async fn prove(target: &Target, share: &[u8; 32]) -> (Value, Answer) {
    let lp = |fields: &[&[u8]]| -> Vec<u8> {
        let one = |field: &&[u8]| [&u32::try_from(field.len()).unwrap().to_be_bytes()[..], field].concat();
        fields.iter().flat_map(one).collect()
    };
    let Pair { ours, servers, secret } = &target.pair;
    let (nonce, text) =
        ([3; 32], |bytes: &[u8; 32]| encode(bytes).trim_end_matches('=').replace('+', "-").replace('/', "_"));
    let mut body = json!({
        "protocol": "cs1", "apiKey": ours.expose(), "peerKey": servers.expose(),
        "nonce": text(&nonce), "ephemeral": text(share), "binding": "none",
    });
    let m2 = target.tell("/authenticate", &body, None).await;
    let challenge = m2.text("challenge");
    let transcript = lp(&[
        b"countersign/1 cs1",
        ours.expose().as_bytes(),
        servers.expose().as_bytes(),
        &nonce,
        share,
        b"none",
        b"",
        challenge.as_bytes(),
    ]);
    let keys = PairKeys::derive(secret, ours, servers);
    let proof = keys.mac_key().mac(&[&lp(&[b"CP"]), &transcript]);
    body["challenge"] = challenge.into();
    body["signedChallenge"] = text(proof.as_bytes()).into();
    let answer = target.tell("/verify_challenge", &body, None).await;
    (body, answer)
}

#[tokio::test]
async fn cs_15_a_proof_is_good_once_and_only_as_long_as_its_challenge() {
    let target = Target::new();
    let (m3, answer) = prove(&target, &[9; 32]).await;
    assert_eq!(answer.status, 200);
    for seconds in [0, 4, 20] {
        target.advance(seconds);
        let again = target.tell("/verify_challenge", &m3, None).await;
        target.turned_away(&again, 401, "challenge-used", "challenge-used");
    }
    target.advance(10);
    let again = target.tell("/verify_challenge", &m3, None).await;
    target.turned_away(&again, 401, "challenge-expired", "challenge-expired");
    // Whose proof is wrong is not told that the challenge was used (section 11).
    let (m3, _) = prove(&target, &[9; 32]).await;
    let mut guessed = m3.clone();
    guessed["signedChallenge"] = encoded(0).into();
    let answer = target.tell("/verify_challenge", &guessed, None).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-signature");
}

#[tokio::test]
async fn cs_31_a_binding_that_is_not_the_configured_one_is_refused_either_way() {
    let (bound, unbound) = (Target::bound(), Target::new());
    let exporter = Exporter::new(Zeroizing::new([1; 32]));
    let other = Exporter::new(Zeroizing::new([2; 32]));
    for exporter in [None, Some(&exporter)] {
        let (_, m4) = bound.dance(&bound.pair, Binding::None, exporter, |_| (), |_| ()).await;
        bound.turned_away(&m4.unwrap(), 401, "authentication-failed", "wrong-binding");
    }
    let tls = Binding::TlsExporter;
    let (_, m4) = unbound.dance(&unbound.pair, tls, Some(&exporter), |_| (), |_| ()).await;
    unbound.turned_away(&m4.unwrap(), 401, "authentication-failed", "wrong-binding");
    // Said to be none, while what was proved is bound.
    let none = || put("binding", "none");
    let (_, m4) = bound.dance(&bound.pair, tls, Some(&exporter), none(), none()).await;
    bound.turned_away(&m4.unwrap(), 401, "authentication-failed", "wrong-signature");
    // M3 comes on another connection than the client proved it for; or on one that has no TLS.
    let relayed = |on: Option<Exporter>| {
        let (target, ours) = (&bound, &exporter);
        async move {
            let credential = target.pair.credential();
            let random = countersign::protocol::cs1::client::Randomness {
                nonce: [1; 32],
                ephemeral: Zeroizing::new([2; 32]),
            };
            let (m1, waiting) = countersign::protocol::cs1::client::start(&credential, tls, &random);
            let m2 = target.say(m1, on.as_ref()).await;
            let (m3, _) = waiting.receive(&incoming(&m2), Some(ours)).unwrap();
            target.say(m3, on.as_ref()).await
        }
    };
    bound.turned_away(&relayed(Some(other)).await, 401, "authentication-failed", "wrong-signature");
    bound.turned_away(&relayed(None).await, 401, "authentication-failed", "wrong-signature");
    assert_eq!(relayed(Some(exporter.clone())).await.status, 200);
}

#[tokio::test]
async fn cs_1_cs_10_m1_and_m3_of_another_form_are_malformed() {
    let target = Target::new();
    let right = encoded(9);
    let bad: Vec<(&str, Value)> = vec![
        ("nonce", "".into()),
        ("nonce", format!("{right}=").into()),
        ("nonce", right[1..].into()),
        ("nonce", format!("{right}AAAA").into()),
        ("nonce", format!("{}B", &right[..42]).into()),
        ("nonce", right.replace('Q', "+").into()),
        ("nonce", 1.into()),
        ("nonce", Value::Null),
        ("ephemeral", "AA".into()),
        ("ephemeral", json!([right])),
        ("binding", "".into()),
        ("binding", "None".into()),
        ("binding", "tls-unique".into()),
        ("apiKey", "".into()),
        ("apiKey", "with space".into()),
        ("peerKey", "a:b".into()),
        ("signedChallenge", right.clone().into()),
        ("more", 1.into()),
    ];
    for (member, value) in &bad {
        let (m2, _) =
            target.dance(&target.pair, Binding::None, None, put(member, value.clone()), |_| ()).await;
        target.turned_away(&m2, 400, "malformed", "malformed");
        if *member == "signedChallenge" {
            continue;
        }
        let (_, m4) =
            target.dance(&target.pair, Binding::None, None, |_| (), put(member, value.clone())).await;
        target.turned_away(&m4.unwrap(), 400, "malformed", "malformed");
    }
    for (member, value) in
        [("challenge", "1"), ("challenge", ""), ("signedChallenge", ""), ("signedChallenge", "AA")]
    {
        let (_, m4) = target.dance(&target.pair, Binding::None, None, |_| (), put(member, value)).await;
        target.turned_away(&m4.unwrap(), 400, "malformed", "malformed");
    }
    for member in ["apiKey", "peerKey", "nonce", "ephemeral", "binding"] {
        let gone = |body: &mut Value| {
            body.as_object_mut().unwrap().remove(member);
        };
        let (m2, _) = target.dance(&target.pair, Binding::None, None, gone, |_| ()).await;
        target.turned_away(&m2, 400, "malformed", "malformed");
    }
    for (value, problem) in [
        (json!("cs2"), "unsupported-protocol"),
        (json!(1), "unsupported-protocol"),
        (json!("CS1"), "unsupported-protocol"),
    ] {
        let (m2, _) = target.dance(&target.pair, Binding::None, None, put("protocol", value), |_| ()).await;
        target.turned_away(&m2, 400, problem, problem);
    }
}

#[tokio::test]
async fn cs_3_keys_of_one_profile_are_none_in_another() {
    let target = Target::new();
    // The protocol's name taken out on the way: what is left is malformed, or another guide's, and says nothing of the key.
    let stripped = |body: &mut Value| {
        body.as_object_mut().unwrap().remove("protocol");
    };
    let (m2, _) = target.dance(&target.pair, Binding::None, None, stripped, |_| ()).await;
    target.turned_away(&m2, 400, "malformed", "malformed");
    let answer = target.post("/authenticate", &asking(&target.pair.ours)).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-profile");
    // Under guide 1 every key gets a challenge at a protected route, and none of these gets further.
    let as_guide = Caller {
        key: target.pair.ours.clone(),
        secret: target.pair.secret.clone(),
        server_key: target.pair.servers.clone(),
        server_secret: target.pair.secret.clone(),
    };
    let challenge = target.knock(&as_guide.key).await;
    let answer = target.orders(&as_guide.signed(&challenge)).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-profile");
    let answer = target.post("/verify_challenge", &as_guide.answer(&challenge)).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-profile");
    let guessed = json!({"apiKey": target.pair.ours.expose(), "signedChallenge": "0".repeat(64)});
    let answer = target.post("/verify_challenge", &guessed).await;
    target.turned_away(&answer, 401, "authentication-failed", "wrong-profile");
    // And the reverse: keys of a guide here, with its own secret.
    for (ours, servers) in
        [(&target.billing.key, &target.billing.server_key), (&target.reports, &target.our_reports_key)]
    {
        let pair =
            Pair { ours: ours.clone(), servers: servers.clone(), secret: target.billing.secret.clone() };
        let (_, m4) = target.dance(&pair, Binding::None, None, |_| (), |_| ()).await;
        target.turned_away(&m4.unwrap(), 401, "authentication-failed", "wrong-profile");
    }
}

#[tokio::test]
async fn m1_beside_other_credentials_is_two_methods() {
    let target = Target::new();
    let token = target.guide_1_token().await;
    for (name, value) in [
        ("x-api-key", target.billing.key.expose().to_owned()),
        ("authorization", format!("Bearer {token}")),
        ("x-client-challenge", "AAAAAAAAAAAAAAAAAAAAAA==".to_owned()),
    ] {
        for path in ["/authenticate", "/verify_challenge"] {
            let answer = target.send(post(path, &[(name, value.clone())], r#"{"protocol":"cs1"}"#)).await;
            target.turned_away(&answer, 400, "two-methods", "two-methods");
        }
    }
}

#[tokio::test]
async fn cs_17_each_m4_has_a_share_of_its_own_also_when_the_client_repeats_its_own() {
    let target = Target::new();
    let mut shares = std::collections::HashSet::new();
    for _ in 0..4 {
        let (m3, answer) = prove(&target, &[9; 32]).await;
        assert_eq!((answer.status, &m3["ephemeral"]), (200, &encoded(9).into()));
        assert!(shares.insert(answer.text("ephemeral")), "a share came twice");
    }
}
