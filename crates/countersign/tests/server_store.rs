//! The store behind a server: out of reach, and changed while it is read.

#![cfg(feature = "server")]
#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

mod server_support;

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use countersign::protocol::UnixTime;
use countersign::protocol::lookup::LookupKey;
use countersign::server::Authenticator;
use countersign::store::{Listing, Peer, StoreError, Use};
use countersign::{MemoryStore, NewPeer, PeerStore, ServiceName};
use server_support::*;

type Hook = Box<dyn FnOnce() + Send>;

/// A store in which something happens once, when its peers have been read and before the reader has them.
#[derive(Default)]
struct Watched {
    store: MemoryStore,
    hook: Mutex<Option<Hook>>,
    lost: AtomicBool,
    /// Whoever writes waits as long as this is set.
    held: AtomicBool,
    /// How many have waited.
    waited: AtomicUsize,
    /// This peer is damaged.
    damaged: Mutex<Option<ServiceName>>,
}

impl PeerStore for Watched {
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
        let hook = self.hook.lock().unwrap().take();
        if let Some(hook) = hook {
            hook();
        }
        if let Some(name) = &*self.damaged.lock().unwrap() {
            listing.peers.retain(|peer| peer.name != *name);
            listing.damaged.push(StoreError::Damaged(format!("{name}/1")));
        }
        Ok(listing)
    }

    fn version(&self) -> Result<u64, StoreError> {
        match self.lost.load(Ordering::SeqCst) {
            true => Err(StoreError::NoStore { path: "lost".to_owned() }),
            false => self.store.version(),
        }
    }

    fn note(&self, uses: &[Use]) -> Result<(), StoreError> {
        self.waited.fetch_add(1, Ordering::SeqCst);
        while self.held.load(Ordering::SeqCst) {
            std::thread::sleep(Duration::from_millis(1));
        }
        self.store.note(uses)
    }

    fn lookup_key(&self) -> &LookupKey {
        self.store.lookup_key()
    }
}

/// A server whose only peer is `billing`, in a store of this file's.
fn watched() -> (World, Arc<Watched>) {
    watched_for(Duration::from_secs(30))
}

/// … whose peers are good for so long while it is out of reach.
fn watched_for(stale_after: Duration) -> (World, Arc<Watched>) {
    let mut world = World::new();
    let store = Arc::new(Watched::default());
    store.add(guide_1_peer("billing", &world.billing), UnixTime(1)).unwrap();
    world.authenticator = Authenticator::builder("orders".parse().unwrap(), store.clone())
        .audit(world.sink.clone())
        .clock(world.clock.clone())
        .stale_after(stale_after)
        .build()
        .unwrap();
    world.app = app(&world.authenticator);
    (world, store)
}

/// Asks until the token's owner is gone, at most for a generous while.
async fn until_refused(world: &World, token: &str) {
    let refused = async {
        while world.with_token(token).await.status == 200 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), refused).await.unwrap();
}

#[tokio::test]
async fn while_the_store_is_out_of_reach_what_was_known_last_goes_on_and_then_changes_are_taken_over() {
    let (world, store) = watched();
    let token = world.guide_1_token().await;
    store.lost.store(true, Ordering::SeqCst);
    assert!(world.authenticator.refresh().is_err());
    let watch = tokio::spawn(world.authenticator.clone().watch());
    tokio::task::yield_now().await;
    assert_eq!(world.with_token(&token).await.status, 200);
    // It is the store that must have been asked lately; how old messages are does not matter.
    world.advance(60);
    assert!(world.authenticator.is_ready());

    store.remove(&"billing".parse().unwrap()).unwrap();
    assert_eq!(world.with_token(&token).await.status, 200, "nobody could ask");
    store.lost.store(false, Ordering::SeqCst);
    until_refused(&world, &token).await;
    watch.abort();
}

#[tokio::test]
async fn a_store_out_of_reach_for_too_long_closes_the_door_until_it_is_back() {
    let (world, store) = watched_for(Duration::from_secs(2));
    let token = world.guide_1_token().await;
    store.lost.store(true, Ordering::SeqCst);
    let watch = tokio::spawn(world.authenticator.clone().watch());
    // The watcher has to have begun before its silence can count.
    let closed = async {
        while world.authenticator.is_ready() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), closed).await.unwrap();
    for answer in [
        world.with_token(&token).await,
        world.orders(&[("x-api-key", world.billing.key.expose().to_owned())]).await,
        world.post("/authenticate", &asking(&world.billing.key)).await,
        world.post("/verify_challenge", &world.billing.answer("AAAAAAAAAAAAAAAAAAAAAA==")).await,
    ] {
        world.assert_refused(&answer, 503, "unavailable", "store-stale");
    }
    store.lost.store(false, Ordering::SeqCst);
    let ready = async {
        while !world.authenticator.is_ready() {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), ready).await.unwrap();
    assert_eq!(world.with_token(&token).await.status, 200);
    watch.abort();
}

/// Lets go in any case: the runtime waits for who writes.
struct Held(Arc<Watched>);

impl Held {
    fn new(store: &Arc<Watched>) -> Self {
        store.held.store(true, Ordering::SeqCst);
        Self(Arc::clone(store))
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        self.0.held.store(false, Ordering::SeqCst);
    }
}

#[tokio::test]
async fn a_store_that_is_slow_to_be_written_is_still_read() {
    let (world, store) = watched();
    let token = world.guide_1_token().await;
    let held = Held::new(&store);
    let watch = tokio::spawn(world.authenticator.clone().watch());
    let written = async {
        while store.waited.load(Ordering::SeqCst) == 0 {
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(30), written).await.unwrap();
    assert_eq!(world.with_token(&token).await.status, 200);
    store.remove(&"billing".parse().unwrap()).unwrap();
    until_refused(&world, &token).await;
    world.assert_refused(&world.with_token(&token).await, 401, "session-invalid", "token-orphaned");
    drop(held);
    watch.abort();
}

#[tokio::test]
async fn a_damaged_peer_is_shut_out_and_the_others_go_on() {
    let (world, store) = watched();
    let token = world.guide_1_token().await;
    let damage = |name: Option<&str>, seed: &str| {
        *store.damaged.lock().unwrap() = name.map(|name| name.parse().unwrap());
        store.add(guide_1_peer(seed, &Caller::new()), UnixTime(2)).unwrap();
        assert!(world.authenticator.refresh().unwrap());
    };
    damage(Some("shipping"), "shipping");
    assert_eq!(world.with_token(&token).await.status, 200);
    damage(Some("billing"), "one");
    world.assert_refused(&world.with_token(&token).await, 401, "session-invalid", "token-orphaned");
    damage(None, "two");
    assert_eq!(world.with_token(&token).await.status, 200, "it was mended");
}

/// Two refreshes at once: the slower one has read a peer that the faster one knows to be removed.
#[tokio::test]
async fn a_refresh_that_was_overtaken_does_not_bring_a_removed_peer_back() {
    let (world, store) = watched();
    let token = world.guide_1_token().await;

    store.add(guide_1_peer("shipping", &Caller::new()), UnixTime(2)).unwrap();
    let (faster, its_store) = (world.authenticator.clone(), store.clone());
    *store.hook.lock().unwrap() = Some(Box::new(move || {
        its_store.remove(&"billing".parse().unwrap()).unwrap();
        assert!(faster.refresh().unwrap());
    }));
    assert!(world.authenticator.refresh().unwrap());
    world.assert_refused(&world.with_token(&token).await, 401, "session-invalid", "token-orphaned");
    assert!(!world.authenticator.refresh().unwrap(), "nothing has changed since");
}
