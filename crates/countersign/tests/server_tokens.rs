//! The bearer token: where it is good, when it dies, and whose it is.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a broken fixture ends the test")]

mod server_support;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::protocol::UnixTime;
use countersign::protocol::lookup::LookupKey;
use countersign::server::{Authenticator, SourceAddr};
use countersign::store::{Keys, Listing, Peer, StoreError, random};
use countersign::{MemoryStore, NewPeer, PeerStore, Profile, ServiceName};
use serde_json::json;
use server_support::*;

#[tokio::test]
async fn a_token_is_good_for_many_requests_until_it_expires() {
    let world = World::new();
    let tokens = [world.guide_1_token().await, world.guide_2_token().await];
    for token in &tokens {
        for _ in 0..3 {
            assert_eq!(world.with_token(token).await.status, 200);
        }
    }
    world.advance(290);
    for token in &tokens {
        assert_eq!(world.with_token(token).await.status, 200);
    }
    world.advance(15);
    for token in &tokens {
        world.assert_refused(&world.with_token(token).await, 401, "session-invalid", "token-expired");
    }
}

#[tokio::test]
async fn the_lifetime_of_tokens_can_be_shorter_but_not_longer() {
    let world = World::with(|builder| builder.token_lifetime(Some(10)));
    let token = world.guide_1_token().await;
    world.advance(5);
    assert_eq!(world.with_token(&token).await.status, 200);
    world.advance(10);
    assert_eq!(world.with_token(&token).await.status, 401);

    let world = World::with(|builder| builder.token_lifetime(Some(1_000_000)));
    let challenge = world.ask(&world.billing.key).await;
    let answer = world.post("/verify_challenge", &world.billing.answer(&challenge)).await;
    assert_eq!(answer.json()["expiresIn"], 300);
}

#[tokio::test]
async fn the_scheme_is_bearer_in_any_letters() {
    let world = World::new();
    let token = world.guide_1_token().await;
    for scheme in ["Bearer", "bearer", "BEARER", "Bearer  "] {
        let answer = world.orders(&[("authorization", format!("{scheme} {token}"))]).await;
        assert_eq!(answer.status, 200, "{scheme}");
    }
}

#[tokio::test]
async fn a_token_dies_with_its_credential_and_does_not_rise_with_the_next_one() {
    let world = World::new();
    let (billing, reports) = (world.guide_1_token().await, world.guide_2_token().await);
    world.remove("billing");
    let answer = world.with_token(&billing).await;
    let record = world.assert_refused(&answer, 401, "session-invalid", "token-orphaned");
    assert_eq!(record.credential.as_deref(), Some("billing/1"), "the trail still names it");
    assert_eq!(world.with_token(&reports).await.status, 200, "another's token lives on");
    world.remove("reports");
    let answer = world.with_token(&reports).await;
    let record = world.assert_refused(&answer, 401, "session-invalid", "token-orphaned");
    assert!(record.profile != Some(Profile::SharedSecret), "it never had this one");

    // The same name, the same number, even the same keys: another credential.
    world.add(guide_1_peer("billing", &world.billing));
    world.assert_refused(&world.with_token(&billing).await, 401, "session-invalid", "token-orphaned");
    let token = world.guide_1_token().await;
    assert_eq!(world.with_token(&token).await.status, 200);
}

#[tokio::test]
async fn a_removed_peer_cannot_finish_what_it_began() {
    let world = World::new();
    let knocked = world.knock(&world.billing.key).await;
    let asked = world.ask(&world.reports).await;
    world.remove("billing");
    world.remove("reports");
    for answer in [
        world.orders(&world.billing.signed(&knocked)).await,
        world.post("/verify_challenge", &world.billing.answer(&knocked)).await,
        world.post("/verify_challenge", &answer_2(&world.reports, &asked)).await,
        world.post("/authenticate", &asking(&world.billing.key)).await,
    ] {
        let record = world.assert_refused(&answer, 401, "authentication-failed", "unknown-key");
        assert!(record.credential.unwrap().starts_with("unknown:"));
    }
}

#[tokio::test]
async fn a_token_of_another_server_is_refused() {
    let world = World::new();
    // The same name, the same peers: another process, or this one before a restart.
    let twin = Authenticator::builder("orders".parse().unwrap(), world.store.clone()).build().unwrap();
    let token = world.guide_1_token().await;
    let request = |token: &str| {
        let mut request = orders(&[("authorization", format!("Bearer {token}"))]).map(axum::body::Body::from);
        request.extensions_mut().insert(SourceAddr(HOME.parse().unwrap()));
        request
    };
    assert_problem(&send_to(&app(&twin), request(&token)).await, 401, "session-invalid");
    assert_eq!(world.with_token(&token).await.status, 200);
}

#[tokio::test]
async fn no_changed_cut_or_lengthened_token_passes() {
    let world = World::with(|builder| builder.limits(generous()));
    let token = world.guide_1_token().await;
    for index in 4..token.len() {
        let mut changed = token.clone().into_bytes();
        changed[index] = if changed[index] == b'A' { b'B' } else { b'A' };
        let answer = world.with_token(&String::from_utf8(changed).unwrap()).await;
        assert_problem(&answer, 401, "session-invalid");
        assert_problem(&world.with_token(&token[..index]).await, 401, "session-invalid");
    }
    for (wrong, reason) in [
        (format!("{token}A"), "token-form"),
        (format!("{token}="), "token-form"),
        (format!("{token} {token}"), "token-form"),
        ("csb.".to_owned(), "token-form"),
        (format!("csb.{}", "A".repeat(40)), "token-key"),
        (format!("csb.{}", "A".repeat(100_000)), "token-form"),
        (format!("csb.{token}"), "token-form"),
    ] {
        let answer = world.with_token(&wrong).await;
        let record = world.assert_refused(&answer, 401, "session-invalid", reason);
        assert_eq!((record.credential, record.service), (None, None), "nobody is named by a forged token");
    }
    assert_eq!(world.with_token(&token).await.status, 200);
}

