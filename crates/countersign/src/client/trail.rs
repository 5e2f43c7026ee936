//! What becomes of an attempt: its record on the caller's trail, and what the caller is told.

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
        self.write("response", known, plan, (Outcome::Refused, "response-unproved", Some(detail))).await
    }

    async fn write(
        &self,
        step: &str,
        known: &Known,
        plan: &Plan,
        (outcome, reason, detail): (Outcome, &'static str, Option<String>),
    ) -> Result<(), ClientError> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let record = Record {
            service: Some(plan.id.peer.to_string()),
            credential: Some(plan.id.to_string()),
            profile: Some(known.profile),
            detail,
            request_id: encode_hex(&random::<16>()),
            ..Record::new(Direction::Outbound, step, outcome, reason)
        };
        Ok(audit.submit(record).await?)
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
