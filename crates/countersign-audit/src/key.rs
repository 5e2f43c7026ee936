use std::fmt;

use countersign_protocol::aead::expand;
use countersign_protocol::lp;
use countersign_protocol::mac::MacKey;
use zeroize::Zeroizing;

/// What stands before every line under its MAC, so that no MAC of anything else is one of a line.
const LINE: &[u8] = b"countersign audit 2";
/// The same for where a chain begins and ends.
const HEAD: &[u8] = b"countersign audit head 1";

/// The key from which each writer's own is derived. 32 random bytes, kept wrapped by the master key. Zeroised;
/// its `Debug` shows nothing.
#[derive(Clone)]
pub struct AuditKey(Zeroizing<[u8; 32]>);

impl AuditKey {
    /// From 32 random bytes.
    #[must_use]
    pub fn new(bytes: Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    /// `HKDF-Expand(audit key, LP("countersign audit WRITER"), 32)`.
    pub(crate) fn writer(&self, writer: &str) -> WriterKey {
        let key = expand(&self.0, &format!("countersign audit {writer}"));
        WriterKey {
            mac: MacKey::new(key.as_slice()),
            line: lp(&[LINE, writer.as_bytes()]),
            head: lp(&[HEAD, writer.as_bytes()]),
        }
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("AuditKey(…)")
    }
}

/// One writer's key, ready for use.
#[derive(Clone, Debug)]
pub(crate) struct WriterKey {
    mac: MacKey,
    line: Vec<u8>,
    head: Vec<u8>,
}

impl WriterKey {
    /// `HMAC(key, LP("countersign audit 2") ‖ LP(writer) ‖ LP(line))`; the line comes in pieces, without its
    /// `mac` member.
    pub(crate) fn line(&self, pieces: [&[u8]; 2]) -> [u8; 32] {
        let [start, end] = pieces;
        // No line comes near 4 GiB.
        let length = u32::try_from(start.len() + end.len()).unwrap_or(u32::MAX).to_be_bytes();
        *self.mac.mac(&[&self.line, &length, start, end]).as_bytes()
    }

    /// The seal over where a chain begins and ends.
    pub(crate) fn head(&self, fields: &[u8]) -> [u8; 32] {
        *self.mac.mac(&[&self.head, fields]).as_bytes()
    }
}
