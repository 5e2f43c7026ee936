//! `orders` under the profile `cs1`, made from the protocol's own halves, so that a test can have it do wrong what it likes.

use std::collections::{HashSet, VecDeque};
use std::pin::Pin;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::task::{Context, Poll};
use std::time::{SystemTime, UNIX_EPOCH};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
use bytes::Bytes;
use countersign::NewKeys;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::content::{ContentCheck, content_digest};
use countersign::protocol::cs1::nonce::NonceIssuer;
use countersign::protocol::cs1::request::{Claimed, Instructions, RequestParts};
use countersign::protocol::cs1::response::{self, ResponseParts};
use countersign::protocol::cs1::server::{Attempt, Candidate, Effort, Holders, Pair, verify};
use countersign::protocol::cs1::ticket::{Claims, TicketKeys};
use countersign::protocol::cs1::{Binding, Exporter, Issuer, KeyName, PairKeys, Policy, accept};
use countersign::protocol::identity::CredentialId;
use countersign::protocol::mac::MacKey;
use countersign::protocol::refusal::Refusal;
use countersign::protocol::shared_secret::Lifetime;
use countersign::protocol::wire::cs1 as wire;
use countersign::store::{Peer, random};
use http::{HeaderMap, HeaderValue, Request, Response, StatusCode};
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Keys, Seen, Server, peer};

/// The pair, as the server holds it.
struct Holder {
    keys: PairKeys,
    binding: Binding,
}

impl Candidate for Holder {
    fn mac_key(&self) -> &MacKey {
        self.keys.mac_key()
    }
}

impl Pair for Holder {
    fn keys(&self) -> &PairKeys {
        &self.keys
    }

    fn binding(&self) -> Binding {
        self.binding
    }
}

type Instead = dyn Fn(&Seen, usize) -> Option<Response<Bytes>> + Send + Sync;
type Reply = dyn Fn(&mut Value) + Send + Sync;
type Answer = dyn Fn(&Seen) -> Response<Bytes> + Send + Sync;
type Change = dyn Fn(&mut Response<Bytes>) + Send + Sync;

/// What the server does. Each part has the right thing as its default.
pub(crate) struct Script {
    /// How long its tickets live.
    pub(crate) seconds: u32,
    pub(crate) binding: Binding,
    /// Changes the body of M2 and M4 on their way.
    pub(crate) second: Box<Reply>,
    pub(crate) fourth: Box<Reply>,
    /// What it says to a request (the first is 0) in the place of judging it.
    pub(crate) instead: Box<Instead>,
    /// What the handler answers.
    pub(crate) answer: Box<Answer>,
    /// Changes what was signed on its way.
    pub(crate) change: Box<Change>,
    /// Answers are streams, of which this becomes.
    pub(crate) stream: Option<fn(&mut VecDeque<Piece>)>,
    /// After so many handshakes its endpoints break off every connection.
    pub(crate) handshakes: usize,
    /// From this request on (the first is 0), it is as after a crash: it wants a nonce of its own.
    pub(crate) crash_after: Option<usize>,
}

/// A frame, or the end of the connection.
pub(crate) type Piece = Result<Frame<Bytes>, std::io::Error>;

impl Default for Script {
    fn default() -> Self {
        Self {
            seconds: 600,
            binding: Binding::None,
            second: Box::new(|_| ()),
            fourth: Box::new(|_| ()),
            instead: Box::new(|_, _| None),
            answer: Box::new(|seen| {
                Response::new(Bytes::from(format!("{} {}", seen.method, String::from_utf8_lossy(&seen.body))))
            }),
            change: Box::new(|_| ()),
            stream: None,
            handshakes: usize::MAX,
            crash_after: None,
        }
    }
}

struct State {
    script: Script,
    holder: Holder,
    decoy: MacKey,
    issuer: Issuer,
    nonces: NonceIssuer,
    tickets: Mutex<TicketKeys>,
    burned: Mutex<HashSet<u128>>,
    seen: Mutex<Vec<Seen>>,
    handshakes: AtomicUsize,
    requests: AtomicUsize,
    accepted: AtomicUsize,
    /// Of a stream to `/flood`, in bytes.
    read: Arc<AtomicU64>,
}

/// The server.
pub(crate) struct Signing {
    pub(crate) keys: Keys,
    server: Server,
    state: Arc<State>,
}

