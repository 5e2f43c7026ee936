//! `cargo run --release -p bench [verify|authentications|sources|trail|revocation|cs1]`: what authentication costs, as ratios against the
//! floor.
//!
//! The machines this runs on are noisy, so nothing is measured alone: the two sides of a ratio take turns in one
//! run, round by round, and the median of the rounds' ratios is printed with its spread.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a benchmark that fails should stop"
)]

mod authentications;
mod cs1;
mod handshake;
mod message;
mod paired;
mod revocation;
mod sources;
mod trail;
mod verify;

fn main() {
    let only = std::env::args().nth(1);
    let wanted = |part: &str| only.as_deref().is_none_or(|only| only == part);
    if wanted("verify") {
        println!(
            "verify one signature: ratio to HMAC-SHA256 on the same bytes (median of rounds, smallest to greatest)\n"
        );
        verify::run();
    }
    if wanted("cs1") {
        println!("\ncs1: ratio to one HMAC-SHA256 with a prepared key, over as many bytes\n");
        cs1::run();
    }
    if wanted("authentications") {
        println!("\ncomplete guide-2 authentications over keep-alive loopback HTTP/1.1\n");
        authentications::run();
    }
    if wanted("sources") {
        println!("\na million sources, one request each, in the rate limiter\n");
        sources::run();
    }
    if wanted("trail") {
        println!("\nthe same authentications with the trail in three forms, by one caller and by many\n");
        trail::run();
    }
    if wanted("revocation") {
        println!("\nfrom `revoke` to refusal\n");
        revocation::run();
    }
}
