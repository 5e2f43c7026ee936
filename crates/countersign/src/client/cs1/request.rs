//! Makes a request ready, and signs it.

use bytes::Bytes;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::content::content_digest;
use countersign_protocol::cs1::nonce::ServerNonce;
use countersign_protocol::cs1::request::{
    Instructions, MAX_WINDOW, Nonce, RequestParts, SigningAs, join_cookies, sign_as,
};
use countersign_protocol::cs1::stream::{COUNTERSIGN_BODY, COUNTERSIGN_BODY_MAC, STREAM};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::wire::header::{X_API_KEY, X_CHALLENGE, X_SIGNATURE};
use countersign_store::random;
use http::header::{CONNECTION, CONTENT_LENGTH, HOST, TE, TRAILER, TRANSFER_ENCODING, UPGRADE};
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request};

use super::session::{Keys, Session};
use super::upload::Upload;
use crate::client::way::{Content, Sending};
use crate::client::{BaseUrl, ClientError};

const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");
const CONTENT_DIGEST: HeaderName = HeaderName::from_static("content-digest");

/// What a caller's request must not have. `Host` would have the server look for another authority than the one that is signed.
/// Upgraded connections are not built (CS-39).
const TAKEN: [HeaderName; 8] =
    [SIGNATURE_INPUT, SIGNATURE, COUNTERSIGN_BODY, X_API_KEY, X_CHALLENGE, X_SIGNATURE, HOST, UPGRADE];

/// What changes the method for some servers: a GET with one of them need not be safe.
const OVERRIDES: [&str; 3] = ["x-http-method", "x-http-method-override", "x-method-override"];

/// A request that is ready to be signed, as often as need be.
pub(super) struct Prepared {
    parts: Parts,
    content: Held,
    authority: String,
}

enum Held {
    Whole(Bytes),
    /// Until it was sent once.
    Stream(Option<Content>),
}

/// What makes a request one, however often it goes out (CS-58).
pub(super) struct Once {
    now: UnixTime,
    random: [u8; 16],
    pub(super) of_server: Option<ServerNonce>,
}

impl Once {
    /// For a request that begins now, with a nonce of the server if there is one.
    pub(super) fn new(session: &Session, of_server: Option<ServerNonce>) -> Self {
        Self { now: session.now(), random: random(), of_server }
    }

    fn nonce(&self) -> Nonce<'_> {
        self.of_server.as_ref().map_or(Nonce::Random(self.random), Nonce::OfServer)
    }
}

/// A request that was signed: what its response is verified with.
pub(super) struct Signed {
    parts: Parts,
    authority: String,
    pub(super) responses: countersign_protocol::mac::MacKey,
}

impl Signed {
    pub(super) fn as_parts(&self) -> RequestParts<'_> {
        parts_of(&self.parts, &self.authority, &self.parts.headers)
    }
}

impl Prepared {
    /// # Errors
    /// The request has a field that is ours to set.
    pub(super) fn whole(base: &BaseUrl, request: Request<Bytes>) -> Result<Self, ClientError> {
        let (mut parts, content) = request.into_parts();
        tidy(&mut parts.headers)?;
        let digest = content_digest(&content).map_err(|_| ClientError::HeaderTaken(CONTENT_DIGEST))?;
        let mut given = parts.headers.get_all(CONTENT_DIGEST).iter();
        if given.any(|given| *given != digest) {
            return Err(ClientError::HeaderTaken(CONTENT_DIGEST));
        }
        if !content.is_empty() {
            parts.headers.insert(CONTENT_DIGEST, digest);
        }
        Ok(Self { parts, content: Held::Whole(content), authority: base.authority() })
    }

    /// # Errors
    /// The request has a field that is ours to set, or a method with which no content is sent.
    pub(super) fn stream(base: &BaseUrl, request: Request<Content>) -> Result<Self, ClientError> {
        let (mut parts, content) = request.into_parts();
        tidy(&mut parts.headers)?;
        if [Method::GET, Method::HEAD, Method::CONNECT, Method::TRACE].contains(&parts.method) {
            let method = &parts.method;
            return Err(ClientError::Unsignable(format!("content cannot be streamed with {method}")));
        }
        parts.headers.remove(CONTENT_LENGTH);
        parts.headers.insert(COUNTERSIGN_BODY, HeaderValue::from_static(STREAM));
        // HTTP/1.1 sends only the trailers that are announced.
        parts.headers.append(TRAILER, HeaderValue::from(COUNTERSIGN_BODY_MAC));
        Ok(Self { parts, content: Held::Stream(Some(content)), authority: base.authority() })
    }

