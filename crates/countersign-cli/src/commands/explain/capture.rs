//! Reads a captured request leniently: what is wrong with its form is part of the explanation.

use countersign::protocol::refusal::Refusal;
use countersign::protocol::wire;
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use zeroize::Zeroizing;

/// The fields of a captured request or response. Any of them can be a secret in the wrong place.
#[derive(Default)]
pub(super) struct Captured {
    pub(super) api_key: Option<Zeroizing<String>>,
    pub(super) challenge: Option<Zeroizing<String>>,
    pub(super) signature: Option<Zeroizing<String>>,
    pub(super) client_challenge: Option<Zeroizing<String>>,
    pub(super) body: Zeroizing<Vec<u8>>,
    /// A response: what is judged is the server's proof.
    pub(super) is_response: bool,
    /// What a server says to the form, before it looks at any key.
    pub(super) refused: Option<String>,
    /// What is odd about the form.
    pub(super) notes: Vec<String>,
}

impl Captured {
    /// Raw HTTP, what `curl -v` shows of it, or a JSON body alone.
    pub(super) fn read(bytes: &[u8]) -> Self {
        let mut captured = Self::default();
        let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
        if bytes.trim_ascii_start().starts_with(b"{") {
            captured.body = Zeroizing::new(bytes.to_vec());
            captured.read_body();
            return captured;
        }
        let (head, body) = split(bytes);
        captured.body = body;
        let headers = captured.read_head(&head);
        // Beside a signature in the head, the body is the application's, whatever its members are called.
        if captured.signature.is_some() || captured.body.trim_ascii().is_empty() {
            captured.judge_headers(&headers);
        } else {
            captured.read_body();
        }
        captured
    }

    fn read_head(&mut self, head: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        for line in head.lines() {
            if line.starts_with("HTTP/") {
                self.is_response = true;
            }
            let Some((name, value)) = line.split_once(':') else { continue };
            let plain = plain(name);
            let field = match plain.as_str() {
                "xapikey" | "apikey" => (&mut self.api_key, "x-api-key"),
                "xchallenge" | "challenge" => (&mut self.challenge, "x-challenge"),
                "xsignature" | "signature" | "xsignedchallenge" | "signedchallenge" => {
                    (&mut self.signature, "x-signature")
                }
                "xclientchallenge" | "clientchallenge" => (&mut self.client_challenge, "x-client-challenge"),
                _ => continue,
            };
            let (place, right) = field;
            if !name.trim().eq_ignore_ascii_case(right) {
                self.notes.push(format!("a header is called `{}`; its name is `{right}`", shown_name(name)));
            }
            if place.is_some() {
                self.notes.push(format!("the header `{right}` comes more than once"));
            }
            let value = value.trim_matches([' ', '\t']);
            *place = Some(Zeroizing::new(value.to_owned()));
            if let (Ok(name), Ok(value)) =
                (HeaderName::try_from(name.trim()), HeaderValue::from_bytes(value.as_bytes()))
            {
                headers.append(name, value);
            }
        }
        headers
    }

    fn judge_headers(&mut self, headers: &HeaderMap) {
        if !self.is_response {
            self.refused = wire::header::presented(headers).err().and_then(said);
        }
    }

    fn read_body(&mut self) {
        let value: Value = match serde_json::from_slice(&self.body) {
            Ok(value) => value,
            Err(error) => {
                // The text of the error can repeat what is in the body.
                let (line, column) = (error.line(), error.column());
                self.notes.push(format!("the body is not JSON: line {line}, column {column}"));
                return;
            }
        };
        if !self.is_response {
            self.refused = wire::body::read_verify(self.body.trim_ascii()).err().and_then(said);
        }
        let Value::Object(members) = value else {
            self.notes.push("the body is JSON, but no object".to_owned());
            return;
        };
        for (name, value) in members {
            let (place, right) = match plain(&name).as_str() {
                "apikey" | "xapikey" => (&mut self.api_key, "apiKey"),
                "challenge" => (&mut self.challenge, "challenge"),
                "signedchallenge" | "signature" | "xsignature" => (&mut self.signature, "signedChallenge"),
                _ => continue,
            };
            if name != right {
                self.notes.push(format!("a member is called `{}`; its name is `{right}`", shown_name(&name)));
            }
            if place.is_some() {
                self.notes.push(format!("`{right}` is in the body and in a header, or comes twice"));
            }
            match value {
                Value::String(text) => *place = Some(Zeroizing::new(text)),
                _ => self.notes.push(format!("the member `{right}` is no string")),
            }
        }
    }
}

