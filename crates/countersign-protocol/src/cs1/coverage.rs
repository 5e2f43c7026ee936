//! What a verified signature covered, to be kept beside the message.

use http::{HeaderMap, HeaderName, HeaderValue};

use super::content::ContentRule;
use super::fields::parameters;

/// What of a verified message is still to be done, and to be known: it no longer borrows the fields. Made only of one that was
/// verified.
#[derive(Clone, Debug)]
#[non_exhaustive]
pub struct Kept {
    /// What the content has to be.
    pub content: ContentRule,
    /// Which fields were signed.
    pub coverage: Coverage,
}

/// Which fields of a message were signed (CS-48). It is kept where the message is handed on, so that a handler can ask. Made
/// only of a verified message; cloning is cheap.
#[derive(Clone, Debug)]
pub struct Coverage {
    /// `Signature-Input`, in the one form that the profile has.
    input: HeaderValue,
    of: Of,
}

/// Requests have no component with parameters, responses have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Of {
    Request,
    Response,
}

impl Coverage {
    /// `fields` are those that were verified.
    pub(super) fn of(fields: &HeaderMap, of: Of) -> Self {
        // It is there, or nothing was verified; an empty one covers nothing.
        let input = fields.get("signature-input").cloned().unwrap_or(HeaderValue::from_static(""));
        Self { input, of }
    }

    /// Whether this field was signed. What was not, anybody on the way may have put there.
    #[must_use]
    pub fn covers(&self, field: &HeaderName) -> bool {
        let name = field.as_str();
        let parameters = if self.of == Of::Response { parameters(name.as_bytes()) } else { "" };
        // No verified name has a parenthesis or a space in it.
        let list = self.input.to_str().ok().and_then(|input| input.strip_prefix("cs=(")?.split(')').next());
        list.is_some_and(|list| {
            list.split(' ').any(|component| {
                let after = component.strip_prefix('"').and_then(|rest| rest.strip_prefix(name));
                after.and_then(|rest| rest.strip_prefix('"')) == Some(parameters)
            })
        })
    }
}
