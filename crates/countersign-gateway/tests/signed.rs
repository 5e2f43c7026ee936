//! Signed requests that somebody changes on their way to a gateway: what the service behind it gets of them.

#![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::protocol::UnixTime;
use countersign::protocol::cs1::request::{Nonce, RequestParts, SigningAs, sign_as};
use countersign::protocol::cs1::{KeyName, PairKeys};
use countersign::protocol::mac::MacKey;
use countersign::server::{Authenticator, Clock};
use countersign::store::{Cs1Options, Trust, random};
use countersign::{ApiKey, MemoryStore, NewKeys, NewPeer, PeerStore, SharedSecret};
use countersign_gateway::{Gateway, Metrics, Settings, Upstream};
use http::{HeaderMap, HeaderName, HeaderValue};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

const PATIENCE: Duration = Duration::from_secs(60);

/// A gateway that `billing` may call without a handshake, and what its upstream has got when the connection ended.
struct Passed {
    gateway: SocketAddr,
    client: ApiKey,
    server: ApiKey,
    keys: PairKeys,
    upstream: JoinHandle<String>,
}

impl Passed {
    /// With an upstream that answers as soon as it has read `until`.
    async fn start(until: &'static str) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let upstream = format!("http://{}", listener.local_addr().unwrap());
        let [client, server] = [random(), random()].map(|bytes| ApiKey::generate(&bytes));
        let secret = SharedSecret::generate(&random());
        let store = MemoryStore::new();
        let peer = NewPeer {
            name: "billing".parse().unwrap(),
            url: None,
            trust: Trust::System,
            danger_unproven_server: false,
            cs1: Cs1Options { danger_direct: true, ..Cs1Options::default() },
            keys: NewKeys::cs1(server.clone(), client.clone(), secret.clone()).unwrap(),
        };
        store.add(peer, UnixTime(1)).unwrap();
        let builder = Authenticator::builder("orders".parse().unwrap(), Arc::new(store));
        let authenticator = builder.state(Arc::new(MemoryStore::new())).build().unwrap();
        let mut settings = Settings::new(vec!["http://127.0.0.1:0".parse().unwrap()]);
        settings.upstream = Some(Upstream::new(&upstream, &Trust::System, PATIENCE, PATIENCE).unwrap());
        let gateway = Gateway::bind(authenticator.clone(), Metrics::new(), settings).await.unwrap();
        let address = gateway.listening().first().unwrap().address;
        authenticator.set_external_urls(vec![format!("http://{address}").parse().unwrap()]);
        tokio::spawn(gateway.run(std::future::pending()));
        let upstream = tokio::spawn(async move {
            let (mut stream, _) = listener.accept().await.unwrap();
            let (mut got, mut piece) = (Vec::new(), [0; 4096]);
            while let Ok(read @ 1..) = stream.read(&mut piece).await {
                got.extend_from_slice(piece.get(..read).unwrap());
                if String::from_utf8_lossy(&got).ends_with(until) {
                    stream
                        .write_all(b"HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n")
                        .await
                        .unwrap();
                    break;
                }
            }
            String::from_utf8_lossy(&got).into_owned()
        });
        let keys = PairKeys::derive(&secret, &client, &server);
        Self { gateway: address, client, server, keys, upstream }
    }

    /// The head of a signed request, and behind it what somebody adds.
    fn head(&self, lines: &[(&'static str, &'static str)], added: &str) -> String {
        let authority = self.gateway.to_string();
        let mut fields: HeaderMap = lines
            .iter()
            .map(|(name, value)| (HeaderName::from_static(name), HeaderValue::from_static(value)))
            .collect();
        fields.insert("host", authority.parse().unwrap());
        let parts = RequestParts {
            method: "PUT",
            authority: &authority,
            path: "/orders",
            query: None,
            fields: &fields,
        };
        let key = MacKey::new(self.keys.direct().client_to_server.as_slice());
        let name = KeyName::Direct { client: self.client.expose(), server: self.server.expose() };
        let (now, nonce) = (Clock::start().now(), Nonce::Random(random()));
        let signed = sign_as(&SigningAs { key: &key, name, now, window: 20, nonce }, &parts).unwrap();
        fields.insert("signature-input", signed.signature_input);
        fields.insert("signature", signed.signature);
        let lines = fields.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
        format!("PUT /orders HTTP/1.1\r\n{}{added}\r\n", lines.collect::<String>())
    }

    /// What the gateway answers, and what its upstream has got.
    async fn send(self, request: String) -> (String, String) {
        let mut stream = TcpStream::connect(self.gateway).await.unwrap();
        stream.write_all(request.as_bytes()).await.unwrap();
        let mut answer = Vec::new();
        let read = tokio::time::timeout(PATIENCE, stream.read_to_end(&mut answer));
        let _ = read.await.unwrap();
        let got = tokio::time::timeout(PATIENCE, self.upstream).await.unwrap().unwrap();
        (String::from_utf8_lossy(&answer).into_owned(), got)
    }
}

#[tokio::test]
async fn a_signed_precondition_reaches_the_upstream_whatever_connection_names() {
    let passed = Passed::start("\r\n\r\n").await;
    let added = "connection: close, if-match, idempotency-key, x-hop\r\nx-hop: 1\r\n";
    let head = passed.head(&[("if-match", "\"v1\""), ("idempotency-key", "7")], added);
    let (answer, got) = passed.send(head).await;
    assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    assert!(got.contains("\r\nif-match: \"v1\"\r\n") && got.contains("\r\nidempotency-key: 7\r\n"), "{got}");
    assert!(!got.contains("x-hop"), "what was not signed is a hop's: {got}");
}

#[tokio::test]
async fn an_upstream_never_gets_a_forged_stream_complete() {
    for (framing, content) in [
        ("content-length: 6\r\n", "forged"),
        ("transfer-encoding: chunked\r\n", "6\r\nforged\r\n0\r\n\r\n"),
        ("transfer-encoding: chunked\r\n", "6\r\nforged\r\n0\r\ncountersign-body-mac: AAAA\r\n\r\n"),
    ] {
        let passed = Passed::start("forged\r\n0\r\n\r\n").await;
        let head = passed.head(&[("countersign-body", "stream")], &format!("connection: close\r\n{framing}"));
        let (answer, got) = passed.send(head + content).await;
        assert!(answer.starts_with("HTTP/1.1 401 ") && answer.contains("digest-mismatch"), "{answer}");
        assert!(!answer.contains("\r\nsignature"), "{answer}");
        let head = got.to_ascii_lowercase();
        // CS-57
        assert!(!head.contains("content-length") && !got.ends_with("0\r\n\r\n"), "{got}");
    }
}
