//! `WWW-Authenticate: Countersign realm="…", challenge="…", expires_in="30"` (RFC 9110, section 11.6.1).

use http::HeaderMap;
use http::header::WWW_AUTHENTICATE;

use crate::identity::ServiceName;
use crate::shared_secret::{Challenge, Lifetime};

/// The name of the authentication scheme.
pub const SCHEME: &str = "Countersign";

/// The field's value, with a challenge where the caller can answer one.
#[must_use]
pub fn write(realm: &ServiceName, challenge: Option<(&Challenge, Lifetime)>) -> String {
    // A realm is [a-z0-9-] and a challenge is base64: nothing needs escaping.
    match challenge {
        Some((challenge, lifetime)) => {
            let seconds = lifetime.as_secs();
            format!("{SCHEME} realm=\"{realm}\", challenge=\"{challenge}\", expires_in=\"{seconds}\"")
        }
        None => format!("{SCHEME} realm=\"{realm}\""),
    }
}

/// The `challenge` parameter of the first `Countersign` challenge in these headers.
#[must_use]
pub fn challenge(headers: &HeaderMap) -> Option<String> {
    headers
        .get_all(WWW_AUTHENTICATE)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .find_map(|text| parameter(text, SCHEME, "challenge"))
}

/// Finds `name` among the parameters of `scheme` in a list of authentication challenges.
fn parameter(text: &str, scheme: &str, name: &str) -> Option<String> {
    let mut rest = text;
    let mut ours = false;
    loop {
        rest = rest.trim_start_matches([' ', '\t', ',']);
        if rest.is_empty() {
            return None;
        }
        let (token, after) = token(rest)?;
        let after_equals = after.trim_start_matches([' ', '\t']).strip_prefix('=');
        match after_equals {
            // `token = value` is a parameter …
            Some(value) => {
                let (value, after) = parameter_value(value.trim_start_matches([' ', '\t']))?;
                if ours && token.eq_ignore_ascii_case(name) {
                    return Some(value);
                }
                rest = after;
            }
            // … and a token alone begins the next scheme.
            None => {
                ours = token.eq_ignore_ascii_case(scheme);
                rest = after;
            }
        }
    }
}

/// A token of RFC 9110, section 5.6.2, or a token68 (section 11.2, it may hold a `/`) up to its padding, and what
/// follows it; `None` where there is none.
fn token(text: &str) -> Option<(&str, &str)> {
    let end = text
        .find(|c: char| !(c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~/".contains(c)))
        .unwrap_or(text.len());
    if end == 0 { None } else { text.split_at_checked(end) }
}

/// A token or a quoted string (section 5.6.4), without quotes and backslashes. A token68 (section 11.2) reads
/// up to its next delimiter.
fn parameter_value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([',', ' ', '\t']).unwrap_or(text.len());
        let (value, rest) = text.split_at_checked(end)?;
        return Some((value.to_owned(), rest));
    };
    let mut value = String::new();
    let mut characters = quoted.char_indices();
    while let Some((index, c)) = characters.next() {
        match c {
            '"' => return Some((value, quoted.get(index + 1..)?)),
            '\\' => value.push(characters.next()?.1),
            other => value.push(other),
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_challenge_is_found_among_other_schemes_and_parameters() {
        for text in [
            r#"Countersign realm="orders", challenge="abc", expires_in="30""#,
            r#"Basic realm="a, challenge=\"no\"", countersign challenge=abc"#,
            r#"Negotiate dG9rZW4=, Countersign  challenge = "a\bc""#,
            r#"Countersign challenge="abc",Bearer challenge="no""#,
        ] {
            assert_eq!(parameter(text, SCHEME, "challenge").as_deref(), Some("abc"), "{text}");
        }
    }

    #[test]
    fn anothers_challenge_is_not_taken() {
        for text in
            ["", ",,", "Bearer challenge=\"no\"", "Countersign", "Countersign challenge=\"open", "=\"x\""]
        {
            assert_eq!(parameter(text, SCHEME, "challenge"), None, "{text}");
        }
    }
}
