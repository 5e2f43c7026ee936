//! What of an answer is proved.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use countersign_protocol::cs1::content::ContentRule;
use countersign_protocol::cs1::response::{ResponseParts, verify};
use countersign_protocol::refusal::Refusal;
use http::Response;
use http::response::Parts;
use http_body_util::BodyExt as _;
use hyper::body::Incoming;

use super::download::Download;
use super::hint::Hint;
use super::request::Signed;
use crate::client::trail::Report;
use crate::client::way::Spoil;
use crate::client::{Body, Unproved};

/// An answer that is not to be believed.
pub(super) struct Doubt {
    pub(super) parts: Parts,
    pub(super) why: Unproved,
    pub(super) hint: Hint,
}

/// How an answer was taken.
pub(super) enum Taken {
    /// The peer signed it for this request. Held content is verified as well; a stream will be.
    Proved(Response<Body>),
    Doubted(Box<Doubt>),
    /// The peer signed it, and it is longer than what is held.
    TooLong,
}

/// How content is held.
#[derive(Clone, Copy)]
pub(super) struct Holding {
    /// So many bytes at most.
    pub(super) limit: usize,
    /// Each piece has to come within this time.
    pub(super) patience: Duration,
}

/// Takes the answer to `signed`. `report` is for a stream that turns out to be wrong later.
pub(super) async fn take(
    response: Response<Incoming>,
    signed: &Signed,
    spoil: Spoil,
    holding: Holding,
    report: Option<Report>,
) -> Taken {
    let (mut parts, incoming) = response.into_parts();
    let status = parts.status.as_u16();
    let claims = ResponseParts { status, fields: &parts.headers, request: signed.as_parts() };
    let kept = match verify(&signed.responses, &claims) {
        Ok(verified) => verified.keep(),
        Err(refusal) => {
            let why = match refusal {
                Refusal::Uncovered(name) => Unproved::Uncovered(name),
                Refusal::SignatureForm if !parts.headers.contains_key("signature") => Unproved::Unsigned,
                _ => Unproved::Signature,
            };
            let reading = tokio::time::timeout(holding.patience, Hint::read(&parts, incoming));
            let hint = reading.await.unwrap_or_else(|_| Hint::of_fields(&parts.headers));
            return Taken::Doubted(Box::new(Doubt { parts, why, hint }));
        }
    };
    let body = if let ContentRule::Stream(_) = kept.content {
        Body::stream(Download::new(incoming, kept.content.check(), spoil, report))
    } else {
        match hold(incoming, &kept.content, holding).await {
            Ok(content) => Body::held(content),
            Err(None) => return Taken::TooLong,
            Err(Some(why)) => {
                if why == Unproved::Content {
                    spoil.spoil();
                }
                let hint = Hint::of_fields(&parts.headers);
                return Taken::Doubted(Box::new(Doubt { parts, why, hint }));
            }
        }
    };
    parts.extensions.insert(kept.coverage);
    Taken::Proved(Response::from_parts(parts, body))
}

/// Reads content to its end and checks it; `None` if it is too long. Trailers are covered by nothing, and dropped (CS-50).
async fn hold(
    mut incoming: Incoming,
    rule: &ContentRule,
    holding: Holding,
) -> Result<Bytes, Option<Unproved>> {
    let mut check = rule.check();
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = match tokio::time::timeout(holding.patience, incoming.frame()).await {
            Ok(None) => break,
            Ok(Some(Ok(frame))) => frame,
            Ok(Some(Err(_))) | Err(_) => return Err(Some(Unproved::CutOff)),
        };
        let Ok(piece) = frame.into_data() else { continue };
        if first.len() + more.len() + piece.len() > holding.limit {
            return Err(None);
        }
        check.update(&piece);
        if first.is_empty() {
            first = piece;
        } else {
            more.extend_from_slice(&piece);
        }
    }
    check.finish().map_err(|_| Some(Unproved::Content))?;
    if more.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&more);
    Ok(whole.freeze())
}
