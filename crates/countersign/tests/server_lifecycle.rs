//! Credentials that come, overlap and end, as callers meet them.

#![cfg(feature = "server")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture ends the test"
)]

mod server_support;

use std::time::Duration;

use countersign::protocol::UnixTime;
use countersign::store::{Ending, Next, Overlap, Peer, Which, random};
use countersign::{NewKeys, PeerStore as _};
use server_support::*;

const GRACE: u64 = 600;

impl World {
    fn now(&self) -> UnixTime {
        self.clock.now()
    }

    /// Gives `name` its next credential, from now on, with `GRACE`.
    fn rotate(&self, name: &str, keys: NewKeys, deadline: Option<u64>) -> Peer {
        let overlap = Overlap::new(self.now(), GRACE, deadline);
        let next = Next { keys, overlap, confirmed: false, follows: None };
        let peer = self.store.rotate(&name.parse().unwrap(), next, self.now()).unwrap();
        assert!(self.authenticator.refresh().unwrap());
        peer
    }

    fn end(&self, name: &str, which: Which, how: Ending) {
        self.store.end(&name.parse().unwrap(), which, how, self.now()).unwrap();
        assert!(self.authenticator.refresh().unwrap());
    }

    async fn sign_in(&self, caller: &Caller) -> Answer {
        let challenge = self.knock(&caller.key).await;
        self.orders(&caller.signed(&challenge)).await
    }

    async fn credential_of(&self, caller: &Caller) -> String {
        let answer = self.sign_in(caller).await;
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        answer.text("credential")
    }
}

fn keys(caller: &Caller) -> NewKeys {
    let Caller { key, secret, server_key, server_secret } = caller.clone();
    NewKeys::shared_secret(server_key, key, server_secret, secret).unwrap()
}

#[tokio::test]
async fn during_a_rotation_both_credentials_are_good_and_each_is_named() {
    let world = World::new();
    let next = Caller::new();
    world.rotate("billing", keys(&next), None);
    assert_eq!(world.credential_of(&world.billing).await, "billing/1");
    assert_eq!(world.credential_of(&next).await, "billing/2");
}

#[tokio::test]
async fn a_peer_may_keep_its_api_key_and_change_its_secret_only() {
    let world = World::new();
    let next = Caller { secret: new_secret(), server_secret: new_secret(), ..world.billing.clone() };
    world.rotate("billing", keys(&next), None);
    assert_eq!(world.credential_of(&world.billing).await, "billing/1");
    assert_eq!(world.credential_of(&next).await, "billing/2");
    world.end("billing", Which::Number(1), Ending::Retired);
    assert_eq!(world.credential_of(&next).await, "billing/2");
    let answer = world.sign_in(&world.billing).await;
    world.assert_refused(&answer, 401, "authentication-failed", "wrong-signature");
}

#[tokio::test]
async fn the_proof_of_the_server_is_made_with_the_credential_that_the_caller_used() {
    let world = World::new();
    let next = Caller::new();
    world.rotate("billing", keys(&next), None);
    for caller in [&world.billing, &next] {
        let own = "AAECAwQFBgcICQoLDA0ODw==";
        let mut headers = caller.signed(&world.knock(&caller.key).await);
        headers.push(("x-client-challenge", own.to_owned()));
        let answer = world.orders(&headers).await;
        assert_eq!(answer.header("x-api-key"), Some(caller.server_key.expose()));
        let proof = caller.proof_of_the_server(&own.parse().unwrap());
        assert_eq!(answer.header("x-signature"), Some(proof.as_str()));
    }
}

#[tokio::test]
async fn under_guide_2_both_keys_are_good_until_the_old_one_is_over() {
    let world = World::new();
    let next = new_key();
    let old_token = world.guide_2_token().await;
    world.rotate("reports", NewKeys::api_key(Some(new_key()), Some(next.clone())).unwrap(), Some(GRACE));
    for key in [&world.reports, &next] {
        let challenge = world.ask(key).await;
        assert_eq!(world.post("/verify_challenge", &answer_2(key, &challenge)).await.status, 200);
    }
    world.advance(GRACE);
    let answer = world.post("/authenticate", &asking(&world.reports)).await;
    let record = world.assert_refused(&answer, 401, "authentication-failed", "credential-retired");
    assert_eq!(record.credential.as_deref(), Some("reports/1"));
    world.assert_refused(&world.with_token(&old_token).await, 401, "session-invalid", "token-expired");
    assert!(!world.ask(&next).await.is_empty());
}

/// Nobody has tidied up, and nobody has read the store since: the time alone decides.
#[tokio::test]
async fn an_old_credential_is_refused_from_its_deadline_on_even_if_nobody_retires_it() {
    let world = World::new();
    let next = Caller::new();
    world.rotate("billing", keys(&next), Some(200));
    let token = world.guide_1_token().await;
    world.advance(199);
    assert_eq!(world.credential_of(&world.billing).await, "billing/1");
    assert_eq!(world.with_token(&token).await.status, 200);
    world.advance(1);
    let answer = world.sign_in(&world.billing).await;
    let record = world.assert_refused(&answer, 401, "authentication-failed", "credential-retired");
    assert_eq!(record.credential.as_deref(), Some("billing/1"));
    world.assert_refused(&world.with_token(&token).await, 401, "session-invalid", "token-orphaned");
    assert_eq!(world.credential_of(&next).await, "billing/2");
}

