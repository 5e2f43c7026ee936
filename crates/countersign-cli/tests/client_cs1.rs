//! The client library under `cs1` against the real server, which is stopped and killed meanwhile.

#![allow(clippy::unwrap_used, reason = "what breaks in a helper ends the test")]

mod support;

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use bytes::Bytes;
use countersign::audit::{MemorySink, Outcome};
use countersign::client::{Client, ClientError};
use http::Request;
use http_body_util::Full;
use support::life::meet_at_with;
use support::{Connection, Fake, Home, Proxy, Serving, Tunnel, eventually};

/// `orders` with a service behind it, which `billing` reaches at this URL.
struct Met {
    orders: Home,
    upstream: Fake,
    sink: Arc<MemorySink>,
    client: Client,
}

impl Met {
    fn at(url: &str) -> Self {
        Self::with(url, &[])
    }

    fn with(url: &str, options: &[&str]) -> Self {
        let (orders, billing) = meet_at_with(url, options);
        let upstream = Fake::new(|mut exchange| {
            let body = exchange.body();
            exchange.respond(200, &[], &body);
        });
        let sink = Arc::new(MemorySink::default());
        let builder = Client::builder().audit(sink.clone()).patience(Duration::from_secs(30));
        let client = builder.build(&billing.peer("orders")).unwrap();
        Self { orders, upstream, sink, client }
    }

    fn serve(&self, listen: &str) -> Serving {
        Serving::start(&self.orders, &["--listen", listen, "--upstream", &self.upstream.url])
    }

    /// As the client has them on its trail.
    fn handshakes(&self) -> usize {
        self.sink.records().into_iter().filter(|record| record.outcome == Outcome::Accepted).count()
    }
}

fn request(method: &str, path: &str) -> http::request::Builder {
    Request::builder().method(method).uri(path)
}

/// Callers send all the time: what nobody may repeat, what is safe, and streams. Meanwhile `orders` is stopped and started again three times.
async fn restarts(met: &Met, listen: &str, moved: impl Fn(&str)) {
    let mut serving = met.serve(listen);
    moved(serving.address());
    let (stop, answered) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicUsize::new(0)));
    let senders: Vec<_> = (0..5)
        .map(|sender| {
            let (client, stop, answered) = (met.client.clone(), Arc::clone(&stop), Arc::clone(&answered));
            tokio::spawn(async move {
                let mut paths = Vec::new();
                for sent in 0.. {
                    if stop.load(Ordering::SeqCst) {
                        break;
                    }
                    let path = format!("/{sender}/{sent}");
                    let content = Bytes::from_static(if sent % 3 == 1 { b"" } else { b"once" });
                    let response = match sent % 3 {
                        0 => client.send(request("POST", &path).body(content.clone()).unwrap()).await,
                        1 => client.send(request("GET", &path).body(content.clone()).unwrap()).await,
                        _ => {
                            let stream = request("POST", &path).body(Full::new(content.clone())).unwrap();
                            client.send_streamed(stream).await
                        }
                    };
                    let response = response.map_err(|error| format!("{path}: {error}")).unwrap();
                    assert_eq!(response.status(), 200);
                    assert_eq!(response.into_body().whole(100).await.unwrap(), content);
                    paths.push(path);
                    answered.fetch_add(1, Ordering::SeqCst);
                }
                paths
            })
        })
        .collect();
    let go_on = || {
        let before = answered.load(Ordering::SeqCst);
        eventually("requests go on", || {
            answered.load(Ordering::SeqCst) > before + 10 || senders.iter().any(|sender| sender.is_finished())
        });
    };
    for _ in 0..3 {
        go_on();
        serving.terminate();
        assert_eq!(serving.ended(), 0);
        serving = met.serve(listen);
        moved(serving.address());
    }
    go_on();
    stop.store(true, Ordering::SeqCst);
    let mut all = Vec::new();
    for sender in senders {
        all.extend(sender.await.unwrap());
    }
    let mut reached = met.upstream.paths();
    all.sort();
    reached.sort();
    assert_eq!(all, reached, "what was answered ran, once, and nothing else did");
    assert_eq!(met.handshakes(), 1, "the session goes on");
}

