//! The services of the demo, and raw requests as an attacker would send them.

use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use countersign::client::{Client, ClientError, HttpClient, http_client};
use countersign::protocol::shared_secret::sign;
use countersign::server::{Authenticator, Clock};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Keys, Peer, random};
use countersign::{ApiKey, NewKeys, NewPeer, PeerStore, SharedSecret, Trust};
use countersign_gateway::{Gateway, Metrics, Settings, TlsIdentity};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full};
use tokio::sync::oneshot;
use tokio::task::JoinHandle;

use super::report::Report;
use crate::commands::init;
use crate::failure::Failure;
use crate::home::Home;
use crate::show;

/// One running service with a home of its own.
pub(super) struct Service {
    pub(super) name: &'static str,
    pub(super) home: Home,
    pub(super) store: Arc<SqliteStore>,
    pub(super) authenticator: Authenticator,
    pub(super) clock: Clock,
    pub(super) url: String,
    pub(super) trust: Trust,
    stop: oneshot::Sender<()>,
    running: JoinHandle<()>,
}

impl Service {
    async fn start(directory: &Path, name: &'static str) -> Result<Self, Failure> {
        let home = Home::at(directory.join(name));
        let pin = init::make(&home, &name.parse()?, &[])?;
        let store = Arc::new(home.local_store()?);
        let clock = Clock::start();
        let shared: Arc<dyn PeerStore> = Arc::<SqliteStore>::clone(&store);
        let authenticator = Authenticator::builder(name.parse()?, shared)
            .audit(home.trail(&store, "serve")?)
            .clock(clock.clone())
            .pairing(Arc::<SqliteStore>::clone(&store))
            .build()?;
        let mut settings = Settings::new(vec!["https://127.0.0.1:0".parse()?]);
        settings.tls = Some(TlsIdentity::load(&home.certificate_file(), &home.tls_key_file())?);
        let gateway = Gateway::bind(authenticator.clone(), Metrics::new(), settings).await?;
        let url = gateway.listening().iter().map(ToString::to_string).collect();
        let (stop, stopped) = oneshot::channel::<()>();
        let running = tokio::spawn(async move {
            let stopped = async { drop(stopped.await) };
            if let Err(error) = gateway.run(stopped).await {
                eprintln!("countersign: {error}");
            }
        });
        let trust = Trust::parse_pin(&pin)?;
        Ok(Self { name, home, store, authenticator, clock, url, trust, stop, running })
    }

    /// Adds a peer as `countersign peer add` does, and lets the running server know at once.
    pub(super) fn add(&self, name: &str, other: Option<&Self>, keys: NewKeys) -> Result<Peer, Failure> {
        let peer = NewPeer {
            name: name.parse()?,
            url: other.map(|other| other.url.clone()),
            trust: other.map_or(Trust::System, |other| other.trust.clone()),
            danger_unproven_server: false,
            cs1: Default::default(),
            keys,
        };
        let peer = self.store.add(peer, show::now())?;
        self.authenticator.refresh()?;
        Ok(peer)
    }

    /// A client as `countersign call` makes it.
    pub(super) fn client(&self, peer: &str) -> Result<Client, Failure> {
        let peer = self.store.get(&peer.parse()?)?;
        Ok(Client::builder().audit(self.home.trail(&self.store, "call")?).build(&peer)?)
    }
}

/// The keys of a pair under `shared-secret`.
pub(super) struct Pair {
    pub(super) orders_key: ApiKey,
    pub(super) billing_key: ApiKey,
    pub(super) secret: SharedSecret,
}

impl Pair {
    /// As billing has it in its newest credential.
    pub(super) fn of(orders: &Peer) -> Option<Self> {
        match &orders.credentials.last()?.keys {
            Keys::SharedSecret { our_key, their_key, our_secret, .. } => Some(Self {
                orders_key: their_key.clone(),
                billing_key: our_key.clone(),
                secret: our_secret.clone(),
            }),
            Keys::Cs1 { .. } | Keys::ApiKey { .. } => None,
        }
    }
}

/// Everything on the stage.
pub(super) struct Stage {
    pub(super) orders: Service,
    pub(super) billing: Service,
    pub(super) reports: Service,
    pub(super) ledger: Service,
    pub(super) pair: Pair,
    pub(super) reports_key: ApiKey,
    /// An attacker's HTTP client, which reaches orders over the same TLS.
    pub(super) raw: HttpClient,
}

