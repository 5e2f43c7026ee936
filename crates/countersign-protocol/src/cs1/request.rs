//! Signed requests (section 5).

use countersign_httpsig::{SIGNATURE, SIGNATURE_INPUT};
use http::{HeaderMap, HeaderName, HeaderValue};
use sha2::{Digest as _, Sha256};
use subtle::ConstantTimeEq as _;

use super::content::{self, Announced, ContentRule};
use super::coverage::{Coverage, Kept, Of};
use super::fields::{self, OF_REQUESTS, Sink};
use super::name::KeyName;
use super::nonce::{ServerNonce, is_nonce};
use super::policy::{DIRECT_WINDOW, Policy, Times};
use super::scan::{self, MAX_COMPONENTS, Scanned, all};
use super::stream::StreamSigner;
use crate::UnixTime;
use crate::mac::{MacKey, Tag, encode_hex};
use crate::refusal::Refusal;

pub use super::fields::{has_to_be_covered, join_cookies};
pub use super::name::{DIRECT_TAG, TAG};

/// For how long a signature can be good at most, in seconds (CS-25).
pub const MAX_WINDOW: u64 = 60;
/// How far ahead of our clock a signature may be dated, in seconds (CS-25). As much longer its nonce is remembered.
pub const AHEAD: u64 = 5;

/// A request as it is signed. Both sides have to agree on it: see CS-28.
#[derive(Clone, Copy, Debug)]
pub struct RequestParts<'a> {
    /// The method.
    pub method: &'a str,
    /// The authority under which the server is reached, in lower case and without the scheme's default port.
    pub authority: &'a str,
    /// The path as it is sent, not decoded. An empty one counts as `/`.
    pub path: &'a str,
    /// What comes after the first `?`. `None` and an empty one are the same.
    pub query: Option<&'a str>,
    /// The fields.
    pub fields: &'a HeaderMap,
}

impl<'a> RequestParts<'a> {
    fn path(&self) -> &'a str {
        if self.path.is_empty() { "/" } else { self.path }
    }

    /// Writes the value of a derived component of the profile; `None` if it is another name.
    pub(super) fn derived(&self, name: &str, out: &mut impl Sink) -> Option<()> {
        match name {
            "@method" => out.put(self.method.as_bytes()),
            "@authority" => out.put(self.authority.as_bytes()),
            "@path" => out.put(self.path().as_bytes()),
            "@query" => {
                out.put(b"?");
                out.put(self.query.unwrap_or_default().as_bytes());
            }
            _ => return None,
        }
        Some(())
    }

    /// A line end in a value would make one line of the signature base pass as two. (No HTTP parser lets one through.) A
    /// backslash is a slash to some readers of URLs. An authority has one spelling (CS-28).
    pub(super) fn is_clean(&self) -> bool {
        let texts = [self.method, self.authority, self.path, self.query.unwrap_or_default()];
        texts.iter().all(|text| all(text.as_bytes(), |byte| byte.is_ascii_graphic() & (byte != b'\\')))
            && all(self.authority.as_bytes(), |byte| !byte.is_ascii_uppercase())
    }
}

/// The derived components, in the order in which we sign them. All are always covered.
pub(super) const DERIVED: [&str; 4] = ["@method", "@authority", "@path", "@query"];

/// A request's signature as it came: read, and not verified.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    fields: &'a HeaderMap,
    scanned: Scanned<'a>,
    created: u64,
    expires: u64,
    nonce: &'a str,
    name: KeyName<'a>,
}

impl<'a> Claimed<'a> {
    /// Reads the signature of a request; `None` if it has none.
    ///
    /// # Errors
    /// [`Refusal::SignatureForm`] (CS-23).
    pub fn read(fields: &'a HeaderMap) -> Result<Option<Self>, Refusal> {
        let Some(scanned) = scan::scan(fields).map_err(|()| Refusal::SignatureForm)? else { return Ok(None) };
        let Scanned { created: Some(created), expires: Some(expires), nonce: Some(nonce), .. } = scanned
        else {
            return Err(Refusal::SignatureForm);
        };
        let name = scanned.key_name().ok_or(Refusal::SignatureForm)?;
        if !is_nonce(nonce) {
            return Err(Refusal::SignatureForm);
        }
        Ok(Some(Self { fields, scanned, created, expires, nonce, name }))
    }

