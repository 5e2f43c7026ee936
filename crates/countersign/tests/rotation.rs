//! Rotation in band over real sockets (`specs/rotation.md`): from its beginning to its end, and what is lost, repeated and made up on the
//! way.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture ends the test"
)]

mod rotation_support;

use std::sync::atomic::Ordering;

use bytes::Bytes;
use countersign::PeerStore as _;
use countersign::protocol::wire::ROTATION;
use countersign::rotation::{Fault, Progress};
use countersign::store::agreement::{Message, Step};
use countersign::store::{Ending, Move, Moved, Which, random};
use http::{Request, StatusCode};
use http_body_util::BodyExt as _;
use rotation_support::{Service, assert_one_pair, eventually, now, pair, work};
use zeroize::Zeroizing;

/// What stands in a rotation message as text.
async fn post(service: &Service, body: &str) -> (StatusCode, String) {
    let client = countersign::client::http_client(&countersign::Trust::System).unwrap();
    let request = Request::post(format!("{}{ROTATION}", service.url))
        .header("content-type", "application/json")
        .body(
            http_body_util::Full::new(Bytes::from(body.to_owned()))
                .map_err(|never| match never {})
                .boxed_unsync(),
        )
        .unwrap();
    let response = client.request(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, String::from_utf8(body.to_vec()).unwrap())
}

fn propose() -> Move {
    Move::Propose { nonce: random(), private: Zeroizing::new(random()) }
}

#[tokio::test]
async fn both_sides_have_the_next_credential_and_the_old_one_ends_after_its_grace() {
    let (billing, orders) = pair(true).await;
    let before = billing.peer(&orders).credentials[0].fingerprint.clone();
    let (there, back) = (billing.client(&orders), orders.client(&billing));
    work(&there).await.unwrap();
    assert_eq!(billing.driver(&orders).rotate().await.unwrap(), Progress::Done(2));
    assert_one_pair(&billing, &orders, 2).await;
    work(&there).await.unwrap();
    work(&back).await.unwrap();
    eventually("the old one is retired on both sides", || {
        billing.peer(&orders).credentials.len() == 1 && orders.peer(&billing).credentials.len() == 1
    })
    .await;
    assert_one_pair(&billing, &orders, 1).await;
    assert_ne!(billing.peer(&orders).credentials[0].fingerprint, before);
    assert_eq!(billing.peer(&orders).ended[0].how, Ending::Retired);
    work(&there).await.unwrap();
    work(&back).await.unwrap();
}

#[tokio::test]
async fn ro_8_what_is_lost_is_repeated_and_comes_to_the_same_end() {
    for lost in 1..=3 {
        let (billing, orders) = pair(false).await;
        let network = &orders.network;
        network.lose_answers.store(lost, Ordering::Relaxed);
        let driver = billing.driver(&orders);
        let mut faults = 0;
        let progress = loop {
            match driver.rotate().await {
                Ok(progress) => break progress,
                Err(Fault::Client(_) | Fault::Unconfirmed(_)) => faults += 1,
                Err(other) => panic!("{other}"),
            }
            assert!(faults <= lost, "more failed than was lost");
            work(&billing.client(&orders)).await.unwrap();
        };
        assert_eq!(progress, Progress::Done(2), "one rotation, not two");
        assert_one_pair(&billing, &orders, 2).await;
    }
}

#[tokio::test]
async fn ro_11_a_confirmation_that_comes_twice_is_ruled_on_twice() {
    let (billing, orders) = pair(false).await;
    orders.network.twice.store(1, Ordering::Relaxed);
    assert_eq!(billing.driver(&orders).rotate().await.unwrap(), Progress::Done(2));
    assert_one_pair(&billing, &orders, 2).await;
}

