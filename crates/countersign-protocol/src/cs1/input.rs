//! Writes `Signature-Input`, in room that is made for it once.

use http::HeaderValue;

use crate::refusal::Refusal;

/// What is written so far. It begins with the label.
pub(super) struct Input(Vec<u8>);

/// What stands in front of the parameters of the signature.
const LABEL: &[u8] = b"cs=";

impl Input {
    /// Empty, with just the room for `before` bytes, the components with these names, and `parameters`: a value that fills its
    /// room becomes that of a field without being copied.
    #[inline]
    pub(super) fn with_room_for(before: usize, names: &[&[u8]], parameters: &[&[u8]]) -> Self {
        let components: usize = names.iter().map(|name| name.len() + " \"\"".len()).sum();
        let parameters: usize = parameters.iter().map(|piece| piece.len()).sum();
        Self(Vec::with_capacity(before + components + parameters))
    }

    /// Writes this behind it.
    #[inline]
    pub(super) fn push(&mut self, piece: &[u8]) {
        self.0.extend_from_slice(piece);
    }

    /// Writes them behind it.
    #[inline]
    pub(super) fn push_all(&mut self, pieces: &[&[u8]]) {
        for piece in pieces {
            self.push(piece);
        }
    }

    /// Writes a component behind another, and gives it as it stands in the signature base.
    #[inline]
    pub(super) fn component(&mut self, name: &[u8], parameters: &str) -> &[u8] {
        self.0.push(b' ');
        let from = self.0.len();
        for piece in [b"\"", name, b"\"", parameters.as_bytes()] {
            self.0.extend_from_slice(piece);
        }
        self.0.get(from..).unwrap_or_default()
    }

    /// The value of `@signature-params`.
    pub(super) fn parameters(&self) -> &[u8] {
        self.0.get(LABEL.len()..).unwrap_or_default()
    }

    /// The value of the field.
    pub(super) fn finish(self) -> Result<HeaderValue, Refusal> {
        HeaderValue::try_from(self.0).map_err(|_| Refusal::SignatureForm)
    }
}

/// A number as text.
pub(super) struct Decimal {
    digits: [u8; 20],
    from: usize,
}

impl Decimal {
    #[inline]
    pub(super) fn of(mut number: u64) -> Self {
        let (mut digits, mut from) = ([b'0'; 20], 20);
        for digit in digits.iter_mut().rev() {
            *digit = b'0' + (number % 10) as u8;
            number /= 10;
            from -= 1;
            if number == 0 {
                break;
            }
        }
        Self { digits, from }
    }

    #[inline]
    pub(super) fn as_bytes(&self) -> &[u8] {
        self.digits.get(self.from..).unwrap_or_default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    proptest::proptest! {
        #[test]
        fn numbers_are_written_as_everybody_writes_them(number: u64, short in 0..200_u64) {
            for number in [number, short] {
                let (ours, theirs) = (Decimal::of(number), number.to_string());
                proptest::prop_assert_eq!(ours.as_bytes(), theirs.as_bytes());
            }
        }
    }

    #[test]
    fn the_ends_of_the_numbers_are_written() {
        for number in [0, 9, 10, u64::MAX] {
            assert_eq!(Decimal::of(number).as_bytes(), number.to_string().as_bytes());
        }
    }
}
