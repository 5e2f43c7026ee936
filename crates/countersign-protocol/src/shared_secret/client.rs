//! The caller's side of guide 1, as typed states: each takes the answer it waits for and gives the next.
//!
//! ```
//! use countersign_protocol::shared_secret::client::{Credential, start};
//! # use countersign_protocol::{identity::ApiKey, secret::SharedSecret, wire::Incoming};
//! # let (ours, theirs) = (ApiKey::generate(&[1; 16]), ApiKey::generate(&[2; 16]));
//! # let secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef");
//! let credential = Credential::new(ours, secret.mac_key(), theirs, secret.mac_key());
//! let (request, waiting) = start(&credential, Some([7; 16]));
//! assert_eq!(request.path, "/authenticate");
//! // A server that asks for a signature under anything but a challenge gets none:
//! let answer = Incoming { status: 200, headers: &Default::default(), body: br#"{"challenge":"GET /admin"}"# };
//! assert!(waiting.receive(&answer).is_err());
//! ```

use http::{HeaderMap, HeaderValue};
use subtle::ConstantTimeEq as _;

use super::{Challenge, sign};
use crate::identity::ApiKey;
use crate::mac::{MacKey, Tag};
use crate::wire::reply::{self, ReplyError, Session};
use crate::wire::{self, Incoming, Outgoing, header};

/// What the caller needs to know of one credential.
#[derive(Clone, Debug)]
pub struct Credential {
    our_key: ApiKey,
    our_secret: MacKey,
    their_key: ApiKey,
    their_secret: MacKey,
}

impl Credential {
    /// Our key and secret to prove ourselves, theirs to check the server's proof (one secret for the pair:
    /// the same twice).
    #[must_use]
    pub fn new(our_key: ApiKey, our_secret: MacKey, their_key: ApiKey, their_secret: MacKey) -> Self {
        Self { our_key, our_secret, their_key, their_secret }
    }

    /// Our key.
    #[must_use]
    pub const fn our_key(&self) -> &ApiKey {
        &self.our_key
    }
}

/// Starts the flow on the endpoints. With `client_challenge` (16 random bytes) the server has to prove itself
/// on `/verify_challenge`; without, only the caller does.
#[must_use]
pub fn start(credential: &Credential, client_challenge: Option<[u8; 16]>) -> (Outgoing, AwaitChallenge<'_>) {
    let request = Outgoing::post(wire::AUTHENTICATE, &wire::body::authenticate(credential.our_key()));
    let client_challenge = client_challenge.map(Challenge::from_bytes);
    (request, AwaitChallenge { credential, client_challenge })
}

/// Waits for the answer to `/authenticate`.
#[derive(Debug)]
pub struct AwaitChallenge<'a> {
    credential: &'a Credential,
    client_challenge: Option<Challenge>,
}

impl<'a> AwaitChallenge<'a> {
    /// Takes the challenge and signs it.
    ///
    /// # Errors
    /// Not a 200, not JSON, no challenge, or something else than a challenge to sign.
    pub fn receive(self, answer: &Incoming<'_>) -> Result<(Outgoing, AwaitVerdict<'a>), ReplyError> {
        let challenge = reply::challenge(answer)?;
        let challenge: Challenge = challenge.parse().map_err(|_| ReplyError::ForeignShape)?;
        // Asked to sign our own challenge, we would hand the server its proof.
        if self.client_challenge.as_ref() == Some(&challenge) {
            return Err(ReplyError::ForeignShape);
        }
        let Self { credential, client_challenge } = self;
        let signature = sign(&credential.our_secret, &credential.our_key, &challenge);
        let body = wire::body::verify_shared_secret(&credential.our_key, &challenge, &signature);
        let mut request = Outgoing::post(wire::VERIFY_CHALLENGE, &body);
        if let Some(client_challenge) = &client_challenge {
            request.headers.insert(header::X_CLIENT_CHALLENGE, ascii(client_challenge.as_str()));
        }
        Ok((request, AwaitVerdict { credential, client_challenge, proof_required: true }))
    }
}