#[tokio::test]
async fn ro_12_what_was_given_up_is_said_to_be_and_another_one_can_begin() {
    let (billing, orders) = pair(false).await;
    let driver = billing.driver(&orders);
    // The proposal arrives, and the confirmation does not.
    orders.network.seen.store(0, Ordering::Relaxed);
    let lose = async {
        eventually("it is answered", || matches!(orders.peer(&billing).step(), Some((Step::Pending, _))))
            .await;
        orders.network.lose_requests.store(1, Ordering::Relaxed);
    };
    let (failed, ()) = tokio::join!(driver.rotate(), lose);
    assert!(matches!(failed, Err(Fault::Unconfirmed(502))), "{failed:?}");
    assert!(matches!(billing.peer(&orders).step(), Some((Step::Ready, _))));
    orders.store.agree(&billing.name, &Move::GiveUp { after: 0 }, now()).unwrap();
    orders.authenticator.refresh().unwrap();
    work(&billing.client(&orders)).await.unwrap();
    assert_eq!(driver.go_on().await.unwrap(), Progress::Aborted);
    assert_one_pair(&billing, &orders, 1).await;
    assert_eq!(billing.peer(&orders).ended.last().unwrap().how, Ending::GivenUp);
    assert_eq!(driver.rotate().await.unwrap(), Progress::Done(3));
    assert_one_pair(&billing, &orders, 2).await;
}

#[tokio::test]
async fn ro_3_when_both_begin_at_once_one_of_them_goes_on() {
    for _ in 0..4 {
        let (billing, orders) = pair(true).await;
        billing.store.agree(&orders.name, &propose(), now()).unwrap();
        orders.store.agree(&billing.name, &propose(), now()).unwrap();
        let (to, back) = (billing.driver(&orders), orders.driver(&billing));
        let (a, b) = tokio::join!(to.rotate(), back.rotate());
        let done = |one: &Result<Progress, Fault>| matches!(one, Ok(Progress::Done(2)));
        assert!(done(&a) || done(&b), "{a:?} {b:?}");
        eventually("both are through", || {
            billing.peer(&orders).step().is_none() && orders.peer(&billing).step().is_none()
        })
        .await;
        assert_one_pair(&billing, &orders, 2).await;
        work(&orders.client(&billing)).await.unwrap();
    }
}

#[tokio::test]
async fn ro_9_a_peer_that_knows_a_greater_number_says_so_and_a_greater_one_is_taken() {
    let (billing, orders) = pair(false).await;
    assert_eq!(billing.driver(&orders).rotate().await.unwrap(), Progress::Done(2));
    eventually("the old one is retired", || orders.peer(&billing).credentials.len() == 1).await;
    eventually("here too", || billing.peer(&orders).credentials.len() == 1).await;
    // A store that comes back from a backup knows less.
    let mut peer = billing.peer(&orders);
    peer.agreement = Default::default();
    let forgotten = std::sync::Arc::new(countersign::MemoryStore::new());
    let countersign::store::Keys::Cs1 { our_key, their_key, secret } = peer.credentials[0].keys.clone()
    else {
        panic!("cs1");
    };
    let again = countersign::NewPeer {
        name: peer.name.clone(),
        url: peer.url.clone(),
        trust: peer.trust.clone(),
        danger_unproven_server: false,
        cs1: peer.cs1,
        keys: countersign::NewKeys::cs1(our_key, their_key, secret).unwrap(),
    };
    // Its clock is behind as well, or the number would be greater by itself.
    forgotten.add(again, now()).unwrap();
    forgotten.agree(&orders.name, &propose(), countersign::protocol::UnixTime(5)).unwrap();
    let restored = Service { store: forgotten, ..billing };
    assert_eq!(restored.driver(&orders).rotate().await.unwrap(), Progress::Done(2));
    assert_one_pair(&restored, &orders, 2).await;
}

