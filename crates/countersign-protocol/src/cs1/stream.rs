//! Content that is not held until it is verified (CS-38): its length may not be known when the message is signed, so its MAC
//! comes behind it, as a trailer.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use http::header::TRAILER;
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::{Choice, ConstantTimeEq as _};
use zeroize::Zeroizing;

use crate::encode::length_of;
use crate::mac::{MacKey, MacStream, Tag};
use crate::refusal::Refusal;

/// The field that announces a stream. Its value is [`STREAM`] and no other.
pub const COUNTERSIGN_BODY: HeaderName = HeaderName::from_static("countersign-body");
/// The value of [`COUNTERSIGN_BODY`].
pub const STREAM: &str = "stream";
/// The trailer that ends a stream.
pub const COUNTERSIGN_BODY_MAC: HeaderName = HeaderName::from_static("countersign-body-mac");

/// `Expand(SK, LP("body"))`. Its one block is this HMAC (RFC 5869, section 2.3), and SK is at hand as a prepared key only.
fn body_key(key: &MacKey) -> MacKey {
    let block = Zeroizing::new(*key.mac(&[b"\0\0\0\x04body", &[1]]).as_bytes());
    MacKey::new(block.as_slice())
}

/// The trailers that a message announces in `Trailer` (RFC 9110, section 6.6.2), but for our own: in HTTP/1.1 no others travel.
pub fn announced_trailers(fields: &HeaderMap) -> impl Iterator<Item = HeaderName> + '_ {
    let lines = fields.get_all(TRAILER).iter().filter_map(|line| line.to_str().ok());
    let names = lines.flat_map(|line| line.split(',')).filter_map(|name| name.trim().parse().ok());
    names.filter(|name| *name != COUNTERSIGN_BODY_MAC)
}

/// What all of a stream's content has to be. Made with the message's signature, by signing or verifying it.
#[derive(Clone)]
pub struct StreamRule {
    /// Under the body's key, with the message's signature in it already: what comes behind cannot be of another message.
    mac: MacStream,
    digest: Option<[u8; 32]>,
}

impl StreamRule {
    /// `digest` is that of a `Content-Digest` beside the stream: it has to be right as well (CS-51).
    pub(super) fn new(key: &MacKey, signature: &Tag, digest: Option<[u8; 32]>) -> Self {
        let mut mac = body_key(key).begin();
        mac.update(&length_of(signature.as_bytes()));
        mac.update(signature.as_bytes());
        Self { mac, digest }
    }

    /// Begins to check.
    #[must_use]
    pub fn check(self) -> StreamCheck {
        StreamCheck(Running::new(self))
    }

    /// Begins to sign.
    pub(super) fn sign(self) -> StreamSigner {
        StreamSigner(Running::new(self))
    }
}

#[derive(Clone)]
struct Running {
    rule: StreamRule,
    hasher: Sha256,
    length: u64,
}

impl Running {
    fn new(rule: StreamRule) -> Self {
        Self { rule, hasher: Sha256::new(), length: 0 }
    }

    fn update(&mut self, piece: &[u8]) {
        self.hasher.update(piece);
        // No stream reaches 2^64 bytes.
        self.length = self.length.saturating_add(u64::try_from(piece.len()).unwrap_or(u64::MAX));
    }

    /// The MAC over all of it, and whether the content is what its `Content-Digest` says, if it has one.
    fn finish(self, trailers: Option<&HeaderMap>) -> (Tag, Choice) {
        let StreamRule { mut mac, digest } = self.rule;
        let hash: [u8; 32] = self.hasher.finalize().into();
        let trailers = trailers.map(trailer_lines).unwrap_or_default();
        mac.update(&self.length.to_be_bytes());
        for field in [hash.as_slice(), &trailers] {
            mac.update(&length_of(field));
            mac.update(field);
        }
        (mac.finish(), digest.map_or(Choice::from(1), |digest| digest.ct_eq(&hash)))
    }
}

