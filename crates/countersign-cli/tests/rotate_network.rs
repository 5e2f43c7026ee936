//! Rotation in band over a network that loses, repeats and delays its messages, between real processes with real stores; and both sides
//! at once. Each time the two still talk, and come to the same next credential.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::sync::{Arc, Mutex};

use support::fake::{Exchange, Fake};
use support::life::status;
use support::raw::{Connection, Reply};
use support::rotating::Rotating;
use support::{Home, Serving, eventually, new_key, new_secret};

const PATH: &str = "/.well-known/countersign/rotation";
const QUICK: &str = "[rotation]\ngrace_seconds = 2\npropagation_seconds = 0\nscheduled = false";

/// What happens to one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    /// It does not arrive.
    Lost,
    /// Its answer does not.
    AnswerLost,
    /// It arrives twice, and the first answer comes back.
    Twice,
    /// … the second one.
    TwiceSecond,
    /// It is lost, and arrives after everything else.
    Late,
}

/// A request as bytes.
type Message = (Vec<u8>, Vec<u8>);

#[derive(Default)]
struct Network {
    /// The rotation messages that are still to pass, and what happens to the next one then.
    next: Mutex<Option<(usize, Fault)>>,
    late: Mutex<Vec<Message>>,
}

impl Network {
    fn pass(&self, mut exchange: Exchange, address: &str) {
        let seen = exchange.seen.clone();
        let mut head = format!("{} {} HTTP/1.1\r\nConnection: close\r\n", seen.method, seen.path);
        for (name, value) in seen.headers.iter().filter(|(name, _)| name != "connection") {
            head.push_str(&format!("{name}: {value}\r\n"));
        }
        head.push_str("\r\n");
        let message = (head.into_bytes(), exchange.body());
        let fault = if seen.path == PATH { self.fault() } else { None };
        let reply = match fault {
            None => deliver(address, &message),
            Some(Fault::Lost) => None,
            Some(Fault::Late) => {
                self.late.lock().unwrap().push(message);
                None
            }
            Some(Fault::AnswerLost) => {
                deliver(address, &message);
                None
            }
            Some(Fault::Twice) => {
                let first = deliver(address, &message);
                deliver(address, &message);
                first
            }
            Some(Fault::TwiceSecond) => {
                deliver(address, &message);
                deliver(address, &message)
            }
        };
        let Some(reply) = reply else { return exchange.respond(502, &[], b"") };
        let hop = ["connection", "content-length", "transfer-encoding", "date"];
        let headers: Vec<_> =
            reply.headers.iter().filter(|(name, _)| !hop.contains(&name.as_str())).collect();
        let headers: Vec<_> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
        exchange.respond(reply.status, &headers, &reply.body);
    }

    fn fault(&self) -> Option<Fault> {
        let mut next = self.next.lock().unwrap();
        match &mut *next {
            Some((0, fault)) => {
                let fault = *fault;
                *next = None;
                Some(fault)
            }
            Some((left, _)) => {
                *left -= 1;
                None
            }
            None => None,
        }
    }
}

fn deliver(address: &str, (head, body): &Message) -> Option<Reply> {
    let mut connection = Connection::try_open(address).ok()?;
    (connection.try_send(head) && connection.try_send(body)).then(|| connection.reply()).flatten()
}

fn fingerprints(home: &Home, name: &str) -> Vec<String> {
    let peer = status(home, name);
    let live = peer["credentials"].as_array().unwrap().iter();
    live.map(|one| one["fingerprint"].as_str().unwrap().to_owned()).collect()
}

