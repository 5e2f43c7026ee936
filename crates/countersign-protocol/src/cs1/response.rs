//! Signed responses (section 7): bound to the one request that they answer.

use http::{HeaderMap, HeaderName};
use subtle::ConstantTimeEq as _;

use super::content::{self, Announced, ContentRule};
use super::coverage::{Coverage, Kept, Of};
use super::fields::{self, OF_RESPONSES, Sink, parameters};
use super::name::KeyName;
use super::request::{DERIVED, Instructions, RequestParts, instructions, is_field_name};
use super::scan::{self, MAX_COMPONENTS, Scanned};
use crate::UnixTime;
use crate::mac::MacKey;
use crate::refusal::Refusal;

/// `;req`
const REQ: &str = ";req";
/// Of the two signature fields of the request.
const REQ_KEY: &str = ";req;key=\"cs\"";
/// The fields with which the request was signed.
const SIGNED: [&str; 2] = ["signature-input", "signature"];

/// A response as it is signed.
#[derive(Clone, Copy, Debug)]
pub struct ResponseParts<'a> {
    /// The status code.
    pub status: u16,
    /// The fields.
    pub fields: &'a HeaderMap,
    /// The request that it answers, as it was signed: its signature is in its fields.
    pub request: RequestParts<'a>,
}

impl ResponseParts<'_> {
    fn status(&self, out: &mut impl Sink) {
        let digit = |unit: u16| b'0' + u8::try_from(self.status / unit % 10).unwrap_or(0);
        out.put(&[digit(100), digit(10), digit(1)]);
    }

    /// The key that the request names, and so what answers it. `None` if the request could not be signed, or its signature
    /// fields are not in the one form that the profile has: only then is what stands in them what RFC 9421, section 2.1.2, puts
    /// into the base.
    fn key_name(&self) -> Option<KeyName<'_>> {
        let scanned = scan::scan(self.request.fields).ok().flatten()?;
        let is_signed = self.request.is_clean() && scanned.components().all(|component| component.is_ok());
        scanned.key_name().filter(|_| is_signed)
    }

    /// The value of a signature field of the request, as a member of a dictionary: what stands after `cs=`.
    fn signed(&self, name: &str, out: &mut impl Sink) -> Option<()> {
        out.put(self.request.fields.get(name)?.as_bytes().strip_prefix(b"cs=")?);
        Some(())
    }

    fn field(&self, name: &str, out: &mut impl Sink) -> Result<(), Refusal> {
        let write = if name == "set-cookie" { fields::bytes } else { fields::value };
        write(self.fields, name, out)
    }

    /// What the content has to be. These have none, and a digest in them is that of another response (CS-33).
    fn content(&self) -> Result<Announced, Refusal> {
        let announced = content::announced(self.fields)?;
        let empty = self.request.method == "HEAD" || matches!(self.status, 204 | 304);
        Ok(if empty { Announced::Nothing } else { announced })
    }
}

/// A response that its server signed, for this request. Made only by [`verify`]. Its content is still to be checked.
#[derive(Debug)]
pub struct Verified<'a> {
    content: ContentRule,
    scanned: Scanned<'a>,
    fields: &'a HeaderMap,
}

impl Verified<'_> {
    /// What the content has to be.
    #[must_use]
    pub const fn content(&self) -> &ContentRule {
        &self.content
    }

    /// Which fields were signed, to be kept where the message is handed on.
    #[must_use]
    pub fn coverage(&self) -> Coverage {
        Coverage::of(self.fields, Of::Response)
    }

    /// What is left to be done and to be known of it once its fields are handed on.
    #[must_use]
    pub fn keep(self) -> Kept {
        Kept { coverage: self.coverage(), content: self.content }
    }

    /// Whether this field was signed. What was not, anybody on the way may have put there.
    #[must_use]
    pub fn covers(&self, field: &HeaderName) -> bool {
        self.scanned.covers(field.as_str(), parameters(field.as_str()))
    }
}

/// Verifies a response under the session's key (CS-33, CS-35). A response that is not signed is not to be believed, whatever
/// it says.
///
/// # Errors
/// [`Refusal::SignatureForm`] also if there is no signature; [`Refusal::Uncovered`]; [`Refusal::WrongSignature`].
pub fn verify<'a>(key: &MacKey, parts: &ResponseParts<'a>) -> Result<Verified<'a>, Refusal> {
    let scanned = scan::scan(parts.fields).ok().flatten().ok_or(Refusal::SignatureForm)?;
    let Scanned { created: Some(_), expires: None, nonce: None, keyid, tag: Some(tag), .. } = scanned else {
        return Err(Refusal::SignatureForm);
    };
    let name = parts.key_name().filter(|name| name.tag() == tag && keyid == keyid_of_answer(name).as_deref());
    if name.is_none() {
        return Err(Refusal::SignatureForm);
    }
    let mut mac = key.begin();
    let covered = base(parts, &scanned, &mut mac)?;
    if let Some(name) = fields::first(&OF_RESPONSES, fields::present(&OF_RESPONSES, parts.fields) & !covered)
    {
        return Err(Refusal::Uncovered(name));
    }
    if !bool::from(mac.finish().ct_eq(&scanned.signature)) {
        return Err(Refusal::WrongSignature);
    }
    let content = parts.content()?.rule(key, &scanned.signature);
    Ok(Verified { content, scanned, fields: parts.fields })
}

