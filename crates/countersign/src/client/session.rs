use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_audit::{AuditSink, Direction, Outcome, Record};
use countersign_protocol::mac::encode_hex;
use countersign_protocol::token;
use countersign_protocol::wire::header::{X_API_KEY, X_CHALLENGE, X_SIGNATURE};
use countersign_protocol::wire::reply::{ReplyError, Session};
use countersign_protocol::wire::www_authenticate::SCHEME;
use countersign_store::{Peer, PeerStore, random};
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{Request, Response, StatusCode};
use hyper::body::Incoming as Body;
use tokio::sync::Mutex;

use super::follow::Follow;
use super::handshake::{Failure, Handshake, Proof, Wire, bearer};
use super::known::{Known, Plan, Refused};
use super::narrate::Narrator;
use super::{BaseUrl, ClientError};

/// How long a session lasts when the server does not say.
const UNSTATED: Duration = Duration::from_secs(60);

/// Calls one peer. Cheap to clone; all clones share connections and session.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    known: RwLock<Arc<Known>>,
    follow: Option<Follow>,
    refused: Refused,
    timeout: Duration,
    audit: Option<Arc<dyn AuditSink>>,
    narrator: Option<Narrator>,
    current: Mutex<Option<Arc<Current>>>,
}

/// A session, and what it was made with.
struct Current {
    known: Arc<Known>,
    plan: Arc<Plan>,
    handshake: Handshake,
    until: Instant,
}

/// Makes a [`Client`].
pub struct Builder {
    timeout: Duration,
    audit: Option<Arc<dyn AuditSink>>,
    narrator: Option<Narrator>,
    store: Option<Arc<dyn PeerStore>>,
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

    /// Follows the peer in this store: what changes there (a rotation, a revocation, another URL) is in effect within
    /// a quarter of a second, and the store learns which credential the peer takes. Default: the peer as it was given
    /// stays, and is shut out when the next rotation has ended.
    #[must_use]
    pub fn follow(mut self, store: Arc<dyn PeerStore>) -> Self {
        self.store = Some(store);
        self
    }

