//! `cs1`: nonces of the server, and the field in which it gives them.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_httpsig::requested;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::KeyName;
use countersign_protocol::cs1::accept::asked;
use countersign_protocol::cs1::nonce::{NonceIssuer, ServerNonce};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::input;

const NOW: UnixTime = UnixTime(1_800_000_000);
const NAME: KeyName<'static> =
    KeyName::Direct { client: "csk_AAAAAAAAAAAAAAAAAAAAAA", server: "csk_BBBBBBBBBBBBBBBBBBBBBB" };

fn is_server_nonce(text: &str) -> bool {
    (16..=128).contains(&text.len())
        && &text.as_bytes()[..4] == b"csn."
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"+/=_.~-".contains(&byte))
}

/// Known is what would be given again with the same time and random bytes, and nothing else; and that only for a while.
pub(crate) fn nonce(input: &[u8]) {
    let text = input::text(input);
    let read = text.parse::<ServerNonce>();
    assert_eq!(read.is_ok(), is_server_nonce(&text));
    if let Ok(read) = read {
        assert_eq!(read.as_str(), text);
    }
    let issuer = NonceIssuer::new(&Zeroizing::new([3; 32]));
    let known = issuer.check(&text, NOW);
    let bytes = text.strip_prefix("csn.").and_then(|encoded| URL_SAFE_NO_PAD.decode(encoded).ok());
    let Some(bytes) = bytes.filter(|bytes| bytes.len() == 40) else {
        assert_eq!(known, None);
        return;
    };
    let time = u64::from_be_bytes(bytes[..8].try_into().unwrap());
    let again = issuer.issue(UnixTime(time), bytes[8..24].try_into().unwrap());
    let in_time = (NOW.0 - 30..=NOW.0 + 5).contains(&time);
    assert_eq!(known, (again.as_str() == text && in_time).then_some(UnixTime(time)));
    assert_eq!(issuer.check(again.as_str(), NOW).is_some(), in_time);
    assert_eq!(issuer.check(again.as_str(), UnixTime(time)), Some(UnixTime(time)));
}

/// What a client finds is what the general reader finds, if that can read the components as well.
pub(crate) fn accept_signature(input: &[u8]) {
    let mut fields = HeaderMap::new();
    for line in input.split(|byte| *byte == b'\n') {
        if let Ok(value) = HeaderValue::from_bytes(line) {
            fields.append("accept-signature", value);
        }
    }
    let found = asked(&fields, &NAME);
    if let Some(nonce) = &found {
        assert!(is_server_nonce(nonce.as_str()));
    }
    let Ok(general) = requested(&fields) else { return };
    let ours = general.into_iter().find(|one| one.label == "cs").filter(|one| {
        one.tag.as_deref() == Some("countersign-direct")
            && one.keyid.as_ref().is_none_or(|keyid| *keyid == NAME.to_string())
            && one.alg.as_deref().is_none_or(|alg| alg == "hmac-sha256")
    });
    let expected = ours.and_then(|one| one.nonce).filter(|nonce| is_server_nonce(nonce));
    assert_eq!(found.map(|nonce| nonce.as_str().to_owned()), expected);
}
