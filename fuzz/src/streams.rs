//! `cs1`: content that is not held, and the trailers behind it. What is signed is computed here a second time.

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::KeyName;
use countersign_protocol::cs1::content::ContentRule;
use countersign_protocol::cs1::request::{Claimed, Nonce, RequestParts, SigningAs, sign_as};
use countersign_protocol::lp;
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use http::{HeaderMap, HeaderValue};
use sha2::{Digest as _, Sha256};

use crate::input;

const NOW: UnixTime = UnixTime(1_800_000_000);
const MAC: &str = "countersign-body-mac";

fn parts(fields: &HeaderMap) -> RequestParts<'_> {
    RequestParts { method: "PUT", authority: "orders.example", path: "/files", query: None, fields }
}

/// CS-38 and CS-52, as they are written there. `HeaderMap` iterates with the lines of one name together and in their order.
fn expected(key: &MacKey, signature: &HeaderValue, content: &[u8], trailers: &HeaderMap) -> String {
    let mut lines: Vec<(&str, &[u8])> =
        trailers.iter().map(|(name, value)| (name.as_str(), value.as_bytes())).collect();
    lines.retain(|(name, _)| *name != MAC);
    lines.sort_by_key(|(name, _)| *name);
    let lines: Vec<u8> =
        lines.iter().flat_map(|(name, value)| [name.as_bytes(), b": ", value, b"\n"].concat()).collect();
    let signature = STANDARD.decode(&signature.as_bytes()[4..signature.len() - 1]).unwrap();
    let length = (content.len() as u64).to_be_bytes();
    let message = [&lp(&[&signature])[..], &length, &lp(&[&Sha256::digest(content), &lines])].concat();
    let body_key = MacKey::new(key.mac(&[&lp(&[b"body"]), &[1]]).as_bytes());
    URL_SAFE_NO_PAD.encode(body_key.mac(&[&message]).as_bytes())
}

/// The content, and the trailers as they came. They are right exactly if our own is there once and is the one that both
/// sides compute; whoever signs gives that one.
pub(crate) fn stream(input: &[u8]) {
    let (content, lines) = input::two(input);
    let trailers = input::headers(lines);
    let key = MacKey::new(&[7; 32]);
    let mut fields = HeaderMap::new();
    fields.insert("countersign-body", HeaderValue::from_static("stream"));
    let name = KeyName::Direct { client: "csk_AAAAAAAAAAAA", server: "csk_BBBBBBBBBBBB" };
    let signing = SigningAs { key: &key, name, now: NOW, window: 20, nonce: Nonce::Random([1; 16]) };
    let made = sign_as(&signing, &parts(&fields)).unwrap();
    fields.insert("signature-input", made.signature_input);
    fields.insert("signature", made.signature.clone());
    let claimed = Claimed::read(&fields).unwrap().unwrap();
    let verified =
        claimed.verify(&key, &parts(&fields), NOW).unwrap().claim(&[0; 16], |_, _| Ok(())).unwrap();
    let rule = verified.keep().content;
    let ContentRule::Stream(_) = rule else { panic!("not a stream") };

    let right = expected(&key, &made.signature, content, &trailers);
    let finish = |trailers: &HeaderMap, content: &[u8], size: usize| {
        let mut check = rule.check();
        content.chunks(size).for_each(|piece| check.update(piece));
        check.finish_with(Some(trailers))
    };
    let came: Vec<_> = trailers.get_all(MAC).iter().collect();
    let is_right = came.len() == 1 && came[0] == right.as_str();
    let refused = Err(Refusal::DigestMismatch);
    assert_eq!(finish(&trailers, content, 7), if is_right { Ok(()) } else { refused });

    let mut signer = made.stream.unwrap();
    content.chunks(3).for_each(|piece| signer.update(piece));
    assert_eq!(signer.clone().finish(&trailers).is_ok(), came.is_empty());
    let mut others = trailers;
    others.remove(MAC);
    assert_eq!(signer.finish(&others).unwrap(), right.as_str());
    others.insert(MAC, HeaderValue::try_from(right).unwrap());
    assert_eq!(finish(&others, content, 1024), Ok(()));
    assert_eq!(finish(&others, &[content, b"x"].concat(), 7), refused);
    others.append("x-added", HeaderValue::from_static(""));
    assert_eq!(finish(&others, content, 7), refused);
}
