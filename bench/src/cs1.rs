//! What `cs1` costs a message, beside one HMAC over the same bytes; what its handshake and a used nonce cost.

use std::hint::black_box;
use std::time::Instant;

use countersign::protocol::UnixTime;
use countersign::protocol::cs1::client::{Credential, Randomness, start};
use countersign::protocol::cs1::content::content_digest;
use countersign::protocol::cs1::request::{Claimed, RequestParts, Signing, sign};
use countersign::protocol::cs1::response::{self, ResponseParts};
use countersign::protocol::cs1::server::{Attempt, Candidate, Effort, Holders, Pair, verify};
use countersign::protocol::cs1::ticket::{Claims, TicketKeys};
use countersign::protocol::cs1::{Binding, Issuer, PairKeys};
use countersign::protocol::identity::CredentialId;
use countersign::protocol::mac::MacKey;
use countersign::protocol::shared_secret::Lifetime;
use countersign::protocol::wire::{Incoming, cs1 as wire};
use countersign_store::ReplayLog;
use countersign_store::contract::{key, secret};
use http::{HeaderMap, HeaderValue, header};
use zeroize::Zeroizing;

use crate::paired::compare;

const NOW: UnixTime = UnixTime(1_800_000_000);
const SESSION: [u8; 16] = [3; 16];
/// As long as a real one.
const TICKET: &str = concat!(
    "cst.AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
    "AAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAAA",
);

pub(crate) fn run() {
    messages();
    handshake();
    nonces();
}

fn parts(fields: &HeaderMap) -> RequestParts<'_> {
    RequestParts {
        method: "POST",
        authority: "orders.example",
        path: "/invoices",
        query: Some("page=2"),
        fields,
    }
}

fn messages() {
    let mac_key = MacKey::new(&[7; 32]);
    let mut unsigned = HeaderMap::new();
    unsigned.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    unsigned.insert("content-digest", content_digest(b"{\"item\": 1}").expect("a digest"));
    let signing = Signing { key: &mac_key, ticket: TICKET, now: NOW, window: 60, nonce: [5; 16] };
    let instructions = sign(&signing, &parts(&unsigned)).expect("it can be signed");
    let mut signed = unsigned.clone();
    signed.insert("signature-input", instructions.signature_input.clone());
    signed.insert("signature", instructions.signature);
    // The base: a line a component, and the parameters.
    let input = instructions.signature_input.to_str().expect("text").len();
    let lines =
        "\"@method\": POST\n\"@authority\": orders.example\n\"@path\": /invoices\n\"@query\": ?page=2\n"
            .len()
            + "\"content-digest\": \n\"content-type\": application/json\n\"@signature-params\": ".len()
            + unsigned["content-digest"].len();
    let base = vec![b'x'; lines + input - 3];
    let floor = || {
        black_box(mac_key.mac(&[black_box(&base)]));
    };
    println!("a request of {} bytes of signature base", base.len());
    let log = ReplayLog::new(usize::MAX);
    let mut id = 0_u128;
    compare(
        "verify a request, and claim a nonce",
        || {
            let claimed = Claimed::read(black_box(&signed)).expect("its form").expect("one");
            let unclaimed = claimed.verify(&mac_key, &parts(&signed), NOW).expect("it is right");
            id += 1;
            // Another nonce each time: the same would be refused.
            let verified = unclaimed.claim(&SESSION, |_, _| {
                log.claim(id.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835), NOW.plus(65), NOW)
                    .map_err(|_| countersign::protocol::refusal::Refusal::RequestReplayed)
            });
            black_box(verified.is_ok());
        },
        floor,
    );
    compare(
        "verify a request, without the log",
        || {
            let claimed = Claimed::read(black_box(&signed)).expect("its form").expect("one");
            black_box(claimed.verify(&mac_key, &parts(&signed), NOW).is_ok());
        },
        floor,
    );
    compare(
        "sign a request",
        || {
            black_box(sign(&signing, &parts(black_box(&unsigned))).is_ok());
        },
        floor,
    );

    let mut answer = HeaderMap::new();
    answer.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/json"));
    answer.insert("content-digest", content_digest(b"{}").expect("a digest"));
    let bare = answer.clone();
    let instructions =
        response::sign(&mac_key, &response_parts(&signed, &bare), NOW).expect("it can be signed");
    answer.insert("signature-input", instructions.signature_input);
    answer.insert("signature", instructions.signature);
    // About twice the base of the request, whose signature fields are in it.
    let base = vec![b'x'; base.len() * 2];
    let floor = || {
        black_box(mac_key.mac(&[black_box(&base)]));
    };
    println!("a response, beside an HMAC over {} bytes", base.len());
    compare(
        "verify a response",
        || {
            black_box(response::verify(&mac_key, &response_parts(black_box(&signed), &answer)).is_ok());
        },
        floor,
    );
    compare(
        "sign a response",
        || {
            black_box(response::sign(&mac_key, &response_parts(black_box(&signed), &bare), NOW).is_ok());
        },
        floor,
    );
}