/// Waits for the answer to `/verify_challenge`.
#[derive(Debug)]
pub struct AwaitVerdict<'a> {
    credential: &'a Credential,
    client_challenge: Option<Challenge>,
    proof_required: bool,
}

impl AwaitVerdict<'_> {
    /// Goes on with a server that gives no proof at all (a stranger's that knows only the guide). A proof that
    /// is given must still be right. Danger: an impostor gives none.
    #[must_use]
    pub fn danger_accept_unproven_server(mut self) -> Self {
        self.proof_required = false;
        self
    }

    /// Takes the verdict, and checks the server's proof if one was asked for.
    ///
    /// # Errors
    /// Not a 200, `"authenticated": false`, or a server that did not prove itself.
    pub fn receive(self, answer: &Incoming<'_>) -> Result<Session, ReplyError> {
        let session = reply::session(answer)?;
        if let Some(challenge) = &self.client_challenge {
            match check_server(self.credential, challenge, answer.headers) {
                Err(ReplyError::ServerUnproven) if !self.proof_required => {}
                checked => checked?,
            }
        }
        Ok(session)
    }
}

/// Checks the server's `X-API-Key` and `X-Signature` against the challenge that we sent.
///
/// # Errors
/// [`ReplyError::ServerUnproven`] without them, [`ReplyError::ServerImpostor`] if they are not right.
pub fn check_server(
    credential: &Credential,
    challenge: &Challenge,
    headers: &HeaderMap,
) -> Result<(), ReplyError> {
    let single = |name| wire::header::single(headers, name).map_err(|_| ReplyError::ServerImpostor);
    let (key, signature) = (single(&header::X_API_KEY)?, single(&header::X_SIGNATURE)?);
    let (Some(key), Some(signature)) = (key, signature) else { return Err(ReplyError::ServerUnproven) };
    let key: ApiKey = key.parse().map_err(|_| ReplyError::ServerImpostor)?;
    let signature = Tag::from_hex(signature).ok_or(ReplyError::ServerImpostor)?;
    let expected = sign(&credential.their_secret, &credential.their_key, challenge);
    if bool::from(key.ct_eq(&credential.their_key) & expected.ct_eq(&signature)) {
        Ok(())
    } else {
        Err(ReplyError::ServerImpostor)
    }
}

/// The flow on a protected route: first the key alone …
#[must_use]
pub fn knock(credential: &Credential) -> HeaderMap {
    let mut headers = HeaderMap::new();
    headers.insert(header::X_API_KEY, secret(credential.our_key.expose()));
    headers
}

/// … then, from the 401, the three headers that answer its challenge.
///
/// # Errors
/// Not a 401, or no challenge in its `WWW-Authenticate`.
pub fn answer(credential: &Credential, refusal: &Incoming<'_>) -> Result<HeaderMap, ReplyError> {
    if refusal.status != 401 {
        return Err(ReplyError::status(refusal));
    }
    let challenge = wire::www_authenticate::challenge(refusal.headers).ok_or(ReplyError::NoChallenge)?;
    let challenge: Challenge = challenge.parse().map_err(|_| ReplyError::ForeignShape)?;
    let signature = sign(&credential.our_secret, &credential.our_key, &challenge);
    let mut headers = knock(credential);
    headers.insert(header::X_CHALLENGE, ascii(challenge.as_str()));
    headers.insert(header::X_SIGNATURE, secret(&signature.to_hex()));
    Ok(headers)
}

fn ascii(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).unwrap_or_else(|_| unreachable!("checked to be visible ASCII"))
}

/// Marked sensitive, so that HTTP/2 does not put it into a compression table and logs redact it.
fn secret(text: &str) -> HeaderValue {
    let mut value = ascii(text);
    value.set_sensitive(true);
    value
}