    /// Makes the client; nothing is sent yet.
    ///
    /// # Errors
    /// The peer has no URL or no key of ours, or its trust cannot be used.
    pub fn build(self, peer: &Peer) -> Result<Client, ClientError> {
        Ok(Client(Arc::new(Inner {
            known: RwLock::new(Arc::new(Known::of(peer, None)?)),
            follow: self.store.map(|store| Follow::new(store, peer.name.clone())),
            refused: Refused::default(),
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
        Builder { timeout: Duration::from_secs(30), audit: None, narrator: None, store: None }
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
        let known = inner.known().await?;
        *request.uri_mut() = known.target(request.uri())?;
        let again = request.method().is_idempotent();
        let taken = [AUTHORIZATION, X_API_KEY, X_CHALLENGE, X_SIGNATURE];
        if let Some(name) = taken.iter().find(|name| request.headers().contains_key(*name)) {
            return Err(ClientError::HeaderTaken(name.clone()));
        }
        let session = self.session(&known, None).await?;
        let response = inner.dispatch(&session, request.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED
            || !may_be_stale(&session.handshake, &response, again)
        {
            return Ok(response);
        }
        // The token was good a moment ago: the server restarted, or revoked it. A 401 has changed nothing, so
        // the request may go out once more, after one new handshake.
        let session = self.session(&known, Some(&session)).await?;
        inner.dispatch(&session, request).await
    }

    /// The session to use: the current one unless it is `stale` or made with what is not known any more, else a new
    /// one. Of concurrent callers one makes the handshake and the others wait for it.
    async fn session(
        &self,
        known: &Arc<Known>,
        stale: Option<&Arc<Current>>,
    ) -> Result<Arc<Current>, ClientError> {
        let inner = &*self.0;
        let mut current = inner.current.lock().await;
        if let Some(session) = &*current {
            let usable = stale.is_none_or(|stale| !Arc::ptr_eq(stale, session));
            // Whoever read an older state than the one that made the session has nothing to say about it.
            let good = Arc::ptr_eq(&session.known, known) || inner.latest().has(&session.plan);
            if usable && good && Instant::now() < session.until {
                return Ok(Arc::clone(session));
            }
        }
        *current = None;
        let session = match inner.shake(known).await {
            // Being shut out makes it look: what the server takes now may have come a moment ago.
            Err(error) if is_refusal(&error) => match inner.newer(known).await? {
                Some(newer) => inner.shake(&newer).await?,
                None => return Err(error),
            },
            made => made?,
        };
        let session = Arc::new(session);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("base", &self.0.latest().base).finish_non_exhaustive()
    }
}

impl Known {
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
}

impl Inner {
    fn latest(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The peer as it is now, as far as a store is followed: a change may go unseen for a moment.
    async fn known(&self) -> Result<Arc<Known>, ClientError> {
        let known = self.latest();
        let Some(follow) = &self.follow.as_ref().filter(|follow| follow.is_time()) else { return Ok(known) };
        Ok(self.look(follow, &known).await?.unwrap_or(known))
    }

    /// The peer as it is at this very moment, if that is not what was known.
    async fn newer(&self, known: &Arc<Known>) -> Result<Option<Arc<Known>>, ClientError> {
        let Some(follow) = &self.follow else { return Ok(None) };
        let latest = self.latest();
        let newer = self.look(follow, &latest).await?.unwrap_or(latest);
        Ok(Some(newer).filter(|newer| !Arc::ptr_eq(newer, known)))
    }

    async fn look(&self, follow: &Follow, known: &Known) -> Result<Option<Arc<Known>>, ClientError> {
        let Some(newer) = follow.look(known).await? else { return Ok(None) };
        let newer = Arc::new(newer);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = Arc::clone(&newer);
        Ok(Some(newer))
    }

    fn wire<'a>(&'a self, known: &'a Known) -> Wire<'a> {
        Wire { http: &known.http, base: &known.base, narrator: self.narrator.as_ref(), timeout: self.timeout }
    }

    /// A new session, with the first of our credentials that the peer takes.
    async fn shake(&self, known: &Arc<Known>) -> Result<Current, ClientError> {
        let mut plans = self.refused.order(&known.plans).into_iter().peekable();
        loop {
            let Some(plan) = plans.next() else {
                // `Known` always has a plan.
                return Err(ClientError::NoCredential(String::new()));
            };
            let result = self.wire(known).shake(&plan.proof).await;
            // A server without endpoints has taken no proof yet: its trail is written request by request.
            if !matches!(result, Ok(Handshake::PerRequest)) {
                self.record("handshake", known, &plan, result.as_ref().err()).await?;
            }
            match result {
                Ok(handshake) => {
                    if !matches!(handshake, Handshake::PerRequest) {
                        self.taken(&plan).await;
                    }
                    let until = Instant::now() + lifetime(&handshake);
                    return Ok(Current { known: Arc::clone(known), plan, handshake, until });
                }
                Err(failure) if failure.is_refusal() => {
                    self.refused.set(&plan, true);
                    if plans.peek().is_none() {
                        return Err(explain(known, &plan, failure));
                    }
                }
                Err(failure) => return Err(explain(known, &plan, failure)),
            }
        }
    }

    /// The peer has taken this credential.
    async fn taken(&self, plan: &Plan) {
        self.refused.set(plan, false);
        if let Some(follow) = &self.follow
            && plan.proof.is_proved()
        {
            follow.note(plan).await;
        }
    }

    /// Guide 1 on the route itself; once more if all that was known is refused, and something else is known now.
    async fn signed(
        &self,
        known: &Arc<Known>,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, ClientError> {
        let (response, again) = self.signed_as(known, &request).await?;
        if again && let Some(newer) = self.newer(known).await? {
            return Ok(self.signed_as(&newer, &request).await?.0);
        }
        Ok(response)
    }

    /// Guide 1 on the route itself, with the first of our credentials that the peer takes; whether it may go out again
    /// if it took none. A 401 that does not ask for a proof of ours may come from the service behind: only an
    /// idempotent request then goes out again.
    async fn signed_as(
        &self,
        known: &Arc<Known>,
        request: &Request<Bytes>,
    ) -> Result<(Response<Body>, bool), ClientError> {
        let mut plans = self.refused.order(&known.plans).into_iter().peekable();
        while let Some(plan) = plans.next() {
            let Proof::SharedSecret { credential, .. } = &plan.proof else { continue };
            let result = self.wire(known).per_request(credential, request.clone()).await;
            let refused = match &result {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                    let status = response.status().as_u16();
                    Some(&Failure::Protocol(ReplyError::Status { status, title: None }))
                }
                Ok(_) => None,
                Err(failure) => Some(failure),
            };
            self.record("request", known, &plan, refused).await?;
            let response = result.map_err(|failure| explain(known, &plan, failure))?;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.taken(&plan).await;
                return Ok((response, false));
            }
            self.refused.set(&plan, true);
            let unprocessed = asks_for_us(&response).unwrap_or_else(|| request.method().is_idempotent());
            if plans.peek().is_none() || !unprocessed {
                return Ok((response, unprocessed));
            }
        }
        let peer = known.plans.first().map(|plan| plan.id.peer.to_string());
        Err(ClientError::NoCredential(peer.unwrap_or_default()))
    }

    async fn record(
        &self,
        step: &str,
        known: &Known,
        plan: &Plan,
        failure: Option<&Failure>,
    ) -> Result<(), ClientError> {
        let Some(audit) = &self.audit else { return Ok(()) };
        let (outcome, reason, detail) = match failure {
            None => (Outcome::Accepted, "accepted", None),
            Some(Failure::Network(error)) => (Outcome::Refused, "unreachable", Some(error.to_string())),
            Some(Failure::Protocol(error)) => {
                (Outcome::Refused, reason(error), Some(discreet(error, &plan.proof).to_string()))
            }
        };
        let record = Record {
            service: Some(plan.id.peer.to_string()),
            credential: Some(plan.id.to_string()),
            profile: Some(known.profile),
            detail,
            request_id: encode_hex(&random::<16>()),
            ..Record::new(Direction::Outbound, step, outcome, reason)
        };
        Ok(audit.submit(record).await?)
    }

    async fn dispatch(
        &self,
        session: &Current,
        mut request: Request<Bytes>,
    ) -> Result<Response<Body>, ClientError> {
        let wire = self.wire(&session.known);
        if matches!(session.handshake, Handshake::PerRequest) {
            return self.signed(&session.known, request).await;
        }
        let token = match &session.handshake {
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
        match &session.plan.proof {
            Proof::SharedSecret { .. } if response.status() == StatusCode::UNAUTHORIZED => {
                self.signed(&session.known, request).await
            }
            _ => Ok(response),
        }
    }
}

/// Whether the server refused what we proved ourselves with, rather than something else being wrong.
const fn is_refusal(error: &ClientError) -> bool {
    matches!(
        error,
        ClientError::Handshake {
            error: ReplyError::Status { status: 401 | 403, .. } | ReplyError::NotAuthenticated,
            ..
        }
    )
}

fn explain(known: &Known, plan: &Plan, failure: Failure) -> ClientError {
    match failure {
        Failure::Network(error) => error,
        Failure::Protocol(error) => {
            let error = discreet(&error, &plan.proof);
            ClientError::Handshake { url: known.base.to_string(), profile: known.profile, error }
        }
    }
}

/// What a server writes about its refusal is shown and recorded, but not if it repeats a key that is a secret.
fn discreet(error: &ReplyError, proof: &Proof) -> ReplyError {
    match (error, proof) {
        (ReplyError::Status { status, title: Some(title) }, Proof::ApiKey(key))
            if title.contains(key.expose()) =>
        {
            ReplyError::Status { status: *status, title: Some("(it repeats our key: not shown)".to_owned()) }
        }
        _ => error.clone(),
    }
}

/// Whether a 401 can mean that the session ended: a token was sent, and the answer asks for our scheme or, as
/// strangers' servers do, for none at all. One that asks for another scheme comes from the service behind, and so
/// does one that asks for none where the token is of our kind: our own server always names the scheme. Where none
/// is named, nothing says that the request has changed nothing, so only an idempotent one may go out `again`.
fn may_be_stale(handshake: &Handshake, response: &Response<Body>, again: bool) -> bool {
    let Handshake::Session(Session { token: Some(token), .. }) = handshake else { return false };
    asks_for_us(response).unwrap_or_else(|| again && !token.expose().starts_with(token::PREFIX))
}

/// Whether a 401 asks for our scheme; `None` if it asks for none at all.
fn asks_for_us(response: &Response<Body>) -> Option<bool> {
    let mut asked = response.headers().get_all(WWW_AUTHENTICATE).iter().peekable();
    asked.peek()?;
    let ours = |value: &http::HeaderValue| {
        value
            .as_bytes()
            .get(..SCHEME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME.as_bytes()))
    };
    Some(asked.any(ours))
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
