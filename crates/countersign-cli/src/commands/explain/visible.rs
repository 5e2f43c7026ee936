//! Bytes as a person can see them, with what must not be seen left out.

use std::collections::HashSet;
use std::hash::{BuildHasher as _, RandomState};

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD_NO_PAD, URL_SAFE_NO_PAD};
use countersign::protocol::mac::encode_hex;
use zeroize::Zeroizing;

/// So many bytes of a secret in a row are not shown: a secret that was cut, or sent without its first characters, is
/// one still.
const PIECE: usize = 12;

/// Secrets that are never shown, wherever they turn up.
pub(super) struct Veil {
    secrets: Vec<(Zeroizing<Vec<u8>>, &'static str)>,
    /// Hashes of all pieces of them: most bytes need no other look.
    pieces: HashSet<u64>,
    hasher: RandomState,
    keeps_spaces: bool,
}

/// Bytes made visible: printable ASCII as it is, everything else as an escape.
pub(super) struct Visible {
    pub(super) text: String,
    /// For each byte, in which column its text begins.
    columns: Vec<usize>,
}

impl Veil {
    pub(super) fn new(texts: Vec<(Zeroizing<String>, &'static str)>) -> Self {
        let mut secrets = Vec::new();
        for (text, name) in texts.into_iter().filter(|(text, _)| !text.is_empty()) {
            let mut add = |text: &str| secrets.push((lower_case(text.as_bytes()), name));
            add(&text);
            if text.len() >= PIECE {
                add(&Zeroizing::new(encode_hex(text.as_bytes())));
                add(&Zeroizing::new(STANDARD_NO_PAD.encode(text.as_bytes())));
                add(&Zeroizing::new(URL_SAFE_NO_PAD.encode(text.as_bytes())));
            }
        }
        let hasher = RandomState::new();
        let pieces = secrets.iter().flat_map(|(secret, _)| secret.windows(PIECE.min(secret.len())));
        let pieces = pieces.map(|piece| hasher.hash_one(piece)).collect();
        Self { secrets, pieces, hasher, keeps_spaces: false }
    }

    /// Shows spaces as they are: for texts that have them between their words.
    pub(super) fn keeping_spaces(self) -> Self {
        Self { keeps_spaces: true, ..self }
    }

    /// How many of the first bytes have to be hidden, and what they are.
    fn hidden(&self, bytes: &[u8]) -> Option<(usize, &'static str)> {
        let first = lower_case(bytes.get(..PIECE).unwrap_or(bytes));
        // Whole secrets that are shorter than a piece are among the pieces as they are.
        let known = |length| {
            first.get(..length).is_some_and(|first| self.pieces.contains(&self.hasher.hash_one(first)))
        };
        if !(1..=first.len()).any(known) {
            return None;
        }
        let covered = |(secret, name): &(Zeroizing<Vec<u8>>, &'static str)| {
            let least = PIECE.min(secret.len());
            let same = |from: &[u8]| {
                from.iter().zip(bytes).take_while(|(one, other)| **one == other.to_ascii_lowercase()).count()
            };
            let starts = 0..=secret.len() - least;
            let longest = starts.filter_map(|start| secret.get(start..).map(same)).max()?;
            (longest >= least).then_some((longest, *name))
        };
        // Of several that are as long, the first.
        self.secrets.iter().rev().filter_map(covered).max_by_key(|(length, _)| *length)
    }

    pub(super) fn visible(&self, bytes: &[u8]) -> Visible {
        let mut visible = Visible { text: String::new(), columns: Vec::new() };
        let mut rest = bytes;
        while let Some((first, tail)) = rest.split_first() {
            let column = visible.text.chars().count();
            if let Some((length, name)) = self.hidden(rest) {
                visible.text.push_str(&format!("<{name}>"));
                visible.columns.extend(std::iter::repeat_n(column, length));
                rest = rest.get(length..).unwrap_or_default();
            } else {
                match first {
                    b'\n' => visible.text.push_str("\\n"),
                    b'\r' => visible.text.push_str("\\r"),
                    b'\t' => visible.text.push_str("\\t"),
                    b'\\' => visible.text.push_str("\\\\"),
                    b' ' if self.keeps_spaces => visible.text.push(' '),
                    byte if byte.is_ascii_graphic() => visible.text.push(char::from(*byte)),
                    byte => visible.text.push_str(&format!("\\x{byte:02x}")),
                }
                visible.columns.push(column);
                rest = tail;
            }
        }
        visible
    }
}

impl Visible {
    /// The column of the byte at `index`; one past the text for the first byte that is missing.
    pub(super) fn column(&self, index: usize) -> usize {
        self.columns.get(index).copied().unwrap_or_else(|| self.text.chars().count())
    }
}

fn lower_case(bytes: &[u8]) -> Zeroizing<Vec<u8>> {
    Zeroizing::new(bytes.to_ascii_lowercase())
}

/// The index of the first byte in which two texts differ; `None` if they are the same.
pub(super) fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    (one.len() != other.len() || common < one.len()).then_some(common)
}

/// One text with its length.
pub(super) fn line(name: &str, bytes: &[u8], veil: &Veil) -> String {
    format!("    {name:<12}{:>4} bytes  {}\n", bytes.len(), veil.visible(bytes).text)
}

/// Two texts with the first byte marked in which they differ.
pub(super) fn pair(one: (&str, &[u8]), other: (&str, &[u8]), veil: &Veil) -> String {
    let mut text = line(one.0, one.1, veil);
    text.push_str(&line(other.0, other.1, veil));
    if let Some(index) = first_difference(one.1, other.1) {
        let column = veil.visible(one.1).column(index).max(veil.visible(other.1).column(index));
        text.push_str(&format!("    {:<12}{:>10}  {}^ byte {}\n", "", "", " ".repeat(column), index + 1));
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn invisible_bytes_are_shown_and_secrets_are_not() {
        let veil =
            Veil::new(vec![(Zeroizing::new("hunter2".to_owned()), "secret"), (Zeroizing::default(), "none")]);
        let visible = veil.visible(b"a \r\n\xff\\HUNTER2b");
        assert_eq!(visible.text, "a\\x20\\r\\n\\xff\\\\<secret>b");
        assert_eq!((visible.column(0), visible.column(1), visible.column(2)), (0, 1, 5));
        assert_eq!(visible.column(13), visible.text.len() - 1);
        assert_eq!(visible.column(99), visible.text.len());
    }

    #[test]
    fn spaces_stay_where_they_belong_to_the_text() {
        let veil = Veil::new(vec![(Zeroizing::new("hunter2".to_owned()), "secret")]).keeping_spaces();
        let visible = veil.visible(b"a b hunter2\t c");
        assert_eq!(visible.text, "a b <secret>\\t c");
        assert_eq!(visible.column(13), visible.text.len() - 1);
    }

    #[test]
    fn a_piece_of_a_secret_and_its_encodings_are_not_shown_either() {
        let secret = "css_Mi0USQeTN5TsM9NZiRcjAPofFekZQ0jlpUrl1UVfJ9s";
        let veil = Veil::new(vec![(Zeroizing::new(secret.to_owned()), "secret")]);
        let shown = |text: &str| veil.visible(text.as_bytes()).text;
        assert_eq!(shown(&format!("a {}!", &secret[4..])), "a\\x20<secret>!");
        assert_eq!(shown(&secret[7..19]), "<secret>");
        assert_eq!(shown(&secret[7..18]), &secret[7..18], "a few characters may be anything");
        assert_eq!(shown(&encode_hex(secret.as_bytes()).to_ascii_uppercase()), "<secret>");
        assert_eq!(shown(&format!("{}==", STANDARD_NO_PAD.encode(secret))), "<secret>==");
        assert_eq!(shown(&format!("{secret}{secret}")), "<secret><secret>");
    }

    #[test]
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"abcd"), Some(3));
        assert_eq!(first_difference(b"", b"a"), Some(0));
    }
}
