//! Copies of a few bytes.

/// Copies between slices of one length. Most pieces of a signature base are short, and calling the library for one takes longer
/// than the few moves that it needs: two that overlap where they must.
#[inline(always)]
pub(crate) fn copy(from: &[u8], to: &mut [u8]) {
    match from.len() {
        8..=16 => copy_ends::<8>(from, to),
        17..=32 => copy_ends::<16>(from, to),
        33..=64 => copy_ends::<32>(from, to),
        _ => to.copy_from_slice(from),
    }
}

#[inline(always)]
fn copy_ends<const N: usize>(from: &[u8], to: &mut [u8]) {
    if let (Some(from), Some(to)) = (from.first_chunk::<N>(), to.first_chunk_mut::<N>()) {
        *to = *from;
    }
    if let (Some(from), Some(to)) = (from.last_chunk::<N>(), to.last_chunk_mut::<N>()) {
        *to = *from;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn a_copy_is_the_same(from in proptest::collection::vec(proptest::num::u8::ANY, 0..100)) {
            let mut to = vec![0; from.len()];
            copy(&from, &mut to);
            proptest::prop_assert_eq!(from, to);
        }
    }
}
