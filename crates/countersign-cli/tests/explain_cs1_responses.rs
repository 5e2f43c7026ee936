//! `explain` of signed responses: what the server signed beside what came, and nothing that would help anybody else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use countersign::PeerStore as _;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::content::content_digest;
use countersign::protocol::cs1::request::{Nonce, RequestParts, SigningAs, sign_as};
use countersign::protocol::cs1::response::{self, ResponseParts};
use countersign::protocol::cs1::ticket::{Claims, TicketKeys};
use countersign::protocol::cs1::{Binding, KeyName, PairKeys, SessionKeys};
use countersign::protocol::mac::MacKey;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{State, StateStore as _, random};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use support::{Home, new_key, new_secret};
use zeroize::Zeroizing;

const NOW: UnixTime = UnixTime(1_800_000_000);
const ANSWER: &str = r#"{"id":7}"#;

/// `orders`, which is called by `billing` without a handshake.
struct Orders {
    home: Home,
    ours: String,
    theirs: String,
    pair: PairKeys,
}

/// Both messages as text.
struct Exchanged {
    request: String,
    response: String,
}

fn orders() -> Orders {
    let (home, ours, theirs, secret) = (Home::of("orders"), new_key(), new_key(), new_secret());
    let path = home.path().join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let lines: Vec<_> = text.lines().filter(|line| !line.starts_with("external_urls")).collect();
    let set = "[serve]\nexternal_urls = [\"https://orders.example\"]";
    std::fs::write(path, lines.join("\n").replace("[serve]", set)).unwrap();
    let file = home.secret_file("secret", &secret);
    let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &file];
    home.run(&[&["peer", "add", "billing", "--profile", "cs1", "--danger-direct"][..], &keys].concat()).ok();
    let (client, server) = (theirs.parse().unwrap(), ours.parse().unwrap());
    let pair = PairKeys::derive(&secret.parse().unwrap(), &client, &server);
    Orders { home, ours, theirs, pair }
}

fn fields(all: &[(&str, &str)]) -> HeaderMap {
    let mut fields = HeaderMap::new();
    for (name, value) in all {
        let name: HeaderName = name.parse().unwrap();
        fields.append(name, HeaderValue::from_str(value).unwrap());
    }
    fields
}

fn head(first: &str, fields: &HeaderMap) -> String {
    let lines = fields.iter().map(|(name, value)| format!("{name}: {}\r\n", value.to_str().unwrap()));
    format!("{first}\r\n{}\r\n", lines.collect::<String>())
}

impl Orders {
    fn direct(&self) -> Exchanged {
        let keys = self.pair.direct();
        let name = KeyName::Direct { client: &self.theirs, server: &self.ours };
        self.exchange(keys, name, |_| {})
    }

    /// A request for an invoice, and the answer, with what `change` adds to its fields.
    fn exchange(
        &self,
        keys: &SessionKeys,
        name: KeyName<'_>,
        change: impl FnOnce(&mut HeaderMap),
    ) -> Exchanged {
        let key = MacKey::new(keys.client_to_server.as_slice());
        let mut asked = fields(&[("host", "orders.example"), ("accept", "application/json")]);
        let (authority, path, query) = ("orders.example", "/invoices", Some("page=2"));
        let nonce = Nonce::Random([5; 16]);
        let signing = SigningAs { key: &key, name, now: NOW, window: 20, nonce };
        let unsigned = RequestParts { method: "GET", authority, path, query, fields: &asked };
        let signed = sign_as(&signing, &unsigned).unwrap();
        self.put(&mut asked, signed.signature_input, signed.signature);
        let request = RequestParts { method: "GET", authority, path, query, fields: &asked };
        let key = MacKey::new(keys.server_to_client.as_slice());
        let digest = content_digest(ANSWER.as_bytes()).unwrap();
        let mut told = fields(&[
            ("content-type", "application/json"),
            ("content-digest", digest.to_str().unwrap()),
            ("set-cookie", "session=of-the-customer"),
        ]);
        change(&mut told);
        let parts = ResponseParts { status: 200, fields: &told, request };
        let signed = response::sign(&key, &parts, NOW).unwrap();
        self.put(&mut told, signed.signature_input, signed.signature);
        Exchanged {
            request: head("GET /invoices?page=2 HTTP/1.1", &asked),
            response: head("HTTP/1.1 200 OK", &told) + ANSWER,
        }
    }

