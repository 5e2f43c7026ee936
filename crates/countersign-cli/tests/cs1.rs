//! `serve` and `call` under `cs1`, as an operator has them: what works, what is refused, and what is told of it.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "what breaks in a helper ends the test")]

mod support;

use std::sync::Arc;

use countersign::client::tls_config;
use countersign_gateway::TlsIdentity;
use support::life::{meet, rotate, take};
use support::{Fake, Home, Proxy, Serving, eventually, new_key, new_secret};
use tokio::io::copy_bidirectional;
use tokio::net::{TcpListener, TcpStream};
use tokio_rustls::{TlsAcceptor, TlsConnector};

/// `orders` serves, and `billing` knows it.
struct Signed {
    orders: Home,
    billing: Home,
    serving: Serving,
}

impl Signed {
    fn over(listen: &str) -> Self {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let serving = Serving::start(&orders, &["--listen", listen]);
        meet((&orders, serving.url()), (&billing, "https://billing.example"), "cs1");
        let signed = Self { orders, billing, serving };
        eventually("the peer is taken over", || signed.call(&["-X", "GET"]).code == 0);
        signed
    }

    fn call(&self, options: &[&str]) -> support::Done {
        let url = format!("{}/invoices?page=2", self.serving.url());
        self.billing.run(&[&["call"][..], options, &[&url]].concat())
    }
}

#[test]
fn a_call_is_signed_both_ways_told_of_and_on_both_trails() {
    let signed = Signed::over("https://127.0.0.1:0");
    let done = signed.call(&["-v", "-d", "{\"amount\":5}"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(done.stdout.contains("\"billing\""), "{done:?}");
    for told in
        ["POST ", "/authenticate", "/verify_challenge", "signature-input: cs=(", "content-digest: sha-256=:"]
    {
        assert!(done.stderr.contains(told), "{told} in {}", done.stderr);
    }
    for hidden in ["cst.A", "signature: cs=:", "signedChallenge\":\"", "serverProof\":\""] {
        assert!(!done.stderr.contains(hidden), "{hidden} in {}", done.stderr);
    }
    for (home, direction) in [(&signed.orders, "inbound"), (&signed.billing, "outbound")] {
        let mut accepted = home.trail().into_iter().filter(|record| record["reason"] == "accepted");
        let last = accepted.next_back().unwrap();
        assert_eq!((&last["profile"], &last["direction"]), (&"cs1".into(), &direction.into()), "{last}");
    }
    eventually("its use is noted", || {
        let shown = signed.orders.run(&["peer", "show", "billing", "--json"]).json();
        !shown["credentials"][0]["life"]["usedInbound"].is_null()
    });
}

#[test]
fn who_has_another_secret_another_profile_or_is_revoked_is_refused() {
    let signed = Signed::over("https://127.0.0.1:0");
    let pin = signed.orders.pin();
    let shown = signed.billing.run(&["peer", "show", "orders", "--json"]).json();
    let key = |name: &str| shown["credentials"][0][name].as_str().unwrap().to_owned();
    let (ours, theirs) = (key("ourKey"), key("theirKey"));
    let wrong = signed.billing.secret_file("wrong", &new_secret());
    for (profile, said) in [("cs1", "401"), ("shared-secret", "401")] {
        signed.billing.run(&["peer", "remove", "orders"]).ok();
        let to =
            ["peer", "add", "orders", "--profile", profile, "--url", signed.serving.url(), "--tls-pin", &pin];
        let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &wrong];
        signed.billing.run(&[&to[..], &keys].concat()).ok();
        signed.call(&[]).refused(1, &[said]);
    }
    assert!(signed.orders.recorded("reason", "wrong-signature") >= 1);
    assert!(signed.orders.recorded("reason", "wrong-profile") >= 1);

    let signed = Signed::over("https://127.0.0.1:0");
    signed.orders.run(&["revoke", "billing"]).ok();
    eventually("it is refused", || signed.call(&[]).code == 1);
    eventually("the reason is there", || signed.orders.recorded("reason", "credential-revoked") >= 1);
}

#[test]
fn keys_are_rotated_without_an_interruption() {
    let signed = Signed::over("https://127.0.0.1:0");
    let file = rotate(&signed.orders, "billing", &[], &signed.billing);
    assert_eq!(signed.call(&[]).code, 0, "with the old ones");
    take(&signed.billing, "orders", &file, &[]);
    assert_eq!(signed.call(&[]).code, 0, "with the new ones");
    eventually("their use is known", || signed.orders.run(&["rotate", "billing", "--check"]).code == 0);
    signed.orders.run(&["rotate", "billing", "--finish"]).ok();
    signed.billing.run(&["rotate", "orders", "--finish"]).ok();
    assert_eq!(signed.call(&[]).code, 0);
}

#[test]
fn what_is_bound_to_tls_works_over_tls_and_nowhere_else() {
    for (listen, works) in [("https://127.0.0.1:0", true), ("http://127.0.0.1:0", false)] {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let serving = Serving::start(&orders, &["--listen", listen]);
        let (a, b, secret, pin) = (new_key(), new_key(), new_secret(), orders.pin());
        for (home, name, ours, theirs) in [(&orders, "billing", &a, &b), (&billing, "orders", &b, &a)] {
            let file = home.secret_file("secret", &secret);
            let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", &file];
            let to = ["peer", "add", name, "--profile", "cs1", "--binding", "tls-exporter"];
            let place = ["--url", serving.url(), "--tls-pin", &pin];
            home.run(&[&to[..], &keys, if name == "orders" { &place } else { &[] }].concat()).ok();
        }
        let url = format!("{}/", serving.url());
        if works {
            eventually("a call succeeds", || billing.run(&["call", &url]).code == 0);
        } else {
            billing.run(&["call", &url]).refused(1, &["tls-exporter"]);
            assert_eq!(orders.trail().len(), 0, "nothing was sent");
        }
    }
}

/// Ends the TLS of whoever calls, with the server's own key, and hands all of it on over TLS of its own; where it is.
fn relay_with_the_key_of(orders: &Home, target: Arc<std::sync::OnceLock<String>>) -> String {
    let tls = |name: &str| orders.path().join("tls").join(name);
    let identity = TlsIdentity::load(&tls("certificate.pem"), &tls("key.pem")).unwrap();
    let config = identity.server_config().unwrap();
    let protocols = config.alpn_protocols.clone();
    let acceptor = TlsAcceptor::from(Arc::new(config));
    let mut config = tls_config(&countersign::Trust::Pin(identity.pin().unwrap())).unwrap();
    config.alpn_protocols = protocols;
    let connector = TlsConnector::from(Arc::new(config));
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
                let Ok(outside) = TcpStream::connect(target.get().unwrap()).await else { continue };
                let name = rustls::pki_types::ServerName::try_from("127.0.0.1").unwrap();
                let mut outside = connector.connect(name, outside).await.unwrap();
                let _ = copy_bidirectional(&mut inside, &mut outside).await;
            }
        });
    });
    url
}

