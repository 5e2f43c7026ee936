//! The accepting side of a pairing (`specs/pairing.md`, section 6) over the network.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use bytes::Bytes;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::pairing::accepter::{self, Paired, PairingError, Randomness};
use countersign_protocol::pairing::{Code, Pin, REPEAT_WITHIN, Statement};
use countersign_protocol::wire::reply::ReplyError;
use countersign_protocol::wire::{Incoming, MAX_REPLY, Outgoing};
use countersign_store::{Cs1Options, KeysError, NewKeys, NewPeer, Trust, random};
use http::{HeaderMap, Method, Request};
use http_body_util::{BodyExt as _, Full, Limited};
use hyper_rustls::{HttpsConnector, HttpsConnectorBuilder};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::crypto::{WebPkiSupportedAlgorithms, aws_lc_rs, verify_tls13_signature};
use rustls::{CertificateError, ClientConfig, DigitallySignedStruct, Error, SignatureScheme};
use rustls_pki_types::{CertificateDer, ServerName, UnixTime};
use zeroize::Zeroizing;

use super::pin::{certificate_pin, check_name};
use super::{BaseUrl, ClientError, failed};

/// Why the accepting side holds no pair. Nothing is stored then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AcceptError {
    /// The network or TLS says no.
    #[error(transparent)]
    Network(#[from] ClientError),
    /// The other side says no, or is not the one that has the words.
    #[error(transparent)]
    Pairing(#[from] PairingError),
    /// The other side stated a name that is taken here. Nothing was confirmed, and the code is burned.
    #[error(
        "the other side calls itself `{0}`, and so is {1} called here: nothing was confirmed. Ask for the next words, and give --name with another name"
    )]
    NameTaken(ServiceName, Whom),
    /// The keys make no pair: with a probability that is none.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The other side may hold the pair, and this side does not.
    #[error(
        "the other side was sent our confirmation, and no answer came within {seconds} seconds ({last}). If its `pair offer` says that it is paired, its operator removes that peer again; then pair anew"
    )]
    Unanswered {
        /// How long it was repeated.
        seconds: u64,
        /// What the last try came to.
        last: String,
    },
}

impl AcceptError {
    /// The reason on the trail: stable.
    #[must_use]
    pub const fn code(&self) -> &'static str {
        match self {
            Self::Network(_) => "unreachable",
            Self::Pairing(PairingError::Answer(ReplyError::Status { status: 401, .. })) => "pairing-failed",
            Self::Pairing(PairingError::Answer(ReplyError::Status { status: 409, .. })) => "pairing-refused",
            Self::Pairing(PairingError::Impostor) => "pairing-impostor",
            Self::Pairing(PairingError::Misbound) => "pairing-misbound",
            Self::Pairing(_) => "pairing-answer",
            Self::NameTaken(..) => "pairing-name-taken",
            Self::Keys(_) => "pairing-keys",
            Self::Unanswered { .. } => "pairing-unanswered",
        }
    }
}

/// Who has a name already.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Whom {
    /// Another peer.
    Peer,
    /// This service.
    Ourselves,
}

impl std::fmt::Display for Whom {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Self::Peer => "a peer",
            Self::Ourselves => "this service itself",
        })
    }
}

/// What the accepting side brings.
#[derive(Clone, Debug)]
pub struct Ours {
    /// Its name, which it states.
    pub service: ServiceName,
    /// The offerer's name here; `None` for the one that it states.
    pub name: Option<ServiceName>,
    /// Where it serves, if it does.
    pub url: Option<String>,
    /// The pin of the TLS key that it serves with.
    pub pin: Option<Pin>,
    /// Whether the offerer's certificate is to be judged by the system's authorities from here on, and not by its pin.
    pub system_trust: bool,
    /// How long each step may take.
    pub timeout: Duration,
    /// How long an unanswered confirmation is repeated. At most [`REPEAT_WITHIN`] seconds are of use.
    pub repeat: Duration,
}

/// Exchanges what the words of `code` allow with the service at `base`, and gives the peer to be added. `is_taken` says
/// whether a peer of this name is there: it is asked before anything is confirmed.
///
/// The server's certificate is not judged: its key is noted, and has to be one that the offerer names under the words'
/// key. No other request may rest on this connection.
///
/// # Errors
/// See [`AcceptError`].
pub async fn accept(
    code: &Code,
    base: &BaseUrl,
    ours: Ours,
    is_taken: impl FnOnce(&ServiceName) -> bool,
) -> Result<NewPeer, AcceptError> {
    let dial = Dial::new(base, ours.timeout)?;
    let url = base.to_string();
    let drawn = Randomness { session: random(), scalar: Zeroizing::new(random()) };
    let (request, waiting) = accepter::start(code, &url, &drawn).map_err(PairingError::from)?;
    let answer = dial.post(&request).await?;
    let ready = waiting.receive(&answer.incoming())?;
    let name = ours.name.clone().unwrap_or_else(|| ready.service().clone());
    if name == ours.service {
        return Err(AcceptError::NameTaken(name, Whom::Ourselves));
    }
    if is_taken(&name) {
        return Err(AcceptError::NameTaken(name, Whom::Peer));
    }
    let seen = dial.seen();
    let statement = Statement { service: ours.service, url: ours.url, pin: ours.pin, seen };
    let (request, waiting) = ready.confirm(&statement, random());
    let answer = dial.repeat(&request, ours.repeat).await?;
    let Paired { terms, pair, .. } = waiting.receive(&answer.incoming())?;
    let trust = match seen {
        Some(pin) if !ours.system_trust => Trust::Pin(pin),
        _ => Trust::System,
    };
    Ok(NewPeer {
        name,
        url: Some(url),
        trust,
        danger_unproven_server: false,
        cs1: Cs1Options { binding: terms.binding, danger_direct: false },
        keys: NewKeys::cs1(pair.accepter_key, pair.offerer_key, pair.secret)?,
    })
}

