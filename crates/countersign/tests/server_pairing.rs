//! The offering side of a pairing in virtual time, with stores that fail (specs/pairing.md, section 7).

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::Binding;
use countersign::protocol::pairing::accepter::{
    self, AwaitConfirmation, AwaitShare, PairingError, Randomness,
};
use countersign::protocol::pairing::message::{Message, PATH, Share};
use countersign::protocol::pairing::{Code, MAX_CODES, OFFER_LIFETIME, OfferId, Password, Statement};
use countersign::protocol::wire::{Incoming, Outgoing};
use countersign::server::{Authenticator, Clock, router};
use countersign::store::pairing::{Choices, NoCode, Offer, PairingStore, Stage};
use countersign::store::{Listing, Peer, StoreError, random};
use countersign::{MemoryStore, NewPeer, PeerStore, ServiceName};
use http::{HeaderMap, Request};
use tower::ServiceExt as _;
use zeroize::Zeroizing;

const URL: &str = "https://orders.example";
const SEEN: [u8; 32] = [5; 32];

/// Peers and offers that fail when they are told to.
#[derive(Default)]
struct Faulty {
    inner: MemoryStore,
    /// How many additions of a peer fail.
    additions: AtomicUsize,
    offers_fail: AtomicBool,
}

fn down() -> StoreError {
    StoreError::Io { path: "store".to_owned(), error: std::io::Error::other("down") }
}

impl PeerStore for Faulty {
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        let left = self.additions.load(Ordering::SeqCst);
        if left > 0 {
            self.additions.store(left - 1, Ordering::SeqCst);
            return Err(down());
        }
        self.inner.add(peer, now)
    }
    fn remove(&self, name: &ServiceName) -> Result<(), StoreError> {
        self.inner.remove(name)
    }
    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        self.inner.get(name)
    }
    fn read_all(&self) -> Result<Listing, StoreError> {
        self.inner.read_all()
    }
    fn version(&self) -> Result<u64, StoreError> {
        self.inner.version()
    }
    fn lookup_key(&self) -> &countersign::protocol::lookup::LookupKey {
        self.inner.lookup_key()
    }
}

impl PairingStore for Faulty {
    fn open(&self, offer: &Offer, now: UnixTime) -> Result<bool, StoreError> {
        self.inner.open(offer, now)
    }
    fn offer(&self, id: OfferId) -> Result<Option<Offer>, StoreError> {
        self.inner.offer(id)
    }
    fn replace(&self, next: &Offer) -> Result<bool, StoreError> {
        if self.offers_fail.load(Ordering::SeqCst) { Err(down()) } else { self.inner.replace(next) }
    }
    fn withdraw(&self, id: OfferId) -> Result<(), StoreError> {
        self.inner.withdraw(id)
    }
}

struct Orders {
    store: Arc<Faulty>,
    clock: Clock,
    /// In seconds.
    advanced: AtomicU64,
    app: Router,
    id: OfferId,
}

fn password() -> Password {
    Password::generate(&Zeroizing::new([7; 6]))
}

fn code(orders: &Orders) -> Code {
    Code { offer: orders.id, password: password() }
}

impl Orders {
    /// With one open offer.
    fn new() -> Self {
        let (store, clock) = (Arc::new(Faulty::default()), Clock::start());
        let peers: Arc<dyn PeerStore> = Arc::<Faulty>::clone(&store);
        let authenticator = Authenticator::builder("orders".parse().unwrap(), peers)
            .clock(clock.clone())
            .external_urls([URL.parse().unwrap()])
            .pairing(Arc::<Faulty>::clone(&store))
            .build()
            .unwrap();
        let id = OfferId::generate(&random());
        let orders = Self { store, clock, advanced: AtomicU64::new(0), app: router(authenticator), id };
        let choices = Choices { name: None, binding: Binding::None, pins: vec![SEEN], system_trust: false };
        let offer = Offer::new(id, password(), choices, orders.now().plus(OFFER_LIFETIME));
        assert!(orders.store.open(&offer, orders.now()).unwrap());
        orders
    }

    /// The wall clock, and what was added to it.
    fn now(&self) -> UnixTime {
        let wall = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        UnixTime(wall + self.advanced.load(Ordering::SeqCst))
    }