/// On which connection a request came.
#[derive(Clone)]
pub(crate) struct On(pub(crate) Exporter);

fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs())
}

fn ticket_keys() -> TicketKeys {
    TicketKeys::new("orders".parse().unwrap(), &Zeroizing::new(random()), now())
}

impl Signing {
    pub(crate) async fn start(script: Script) -> Self {
        let (keys, state, app) = Self::app(script);
        Self { keys, server: Server::start(app).await, state }
    }

    fn app(script: Script) -> (Keys, Arc<State>, Router) {
        let keys = Keys::new();
        let pair = PairKeys::derive(&keys.secret, &keys.billing, &keys.orders);
        let binding = script.binding;
        let state = Arc::new(State {
            script,
            holder: Holder { keys: pair, binding },
            decoy: MacKey::new(&random::<32>()),
            issuer: Issuer::new(&Zeroizing::new(random()), Lifetime::default()),
            nonces: NonceIssuer::new(&Zeroizing::new(random())),
            tickets: Mutex::new(ticket_keys()),
            burned: Mutex::default(),
            seen: Mutex::default(),
            handshakes: AtomicUsize::new(0),
            requests: AtomicUsize::new(0),
            accepted: AtomicUsize::new(0),
            read: Arc::default(),
        });
        let serving = Arc::clone(&state);
        let app = Router::new().fallback(any(move |request: Request<Body>| {
            let state = Arc::clone(&serving);
            async move { state.serve(request).await }
        }));
        (keys, state, app)
    }

    /// And how many bytes of a stream to `/flood` it has read.
    pub(crate) async fn counting() -> (Self, Arc<AtomicU64>) {
        let orders = Self::start(Script::default()).await;
        let read = Arc::clone(&orders.state.read);
        (orders, read)
    }

    /// With what `serve` makes of it, for a test that has connections of its own.
    pub(crate) async fn over(script: Script, serve: impl AsyncFnOnce(Router) -> Server) -> Self {
        let (keys, state, app) = Self::app(script);
        Self { keys, server: serve(app).await, state }
    }

    /// `orders` as `billing` knows it.
    pub(crate) fn peer(&self) -> Peer {
        let Keys { billing, orders, secret } = self.keys.clone();
        let mut peer = peer(&self.server.url, NewKeys::cs1(billing, orders, secret).unwrap(), false);
        peer.cs1.binding = self.state.script.binding;
        peer
    }

    /// Nobody listens any more.
    pub(crate) async fn end(&mut self) {
        self.server.serving.abort();
        let _ = (&mut self.server.serving).await;
    }

    /// No ticket opens any more.
    pub(crate) fn forget(&self) {
        *self.state.tickets.lock().unwrap() = ticket_keys();
    }

    pub(crate) fn handshakes(&self) -> usize {
        self.state.handshakes.load(Ordering::SeqCst)
    }

    /// How many requests came that are none of the handshake.
    pub(crate) fn requests(&self) -> usize {
        self.state.requests.load(Ordering::SeqCst)
    }

    /// How many of them were taken.
    pub(crate) fn accepted(&self) -> usize {
        self.state.accepted.load(Ordering::SeqCst)
    }

    pub(crate) fn seen(&self) -> Vec<Seen> {
        self.state.seen.lock().unwrap().clone()
    }
}

/// A refusal as a verifier gives it: without a signature (CS-34).
pub(crate) fn refusal(refusal: Refusal) -> Response<Bytes> {
    let problem = refusal.problem();
    let mut response = Response::new(Bytes::from(problem.body("a-request-id", None)));
    *response.status_mut() = StatusCode::from_u16(problem.status()).unwrap();
    let challenge = HeaderValue::from_static("Countersign realm=\"orders\"");
    response.headers_mut().insert("www-authenticate", challenge);
    response
}

fn plain(status: u16, body: &Value) -> Response<Body> {
    Response::builder().status(status).body(Body::from(body.to_string())).unwrap()
}

