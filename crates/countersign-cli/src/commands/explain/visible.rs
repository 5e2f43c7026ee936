//! Bytes as a person can see them, with what must not be seen left out.

use zeroize::Zeroizing;

/// Secrets that are never shown, wherever they turn up.
pub(super) struct Veil(Vec<(Zeroizing<String>, &'static str)>);

/// Bytes made visible: printable ASCII as it is, everything else as an escape.
pub(super) struct Visible {
    pub(super) text: String,
    /// For each byte, in which column its text begins.
    columns: Vec<usize>,
}

impl Veil {
    pub(super) fn new(secrets: Vec<(Zeroizing<String>, &'static str)>) -> Self {
        Self(secrets.into_iter().filter(|(secret, _)| !secret.is_empty()).collect())
    }

    pub(super) fn visible(&self, bytes: &[u8]) -> Visible {
        let mut visible = Visible { text: String::new(), columns: Vec::new() };
        let mut rest = bytes;
        while let Some((first, tail)) = rest.split_first() {
            let column = visible.text.chars().count();
            let hidden = self.0.iter().find_map(|(secret, name)| {
                let start = rest.get(..secret.len())?;
                start.eq_ignore_ascii_case(secret.as_bytes()).then_some((secret.len(), *name))
            });
            if let Some((length, name)) = hidden {
                visible.text.push_str(&format!("<{name}>"));
                visible.columns.extend(std::iter::repeat_n(column, length));
                rest = rest.get(length..).unwrap_or_default();
            } else {
                match first {
                    b'\n' => visible.text.push_str("\\n"),
                    b'\r' => visible.text.push_str("\\r"),
                    b'\t' => visible.text.push_str("\\t"),
                    b'\\' => visible.text.push_str("\\\\"),
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

/// The index of the first byte in which two texts differ; `None` if they are the same.
pub(super) fn first_difference(one: &[u8], other: &[u8]) -> Option<usize> {
    let common = one.iter().zip(other).take_while(|(a, b)| a == b).count();
    (one.len() != other.len() || common < one.len()).then_some(common)
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
    fn the_first_difference_is_found() {
        assert_eq!(first_difference(b"abc", b"abc"), None);
        assert_eq!(first_difference(b"abc", b"abd"), Some(2));
        assert_eq!(first_difference(b"abc", b"abcd"), Some(3));
        assert_eq!(first_difference(b"", b"a"), Some(0));
    }
}
