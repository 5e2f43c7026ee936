//! From `revoke` to the first refusal: the store is changed over one connection, as another process does it, while a
//! caller with a good token asks a running gateway as fast as it can.

use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign::protocol::UnixTime;
use countersign::protocol::api_key::sign;
use countersign::server::Authenticator;
use countersign::store::master::MasterKey;
use countersign::store::sqlite::SqliteStore;
use countersign::store::{Ending, Which};
use countersign::{ApiKey, NewKeys, NewPeer, PeerStore, Trust};
use countersign_gateway::{Gateway, Metrics, Settings};
use countersign_store::contract::key;
use http::Request;
use http_body_util::{BodyExt as _, Full};
use hyper::body::Bytes;
use hyper::client::conn::http1::{SendRequest, handshake};
use hyper_util::rt::TokioIo;
use tokio::net::TcpStream;

const TIMES: u8 = 60;

type Sender = SendRequest<Full<Bytes>>;

pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let directory = tempfile::tempdir_in(place).expect("a directory");
        let (path, master) = (directory.path().join("store.sqlite"), MasterKey::generate());
        let admin = SqliteStore::create(&path, &master).expect("a new store");
        for number in 0..TIMES {
            admin.add(peer(number), UnixTime(0)).expect("a new peer");
        }
        let served = SqliteStore::open(&path, &master).expect("the same store");
        let authenticator = Authenticator::builder("orders".parse().expect("a name"), Arc::new(served))
            .build()
            .expect("a store");
        let settings = Settings::new(vec!["http://127.0.0.1:0".parse().expect("a listener")]);
        let gateway = Gateway::bind(authenticator, Metrics::new(), settings).await.expect("a free port");
        let address = gateway.listening().first().expect("a listener").address;
        tokio::spawn(gateway.run(std::future::pending()));
        let stream = TcpStream::connect(address).await.expect("a connection");
        stream.set_nodelay(true).expect("a socket");
        let (mut sender, connection) = handshake(TokioIo::new(stream)).await.expect("HTTP/1.1");
        tokio::spawn(connection);
        let (mut since_written, mut commits, mut polls) = (Vec::new(), Vec::new(), 0);
        for number in 0..TIMES {
            let token = token(&mut sender, &key(number)).await;
            // Revocations at no particular time of the server's rounds.
            let pause = Duration::from_millis(u64::from(number) * 37 % 50);
            tokio::time::sleep(pause).await;
            assert_eq!(status(&mut sender, &token).await, 200);
            let start = Instant::now();
            let name = format!("peer-{number}").parse().expect("a name");
            admin.end(&name, Which::All, Ending::Revoked, UnixTime(1)).expect("a live credential");
            let written = Instant::now();
            commits.push(written - start);
            loop {
                polls += 1;
                match status(&mut sender, &token).await {
                    200 => assert!(written.elapsed() < Duration::from_secs(10), "never refused"),
                    401 => break,
                    other => panic!("{other}"),
                }
            }
            since_written.push(written.elapsed());
        }
        println!("{TIMES} revocations, a caller that asks all the time ({polls} requests)");
        println!("writing it to the store                      {}", spread(&mut commits));
        println!("from then to the first refused request       {}", spread(&mut since_written));
    });
}

fn spread(times: &mut [Duration]) -> String {
    times.sort();
    let ms = |index: usize| times.get(index).map_or(0.0, |time| time.as_secs_f64() * 1e3);
    format!(
        "{:>6.1} ms median ({:.1} to {:.1})",
        ms(times.len() / 2),
        ms(0),
        ms(times.len().saturating_sub(1))
    )
}

fn peer(number: u8) -> NewPeer {
    NewPeer {
        name: format!("peer-{number}").parse().expect("a name"),
        url: None,
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Default::default(),
        keys: NewKeys::api_key(None, Some(key(number))).expect("a good key"),
    }
}

/// A token, by a whole guide-2 handshake.
async fn token(sender: &mut Sender, key: &ApiKey) -> String {
    let ask = format!(r#"{{"apiKey":"{}"}}"#, key.expose());
    let challenge = member(sender, "/authenticate", ask, "challenge").await;
    let signature = sign(key, &challenge.parse().expect("guide 2's shape")).to_hex();
    let answer = format!(r#"{{"apiKey":"{}","signedChallenge":"{signature}"}}"#, key.expose());
    member(sender, "/verify_challenge", answer, "token").await
}

async fn member(sender: &mut Sender, path: &str, body: String, member: &str) -> String {
    let request = Request::post(path).header("host", "orders").body(Full::from(body)).expect("a request");
    sender.ready().await.expect("a connection");
    let response = sender.send_request(request).await.expect("an answer");
    assert_eq!(response.status(), 200);
    let body = response.into_body().collect().await.expect("a body").to_bytes();
    let body: serde_json::Value = serde_json::from_slice(&body).expect("JSON");
    body.get(member).and_then(|text| text.as_str()).expect("the member").to_owned()
}

async fn status(sender: &mut Sender, token: &str) -> u16 {
    let request =
        Request::get("/").header("host", "orders").header("authorization", format!("Bearer {token}"));
    sender.ready().await.expect("a connection");
    let response = sender.send_request(request.body(Full::default()).expect("a request")).await;
    let response = response.expect("an answer");
    let status = response.status().as_u16();
    response.into_body().collect().await.expect("a body");
    status
}
