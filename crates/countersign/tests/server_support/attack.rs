//! A server under `cs1` that notices whether its handler ran, and callers that do what no honest one does.

use std::collections::VecDeque;
use std::ops::{Deref, DerefMut};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::task::{Context, Poll};

use axum::Router;
use axum::body::Body;
use axum::routing::any;
pub(crate) use base64_of::encode;
use bytes::Bytes;
use countersign::MemoryStore;
use countersign::protocol::cs1::client::{Randomness, start};
use countersign::protocol::cs1::request::Nonce;
use countersign::protocol::cs1::{Binding, Exporter};
use countersign::protocol::mac::{MacKey, encode_hex};
use countersign::server::{AuthLayer, Authenticator, Builder, Coverage, NotFinal, Peer, TlsExporter, router};
use countersign::store::{Cs1Options, random};
use http::{HeaderMap, HeaderName, Request};
use http_body::Frame;
use http_body_util::BodyExt as _;
use serde_json::{Value, json};
use zeroize::Zeroizing;

use super::{Answer, HOME, Pair, Session, Signer, World, generous, incoming, parts, reached};

type Set = Box<dyn Fn(Builder) -> Builder>;

/// What the handler has done.
#[derive(Clone, Default)]
pub(crate) struct Done {
    began: Arc<AtomicUsize>,
    /// It has got all of the body, without an error.
    committed: Arc<AtomicUsize>,
}

/// A server that knows `pair` as `ledger`, keeps its state for the next start, and counts what its handler does.
pub(crate) struct Target {
    world: World,
    pub(crate) pair: Pair,
    pub(crate) state: Arc<MemoryStore>,
    set: Set,
    done: Done,
    take_streams: bool,
}

impl Deref for Target {
    type Target = World;

    fn deref(&self) -> &World {
        &self.world
    }
}

impl DerefMut for Target {
    fn deref_mut(&mut self) -> &mut World {
        &mut self.world
    }
}

impl Target {
    pub(crate) fn new() -> Self {
        Self::with(Cs1Options::default(), |builder| builder)
    }

    /// That takes requests without a handshake.
    pub(crate) fn direct() -> Self {
        Self::with(Cs1Options { danger_direct: true, ..Cs1Options::default() }, |builder| builder)
    }

    /// Bound to TLS.
    pub(crate) fn bound() -> Self {
        Self::with(Cs1Options { binding: Binding::TlsExporter, ..Cs1Options::default() }, |builder| builder)
    }

    pub(crate) fn with(options: Cs1Options, set: impl Fn(Builder) -> Builder + 'static) -> Self {
        let (pair, state) = (Pair::new(), Arc::new(MemoryStore::new()));
        let set: Set = Box::new(move |builder| set(builder.external_urls([reached()]).limits(generous())));
        let world = World::with(|builder| set(builder).state(state.clone()));
        world.add(pair.peer("ledger", options));
        world.hide(pair.secret.expose());
        let mut target = Self { world, pair, state, set, done: Done::default(), take_streams: false };
        target.put_app();
        target
    }

    pub(crate) fn streaming() -> Self {
        let mut target = Self::new();
        target.take_streams = true;
        target.put_app();
        target
    }

    fn put_app(&mut self) {
        let done = self.done.clone();
        let handler = any(move |peer: Peer, request: Request<Body>| handle(done, peer, request));
        let protected = Router::new().fallback(handler);
        self.serve(protected);
    }

    /// Another handler, behind the same layer.
    pub(crate) fn serve(&mut self, protected: Router) {
        let authenticator = self.world.authenticator.clone();
        let layer = AuthLayer::new(authenticator.clone()).take_streams(self.take_streams);
        self.world.app = Router::new().merge(protected.layer(layer)).merge(router(authenticator));
    }

    /// A new process with the same peers, clock and kept state. Whether the one before stopped or crashed is told by whether
    /// it was flushed.
    pub(crate) fn restart(&mut self) {
        let builder = Authenticator::builder("orders".parse().unwrap(), self.world.store.clone());
        let builder = builder.audit(self.world.sink.clone()).clock(self.world.clock.clone());
        let builder = (self.set)(builder).state(self.state.clone());
        self.world.authenticator = builder.build().unwrap();
        self.put_app();
    }

    pub(crate) async fn session(&self) -> Session {
        self.shake(&self.pair.clone()).await
    }