#[tokio::test]
async fn ro_6_a_proposal_has_to_be_signed_and_about_the_credential_that_signs() {
    let (billing, orders) = pair(false).await;
    let Moved::Send(Message::Propose(proposal)) =
        billing.store.agree(&orders.name, &propose(), now()).unwrap()
    else {
        panic!("a proposal");
    };
    let unsigned = String::from_utf8(proposal.to_json()).unwrap();
    assert_eq!(post(&orders, &unsigned).await.0, StatusCode::UNAUTHORIZED);
    // Signed, and about the keys of somebody else.
    let other = Service::start("other").await;
    rotation_support::introduce(&other, &orders, false);
    let send = |body: Vec<u8>| {
        let client = other.client(&orders);
        async move {
            let request = Request::post(ROTATION).body(Bytes::from(body)).unwrap();
            let response = client.send(request).await.unwrap();
            let status = response.status();
            (status, response.into_body().whole(4096).await.unwrap())
        }
    };
    let (status, body) = send(proposal.to_json()).await;
    assert_eq!(status, StatusCode::CONFLICT);
    assert!(String::from_utf8_lossy(&body).contains("rotation-busy"), "{body:?}");
    assert!(orders.peer(&billing).step().is_none() && orders.peer(&other).step().is_none());
    assert_eq!(orders.peer(&billing).credentials.len(), 1);
}

#[tokio::test]
async fn ro_5_a_proposal_with_a_share_of_small_order_is_refused() {
    let (billing, orders) = pair(false).await;
    let Moved::Send(Message::Propose(mut proposal)) =
        billing.store.agree(&orders.name, &propose(), now()).unwrap()
    else {
        panic!("a proposal");
    };
    proposal.share = [0; 32];
    let request = Request::post(ROTATION).body(Bytes::from(proposal.to_json())).unwrap();
    let response = billing.client(&orders).send(request).await.unwrap();
    assert_eq!(response.status(), StatusCode::BAD_REQUEST);
    assert!(orders.peer(&billing).step().is_none());
    assert_eq!(orders.peer(&billing).credentials.len(), 1);
}

#[tokio::test]
async fn ro_7_a_confirmation_that_is_wrong_in_anything_gets_the_same_401_and_changes_nothing() {
    let (billing, orders) = pair(false).await;
    let other = Service::start("other").await;
    rotation_support::introduce(&other, &orders, false);
    orders.network.lose_answers.store(1, Ordering::Relaxed);
    // Lost is the answer to the proposal: it is repeated.
    assert!(billing.driver(&orders).rotate().await.is_err());
    let driver = billing.driver(&orders);
    let block = async {
        eventually("ready", || matches!(billing.peer(&orders).step(), Some((Step::Ready, _)))).await;
        orders.network.lose_requests.store(1, Ordering::Relaxed);
    };
    let (failed, ()) = tokio::join!(driver.go_on(), block);
    assert!(failed.is_err());
    let Some(Message::Confirm(right)) = billing.peer(&orders).outgoing() else { panic!("ready") };
    let text = String::from_utf8(right.to_json()).unwrap();
    let (rid, names) = (right.rid.to_string(), &right.names);
    let other_key = other.peer(&orders).api_keys().unwrap().0.expose().to_owned();
    let swap = |member: &str, from: &str, to: &str| {
        text.replace(&format!("\"{member}\":\"{from}\""), &format!("\"{member}\":\"{to}\""))
    };
    let value = |member: &str| {
        let rest = text.split(&format!("\"{member}\":\"")).nth(1).unwrap();
        rest.split('"').next().unwrap().to_owned()
    };
    let zero = "A".repeat(43);
    let wrong = [
        text.replace(&rid, &(right.rid + 1).to_string()),
        text.replace(&rid, "1"),
        swap("proofNew", &value("proofNew"), &zero),
        swap("proofNew", &value("proofNew"), &value("proofOld")),
        swap("apiKey", names.initiator.expose(), &other_key),
        swap("apiKey", names.initiator.expose(), "csk_0000000000000000000000"),
    ];
    let mut answers = std::collections::BTreeSet::new();
    for wrong in wrong {
        assert_ne!(wrong, text);
        let (status, body) = post(&orders, &wrong).await;
        assert_eq!(status, StatusCode::UNAUTHORIZED, "{wrong}: {body}");
        let body: serde_json::Value = serde_json::from_str(&body).unwrap();
        answers.insert((body["type"].to_string(), body["title"].to_string()));
        assert!(matches!(orders.peer(&billing).step(), Some((Step::Pending, _))), "{wrong}");
    }
    assert_eq!(answers.len(), 1, "{answers:?}");
    for malformed in [
        "",
        "{}",
        "[]",
        "null",
        r#"{"rotation":"confirm"}"#,
        r#"{"rotation":"done","rid":1,"proof":"x"}"#,
        &text.replace(&rid, "0"),
        &text.replace(&rid, "9007199254740992"),
        &text.replace(&rid, "-1"),
        &text.replace(&rid, "1.5"),
        &text.replace("\"rid\"", "\"rid\":1,\"rid\""),
        &text.replace("\"rid\"", "\"more\":1,\"rid\""),
        &text.replace(&zero, "="),
        &swap("proofOld", &value("proofOld"), "AA"),
        &format!("{text}{text}"),
        &"x".repeat(5000),
    ] {
        if malformed == text {
            continue;
        }
        let (status, body) = post(&orders, malformed).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{malformed}: {body}");
    }
    // Nothing of it did any harm: the old one is in use, and the right confirmation is taken.
    work(&billing.client(&orders)).await.unwrap();
    assert_eq!(billing.driver(&orders).go_on().await.unwrap(), Progress::Done(2));
    assert_one_pair(&billing, &orders, 2).await;
    // An older one, again.
    assert_eq!(post(&orders, &text).await.0, StatusCode::OK, "the same ruling, as long as both are there");
    eventually("the old one is retired", || orders.peer(&billing).credentials.len() == 1).await;
    assert_eq!(post(&orders, &text).await.0, StatusCode::OK, "RO-11: as long as the new one lives");
    assert_one_pair(&billing, &orders, 1).await;
}

