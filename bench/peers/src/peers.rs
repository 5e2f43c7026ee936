//! One signed request: ours, `httpsig-hyper` (RFC 9421, as ours) and `hawk`.

use std::hint::black_box;
use std::str::FromStr as _;
use std::time::{Duration, UNIX_EPOCH};

use bytes::Bytes;
use hawk::{Credentials, Header, Key, PayloadHasher, RequestBuilder, SHA256};
use http::{Request, header};
use http_body_util::Full;
use httpsig_hyper::MessageSignatureReqSync as _;
use httpsig_hyper::prelude::{HttpSignatureParams, SharedKey, message_component::HttpMessageComponentId};

use crate::message::{AUTHORITY, CONTENT, NOW, Server, unsigned};
use crate::paired::compare;

const COVERED: [&str; 6] = ["@method", "@authority", "@path", "@query", "content-digest", "content-type"];
const NONCE: &str = "05050505050505050505050505050505";

pub(crate) fn run() {
    let mut server = Server::new();
    let (request, base) = server.signed();
    let request = request.map(|()| Full::<Bytes>::from(CONTENT));
    let key = server.key.clone();
    let other = Server::new();
    let bare = unsigned();
    println!("(a base of {} bytes; a ratio below 1: ours is faster)", base.len());
    let mut ours = || {
        server.verify(black_box(&request)).expect("it is right");
    };
    compare("verify: ours, all of it, to one HMAC with a prepared key", &mut ours, || {
        black_box(key.mac(&[black_box(&base)]));
    });
    let mut crowded = Server::new().with_nonces(1_000_000);
    compare(
        "the same, while more than a million nonces live",
        || {
            crowded.verify(black_box(&request)).expect("it is right");
        },
        || {
            black_box(key.mac(&[black_box(&base)]));
        },
    );

    let (stock_key, params) = stock(&other.ticket);
    // The very request: theirs reads what ours has signed.
    compare("verify: ours, all of it, to httpsig-hyper (MAC only)", &mut ours, || {
        let verified = black_box(&request).verify_message_signature_sync(&stock_key, Some(&other.ticket));
        black_box(verified.expect("it is right"));
    });

    let credentials =
        Credentials { id: "billing".to_owned(), key: Key::new([7; 32], SHA256).expect("a key") };
    let hash = PayloadHasher::hash("application/json", SHA256, CONTENT).expect("a hash");
    let hawk_signed = hawk_request(&credentials, &hash);
    let value = format!("Hawk {hawk_signed}");
    let mut carrier = unsigned();
    carrier.headers_mut().insert(header::AUTHORIZATION, value.parse().expect("a value"));
    compare("verify: ours, all of it, to hawk (MAC and time, 1/3 of the bytes)", &mut ours, || {
        hawk_verify(black_box(&carrier), &credentials.key, &hash);
    });

    println!();
    let sign = || {
        black_box(other.sign(black_box(&bare)).expect("it can be signed"));
    };
    compare("sign: ours, to one HMAC with a prepared key", sign, || {
        black_box(key.mac(&[black_box(&base)]));
    });
    let mut signed = unsigned().map(|()| Full::<Bytes>::from(CONTENT));
    compare("sign: ours, to httpsig-hyper", sign, || {
        // It sets the fields; ours gives them to be set.
        signed.headers_mut().remove("signature-input");
        signed.headers_mut().remove("signature");
        black_box(&mut signed).set_message_signature_sync(&params, &stock_key, Some("cs")).expect("it can");
    });
    compare("sign: ours, to hawk", sign, || {
        black_box(hawk_request(black_box(&credentials), &hash));
    });
}

/// The key and the parameters with which ours is signed.
fn stock(ticket: &str) -> (SharedKey, HttpSignatureParams) {
    let components: Vec<_> =
        COVERED.iter().map(|name| HttpMessageComponentId::try_from(*name).expect("a component")).collect();
    let mut params = HttpSignatureParams::try_new(&components).expect("parameters");
    params
        .set_created(NOW.0)
        .set_expires(NOW.0 + 60)
        .set_nonce(NONCE)
        .set_keyid(ticket)
        .set_tag("countersign");
    (SharedKey::HmacSha256(vec![7; 32]), params)
}

fn hawk_request(credentials: &Credentials, hash: &[u8]) -> String {
    let request = RequestBuilder::new("POST", AUTHORITY, 443, "/invoices?page=2").hash(hash).request();
    let time = UNIX_EPOCH + Duration::from_secs(NOW.0);
    request.make_header_full(credentials, time, NONCE).expect("a header").to_string()
}

fn hawk_verify(request: &Request<()>, key: &Key, hash: &[u8]) {
    let value = request.headers().get(header::AUTHORIZATION).expect("a field").to_str().expect("text");
    let header = Header::from_str(value.strip_prefix("Hawk ").expect("Hawk")).expect("its form");
    let target = request.uri().path_and_query().expect("a target").as_str();
    let expected =
        RequestBuilder::new(request.method().as_str(), AUTHORITY, 443, target).hash(hash).request();
    // The time of the fixture is not now.
    assert!(expected.validate_header(&header, key, Duration::from_secs(100_000_000)), "it is right");
}
