//! Names, keys, secrets, challenges, hexadecimal, tokens: which texts have the form, against predicates
//! written by hand.

#![allow(clippy::unwrap_used, reason = "tests")]

use countersign_protocol::identity::{ApiKey, CredentialId, FormError, ServiceName};
use countersign_protocol::mac::{Tag, decode_hex, encode_hex};
use countersign_protocol::secret::{SharedSecret, strip_line_end};
use countersign_protocol::token::{Claims, PREFIX, TokenKeys};
use countersign_protocol::{UnixTime, api_key, lp, shared_secret};
use proptest::prelude::*;
use zeroize::Zeroizing;

fn is_api_key(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && text
            .chars()
            .all(|c| "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/=._~-".contains(c))
}

fn is_service_name(text: &str) -> bool {
    let alphabet = "abcdefghijklmnopqrstuvwxyz0123456789";
    text.len() <= 63
        && text.chars().next().is_some_and(|first| alphabet.contains(first))
        && text.chars().all(|c| alphabet.contains(c) || c == '-')
}

fn is_secret_form(text: &str) -> bool {
    (32..=256).contains(&text.len()) && text.bytes().all(|byte| (0x21..=0x7e).contains(&byte))
}

/// `^[A-Za-z0-9+/]{21}[AQgw]==\z`
fn is_guide1_challenge(text: &str) -> bool {
    let base64 = |c: &u8| matches!(c, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'+' | b'/');
    match text.as_bytes() {
        [start @ .., last, b'=', b'='] => {
            start.len() == 21 && start.iter().all(base64) && b"AQgw".contains(last)
        }
        _ => false,
    }
}

