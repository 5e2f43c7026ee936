//! `CPace` over ristretto255 with SHA-512 (draft-irtf-cfrg-cpace-21), initiator-responder setting. The arithmetic is that of
//! the crates `pakery-*` (ADR 0019); the tests here hold them against the draft's vectors.

use std::convert::Infallible;
use std::fmt;

use pakery_core::crypto::CpaceGroup as _;
use pakery_cpace::{CpaceCiphersuite, CpaceInitiator, CpaceMode, CpaceResponder, InitiatorState};
use pakery_crypto::{Ristretto255Group, Sha512Hash};
use rand_core::{TryCryptoRng, TryRng};
use zeroize::Zeroizing;

/// CPACE-RISTR255-SHA512 (section 4 of the draft).
struct Suite;

impl CpaceCiphersuite for Suite {
    type Group = Ristretto255Group;
    type Hash = Sha512Hash;
    const DSI: &'static [u8] = b"CPaceRistretto255";
    const HASH_BLOCK_SIZE: usize = 128;
    const FIELD_SIZE_BYTES: usize = 32;
}

/// The other side's share is no element of the group, or its identity.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side's share is none that can be used")]
pub struct BadShare;

/// Bytes that were drawn already, in the place of a generator: the crate asks once, for 64 of them.
struct Drawn<'a>(&'a Zeroizing<[u8; 64]>);

impl TryRng for Drawn<'_> {
    type Error = Infallible;

    fn try_next_u32(&mut self) -> Result<u32, Infallible> {
        let mut bytes = [0; 4];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u32::from_le_bytes(bytes))
    }

    fn try_next_u64(&mut self) -> Result<u64, Infallible> {
        let mut bytes = [0; 8];
        self.try_fill_bytes(&mut bytes)?;
        Ok(u64::from_le_bytes(bytes))
    }

    fn try_fill_bytes(&mut self, to: &mut [u8]) -> Result<(), Infallible> {
        for (to, from) in to.iter_mut().zip(self.0.iter().cycle()) {
            *to = *from;
        }
        Ok(())
    }
}

impl TryCryptoRng for Drawn<'_> {}

/// What both sides know before they begin.
#[derive(Clone, Copy)]
pub(super) struct Context<'a> {
    /// PRS.
    pub(super) password: &'a [u8],
    /// CI.
    pub(super) channel: &'a [u8],
    /// sid.
    pub(super) session: &'a [u8; 16],
}

/// ISK.
pub(super) type Secret = pakery_core::SharedSecret;

/// The initiator, once its share is made. Its `Debug` shows nothing.
pub(super) struct Started(InitiatorState<Suite>);

impl fmt::Debug for Started {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Started(…)")
    }
}

/// Ya. `random` gives ya, reduced modulo the group's order.
pub(super) fn start(
    context: Context<'_>,
    data: &[u8],
    random: &Zeroizing<[u8; 64]>,
) -> Result<([u8; 32], Started), BadShare> {
    let Context { password, channel, session } = context;
    let (share, state) = CpaceInitiator::<Suite>::start(password, channel, session, data, &mut Drawn(random))
        .map_err(|_| BadShare)?;
    Ok((share.try_into().map_err(|_| BadShare)?, Started(state)))
}

impl Started {
    /// ISK, if Yb is a share.
    pub(super) fn finish(self, share: &[u8; 32], data: &[u8]) -> Result<Secret, BadShare> {
        let done = self.0.finish(share, data, CpaceMode::InitiatorResponder).map_err(|_| BadShare)?;
        Ok(done.isk)
    }
}