/// The trailers but for our own: by name, and those of one name in their order (CS-52).
fn trailer_lines(trailers: &HeaderMap) -> Vec<u8> {
    let mut names: Vec<_> = trailers.keys().filter(|name| **name != COUNTERSIGN_BODY_MAC).collect();
    names.sort_unstable_by_key(|name| name.as_str());
    let mut lines = Vec::new();
    for name in names {
        for value in trailers.get_all(name) {
            for piece in [name.as_str().as_bytes(), b": ", value.as_bytes().trim_ascii(), b"\n"] {
                lines.extend_from_slice(piece);
            }
        }
    }
    lines
}

/// Takes the content of a message that was signed as a stream, and gives the trailer behind it.
#[derive(Clone)]
pub struct StreamSigner(Running);

impl StreamSigner {
    /// Takes the next piece, as it is sent.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// The value of [`COUNTERSIGN_BODY_MAC`]. `trailers` are all others that are sent.
    ///
    /// # Errors
    /// [`Refusal::SignatureForm`] if it is among them already; [`Refusal::DigestMismatch`] if the content is not what the
    /// message's own `Content-Digest` says. The other side would refuse both.
    pub fn finish(self, trailers: &HeaderMap) -> Result<HeaderValue, Refusal> {
        if trailers.contains_key(COUNTERSIGN_BODY_MAC) {
            return Err(Refusal::SignatureForm);
        }
        let (mac, digest) = self.0.finish(Some(trailers));
        if !bool::from(digest) {
            return Err(Refusal::DigestMismatch);
        }
        HeaderValue::from_str(&URL_SAFE_NO_PAD.encode(mac.as_bytes())).map_err(|_| Refusal::SignatureForm)
    }
}

/// Takes the content of a verified message as it comes in. What it has taken is not final before [`StreamCheck::finish`].
#[derive(Clone)]
pub struct StreamCheck(Running);

impl StreamCheck {
    /// Takes the next piece, as it was received.
    pub fn update(&mut self, piece: &[u8]) {
        self.0.update(piece);
    }

    /// Whether all of it, and the trailers behind it, are what was signed. Without trailers it cannot be.
    ///
    /// # Errors
    /// [`Refusal::DigestMismatch`]: the exchange has to be aborted (CS-38).
    pub fn finish(self, trailers: Option<&HeaderMap>) -> Result<(), Refusal> {
        let claimed = trailers.and_then(claimed).ok_or(Refusal::DigestMismatch)?;
        let (mac, digest) = self.0.finish(trailers);
        if bool::from(mac.ct_eq(&claimed) & digest) { Ok(()) } else { Err(Refusal::DigestMismatch) }
    }
}

/// Our own trailer: on one line, 32 bytes in canonical base64url.
fn claimed(trailers: &HeaderMap) -> Option<Tag> {
    let mut lines = trailers.get_all(COUNTERSIGN_BODY_MAC).iter();
    let line = lines.next().filter(|_| lines.next().is_none())?;
    let bytes: [u8; 32] = URL_SAFE_NO_PAD.decode(line.as_bytes()).ok()?.try_into().ok()?;
    Some(Tag::from_bytes(bytes))
}

macro_rules! redacted {
    ($($name:ident)*) => {$(
        impl fmt::Debug for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str(concat!(stringify!($name), "(…)"))
            }
        }
    )*};
}

redacted!(StreamRule StreamSigner StreamCheck);

#[cfg(test)]
mod tests {
    use super::*;
    use crate::hkdf::Prk;
    use crate::lp;

    #[test]
    fn the_key_of_the_body_is_what_hkdf_expands() {
        let key = Zeroizing::new([7; 32]);
        let expanded = Prk::new(&key).expand::<32>(&lp(&[b"body"]));
        let by_hkdf = MacKey::new(expanded.as_slice()).mac(&[b"m"]);
        assert!(bool::from(body_key(&MacKey::new(key.as_slice())).mac(&[b"m"]).ct_eq(&by_hkdf)));
    }
}
