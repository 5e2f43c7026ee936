//! HTTP/2 frames by hand: floods that have brought other servers down. The connection ends, and everybody else is served.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture ends the test"
)]

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use countersign::server::Authenticator;
use countersign::{MemoryStore, PeerStore};
use countersign_gateway::{Gateway, Metrics, Settings};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Much longer than what the server here allows, for machines that are busy.
const PATIENCE: Duration = Duration::from_secs(60);
/// So many frames are sent if the server lets them come.
const FRAMES: u32 = 200_000;

/// Types of frames and flags (RFC 9113, section 6).
const HEADERS: u8 = 1;
const RST_STREAM: u8 = 3;
const SETTINGS: u8 = 4;
const PING: u8 = 6;
const CONTINUATION: u8 = 9;
const END_STREAM_AND_HEADERS: u8 = 5;

/// `GET / HTTP/2` to `x` over `http`, in HPACK's static table (RFC 7541, appendix A).
const GET: &[u8] = &[0x82, 0x86, 0x84, 0x41, 0x01, b'x'];

fn frame(kind: u8, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).unwrap().to_be_bytes();
    [&length[1..], &[kind, flags], &stream.to_be_bytes(), payload].concat()
}

async fn gateway() -> SocketAddr {
    let store = Arc::new(MemoryStore::new());
    assert!(store.list().unwrap().is_empty());
    let authenticator = Authenticator::builder("orders".parse().unwrap(), store).build().unwrap();
    let mut settings = Settings::new(vec!["http://127.0.0.1:0".parse().unwrap()]);
    settings.timeouts.head = Duration::from_secs(1);
    settings.timeouts.write = Duration::from_secs(1);
    let gateway = Gateway::bind(authenticator, Metrics::new(), settings).await.unwrap();
    let address = gateway.listening()[0].address;
    tokio::spawn(gateway.run(std::future::pending()));
    address
}

/// An HTTP/2 connection on which the preface has been said.
async fn open(address: SocketAddr) -> TcpStream {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.unwrap();
    stream.write_all(&frame(SETTINGS, 0, 0, b"")).await.unwrap();
    stream
}

/// Sends what `frames` makes, in groups, and takes what comes, until the server ends the connection.
async fn flood(address: SocketAddr, frames: impl Fn(u32) -> Vec<u8>) {
    let stream = open(address).await;
    let (mut from, mut to) = stream.into_split();
    let reading =
        tokio::spawn(async move { while from.read(&mut [0; 16 * 1024]).await.is_ok_and(|read| read > 0) {} });
    let writing = async {
        for start in (0..FRAMES).step_by(100) {
            let group: Vec<u8> = (start..start + 100).flat_map(&frames).collect();
            if to.write_all(&group).await.is_err() {
                return;
            }
        }
        // It let all of them come, and has to end an idle connection then.
        reading.await.unwrap();
    };
    tokio::time::timeout(PATIENCE, writing).await.unwrap_or_else(|_| panic!("the connection lives"));
}

/// Somebody else is served, by a server whose memory has not grown much.
async fn assert_well(address: SocketAddr, before: u64) {
    let mut stream = TcpStream::connect(address).await.unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\nhost: orders\r\nconnection: close\r\n\r\n").await.unwrap();
    let mut text = String::new();
    stream.read_to_string(&mut text).await.unwrap();
    assert!(text.starts_with("HTTP/1.1 401"), "{text}");
    let grown = resident().saturating_sub(before);
    assert!(grown < 64 << 20, "{grown} bytes more");
}

/// Bytes of this process, in which the server runs.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// CVE-2023-44487.
#[tokio::test]
async fn requests_that_are_given_up_at_once() {
    let (address, before) = (gateway().await, resident());
    flood(address, |number| {
        let stream = 2 * number + 1;
        let cancel = 8_u32.to_be_bytes();
        [frame(HEADERS, END_STREAM_AND_HEADERS, stream, GET), frame(RST_STREAM, 0, stream, &cancel)].concat()
    })
    .await;
    assert_well(address, before).await;
}

/// CVE-2024-27316 and others.
#[tokio::test]
async fn a_head_that_goes_on_in_frame_after_frame() {
    let (address, before) = (gateway().await, resident());
    flood(address, |number| match number {
        0 => frame(HEADERS, 0, 1, GET),
        // `x: aaaa…`, not indexed, with the Huffman bit off.
        _ => frame(CONTINUATION, 0, 1, &[&[0x00, 0x01, b'x', 0x40][..], &[b'a'; 0x40]].concat()),
    })
    .await;
    assert_well(address, before).await;
}

/// CVE-2019-9512 and CVE-2019-9515: each of these wants an answer.
#[tokio::test]
async fn pings_and_settings_without_end() {
    for (kind, payload) in [(PING, &[0; 8][..]), (SETTINGS, &[])] {
        let (address, before) = (gateway().await, resident());
        flood(address, |_| frame(kind, 0, 0, payload)).await;
        assert_well(address, before).await;
    }
}

/// The same from somebody who never takes an answer.
#[tokio::test]
async fn pings_whose_answers_nobody_takes() {
    let (address, before) = (gateway().await, resident());
    let mut stream = open(address).await;
    let group = frame(PING, 0, 0, &[0; 8]).repeat(1_000);
    let flooding = async { while stream.write_all(&group).await.is_ok() {} };
    tokio::time::timeout(PATIENCE, flooding).await.unwrap();
    assert_well(address, before).await;
}
