//! Takes the connections of one listener and serves them, up to their orderly end.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::pin::pin;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use axum::response::Response;
use countersign::LEAVING;
use countersign::protocol::cs1::Exporter;
use countersign::protocol::mac::encode_hex;
use countersign::protocol::problem::Problem;
use countersign::protocol::refusal::Malformed;
use countersign::server::{Authenticator, SourceAddr, TlsExporter, problem_response};
use countersign::store::random;
use http::header::{CONNECTION, HOST};
use http::uri::Authority;
use http::{HeaderValue, Request, Version};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, watch};
use tokio_io_timeout::TimeoutStream;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tower::ServiceExt as _;
use zeroize::Zeroizing;

use crate::activity::{Activity, Finding};
use crate::sources::Sources;
use crate::{Metrics, Settings, Timeouts};

/// How long there is no request on a connection before a server that stops closes it. Who has just had a response may be about to
/// send the next request, and would not know whether it was taken.
const QUIET: Duration = Duration::from_millis(400);

/// How long that is waited for on a connection of HTTP/2; half of the time for draining, if that is less.
const LONGEST_QUIET: Duration = Duration::from_secs(3);

/// How many connections are let in at most once it is to stop: as many as the queue of a kernel holds by default.
const QUEUE: u16 = 4096;

/// How far it has come with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Stage {
    Serving,
    /// Who waits to be let in is, and then nobody.
    Closing,
    /// Those that are open are to end.
    Leaving,
}

/// Bytes of a response that one HTTP/2 stream may have waiting.
const SEND_BUFFER: usize = 64 * 1024;

/// What every connection is served with.
pub(crate) fn http_builder(settings: &Settings) -> auto::Builder<TokioExecutor> {
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder
        .http1()
        .timer(TokioTimer::new())
        .header_read_timeout(settings.timeouts.head)
        .max_buf_size(settings.max_head.max(8192))
        .http2()
        .timer(TokioTimer::new())
        .keep_alive_interval(settings.timeouts.head)
        .keep_alive_timeout(settings.timeouts.head)
        .max_concurrent_streams(128)
        // What waits here for a slow reader hides how slow it is: see `activity`.
        .max_send_buf_size(SEND_BUFFER)
        .max_header_list_size(u32::try_from(settings.max_head).unwrap_or(u32::MAX));
    builder
}

/// Ends when it has come so far.
async fn is_at(stopped: &mut watch::Receiver<Stage>, stage: Stage) {
    // Nobody left who could say so: it has ended.
    let _ = stopped.wait_for(|at| *at >= stage).await;
}

/// Accepts on one listener.
#[derive(Clone)]
pub(crate) struct Acceptor {
    pub(crate) authenticator: Authenticator,
    pub(crate) tls: Option<TlsAcceptor>,
    pub(crate) app: Router,
    pub(crate) metrics: Option<Metrics>,
    pub(crate) http: auto::Builder<TokioExecutor>,
    pub(crate) timeouts: Timeouts,
    pub(crate) room: Arc<Semaphore>,
    pub(crate) sources: Arc<Sources>,
}

impl Acceptor {
    pub(crate) async fn accept(self, listener: TcpListener, stopped: watch::Receiver<Stage>) {
        let mut closing = stopped.clone();
        loop {
            let room = tokio::select! {
                room = Arc::clone(&self.room).acquire_owned() => room,
                () = is_at(&mut closing, Stage::Closing) => break,
            };
            let Ok(permit) = room else { return };
            let accepted = tokio::select! {
                accepted = listener.accept() => accepted,
                () = is_at(&mut closing, Stage::Closing) => break,
            };
            match accepted {
                Ok((stream, address)) => self.admit(stream, address, permit, &stopped),
                Err(error) => {
                    // Out of file descriptors, most likely: wait for some connections to end.
                    tracing::warn!(%error, "cannot accept a connection");
                    tokio::time::sleep(Duration::from_millis(100)).await;
                }
            }
        }
        // The kernel has taken those who wait in its queue, and will reset their connections: as long as there is room they are
        // let in first. Asked directly, for what came just now is not known to the runtime yet.
        let Ok(listener) = listener.into_std() else { return };
        for _ in 0..QUEUE {
            let Ok(permit) = Arc::clone(&self.room).try_acquire_owned() else { return };
            let Ok((stream, address)) = listener.accept() else { return };
            match stream.set_nonblocking(true).and_then(|()| TcpStream::from_std(stream)) {
                Ok(stream) => self.admit(stream, address, permit, &stopped),
                Err(error) => tracing::warn!(%error, "cannot accept a connection"),
            }
        }
    }

    /// Serves a connection, unless its source has all that it may have.
    fn admit(
        &self,
        stream: TcpStream,
        address: SocketAddr,
        permit: OwnedSemaphorePermit,
        stopped: &watch::Receiver<Stage>,
    ) {
        // A trusted proxy carries the connections of many.
        let is_proxy = self.authenticator.trusts_proxy(address.ip());
        let place = if is_proxy { None } else { self.sources.enter(address.ip()) };
        if place.is_none() && !is_proxy {
            tracing::debug!(%address, "this source has all the connections it may have");
            return;
        }
        let (this, stopped) = (self.clone(), stopped.clone());
        tokio::spawn(async move {
            let _connected = this.metrics.as_ref().map(Metrics::connected);
            this.connection(stream, address, stopped).await;
            drop((place, permit));
        });
    }

