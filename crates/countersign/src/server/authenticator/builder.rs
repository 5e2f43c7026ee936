//! What can be set of an [`Authenticator`].

use std::sync::atomic::AtomicU64;
use std::sync::{Arc, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use countersign_audit::{AuditSink, Outcome};
use countersign_protocol::identity::ServiceName;
use countersign_protocol::mac::MacKey;
use countersign_protocol::shared_secret::{Issuer, Lifetime};
use countersign_protocol::token::{self, TokenKeys};
use countersign_store::{Outstanding, PairingStore, PeerStore, ReplayLog, StateStore, StoreError, random};
use zeroize::Zeroizing;

use super::{Authenticator, Counter, Inner, Tokens};
use crate::server::clock::Clock;
use crate::server::cs1::{self, Cs1, ExternalUrl, Tickets};
use crate::server::limits::{Limiters, Limits};
use crate::server::pairing::Pairing;
use crate::server::proxies::TrustedProxies;
use crate::server::snapshot::Snapshot;

/// Makes an [`Authenticator`].
pub struct Builder {
    service: ServiceName,
    store: Arc<dyn PeerStore>,
    audit: Option<Arc<dyn AuditSink>>,
    challenge_lifetime: Lifetime,
    token_lifetime: Option<u64>,
    limits: Limits,
    clock: Clock,
    body_timeout: Duration,
    stale_after: Duration,
    proxies: TrustedProxies,
    counter: Option<Counter>,
    external_urls: Vec<ExternalUrl>,
    max_held: usize,
    one_of_several: bool,
    state: Option<Arc<dyn StateStore>>,
    rotation: crate::rotation::Settings,
    pairing: Option<Arc<dyn PairingStore>>,
}

impl Builder {
    /// Under which URLs callers reach this service: they sign the name, so that a request to another one is none to this
    /// (`cs1`, CS-28). Default: none, and every request under `cs1` is refused with 421.
    #[must_use]
    pub fn external_urls(mut self, urls: impl IntoIterator<Item = ExternalUrl>) -> Self {
        self.external_urls = urls.into_iter().collect();
        self
    }

    /// How many bytes of a message's content are held until they are verified, and until the response is signed (`cs1`,
    /// CS-37). So many of memory a running request can take. Default: 1 MiB.
    #[must_use]
    pub fn max_held(mut self, bytes: usize) -> Self {
        self.max_held = bytes;
        self
    }

    /// Keeps ticket keys and, at a clean stop ([`Authenticator::flush`]), the log of used nonces for the next start (`cs1`, CS-42).
    /// For one process at a time. Default: nothing is kept, and every restart ends all sessions. Requests without a handshake then
    /// always need a nonce of ours ([`Builder::one_of_several`]), for nothing tells what other processes accept.
    #[must_use]
    pub fn state(mut self, state: Arc<dyn StateStore>) -> Self {
        self.state = Some(state);
        self
    }

    /// Says whether other processes hold the keys of the same peers and are reached under the same external URLs, as behind a
    /// balancer. Requests without a handshake (`cs1`, section 9) are then taken only with a nonce that this process gave: nothing
    /// else keeps two of them from accepting one request once each (CS-12). Default: no, if [`Builder::state`] is set.
    #[must_use]
    pub fn one_of_several(mut self, yes: bool) -> Self {
        self.one_of_several = yes;
        self
    }

    /// How rotations in band go: their grace period. Default: that of [`rotation::Settings`](crate::rotation::Settings).
    #[must_use]
    pub const fn rotation(mut self, rotation: crate::rotation::Settings) -> Self {
        self.rotation = rotation;
        self
    }

    /// Answers pairings whose offers are here (`specs/pairing.md`). Default: none, and whoever tries finds no offer.
    #[must_use]
    pub fn pairing(mut self, offers: Arc<dyn PairingStore>) -> Self {
        self.pairing = Some(offers);
        self
    }

    /// Writes every attempt to this trail; an attempt that cannot be written is not accepted. Default: none.
    ///
    /// Of attempts that are not accepted only so many a minute get a line of their own; for the others there are
    /// records with a count, which [`Authenticator::watch`] and [`Authenticator::flush`] write.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// How long a challenge can be answered. Default: 30 seconds. Longer gives slow callers more time, and a
    /// thief of a signed, undelivered answer as well.
    #[must_use]
    pub fn challenge_lifetime(mut self, lifetime: Lifetime) -> Self {
        self.challenge_lifetime = lifetime;
        self
    }

    /// How many seconds a token is good, at most 300 (the default). `None` gives no tokens out and takes none:
    /// callers under `shared-secret` then sign a challenge for every request, and
    /// callers under `api-key` reach no protected route.
    #[must_use]
    pub fn token_lifetime(mut self, seconds: Option<u64>) -> Self {
        self.token_lifetime = seconds.map(|seconds| seconds.clamp(1, token::MAX_LIFETIME));
        self
    }

    /// The rate limits.
    #[must_use]
    pub fn limits(mut self, limits: Limits) -> Self {
        self.limits = limits;
        self
    }

    /// The proxies in front that are believed when they say from where a request came. Default: none.
    #[must_use]
    pub fn trusted_proxies(mut self, proxies: TrustedProxies) -> Self {
        self.proxies = proxies;
        self
    }

    /// Another clock, for tests.
    #[must_use]
    pub fn clock(mut self, clock: Clock) -> Self {
        self.clock = clock;
        self
    }

    /// How long the body of a request to the endpoints may take to arrive. Default: 10 seconds.
    #[must_use]
    pub fn body_timeout(mut self, timeout: Duration) -> Self {
        self.body_timeout = timeout;
        self
    }

    /// For how long the last known peers may go on while the store cannot be read, if [`Authenticator::watch`]
    /// runs. Then every attempt is refused with 503: a removal may have been missed. Default: 30 seconds.
    #[must_use]
    pub fn stale_after(mut self, time: Duration) -> Self {
        self.stale_after = time;
        self
    }

    /// Calls `counter` with outcome and reason of every attempt, for metrics.
    #[must_use]
    pub fn counter(mut self, counter: impl Fn(Outcome, &str) + Send + Sync + 'static) -> Self {
        self.counter = Some(Box::new(counter));
        self
    }

    /// Reads the store and makes fresh random keys for challenges and tokens.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn build(self) -> Result<Authenticator, StoreError> {
        let snapshot = Snapshot::read(&*self.store, None)?;
        let now = self.clock.now();
        let replays = ReplayLog::new(self.limits.replay_capacity);
        let tickets = Tickets::open(&self.service, self.state, &replays, now)?;
        let cs1 = Cs1::new(
            self.challenge_lifetime,
            self.external_urls,
            self.max_held,
            self.one_of_several,
            tickets,
        );
        let tokens = self.token_lifetime.map(|lifetime| Tokens {
            lifetime,
            keys: RwLock::new(TokenKeys::new(self.service.clone(), &Zeroizing::new(random()), now)),
        });
        Ok(Authenticator(Arc::new(Inner {
            issuer: Issuer::new(&Zeroizing::new(random()), self.service.clone(), self.challenge_lifetime),
            service: self.service,
            decoy: MacKey::new(Zeroizing::new(random::<32>()).as_slice()),
            replays,
            cs1,
            outstanding: Outstanding::default(),
            limiters: Limiters::new(
                &self.limits,
                self.audit.as_ref().map_or(u64::MAX, |audit| audit.spare_lines()),
            ),
            proxies: self.proxies,
            audit: self.audit,
            clock: self.clock,
            body_timeout: self.body_timeout,
            stale_after_ms: u64::try_from(self.stale_after.as_millis()).unwrap_or(u64::MAX),
            tokens,
            pairing: self.pairing.map(Pairing::new),
            store: self.store,
            snapshot: ArcSwap::from_pointee(snapshot),
            started: Instant::now(),
            asked_ms: AtomicU64::new(0),
            counter: self.counter,
            rotation: self.rotation,
            trail_failed_ms: AtomicU64::new(0),
        })))
    }
}

impl Authenticator {
    /// Starts making one for `service`, whose peers are in `store`.
    #[must_use]
    pub fn builder(service: ServiceName, store: Arc<dyn PeerStore>) -> Builder {
        Builder {
            service,
            store,
            audit: None,
            challenge_lifetime: Lifetime::default(),
            token_lifetime: Some(token::MAX_LIFETIME),
            limits: Limits::default(),
            clock: Clock::start(),
            body_timeout: Duration::from_secs(10),
            stale_after: Duration::from_secs(30),
            proxies: TrustedProxies::default(),
            counter: None,
            external_urls: Vec::new(),
            max_held: cs1::HOLD,
            one_of_several: false,
            state: None,
            rotation: crate::rotation::Settings::default(),
            pairing: None,
        }
    }
}
