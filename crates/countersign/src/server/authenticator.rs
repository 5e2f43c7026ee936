mod builder;

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
use countersign_protocol::shared_secret::Issuer;
use countersign_protocol::shared_secret::server::Effort;
use countersign_protocol::token::{Claims, TokenKeys};
use countersign_store::{Outstanding, PeerStore, ReplayLog, Stale, StoreError, random};
use http::{Extensions, HeaderMap, request};
use zeroize::Zeroizing;

use super::clock::Clock;
use super::cs1::{Cs1, ExternalUrl};
use super::extract;
use super::limits::Limiters;
use super::pairing::Pairing;
use super::proxies::TrustedProxies;
use super::snapshot::Snapshot;
use super::upkeep::Upkeep;

pub use builder::Builder;

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
    pub(super) pairing: Option<Pairing>,
    store: Arc<dyn PeerStore>,
    snapshot: ArcSwap<Snapshot>,
    started: Instant,
    /// When the store was last asked, in milliseconds after `started`; 0 while nobody watches it.
    asked_ms: AtomicU64,
    counter: Option<Counter>,
    pub(super) rotation: crate::rotation::Settings,
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

impl Authenticator {
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
        let closed = self.0.cs1.tickets.close(&self.0.replays, || self.0.clock.now());
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