fn response_parts<'a>(request: &'a HeaderMap, fields: &'a HeaderMap) -> ResponseParts<'a> {
    ResponseParts { status: 200, fields, request: parts(request) }
}

#[derive(Debug)]
struct Known(PairKeys);

impl Candidate for Known {
    fn mac_key(&self) -> &MacKey {
        self.0.mac_key()
    }
}

impl Pair for Known {
    fn keys(&self) -> &PairKeys {
        &self.0
    }

    fn binding(&self) -> Binding {
        Binding::None
    }
}

fn handshake() {
    let (ours, theirs, secret) = (key(1), key(2), secret(1));
    let credential = Credential::new(&secret, ours.clone(), theirs.clone());
    let issuer = Issuer::new(&Zeroizing::new([7; 32]), Lifetime::default());
    let known = [Known(PairKeys::derive(&secret, &ours, &theirs))];
    let decoy = MacKey::new(&[9; 32]);
    let tickets = TicketKeys::new("orders".parse().expect("a name"), &Zeroizing::new([1; 40]), NOW);
    let random = Randomness { nonce: [1; 32], ephemeral: Zeroizing::new([2; 32]) };
    let (m1, waiting) = start(&credential, Binding::None, &random);
    let hello = wire::read_hello(&m1.body).expect("M1");
    let challenge = issuer.issue(&hello, NOW, [3; 32]).expect("a challenge");
    let m2 = format!("{{\"challenge\":\"{}\"}}", challenge.as_str());
    let headers = HeaderMap::new();
    let (m3, _) =
        waiting.receive(&Incoming { status: 200, headers: &headers, body: m2.as_bytes() }, None).expect("M2");
    let server = || {
        let hello = wire::read_hello(black_box(&m1.body)).expect("M1");
        black_box(issuer.issue(&hello, NOW, [3; 32]).is_ok());
        let proof = wire::read_proof(black_box(&m3.body)).expect("M3");
        let attempt =
            Attempt { hello: &proof.hello, challenge: &proof.challenge, proof: &proof.proof, exporter: None };
        let effort = Effort { macs: 1, decoy: &decoy };
        let unclaimed = verify(&issuer, attempt, Holders::Live(&known), effort, NOW).expect("it is right");
        let verified = unclaimed.claim(|_| Ok(())).expect("the first");
        let accepted = verified.accept(&Zeroizing::new([4; 32]), 600, |keys, _| {
            let credential = CredentialId { peer: "billing".parse().expect("a name"), number: 1 };
            let expires = NOW.plus(600);
            let claims =
                Claims { credential, uid: [1; 16], keys, issued: NOW, expires, binding: Binding::None };
            tickets.seal(&claims, [5; 12])
        });
        black_box(wire::write_accepted(&accepted.expect("a share")));
    };
    let own = Zeroizing::new([6; 32]);
    let share = countersign::protocol::cs1::Ephemeral::new(&Zeroizing::new([8; 32])).share();
    compare("the server's part of a handshake, to a key pair and an agreement of X25519", server, || {
        let ephemeral = countersign::protocol::cs1::Ephemeral::new(&own);
        black_box(ephemeral.share());
        black_box(ephemeral.agree(black_box(&share)).is_ok());
    });
}

/// A million nonces that live, and what a claim costs among them.
fn nonces() {
    const MANY: u128 = 1_000_000;
    let scattered = |number: u128| (number + 1).wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835);
    let before = resident();
    let log = ReplayLog::new(usize::MAX);
    let (mut slowest, begin) = (0, Instant::now());
    for number in 0..MANY {
        let start = Instant::now();
        log.claim(scattered(number), UnixTime(1_000), UnixTime(970)).expect("the first");
        slowest = slowest.max(start.elapsed().as_micros());
    }
    let each = begin.elapsed().as_nanos() / MANY;
    let bytes = resident().saturating_sub(before) as u128 / MANY;
    println!("a million live nonces: {bytes} bytes each; {each} ns a claim, the slowest {slowest} us");
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
