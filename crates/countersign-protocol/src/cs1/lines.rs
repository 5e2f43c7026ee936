//! The lines of a message's fields, gone through once.

use http::{HeaderMap, HeaderValue};

use super::fields::is_of_hops;
use super::scan::MAX_COMPONENTS;
use crate::refusal::Refusal;

/// As many lines are looked at one by one.
const NEAR: usize = 24;

/// The fields of a message. Most have few, and then to look at each takes less time than a look-up by name.
pub(super) struct Lines<'a> {
    fields: &'a HeaderMap,
    /// All lines, if they are no more; then none. Those of one field follow each other.
    near: [(&'a [u8], &'a [u8]); NEAR],
    count: usize,
    /// Which of the near lines are covered, as bits.
    covered: u32,
    /// What is covered where no lines are near.
    far: Vec<&'a [u8]>,
}

impl<'a> Lines<'a> {
    /// Goes through `fields`.
    #[inline]
    pub(super) fn of_message(fields: &'a HeaderMap) -> Self {
        let mut lines = Self { fields, near: [(&[], &[]); NEAR], count: 0, covered: 0, far: Vec::new() };
        if fields.len() <= NEAR {
            for (slot, (name, value)) in lines.near.iter_mut().zip(fields) {
                *slot = (name.as_str().as_bytes(), value.as_bytes());
                lines.count += 1;
            }
        }
        lines
    }

    /// As they came.
    pub(super) const fn fields(&self) -> &'a HeaderMap {
        self.fields
    }

    fn near(&self) -> &[(&'a [u8], &'a [u8])] {
        self.near.get(..self.count).unwrap_or_default()
    }

    /// Notes that this field is covered, and gives its lines; none if it is not there.
    ///
    /// # Errors
    /// [`Refusal::SignatureForm`] if it was covered before.
    #[inline]
    pub(super) fn cover(&mut self, name: &'a [u8]) -> Result<Found<'_, 'a>, Refusal> {
        if self.count == 0 {
            return self.cover_far(name);
        }
        let Some(at) = self.near().iter().position(|(one, _)| is(one, name)) else {
            return Ok(Found::Near(name, &[]));
        };
        if self.covered & 1 << at != 0 {
            return Err(Refusal::SignatureForm);
        }
        self.covered |= 1 << at;
        Ok(Found::Near(name, self.near().get(at..).unwrap_or_default()))
    }

    #[cold]
    fn cover_far(&mut self, name: &'a [u8]) -> Result<Found<'_, 'a>, Refusal> {
        if self.far.contains(&name) {
            return Err(Refusal::SignatureForm);
        }
        self.far.push(name);
        Ok(self.far(name))
    }

    #[cold]
    fn far(&self, name: &[u8]) -> Found<'_, 'a> {
        let name = std::str::from_utf8(name).unwrap_or_default();
        Found::Far(self.fields.get_all(name).into_iter())
    }

    /// The lines of a field.
    #[inline]
    pub(super) fn of(&self, name: &'a [u8]) -> Found<'_, 'a> {
        if self.count == 0 {
            return self.far(name);
        }
        let at = self.near().iter().position(|(one, _)| is(one, name)).unwrap_or(self.count);
        Found::Near(name, self.near().get(at..).unwrap_or_default())
    }

    /// Whether there is a field that has to be covered, and is not.
    #[inline]
    pub(super) fn lacks(&self, has_to_be_covered: impl Fn(&[u8]) -> bool) -> bool {
        if self.count == 0 {
            let mut names = self.fields.keys().map(|name| name.as_str().as_bytes());
            return names.any(|name| has_to_be_covered(name) && !self.far.contains(&name));
        }
        // The bit is that of a field's first line.
        let (mut before, mut covered) = (&[][..], self.covered);
        self.near().iter().any(|(name, _)| {
            let lacks = covered & 1 == 0 && has_to_be_covered(name) && !is(before, name);
            covered >>= 1;
            before = name;
            lacks
        })
    }

    /// What a signer covers: all that is there, sorted, but for what is of hops. Nobody has to guess what a handler will read.
    /// `None` if that is more than can be covered.
    #[inline]
    pub(super) fn to_be_signed(&self) -> Option<Signed<'a>> {
        let mut signed = Signed { names: [&[]; MAX_COMPONENTS], count: 0 };
        let far = (self.count == 0).then(|| self.fields.keys().map(|name| name.as_str().as_bytes()));
        let near = self.near().iter().map(|(name, _)| *name);
        for name in near.chain(far.into_iter().flatten()).filter(|name| !is_of_hops(name)) {
            if signed.names().last() != Some(&name) {
                *signed.names.get_mut(signed.count)? = name;
                signed.count += 1;
            }
        }
        signed.names.get_mut(..signed.count).unwrap_or_default().sort_unstable();
        Some(signed)
    }
}

/// Few names are as long as another.
#[inline]
fn is(one: &[u8], other: &[u8]) -> bool {
    one.len() == other.len() && one == other
}

/// The lines of one field, in their order.
pub(super) enum Found<'l, 'a> {
    /// Its name, and what is left from its next line on.
    Near(&'a [u8], &'l [(&'a [u8], &'a [u8])]),
    Far(http::header::ValueIter<'a, HeaderValue>),
}

impl<'a> Iterator for Found<'_, 'a> {
    type Item = &'a [u8];

    #[inline]
    fn next(&mut self) -> Option<&'a [u8]> {
        match self {
            Self::Near(name, left) => {
                let ((one, line), after) = left.split_first()?;
                *left = after;
                is(one, name).then_some(*line)
            }
            Self::Far(lines) => lines.next().map(HeaderValue::as_bytes),
        }
    }
}

/// The fields that a signer covers.
pub(super) struct Signed<'a> {
    names: [&'a [u8]; MAX_COMPONENTS],
    count: usize,
}

impl<'a> Signed<'a> {
    /// Their names, sorted.
    pub(super) fn names(&self) -> &[&'a [u8]] {
        self.names.get(..self.count).unwrap_or_default()
    }
}
