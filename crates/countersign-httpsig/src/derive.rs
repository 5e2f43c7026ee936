//! Derived components (RFC 9421, section 2.2).

use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

use crate::component::{Component, Name};
use crate::error::{BaseError, FormError};
use crate::message::{Request, Target};

/// What `application/x-www-form-urlencoded` leaves as it is (WHATWG URL), with `%20` for a space.
const FORM: &AsciiSet = &NON_ALPHANUMERIC.remove(b'*').remove(b'-').remove(b'.').remove(b'_');

/// Name or value of a query parameter as it stands in a signature base (section 2.2.8).
pub(crate) fn encode_query(text: &str) -> String {
    utf8_percent_encode(text, FORM).to_string()
}

/// The value of a derived component of a request.
pub(crate) fn of_request(
    component: &Component,
    request: &Request<'_>,
    out: &mut String,
) -> Result<(), BaseError> {
    let target = &request.target;
    match component.name() {
        Name::Method => out.push_str(request.method),
        Name::Scheme => push_lower(out, target.scheme),
        Name::Authority => authority(target, out),
        Name::Path => out.push_str(path(target)),
        Name::Query => query(target, out),
        Name::RequestTarget => match target.request_target {
            Some(line) => out.push_str(line),
            None => origin_form(target, out),
        },
        Name::TargetUri => {
            push_lower(out, target.scheme);
            out.push_str("://");
            authority(target, out);
            origin_form(target, out);
        }
        Name::QueryParam => {
            let name = component.query_name().ok_or(FormError::ParameterElsewhere)?;
            out.push_str(&query_param(target, name)?);
        }
        Name::Status | Name::Field(_) => return Err(BaseError::OtherMessage),
    }
    Ok(())
}

fn push_lower(out: &mut String, text: &str) {
    out.extend(text.chars().map(|character| character.to_ascii_lowercase()));
}

/// Section 2.2.3: normalised as RFC 9110, section 4.2.3, says.
fn authority(target: &Target<'_>, out: &mut String) {
    let default = if target.scheme.eq_ignore_ascii_case("https") {
        ":443"
    } else if target.scheme.eq_ignore_ascii_case("http") {
        ":80"
    } else {
        ""
    };
    let authority = target.authority.strip_suffix(default).unwrap_or(target.authority);
    // An empty port is none.
    push_lower(out, authority.strip_suffix(':').unwrap_or(authority));
}

const fn path<'a>(target: &Target<'a>) -> &'a str {
    if target.path.is_empty() { "/" } else { target.path }
}

/// Section 2.2.7: with its `?`, and nothing but that where there is none.
fn query(target: &Target<'_>, out: &mut String) {
    out.push('?');
    out.push_str(target.query.unwrap_or_default());
}

fn origin_form(target: &Target<'_>, out: &mut String) {
    out.push_str(path(target));
    if target.query.is_some() {
        query(target, out);
    }
}

/// Section 2.2.8: the one value of the parameter with this name.
fn query_param(target: &Target<'_>, name: &str) -> Result<String, BaseError> {
    let query = target.query.unwrap_or_default();
    let mut values = form_urlencoded::parse(query.as_bytes())
        .filter(|(one, _)| encode_query(one) == name)
        .map(|(_, value)| encode_query(&value));
    let value = values.next().ok_or(BaseError::Missing)?;
    if values.next().is_some() { Err(BaseError::Repeated) } else { Ok(value) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn authority_of(scheme: &str, authority: &str) -> String {
        let mut out = String::new();
        super::authority(&Target::origin(scheme, authority, "/", None), &mut out);
        out
    }

    #[test]
    fn an_authority_is_in_lower_case_and_without_the_default_port_of_its_scheme() {
        assert_eq!(authority_of("https", "Orders.Example:443"), "orders.example");
        assert_eq!(authority_of("HTTPS", "orders.example:8443"), "orders.example:8443");
        assert_eq!(authority_of("https", "orders.example:80"), "orders.example:80");
        assert_eq!(authority_of("http", "orders.example:80"), "orders.example");
        assert_eq!(authority_of("https", "orders.example:"), "orders.example");
        assert_eq!(authority_of("https", "[::1]:443"), "[::1]");
        assert_eq!(authority_of("https", "[::443]"), "[::443]");
    }

    #[test]
    fn a_port_that_only_ends_like_the_default_one_stays() {
        assert_eq!(authority_of("https", "orders.example:1443"), "orders.example:1443");
    }
}
