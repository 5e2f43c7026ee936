//! `explain` of signed requests: which rule is broken, what was changed on the way, and nothing that would help anybody else.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::PeerStore as _;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::content::content_digest;
use countersign::protocol::cs1::explain::base;
use countersign::protocol::cs1::request::RequestParts;
use countersign::protocol::cs1::ticket::{Claims, TicketKeys};
use countersign::protocol::cs1::{Binding, PairKeys, SessionKeys};
use countersign::protocol::mac::MacKey;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{State, StateStore as _, random};
use http::{HeaderMap, HeaderName, HeaderValue};
use serde_json::Value;
use support::{Home, new_key, new_secret};
use zeroize::Zeroizing;

const NOW: u64 = 1_800_000_000;
/// Under which name `orders` is reached.
const HERE: &str = "orders.example";
const BODY: &str = r#"{"amount":5}"#;

/// `orders`, which knows `billing` under `cs1` and has served it: its ticket keys are in the store.
struct Orders {
    home: Home,
    ours: String,
    theirs: String,
    secret: String,
    keys: TicketKeys,
    session: [u8; 32],
    ticket: String,
}

fn store(home: &Home) -> SqliteStore {
    let key = MasterKey::load(&Source::File(home.path().join("master.key")), |_| None).unwrap();
    SqliteStore::open(&home.path().join("store.sqlite"), &key).unwrap()
}

/// Sets `external_urls`.
fn reached_as(home: &Home, urls: &[&str]) {
    let path = home.path().join("countersign.toml");
    let text = std::fs::read_to_string(&path).unwrap();
    let before =
        text.lines().filter(|line| !line.starts_with("external_urls")).collect::<Vec<_>>().join("\n");
    let set = format!("[serve]\nexternal_urls = {urls:?}");
    std::fs::write(path, before.replace("[serve]", &set)).unwrap();
}

impl Orders {
    fn new(options: &[&str]) -> Self {
        let (home, ours, theirs, secret) = (Home::of("orders"), new_key(), new_key(), new_secret());
        reached_as(&home, &["https://orders.example"]);
        let file = home.secret_file("secret", &secret);
        let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &file];
        home.run(&[&["peer", "add", "billing", "--profile", "cs1"][..], &keys, options].concat()).ok();
        let keys = TicketKeys::new("orders".parse().unwrap(), &Zeroizing::new(random()), UnixTime(NOW - 100));
        store(&home).keep(State::TicketKeys, UnixTime(NOW), &keys.export()).unwrap();
        let mut orders = Self { home, ours, theirs, secret, keys, session: random(), ticket: String::new() };
        orders.ticket = orders.ticket("billing", NOW - 60, Binding::None);
        orders
    }

    /// A ticket for ten minutes of the peer's first credential.
    fn ticket(&self, peer: &str, issued: u64, binding: Binding) -> String {
        let credential = store(&self.home).get(&peer.parse().unwrap()).unwrap().credentials.remove(0);
        let claims = Claims {
            credential: credential.id(&peer.parse().unwrap()),
            uid: credential.uid,
            keys: SessionKeys {
                client_to_server: Zeroizing::new(self.session),
                server_to_client: Zeroizing::new(random()),
                id: random(),
            },
            issued: UnixTime(issued),
            expires: UnixTime(issued + 600),
            binding,
        };
        let ticket = self.keys.seal(&claims, random()).to_string();
        self.home.hide(&ticket);
        self.home.hide(&ticket[ticket.len() - 40..]);
        ticket
    }

    fn request(&self) -> Request {
        let digest = content_digest(BODY.as_bytes()).unwrap();
        Request {
            method: "POST".to_owned(),
            authority: HERE.to_owned(),
            path: "/invoices".to_owned(),
            query: Some("page=2".to_owned()),
            fields: vec![
                ("content-type".to_owned(), "application/json".to_owned()),
                ("content-digest".to_owned(), digest.to_str().unwrap().to_owned()),
                ("cookie".to_owned(), "session=of-the-customer".to_owned()),
            ],
            body: BODY.to_owned(),
            components: [
                "@method",
                "@authority",
                "@path",
                "@query",
                "content-type",
                "content-digest",
                "cookie",
            ]
            .map(str::to_owned)
            .to_vec(),
            created: NOW,
            expires: NOW + 20,
            keyid: self.ticket.clone(),
            tag: "countersign".to_owned(),
            key: MacKey::new(&self.session),
        }
    }

    /// The explanation as JSON, and for people; neither holds a signature, a ticket or a cookie.
    #[track_caller]
    fn explain(&self, request: &str) -> (Value, String) {
        self.home.hide("of-the-customer");
        let text = self.home.run_with(&["explain", "--peer", "billing"], request.as_bytes());
        let done = self.home.run_with(&["explain", "--peer", "billing", "--json"], request.as_bytes());
        let json: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
        assert_eq!(done.code, i32::from(json["verdict"] != "right"), "{done:?}");
        assert_eq!(text.code, done.code, "{text:?}");
        (json, text.stdout)
    }

    /// The rules that are broken, and the explanation.
    #[track_caller]
    fn broken(&self, request: &str) -> (Vec<String>, Value) {
        let (json, text) = self.explain(request);
        let broken = json["broken"].as_array().unwrap().iter();
        let rules = broken.map(|one| {
            let what = one["what"].as_str().unwrap();
            assert!(text.contains(what), "{what} is not in {text}");
            one["rule"].as_str().unwrap().to_owned()
        });
        (rules.collect(), json.clone())
    }
}