impl State {
    async fn serve(&self, request: Request<Body>) -> Response<Body> {
        if request.uri().path() == "/flood" {
            return self.flood(request).await;
        }
        let (parts, body) = request.into_parts();
        let body = match body.collect().await {
            Ok(body) => body,
            Err(_) => return plain(400, &json!({"cut": true})),
        };
        let trailers = body.trailers().cloned();
        let exporter = parts.extensions.get::<On>().map(|on| &on.0);
        let path = parts.uri.path().to_owned();
        let mut headers = parts.headers;
        // With HTTP/2 it is in the request line.
        if let Some(authority) = parts.uri.authority() {
            headers.insert("host", authority.as_str().parse().unwrap());
        }
        let seen = Seen { method: parts.method, path, headers, body: body.to_bytes() };
        self.seen.lock().unwrap().push(seen.clone());
        match seen.path.as_str() {
            "/authenticate" if self.handshakes.load(Ordering::SeqCst) >= self.script.handshakes => {
                // Its head is never sent.
                let broken = std::io::Error::from(std::io::ErrorKind::BrokenPipe);
                Response::new(Body::new(Pieces(VecDeque::from([Err(broken)]))))
            }
            "/authenticate" => {
                let hello = wire::read_hello(&seen.body).unwrap();
                let challenge = self.issuer.issue(&hello, now(), random()).unwrap();
                let mut answer = json!({"challenge": challenge.as_str(), "expiresIn": 30});
                (self.script.second)(&mut answer);
                plain(200, &answer)
            }
            "/verify_challenge" => match self.fourth(&seen.body, exporter) {
                Ok(answer) => plain(200, &answer),
                Err(refused) => refusal(refused).map(Body::from),
            },
            _ => self.request(&seen, parts.uri.query(), trailers.as_ref(), exporter),
        }
    }

    /// Reads a stream piece by piece and says how long it was.
    async fn flood(&self, request: Request<Body>) -> Response<Body> {
        let (parts, mut body) = request.into_parts();
        let request = RequestParts {
            method: parts.method.as_str(),
            authority: parts.headers["host"].to_str().unwrap(),
            path: parts.uri.path(),
            query: parts.uri.query(),
            fields: &parts.headers,
        };
        let (key, mut check) = self.judge(&request, None, 0).unwrap();
        let (mut length, mut trailers) = (0, None);
        while let Some(frame) = body.frame().await {
            match frame.unwrap().into_data() {
                Ok(piece) => {
                    check.update(&piece);
                    length += piece.len();
                    self.read.store(u64::try_from(length).unwrap(), Ordering::SeqCst);
                }
                Err(frame) => trailers = frame.into_trailers().ok(),
            }
        }
        check.finish_with(trailers.as_ref()).unwrap();
        self.answer(&key, request, Response::new(Bytes::from(length.to_string())))
    }

    fn fourth(&self, body: &[u8], exporter: Option<&Exporter>) -> Result<Value, Refusal> {
        let wire::Proof { hello, challenge, proof } = wire::read_proof(body)?;
        let attempt = Attempt { hello: &hello, challenge: &challenge, proof: &proof, exporter };
        let effort = Effort { macs: 1, decoy: &self.decoy };
        let holders = Holders::Live(std::slice::from_ref(&self.holder));
        let verified = verify(&self.issuer, attempt, holders, effort, now())?
            .claim(|_| Ok(()))
            .map_err(|(refusal, _)| refusal)?;
        self.handshakes.fetch_add(1, Ordering::SeqCst);
        let accepted = verified.accept(&Zeroizing::new(random()), self.script.seconds, |keys, seconds| {
            let credential = CredentialId { peer: "billing".parse().unwrap(), number: 1 };
            let (issued, expires) = (now(), now().plus(u64::from(seconds)));
            let claims = Claims { credential, uid: [1; 16], keys, issued, expires, binding: hello.binding };
            self.tickets.lock().unwrap().seal(&claims, random())
        })?;
        let mut answer = serde_json::from_slice(&wire::write_accepted(&accepted)).unwrap();
        (self.script.fourth)(&mut answer);
        Ok(answer)
    }

