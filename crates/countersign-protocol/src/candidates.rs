//! Finding out whose proof an attempt brings, with the same work for every key.

use std::sync::Arc;

use subtle::{ConditionallySelectable as _, ConstantTimeEq as _};

use crate::mac::{MacKey, Tag};
use crate::refusal::Refusal;

/// Something that holds the key a caller proves itself with.
pub trait Candidate {
    /// The HMAC key under which the **caller's** proof is made.
    fn mac_key(&self) -> &MacKey;
}

impl<T: Candidate> Candidate for Arc<T> {
    fn mac_key(&self) -> &MacKey {
        T::mac_key(self)
    }
}

/// Whom the presented key may belong to.
#[derive(Debug)]
pub enum Holders<'a, C> {
    /// The live credentials of this key; during a rotation there can be several.
    Live(&'a [C]),
    /// Nobody that may authenticate so, and why (for the trail). Costs the same MACs.
    Nobody(Refusal),
}

impl<C> Clone for Holders<'_, C> {
    fn clone(&self) -> Self {
        *self
    }
}

impl<C> Copy for Holders<'_, C> {}

/// What every attempt costs, so that time tells nothing about a key.
#[derive(Clone, Copy, Debug)]
pub struct Effort<'a> {
    /// How many MACs are computed at least: the greatest number of live credentials that share a key.
    pub macs: usize,
    /// A random key that stands in where there are fewer.
    pub decoy: &'a MacKey,
}

/// The one whose MAC `proof` is. Computes `effort.macs` of them at least, and never stops early.
///
/// # Errors
/// [`Refusal::WrongSignature`], or the refusal in [`Holders::Nobody`].
pub(crate) fn find<'a, C: Candidate>(
    holders: Holders<'a, C>,
    effort: Effort<'_>,
    proof: &Tag,
    mac: impl Fn(&MacKey) -> Tag,
) -> Result<&'a C, Refusal> {
    let (live, nobody) = match holders {
        Holders::Live(live) => (live, Refusal::UnknownKey),
        Holders::Nobody(why) => (&[][..], why),
    };
    const NONE: u32 = u32::MAX;
    let mut found = NONE;
    for index in 0..effort.macs.max(live.len()) {
        let key = live.get(index).map_or(effort.decoy, Candidate::mac_key);
        let matches = mac(key).ct_eq(proof);
        found.conditional_assign(&u32::try_from(index).unwrap_or(NONE), matches);
    }
    if live.is_empty() {
        return Err(nobody);
    }
    usize::try_from(found).ok().and_then(|index| live.get(index)).ok_or(Refusal::WrongSignature)
}
