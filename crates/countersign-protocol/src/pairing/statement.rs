//! What is sealed in P3 and P4 (section 5).

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use crate::cs1::Binding;
use crate::identity::{Profile, ServiceName};
use crate::wire::body::parse;

/// SHA-256 of a `SubjectPublicKeyInfo`.
pub type Pin = [u8; 32];

/// The longest URL, in bytes (PA-13).
pub(super) const MAX_URL: usize = 512;
/// TLS keys that an offerer may name: its own, the next one, and those of proxies in front (PA-24).
pub(super) const MAX_PINS: usize = 8;

/// What the accepter states in P3.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Statement {
    /// Its name.
    pub service: ServiceName,
    /// Where it serves, if it does.
    pub url: Option<String>,
    /// The pin of the TLS key that it serves with.
    pub pin: Option<Pin>,
    /// The pin of the TLS key that it has seen; `None` over plain HTTP, on loopback.
    pub seen: Option<Pin>,
}

/// What the offerer states in P4.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Terms {
    /// The pins of its TLS keys.
    pub pins: Vec<Pin>,
    /// What sessions are bound to.
    pub binding: Binding,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct StatementForm {
    service: String,
    url: Option<String>,
    pin: Option<String>,
    seen: Option<String>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct TermsForm {
    profile: String,
    binding: String,
    pins: Vec<String>,
}

/// Whether this may be a URL: printable ASCII, of bounded length. Whether it is one is for others to say.
pub(super) fn is_url(text: &str) -> bool {
    (1..=MAX_URL).contains(&text.len()) && text.bytes().all(|byte| byte.is_ascii_graphic())
}

fn pin(text: &str) -> Option<Pin> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

/// Text that was there and has its form, or nothing that was not there.
fn optional<T>(text: Option<&str>, read: impl Fn(&str) -> Option<T>) -> Option<Option<T>> {
    match text {
        None => Some(None),
        Some(text) => read(text).map(Some),
    }
}

impl Statement {
    pub(super) fn write(&self) -> Vec<u8> {
        let form = StatementForm {
            service: self.service.to_string(),
            url: self.url.clone(),
            pin: self.pin.map(|pin| URL_SAFE_NO_PAD.encode(pin)),
            seen: self.seen.map(|pin| URL_SAFE_NO_PAD.encode(pin)),
        };
        serde_json::to_vec(&form).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let form: StatementForm = parse(bytes).ok()?;
        Some(Self {
            service: form.service.parse().ok()?,
            url: optional(form.url.as_deref(), |url| is_url(url).then(|| url.to_owned()))?,
            pin: optional(form.pin.as_deref(), pin)?,
            seen: optional(form.seen.as_deref(), pin)?,
        })
    }
}

impl Terms {
    pub(super) fn write(&self) -> Vec<u8> {
        let form = TermsForm {
            profile: Profile::Cs1.as_str().to_owned(),
            binding: self.binding.as_str().to_owned(),
            pins: self.pins.iter().take(MAX_PINS).map(|pin| URL_SAFE_NO_PAD.encode(pin)).collect(),
        };
        serde_json::to_vec(&form).unwrap_or_default()
    }

    pub(super) fn read(bytes: &[u8]) -> Option<Self> {
        let form: TermsForm = parse(bytes).ok()?;
        if form.profile != Profile::Cs1.as_str() || form.pins.len() > MAX_PINS {
            return None;
        }
        Some(Self {
            pins: form.pins.iter().map(|text| pin(text)).collect::<Option<_>>()?,
            binding: Binding::parse(&form.binding)?,
        })
    }
}
