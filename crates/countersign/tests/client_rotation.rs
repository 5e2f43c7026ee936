//! The client while its credentials change: no request fails.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

mod client_support;

use std::sync::Arc;

use client_support::{Fake, Keys, Orders, Said, Seen, get, post};
use countersign::client::{Client, ClientError};
use countersign::protocol::UnixTime;
use countersign::store::{Ending, Next, Overlap, Which};
use countersign::{MemoryStore, NewKeys, NewPeer, PeerStore, Trust};
use http::StatusCode;

const LONG_AGO: UnixTime = UnixTime(1);

/// `orders` as `billing` keeps it.
struct Side {
    store: Arc<MemoryStore>,
    danger: bool,
}

fn pair_of(keys: &Keys) -> NewKeys {
    NewKeys::shared_secret(
        keys.billing.clone(),
        keys.orders.clone(),
        keys.secret.clone(),
        keys.secret.clone(),
    )
    .unwrap()
}

impl Side {
    fn of(keys: &Keys, url: &str, danger: bool) -> Self {
        let store = Arc::new(MemoryStore::new());
        let peer = NewPeer {
            name: "orders".parse().unwrap(),
            url: Some(url.to_owned()),
            trust: Trust::System,
            danger_unproven_server: danger,
            cs1: Default::default(),
            keys: pair_of(keys),
        };
        store.add(peer, LONG_AGO).unwrap();
        Self { store, danger }
    }

    fn rotate(&self, keys: &Keys, confirmed: bool) {
        let next =
            Next { keys: pair_of(keys), overlap: Overlap::new(LONG_AGO, 60, None), confirmed, follows: None };
        self.store.rotate(&"orders".parse().unwrap(), next, LONG_AGO).unwrap();
    }

    fn peer(&self) -> countersign::store::Peer {
        self.store.get(&"orders".parse().unwrap()).unwrap()
    }

    fn following(&self) -> Client {
        assert_eq!(self.peer().danger_unproven_server, self.danger);
        Client::builder().follow(self.store.clone()).build(&self.peer()).unwrap()
    }

    fn outbound_uses(&self) -> Vec<bool> {
        self.peer().credentials.iter().map(|one| one.used_outbound.is_some()).collect()
    }
}

#[tokio::test]
async fn a_peer_that_has_only_the_next_credential_is_called_with_it() {
    let orders = Orders::start(|builder| builder).await;
    let side = Side::of(&Keys::new(), &orders.url, false);
    side.rotate(&orders.keys, false);
    let response = side.following().send(post("/x", "data")).await.unwrap();
    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(side.outbound_uses(), [false, true]);
    assert!(side.peer().credentials[1].confirmed.is_some(), "the peer has shown that it has it");
}

#[tokio::test]
async fn a_peer_that_has_only_the_old_credential_is_called_with_it_whichever_goes_first() {
    for confirmed in [false, true] {
        let orders = Orders::start(|builder| builder).await;
        let side = Side::of(&orders.keys, &orders.url, false);
        side.rotate(&Keys::new(), false);
        if confirmed {
            // As if the peer had said so and then gone back to an older state.
            let peer = side.peer();
            let used = countersign::store::Use {
                uid: peer.credentials[1].uid,
                direction: countersign::store::UseDirection::Inbound,
                at: UnixTime(u64::MAX / 2),
            };
            side.store.note(&[used]).unwrap();
        }
        let client = side.following();
        for _ in 0..3 {
            assert_eq!(client.send(post("/x", "data")).await.unwrap().status(), StatusCode::OK);
        }
        assert_eq!(side.outbound_uses(), [true, false]);
    }
}

#[tokio::test]
async fn a_client_that_follows_goes_on_through_a_rotation_and_one_that_does_not_is_shut_out_at_its_end() {
    let orders = Orders::start(|builder| builder).await;
    let side = Side::of(&orders.keys, &orders.url, false);
    let (following, fixed) = (side.following(), Client::new(&side.peer()).unwrap());
    for client in [&following, &fixed] {
        assert_eq!(client.send(get("/x")).await.unwrap().status(), StatusCode::OK);
    }
    let next = Keys::new();
    side.rotate(&next, true);
    orders.rotate(&next);
    orders.end(Which::Number(1), Ending::Retired);
    // The following client has a quarter of a second in which it need not have noticed; being shut out makes it look.
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    for _ in 0..2 {
        assert_eq!(following.send(post("/x", "data")).await.unwrap().status(), StatusCode::OK);
    }
    let error = fixed.send(get("/x")).await.unwrap_err();
    assert!(matches!(error, ClientError::Handshake { .. }), "{error}");
}

