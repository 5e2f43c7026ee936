use std::net::IpAddr;

use countersign_protocol::identity::Profile;
use serde::{Deserialize, Serialize};
use time::OffsetDateTime;
use time::format_description::BorrowedFormatItem;
use time::macros::format_description;

/// One attempt, one change, or what the trail has to say of itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct Record {
    /// Whether somebody authenticated to us, we to somebody, or something happened here.
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
    /// `request`; local the command that made a change, or `trail`.
    pub step: String,
    /// Where an inbound attempt came from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source: Option<IpAddr>,
    /// How it ended.
    pub outcome: Outcome,
    /// The exact reason: stable, lower case (`docs/errors.md` and `docs/audit.md` list them).
    pub reason: String,
    /// What the reason leaves open, for instance which header; never bytes of a credential.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// The id that the other side was told; empty where there is no other side.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub request_id: String,
    /// Of how many attempts this is the sum, or how many records are meant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub count: Option<u64>,
    /// When the first of these attempts came: RFC 3339, UTC, milliseconds.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_time: Option<String>,
    /// When the last of them came.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub last_time: Option<String>,
    /// The network that all of them came from, if it is one: `192.0.2.0/24`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub source_network: Option<String>,
}

impl Record {
    /// A record with everything that is optional left out.
    #[must_use]
    pub fn new(direction: Direction, step: &str, outcome: Outcome, reason: &str) -> Self {
        Self {
            direction,
            service: None,
            credential: None,
            profile: None,
            step: step.to_owned(),
            source: None,
            outcome,
            reason: reason.to_owned(),
            detail: None,
            request_id: String::new(),
            count: None,
            first_time: None,
            last_time: None,
            source_network: None,
        }
    }
}

impl Record {
    /// Bytes of text in a record at most. Written as JSON it is at most six times as much, so that a line is always
    /// found near the beginning and the end of a file.
    pub(crate) const MOST: usize = 8 * 1024;

    /// Cuts what may be cut. `false` if it is too long all the same.
    pub(crate) fn shorten(&mut self) -> bool {
        let texts =
            [&self.service, &self.credential, &self.first_time, &self.last_time, &self.source_network];
        let texts = texts.into_iter().flatten().map(String::len).sum::<usize>();
        let rest = texts + self.step.len() + self.reason.len() + self.request_id.len();
        let Some(room) = (Self::MOST - 3).checked_sub(rest) else { return false };
        if let Some(detail) = self.detail.as_mut().filter(|detail| detail.len() > room) {
            detail.truncate(detail.floor_char_boundary(room));
            detail.push('…');
        }
        true
    }
}

/// Who authenticated to whom.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Direction {
    /// They to us.
    Inbound,
    /// We to them.
    Outbound,
    /// Nobody: it happened here.
    Local,
}

/// How an attempt ended, or what happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Outcome {
    /// Authenticated.
    Accepted,
    /// A challenge was given: the first step of an attempt.
    Challenged,
    /// Not authenticated.
    Refused,
    /// Somebody changed who may authenticate, or with what.
    Changed,
    /// Something is missing from the trail itself, or was put aside.
    Gap,
}

impl Outcome {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Accepted => "accepted",
            Self::Challenged => "challenged",
            Self::Refused => "refused",
            Self::Changed => "changed",
            Self::Gap => "gap",
        }
    }
}

impl Direction {
    /// As it is written.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Inbound => "inbound",
            Self::Outbound => "outbound",
            Self::Local => "local",
        }
    }
}

/// RFC 3339, UTC, always with three digits of a second, so that text sorts as time does.
const TIME: &[BorrowedFormatItem<'_>] =
    format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");

/// The wall clock, as records carry it: RFC 3339, UTC, milliseconds.
#[must_use]
pub fn now() -> String {
    written(OffsetDateTime::now_utc())
}

pub(crate) fn written(time: OffsetDateTime) -> String {
    time.format(TIME).unwrap_or_default()
}
