//! Pairing over real sockets with the real binary, as an attacker, a clumsy operator or a failing machine has it.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::path::Path;
use std::sync::Arc;

use countersign::protocol::pairing::accepter::{self, AwaitConfirmation, Randomness};
use countersign::protocol::pairing::message::PATH;
use countersign::protocol::pairing::{Code, Statement};
use countersign::protocol::wire::Incoming;
use countersign::store::random;
use countersign::{NewKeys, Trust};
use countersign_gateway::TlsIdentity;
use http::HeaderMap;
use support::faults::{Kind, inject, library};
use support::pairing::{Offering, accept, orders_and_billing, wrong};
use support::{Home, Reply, Serving, eventually, exchange, try_exchange};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::TlsAcceptor;
use zeroize::Zeroizing;

/// An accepter whose every byte is the test's, over plain HTTP on loopback.
struct Accepter {
    confirm: Vec<u8>,
    waiting: AwaitConfirmation,
}

fn post(address: &str, body: &[u8]) -> Reply {
    exchange(address, "POST", PATH, &[("Content-Type", "application/json")], body)
}

fn incoming<'a>(reply: &'a Reply, headers: &'a HeaderMap) -> Incoming<'a> {
    Incoming { status: reply.status, headers, body: &reply.body }
}

impl Accepter {
    /// P1 and P2; P3 is made and not sent.
    #[track_caller]
    fn begin(address: &str, words: &str) -> Self {
        let code: Code = words.parse().unwrap();
        let drawn = Randomness { session: random(), scalar: Zeroizing::new(random()) };
        let (request, waiting) = accepter::start(&code, &format!("http://{address}"), &drawn).unwrap();
        let reply = post(address, &request.body);
        assert_eq!(reply.status, 200, "{reply:?}");
        let ready = waiting.receive(&incoming(&reply, &HeaderMap::new())).unwrap();
        let statement = Statement { service: "billing".parse().unwrap(), url: None, pin: None, seen: None };
        let (request, waiting) = ready.confirm(&statement, random());
        Self { confirm: request.body.to_vec(), waiting }
    }

    /// Takes P4; the fingerprint of the pair.
    fn take(self, reply: &Reply) -> Option<String> {
        let paired = self.waiting.receive(&incoming(reply, &HeaderMap::new())).ok()?;
        let pair = paired.pair;
        let keys = NewKeys::cs1(pair.accepter_key, pair.offerer_key, pair.secret).unwrap();
        Some(keys.fingerprint().to_string())
    }
}

fn fingerprint(home: &Home, peer: &str) -> String {
    let shown = home.run(&["peer", "show", peer, "--json"]).json();
    shown["credentials"][0]["fingerprint"].as_str().unwrap().to_owned()
}

fn nobody(home: &Home) {
    assert_eq!(home.run(&["peer", "list", "--json"]).json(), serde_json::json!([]));
}

/// Ends TLS under a key of its own and passes everything on.
fn man_in_the_middle(home: &Home, target: impl Fn() -> String + Send + Sync + 'static) -> (String, String) {
    let (certificate, key) = (home.beside("middle.pem"), home.beside("middle.key"));
    TlsIdentity::generate("middle", &["127.0.0.1".to_owned()], &certificate, &key).unwrap();
    let identity = TlsIdentity::load(&certificate, &key).unwrap();
    let mut config = identity.server_config().unwrap();
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.set_nonblocking(true).unwrap();
    let url = format!("https://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async move {
            let listener = TcpListener::from_std(listener).unwrap();
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let Ok(mut inside) = acceptor.accept(stream).await else { continue };
                let Ok(mut outside) = TcpStream::connect(target()).await else { continue };
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            }
        });
    });
    (url, Trust::pin_text(&identity.pin().unwrap()))
}

// PA-24
#[test]
fn a_man_in_the_middle_with_another_certificate_fails_and_a_proxy_that_is_named_does_not() {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    let address = Arc::new(std::sync::OnceLock::<String>::new());
    let known = Arc::clone(&address);
    let (url, pin) = man_in_the_middle(&orders, move || known.get().unwrap().clone());
    orders.configure_serve(&format!("external_urls = [\"{url}\"]"));
    let serving = Serving::http(&orders);
    address.set(serving.address().to_owned()).unwrap();

    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    accept(&billing, &url, &words, &[])
        .refused(1, &["Mend what the detail says", "somebody stands in between"]);
    offering.next_words("pairing-misbound");
    nobody(&orders);
    nobody(&billing);
    drop(offering);

    let mut offering = Offering::start(&orders, &["--tls-pin", &pin]);
    accept(&billing, &url, &offering.words(), &["--json"]).json();
    offering.event("paired");
    let shown = billing.run(&["peer", "show", "orders", "--json"]).json();
    assert_eq!(shown["tls"], format!("pinned key {pin}"));
}

