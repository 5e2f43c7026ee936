//! One request, captured and sent again to the real server: after crashes and clean stops in any order, and to several servers
//! on one data directory.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::time::{SystemTime, UNIX_EPOCH};

use countersign::SharedSecret;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::client::{Credential, Established, Randomness, start};
use countersign::protocol::cs1::content::content_digest;
use countersign::protocol::cs1::request::{Nonce, RequestParts, SigningAs, sign_as};
use countersign::protocol::cs1::{Binding, KeyName, PairKeys, SessionKeys, accept};
use countersign::protocol::mac::MacKey;
use countersign::protocol::wire::{Incoming, Outgoing};
use countersign::store::random;
use http::{HeaderMap, HeaderName, HeaderValue};
use support::raw::{Connection, Reply, exchange};
use support::{Home, Serving, new_key, new_secret};
use zeroize::Zeroizing;

const BODY: &str = r#"{"amount":5}"#;
/// Under which name `orders` is reached, wherever it listens.
const HERE: &str = "orders.example";

/// `orders`, and what its peer `billing` has.
struct Pair {
    orders: Home,
    ours: String,
    theirs: String,
    secret: SharedSecret,
}

/// A signed request, as somebody on the way has it.
struct Captured(Vec<(String, String)>);

fn headers(reply: &Reply) -> HeaderMap {
    let each = reply.headers.iter();
    each.map(|(name, value)| (name.parse::<HeaderName>().unwrap(), value.parse::<HeaderValue>().unwrap()))
        .collect()
}

impl Pair {
    fn new() -> Self {
        let orders = Home::of("orders");
        let (ours, theirs, secret) = (new_key(), new_key(), new_secret());
        let file = orders.secret_file("secret", &secret);
        let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &file];
        let to = ["peer", "add", "billing", "--profile", "cs1", "--danger-direct"];
        orders.run(&[&to[..], &keys].concat()).ok();
        let path = orders.path().join("countersign.toml");
        let text = std::fs::read_to_string(&path).unwrap();
        let reached = format!("[serve]\nexternal_urls = [\"http://{HERE}\"]");
        std::fs::write(&path, text.replace("[serve]", &reached)).unwrap();
        Self { orders, ours, theirs, secret: secret.parse().unwrap() }
    }

    fn handshake(&self, serving: &Serving) -> Established {
        let credential =
            Credential::new(&self.secret, self.theirs.parse().unwrap(), self.ours.parse().unwrap());
        let random = Randomness { nonce: random(), ephemeral: Zeroizing::new(random()) };
        let say = |message: Outgoing| {
            let json = [("Content-Type", "application/json")];
            exchange(serving.address(), "POST", message.path, &json, &message.body)
        };
        let (m1, waiting) = start(&credential, Binding::None, &random);
        let (m2, fields) = {
            let m2 = say(m1);
            let fields = headers(&m2);
            (m2, fields)
        };
        let (m3, waiting) =
            waiting.receive(&Incoming { status: m2.status, headers: &fields, body: &m2.body }, None).unwrap();
        let (m4, fields) = {
            let m4 = say(m3);
            let fields = headers(&m4);
            (m4, fields)
        };
        waiting.receive(&Incoming { status: m4.status, headers: &fields, body: &m4.body }).unwrap()
    }

    fn direct_name(&self) -> KeyName<'_> {
        KeyName::Direct { client: &self.theirs, server: &self.ours }
    }

    fn direct(&self, nonce: Nonce<'_>) -> Captured {
        let (client, server) = (self.theirs.parse().unwrap(), self.ours.parse().unwrap());
        let keys = PairKeys::derive(&self.secret, &client, &server).direct().clone();
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
        sign(self.direct_name(), &keys, UnixTime(now), 25, nonce)
    }
}

