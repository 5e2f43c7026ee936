//! Signed requests (section 5).

use http::{HeaderMap, HeaderName, HeaderValue};
use subtle::ConstantTimeEq as _;

use super::content::{self, Announced, ContentRule};
use super::coverage::{Coverage, Kept, Of};
use super::fields::{self, OF_REQUESTS, Sink};
use super::input::{Decimal, Input};
use super::lines::Lines;
use super::name::KeyName;
use super::nonce::{ServerNonce, is_nonce};
use super::policy::{DIRECT_WINDOW, Policy, Times};
use super::scan::{self, Component, List, MAX_COMPONENTS, Scanned};
use super::stream::StreamSigner;
use crate::UnixTime;
use crate::mac::{MacKey, Tag, hex_digits};
use crate::refusal::Refusal;
use crate::sha256::{Hasher, hash_of_48};

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
    #[inline(never)]
    pub(super) fn derived(&self, name: &[u8], out: &mut impl Sink) -> Option<()> {
        match name {
            b"@method" => out.put(self.method.as_bytes()),
            b"@authority" => out.put(self.authority.as_bytes()),
            b"@path" => out.put(self.path().as_bytes()),
            b"@query" => {
                out.put(b"?");
                out.put(self.query.unwrap_or_default().as_bytes());
            }
            _ => return None,
        }
        Some(())
    }

    /// Writes the lines of all derived components, in the order of [`DERIVED`].
    #[inline]
    fn put_derived(&self, out: &mut impl Sink) {
        out.put(b"\"@method\": ");
        out.put(self.method.as_bytes());
        out.put(b"\n\"@authority\": ");
        out.put(self.authority.as_bytes());
        out.put(b"\n\"@path\": ");
        out.put(self.path().as_bytes());
        out.put(b"\n\"@query\": ?");
        out.put(self.query.unwrap_or_default().as_bytes());
        out.put(b"\n");
    }

    /// A line end in a value would make one line of the signature base pass as two. (No HTTP parser lets one through.) A
    /// backslash is a slash to some readers of URLs. An authority has one spelling (CS-28).
    #[inline]
    pub(super) fn is_clean(&self) -> bool {
        let Self { method, authority, path, query, .. } = *self;
        [method, path, query.unwrap_or_default()].iter().all(|text| is_target(text, false))
            && is_target(authority, true)
    }
}

/// Whether all of it is printable, without spaces and backslashes, and perhaps without upper case.
#[inline]
fn is_target(text: &str, lower: bool) -> bool {
    #[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "done by the compiler")]
    const WRONG: [u8; 256] = {
        let (mut wrong, mut byte) = ([0; 256], 0);
        while byte < wrong.len() {
            let as_byte = byte as u8;
            if !as_byte.is_ascii_graphic() || as_byte == b'\\' {
                wrong[byte] = 1;
            } else if as_byte.is_ascii_uppercase() {
                wrong[byte] = 2;
            }
            byte += 1;
        }
        wrong
    };
    let wrong = text.bytes().fold(0, |all, byte| all | WRONG.get(usize::from(byte)).copied().unwrap_or(1));
    wrong & if lower { 3 } else { 1 } == 0
}

/// The derived components, in the order in which we sign them. All are always covered.
pub(super) const DERIVED: [&str; 4] = ["@method", "@authority", "@path", "@query"];