#[test]
fn cs_31_a_relay_that_holds_the_tls_key_is_noticed_at_both_ends_and_passes_unnoticed_without_a_binding() {
    for binding in ["tls-exporter", "none"] {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let upstream = Fake::new(|mut exchange| exchange.respond(200, &[], b"here"));
        let address = Arc::new(std::sync::OnceLock::new());
        let url = relay_with_the_key_of(&orders, Arc::clone(&address));
        orders.configure_serve(&format!("external_urls = [\"{url}\"]"));
        let (a, b, secret, pin) = (new_key(), new_key(), new_secret(), orders.pin());
        for (home, name, ours, theirs) in [(&orders, "billing", &a, &b), (&billing, "orders", &b, &a)] {
            let file = home.secret_file("secret", &secret);
            let keys = ["--our-key", ours, "--their-key", theirs, "--secret-file", &file];
            let to = ["peer", "add", name, "--profile", "cs1", "--binding", binding];
            let place = ["--url", &url, "--tls-pin", &pin];
            home.run(&[&to[..], &keys, if name == "orders" { &place } else { &[] }].concat()).ok();
        }
        let serving =
            Serving::start(&orders, &["--listen", "https://127.0.0.1:0", "--upstream", &upstream.url]);
        address.set(serving.address().to_owned()).unwrap();
        let done = billing.run(&["call", "-d", "the data", &format!("{url}/pay")]);
        if binding == "none" {
            assert_eq!((done.code, upstream.paths()), (0, vec!["/pay".to_owned()]), "{done:?}");
            continue;
        }
        done.refused(1, &["401"]);
        assert_eq!(orders.recorded("reason", "wrong-signature"), 1);
        for home in [&orders, &billing] {
            assert_eq!((home.recorded("outcome", "accepted"), home.recorded("outcome", "refused")), (0, 1));
        }
        assert_eq!(upstream.paths(), [""; 0], "nothing reached the service");
    }
}

