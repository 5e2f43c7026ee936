//! HMAC-SHA256 (RFC 2104, FIPS 198-1) with a prepared key, and its 32-byte result.

use std::fmt;

use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::sha256::{BLOCK, Hashed, Hasher, State, after_block_and_hash};

/// An HMAC-SHA256 key with its two key blocks already hashed: a MAC over a short message costs two
/// compressions in place of four. Zeroised when dropped; its `Debug` shows nothing.
#[derive(Clone)]
pub struct MacKey {
    inner: Zeroizing<State>,
    outer: Zeroizing<State>,
}

impl MacKey {
    /// Prepares a key of any length (RFC 2104, section 2: longer than 64 bytes is hashed first).
    #[must_use]
    pub fn new(key: &[u8]) -> Self {
        let mut block = Zeroizing::new([0; BLOCK]);
        match block.get_mut(..key.len()) {
            Some(start) => start.copy_from_slice(key),
            None => {
                let hash = Zeroizing::new(<[u8; 32]>::from(Sha256::digest(key)));
                block.iter_mut().zip(*hash).for_each(|(to, from)| *to = from);
            }
        }
        let padded = |pad: u8| State::after(&Zeroizing::new(block.map(|byte| byte ^ pad)));
        Self { inner: padded(0x36), outer: padded(0x5c) }
    }

    /// Begins a MAC over a message that comes in pieces.
    #[must_use]
    #[inline(always)]
    pub fn begin(&self) -> MacStream {
        MacStream { inner: Hasher::after_block(&self.inner), outer: self.outer.clone() }
    }

    /// The MAC of all `parts`, one after the other. They may be secrets.
    #[must_use]
    pub fn mac(&self, parts: &[&[u8]]) -> Tag {
        let mut inner = Zeroizing::new(Hasher::<3>::after_block(&self.inner));
        for part in parts {
            inner.update(part);
        }
        Ended { hash: inner.finish_to_hash(), outer: &self.outer }.tag()
    }
}

impl fmt::Debug for MacKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacKey(…)")
    }
}

/// A MAC of which the last piece is still to come. Short pieces are gathered, up to some hundred bytes; not for secrets, for
/// what was gathered is not zeroised.
#[derive(Clone)]
pub struct MacStream {
    inner: Hasher<5>,
    outer: Zeroizing<State>,
}

impl MacStream {
    /// Takes the next piece.
    #[inline(always)]
    pub fn update(&mut self, piece: &[u8]) {
        self.inner.update(piece);
    }

    /// The MAC.
    #[must_use]
    #[inline]
    pub fn finish(mut self) -> Tag {
        self.end()
    }

    /// The same where it stands. Nothing may come behind it.
    #[inline]
    pub(crate) fn end(&mut self) -> Tag {
        self.end_message().tag()
    }

    /// The first of two steps to the MAC. A hash waits for its own results most of the time: a little that is done behind
    /// either step takes hardly any.
    #[inline]
    pub(crate) fn end_message(&mut self) -> Ended<'_> {
        Ended { hash: self.inner.finish_to_hash(), outer: &self.outer }
    }
}

/// The inner hash of a whole message.
pub(crate) struct Ended<'k> {
    hash: Hashed,
    outer: &'k Zeroizing<State>,
}

impl Ended<'_> {
    /// The MAC: the outer hash, over the inner one (RFC 2104, section 2).
    #[inline]
    pub(crate) fn tag(&self) -> Tag {
        Tag(after_block_and_hash(self.outer, &self.hash))
    }
}

impl fmt::Debug for MacStream {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("MacStream(…)")
    }
}

/// 32 bytes of HMAC-SHA256. Equality is in constant time and gives a [`subtle::Choice`]; there is no `==`.
#[derive(Clone, Copy)]
pub struct Tag([u8; 32]);

impl Tag {
    /// A tag from its bytes.
    #[must_use]
    pub const fn from_bytes(bytes: [u8; 32]) -> Self {
        Self(bytes)
    }

    /// Reads 64 hexadecimal digits, either case. `None` for any other length or alphabet.
    #[must_use]
    pub fn from_hex(text: &str) -> Option<Self> {
        let mut bytes = [0; 32];
        decode_hex(text.as_bytes(), &mut bytes)?;
        Some(Self(bytes))
    }

