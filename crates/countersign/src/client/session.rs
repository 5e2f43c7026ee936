use std::fmt;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_audit::{AuditSink, Direction, Outcome, Record};
use countersign_protocol::identity::{CredentialId, Profile};
use countersign_protocol::mac::encode_hex;
use countersign_protocol::wire::header::{X_API_KEY, X_CHALLENGE, X_SIGNATURE};
use countersign_protocol::wire::reply::{ReplyError, Session};
use countersign_protocol::wire::www_authenticate::SCHEME;
use countersign_protocol::{shared_secret, token};
use countersign_store::{Peer, random};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming as Body;
use tokio::sync::Mutex;

use super::connector::{HttpClient, http_client};
use super::handshake::{Failure, Handshake, Proof, Wire, bearer};
use super::narrate::Narrator;
use super::{BaseUrl, ClientError};

/// How long a session lasts when the server does not say.
const UNSTATED: Duration = Duration::from_secs(60);

/// Calls one peer. Cheap to clone; all clones share connections and session.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    base: BaseUrl,
    profile: Profile,
    credential: CredentialId,
    proof: Proof,
    http: HttpClient,
    timeout: Duration,
    audit: Option<Arc<dyn AuditSink>>,
    narrator: Option<Narrator>,
    current: Mutex<Option<Current>>,
}

#[derive(Clone)]
struct Current {
    handshake: Arc<Handshake>,
    until: Instant,
}

/// Makes a [`Client`].
pub struct Builder {
    timeout: Duration,
    audit: Option<Arc<dyn AuditSink>>,
    narrator: Option<Narrator>,
}

impl Builder {
    /// How long each step may take: a message of the handshake, the head of a response. Default: 30 seconds.
    #[must_use]
    pub fn timeout(mut self, timeout: Duration) -> Self {
        self.timeout = timeout;
        self
    }

    /// Writes every handshake to this trail. Default: none.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Tells every message, without its secrets. Default: nobody.
    #[must_use]
    pub fn narrator(mut self, narrator: Narrator) -> Self {
        self.narrator = Some(narrator);
        self
    }

    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// The peer has no URL or no key of ours, or its trust cannot be used.
    pub fn build(self, peer: &Peer) -> Result<Client, ClientError> {
        let url = peer.url.as_deref().ok_or_else(|| ClientError::NoUrl(peer.name.to_string()))?;
        let number = peer.credentials.last().map_or(0, |credential| credential.number);
        Ok(Client(Arc::new(Inner {
            base: BaseUrl::parse(url)?,
            profile: peer.profile,
            credential: CredentialId { peer: peer.name.clone(), number },
            proof: Proof::of(peer)?,
            http: http_client(&peer.trust)?,
            timeout: self.timeout,
            audit: self.audit,
            narrator: self.narrator,
            current: Mutex::new(None),
        })))
    }
}

impl Client {
    /// A client for `peer` with the defaults of [`Builder`].
    ///
    /// # Errors
    /// As [`Builder::build`].
    pub fn new(peer: &Peer) -> Result<Self, ClientError> {
        Self::builder().build(peer)
    }

    /// Starts making one.
    #[must_use]
    pub fn builder() -> Builder {
        Builder { timeout: Duration::from_secs(30), audit: None, narrator: None }
    }

    /// Authenticates if need be, and sends `request`. Its URI is either a path below the peer's URL
    /// (`/orders/42`) or a full URL that lies below it.
    ///
    /// The response is as far verified as the profile can: the server proved itself before the request was sent
    /// (`shared-secret`), or TLS alone says who it is (`api-key`). Its body streams.
    ///
    /// # Errors
    /// See [`ClientError`]. A response of any status is not an error.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>, ClientError> {
        let inner = &*self.0;
        *request.uri_mut() = inner.target(request.uri())?;
        let again = request.method().is_idempotent();
        let taken = [AUTHORIZATION, X_API_KEY, X_CHALLENGE, X_SIGNATURE];
        if let Some(name) = taken.iter().find(|name| request.headers().contains_key(*name)) {
            return Err(ClientError::HeaderTaken(name.clone()));
        }
        let handshake = self.handshake(None).await?;
        let response = inner.dispatch(&handshake, request.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED || !may_be_stale(&handshake, &response, again) {
            return Ok(response);
        }
        // The token was good a moment ago: the server restarted, or revoked it. A 401 has changed nothing, so
        // the request may go out once more, after one new handshake.
        let handshake = self.handshake(Some(&handshake)).await?;
        inner.dispatch(&handshake, request).await
    }

    /// The session to use: the current one unless it is `stale`, else a new one. Of concurrent callers one
    /// makes the handshake and the others wait for it.
    async fn handshake(&self, stale: Option<&Arc<Handshake>>) -> Result<Arc<Handshake>, ClientError> {
        let inner = &*self.0;
        let mut current = inner.current.lock().await;
        if let Some(Current { handshake, until }) = &*current {
            let usable = stale.is_none_or(|stale| !Arc::ptr_eq(stale, handshake));
            if usable && Instant::now() < *until {
                return Ok(Arc::clone(handshake));
            }
        }
        *current = None;
        let handshake = Arc::new(inner.shake().await?);
        let until = Instant::now() + lifetime(&handshake);
        *current = Some(Current { handshake: Arc::clone(&handshake), until });
        Ok(handshake)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.0.base).finish_non_exhaustive()
    }
}

