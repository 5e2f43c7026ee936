//! Challenges and signatures that are not right: each is refused, and the answers tell nothing about keys.

#![cfg(feature = "server")]

mod server_support;

use countersign::ApiKey;
use countersign::protocol::mac::Tag;
use countersign::protocol::shared_secret::{Challenge, Lifetime};
use serde_json::{Value, json};
use server_support::*;

fn strict() -> World {
    World::with(|builder| builder.limits(generous()))
}

#[tokio::test]
async fn a_challenge_of_guide_1_is_answered_once_wherever() {
    let world = strict();
    for first_on_the_route in [true, false] {
        let challenge = world.knock(&world.billing.key).await;
        let (route, body) = (world.billing.signed(&challenge), world.billing.answer(&challenge));
        let first = match first_on_the_route {
            true => world.orders(&route).await,
            false => world.post("/verify_challenge", &body).await,
        };
        assert_eq!(first.status, 200);
        // As long as it could be remembered wrongly, and beyond the byte of time in it.
        for second in 0..300 {
            for answer in [world.orders(&route).await, world.post("/verify_challenge", &body).await] {
                assert_eq!(answer.status, 401, "after {second} s");
                let reason = world.record_of(&answer).reason;
                match second {
                    0..20 => assert_eq!(reason, "challenge-used"),
                    40..200 => assert_eq!(reason, "challenge-expired"),
                    _ => assert!(
                        ["challenge-used", "challenge-expired", "challenge-foreign"].contains(&&*reason)
                    ),
                }
            }
            world.advance(1);
        }
    }
}

#[tokio::test]
async fn a_used_challenge_is_said_to_be_used_only_to_who_signs_it_rightly() {
    let world = strict();
    let challenge = world.knock(&world.billing.key).await;
    let good = world.billing.signed(&challenge);
    assert_eq!(world.orders(&good).await.status, 200);
    let answer = world.orders(&good).await;
    let record = world.assert_refused(&answer, 401, "challenge-used", "challenge-used");
    assert_eq!(record.credential.as_deref(), Some("billing/1"));
    assert_ne!(answer.challenge(), challenge, "a fresh one comes with it");
    let mut guessed = good;
    guessed[2].1 = "0".repeat(64);
    let answer = world.orders(&guessed).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
}

#[tokio::test]
async fn a_wrong_signature_does_not_burn_the_challenge() {
    let world = strict();
    let challenge = world.knock(&world.billing.key).await;
    let right = world.billing.sign(&challenge);
    let mut changed = Tag::from_hex(&right).unwrap().as_bytes().to_owned();
    changed[31] ^= 1;
    let impostor = Caller { key: world.billing.key.clone(), ..Caller::new() };
    let reversed = Caller { secret: world.billing.server_secret.clone(), ..world.billing.clone() };
    for signature in [
        "0".repeat(64),
        Tag::from_bytes(changed).to_hex(),
        impostor.sign(&challenge),
        reversed.sign(&challenge),
        world.billing.sign("AAAAAAAAAAAAAAAAAAAAAA=="),
    ] {
        let mut headers = world.billing.signed(&challenge);
        headers[2].1 = signature.clone();
        let answer = world.orders(&headers).await;
        world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
        let mut body = world.billing.answer(&challenge);
        body["signedChallenge"] = signature.into();
        let answer = world.post("/verify_challenge", &body).await;
        world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
    }
    assert_eq!(world.orders(&world.billing.signed(&challenge)).await.status, 200);
}

#[tokio::test]
async fn a_challenge_can_be_answered_for_thirty_seconds() {
    let world = strict();
    let guide_1 = [world.knock(&world.billing.key).await, world.knock(&world.billing.key).await];
    let guide_2 = [world.ask(&world.reports).await, world.ask(&world.reports).await];
    world.advance(25);
    assert_eq!(world.orders(&world.billing.signed(&guide_1[0])).await.status, 200);
    assert_eq!(world.post("/verify_challenge", &answer_2(&world.reports, &guide_2[0])).await.status, 200);
    world.advance(10);
    let answer = world.orders(&world.billing.signed(&guide_1[1])).await;
    world.assert_refused(&answer, 401, "challenge-expired", "challenge-expired");
    assert_eq!(world.orders(&world.billing.signed(&answer.challenge())).await.status, 200, "a fresh one");
    let answer = world.post("/verify_challenge", &answer_2(&world.reports, &guide_2[1])).await;
    world.assert_refused(&answer, 401, "challenge-expired", "challenge-expired");
    // Without the key's signature nobody learns that.
    let wrong = json!({"apiKey": world.reports.expose(), "signedChallenge": "0".repeat(64)});
    let answer = world.post("/verify_challenge", &wrong).await;
    world.assert_refused(&answer, 401, "authentication-failed", "nothing-outstanding");
    // After a while it is not remembered any more.
    world.advance(200);
    let answer = world.post("/verify_challenge", &answer_2(&world.reports, &guide_2[1])).await;
    world.assert_refused(&answer, 401, "authentication-failed", "nothing-outstanding");
}

