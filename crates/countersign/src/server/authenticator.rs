use std::fmt;
use std::net::IpAddr;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;
use countersign_audit::{AuditSink, Outcome};
use countersign_protocol::UnixTime;
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::server::Effort;
use countersign_protocol::shared_secret::{Issuer, Lifetime};
use countersign_protocol::token::{self, Claims, TokenKeys};
use countersign_store::{Outstanding, PeerStore, ReplayLog, Stale, StateStore, StoreError, random};
use http::{Extensions, HeaderMap, request};
use zeroize::Zeroizing;

use super::clock::Clock;
use super::cs1::{self, Cs1, ExternalUrl};
use super::extract;
use super::limits::{Limiters, Limits};
use super::proxies::TrustedProxies;
use super::snapshot::Snapshot;
use super::upkeep::Upkeep;

/// Live burned challenges at most, about 32 bytes each.
const REPLAY_CAPACITY: usize = 1_000_000;

/// For how long a failed write to the trail makes the service not ready.
const TRAIL_DOUBT_MS: u64 = 10_000;

/// Called with outcome and reason of every attempt; for metrics.
pub(super) type Counter = Box<dyn Fn(Outcome, &str) + Send + Sync>;

/// Decides about every attempt of one service. Cheap to clone; all clones share one state.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

pub(super) struct Inner {
    pub(super) service: ServiceName,
    pub(super) issuer: Issuer,
    pub(super) decoy: MacKey,
    pub(super) replays: ReplayLog,
    pub(super) cs1: Cs1,
    pub(super) outstanding: Outstanding,
    pub(super) limiters: Limiters,
    proxies: TrustedProxies,
    pub(super) audit: Option<Arc<dyn AuditSink>>,
    pub(super) clock: Clock,
    pub(super) body_timeout: Duration,
    stale_after_ms: u64,
    tokens: Option<Tokens>,
    store: Arc<dyn PeerStore>,
    snapshot: ArcSwap<Snapshot>,
    started: Instant,
    /// When the store was last asked, in milliseconds after `started`; 0 while nobody watches it.
    asked_ms: AtomicU64,
    counter: Option<Counter>,
    /// When the trail could not be written the last time, in milliseconds after `started`; 0 for never.
    pub(super) trail_failed_ms: AtomicU64,
}