fn sign(name: KeyName<'_>, keys: &SessionKeys, now: UnixTime, window: u64, nonce: Nonce<'_>) -> Captured {
    let mut fields = HeaderMap::new();
    fields.insert("content-type", HeaderValue::from_static("application/json"));
    fields.insert("content-digest", content_digest(BODY.as_bytes()).unwrap());
    let key = MacKey::new(keys.client_to_server.as_slice());
    let parts = RequestParts { method: "POST", authority: HERE, path: "/pay", query: None, fields: &fields };
    let signed = sign_as(&SigningAs { key: &key, name, now, window, nonce }, &parts).unwrap();
    fields.insert("signature-input", signed.signature_input);
    fields.insert("signature", signed.signature);
    let each = fields.iter();
    Captured(each.map(|(name, value)| (name.to_string(), value.to_str().unwrap().to_owned())).collect())
}

impl Captured {
    fn send(&self, serving: &Serving) -> Reply {
        let lines = self.0.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect::<String>();
        let head = format!("POST /pay HTTP/1.1\r\nHost: {HERE}\r\nConnection: close\r\n{lines}");
        let mut connection = Connection::open(serving.address());
        connection.send(format!("{head}Content-Length: {}\r\n\r\n{BODY}", BODY.len()));
        connection.reply().unwrap()
    }

    #[track_caller]
    fn refused(&self, serving: &Serving, problem: &str) -> Reply {
        let reply = self.send(serving);
        reply.assert_problem(401, problem);
        reply
    }
}

#[test]
fn a_captured_request_is_not_taken_again_whatever_follows_a_crash() {
    let pair = Pair::new();
    let mut serving = Serving::http(&pair.orders);
    let session = pair.handshake(&serving);
    let name = KeyName::Ticket(&session.ticket);
    let signed = sign(name, &session.keys, session.time, 60, Nonce::Random(random()));
    let direct = pair.direct(Nonce::Random(random()));
    for request in [&signed, &direct] {
        let reply = request.send(&serving);
        assert!(reply.status == 200 && reply.header("signature").is_some(), "{reply:?}");
        request.refused(&serving, "request-replayed");
    }
    for crash in [true, false, false, true, false] {
        if crash {
            serving.kill();
        } else {
            serving.terminate();
            assert_eq!(serving.ended(), 0);
        }
        serving = Serving::http(&pair.orders);
        for request in [&signed, &direct] {
            request.refused(&serving, "nonce-required");
        }
    }
}

#[test]
fn of_several_servers_on_one_directory_none_takes_what_another_has_taken() {
    let pair = Pair::new();
    // Started at once.
    let mut all: Vec<Serving> = std::thread::scope(|scope| {
        let starts: Vec<_> = (0..3).map(|_| scope.spawn(|| Serving::http(&pair.orders))).collect();
        starts.into_iter().map(|start| start.join().unwrap()).collect()
    });
    let request = pair.direct(Nonce::Random(random()));
    let (taken, asked): (Vec<_>, Vec<_>) =
        all.iter().map(|one| request.send(one)).partition(|reply| reply.status == 200);
    assert_eq!((taken.len(), asked.len()), (1, 2), "{asked:?}");
    for (index, one) in all.iter().enumerate() {
        let reply = request.send(one);
        let Some(nonce) = accept::asked(&headers(&reply), &pair.direct_name()) else {
            reply.assert_problem(401, "request-replayed");
            continue;
        };
        reply.assert_problem(401, "nonce-required");
        let request = pair.direct(Nonce::OfServer(&nonce));
        for (other, one) in all.iter().enumerate() {
            if other != index {
                request.refused(one, "nonce-required");
            }
        }
        assert_eq!(request.send(one).status, 200);
        request.refused(one, "request-replayed");
        assert!(one.log().contains("only with a nonce of its own"));
    }
    for one in &mut all {
        one.terminate();
        assert_eq!(one.ended(), 0);
    }
    // What the one that kept the log took is known to the next one.
    request.refused(&Serving::http(&pair.orders), "request-replayed");
}
