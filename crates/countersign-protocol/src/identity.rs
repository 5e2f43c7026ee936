//! Who somebody is: service names, API keys, profiles, credential ids.

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use subtle::ConstantTimeEq;
use zeroize::{Zeroize, ZeroizeOnDrop};

/// Why a name, a key or a secret was not taken. Never holds the text itself: it may be a secret.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FormError {
    /// Fewer characters than asked for.
    #[error("it has {got} characters, at least {min} are needed")]
    TooShort {
        /// The least number of characters.
        min: usize,
        /// How many came.
        got: usize,
    },
    /// More characters than allowed.
    #[error("it has {got} characters, at most {max} are allowed")]
    TooLong {
        /// The greatest number of characters.
        max: usize,
        /// How many came.
        got: usize,
    },
    /// A character outside of the alphabet.
    #[error("character {position} is not one of {allowed}")]
    Alphabet {
        /// Counted from 1, in bytes.
        position: usize,
        /// The alphabet, in words.
        allowed: &'static str,
    },
    /// The guides print it, so everybody knows it.
    #[error(
        "it contains an example or placeholder text (`{pattern}`); generate a random value with `countersign keygen`"
    )]
    Example {
        /// The pattern of ours that it contains.
        pattern: &'static str,
    },
    /// Random values look different.
    #[error(
        "only {distinct} different characters: that is not a random value; generate one with `countersign keygen`"
    )]
    NotRandom {
        /// How many different characters it has.
        distinct: usize,
    },
}

pub(crate) fn check_form(
    text: &[u8],
    min: usize,
    max: usize,
    allowed: &'static str,
    is_allowed: impl Fn(u8) -> bool,
) -> Result<(), FormError> {
    let got = text.len();
    if got < min {
        return Err(FormError::TooShort { min, got });
    }
    if got > max {
        return Err(FormError::TooLong { max, got });
    }
    match text.iter().position(|byte| !is_allowed(*byte)) {
        Some(index) => Err(FormError::Alphabet { position: index + 1, allowed }),
        None => Ok(()),
    }
}

/// Refuses placeholders and the guides' printed examples.
fn check_example(text: &[u8]) -> Result<(), FormError> {
    // None of these turns up in random text by chance.
    const EXAMPLES: [&str; 9] = [
        "your_secret",
        "your-secret",
        "your_shared",
        "your-shared",
        "your_api",
        "your-api",
        "changeme",
        // Guide 2 prints these two as keys, with alternating case and a few digits.
        "abcdefghijklmnopqrstuvwxyz",
        "zyxwvutsrqponmlkjihgfedcba",
    ];
    let lower: zeroize::Zeroizing<Vec<u8>> = zeroize::Zeroizing::new(text.to_ascii_lowercase());
    for pattern in EXAMPLES {
        if lower.windows(pattern.len()).any(|window| window == pattern.as_bytes()) {
            return Err(FormError::Example { pattern });
        }
    }
    Ok(())
}

/// Refuses what cannot be a random value: examples, a few characters repeated.
pub(crate) fn check_random(text: &[u8]) -> Result<(), FormError> {
    check_example(text)?;
    let mut seen = [false; 256];
    text.iter().for_each(|byte| {
        if let Some(slot) = seen.get_mut(usize::from(*byte)) {
            *slot = true;
        }
    });
    let distinct = seen.iter().filter(|seen| **seen).count();
    if distinct < 8 {
        return Err(FormError::NotRandom { distinct });
    }
    Ok(())
}

/// A service's stable human name: `[a-z0-9][a-z0-9-]{0,62}`, for example `orders`.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct ServiceName(String);

impl ServiceName {
    /// The name.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl FromStr for ServiceName {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        let allowed = "a-z, 0-9 and - (not at the beginning)";
        check_form(text.as_bytes(), 1, 63, allowed, |byte| matches!(byte, b'a'..=b'z' | b'0'..=b'9' | b'-'))?;
        if text.starts_with('-') {
            return Err(FormError::Alphabet { position: 1, allowed });
        }
        Ok(Self(text.to_owned()))
    }
}

impl TryFrom<String> for ServiceName {
    type Error = FormError;

    fn try_from(text: String) -> Result<Self, FormError> {
        text.parse()
    }
}

impl From<ServiceName> for String {
    fn from(name: ServiceName) -> Self {
        name.0
    }
}

impl fmt::Display for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for ServiceName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

/// The identifier of one service towards one peer: 16 to 128 of `A-Za-z0-9+/=._~-`.
///
/// Public under the `shared-secret` profile and **itself the secret** under `api-key`. A key that somebody
/// presents may be of either kind, so it is redacted and zeroised like a secret; [`ApiKey::expose`] says where
/// it is let out. Equality is in constant time.
#[derive(Clone, Zeroize, ZeroizeOnDrop)]
pub struct ApiKey(String);

impl ApiKey {
    /// The least number of characters of a key that is also the secret (profile `api-key`).
    pub const MIN_AS_SECRET: usize = 22;