/// A request, and with what it is signed.
#[derive(Clone)]
struct Request {
    method: String,
    authority: String,
    path: String,
    query: Option<String>,
    fields: Vec<(String, String)>,
    body: String,
    components: Vec<String>,
    created: u64,
    expires: u64,
    keyid: String,
    tag: String,
    key: MacKey,
}

impl Request {
    /// `Signature-Input` and `Signature`. The signature must not come out.
    fn sign(&self, home: &Home) -> [String; 2] {
        let list: Vec<String> = self.components.iter().map(|name| format!("\"{name}\"")).collect();
        let params = format!(
            "({});created={};expires={};nonce=\"0123456789abcdef\";keyid=\"{}\";tag=\"{}\"",
            list.join(" "),
            self.created,
            self.expires,
            self.keyid,
            self.tag
        );
        let mut fields = HeaderMap::new();
        for (name, value) in &self.fields {
            let name = HeaderName::try_from(name.as_str()).unwrap();
            fields.append(name, HeaderValue::from_str(value).unwrap());
        }
        let Self { method, authority, path, query, .. } = self;
        let parts = RequestParts { method, authority, path, query: query.as_deref(), fields: &fields };
        let components: Vec<&str> = self.components.iter().map(String::as_str).collect();
        let mac = self.key.mac(&[&base(&parts, &components, &params)]);
        let mac = STANDARD.encode(mac.as_bytes());
        home.hide(&mac);
        home.hide(&mac[..20]);
        [format!("cs={params}"), format!("cs=:{mac}:")]
    }

    /// As it comes in, with this signature.
    fn with(&self, [input, signature]: &[String; 2]) -> String {
        let query = self.query.as_ref().map_or_else(String::new, |query| format!("?{query}"));
        let mut text =
            format!("{} {}{query} HTTP/1.1\r\nHost: {}\r\n", self.method, self.path, self.authority);
        for (name, value) in &self.fields {
            text.push_str(&format!("{name}: {value}\r\n"));
        }
        text.push_str(&format!("Signature-Input: {input}\r\nSignature: {signature}\r\n\r\n{}", self.body));
        text
    }

    fn signed(&self, home: &Home) -> String {
        self.with(&self.sign(home))
    }

    /// Signed as it is, and changed on the way.
    fn changed(&self, home: &Home, change: impl FnOnce(&mut Self)) -> String {
        let signature = self.sign(home);
        let mut changed = self.clone();
        change(&mut changed);
        changed.with(&signature)
    }
}

#[test]
fn a_right_request_is_called_right_and_its_base_is_shown_without_what_is_confidential() {
    let orders = Orders::new(&[]);
    let request = orders.request().signed(&orders.home);
    let (json, text) = orders.explain(&request);
    assert_eq!((&json["verdict"], &json["mac"]), (&"right".into(), &"right".into()), "{text}");
    assert_eq!((&json["credential"], &json["signer"]), (&"billing/1".into(), &"peer".into()));
    assert_eq!(json["signed"], json["toBeSigned"]);
    assert_eq!(json["firstDifference"], Value::Null);
    for said in ["\"@path\": /invoices", "\"cookie\": (23", "keyid=\"<ticket>\"", "MAC         right"] {
        assert!(text.contains(said), "{said} in {text}");
    }
    // As `curl -v` shows it, without its content.
    let head = request.split("\r\n\r\n").next().unwrap();
    let curl: String = head.lines().map(|line| format!("> {line}\n")).collect();
    let (json, text) = orders.explain(&curl);
    assert_eq!(json["verdict"], "right", "{text}");
    assert!(text.contains("only the head of the request is here"), "{text}");
    // With another order of components, which is as good.
    let mut other = orders.request();
    other.components.reverse();
    assert_eq!(orders.explain(&other.signed(&orders.home)).0["verdict"], "right");
}

