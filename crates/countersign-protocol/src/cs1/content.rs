//! What the content of a signed message has to be (CS-27, CS-37, CS-38).

use countersign_httpsig::digest::{CONTENT_DIGEST, DigestAlgorithm, claimed_digest, digest_value};
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::base64_32;
use super::lines::Lines;
use super::stream::{STREAM, StreamCheck, StreamRule};
use crate::mac::{MacKey, Tag};
use crate::refusal::Refusal;

/// What the content has to be, as the covered fields say. Until it is checked, nothing may take effect.
#[derive(Clone)]
pub enum ContentRule {
    /// There is none: no digest was covered.
    Empty,
    /// It has this SHA-256.
    Sha256([u8; 32]),
    /// It is not held, and what ends it are trailers that are right. Whoever takes it has to know that nothing of it is final
    /// before.
    Stream(Box<StreamRule>),
}

impl std::fmt::Debug for ContentRule {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Empty => "Empty",
            Self::Sha256(_) => "Sha256(…)",
            Self::Stream(_) => "Stream(…)",
        })
    }
}

/// Takes content as it comes in, and says at its end whether it is the one that was signed.
#[derive(Debug)]
pub struct ContentCheck(Checking);

#[derive(Debug)]
enum Checking {
    Empty { so_far: bool },
    Sha256 { expected: [u8; 32], hasher: Sha256 },
    Stream(Box<StreamCheck>),
}

impl ContentRule {
    /// Begins to check.
    #[must_use]
    pub fn check(&self) -> ContentCheck {
        ContentCheck(match self {
            Self::Empty => Checking::Empty { so_far: true },
            Self::Sha256(expected) => Checking::Sha256 { expected: *expected, hasher: Sha256::new() },
            Self::Stream(rule) => Checking::Stream(Box::new((**rule).clone().check())),
        })
    }
}

impl ContentCheck {
    /// Takes the next piece.
    pub fn update(&mut self, piece: &[u8]) {
        match &mut self.0 {
            Checking::Empty { so_far } => *so_far &= piece.is_empty(),
            Checking::Sha256 { hasher, .. } => hasher.update(piece),
            Checking::Stream(check) => check.update(piece),
        }
    }

    /// Whether all of it was what was signed, if there are no trailers behind it: a stream is refused.
    ///
    /// # Errors
    /// [`Refusal::DigestMismatch`]; [`Refusal::Uncovered`] if there is content that nothing covers.
    pub fn finish(self) -> Result<(), Refusal> {
        self.finish_with(None)
    }

    /// The same with the trailers that came. Only of a stream they are covered; of other content they have to be discarded
    /// (CS-50).
    ///
    /// # Errors
    /// As [`ContentCheck::finish`].
    pub fn finish_with(self, trailers: Option<&HeaderMap>) -> Result<(), Refusal> {
        match self.0 {
            Checking::Empty { so_far: true } => Ok(()),
            Checking::Empty { so_far: false } => Err(Refusal::Uncovered("content-digest")),
            Checking::Sha256 { expected, hasher } => {
                if bool::from(hasher.finalize().as_slice().ct_eq(expected.as_slice())) {
                    Ok(())
                } else {
                    Err(Refusal::DigestMismatch)
                }
            }
            Checking::Stream(check) => check.finish(trailers),
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

/// What the fields say of the content.
#[derive(Clone, Copy)]
pub(super) enum Announced {
    Nothing,
    Sha256([u8; 32]),
    /// With or without a digest beside it.
    Stream(Option<[u8; 32]>),
}

impl Announced {
    /// What that is for the message which was signed so, under this key.
    pub(super) fn rule(self, key: &MacKey, signature: &Tag) -> ContentRule {
        match self {
            Self::Nothing => ContentRule::Empty,
            Self::Sha256(digest) => ContentRule::Sha256(digest),
            Self::Stream(digest) => ContentRule::Stream(Box::new(StreamRule::new(key, signature, digest))),
        }
    }
}

/// What the covered fields ask for; that they are covered if they are there was checked before. Signers ask as well, so that
/// nobody signs what the other side has to refuse.
pub(super) fn announced(lines: &Lines<'_>) -> Result<Announced, Refusal> {
    let digest = digest(lines)?;
    let mut announcements = lines.of(b"countersign-body");
    match (announcements.next(), announcements.next()) {
        (None, _) => Ok(digest.map_or(Announced::Nothing, Announced::Sha256)),
        (Some(value), None) if value.trim_ascii() == STREAM.as_bytes() => Ok(Announced::Stream(digest)),
        _ => Err(Refusal::SignatureForm),
    }
}

fn digest(lines: &Lines<'_>) -> Result<Option<[u8; 32]>, Refusal> {
    let mut digests = lines.of(b"content-digest");
    let Some(first) = digests.next() else { return Ok(None) };
    // As we write it: nothing is allocated for it.
    if digests.next().is_none()
        && let Some(digest) = plain(first)
    {
        return Ok(Some(digest));
    }
    let sha256 = claimed_digest(lines.fields(), &CONTENT_DIGEST, DigestAlgorithm::Sha256).ok().flatten();
    let sha256 = sha256.and_then(|digest| digest.try_into().ok());
    sha256.map(Some).ok_or(Refusal::SignatureForm)
}

/// `sha-256=:base64:`
fn plain(value: &[u8]) -> Option<[u8; 32]> {
    base64_32::decode(value.strip_prefix(b"sha-256=:")?.strip_suffix(b":")?)
}