/// `keyid` of the response to a request with this one (CS-55).
fn keyid_of_answer(name: &KeyName<'_>) -> Option<String> {
    name.is_direct().then(|| name.to_string())
}

/// Writes the signature base, and gives what of [`OF_RESPONSES`] is covered.
fn base(parts: &ResponseParts<'_>, scanned: &Scanned<'_>, out: &mut impl Sink) -> Result<u32, Refusal> {
    // Bits: @status, the derived ones of the request, its two signature fields.
    let (mut needed, mut covered) = (0_u8, 0_u32);
    let mut others = [""; MAX_COMPONENTS];
    for (count, component) in scanned.components().enumerate() {
        let (name, given) = component.map_err(|()| Refusal::SignatureForm)?;
        if count >= MAX_COMPONENTS {
            return Err(Refusal::SignatureForm);
        }
        for piece in ["\"", name, "\"", given, ": "] {
            out.put(piece.as_bytes());
        }
        let derived = DERIVED.iter().position(|one| *one == name);
        let signed = SIGNED.iter().position(|one| *one == name);
        let bit = match (name, given, derived, signed) {
            ("@status", "", ..) => {
                parts.status(out);
                Some(0)
            }
            (_, REQ, Some(place), _) => {
                parts.request.derived(name, out).ok_or(Refusal::SignatureForm)?;
                Some(1 + place)
            }
            (_, REQ_KEY, _, Some(place)) => {
                parts.signed(name, out).ok_or(Refusal::SignatureForm)?;
                Some(5 + place)
            }
            _ => None,
        };
        if let Some(bit) = bit {
            if needed & 1 << bit != 0 {
                return Err(Refusal::SignatureForm);
            }
            needed |= 1 << bit;
        } else if let Some(place) = fields::place(&OF_RESPONSES, name) {
            let known = OF_RESPONSES.get(place).copied().unwrap_or_default();
            if given != parameters(known) || covered & 1 << place != 0 {
                return Err(Refusal::SignatureForm);
            }
            covered |= 1 << place;
            parts.field(known, out)?;
        } else {
            let before = others.get(..count).unwrap_or_default();
            if !given.is_empty() || !is_field_name(name) || before.contains(&name) {
                return Err(Refusal::SignatureForm);
            }
            if let Some(slot) = others.get_mut(count) {
                *slot = name;
            }
            fields::value(parts.fields, name, out)?;
        }
        out.put(b"\n");
    }
    const NEEDED: [&str; 7] =
        ["@status", "@method", "@authority", "@path", "@query", "signature-input", "signature"];
    if let Some((_, name)) = NEEDED.iter().enumerate().find(|(bit, _)| needed & 1 << bit == 0) {
        return Err(Refusal::Uncovered(name));
    }
    out.put(b"\"@signature-params\": ");
    out.put(scanned.params.as_bytes());
    Ok(covered)
}

/// Signs a response: covers all of its fields but for those of CS-29. One with content has its `Content-Digest` already.
///
/// # Errors
/// [`Refusal::Uncovered`] if a field cannot be covered; [`Refusal::SignatureForm`] if the other side would have to refuse it: a
/// digest that is none, a repeated field, too many fields; or if the response is signed already, or the request is not.
pub fn sign(key: &MacKey, parts: &ResponseParts<'_>, now: UnixTime) -> Result<Instructions, Refusal> {
    let name = parts.key_name().ok_or(Refusal::SignatureForm)?;
    if SIGNED.iter().any(|name| parts.fields.contains_key(*name)) {
        return Err(Refusal::SignatureForm);
    }
    let announced = parts.content()?;
    let names = fields::to_be_signed(parts.fields);
    if 1 + DERIVED.len() + SIGNED.len() + names.len() > MAX_COMPONENTS {
        return Err(Refusal::SignatureForm);
    }
    let mut mac = key.begin();
    let mut input = String::with_capacity(512);
    input.push_str("cs=(");
    let line = |name: &str, given: &str, input: &mut String, mac: &mut crate::mac::MacStream| {
        if !input.ends_with('(') {
            input.push(' ');
        }
        let from = input.len();
        for piece in ["\"", name, "\"", given] {
            input.push_str(piece);
        }
        mac.put(input.get(from..).unwrap_or_default().as_bytes());
        mac.put(b": ");
    };
    line("@status", "", &mut input, &mut mac);
    parts.status(&mut mac);
    mac.put(b"\n");
    for name in DERIVED {
        line(name, REQ, &mut input, &mut mac);
        let _ = parts.request.derived(name, &mut mac);
        mac.put(b"\n");
    }
    for name in SIGNED {
        line(name, REQ_KEY, &mut input, &mut mac);
        parts.signed(name, &mut mac).ok_or(Refusal::SignatureForm)?;
        mac.put(b"\n");
    }
    for name in names {
        line(name, parameters(name), &mut input, &mut mac);
        parts.field(name, &mut mac)?;
        mac.put(b"\n");
    }
    input.push_str(&format!(");created={}", now.0));
    if let Some(keyid) = keyid_of_answer(&name) {
        input.push_str(&format!(";keyid=\"{keyid}\""));
    }
    input.push_str(&format!(";tag=\"{}\"", name.tag()));
    mac.put(b"\"@signature-params\": ");
    mac.put(input.get(3..).unwrap_or_default().as_bytes());
    instructions(&input, key, &mac.finish(), announced)
}
