//! Values that must not change from version to version, computed by RFC authors and by Python.

#![allow(clippy::unwrap_used, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_protocol::aead::{AeadKey, expand};
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{ApiKey, CredentialId, FormError, Profile, ServiceName};
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::mac::{decode_hex, encode_hex};
use countersign_protocol::shared_secret::{self, Lifetime};
use countersign_protocol::token::{Claims, KEY_LIFETIME, TokenError, TokenKeys};
use countersign_protocol::wire::{Incoming, MAX_BODY, MAX_REPLY};
use countersign_protocol::{UnixTime, api_key, lp};
use http::HeaderMap;
use zeroize::Zeroizing;

fn bytes<const N: usize>(hex: &str) -> [u8; N] {
    let mut bytes = [0; N];
    decode_hex(hex.as_bytes(), &mut bytes).unwrap();
    bytes
}

#[test]
fn aes_256_gcm_siv_is_that_of_rfc_8452() {
    // Appendix C.2.
    let key = AeadKey::new(&Zeroizing::new(bytes(&format!("01{}", "0".repeat(62)))));
    let nonce = bytes("030000000000000000000000");
    for (aad, plaintext, sealed) in [
        ("", "0100000000000000", "c2ef328e5c71c83b843122130f7364b761e0b97427e3df28"),
        ("01", "0200000000000000", "1de22967237a813291213f267e3b452f02d01ae33e4ec854"),
    ] {
        let aad = if aad.is_empty() { Vec::new() } else { bytes::<1>(aad).to_vec() };
        let found = key.seal(nonce, &aad, &bytes::<8>(plaintext));
        assert_eq!(encode_hex(&found), format!("030000000000000000000000{sealed}"));
        assert_eq!(key.open(&aad, &found).unwrap().as_slice(), bytes::<8>(plaintext));
    }
}

#[test]
fn keys_are_derived_as_hkdf_expand_says() {
    // In Python: hmac.new(b"\x07" * 32, b"\0\0\0\5token\1", "sha256").hexdigest()
    let root = Zeroizing::new([7; 32]);
    let expected = "f3d8f24401a4c62535b813b2fbd27d37cfd41badd75e778a7c176706639a9c0e";
    assert_eq!(encode_hex(expand(&root, "token").as_slice()), expected);
    let (derived, made) = (AeadKey::derive(&root, "token"), AeadKey::new(&Zeroizing::new(bytes(expected))));
    assert_eq!(derived.seal([1; 12], b"aad", b"text"), made.seal([1; 12], b"aad", b"text"));
    assert_eq!(format!("{derived:?}"), "AeadKey(…)");
}

#[test]
fn a_fingerprint_is_the_same_in_every_version() {
    // LP(profile), then LP(key) and LP(secret) of both sides in order; HMAC-SHA256 under "countersign fingerprint 1";
    // six times four bytes as a number, modulo 100000.
    let fingerprint = Fingerprint::of("shared-secret", &[("key-b", "secret"), ("key-a", "secret")]);
    let expected = "71038 44026 69891 20281 62687 74438";
    assert_eq!(fingerprint.as_str(), expected);
    assert_eq!(format!("{fingerprint}, {fingerprint:?}"), format!("{expected}, {expected:?}"));
    assert_eq!(Fingerprint::from_stored(expected.to_owned()), fingerprint);
}

#[test]
fn an_unknown_key_is_named_by_the_first_digits_of_its_hash() {
    // hmac.new(bytes(range(32)), b"\0\0\0\6lookup\0\0\0\x1acsk_AAAAAAAAAAAAAAAAAAAAAA", "sha256")
    let key = LookupKey::new(&Zeroizing::new(std::array::from_fn(|index| u8::try_from(index).unwrap())));
    let hash = key.hash("csk_AAAAAAAAAAAAAAAAAAAAAA");
    let expected = "f751bf5cf0d9d9bb5142c6df434b71613e9ab69298e3a88d37eacf04ce4d810a";
    assert_eq!(encode_hex(hash.as_bytes()), expected);
    assert_eq!(hash.unknown_id(), "unknown:f751bf5c");
    assert_eq!(format!("{hash:?}"), "LookupHash(unknown:f751bf5c)");
}

#[test]
fn hexadecimal_digits_stand_for_every_byte_in_either_case() {
    for byte in 0..=u8::MAX {
        let (lower, mut read) = (format!("{byte:02x}"), [0]);
        assert_eq!(encode_hex(&[byte]), lower);
        for text in [lower.to_uppercase(), lower] {
            assert_eq!(decode_hex(text.as_bytes(), &mut read), Some(()));
            assert_eq!(read, [byte], "{text}");
        }
    }
}