// PA-16, PA-20, PA-25
#[test]
fn messages_that_are_replayed_early_or_of_another_exchange_change_nothing() {
    let orders = Home::of("orders");
    let serving = Serving::http(&orders);
    let address = serving.address();
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    // P3 of an exchange that nobody began.
    let stranger = Accepter::begin(address, "zoo zoo able zone youth zebra");
    post(address, &stranger.confirm).assert_problem(401, "pairing-failed");

    let first = Accepter::begin(address, &words);
    // The same words again, by somebody who has heard them: too late, and he does not learn it.
    let second = Accepter::begin(address, &words);
    post(address, &second.confirm).assert_problem(401, "pairing-failed");
    let reply = post(address, &first.confirm);
    assert_eq!(reply.status, 200);
    assert_eq!(post(address, &first.confirm).body, reply.body, "a lost answer can be had again");
    let mut changed: serde_json::Value = serde_json::from_slice(&first.confirm).unwrap();
    changed["confirm"] = "A".repeat(43).into();
    post(address, changed.to_string().as_bytes()).assert_problem(401, "pairing-failed");
    post(address, &second.confirm).assert_problem(401, "pairing-failed");
    let theirs = first.take(&reply).unwrap();
    offering.event("paired");
    assert_eq!(fingerprint(&orders, "billing"), theirs);
    assert_eq!(second.take(&reply), None, "P4 of another exchange proves nothing");
    assert_eq!(orders.recorded("reason", "pairing-no-offer"), 6);
}

// PA-15, PA-24
#[test]
fn a_name_that_is_taken_on_either_side_fails_before_anything_is_stored() {
    let (orders, serving, billing) = orders_and_billing();
    let known = |home: &Home, name: &str| {
        let secret = support::new_secret();
        let file = home.secret_file("secret", &secret);
        let (ours, theirs) = (support::new_key(), support::new_key());
        let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &file];
        home.run(&[&["peer", "add", name, "--profile", "cs1"][..], &keys].concat()).ok();
    };
    known(&billing, "orders");
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    // Asked for, it is found out before anything is sent.
    accept(&billing, serving.url(), &words, &["--name", "orders"]).refused(1, &["a peer named `orders`"]);
    accept(&billing, serving.url(), &words, &["--name", "billing"]).refused(1, &["this service itself"]);
    // Stated by the other side, before anything is confirmed.
    accept(&billing, serving.url(), &words, &[]).refused(1, &["nothing was confirmed", "--name"]);
    nobody(&orders);
    drop(offering);

    known(&orders, "billing");
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    let refused = accept(&billing, serving.url(), &words, &["--name", "shop"]);
    refused.refused(1, &["a peer of your name is known to this service already"]);
    let words = offering.next_words("pairing-name-taken");
    let taken = orders.run(&["pair", "offer", "--name", "billing"]);
    taken.refused(1, &["a peer named `billing`"]);
    drop((offering, words));
    let mut offering = Offering::start(&orders, &["--name", "accounts"]);
    accept(&billing, serving.url(), &offering.words(), &["--name", "shop"]).ok();
    assert_eq!(offering.event("paired")["peer"], "accounts");
}

// PA-2, PA-6
#[test]
fn what_is_wrong_with_words_or_arguments_is_said_before_anything_is_sent() {
    let billing = Home::of("billing");
    // Nobody listens there.
    let url = "https://127.0.0.1:1";
    let words = "abandon zoo able zone youth zebra";
    accept(&billing, url, "abandon zoo able zonk youth zebra", &[])
        .refused(2, &["`zonk`", "word 4 is not in the word list", "nothing was sent"]);
    accept(&billing, url, "abandon zoo able zone youth", &[]).refused(2, &["six words", "these are 5"]);
    accept(&billing, url, "\u{1b}[31m zoo able zone youth zebra", &[]).refused(2, &["word 1"]);
    billing.run(&["pair", "accept", url]).refused(2, &["no terminal", "--words-file"]);
    let open = billing.file("open", 0o644, words.as_bytes());
    billing.run(&["pair", "accept", url, "--words-file", &open]).refused(1, &["can be read by others"]);
    accept(&billing, "http://orders.example", words, &[]).refused(1, &["plain HTTP"]);
    accept(&billing, url, words, &["--url", "http://billing.example"]).refused(1, &["plain HTTP"]);
    accept(&billing, url, words, &[]).refused(1, &["cannot reach"]);
    assert_eq!(billing.recorded("reason", "unreachable"), 1, "the others sent nothing");
    for lifetime in ["0s", "11m"] {
        billing.run(&["pair", "offer", "--for", lifetime]).refused(2, &["1s to 10m"]);
    }
    billing.run(&["pair", "offer"]).refused(1, &["no `countersign serve` runs on", "Start it"]);
}

