//! Reading signatures, and verifying one.

use http::{HeaderMap, HeaderName};
use sfv::{BareItem, Dictionary, ListEntry, Parser};

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

/// All signatures in these fields, in the order of `Signature-Input`.
///
/// # Errors
/// A field has not its form, or a label stands in one of the two fields only.
pub fn signatures(fields: &HeaderMap) -> Result<Vec<Claimed>, FormError> {
    let inputs = dictionary(fields, &SIGNATURE_INPUT)?;
    let mut signatures = dictionary(fields, &SIGNATURE)?;
    if inputs.len() != signatures.len() {
        return Err(FormError::Labels);
    }
    inputs
        .iter()
        .map(|(label, entry)| {
            let input = SignatureInput::read(entry)?;
            let signature = signatures.swap_remove(label.as_str()).ok_or(FormError::Labels)?;
            match signature {
                ListEntry::Item(item) => match item.bare_item {
                    BareItem::ByteSequence(signature) => {
                        Ok(Claimed { label: label.as_str().to_owned(), input, signature })
                    }
                    _ => Err(FormError::Signature),
                },
                ListEntry::InnerList(_) => Err(FormError::Signature),
            }
        })
        .collect()
}

pub(crate) fn dictionary(fields: &HeaderMap, name: &HeaderName) -> Result<Dictionary, FormError> {
    let mut text = String::new();
    combined(fields, name, &mut text).map_err(|_| FormError::NotStructured)?;
    if text.is_empty() {
        return Ok(Dictionary::new());
    }
    Parser::new(&text).parse().map_err(|_| FormError::NotStructured)
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