    /// No signature may come out.
    fn put(&self, fields: &mut HeaderMap, input: HeaderValue, signature: HeaderValue) {
        let mac = signature.to_str().unwrap().trim_start_matches("cs=:").trim_end_matches(':').to_owned();
        self.home.hide(&mac);
        self.home.hide(&mac[..20]);
        fields.insert("signature-input", input);
        fields.insert("signature", signature);
    }

    /// The explanation as JSON and for people, and the rules that are broken.
    #[track_caller]
    fn explain(&self, exchanged: &Exchanged) -> (Value, String, Vec<String>) {
        self.home.hide("of-the-customer");
        let file = self.home.file("response", 0o600, exchanged.response.as_bytes());
        let arguments = ["explain", "--peer", "billing", "--response", &file];
        let text = self.home.run_with(&arguments, exchanged.request.as_bytes());
        let json = self.home.run_with(&[&arguments[..], &["--json"]].concat(), exchanged.request.as_bytes());
        let value: Value = serde_json::from_str(&json.stdout).unwrap_or_else(|_| panic!("{json:?} {text:?}"));
        assert_eq!((json.code, text.code), (i32::from(value["verdict"] != "right"), json.code), "{json:?}");
        let broken = value["broken"].as_array().unwrap().iter();
        let rules = broken.map(|one| one["rule"].as_str().unwrap().to_owned()).collect();
        (value, text.stdout, rules)
    }
}

#[test]
fn a_right_response_is_called_right_and_both_bases_are_shown_as_one() {
    let orders = orders();
    let (json, text, _) = orders.explain(&orders.direct());
    assert_eq!(
        (&json["verdict"], &json["mac"], &json["of"]),
        (&"right".into(), &"right".into(), &"response".into())
    );
    assert_eq!((&json["signer"], &json["status"]), (&"us".into(), &200.into()), "{text}");
    assert_eq!(json["signed"], json["toBeSigned"]);
    for said in ["\"@status\": 200", "\"@path\";req: /invoices", "MAC         right", "\"set-cookie\";bs: ("]
    {
        assert!(text.contains(said), "{said} in {text}");
    }
}

#[test]
fn what_was_changed_on_the_way_is_named() {
    let orders = orders();
    let change = |from: &str, to: &str| {
        let Exchanged { request, response } = orders.direct();
        assert!(response.contains(from), "{from}");
        Exchanged { request, response: response.replacen(from, to, 1) }
    };
    for (from, to, expected, said) in [
        ("200 OK", "500 Oops", &["mac"][..], "the two bases agree"),
        ("application/json", "text/html", &["mac"], "the two bases agree"),
        ("{\"id\":7}", "{\"id\":8}", &["content"], "the content is not the one"),
        ("{\"id\":7}", "{\"id\":7}\n", &["content"], "without the line end"),
        (
            "set-cookie: session=of-the-customer\r\n",
            "",
            &["coverage", "mac"],
            "was it taken away on the way?",
        ),
        ("signature-input:", "etag: \"1\"\r\nsignature-input:", &["coverage"], "`etag`"),
        ("created=1800000000", "created=1800000001", &["mac"], "the two bases agree"),
        (";tag=\"countersign-direct\"", ";tag=\"countersign\"", &["form", "mac"], "`tag` is not"),
        ("\"@status\" ", "", &["coverage", "mac"], "@status"),
    ] {
        let (json, text, rules) = orders.explain(&change(from, to));
        assert_eq!(rules, expected, "{from}: {text}");
        let said = said.replace("`etag`", "\\\"etag\\\"");
        assert!(json.to_string().contains(&said), "{said} in {json}");
    }
}

#[test]
fn the_request_for_which_an_answer_is_right_is_found_if_a_proxy_made_another_of_it() {
    let orders = orders();
    let Exchanged { request, response } = orders.direct();
    let request = request.replacen("/invoices?page=2", "/api/invoices?page=2", 1);
    let (json, text, rules) = orders.explain(&Exchanged { request, response });
    assert_eq!(rules, ["mac"], "{text}");
    assert_eq!(json["signedIsCertain"], true);
    assert!(json["causes"].to_string().contains("@path was `/invoices` where it was signed"), "{json}");
    assert_eq!(json["firstDifference"]["line"], 4);
    assert!(text.contains("to be signed") && text.contains("^ byte"), "{text}");
}