impl Stage {
    pub(super) async fn set(directory: &Path, report: &mut Report) -> Result<Self, Failure> {
        report.chapter(
            "Two services, each with a home of its own",
            "A master key (0600), a store that it seals, a TLS key with a self-signed certificate.",
        )?;
        let orders = Service::start(directory, "orders").await?;
        let billing = Service::start(directory, "billing").await?;
        let reports = Service::start(directory, "reports").await?;
        let ledger = Service::start(directory, "ledger").await?;
        for service in [&orders, &billing] {
            let scheme = service.url.split(':').next().unwrap_or_default().to_owned();
            report.step(
                "listen",
                &format!("{} serves at {}", service.name, service.url),
                "https",
                &scheme,
            )?;
        }
        let pair = Pair {
            orders_key: ApiKey::generate(&random()),
            billing_key: ApiKey::generate(&random()),
            secret: SharedSecret::generate(&random()),
        };
        let raw = http_client(&orders.trust)?;
        Ok(Self { orders, billing, reports, ledger, pair, reports_key: ApiKey::generate(&random()), raw })
    }

    pub(super) async fn strike(self) {
        for service in [self.orders, self.billing, self.reports, self.ledger] {
            let _ = service.stop.send(());
            let _ = service.running.await;
        }
    }

    /// Sends one raw request to orders.
    pub(super) async fn send(
        &self,
        method: Method,
        path: &str,
        headers: &[(&'static str, &str)],
        body: &str,
    ) -> Result<Answer, Failure> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.orders.url));
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let body = Full::from(Bytes::copy_from_slice(body.as_bytes()));
        let request = request.body(body.map_err(|never| match never {}).boxed_unsync())?;
        let response = self.raw.request(request).await?;
        let (parts, body) = response.into_parts();
        let body = String::from_utf8_lossy(&body.collect().await?.to_bytes()).into_owned();
        Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
    }

    /// Knocks on a protected route with a key alone, and gets a challenge.
    pub(super) async fn knock(&self, key: &ApiKey) -> Result<String, Failure> {
        let answer = self.send(Method::GET, "/invoices", &[("x-api-key", key.expose())], "").await?;
        answer.challenge()
    }

    /// Answers a challenge on a protected route.
    pub(super) async fn answer(
        &self,
        key: &ApiKey,
        secret: &SharedSecret,
        challenge: &str,
    ) -> Result<Answer, Failure> {
        let signature = sign(&secret.mac_key(), key, &challenge.parse()?).to_hex();
        let headers = [("x-api-key", key.expose()), ("x-challenge", challenge), ("x-signature", &signature)];
        self.send(Method::GET, "/invoices", &headers, "").await
    }
}

/// A response, read in full.
pub(super) struct Answer {
    pub(super) status: u16,
    pub(super) headers: HeaderMap,
    pub(super) body: String,
}

impl Answer {
    /// `401 challenge-used`, or `200 billing`.
    pub(super) fn summary(&self) -> String {
        let body: serde_json::Value = serde_json::from_str(&self.body).unwrap_or_default();
        let text = |name: &str| body.get(name).and_then(|value| value.as_str()).map(str::to_owned);
        let what = text("type").map(|name| name.rsplit(':').next().unwrap_or_default().to_owned());
        format!("{} {}", self.status, what.or_else(|| text("service")).unwrap_or_default())
    }

    pub(super) fn member(&self, name: &str) -> Result<String, Failure> {
        let body: serde_json::Value = serde_json::from_str(&self.body)?;
        let member = body.get(name).and_then(|value| value.as_str());
        member.map(str::to_owned).ok_or_else(|| Failure::new(format!("no {name} in {}", self.summary())))
    }

    fn challenge(&self) -> Result<String, Failure> {
        self.member("challenge")
    }

    /// The body without what differs from request to request.
    pub(super) fn uniform(&self) -> Result<String, Failure> {
        let mut body = self.body.clone();
        for name in ["requestId", "challenge"] {
            body = body.replace(&self.member(name)?, "…");
        }
        Ok(body)
    }
}

/// How a client's call ended: `200 billing`, or why it refused.
pub(super) async fn outcome(client: &Client, path: &str) -> String {
    use countersign::protocol::wire::reply::ReplyError;
    let Ok(request) = Request::get(path).body(Bytes::new()) else { return "no request".to_owned() };
    match client.send(request).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let body = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
            let body = String::from_utf8_lossy(&body).into_owned();
            Answer { status: parts.status.as_u16(), headers: parts.headers, body }.summary()
        }
        Err(ClientError::Handshake { error: ReplyError::ServerImpostor, .. }) => "server-impostor".to_owned(),
        Err(ClientError::Handshake { error: ReplyError::Status { status, .. }, .. }) => format!("{status}"),
        Err(ClientError::Connect { why, .. }) if why.contains("not the pinned one") => {
            "wrong TLS key".to_owned()
        }
        Err(error) => error.to_string(),
    }
}
