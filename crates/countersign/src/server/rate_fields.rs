//! `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-11, structured fields of RFC 9651): what
//! the limits are, and how a caller stands.
//!
//! They say what a source and a presented key have done, never whether the key is known: an unknown one is counted in
//! the same places.

use countersign_protocol::api_key::MAX_OUTSTANDING;
use countersign_protocol::refusal::{Refusal, Scope};
use countersign_store::{Quota, Standing};
use http::{HeaderMap, HeaderName, HeaderValue};

use super::limits::Limits;

const POLICY: HeaderName = HeaderName::from_static("ratelimit-policy");
const LIMIT: HeaderName = HeaderName::from_static("ratelimit");

/// The names of limits in these fields.
pub(super) const SOURCE: &str = "source";
pub(super) const KEY: &str = "key";
pub(super) const REFUSED: &str = "refused";
pub(super) const SOURCE_FAILURES: &str = "source-failures";
pub(super) const KEY_FAILURES: &str = "key-failures";
const CHALLENGES: &str = "challenges";

/// Both fields of one response.
#[derive(Clone, Debug)]
pub(super) struct RateFields {
    policy: HeaderValue,
    limit: HeaderValue,
}

impl RateFields {
    /// Of several limits the one of which the least is left.
    pub(super) fn least(
        policy: &HeaderValue,
        standings: impl Iterator<Item = (&'static str, Standing)>,
    ) -> Option<Self> {
        let (name, standing) = standings.min_by_key(|(_, standing)| standing.remaining)?;
        Some(Self::new(policy, name, standing.remaining, standing.wait_ms.div_ceil(1_000)))
    }

    /// The limit because of which a request is refused with 429; `t` is what `Retry-After` says. `None` for other
    /// refusals.
    pub(super) fn used_up(policy: &HeaderValue, refusal: &Refusal) -> Option<Self> {
        let (name, wait) = match refusal {
            // Not counted by source or key: `Retry-After` says it all.
            Refusal::RateLimited { scope: Scope::Nonces, .. } => return None,
            Refusal::RateLimited { retry_after, scope } => (name(*scope), *retry_after),
            Refusal::TooManyChallenges { retry_after } => (CHALLENGES, *retry_after),
            _ => return None,
        };
        Some(Self::new(policy, name, 0, wait))
    }

    fn new(policy: &HeaderValue, name: &str, remaining: u32, seconds: u64) -> Self {
        let limit = HeaderValue::from_str(&format!("\"{name}\";r={remaining};t={seconds}"));
        Self { policy: policy.clone(), limit: limit.unwrap_or_else(|_| HeaderValue::from_static("")) }
    }

    pub(super) fn put(self, headers: &mut HeaderMap) {
        headers.insert(POLICY, self.policy);
        headers.insert(LIMIT, self.limit);
    }
}

fn name(scope: Scope) -> &'static str {
    match scope {
        Scope::Source => SOURCE,
        Scope::Key => KEY,
        Scope::Refused => REFUSED,
        Scope::SourceFailures => SOURCE_FAILURES,
        // There is no other; the type is open for what may come.
        _ => KEY_FAILURES,
    }
}

/// `"source";q=1000;w=2, …`: so many at once, and all of them again after so many seconds. The same in each response.
pub(super) fn policy(limits: &Limits) -> HeaderValue {
    let quotas = [
        (SOURCE, limits.per_source),
        (KEY, limits.per_key),
        (REFUSED, limits.refused_per_source),
        (SOURCE_FAILURES, limits.failures_per_source),
        (KEY_FAILURES, limits.failures_per_key),
    ];
    let of = |(name, quota): (&str, Quota)| format!("\"{name}\";q={};w={}", quota.burst(), quota.window());
    let challenges = format!("\"{CHALLENGES}\";q={MAX_OUTSTANDING}");
    let text = quotas.map(of).into_iter().chain([challenges]).collect::<Vec<_>>().join(", ");
    HeaderValue::from_str(&text).unwrap_or_else(|_| HeaderValue::from_static(""))
}
