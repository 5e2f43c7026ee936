//! One line: `{"v":2,"seq":N,"time":…,…,"prev":"…","mac":"…"}`, `mac` last, over all bytes before it.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq as _;

use crate::Record;
use crate::key::WriterKey;

/// This form's version.
pub(crate) const VERSION: u8 = 2;

const BEFORE_MAC: &[u8] = b",\"mac\":\"";
const AFTER_MAC: &[u8] = b"\"}";
/// Characters of a MAC: 32 bytes in base64url without padding (RFC 4648, section 5).
const MAC_LEN: usize = 43;

/// A record as it was written: with its writer's sequence number, its time, and its place in the chain.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// The form's version: 2, or 1 for a line without a chain.
    pub v: u8,
    /// Counts the writer's records, from 1.
    pub seq: u64,
    /// RFC 3339, UTC.
    pub time: String,
    /// The attempt.
    #[serde(flatten)]
    pub record: Record,
    /// The MAC of the writer's record before this one; of the first, 32 zero bytes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub prev: Option<String>,
    /// The MAC of this line.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub mac: Option<String>,
}

/// A place in a chain: after the record of this number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Link {
    /// 0 for before the first.
    pub(crate) seq: u64,
    /// Zero bytes before the first.
    pub(crate) mac: [u8; 32],
}

impl Link {
    pub(crate) const START: Self = Self { seq: 0, mac: [0; 32] };
}

#[derive(Serialize)]
struct Line<'a> {
    v: u8,
    seq: u64,
    time: &'a str,
    #[serde(flatten)]
    record: &'a Record,
    prev: &'a str,
}

/// What a chain needs of a line.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Sealed {
    pub(crate) link: Link,
    pub(crate) prev: [u8; 32],
}

#[derive(Deserialize)]
struct Place {
    v: u8,
    seq: u64,
    prev: String,
}

#[derive(Deserialize)]
struct Claim {
    v: u8,
    #[serde(default)]
    seq: u64,
}

/// Appends the line of `record` after `link`, with its line end, and gives the place after it.
pub(crate) fn write(
    key: &WriterKey,
    after: Link,
    time: &str,
    record: &Record,
    into: &mut Vec<u8>,
) -> Result<Link, serde_json::Error> {
    let seq = after.seq + 1;
    let start = into.len();
    let line = Line { v: VERSION, seq, time, record, prev: &encode(&after.mac) };
    serde_json::to_writer(&mut *into, &line)?;
    let mac = key.line([into.get(start..).unwrap_or_default(), b""]);
    // The closing brace gives way to the last member.
    into.pop();
    into.extend_from_slice(BEFORE_MAC);
    into.extend_from_slice(encode(&mac).as_bytes());
    into.extend_from_slice(AFTER_MAC);
    into.push(b'\n');
    Ok(Link { seq, mac })
}

/// Reads a line without its line end; `None` if it is not one that this writer wrote.
pub(crate) fn read(key: &WriterKey, line: &[u8]) -> Option<Sealed> {
    let text = line.strip_suffix(AFTER_MAC)?;
    let (text, mac) = text.split_at_checked(text.len().checked_sub(MAC_LEN)?)?;
    let mac = decode(mac)?;
    let start = text.strip_suffix(BEFORE_MAC)?;
    if !bool::from(key.line([start, b"}"]).ct_eq(&mac)) {
        return None;
    }
    let Place { v, seq, prev } = serde_json::from_slice(line).ok()?;
    (v == VERSION).then_some(())?;
    Some(Sealed { link: Link { seq, mac }, prev: decode(prev.as_bytes())? })
}

/// Version and number that a line gives itself, checked or not.
pub(crate) fn claimed(line: &[u8]) -> Option<(u8, u64)> {
    let Claim { v, seq } = serde_json::from_slice(line).ok()?;
    Some((v, seq))
}

/// The number that a line gives itself, also if it is no JSON any more.
pub(crate) fn claimed_seq(line: &[u8]) -> Option<u64> {
    let digits = line.strip_prefix(b"{\"v\":2,\"seq\":");
    let number = |digits: &[u8]| {
        let end = digits.iter().position(|byte| !byte.is_ascii_digit())?;
        std::str::from_utf8(digits.get(..end)?).ok()?.parse().ok()
    };
    claimed(line).map(|(_, seq)| seq).or_else(|| number(digits?))
}

/// A MAC as lines carry it.
pub(crate) fn encode(mac: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(mac)
}

/// Reads one; each MAC has one text.
pub(crate) fn decode(text: &[u8]) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