/// In front of `orders` is a socket that outlives it, as a service manager or a balancer holds one.
async fn restarts_behind_a_socket(scheme: &str, options: &[&str]) {
    let tunnel = Tunnel::new();
    let met = Met::with(&format!("{scheme}://{}", tunnel.address), options);
    restarts(&met, &format!("{scheme}://127.0.0.1:0"), |address| tunnel.to(address)).await;
}

/// While `orders` is away its port refuses connections.
async fn restarts_on_a_port(scheme: &str, from: u16) {
    // Below those that the kernel gives to callers: it could connect one of them to itself.
    let is_free = |port: &u16| TcpListener::bind(("127.0.0.1", *port)).is_ok();
    let first = from + u16::try_from(std::process::id() % 4000).unwrap();
    let port = (first..first + 500).find(is_free).unwrap();
    let url = format!("{scheme}://127.0.0.1:{port}");
    restarts(&Met::at(&url), &url, |_| {}).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cs_58_clean_restarts_behind_a_socket_fail_no_request_over_http_2_and_none_runs_twice() {
    restarts_behind_a_socket("https", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cs_58_clean_restarts_fail_no_request_that_is_bound_to_its_connection_and_none_runs_twice() {
    restarts_behind_a_socket("https", &["--binding", "tls-exporter"]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cs_42_clean_restarts_behind_a_socket_fail_no_request_over_http_1_and_none_runs_twice() {
    restarts_behind_a_socket("http", &[]).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cs_58_clean_restarts_on_a_port_fail_no_request_over_http_2_and_none_runs_twice() {
    restarts_on_a_port("https", 20_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 4)]
async fn cs_42_clean_restarts_on_a_port_fail_no_request_over_http_1_and_none_runs_twice() {
    restarts_on_a_port("http", 25_000).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn cs_43_after_a_kill_the_client_goes_on_with_a_nonce_of_the_server_where_it_may_repeat() {
    let proxy = Proxy::new(|request| request.to_owned());
    let met = Met::at(&proxy.url);
    let mut serving = met.serve("http://127.0.0.1:0");
    proxy.to(serving.address());
    let send = |method, path: &str, key: Option<&str>| {
        let request = key.into_iter().fold(request(method, path), |request, key| {
            request.header("idempotency-key", format!("\"{key}\""))
        });
        met.client.send(request.body(Bytes::from_static(b"data")).unwrap())
    };
    let mut accepted = Vec::new();
    for crash in 0..2 {
        assert_eq!(
            send("POST", &format!("/before/{crash}"), None).await.is_ok(),
            crash == 0,
            "known after that"
        );
        if crash == 0 {
            accepted.push(proxy.last().unwrap());
        }
        serving.kill();
        serving = met.serve("http://127.0.0.1:0");
        proxy.to(serving.address());
        // Nobody can tell whether it has had its effect, so nobody but the caller may send it again.
        let error = send("POST", &format!("/unsafe/{crash}"), None).await.unwrap_err();
        assert!(
            matches!(&error, ClientError::OutcomeUnknown { status: 401, hint: Some(hint), .. }
                if hint.contains("nonce-required")),
            "{error}"
        );
        for (method, path, key) in [("GET", "/safe", None), ("POST", "/keyed", Some("k"))] {
            let response = send(method, &format!("{path}/{crash}"), key).await.unwrap();
            assert_eq!(response.status(), 200);
            accepted.push(proxy.last().unwrap());
        }
        for request in &accepted {
            let mut connection = Connection::open(serving.address());
            connection.send(request);
            let problem = connection.reply().unwrap();
            assert_eq!(problem.status, 401);
            assert!(problem.header("signature").is_none());
        }
    }
    let paths = ["/before/0", "/safe/0", "/keyed/0", "/safe/1", "/keyed/1"];
    assert_eq!(met.upstream.paths(), paths, "what was taken reached the service once");
    assert_eq!(met.handshakes(), 1, "the ticket is good still");
}
