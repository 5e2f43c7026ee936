use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::server::{Authenticator, ExternalUrl};
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio_rustls::TlsAcceptor;

use crate::acceptor::{Acceptor, Stage, http_builder};
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
                http: http_builder(&settings),
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
                http: http_builder(&settings),
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

async fn open(url: ListenUrl) -> Result<(ListenUrl, TcpListener), BindError> {
    let failed = |error| BindError::Io { address: url.address, error };
    let listener = TcpListener::bind(url.address).await.map_err(failed)?;
    let address = listener.local_addr().map_err(failed)?;
    Ok((ListenUrl { tls: url.tls, address }, listener))
}
