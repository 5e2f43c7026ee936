//! Signs what the handler answers (section 7).

use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::cs1::content::content_digest;
use countersign_protocol::cs1::request::Instructions;
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::cs1::stream::{COUNTERSIGN_BODY, COUNTERSIGN_BODY_MAC, STREAM, announced_trailers};
use countersign_protocol::mac::MacKey;
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::Refusal;
use http::header::{CONTENT_LENGTH, TRAILER};
use http::response::Parts;
use http::{HeaderName, HeaderValue, Response, StatusCode, Version};
use http_body::Body as _;
use http_body_util::{BodyExt as _, Empty, Full};

use super::head::Signed;
use super::stream::Outgoing;
use crate::server::authenticator::Inner;
use crate::server::body::ResponseBody;
use crate::server::reject::problem_response;

const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");

/// For how long content of unknown length is waited for, so that it can be held: what is longer than that on its way, such as
/// events, flows on.
const WAIT: Duration = Duration::from_secs(1);

/// Signs the responses to one request.
pub(super) struct Signer<'a> {
    pub(super) inner: &'a Inner,
    pub(super) key: &'a MacKey,
    pub(super) signed: &'a Signed,
    pub(super) request_id: &'a str,
    pub(super) version: Version,
    /// Whether the other side takes trailers.
    pub(super) trailers: bool,
    /// Whether the handler may upgrade the connection (CS-39).
    pub(super) upgrades: bool,
    /// Whether the request's content has turned out not to be what was signed, if it is a stream.
    pub(super) request: Option<&'a Arc<AtomicBool>>,
}

/// What the handler's body came to.
enum Content {
    Held(Bytes),
    /// It is longer, or slower, than what is held: what came of it so far, and the rest.
    Flowing(Vec<Bytes>, ResponseBody),
    /// It broke off.
    Broken,
}

