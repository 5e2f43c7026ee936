//! What an answer says that is not signed. Anybody on the way may have written it: it says what is worth trying, and what to
//! tell the caller, and nothing else comes of it (CS-35).

use countersign_protocol::cs1::KeyName;
use countersign_protocol::cs1::accept::asked;
use countersign_protocol::cs1::nonce::ServerNonce;
use countersign_protocol::problem::TYPE_PREFIX;
use countersign_protocol::wire::printable;
use http::header::RETRY_AFTER;
use http::response::Parts;
use http::{HeaderMap, StatusCode};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;

/// The longest problem that is read, in bytes.
const MAX: usize = 16 * 1024;

pub(super) struct Hint {
    /// The last part of the problem's `type`.
    kind: Option<String>,
    wait: Option<String>,
}

/// What may help.
pub(super) enum Remedy {
    /// A new handshake.
    Session,
    /// The nonce that the server gave.
    Nonce(ServerNonce),
}

impl Hint {
    pub(super) async fn read(parts: &Parts, incoming: Incoming) -> Self {
        let body = Limited::new(incoming, MAX).collect().await.ok();
        let problem: Option<serde_json::Value> =
            body.and_then(|body| serde_json::from_slice(&body.to_bytes()).ok());
        let kind = problem.as_ref().and_then(|problem| problem.get("type")?.as_str());
        let kind = kind.map(|kind| printable(kind.strip_prefix(TYPE_PREFIX).unwrap_or(kind), 80));
        Self { kind, wait: wait(&parts.headers) }
    }

    /// Without its content.
    pub(super) fn of_fields(fields: &HeaderMap) -> Self {
        Self { kind: None, wait: wait(fields) }
    }

    /// What may help a request that was signed under this name.
    pub(super) fn remedy(&self, parts: &Parts, name: &KeyName<'_>) -> Option<Remedy> {
        if parts.status != StatusCode::UNAUTHORIZED {
            return None;
        }
        match self.kind.as_deref()? {
            "session-invalid" | "clock-skew" => Some(Remedy::Session),
            "nonce-required" => asked(&parts.headers, name).map(Remedy::Nonce),
            _ => None,
        }
    }

    /// For people.
    pub(super) fn text(&self) -> Option<String> {
        let wait = self.wait.as_ref().map(|seconds| format!("to try again in {seconds} s"));
        match (&self.kind, wait) {
            (Some(kind), Some(wait)) => Some(format!("`{kind}`, and {wait}")),
            (Some(kind), None) => Some(format!("`{kind}`")),
            (None, wait) => wait,
        }
    }
}

/// The seconds in `Retry-After`.
fn wait(fields: &HeaderMap) -> Option<String> {
    let value = fields.get(RETRY_AFTER)?.to_str().ok()?;
    let is_number = (1..=9).contains(&value.len()) && value.bytes().all(|byte| byte.is_ascii_digit());
    is_number.then(|| value.to_owned())
}
