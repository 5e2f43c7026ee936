//! Guide 1's challenge: 16 bytes in base64, and on our server stateless.
//!
//! ```text
//! u8(t mod 256) ‖ r(7) ‖ HMAC(Kg1, LP("g1")‖LP(service)‖LP(K)‖u64be(t)‖r)[..8]
//! ```

use std::fmt;
use std::str::FromStr;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

use crate::UnixTime;
use crate::encode::length_of;
use crate::identity::{ApiKey, ServiceName};
use crate::mac::MacKey;

/// How far ahead of our clock a challenge may be dated, in seconds.
const AHEAD: u64 = 5;

/// 16 bytes in canonical base64: `^[A-Za-z0-9+/]{21}[AQgw]==\z`. The only shape that either side signs.
#[derive(Clone, PartialEq, Eq)]
pub struct Challenge {
    text: [u8; 24],
    bytes: [u8; 16],
}

/// The text is not the base64 of 16 bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a challenge is 16 bytes in base64: 22 characters and `==`")]
pub struct NotAChallenge;

impl Challenge {
    /// The challenge of 16 bytes.
    #[must_use]
    pub fn from_bytes(bytes: [u8; 16]) -> Self {
        let mut text = [0; 24];
        match STANDARD.encode_slice(bytes, &mut text) {
            Ok(24) => Self { text, bytes },
            _ => unreachable!("16 bytes are 24 characters of base64"),
        }
    }

    /// The text as it travels and as it is signed.
    #[must_use]
    pub fn as_str(&self) -> &str {
        match std::str::from_utf8(&self.text) {
            Ok(text) => text,
            Err(_) => unreachable!("base64 is ASCII"),
        }
    }

    /// The 16 bytes.
    #[must_use]
    pub const fn as_bytes(&self) -> &[u8; 16] {
        &self.bytes
    }
}

impl FromStr for Challenge {
    type Err = NotAChallenge;

    fn from_str(text: &str) -> Result<Self, NotAChallenge> {
        let text: [u8; 24] = text.as_bytes().try_into().map_err(|_| NotAChallenge)?;
        // The decoder needs room for 18 bytes before it knows of the padding. It refuses what is not canonical.
        let mut room = [0; 18];
        match STANDARD.decode_slice(text, &mut room) {
            Ok(16) => {}
            _ => return Err(NotAChallenge),
        }
        let mut bytes = [0; 16];
        bytes.iter_mut().zip(room).for_each(|(to, from)| *to = from);
        Ok(Self { text, bytes })
    }
}

impl fmt::Display for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl fmt::Debug for Challenge {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Challenge({})", self.as_str())
    }
}

/// For how many seconds a challenge can be answered: 30 unless set, 5 to 120.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Lifetime(u64);

/// The number of seconds is not between 5 and 120.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a challenge lives 5 to 120 seconds, not {0}")]
pub struct LifetimeOutOfRange(pub u64);

impl Lifetime {
    /// A lifetime of `seconds`.
    ///
    /// # Errors
    /// Below 5 or above 120 seconds.
    pub const fn seconds(seconds: u64) -> Result<Self, LifetimeOutOfRange> {
        if seconds < 5 || seconds > 120 { Err(LifetimeOutOfRange(seconds)) } else { Ok(Self(seconds)) }
    }

    /// The number of seconds.
    #[must_use]
    pub const fn as_secs(self) -> u64 {
        self.0
    }
}

impl Default for Lifetime {
    fn default() -> Self {
        Self(30)
    }
}

/// What our server finds when a challenge comes back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Standing {
    /// Issued by us for this key at this time, and young enough.
    Live(UnixTime),
    /// Issued by us for this key, too long ago.
    Expired,
    /// Forged, cut, issued for another key or by another process, dated ahead, or minutes old.
    Foreign,
}

/// Makes and recognises the challenges of one server process. Nothing is stored per challenge.
///
/// The key is random and never leaves the process: what was issued before a restart is foreign after it, so
/// that no crash can bring an answered challenge back to life.
#[derive(Debug)]
pub struct Issuer {
    key: MacKey,
    service: ServiceName,
    lifetime: Lifetime,
}

impl Issuer {
    /// An issuer with the key `Kg1`, 32 random bytes.
    #[must_use]
    pub fn new(key: &Zeroizing<[u8; 32]>, service: ServiceName, lifetime: Lifetime) -> Self {
        Self { key: MacKey::new(key.as_slice()), service, lifetime }
    }

    /// How long its challenges live.
    #[must_use]
    pub const fn lifetime(&self) -> Lifetime {
        self.lifetime
    }

    /// A challenge for whoever presents `api_key`, known or not.
    #[must_use]
    pub fn issue(&self, api_key: &ApiKey, now: UnixTime, random: [u8; 7]) -> Challenge {
        let mut bytes = [0; 16];
        let (time, rest) = bytes.split_at_mut(1);
        let (r, tag) = rest.split_at_mut(7);
        time.copy_from_slice(&[low_byte(now)]);
        r.copy_from_slice(&random);
        tag.copy_from_slice(&self.tag(api_key, now, &random));
        Challenge::from_bytes(bytes)
    }

    /// Whether `challenge` was issued here for `api_key`, and when. One MAC, whatever comes.
    #[must_use]
    pub fn check(&self, api_key: &ApiKey, challenge: &Challenge, now: UnixTime) -> Standing {
        let [time, r @ .., _, _, _, _, _, _, _, _] = challenge.as_bytes();
        let [.., a, b, c, d, e, f, g, h] = *challenge.as_bytes();
        // The latest time that ends in this byte and is at most AHEAD seconds away: with lifetimes up to
        // 120 s there is only this one to try.
        let latest = now.plus(AHEAD);
        let back = u64::from(low_byte(latest).wrapping_sub(*time));
        let Some(issued) = latest.0.checked_sub(back).map(UnixTime) else { return Standing::Foreign };
        let ours = self.tag(api_key, issued, r).ct_eq(&[a, b, c, d, e, f, g, h]);
        if !bool::from(ours) {
            Standing::Foreign
        } else if now.since(issued) > self.lifetime.as_secs() {
            Standing::Expired
        } else {
            Standing::Live(issued)
        }
    }

    fn tag(&self, api_key: &ApiKey, issued: UnixTime, random: &[u8; 7]) -> [u8; 8] {
        let (service, key) = (self.service.as_str().as_bytes(), api_key.expose().as_bytes());
        self.key
            .mac(&[
                &length_of(b"g1"),
                b"g1",
                &length_of(service),
                service,
                &length_of(key),
                key,
                &issued.0.to_be_bytes(),
                random,
            ])
            .first8()
    }
}

fn low_byte(time: UnixTime) -> u8 {
    let [.., low] = time.0.to_be_bytes();
    low
}
