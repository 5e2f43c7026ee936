use std::sync::{Arc, Mutex, PoisonError};

use countersign::server::Authenticator;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::encoding::text::encode;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

/// What `/metrics` shows, in the text format of `OpenMetrics` 1.0.
#[derive(Clone, Debug)]
pub struct Metrics(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    registry: Registry,
    attempts: Family<Labels, Counter>,
    connections: Gauge,
    dropped: Counter,
    stale: Gauge,
    ages: Mutex<Ages>,
}

/// Set anew for each reader, since they depend on the time.
#[derive(Debug, Default)]
struct Ages {
    age: Family<PeerLabel, Gauge>,
    due: Family<PeerLabel, Gauge>,
    overdue: Family<PeerLabel, Gauge>,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct PeerLabel {
    peer: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    outcome: String,
    reason: String,
}

impl Metrics {
    /// Fresh counters.
    #[must_use]
    pub fn new() -> Self {
        let mut registry = Registry::with_prefix("countersign");
        let attempts = Family::default();
        let connections = Gauge::default();
        let dropped = Counter::default();
        registry.register(
            "attempts",
            "Attempts to authenticate, by outcome and exact reason",
            attempts.clone(),
        );
        registry.register("connections", "Open connections on the public listeners", connections.clone());
        registry.register(
            "audit_dropped_records",
            "Records that the full disk did not take, while attempts went on as `when_full` says",
            dropped.clone(),
        );
        let stale = Gauge::default();
        registry.register(
            "secrets_stale_seconds",
            "How old the copy is from which peers come while their store is away; 0 while it answers",
            stale.clone(),
        );
        let ages = Ages::default();
        registry.register(
            "credential_age_seconds",
            "How old each peer's newest credential is",
            ages.age.clone(),
        );
        registry.register(
            "credential_rotation_due_seconds",
            "In how many seconds each peer's credential is to be rotated; negative when it is late",
            ages.due.clone(),
        );
        registry.register(
            "credential_rotation_overdue",
            "1 for each peer whose rotation is due, or open and not taken up in its grace period",
            ages.overdue.clone(),
        );
        Self(Arc::new(Inner { registry, attempts, connections, dropped, stale, ages: Mutex::new(ages) }))
    }

    /// Counts one attempt. Both labels come from fixed sets, never from a caller.
    pub fn attempt(&self, outcome: countersign::audit::Outcome, reason: &str) {
        let labels = Labels { outcome: outcome.as_str().to_owned(), reason: reason.to_owned() };
        self.0.attempts.get_or_create(&labels).inc();
    }

    /// Counts records that were let go because the disk was full.
    pub fn dropped_records(&self, count: u64) {
        self.0.dropped.inc_by(count);
    }

    pub(crate) fn connected(&self) -> Connected {
        self.0.connections.inc();
        Connected(self.clone())
    }

    pub(crate) fn text(&self, authenticator: &Authenticator) -> String {
        let mut text = String::new();
        // Held to the end: another reader must not see them half set.
        let ages = self.0.ages.lock().unwrap_or_else(PoisonError::into_inner);
        ages.set(authenticator);
        let stale = authenticator.stale().map_or(0, |stale| stale.age);
        self.0.stale.set(i64::try_from(stale).unwrap_or(i64::MAX));
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.0.registry);
        text
    }
}

impl Ages {
    fn set(&self, authenticator: &Authenticator) {
        for family in [&self.age, &self.due, &self.overdue] {
            family.clear();
        }
        let (ages, now) = authenticator.ages();
        for age in ages {
            let label = PeerLabel { peer: age.credential.peer.to_string() };
            let signed = |seconds: u64| i64::try_from(seconds).unwrap_or(i64::MAX);
            self.age.get_or_create(&label).set(signed(now.since(age.created)));
            if let Some(due) = age.due {
                self.due.get_or_create(&label).set(signed(due.0) - signed(now.0));
            }
            self.overdue.get_or_create(&label).set(i64::from(age.is_overdue(now)));
        }
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

/// Counts a connection while it lives.
pub(crate) struct Connected(Metrics);

impl Drop for Connected {
    fn drop(&mut self) {
        self.0.0.connections.dec();
    }
}
