/// `LP(x) = u32be(len(x)) ‖ x`: the encoding under every MAC of ours, so that no two lists of fields give the
/// same bytes.
///
/// Fields longer than `u32::MAX` bytes cannot be written: every field of the protocol is bounded far below.
#[derive(Default)]
pub struct LengthPrefixed(Vec<u8>);

impl LengthPrefixed {
    /// Starts an empty encoding with room for `capacity` bytes.
    #[must_use]
    pub fn with_capacity(capacity: usize) -> Self {
        Self(Vec::with_capacity(capacity))
    }

    /// Adds `LP(field)`.
    #[must_use]
    pub fn field(mut self, field: &[u8]) -> Self {
        self.0.extend_from_slice(&length_of(field));
        self.0.extend_from_slice(field);
        self
    }

    /// Adds `bytes` of a fixed length as they are.
    #[must_use]
    pub fn raw(mut self, bytes: &[u8]) -> Self {
        self.0.extend_from_slice(bytes);
        self
    }

    /// The encoding.
    #[must_use]
    pub fn finish(self) -> Vec<u8> {
        self.0
    }
}

pub(crate) fn length_of(field: &[u8]) -> [u8; 4] {
    // No field reaches 4 GiB: bodies are cut at 4 KiB and names at 256 bytes before they come here.
    u32::try_from(field.len()).unwrap_or(u32::MAX).to_be_bytes()
}

/// `LP(a) ‖ LP(b) ‖ …` of all `fields`.
///
/// ```
/// assert_eq!(countersign_protocol::lp(&[b"ab", b""]), b"\x00\x00\x00\x02ab\x00\x00\x00\x00");
/// ```
#[must_use]
pub fn lp(fields: &[&[u8]]) -> Vec<u8> {
    // Room for all of it at once: a growing vector would leave pieces of secrets behind.
    let room = fields.iter().map(|field| 4 + field.len()).sum();
    fields.iter().fold(LengthPrefixed::with_capacity(room), |encoding, field| encoding.field(field)).finish()
}
