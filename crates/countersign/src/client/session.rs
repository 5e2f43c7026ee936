use std::fmt;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, PoisonError, RwLock};
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_audit::AuditSink;
use countersign_protocol::identity::Profile;
use countersign_protocol::wire::reply::Session;
use countersign_store::{Peer, PeerStore};
use http::{Request, Response};
use http_body_util::BodyExt as _;
use tokio::sync::Mutex;
use tower::Service;

use super::again::Again;
use super::follow::Follow;
use super::handshake::{Failure, Handshake, Wire};
use super::known::{Known, Plan, Refused};
use super::narrate::Narrator;
use super::trail::{explain, is_refusal};
use super::way::BoxError;
use super::{BaseUrl, Body, ClientError};

/// How long a session lasts when the server does not say.
const UNSTATED: Duration = Duration::from_secs(60);

/// How many bytes of content are held unless it is set otherwise (CS-37).
const HOLD: usize = 1 << 20;

/// Calls one peer. Cheap to clone; all clones share connections and session.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

pub(super) struct Inner {
    known: RwLock<Arc<Known>>,
    follow: Option<Follow>,
    pub(super) refused: Refused,
    pub(super) timeout: Duration,
    pub(super) patience: Duration,
    pub(super) hold: usize,
    pub(super) audit: Option<Arc<dyn AuditSink>>,
    narrator: Option<Narrator>,
    current: Mutex<Option<Arc<Current>>>,
    /// Whether any handshake has succeeded: the server was there.
    met: AtomicBool,
}

/// A session, and what it was made with.
pub(super) struct Current {
    pub(super) known: Arc<Known>,
    pub(super) plan: Arc<Plan>,
    pub(super) handshake: Handshake,
    /// When it is to be renewed.
    until: Instant,
    /// Until when it can be used if it cannot be renewed.
    end: Instant,
}

impl Current {
    /// Whether it cannot be used any more.
    pub(super) fn is_over(&self) -> bool {
        Instant::now() >= self.end
    }
}

/// Makes a [`Client`].
pub struct Builder {
    timeout: Duration,
    patience: Duration,
    hold: usize,
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

    /// How long a server that was there before is waited for while it refuses connections, as one does that is being restarted.
    /// Nothing of the request was sent then. At most half a minute, for what was signed is good for a minute. Default: 5 seconds.
    #[must_use]
    pub fn patience(mut self, patience: Duration) -> Self {
        self.patience = patience.min(Duration::from_secs(30));
        self
    }

    /// How many bytes of a signed response are held at most until they are verified (`cs1`); a longer one has to be sent as a
    /// stream by its server. Default: 1 MiB.
    #[must_use]
    pub fn hold(mut self, bytes: usize) -> Self {
        self.hold = bytes;
        self
    }

