//! Stacks that we did not write, in `interop/`, and the client of cs1 that was written from its specification alone, against
//! the real `serve`. They need Python and Node with packages, and a program of their own: `cargo xtask test` has them.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::io::{Read as _, Write as _};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::protocol::cs1::ticket::TicketKeys;
use countersign::protocol::mac::encode_hex;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{State, StateStore as _};
use serde_json::{Value, json};
use support::life::meet_at;
use support::{Done, Home, PATIENCE, Proxy, Serving, finish, new_key, new_secret};

/// What each stack tries as a client.
const CHECKS: [&str; 7] =
    ["get", "post", "skewed-clock", "tampered-body", "tampered-target", "replay", "not-for-us"];

fn repository() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// A stack of `interop/`.
#[derive(Clone, Copy, Debug)]
enum Stack {
    Python,
    Node,
    Rust,
}

impl Stack {
    /// Its program; `None`, and says so, where `cargo xtask test` has not installed what it needs.
    fn program(self) -> Option<Command> {
        let (variable, needs) = match self {
            Self::Python => {
                ("COUNTERSIGN_TEST_INTEROP_PYTHON", "python3 with the packages of interop/python")
            }
            Self::Node => ("COUNTERSIGN_TEST_INTEROP_NODE", "node with the packages of interop/node"),
            Self::Rust => ("COUNTERSIGN_TEST_INTEROP_RUST", "the program in interop/rust"),
        };
        if support::left_out(needs) {
            return None;
        }
        let Some(installed) = std::env::var_os(variable) else {
            println!("left out: {needs}: {variable} does not say where that is");
            return None;
        };
        let command = match self {
            Self::Python => {
                let mut python = Command::new("python3");
                python.arg(repository().join("interop/python/interop.py"));
                python.env("PYTHONPATH", installed).env("PYTHONDONTWRITEBYTECODE", "1");
                python
            }
            Self::Node => {
                let mut node = Command::new("node");
                node.arg(repository().join("interop/node/interop.js")).env("NODE_PATH", installed);
                node
            }
            Self::Rust => Command::new(installed),
        };
        Some(command)
    }

    /// Vectors whose signature base it cannot make.
    const fn cannot(self) -> &'static [&'static str] {
        match self {
            Self::Python | Self::Node => &[],
            // Two set-cookie, which have to be covered with `bs`.
            Self::Rust => &["response-full"],
        }
    }
}

/// `orders`, and the keys of `billing`, which calls it.
struct Orders {
    home: Home,
    ours: String,
    theirs: String,
    secret: String,
}

impl Orders {
    fn new(options: &[&str]) -> Self {
        let (home, ours, theirs, secret) = (Home::of("orders"), new_key(), new_key(), new_secret());
        let secret = home.secret_file("secret", &secret);
        let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &secret];
        home.run(&[&["peer", "add", "billing", "--profile", "cs1"][..], &keys, options].concat()).ok();
        Self { home, ours, theirs, secret }
    }

    /// Runs it as `billing`; it must not print the secret.
    fn called_by(&self, mut program: Command, arguments: &[&str], url: &str) -> Done {
        program.args(arguments).env("COUNTERSIGN_URL", url).env("COUNTERSIGN_API_KEY", &self.theirs);
        program.env("COUNTERSIGN_THEIR_KEY", &self.ours).env("COUNTERSIGN_SECRET_FILE", &self.secret);
        self.home.finish(program, b"")
    }
}

/// Every check is there and none has failed. Prints what was skipped, with the reason.
#[track_caller]
fn assert_done(done: &Done, names: &[&str], skipped: &[&str]) {
    let mut seen = Vec::new();
    for line in done.stdout.lines() {
        let (outcome, rest) = line.split_once(' ').unwrap_or_else(|| panic!("{done:?}"));
        let (name, why) = rest.split_once(": ").unwrap_or((rest, ""));
        assert_eq!(outcome, if skipped.contains(&name) { "skipped" } else { "ok" }, "{done:?}");
        if !why.is_empty() {
            println!("{line}");
        }
        seen.push(name);
    }
    assert_eq!((done.code, &*seen), (0, names), "{done:?}");
}

