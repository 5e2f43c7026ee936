//! What becomes of an attempt: its record on the caller's trail, and what the caller is told.

use std::sync::Arc;

use countersign_audit::{Direction, Outcome, Record};
use countersign_protocol::mac::encode_hex;
use countersign_protocol::wire::reply::ReplyError;
use countersign_store::random;

use super::ClientError;
use super::handshake::{Failure, Proof};
use super::known::{Known, Plan};
use super::session::Inner;

impl Inner {
    pub(super) async fn record(
        &self,
        step: &str,
        known: &Known,
        plan: &Plan,
        failure: Option<&Failure>,
    ) -> Result<(), ClientError> {
        let (outcome, reason, detail) = match failure {
            None => (Outcome::Accepted, "accepted", None),
            Some(Failure::Network(error)) => (Outcome::Refused, "unreachable", Some(error.to_string())),
            Some(Failure::Protocol(error)) => {
                (Outcome::Refused, reason(error), Some(discreet(error, &plan.proof).to_string()))
            }
        };
        self.write(step, known, plan, (outcome, reason, detail)).await
    }

    /// That an answer came which the peer is not proved to have given.
    pub(super) async fn record_unproved(
        &self,
        known: &Known,
        plan: &Plan,
        detail: String,
    ) -> Result<(), ClientError> {
        self.write("response", known, plan, (Outcome::Refused, UNPROVED, Some(detail))).await
    }

    async fn write(
        &self,
        step: &str,
        known: &Known,
        plan: &Plan,
        (outcome, reason, detail): (Outcome, &'static str, Option<String>),
    ) -> Result<(), ClientError> {
        let Some(audit) = &self.audit else { return Ok(()) };
        Ok(audit.submit(Record { detail, ..record(step, known, plan, outcome, reason) }).await?)
    }

    /// What writes down that a stream did not end as it was signed. Nobody waits for it: its reader is told either way.
    pub(super) fn reporter(&self, known: &Known, plan: &Plan) -> Option<Report> {
        let audit = Arc::clone(self.audit.as_ref()?);
        let record = record("response", known, plan, Outcome::Refused, UNPROVED);
        Some(Box::new(move |detail| drop(audit.submit(Record { detail: Some(detail), ..record }))))
    }
}

/// Writes what went wrong with a response whose head was handed on already.
pub(super) type Report = Box<dyn FnOnce(String) + Send + Sync>;

/// The reason for an answer that is not proved to be the peer's.
const UNPROVED: &str = "response-unproved";

fn record(step: &str, known: &Known, plan: &Plan, outcome: Outcome, reason: &str) -> Record {
    Record {
        service: Some(plan.id.peer.to_string()),
        credential: Some(plan.id.to_string()),
        profile: Some(known.profile),
        request_id: encode_hex(&random::<16>()),
        ..Record::new(Direction::Outbound, step, outcome, reason)
    }
}

/// Whether the server refused what we proved ourselves with, rather than something else being wrong.
pub(super) const fn is_refusal(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Handshake {
            error: ReplyError::Status { status: 401 | 403, .. } | ReplyError::NotAuthenticated,
            ..
        }
    )
}

pub(super) fn explain(known: &Known, plan: &Plan, failure: Failure) -> ClientError {
    match failure {
        Failure::Network(error) => error,
        Failure::Protocol(error) => {
            let error = discreet(&error, &plan.proof);
            ClientError::Handshake { url: known.base.to_string(), profile: known.profile, error }
        }
    }
}

/// What a server writes about its refusal is shown and recorded, but not if it repeats a key that is a secret.
fn discreet(error: &ReplyError, proof: &Proof) -> ReplyError {
    match (error, proof) {
        (ReplyError::Status { status, title: Some(title) }, Proof::ApiKey(key))
            if title.contains(key.expose()) =>
        {
            ReplyError::Status { status: *status, title: Some("(it repeats our key: not shown)".to_owned()) }
        }
        _ => error.clone(),
    }
}

/// The reason on the trail.
fn reason(error: &ReplyError) -> &'static str {
    match error {
        ReplyError::Status { .. } => "refused-by-server",
        ReplyError::NotAuthenticated => "not-authenticated",
        ReplyError::ServerUnproven => "server-unproven",
        ReplyError::ServerImpostor => "server-impostor",
        ReplyError::ForeignShape => "foreign-challenge",
        _ => "bad-answer",
    }
}
