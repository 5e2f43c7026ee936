//! The challenges of both guides: their forms, and which ones a server takes for its own.

use countersign_protocol::identity::ApiKey;
use countersign_protocol::shared_secret::challenge::Standing;
use countersign_protocol::shared_secret::{Challenge, Issuer, Lifetime};
use countersign_protocol::{UnixTime, api_key};
use zeroize::Zeroizing;

use crate::input;

/// `^[A-Za-z0-9+/]{21}[AQgw]==\z`
pub(crate) fn is_guide1(text: &str) -> bool {
    match text.as_bytes() {
        [start @ .., last, b'=', b'='] => {
            start.len() == 21
                && start.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'))
                && b"AQgw".contains(last)
        }
        _ => false,
    }
}

/// `^\d{10}\.[0-9A-Za-z-]{10,64}\z`
pub(crate) fn is_guide2(text: &str) -> bool {
    let text = text.as_bytes();
    (21..=75).contains(&text.len())
        && text[..10].iter().all(u8::is_ascii_digit)
        && text[10] == b'.'
        && text[11..].iter().all(|c| c.is_ascii_alphanumeric() || *c == b'-')
}

pub(crate) fn form(input: &[u8]) {
    let text = input::text(input);
    let (one, two) = (text.parse::<Challenge>(), text.parse::<api_key::Challenge>());
    assert_eq!(one.is_ok(), is_guide1(&text));
    assert_eq!(two.is_ok(), is_guide2(&text));
    assert!(one.is_err() || two.is_err(), "a challenge of both guides");
    if let Ok(challenge) = one {
        assert_eq!(challenge.to_string(), text);
        assert_eq!(Challenge::from_bytes(*challenge.as_bytes()), challenge);
    }
    if let Ok(challenge) = two {
        assert_eq!(challenge.to_string(), text);
    }
}

/// Eight bytes of time, one each for lifetime and age, seven random ones, and 16 of a challenge that was not issued.
pub(crate) fn issued(mut input: &[u8]) {
    let now = UnixTime(u64::from_be_bytes(input::take(&mut input)));
    let [lifetime, age] = input::take(&mut input);
    let lifetime = Lifetime::seconds(u64::from(lifetime)).unwrap_or_default();
    let random = input::take(&mut input);
    let foreign = Challenge::from_bytes(input::take(&mut input));
    let issuer = |seed| Issuer::new(&Zeroizing::new([seed; 32]), "orders".parse().unwrap(), lifetime);
    let (ours, other) = (issuer(1), issuer(2));
    let (key, other_key) = (ApiKey::generate(&[3; 16]), ApiKey::generate(&[4; 16]));
    // 64 bits of MAC are not guessed.
    assert_eq!(ours.check(&key, &foreign, now), Standing::Foreign);

    // Seconds from issuing to checking, from 20 before to 235 after.
    let age = i64::from(age) - 20;
    let Some(at) = now.0.checked_sub(256).and_then(|earlier| earlier.checked_add(256)) else { return };
    let Some(issued) = at.checked_add_signed(-age) else { return };
    let challenge = ours.issue(&key, UnixTime(issued), random);
    let expected = match u64::try_from(age) {
        Err(_) if age < -5 => Standing::Foreign,
        Ok(age) if age > lifetime.as_secs() => Standing::Expired,
        _ => Standing::Live(UnixTime(issued)),
    };
    // At the end of time there is nothing ahead.
    if now.0.checked_add(5).is_some() {
        assert_eq!(ours.check(&key, &challenge, now), expected);
    }
    assert_eq!(ours.check(&other_key, &challenge, now), Standing::Foreign);
    assert_eq!(other.check(&key, &challenge, now), Standing::Foreign);
}