#[tokio::test]
async fn ro_12_a_peer_that_begins_again_and_again_does_not_fill_the_store() {
    let (billing, orders) = pair(false).await;
    let client = billing.client(&orders);
    let send = async || {
        let Moved::Send(Message::Propose(one)) =
            billing.store.agree(&orders.name, &propose(), now()).unwrap()
        else {
            panic!("a proposal");
        };
        let request = Request::post(ROTATION).body(Bytes::from(one.to_json())).unwrap();
        let status = client.send(request).await.unwrap().status();
        billing.store.agree(&orders.name, &Move::Withdraw { rid: one.rid, last: None }, now()).unwrap();
        status
    };
    assert_eq!(send().await, StatusCode::OK);
    for _ in 0..5 {
        assert_eq!(send().await, StatusCode::CONFLICT);
    }
    assert_eq!((orders.peer(&billing).credentials.len(), orders.peer(&billing).ended.len()), (2, 0));
    work(&client).await.unwrap();
}

/// Takes a rotation to where `orders` has confirmed and `billing` does not know it.
async fn unheard(billing: &Service, orders: &Service) {
    let lose = async {
        eventually("ready", || matches!(billing.peer(orders).step(), Some((Step::Ready, _)))).await;
        orders.network.lose_answers.store(1, Ordering::Relaxed);
    };
    let driver = billing.driver(orders);
    let (failed, ()) = tokio::join!(driver.rotate(), lose);
    assert!(failed.is_err(), "{failed:?}");
    assert!(matches!(orders.peer(billing).step(), Some((Step::Current, _))));
}

#[tokio::test]
async fn ro_11_what_was_confirmed_is_said_to_be_although_the_old_one_was_ended_there_by_hand() {
    let (billing, orders) = pair(false).await;
    unheard(&billing, &orders).await;
    orders.store.end(&billing.name, Which::Number(1), Ending::Revoked, now()).unwrap();
    orders.authenticator.refresh().unwrap();
    assert_eq!(billing.driver(&orders).go_on().await.unwrap(), Progress::Done(2));
    work(&billing.client(&orders)).await.unwrap();
}