    /// A signer under the keys of the pair.
    pub(crate) fn direct_signer(&self) -> Signer<'_> {
        Signer { name: self.pair.name(), keys: self.pair.direct(), now: self.clock.now(), window: 30 }
    }

    /// Checks a refusal from end to end: what is told, what is on the trail, that nobody signed it, and that no handler began.
    #[track_caller]
    pub(crate) fn turned_away(&self, answer: &Answer, status: u16, problem: &str, reason: &str) {
        assert_eq!(self.began(), 0, "the handler ran");
        self.assert_refused(answer, status, problem, reason);
        unsigned(answer);
    }

    /// Checks that the handler ran once, on all of the content, and that its answer is signed for this request.
    #[track_caller]
    pub(crate) fn let_in<B>(&self, signer: &Signer<'_>, request: &Request<B>, answer: &Answer) -> Value {
        assert_eq!(answer.status, 200, "{:?}", answer.body);
        signer.verify(request, answer).unwrap();
        assert_eq!((self.began(), self.committed()), (1, 1));
        answer.json()
    }

    /// How often the handler began since this was asked.
    pub(crate) fn began(&self) -> usize {
        self.done.began.swap(0, Ordering::SeqCst)
    }

    /// How often it had all of the content without an error.
    pub(crate) fn committed(&self) -> usize {
        self.done.committed.swap(0, Ordering::SeqCst)
    }

    /// A handshake of which somebody changes M1 and M3 on their way: M2, and M4 if it came to that.
    pub(crate) async fn dance(
        &self,
        pair: &Pair,
        binding: Binding,
        exporter: Option<&Exporter>,
        first: impl FnOnce(&mut Value),
        third: impl FnOnce(&mut Value),
    ) -> (Answer, Option<Answer>) {
        let credential = pair.credential();
        let random = Randomness { nonce: random(), ephemeral: Zeroizing::new(random()) };
        let (m1, waiting) = start(&credential, binding, &random);
        let mut body: Value = serde_json::from_slice(&m1.body).unwrap();
        first(&mut body);
        let m2 = self.tell("/authenticate", &body, exporter).await;
        if m2.status != 200 {
            return (m2, None);
        }
        let (m3, _) = waiting.receive(&incoming(&m2), exporter).unwrap();
        let mut body: Value = serde_json::from_slice(&m3.body).unwrap();
        third(&mut body);
        let m4 = self.tell("/verify_challenge", &body, exporter).await;
        (m2, Some(m4))
    }

    pub(crate) async fn tell(&self, path: &str, body: &Value, exporter: Option<&Exporter>) -> Answer {
        let mut request = Request::post(path).body(Bytes::from(body.to_string())).unwrap();
        if let Some(exporter) = exporter {
            request.extensions_mut().insert(TlsExporter(exporter.clone()));
        }
        self.send(request).await
    }

    /// Sends a request whose content comes in these pieces.
    pub(crate) async fn send_pieces(&self, request: Request<()>, pieces: Vec<Piece>) -> Answer {
        let (parts, ()) = request.into_parts();
        let body = Body::new(Pieces(pieces.into()));
        self.stream_from(HOME, Request::from_parts(parts, body)).await
    }
}

/// A request to where the server is, not signed.
pub(crate) fn bare(request: http::request::Builder) -> Request<Bytes> {
    request.header("host", super::AUTHORITY).body(Bytes::new()).unwrap()
}

#[track_caller]
pub(crate) fn unsigned(answer: &Answer) {
    for name in ["signature", "signature-input"] {
        assert_eq!(answer.header(name), None, "no refusal is signed (CS-34)");
    }
}

/// Reads all of the body, and says what it has seen.
async fn handle(done: Done, peer: Peer, request: Request<Body>) -> String {
    done.began.fetch_add(1, Ordering::SeqCst);
    let (parts, body) = request.into_parts();
    let covers = |name: &HeaderName| parts.extensions.get::<Coverage>().is_some_and(|one| one.covers(name));
    let (mut seen, mut covered) = (serde_json::Map::new(), Vec::new());
    for name in parts.headers.keys() {
        let lines = parts.headers.get_all(name).iter();
        let lines: Vec<_> = lines.map(|line| String::from_utf8_lossy(line.as_bytes()).into_owned()).collect();
        seen.insert(name.to_string(), json!(lines));
        covered.extend(covers(name).then(|| name.to_string()));
    }
    let content = body.collect().await;
    if content.is_ok() {
        done.committed.fetch_add(1, Ordering::SeqCst);
    }
    let content = content.map(|content| content.to_bytes());
    json!({
        "service": peer.service.as_str(),
        "profile": peer.profile.as_str(),
        "path": parts.uri.path(),
        "headers": seen,
        "covered": covered,
        "final": parts.extensions.get::<NotFinal>().is_none(),
        "length": content.map(|content| content.len()).ok(),
    })
    .to_string()
}

