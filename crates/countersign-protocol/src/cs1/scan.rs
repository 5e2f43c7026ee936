//! The two signature fields as the profile writes them (CS-23): one member, label `cs`, in the one form in which
//! structured fields are serialised (RFC 9651, section 4.1). Other spellings of the same are refused, so that what was
//! received can go into the signature base as it is. Allocates nothing.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::HeaderMap;

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

/// The one line of a field. `Err` if there are several, or one that is not ASCII.
fn single<'a>(fields: &'a HeaderMap, name: &str) -> Result<Option<&'a str>, ()> {
    let mut lines = fields.get_all(name).iter();
    let Some(line) = lines.next() else { return Ok(None) };
    if lines.next().is_some() {
        return Err(());
    }
    line.to_str().map(Some).map_err(|_| ())
}

/// Reads both fields. `Ok(None)` if neither is there.
pub(super) fn scan(fields: &HeaderMap) -> Result<Option<Scanned<'_>>, ()> {
    let (input, signature) = match (single(fields, "signature-input")?, single(fields, "signature")?) {
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
        let (key, value) = parameter.split_once('=').ok_or(())?;
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
            let end = after.find(' ').unwrap_or(after.len());
            let (parameters, after) = after.split_at_checked(end).unwrap_or((after, ""));
            rest = after;
            Some(Ok((name, parameters)))
        })
    }
}

/// What stands before the `)` that ends an inner list, and what after it. A `)` in a string does not end it.
fn split_list(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    for (at, byte) in text.bytes().enumerate() {
        match byte {
            b'"' => quoted = !quoted,
            // No value of ours needs one.
            b'\\' => return None,
            b')' if !quoted => return Some((text.get(..at)?, text.get(at + 1..)?)),
            _ => {}
        }
    }
    None
}

/// `"…"` without escapes.
fn string(text: &str) -> Option<(&str, &str)> {
    let (inside, after) = text.strip_prefix('"')?.split_once('"')?;
    inside.bytes().all(|byte| matches!(byte, b' '..=b'~') && byte != b'\\').then_some((inside, after))
}

/// Up to 15 digits, without a leading zero.
fn integer(text: &str) -> Option<(u64, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (digits, after) = text.split_at_checked(end)?;
    if digits.is_empty() || digits.len() > 15 || (digits.starts_with('0') && digits.len() > 1) {
        return None;
    }
    Some((digits.parse().ok()?, after))
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