impl Signer<'_> {
    /// The response that is sent: signed, also where the handler's own cannot be.
    pub(super) async fn sign(&self, response: Response<ResponseBody>) -> Response<ResponseBody> {
        if response.status() == StatusCode::SWITCHING_PROTOCOLS && !self.upgrades {
            return self.no_upgrade();
        }
        let (mut parts, body) = response.into_parts();
        // Ours to say, all three. A handler's own digest is replaced by that of what is sent.
        for name in [SIGNATURE, SIGNATURE_INPUT, COUNTERSIGN_BODY] {
            parts.headers.remove(name);
        }
        let is_empty = self.signed.parts().method == "HEAD"
            || matches!(parts.status, StatusCode::NO_CONTENT | StatusCode::NOT_MODIFIED);
        if is_empty {
            return self.without_content(parts);
        }
        parts.headers.remove(CONTENT_DIGEST);
        match self.collect(body).await {
            Content::Held(content) => self.held(parts, content),
            Content::Flowing(before, body) if self.trailers => self.flowing(parts, before, body),
            Content::Flowing(..) => self.problem(Problem::TrailersRequired),
            Content::Broken => self.problem(Problem::UpstreamUnreachable),
        }
    }

    /// Reads the body, up to what is held and for no longer than [`WAIT`].
    async fn collect(&self, mut body: ResponseBody) -> Content {
        let limit = self.inner.cs1.hold;
        let mut pieces: Vec<Bytes> = Vec::new();
        if body.size_hint().lower() > limit as u64 {
            return Content::Flowing(pieces, body);
        }
        let deadline = tokio::time::Instant::now() + WAIT;
        let mut length = 0;
        loop {
            let frame = match tokio::time::timeout_at(deadline, body.frame()).await {
                Ok(Some(Ok(frame))) => frame,
                Ok(Some(Err(error))) => {
                    tracing::warn!(%error, "the handler's response broke off");
                    return Content::Broken;
                }
                Ok(None) => break,
                Err(_) => return Content::Flowing(pieces, body),
            };
            // Trailers of what is held are covered by nothing, and dropped (CS-50).
            let Ok(piece) = frame.into_data() else { continue };
            length += piece.len();
            pieces.push(piece);
            if length > limit {
                return Content::Flowing(pieces, body);
            }
        }
        Content::Held(match <[Bytes; 1]>::try_from(pieces) {
            Ok([one]) => one,
            Err(several) => Bytes::from(several.concat()),
        })
    }

    fn without_content(&self, mut parts: Parts) -> Response<ResponseBody> {
        match self.instructions(&parts) {
            Ok(instructions) => {
                put(&mut parts, instructions);
                Response::from_parts(parts, Empty::new().map_err(|never| match never {}).boxed_unsync())
            }
            Err(refusal) => self.unsignable(&refusal),
        }
    }

    fn held(&self, mut parts: Parts, content: Bytes) -> Response<ResponseBody> {
        match self.sign_held(&mut parts, &content) {
            Ok(()) => Response::from_parts(
                parts,
                Full::from(content).map_err(|never| match never {}).boxed_unsync(),
            ),
            Err(refusal) => self.unsignable(&refusal),
        }
    }

    fn sign_held(&self, parts: &mut Parts, content: &[u8]) -> Result<(), Refusal> {
        if !content.is_empty() {
            parts.headers.insert(CONTENT_DIGEST, content_digest(content)?);
        }
        let instructions = self.instructions(parts)?;
        put(parts, instructions);
        Ok(())
    }

    fn flowing(&self, mut parts: Parts, before: Vec<Bytes>, body: ResponseBody) -> Response<ResponseBody> {
        // HTTP/1.1 sends those only that are announced.
        let sent = (self.version < Version::HTTP_2).then(|| announced_trailers(&parts.headers).collect());
        // Trailers need the chunked coding in HTTP/1.1 (RFC 9112, section 7.1).
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(COUNTERSIGN_BODY, HeaderValue::from_static(STREAM));
        parts.headers.append(TRAILER, HeaderValue::from_name(COUNTERSIGN_BODY_MAC));
        match self.instructions(&parts) {
            Ok(mut instructions) => {
                let Some(signer) = instructions.stream.take() else {
                    return self.unsignable(&Refusal::SignatureForm);
                };
                put(&mut parts, instructions);
                let request = self.request.map(Arc::clone);
                Response::from_parts(
                    parts,
                    Outgoing { before: before.into_iter(), body, signer: Some(*signer), sent, request }
                        .boxed_unsync(),
                )
            }
            Err(refusal) => self.unsignable(&refusal),
        }
    }

    fn instructions(&self, parts: &Parts) -> Result<Instructions, Refusal> {
        let (status, request) = (parts.status.as_u16(), self.signed.parts());
        let response = ResponseParts { status, fields: &parts.headers, request };
        response::sign(self.key, &response, self.inner.clock.now())
    }

    /// Where upgraded connections are not taken: what travels on them would be covered by nothing (CS-39).
    pub(super) fn no_upgrade(&self) -> Response<ResponseBody> {
        tracing::warn!(
            request_id = self.request_id,
            "a connection was to be upgraded in a session that is not bound to TLS (binding tls-exporter): it is not (`danger_take_upgrades`)"
        );
        self.problem(Problem::ResponseUnsignable)
    }

    /// What the handler says cannot be covered. The client must not be left without an answer that it can believe: the request
    /// had its effect.
    fn unsignable(&self, refusal: &Refusal) -> Response<ResponseBody> {
        tracing::error!(
            %refusal, request_id = self.request_id,
            "the handler's response cannot be signed (a field twice that is no list, bytes outside of ASCII, or more than 64 fields): it is not sent"
        );
        self.problem(Problem::ResponseUnsignable)
    }

    fn problem(&self, problem: Problem) -> Response<ResponseBody> {
        let (mut parts, body) = problem_response(problem, self.request_id, None).into_parts();
        let content = problem.body(self.request_id, None);
        let signed = self.sign_held(&mut parts, &content);
        debug_assert!(signed.is_ok(), "a problem of ours can be signed");
        Response::from_parts(parts, body.map_err(|never| match never {}).boxed_unsync())
    }
}

fn put(parts: &mut Parts, instructions: Instructions) {
    parts.headers.insert(SIGNATURE_INPUT, instructions.signature_input);
    parts.headers.insert(SIGNATURE, instructions.signature);
}