#[tokio::test]
async fn a_client_that_is_shut_out_looks_at_once_for_what_has_come_a_moment_ago() {
    for tokens in [true, false] {
        let orders = Orders::start(move |builder| builder.token_lifetime(tokens.then_some(300))).await;
        let side = Side::of(&orders.keys, &orders.url, false);
        let client = side.following();
        assert_eq!(client.send(post("/x", "data")).await.unwrap().status(), StatusCode::OK);
        // All of it between two looks of the client, which come four times a second.
        let next = Keys::new();
        side.rotate(&next, true);
        orders.rotate(&next);
        orders.end(Which::Number(1), Ending::Retired);
        assert_eq!(client.send(post("/x", "data")).await.unwrap().status(), StatusCode::OK, "{tokens}");
    }
}

#[tokio::test]
async fn what_is_revoked_here_is_not_used_to_call_any_more() {
    let orders = Orders::start(|builder| builder).await;
    let side = Side::of(&orders.keys, &orders.url, false);
    let client = side.following();
    assert_eq!(client.send(get("/x")).await.unwrap().status(), StatusCode::OK);
    side.store.end(&"orders".parse().unwrap(), Which::All, Ending::Revoked, LONG_AGO).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    let served = orders.sink.records().len();
    let error = client.send(get("/x")).await.unwrap_err();
    assert!(matches!(error, ClientError::NoCredential(_)), "{error}");
    assert!(error.to_string().contains("countersign rotate orders"), "{error}");
    assert_eq!(orders.sink.records().len(), served, "nothing was sent");
    side.store.remove(&"orders".parse().unwrap()).unwrap();
    tokio::time::sleep(std::time::Duration::from_millis(300)).await;
    assert!(matches!(client.send(get("/x")).await.unwrap_err(), ClientError::Store(_)));
}

#[tokio::test]
async fn limits_and_outages_are_no_reason_to_try_the_other_credential() {
    for status in [400, 404, 429, 500, 503] {
        let fake = Fake::start(move |_| (status, vec![], String::new())).await;
        let side = Side::of(&Keys::new(), fake.url(), false);
        side.rotate(&Keys::new(), false);
        side.following().send(get("/x")).await.unwrap_err();
        assert_eq!(fake.paths(), ["/authenticate"], "{status}");
    }
}

/// A stranger's server of guide 1 without endpoints, which knows one API key.
fn knows(keys: &Keys, scheme: bool) -> impl Fn(&Seen) -> Said + Send + Sync + 'static {
    let known = keys.billing.expose().to_owned();
    move |seen| {
        if seen.path == "/authenticate" {
            return (404, vec![], String::new());
        }
        let asks: Vec<(&'static str, String)> = vec![
            ("www-authenticate", format!("Countersign challenge=\"{}\"", client_support::CHALLENGE)),
            ("x-challenge", client_support::CHALLENGE.to_owned()),
        ];
        let signed = seen.headers.contains_key("x-signature");
        match seen.headers.get("x-api-key") {
            Some(key) if signed && key == known.as_str() => (200, vec![], "served".to_owned()),
            _ if signed && !scheme => (401, vec![], String::new()),
            _ => (401, asks, format!(r#"{{"challenge":"{}","expiresIn":30}}"#, client_support::CHALLENGE)),
        }
    }
}

#[tokio::test]
async fn a_server_that_challenges_each_request_is_answered_with_the_credential_that_it_knows() {
    let next = Keys::new();
    let fake = Fake::start(knows(&next, true)).await;
    let side = Side::of(&Keys::new(), fake.url(), true);
    side.rotate(&next, false);
    let client = side.following();
    for expected in [4, 2] {
        let before = fake.paths().iter().filter(|path| *path == "/x").count();
        assert_eq!(client.send(post("/x", "data")).await.unwrap().status(), StatusCode::OK);
        let requests = fake.paths().iter().filter(|path| *path == "/x").count() - before;
        assert_eq!(requests, expected, "the second time it begins with the right one");
    }
    assert_eq!(side.outbound_uses(), [false, false], "a server that proves nothing ends no rotation");
}

#[tokio::test]
async fn a_401_that_asks_for_nothing_of_ours_does_not_send_a_post_twice() {
    let next = Keys::new();
    let fake = Fake::start(knows(&next, false)).await;
    let side = Side::of(&Keys::new(), fake.url(), true);
    side.rotate(&next, false);
    assert_eq!(side.following().send(post("/x", "data")).await.unwrap().status(), StatusCode::UNAUTHORIZED);
    let bodies = fake.seen().iter().filter(|seen| seen.body == "data").count();
    assert_eq!(bodies, 1);
    assert_eq!(side.following().send(get("/x")).await.unwrap().status(), StatusCode::OK);
}