    /// Writes every handshake to this trail, and every response that is not proved to be the peer's. Default: none.
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
            patience: self.patience,
            hold: self.hold,
            audit: self.audit,
            narrator: self.narrator,
            current: Mutex::new(None),
            met: AtomicBool::new(false),
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
        let (timeout, patience) = (Duration::from_secs(30), Duration::from_secs(5));
        Builder { timeout, patience, hold: HOLD, audit: None, narrator: None, store: None }
    }

    /// Authenticates if need be, and sends `request`. Its URI is either a path below the peer's URL
    /// (`/orders/42`) or a full URL that lies below it.
    ///
    /// Under `cs1` the response is what the peer signed for this very request, or there is none. Under the guides it is as
    /// far verified as the profile can: the server proved itself before the request was sent (`shared-secret`), or TLS
    /// alone says who it is (`api-key`). [`Body::standing`] says which, and whether the content can be relied on already.
    ///
    /// # Errors
    /// See [`ClientError`]. A response of any status is not an error. After [`ClientError::Connect`] nothing was sent; after
    /// [`ClientError::Broken`], [`ClientError::OutcomeUnknown`] and [`ClientError::Timeout`] it is not known whether the request
    /// had its effect.
    pub async fn send(&self, mut request: Request<Bytes>) -> Result<Response<Body>, ClientError> {
        let known = self.0.known().await?;
        *request.uri_mut() = known.target(request.uri())?;
        match known.profile {
            Profile::Cs1 => self.send_signed(&known, request).await,
            _ => self.send_by_guide(&known, request).await,
        }
    }

    /// Makes a session now, unless there is one: shows that both sides hold the pair, without any request of its own.
    ///
    /// # Errors
    /// As [`Client::send`].
    pub async fn prove(&self) -> Result<(), ClientError> {
        let known = self.0.known().await?;
        self.session(&known, None).await.map(drop)
    }

    /// The same with content of any length, which is sent as it comes and is not held (`cs1` only). Once it was read from it goes
    /// out once: where [`Client::send`] would repeat a request, this is [`ClientError::OutcomeUnknown`] or [`ClientError::Broken`].
    ///
    /// The server cannot tell that nothing is missing before its end: it should not act on a part of it. Trailers of
    /// `request` are sent if its field `Trailer` names them.
    ///
    /// # Errors
    /// As [`Client::send`]; [`ClientError::NoStreams`] under another profile.
    pub async fn send_streamed<B>(&self, mut request: Request<B>) -> Result<Response<Body>, ClientError>
    where
        B: http_body::Body<Data = Bytes> + Send + 'static,
        B::Error: Into<BoxError>,
    {
        let known = self.0.known().await?;
        if known.profile != Profile::Cs1 {
            return Err(ClientError::NoStreams(known.profile));
        }
        *request.uri_mut() = known.target(request.uri())?;
        self.send_signed_stream(&known, request.map(|body| body.map_err(Into::into).boxed_unsync())).await
    }

    /// Takes over at once what has changed in the store, if it follows one.
    pub(crate) async fn look_again(&self) -> Result<(), ClientError> {
        self.0.newer(&self.0.latest()).await.map(drop)
    }

    /// Posts JSON without a signature, which proves itself; so does what comes back, or it is not to be believed.
    pub(crate) async fn post_unsigned(
        &self,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<(http::StatusCode, Bytes), ClientError> {
        let known = self.0.known().await?;
        self.0.wire(&known).post_unsigned(path, body).await
    }

    /// Whether the peer is at this host: a name, or an address as URLs write it. For whoever calls others as well, and has to
    /// decide what is for this client.
    #[must_use]
    pub fn is_at(&self, host: &str) -> bool {
        let bare = |host: &str| host.trim_matches(['[', ']']).trim_end_matches('.').to_ascii_lowercase();
        bare(&self.0.latest().base.host()) == bare(host)
    }

    /// The session to use: the current one unless it is `stale` or made with what is not known any more, else a new
    /// one. Of concurrent callers one makes the handshake and the others wait for it.
    pub(super) async fn session(
        &self,
        known: &Arc<Known>,
        stale: Option<&Arc<Current>>,
    ) -> Result<Arc<Current>, ClientError> {
        let inner = &*self.0;
        // Those who wait for each other wait for a server that is away at the same time.
        let until = tokio::time::Instant::now() + inner.patience;
        let mut current = inner.current.lock().await;
        let kept = current.take().filter(|session| {
            let usable = stale.is_none_or(|stale| !Arc::ptr_eq(stale, session));
            // Whoever read an older state than the one that made the session has nothing to say about it.
            usable && (Arc::ptr_eq(&session.known, known) || inner.latest().has(&session.plan))
        });
        if let Some(session) = &kept
            && Instant::now() < session.until
            && inner.is_first_choice(&session.plan)
        {
            current.clone_from(&kept);
            return Ok(Arc::clone(session));
        }
        // Who has a session that is good still does not wait for a server that is away.
        let is_needed = kept.as_ref().is_none_or(|session| session.is_over());
        let until = (is_needed && inner.met.load(Ordering::Relaxed)).then_some(until);
        let session = match inner.shake(known, until).await {
            // Being shut out makes it look: what the server takes now may have come a moment ago.
            Err(error) if is_refusal(&error) => match inner.newer(known).await? {
                Some(newer) => inner.shake(&newer, until).await?,
                None => return Err(error),
            },
            // It was renewed before it had to be.
            Err(error) => match kept.filter(|session| !session.is_over()) {
                Some(session) => {
                    *current = Some(Arc::clone(&session));
                    return Ok(session);
                }
                None => return Err(error),
            },
            Ok(made) => made,
        };
        let session = Arc::new(session);
        *current = Some(Arc::clone(&session));
        Ok(session)
    }

    /// The next request makes a new session, unless somebody has made one already.
    pub(super) async fn forget(&self, stale: &Arc<Current>) {
        let mut current = self.0.current.lock().await;
        if current.as_ref().is_some_and(|session| Arc::ptr_eq(session, stale)) {
            *current = None;
        }
    }

    pub(super) fn inner(&self) -> &Inner {
        &self.0
    }
}

