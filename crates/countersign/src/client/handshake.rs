//! Carries the messages of a handshake between the state machines of the protocol and the network.

use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_protocol::identity::ApiKey;
use countersign_protocol::wire::reply::{ReplyError, Session};
use countersign_protocol::wire::{Incoming, MAX_REPLY, Outgoing};
use countersign_protocol::{api_key, cs1 as protocol, shared_secret};
use countersign_store::{Credential, Keys, Peer, random};
use http::{HeaderMap, HeaderValue, Method, Request, StatusCode, Uri};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming as Body;
use zeroize::Zeroizing;

use super::again::Again;
use super::cs1;
use super::narrate::{Narration, Narrator};
use super::way::{Lane, Sending, Spoil, Way};
use super::{BaseUrl, ClientError, failed};

/// What we prove ourselves with.
#[derive(Debug)]
pub(super) enum Proof {
    Cs1 { credential: Box<protocol::client::Credential>, binding: protocol::Binding },
    SharedSecret { credential: Box<shared_secret::client::Credential>, danger_unproven_server: bool },
    ApiKey(ApiKey),
}

impl Proof {
    /// Of one credential; `None` if it has no key of ours.
    pub(super) fn of(peer: &Peer, credential: &Credential) -> Option<Self> {
        match &credential.keys {
            Keys::Cs1 { our_key, their_key, secret } => {
                let credential =
                    protocol::client::Credential::new(secret, our_key.clone(), their_key.clone());
                Some(Self::Cs1 { credential: Box::new(credential), binding: peer.cs1.binding })
            }
            Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                let credential = Box::new(shared_secret::client::Credential::new(
                    our_key.clone(),
                    our_secret.mac_key(),
                    their_key.clone(),
                    their_secret.mac_key(),
                ));
                Some(Self::SharedSecret { credential, danger_unproven_server: peer.danger_unproven_server })
            }
            Keys::ApiKey { ours, .. } => ours.clone().map(Self::ApiKey),
        }
    }

    /// Whether a server that takes it has shown that it is the peer, as far as the profile can.
    pub(super) const fn is_proved(&self) -> bool {
        !matches!(self, Self::SharedSecret { danger_unproven_server: true, .. })
    }
}

/// What one handshake came to.
#[derive(Clone, Debug)]
pub(super) enum Handshake {
    /// The server took our proof (and gave its own, where the profile has one).
    Session(Session),
    /// Both sides have proved themselves, and sign from here on.
    Signed(Arc<cs1::Session>),
    /// A stranger's server of guide 1 without endpoints: it challenges each request.
    PerRequest,
}

pub(super) struct Wire<'a> {
    pub(super) way: &'a Way,
    pub(super) base: &'a BaseUrl,
    pub(super) narrator: Option<&'a Narrator>,
    pub(super) timeout: Duration,
    pub(super) patience: Duration,
}

/// An answer, read in full.
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn as_incoming(&self) -> Incoming<'_> {
        Incoming { status: self.status.as_u16(), headers: &self.headers, body: &self.body }
    }
}

/// Why a handshake did not come to an end.
pub(super) enum Failure {
    Network(ClientError),
    Protocol(ReplyError),
}

impl Failure {
    /// Whether the server knows nothing of this credential, or nothing any more: another one may do.
    pub(super) fn is_refusal(&self) -> bool {
        matches!(
            self,
            Self::Protocol(ReplyError::Status { status: 401 | 403, .. } | ReplyError::NotAuthenticated)
        )
    }
}

impl From<ClientError> for Failure {
    fn from(error: ClientError) -> Self {
        Self::Network(error)
    }
}

impl From<ReplyError> for Failure {
    fn from(error: ReplyError) -> Self {
        Self::Protocol(error)
    }
}