fn calls_serve(stack: Stack) {
    let Some(program) = stack.program() else { return };
    let orders = Orders::new(&["--danger-direct"]);
    let mut serving = Serving::http(&orders.home);
    assert_done(&orders.called_by(program, &["client"], serving.url()), &CHECKS, &[]);
    // Each clock was an hour behind and an hour ahead, for a GET and for a POST.
    let asked = orders.home.recorded("reason", "nonce-required");
    assert_eq!(asked, 4);
    assert_eq!(orders.home.recorded("reason", "digest-mismatch"), 1);
    assert_eq!(orders.home.recorded("reason", "request-replayed"), 3);
    // After a crash what was accepted is not known, and every request is asked for a fresh nonce.
    serving.kill();
    let serving = Serving::http(&orders.home);
    let done = orders.called_by(stack.program().unwrap(), &["client", "get", "post"], serving.url());
    assert_done(&done, &["get", "post"], &[]);
    assert_eq!(orders.home.recorded("reason", "nonce-required"), asked + 2);
}

fn is_not_let_in_unless_it_is_switched_on(stack: Stack) {
    let Some(program) = stack.program() else { return };
    let orders = Orders::new(&[]);
    let serving = Serving::http(&orders.home);
    let done = orders.called_by(program, &["client", "get"], serving.url());
    assert_eq!((done.code, done.stdout.starts_with("failed get: ")), (1, true), "{done:?}");
    assert_eq!(orders.home.trail().len(), orders.home.recorded("outcome", "refused"));
}

fn agrees_with_the_vectors(stack: Stack) {
    let Some(mut program) = stack.program() else { return };
    let folder = repository().join("vectors/cs1");
    let kinds = ["request-", "response-", "direct-", "stream-"];
    let mut names: Vec<String> = std::fs::read_dir(&folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().into_string().unwrap())
        .filter(|name| kinds.iter().any(|kind| name.starts_with(kind)))
        .collect();
    names.sort();
    let names: Vec<&str> = names.iter().map(String::as_str).collect();
    program.arg("vectors").arg(folder);
    assert_done(&finish(program, b""), &names, stack.cannot());
}

#[test]
fn the_python_library_gets_along_with_serve() {
    calls_serve(Stack::Python);
    is_not_let_in_unless_it_is_switched_on(Stack::Python);
}

#[test]
fn the_node_library_gets_along_with_serve() {
    calls_serve(Stack::Node);
    is_not_let_in_unless_it_is_switched_on(Stack::Node);
}

#[test]
fn the_rust_library_gets_along_with_serve() {
    calls_serve(Stack::Rust);
    is_not_let_in_unless_it_is_switched_on(Stack::Rust);
}

#[test]
fn the_python_library_agrees_with_the_vectors() {
    agrees_with_the_vectors(Stack::Python);
}

#[test]
fn the_node_library_agrees_with_the_vectors() {
    agrees_with_the_vectors(Stack::Node);
}

#[test]
fn the_rust_library_agrees_with_the_vectors() {
    agrees_with_the_vectors(Stack::Rust);
}

