//! Reads a captured request as a server would have it, and leniently: what is odd about it is part of the explanation.

use countersign::protocol::cs1::request::{RequestParts, join_cookies};
use countersign::protocol::wire::printable;
use http::{HeaderMap, HeaderName, HeaderValue};
use zeroize::Zeroizing;

/// A captured request.
#[derive(Default)]
pub(super) struct Message {
    pub(super) method: String,
    /// As it was sent, without the query.
    pub(super) path: String,
    pub(super) query: Option<String>,
    /// Where it was sent to, as it says: an absolute target, `:authority` or `Host`.
    pub(super) host: Option<String>,
    pub(super) fields: HeaderMap,
    /// `None` where only the head was captured.
    pub(super) body: Option<Zeroizing<Vec<u8>>>,
    /// What is odd about it.
    pub(super) notes: Vec<String>,
}

impl Message {
    /// Raw HTTP, or what `curl -v` shows of it.
    pub(super) fn read(bytes: &[u8]) -> Result<Self, &'static str> {
        let (head, body) = split(bytes, b"> ");
        let head = Zeroizing::new(String::from_utf8_lossy(&head).into_owned());
        let mut message = Self { body: body.map(Zeroizing::new), ..Self::default() };
        let mut lines =
            head.lines().map(|line| line.trim_end_matches('\r')).skip_while(|line| line.is_empty());
        let mut next = lines.next();
        if let Some(first) = next.filter(|line| !line.starts_with(':')) {
            message.target(first)?;
            next = lines.next();
        }
        for line in next.into_iter().chain(lines) {
            message.field(line);
        }
        if message.method.is_empty() || message.path.is_empty() {
            return Err(NO_REQUEST);
        }
        if message.host.is_none() {
            message.host = message.fields.get("host").and_then(|host| host.to_str().ok()).map(str::to_owned);
        }
        if message.fields.get_all("host").iter().count() > 1 {
            message.notes.push("the header `host` comes more than once: the server refuses it".to_owned());
        }
        join_cookies(&mut message.fields);
        Ok(message)
    }

    /// `METHOD TARGET HTTP/1.1`
    fn target(&mut self, line: &str) -> Result<(), &'static str> {
        if line.starts_with("HTTP/") {
            return Err("this is a response: give the request that was refused");
        }
        let mut words = line.split(' ');
        let (Some(method), Some(target)) = (words.next(), words.next()) else { return Err(NO_REQUEST) };
        if method.contains(':') || target.is_empty() {
            return Err(NO_REQUEST);
        }
        self.method = method.to_owned();
        if words.next().is_some_and(|version| !version.starts_with("HTTP/")) {
            self.notes.push("the request line has a space in its target".to_owned());
        }
        self.split_target(target);
        Ok(())
    }

    fn split_target(&mut self, target: &str) {
        let mut rest = target;
        if let Some((_, absolute)) = target.split_once("://").filter(|_| !target.starts_with('/')) {
            let end = absolute.find(['/', '?']).unwrap_or(absolute.len());
            self.host = absolute.get(..end).map(str::to_owned);
            rest = absolute.get(end..).unwrap_or_default();
        }
        let (path, query) = rest.split_once('?').map_or((rest, None), |(path, query)| (path, Some(query)));
        self.path = if path.is_empty() { "/".to_owned() } else { path.to_owned() };
        self.query = query.map(str::to_owned);
    }

    fn field(&mut self, line: &str) {
        if let Some((name, value)) = line.strip_prefix(':').and_then(|line| line.split_once(':')) {
            match (name, value.trim()) {
                ("method", value) => self.method = value.to_owned(),
                ("authority", value) => self.host = Some(value.to_owned()),
                ("path", value) => self.split_target(value),
                _ => {}
            }
            return;
        }
        header(line, &mut self.fields, &mut self.notes);
    }

    /// As it is signed under this authority and path.
    pub(super) fn parts<'a>(&'a self, authority: &'a str, path: &'a str) -> RequestParts<'a> {
        let Self { method, query, fields, .. } = self;
        RequestParts { method, authority, path, query: query.as_deref(), fields }
    }
}