/// A request's signature as it came: read, and not verified.
#[derive(Clone, Copy, Debug)]
pub struct Claimed<'a> {
    fields: &'a HeaderMap,
    /// The value of `@signature-params`.
    params: &'a str,
    list: List<'a>,
    signature: Tag,
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
        // Looked at where it is: it is large.
        let scanned = scan::scan(fields);
        let scanned = match &scanned {
            Ok(Some(scanned)) => scanned,
            Ok(None) => return Ok(None),
            Err(()) => return Err(Refusal::SignatureForm),
        };
        let Scanned {
            params,
            list,
            created: Some(created),
            expires: Some(expires),
            nonce: Some(nonce),
            signature,
            ..
        } = *scanned
        else {
            return Err(Refusal::SignatureForm);
        };
        let name = scanned.key_name().ok_or(Refusal::SignatureForm)?;
        if !is_nonce(nonce) {
            return Err(Refusal::SignatureForm);
        }
        Ok(Some(Self { fields, params, list, signature, created, expires, nonce, name }))
    }

    /// The key with which it says it is signed.
    #[must_use]
    pub const fn key_name(&self) -> KeyName<'a> {
        self.name
    }

    /// What it covers, as it is written.
    pub(super) const fn covered(&self) -> &'a str {
        self.list.0
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
        if !std::ptr::eq(parts.fields, self.fields) {
            return Err(Refusal::SignatureForm);
        }
        let mut lines = Lines::of_message(self.fields);
        lines.gather();
        let mut mac = key.begin();
        let based = self.base(parts, &mut lines, &mut mac);
        // What needs no result of the hash stands behind its two steps: it is done while they go on.
        let ended = mac.end_message();
        if !parts.is_clean() {
            return Err(Refusal::SignatureForm);
        }
        based?;
        if lines.lacks(fields::has_to_be_covered_in_a_request) {
            return Err(Refusal::Uncovered(self.lacking()));
        }
        let tag = ended.tag();
        let announced = content::announced(&lines);
        if !bool::from(tag.ct_eq(&self.signature)) {
            return Err(Refusal::WrongSignature);
        }
        // Told only to who signed rightly.
        let Self { created, expires, nonce, name, .. } = *self;
        let times = Times { created, expires, nonce, direct: name.is_direct() };
        let until = policy.into().judge(times)?;
        let content = announced?.rule(key, &self.signature);
        Ok(Unclaimed { nonce, until, content, list: self.list, fields: self.fields })
    }

    /// The first field that has to be covered, and is not.
    #[cold]
    fn lacking(&self) -> &'static str {
        let is_lacking = |name: &&str| !self.list.covers(name, "");
        fields::present(&OF_REQUESTS, self.fields).find(is_lacking).unwrap_or_default()
    }

    /// Writes the signature base.
    #[inline]
    fn base(
        &self,
        parts: &RequestParts<'_>,
        lines: &mut Lines<'a>,
        out: &mut impl Sink,
    ) -> Result<(), Refusal> {
        let mut components = self.list.components();
        // As we write them ourselves, they need no reading.
        let as_ours = components.skip_start(COVERED);
        let (before, mut derived) =
            if as_ours { (DERIVED.len(), (1 << DERIVED.len()) - 1) } else { (0, 0_u8) };
        if as_ours {
            parts.put_derived(out);
        }
        for (count, component) in (before..).zip(components) {
            let Component { text, name, parameters } = component.map_err(|()| Refusal::SignatureForm)?;
            if !parameters.is_empty() || count >= MAX_COMPONENTS {
                return Err(Refusal::SignatureForm);
            }
            out.put(text);
            out.put(b": ");
            if let [b'@', ..] = name {
                let place =
                    DERIVED.iter().position(|one| one.as_bytes() == name).ok_or(Refusal::SignatureForm)?;
                if derived & 1 << place != 0 {
                    return Err(Refusal::SignatureForm);
                }
                derived |= 1 << place;
                parts.derived(name, out).ok_or(Refusal::SignatureForm)?;
            } else {
                let found = lines.cover(name)?;
                fields::value(found, name, out).map_err(|refusal| unless_no_name(refusal, name))?;
            }
            out.put(b"\n");
        }
        if let Some((_, name)) = DERIVED.iter().enumerate().find(|(place, _)| derived & 1 << place == 0) {
            return Err(Refusal::Uncovered(name));
        }
        out.put(b"\"@signature-params\": ");
        out.put(self.params.as_bytes());
        Ok(())
    }
}

/// A signature that is right and in time; whether it was used before is still to be asked.
#[derive(Debug)]
#[must_use = "claim the nonce, or the request can be sent again"]
pub struct Unclaimed<'a> {
    nonce: &'a str,
    until: UnixTime,
    content: ContentRule,
    list: List<'a>,
    fields: &'a HeaderMap,
}

/// That a request was signed with the session's key, in time and for the first time. Made only by [`Unclaimed::claim`].
/// Its content is still to be checked.
#[derive(Debug)]
pub struct Verified<'a> {
    content: ContentRule,
    list: List<'a>,
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
        let id = nonce_id(session, self.nonce.as_bytes());
        claim(id, self.until)?;
        Ok(Verified { content: self.content, list: self.list, fields: self.fields })
    }
}