impl Inner {
    fn wire(&self) -> Wire<'_> {
        Wire { http: &self.http, base: &self.base, narrator: self.narrator.as_ref(), timeout: self.timeout }
    }

    /// The full URL of a request, which must lie below the peer's.
    fn target(&self, uri: &http::Uri) -> Result<http::Uri, ClientError> {
        let path = uri.path_and_query().map_or("/", |path| path.as_str());
        if uri.authority().is_none() {
            return self.base.below(path);
        }
        let (origin, path) = BaseUrl::split(&uri.to_string())?;
        if !self.base.covers(&origin, &path) {
            return Err(ClientError::Elsewhere);
        }
        self.base.at_origin(&path)
    }

    async fn shake(&self) -> Result<Handshake, ClientError> {
        let result = self.wire().shake(&self.proof).await;
        // A server without endpoints has taken no proof yet: its trail is written request by request.
        if !matches!(result, Ok(Handshake::PerRequest)) {
            self.record("handshake", result.as_ref().err())?;
        }
        result.map_err(|failure| self.explain(failure))
    }

    /// Guide 1 on the route itself.
    async fn signed(
        &self,
        credential: &shared_secret::client::Credential,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, ClientError> {
        let result = self.wire().per_request(credential, request).await;
        let refused = match &result {
            Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                let status = response.status().as_u16();
                Some(&Failure::Protocol(ReplyError::Status { status, title: None }))
            }
            Ok(_) => None,
            Err(failure) => Some(failure),
        };
        self.record("request", refused)?;
        result.map_err(|failure| self.explain(failure))
    }

    fn record(&self, step: &str, failure: Option<&Failure>) -> Result<(), ClientError> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let (outcome, reason, detail) = match failure {
            None => (Outcome::Accepted, "accepted", None),
            Some(Failure::Network(error)) => (Outcome::Refused, "unreachable", Some(error.to_string())),
            Some(Failure::Protocol(error)) => {
                (Outcome::Refused, reason(error), Some(self.discreet(error).to_string()))
            }
        };
        audit.record(&Record {
            direction: Direction::Outbound,
            service: Some(self.credential.peer.to_string()),
            credential: Some(self.credential.to_string()),
            profile: Some(self.profile),
            step: step.to_owned(),
            source: None,
            outcome,
            reason: reason.to_owned(),
            detail,
            request_id: encode_hex(&random::<16>()),
        })?;
        Ok(())
    }

    fn explain(&self, failure: Failure) -> ClientError {
        match failure {
            Failure::Network(error) => error,
            Failure::Protocol(error) => {
                let error = self.discreet(&error);
                ClientError::Handshake { url: self.base.to_string(), profile: self.profile, error }
            }
        }
    }

    /// What a server writes about its refusal is shown and recorded, but not if it repeats a key that is a secret.
    fn discreet(&self, error: &ReplyError) -> ReplyError {
        match (error, &self.proof) {
            (ReplyError::Status { status, title: Some(title) }, Proof::ApiKey(key))
                if title.contains(key.expose()) =>
            {
                ReplyError::Status {
                    status: *status,
                    title: Some("(it repeats our key: not shown)".to_owned()),
                }
            }
            _ => error.clone(),
        }
    }

    async fn dispatch(
        &self,
        handshake: &Handshake,
        mut request: Request<Bytes>,
    ) -> Result<Response<Body>, ClientError> {
        let wire = self.wire();
        let signed_each = match (handshake, &self.proof) {
            (Handshake::PerRequest, Proof::SharedSecret { credential, .. }) => Some(credential),
            _ => None,
        };
        if let Some(credential) = signed_each {
            return self.signed(credential, request).await;
        }
        let token = match handshake {
            Handshake::Session(Session { token: Some(token), .. }) => bearer(token.expose()),
            _ => None,
        };
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token);
            return wire.send(request).await;
        }
        // No token: the request goes without credentials, as the guides have it. A server of guide 1 that then
        // asks for a challenge to be signed on the route gets that; it has proved itself already.
        let response = wire.send(request.clone()).await?;
        match &self.proof {
            Proof::SharedSecret { credential, .. } if response.status() == StatusCode::UNAUTHORIZED => {
                self.signed(credential, request).await
            }
            _ => Ok(response),
        }
    }
}

/// Whether a 401 can mean that the session ended: a token was sent, and the answer asks for our scheme or, as
/// strangers' servers do, for none at all. One that asks for another scheme comes from the service behind, and so
/// does one that asks for none where the token is of our kind: our own server always names the scheme. Where none
/// is named, nothing says that the request has changed nothing, so only an idempotent one may go out `again`.
fn may_be_stale(handshake: &Handshake, response: &Response<Body>, again: bool) -> bool {
    let Handshake::Session(Session { token: Some(token), .. }) = handshake else { return false };
    let mut asked = response.headers().get_all(WWW_AUTHENTICATE).iter().peekable();
    let ours = |value: &http::HeaderValue| {
        value
            .as_bytes()
            .get(..SCHEME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME.as_bytes()))
    };
    match asked.peek() {
        None => again && !token.expose().starts_with(token::PREFIX),
        Some(_) => asked.any(ours),
    }
}

/// A little less than the server grants, so that a token does not end on its way.
fn lifetime(handshake: &Handshake) -> Duration {
    match handshake {
        Handshake::Session(Session { expires_in: Some(seconds), .. }) => {
            let granted = Duration::from_secs((*seconds).min(24 * 60 * 60));
            granted - (granted / 5).min(Duration::from_secs(10))
        }
        _ => UNSTATED,
    }
}

/// The reason on the trail.
fn reason(error: &ReplyError) -> &'static str {
    match error {
        ReplyError::Status { .. } => "refused-by-server",
        ReplyError::NotAuthenticated => "not-authenticated",
        ReplyError::ServerUnproven => "server-unproven",
        ReplyError::ServerImpostor => "server-impostor",
        ReplyError::ForeignShape => "foreign-challenge",
        _ => "bad-answer",
    }
}
