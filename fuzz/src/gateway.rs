//! Bytes on a connection to a real gateway with a real upstream behind it: what reaches the upstream, and how often.
//!
//! `@TOKEN@` in an input stands for a token that is good. No request reaches the upstream without one, so that there
//! can never be more of them than tokens in the input: what is smuggled into a body, a chunk extension or a folded
//! line would be one too many.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpStream};
use std::sync::{Arc, LazyLock, Mutex, PoisonError};
use std::time::{Duration, Instant};

use axum::Router;
use axum::body::Body;
use countersign::server::{Authenticator, Limits};
use countersign::{MemoryStore, PeerStore as _, Trust};
use countersign_gateway::{Gateway, Metrics, Settings, Upstream};
use countersign_protocol::UnixTime;
use countersign_protocol::shared_secret::sign;
use countersign_store::Quota;
use countersign_store::contract::{key, secret, shared_secret_peer};
use http::header::{AUTHORIZATION, CONTENT_LENGTH, HOST, TRANSFER_ENCODING};
use http::{HeaderMap, Method, Request};
use http_body_util::BodyExt as _;

/// How long a piece of a request may take to come; an input is there at once.
const SHORT: Duration = Duration::from_millis(150);
/// A token is good for 300 seconds.
const TOKEN_AGE: Duration = Duration::from_secs(120);
/// Ends what an input began: a body that is waited for, or the connection.
const END: &[u8] = b"\r\n\r\nGET /end HTTP/1.1\r\nHost: orders\r\nConnection: close\r\n\r\n";

struct Server {
    address: SocketAddr,
    /// What the upstream got, whole.
    seen: Arc<Mutex<Vec<Seen>>>,
    token: Mutex<Option<(String, Instant)>>,
    _runtime: tokio::runtime::Runtime,
}

struct Seen {
    method: Method,
    target: String,
    headers: HeaderMap,
}

static SERVER: LazyLock<Server> = LazyLock::new(|| {
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
    let seen: Arc<Mutex<Vec<Seen>>> = Arc::default();
    let address = runtime.block_on(start(Arc::clone(&seen)));
    Server { address, seen, token: Mutex::default(), _runtime: runtime }
});

async fn start(seen: Arc<Mutex<Vec<Seen>>>) -> SocketAddr {
    let app = Router::new().fallback(move |request: Request<Body>| async move {
        let (parts, body) = request.into_parts();
        // A request that was given up on its way does not count.
        if body.collect().await.is_ok() {
            let target = parts.uri.to_string();
            seen.lock().unwrap().push(Seen { method: parts.method, target, headers: parts.headers });
        }
        "upstream"
    });
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move { axum::serve(listener, app).await });

    let store = MemoryStore::new();
    store.add(shared_secret_peer("billing", 1), UnixTime(0)).unwrap();
    let unlimited = Quota::per_minute(60_000_000, u32::MAX);
    let limits = Limits {
        per_source: unlimited,
        per_key: unlimited,
        refused_per_source: unlimited,
        failures_per_source: unlimited,
        failures_per_key: unlimited,
        ..Limits::default()
    };
    let authenticator = Authenticator::builder("orders".parse().unwrap(), Arc::new(store))
        .limits(limits)
        .body_timeout(SHORT)
        .build()
        .unwrap();
    let mut settings = Settings::new(vec!["http://127.0.0.1:0".parse().unwrap()]);
    settings.upstream = Some(Upstream::new(&url, &Trust::System, SHORT * 20, SHORT).unwrap());
    settings.timeouts.head = SHORT;
    settings.timeouts.body = SHORT;
    let gateway = Gateway::bind(authenticator, Metrics::new(), settings).await.unwrap();
    let address = gateway.listening()[0].address;
    tokio::spawn(gateway.run(std::future::pending()));
    address
}

impl Server {
    /// Sends bytes; what comes until the server ends the connection.
    fn exchange(&self, bytes: &[u8]) -> Vec<u8> {
        let mut stream = TcpStream::connect(self.address).unwrap();
        stream.set_read_timeout(Some(Duration::from_secs(60))).unwrap();
        stream.set_nodelay(true).unwrap();
        // The server may end it before all is sent, and a reset can take the answer with it.
        let _ = stream.write_all(bytes);
        let mut answer = Vec::new();
        if let Err(error) = stream.read_to_end(&mut answer) {
            assert_eq!(
                error.kind(),
                std::io::ErrorKind::ConnectionReset,
                "the server ends a connection in time"
            );
        }
        answer
    }