    /// A new key: `csk_` and base64url of 16 random bytes, 26 characters.
    #[must_use]
    pub fn generate(random: &[u8; 16]) -> Self {
        Self(format!("csk_{}", URL_SAFE_NO_PAD.encode(random)))
    }

    /// The text. Never write it where an operator or a log can see it unless the profile makes it public.
    #[must_use]
    pub fn expose(&self) -> &str {
        &self.0
    }

    /// Refuses a key that a guide prints or that is a placeholder. (A presented key is not checked: it is simply
    /// unknown.)
    ///
    /// # Errors
    /// [`FormError::Example`].
    pub fn check_not_example(&self) -> Result<(), FormError> {
        check_example(self.0.as_bytes())
    }

    /// Checks what a key must be to serve as the secret too (profile `api-key`).
    ///
    /// # Errors
    /// Shorter than 22 characters, a printed example, or visibly not random.
    pub fn check_as_secret(&self) -> Result<(), FormError> {
        let got = self.0.len();
        if got < Self::MIN_AS_SECRET {
            return Err(FormError::TooShort { min: Self::MIN_AS_SECRET, got });
        }
        check_random(self.0.as_bytes())
    }
}

fn check_api_key(text: &str) -> Result<(), FormError> {
    check_form(text.as_bytes(), 16, 128, "A-Z a-z 0-9 + / = . _ ~ -", |byte| {
        byte.is_ascii_alphanumeric() || b"+/=._~-".contains(&byte)
    })
}

/// Whether it has the form of an API key.
pub(crate) fn is_api_key(text: &str) -> bool {
    check_api_key(text).is_ok()
}

impl FromStr for ApiKey {
    type Err = FormError;

    fn from_str(text: &str) -> Result<Self, FormError> {
        check_api_key(text)?;
        Ok(Self(text.to_owned()))
    }
}

impl ConstantTimeEq for ApiKey {
    fn ct_eq(&self, other: &Self) -> subtle::Choice {
        self.0.as_bytes().ct_eq(other.0.as_bytes())
    }
}

impl PartialEq for ApiKey {
    fn eq(&self, other: &Self) -> bool {
        self.ct_eq(other).into()
    }
}

impl Eq for ApiKey {}

impl fmt::Debug for ApiKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("ApiKey(…)")
    }
}

/// How two services authenticate each other; pinned per peer on both sides, never negotiated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
#[non_exhaustive]
pub enum Profile {
    /// Countersign protocol 1: a handshake with forward secrecy, then every request and response signed.
    Cs1,
    /// Guide 1: one challenge, signed with a shared secret that never travels.
    SharedSecret,
    /// Guide 2: one challenge, signed with the API key, which travels and **is** the secret.
    ApiKey,
}

impl Profile {
    /// The name on the command line, in the store and on the trail.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Cs1 => "cs1",
            Self::SharedSecret => "shared-secret",
            Self::ApiKey => "api-key",
        }
    }
}

impl fmt::Display for Profile {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// The name of a profile that this version does not have.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("there is no such profile; this version has `cs1`, `shared-secret` and `api-key`")]
pub struct UnknownProfile;

impl FromStr for Profile {
    type Err = UnknownProfile;

    fn from_str(text: &str) -> Result<Self, UnknownProfile> {
        match text {
            "cs1" => Ok(Self::Cs1),
            "shared-secret" => Ok(Self::SharedSecret),
            "api-key" => Ok(Self::ApiKey),
            _ => Err(UnknownProfile),
        }
    }
}

/// What upstream headers, logs and lists show in place of a key: the peer's name and the credential's number.
#[derive(Clone, PartialEq, Eq, Hash, Debug)]
pub struct CredentialId {
    /// The peer.
    pub peer: ServiceName,
    /// The credential's number at this peer, from 1.
    pub number: u32,
}

impl fmt::Display for CredentialId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.peer, self.number)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_redacted_in_debug_output() {
        let key = ApiKey::generate(&[7; 16]);
        assert_eq!(format!("{key:?}"), "ApiKey(…)");
        assert_eq!(key.expose().len(), 26);
    }

    #[test]
    fn errors_name_the_place_and_never_the_text() {
        let error = "csk_ABCDEFGHIJKLMNOP\u{1b}[31m".parse::<ApiKey>().unwrap_err();
        assert_eq!(error.to_string(), "character 21 is not one of A-Z a-z 0-9 + / = . _ ~ -");
    }

    #[test]
    fn placeholders_and_repetitions_do_not_serve_as_secrets() {
        for weak in
            ["your_api_key_your_api_key", "aaaaaaaaaaaaaaaaaaaaaaaa", "aBcDeFgHiJkLmNoPqRsTuVwXyZ12345"]
        {
            assert!(weak.parse::<ApiKey>().unwrap().check_as_secret().is_err(), "{weak}");
        }
        assert!(ApiKey::generate(b"0123456789abcdef").check_as_secret().is_ok());
    }
}
