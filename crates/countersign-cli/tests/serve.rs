//! `serve`: listeners, configuration, changes while it runs, and its end.

mod support;

use std::net::TcpStream;
use std::sync::mpsc;

use serde_json::json;
use support::raw::post;
use support::serving::address;
use support::{ApiKeyPair, Connection, Fake, Home, PATIENCE, Pair, Serving, eventually, exchange};

#[test]
fn every_listener_is_told_and_the_admin_one_last() {
    let home = Home::of("orders");
    let listen =
        ["--listen", "https://127.0.0.1:0", "--listen", "http://localhost:0", "--admin", "127.0.0.1:0"];
    let serving = Serving::start(&home, &listen);
    let urls: Vec<_> = serving.urls.iter().map(|url| url.rsplit_once(':').unwrap().0).collect();
    assert_eq!(urls, ["https://127.0.0.1", "http://127.0.0.1", "http://127.0.0.1"]);
    assert!(serving.urls.iter().all(|url| !url.ends_with(":0")));
    let admin = address(&serving.urls[2]);
    assert_eq!(exchange(admin, "GET", "/healthz", &[], b"").body, b"ok\n");
    assert_eq!(exchange(admin, "GET", "/readyz", &[], b"").body, b"ready\n");
    assert_eq!(exchange(admin, "POST", "/authenticate", &[], b"{}").status, 404, "it does nothing else");
    // What the admin listener has is not on the public one.
    let public = address(&serving.urls[1]);
    assert_eq!(exchange(public, "GET", "/metrics", &[], b"").status, 401);
    let metrics = exchange(admin, "GET", "/metrics", &[], b"");
    let text = String::from_utf8(metrics.body).unwrap();
    assert!(
        text.contains(r#"countersign_attempts_total{outcome="refused",reason="no-credentials"} 1"#),
        "{text}"
    );
    assert!(text.ends_with("# EOF\n"));
}

#[test]
fn listeners_and_upstream_may_come_from_the_config() {
    let pair = Pair::new();
    let upstream = Fake::new(|mut exchange| exchange.respond(200, &[], b"from the upstream"));
    let config = pair.orders.path().join("countersign.toml");
    let text = format!(
        "service = \"orders\"\n[serve]\nlisten = [\"http://127.0.0.1:0\"]\nupstream = \"{}\"\n",
        upstream.url
    );
    std::fs::write(config, text).unwrap();
    let serving = Serving::of(pair.orders.command(&["serve"]), &pair.orders.beside("serve.log"), 1);
    assert_eq!(pair.get(serving.address(), "/").body, b"from the upstream");
}

#[test]
fn without_an_upstream_the_answer_names_the_peer_under_both_profiles() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let reply = pair.get(serving.address(), "/anything?x=y");
    assert_eq!(reply.status, 200);
    assert_eq!(reply.header("content-type"), Some("application/json"));
    assert_eq!(
        reply.json(),
        json!({"authenticated": true, "service": "billing", "credential": "billing/1", "profile": "shared-secret"})
    );
    assert!(reply.header("x-request-id").is_some());
    exchange(serving.address(), "GET", "/", &[], b"").assert_problem(401, "credentials-required");
    let pair = ApiKeyPair::new();
    let serving = Serving::http(&pair.orders);
    pair.meet(serving.url(), &[]);
    let answer = pair.billing.run(&["call", serving.url()]).json();
    assert_eq!(answer["profile"], "api-key");
    assert_eq!(answer["service"], "billing");
}

#[test]
fn what_cannot_be_served_is_refused_before_anything_listens() {
    let home = Home::of("orders");
    let serve = |arguments: &[&str]| home.run(&[&["serve"][..], arguments].concat());
    let http = ["--listen", "http://127.0.0.1:0"];
    serve(&["--listen", "http://0.0.0.0:0"]).refused(1, &["plain HTTP", "https://"]);
    serve(&["--listen", "http://[::]:0"]).refused(1, &["plain HTTP"]);
    serve(&[&http[..], &["--upstream", "http://192.0.2.1:80"]].concat()).refused(1, &["plain HTTP"]);
    serve(&[&http[..], &["--upstream", "http://u:p@127.0.0.1:80"]].concat()).refused(1, &["user name"]);
    for form in
        ["127.0.0.1:0", "ftp://127.0.0.1:0", "https://orders.example:443", "http://127.0.0.1", "\u{1b}[31m"]
    {
        serve(&["--listen", form]).refused(2, &["--listen"]);
    }
    serve(&[&http[..], &["--admin", "orders"]].concat()).refused(2, &["--admin"]);
}

