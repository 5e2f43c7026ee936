//! Streams through the real server: their length does not show in the memory of either side. Alone in its file, since it looks at
//! the memory of its own process.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::pin::Pin;
use std::task::{Context, Poll};

use bytes::Bytes;
use countersign::client::Client;
use http::Request;
use http_body::Frame;
use http_body_util::BodyExt as _;
use support::life::meet;
use support::{Fake, Home, Serving};

const MIB: u64 = 1 << 20;
/// What a long one has, unless `COUNTERSIGN_TEST_STREAM_MIB` says otherwise.
const LONG: u64 = 64;
/// More than is held, so that it is a stream as well.
const SHORT: u64 = 2 * MIB;
/// What may come on top of what the short ones took.
const ROOM: u64 = 24 * MIB;

/// So many bytes, in pieces that are made when they are asked for.
struct Zeros(u64);

impl http_body::Body for Zeros {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        _: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        static PIECE: [u8; 64 << 10] = [0; 64 << 10];
        let length = self.0.min(64 << 10);
        self.0 -= length;
        let piece = Bytes::from_static(&PIECE[..usize::try_from(length).unwrap()]);
        Poll::Ready((length > 0).then(|| Ok(Frame::data(piece))))
    }
}

/// Peak memory (`VmHWM`), in bytes.
fn peak(process: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{process}/status")).unwrap();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
}

/// There: how much of it came to the service behind. Back: how much came here, verified to its end.
async fn both_ways(client: &Client, length: u64) {
    let response = client.send_streamed(Request::post("/up").body(Zeros(length)).unwrap()).await.unwrap();
    assert_eq!(response.into_body().whole(100).await.unwrap(), length.to_string());
    let response = client.send(Request::get(format!("/{length}")).body(Bytes::new()).unwrap()).await.unwrap();
    let mut body = response.into_body();
    let mut came = 0;
    while let Some(frame) = body.frame().await {
        came += frame.unwrap().data_ref().map_or(0, Bytes::len);
    }
    assert_eq!(u64::try_from(came).unwrap(), length);
    assert!(body.is_verified());
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cs_38_the_length_of_a_stream_does_not_show_in_the_memory_of_either_side() {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    let upstream = Fake::new(|mut exchange| {
        if exchange.seen.path == "/up" {
            let mut length = 0;
            while let Some(piece) = exchange.chunk() {
                length += piece.len();
            }
            exchange.respond(200, &[], length.to_string().as_bytes());
        } else {
            let length: usize = exchange.seen.path[1..].parse().unwrap();
            exchange
                .send(format!("HTTP/1.1 200 OK\r\nConnection: close\r\nContent-Length: {length}\r\n\r\n"));
            for _ in 0..length >> 16 {
                exchange.send([0; 1 << 16]);
            }
        }
    });
    meet((&orders, "http://127.0.0.1:1"), (&billing, "https://billing.example"), "cs1");
    let serving = Serving::start(&orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
    let mut peer = billing.peer("orders");
    peer.url = Some(serving.url().to_owned());
    let client = Client::new(&peer).unwrap();
    let server = serving.id().to_string();
    both_ways(&client, SHORT).await;
    let before = [peak(&server), peak("self")];
    let given = std::env::var("COUNTERSIGN_TEST_STREAM_MIB").ok();
    let mebibytes = given.map_or(LONG, |given| given.parse().unwrap());
    both_ways(&client, mebibytes * MIB).await;
    let after = [peak(&server), peak("self")];
    for (side, (before, after)) in ["serve", "the client"].into_iter().zip(before.into_iter().zip(after)) {
        println!("{side}: {} KiB, after {mebibytes} MiB each way {} KiB", before >> 10, after >> 10);
        assert!(after - before < ROOM, "{side}: {before} bytes, then {after}");
    }
}