    /// Whether it changes nothing (RFC 9110, section 9.2.1), as far as its method says that.
    pub(super) fn is_safe(&self) -> bool {
        let fields = &self.parts.headers;
        self.parts.method.is_safe() && !OVERRIDES.iter().any(|name| fields.contains_key(*name))
    }

    /// Whether it can go out again without doing twice what is to be done once (CS-35), and is still there.
    pub(super) fn is_repeatable(&self) -> bool {
        // Every field is covered, so this one is.
        let once = self.parts.headers.contains_key("idempotency-key");
        matches!(self.content, Held::Whole(_)) && (self.is_safe() || once)
    }

    /// Gives a stream its content back, if nothing of it was sent.
    pub(super) fn put_back(&mut self, unsent: Option<Content>) {
        if let (Held::Stream(content), Some(unsent)) = (&mut self.content, unsent) {
            *content = Some(unsent);
        }
    }

    /// Whether there is all of its content.
    pub(super) const fn is_there(&self) -> bool {
        !matches!(self.content, Held::Stream(None))
    }

    /// Signs it for one connection.
    ///
    /// # Errors
    /// [`ClientError::Unsignable`].
    pub(super) fn sign(
        &mut self,
        session: &Session,
        keys: Keys,
        once: &Once,
    ) -> Result<(Request<Sending>, Signed), ClientError> {
        let signing = SigningAs {
            key: &keys.requests,
            name: session.name(),
            now: once.now,
            // All of it: our time may be behind by as long as the handshake was held up, and a connection may have to be made.
            window: MAX_WINDOW,
            nonce: once.nonce(),
        };
        let mut parts = self.parts.clone();
        let instructions = sign_as(&signing, &parts_of(&parts, &self.authority, &parts.headers))
            .map_err(|refusal| self.unsignable(&signing, refusal))?;
        let Instructions { signature_input, signature, stream } = instructions;
        parts.headers.insert(SIGNATURE_INPUT, signature_input);
        parts.headers.insert(SIGNATURE, signature);
        let sending = match (&mut self.content, stream) {
            (Held::Whole(content), _) => Sending::held(content.clone()),
            (Held::Stream(content), Some(signer)) => {
                let content = content
                    .take()
                    .ok_or_else(|| ClientError::Unsignable("its content was sent already".to_owned()))?;
                Sending::Streamed(Box::new(Upload::new(content, signer, &parts.headers)))
            }
            (Held::Stream(_), None) => {
                return Err(ClientError::Unsignable("it is no stream".to_owned()));
            }
        };
        let request = Request::from_parts(parts.clone(), sending);
        let signed = Signed { parts, authority: self.authority.clone(), responses: keys.responses };
        Ok((request, signed))
    }

    /// Says what is wrong, by looking at one field at a time.
    fn unsignable(&self, signing: &SigningAs<'_>, refusal: Refusal) -> ClientError {
        let fields = &self.parts.headers;
        let wrong = fields.keys().find(|name| {
            let mut alone = HeaderMap::new();
            for value in fields.get_all(*name) {
                alone.append((*name).clone(), value.clone());
            }
            let parts = RequestParts { path: "/", query: None, ..parts_of(&self.parts, "x", &alone) };
            sign_as(signing, &parts).is_err()
        });
        let why = match wrong {
            Some(name) if fields.get_all(name).iter().count() > 1 => {
                format!(
                    "the field {name} stands in it more than once, and of such ones nobody knows which counts"
                )
            }
            Some(name) => format!("the value of the field {name} is not visible ASCII, or not of its form"),
            None if fields.len() > 40 => {
                "it has too many fields: at most 64 components can be signed".to_owned()
            }
            None => format!("its target has characters that must be percent-encoded ({refusal})"),
        };
        ClientError::Unsignable(why)
    }
}

/// What both sides say of the caller's fields before they are signed.
fn tidy(fields: &mut HeaderMap) -> Result<(), ClientError> {
    if let Some(name) = TAKEN.iter().find(|name| fields.contains_key(*name)) {
        return Err(ClientError::HeaderTaken(name.clone()));
    }
    // How it is sent is the business of the connection.
    for name in [CONNECTION, TRANSFER_ENCODING] {
        fields.remove(name);
    }
    join_cookies(fields);
    // A server sends trailers only to who asks for them (RFC 9110, section 6.5.1), and streams end with one.
    fields.insert(TE, HeaderValue::from_static("trailers"));
    Ok(())
}

fn parts_of<'a>(parts: &'a Parts, authority: &'a str, fields: &'a HeaderMap) -> RequestParts<'a> {
    RequestParts {
        method: parts.method.as_str(),
        authority,
        path: parts.uri.path(),
        query: parts.uri.query(),
        fields,
    }
}
