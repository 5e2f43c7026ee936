//! A captured response, and what its signature says of itself, read leniently.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::protocol::cs1::request::{DIRECT_TAG, TAG};
use countersign::protocol::wire::printable;
use http::HeaderMap;
use zeroize::Zeroizing;

use super::claim::{Claim, pieces, split_list};
use super::message::{header, split};

/// A captured response.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) fields: HeaderMap,
    /// `None` where only the head was captured.
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// What is odd about it.
    pub(super) notes: Vec<String>,
}

const NO_RESPONSE: &str = "there is no response in this: give its whole head, from `HTTP/1.1 200 OK` on, or what `curl -v` shows of it";

impl Answer {
    /// Raw HTTP, or what `curl -v` shows of it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, body) = split(bytes, b"< ");
        let head = String::from_utf8_lossy(&head).into_owned();
        let lines = head.lines().map(|line| line.trim_end_matches('\r'));
        let mut lines = lines.skip_while(|line| line.is_empty());
        let first = lines.next().unwrap_or_default();
        let status = match first.strip_prefix(":status:") {
            Some(status) => status.trim(),
            None if first.starts_with("HTTP/") => first.split(' ').nth(1).unwrap_or_default(),
            None => return Err(NO_RESPONSE),
        };
        let status = status.parse().ok().filter(|status| (100..=999).contains(status)).ok_or(NO_RESPONSE)?;
        let mut answer =
            Self { status, fields: HeaderMap::new(), body: body.map(Zeroizing::new), notes: Vec::new() };
        for line in lines {
            header(line, &mut answer.fields, &mut answer.notes);
        }
        Ok(answer)
    }
}

/// The signature of a response, as it came.
#[derive(Default)]
pub(super) struct AnswerClaim {
    /// What it covers, as it is written.
    pub(super) components: Vec<String>,
    /// The value of `@signature-params`, and of that what stands behind the list.
    pub(super) params: String,
    pub(super) tail: String,
    pub(super) created: Option<u64>,
    keyid: Option<String>,
    tag: Option<String>,
    /// 32 bytes, or something else.
    pub(super) signature: Option<[u8; 32]>,
    /// What a client refuses about the form.
    pub(super) faults: Vec<String>,
}

impl AnswerClaim {
    /// `None` if the response has no signature at all. `request` is what the request says of its own.
    pub(super) fn read(fields: &HeaderMap, request: &Claim) -> Option<Self> {
        let mut claim = Self::default();
        let input = claim.line(fields, "signature-input");
        let signature = claim.line(fields, "signature");
        if input.is_none() && signature.is_none() {
            return None;
        }
        match input {
            Some(input) => claim.input(&input),
            None => claim.fault("there is no header `Signature-Input`: it says what the signature covers"),
        }
        match signature {
            Some(signature) => claim.mac(&signature),
            None => claim.fault("there is no header `Signature`"),
        }
        claim.compare(request);
        Some(claim)
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    fn line(&mut self, fields: &HeaderMap, name: &str) -> Option<String> {
        let mut lines = fields.get_all(name).iter();
        let first = lines.next()?;
        if lines.next().is_some() {
            self.fault(format!("the header `{name}` stands on more than one line"));
        }
        Some(String::from_utf8_lossy(first.as_bytes()).into_owned())
    }

    fn input(&mut self, input: &str) {
        let Some(params) = input.strip_prefix("cs=") else {
            return self.fault("`Signature-Input` is not `cs=(...);created=...`");
        };
        let Some((list, tail)) = params.strip_prefix('(').and_then(split_list) else {
            return self.fault("`Signature-Input` has no list of components in parentheses");
        };
        (self.params, self.tail) = (params.to_owned(), tail.to_owned());
        self.components = pieces(list, ' ').into_iter().map(str::to_owned).collect();
        for parameter in pieces(tail, ';').into_iter().filter(|parameter| !parameter.is_empty()) {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let text = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).map(str::to_owned);
            match key {
                "created" => self.created = value.parse().ok(),
                "keyid" => self.keyid = text,
                "tag" => self.tag = text,
                "alg" if text.as_deref() == Some("hmac-sha256") => {}
                _ => self.fault(format!(
                    "the parameter `{}` is not one that a response has: created, keyid, tag, alg",
                    printable(key, 40)
                )),
            }
        }
        if self.created.is_none() {
            self.fault("`created` is missing, or no whole number of seconds");
        }
    }

    /// With what the request says: the answer's key is that of the request, in the other direction (CS-55).
    fn compare(&mut self, request: &Claim) {
        if self.params.is_empty() {
            return;
        }
        let is_direct = request.tag.as_deref() == Some(DIRECT_TAG);
        let expected = if is_direct { DIRECT_TAG } else { TAG };
        if self.tag.as_deref() != Some(expected) {
            self.fault(format!("`tag` is not \"{expected}\", as in the request"));
        }
        match (is_direct, self.keyid.is_some(), self.keyid == request.keyid) {
            (true, _, false) => {
                self.fault("`keyid` is not that of the request, as it has to be without a handshake");
            }
            (false, true, _) => self.fault("there is a `keyid`: the answer in a session has none"),
            _ => {}
        }
    }

    fn mac(&mut self, value: &str) {
        let encoded = value.strip_prefix("cs=:").and_then(|rest| rest.strip_suffix(':'));
        self.signature =
            encoded.and_then(|text| STANDARD.decode(text).ok()).and_then(|bytes| bytes.try_into().ok());
        if self.signature.is_none() {
            self.fault("`Signature` is not `cs=:BASE64:` of 32 bytes");
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use super::*;

    #[test]
    fn a_response_is_read_as_raw_http_as_curl_shows_it_and_with_the_names_of_http_2() {
        let raw = "HTTP/1.1 201 Created\r\nX-A: 1\r\n\r\n{}";
        let curl = "> GET / HTTP/2\n> x-a: 2\n>\n< HTTP/2 201 \n< x-a: 1\n<\n";
        for text in [raw, curl, ":status: 201\nx-a: 1\n"] {
            let answer = Answer::read(text.as_bytes()).unwrap();
            assert_eq!(
                (answer.status, answer.fields.get("x-a").unwrap().as_bytes()),
                (201, &b"1"[..]),
                "{text}"
            );
            assert!(answer.notes.is_empty());
        }
        assert_eq!(Answer::read(raw.as_bytes()).unwrap().body.unwrap().as_slice(), b"{}");
        for text in ["", "GET / HTTP/1.1\n", "HTTP/1.1\n", "HTTP/1.1 OK\n", "HTTP/1.1 99 x\n", "{}", "\u{ff}"]
        {
            assert!(Answer::read(text.as_bytes()).is_err(), "{text:?}");
        }
    }
}