#[test]
fn plain_http_for_other_machines_is_under_a_setting_named_danger() {
    let home = Home::of("orders");
    let config = home.path().join("countersign.toml");
    std::fs::write(config, "service = \"orders\"\ndanger_plain_http = true\n").unwrap();
    let serving = Serving::start(&home, &["--listen", "http://0.0.0.0:0"]);
    assert!(serving.url().starts_with("http://0.0.0.0:"));
}

#[test]
fn a_port_that_is_taken_is_told() {
    let (one, two) = (Home::of("orders"), Home::of("billing"));
    let serving = Serving::http(&one);
    two.run(&["serve", "--listen", serving.url()])
        .refused(1, &["cannot listen on", serving.address(), "in use"]);
    // Nor does another listener stay.
    two.run(&["serve", "--listen", "http://127.0.0.1:0", "--listen", serving.url()]).refused(1, &["in use"]);
    assert_eq!(exchange(serving.address(), "GET", "/", &[], b"").status, 401, "the first one goes on");
}

#[test]
fn config_errors_point_at_their_line() {
    let home = Home::of("orders");
    let config = home.path().join("countersign.toml");
    for (text, said) in [
        ("service = \"orders\"\n[serve]\nlisen = []\n", &["countersign.toml", "line 3", "lisen"][..]),
        ("service = \"orders\"\n\n[timeouts]\nhead_seconds = 0\n", &["line 4", "between 1 and 300"]),
        ("service = \"orders\"\n[token]\nlifetime_seconds = 301\n", &["line 3", "between 1 and 300"]),
        ("service = \"orders\"\n[serve]\nlisten = [\"http://orders.example:1\"]\n", &["line 3"]),
        ("service = \"Orders\"\n", &["line 1"]),
        ("service = \"orders\nx\"\n", &["TOML parse error at line"]),
        ("service = \"or\u{1b}[31mders\"\n", &["line 1"]),
        ("", &["service"]),
    ] {
        std::fs::write(&config, text).unwrap();
        home.run(&["serve", "--listen", "http://127.0.0.1:0"]).refused(1, said);
        home.run(&["status"]).refused(1, said);
    }
}

#[test]
fn a_tls_identity_that_cannot_be_used_is_told_before_anything_listens() {
    let (home, other) = (Home::of("orders"), Home::of("billing"));
    let serve = ["serve", "--listen", "https://127.0.0.1:0"];
    std::fs::create_dir(home.beside("home/own")).unwrap();
    home.configure("[tls]\ncertificate = \"own/certificate.pem\"\nkey = \"own/key.pem\"");
    let (certificate, key) = (home.path().join("own/certificate.pem"), home.path().join("own/key.pem"));
    home.run(&serve).refused(1, &["own/key.pem"]);
    std::fs::copy(home.path().join("tls/key.pem"), &key).unwrap();
    std::fs::copy(other.certificate(), &certificate).unwrap();
    home.run(&serve).refused(1, &["certificate"]);
    std::fs::write(&certificate, "no PEM").unwrap();
    home.run(&serve).refused(1, &["own/certificate.pem", "no certificate"]);
    std::fs::copy(home.certificate(), &certificate).unwrap();
    // Paths in the config are below the data directory, wherever a command runs.
    assert!(home.pin().starts_with("sha256/"));
    let _serving = Serving::https(&home);
    std::fs::set_permissions(&key, std::os::unix::fs::PermissionsExt::from_mode(0o644)).unwrap();
    home.run(&serve).refused(1, &["can be read by others", "chmod 600"]);
}