    fn advance(&self, seconds: u64) {
        self.clock.advance(Duration::from_secs(seconds));
        self.advanced.fetch_add(seconds, Ordering::SeqCst);
    }

    fn stage(&self) -> Stage {
        self.store.offer(self.id).unwrap().unwrap().stage
    }

    async fn post(&self, body: &[u8]) -> (u16, HeaderMap, Vec<u8>) {
        let request = Request::post(PATH).body(Body::from(body.to_vec())).unwrap();
        let response = self.app.clone().oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 100_000).await.unwrap();
        (parts.status.as_u16(), parts.headers, body.to_vec())
    }

    async fn problem(&self, body: &[u8], status: u16, name: &str) {
        let (found, _, body) = self.post(body).await;
        let problem: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!((found, &problem["type"]), (status, &format!("urn:countersign:problem:{name}").into()));
    }

    /// P1 and P2, whatever comes of them.
    async fn share(&self, code: &Code, url: &str) -> (Outgoing, AwaitShare, (u16, HeaderMap, Vec<u8>)) {
        let drawn = Randomness { session: random(), scalar: Zeroizing::new(random()) };
        let (request, waiting) = accepter::start(code, url, &drawn).unwrap();
        let answer = self.post(&request.body).await;
        (request, waiting, answer)
    }

    /// Until P3, which is not sent yet.
    async fn until_confirm(&self, code: &Code) -> (Vec<u8>, AwaitConfirmation) {
        let (_, waiting, (status, headers, body)) = self.share(code, URL).await;
        let ready = waiting.receive(&Incoming { status, headers: &headers, body: &body }).unwrap();
        let (request, waiting) = ready.confirm(&statement(), random());
        (request.body.to_vec(), waiting)
    }
}

fn statement() -> Statement {
    Statement { service: "billing".parse().unwrap(), url: None, pin: None, seen: Some(SEEN) }
}

fn take(waiting: AwaitConfirmation, answer: &(u16, HeaderMap, Vec<u8>)) -> Result<(), PairingError> {
    let (status, headers, body) = answer;
    waiting.receive(&Incoming { status: *status, headers, body }).map(drop)
}

// PA-21, PA-9
#[tokio::test]
async fn an_abandoned_attempt_has_used_the_code_and_the_next_words_are_for_the_third() {
    let orders = Orders::new();
    for count in 1..=MAX_CODES {
        let (confirm, _) = orders.until_confirm(&code(&orders)).await;
        let offer = orders.store.offer(orders.id).unwrap().unwrap();
        assert!(!offer.is_burned(orders.now()), "it may still be confirmed");
        orders.advance(32);
        assert!(offer.is_burned(orders.now()));
        orders.problem(&confirm, 401, "pairing-failed").await;
        assert!(matches!(orders.stage(), Stage::Failed { why } if why == "pairing-too-late"));
        let mut next = orders.store.offer(orders.id).unwrap().unwrap();
        let made = next.next_code(password(), orders.now());
        assert_eq!(made, if count < MAX_CODES { Ok(()) } else { Err(NoCode::Exhausted) });
        assert!(orders.store.replace(&next).unwrap());
    }
    assert!(orders.store.list().unwrap().is_empty());
}

// PA-8
#[tokio::test]
async fn an_offer_closes_by_itself() {
    let orders = Orders::new();
    orders.advance(OFFER_LIFETIME + 1);
    let (confirm, _) = orders.until_confirm(&code(&orders)).await;
    orders.problem(&confirm, 401, "pairing-failed").await;
    assert!(matches!(orders.stage(), Stage::Open { .. }), "nobody has claimed it");
}

// PA-23, PA-25
#[tokio::test]
async fn a_peer_that_could_not_be_added_is_added_by_the_same_message_and_only_by_that() {
    let orders = Orders::new();
    let (confirm, waiting) = orders.until_confirm(&code(&orders)).await;
    orders.store.additions.store(2, Ordering::SeqCst);
    for _ in 0..2 {
        orders.problem(&confirm, 503, "unavailable").await;
        assert!(matches!(orders.stage(), Stage::Confirmed { .. }));
        assert!(orders.store.list().unwrap().is_empty());
        let mut changed: serde_json::Value = serde_json::from_slice(&confirm).unwrap();
        changed["sealed"] = "AAAA".into();
        orders.problem(changed.to_string().as_bytes(), 401, "pairing-failed").await;
    }
    let answer = orders.post(&confirm).await;
    assert_eq!(answer.0, 200);
    assert_eq!(orders.store.list().unwrap().len(), 1);
    // Two minutes long the answer can be had again, and then no more.
    orders.advance(119);
    assert_eq!(orders.post(&confirm).await.2, answer.2);
    orders.advance(3);
    orders.problem(&confirm, 401, "pairing-failed").await;
    take(waiting, &answer).unwrap();
    assert_eq!(orders.store.list().unwrap().len(), 1);
}