#[test]
fn whichever_message_is_lost_repeated_or_late_the_two_come_to_the_same_credential() {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    let network = Arc::new(Network::default());
    let upstream = Arc::new(Mutex::new(String::new()));
    let (passing, to) = (Arc::clone(&network), Arc::clone(&upstream));
    let between = Fake::new(move |exchange| {
        let address = to.lock().unwrap().clone();
        passing.pass(exchange, &address);
    });
    orders.configure(QUICK);
    billing.configure(QUICK);
    orders.configure_serve(&format!("external_urls = [\"{}\"]", between.url));
    let serving = Serving::http(&orders);
    *upstream.lock().unwrap() = serving.address().to_owned();
    let (keys, secret) = ([new_key(), new_key()], new_secret());
    for (home, name, url, [ours, theirs]) in [
        (&orders, "billing", None, [&keys[0], &keys[1]]),
        (&billing, "orders", Some(&between.url), [&keys[1], &keys[0]]),
    ] {
        let file = home.secret_file("secret", &secret);
        let to = ["peer", "add", name, "--profile", "cs1"];
        let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", &file];
        let url = url.map_or_else(Vec::new, |url| vec!["--url", url]);
        home.run(&[&to[..], &keys, &url].concat()).ok();
    }
    let call = || billing.run(&["call", "-X", "POST", "-d", "data", &format!("{}/x", between.url)]);
    eventually("they know each other", || call().code == 0);

    // R1, R3, and the request that shows that the new one is in use.
    for message in 0..3 {
        for fault in [Fault::Lost, Fault::AnswerLost, Fault::Twice, Fault::TwiceSecond, Fault::Late] {
            let what = format!("{fault:?} of message {message}");
            *network.next.lock().unwrap() = Some((message, fault));
            let before = fingerprints(&billing, "orders");
            let mut runs = 0;
            loop {
                let done = billing.run(&["rotate", "orders"]);
                assert_eq!(call().code, 0, "{what}: {done:?}");
                if done.code == 0 {
                    break;
                }
                runs += 1;
                assert!(runs < 4, "{what}: {done:?}");
            }
            let (after, there) = (fingerprints(&billing, "orders"), fingerprints(&orders, "billing"));
            assert_eq!(after.last(), there.last(), "{what}");
            assert_ne!(after.last(), before.last(), "{what}");
            assert_eq!(call().code, 0, "{what}");
            for (home, name) in [(&billing, "orders"), (&orders, "billing")] {
                // By itself, if it takes long: `billing` has no `serve` that would tidy up.
                eventually("the overlap is over", || {
                    let done = home.run(&["rotate", name, "--finish"]);
                    done.code == 0 || done.stderr.contains("no rotation of")
                });
            }
            call().ok();
        }
    }
    // What was held back arrives now, out of another time.
    let late = std::mem::take(&mut *network.late.lock().unwrap());
    assert!(late.len() >= 2, "{}", late.len());
    let before = fingerprints(&orders, "billing");
    for message in &late {
        let reply = deliver(serving.address(), message).unwrap();
        // A status request that was never delivered is none too late within a minute, and changes nothing.
        let is_status = String::from_utf8_lossy(&message.1).contains("\"status\"");
        assert!(is_status || reply.status != 200, "{reply:?}");
    }
    assert_eq!(fingerprints(&orders, "billing"), before);
    assert_eq!(status(&orders, "billing")["rotation"]["inBand"], serde_json::Value::Null);
    call().ok();
}

#[test]
fn both_sides_rotate_at_once_and_one_of_them_goes_on() {
    let pair = Rotating::new(true, QUICK);
    let (_orders, _billing) = (pair.serve_orders(), pair.serve_billing());
    eventually("they know each other", || pair.call().code == 0 && pair.call_back().code == 0);
    for _ in 0..4 {
        let before = pair.fingerprints();
        let (a, b) = std::thread::scope(|scope| {
            let there = scope.spawn(|| pair.billing.run(&["rotate", "orders"]));
            let back = scope.spawn(|| pair.orders.run(&["rotate", "billing"]));
            (there.join().unwrap(), back.join().unwrap())
        });
        assert!(a.code == 0 || b.code == 0, "{a:?} {b:?}");
        pair.call().ok();
        pair.call_back().ok();
        // Whoever gave way may have been told so while the other was not through yet.
        eventually("both are through, with the same", || {
            let [here, there] = pair.fingerprints();
            here == there && here.last() != before[0].last()
        });
        pair.call().ok();
        pair.call_back().ok();
        pair.finish();
    }
}