#[tokio::test]
async fn ro_12_that_the_new_one_was_ended_there_by_hand_is_said_and_another_one_can_begin() {
    let (billing, orders) = pair(false).await;
    unheard(&billing, &orders).await;
    orders.store.end(&billing.name, Which::Number(2), Ending::Revoked, now()).unwrap();
    orders.authenticator.refresh().unwrap();
    assert_eq!(billing.driver(&orders).go_on().await.unwrap(), Progress::Aborted);
    assert_one_pair(&billing, &orders, 1).await;
    assert_eq!(billing.driver(&orders).rotate().await.unwrap(), Progress::Done(3));
    work(&billing.client(&orders)).await.unwrap();
}

#[tokio::test]
async fn ro_3_a_proposal_that_nobody_has_answered_for_a_minute_gives_way_to_the_peers() {
    for _ in 0..4 {
        let (billing, orders) = pair(true).await;
        // It cannot be delivered: only the other direction works.
        let long_ago = countersign::protocol::UnixTime(now().0 - 61);
        orders.store.agree(&billing.name, &propose(), long_ago).unwrap();
        assert_eq!(billing.driver(&orders).rotate().await.unwrap(), Progress::Done(2));
        assert_one_pair(&billing, &orders, 2).await;
    }
}

#[tokio::test]
async fn what_was_given_up_leaves_one_number_and_nothing_else_behind() {
    let (billing, orders) = pair(false).await;
    for number in 2..=6 {
        let Moved::Send(Message::Propose(one)) =
            billing.store.agree(&orders.name, &propose(), now()).unwrap()
        else {
            panic!("a proposal");
        };
        let request = Request::post(ROTATION).body(Bytes::from(one.to_json())).unwrap();
        assert_eq!(billing.client(&orders).send(request).await.unwrap().status(), StatusCode::OK);
        orders.store.agree(&billing.name, &Move::GiveUp { after: 0 }, now()).unwrap();
        billing.store.agree(&orders.name, &Move::Withdraw { rid: one.rid, last: None }, now()).unwrap();
        let ended = orders.peer(&billing).ended;
        let left: Vec<_> = ended.iter().map(|one| (one.number, one.how)).collect();
        assert_eq!(left, [(number, Ending::GivenUp)]);
    }
    work(&billing.client(&orders)).await.unwrap();
}

#[tokio::test]
async fn who_has_answered_once_and_begins_the_next_time_sends_the_newest() {
    let (billing, orders) = pair(true).await;
    for turn in 2..=4 {
        let (from, to) = if turn % 2 == 0 { (&billing, &orders) } else { (&orders, &billing) };
        assert_eq!(from.driver(to).rotate().await.unwrap(), Progress::Done(turn));
        for (one, other) in [(&billing, &orders), (&orders, &billing)] {
            let peer = one.peer(other);
            assert_eq!(peer.sending(now())[0].number, turn, "{} to {}", one.name, other.name);
            work(&one.client(other)).await.unwrap();
        }
        eventually("the old one is retired on both sides", || {
            billing.peer(&orders).credentials.len() == 1 && orders.peer(&billing).credentials.len() == 1
        })
        .await;
    }
}

#[tokio::test]
async fn a_revocation_in_the_middle_ends_all_of_it() {
    let (billing, orders) = pair(false).await;
    orders.network.lose_answers.store(1, Ordering::Relaxed);
    assert!(billing.driver(&orders).rotate().await.is_err());
    assert!(matches!(orders.peer(&billing).step(), Some((Step::Pending, _))));
    orders.store.end(&billing.name, Which::All, Ending::Compromised, now()).unwrap();
    assert!(orders.peer(&billing).step().is_none() && !orders.peer(&billing).has_answered());
    orders.authenticator.refresh().unwrap();
    assert!(billing.driver(&orders).go_on().await.is_err(), "nothing can be agreed on any more");
    assert!(work(&billing.client(&orders)).await.is_err());
    billing.store.end(&orders.name, Which::All, Ending::Compromised, now()).unwrap();
    assert!(billing.peer(&orders).step().is_none() && billing.peer(&orders).outgoing().is_none());
}
