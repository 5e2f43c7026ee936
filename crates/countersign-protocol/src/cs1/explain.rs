//! Signature bases of requests, for whoever looks for what is wrong with a signature. For diagnosis only: nothing here says who
//! may pass. That is what [`Claimed::verify`](super::request::Claimed::verify) is for.

use http::HeaderMap;

use super::fields::{self, OF_REQUESTS, Sink as _};
use super::request::{DERIVED, RequestParts};

/// What a signature of a request with these fields has to cover, in the order in which we sign it (CS-24). Content asks for
/// `content-digest` beside that, whether or not the field is there.
#[must_use]
pub fn required(fields: &HeaderMap) -> Vec<&'static str> {
    let present = fields::present(&OF_REQUESTS, fields);
    let of_fields = OF_REQUESTS.iter().enumerate().filter(|(place, _)| present & 1 << place != 0);
    DERIVED.into_iter().chain(of_fields.map(|(_, name)| *name)).collect()
}

/// Whether no signature may cover this field: it changes from hop to hop, or is a proxy's to write (CS-29).
#[must_use]
pub fn is_of_hops(name: &str) -> bool {
    fields::is_of_hops(name)
}

/// The value of a component under a signature; `None` if the request does not have it, or it cannot be covered.
#[must_use]
pub fn value(parts: &RequestParts<'_>, name: &str) -> Option<Vec<u8>> {
    let mut value = Vec::new();
    parts
        .derived(name, &mut value)
        .or_else(|| fields::value(parts.fields, name, &mut value).ok())
        .map(|()| value)
}

/// The signature base over these components. `params` is what stands behind `cs=` in `Signature-Input`, as it came. A component
/// that has no value is written with an empty one.
#[must_use]
pub fn base(parts: &RequestParts<'_>, components: &[&str], params: &str) -> Vec<u8> {
    let mut base = Vec::new();
    for name in components {
        base.put(b"\"");
        base.put(name.as_bytes());
        base.put(b"\": ");
        base.extend(value(parts, name).unwrap_or_default());
        base.put(b"\n");
    }
    base.put(b"\"@signature-params\": ");
    base.put(params.as_bytes());
    base
}