#[tokio::test]
async fn the_lifetime_of_challenges_can_be_set() {
    let world = World::with(|builder| builder.challenge_lifetime(Lifetime::seconds(120).unwrap()));
    let asked = world.post("/authenticate", &asking(&world.reports)).await;
    assert_eq!(asked.json()["expiresIn"], 120);
    let knocked = world.orders(&[("x-api-key", world.billing.key.expose().to_owned())]).await;
    assert_eq!(knocked.json()["expiresIn"], 120);
    assert!(knocked.header("www-authenticate").unwrap().ends_with(r#"expires_in="120""#));
    world.advance(110);
    assert_eq!(world.orders(&world.billing.signed(&knocked.challenge())).await.status, 200);
    let answer = answer_2(&world.reports, &asked.text("challenge"));
    assert_eq!(world.post("/verify_challenge", &answer).await.status, 200);
}

/// Each bit of the challenge, and so each other time that it could pretend to be from, the future among them.
#[tokio::test]
async fn no_forged_challenge_passes_though_it_is_signed_rightly() {
    let world = strict();
    let challenge = world.knock(&world.billing.key).await;
    let bytes = *challenge.parse::<Challenge>().unwrap().as_bytes();
    let mut forged = vec![[0; 16], [0xff; 16]];
    for bit in 0..128 {
        let mut changed = bytes;
        changed[bit / 8] ^= 1 << (bit % 8);
        forged.push(changed);
    }
    for time in (0..=u8::MAX).filter(|time| *time != bytes[0]) {
        let mut changed = bytes;
        changed[0] = time;
        forged.push(changed);
    }
    for forged in forged {
        let forged = Challenge::from_bytes(forged).to_string();
        let answer = world.orders(&world.billing.signed(&forged)).await;
        world.assert_refused(&answer, 401, "challenge-invalid", "challenge-foreign");
        let answer = world.post("/verify_challenge", &world.billing.answer(&forged)).await;
        world.assert_refused(&answer, 401, "challenge-invalid", "challenge-foreign");
    }
    assert_eq!(world.orders(&world.billing.signed(&challenge)).await.status, 200);
}

#[tokio::test]
async fn a_challenge_of_another_key_or_another_server_is_foreign() {
    let world = strict();
    let twin = strict();
    twin.remove("billing");
    twin.add(guide_1_peer("billing", &world.billing));
    twin.advance(60);
    for foreign in [
        world.knock(&new_key()).await,
        world.knock(&world.reports).await,
        world.knock(&world.billing.server_key).await,
        twin.knock(&world.billing.key).await,
    ] {
        let answer = world.orders(&world.billing.signed(&foreign)).await;
        world.assert_refused(&answer, 401, "challenge-invalid", "challenge-foreign");
    }
    let guide_2 = twin.ask(&twin.reports).await;
    world.ask(&world.reports).await;
    let answer = world.post("/verify_challenge", &answer_2(&world.reports, &guide_2)).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
}

#[tokio::test]
async fn a_challenge_of_guide_2_is_answered_once_and_only_after_it_was_asked_for() {
    let world = strict();
    let made_up = answer_2(&world.reports, "1678886400.12345abcde");
    let answer = world.post("/verify_challenge", &made_up).await;
    world.assert_refused(&answer, 401, "authentication-failed", "nothing-outstanding");
    let challenge = world.ask(&world.reports).await;
    let good = answer_2(&world.reports, &challenge);
    assert_eq!(world.post("/verify_challenge", &good).await.status, 200);
    let answer = world.post("/verify_challenge", &good).await;
    world.assert_refused(&answer, 401, "challenge-used", "challenge-used");
    world.ask(&world.reports).await;
    let answer = world.post("/verify_challenge", &good).await;
    world.assert_refused(&answer, 401, "challenge-used", "challenge-used");
}

/// On the route and on both endpoints, in the shapes of both guides, with and without a good challenge.
#[tokio::test]
async fn an_unknown_key_a_wrong_secret_our_own_key_and_another_profile_look_the_same() {
    let world = strict();
    let impostor = |key: &ApiKey| Caller { key: key.clone(), ..Caller::new() };
    let keys = [
        (impostor(&new_key()), "unknown-key"),
        (impostor(&world.billing.key), "wrong-signature"),
        (Caller { key: world.billing.server_key.clone(), ..Caller::new() }, "own-key"),
        (impostor(&world.our_reports_key), "own-key"),
        (impostor(&world.reports), "wrong-profile"),
    ];
    let mut seen = Vec::new();
    for (caller, reason) in &keys {
        let key = ("x-api-key", caller.key.expose().to_owned());
        let knocked = world.orders(&[key]).await;
        world.assert_refused(&knocked, 401, "challenge-required", "challenge-sent");
        let challenge = knocked.challenge();
        let signed = world.orders(&caller.signed(&challenge)).await;
        world.assert_refused(&signed, 401, "authentication-failed", reason);
        let verified = world.post("/verify_challenge", &caller.answer(&challenge)).await;
        world.assert_refused(&verified, 401, "authentication-failed", reason);
        let foreign = world.orders(&caller.signed("AAAAAAAAAAAAAAAAAAAAAA==")).await;
        world.assert_refused(&foreign, 401, "challenge-invalid", "challenge-foreign");
        let old = world.post("/verify_challenge", &caller.answer("AAAAAAAAAAAAAAAAAAAAAA==")).await;
        world.assert_refused(&old, 401, "challenge-invalid", "challenge-foreign");
        seen.push([knocked, signed, verified, foreign, old].map(|answer| answer.uniform()));
    }
    assert!(seen.iter().all(|answers| *answers == seen[0]), "{seen:#?}");

    // An expired challenge is about the protocol, whoever asked for it.
    let mut seen = Vec::new();
    for (caller, _) in &keys {
        let challenge = world.knock(&caller.key).await;
        world.advance(40);
        let answer = world.orders(&caller.signed(&challenge)).await;
        world.assert_refused(&answer, 401, "challenge-expired", "challenge-expired");
        seen.push(answer.uniform());
    }
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:#?}");
}

#[tokio::test]
async fn under_guide_2_all_failures_look_the_same() {
    let world = strict();
    world.ask(&world.reports).await;
    let stranger = new_key();
    let never_asked = new_key();
    world.add(guide_2_peer("exports", None, &never_asked));
    let signature = "0".repeat(64);
    let mut seen = Vec::new();
    for (key, reason) in [
        (&stranger, "unknown-key"),
        (&world.reports, "wrong-signature"),
        (&never_asked, "nothing-outstanding"),
        (&world.billing.key, "wrong-profile"),
        (&world.our_reports_key, "own-key"),
        (&world.billing.server_key, "own-key"),
    ] {
        for echo in [None, Some("1678886400.12345abcde")] {
            let mut body = json!({"apiKey": key.expose(), "signedChallenge": signature});
            if let Some(echo) = echo {
                body["challenge"] = Value::from(echo);
            }
            let answer = world.post("/verify_challenge", &body).await;
            world.assert_refused(&answer, 401, "authentication-failed", reason);
            seen.push(answer.uniform());
        }
    }
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:#?}");
}

#[tokio::test]
async fn at_authenticate_every_key_that_may_not_ask_looks_the_same() {
    let world = strict();
    let header = |key: &ApiKey| post("/authenticate", &[("x-api-key", key.expose().to_owned())], "");
    let body = |key: &ApiKey| post("/authenticate", &[], asking(key).to_string());
    let mut seen = Vec::new();
    for (request, reason) in [
        (header(&new_key()), "unknown-key"),
        (body(&new_key()), "unknown-key"),
        (header(&world.billing.server_key), "own-key"),
        (body(&world.billing.server_key), "own-key"),
        (body(&world.our_reports_key), "own-key"),
        (header(&world.reports), "wrong-profile"),
    ] {
        let answer = world.send(request).await;
        world.assert_refused(&answer, 401, "authentication-failed", reason);
        seen.push(answer.uniform());
    }
    assert!(seen.iter().all(|answer| *answer == seen[0]), "{seen:#?}");
}

/// Whoever sends our own proof back to us, or uses us to sign a challenge of ours, is not let in.
#[tokio::test]
async fn our_own_key_and_our_own_proof_open_nothing_from_outside() {
    let world = strict();
    let ours = &world.billing.server_key;
    // A challenge that we give for our own key is handed to us as a caller's, and our proof is sent back.
    let challenge = world.knock(ours).await;
    let knocked = world.knock(&world.billing.key).await;
    let mut headers = world.billing.signed(&knocked);
    headers.push(("x-client-challenge", challenge.clone()));
    let proved = world.orders(&headers).await;
    let proof = proved.header("x-signature").unwrap().to_owned();
    let reflected =
        Caller { key: ours.clone(), secret: world.billing.server_secret.clone(), ..world.billing.clone() };
    assert_eq!(proof, reflected.sign(&challenge), "it is a valid signature");
    let answer = world.orders(&reflected.signed(&challenge)).await;
    let record = world.assert_refused(&answer, 401, "authentication-failed", "own-key");
    assert!(record.credential.unwrap().starts_with("unknown:"));
    let answer = world.post("/verify_challenge", &reflected.answer(&challenge)).await;
    world.assert_refused(&answer, 401, "authentication-failed", "own-key");
}