    /// The key with which it says it is signed.
    #[must_use]
    pub const fn key_name(&self) -> KeyName<'a> {
        self.name
    }

    /// What it covers, as it is written.
    pub(super) const fn covered(&self) -> &'a str {
        self.scanned.list
    }

    /// Verifies it under the key for requests that it names: coverage, then the MAC, then the time. `parts` has to have the
    /// very fields of which it was read: a ticket of one message says nothing about another.
    ///
    /// # Errors
    /// [`Refusal::SignatureForm`], [`Refusal::Uncovered`], [`Refusal::WrongSignature`], [`Refusal::ClockSkew`],
    /// [`Refusal::NonceRequired`].
    pub fn verify<'p>(
        &self,
        key: &MacKey,
        parts: &RequestParts<'_>,
        policy: impl Into<Policy<'p>>,
    ) -> Result<Unclaimed<'a>, Refusal> {
        if !std::ptr::eq(parts.fields, self.fields) || !parts.is_clean() {
            return Err(Refusal::SignatureForm);
        }
        let mut mac = key.begin();
        let covered = self.base(parts, &mut mac)?;
        if let Some(name) =
            fields::first(&OF_REQUESTS, fields::present(&OF_REQUESTS, parts.fields) & !covered)
        {
            return Err(Refusal::Uncovered(name));
        }
        if !bool::from(mac.finish().ct_eq(&self.scanned.signature)) {
            return Err(Refusal::WrongSignature);
        }
        // Told only to who signed rightly.
        let Self { created, expires, nonce, name, .. } = *self;
        let times = Times { created, expires, nonce, direct: name.is_direct() };
        let until = policy.into().judge(times)?;
        let content = content::announced(parts.fields)?.rule(key, &self.scanned.signature);
        Ok(Unclaimed { nonce: self.nonce, until, content, scanned: self.scanned, fields: self.fields })
    }

    /// Writes the signature base, and gives what of [`OF_REQUESTS`] is covered.
    fn base(&self, parts: &RequestParts<'_>, out: &mut impl Sink) -> Result<u32, Refusal> {
        let (mut derived, mut covered) = (0_u8, 0_u32);
        let mut others = [""; MAX_COMPONENTS];
        for (count, component) in self.scanned.components().enumerate() {
            let (name, parameters) = component.map_err(|()| Refusal::SignatureForm)?;
            if !parameters.is_empty() || count >= MAX_COMPONENTS {
                return Err(Refusal::SignatureForm);
            }
            out.put(b"\"");
            out.put(name.as_bytes());
            out.put(b"\": ");
            if let Some(place) = DERIVED.iter().position(|one| *one == name) {
                if derived & 1 << place != 0 {
                    return Err(Refusal::SignatureForm);
                }
                derived |= 1 << place;
                parts.derived(name, out).ok_or(Refusal::SignatureForm)?;
            } else if let Some(place) = fields::place(&OF_REQUESTS, name) {
                if covered & 1 << place != 0 {
                    return Err(Refusal::SignatureForm);
                }
                covered |= 1 << place;
                fields::value(parts.fields, name, out)?;
            } else {
                let before = others.get(..count).unwrap_or_default();
                if name.starts_with('@') || !is_field_name(name) || before.contains(&name) {
                    return Err(Refusal::SignatureForm);
                }
                if let Some(slot) = others.get_mut(count) {
                    *slot = name;
                }
                fields::value(parts.fields, name, out)?;
            }
            out.put(b"\n");
        }
        if let Some((_, name)) = DERIVED.iter().enumerate().find(|(place, _)| derived & 1 << place == 0) {
            return Err(Refusal::Uncovered(name));
        }
        out.put(b"\"@signature-params\": ");
        out.put(self.scanned.params.as_bytes());
        Ok(covered)
    }
}