// PA-8
#[test]
fn an_offer_closes_by_itself_and_when_it_is_withdrawn() {
    let (orders, serving, billing) = orders_and_billing();
    let mut offering = Offering::start(&orders, &["--for", "1s"]);
    let words = offering.words();
    assert!(offering.event("closed")["reason"].as_str().unwrap().contains("time is over"));
    assert_eq!(offering.end().0, 1);
    accept(&billing, serving.url(), &words, &[]).refused(1, &["Ask for the words"]);

    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    offering.interrupt();
    let (code, said) = offering.end();
    assert!(code == 1 && said.contains("withdrawn"), "{said}");
    accept(&billing, serving.url(), &words, &[]).refused(1, &["Ask for the words"]);

    // Killed, it closes by itself as well; until then the server, another process, answers.
    let mut offering = Offering::start(&orders, &["--for", "1m"]);
    let words = offering.words();
    offering.kill();
    accept(&billing, serving.url(), &words, &[]).ok();
    assert_eq!(fingerprint(&orders, "billing"), fingerprint(&billing, "orders"));
}

// PA-3, PA-16
#[test]
fn at_another_url_of_the_same_machine_nothing_is_claimed() {
    let (orders, serving, billing) = orders_and_billing();
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    // A name of this machine that the certificate does not have, and a path below which nobody serves.
    let address = serving.url().replace("127.0.0.1", "127.0.0.2");
    accept(&billing, &address, &words, &[]).refused(1, &["cannot reach"]);
    let below = format!("{}/shop", serving.url());
    assert_ne!(accept(&billing, &below, &words, &[]).code, 0);
    // `localhost` and the address are both in the certificate.
    let by_name = serving.url().replace("127.0.0.1", "localhost");
    accept(&billing, &by_name, &words, &[]).ok();
    offering.event("paired");
    assert_eq!(billing.run(&["peer", "show", "orders", "--json"]).json()["url"], by_name);
}

/// A server on loopback that gives everybody this answer.
fn answering(answer: String) -> String {
    use std::io::{Read as _, Write as _};
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let mut stream = stream.unwrap();
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    url
}

