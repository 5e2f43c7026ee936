//! What must hold for every message and every text.

#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken case ends the test")]

use countersign_httpsig::digest::{CONTENT_DIGEST, Digests, WANT_CONTENT_DIGEST, wanted};
use countersign_httpsig::{
    Component, FieldTypes, HmacSha256, Message, Request, SignatureInput, Target, VerifyError, requested,
    sign, signature_base, signatures, verify,
};
use http::{HeaderMap, HeaderName, HeaderValue};
use proptest::prelude::*;

const NAMES: [&str; 4] = ["content-type", "x-one", "x-two", "date"];

#[derive(Clone, Debug)]
struct Sample {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    lines: Vec<(&'static str, String)>,
}

fn sample() -> impl Strategy<Value = Sample> {
    let lines = prop::collection::vec((prop::sample::select(&NAMES[..]), "[ -~]{0,20}"), 0..6);
    let target =
        ("[a-z]{1,8}(:[0-9]{1,5})?", "(/[!-~&&[^#?]]{0,6}){0,3}", prop::option::of("[!-~&&[^#]]{0,12}"));
    ("[A-Z]{1,7}", target, lines).prop_map(|(method, (authority, path, query), lines)| Sample {
        method,
        authority,
        path,
        query,
        lines,
    })
}

impl Sample {
    fn fields(&self) -> HeaderMap {
        let mut fields = HeaderMap::new();
        for (name, value) in &self.lines {
            fields.append(HeaderName::from_static(name), HeaderValue::try_from(value).unwrap());
        }
        fields
    }

    fn message<'a>(&'a self, fields: &'a HeaderMap) -> Message<'a> {
        let target = Target::origin("https", &self.authority, &self.path, self.query.as_deref());
        Message::Request(Request { method: &self.method, target, fields, trailers: None })
    }

    /// Everything that it has.
    fn components(&self) -> Vec<Component> {
        let mut components =
            vec![Component::method(), Component::authority(), Component::path(), Component::query()];
        for name in NAMES {
            if self.lines.iter().any(|(one, _)| *one == name) {
                components.push(Component::field(HeaderName::from_static(name)).bytes());
            }
        }
        components
    }
}

proptest! {
    /// Two messages that differ in anything that is covered never have one signature base.
    #[test]
    fn what_is_covered_cannot_be_changed(one in sample(), changed in sample(), what in 0..5u8) {
        let mut other = one.clone();
        match what {
            0 => other.method = changed.method,
            1 => other.authority = changed.authority,
            2 => other.path = changed.path,
            3 => other.query = changed.query,
            _ => other.lines = changed.lines,
        }
        let input = SignatureInput::new(one.components()).unwrap().created(1).unwrap();
        let (fields, others) = (one.fields(), other.fields());
        let key = HmacSha256::new(&[7; 32]).unwrap();
        let types = FieldTypes::standard();
        let mut signed = fields.clone();
        sign(&one.message(&fields), "cs", &input, &key, &types).unwrap().apply(&mut signed);
        let claimed = signatures(&signed).unwrap();
        let claimed = claimed.first().unwrap();
        prop_assert!(verify(&one.message(&signed), claimed, &key, &types).is_ok());
        let same = signature_base(&other.message(&others), &input, &types)
            == signature_base(&one.message(&fields), &input, &types);
        let accepted = verify(&other.message(&others), claimed, &key, &types).is_ok();
        prop_assert_eq!(accepted, same);
        let trimmed = |sample: &Sample| {
            let mut lines: Vec<(&str, String)> =
                sample.lines.iter().map(|(name, value)| (*name, value.trim().to_owned())).collect();
            // Lines of one field keep their order, and fields have none.
            lines.sort_by_key(|(name, _)| *name);
            let path = if sample.path.is_empty() { "/" } else { &sample.path };
            let authority = sample.authority.strip_suffix(":443").unwrap_or(&sample.authority);
            let query = sample.query.clone().unwrap_or_default();
            (sample.method.clone(), authority.to_owned(), path.to_owned(), query, lines)
        };
        // Fields that only the other one has are not covered.
        let mut more = trimmed(&other);
        more.4.retain(|(name, _)| one.lines.iter().any(|(covered, _)| covered == name));
        prop_assert_eq!(same, trimmed(&one) == more);
    }

    #[test]
    fn a_flipped_bit_is_no_signature(sample in sample(), at in any::<prop::sample::Index>(), bit in 0..8u8) {
        let fields = sample.fields();
        let input = SignatureInput::new(sample.components()).unwrap();
        let key = HmacSha256::new(&[7; 32]).unwrap();
        let types = FieldTypes::standard();
        let mut signed = fields.clone();
        sign(&sample.message(&fields), "cs", &input, &key, &types).unwrap().apply(&mut signed);
        let mut claimed = signatures(&signed).unwrap().remove(0);
        let at = at.index(claimed.signature.len());
        *claimed.signature.get_mut(at).unwrap() ^= 1u8 << bit;
        let refused = verify(&sample.message(&signed), &claimed, &key, &types).map(|_| ());
        prop_assert_eq!(refused, Err(VerifyError::Mismatch));
        let short = claimed.signature.len() - 1;
        claimed.signature.truncate(short);
        let refused = verify(&sample.message(&signed), &claimed, &key, &types).map(|_| ());
        prop_assert_eq!(refused, Err(VerifyError::Mismatch));
    }

    /// A line of the base is one line, whatever stands in the message.
    #[test]
    fn a_base_has_a_line_a_component(sample in sample()) {
        let fields = sample.fields();
        let input = SignatureInput::new(sample.components()).unwrap();
        let base = signature_base(&sample.message(&fields), &input, &FieldTypes::standard()).unwrap();
        prop_assert_eq!(base.lines().count(), sample.components().len() + 1);
        for (line, component) in base.lines().zip(sample.components()) {
            let start = format!("{component}: ");
            prop_assert!(line.starts_with(&start));
        }
    }

    #[test]
    fn a_component_is_read_as_it_is_written(text in "\"[@a-z-]{1,14}\"(;(sf|bs|tr|req|key=\"[ -~&&[^\"\\\\]]{0,5}\"|name=\"[a-z]{0,3}\")){0,3}") {
        if let Ok(component) = text.parse::<Component>() {
            let again: Component = component.to_string().parse().unwrap();
            prop_assert_eq!(&again, &component);
        }
    }

    #[test]
    fn no_field_makes_a_reader_panic(text in "[ -~]{0,80}") {
        let mut fields = HeaderMap::new();
        let value = HeaderValue::try_from(text).unwrap();
        for name in ["signature-input", "signature", "accept-signature", "content-digest", "want-content-digest"] {
            fields.insert(HeaderName::from_static(name), value.clone());
        }
        let _ = signatures(&fields);
        let _ = wanted(&fields, &WANT_CONTENT_DIGEST);
        let _ = Digests::read(&fields, &CONTENT_DIGEST);
        // What is asked for is asked for again in the same words.
        for asked in requested(&fields).unwrap_or_default() {
            let mut again = HeaderMap::new();
            again.insert("accept-signature", asked.to_value().unwrap());
            prop_assert_eq!(requested(&again).unwrap(), vec![asked]);
        }
    }
}