impl Service<Request<Bytes>> for Client {
    type Response = Response<Body>;
    type Error = ClientError;
    type Future = Pin<Box<dyn Future<Output = Result<Response<Body>, ClientError>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), ClientError>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Bytes>) -> Self::Future {
        let client = self.clone();
        Box::pin(async move { client.send(request).await })
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
    pub(super) fn latest(&self) -> Arc<Known> {
        Arc::clone(&self.known.read().unwrap_or_else(PoisonError::into_inner))
    }

    /// The peer as it is now, as far as a store is followed: a change may go unseen for a moment.
    async fn known(&self) -> Result<Arc<Known>, ClientError> {
        let known = self.latest();
        let Some(follow) = &self.follow.as_ref().filter(|follow| follow.is_time()) else { return Ok(known) };
        Ok(self.look(follow, &known).await?.unwrap_or(known))
    }

    /// The peer as it is at this very moment, if that is not what was known.
    pub(super) async fn newer(&self, known: &Arc<Known>) -> Result<Option<Arc<Known>>, ClientError> {
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

    /// Whether this is the credential that a new session would begin with. If not, a rotation has gone on: the next session is made
    /// with the new one while the old one is good still.
    fn is_first_choice(&self, plan: &Plan) -> bool {
        self.refused.first(&self.latest().plans).is_none_or(|first| first.uid == plan.uid)
    }

    pub(super) fn wire<'a>(&'a self, known: &'a Known) -> Wire<'a> {
        Wire {
            way: &known.way,
            base: &known.base,
            narrator: self.narrator.as_ref(),
            timeout: self.timeout,
            patience: self.patience,
        }
    }

    /// A new session, with the first of our credentials that the peer takes. A server that was there before is waited for `until`
    /// then.
    async fn shake(
        &self,
        known: &Arc<Known>,
        until: Option<tokio::time::Instant>,
    ) -> Result<Current, ClientError> {
        let mut again = until.map_or_else(|| Again::new(Duration::ZERO), Again::until);
        let mut plans = self.refused.order(&known.plans).into_iter().peekable();
        loop {
            let Some(plan) = plans.next() else {
                // `Known` always has a plan.
                return Err(ClientError::NoCredential(String::new()));
            };
            let wire = self.wire(known);
            let result = loop {
                match wire.shake(&plan.proof).await {
                    // A handshake that did not end has no effect.
                    Err(Failure::Network(error)) if again.after_harmless(&error).await => {
                        wire.say_again(&error);
                    }
                    result => break result,
                }
            };
            // A server without endpoints has taken no proof yet: its trail is written request by request.
            if !matches!(result, Ok(Handshake::PerRequest)) {
                self.record("handshake", known, &plan, result.as_ref().err()).await?;
            }
            match result {
                Ok(handshake) => {
                    if !matches!(handshake, Handshake::PerRequest) {
                        self.taken(&plan).await;
                    }
                    let (until, end) = lifetime(&handshake);
                    return Ok(Current { known: Arc::clone(known), plan, handshake, until, end });
                }
                Err(failure) if failure.is_refusal() => {
                    self.refused.set(&plan, true);
                    if plans.peek().is_none() {
                        return Err(explain(known, &plan, failure));
                    }
                }
                Err(failure) => return Err(explain(known, &plan, failure).before_any_request()),
            }
        }
    }

    /// The peer has taken this credential.
    pub(super) async fn taken(&self, plan: &Plan) {
        self.met.store(true, Ordering::Relaxed);
        self.refused.set(plan, false);
        if let Some(follow) = &self.follow
            && plan.proof.is_proved()
        {
            follow.note(plan).await;
        }
    }
}

/// When a session is to be renewed and when it ends: a little before the server ends it, so that nothing ends on its way.
fn lifetime(handshake: &Handshake) -> (Instant, Instant) {
    let early =
        |granted: Duration, part: u32, most: u64| granted - (granted / part).min(Duration::from_secs(most));
    match handshake {
        Handshake::Session(Session { expires_in: Some(seconds), .. }) => {
            let granted = Duration::from_secs((*seconds).min(24 * 60 * 60));
            let until = Instant::now() + early(granted, 5, 10);
            (until, until)
        }
        // A ticket can go on being used while a new one cannot be had. It is counted from the server's time in the handshake,
        // which is in whole seconds: one of them may have been over already.
        Handshake::Signed(session) => {
            let granted = Duration::from_secs(session.seconds().saturating_sub(1).into());
            (session.since() + early(granted, 5, 60), session.since() + early(granted, 10, 5))
        }
        _ => {
            let until = Instant::now() + UNSTATED;
            (until, until)
        }
    }
}