#[test]
fn what_the_command_line_changes_is_live_in_a_running_server() {
    let home = Home::of("orders");
    let serving = Serving::http(&home);
    let pair = Pair::new();
    let body = json!({"apiKey": pair.billing_key});
    let status = || post(serving.address(), "/authenticate", &[], &body).status;
    assert_eq!(status(), 401);
    let file = home.secret_file("secret", &pair.secret);
    let keys = ["--our-key", &pair.orders_key, "--their-key", &pair.billing_key, "--secret-file", &file];
    home.run(&[&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys].concat()).ok();
    eventually("the added peer gets a challenge", || status() == 200);
    let bearer = pair.bearer(serving.address());
    home.hide(bearer.strip_prefix("Bearer ").unwrap());
    let get = || exchange(serving.address(), "GET", "/", &[("Authorization", &bearer)], b"");
    assert_eq!(get().status, 200);
    home.run(&["peer", "remove", "billing"]).ok();
    eventually("the removed peer's token is refused", || get().status == 401);
    get().assert_problem(401, "session-invalid");
    assert_eq!(home.trail().last().unwrap()["reason"], "token-orphaned");
    assert_eq!(status(), 401);
    // The same name and keys again are another credential: old tokens stay dead.
    home.run(&[&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys].concat()).ok();
    eventually("the peer that was added again gets a challenge", || status() == 200);
    assert_eq!(get().status, 401);
}

#[test]
fn a_running_request_ends_before_the_server_does() {
    let pair = Pair::new();
    let (arrived, has_arrived) = mpsc::channel();
    let (release, released) = mpsc::channel();
    let released = std::sync::Mutex::new(released);
    let upstream = Fake::new(move |mut exchange| {
        arrived.send(()).unwrap();
        released.lock().unwrap().recv_timeout(PATIENCE).unwrap();
        exchange.respond(200, &[], b"in peace");
    });
    let mut serving =
        Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
    let bearer = pair.bearer(serving.address());
    let mut running = Connection::open(serving.address());
    running.send(format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n"));
    has_arrived.recv_timeout(PATIENCE).unwrap();
    // Connections on which nothing runs do not hold the server up.
    let mut idle = Connection::open(serving.address());
    let mut unused = Connection::open(serving.address());
    idle.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert_eq!(idle.reply().unwrap().status, 401);
    serving.terminate();
    eventually("nobody is let in any more", || TcpStream::connect(serving.address()).is_err());
    assert_eq!(idle.closed(), b"");
    assert_eq!(unused.closed(), b"");
    release.send(()).unwrap();
    assert_eq!(running.reply().unwrap().body, b"in peace");
    assert_eq!(serving.ended(), 0);
}

#[test]
fn a_request_that_does_not_end_is_cut_off_and_told() {
    let pair = Pair::new();
    pair.orders.configure("[timeouts]\ndrain_seconds = 1");
    let (arrived, has_arrived) = mpsc::channel();
    let upstream = Fake::new(move |mut exchange| {
        exchange.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n2\r\nab\r\n");
        arrived.send(exchange).unwrap();
    });
    let mut serving =
        Serving::start(&pair.orders, &["--listen", "http://127.0.0.1:0", "--upstream", &upstream.url]);
    let bearer = pair.bearer(serving.address());
    let mut running = Connection::open(serving.address());
    running.send(format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n"));
    let _held = has_arrived.recv_timeout(PATIENCE).unwrap();
    running.head().unwrap();
    serving.terminate();
    assert_eq!(serving.ended(), 1);
    assert!(serving.log().contains("cut off"), "{}", serving.log());
}

#[test]
fn a_server_that_is_full_ends_all_the_same() {
    let pair = Pair::new();
    let (arrived, has_arrived) = mpsc::channel();
    let arrived = std::sync::Mutex::new(arrived);
    let upstream = Fake::new(move |exchange| arrived.lock().unwrap().send(exchange).unwrap());
    let config = format!(
        "service = \"orders\"\n[serve]\nmax_connections = 1\nupstream = \"{}\"\n[timeouts]\ndrain_seconds = 1\n",
        upstream.url
    );
    std::fs::write(pair.orders.path().join("countersign.toml"), config).unwrap();
    let mut serving = Serving::http(&pair.orders);
    let bearer = pair.bearer(serving.address());
    let mut running = Connection::open(serving.address());
    running.send(format!("GET / HTTP/1.1\r\nHost: x\r\nAuthorization: {bearer}\r\n\r\n"));
    let _held = has_arrived.recv_timeout(PATIENCE).unwrap();
    let mut waiting = Connection::open(serving.address());
    waiting.send("GET / HTTP/1.1\r\nHost: x\r\n\r\n");
    assert!(waiting.is_silent(), "there is no room for another connection");
    serving.terminate();
    assert_eq!(serving.ended(), 1);
}