#[test]
fn names_and_profiles_are_written_as_they_are_read() {
    let name: ServiceName = "orders-2".parse().unwrap();
    assert_eq!(format!("{name} {name:?}"), r#"orders-2 "orders-2""#);
    assert_eq!(String::from(name.clone()), "orders-2");
    assert_eq!(CredentialId { peer: name, number: 3 }.to_string(), "orders-2/3");
    for (profile, text) in
        [(Profile::SharedSecret, "shared-secret"), (Profile::ApiKey, "api-key"), (Profile::Cs1, "cs1")]
    {
        assert_eq!((profile.as_str(), profile.to_string()), (text, text.to_owned()));
        assert_eq!(text.parse(), Ok(profile));
        assert_eq!(serde_json::to_string(&profile).unwrap(), format!("{text:?}"));
    }
    assert!("cs2".parse::<Profile>().is_err());
}

#[test]
fn what_serves_as_a_secret_has_22_characters_eight_of_them_different_and_is_no_example() {
    let check = |text: &str| text.parse::<ApiKey>().unwrap().check_as_secret();
    assert_eq!(check("abcdefgh01234567890qz"), Err(FormError::TooShort { min: 22, got: 21 }));
    assert_eq!(check("abcdefgh01234567890qzK"), Ok(()));
    assert_eq!(check("abcdefgabcdefgabcdefgabcdefg"), Err(FormError::NotRandom { distinct: 7 }));
    assert_eq!(check("abcdefghabcdefghabcdefgh"), Ok(()), "eight");
    let example: ApiKey = "your_api_key_0123456789".parse().unwrap();
    assert!(matches!(example.check_not_example(), Err(FormError::Example { .. })));
    assert_eq!(ApiKey::generate(&[7; 16]).check_not_example(), Ok(()));
}

#[test]
fn a_token_is_laid_out_as_its_documentation_says() {
    let random: Zeroizing<[u8; 40]> =
        Zeroizing::new(std::array::from_fn(|index| u8::try_from(index).unwrap()));
    let mut keys = TokenKeys::new("orders".parse().unwrap(), &random, UnixTime(1_000));
    let credential = CredentialId { peer: "billing".parse().unwrap(), number: 3 };
    let claims = Claims { credential, uid: [5; 16], issued: UnixTime(1_000), expires: UnixTime(1_300) };
    let token = keys.seal(&claims, [9; 12]);
    let (kid, root) = random.split_at(8);
    let root = Zeroizing::new(<[u8; 32]>::try_from(root).unwrap());
    let plaintext =
        lp(&[b"billing", &[0, 0, 0, 3], &[5; 16], &1_000_u64.to_be_bytes(), &1_300_u64.to_be_bytes()]);
    let sealed = AeadKey::derive(&root, "token").seal([9; 12], &lp(&[b"token", b"orders", kid]), &plaintext);
    assert_eq!(*token, format!("csb.{}", URL_SAFE_NO_PAD.encode([kid, &sealed].concat())));
    assert_eq!(keys.open(&token, UnixTime(1_299)), Ok(claims));
    assert_eq!(keys.open(&token, UnixTime(1_300)), Err(TokenError::Expired));
    // Twelve hours, and then another key, under which the old token opens still.
    assert_eq!(KEY_LIFETIME, 43_200);
    assert!(!keys.is_due(UnixTime(44_199)) && keys.is_due(UnixTime(44_200)));
    keys.rotate(&Zeroizing::new([7; 40]), UnixTime(44_200));
    assert!(!keys.is_due(UnixTime(44_200)) && keys.open(&token, UnixTime(1_299)).is_ok());
    // 512 characters are looked at, more are not.
    let long = |length: usize| format!("csb.{}", "A".repeat(length - 4));
    assert_eq!(keys.open(&long(512), UnixTime(1_000)), Err(TokenError::Key));
    assert_eq!(keys.open(&long(514), UnixTime(1_000)), Err(TokenError::Form));
}

#[test]
fn times_are_written_as_their_seconds() {
    assert_eq!(format!("{:>12}", UnixTime(1_700_000_000)), "  1700000000");
    assert_eq!(UnixTime(5).since(UnixTime(7)), 0);
    assert_eq!(UnixTime(7).since(UnixTime(5)), 2);
    assert_eq!(UnixTime(u64::MAX - 1).plus(7), UnixTime(u64::MAX));
}

#[test]
fn what_is_read_is_bounded_and_debug_output_says_what_may_be_said() {
    assert_eq!((MAX_BODY, MAX_REPLY), (4_096, 65_536));
    let (headers, body) = (HeaderMap::new(), b"{\"token\":\"csb.secret\"}");
    let answer = Incoming { status: 200, headers: &headers, body };
    assert_eq!(format!("{answer:?}"), "Incoming { status: 200, .. }");
    let keys = TokenKeys::new("orders".parse().unwrap(), &Zeroizing::new([7; 40]), UnixTime(1_000));
    assert_eq!(format!("{keys:?}"), "TokenKeys(…)");
    let challenge: api_key::Challenge = "1700000000.0123456789abcdef".parse().unwrap();
    assert_eq!(format!("{challenge:?}"), "Challenge(1700000000.0123456789abcdef)");
    let challenge = shared_secret::Challenge::from_bytes([0; 16]);
    assert_eq!(format!("{challenge:?}"), "Challenge(AAAAAAAAAAAAAAAAAAAAAA==)");
}

#[test]
fn a_challenge_lives_five_seconds_at_least_and_two_minutes_at_most() {
    for (seconds, good) in [(0, false), (4, false), (5, true), (120, true), (121, false), (u64::MAX, false)] {
        let lifetime = Lifetime::seconds(seconds).ok().map(Lifetime::as_secs);
        assert_eq!(lifetime, good.then_some(seconds));
    }
    assert_eq!(Lifetime::default().as_secs(), 30);
}
