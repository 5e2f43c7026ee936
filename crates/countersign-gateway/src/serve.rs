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
use countersign::server::{Authenticator, ExternalUrl, SourceAddr, TlsExporter, problem_response};
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
use crate::{ListenError, ListenUrl, Metrics, TlsIdentity, Upstream, admin, app, external, files};

/// How long a caller may take. What takes longer is cut off.
#[derive(Clone, Copy, Debug)]
pub struct Timeouts {
    /// For a TLS handshake. Default: 10 seconds.
    pub tls_handshake: Duration,
    /// For the head of a request, and without any request on a connection. Default: 10 seconds.
    pub head: Duration,
    /// Between two pieces of a request's body. Default: 30 seconds.
    pub body: Duration,
    /// Without taking anything of a response. Up to 64 KiB of it (and what the kernel buffers) are taken at once, so
    /// that a caller has to read some 2 KiB a second. Default: 30 seconds.
    pub write: Duration,
    /// For what runs when the server is asked to stop. Default: 30 seconds.
    pub drain: Duration,
}

impl Default for Timeouts {
    fn default() -> Self {
        Self {
            tls_handshake: Duration::from_secs(10),
            head: Duration::from_secs(10),
            body: Duration::from_secs(30),
            write: Duration::from_secs(30),
            drain: Duration::from_secs(30),
        }
    }
}

/// What a gateway serves, and where.
#[derive(Debug)]
pub struct Settings {
    /// The public listeners.
    pub listeners: Vec<ListenUrl>,
    /// The admin listener, if any: plain HTTP without authentication, so on loopback unless `danger_plain_http`.
    pub admin: Option<SocketAddr>,
    /// The TLS identity; needed if a listener speaks TLS.
    pub tls: Option<TlsIdentity>,
    /// Where authenticated requests go; without, they are answered with the caller's name.
    pub upstream: Option<Upstream>,
    /// Allows plain HTTP beyond loopback.
    pub danger_plain_http: bool,
    /// Under which URLs callers reach the public listeners (`cs1`). Default, if there are none: the names in the certificate
    /// with the listener's port, and for plain listeners the address, or the names of loopback.
    pub external_urls: Vec<ExternalUrl>,
    /// Connections at one time; further ones wait to be accepted. Default: 4096.
    pub max_connections: usize,
    /// Connections of one source (an IPv4 address, an IPv6 /64) at one time; further ones are closed. Not for the
    /// trusted proxies of the [`Authenticator`]. Default: 1024.
    pub max_connections_per_source: usize,
    /// The longest head of a request, in bytes. Default: 32 KiB.
    pub max_head: usize,
    /// See [`Timeouts`].
    pub timeouts: Timeouts,
}

impl Settings {
    /// Defaults for these listeners.
    #[must_use]
    pub fn new(listeners: Vec<ListenUrl>) -> Self {
        Self {
            listeners,
            admin: None,
            tls: None,
            upstream: None,
            danger_plain_http: false,
            external_urls: Vec::new(),
            max_connections: 4096,
            max_connections_per_source: 1024,
            max_head: 32 * 1024,
            timeouts: Timeouts::default(),
        }
    }
}