/// `^\d{10}\.[0-9A-Za-z-]{10,64}\z`
fn is_guide2_challenge(text: &str) -> bool {
    let text = text.as_bytes();
    (21..=75).contains(&text.len())
        && text.iter().take(10).all(|c| c.is_ascii_digit())
        && text.get(10) == Some(&b'.')
        && text.iter().skip(11).all(|c| matches!(c, b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-'))
}

/// A text of the form, or one near it: a piece put in, and up to two characters taken out.
fn near(form: &'static str) -> impl Strategy<Value = String> {
    let piece = prop_oneof![Just(String::new()), "\\PC", "[ -~]", "[\\x00-\\x20]", "[=.A-]{1,3}"];
    let edited = (form, any::<prop::sample::Index>(), 0_usize..3, piece);
    let edited = edited.prop_map(|(text, place, removed, piece)| {
        let place = place.index(text.len() + 1);
        let start = text.chars().take(place);
        start.chain(piece.chars()).chain(text.chars().skip(place + removed)).collect()
    });
    prop_oneof![2 => form, 5 => edited, 1 => any::<String>()]
}

proptest! {
    #[test]
    fn an_api_key_is_16_to_128_of_its_alphabet(text in near("[A-Za-z0-9+/=._~-]{15,20}|[A-Za-z0-9+/=._~-]{126,129}")) {
        let parsed = text.parse::<ApiKey>();
        prop_assert_eq!(parsed.is_ok(), is_api_key(&text));
        if let Ok(key) = parsed {
            prop_assert_eq!(key.expose(), text);
        }
    }

    #[test]
    fn a_service_name_is_1_to_63_of_its_alphabet(text in near("[a-z0-9-]{1,3}|[a-z0-9][a-z0-9-]{60,63}")) {
        let parsed = text.parse::<ServiceName>();
        prop_assert_eq!(parsed.is_ok(), is_service_name(&text));
        if let Ok(name) = parsed {
            prop_assert_eq!(name.as_str(), text);
        }
    }

    #[test]
    fn a_secret_is_32_to_256_visible_characters(text in near("[!-~]{31,36}|[!-~]{254,257}")) {
        let parsed = text.parse::<SharedSecret>();
        match &parsed {
            Ok(secret) => prop_assert_eq!(secret.expose(), &text),
            Err(FormError::Example { .. } | FormError::NotRandom { .. }) => {}
            Err(_) => prop_assert!(!is_secret_form(&text)),
        }
        prop_assert!(parsed.is_err() || is_secret_form(&text));
    }

    #[test]
    fn what_is_generated_is_taken(key in any::<[u8; 16]>(), secret in any::<[u8; 32]>()) {
        prop_assert!(is_api_key(ApiKey::generate(&key).expose()));
        prop_assert!(is_secret_form(SharedSecret::generate(&secret).expose()));
    }

    #[test]
    fn guide_1_challenges_are_16_bytes_in_canonical_base64(text in near("[A-Za-z0-9+/]{21}[AQgw]==|[A-Za-z0-9+/]{22}==")) {
        let parsed = text.parse::<shared_secret::Challenge>();
        prop_assert_eq!(parsed.is_ok(), is_guide1_challenge(&text));
        if let Ok(challenge) = parsed {
            prop_assert_eq!(challenge.as_str(), text);
            prop_assert_eq!(shared_secret::Challenge::from_bytes(*challenge.as_bytes()), challenge);
        }
    }

    #[test]
    fn guide_2_challenges_are_seconds_and_a_random_part(text in near("[0-9]{10}\\.([0-9A-Za-z-]{9,12}|[0-9A-Za-z-]{62,65})")) {
        let parsed = text.parse::<api_key::Challenge>();
        prop_assert_eq!(parsed.is_ok(), is_guide2_challenge(&text));
        if let Ok(challenge) = parsed {
            prop_assert_eq!(challenge.as_str(), text);
        }
    }

    #[test]
    fn generated_challenges_have_the_form_at_any_time(now in any::<u64>(), random in any::<[u8; 16]>()) {
        let guide2 = api_key::Challenge::generate(UnixTime(now), &random);
        prop_assert!(is_guide2_challenge(guide2.as_str()));
        prop_assert!(is_guide1_challenge(shared_secret::Challenge::from_bytes(random).as_str()));
    }

    #[test]
    fn no_text_has_the_form_of_both_challenges(text in near("[A-Za-z0-9+/]{21}[AQgw]==|[0-9]{10}\\.[0-9A-Za-z-]{10,13}")) {
        prop_assert!(text.parse::<shared_secret::Challenge>().is_err() || text.parse::<api_key::Challenge>().is_err());
    }

    #[test]
    fn hexadecimal_is_read_in_either_case_and_written_in_lower_case(bytes in any::<[u8; 32]>(), flips in any::<u64>()) {
        let lower = encode_hex(&bytes);
        let standard: String = bytes.iter().map(|byte| format!("{byte:02x}")).collect();
        prop_assert_eq!(&lower, &standard);
        let mixed: String = lower.chars().enumerate()
            .map(|(index, c)| if flips >> (index % 64) & 1 == 1 { c.to_ascii_uppercase() } else { c })
            .collect();
        prop_assert_eq!(Tag::from_hex(&mixed).map(|tag| *tag.as_bytes()), Some(bytes));
    }

    #[test]
    fn a_signature_is_64_hexadecimal_digits(text in near("[0-9a-fA-F]{63,65}")) {
        let expected = text.len() == 64 && text.chars().all(|c| c.is_ascii_hexdigit());
        prop_assert_eq!(Tag::from_hex(&text).is_some(), expected);
    }

    #[test]
    fn hexadecimal_fills_exactly_the_room_it_has(text in "[0-9a-fA-F]{0,12}", room in 0_usize..7) {
        let mut bytes = vec![0; room];
        prop_assert_eq!(decode_hex(text.as_bytes(), &mut bytes).is_some(), text.len() == 2 * room);
    }

    #[test]
    fn no_text_but_a_sealed_one_opens_as_a_token(text in prop_oneof![any::<String>(), "csb\\.[A-Za-z0-9_-]{0,600}"]) {
        prop_assert!(token_keys().open(&text, UnixTime(1_000)).is_err());
    }

    #[test]
    fn what_a_token_says_comes_back_and_no_changed_character_passes(
        peer in "[a-z0-9][a-z0-9-]{0,62}",
        number in any::<u32>(),
        uid in any::<[u8; 16]>(),
        nonce in any::<[u8; 12]>(),
        place in any::<prop::sample::Index>(),
        other in "[A-Za-z0-9_-]",
    ) {
        let credential = CredentialId { peer: peer.parse().unwrap(), number };
        let claims = Claims { credential, uid, issued: UnixTime(1_000), expires: UnixTime(1_300) };
        let keys = token_keys();
        let token = keys.seal(&claims, nonce);
        prop_assert_eq!(keys.open(&token, UnixTime(1_299)), Ok(claims));
        let place = PREFIX.len() + place.index(token.len() - PREFIX.len());
        let mut changed = token.to_string();
        changed.replace_range(place..=place, &other);
        prop_assert_eq!(keys.open(&changed, UnixTime(1_299)).is_ok(), changed == *token);
    }

    #[test]
    fn length_prefixes_keep_fields_apart(a in prop::collection::vec("[ab]{0,3}", 0..4), b in prop::collection::vec("[ab]{0,3}", 0..4)) {
        let encode = |fields: &[String]| lp(&fields.iter().map(String::as_bytes).collect::<Vec<_>>());
        prop_assert_eq!(encode(&a) == encode(&b), a == b);
    }

    #[test]
    fn stripping_takes_at_most_one_line_end(text in "[a\r\n]{0,6}") {
        let stripped = strip_line_end(&text);
        let end = text.strip_prefix(stripped).unwrap();
        prop_assert!(["", "\n", "\r", "\r\n"].contains(&end));
        prop_assert_eq!(end.is_empty(), !text.ends_with(['\n', '\r']));
        prop_assert_eq!(end == "\r\n", text.ends_with("\r\n"));
    }
}

fn token_keys() -> TokenKeys {
    TokenKeys::new("orders".parse().unwrap(), &Zeroizing::new([1; 40]), UnixTime(1_000))
}
