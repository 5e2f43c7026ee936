//! Writes `Signature-Input`, in room that is made for it once.

use http::HeaderValue;

use crate::copy::copy;
use crate::refusal::Refusal;

/// What is written so far, in all the room that it needs. It begins with the label.
pub(super) struct Input {
    room: Vec<u8>,
    used: usize,
}

/// What stands in front of the parameters of the signature.
const LABEL: &[u8] = b"cs=";
/// What stands in front of the components.
const BEGIN: &[u8] = b"cs=(";

impl Input {
    /// Begins with these components, with just the room for those with these names and `parameters` behind them, and `more`
    /// bytes: a value that fills its room becomes that of a field without being copied.
    #[allow(clippy::slow_vector_initialization, reason = "the C library gives zeroed room more slowly")]
    #[inline]
    pub(super) fn begin<'n>(
        start: &str,
        names: impl Iterator<Item = &'n [u8]>,
        more: usize,
        parameters: &[&[u8]],
    ) -> Self {
        let components: usize = names.map(|name| name.len() + " \"\"".len()).sum();
        let parameters: usize = parameters.iter().map(|piece| piece.len()).sum();
        let length = BEGIN.len() + start.len() + components + more + parameters;
        let mut room = Vec::with_capacity(length);
        room.resize(length, 0);
        let mut input = Self { room, used: 0 };
        input.push(BEGIN);
        input.push(start.as_bytes());
        input
    }

    #[inline(always)]
    fn push(&mut self, piece: &[u8]) {
        let end = self.used + piece.len();
        match self.room.get_mut(self.used..end) {
            Some(to) => copy(piece, to),
            None => unreachable!("the room was made for it"),
        }
        self.used = end;
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
        self.push(b" ");
        let from = self.used;
        self.push(b"\"");
        self.push(name);
        self.push(b"\"");
        self.push(parameters.as_bytes());
        self.room.get(from..self.used).unwrap_or_default()
    }

    /// The value of `@signature-params`.
    pub(super) fn parameters(&self) -> &[u8] {
        self.room.get(LABEL.len()..self.used).unwrap_or_default()
    }

    /// The value of the field.
    pub(super) fn finish(mut self) -> Result<HeaderValue, Refusal> {
        self.room.truncate(self.used);
        HeaderValue::try_from(self.room).map_err(|_| Refusal::SignatureForm)
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