#[test]
fn the_answer_to_another_request_is_not_called_right() {
    let (one, other) = (orders(), orders());
    let (first, second) = (one.direct(), other.direct());
    let (json, _, rules) = one.explain(&Exchanged { request: first.request, response: second.response });
    // Of other keys: `keyid` says it already.
    assert_eq!(rules, ["form", "mac"], "{json}");
}

#[test]
fn in_a_session_the_key_comes_out_of_the_ticket_where_it_was_sealed_and_elsewhere_both_bases_are_shown() {
    let orders = orders();
    let key = MasterKey::load(&Source::File(orders.home.path().join("master.key")), |_| None).unwrap();
    let store = SqliteStore::open(&orders.home.path().join("store.sqlite"), &key).unwrap();
    let name = "billing".parse().unwrap();
    let credential = store.get(&name).unwrap().credentials.remove(0);
    let session = SessionKeys {
        client_to_server: Zeroizing::new(random()),
        server_to_client: Zeroizing::new(random()),
        id: random(),
    };
    let claims = Claims {
        credential: credential.id(&name),
        uid: credential.uid,
        keys: session.clone(),
        issued: NOW,
        expires: NOW.plus(600),
        binding: Binding::None,
    };
    let keys = TicketKeys::new("orders".parse().unwrap(), &Zeroizing::new(random()), NOW);
    let ticket = keys.seal(&claims, random());
    orders.home.hide(&ticket);
    let exchanged = orders.exchange(&session, KeyName::Ticket(&ticket), |_| {});
    let (json, text, _) = orders.explain(&exchanged);
    assert_eq!((&json["verdict"], &json["mac"]), (&"incomplete".into(), &Value::Null), "{text}");
    assert!(text.contains("explain the request there") && text.contains("\"@status\": 200"), "{text}");
    store.keep(State::TicketKeys, NOW, &keys.export()).unwrap();
    let (json, text, _) = orders.explain(&exchanged);
    assert_eq!((&json["verdict"], &json["signer"]), (&"right".into(), &"us".into()), "{text}");
}

#[test]
fn what_curl_shows_has_both_in_one_text() {
    let orders = orders();
    let Exchanged { request, response } = orders.direct();
    let side = |text: &str, mark: &str| -> String {
        let head = text.split("\r\n\r\n").next().unwrap();
        head.lines().map(|line| format!("{mark} {line}\n")).collect()
    };
    let both = format!("* Connected\n{}>\n{}<\n", side(&request, ">"), side(&response, "<"));
    let run = |more: &[&str]| {
        orders.home.run_with(&[&["explain", "--peer", "billing"][..], more].concat(), both.as_bytes())
    };
    let done = run(&["--response", "-"]);
    assert_eq!(done.code, 0, "{done:?}");
    assert!(
        done.stdout.contains("answer      200 to GET") && done.stdout.contains("only the head"),
        "{done:?}"
    );
    let file = orders.home.file("both", 0o600, both.as_bytes());
    assert_eq!(run(&["--file", &file, "--response", &file]).code, 0);
}

#[test]
fn what_is_no_signed_response_is_told_as_such() {
    let orders = orders();
    let request = orders.direct().request;
    let run = |response: &str| {
        let file = orders.home.file("response", 0o600, response.as_bytes());
        let arguments = ["explain", "--peer", "billing", "--response", &file];
        orders.home.run_with(&arguments, request.as_bytes())
    };
    run("").refused(1, &["there is no response in this"]);
    run(&request).refused(1, &["there is no response in this"]);
    run("HTTP/1.1 401 Unauthorized\nContent-Type: application/problem+json\n\n")
        .refused(1, &["no signature in this response", "401", "not signed"]);
    let file = orders.home.file("response", 0o600, b"HTTP/1.1 200 OK\n\n");
    let (key, other, secret) = (new_key(), new_key(), orders.home.secret_file("s", &new_secret()));
    let keys = ["--our-key", &key, "--their-key", &other, "--secret-file", &secret];
    orders.home.run(&[&["peer", "add", "old", "--profile", "shared-secret"][..], &keys].concat());
    let arguments = ["explain", "--peer", "old", "--response", &file];
    orders.home.run_with(&arguments, request.as_bytes()).refused(2, &["--response"]);
}