/// A signature that is right and in time; whether it was used before is still to be asked.
#[derive(Debug)]
#[must_use = "claim the nonce, or the request can be sent again"]
pub struct Unclaimed<'a> {
    nonce: &'a str,
    until: UnixTime,
    content: ContentRule,
    scanned: Scanned<'a>,
    fields: &'a HeaderMap,
}

/// That a request was signed with the session's key, in time and for the first time. Made only by [`Unclaimed::claim`].
/// Its content is still to be checked.
#[derive(Debug)]
pub struct Verified<'a> {
    content: ContentRule,
    scanned: Scanned<'a>,
    fields: &'a HeaderMap,
}

impl<'a> Unclaimed<'a> {
    /// Burns the nonce of the session with this id (CS-26). `claim` gets an id for both, and until when it has to be
    /// remembered, and must be atomic: of many requests with one nonce exactly one gets `Ok`.
    ///
    /// # Errors
    /// What `claim` says: [`Refusal::RequestReplayed`], or that the replay log cannot take it.
    pub fn claim(
        self,
        session: &[u8; 16],
        claim: impl FnOnce(u128, UnixTime) -> Result<(), Refusal>,
    ) -> Result<Verified<'a>, Refusal> {
        let digest = Sha256::new().chain_update(session).chain_update(self.nonce).finalize();
        let id = digest.first_chunk::<16>().map_or(0, |id| u128::from_be_bytes(*id));
        claim(id, self.until)?;
        Ok(Verified { content: self.content, scanned: self.scanned, fields: self.fields })
    }
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
        Coverage::of(self.fields, Of::Request)
    }

    /// What is left to be done and to be known of it once its fields are handed on.
    #[must_use]
    pub fn keep(self) -> Kept {
        Kept { coverage: self.coverage(), content: self.content }
    }

    /// Whether this field was signed. What was not, anybody on the way may have put there.
    #[must_use]
    pub fn covers(&self, field: &HeaderName) -> bool {
        self.scanned.covers(field.as_str(), "")
    }
}

/// What has to be added to a message.
#[derive(Clone, Debug)]
pub struct Instructions {
    /// `Signature-Input`
    pub signature_input: HeaderValue,
    /// `Signature`
    pub signature: HeaderValue,
    /// Of a message that says `countersign-body: stream`: what its content has to go through, for the trailer behind it.
    pub stream: Option<Box<StreamSigner>>,
}

/// With what and for how long a request of a session is signed, with a nonce of its own: what is nearly always wanted of
/// [`SigningAs`].
#[derive(Clone, Copy, Debug)]
pub struct Signing<'a> {
    /// The key for requests.
    pub key: &'a MacKey,
    /// The ticket, with its prefix.
    pub ticket: &'a str,
    /// The server's time, as far as the handshake told it (CS-30).
    pub now: UnixTime,
    /// For how many seconds it is good, at most [`MAX_WINDOW`].
    pub window: u64,
    /// 16 random bytes.
    pub nonce: [u8; 16],
}

/// With what and for how long a request is signed.
#[derive(Clone, Copy, Debug)]
pub struct SigningAs<'a> {
    /// The key for requests.
    pub key: &'a MacKey,
    /// Its name.
    pub name: KeyName<'a>,
    /// The server's time: as far as the handshake told it (CS-30), or without one by our own clock.
    pub now: UnixTime,
    /// For how many seconds it is good: at most [`MAX_WINDOW`]. Without a handshake at most [`DIRECT_WINDOW`], and better half of
    /// it: then the other side's clock may differ either way.
    pub window: u64,
    /// Whose nonce it has.
    pub nonce: Nonce<'a>,
}

/// The nonce of a request.
#[derive(Clone, Copy, Debug)]
pub enum Nonce<'a> {
    /// Our own: 16 random bytes.
    Random([u8; 16]),
    /// The one that the server asked for.
    OfServer(&'a ServerNonce),
}

