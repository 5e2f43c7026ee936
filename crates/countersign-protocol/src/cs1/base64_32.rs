//! 32 bytes in canonical base64, as `Signature` and `Content-Digest` carry them: one length, read without a decoder's cases.

const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
/// 44 characters, the last of them `=`.
pub(super) struct Encoded(pub(super) [u8; 44]);

/// Encodes.
pub(super) fn encode(bytes: &[u8; 32]) -> Encoded {
    let mut text = [b'='; 44];
    let digit = |word: u32, shift: u32| ALPHABET.get((word >> shift) as usize % 64).copied().unwrap_or(b'=');
    let (quads, (threes, last)) = (text.as_chunks_mut::<4>().0, bytes.as_chunks::<3>());
    for (quad, [one, two, three]) in quads.iter_mut().zip(threes) {
        let word = u32::from_be_bytes([0, *one, *two, *three]);
        *quad = [digit(word, 18), digit(word, 12), digit(word, 6), digit(word, 0)];
    }
    if let (Some(quad), [one, two]) = (quads.last_mut(), last) {
        let word = u32::from_be_bytes([0, *one, *two, 0]);
        *quad = [digit(word, 18), digit(word, 12), digit(word, 6), b'='];
    }
    Encoded(text)
}

/// Of a character that is none of the alphabet.
const WRONG: u32 = 1 << 24;
/// What a character adds to the 24 bits of its group of four, by its place in there.
#[allow(
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "done by the compiler; fewer than 64"
)]
const VALUES: [[u32; 256]; 4] = {
    let (mut values, mut place) = ([[WRONG; 256]; 4], 0);
    while place < 4 {
        let mut at = 0;
        while at < ALPHABET.len() {
            values[place][ALPHABET[at] as usize] = (at as u32) << (18 - 6 * place);
            at += 1;
        }
        place += 1;
    }
    values
};

/// Decodes; `None` if it is not what [`encode`] gives for some bytes.
pub(super) fn decode(text: &[u8]) -> Option<[u8; 32]> {
    static TABLE: [[u32; 256]; 4] = VALUES;
    let text = <&[u8; 44]>::try_from(text).ok()?;
    let [first, second, third, fourth] = &TABLE;
    let value = |table: &[u32; 256], byte: u8| table.get(usize::from(byte)).copied().unwrap_or(WRONG);
    let word = |[one, two, three, four]: &[u8; 4]| {
        value(first, *one) | value(second, *two) | value(third, *three) | value(fourth, *four)
    };
    let ([a, b, c, d, e, f, g, h, i, j, [one, two, three, b'=']], []) = text.as_chunks::<4>() else {
        return None;
    };
    let (a, b, c, d, e) = (word(a), word(b), word(c), word(d), word(e));
    let (f, g, h, i, j) = (word(f), word(g), word(h), word(i), word(j));
    let last = word(&[*one, *two, *three, b'A']);
    // Of groups of 24 bits four numbers of 64 are made.
    let group = |word: u32, shift: i32| {
        let word = u64::from(word);
        if shift < 0 { word >> -shift } else { word << shift }
    };
    let quarters = [
        group(a, 40) | group(b, 16) | group(c, -8),
        group(c, 56) | group(d, 32) | group(e, 8) | group(f, -16),
        group(f, 48) | group(g, 24) | group(h, 0),
        group(i, 40) | group(j, 16) | group(last, -8),
    ];
    let mut bytes = [0; 32];
    for (to, quarter) in bytes.as_chunks_mut().0.iter_mut().zip(quarters) {
        *to = quarter.to_be_bytes();
    }
    // The two bits to spare have one value.
    let all = a | b | c | d | e | f | g | h | i | j | last;
    (all < WRONG && last % 256 == 0).then_some(bytes)
}

#[cfg(test)]
mod tests {
    use base64::Engine as _;
    use base64::engine::general_purpose::STANDARD;

    use super::*;

    proptest::proptest! {
        #[test]
        fn it_is_the_encoding_of_rfc_4648(bytes: [u8; 32]) {
            let (Encoded(text), expected) = (encode(&bytes), STANDARD.encode(bytes));
            proptest::prop_assert_eq!(expected.as_bytes(), &text);
            proptest::prop_assert_eq!(decode(&text), Some(bytes));
        }

        #[test]
        fn one_wrong_byte_is_refused_or_stands_for_other_bytes(bytes: [u8; 32], at in 0..44_usize, byte: u8) {
            let Encoded(mut text) = encode(&bytes);
            text[at] = byte;
            let expected = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            proptest::prop_assert_eq!(decode(&text), expected);
        }

        #[test]
        fn any_bytes_can_be_given(text in proptest::collection::vec(proptest::num::u8::ANY, 0..60)) {
            let expected = STANDARD.decode(&text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
            proptest::prop_assert_eq!(decode(&text), expected);
        }
    }

    #[test]
    fn every_byte_is_of_the_alphabet_or_not_in_every_place() {
        for at in 0..44 {
            for byte in 0..=255 {
                let Encoded(mut text) = encode(&[0x5a; 32]);
                text[at] = byte;
                let expected = STANDARD.decode(text).ok().and_then(|bytes| <[u8; 32]>::try_from(bytes).ok());
                assert_eq!(decode(&text), expected, "{byte} at {at}");
            }
        }
    }
}