/// Yb and ISK, if Ya is a share.
pub(super) fn respond(
    context: Context<'_>,
    share: &[u8; 32],
    data: (&[u8], &[u8]),
    random: &Zeroizing<[u8; 64]>,
) -> Result<([u8; 32], Secret), BadShare> {
    let Context { password, channel, session } = context;
    let (initiator, responder) = data;
    let (ours, done) = CpaceResponder::<Suite>::respond(
        share,
        password,
        channel,
        session,
        initiator,
        responder,
        CpaceMode::InitiatorResponder,
        &mut Drawn(random),
    )
    .map_err(|_| BadShare)?;
    Ok((ours.try_into().map_err(|_| BadShare)?, done.isk))
}

/// Whether this is a share: the canonical encoding of an element other than the identity (PA-14).
pub(super) fn is_share(bytes: &[u8; 32]) -> bool {
    Ristretto255Group::from_bytes(bytes).is_ok_and(|point| !point.is_identity())
}

/// A share of nobody: what there is in the place of Yb where no code can be claimed (PA-18). Distributed as Yb is.
#[must_use]
pub fn decoy(random: &[u8; 64]) -> [u8; 32] {
    let point = Ristretto255Group::from_uniform_bytes(random).map(|point| point.to_bytes());
    match point.ok().and_then(|bytes| bytes.try_into().ok()) {
        Some(share) => share,
        None => unreachable!("any 64 bytes give an element of 32"),
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;
    use crate::mac::{decode_hex, encode_hex};

    fn bytes<const N: usize>(hex: &str) -> [u8; N] {
        let mut bytes = [0; N];
        decode_hex(hex.as_bytes(), &mut bytes).unwrap();
        bytes
    }

    /// A scalar below the order, as bytes that are reduced to itself.
    fn wide(scalar: &str) -> Zeroizing<[u8; 64]> {
        let mut wide = Zeroizing::new([0; 64]);
        wide[..32].copy_from_slice(&bytes::<32>(scalar));
        wide
    }

    const YA: &str = "da3d23700a9e5699258aef94dc060dfda5ebb61f02a5ea77fad53f4ff0976d08";
    const SHARE_A: &str = "d6bac480f2c386c394efc7c47adb9925dcd2630b64f240c50f8d0eec482b9157";
    const YB: &str = "d2316b454718c35362d83d69df6320f38578ed5984651435e2949762d900b80d";
    const SHARE_B: &str = "3ea7e0b19560d7c0b0f5734f63b955286dfa8232b5ebe63324e2d9e7433f7258";

    fn draft() -> (Vec<u8>, [u8; 16]) {
        (b"\x0bA_initiator\x0bB_responder".to_vec(), bytes("7e4b4791d6a8ef019b936c79fb7f2c57"))
    }

    #[test]
    fn draft_21_b_3_1_generator() {
        let (channel, session) = draft();
        let string = pakery_cpace::generator::generator_string::<Suite>(b"Password", &channel, &session);
        let expected = format!(
            "11435061636552697374726574746f3235350850617373776f726464{}180b415f696e69746961746f720b425f726573706f6e646572107e4b4791d6a8ef019b936c79fb7f2c57",
            "00".repeat(100)
        );
        assert_eq!(encode_hex(&string), expected);
        let generator =
            pakery_cpace::generator::calculate_generator::<Suite>(b"Password", &channel, &session)
                .ok()
                .unwrap();
        assert_eq!(
            encode_hex(&generator.to_bytes()),
            "222b6b195fe84b1652badb6f6a3ae3d24341e7306967f0b8115b40d5698c7e56"
        );
    }

    #[test]
    fn draft_21_b_3_2_to_5_shares_and_isk_of_both_roles() {
        let (channel, session) = draft();
        let context = Context { password: b"Password", channel: &channel, session: &session };
        let (share, started) = start(context, b"ADa", &wide(YA)).unwrap();
        assert_eq!(share, bytes(SHARE_A));
        let (answer, theirs) = respond(context, &share, (b"ADa", b"ADb"), &wide(YB)).unwrap();
        assert_eq!(answer, bytes(SHARE_B));
        let ours = started.finish(&answer, b"ADb").unwrap();
        let isk = "b69effbf61b51d56401c0f65601abe428de8206feaaf0e32198896dcae7b35cd2b38950a39dfd5d4a79164614c2984f7daa460b588c1e80c3fa2068af7900447";
        assert_eq!(encode_hex(ours.as_bytes()), isk);
        assert_eq!(encode_hex(theirs.as_bytes()), isk);
    }

    #[test]
    fn draft_21_b_3_10_valid_inputs() {
        let point = bytes::<32>("2c3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c");
        let scalar = Ristretto255Group::scalar_from_wide_bytes(
            wide("7cd0e075fa7955ba52c02759a6c90dbbfc10e6d40aea8d283e407d88cf538a05").as_slice(),
        );
        let product = Ristretto255Group::from_bytes(&point).ok().unwrap().scalar_mul(&scalar.ok().unwrap());
        assert_eq!(
            encode_hex(&product.to_bytes()),
            "7c13645fe790a468f62c39beb7388e541d8405d1ade69d1778c5fe3e7f6b600e"
        );
        assert!(is_share(&point));
    }

    // PA-14
    #[test]
    fn draft_21_b_3_11_invalid_inputs_end_the_exchange_in_both_roles() {
        let (channel, session) = draft();
        let context = Context { password: b"Password", channel: &channel, session: &session };
        let no_element = "2b3c6b8c4f3800e7aef6864025b4ed79bd599117e427c41bd47d93d654b4a51c";
        let identity = "00".repeat(32);
        // Of RFC 9496, A.3, one of each kind: not canonical, negative, not a square, not a point.
        let others = [
            "00ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff",
            "f3ffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
            "0100000000000000000000000000000000000000000000000000000000000000",
            "26948d35ca62e643e26a83177332e6b6afeb9d08e4268b650f1f5bbd8d81d371",
            "ecffffffffffffffffffffffffffffffffffffffffffffffffffffffffffff7f",
        ];
        for bad in [no_element, &identity].into_iter().chain(others) {
            let bad = bytes(bad);
            assert!(!is_share(&bad));
            assert!(respond(context, &bad, (b"ADa", b"ADb"), &wide(YB)).is_err());
            let (_, started) = start(context, b"ADa", &wide(YA)).unwrap();
            assert!(started.finish(&bad, b"ADb").is_err());
        }
    }

    #[test]
    fn another_password_channel_session_or_data_gives_another_secret() {
        let (channel, session) = draft();
        let context = Context { password: b"Password", channel: &channel, session: &session };
        let secret = |theirs: Context<'_>, data: (&[u8], &[u8])| {
            let (share, started) = start(context, b"ADa", &wide(YA)).unwrap();
            let (answer, secret) = respond(theirs, &share, data, &wide(YB)).unwrap();
            let ours = started.finish(&answer, b"ADb").unwrap();
            ours.as_bytes() == secret.as_bytes()
        };
        assert!(secret(context, (b"ADa", b"ADb")));
        assert!(!secret(Context { password: b"password", ..context }, (b"ADa", b"ADb")));
        assert!(!secret(Context { channel: b"", ..context }, (b"ADa", b"ADb")));
        assert!(!secret(Context { session: &[0; 16], ..context }, (b"ADa", b"ADb")));
        assert!(!secret(context, (b"ADb", b"ADb")));
        assert!(!secret(context, (b"ADa", b"ADa")));
    }

    proptest! {
        #[test]
        fn a_decoy_is_a_share(random in prop::array::uniform32(any::<u8>())) {
            let mut wide = [0; 64];
            wide[..32].copy_from_slice(&random);
            wide[32..].copy_from_slice(&random.map(|byte| byte.wrapping_mul(3)));
            prop_assert!(is_share(&decoy(&wide)));
        }

        #[test]
        fn no_bytes_panic(bytes in prop::array::uniform32(any::<u8>())) {
            let _ = is_share(&bytes);
        }
    }
}