// PA-2, PA-13, PA-14
#[test]
fn whatever_else_answers_there_is_not_followed_not_believed_and_not_shown_as_it_is() {
    let (orders, billing) = (Home::of("orders"), Home::of("billing"));
    let serving = Serving::http(&orders);
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    let redirect = format!(
        "HTTP/1.1 307 Temporary Redirect\r\nLocation: {}{PATH}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n",
        serving.url()
    );
    accept(&billing, &answering(redirect), &words, &[]).refused(1, &["answered 307"]);
    let ok = |body: &str| {
        format!("HTTP/1.1 200 OK\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
    };
    let zeros = "A".repeat(43);
    for body in [
        "",
        "{}",
        "[\"orders\",\"\"]",
        "\u{1b}[31mhello",
        &format!("{{\"service\":\"orders\",\"share\":\"{zeros}\"}}"),
        &format!("{{\"service\":\"../orders\",\"share\":\"{zeros}\"}}"),
        &"x".repeat(70_000),
    ] {
        let done = accept(&billing, &answering(ok(body)), &words, &[]);
        assert_eq!((done.code, done.stdout.as_str()), (1, ""), "{done:?}");
    }
    nobody(&billing);
    // The code is as good as it was.
    accept(&billing, serving.url(), &words, &[]).ok();
    offering.event("paired");
}

// PA-22
#[test]
fn authorities_are_trusted_only_if_that_is_asked_for_and_what_they_do_not_know_is_said() {
    let (orders, serving, billing) = orders_and_billing();
    let mut offering = Offering::start(&orders, &[]);
    let done = accept(&billing, serving.url(), &offering.words(), &["--system-trust"]);
    assert_eq!(done.code, 1);
    assert!(done.stderr.contains("the pair is stored on both sides, but the first handshake"), "{done:?}");
    offering.event("paired");
    let shown = billing.run(&["peer", "show", "orders", "--json"]).json();
    assert_eq!(shown["tls"], "the system's certificate authorities");
}

// PA-26
#[test]
fn while_the_store_is_locked_nothing_is_claimed() {
    let orders = Home::of("orders");
    let serving = Serving::http(&orders);
    let mut offering = Offering::start(&orders, &[]);
    let words = offering.words();
    let store = rusqlite::Connection::open(orders.path().join("store.sqlite")).unwrap();
    store.execute_batch("BEGIN IMMEDIATE").unwrap();
    let code: Code = words.parse().unwrap();
    let drawn = Randomness { session: random(), scalar: Zeroizing::new(random()) };
    let (request, _) = accepter::start(&code, serving.url(), &drawn).unwrap();
    post(serving.address(), &request.body).assert_problem(503, "unavailable");
    store.execute_batch("ROLLBACK").unwrap();
    let accepter = Accepter::begin(serving.address(), &words);
    let reply = post(serving.address(), &accepter.confirm);
    assert!(accepter.take(&reply).is_some());
    offering.event("paired");
}

// PA-23: a claim outlives the process that made it.
#[test]
fn a_server_that_is_killed_between_p2_and_p3_goes_on_after_its_restart() {
    let orders = Home::of("orders");
    let mut serving = Serving::http(&orders);
    let mut offering = Offering::start(&orders, &[]);
    let accepter = Accepter::begin(serving.address(), &offering.words());
    serving.kill();
    assert!(try_exchange(serving.address(), "POST", PATH, &[], &accepter.confirm).is_none());
    let serving = Serving::http(&orders);
    let reply = post(serving.address(), &accepter.confirm);
    assert_eq!(Some(fingerprint(&orders, "billing")), accepter.take(&reply));
    offering.event("paired");
}

fn serve_with_fault(orders: &Home, library: &Path, at: usize) -> Serving {
    let _ = std::fs::remove_file(orders.beside("switch"));
    let mut command = orders.command(&["serve", "--listen", "http://127.0.0.1:0"]);
    inject(&mut command, library, orders, Kind::Kill, at);
    command.env("FAULT_SWITCH", orders.beside("switch"));
    Serving::of(command, &orders.beside("serve.log"), 1)
}

// PA-23: whatever was written last, the same P3 gets a P4, and there is one peer with the accepter's keys.
#[test]
fn a_server_that_is_killed_at_any_write_of_p3_pairs_after_its_restart() {
    let Some(library) = library() else { return };
    let template = Home::of("orders");
    let mut struck = 0;
    for at in (1..).step_by(3) {
        let orders = template.copy();
        let mut serving = serve_with_fault(&orders, library, at);
        let mut offering = Offering::start(&orders, &[]);
        let accepter = Accepter::begin(serving.address(), &offering.words());
        std::fs::write(orders.beside("switch"), "").unwrap();
        let reply = try_exchange(serving.address(), "POST", PATH, &[], &accepter.confirm);
        if let Some(reply) = reply {
            // It has been answered before so many writes; the background may still be struck.
            assert!(accepter.take(&reply).is_some(), "write {at}");
            break;
        }
        serving.killed();
        struck += 1;
        let serving = Serving::http(&orders);
        let reply = post(serving.address(), &accepter.confirm);
        assert_eq!(reply.status, 200, "write {at}: {reply:?}");
        assert_eq!(Some(fingerprint(&orders, "billing")), accepter.take(&reply), "write {at}");
        offering.event("paired");
        eventually("it is on the trail", || orders.recorded("reason", "paired") >= 1);
    }
    assert!(struck >= 3, "{struck}");
}

#[test]
fn three_wrong_tries_of_one_source_do_not_end_what_another_operator_offers() {
    let (orders, serving, billing) = orders_and_billing();
    let (mut one, mut other) = (Offering::start(&orders, &[]), Offering::start(&orders, &[]));
    let (first, second) = (one.words(), other.words());
    accept(&billing, serving.url(), &wrong(&first), &[]).refused(1, &["Ask for the words"]);
    one.next_words("pairing-wrong-words");
    accept(&billing, serving.url(), &second, &[]).ok();
    other.event("paired");
}
