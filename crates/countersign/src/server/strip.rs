//! What must not travel on: credentials inwards, false identities in either direction.

use countersign_protocol::token;
use countersign_protocol::wire::header::{X_API_KEY, X_CHALLENGE, X_CLIENT_CHALLENGE, X_SIGNATURE};
use http::header::AUTHORIZATION;
use http::{HeaderMap, HeaderName};

/// What headers to upstreams begin with; nobody else may send such.
const IDENTITY: &str = "x-countersign-";
/// The same without anything behind, which is ours too.
const BARE: &str = "x-countersign";
/// Ours names the line on the trail.
pub(super) const REQUEST_ID: &str = "x-request-id";

/// Takes our credentials, whatever looks like our identity headers, and a foreign request id out of a request.
///
/// CGI (RFC 3875, section 4.1.18) makes `HTTP_X_COUNTERSIGN_SERVICE` of `X-Countersign-Service`, of
/// `X_Countersign_Service`, and with some servers of `X.Countersign.Service` or any other mark between the words:
/// a name counts whichever way it is spelled.
pub fn credentials(headers: &mut HeaderMap) {
    // However it is written there: the layer may have let the request pass for another reason.
    let mut values = headers.get_all(AUTHORIZATION).iter();
    if values.any(|value| holds_token(value.as_bytes())) {
        headers.remove(AUTHORIZATION);
    }
    let ours = [X_API_KEY, X_CHALLENGE, X_SIGNATURE, X_CLIENT_CHALLENGE];
    remove_spelled(headers, |name| {
        name.starts_with(IDENTITY)
            || [BARE, REQUEST_ID].contains(&name)
            || ours.iter().any(|ours| ours.as_str() == name)
    });
}

fn holds_token(value: &[u8]) -> bool {
    let separator = |byte: &u8| matches!(byte, b' ' | b'\t' | b',' | b'"');
    value.split(separator).any(|piece| piece.starts_with(token::PREFIX.as_bytes()))
}

/// Takes out of a handler's response what only we may say.
pub(super) fn proof(headers: &mut HeaderMap) {
    let ours = [X_API_KEY, X_SIGNATURE];
    remove_spelled(headers, |name| {
        name == REQUEST_ID || name.starts_with(IDENTITY) || ours.iter().any(|ours| ours.as_str() == name)
    });
}

/// A name as who reads all marks alike reads it.
pub(super) fn spelled(name: &HeaderName) -> String {
    name.as_str().replace(|c: char| !c.is_ascii_alphanumeric(), "-")
}

/// Removes every field whose name matches when each mark in it is read as `-`.
pub fn remove_spelled(headers: &mut HeaderMap, matches: impl Fn(&str) -> bool) {
    let doomed: Vec<HeaderName> = headers.keys().filter(|name| matches(&spelled(name))).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn credentials_and_forged_identities_are_taken_out_in_every_spelling() {
        let mut headers = HeaderMap::new();
        for name in [
            "x-api-key",
            "x_api_key",
            "x.api~key",
            "x-signature",
            "x-challenge",
            "x-client-challenge",
            "x-countersign-service",
            "x_countersign_service",
            "x-countersign_credential",
            "x.countersign.service",
            "x-countersign-anything",
            "x-countersign",
            "x_request_id",
        ] {
            headers.insert(name, http::HeaderValue::from_static("forged"));
        }
        headers.insert(AUTHORIZATION, http::HeaderValue::from_static("Bearer csb.abc"));
        headers.insert("cookie", http::HeaderValue::from_static("a=b"));
        credentials(&mut headers);
        assert_eq!(headers.keys().collect::<Vec<_>>(), ["cookie"]);
    }

    #[test]
    fn anothers_authorization_is_passed_on() {
        let mut headers = HeaderMap::new();
        headers.insert(AUTHORIZATION, http::HeaderValue::from_static("Basic dXNlcjpwYXNz"));
        credentials(&mut headers);
        assert!(headers.contains_key(AUTHORIZATION));
    }

    #[test]
    fn a_token_of_ours_does_not_travel_on_however_it_is_written() {
        for value in ["Bearer\tcsb.abc", "Basic x, Bearer csb.abc", "csb.abc", "Token \"csb.abc\""] {
            let mut headers = HeaderMap::new();
            headers.insert(AUTHORIZATION, http::HeaderValue::from_static(value));
            credentials(&mut headers);
            assert!(headers.is_empty(), "{value}");
        }
    }
}
