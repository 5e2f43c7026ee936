//! Administrative changes on the trail: who may authenticate, and with what, is changed by a person, and that is
//! written down as attempts are.

use countersign::audit::{AuditSink as _, Direction, Outcome, Record};
use countersign::store::sqlite::SqliteStore;
use countersign::{CredentialId, Profile, ServiceName};

use crate::failure::{Context as _, Failure};
use crate::home::Home;

/// What was changed.
#[derive(Debug)]
pub(crate) struct Change<'a> {
    /// The command, with hyphens: `peer-add`.
    pub(crate) step: &'a str,
    /// What came of it, stable: `peer-added`. `docs/audit.md` lists them.
    pub(crate) reason: &'a str,
    /// Which peer it is about, if one.
    pub(crate) service: Option<&'a ServiceName>,
    /// Which credential of it, if one.
    pub(crate) credential: Option<CredentialId>,
    pub(crate) profile: Option<Profile>,
    /// Anything else that an auditor wants to know. Never a secret.
    pub(crate) detail: Option<String>,
}

impl<'a> Change<'a> {
    /// A change of one peer.
    pub(crate) fn of(step: &'a str, reason: &'a str, service: &'a ServiceName) -> Self {
        Self { service: Some(service), ..Self::here(step, reason) }
    }

    /// A change of this service itself.
    pub(crate) fn here(step: &'a str, reason: &'a str) -> Self {
        Self { step, reason, service: None, credential: None, profile: None, detail: None }
    }
}

/// Writes a change that has been made to the trail, as the writer `admin`.
///
/// Afterwards and not before: a revocation must not wait until a full disk is mended. So this fails for a change
/// that is in effect, and says so.
pub(crate) fn record(home: &Home, store: &SqliteStore, change: Change<'_>) -> Result<(), Failure> {
    let by = format!("by user {}", rustix::process::getuid().as_raw());
    let detail = match change.detail {
        Some(detail) => format!("{detail}; {by}"),
        None => by,
    };
    let record = Record {
        service: change.service.map(ToString::to_string),
        credential: change.credential.map(|credential| credential.to_string()),
        profile: change.profile,
        detail: Some(detail),
        ..Record::new(Direction::Local, change.step, Outcome::Changed, change.reason)
    };
    let unwritten = || "the change is made and in effect, but is not on the trail".to_owned();
    let trail = home
        .trail(store, "admin")
        .map_err(|failure| Failure::new(format!("{}: {}", unwritten(), failure.message())))?;
    trail.submit(record).wait().context(unwritten)
}