    fn request(
        &self,
        seen: &Seen,
        query: Option<&str>,
        trailers: Option<&HeaderMap>,
        exporter: Option<&Exporter>,
    ) -> Response<Body> {
        let count = self.requests.fetch_add(1, Ordering::SeqCst);
        if let Some(said) = (self.script.instead)(seen, count) {
            return said.map(Body::from);
        }
        let authority = seen.headers.get("host").unwrap().to_str().unwrap();
        let request = RequestParts {
            method: seen.method.as_str(),
            authority,
            path: &seen.path,
            query,
            fields: &seen.headers,
        };
        let judged = self.judge(&request, exporter, count).and_then(|(key, mut check)| {
            check.update(&seen.body);
            check.finish_with(trailers).map(|()| key)
        });
        match judged {
            Ok(key) => {
                self.accepted.fetch_add(1, Ordering::SeqCst);
                self.answer(&key, request, (self.script.answer)(seen))
            }
            Err(refused) => {
                let mut response = refusal(refused);
                if refused == Refusal::NonceRequired {
                    let claimed = Claimed::read(&seen.headers).unwrap().unwrap();
                    let value = accept::ask(&claimed, &self.nonces.issue(now(), random())).unwrap();
                    response.headers_mut().insert(accept::ACCEPT_SIGNATURE, value);
                }
                response.map(Body::from)
            }
        }
    }

    /// The key for the response, and what is left to be checked.
    fn judge(
        &self,
        request: &RequestParts<'_>,
        exporter: Option<&Exporter>,
        count: usize,
    ) -> Result<(MacKey, ContentCheck), Refusal> {
        let claimed = Claimed::read(request.fields)?.ok_or(Refusal::NoCredentials)?;
        let KeyName::Ticket(ticket) = claimed.key_name() else { return Err(Refusal::SignatureForm) };
        let claims = self.tickets.lock().unwrap().open(ticket, now()).map_err(Refusal::Ticket)?;
        let keys = claims.keys_on(exporter)?;
        let mut policy = Policy::at(now()).with_nonces(&self.nonces);
        if self.script.crash_after.is_some_and(|after| count >= after) {
            policy = policy.after_crash(now().plus(60));
        }
        let key = MacKey::new(keys.client_to_server.as_slice());
        let verified = claimed.verify(&key, request, policy)?.claim(&keys.id, |id, _| {
            if self.burned.lock().unwrap().insert(id) { Ok(()) } else { Err(Refusal::RequestReplayed) }
        })?;
        Ok((MacKey::new(keys.server_to_client.as_slice()), verified.content().check()))
    }

    fn answer(
        &self,
        key: &MacKey,
        request: RequestParts<'_>,
        mut response: Response<Bytes>,
    ) -> Response<Body> {
        let content = response.body().clone();
        if self.script.stream.is_some() {
            response.headers_mut().insert("countersign-body", HeaderValue::from_static("stream"));
            let trailers = HeaderValue::from_static("countersign-body-mac, x-more");
            response.headers_mut().insert("trailer", trailers);
        } else if !content.is_empty() {
            response.headers_mut().insert("content-digest", content_digest(&content).unwrap());
        }
        let status = response.status().as_u16();
        let parts = ResponseParts { status, fields: response.headers(), request };
        let Instructions { signature_input, signature, stream } = response::sign(key, &parts, now()).unwrap();
        response.headers_mut().insert("signature-input", signature_input);
        response.headers_mut().insert("signature", signature);
        (self.script.change)(&mut response);
        let (Some(change), Some(mut signer)) = (self.script.stream, stream) else {
            return response.map(Body::from);
        };
        let mut pieces = VecDeque::new();
        for piece in content.chunks(7) {
            signer.update(piece);
            pieces.push_back(Ok(Frame::data(Bytes::copy_from_slice(piece))));
        }
        let mut trailers = HeaderMap::new();
        trailers.insert("x-more", HeaderValue::from_static("more"));
        trailers.insert("countersign-body-mac", signer.finish(&trailers).unwrap());
        pieces.push_back(Ok(Frame::trailers(trailers)));
        change(&mut pieces);
        response.map(|_| Body::new(Pieces(pieces)))
    }
}

/// Content in pieces.
pub(crate) struct Pieces(pub(crate) VecDeque<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Piece>> {
        match self.0.pop_front() {
            // What came before it is sent first.
            Some(Err(error)) if error.kind() != std::io::ErrorKind::BrokenPipe => {
                let last = std::io::Error::new(std::io::ErrorKind::BrokenPipe, error);
                self.0.push_front(Err(last));
                cx.waker().wake_by_ref();
                Poll::Pending
            }
            piece => Poll::Ready(piece),
        }
    }
}
