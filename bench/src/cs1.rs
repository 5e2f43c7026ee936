//! What `cs1` costs a message, beside one HMAC over the same bytes; what its handshake and a used nonce cost.

use std::hint::black_box;
use std::time::{Duration, Instant};

use countersign::protocol::UnixTime;
use countersign::protocol::cs1::Ephemeral;
use countersign::protocol::cs1::content::content_digest;
use countersign::protocol::cs1::request::Claimed;
use countersign::protocol::cs1::response::{self, ResponseParts};
use countersign_store::ReplayLog;
use http::{HeaderMap, HeaderValue, Request, header};
use zeroize::Zeroizing;

use crate::handshake::Handshakes;
use crate::message::{NOW, Server, parts, scattered, unsigned};
use crate::paired::{compare, compare_parts, now};

pub(crate) fn run() {
    requests();
    responses();
    handshake();
    nonces();
}

fn requests() {
    let mut server = Server::new();
    let mut crowded = Server::new().with_nonces(1_000_000);
    let (request, base) = server.signed();
    let key = server.key.clone();
    let floor = || {
        black_box(key.mac(&[black_box(&base)]));
    };
    println!("a request of {} bytes of signature base", base.len());
    compare(
        "verify a request: form, ticket (cached), credential, MAC, time, nonce",
        || {
            black_box(server.verify(black_box(&request)).expect("it is right"));
        },
        floor,
    );
    compare(
        "the same, while more than a million nonces live",
        || {
            black_box(crowded.verify(black_box(&request)).expect("it is right"));
        },
        floor,
    );
    compare(
        "verify a request: form, MAC and time only",
        || {
            let claimed = Claimed::read(black_box(request.headers())).expect("its form").expect("one");
            black_box(claimed.verify(&key, &parts(&request), NOW).is_ok());
        },
        floor,
    );
    let unsigned = unsigned();
    compare(
        "sign a request",
        || {
            black_box(server.sign(black_box(&unsigned)).is_ok());
        },
        floor,
    );
}

fn responses() {
    let server = Server::new();
    let (request, base) = server.signed();
    let mut answer = HeaderMap::new();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.insert("content-digest", content_digest(b"{}").expect("a digest"));
    let bare = answer.clone();
    let instructions =
        response::sign(&server.key, &response_parts(&request, &bare), NOW).expect("it can be signed");
    answer.insert("signature-input", instructions.signature_input.clone());
    answer.insert("signature", instructions.signature);
    // The lines of the request without its own parameters, its two signature fields, and the parameters of this one.
    let own = instructions.signature_input.len();
    let base = vec![b'x'; base.len() + own + "\"@status\": 200\n".len() + 2 * 44 + 4 * ";req".len()];
    let floor = || {
        black_box(server.key.mac(&[black_box(&base)]));
    };
    println!("a response, beside an HMAC over about as many bytes: {}", base.len());
    compare(
        "verify a response",
        || {
            let parts = response_parts(black_box(&request), &answer);
            black_box(response::verify(&server.key, &parts).is_ok());
        },
        floor,
    );
    compare(
        "sign a response",
        || {
            let parts = response_parts(black_box(&request), &bare);
            black_box(response::sign(&server.key, &parts, NOW).is_ok());
        },
        floor,
    );
}

fn response_parts<'a>(request: &'a Request<()>, fields: &'a HeaderMap) -> ResponseParts<'a> {
    ResponseParts { status: 200, fields, request: parts(request) }
}

fn handshake() {
    let handshakes = Handshakes::new();
    let own = Zeroizing::new([6; 32]);
    let share = Ephemeral::new(&Zeroizing::new([8; 32])).share();
    let agreements = |times: u32| {
        let start = now();
        for _ in 0..times {
            let ephemeral = Ephemeral::new(&own);
            black_box(ephemeral.share());
            black_box(ephemeral.agree(black_box(&share)).is_ok());
        }
        now() - start
    };
    compare_parts(
        "the server's part of a handshake, to a key pair and an agreement of X25519",
        |times| (0..times).map(|_| handshakes.run()).sum::<Duration>(),
        agreements,
    );
}

/// A million nonces that live, and what a claim costs among them.
fn nonces() {
    const MANY: u128 = 1_000_000;
    let before = resident();
    let log = ReplayLog::new(usize::MAX);
    let mut times = Vec::with_capacity(1_000_000);
    for number in 1..=MANY {
        let start = Instant::now();
        log.claim(scattered(number), UnixTime(1_000), UnixTime(970)).expect("the first");
        times.push(start.elapsed());
    }
    let bytes = resident().saturating_sub(before) as u128 / MANY - 16;
    times.sort_unstable();
    let nanos = |part: usize| times.get(times.len() / 1_000 * part).map_or(0, Duration::as_nanos);
    println!(
        "a million live nonces: {bytes} bytes each; a claim takes {} ns (median), 99.9 %: {} ns, the slowest {} us",
        nanos(500),
        nanos(999),
        times.last().map_or(0, Duration::as_micros),
    );
    let start = Instant::now();
    log.claim(1, UnixTime(3_000), UnixTime(2_970)).expect("the first");
    println!("the claim after all of them have expired: {} us", start.elapsed().as_micros());
}

/// `VmRSS`, in bytes.
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or(0) * 1024
}