impl Wire<'_> {
    pub(super) async fn shake(&self, proof: &Proof) -> Result<Handshake, Failure> {
        match proof {
            Proof::Cs1 { credential, binding } => self.cs1(credential, *binding).await,
            Proof::SharedSecret { credential, danger_unproven_server } => {
                self.shared_secret(credential, *danger_unproven_server).await
            }
            Proof::ApiKey(key) => {
                self.say("profile api-key: the key travels; TLS alone protects it");
                let (request, waiting) = api_key::client::start(key);
                let answer = self.post(request).await?;
                let (request, waiting) = waiting.receive(&answer.as_incoming())?;
                self.say(
                    "the challenge has the shape of guide 2's; answering with HMAC-SHA256(key, challenge)",
                );
                let answer = self.post(request).await?;
                let session = waiting.receive(&answer.as_incoming())?;
                self.say("authenticated; this profile gives no proof of the server beyond TLS");
                Ok(Handshake::Session(session))
            }
        }
    }

    async fn shared_secret(
        &self,
        credential: &shared_secret::client::Credential,
        danger_unproven_server: bool,
    ) -> Result<Handshake, Failure> {
        self.say("profile shared-secret: asking for a challenge");
        let (request, waiting) = shared_secret::client::start(credential, Some(random()));
        let answer = self.post(request).await?;
        let no_endpoint = [404, 405, 501].contains(&answer.status.as_u16());
        if danger_unproven_server && no_endpoint {
            self.say("the server has no /authenticate: signing a challenge for each request (danger: it proves nothing)");
            return Ok(Handshake::PerRequest);
        }
        let (request, mut waiting) = waiting.receive(&answer.as_incoming())?;
        if danger_unproven_server {
            waiting = waiting.danger_accept_unproven_server();
        }
        self.say("answering with HMAC-SHA256(secret, our key ‖ challenge), and challenging the server");
        let answer = self.post(request).await?;
        let session = waiting.receive(&answer.as_incoming())?;
        self.say(if danger_unproven_server {
            "authenticated (danger: the server need not have proved itself)"
        } else {
            "both sides have proved themselves"
        });
        Ok(Handshake::Session(session))
    }

    async fn cs1(
        &self,
        credential: &protocol::client::Credential,
        binding: protocol::Binding,
    ) -> Result<Handshake, Failure> {
        self.say(match binding {
            protocol::Binding::None => "profile cs1: asking for a challenge",
            protocol::Binding::TlsExporter => {
                "profile cs1, bound to the TLS connection: asking for a challenge"
            }
        });
        let random = protocol::client::Randomness { nonce: random(), ephemeral: Zeroizing::new(random()) };
        let (request, waiting) = protocol::client::start(credential, binding, &random);
        let answer = self.post(request).await?;
        let since = Instant::now();
        // What answers is bound to the connection on which it will travel, which need not be that of the question.
        let lane = self.lane().await?;
        let (request, waiting) = waiting.receive(&answer.as_incoming(), lane.exporter())?;
        self.say("answering with the proof that we hold the secret");
        let answer = self.post_on(lane, request).await?;
        let established = waiting.receive(&answer.as_incoming())?;
        self.say("both sides have proved themselves; requests and responses are signed from here on");
        Ok(Handshake::Signed(Arc::new(cs1::Session::new(established, since))))
    }

    pub(super) fn say_again(&self, error: &ClientError) {
        self.say(&format!("{error}; trying again"));
    }

    pub(super) fn say(&self, text: &str) {
        if let Some(narrator) = self.narrator {
            narrator(&Narration::said(text));
        }
    }

    async fn post(&self, outgoing: Outgoing) -> Result<Answer, ClientError> {
        self.post_on(self.lane().await?, outgoing).await
    }

    async fn post_on(&self, lane: Lane<'_>, outgoing: Outgoing) -> Result<Answer, ClientError> {
        let url = self.base.below(outgoing.path)?;
        let mut request = Request::new(Bytes::copy_from_slice(&outgoing.body));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = outgoing.headers;
        *request.uri_mut() = url.clone();
        let read = async {
            let (parts, body) = self.send_whole(lane, request).await?.into_parts();
            let body = Limited::new(body, MAX_REPLY).collect().await.map_err(|error| {
                if error.is::<http_body_util::LengthLimitError>() {
                    ClientError::ReplyTooLong { url: url.to_string() }
                } else {
                    failed::to_answer(url.to_string(), &*error)
                }
            })?;
            Ok(Answer { status: parts.status, headers: parts.headers, body: body.to_bytes() })
        };
        self.in_time(&url, read).await
    }

    /// Posts JSON without a signature: what is said proves itself. The answer's status and content.
    pub(super) async fn post_unsigned(
        &self,
        path: &'static str,
        body: Vec<u8>,
    ) -> Result<(StatusCode, Bytes), ClientError> {
        let mut headers = HeaderMap::new();
        headers.insert(http::header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = self.post(Outgoing { path, headers, body: Zeroizing::new(body) }).await?;
        Ok((answer.status, answer.body))
    }

    /// Where the next request will travel.
    pub(super) async fn lane(&self) -> Result<Lane<'_>, ClientError> {
        self.in_time(&self.base.below("/")?, self.way.lane()).await
    }

    /// Sends one request that is not signed, and waits for the head of its response.
    pub(super) async fn send(&self, request: Request<Bytes>) -> Result<http::Response<Body>, ClientError> {
        let (mut again, mut sent) = (Again::new(self.patience), false);
        loop {
            match self.send_once(request.clone()).await {
                Err(error) if is_harmless(&request, &error) && again.after(&error).await => {
                    self.say_again(&error);
                    sent |= error.may_have_run();
                }
                answer => return answer.map_err(|error| error.if_sent(sent)),
            }
        }
    }

    async fn send_once(&self, request: Request<Bytes>) -> Result<http::Response<Body>, ClientError> {
        self.send_whole(self.lane().await?, request).await
    }

    async fn send_whole(
        &self,
        lane: Lane<'_>,
        request: Request<Bytes>,
    ) -> Result<http::Response<Body>, ClientError> {
        Ok(self.send_on(lane, request.map(Sending::held)).await?.0)
    }

    pub(super) async fn send_on(
        &self,
        lane: Lane<'_>,
        request: Request<Sending>,
    ) -> Result<(http::Response<Body>, Spoil), ClientError> {
        let url = request.uri().clone();
        self.in_time(&url, self.send_streamed_on(lane, request)).await
    }

    /// The same, however long it takes.
    pub(super) async fn send_streamed_on(
        &self,
        lane: Lane<'_>,
        request: Request<Sending>,
    ) -> Result<(http::Response<Body>, Spoil), ClientError> {
        if let Some(narrator) = self.narrator {
            narrator(&Narration::request(request.method(), request.uri(), request.headers()));
        }
        let sent = lane.send(request).await?;
        if let Some(narrator) = self.narrator {
            narrator(&Narration::response(sent.0.status(), sent.0.headers()));
        }
        Ok(sent)
    }

    pub(super) async fn in_time<T>(
        &self,
        url: &Uri,
        work: impl Future<Output = Result<T, ClientError>>,
    ) -> Result<T, ClientError> {
        match tokio::time::timeout(self.timeout, work).await {
            Ok(result) => result,
            Err(_) => Err(ClientError::Timeout { url: url.to_string(), seconds: self.timeout.as_secs() }),
        }
    }

    /// Guide 1 on the route itself: knock with the key alone, then send the request with the challenge answered.
    pub(super) async fn per_request(
        &self,
        credential: &shared_secret::client::Credential,
        mut request: Request<Bytes>,
    ) -> Result<http::Response<Body>, Failure> {
        self.say("signing a challenge for this request");
        let mut knock = Request::new(Bytes::new());
        *knock.method_mut() = request.method().clone();
        *knock.uri_mut() = request.uri().clone();
        *knock.headers_mut() = shared_secret::client::knock(credential);
        let refusal = self.send(knock).await?;
        let (status, headers) = (refusal.status().as_u16(), refusal.headers().clone());
        let incoming = Incoming { status, headers: &headers, body: &[] };
        request.headers_mut().extend(shared_secret::client::answer(credential, &incoming)?);
        // Not again by itself: the challenge is good once, and of a process that may be gone.
        Ok(self.send_once(request).await?)
    }
}

/// Whether an unsigned request can go out again after this: nothing was sent, or it does no more twice than once. (That it was
/// not taken is an unsigned word.)
fn is_harmless(request: &Request<Bytes>, error: &ClientError) -> bool {
    request.method().is_idempotent() || matches!(error, ClientError::Connect { .. })
}

/// Marked sensitive: not for compression tables and logs.
pub(super) fn bearer(token: &str) -> Option<HeaderValue> {
    let mut value = HeaderValue::from_str(&format!("Bearer {token}")).ok()?;
    value.set_sensitive(true);
    Some(value)
}