#[tokio::test]
async fn without_a_deadline_the_old_one_waits_for_the_first_use_of_the_new_one() {
    let world = World::new();
    let next = Caller::new();
    world.rotate("billing", keys(&next), None);
    world.advance(GRACE * 100);
    assert_eq!(world.credential_of(&world.billing).await, "billing/1", "nobody has shown the new one");
    assert_eq!(world.credential_of(&next).await, "billing/2");
    world.authenticator.flush().unwrap();
    assert!(world.authenticator.refresh().unwrap(), "its first use is news");
    world.advance(GRACE - 1);
    assert_eq!(
        world.credential_of(&world.billing).await,
        "billing/1",
        "other processes of the peer may be late"
    );
    world.advance(1);
    let answer = world.sign_in(&world.billing).await;
    world.assert_refused(&answer, 401, "authentication-failed", "credential-retired");
}

#[tokio::test]
async fn a_watching_server_writes_uses_down_and_retires_what_is_over() {
    let world = World::new();
    let next = Caller::new();
    world.rotate("billing", keys(&next), None);
    let watch = tokio::spawn(world.authenticator.clone().watch());
    world.credential_of(&world.billing).await;
    world.credential_of(&next).await;
    let billing = || world.store.get(&"billing".parse().unwrap()).unwrap();
    let confirmed = async {
        while billing().credentials[1].confirmed.is_none() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), confirmed).await.unwrap();
    assert!(billing().credentials[1].used_inbound.is_some());
    world.advance(2 * GRACE);
    let retired = async {
        while billing().ended.is_empty() {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), retired).await.unwrap();
    assert_eq!(billing().credentials.len(), 1);
    assert_eq!(billing().ended[0].how, Ending::Retired);
    watch.abort();
}

#[tokio::test]
async fn a_revoked_credential_is_refused_with_its_tokens_and_the_trail_says_so() {
    for (how, reason) in
        [(Ending::Revoked, "credential-revoked"), (Ending::Compromised, "credential-compromised")]
    {
        let world = World::new();
        let (billing, reports) = (world.guide_1_token().await, world.guide_2_token().await);
        world.end("billing", Which::All, how);
        world.end("reports", Which::Number(1), how);
        for (token, id) in [(&billing, "billing/1"), (&reports, "reports/1")] {
            let answer = world.with_token(token).await;
            let record = world.assert_refused(&answer, 401, "session-invalid", "token-orphaned");
            assert_eq!(record.credential.as_deref(), Some(id));
        }
        let answer = world.sign_in(&world.billing).await;
        let record = world.assert_refused(&answer, 401, "authentication-failed", reason);
        assert_eq!(record.credential.as_deref(), Some("billing/1"));
        let answer = world.post("/authenticate", &asking(&world.reports)).await;
        let record = world.assert_refused(&answer, 401, "authentication-failed", reason);
        assert_eq!(record.credential.as_deref(), Some("reports/1"));
    }
}

#[tokio::test]
async fn a_revoked_key_is_told_the_same_as_one_that_nobody_ever_had() {
    let world = World::new();
    world.end("billing", Which::All, Ending::Revoked);
    world.end("reports", Which::All, Ending::Compromised);
    let never_given = countersign::protocol::api_key::Challenge::generate(world.now(), &random());
    let told = async |key: &countersign::ApiKey| {
        let stranger = Caller { key: key.clone(), ..Caller::new() };
        let mut told = Vec::new();
        for answer in [
            world.sign_in(&stranger).await,
            world.post("/authenticate", &asking(key)).await,
            world.post("/verify_challenge", &answer_2(key, never_given.as_str())).await,
            world.orders(&[("x-api-key", key.expose().to_owned())]).await,
        ] {
            let mut body = answer.json();
            for own in ["requestId", "challenge"] {
                body.as_object_mut().unwrap().remove(own);
            }
            let mut names: Vec<_> = answer.headers.keys().map(|name| name.to_string()).collect();
            names.sort_unstable();
            told.push((answer.status, body, names));
        }
        told
    };
    let unknown = told(&new_key()).await;
    assert_eq!(told(&world.billing.key).await, unknown);
    assert_eq!(told(&world.reports).await, unknown);
}

#[tokio::test]
async fn after_a_revocation_the_next_credential_gets_in_and_the_old_one_stays_out() {
    let world = World::new();
    world.end("billing", Which::All, Ending::Compromised);
    let next = Caller::new();
    world.rotate("billing", keys(&next), None);
    assert_eq!(world.credential_of(&next).await, "billing/2");
    let answer = world.sign_in(&world.billing).await;
    world.assert_refused(&answer, 401, "authentication-failed", "credential-compromised");
}

#[tokio::test]
async fn ages_say_what_is_due_and_what_is_overdue() {
    let world = World::new();
    let (ages, now) = world.authenticator.ages();
    assert!(ages.iter().all(|age| age.is_overdue(now)), "the fixture's are from 1970");
    world.rotate("billing", keys(&Caller::new()), None);
    let billing = |world: &World| {
        let (ages, now) = world.authenticator.ages();
        let age = ages.into_iter().find(|age| age.credential.peer.as_str() == "billing").unwrap();
        (age.credential.to_string(), age.is_overdue(now))
    };
    assert_eq!(billing(&world), ("billing/2".to_owned(), false));
    world.advance(GRACE);
    assert_eq!(billing(&world), ("billing/2".to_owned(), true), "the peer has not taken it up in time");
    world.store.set_schedule(&"reports".parse().unwrap(), None).unwrap();
    world.authenticator.refresh().unwrap();
    let (ages, now) = world.authenticator.ages();
    assert!(ages.iter().any(|age| age.credential.peer.as_str() == "reports" && !age.is_overdue(now)));
}
