//! `cargo run --release` in this directory: Countersign beside others that do the same. The two sides of a ratio take
//! turns in one run, as in `bench`; the median of the rounds' ratios is printed with its spread.

#![forbid(unsafe_code)]
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that fails should stop"
)]

#[path = "../../src/handshake.rs"]
mod handshake;
#[path = "../../src/message.rs"]
mod message;
#[path = "../../src/paired.rs"]
mod paired;
mod peers;
mod tls;

fn main() {
    println!("one signed request\n");
    peers::run();
    println!("\na handshake, the server's time\n");
    tls::run();
}
