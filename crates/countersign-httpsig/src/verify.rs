//! Reading signatures, and verifying one.

use std::convert::Infallible;

use http::{HeaderMap, HeaderName};
use sfv::visitor::{DictionaryVisitor, EntryVisitor, Ignored};
use sfv::{BareItem, Dictionary, Item, KeyRef, ListEntry, Parser};

use crate::base::signature_base;
use crate::component::Component;
use crate::error::{FormError, VerifyError};
use crate::fields::{FieldTypes, combined};
use crate::input::SignatureInput;
use crate::key::VerifyingKey;
use crate::message::Message;
use crate::sign::{SIGNATURE, SIGNATURE_INPUT};

/// A signature that a message carries. Nothing about it is verified.
#[derive(Clone, Debug, PartialEq)]
pub struct Claimed {
    /// Its label. It has no meaning of its own (RFC 9421, section 4).
    pub label: String,
    /// What it covers, and its parameters.
    pub input: SignatureInput,
    /// The signature.
    pub signature: Vec<u8>,
}

/// That a signature was right. What it says about the message holds for the covered components and for nothing else:
/// ask [`covers`](Self::covers) before you believe anything.
#[derive(Clone, Copy, Debug)]
pub struct Verified<'a> {
    input: &'a SignatureInput,
}

impl<'a> Verified<'a> {
    /// Whether this component was covered, with just these parameters.
    #[must_use]
    pub fn covers(&self, component: &Component) -> bool {
        self.input.covers(component)
    }

    /// What was covered, and the parameters.
    #[must_use]
    pub const fn input(&self) -> &'a SignatureInput {
        self.input
    }
}

impl Claimed {
    fn read(label: &str, input: &ListEntry, signature: ListEntry) -> Result<Self, FormError> {
        let input = SignatureInput::read(input)?;
        match signature {
            ListEntry::Item(Item { bare_item: BareItem::ByteSequence(signature), .. }) => {
                Ok(Self { label: label.to_owned(), input, signature })
            }
            _ => Err(FormError::Signature),
        }
    }
}

/// The signature with this label; `None` if there is none. Others may stand beside it, and are not looked at.
///
/// # Errors
/// A field has not its form; the label stands twice in one of the two fields, or in one only.
pub fn signature(fields: &HeaderMap, label: &str) -> Result<Option<Claimed>, FormError> {
    match (once(fields, &SIGNATURE_INPUT, label)?, once(fields, &SIGNATURE, label)?) {
        (None, None) => Ok(None),
        (Some(input), Some(signature)) => Claimed::read(label, &input, signature).map(Some),
        _ => Err(FormError::Labels),
    }
}

/// All signatures in these fields, in the order of `Signature-Input`.
///
/// # Errors
/// A field has not its form; a label stands twice in one of the two fields, or in one only.
pub fn signatures(fields: &HeaderMap) -> Result<Vec<Claimed>, FormError> {
    let inputs = dictionary(fields, &SIGNATURE_INPUT)?;
    let mut signatures = dictionary(fields, &SIGNATURE)?;
    if inputs.len() != signatures.len() {
        return Err(FormError::Labels);
    }
    for (name, members) in [(&SIGNATURE_INPUT, &inputs), (&SIGNATURE, &signatures)] {
        if keys(&text(fields, name)?)?.len() != members.len() {
            return Err(FormError::Repeated);
        }
    }
    inputs
        .iter()
        .map(|(label, input)| {
            let signature = signatures.swap_remove(label.as_str()).ok_or(FormError::Labels)?;
            Claimed::read(label.as_str(), input, signature)
        })
        .collect()
}

/// A member of a dictionary that must not stand there twice.
pub(crate) fn once(fields: &HeaderMap, name: &HeaderName, key: &str) -> Result<Option<ListEntry>, FormError> {
    let text = text(fields, name)?;
    if keys(&text)?.into_iter().filter(|one| *one == key).count() > 1 {
        return Err(FormError::Repeated);
    }
    Ok(parse(&text)?.swap_remove(key))
}

pub(crate) fn dictionary(fields: &HeaderMap, name: &HeaderName) -> Result<Dictionary, FormError> {
    parse(&text(fields, name)?)
}

fn text(fields: &HeaderMap, name: &HeaderName) -> Result<String, FormError> {
    let mut text = String::new();
    combined(fields, name, &mut text).map_err(|_| FormError::NotStructured)?;
    Ok(text)
}

fn parse(text: &str) -> Result<Dictionary, FormError> {
    Parser::new(text).parse().map_err(|_| FormError::NotStructured)
}

/// The keys of a dictionary, as often as they stand there: what is parsed has the last of two, and does not tell.
pub(crate) fn keys(text: &str) -> Result<Vec<&str>, FormError> {
    Parser::new(text).parse_dictionary_with_visitor(Keys(Vec::new())).map_err(|_| FormError::NotStructured)
}

struct Keys<'a>(Vec<&'a str>);

impl<'a> DictionaryVisitor<'a> for Keys<'a> {
    type Out = Vec<&'a str>;
    type Error = Infallible;

    fn entry(&mut self, key: &'a KeyRef) -> Result<impl EntryVisitor<'a>, Infallible> {
        self.0.push(key.as_str());
        Ok(Ignored)
    }

    fn finish(self) -> Result<Self::Out, Infallible> {
        Ok(self.0)
    }
}

/// Verifies one signature of a message (RFC 9421, section 3.2) with the key that the caller has chosen. Times, nonces
/// and what has to be covered are for the caller to judge.
///
/// # Errors
/// See [`VerifyError`].
pub fn verify<'a>(
    message: &Message<'_>,
    claimed: &'a Claimed,
    key: &impl VerifyingKey,
    types: &FieldTypes,
) -> Result<Verified<'a>, VerifyError> {
    if claimed.input.get_alg().is_some_and(|alg| alg != key.algorithm()) {
        return Err(VerifyError::Algorithm);
    }
    let base = signature_base(message, &claimed.input, types)?;
    if key.verify(base.as_bytes(), &claimed.signature) {
        Ok(Verified { input: &claimed.input })
    } else {
        Err(VerifyError::Mismatch)
    }
}