/// Frames, or the end of the connection.
pub(crate) type Piece = Result<Frame<Bytes>, std::io::Error>;

/// A body of such pieces.
pub(crate) struct Pieces(pub(crate) VecDeque<Piece>);

impl http_body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(mut self: Pin<&mut Self>, _: &mut Context<'_>) -> Poll<Option<Piece>> {
        Poll::Ready(self.0.pop_front())
    }
}

pub(crate) fn data(bytes: &'static [u8]) -> Piece {
    Ok(Frame::data(Bytes::from_static(bytes)))
}

pub(crate) fn trailers(lines: &[(&'static str, &str)]) -> Piece {
    let fields = lines.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap()));
    Ok(Frame::trailers(fields.collect::<HeaderMap>()))
}

impl Signer<'_> {
    /// The parameters of an honest signature.
    pub(crate) fn params(&self) -> String {
        let (created, expires) = (self.now.0, self.now.0 + self.window);
        let nonce = encode_hex(&random::<16>());
        let (name, tag) = (self.name.to_string(), self.name.tag());
        format!(";created={created};expires={expires};nonce=\"{nonce}\";keyid=\"{name}\";tag=\"{tag}\"")
    }

    /// Signs exactly these components, as they are written here, with these parameters.
    pub(crate) fn forge(
        &self,
        mut request: Request<Bytes>,
        components: &[&str],
        params: &str,
    ) -> Request<Bytes> {
        let list: Vec<String> = components.iter().map(|name| format!("\"{name}\"")).collect();
        let input = format!("({}){params}", list.join(" "));
        let mut base = String::new();
        for name in components {
            base.push_str(&format!("\"{name}\": {}\n", value(&request, name)));
        }
        base.push_str(&format!("\"@signature-params\": {input}"));
        let mac = MacKey::new(self.keys.client_to_server.as_slice()).mac(&[base.as_bytes()]);
        let fields = request.headers_mut();
        fields.insert("signature-input", format!("cs={input}").parse().unwrap());
        fields.insert("signature", format!("cs=:{}:", encode(mac.as_bytes())).parse().unwrap());
        request
    }

    /// Signs a stream; the trailer that ends this content.
    pub(crate) fn stream(
        &self,
        request: http::request::Builder,
        content: &[u8],
        others: &[(&'static str, &str)],
    ) -> (Request<()>, String) {
        let mut request =
            request.header("host", super::AUTHORITY).header("countersign-body", "stream").body(()).unwrap();
        let instructions = self.instructions(&request, Nonce::Random(random()));
        request.headers_mut().insert("signature-input", instructions.signature_input);
        request.headers_mut().insert("signature", instructions.signature);
        let mut signer = instructions.stream.unwrap();
        signer.update(content);
        let others = trailers(others).unwrap().into_trailers().unwrap();
        let mac = signer.finish(&others).unwrap().to_str().unwrap().to_owned();
        (request, mac)
    }
}

fn value(request: &Request<Bytes>, name: &str) -> String {
    let parts = parts(request);
    match name {
        "@method" => parts.method.to_owned(),
        "@authority" => parts.authority.to_owned(),
        "@path" => parts.path.to_owned(),
        "@query" => format!("?{}", parts.query.unwrap_or_default()),
        _ => {
            let lines = request.headers().get_all(name).iter();
            lines.map(|line| line.to_str().unwrap().trim()).collect::<Vec<_>>().join(", ")
        }
    }
}

mod base64_of {
    /// RFC 4648, section 4.
    pub(crate) fn encode(bytes: &[u8]) -> String {
        const ALPHABET: &[u8; 64] = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let mut text = String::new();
        for chunk in bytes.chunks(3) {
            let group = chunk.iter().fold(0_u32, |group, byte| group << 8 | u32::from(*byte));
            let group = group << (8 * (3 - chunk.len()));
            for place in 0..4 {
                if place <= chunk.len() {
                    text.push(char::from(ALPHABET[(group >> (18 - 6 * place) & 63) as usize]));
                } else {
                    text.push('=');
                }
            }
        }
        text
    }
}
