//! The two signature fields as the profile writes them (CS-23): one member, label `cs`, in the one form in which
//! structured fields are serialised (RFC 9651, section 4.1). Other spellings of the same are refused, so that what was
//! received can go into the signature base as it is. Allocates nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_httpsig::{SIGNATURE, SIGNATURE_INPUT};
use http::{HeaderMap, HeaderName};

use super::name::KeyName;
use crate::mac::Tag;

/// No signature of the profile covers more.
pub(super) const MAX_COMPONENTS: usize = 64;

/// What a signature says of itself. Nothing is verified.
#[derive(Clone, Copy, Debug)]
pub(super) struct Scanned<'a> {
    /// The value of `@signature-params`: from the parenthesis on.
    pub(super) params: &'a str,
    /// What stands between the parentheses.
    pub(super) list: &'a str,
    pub(super) created: Option<u64>,
    pub(super) expires: Option<u64>,
    pub(super) nonce: Option<&'a str>,
    pub(super) keyid: Option<&'a str>,
    pub(super) tag: Option<&'a str>,
    pub(super) signature: Tag,
}

/// The one line of a field. `Err` if there are several, or one that holds what no value of ours needs: what is not
/// printable ASCII, or a backslash, so that a string is whatever stands between two quotes.
fn single<'a>(fields: &'a HeaderMap, name: &HeaderName) -> Result<Option<&'a str>, ()> {
    let mut lines = fields.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    let plain = all(line.as_bytes(), |byte| matches!(byte, b' '..=b'~') & (byte != b'\\'));
    if lines.next().is_some() || !plain {
        return Err(());
    }
    std::str::from_utf8(line.as_bytes()).map(Some).map_err(|_| ())
}

/// Whether each byte is so. Looks at all of them, which the compiler does many at a time.
pub(super) fn all(bytes: &[u8], is_so: impl Fn(u8) -> bool) -> bool {
    bytes.iter().fold(true, |so_far, byte| so_far & is_so(*byte))
}

/// Reads both fields. `Ok(None)` if neither is there.
pub(super) fn scan(fields: &HeaderMap) -> Result<Option<Scanned<'_>>, ()> {
    let (input, signature) = match (single(fields, &SIGNATURE_INPUT)?, single(fields, &SIGNATURE)?) {
        (None, None) => return Ok(None),
        (Some(input), Some(signature)) => (input, signature),
        _ => return Err(()),
    };
    let params = input.strip_prefix("cs=").ok_or(())?;
    let rest = params.strip_prefix('(').ok_or(())?;
    let (list, mut rest) = split_list(rest).ok_or(())?;
    let mut scanned = Scanned {
        params,
        list,
        created: None,
        expires: None,
        nonce: None,
        keyid: None,
        tag: None,
        signature: mac(signature).ok_or(())?,
    };
    let mut alg = None;
    while !rest.is_empty() {
        let parameter = rest.strip_prefix(';').ok_or(())?;
        let (key, value) = split(parameter, b'=').ok_or(())?;
        let (slot, after) = match key {
            "created" | "expires" => {
                let (number, after) = integer(value).ok_or(())?;
                let slot = if key == "created" { &mut scanned.created } else { &mut scanned.expires };
                if slot.replace(number).is_some() {
                    return Err(());
                }
                rest = after;
                continue;
            }
            "nonce" => (&mut scanned.nonce, string(value)),
            "keyid" => (&mut scanned.keyid, string(value)),
            "tag" => (&mut scanned.tag, string(value)),
            "alg" => (&mut alg, string(value)),
            _ => return Err(()),
        };
        let (text, after) = after.ok_or(())?;
        if slot.replace(text).is_some() {
            return Err(());
        }
        rest = after;
    }
    if alg.is_some_and(|alg| alg != "hmac-sha256") {
        return Err(());
    }
    Ok(Some(scanned))
}

impl<'a> Scanned<'a> {
    /// Which key it names; `None` if it does not name one as the profile does.
    pub(super) fn key_name(&self) -> Option<KeyName<'a>> {
        KeyName::read(self.tag?, self.keyid?)
    }

    /// Whether it covers this name with just these parameters.
    pub(super) fn covers(&self, name: &str, parameters: &str) -> bool {
        self.components().any(|component| component == Ok((name, parameters)))
    }

    /// The covered components: a name and its parameters as text, each.
    pub(super) fn components(&self) -> impl Iterator<Item = Result<(&'a str, &'a str), ()>> + use<'a> {
        let mut rest = self.list;
        let mut first = true;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            if !std::mem::take(&mut first) {
                let Some(after) = rest.strip_prefix(' ') else {
                    rest = "";
                    return Some(Err(()));
                };
                rest = after;
            }
            let Some((name, after)) = string(rest) else {
                rest = "";
                return Some(Err(()));
            };
            // Up to the space before the next one: no parameter of ours has one in its value.
            let end = find(after.as_bytes(), b' ').unwrap_or(after.len());
            let (parameters, after) = after.split_at_checked(end).unwrap_or((after, ""));
            rest = after;
            Some(Ok((name, parameters)))
        })
    }
}

/// Where this byte stands first.
fn find(bytes: &[u8], wanted: u8) -> Option<usize> {
    const STEP: usize = 16;
    let without =
        bytes.chunks_exact(STEP).take_while(|chunk| all(chunk, |byte| byte != wanted)).count() * STEP;
    let at = bytes.get(without..)?.iter().position(|byte| *byte == wanted)?;
    Some(without + at)
}

/// What stands before the first of this byte, and what after it.
fn split(text: &str, at: u8) -> Option<(&str, &str)> {
    let at = find(text.as_bytes(), at)?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

/// What stands before the `)` that ends an inner list, and what after it. A `)` in a string does not end it.
fn split_list(text: &str) -> Option<(&str, &str)> {
    let (mut quotes, mut end) = (0, 0);
    loop {
        let piece = text.as_bytes().get(end..)?;
        let length = find(piece, b')')?;
        quotes += piece.iter().take(length).filter(|byte| **byte == b'"').count();
        end += length;
        if quotes % 2 == 0 {
            return Some((text.get(..end)?, text.get(end + 1..)?));
        }
        end += 1;
    }
}

/// `"…"`
fn string(text: &str) -> Option<(&str, &str)> {
    split(text.strip_prefix('"')?, b'"')
}

/// Up to 15 digits, without a leading zero.
fn integer(text: &str) -> Option<(u64, &str)> {
    let end = text.bytes().position(|byte| !byte.is_ascii_digit()).unwrap_or(text.len());
    let (digits, after) = text.split_at_checked(end)?;
    if digits.is_empty() || digits.len() > 15 || (digits.starts_with('0') && digits.len() > 1) {
        return None;
    }
    Some((digits.bytes().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')), after))
}

/// `cs=:base64 of 32 bytes:`
fn mac(text: &str) -> Option<Tag> {
    let encoded = text.strip_prefix("cs=:")?.strip_suffix(':')?;
    // The decoder needs room for 33 bytes before it knows of the padding. It refuses what is not canonical.
    let mut room = [0; 33];
    match STANDARD.decode_slice(encoded, &mut room) {
        Ok(32) => {}
        _ => return None,
    }
    room.first_chunk::<32>().copied().map(Tag::from_bytes)
}

/// The value of `Signature`.
pub(super) fn write_mac(tag: &Tag) -> String {
    format!("cs=:{}:", STANDARD.encode(tag.as_bytes()))
}