/// Head and body. Of what `curl -v` shows, the lines of the request.
fn split(bytes: &[u8]) -> (Zeroizing<String>, Zeroizing<Vec<u8>>) {
    let text = Zeroizing::new(String::from_utf8_lossy(bytes).into_owned());
    if text.lines().any(|line| line.starts_with("> ")) {
        let sent: Vec<&str> = text.lines().filter_map(|line| line.strip_prefix('>')).map(str::trim).collect();
        return (Zeroizing::new(sent.join("\n")), Zeroizing::default());
    }
    let end =
        ["\r\n\r\n", "\n\n"].into_iter().filter_map(|blank| Some((text.find(blank)?, blank.len()))).min();
    match end {
        Some((end, length)) => {
            let body = text.get(end + length..).unwrap_or_default().as_bytes().to_vec();
            (Zeroizing::new(text.get(..end).unwrap_or_default().to_owned()), Zeroizing::new(body))
        }
        None => (text, Zeroizing::default()),
    }
}

/// A name without case and separators, in which clients written by hand differ.
fn plain(name: &str) -> String {
    name.chars().filter(char::is_ascii_alphanumeric).map(|c| c.to_ascii_lowercase()).collect()
}

fn shown_name(name: &str) -> String {
    wire::printable(name.trim(), 40)
}

/// What a server says of the form of a request; it says nothing of keys here.
fn said(refusal: Refusal) -> Option<String> {
    match refusal {
        Refusal::Malformed(malformed) => Some(malformed.to_string()),
        Refusal::UnsupportedProtocol => Some("the member `protocol` belongs to another protocol".to_owned()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn fields(text: &str) -> [Option<String>; 4] {
        let Captured { api_key, challenge, signature, client_challenge, .. } =
            Captured::read(text.as_bytes());
        [api_key, challenge, signature, client_challenge].map(|field| field.map(|text| text.to_string()))
    }

    #[test]
    fn a_request_is_read_from_headers_a_body_and_what_curl_shows() {
        let some = |text: &str| Some(text.to_owned());
        let expected = [some("k"), some("c"), some("s"), None];
        let body = r#"{"apiKey":"k","challenge":"c","signedChallenge":"s"}"#;
        assert_eq!(fields(body), expected);
        assert_eq!(fields(&format!("POST /verify_challenge HTTP/1.1\r\nHost: a\r\n\r\n{body}")), expected);
        assert_eq!(fields(&format!("POST /verify_challenge HTTP/1.1\nHost: a\n\n{body}\n")), expected);
        let headers = "GET / HTTP/1.1\nX-API-Key: k\nX-Challenge: c\nX-Signature: s\nX-Client-Challenge: d";
        assert_eq!(fields(headers), [some("k"), some("c"), some("s"), some("d")]);
        let curl = "* Connected\n> GET / HTTP/1.1\n> X-API-Key: k\n> x-challenge: c\n> X-Signature: s\n>\n< HTTP/1.1 401\n< x-api-key: other\n";
        assert_eq!(fields(curl), expected);
    }

    #[test]
    fn a_body_beside_signed_headers_is_the_applications() {
        let head = "POST /pay HTTP/1.1\nX-API-Key: csk_AAAAAAAAAAAAAAAAAAAAAA\nX-Challenge: AAAAAAAAAAAAAAAAAAAAAA==";
        let signature = "0".repeat(64);
        let body = r#"{"amount":5,"signature":"of the customer","apiKey":"another"}"#;
        let text = format!("{head}\nX-Signature: {signature}\n\n{body}");
        assert_eq!(fields(&text)[2].as_ref(), Some(&signature));
        let captured = Captured::read(text.as_bytes());
        assert_eq!((captured.refused.as_deref(), captured.notes.len()), (None, 0));
        assert_eq!(captured.body.as_slice(), body.as_bytes(), "it may have been signed by mistake");
    }

    #[test]
    fn what_is_odd_about_the_form_is_noted() {
        let captured = Captured::read(br#"{"api_key":"k","signature":7}"#);
        assert!(captured.notes.iter().any(|note| note.contains("`api_key`; its name is `apiKey`")));
        assert!(captured.notes.iter().any(|note| note.contains("`signedChallenge` is no string")));
        assert!(captured.refused.is_some());
        assert!(Captured::read(b"{\"apiKey\": hunter2}").notes[0].contains("line 1, column"));
        let twice = Captured::read(b"GET / HTTP/1.1\nX-API-Key: a\nX-API-Key: b\n\n");
        assert!(twice.notes.iter().any(|note| note.contains("more than once")));
        Captured::read(b"\xff\xfe\0");
        Captured::read(b"");
    }
}
