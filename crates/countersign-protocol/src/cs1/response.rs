//! Signed responses (section 7): bound to the one request that they answer.

use http::{HeaderMap, HeaderName};
use subtle::ConstantTimeEq as _;

use super::content::{self, Announced, ContentRule};
use super::coverage::{Coverage, Kept, Of};
use super::fields::{self, OF_RESPONSES, Sink, parameters};
use super::input::{Decimal, Input};
use super::lines::{Found, Lines};
use super::name::KeyName;
use super::request::{DERIVED, Instructions, RequestParts, instructions, unless_no_name};
use super::scan::{self, Component, List, MAX_COMPONENTS, Scanned};
use crate::UnixTime;
use crate::mac::MacKey;
use crate::refusal::Refusal;

/// `;req`
const REQ: &[u8] = b";req";
/// Of the two signature fields of the request.
const REQ_KEY: &[u8] = b";req;key=\"cs\"";
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
        let is_signed =
            self.request.is_clean() && scanned.list.components().all(|component| component.is_ok());
        scanned.key_name().filter(|_| is_signed)
    }

    /// The value of a signature field of the request, as a member of a dictionary: what stands after `cs=`.
    fn signed(&self, name: &'static str, out: &mut impl Sink) -> Option<()> {
        out.put(self.request.fields.get(name)?.as_bytes().strip_prefix(b"cs=")?);
        Some(())
    }

    /// What the content has to be. These have none, and a digest in them is that of another response (CS-33).
    fn content(&self, lines: &Lines<'_>) -> Result<Announced, Refusal> {
        let announced = content::announced(lines)?;
        let empty = self.request.method == "HEAD" || matches!(self.status, 204 | 304);
        Ok(if empty { Announced::Nothing } else { announced })
    }
}

/// A response that its server signed, for this request. Made only by [`verify`]. Its content is still to be checked.
#[derive(Debug)]
pub struct Verified<'a> {
    content: ContentRule,
    list: List<'a>,
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
        self.list.covers(field.as_str(), parameters(field.as_str().as_bytes()))
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
    let mut lines = Lines::of_message(parts.fields);
    lines.gather();
    let mut mac = key.begin();
    base(parts, &mut lines, &scanned, &mut mac)?;
    if lines.lacks(fields::has_to_be_covered_in_a_response) {
        let is_lacking = |name: &&str| !scanned.list.covers(name, parameters(name.as_bytes()));
        let lacking = fields::present(&OF_RESPONSES, parts.fields).find(is_lacking);
        return Err(Refusal::Uncovered(lacking.unwrap_or_default()));
    }
    if !bool::from(mac.end().ct_eq(&scanned.signature)) {
        return Err(Refusal::WrongSignature);
    }
    let content = parts.content(&lines)?.rule(key, &scanned.signature);
    Ok(Verified { content, list: scanned.list, fields: parts.fields })
}

/// `keyid` of the response to a request with this one (CS-55).
fn keyid_of_answer(name: &KeyName<'_>) -> Option<String> {
    name.is_direct().then(|| name.to_string())
}

/// Writes the value of a field.
fn field(lines: Found<'_, '_>, name: &[u8], out: &mut impl Sink) -> Result<(), Refusal> {
    let write = if name == b"set-cookie" { fields::bytes } else { fields::value };
    write(lines, name, out)
}

