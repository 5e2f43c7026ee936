//! What the content of a signed message has to be (CS-27, CS-37, CS-38).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_httpsig::digest::{CONTENT_DIGEST, DigestAlgorithm, claimed_digest, digest_value};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use crate::refusal::Refusal;

/// Says how content comes that is not held (CS-38).
const BODY: HeaderName = HeaderName::from_static("countersign-body");

/// What the content has to be, as the covered fields say. Until it is checked, nothing may take effect.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum ContentRule {
    /// There is none: no digest was covered.
    Empty,
    /// It has this SHA-256.
    Sha256([u8; 32]),
}

impl std::fmt::Debug for ContentRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Sha256(_) => "Sha256(…)",
        })
    }
}

/// Takes content as it comes in, and says at its end whether it is the one that was signed.
#[derive(Debug)]
pub struct ContentCheck {
    rule: ContentRule,
    hasher: Sha256,
    empty: bool,
}

impl ContentRule {
    /// Begins to check.
    #[must_use]
    pub fn check(self) -> ContentCheck {
        ContentCheck { rule: self, hasher: Sha256::new(), empty: true }
    }
}

impl ContentCheck {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        self.empty &= piece.is_empty();
        self.hasher.update(piece);
    }

    /// Whether all of it was what was signed.
    ///
    /// # Errors
    /// [`Refusal::DigestMismatch`]; [`Refusal::Uncovered`] if there is content that nothing covers.
    pub fn finish(self) -> Result<(), Refusal> {
        match self.rule {
            ContentRule::Empty if self.empty => Ok(()),
            ContentRule::Empty => Err(Refusal::Uncovered("content-digest")),
            ContentRule::Sha256(digest)
                if bool::from(self.hasher.finalize().as_slice().ct_eq(digest.as_slice())) =>
            {
                Ok(())
            }
            ContentRule::Sha256(_) => Err(Refusal::DigestMismatch),
        }
    }
}

/// The value of `Content-Digest` for this content.
///
/// # Errors
/// None in practice: a digest is the value of a header.
pub fn content_digest(content: &[u8]) -> Result<HeaderValue, Refusal> {
    digest_value(DigestAlgorithm::Sha256, content).map_err(|_| Refusal::SignatureForm)
}

/// What the covered `Content-Digest` asks for; that it is covered if it is there was checked before. Signers ask as well, so
/// that nobody signs what the other side has to refuse.
pub(super) fn rule(fields: &HeaderMap) -> Result<ContentRule, Refusal> {
    // Streams (CS-38) are not built: nothing would check such content at its end.
    if fields.contains_key(BODY) {
        return Err(Refusal::SignatureForm);
    }
    let mut lines = fields.get_all(CONTENT_DIGEST).iter();
    let Some(first) = lines.next() else { return Ok(ContentRule::Empty) };
    // As we write it: nothing is allocated for it.
    if lines.next().is_none()
        && let Some(digest) = plain(first.as_bytes())
    {
        return Ok(ContentRule::Sha256(digest));
    }
    let sha256 = claimed_digest(fields, &CONTENT_DIGEST, DigestAlgorithm::Sha256).ok().flatten();
    let sha256 = sha256.and_then(|digest| digest.try_into().ok());
    sha256.map(ContentRule::Sha256).ok_or(Refusal::SignatureForm)
}

/// `sha-256=:base64:`
fn plain(value: &[u8]) -> Option<[u8; 32]> {
    let encoded = value.strip_prefix(b"sha-256=:")?.strip_suffix(b":")?;
    let mut room = [0; 33];
    match STANDARD.decode_slice(encoded, &mut room) {
        Ok(32) => room.first_chunk().copied(),
        _ => None,
    }
}
