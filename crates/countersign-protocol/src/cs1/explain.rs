//! Signature bases of requests and responses, for whoever looks for what is wrong with a signature. For diagnosis only: nothing here says who
//! may pass. That is what [`Claimed::verify`](super::request::Claimed::verify) is for.

use http::HeaderMap;

use super::fields::{self, OF_REQUESTS, OF_RESPONSES, Sink as _};
use super::lines::Lines;
use super::request::{DERIVED, RequestParts};
use super::response::{self, ResponseParts};

/// What a signature of a request with these fields has to cover, in the order in which we sign it (CS-24). Content asks for
/// `content-digest` beside that, whether or not the field is there.
#[must_use]
pub fn required(fields: &HeaderMap) -> Vec<&'static str> {
    DERIVED.into_iter().chain(fields::present(&OF_REQUESTS, fields)).collect()
}

/// Whether no signature may cover this field: it changes from hop to hop, or is a proxy's to write (CS-29).
#[must_use]
pub fn is_of_hops(name: &str) -> bool {
    fields::is_of_hops(name.as_bytes())
}

/// The value of a component under a signature; `None` if the request does not have it, or it cannot be covered.
#[must_use]
pub fn value(parts: &RequestParts<'_>, name: &str) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    parts
        .derived(name.as_bytes(), &mut value)
        .or_else(|| {
            fields::value(Lines::of_message(parts.fields).of(name.as_bytes()), name.as_bytes(), &mut value)
                .ok()
        })
        .map(|()| value)
}

/// The signature base over these components. `params` is what stands behind `cs=` in `Signature-Input`, as it came. A component
/// that has no value is written with an empty one.
#[must_use]
pub fn base(parts: &RequestParts<'_>, components: &[&str], params: &str) -> Vec<u8> {
    let quoted: Vec<_> = components.iter().map(|name| format!("\"{name}\"")).collect();
    let lines = quoted.iter().zip(components);
    written(lines.map(|(shown, name)| (shown.as_str(), value(parts, name))), params)
}

/// What a signature of a response with these fields has to cover, each component as it is written, in the order in which we
/// sign them (CS-33). Content asks for `"content-digest"` beside that, whether or not the field is there.
#[must_use]
pub fn required_of_response(fields: &HeaderMap) -> Vec<String> {
    let of_fields = fields::present(&OF_RESPONSES, fields)
        .map(|name| format!("\"{name}\"{}", fields::parameters(name.as_bytes())));
    response::always_covered().map(str::to_owned).chain(of_fields).collect()
}

/// The value of a component, as it is written, under the signature of a response; `None` if neither the response nor its
/// request has it, or it cannot be covered.
#[must_use]
pub fn value_of_response(parts: &ResponseParts<'_>, component: &str) -> Option<Vec<u8>> {
    response::component_value(parts, component)
}

/// The signature base of a response over these components, written as in `Signature-Input`. `params` is what stands behind
/// `cs=` there. A component that has no value is written with an empty one.
#[must_use]
pub fn base_of_response(parts: &ResponseParts<'_>, components: &[&str], params: &str) -> Vec<u8> {
    written(components.iter().map(|component| (*component, value_of_response(parts, component))), params)
}

/// Lines of components and their values, and the last line (RFC 9421, section 2.5).
fn written<'a>(lines: impl Iterator<Item = (&'a str, Option<Vec<u8>>)>, params: &str) -> Vec<u8> {
    let mut base = Vec::new();
    for (component, value) in lines {
        base.put(component.as_bytes());
        base.put(b": ");
        base.extend(value.unwrap_or_default());
        base.put(b"\n");
    }
    base.put(b"\"@signature-params\": ");
    base.put(params.as_bytes());
    base
}
