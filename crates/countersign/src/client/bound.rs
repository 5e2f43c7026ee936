//! Connections for peers that are bound to them (CS-31, CS-32): each is chosen before what travels on it is signed.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_protocol::cs1::Exporter;
use countersign_store::Trust;
use http::header::HOST;
use http::{HeaderValue, Request, Response, Uri, Version};
use hyper::body::Incoming;
use hyper::client::conn::{http1, http2};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use rustls::ClientConnection;
use tower::{Service as _, ServiceExt as _};
use zeroize::Zeroizing;

use super::connector::connector;
use super::failed;
use super::way::{Sending, Spoil};
use super::{BaseUrl, ClientError};

/// RFC 9266, section 2.
const LABEL: &[u8] = b"EXPORTER-Channel-Binding";

/// How many connections of HTTP/1.1 are kept at most, and how long they are after their last request: many servers close them
/// after five seconds.
const KEPT: usize = 8;
const KEPT_FOR: Duration = Duration::from_secs(4);

/// How often a connection of HTTP/2 is asked whether it is still there while something travels on it.
const PING_EVERY: Duration = Duration::from_secs(20);

/// The connections to one peer. With HTTP/2 there is one, with HTTP/1.1 as many as there are requests at a time.
pub(super) struct Bound {
    url: Uri,
    authority: String,
    connector: HttpsConnector<HttpConnector>,
    open: Mutex<Vec<Connection>>,
    /// Held while a connection is made: those who come meanwhile mostly find it good for HTTP/2.
    connecting: tokio::sync::Mutex<()>,
}

struct Connection {
    sender: Sender,
    exporter: Exporter,
    spoiled: Arc<AtomicBool>,
    /// When it was put back. Of HTTP/1.1, this is when the head of the last response had come.
    used: Instant,
}

enum Sender {
    Http1(http1::SendRequest<Sending>),
    Http2(http2::SendRequest<Sending>),
}

/// A connection that the next request has to itself, or as one stream of many.
pub(super) struct Chosen<'a> {
    bound: &'a Bound,
    connection: Connection,
}

impl Bound {
    /// # Errors
    /// The trust cannot be used, or there is no TLS to be bound to.
    pub(super) fn new(base: &BaseUrl, trust: &Trust) -> Result<Self, ClientError> {
        if !base.is_tls() {
            return Err(ClientError::NothingToBindTo(base.to_string()));
        }
        Ok(Self {
            url: base.at_origin("/")?,
            authority: base.authority(),
            connector: connector(trust)?,
            open: Mutex::new(Vec::new()),
            connecting: tokio::sync::Mutex::new(()),
        })
    }

    /// A connection that is open, as far as can be known.
    pub(super) async fn choose(&self) -> Result<Chosen<'_>, ClientError> {
        let connection = match self.idle() {
            Some(connection) => connection,
            None => {
                let _one = self.connecting.lock().await;
                match self.idle() {
                    Some(connection) => connection,
                    None => self.connect().await?,
                }
            }
        };
        Ok(Chosen { bound: self, connection })
    }

    fn idle(&self) -> Option<Connection> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(Connection::is_open);
        let place = open.iter().position(Connection::is_ready)?;
        // Of HTTP/1.1 nobody else gets it until it is put back; of HTTP/2 it stays there.
        let shared = open.get(place).and_then(Connection::share);
        shared.or_else(|| Some(open.swap_remove(place)))
    }

    fn put_back(&self, mut connection: Connection) {
        connection.used = Instant::now();
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(Connection::is_open);
        if open.len() < KEPT && connection.is_open() {
            open.push(connection);
        }
    }

    async fn connect(&self) -> Result<Connection, ClientError> {
        let failed =
            |error: &(dyn std::error::Error + 'static)| failed::to_connect(self.url.to_string(), error);
        let mut connector = self.connector.clone();
        let connector = connector.ready().await.map_err(|error| failed(&*error))?;
        let stream = connector.call(self.url.clone()).await.map_err(|error| failed(&*error))?;
        let MaybeHttpsStream::Https(stream) = stream else {
            return Err(ClientError::NothingToBindTo(self.url.to_string()));
        };
        let tls = stream.inner().get_ref().1;
        let exporter = exporter(tls).ok_or_else(|| ClientError::NothingToBindTo(self.url.to_string()))?;
        let is_http2 = tls.alpn_protocol() == Some(b"h2");
        let spoiled = Arc::new(AtomicBool::new(false));
        let sender = if is_http2 {
            let mut builder = http2::Builder::new(TokioExecutor::new());
            builder.timer(TokioTimer::new()).keep_alive_interval(PING_EVERY);
            let (sender, connection) = builder.handshake(stream).await.map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            Sender::Http2(sender)
        } else {
            let (sender, connection) = http1::handshake(stream).await.map_err(|error| failed(&error))?;
            tokio::spawn(connection);
            Sender::Http1(sender)
        };
        let made = Connection { sender, exporter, spoiled, used: Instant::now() };
        if let Some(shared) = made.share() {
            self.put_back(shared);
        }
        Ok(made)
    }
}