// PA-23: killed after the peer was added and before that was noted.
#[tokio::test]
async fn a_peer_that_is_there_already_is_the_same_one_or_another() {
    for same in [true, false] {
        let orders = Orders::new();
        let (confirm, waiting) = orders.until_confirm(&code(&orders)).await;
        orders.store.additions.store(1, Ordering::SeqCst);
        orders.problem(&confirm, 503, "unavailable").await;
        let Stage::Confirmed { peer, .. } = orders.stage() else { panic!("it is kept") };
        let mut new = peer.peer().unwrap();
        if !same {
            new.keys = countersign::NewKeys::cs1(
                countersign::ApiKey::generate(&random()),
                countersign::ApiKey::generate(&random()),
                countersign::SharedSecret::generate(&random()),
            )
            .unwrap();
        }
        orders.store.inner.add(new, orders.now()).unwrap();
        if same {
            take(waiting, &orders.post(&confirm).await).unwrap();
            assert!(matches!(orders.stage(), Stage::Paired { .. }));
        } else {
            orders.problem(&confirm, 409, "pairing-refused").await;
            assert!(matches!(orders.stage(), Stage::Failed { .. }));
        }
        assert_eq!(orders.store.list().unwrap().len(), 1);
    }
}

// PA-26
#[tokio::test]
async fn while_offers_cannot_be_written_nothing_is_claimed() {
    let orders = Orders::new();
    orders.store.offers_fail.store(true, Ordering::SeqCst);
    let (request, _, (status, ..)) = orders.share(&code(&orders), URL).await;
    assert_eq!(status, 503);
    assert!(matches!(orders.stage(), Stage::Open { .. }));
    orders.store.offers_fail.store(false, Ordering::SeqCst);
    let (confirm, waiting) = orders.until_confirm(&code(&orders)).await;
    orders.store.offers_fail.store(true, Ordering::SeqCst);
    orders.problem(&confirm, 503, "unavailable").await;
    assert!(orders.store.list().unwrap().is_empty(), "nothing is stored before it can be answered again");
    orders.store.offers_fail.store(false, Ordering::SeqCst);
    take(waiting, &orders.post(&confirm).await).unwrap();
    drop(request);
}

// PA-18, PA-16
#[tokio::test]
async fn whether_there_is_an_offer_cannot_be_told_from_the_answer() {
    let orders = Orders::new();
    let nobody = Code { offer: OfferId::generate(&[1, 2, 3]), password: password() };
    let (_, _, known) = orders.share(&code(&orders), URL).await;
    // Claimed meanwhile, unknown, and a service that has no offers at all.
    let (_, _, claimed) = orders.share(&code(&orders), URL).await;
    let (_, _, unknown) = orders.share(&nobody, URL).await;
    let without = Authenticator::builder("orders".parse().unwrap(), Arc::new(MemoryStore::new()))
        .external_urls([URL.parse().unwrap()])
        .build()
        .unwrap();
    let without = Orders { app: router(without), ..Orders::new() };
    let (_, _, none) = without.share(&nobody, URL).await;
    for (status, headers, body) in [&known, &claimed, &unknown, &none] {
        assert_eq!(*status, 200);
        assert_eq!(body.len(), known.2.len());
        assert_eq!(Share::read(body).unwrap().service.as_str(), "orders");
        let names = |headers: &HeaderMap| {
            let mut names: Vec<_> = headers.keys().map(ToString::to_string).collect();
            names.sort();
            names
        };
        assert_eq!(names(headers), names(&known.1));
    }
    assert!(matches!(orders.stage(), Stage::Claimed { .. }), "the first one has it");
}