#[tokio::test]
async fn without_tokens_every_request_signs_a_challenge() {
    let world = World::with(|builder| builder.token_lifetime(None));
    let challenge = world.ask(&world.billing.key).await;
    let answer = world.post("/verify_challenge", &world.billing.answer(&challenge)).await;
    assert_eq!(answer.json(), json!({"authenticated": true, "service": "billing"}));
    let foreign = World::new().guide_1_token().await;
    let answer = world.with_token(&foreign).await;
    world.assert_refused(&answer, 401, "session-invalid", "tokens-off");
    for _ in 0..3 {
        let challenge = world.knock(&world.billing.key).await;
        assert_eq!(world.orders(&world.billing.signed(&challenge)).await.status, 200);
    }
}

#[tokio::test]
async fn a_token_outlives_a_rotation_of_the_servers_own_key() {
    let world = World::new();
    let old = world.guide_1_token().await;
    world.advance(12 * 60 * 60 - 100);
    let before = world.guide_1_token().await;
    world.advance(200);
    let after = world.guide_1_token().await;
    assert_eq!(world.with_token(&before).await.status, 200);
    assert_eq!(world.with_token(&after).await.status, 200);
    world.assert_refused(&world.with_token(&old).await, 401, "session-invalid", "token-expired");
}

/// Peers whose one key has two secrets for a while: what a rotation looks like from here.
struct Rotating {
    store: MemoryStore,
    next: Caller,
    version: AtomicU64,
}

impl PeerStore for Rotating {
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        self.store.add(peer, now)
    }

    fn remove(&self, name: &ServiceName) -> Result<(), StoreError> {
        self.store.remove(name)
    }

    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        self.store.get(name)
    }

    fn read_all(&self) -> Result<Listing, StoreError> {
        let mut listing = self.store.read_all()?;
        for peer in listing.peers.iter_mut().filter(|peer| peer.name.as_str() == "billing") {
            let mut second = peer.credentials.first().expect("one credential").clone();
            second.number = 2;
            second.uid = [2; 16];
            if let Keys::SharedSecret { our_secret, their_secret, .. } = &mut second.keys {
                *our_secret = self.next.server_secret.clone();
                *their_secret = self.next.secret.clone();
            }
            match self.version.load(Ordering::SeqCst) {
                0 => peer.credentials.push(second),
                _ => peer.credentials = vec![second],
            }
        }
        Ok(listing)
    }

    fn version(&self) -> Result<u64, StoreError> {
        Ok(self.version.load(Ordering::SeqCst))
    }

    fn lookup_key(&self) -> &LookupKey {
        self.store.lookup_key()
    }
}

#[tokio::test]
async fn during_a_rotation_both_secrets_prove_and_each_gets_a_token_and_a_proof_of_its_own() {
    let old = Caller::new();
    let next = Caller { key: old.key.clone(), server_key: old.server_key.clone(), ..Caller::new() };
    let shipping = Caller::new();
    let store = MemoryStore::new();
    store.add(guide_1_peer("billing", &old), UnixTime(1)).unwrap();
    store.add(guide_1_peer("shipping", &shipping), UnixTime(1)).unwrap();
    let store = Arc::new(Rotating { store, next: next.clone(), version: AtomicU64::new(0) });
    let mut world = World::new();
    world.authenticator = Authenticator::builder("orders".parse().unwrap(), store.clone())
        .audit(world.sink.clone())
        .build()
        .unwrap();
    world.app = app(&world.authenticator);

    let mine = countersign::protocol::shared_secret::Challenge::from_bytes(random());
    let header = [("x-client-challenge", mine.to_string())];
    let mut tokens = Vec::new();
    for (caller, credential) in [(&old, "billing/1"), (&next, "billing/2"), (&shipping, "shipping/1")] {
        let body = caller.answer(&world.ask(&caller.key).await).to_string();
        let answer = world.send(post("/verify_challenge", &header, body)).await;
        assert_eq!(answer.status, 200, "{credential}");
        assert_eq!(answer.header("x-signature"), Some(caller.proof_of_the_server(&mine).as_str()));
        assert_eq!(world.record_of(&answer).credential.as_deref(), Some(credential));
        let token = answer.text("token");
        assert_eq!(world.with_token(&token).await.json()["credential"], credential);
        tokens.push(token);
    }
    // A secret of this peer proves nothing for another key.
    let crossed = Caller { key: shipping.key.clone(), ..next.clone() };
    let challenge = world.knock(&shipping.key).await;
    let answer = world.orders(&crossed.signed(&challenge)).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");

    // The old one is retired: its secret and its token end, the new one's live on.
    store.version.store(1, Ordering::SeqCst);
    assert!(world.authenticator.refresh().unwrap());
    let challenge = world.knock(&old.key).await;
    let answer = world.orders(&old.signed(&challenge)).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
    assert_eq!(world.orders(&next.signed(&challenge)).await.status, 200);
    world.assert_refused(&world.with_token(&tokens[0]).await, 401, "session-invalid", "token-orphaned");
    assert_eq!(world.with_token(&tokens[1]).await.status, 200);
    assert_eq!(world.with_token(&tokens[2]).await.status, 200);
}
