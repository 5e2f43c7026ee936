//! HTTP/1.1 by hand: every byte that goes out is the test's.

use std::io::{ErrorKind, Read as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::time::Duration;

use serde_json::Value;
use tokio::net::TcpSocket;

use super::PATIENCE;

/// One connection.
pub struct Connection {
    stream: TcpStream,
    /// What was read and not used yet.
    rest: Vec<u8>,
}

/// A response.
#[derive(Debug)]
pub struct Reply {
    pub status: u16,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
}

impl Reply {
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(found, _)| found == name).map(|(_, value)| value.as_str())
    }

    #[track_caller]
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// A problem of ours with this status and name.
    #[track_caller]
    pub fn assert_problem(&self, status: u16, name: &str) {
        assert_eq!(self.status, status, "{self:?}");
        assert_eq!(self.json()["type"], format!("urn:countersign:problem:{name}"));
        assert_eq!(self.header("content-type"), Some("application/problem+json"));
    }
}

/// As [`Connection::open_from`], for who reads by himself.
pub fn connect_from(source: Ipv4Addr, address: &str) -> std::io::Result<TcpStream> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_io().build()?;
    let address = address.parse().map_err(|_| ErrorKind::AddrNotAvailable)?;
    let connected = runtime.block_on(async {
        let socket = TcpSocket::new_v4()?;
        socket.bind(SocketAddr::from((source, 0)))?;
        socket.connect(address).await?.into_std()
    })?;
    connected.set_nonblocking(false)?;
    Ok(connected)
}

impl Connection {
    pub fn open(address: &str) -> Self {
        Self::over(TcpStream::connect(address).unwrap())
    }

    /// A connection, if anybody listens.
    pub fn try_open(address: &str) -> std::io::Result<Self> {
        TcpStream::connect(address).map(Self::over)
    }

    /// A connection from an address of our choice: on Linux all of 127.0.0.0/8 is this machine's.
    pub fn open_from(source: Ipv4Addr, address: &str) -> Self {
        Self::over(connect_from(source, address).unwrap())
    }

    fn over(stream: TcpStream) -> Self {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_write_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
        Self { stream, rest: Vec::new() }
    }

    /// Sends bytes; `false` if the other side has gone.
    pub fn try_send(&mut self, bytes: impl AsRef<[u8]>) -> bool {
        self.stream.write_all(bytes.as_ref()).is_ok()
    }

    #[track_caller]
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        assert!(self.try_send(bytes), "the other side has gone");
    }

    /// Says that nothing more will come from here; the other side can still answer.
    pub fn finish_sending(&mut self) {
        self.stream.shutdown(std::net::Shutdown::Write).unwrap();
    }

    /// Reads more; `false` at the end of the connection. Fails if neither comes.
    #[track_caller]
    fn more(&mut self) -> bool {
        let mut buffer = [0; 16 * 1024];
        match self.stream.read(&mut buffer) {
            Ok(0) => false,
            Ok(length) => {
                self.rest.extend_from_slice(&buffer[..length]);
                true
            }
            // With unread bytes of ours the other side's system closes this way.
            Err(error) if error.kind() == ErrorKind::ConnectionReset => false,
            Err(error) => panic!("neither bytes nor an end: {error}"),
        }
    }

    /// Waits until `end` has come; what came up to it. `None` if the connection ends before.
    pub fn until(&mut self, end: &[u8]) -> Option<Vec<u8>> {
        loop {
            if let Some(start) = self.rest.windows(end.len()).position(|window| window == end) {
                return Some(self.rest.drain(..start + end.len()).collect());
            }
            if !self.more() {
                return None;
            }
        }
    }

    /// Waits for so many bytes.
    fn exactly(&mut self, length: usize) -> Option<Vec<u8>> {
        while self.rest.len() < length {
            if !self.more() {
                return None;
            }
        }
        Some(self.rest.drain(..length).collect())
    }

    /// The head of a response, without its body.
    pub fn head(&mut self) -> Option<Reply> {
        let head = String::from_utf8(self.until(b"\r\n\r\n")?).unwrap();
        let mut lines = head.trim_end().split("\r\n");
        let status = lines.next().unwrap().split(' ').nth(1).unwrap().parse().unwrap();
        let headers = lines
            .map(|line| line.split_once(':').unwrap())
            .map(|(name, value)| (name.to_ascii_lowercase(), value.trim().to_owned()))
            .collect();
        Some(Reply { status, headers, body: Vec::new() })
    }

    /// One piece of a chunked body; `None` after the last.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let line = String::from_utf8(self.until(b"\r\n")?).unwrap();
        let length = usize::from_str_radix(line.trim(), 16).unwrap();
        let piece = self.exactly(length)?;
        self.until(b"\r\n")?;
        (length > 0).then_some(piece)
    }

    /// A whole response. `None` if the connection ends before.
    pub fn reply(&mut self) -> Option<Reply> {
        let mut reply = self.head()?;
        if let Some(length) = reply.header("content-length") {
            reply.body = self.exactly(length.parse().unwrap())?;
        } else if reply.header("transfer-encoding").is_some() {
            while let Some(piece) = self.chunk() {
                reply.body.extend(piece);
            }
        }
        Some(reply)
    }

    /// Waits for the end of the connection; what came before it.
    #[track_caller]
    pub fn closed(&mut self) -> Vec<u8> {
        while self.more() {}
        std::mem::take(&mut self.rest)
    }

    /// Whether nothing at all comes for a moment.
    pub fn is_silent(&mut self) -> bool {
        self.stream.set_read_timeout(Some(Duration::from_millis(200))).unwrap();
        let silent = self.rest.is_empty() && self.stream.read(&mut [0; 1]).is_err();
        self.stream.set_read_timeout(Some(PATIENCE)).unwrap();
        silent
    }
}

/// One request on a connection of its own.
#[track_caller]
pub fn exchange(address: &str, method: &str, path: &str, headers: &[(&str, &str)], body: &[u8]) -> Reply {
    let reply = try_exchange(address, method, path, headers, body);
    reply.unwrap_or_else(|| panic!("no response to {method} {path}"))
}

/// The same with a server that may be gone.
pub fn try_exchange(
    address: &str,
    method: &str,
    path: &str,
    headers: &[(&str, &str)],
    body: &[u8],
) -> Option<Reply> {
    let mut head = format!("{method} {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n");
    for (name, value) in headers {
        head.push_str(&format!("{name}: {value}\r\n"));
    }
    if !body.is_empty() {
        head.push_str(&format!("Content-Length: {}\r\n", body.len()));
    }
    let mut connection = Connection::try_open(address).ok()?;
    let sent = connection.try_send(format!("{head}\r\n")) && connection.try_send(body);
    if sent { connection.reply() } else { None }
}

/// A JSON body to an endpoint.
#[track_caller]
pub fn post(address: &str, path: &str, headers: &[(&str, &str)], body: &Value) -> Reply {
    let mut with_type = vec![("Content-Type", "application/json")];
    with_type.extend_from_slice(headers);
    exchange(address, "POST", path, &with_type, body.to_string().as_bytes())
}