/// Why a gateway does not start.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum BindError {
    /// Config: a listener that is not allowed.
    #[error(transparent)]
    Listen(#[from] ListenError),
    /// Config: TLS without an identity.
    #[error("{0} needs a certificate: `countersign init` makes one, or set `tls.certificate` and `tls.key`")]
    NoIdentity(ListenUrl),
    /// Config: the identity cannot be used.
    #[error(transparent)]
    Identity(#[from] crate::IdentityError),
    /// The address cannot be had.
    #[error("cannot listen on {address}: {error}")]
    Io {
        /// Which address.
        address: SocketAddr,
        /// What the system said.
        error: std::io::Error,
    },
}

/// A gateway whose listeners are open.
#[derive(Debug)]
pub struct Gateway {
    authenticator: Authenticator,
    metrics: Metrics,
    settings: Settings,
    public: Vec<(ListenUrl, TcpListener)>,
    admin: Option<(ListenUrl, TcpListener)>,
}

impl Gateway {
    /// Opens all listeners.
    ///
    /// # Errors
    /// See [`BindError`]. Nothing listens then.
    pub async fn bind(
        authenticator: Authenticator,
        metrics: Metrics,
        settings: Settings,
    ) -> Result<Self, BindError> {
        if let Some(identity) = &settings.tls {
            // A key that does not go with its certificate is told before anybody is let in.
            identity.server_config()?;
        }
        let mut public = Vec::new();
        for listener in &settings.listeners {
            listener.check(settings.danger_plain_http)?;
            if listener.tls && settings.tls.is_none() {
                return Err(BindError::NoIdentity(*listener));
            }
            public.push(open(*listener).await?);
        }
        authenticator.set_external_urls(if settings.external_urls.is_empty() {
            let open: Vec<ListenUrl> = public.iter().map(|(url, _)| *url).collect();
            external::urls(&open, settings.tls.as_ref())?
        } else {
            settings.external_urls.clone()
        });
        let admin = match settings.admin {
            Some(address) => {
                let listener = ListenUrl { tls: false, address };
                listener.check(settings.danger_plain_http)?;
                Some(open(listener).await?)
            }
            None => None,
        };
        Ok(Self { authenticator, metrics, settings, public, admin })
    }

    /// The open listeners with their real ports: the public ones in the order given, then the admin one.
    #[must_use]
    pub fn listening(&self) -> Vec<ListenUrl> {
        self.public.iter().chain(&self.admin).map(|(url, _)| *url).collect()
    }

    /// Serves until `shutdown` comes, then takes no more connections, asks callers to leave those that are open, lets running
    /// requests end (all of this at most as long as [`Timeouts::drain`]), and returns whether all of them did.
    ///
    /// # Errors
    /// The TLS identity cannot be used.
    pub async fn run(self, shutdown: impl Future<Output = ()>) -> Result<bool, BindError> {
        let Self { authenticator, metrics, mut settings, public, admin } = self;
        let tls = match &settings.tls {
            Some(identity) => Some(TlsAcceptor::from(Arc::new(identity.server_config()?))),
            None => None,
        };
        let app = app::router_for(authenticator.clone(), settings.upstream.take());
        let watching = tokio::spawn(authenticator.clone().watch());
        let (stop, stopped) = watch::channel(Stage::Serving);
        let room = Arc::new(Semaphore::new(files::room(settings.max_connections)));
        let sources = Sources::new(settings.max_connections_per_source);
        let mut loops = Vec::new();
        for (url, listener) in public {
            let acceptor = Acceptor {
                authenticator: authenticator.clone(),
                tls: tls.clone().filter(|_| url.tls),
                app: app.clone(),
                metrics: Some(metrics.clone()),
                http: http(&settings),
                timeouts: settings.timeouts,
                room: Arc::clone(&room),
                sources: Arc::clone(&sources),
            };
            loops.push(tokio::spawn(acceptor.accept(listener, stopped.clone())));
        }
        if let Some((_, listener)) = admin {
            let acceptor = Acceptor {
                authenticator: authenticator.clone(),
                tls: None,
                app: admin::router(authenticator.clone(), metrics),
                metrics: None,
                http: http(&settings),
                timeouts: settings.timeouts,
                // Monitoring must get through when the public side is full.
                room: Arc::new(Semaphore::new(64)),
                sources: Sources::new(64),
            };
            loops.push(tokio::spawn(acceptor.accept(listener, stopped.clone())));
        }
        drop(stopped);
        shutdown.await;
        let _ = stop.send(Stage::Closing);
        for accepting in loops {
            let _ = accepting.await;
        }
        // Not before nobody is let in any more: who is asked to leave comes again at once.
        let _ = stop.send(Stage::Leaving);
        // Each connection holds a receiver; closed means that the last one has ended.
        let drained = tokio::time::timeout(settings.timeouts.drain, stop.closed()).await.is_ok();
        watching.abort();
        // What was used last must not wait for the next start.
        match tokio::task::spawn_blocking(move || authenticator.flush()).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%error, "the last uses of credentials could not be written"),
            Err(error) => tracing::warn!(%error, "the last uses of credentials were not written"),
        }
        Ok(drained)
    }
}

/// How long there is no request on a connection before a server that stops closes it. Who has just had a response may be about to
/// send the next request, and would not know whether it was taken.
const QUIET: Duration = Duration::from_millis(400);

/// How long that is waited for on a connection of HTTP/2; half of the time for draining, if that is less.
const LONGEST_QUIET: Duration = Duration::from_secs(3);

/// How many connections are let in at most once it is to stop: as many as the queue of a kernel holds by default.
const QUEUE: u16 = 4096;

/// How far it has come with stopping.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Stage {
    Serving,
    /// Who waits to be let in is, and then nobody.
    Closing,
    /// Those that are open are to end.
    Leaving,
}

/// Bytes of a response that one HTTP/2 stream may have waiting.
const SEND_BUFFER: usize = 64 * 1024;

async fn open(url: ListenUrl) -> Result<(ListenUrl, TcpListener), BindError> {
    let failed = |error| BindError::Io { address: url.address, error };
    let listener = TcpListener::bind(url.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((ListenUrl { tls: url.tls, address }, listener))
}

fn http(settings: &Settings) -> auto::Builder<TokioExecutor> {
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
struct Acceptor {
    authenticator: Authenticator,
    tls: Option<TlsAcceptor>,
    app: Router,
    metrics: Option<Metrics>,
    http: auto::Builder<TokioExecutor>,
    timeouts: Timeouts,
    room: Arc<Semaphore>,
    sources: Arc<Sources>,
}

impl Acceptor {
    async fn accept(self, listener: TcpListener, stopped: watch::Receiver<Stage>) {
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