#[test]
fn what_a_proxy_has_rewritten_is_named_with_both_values() {
    let orders = Orders::new(&[]);
    let request = orders.request();
    type Change = fn(&mut Request);
    let changes: [(Change, &str, usize); 6] = [
        (
            |it| it.path = "/api/invoices".into(),
            "@path was `/invoices` where it was signed, and is `/api/invoices`",
            3,
        ),
        (|it| it.path = "/invoices/".into(), "@path was `/invoices`", 3),
        (|it| it.query = None, "", 4),
        (|it| it.method = "GET".into(), "@method was `POST` where it was signed, and is `GET` here", 1),
        (|it| it.fields[0].1 = "application/json; charset=utf-8".into(), "", 0),
        (|it| it.path = "/else".into(), "", 0),
    ];
    for (change, said, line) in changes {
        let (rules, json) = orders.broken(&request.changed(&orders.home, change));
        assert_eq!(rules, ["mac"], "{json}");
        assert_eq!(json["mac"], "wrong");
        let causes = json["causes"].to_string();
        if said.is_empty() {
            assert!(causes.contains("the two bases agree") && causes.contains(HERE), "{causes}");
        } else {
            assert!(causes.contains(said), "{causes}");
            assert_eq!(
                (&json["signedIsCertain"], &json["firstDifference"]["line"]),
                (&true.into(), &line.into())
            );
        }
    }
    let prefixed = {
        let mut request = orders.request();
        request.path = "/api/invoices".into();
        request.changed(&orders.home, |it| it.path = "/invoices".into())
    };
    let (rules, json) = orders.broken(&prefixed);
    assert_eq!(rules, ["mac"]);
    assert!(
        json["causes"].to_string().contains("the two bases agree"),
        "what was taken away is not known: {json}"
    );
}

#[test]
fn a_host_that_is_none_of_ours_is_told_beside_those_that_are() {
    let orders = Orders::new(&[]);
    let request = orders.request();
    let (rules, json) =
        orders.broken(&request.changed(&orders.home, |it| it.authority = "backend:8080".into()));
    assert_eq!(rules, ["target"], "with one URL it is clear which was meant: {json}");
    assert_eq!(json["mac"], "right");
    let what = json["broken"][0]["what"].as_str().unwrap();
    assert!(
        what.contains("`backend:8080`") && what.contains(HERE) && what.contains("external_urls"),
        "{what}"
    );
    // Signed for another name.
    let mut other = orders.request();
    other.authority = "orders.internal".into();
    let (rules, json) = orders.broken(&other.changed(&orders.home, |it| it.authority = HERE.into()));
    assert_eq!(rules, ["mac"]);
    assert!(json["causes"].to_string().contains("`Host` is orders.example"), "{json}");
    let (rules, json) = orders.broken(&other.signed(&orders.home));
    assert_eq!(rules, ["target", "mac"]);
    assert!(json["causes"].to_string().contains("@authority was `orders.internal`"), "{json}");
    // With several names it is tried for which of them it was signed.
    reached_as(&orders.home, &["https://orders.example", "https://api.example:8443/orders"]);
    let backend = |it: &mut Request| it.authority = "backend:8080".into();
    let (rules, json) = orders.broken(&request.changed(&orders.home, backend));
    assert_eq!(rules, ["target", "mac"], "{json}");
    assert!(
        json["causes"].to_string().contains("@authority was `orders.example` where it was signed"),
        "{json}"
    );
    let mut prefixed = orders.request();
    (prefixed.authority, prefixed.path) = ("api.example:8443".into(), "/orders/invoices".into());
    let stripped = prefixed.changed(&orders.home, |it| it.path = "/invoices".into());
    assert_eq!(orders.explain(&stripped).0["verdict"], "right", "the proxy takes the prefix away");
    let (rules, json) = orders.broken(&prefixed.signed(&orders.home));
    assert_eq!(rules, ["mac"], "this one does not: {json}");
    assert!(json["causes"].to_string().contains("is `/orders/orders/invoices` here"), "{json}");
}