    /// A token that is good for a while.
    fn token(&self) -> String {
        let mut token = self.token.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((token, made)) = &*token
            && made.elapsed() < TOKEN_AGE
        {
            return token.clone();
        }
        let billing = key(101);
        let post = |path: &str, body: String| {
            let length = body.len();
            let request = format!(
                "POST {path} HTTP/1.1\r\nHost: orders\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n{body}"
            );
            let answer = String::from_utf8(self.exchange(request.as_bytes())).unwrap();
            let (_, body) = answer.split_once("\r\n\r\n").unwrap();
            serde_json::from_str::<serde_json::Value>(body).unwrap()
        };
        let answer = post("/authenticate", format!(r#"{{"apiKey":"{}"}}"#, billing.expose()));
        let challenge = answer["challenge"].as_str().unwrap();
        let signature = sign(&secret(1).mac_key(), &billing, &challenge.parse().unwrap()).to_hex();
        let body = serde_json::json!({
            "apiKey": billing.expose(), "challenge": challenge, "signedChallenge": signature,
        });
        let answer = post("/verify_challenge", body.to_string());
        let made = answer["token"].as_str().unwrap().to_owned();
        *token = Some((made.clone(), Instant::now()));
        made
    }
}

fn replace(bytes: &[u8], from: &[u8], to: &[u8]) -> Vec<u8> {
    let mut replaced = Vec::with_capacity(bytes.len());
    let mut rest = bytes;
    while let Some((first, others)) = rest.split_first() {
        if let Some(behind) = rest.strip_prefix(from) {
            replaced.extend_from_slice(to);
            rest = behind;
        } else {
            replaced.push(*first);
            rest = others;
        }
    }
    replaced
}

pub(crate) fn connection(input: &[u8]) {
    if input.len() > 8 * 1024 {
        return;
    }
    let server = &*SERVER;
    let token = server.token();
    let mut bytes = replace(input, b"@TOKEN@", token.as_bytes());
    let tokens = bytes.windows(token.len()).filter(|window| *window == token.as_bytes()).count();
    for _ in 0..4 {
        bytes.extend_from_slice(END);
    }
    let answer = server.exchange(&bytes);

    let seen = std::mem::take(&mut *server.seen.lock().unwrap());
    // In HTTP/2 one token of the input may be repeated by a number.
    let http2 = bytes.starts_with(b"PRI * HTTP/2.0");
    let most = if http2 && tokens > 0 { usize::MAX } else { tokens };
    assert!(seen.len() <= most, "{} requests reached the upstream with {tokens} tokens", seen.len());
    for request in &seen {
        assert_request(request, &token);
    }
    if !answer.is_empty() && !http2 {
        let line = answer.split(|byte| *byte == b'\r').next().unwrap();
        assert!(line.starts_with(b"HTTP/1.1 ") || line.starts_with(b"HTTP/1.0 "), "{}", line.escape_ascii());
    }
    assert!(!answer.windows(token.len()).any(|window| window == token.as_bytes()), "a token in an answer");
}

/// What the upstream may get.
fn assert_request(request: &Seen, token: &str) {
    let Seen { method, target, headers } = request;
    assert!(*method != Method::CONNECT && *method != Method::TRACE);
    assert!(target.starts_with('/'), "{target}");
    let path = target.split('?').next().unwrap().to_ascii_lowercase().replace("%2e", ".");
    assert!(!path.split(['/', '\\']).any(|segment| segment == ".." || segment == "."), "{target}");
    let one = |name: &str, wanted: &str| {
        let values: Vec<_> = headers.get_all(name).iter().collect();
        assert_eq!(values, [wanted], "{name}");
    };
    one("x-countersign-service", "billing");
    one("x-countersign-credential", "billing/1");
    one("x-countersign-profile", "shared-secret");
    one("x-forwarded-for", "127.0.0.1");
    for name in headers.keys().map(http::HeaderName::as_str) {
        let spelled = name.replace(|c: char| !c.is_ascii_alphanumeric(), "-");
        let ours = spelled.starts_with("x-countersign") || spelled.starts_with("x-forwarded");
        let said = ["service", "credential", "profile", "for", "host"];
        let known = said
            .iter()
            .any(|end| name == format!("x-countersign-{end}") || name == format!("x-forwarded-{end}"));
        assert!(!ours || known, "{name}");
        assert!(
            !["x-api-key", "x-challenge", "x-signature", "forwarded"].contains(&spelled.as_str()),
            "{name}"
        );
    }
    assert_eq!(headers.get_all(HOST).iter().count(), 1);
    let framings =
        headers.get_all(CONTENT_LENGTH).iter().count() + headers.get_all(TRANSFER_ENCODING).iter().count();
    assert!(framings <= 1, "a body with two lengths");
    assert!(headers.get(AUTHORIZATION).is_none_or(|value| !value.as_bytes().ends_with(token.as_bytes())));
}
