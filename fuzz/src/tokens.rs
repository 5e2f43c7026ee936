//! Bearer tokens: none but a sealed one opens, and what a sealed one says is written in one way only.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_protocol::aead::AeadKey;
use countersign_protocol::identity::CredentialId;
use countersign_protocol::token::{Claims, PREFIX, TokenError, TokenKeys};
use countersign_protocol::{UnixTime, lp};
use zeroize::Zeroizing;

use crate::identity::is_service_name;
use crate::input;

const NOW: UnixTime = UnixTime(1_000);
const NONCE: [u8; 12] = [9; 12];

fn keys() -> TokenKeys {
    TokenKeys::new("orders".parse().unwrap(), &Zeroizing::new([1; 40]), NOW)
}

/// Seals any bytes as a token's content, with the key that [`keys`] has.
fn sealed(content: &[u8]) -> String {
    let kid = [1; 8];
    let aad = lp(&[b"token", b"orders", &kid]);
    let sealed = AeadKey::derive(&Zeroizing::new([1; 32]), "token").seal(NONCE, &aad, content);
    format!("{PREFIX}{}", URL_SAFE_NO_PAD.encode([kid.as_slice(), &sealed].concat()))
}

/// Five fields, each behind its length.
fn claims(content: &[u8]) -> Option<Claims> {
    let mut rest = content;
    let mut fields = Vec::new();
    while !rest.is_empty() {
        let length = u32::from_be_bytes(rest.get(..4)?.try_into().ok()?) as usize;
        fields.push(rest.get(4..)?.get(..length)?);
        rest = &rest[4 + length..];
    }
    let [peer, number, uid, issued, expires] = fields.as_slice() else { return None };
    let peer = std::str::from_utf8(peer).ok().filter(|peer| is_service_name(peer))?;
    Some(Claims {
        credential: CredentialId {
            peer: peer.parse().unwrap(),
            number: u32::from_be_bytes((*number).try_into().ok()?),
        },
        uid: (*uid).try_into().ok()?,
        issued: UnixTime(u64::from_be_bytes((*issued).try_into().ok()?)),
        expires: UnixTime(u64::from_be_bytes((*expires).try_into().ok()?)),
    })
}

pub(crate) fn token(input: &[u8]) {
    let keys = keys();
    let text = input::text(input);
    // Somebody's text, with and without the prefix: 128 bits of seal are not guessed.
    for text in [text.clone(), format!("{PREFIX}{text}")] {
        assert!(keys.open(&text, NOW).is_err());
    }
    // The same bytes under our own seal.
    let token = sealed(input);
    let opened = keys.open(&token, NOW);
    // No token of ours is longer than 512 characters.
    let expected = match claims(input) {
        _ if token.len() > 512 => Err(TokenError::Form),
        Some(claims) if claims.expires <= NOW => Err(TokenError::Expired),
        Some(claims) => Ok(claims),
        None => Err(TokenError::Seal),
    };
    assert_eq!(opened, expected);
    if let Ok(claims) = opened {
        assert_eq!(*keys.seal(&claims, NONCE), token, "one content, one token");
        assert_eq!(keys.open(&token, claims.expires), Err(TokenError::Expired));
    }
    // No change of a character passes, and no padding.
    let place =
        PREFIX.len() + input.first().map_or(0, |byte| usize::from(*byte)) % (token.len() - PREFIX.len());
    let mut changed = token.clone().into_bytes();
    changed[place] = if changed[place] == b'A' { b'B' } else { b'A' };
    assert!(keys.open(std::str::from_utf8(&changed).unwrap(), UnixTime(0)).is_err());
    assert!(keys.open(&format!("{token}="), UnixTime(0)).is_err());
}
