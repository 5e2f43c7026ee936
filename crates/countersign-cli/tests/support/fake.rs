//! Servers that do what a test says: upstreams, strangers, impostors.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;

use serde_json::Value;

use super::PATIENCE;

/// A server in a thread. Each connection carries one request.
pub struct Fake {
    pub url: String,
    seen: Arc<Mutex<Vec<Seen>>>,
    stop: Arc<AtomicBool>,
    accepting: Option<JoinHandle<()>>,
}

/// The head of a request as it came.
#[derive(Clone, Debug)]
pub struct Seen {
    pub method: String,
    pub path: String,
    pub headers: Vec<(String, String)>,
}

/// A request that waits for its response.
pub struct Exchange {
    pub seen: Seen,
    stream: BufReader<TcpStream>,
}

impl Seen {
    /// The one value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        let mut values = self.headers.iter().filter(|(found, _)| found == name);
        let value = values.next().map(|(_, value)| value.as_str());
        assert!(values.next().is_none(), "{name} came more than once: {self:?}");
        value
    }
}

impl Exchange {
    fn read(stream: TcpStream) -> Option<Self> {
        stream.set_read_timeout(Some(PATIENCE)).ok()?;
        stream.set_nodelay(true).ok()?;
        let mut stream = BufReader::new(stream);
        let mut line = || {
            let mut line = String::new();
            stream.read_line(&mut line).ok().filter(|length| *length > 0)?;
            Some(line.trim_end().to_owned())
        };
        let first = line()?;
        let mut words = first.split(' ').map(str::to_owned);
        let (method, path) = (words.next()?, words.next()?);
        let mut headers = Vec::new();
        loop {
            let line = line()?;
            let Some((name, value)) = line.split_once(':') else { break };
            headers.push((name.to_ascii_lowercase(), value.trim().to_owned()));
        }
        Some(Self { seen: Seen { method, path, headers }, stream })
    }

    /// One piece of a chunked body; `None` after the last, and when the connection ends before.
    pub fn chunk(&mut self) -> Option<Vec<u8>> {
        let mut line = String::new();
        self.stream.read_line(&mut line).ok()?;
        let length = usize::from_str_radix(line.trim(), 16).ok()?;
        let mut piece = vec![0; length + 2];
        self.stream.read_exact(&mut piece).ok()?;
        piece.truncate(length);
        (length > 0).then_some(piece)
    }

    /// The rest of the connection.
    pub fn reader(&mut self) -> &mut BufReader<TcpStream> {
        &mut self.stream
    }

    /// The whole body.
    pub fn body(&mut self) -> Vec<u8> {
        let mut body = Vec::new();
        if self.seen.header("transfer-encoding").is_some() {
            while let Some(piece) = self.chunk() {
                body.extend(piece);
            }
        } else if let Some(length) = self.seen.header("content-length") {
            body.resize(length.parse().unwrap(), 0);
            self.stream.read_exact(&mut body).unwrap();
        }
        body
    }

    pub fn json(&mut self) -> Value {
        serde_json::from_slice(&self.body()).unwrap()
    }

    /// Sends bytes as they are.
    pub fn send(&mut self, bytes: impl AsRef<[u8]>) {
        // The other side may have given up.
        let _ = self.stream.get_mut().write_all(bytes.as_ref());
    }

    pub fn respond(&mut self, status: u16, headers: &[(&str, &str)], body: &[u8]) {
        let mut head =
            format!("HTTP/1.1 {status} Status\r\nConnection: close\r\nContent-Length: {}\r\n", body.len());
        for (name, value) in headers {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        self.send(format!("{head}\r\n"));
        self.send(body);
    }

    pub fn respond_json(&mut self, body: &Value) {
        self.respond(200, &[("Content-Type", "application/json")], body.to_string().as_bytes());
    }
}

impl Fake {
    /// A server that handles every request with `handle`, each in a thread of its own.
    pub fn new(handle: impl Fn(Exchange) + Send + Sync + 'static) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let (seen, stop) = (Arc::new(Mutex::new(Vec::new())), Arc::new(AtomicBool::new(false)));
        let (heads, stopped, handle) = (Arc::clone(&seen), Arc::clone(&stop), Arc::new(handle));
        let accepting = std::thread::spawn(move || {
            for stream in listener.incoming().map_while(Result::ok) {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                let (heads, handle) = (Arc::clone(&heads), Arc::clone(&handle));
                std::thread::spawn(move || {
                    if let Some(exchange) = Exchange::read(stream) {
                        heads.lock().unwrap().push(exchange.seen.clone());
                        handle(exchange);
                    }
                });
            }
        });
        Self { url, seen, stop, accepting: Some(accepting) }
    }

    /// The heads of all requests so far.
    pub fn seen(&self) -> Vec<Seen> {
        self.seen.lock().unwrap().clone()
    }

    /// The paths of all requests so far.
    pub fn paths(&self) -> Vec<String> {
        self.seen().into_iter().map(|seen| seen.path).collect()
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
        // Wakes the accepting thread up.
        let _ = TcpStream::connect(super::serving::address(&self.url));
        if let Some(accepting) = self.accepting.take() {
            let _ = accepting.join();
        }
    }
}
