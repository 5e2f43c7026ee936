//! Somebody in between, who even has orders' TLS key: what TLS alone would let him do, message by message.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex, PoisonError};

use countersign::client::tls_config;
use countersign_gateway::TlsIdentity;
use rustls::pki_types::ServerName;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio_rustls::{TlsAcceptor, TlsConnector};

use super::stage::Service;
use crate::failure::Failure;

/// Longer than any message of the demo.
const MAX: usize = 64 * 1024;

/// What he does to what passes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Attack {
    /// Hands on everything as it is.
    None,
    /// Puts other content into requests.
    ChangeRequest,
    /// Puts other content into answers.
    ChangeAnswer,
    /// Takes the signature off answers.
    StripAnswer,
    /// Sends every request twice; the caller gets the first answer.
    Replay,
    /// Answers handshakes as a server that does not know `cs1` would, with a challenge of guide 1.
    Downgrade,
}

/// The one in between. He is gone when this is dropped.
pub(super) struct Between {
    pub(super) url: String,
    shared: Arc<Shared>,
    running: JoinHandle<()>,
}

struct Shared {
    acceptor: TlsAcceptor,
    connector: TlsConnector,
    orders: SocketAddr,
    attack: Mutex<Attack>,
    /// The status and the type of what the second of two requests got.
    second: Mutex<Option<String>>,
}

impl Between {
    pub(super) async fn start(orders: &Service) -> Result<Self, Failure> {
        let identity = TlsIdentity::load(&orders.home.certificate_file(), &orders.home.tls_key_file())?;
        let mut server = identity.server_config()?;
        let mut client = tls_config(&orders.trust)?;
        for protocols in [&mut server.alpn_protocols, &mut client.alpn_protocols] {
            *protocols = vec![b"http/1.1".to_vec()];
        }
        let address = orders.url.split_once("://").map_or("", |(_, rest)| rest).trim_end_matches('/');
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let url = format!("https://{}", listener.local_addr()?);
        let shared = Arc::new(Shared {
            acceptor: TlsAcceptor::from(Arc::new(server)),
            connector: TlsConnector::from(Arc::new(client)),
            orders: address.parse()?,
            attack: Mutex::new(Attack::None),
            second: Mutex::default(),
        });
        let accepting = Arc::clone(&shared);
        let running = tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let shared = Arc::clone(&accepting);
                // Whatever goes wrong in between, the caller sees a connection that ends.
                tokio::spawn(async move { drop(shared.carry(stream).await) });
            }
        });
        Ok(Self { url, shared, running })
    }

    /// From now on he does this.
    pub(super) fn set(&self, attack: Attack) {
        *self.shared.attack.lock().unwrap_or_else(PoisonError::into_inner) = attack;
    }

    /// What the second of two requests got.
    pub(super) fn second(&self) -> String {
        self.shared.second.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default()
    }
}

impl Drop for Between {
    fn drop(&mut self) {
        self.running.abort();
    }
}

impl Shared {
    async fn carry(&self, stream: TcpStream) -> Result<(), Failure> {
        let mut caller = self.acceptor.accept(stream).await?;
        while let Some(mut request) = Message::read(&mut caller).await? {
            let attack = *self.attack.lock().unwrap_or_else(PoisonError::into_inner);
            let is_handshake = ["POST /authenticate ", "POST /verify_challenge "]
                .iter()
                .any(|line| request.head.starts_with(line));
            let answer = match attack {
                Attack::Downgrade if is_handshake => Message {
                    head: "HTTP/1.1 200 OK\r\ncontent-type: application/json".to_owned(),
                    content: br#"{"challenge":"AAECAwQFBgcICQoLDA0ODw==","expiresIn":30}"#.to_vec(),
                },
                _ if is_handshake => self.ask(&request).await?,
                Attack::ChangeRequest => {
                    request.content = b"{\"amount\":5000}".to_vec();
                    self.ask(&request).await?
                }
                Attack::Replay => {
                    let first = self.ask(&request).await?;
                    let second = self.ask(&request).await?.summary();
                    *self.second.lock().unwrap_or_else(PoisonError::into_inner) = Some(second);
                    first
                }
                Attack::ChangeAnswer => {
                    let mut answer = self.ask(&request).await?;
                    answer.content = b"{\"service\":\"somebody else\"}".to_vec();
                    answer
                }
                Attack::StripAnswer => self.ask(&request).await?.without(&["signature", "signature-input"]),
                Attack::None | Attack::Downgrade => self.ask(&request).await?,
            };
            answer.write(&mut caller).await?;
        }
        Ok(())
    }

    /// Sends a request to orders, over a connection of its own.
    async fn ask(&self, request: &Message) -> Result<Message, Failure> {
        let stream = TcpStream::connect(self.orders).await?;
        let name = ServerName::from(self.orders.ip());
        let mut orders = self.connector.connect(name, stream).await?;
        request.write(&mut orders).await?;
        Message::read(&mut orders).await?.ok_or_else(|| Failure::new("orders has hung up"))
    }
}

/// A message of HTTP/1.1 with a length.
struct Message {
    head: String,
    content: Vec<u8>,
}

impl Message {
    /// `None` at the end of the connection.
    async fn read(from: &mut (impl AsyncRead + Unpin)) -> Result<Option<Self>, Failure> {
        let mut bytes = Vec::new();
        let end = loop {
            if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
                break end;
            }
            if bytes.len() > MAX || from.read_buf(&mut bytes).await? == 0 {
                return Ok(None);
            }
        };
        let mut content = bytes.split_off(end + 4);
        bytes.truncate(end);
        let message = Self { head: String::from_utf8_lossy(&bytes).into_owned(), content: Vec::new() };
        let length = message.field("content-length").and_then(|length| length.parse().ok()).unwrap_or(0);
        while content.len() < length {
            if length > MAX || from.read_buf(&mut content).await? == 0 {
                return Err(Failure::new("a message was cut off"));
            }
        }
        Ok(Some(Self { content, ..message }))
    }

    fn field(&self, name: &str) -> Option<&str> {
        let fields = self.head.lines().filter_map(|line| line.split_once(':'));
        fields.into_iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, value)| value.trim())
    }

    fn without(mut self, names: &[&str]) -> Self {
        let is_kept = |line: &&str| {
            let name = line.split(':').next().unwrap_or_default();
            !names.iter().any(|gone| name.eq_ignore_ascii_case(gone))
        };
        self.head = self.head.lines().filter(is_kept).collect::<Vec<_>>().join("\r\n");
        self
    }

    async fn write(&self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), Failure> {
        let fields = self
            .head
            .lines()
            .filter(|line| !line.get(..15).is_some_and(|name| name.eq_ignore_ascii_case("content-length:")));
        let head = fields.collect::<Vec<_>>().join("\r\n");
        let length = self.content.len();
        let mut bytes = format!("{head}\r\ncontent-length: {length}\r\n\r\n").into_bytes();
        bytes.extend_from_slice(&self.content);
        to.write_all(&bytes).await?;
        Ok(to.flush().await?)
    }

    /// `401 request-replayed`
    fn summary(&self) -> String {
        let status = self.head.split(' ').nth(1).unwrap_or_default();
        let body: serde_json::Value = serde_json::from_slice(&self.content).unwrap_or_default();
        let kind = body.get("type").and_then(|kind| kind.as_str()).unwrap_or_default();
        format!("{status} {}", kind.rsplit(':').next().unwrap_or_default())
    }
}
