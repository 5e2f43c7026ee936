//! `[challenge]` and `[token]`: how long they live.

use countersign::protocol::shared_secret::Lifetime;
use serde::Deserialize;

use super::Bounded;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Challenge {
    pub(crate) lifetime_seconds: Bounded<5, 120>,
}

impl Default for Challenge {
    fn default() -> Self {
        Self { lifetime_seconds: Bounded(30) }
    }
}

impl Challenge {
    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime::seconds(self.lifetime_seconds.0).unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Token {
    pub(crate) enabled: bool,
    pub(crate) lifetime_seconds: Bounded<1, 300>,
}

impl Default for Token {
    fn default() -> Self {
        Self { enabled: true, lifetime_seconds: Bounded(300) }
    }
}

impl Token {
    pub(crate) fn lifetime(&self) -> Option<u64> {
        self.enabled.then_some(self.lifetime_seconds.0)
    }
}
