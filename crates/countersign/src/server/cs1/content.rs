//! A request's content: held until its digest is verified, so that nothing of it can have an effect before (CS-27, CS-37).

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use countersign_protocol::cs1::content::ContentRule;
use countersign_protocol::refusal::{Malformed, Refusal};
use http_body::Body;
use http_body_util::BodyExt as _;

/// Reads content of at most `hold` bytes and checks it. Each piece has to come within `patience`. Trailers are covered by nothing,
/// and dropped (CS-50).
pub(super) async fn hold<B>(
    body: B,
    rule: &ContentRule,
    hold: usize,
    patience: Duration,
) -> Result<Bytes, Refusal>
where
    B: Body<Data = Bytes>,
{
    if body.size_hint().lower() > hold as u64 {
        return Err(Refusal::ContentTooLarge);
    }
    let mut body = std::pin::pin!(body);
    let mut check = rule.check();
    let (mut first, mut more) = (Bytes::new(), BytesMut::new());
    loop {
        let frame = match tokio::time::timeout(patience, body.frame()).await {
            Ok(Some(Ok(frame))) => frame,
            Ok(None) => break,
            Ok(Some(Err(_))) | Err(_) => return Err(Malformed::BodyIncomplete.into()),
        };
        let Ok(piece) = frame.into_data() else { continue };
        if first.len() + more.len() + piece.len() > hold {
            return Err(Refusal::ContentTooLarge);
        }
        check.update(&piece);
        if first.is_empty() {
            first = piece;
        } else {
            more.extend_from_slice(&piece);
        }
    }
    check.finish()?;
    if more.is_empty() {
        return Ok(first);
    }
    let mut whole = BytesMut::with_capacity(first.len() + more.len());
    whole.extend_from_slice(&first);
    whole.extend_from_slice(&more);
    Ok(whole.freeze())
}