/// A request as it left the client, as a vector: with the key out of its ticket, which only the server can open, and with the
/// signature base that a few lines make of it by hand.
fn vector_of(request: &[u8], orders: &Home) -> Value {
    let text = String::from_utf8(request.to_vec()).unwrap();
    let (head, content) = text.split_once("\r\n\r\n").unwrap();
    let mut lines = head.lines();
    let mut first = lines.next().unwrap().split(' ');
    let (method, target) = (first.next().unwrap(), first.next().unwrap());
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let fields: Vec<(String, &str)> = lines
        .map(|line| line.split_once(": ").unwrap())
        .map(|(name, value)| (name.to_ascii_lowercase(), value))
        .collect();
    let field = |wanted: &str| fields.iter().find(|(name, _)| name == wanted).unwrap().1;
    let input = field("signature-input").strip_prefix("cs=").unwrap();
    let covered = input[1..].split(')').next().unwrap().split(' ').map(|name| name.trim_matches('"'));
    let mut base = String::new();
    for name in covered {
        let value = match name {
            "@method" => method.to_owned(),
            "@authority" => field("host").to_owned(),
            "@path" => path.to_owned(),
            "@query" => format!("?{}", query.unwrap_or_default()),
            _ => field(name).to_owned(),
        };
        base.push_str(&format!("\"{name}\": {value}\n"));
    }
    base.push_str(&format!("\"@signature-params\": {input}"));
    let ticket = input.split("keyid=\"").nth(1).unwrap().split('"').next().unwrap();
    let master = MasterKey::load(&Source::File(orders.path().join("master.key")), |_| None).unwrap();
    let store = SqliteStore::open(&orders.path().join("store.sqlite"), &master).unwrap();
    let kept = store.kept(State::TicketKeys).unwrap().unwrap();
    let keys = TicketKeys::import("orders".parse().unwrap(), &kept.bytes).unwrap();
    let claims = keys.open(ticket, kept.at).unwrap();
    let signed = ["signature", "signature-input"];
    let others = fields.iter().filter(|(name, _)| !signed.contains(&name.as_str()));
    json!({
        "note": "what the client sent",
        "key_hex": encode_hex(claims.keys.client_to_server.as_slice()),
        "method": method, "authority": field("host"), "path": path, "query": query,
        "fields": others.map(|(name, value)| json!({"name": name, "value": value})).collect::<Vec<_>>(),
        "content_hex": encode_hex(content.as_bytes()),
        "base": base,
        "signatureInput": field("signature-input"), "signature": field("signature"),
    })
}

#[test]
fn the_python_library_verifies_what_call_sends_as_it_arrives() {
    let Some(mut program) = Stack::Python.program() else { return };
    let proxy = Proxy::new(|request| request.to_owned());
    let (orders, billing) = meet_at(&proxy.url);
    let serving = Serving::http(&orders);
    proxy.to(serving.address());
    billing.run(&["call", &format!("{}/invoices?page=2", proxy.url)]).ok();
    let json = ["-H", "content-type: application/json", "-H", "idempotency-key: \"7\""];
    let post = ["call", "-d", "{\"amount\":5}"];
    billing.run(&[&post[..], &json, &[&format!("{}/pay", proxy.url)]].concat()).ok();
    let folder = billing.beside("sent");
    let names = ["request-get", "request-post"];
    let sent = proxy.signed();
    assert_eq!(sent.len(), 2);
    for (name, request) in names.iter().zip(&sent) {
        let directory = folder.join(name);
        std::fs::create_dir_all(&directory).unwrap();
        std::fs::write(directory.join("vector.json"), vector_of(request, &orders).to_string()).unwrap();
    }
    program.arg("vectors").arg(&folder);
    assert_done(&finish(program, b""), &names, &[]);
    // And finds out what was changed.
    let changed = folder.join("request-post/vector.json");
    let text = std::fs::read_to_string(&changed).unwrap();
    std::fs::write(&changed, text.replacen("\"method\":\"POST\"", "\"method\":\"PUT\"", 1)).unwrap();
    let mut program = Stack::Python.program().unwrap();
    program.arg("vectors").arg(&folder);
    let done = finish(program, b"");
    assert!(done.code == 1 && done.stdout.contains("failed request-post"), "{done:?}");
}

/// Runs `examples/python/cs1_client.py` as `billing`.
fn example(orders: &Orders, url: &str, more: &[&str]) -> Done {
    let mut python = Command::new("python3");
    python.arg(repository().join("examples/python/cs1_client.py")).env("PYTHONDONTWRITEBYTECODE", "1");
    python.args(["--url", url, "--our-key", &orders.theirs, "--their-key", &orders.ours]);
    python.args(["--secret-file", &orders.secret]).args(more);
    orders.home.finish(python, b"")
}