    async fn connection(&self, stream: TcpStream, address: SocketAddr, stopped: watch::Receiver<Stage>) {
        let _ = stream.set_nodelay(true);
        let mut stream = TimeoutStream::new(stream);
        stream.set_write_timeout(Some(self.timeouts.write));
        let stream = Box::pin(stream);
        match &self.tls {
            None => self.serve(stream, address, None, stopped).await,
            Some(tls) => match tokio::time::timeout(self.timeouts.tls_handshake, tls.accept(stream)).await {
                Ok(Ok(stream)) => {
                    let exporter = exporter(&stream);
                    self.serve(stream, address, exporter, stopped).await;
                }
                Ok(Err(error)) => tracing::debug!(%error, %address, "no TLS handshake"),
                Err(_) => tracing::debug!(%address, "the TLS handshake took too long"),
            },
        }
    }

    async fn serve(
        &self,
        stream: impl AsyncRead + AsyncWrite + Unpin + Send + 'static,
        address: SocketAddr,
        exporter: Option<TlsExporter>,
        mut stopped: watch::Receiver<Stage>,
    ) {
        let app = self.app.clone();
        let activity = Activity::new();
        let (watched, stopping) = (Arc::clone(&activity), stopped.clone());
        let service = hyper::service::service_fn(move |request: Request<Incoming>| {
            let running = watched.begin(request.version());
            let (is_http1, stopping) = (request.version() <= Version::HTTP_11, stopping.clone());
            let is_leaving = move || *stopping.borrow() == Stage::Leaving;
            let mut request = request.map(Body::new);
            request.extensions_mut().insert(SourceAddr(address.ip()));
            if let Some(exporter) = &exporter {
                request.extensions_mut().insert(exporter.clone());
            }
            let answer = answer(app.clone(), request);
            async move {
                let mut response = answer.await?;
                if is_leaving() {
                    let (name, value) = if is_http1 { (CONNECTION, "close") } else { (LEAVING, "?1") };
                    response.headers_mut().insert(name, HeaderValue::from_static(value));
                }
                Ok::<_, Infallible>(response.map(|body| running.watch(body)))
            }
        });
        let mut connection = pin!(self.http.serve_connection(TokioIo::new(stream), service));
        let Timeouts { head, write, drain, .. } = self.timeouts;
        let mut ticks = tokio::time::interval((head.min(write) / 4).max(Duration::from_millis(100)));
        // Callers who do not know the field are never quiet while they have something to ask: HTTP/2 has another word for them.
        let (mut leaving, mut closing) = (None, false);
        let ended = loop {
            let patient =
                leaving.is_some_and(|since: Instant| since.elapsed() < LONGEST_QUIET.min(drain / 2));
            if leaving.is_some() && !closing && activity.can_be_closed(QUIET, patient) {
                closing = true;
                connection.as_mut().graceful_shutdown();
            }
            tokio::select! {
                ended = connection.as_mut() => break ended,
                () = is_at(&mut stopped, Stage::Leaving), if leaving.is_none() => {
                    leaving = Some(Instant::now());
                }
                () = tokio::time::sleep(QUIET / 8), if leaving.is_some() && !closing => {}
                _ = ticks.tick() => match activity.find(head, write) {
                    Finding::Alive => {}
                    Finding::Idle if !closing => {
                        closing = true;
                        connection.as_mut().graceful_shutdown();
                    }
                    Finding::Idle => return tracing::debug!(%address, "no request came in time"),
                    Finding::Unread => return tracing::debug!(%address, "a response was not taken in time"),
                }
            }
        };
        if let Err(error) = ended {
            tracing::debug!(error = %error, %address, "connection ended");
        }
    }
}

/// What binds to this connection (RFC 9266).
fn exporter<S>(stream: &TlsStream<S>) -> Option<TlsExporter> {
    let (_, connection) = stream.get_ref();
    let bytes = connection.export_keying_material([0; 32], b"EXPORTER-Channel-Binding", Some(b""));
    // Nobody who is bound to TLS gets in without.
    bytes.ok().map(|bytes| TlsExporter(Exporter::new(Zeroizing::new(bytes))))
}

/// Asks for one Host in HTTP/1.1 (RFC 9112, section 3.2), then serves.
async fn answer(app: Router, request: Request<Body>) -> Result<Response, Infallible> {
    if !names_one_host(&request) {
        let id = encode_hex(&random::<16>());
        return Ok(problem_response(Problem::Malformed(Malformed::Host), &id, None).map(Body::new));
    }
    app.oneshot(request).await
}

/// Whether Host is there as often as it must be, and what the request says of its host is one: services behind us
/// make links and decisions of it.
fn names_one_host(request: &Request<Body>) -> bool {
    let hosts: Vec<&HeaderValue> = request.headers().get_all(HOST).iter().collect();
    let needed = usize::from(request.version() == Version::HTTP_11);
    let fit = hosts
        .iter()
        .all(|host| host.is_empty() || Authority::try_from(host.as_bytes()).is_ok_and(|host| is_host(&host)));
    (needed..=1).contains(&hosts.len()) && fit && request.uri().authority().is_none_or(is_host)
}

/// A host with or without a port: no user, and no port that is not a number.
fn is_host(authority: &Authority) -> bool {
    let port = authority.as_str().strip_prefix(authority.host());
    port.is_some_and(|port| {
        port.is_empty()
            || port.strip_prefix(':').is_some_and(|port| port.bytes().all(|byte| byte.is_ascii_digit()))
    })
}