#[test]
fn a_refused_request_is_explained_at_the_called_side_as_it_arrived() {
    type Change = fn(&str) -> String;
    let changes: [(Change, &str, &[&str]); 4] = [
        (|text| text.to_owned(), "accepted", &["The signature is right"]),
        (
            |text| text.replacen("POST /api/pay", "POST /pay", 1),
            "wrong-signature",
            &["mac: ", "the two bases agree"],
        ),
        (
            |text| text.replace("{\"amount\":5}", "{\"amount\":9}"),
            "digest-mismatch",
            &["MAC         right", "content: the content is not the one"],
        ),
        (
            |text| text.replacen("content-type: application/json\r\n", "", 1),
            "uncovered",
            &["coverage: the signature covers the header `content-type`, which the request does not have"],
        ),
    ];
    for (change, reason, said) in changes {
        let (orders, billing) = (Home::of("orders"), Home::of("billing"));
        let proxy = Proxy::new(change);
        orders.configure_serve(&format!("external_urls = [\"{}\"]", proxy.url));
        let serving = Serving::http(&orders);
        proxy.to(serving.address());
        meet((&orders, &proxy.url), (&billing, "https://billing.example"), "cs1");
        let url = format!("{}/api/pay", proxy.url);
        // Before the peer is taken over, the handshake is refused.
        eventually(reason, || {
            billing.run(&["call", "-d", "{\"amount\":5}", &url]);
            proxy.last().is_some()
        });
        eventually("its reason is there", || orders.recorded("reason", reason) >= 1);
        let request = proxy.last().unwrap();
        let text = String::from_utf8_lossy(&request).to_lowercase();
        let line = text.lines().find_map(|line| line.strip_prefix("signature: cs=:")).unwrap().to_owned();
        let done = orders.run_with(&["explain", "--peer", "billing"], &request);
        assert_eq!(done.code, i32::from(reason != "accepted"), "{done:?}");
        for said in said {
            assert!(done.stdout.contains(said), "{said} in {}", done.stdout);
        }
        assert!(!done.stdout.to_lowercase().contains(&line[..20]), "the signature came out");
        // Where the keys are not, both bases are shown, and that is said.
        let done = billing.run_with(&["explain", "--peer", "orders"], &request);
        assert!(done.stdout.contains("MAC         not checked"), "{done:?}");
    }
}

#[test]
fn a_backup_holds_no_ticket_keys() {
    let signed = Signed::over("https://127.0.0.1:0");
    let file = signed.orders.beside("orders.backup");
    signed.orders.run(&["backup", file.to_str().unwrap()]).ok();
    let restored = Home::empty();
    std::fs::create_dir(restored.path()).unwrap();
    std::fs::set_permissions(restored.path(), std::os::unix::fs::PermissionsExt::from_mode(0o700)).unwrap();
    let key = signed.orders.path().join("master.key");
    std::fs::copy(&key, restored.path().join("master.key")).unwrap();
    restored.run(&["restore", file.to_str().unwrap()]).ok();
    let rows = |home: &Home| -> Vec<String> {
        let store = rusqlite::Connection::open(home.path().join("store.sqlite")).unwrap();
        let mut names = store.prepare("SELECT name FROM aside").unwrap();
        names.query_map([], |row| row.get(0)).unwrap().collect::<Result<_, _>>().unwrap()
    };
    assert!(rows(&signed.orders).contains(&"ticket-keys".to_owned()));
    assert_eq!(rows(&restored), ["replay-log-lost"]);
    let shown = restored.run(&["peer", "show", "billing", "--json"]).json();
    assert_eq!((&shown["profile"], &shown["binding"]), (&"cs1".into(), &"none".into()));
}