/// One header.
pub(super) fn header(line: &str, fields: &mut HeaderMap, notes: &mut Vec<String>) {
    let Some((name, value)) = line.split_once(':') else {
        if !line.trim().is_empty() {
            notes.push("a line of the head is no header: was it folded or cut off?".to_owned());
        }
        return;
    };
    let value = value.trim_matches([' ', '\t']);
    match (HeaderName::try_from(name), HeaderValue::from_bytes(value.as_bytes())) {
        (Ok(name), Ok(value)) => {
            fields.append(name, value);
        }
        _ => notes.push(format!("the header `{}` cannot be sent like this", printable(name.trim(), 40))),
    }
}

const NO_REQUEST: &str = "there is no request line in this: give the whole head of the request, from `POST /path HTTP/1.1` on, or what `curl -v` shows of it";

/// Head and content. Of what `curl -v` shows, the lines of one side, which have no content.
pub(super) fn split(bytes: &[u8], side: &[u8]) -> (Zeroizing<Vec<u8>>, Option<Vec<u8>>) {
    let bytes = bytes.strip_prefix(b"\xef\xbb\xbf").unwrap_or(bytes);
    let sent = |line: &[u8]| line.strip_prefix(side).map(<[u8]>::to_vec);
    let is_shown = bytes.split(|byte| *byte == b'\n').any(|line| line.starts_with(side));
    if is_shown {
        let lines: Vec<Vec<u8>> = bytes.split(|byte| *byte == b'\n').filter_map(sent).collect();
        return (Zeroizing::new(lines.join(&b'\n')), None);
    }
    let end = |blank: &[u8]| {
        bytes.windows(blank.len()).position(|window| window == blank).map(|at| (at, blank.len()))
    };
    match [end(b"\r\n\r\n"), end(b"\n\n")].into_iter().flatten().min() {
        Some((at, length)) => {
            let (head, rest) = bytes.split_at_checked(at).unwrap_or((bytes, b""));
            (Zeroizing::new(head.to_vec()), Some(rest.get(length..).unwrap_or_default().to_vec()))
        }
        None => (Zeroizing::new(bytes.to_vec()), None),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use super::*;

    #[test]
    fn a_request_is_read_as_raw_http_as_curl_shows_it_and_with_the_names_of_http_2() {
        let raw = "POST /a/b?c=d HTTP/1.1\r\nHost: Orders.Example\r\nX-A: 1\r\n\r\n{\"a\":\"\u{e4}\"}";
        let curl = "* Connected\n> POST /a/b?c=d HTTP/2\n> Host: Orders.Example\n> x-a: 1\n>\n< HTTP/2 401\n< x-a: 2\n";
        let http2 = ":method: POST\n:scheme: https\n:authority: Orders.Example\n:path: /a/b?c=d\nx-a: 1\n";
        let absolute = "POST https://Orders.Example/a/b?c=d HTTP/1.1\nx-a: 1\n";
        for text in [raw, curl, http2, absolute] {
            let message = Message::read(text.as_bytes()).unwrap();
            assert_eq!((&*message.method, &*message.path), ("POST", "/a/b"), "{text}");
            assert_eq!(
                (message.query.as_deref(), message.host.as_deref()),
                (Some("c=d"), Some("Orders.Example"))
            );
            assert_eq!(message.fields.get_all("x-a").iter().count(), 1, "{text}");
            assert!(message.notes.is_empty());
        }
        let body = Message::read(raw.as_bytes()).unwrap().body.unwrap();
        assert_eq!(body.as_slice(), "{\"a\":\"\u{e4}\"}".as_bytes());
        assert!(Message::read(curl.as_bytes()).unwrap().body.is_none());
        let bytes = [b"PUT / HTTP/1.1\nhost: a\n\n".as_slice(), &[0xff, 0, 0xfe]].concat();
        assert_eq!(Message::read(&bytes).unwrap().body.unwrap().as_slice(), [0xff, 0, 0xfe]);
    }

    #[test]
    fn what_is_no_request_is_told_as_such() {
        for text in ["", "\n", "{\"a\":1}", "Host: a\nx: y\n", "HTTP/1.1 200 OK\n\n", "GET", "\u{ff}\0"] {
            assert!(Message::read(text.as_bytes()).is_err(), "{text:?}");
        }
        let odd =
            Message::read(b"GET /a b HTTP/1.1\nHost: a\nHost: b\n folded\nno name\n: x\nx y: z\n").unwrap();
        assert!(odd.notes.len() >= 4, "{:?}", odd.notes);
    }
}
