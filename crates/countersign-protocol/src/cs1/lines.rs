//! The lines of a message's fields, gone through once.

use http::{HeaderMap, HeaderValue};

use super::fields::is_of_hops;
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
    /// Those of a message. Each is looked up by name until they are [gathered](Self::gather): in two steps, for the room is
    /// large, and is not moved then.
    #[inline(always)]
    pub(super) const fn of_message(fields: &'a HeaderMap) -> Self {
        Self { fields, near: [(&[], &[]); NEAR], count: 0, covered: 0, far: Vec::new() }
    }

    /// Goes through the fields.
    #[inline]
    pub(super) fn gather(&mut self) {
        if self.fields.len() <= NEAR {
            let mut count = 0;
            for (slot, (name, value)) in self.near.iter_mut().zip(self.fields) {
                *slot = (name.as_str().as_bytes(), value.as_bytes());
                count += 1;
            }
            self.count = count;
        }
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
    #[inline]
    pub(super) fn to_be_signed(&self) -> Signed<'_, 'a> {
        let mut signed = Signed { lines: self, near: [0; NEAR], count: 0, far: Vec::new() };
        if self.count == 0 {
            signed.far = self.fields.keys().map(|name| name.as_str().as_bytes()).collect();
            signed.far.retain(|name| !is_of_hops(name));
            signed.far.sort_unstable();
            return signed;
        }
        let mut before = &[][..];
        for (at, (name, _)) in (0_u8..).zip(self.near()) {
            if !is(before, name) && !is_of_hops(name) {
                // One is put before those that come after it by name; most come in some order, and they are few.
                let mut place = signed.count;
                while let Some(last) = place.checked_sub(1)
                    && signed.near.get(last).is_some_and(|one| self.name(*one) > *name)
                {
                    place = last;
                }
                if let Some(behind) = signed.near.get_mut(place..=signed.count) {
                    behind.rotate_right(1);
                    behind.iter_mut().take(1).for_each(|free| *free = at);
                    signed.count += 1;
                }
            }
            before = name;
        }
        signed
    }

    /// The name of a near line.
    #[inline]
    fn name(&self, at: u8) -> &'a [u8] {
        self.near().get(usize::from(at)).map_or(&[], |(name, _)| name)
    }
}

/// Few names are as long as another, and then most end in another way.
#[inline]
fn is(one: &[u8], other: &[u8]) -> bool {
    if one.len() != other.len() {
        return false;
    }
    match (one.last_chunk::<8>(), other.last_chunk::<8>()) {
        (Some(end), Some(other_end)) if end != other_end => false,
        (Some(_), Some(_)) if one.len() <= 16 => one.first_chunk::<8>() == other.first_chunk::<8>(),
        _ => one == other,
    }
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
pub(super) struct Signed<'l, 'a> {
    lines: &'l Lines<'a>,
    /// The first line of each, by name.
    near: [u8; NEAR],
    count: usize,
    /// Their names, where no lines are near.
    far: Vec<&'a [u8]>,
}

impl<'l, 'a> Signed<'l, 'a> {
    /// How many they are.
    pub(super) fn count(&self) -> usize {
        self.count + self.far.len()
    }

    /// Their names, sorted.
    #[inline]
    pub(super) fn names(&self) -> impl Iterator<Item = &'a [u8]> {
        self.fields().map(|(name, _)| name)
    }

    /// The same with their lines.
    #[inline]
    pub(super) fn fields(&self) -> impl Iterator<Item = (&'a [u8], Found<'l, 'a>)> {
        let near = self.near.iter().take(self.count).map(|at| {
            let name = self.lines.name(*at);
            (name, Found::Near(name, self.lines.near().get(usize::from(*at)..).unwrap_or_default()))
        });
        near.chain(self.far.iter().map(|name| (*name, self.lines.far(name))))
    }
}
