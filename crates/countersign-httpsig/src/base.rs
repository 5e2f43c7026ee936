//! The signature base (RFC 9421, section 2.5): the bytes that are signed.

use crate::component::{Component, Name, Parameter};
use crate::derive;
use crate::error::BaseError;
use crate::fields::{self, FieldTypes};
use crate::input::SignatureInput;
use crate::message::{Message, Request};

/// The signature base of a message: one line a component, and the parameters at the end. ASCII.
///
/// # Errors
/// [`BaseError`] where a component is not there or cannot be told. A signature over a part of what it claims to cover is
/// never made.
pub fn signature_base(
    message: &Message<'_>,
    input: &SignatureInput,
    types: &FieldTypes,
) -> Result<String, BaseError> {
    let mut base = String::with_capacity(512);
    for component in input.components() {
        component.write(&mut base)?;
        base.push_str(": ");
        value(component, message, types, &mut base)?;
        base.push('\n');
    }
    base.push_str("\"@signature-params\": ");
    input.write(&mut base)?;
    Ok(base)
}

/// The value of one component.
///
/// # Errors
/// As [`signature_base`].
pub fn component_value(
    component: &Component,
    message: &Message<'_>,
    types: &FieldTypes,
) -> Result<String, BaseError> {
    component.check()?;
    let mut text = String::new();
    value(component, message, types, &mut text)?;
    Ok(text)
}

fn value(
    component: &Component,
    message: &Message<'_>,
    types: &FieldTypes,
    out: &mut String,
) -> Result<(), BaseError> {
    let start = out.len();
    match (message, component.has(&Parameter::Req)) {
        (Message::Response(response), true) => {
            let request: Request<'_> = response.request.ok_or(BaseError::OtherMessage)?;
            of(component, &Message::Request(request), types, out)?;
        }
        // A request answers nothing.
        (Message::Request(_), true) => return Err(BaseError::OtherMessage),
        (_, false) => of(component, message, types, out)?,
    }
    // What comes from a target is checked as fields are: a line break would make one line pass as two.
    let written = out.get(start..).unwrap_or_default();
    if written.bytes().all(|byte| matches!(byte, b' '..=b'~' | b'\t')) {
        Ok(())
    } else {
        Err(BaseError::NotAscii)
    }
}

fn of(
    component: &Component,
    message: &Message<'_>,
    types: &FieldTypes,
    out: &mut String,
) -> Result<(), BaseError> {
    match (component.name(), message) {
        (Name::Field(name), _) => {
            let (fields, trailers) = message.fields();
            let from =
                if component.has(&Parameter::Tr) { trailers.ok_or(BaseError::Missing)? } else { fields };
            fields::value(component, name, from, types, out)
        }
        (Name::Status, Message::Response(response)) => {
            // Always three digits (RFC 9110, section 15).
            out.push_str(&format!("{:03}", response.status));
            Ok(())
        }
        (_, _) => derive::of_request(component, message.request().ok_or(BaseError::OtherMessage)?, out),
    }
}