/// What both ends of this connection know, and nobody else.
fn exporter(tls: &ClientConnection) -> Option<Exporter> {
    let mut bytes = Zeroizing::new([0; 32]);
    tls.export_keying_material(bytes.as_mut_slice(), LABEL, Some(b"")).ok()?;
    Some(Exporter::new(bytes))
}

impl Connection {
    fn is_open(&self) -> bool {
        let over = match &self.sender {
            Sender::Http1(sender) => {
                sender.is_closed() || sender.is_ready() && self.used.elapsed() > KEPT_FOR
            }
            Sender::Http2(sender) => sender.is_closed(),
        };
        !over && !self.spoiled.load(Ordering::Relaxed)
    }

    /// Of HTTP/1.1: not before the last response was read to its end.
    fn is_ready(&self) -> bool {
        match &self.sender {
            Sender::Http1(sender) => sender.is_ready(),
            Sender::Http2(sender) => sender.is_ready(),
        }
    }

    /// For one more request at the same time.
    fn share(&self) -> Option<Self> {
        let Sender::Http2(sender) = &self.sender else { return None };
        Some(Self {
            sender: Sender::Http2(sender.clone()),
            exporter: self.exporter.clone(),
            spoiled: Arc::clone(&self.spoiled),
            used: self.used,
        })
    }
}

impl Chosen<'_> {
    pub(super) const fn exporter(&self) -> &Exporter {
        &self.connection.exporter
    }

    pub(super) async fn send(
        self,
        mut request: Request<Sending>,
    ) -> Result<(Response<Incoming>, Spoil), ClientError> {
        let Self { bound, mut connection } = self;
        let spoil = Spoil::Chosen(Arc::clone(&connection.spoiled));
        let url = request.uri().to_string();
        let sent = match &mut connection.sender {
            Sender::Http1(sender) => {
                to_origin_form(&mut request, &bound.authority);
                sender.try_send_request(request).await
            }
            Sender::Http2(sender) => {
                *request.version_mut() = Version::HTTP_2;
                sender.try_send_request(request).await
            }
        };
        match sent {
            Ok(response) => {
                if matches!(connection.sender, Sender::Http1(_)) {
                    bound.put_back(connection);
                }
                Ok((response, spoil))
            }
            Err(mut error) => {
                let is_unsent = error.take_message().is_some();
                let error = error.into_error();
                Err(if is_unsent { failed::to_connect(url, &error) } else { failed::to_answer(url, &error) })
            }
        }
    }
}

/// As HTTP/1.1 has it (RFC 9112, section 3.2.1).
fn to_origin_form(request: &mut Request<Sending>, authority: &str) {
    if let Ok(host) = HeaderValue::from_str(authority) {
        request.headers_mut().insert(HOST, host);
    }
    if let Some(path) = request.uri().path_and_query().cloned() {
        *request.uri_mut() = Uri::from(path);
    }
    *request.version_mut() = Version::HTTP_11;
}
