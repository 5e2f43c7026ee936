//! What two people read to each other to see that both hold the same keys.

use std::fmt;

use crate::encode::LengthPrefixed;
use crate::mac::MacKey;

/// 30 decimal digits (99 bits) in six groups, the same on both sides of a pair: who is "ours" and who is
/// "theirs" does not matter.
///
/// It is a MAC of everything that was exchanged under a fixed key. The secrets in it have at least 128 bits,
/// so that a fingerprint overheard on the phone gives nobody a way to guess them.
#[derive(Clone, PartialEq, Eq)]
pub struct Fingerprint(String);

impl Fingerprint {
    /// The fingerprint of a credential. `sides` holds for each direction the API key and the secret that
    /// prove it (for the `api-key` profile the key alone, with an empty secret).
    #[must_use]
    pub fn of(profile: &str, sides: &[(&str, &str)]) -> Self {
        let mut sides = sides.to_vec();
        sides.sort_unstable();
        let message = sides
            .iter()
            .fold(LengthPrefixed::default().field(profile.as_bytes()), |message, (key, secret)| {
                message.field(key.as_bytes()).field(secret.as_bytes())
            });
        let message = zeroize::Zeroizing::new(message.finish());
        let tag = MacKey::new(b"countersign fingerprint 1").mac(&[message.as_slice()]);
        let groups: Vec<String> = tag
            .as_bytes()
            .chunks_exact(4)
            .take(6)
            .map(|chunk| {
                let number = chunk.iter().fold(0_u32, |number, byte| number << 8 | u32::from(*byte));
                format!("{:05}", number % 100_000)
            })
            .collect();
        Self(groups.join(" "))
    }

    /// Takes a stored fingerprint as it is.
    #[must_use]
    pub fn from_stored(text: String) -> Self {
        Self(text)
    }

    /// `12345 67890 …`
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

impl fmt::Debug for Fingerprint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Debug::fmt(&self.0, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_sides_read_the_same_digits() {
        let ours = Fingerprint::of("shared-secret", &[("key-a", "secret"), ("key-b", "secret")]);
        let theirs = Fingerprint::of("shared-secret", &[("key-b", "secret"), ("key-a", "secret")]);
        assert_eq!(ours, theirs);
        assert_eq!(ours.as_str().len(), 35);
    }

    #[test]
    fn another_secret_key_or_profile_gives_other_digits() {
        let base = Fingerprint::of("shared-secret", &[("key-a", "secret"), ("key-b", "secret")]);
        for other in [
            Fingerprint::of("shared-secret", &[("key-a", "secreT"), ("key-b", "secret")]),
            Fingerprint::of("shared-secret", &[("key-A", "secret"), ("key-b", "secret")]),
            Fingerprint::of("api-key", &[("key-a", "secret"), ("key-b", "secret")]),
        ] {
            assert_ne!(base, other);
        }
    }
}