struct Answer {
    status: u16,
    headers: HeaderMap,
    body: Bytes,
}

impl Answer {
    fn incoming(&self) -> Incoming<'_> {
        Incoming { status: self.status, headers: &self.headers, body: &self.body }
    }
}

/// Speaks to one server whose certificate nobody has vouched for.
struct Dial {
    base: BaseUrl,
    client: Client<HttpsConnector<HttpConnector>, Full<Bytes>>,
    noted: Arc<Noted>,
    timeout: Duration,
}

impl Dial {
    fn new(base: &BaseUrl, timeout: Duration) -> Result<Self, ClientError> {
        let provider = Arc::new(aws_lc_rs::default_provider());
        let noted =
            Arc::new(Noted { pin: Mutex::new(None), algorithms: provider.signature_verification_algorithms });
        let config = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .map_err(|error| ClientError::Trust(error.to_string()))?
            .dangerous()
            .with_custom_certificate_verifier(Arc::clone(&noted) as Arc<dyn ServerCertVerifier>)
            .with_no_client_auth();
        let mut tcp = HttpConnector::new();
        tcp.enforce_http(false);
        tcp.set_connect_timeout(Some(timeout));
        let connector = HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_or_http()
            .enable_http1()
            .wrap_connector(tcp);
        let client = Client::builder(TokioExecutor::new())
            .retry_canceled_requests(false)
            .pool_max_idle_per_host(0)
            .build(connector);
        Ok(Self { base: base.clone(), client, noted, timeout })
    }

    /// The pin of the key that the server has shown; `None` without TLS.
    fn seen(&self) -> Option<Pin> {
        *self.noted.pin.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn post(&self, outgoing: &Outgoing) -> Result<Answer, ClientError> {
        let url = self.base.below(outgoing.path)?;
        let mut request = Request::new(Full::new(Bytes::copy_from_slice(&outgoing.body)));
        *request.method_mut() = Method::POST;
        *request.headers_mut() = outgoing.headers.clone();
        *request.uri_mut() = url.clone();
        let read = async {
            let sent = self.client.request(request).await;
            let (parts, body) = sent
                .map_err(|error| {
                    let url = self.base.to_string();
                    if error.is_connect() {
                        failed::to_connect(url, &error)
                    } else {
                        failed::to_answer(url, &error)
                    }
                })?
                .into_parts();
            let body = Limited::new(body, MAX_REPLY).collect().await;
            let body = body.map_err(|error| failed::to_answer(self.base.to_string(), &*error))?.to_bytes();
            Ok(Answer { status: parts.status.as_u16(), headers: parts.headers, body })
        };
        match tokio::time::timeout(self.timeout, read).await {
            Ok(answer) => answer,
            Err(_) => Err(ClientError::Timeout { url: url.to_string(), seconds: self.timeout.as_secs() }),
        }
    }

    /// Sends the same until it is answered: the answer may have been lost, and the server may be starting again.
    async fn repeat(&self, outgoing: &Outgoing, patience: Duration) -> Result<Answer, AcceptError> {
        let since = Instant::now();
        let patience = patience.min(Duration::from_secs(REPEAT_WITHIN));
        let mut pause = Duration::from_millis(250);
        loop {
            let last = match self.post(outgoing).await {
                Ok(answer) if answer.status == 429 || answer.status >= 500 => {
                    format!("it answered {}", answer.status)
                }
                Ok(answer) => return Ok(answer),
                Err(error) => error.to_string(),
            };
            if since.elapsed() + pause > patience {
                return Err(AcceptError::Unanswered { seconds: since.elapsed().as_secs(), last });
            }
            tokio::time::sleep(pause).await;
            pause = (pause * 2).min(Duration::from_secs(4));
        }
    }
}

/// Takes note of a server's key and lets it pass, once it is shown that the server has it. Any other one later on is
/// refused.
#[derive(Debug)]
struct Noted {
    pin: Mutex<Option<Pin>>,
    algorithms: WebPkiSupportedAlgorithms,
}

impl ServerCertVerifier for Noted {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        _intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        _ocsp: &[u8],
        _now: UnixTime,
    ) -> Result<ServerCertVerified, Error> {
        let pin = certificate_pin(end_entity).map_err(|_| CertificateError::BadEncoding)?;
        // The peer would be called under this name, which is checked then too.
        check_name(end_entity, server_name)?;
        let mut known = self.pin.lock().unwrap_or_else(PoisonError::into_inner);
        if known.is_some_and(|known| known != pin) {
            return Err(Error::General("the server shows another key than a moment ago".to_owned()));
        }
        *known = Some(pin);
        Ok(ServerCertVerified::assertion())
    }

    fn verify_tls12_signature(
        &self,
        _message: &[u8],
        _certificate: &CertificateDer<'_>,
        _signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        Err(Error::General("TLS 1.2 is not offered".to_owned()))
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signature: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, Error> {
        verify_tls13_signature(message, certificate, signature, &self.algorithms)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.algorithms.supported_schemes()
    }
}