#[test]
fn the_client_that_was_written_from_the_specification_gets_along_with_serve() {
    if support::left_out("python3") {
        return;
    }
    let orders = Orders::new(&[]);
    let mut serving =
        Serving::start(&orders.home, &["--listen", "http://127.0.0.1:0", "--listen", "https://127.0.0.1:0"]);
    for url in &serving.urls {
        let certificate = orders.home.certificate();
        let call = |path: &str, more: &[&str]| {
            example(&orders, &format!("{url}{path}"), &[&["--ca", &certificate][..], more].concat())
        };
        let answer = call("/hello?a=b", &[]).json();
        assert_eq!((&answer["service"], &answer["profile"]), (&"billing".into(), &"cs1".into()));
        assert_eq!(call("/invoices", &["-d", r#"{"item": 1}"#]).json()["service"], "billing");
        // What the answer is believed to say: it was signed.
        let shown = call("/", &["--json", "-X", "HEAD"]).json();
        assert_eq!((&shown["status"], &shown["body"]), (&200.into(), &"".into()));
        let shown = call("/hello", &["--json"]).json();
        assert_eq!(shown["fields"]["content-type"], "application/json");
        let body = STANDARD.decode(shown["body"].as_str().unwrap()).unwrap();
        assert!(String::from_utf8(body).unwrap().contains(r#""service":"billing""#));
    }
    // After a crash it is asked for a fresh nonce.
    serving.kill();
    let serving = Serving::http(&orders.home);
    let url = format!("{}/hello", serving.url());
    assert_eq!(example(&orders, &url, &[]).json()["service"], "billing");
    let other = Orders { secret: orders.home.secret_file("other", &new_secret()), ..orders };
    example(&other, &url, &[]).refused(1, &["answered 401"]);
}

/// Passes one connection on to `server`, and in the first signed message that comes back puts `to` for `from`, which is as
/// long.
fn relay(listener: &TcpListener, server: &str, from: &str, to: &str) {
    let (client, _) = listener.accept().unwrap();
    let server = TcpStream::connect(server).unwrap();
    for stream in [&client, &server] {
        stream.set_read_timeout(Some(PATIENCE)).unwrap();
        stream.set_nodelay(true).unwrap();
    }
    std::thread::scope(|scope| {
        scope.spawn(|| {
            let _ = std::io::copy(&mut &client, &mut &server);
            let _ = server.shutdown(Shutdown::Write);
        });
        let find =
            |bytes: &[u8], text: &str| bytes.windows(text.len()).position(|part| part == text.as_bytes());
        let mut buffer = vec![0; 64 * 1024];
        let mut is_signed = false;
        while let Ok(length @ 1..) = (&server).read(&mut buffer) {
            let piece = &mut buffer[..length];
            is_signed |= find(piece, "\r\nsignature-input: ").is_some();
            if let Some(start) = find(piece, from).filter(|_| is_signed) {
                piece[start..start + to.len()].copy_from_slice(to.as_bytes());
            }
            if (&client).write_all(piece).is_err() {
                break;
            }
        }
        let _ = client.shutdown(Shutdown::Both);
    });
}

#[test]
fn that_client_believes_nothing_that_was_changed_on_the_way() {
    if support::left_out("python3") {
        return;
    }
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let orders = Orders::new(&[]);
    orders.home.configure_serve(&format!("external_urls = [\"{url}\"]"));
    let serving = Serving::http(&orders.home);
    let changed = |from: &str, to: &str| {
        std::thread::scope(|scope| {
            scope.spawn(|| relay(&listener, serving.address(), from, to));
            example(&orders, &format!("{url}/hello"), &["-d", "{}"])
        })
    };
    assert_eq!(changed("nowhere", "nowhere").json()["service"], "billing");
    for (from, to, said) in [
        ("\"service\":\"billing\"", "\"service\":\"another\"", "its content is not what was signed"),
        ("HTTP/1.1 200 ", "HTTP/1.1 201 ", "its signature is wrong"),
        ("application/json", "text/html+script", "its signature is wrong"),
        (
            "content-digest: ",
            "content-digesu: ",
            "its signature covers something twice, or something that is not",
        ),
        ("\r\nsignature: cs=:", "\r\nsignaturf: cs=:", "it is not signed once"),
    ] {
        changed(from, to).refused(1, &[said, "Whether the request had an effect is unknown"]);
    }
}
