//! Signing: gives instructions, and changes no message by itself.

use http::{HeaderMap, HeaderName, HeaderValue};
use sfv::{DictSerializer, KeyRef};

use crate::base::signature_base;
use crate::error::{BaseError, FormError, SignError};
use crate::fields::FieldTypes;
use crate::input::SignatureInput;
use crate::key::SigningKey;
use crate::message::Message;
use crate::verify::dictionary;

/// The field `Signature-Input` (RFC 9421, section 4.1).
pub const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
/// The field `Signature` (RFC 9421, section 4.2).
pub const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// What has to be added to a message for it to be signed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instructions {
    /// A line of `Signature-Input`: `label=("@method" …);created=…`.
    pub signature_input: HeaderValue,
    /// A line of `Signature`: `label=:base64:`.
    pub signature: HeaderValue,
}

impl Instructions {
    /// Adds both lines. Other signatures stay.
    pub fn apply(self, fields: &mut HeaderMap) {
        fields.append(SIGNATURE_INPUT, self.signature_input);
        fields.append(SIGNATURE, self.signature);
    }
}

/// Signs a message (RFC 9421, section 3.1).
///
/// ```
/// use countersign_httpsig::{Component, FieldTypes, HmacSha256, Message, Request, SignatureInput, Target, sign};
/// # use http::HeaderMap;
/// let fields = HeaderMap::new();
/// let message = Message::Request(Request {
///     method: "GET",
///     target: Target::origin("https", "orders.example", "/invoices", None),
///     fields: &fields,
///     trailers: None,
/// });
/// let key = HmacSha256::new(&[7; 32]).ok_or("a key of any length is one")?;
/// let input = SignatureInput::new([Component::method(), Component::authority(), Component::path()])?
///     .created(1_700_000_000)?
///     .keyid("billing")?;
/// let instructions = sign(&message, "sig", &input, &key, &FieldTypes::standard())?;
/// assert_eq!(
///     instructions.signature_input,
///     r#"sig=("@method" "@authority" "@path");created=1700000000;keyid="billing""#
/// );
/// # Ok::<_, Box<dyn std::error::Error>>(())
/// ```
///
/// # Errors
/// A component that the message does not have; a label that is none, or that the message has already; `alg` of another
/// key.
pub fn sign(
    message: &Message<'_>,
    label: &str,
    input: &SignatureInput,
    key: &impl SigningKey,
    types: &FieldTypes,
) -> Result<Instructions, SignError> {
    let label = KeyRef::from_str(label).map_err(|_| SignError::Label)?;
    if input.get_alg().is_some_and(|alg| alg != key.algorithm()) {
        return Err(SignError::Algorithm);
    }
    let (fields, _) = message.fields();
    for name in [SIGNATURE_INPUT, SIGNATURE] {
        if dictionary(fields, &name).map_err(BaseError::from)?.contains_key(label.as_str()) {
            return Err(SignError::LabelTaken);
        }
    }
    let base = signature_base(message, input, types)?;
    let signature = key.sign(base.as_bytes());
    let list = input.inner_list().map_err(BaseError::from)?;
    Ok(Instructions {
        signature_input: line(|writer| {
            let mut inner = writer.inner_list(label);
            for item in &list.items {
                inner.bare_item(&item.bare_item).parameters(&item.params);
            }
            inner.finish().parameters(&list.params);
        })?,
        signature: line(|writer| {
            writer.bare_item(label, signature.as_slice());
        })?,
    })
}

/// One member of a dictionary as the line of a field.
pub(crate) fn line(write: impl FnOnce(&mut DictSerializer<String>)) -> Result<HeaderValue, BaseError> {
    let mut writer = DictSerializer::new();
    write(&mut writer);
    let text = writer.finish().unwrap_or_default();
    // What a structured field holds is printable ASCII.
    Ok(HeaderValue::try_from(text).map_err(|_| FormError::NotStructured)?)
}
