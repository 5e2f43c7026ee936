use std::sync::Arc;

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
        registry.register(
            "attempts",
            "Attempts to authenticate, by outcome and exact reason",
            attempts.clone(),
        );
        registry.register("connections", "Open connections on the public listeners", connections.clone());
        Self(Arc::new(Inner { registry, attempts, connections }))
    }

    /// Counts one attempt. Both labels come from fixed sets, never from a caller.
    pub fn attempt(&self, outcome: countersign::audit::Outcome, reason: &str) {
        let outcome = match outcome {
            countersign::audit::Outcome::Accepted => "accepted",
            countersign::audit::Outcome::Challenged => "challenged",
            countersign::audit::Outcome::Refused => "refused",
        };
        let labels = Labels { outcome: outcome.to_owned(), reason: reason.to_owned() };
        self.0.attempts.get_or_create(&labels).inc();
    }

    pub(crate) fn connected(&self) -> Connected {
        self.0.connections.inc();
        Connected(self.clone())
    }

    pub(crate) fn text(&self) -> String {
        let mut text = String::new();
        // Writing to a String does not fail.
        let _ = encode(&mut text, &self.0.registry);
        text
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