    /// The bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 32] {
        &self.0
    }

    /// The first 8 bytes, as guide 1's challenges carry them.
    #[must_use]
    pub fn first8(&self) -> [u8; 8] {
        let [a, b, c, d, e, f, g, h, ..] = self.0;
        [a, b, c, d, e, f, g, h]
    }

    /// The first 16 bytes.
    #[must_use]
    pub fn first16(&self) -> [u8; 16] {
        let mut first = [0; 16];
        first.iter_mut().zip(self.0).for_each(|(to, from)| *to = from);
        first
    }

    /// 64 lower-case hexadecimal digits.
    #[must_use]
    pub fn to_hex(&self) -> String {
        encode_hex(&self.0)
    }
}

impl ConstantTimeEq for Tag {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        // As four words: byte by byte takes ten times as long. The barrier keeps the compiler from leaving early.
        let words = self.0.as_chunks::<8>().0.iter().zip(other.0.as_chunks::<8>().0);
        let differ =
            words.fold(0, |differ, (one, two)| differ | u64::from_ne_bytes(*one) ^ u64::from_ne_bytes(*two));
        std::hint::black_box(differ).ct_eq(&0)
    }
}

impl fmt::Debug for Tag {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // An expected MAC in a log would be an oracle.
        f.write_str("Tag(…)")
    }
}

/// Lower-case hexadecimal digits of `bytes`.
#[must_use]
pub fn encode_hex(bytes: &[u8]) -> String {
    let mut text = vec![0; 2 * bytes.len()];
    for (digits, byte) in text.as_chunks_mut::<2>().0.iter_mut().zip(bytes) {
        *digits = hex_digits(*byte);
    }
    String::from_utf8(text).unwrap_or_default()
}

/// The two lower-case digits of a byte.
pub(crate) const fn hex_digits(byte: u8) -> [u8; 2] {
    const fn digit(nibble: u8) -> u8 {
        if nibble < 10 { b'0' + nibble } else { b'a' + nibble - 10 }
    }
    [digit(byte >> 4), digit(byte & 15)]
}

/// Fills `to` from exactly `2 * to.len()` hexadecimal digits of either case; `None` for anything else.
#[must_use]
pub fn decode_hex(text: &[u8], to: &mut [u8]) -> Option<()> {
    if text.len() != to.len() * 2 {
        return None;
    }
    for (byte, pair) in to.iter_mut().zip(text.chunks_exact(2)) {
        let [high, low] = pair else { return None };
        *byte = nibble(*high)? << 4 | nibble(*low)?;
    }
    Some(())
}

fn nibble(digit: u8) -> Option<u8> {
    match digit {
        b'0'..=b'9' => Some(digit - b'0'),
        b'a'..=b'f' => Some(digit - b'a' + 10),
        b'A'..=b'F' => Some(digit - b'A' + 10),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn debug_output_shows_neither_key_nor_tag() {
        let key = MacKey::new(b"a key that must not be seen anywhere");
        let tag = key.mac(&[b"message"]);
        assert_eq!(format!("{key:?} {tag:?}"), "MacKey(…) Tag(…)");
    }

    #[test]
    fn parts_are_one_message() {
        let key = MacKey::new(b"k");
        assert!(bool::from(key.mac(&[b"ab", b"", b"c"]).ct_eq(&key.mac(&[b"abc"]))));
    }

    #[test]
    fn pieces_of_any_length_are_one_message() {
        let key = MacKey::new(b"k");
        let message: Vec<u8> = (0..=255).cycle().take(5_000).collect();
        for length in [1, 7, 63, 64, 65, 1_000, 1_023, 1_024, 1_025, 2_000, 5_000] {
            let mut stream = key.begin();
            stream.update(b"");
            message.chunks(length).for_each(|piece| stream.update(piece));
            assert!(bool::from(stream.finish().ct_eq(&key.mac(&[&message]))), "{length}");
        }
        // Long and short ones in turn.
        let mut stream = key.begin();
        for piece in [&message[..3], &message[3..2_000], &message[2_000..2_001], &message[2_001..]] {
            stream.update(piece);
        }
        assert!(bool::from(stream.finish().ct_eq(&key.mac(&[&message]))));
    }

    #[test]
    fn hex_takes_either_case_and_nothing_else() {
        let tag = Tag::from_bytes([0xab; 32]);
        assert!(bool::from(Tag::from_hex(&"aB".repeat(32)).unwrap().ct_eq(&tag)));
        for wrong in ["", &"ab".repeat(31), &"ab".repeat(33), &"ag".repeat(32), &"é".repeat(32)] {
            assert!(Tag::from_hex(wrong).is_none(), "{wrong}");
        }
    }
}
