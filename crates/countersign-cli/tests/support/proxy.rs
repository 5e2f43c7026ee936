//! Somebody between a caller and a server.

use std::io::{Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Instant;

use super::PATIENCE;
use super::raw::connect_from;

/// Where a server is that may be away for a moment.
#[derive(Clone, Default)]
struct Target(Arc<Mutex<String>>);

impl Target {
    /// A connection from `source`, as soon as anybody listens.
    fn connect(&self, source: Ipv4Addr) -> Option<TcpStream> {
        let start = Instant::now();
        loop {
            let address = self.0.lock().unwrap().clone();
            match connect_from(source, &address) {
                Ok(stream) => return Some(stream),
                Err(_) if start.elapsed() < PATIENCE => {
                    std::thread::sleep(std::time::Duration::from_millis(10));
                }
                Err(_) => return None,
            }
        }
    }
}

/// Handles each connection in a thread of its own.
fn listen(handle: impl Fn(TcpStream) + Send + Sync + 'static) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = listener.local_addr().unwrap().to_string();
    let handle = Arc::new(handle);
    std::thread::spawn(move || {
        for caller in listener.incoming().map_while(Result::ok) {
            let handle = Arc::clone(&handle);
            std::thread::spawn(move || handle(caller));
        }
    });
    address
}

/// Hands on each message of HTTP/1.1, changed, and remembers the requests as they arrive behind it. It has a connection of its
/// own for each request, as a proxy without keep-alive.
pub struct Proxy {
    pub url: String,
    target: Target,
    seen: Arc<Mutex<Vec<Vec<u8>>>>,
}

/// One message of HTTP/1.1 with a length.
fn message(stream: &mut TcpStream) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    let mut piece = [0; 4096];
    loop {
        if let Some(end) = bytes.windows(4).position(|window| window == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..end]).to_ascii_lowercase();
            let length =
                head.lines().find_map(|line| line.strip_prefix("content-length:")?.trim().parse().ok());
            if bytes.len() >= end + 4 + length.unwrap_or(0) {
                return Some(bytes);
            }
        }
        match stream.read(&mut piece) {
            Ok(read @ 1..) => bytes.extend(&piece[..read]),
            _ => return None,
        }
    }
}

impl Proxy {
    /// Nobody is behind it yet.
    pub fn new(change: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        Self::from(Ipv4Addr::LOCALHOST, change)
    }

    /// That calls from this address.
    pub fn from(source: Ipv4Addr, change: impl Fn(&str) -> String + Send + Sync + 'static) -> Self {
        let (target, seen) = (Target::default(), Arc::new(Mutex::new(Vec::new())));
        let (to, all) = (target.clone(), Arc::clone(&seen));
        let address = listen(move |mut caller| {
            while let Some(request) = message(&mut caller) {
                let request = change(&String::from_utf8(request).unwrap());
                all.lock().unwrap().push(request.clone().into_bytes());
                let Some(mut server) = to.connect(source) else { return };
                if server.write_all(request.as_bytes()).is_err() {
                    return;
                }
                let Some(answer) = message(&mut server) else { return };
                if caller.write_all(&answer).is_err() {
                    return;
                }
            }
        });
        Self { url: format!("http://{address}"), target, seen }
    }

    /// From now on this is behind it.
    pub fn to(&self, address: &str) {
        address.clone_into(&mut self.target.0.lock().unwrap());
    }

    /// All requests that were not part of a handshake.
    pub fn signed(&self) -> Vec<Vec<u8>> {
        let signed =
            |request: &&Vec<u8>| String::from_utf8_lossy(request).to_lowercase().contains("signature-input");
        self.seen.lock().unwrap().iter().filter(signed).cloned().collect()
    }

    /// The last of them.
    pub fn last(&self) -> Option<Vec<u8>> {
        self.signed().pop()
    }
}

/// Hands on bytes, and lets callers wait while nobody listens behind it: what a socket is that outlives its server.
pub struct Tunnel {
    pub address: String,
    target: Target,
}

impl Tunnel {
    /// Nobody is behind it yet.
    pub fn new() -> Self {
        let target = Target::default();
        let to = target.clone();
        let address = listen(move |caller| {
            let Some(server) = to.connect(Ipv4Addr::LOCALHOST) else { return };
            let ways = [(&caller, &server), (&server, &caller)];
            let copies = ways.map(|(from, to)| (from.try_clone().unwrap(), to.try_clone().unwrap()));
            for (mut from, mut to) in copies {
                std::thread::spawn(move || {
                    let _ = std::io::copy(&mut from, &mut to);
                    let _ = to.shutdown(Shutdown::Write);
                });
            }
        });
        Self { address, target }
    }

    /// From now on this is behind it.
    pub fn to(&self, address: &str) {
        address.clone_into(&mut self.target.0.lock().unwrap());
    }
}
