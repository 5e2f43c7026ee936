use std::sync::Arc;

use http::{HeaderMap, Method, StatusCode};

/// One message of a handshake or a request, told with its secrets left out. Its `Display` is one or more lines
/// as `curl -v` writes them, printable whatever the server sent.
#[derive(Clone, Debug)]
pub struct Narration(String);

/// Who is told.
pub type Narrator = Arc<dyn Fn(&Narration) + Send + Sync>;

impl std::fmt::Display for Narration {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(&self.0)
    }
}

/// Headers that a narration shows as they are; of all others only the name is shown.
const SHOWN: [&str; 17] = [
    "accept-signature",
    "content-digest",
    "content-type",
    "content-length",
    "countersign-body",
    "ratelimit",
    "ratelimit-policy",
    "retry-after",
    "signature-input",
    "te",
    "trailer",
    "www-authenticate",
    "x-challenge",
    "x-client-challenge",
    "x-request-id",
    "date",
    "server",
];

impl Narration {
    pub(super) fn said(text: &str) -> Self {
        Self(format!("* {text}"))
    }

    pub(super) fn request(method: &Method, url: &http::Uri, headers: &HeaderMap) -> Self {
        Self(format!("> {method} {url}{}", lines('>', headers)))
    }

    pub(super) fn response(status: StatusCode, headers: &HeaderMap) -> Self {
        Self(format!("< {status}{}", lines('<', headers)))
    }
}

fn lines(mark: char, headers: &HeaderMap) -> String {
    headers
        .iter()
        .map(|(name, value)| {
            let shown = SHOWN.contains(&name.as_str()) && !value.is_sensitive();
            let value = if shown {
                let text = without_keyid(&String::from_utf8_lossy(value.as_bytes()));
                countersign_protocol::wire::printable(&text, 600)
            } else {
                "[not shown]".to_owned()
            };
            format!("\n{mark} {name}: {value}")
        })
        .collect()
}

/// A ticket is no secret without its keys, but it is long, and nobody's business.
fn without_keyid(text: &str) -> String {
    const START: &str = "keyid=\"";
    let Some((before, rest)) = text.split_once(START) else { return text.to_owned() };
    let after = rest.split_once('"').map_or("", |(_, after)| after);
    let kind = if rest.starts_with("cst.") { "cst" } else { "" };
    format!("{before}{START}{kind}...\"{after}")
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;

    use super::*;

    #[test]
    fn secrets_are_left_out_and_hostile_bytes_made_harmless() {
        let mut headers = HeaderMap::new();
        headers.insert("x-api-key", HeaderValue::from_static("the-key"));
        headers.insert("authorization", HeaderValue::from_static("Bearer csb.token"));
        headers.insert("set-cookie", HeaderValue::from_static("the-cookie"));
        headers.insert("server", HeaderValue::from_bytes(b"evil \xff\x80").unwrap());
        let text = Narration::response(StatusCode::OK, &headers).to_string();
        for hidden in ["the-key", "csb.token", "the-cookie"] {
            assert!(!text.contains(hidden), "{text}");
        }
        headers.insert(
            "signature-input",
            HeaderValue::from_static(
                "cs=(\"@method\");created=1;keyid=\"cst.the-ticket\";tag=\"countersign\"",
            ),
        );
        let signed = Narration::response(StatusCode::OK, &headers).to_string();
        assert!(
            signed.contains("cs=(\"@method\");created=1;keyid=\"cst...\";tag=\"countersign\""),
            "{signed}"
        );
        assert!(text.chars().all(|c| c == '\n' || c == ' ' || c.is_ascii_graphic()), "{text}");
    }
}