/// Writes the signature base.
fn base<'a>(
    parts: &ResponseParts<'a>,
    lines: &mut Lines<'a>,
    scanned: &Scanned<'a>,
    out: &mut impl Sink,
) -> Result<(), Refusal> {
    // Bits: @status, the derived ones of the request, its two signature fields.
    let mut needed = 0_u8;
    for (count, component) in scanned.list.components().enumerate() {
        let Component { text, name, parameters: given } = component.map_err(|()| Refusal::SignatureForm)?;
        if count >= MAX_COMPONENTS {
            return Err(Refusal::SignatureForm);
        }
        out.put(text);
        out.put(b": ");
        let derived = DERIVED.iter().position(|one| one.as_bytes() == name);
        let signed = SIGNED.iter().position(|one| one.as_bytes() == name);
        let bit = match (name, given, derived, signed) {
            (b"@status", b"", ..) => {
                parts.status(out);
                Some(0)
            }
            (_, REQ, Some(place), _) => {
                parts.request.derived(name, out).ok_or(Refusal::SignatureForm)?;
                Some(1 + place)
            }
            (_, REQ_KEY, _, Some(place)) => {
                let name = SIGNED.get(place).copied().unwrap_or_default();
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
        } else {
            if given != parameters(name).as_bytes() {
                return Err(Refusal::SignatureForm);
            }
            field(lines.cover(name)?, name, out).map_err(|refusal| unless_no_name(refusal, name))?;
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
    Ok(())
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
    let mut lines = Lines::of_message(parts.fields);
    lines.gather();
    let announced = parts.content(&lines)?;
    let signed = lines.to_be_signed();
    if 1 + DERIVED.len() + SIGNED.len() + signed.count() > MAX_COMPONENTS {
        return Err(Refusal::SignatureForm);
    }
    let created = Decimal::of(now.0);
    let keyid = keyid_of_answer(&name);
    let [before, keyid, after] = keyid.as_deref().map_or(["", "", ""], |keyid| [";keyid=\"", keyid, "\""]);
    let parameters = [");created=", "", before, keyid, after, ";tag=\"", name.tag(), "\""];
    let mut parameters = parameters.map(str::as_bytes);
    parameters[1] = created.as_bytes();
    let more: usize = signed.names().map(|name| fields::parameters(name).len()).sum();
    let mut input = Input::begin(COVERED, signed.names(), more, &parameters);
    let mut mac = key.begin();
    mac.put(b"\"@status\": ");
    parts.status(&mut mac);
    mac.put(b"\n");
    for (line, name) in DERIVED_LINES.into_iter().zip(DERIVED) {
        mac.put(line.as_bytes());
        let _ = parts.request.derived(name.as_bytes(), &mut mac);
        mac.put(b"\n");
    }
    for (line, name) in SIGNED_LINES.into_iter().zip(SIGNED) {
        mac.put(line.as_bytes());
        parts.signed(name, &mut mac).ok_or(Refusal::SignatureForm)?;
        mac.put(b"\n");
    }
    for (name, found) in signed.fields() {
        mac.put(input.component(name, fields::parameters(name)));
        mac.put(b": ");
        field(found, name, &mut mac)?;
        mac.put(b"\n");
    }
    input.push_all(&parameters);
    mac.put(b"\"@signature-params\": ");
    mac.put(input.parameters());
    instructions(input, key, &mac.end(), announced)
}

/// What every response covers, as it begins what is covered; and of that, what begins a line of the signature base.
const COVERED: &str = concat!(
    "\"@status\" \"@method\";req \"@authority\";req \"@path\";req \"@query\";req",
    " \"signature-input\";req;key=\"cs\" \"signature\";req;key=\"cs\""
);
const DERIVED_LINES: [&str; 4] =
    ["\"@method\";req: ", "\"@authority\";req: ", "\"@path\";req: ", "\"@query\";req: "];
const SIGNED_LINES: [&str; 2] = ["\"signature-input\";req;key=\"cs\": ", "\"signature\";req;key=\"cs\": "];

/// What every response covers, each as it is written.
pub(super) fn always_covered() -> impl Iterator<Item = &'static str> {
    COVERED.split(' ')
}

/// The value of a component, as it is written; `None` if there is none.
pub(super) fn component_value(parts: &ResponseParts<'_>, component: &str) -> Option<Vec<u8>> {
    let (name, given) = component.strip_prefix('"')?.split_once('"')?;
    let (bytes, mut value) = (name.as_bytes(), Vec::new());
    match (name, given.as_bytes()) {
        ("@status", b"") => parts.status(&mut value),
        (_, REQ) => parts.request.derived(bytes, &mut value)?,
        (_, REQ_KEY) => parts.signed(SIGNED.into_iter().find(|one| *one == name)?, &mut value)?,
        (_, given) if given == parameters(bytes).as_bytes() => {
            field(Lines::of_message(parts.fields).of(bytes), bytes, &mut value).ok()?;
        }
        _ => return None,
    }
    Some(value)
}