#[test]
fn without_external_urls_the_names_in_the_certificate_count_at_any_port() {
    let orders = Orders::new(&[]);
    reached_as(&orders.home, &[]);
    let mut request = orders.request();
    for here in ["127.0.0.1:8443", "127.0.0.1:40000", "localhost"] {
        request.authority = here.into();
        assert_eq!(orders.explain(&request.signed(&orders.home)).0["verdict"], "right", "{here}");
    }
    request.authority = "backend:8080".into();
    assert_eq!(orders.broken(&request.signed(&orders.home)).0, ["target"]);
}

#[test]
fn each_rule_that_is_broken_is_named() {
    let orders = Orders::new(&[]);
    let home = &orders.home;
    let cover = |names: &[&str]| {
        let mut request = orders.request();
        request.components.retain(|name| !names.contains(&name.as_str()));
        request
    };
    let timed = |created: u64, expires: u64| {
        let mut request = orders.request();
        (request.created, request.expires) = (created, expires);
        request.signed(home)
    };
    let plain = orders.request();
    let mut hop = orders.request();
    hop.components.push("via".to_owned());
    hop.fields.push(("via".to_owned(), "1.1 proxy".to_owned()));
    for (request, rule, said) in [
        (cover(&["@query"]).signed(home), "coverage", "`@query` is not covered"),
        (cover(&["cookie"]).signed(home), "coverage", "`cookie`, and the signature does not cover it"),
        (cover(&["content-digest"]).signed(home), "coverage", "`content-digest`"),
        (hop.signed(home), "coverage", "a proxy may change it"),
        (timed(NOW, NOW), "time", "not after `created`"),
        (timed(NOW, NOW + 90), "time", "at most 60 s"),
        (timed(NOW - 3_000, NOW - 2_980), "time", "before its ticket was issued"),
        (timed(NOW + 3_000, NOW + 3_020), "ticket", "after its ticket has expired"),
        (plain.changed(home, |it| it.body = r#"{"amount":500}"#.into()), "content", "14 bytes"),
        (plain.changed(home, |it| it.body.push('\n')), "content", "without the line end"),
        (plain.changed(home, |it| it.body.clear()), "content", "0 bytes"),
        (plain.signed(home).replace("cs=(", "sig1=("), "form", "label `sig1`"),
        (plain.signed(home).replace("nonce=\"0123456789abcdef\"", "nonce=\"1\""), "form", "16 to 128"),
        (plain.signed(home).replace("hmac", ""), "", ""),
    ] {
        let (rules, json) = orders.broken(&request);
        if rule.is_empty() {
            assert_eq!(json["verdict"], "right");
            continue;
        }
        let found = json["broken"]
            .as_array()
            .unwrap()
            .iter()
            .any(|one| one["rule"] == rule && one["what"].as_str().unwrap().contains(said));
        assert!(found, "{rule} {said}: {rules:?} {json}");
        if rule != "form" {
            assert_eq!(rules, [rule], "nothing else: {json}");
            assert_eq!(json["mac"], "right");
        }
    }
    // A covered field that was taken away, and the same for people: the missing line is marked.
    let gone = plain.changed(home, |it| drop(it.fields.remove(0)));
    let (rules, json) = orders.broken(&gone);
    assert_eq!(rules, ["coverage", "mac"], "{json}");
    assert!(json["broken"][0]["what"].as_str().unwrap().contains("was it taken away on the way?"));
    let (_, text) = orders.explain(&gone);
    assert!(text.contains("signed only   16 bytes  \"content-type\": "), "{text}");
    let (_, text) = orders.explain(&cover(&["@query"]).signed(home));
    assert!(text.contains("missing       17 bytes  \"@query\": ?page=2"), "{text}");
}

#[test]
fn a_ticket_that_is_not_good_or_not_here_is_told_as_such() {
    let orders = Orders::new(&[]);
    let home = &orders.home;
    let with = |keyid: String| {
        let mut request = orders.request();
        request.keyid = keyid;
        request.signed(home)
    };
    // Of another peer.
    let (a, b, file) = (new_key(), new_key(), home.secret_file("other", &new_secret()));
    let keys = ["--our-key", &a, "--their-key", &b, "--secret-file", &file];
    home.run(&[&["peer", "add", "mails", "--profile", "cs1"][..], &keys].concat()).ok();
    let (rules, json) = orders.broken(&with(orders.ticket("mails", NOW, Binding::None)));
    assert_eq!(rules, ["ticket"]);
    assert!(json["broken"][0]["what"].as_str().unwrap().contains("mails/1"), "{json}");
    // Changed, and cut off.
    let changed = format!("{}A", &orders.ticket[..orders.ticket.len() - 1]);
    home.hide(&changed);
    let changed = if changed == orders.ticket { orders.ticket.replace("A", "B") } else { changed };
    assert_eq!(orders.broken(&with(changed)).0, ["ticket"]);
    // Bound to TLS: what the connection gave is not in the request.
    let (json, text) = orders.explain(&with(orders.ticket("billing", NOW, Binding::TlsExporter)));
    assert_eq!((&json["verdict"], &json["mac"]), (&"incomplete".into(), &Value::Null));
    assert!(text.contains("tls-exporter"), "{text}");
    // Of a credential that has ended.
    let request = orders.request().signed(home);
    home.run(&["revoke", "billing"]).ok();
    let (rules, json) = orders.broken(&request);
    assert_eq!(rules, ["ticket"]);
    assert!(json["broken"][0]["what"].as_str().unwrap().contains("has ended"), "{json}");
    // At another service, or where nobody has served.
    store(home).forget(State::TicketKeys).unwrap();
    let (json, text) = orders.explain(&request);
    assert_eq!(json["verdict"], "incomplete");
    assert!(text.contains("MAC         not checked") && text.contains("explain the request there"), "{text}");
}

#[test]
fn requests_without_a_handshake_are_judged_with_the_keys_of_the_pair() {
    for (options, rules) in [(&["--danger-direct"][..], &[][..]), (&[], &["ticket"])] {
        let orders = Orders::new(options);
        let pair = PairKeys::derive(
            &orders.secret.parse().unwrap(),
            &orders.theirs.parse().unwrap(),
            &orders.ours.parse().unwrap(),
        );
        let mut request = orders.request();
        request.keyid = format!("{}:{}", orders.theirs, orders.ours);
        request.tag = "countersign-direct".to_owned();
        request.key = MacKey::new(pair.direct().client_to_server.as_slice());
        let (broken, json) = orders.broken(&request.signed(&orders.home));
        assert_eq!(
            (broken.as_slice(), &json["mac"]),
            (&*rules.iter().map(|rule| (*rule).to_owned()).collect::<Vec<_>>(), &"right".into())
        );
        // The other direction has other keys (CS-4).
        request.keyid = format!("{}:{}", orders.ours, orders.theirs);
        let (broken, json) = orders.broken(&request.signed(&orders.home));
        assert_eq!((broken, &json["signer"]), (vec!["mac".to_owned()], &"us".into()));
        request.keyid = format!("{}:{}", orders.theirs, new_key());
        assert_eq!(orders.broken(&request.signed(&orders.home)).0, ["ticket"]);
    }
}

#[test]
fn what_is_no_signed_request_is_told_as_such() {
    let orders = Orders::new(&[]);
    let run = |text: &str| orders.home.run_with(&["explain", "--peer", "billing"], text.as_bytes());
    run("").refused(1, &["no request line"]);
    run("{\"apiKey\":\"x\"}").refused(1, &["no request line"]);
    run("HTTP/1.1 401 Unauthorized\n\n").refused(1, &["this is a response"]);
    run("GET / HTTP/1.1\nHost: a\n\n").refused(1, &["no signature", "compare the fingerprint"]);
    let arguments = ["explain", "--peer", "billing", "--challenge", "x"];
    orders.home.run_with(&arguments, b"GET / HTTP/1.1\n").refused(2, &["--challenge"]);
    // Secrets in the wrong place do not come out.
    let secret = &orders.secret;
    let odd = format!(
        "GET /{secret}?x={secret} HTTP/1.1\nHost: {secret}\nSignature-Input: cs=(\"{secret}\");keyid=\"{secret}\";tag=\"{secret}\";{secret}=1\nSignature: cs=:{secret}:\n\n"
    );
    orders.explain(&odd);
}