/// The first half of SHA-256 over both.
fn nonce_id(session: &[u8; 16], nonce: &[u8]) -> u128 {
    // Mostly there are 32 characters.
    let hash = match nonce.as_chunks() {
        ([one, two], []) => hash_of_48(session, &[*one, *two]),
        _ => {
            let mut hasher = Hasher::<2>::new();
            hasher.update(session);
            hasher.update(nonce);
            hasher.finish()
        }
    };
    hash.first_chunk().map_or(0, |id| u128::from_be_bytes(*id))
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
        self.list.covers(field.as_str(), "")
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
    let SigningAs { key, name, now, window, nonce } = *signing;
    let mut lines = Lines::of_message(parts.fields);
    lines.gather();
    let is_signed =
        [&b"signature-input"[..], b"signature"].iter().any(|name| lines.of(name).next().is_some());
    if !parts.is_clean() || !name.is_valid() || is_signed {
        return Err(Refusal::SignatureForm);
    }
    let announced = content::announced(&lines)?;
    let signed = lines.to_be_signed();
    if DERIVED.len() + signed.count() > MAX_COMPONENTS {
        return Err(Refusal::SignatureForm);
    }
    let longest = if name.is_direct() { DIRECT_WINDOW } else { MAX_WINDOW };
    let (created, expires) =
        (Decimal::of(now.0), Decimal::of(now.0.saturating_add(window.clamp(1, longest))));
    let mut digits = [[0; 2]; 16];
    let nonce = match nonce {
        Nonce::Random(bytes) => {
            for (two, byte) in digits.iter_mut().zip(bytes) {
                *two = hex_digits(byte);
            }
            digits.as_flattened()
        }
        Nonce::OfServer(nonce) => nonce.as_str().as_bytes(),
    };
    let [client, colon, server] = match name {
        KeyName::Ticket(ticket) => [ticket, "", ""],
        KeyName::Direct { client, server } => [client, ":", server],
    };
    let parameters = [
        b");created=",
        created.as_bytes(),
        b";expires=",
        expires.as_bytes(),
        b";nonce=\"",
        nonce,
        b"\";keyid=\"",
        client.as_bytes(),
        colon.as_bytes(),
        server.as_bytes(),
        b"\";tag=\"",
        name.tag().as_bytes(),
        b"\"",
    ];
    let mut input = Input::begin(COVERED, signed.names(), 0, &parameters);
    let mut mac = key.begin();
    parts.put_derived(&mut mac);
    for (name, found) in signed.fields() {
        mac.put(input.component(name, ""));
        mac.put(b": ");
        fields::value(found, name, &mut mac)?;
        mac.put(b"\n");
    }
    input.push_all(&parameters);
    mac.put(b"\"@signature-params\": ");
    mac.put(input.parameters());
    instructions(input, key, &mac.end(), announced)
}

/// The derived components, as they begin what is covered.
const COVERED: &str = "\"@method\" \"@authority\" \"@path\" \"@query\"";

pub(super) fn instructions(
    input: Input,
    key: &MacKey,
    tag: &Tag,
    announced: Announced,
) -> Result<Instructions, Refusal> {
    let stream = match announced.rule(key, tag) {
        ContentRule::Stream(rule) => Some(Box::new(rule.sign())),
        ContentRule::Empty | ContentRule::Sha256(_) => None,
    };
    Ok(Instructions { signature_input: input.finish()?, signature: scan::write_mac(tag)?, stream })
}

/// What is to be said of a covered field that has no value: one whose name no field can have is no component.
#[cold]
pub(super) fn unless_no_name(refusal: Refusal, name: &[u8]) -> Refusal {
    if is_field_name(name) { refusal } else { Refusal::SignatureForm }
}

/// A field's name in lower case (RFC 9110, section 5.1).
fn is_field_name(name: &[u8]) -> bool {
    !name.is_empty()
        && name.iter().all(|byte| {
            byte.is_ascii_lowercase() || byte.is_ascii_digit() || b"!#$%&'*+-.^_`|~".contains(byte)
        })
}

#[cfg(test)]
mod tests {
    use sha2::{Digest as _, Sha256};

    use super::*;

    proptest::proptest! {
        #[test]
        fn a_nonce_counts_as_the_hash_of_itself_and_its_session(
            session: [u8; 16], of_ours: [u8; 32], other in proptest::collection::vec(proptest::num::u8::ANY, 0..129),
        ) {
            for nonce in [&of_ours[..], &other] {
                let digest = Sha256::new().chain_update(session).chain_update(nonce).finalize();
                let expected = u128::from_be_bytes(digest[..16].try_into().unwrap());
                proptest::prop_assert_eq!(nonce_id(&session, nonce), expected);
            }
        }
    }
}