// PA-14, PA-16
#[tokio::test]
async fn what_is_malformed_or_meant_for_another_url_claims_nothing() {
    let orders = Orders::new();
    for url in [
        "https://evil.example",
        "https://orders.example:8443",
        "https://orders.example/",
        "https://ORDERS.example",
    ] {
        let (_, _, (status, _, body)) = orders.share(&code(&orders), url).await;
        assert_eq!(status, 421, "{url}: {}", String::from_utf8_lossy(&body));
    }
    let drawn = Randomness { session: random(), scalar: Zeroizing::new(random()) };
    let (request, _) = accepter::start(&code(&orders), URL, &drawn).unwrap();
    let Message::Start(start) = Message::read(&request.body).unwrap() else { panic!("P1") };
    let zero = Message::Start(countersign::protocol::pairing::message::Start { share: [0; 32], ..start });
    let no_element =
        String::from_utf8(request.body.to_vec()).unwrap().replace("\"share\":\"", "\"share\":\"AQ");
    for bad in [zero.write(), no_element.into_bytes(), b"{}".to_vec(), b"[]".to_vec(), Vec::new()] {
        orders.problem(&bad, 400, "malformed").await;
    }
    let get = Request::get(PATH).body(Body::empty()).unwrap();
    assert_eq!(orders.app.clone().oneshot(get).await.unwrap().status(), 405);
    assert!(matches!(orders.stage(), Stage::Open { .. }));
}

// PA-20
#[tokio::test]
async fn a_stranger_who_knows_the_offer_and_not_the_session_disturbs_nobody() {
    let orders = Orders::new();
    let (confirm, waiting) = orders.until_confirm(&code(&orders)).await;
    let mut forged: serde_json::Value = serde_json::from_slice(&confirm).unwrap();
    forged["session"] = "AAAAAAAAAAAAAAAAAAAAAA".into();
    orders.problem(forged.to_string().as_bytes(), 401, "pairing-failed").await;
    assert!(matches!(orders.stage(), Stage::Claimed { .. }));
    take(waiting, &orders.post(&confirm).await).unwrap();
}

// PA-19
#[tokio::test]
async fn one_source_begins_sixty_exchanges_a_minute_and_no_more() {
    let orders = Arc::new(Orders::new());
    let tries: Vec<_> = (0..70_u8)
        .map(|seed| {
            let orders = Arc::clone(&orders);
            tokio::spawn(async move {
                let nobody = Code { offer: OfferId::generate(&[0, 0, seed]), password: password() };
                orders.share(&nobody, URL).await.2.0
            })
        })
        .collect();
    let mut limited = 0;
    for tried in tries {
        match tried.await.unwrap() {
            429 => limited += 1,
            status => assert_eq!(status, 200),
        }
    }
    assert!((9..=10).contains(&limited), "{limited} of 70");
}

// PA-24
#[tokio::test]
async fn what_the_accepter_states_is_judged_before_anything_is_stored() {
    let good = statement();
    let https = Some("https://billing.example".to_owned());
    let cases = [
        Statement { seen: Some([6; 32]), ..good.clone() },
        Statement { service: "orders".parse().unwrap(), ..good.clone() },
        Statement { url: https.clone(), pin: None, ..good.clone() },
        Statement { url: Some("http://billing.example".to_owned()), pin: Some([1; 32]), ..good.clone() },
        Statement { url: Some("billing".to_owned()), pin: Some([1; 32]), ..good.clone() },
        Statement { url: https, pin: Some([1; 32]), ..good },
    ];
    let last = cases.len() - 1;
    for (at, statement) in cases.into_iter().enumerate() {
        let orders = Orders::new();
        let (_, waiting, (status, headers, body)) = orders.share(&code(&orders), URL).await;
        let ready = waiting.receive(&Incoming { status, headers: &headers, body: &body }).unwrap();
        let (request, waiting) = ready.confirm(&statement, random());
        let answer = orders.post(&request.body).await;
        assert_eq!(answer.0, if at == last { 200 } else { 409 }, "{statement:?}");
        assert_eq!(take(waiting, &answer).is_ok(), at == last);
        assert_eq!(orders.store.list().unwrap().len(), usize::from(at == last));
        assert_eq!(matches!(orders.stage(), Stage::Failed { .. }), at != last);
    }
}
