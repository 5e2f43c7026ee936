//! A caller under `cs1`, made of the protocol's client half, that a test can make do what no honest one does.

use bytes::Bytes;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::client::{Credential, Established, Randomness, start};
use countersign::protocol::cs1::content::content_digest;
use countersign::protocol::cs1::request::{Instructions, Nonce, RequestParts, SigningAs, sign_as};
use countersign::protocol::cs1::response::{ResponseParts, verify};
use countersign::protocol::cs1::{Binding, Exporter, KeyName, PairKeys, SessionKeys};
use countersign::protocol::mac::MacKey;
use countersign::protocol::refusal::Refusal;
use countersign::protocol::wire::{Incoming, Outgoing};
use countersign::store::{Cs1Options, random};
use countersign::{ApiKey, NewKeys, NewPeer, SharedSecret};
use http::{HeaderMap, Request};
use zeroize::Zeroizing;

use super::{Answer, World, new_key, new_peer, new_secret};

/// Where the server of a [`World`] is reached.
pub(crate) const AUTHORITY: &str = "orders.example";

/// What the client of a pair holds.
#[derive(Clone, Debug)]
pub(crate) struct Pair {
    pub(crate) ours: ApiKey,
    pub(crate) servers: ApiKey,
    pub(crate) secret: SharedSecret,
}

impl Pair {
    pub(crate) fn new() -> Self {
        Self { ours: new_key(), servers: new_key(), secret: new_secret() }
    }

    /// The client as its server has it.
    pub(crate) fn peer(&self, name: &str, cs1: Cs1Options) -> NewPeer {
        let keys = NewKeys::cs1(self.servers.clone(), self.ours.clone(), self.secret.clone()).unwrap();
        NewPeer { cs1, ..new_peer(name, keys) }
    }

    pub(crate) fn credential(&self) -> Credential {
        Credential::new(&self.secret, self.ours.clone(), self.servers.clone())
    }

    /// Kreq and Krsp.
    pub(crate) fn direct(&self) -> SessionKeys {
        PairKeys::derive(&self.secret, &self.ours, &self.servers).direct().clone()
    }

    /// What `keyid` says without a handshake.
    pub(crate) fn name(&self) -> KeyName<'_> {
        KeyName::Direct { client: self.ours.expose(), server: self.servers.expose() }
    }
}

/// M1 to M4 as they were, in time for a test to look at them.
pub(crate) struct Shaken {
    pub(crate) m1: Bytes,
    pub(crate) m2: Answer,
    pub(crate) m3: Bytes,
    pub(crate) m4: Answer,
}

impl World {
    /// A world in which `pair` is known as `ledger`.
    pub(crate) fn with_pair(pair: &Pair, options: Cs1Options) -> Self {
        let world = Self::with(|builder| builder.external_urls([reached()]));
        world.add(pair.peer("ledger", options));
        world.hide(pair.secret.expose());
        world
    }

    pub(crate) async fn say(&self, message: Outgoing, exporter: Option<&Exporter>) -> Answer {
        let mut request = Request::post(message.path).body(Bytes::from(message.body.to_vec())).unwrap();
        if let Some(exporter) = exporter {
            request.extensions_mut().insert(countersign::server::TlsExporter(exporter.clone()));
        }
        self.send(request).await
    }

    /// A handshake with everything as it should be.
    pub(crate) async fn shake(&self, pair: &Pair) -> Session {
        self.shake_bound(pair, Binding::None, None).await.unwrap()
    }

    /// A handshake with this binding on a connection with this exporter; the answer if the server refuses.
    pub(crate) async fn shake_bound(
        &self,
        pair: &Pair,
        binding: Binding,
        exporter: Option<&Exporter>,
    ) -> Result<Session, Answer> {
        let credential = pair.credential();
        let random = Randomness { nonce: random(), ephemeral: Zeroizing::new(random()) };
        let (m1, waiting) = start(&credential, binding, &random);
        let m2 = self.say(m1, exporter).await;
        let (m3, waiting) = waiting.receive(&incoming(&m2), exporter).unwrap();
        let m4 = self.say(m3, exporter).await;
        match waiting.receive(&incoming(&m4)) {
            Ok(established) => {
                self.hide(&established.ticket);
                Ok(Session(established))
            }
            Err(_) => Err(m4),
        }
    }
}

pub(crate) fn reached() -> countersign::server::ExternalUrl {
    format!("https://{AUTHORITY}").parse().unwrap()
}

pub(crate) fn incoming(answer: &Answer) -> Incoming<'_> {
    Incoming { status: answer.status, headers: &answer.headers, body: &answer.body }
}

/// A session of an honest client.
pub(crate) struct Session(pub(crate) Established);

impl Session {
    pub(crate) fn now(&self) -> UnixTime {
        self.0.time
    }

    pub(crate) fn signer(&self) -> Signer<'_> {
        Signer {
            name: KeyName::Ticket(&self.0.ticket),
            keys: self.0.keys.clone(),
            now: self.0.time,
            window: 60,
        }
    }

    /// A signed request with this content.
    pub(crate) fn sign(&self, request: http::request::Builder, content: &'static str) -> Request<Bytes> {
        self.signer().sign(request, content)
    }
}

/// With what requests are signed.
#[derive(Clone)]
pub(crate) struct Signer<'a> {
    pub(crate) name: KeyName<'a>,
    pub(crate) keys: SessionKeys,
    pub(crate) now: UnixTime,
    pub(crate) window: u64,
}

impl Signer<'_> {
    pub(crate) fn sign(&self, request: http::request::Builder, content: &'static str) -> Request<Bytes> {
        self.sign_with(request, content, Nonce::Random(random()))
    }

    pub(crate) fn sign_with(
        &self,
        request: http::request::Builder,
        content: &'static str,
        nonce: Nonce<'_>,
    ) -> Request<Bytes> {
        let mut request =
            request.header("host", AUTHORITY).body(Bytes::from_static(content.as_bytes())).unwrap();
        if !content.is_empty() {
            let digest = content_digest(content.as_bytes()).unwrap();
            request.headers_mut().insert("content-digest", digest);
        }
        let instructions = self.instructions(&request, nonce);
        let fields = request.headers_mut();
        fields.insert("signature-input", instructions.signature_input);
        fields.insert("signature", instructions.signature);
        request
    }

    pub(crate) fn instructions<B>(&self, request: &Request<B>, nonce: Nonce<'_>) -> Instructions {
        let key = MacKey::new(self.keys.client_to_server.as_slice());
        let Self { name, now, window, .. } = *self;
        sign_as(&SigningAs { key: &key, name, now, window, nonce }, &parts(request)).unwrap()
    }

    /// Verifies an answer to this request as the client would.
    pub(crate) fn verify<B>(&self, request: &Request<B>, answer: &Answer) -> Result<(), Refusal> {
        let key = MacKey::new(self.keys.server_to_client.as_slice());
        let response =
            ResponseParts { status: answer.status, fields: &answer.headers, request: parts(request) };
        let mut check = verify(&key, &response)?.content().check();
        check.update(&answer.body);
        check.finish()
    }
}

pub(crate) fn parts<B>(request: &Request<B>) -> RequestParts<'_> {
    RequestParts {
        method: request.method().as_str(),
        authority: AUTHORITY,
        path: request.uri().path(),
        query: request.uri().query(),
        fields: request.headers(),
    }
}

/// Changes the fields of a signed request.
pub(crate) fn with(mut request: Request<Bytes>, change: impl FnOnce(&mut HeaderMap)) -> Request<Bytes> {
    change(request.headers_mut());
    request
}