/// Signs a request: covers all of its fields but for those of CS-29. A request with content has its `Content-Digest` already.
///
/// # Errors
/// [`Refusal::Uncovered`] if a field cannot be covered because it holds bytes outside of ASCII;
/// [`Refusal::SignatureForm`] if the other side would have to refuse it: the target, the ticket or the digest is none, a field
/// is repeated, there are too many fields, or the request is signed already.
pub fn sign(signing: &Signing<'_>, parts: &RequestParts<'_>) -> Result<Instructions, Refusal> {
    let Signing { key, ticket, now, window, nonce } = *signing;
    let (name, nonce) = (KeyName::Ticket(ticket), Nonce::Random(nonce));
    sign_as(&SigningAs { key, name, now, window, nonce }, parts)
}

/// The same under any name, and with any nonce.
///
/// # Errors
/// As [`sign`].
pub fn sign_as(signing: &SigningAs<'_>, parts: &RequestParts<'_>) -> Result<Instructions, Refusal> {
    use std::fmt::Write as _;
    if !parts.is_clean()
        || !signing.name.is_valid()
        || parts.fields.contains_key(SIGNATURE_INPUT)
        || parts.fields.contains_key(SIGNATURE)
    {
        return Err(Refusal::SignatureForm);
    }
    let announced = content::announced(parts.fields)?;
    let names = fields::to_be_signed(parts.fields);
    if DERIVED.len() + names.len() > MAX_COMPONENTS {
        return Err(Refusal::SignatureForm);
    }
    let SigningAs { key, name, now, window, nonce } = *signing;
    let mut mac = key.begin();
    // Of what is usual, nothing is copied once more.
    let mut input = String::with_capacity(512 + name.len());
    input.push_str("cs=(");
    let line = |name: &str, input: &mut String, mac: &mut crate::mac::MacStream| {
        if !input.ends_with('(') {
            input.push(' ');
        }
        let from = input.len();
        input.push('"');
        input.push_str(name);
        input.push('"');
        mac.put(input.get(from..).unwrap_or_default().as_bytes());
        mac.put(b": ");
    };
    for name in DERIVED {
        line(name, &mut input, &mut mac);
        let _ = parts.derived(name, &mut mac);
        mac.put(b"\n");
    }
    for name in names {
        line(name, &mut input, &mut mac);
        fields::value(parts.fields, name, &mut mac)?;
        mac.put(b"\n");
    }
    let longest = if name.is_direct() { DIRECT_WINDOW } else { MAX_WINDOW };
    let (created, expires) = (now.0, now.0.saturating_add(window.clamp(1, longest)));
    let random = if let Nonce::Random(bytes) = &nonce { encode_hex(bytes) } else { String::new() };
    let nonce = if let Nonce::OfServer(given) = nonce { given.as_str() } else { &random };
    let tag = name.tag();
    let _ = write!(input, ");created={created};expires={expires}");
    for piece in [";nonce=\"", nonce, "\";keyid=\""] {
        input.push_str(piece);
    }
    match name {
        KeyName::Ticket(ticket) => input.push_str(ticket),
        KeyName::Direct { .. } => drop(write!(input, "{name}")),
    }
    for piece in ["\";tag=\"", tag, "\""] {
        input.push_str(piece);
    }
    mac.put(b"\"@signature-params\": ");
    mac.put(input.get(3..).unwrap_or_default().as_bytes());
    instructions(&input, key, &mac.finish(), announced)
}

pub(super) fn instructions(
    input: &str,
    key: &MacKey,
    tag: &Tag,
    announced: Announced,
) -> Result<Instructions, Refusal> {
    let value = |text: &str| HeaderValue::from_str(text).map_err(|_| Refusal::SignatureForm);
    let stream = match announced.rule(key, tag) {
        ContentRule::Stream(rule) => Some(Box::new(rule.sign())),
        ContentRule::Empty | ContentRule::Sha256(_) => None,
    };
    Ok(Instructions { signature_input: value(input)?, signature: value(&scan::write_mac(tag))?, stream })
}

/// A field's name in lower case (RFC 9110, section 5.1).
pub(super) fn is_field_name(name: &str) -> bool {
    !name.is_empty()
        && name.bytes().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(&byte)
        })
}
