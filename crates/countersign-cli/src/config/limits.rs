//! `[limits]`: how much anybody may ask.

use countersign::server::Limits;
use countersign::store::Quota;
use serde::Deserialize;

use super::Bounded;

/// `{ per_minute = 60, burst = 60 }`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    per_minute: Bounded<1, 60_000>,
    burst: Bounded<1, 1_000_000>,
}

impl Rate {
    fn quota(self) -> Quota {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Quota::per_minute(small(self.per_minute.0), small(self.burst.0))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    requests_per_source: Option<Rate>,
    requests_per_key: Option<Rate>,
    refused_per_source: Option<Rate>,
    failures_per_source: Option<Rate>,
    failures_per_key: Option<Rate>,
    capacity: Option<Bounded<4_096, 16_777_216>>,
    replay_capacity: Option<Bounded<4_096, 100_000_000>>,
}

impl LimitsConfig {
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(capacity) = self.capacity {
            limits.capacity = usize::try_from(capacity.0).unwrap_or(limits.capacity);
        }
        if let Some(capacity) = self.replay_capacity {
            limits.replay_capacity = usize::try_from(capacity.0).unwrap_or(limits.replay_capacity);
        }
        for (given, limit) in [
            (self.requests_per_source, &mut limits.per_source),
            (self.requests_per_key, &mut limits.per_key),
            (self.refused_per_source, &mut limits.refused_per_source),
            (self.failures_per_source, &mut limits.failures_per_source),
            (self.failures_per_key, &mut limits.failures_per_key),
        ] {
            if let Some(rate) = given {
                *limit = rate.quota();
            }
        }
        limits
    }
}
