use std::net::IpAddr;

use countersign_protocol::identity::Profile;
use serde::{Deserialize, Serialize};

/// One attempt.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whether somebody authenticated to us, or we to somebody.
    pub direction: Direction,
    /// The other service: its name here, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub service: Option<String>,
    /// `billing/1`, or `unknown:5f3a09c2` for a key that is not known; absent if no key came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub credential: Option<String>,
    /// The profile that was used, as far as it can be told.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub profile: Option<Profile>,
    /// Which step: inbound `authenticate`, `verify-challenge`, `request` (signed), `token`; outbound `handshake`,
    /// `request`.
    pub step: String,
    /// Where an inbound attempt came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// How it ended.
    pub outcome: Outcome,
    /// The exact reason: stable, lower case (`docs/errors.md` lists them).
    pub reason: String,
    /// What the reason leaves open, for instance which header; never bytes of a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The id that the other side was told.
    pub request_id: String,
}

/// Who authenticated to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// They to us.
    Inbound,
    /// We to them.
    Outbound,
}

/// How an attempt ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Authenticated.
    Accepted,
    /// A challenge was given: the first step of an attempt.
    Challenged,
    /// Not authenticated.
    Refused,
}
