//! Digest fields (RFC 9530): `Content-Digest` and `Repr-Digest`, and what is asked for with `Want-…`.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{BareItem, Item, ListEntry};
use sha2::{Digest as _, Sha256, Sha512};
use subtle::ConstantTimeEq as _;

use crate::error::{DigestError, FormError};
use crate::sign::line;
use crate::verify::{dictionary, once};

/// The field `Content-Digest` (RFC 9530, section 2).
pub const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");
/// The field `Repr-Digest` (RFC 9530, section 3).
pub const REPR_DIGEST: HeaderName = HeaderName::from_static("repr-digest");
/// The field `Want-Content-Digest` (RFC 9530, section 4).
pub const WANT_CONTENT_DIGEST: HeaderName = HeaderName::from_static("want-content-digest");
/// The field `Want-Repr-Digest` (RFC 9530, section 4).
pub const WANT_REPR_DIGEST: HeaderName = HeaderName::from_static("want-repr-digest");

/// The algorithms that RFC 9530, section 5, calls active.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DigestAlgorithm {
    /// `sha-256`, 32 bytes.
    Sha256,
    /// `sha-512`, 64 bytes.
    Sha512,
}

impl DigestAlgorithm {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Sha256, Self::Sha512];

    /// Its key in a digest field.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Sha256 => "sha-256",
            Self::Sha512 => "sha-512",
        }
    }
}

/// A digest that is being computed.
#[derive(Clone, Debug)]
pub enum Hasher {
    /// Of `sha-256`.
    Sha256(Sha256),
    /// Of `sha-512`.
    Sha512(Sha512),
}

impl Hasher {
    /// Begins.
    #[must_use]
    pub fn new(algorithm: DigestAlgorithm) -> Self {
        match algorithm {
            DigestAlgorithm::Sha256 => Self::Sha256(Sha256::new()),
            DigestAlgorithm::Sha512 => Self::Sha512(Sha512::new()),
        }
    }

    /// Takes the next piece of the content.
    pub fn update(&mut self, piece: &[u8]) {
        match self {
            Self::Sha256(hasher) => hasher.update(piece),
            Self::Sha512(hasher) => hasher.update(piece),
        }
    }

    /// The digest.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        match self {
            Self::Sha256(hasher) => hasher.finalize().to_vec(),
            Self::Sha512(hasher) => hasher.finalize().to_vec(),
        }
    }
}

/// The value of a digest field for this content.
///
/// ```
/// use countersign_httpsig::digest::{DigestAlgorithm, digest_value};
///
/// let value = digest_value(DigestAlgorithm::Sha256, b"{\"hello\": \"world\"}");
/// assert_eq!(value?, "sha-256=:X48E9qOokqqrvdts8nOJRJN3OWDUoyWxBf7kbu9DBPE=:");
/// # Ok::<_, countersign_httpsig::FormError>(())
/// ```
///
/// # Errors
/// None in practice: a byte sequence is a value of a header.
pub fn digest_value(algorithm: DigestAlgorithm, content: &[u8]) -> Result<HeaderValue, FormError> {
    let mut hasher = Hasher::new(algorithm);
    hasher.update(content);
    let digest = hasher.finish();
    let key = sfv::KeyRef::from_str(algorithm.as_str()).map_err(|_| FormError::Digest)?;
    let value = line(|writer| {
        writer.bare_item(key, digest.as_slice());
    });
    value.map_err(|_| FormError::Digest)
}

/// The digest that a field claims under this algorithm; `None` if it has none. Others are not looked at.
///
/// # Errors
/// The field has not its form, the algorithm stands twice, or its digest is not one.
pub fn claimed_digest(
    fields: &HeaderMap,
    name: &HeaderName,
    algorithm: DigestAlgorithm,
) -> Result<Option<Vec<u8>>, FormError> {
    match once(fields, name, algorithm.as_str())? {
        None => Ok(None),
        Some(ListEntry::Item(Item { bare_item: BareItem::ByteSequence(digest), .. }))
            if digest.len() == Hasher::new(algorithm).finish().len() =>
        {
            Ok(Some(digest))
        }
        Some(_) => Err(FormError::Digest),
    }
}

/// Digests that a message claims, of the algorithms that are known here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Digests(Vec<(DigestAlgorithm, Vec<u8>)>);

impl Digests {
    /// Reads a digest field. Algorithms that are not known, or broken (md5, sha, …), are passed over.
    ///
    /// # Errors
    /// The field has not its form, has an algorithm that counts twice, or has none.
    pub fn read(fields: &HeaderMap, name: &HeaderName) -> Result<Self, DigestError> {
        let mut digests = Vec::new();
        for algorithm in DigestAlgorithm::ALL {
            if let Some(digest) = claimed_digest(fields, name, algorithm)? {
                digests.push((algorithm, digest));
            }
        }
        if digests.is_empty() { Err(DigestError::NoAlgorithm) } else { Ok(Self(digests)) }
    }

    /// What is claimed under this algorithm.
    #[must_use]
    pub fn get(&self, algorithm: DigestAlgorithm) -> Option<&[u8]> {
        self.0.iter().find(|(one, _)| *one == algorithm).map(|(_, digest)| digest.as_slice())
    }

    /// Hashers for content that comes in pieces, one for each digest.
    #[must_use]
    pub fn hashers(&self) -> Vec<Hasher> {
        self.0.iter().map(|(algorithm, _)| Hasher::new(*algorithm)).collect()
    }

    /// Whether what went through [`Digests::hashers`] is what was claimed. All of them have to agree.
    ///
    /// # Errors
    /// [`DigestError::Mismatch`].
    pub fn check(&self, hashers: Vec<Hasher>) -> Result<(), DigestError> {
        let right = self.0.len() == hashers.len()
            && self
                .0
                .iter()
                .zip(hashers)
                .all(|((_, claimed), hasher)| bool::from(hasher.finish().ct_eq(claimed)));
        if right { Ok(()) } else { Err(DigestError::Mismatch) }
    }

    /// Whether this is the content.
    ///
    /// # Errors
    /// [`DigestError::Mismatch`].
    pub fn verify(&self, content: &[u8]) -> Result<(), DigestError> {
        let mut hashers = self.hashers();
        for hasher in &mut hashers {
            hasher.update(content);
        }
        self.check(hashers)
    }
}

/// The algorithm that `Want-Content-Digest` or `Want-Repr-Digest` likes best, of those that are known here; `None` if it
/// wants none of them, or is absent.
///
/// # Errors
/// The field has not its form, or a preference is not from 0 to 10.
pub fn wanted(fields: &HeaderMap, name: &HeaderName) -> Result<Option<DigestAlgorithm>, FormError> {
    let members = dictionary(fields, name)?;
    let mut best = None;
    for (key, entry) in &members {
        let ListEntry::Item(item) = entry else { return Err(FormError::Digest) };
        let preference = item.bare_item.as_integer().map(i64::from);
        let preference = preference.filter(|number| (0..=10).contains(number)).ok_or(FormError::Digest)?;
        let known = DigestAlgorithm::ALL.into_iter().find(|algorithm| algorithm.as_str() == key.as_str());
        // 0 means: not this one.
        if let Some(algorithm) = known
            && preference > best.map_or(0, |(_, best)| best)
        {
            best = Some((algorithm, preference));
        }
    }
    Ok(best.map(|(algorithm, _)| algorithm))
}