struct Tokens {
    lifetime: u64,
    keys: RwLock<TokenKeys>,
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Authenticator").field("service", &self.0.service).finish_non_exhaustive()
    }
}

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
    state: Option<Arc<dyn StateStore>>,
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
    /// For one process at a time. Default: nothing is kept, and every restart ends all sessions.
    #[must_use]
    pub fn state(mut self, state: Arc<dyn StateStore>) -> Self {
        self.state = Some(state);
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
        let replays = ReplayLog::new(REPLAY_CAPACITY);
        let cs1 = Cs1::new(
            &self.service,
            self.challenge_lifetime,
            self.external_urls,
            self.max_held,
            self.state,
            &replays,
            now,
        )?;
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
            store: self.store,
            snapshot: ArcSwap::from_pointee(snapshot),
            started: Instant::now(),
            asked_ms: AtomicU64::new(0),
            counter: self.counter,
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
            state: None,
        }
    }

    /// Says anew under which URLs callers reach this service ([`Builder::external_urls`]): where that is known only when a
    /// listener is open.
    pub fn set_external_urls(&self, urls: Vec<ExternalUrl>) {
        self.0.cs1.external.store(Arc::new(urls));
    }

    /// Under which URLs callers reach this service.
    #[must_use]
    pub fn external_urls(&self) -> Vec<ExternalUrl> {
        self.0.cs1.external.load().to_vec()
    }

    /// This service's name.
    #[must_use]
    pub fn service(&self) -> &ServiceName {
        &self.0.service
    }

    /// Takes over what changed in the store; `true` if anything did. Blocks.
    ///
    /// # Errors
    /// The store cannot be read; the last known state goes on (see [`Builder::stale_after`]).
    pub fn refresh(&self) -> Result<bool, StoreError> {
        let mut changed = false;
        loop {
            let known = self.0.snapshot.load();
            if self.0.store.version()? == known.version {
                return Ok(changed);
            }
            changed = true;
            // Whoever was overtaken while reading must not put something older in place: it looks again.
            let read = Arc::new(Snapshot::read(&*self.0.store, Some(&known))?);
            let found = self.0.snapshot.compare_and_swap(&known, read);
            if Arc::ptr_eq(&known, &found) {
                return Ok(true);
            }
        }
    }

    /// Twenty times a second until dropped: takes over what changed in the store. Beside that, and without holding it up:
    /// writes to the store which credentials were used, retires those that are over, and writes counts of attempts to the
    /// trail. Call it in a task of its own.
    ///
    /// When the store could not be asked for [`Builder::stale_after`], every attempt is refused with 503 until it can.
    pub async fn watch(self) {
        tokio::join!(self.follow(), self.keep_up());
    }

    /// Takes over what changed in the store.
    async fn follow(&self) {
        let mut ticks = ticks();
        self.0.asked();
        let mut failing = false;
        loop {
            ticks.tick().await;
            let this = self.clone();
            let Ok(refreshed) = tokio::task::spawn_blocking(move || this.refresh()).await else {
                // It panicked, or the runtime is going down.
                tracing::error!("reading the store was cut short");
                continue;
            };
            match refreshed {
                Ok(changed) => {
                    self.0.asked();
                    if changed {
                        tracing::info!("peers have changed and are in effect");
                    }
                    if std::mem::take(&mut failing) {
                        tracing::info!("the store can be read again");
                    }
                }
                Err(error) => {
                    if !std::mem::replace(&mut failing, true) {
                        tracing::error!(%error, "the store cannot be read");
                    }
                }
            }
        }
    }

    /// Writes what is to be written. A store that is slow to be written must not look like one that cannot be read.
    async fn keep_up(&self) {
        let mut ticks = ticks();
        let mut upkeep = Upkeep::default();
        loop {
            ticks.tick().await;
            let this = self.clone();
            let work = tokio::task::spawn_blocking(move || {
                upkeep.run(&this);
                upkeep
            });
            upkeep = work.await.unwrap_or_else(|_| {
                tracing::error!("writing to the store was cut short");
                Upkeep::default()
            });
        }
    }

    /// Writes to the store which credentials were used, to the trail for how many attempts there was no line, and to what
    /// is kept ([`Builder::state`]) which nonces were used, up to now: when nothing is served any more and the process ends.
    /// Nothing under `cs1` is accepted after that if state is kept, also on connections that are open still. Blocks.
    ///
    /// # Errors
    /// The store cannot be written.
    pub fn flush(&self) -> Result<(), StoreError> {
        Upkeep::fold_all(self);
        let closed = self.0.cs1.tickets.close(&self.0.replays, self.0.clock.now());
        Upkeep::note(self, true).and(closed)
    }

    /// Whether decisions can be made: the store was asked lately, and no record failed to be written in the last ten
    /// seconds. (Only an attempt can find out whether the trail can be written again, so it has to be let come.)
    #[must_use]
    pub fn is_ready(&self) -> bool {
        let failed = self.0.trail_failed_ms.load(Ordering::Relaxed);
        let trail = failed == 0 || self.0.elapsed_ms().saturating_sub(failed) > TRAIL_DOUBT_MS;
        trail && self.0.fresh().is_ok()
    }

    /// Set while the peers come from a copy, because the place where they are kept cannot be asked.
    #[must_use]
    pub fn stale(&self) -> Option<Stale> {
        self.0.store.stale()
    }

    /// Where a request came from, for the limits and the trail: the address of who connected, or what a trusted proxy
    /// says in these headers.
    #[must_use]
    pub fn source(&self, extensions: &Extensions, headers: &HeaderMap) -> IpAddr {
        self.0.proxies.source(extract::source(extensions), headers)
    }

    /// Which host a trusted proxy says that the request was sent to.
    pub(super) fn host_by_proxy(&self, parts: &request::Parts) -> Option<String> {
        self.0.proxies.host(extract::source(&parts.extensions), &parts.headers)
    }

    /// Whether this is the address of a proxy that is trusted ([`Builder::trusted_proxies`]).
    #[must_use]
    pub fn trusts_proxy(&self, address: IpAddr) -> bool {
        self.0.proxies.contains(address)
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

/// Twenty a second; one that is late puts the others off.
fn ticks() -> tokio::time::Interval {
    let mut ticks = tokio::time::interval(Duration::from_millis(50));
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    ticks
}

impl Inner {
    /// The peers as they are known now.
    pub(super) fn peers(&self) -> Result<arc_swap::Guard<Arc<Snapshot>>, Refusal> {
        self.fresh()?;
        Ok(self.snapshot.load())
    }

    /// The peers as they were last read, however long ago.
    pub(super) fn snapshot(&self) -> arc_swap::Guard<Arc<Snapshot>> {
        self.snapshot.load()
    }

    pub(super) fn store(&self) -> &dyn PeerStore {
        &*self.store
    }

    /// Real time on purpose: this is about a store that hangs, not about the age of a message.
    pub(super) fn elapsed_ms(&self) -> u64 {
        u64::try_from(self.started.elapsed().as_millis()).unwrap_or(u64::MAX)
    }

    fn asked(&self) {
        self.asked_ms.store(self.elapsed_ms().max(1), Ordering::Relaxed);
    }

    fn fresh(&self) -> Result<(), Refusal> {
        let asked = self.asked_ms.load(Ordering::Relaxed);
        if asked != 0 && self.elapsed_ms().saturating_sub(asked) > self.stale_after_ms {
            return Err(Refusal::StoreStale);
        }
        Ok(())
    }

    pub(super) fn effort(&self, snapshot: &Snapshot) -> Effort<'_> {
        Effort { macs: snapshot.macs, decoy: &self.decoy }
    }

    /// A token for a credential that has just proved itself, and its lifetime; `None` if tokens are off.
    pub(super) fn issue_token(
        &self,
        credential: &CredentialId,
        uid: [u8; 16],
    ) -> Option<(Zeroizing<String>, u64)> {
        let tokens = self.tokens.as_ref()?;
        let now = self.clock.now();
        let claims =
            Claims { credential: credential.clone(), uid, issued: now, expires: now.plus(tokens.lifetime) };
        Some((tokens.seal(&claims, now), tokens.lifetime))
    }

    pub(super) fn open_token(&self, token: &str) -> Result<Claims, Refusal> {
        let tokens = self.tokens.as_ref().ok_or(Refusal::TokensOff)?;
        let keys = tokens.keys.read().unwrap_or_else(PoisonError::into_inner);
        keys.open(token, self.clock.now()).map_err(Refusal::Token)
    }

    pub(super) fn count(&self, outcome: Outcome, reason: &str) {
        if let Some(counter) = &self.counter {
            counter(outcome, reason);
        }
    }
}

impl Tokens {
    fn seal(&self, claims: &Claims, now: UnixTime) -> Zeroizing<String> {
        {
            let keys = self.keys.read().unwrap_or_else(PoisonError::into_inner);
            if !keys.is_due(now) {
                return keys.seal(claims, random());
            }
        }
        let mut keys = self.keys.write().unwrap_or_else(PoisonError::into_inner);
        if keys.is_due(now) {
            keys.rotate(&Zeroizing::new(random()), now);
        }
        keys.seal(claims, random())
    }
}
