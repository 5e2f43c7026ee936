//! `explain`: whatever was captured, neither a secret nor a signature comes out, and what is called right is right.
//! The command is a program and not a library, so its files are compiled into this crate too.

#[path = "../../crates/countersign-cli/src/commands/explain/capture.rs"]
mod capture;
#[path = "../../crates/countersign-cli/src/external.rs"]
#[allow(dead_code, reason = "the command uses all of it")]
mod external;
#[path = "../../crates/countersign-cli/src/commands/explain/judge.rs"]
mod judge;
#[path = "../../crates/countersign-cli/src/commands/explain/mistakes.rs"]
mod mistakes;
#[path = "../../crates/countersign-cli/src/commands/explain/report.rs"]
mod report;
#[path = "../../crates/countersign-cli/src/commands/explain/signed/mod.rs"]
mod signed;
#[path = "../../crates/countersign-cli/src/commands/explain/visible.rs"]
#[allow(dead_code, reason = "the command uses all of it")]
mod visible;

use std::sync::LazyLock;

use capture::Captured;
use countersign::store::contract::{cs1_peer, key, secret, shared_secret_peer};
use countersign::store::{Cs1Options, State, StateStore as _};
use countersign::{MemoryStore, NewKeys, NewPeer, PeerStore as _, Trust};
use countersign_protocol::cs1::PairKeys;
use countersign_protocol::cs1::request::{Claimed, RequestParts};
use countersign_protocol::cs1::ticket::TicketKeys;
use countersign_protocol::mac::MacKey;
use countersign_protocol::wire::header::{Presented, presented};
use countersign_protocol::{UnixTime, api_key, shared_secret};
use external::External;
use http::{HeaderMap, HeaderName, HeaderValue};
use judge::{Context, Judgement, Verdict};

use crate::input;

/// So many bytes of a secret in a row must not come out.
const PIECE: usize = 16;

static STORE: LazyLock<MemoryStore> = LazyLock::new(|| {
    let store = MemoryStore::new();
    store.add(shared_secret_peer("billing", 1), UnixTime(1_700_000_000)).unwrap();
    let reports = NewPeer {
        name: "reports".parse().unwrap(),
        url: None,
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Default::default(),
        keys: NewKeys::api_key(Some(key(3)), Some(key(2))).unwrap(),
    };
    store.add(reports, UnixTime(1_700_000_000)).unwrap();
    let direct = Cs1Options { danger_direct: true, ..Cs1Options::default() };
    store.add(NewPeer { cs1: direct, ..cs1_peer("ledger", 31) }, UnixTime(1_700_000_000)).unwrap();
    let keys = TicketKeys::new("orders".parse().unwrap(), &zeroize::Zeroizing::new([7; 40]), UnixTime(1));
    store.keep(State::TicketKeys, UnixTime(1), &keys.export()).unwrap();
    store
});

/// A captured request of `ledger`, which signs without a handshake.
pub(crate) fn explain_signed(input: &[u8]) {
    let external: Vec<External> = ["https://orders.example", "https://api.example:8443/orders"]
        .into_iter()
        .filter_map(|url| url.parse().ok().map(|url| External { url, any_port: false }))
        .collect();
    let here = signed::Here {
        service: &"orders".parse().unwrap(),
        peer: &STORE.get(&"ledger".parse().unwrap()).unwrap(),
        others: &STORE.read_all().unwrap(),
        lookup: STORE.lookup_key(),
        state: &*STORE,
        external: &external,
        moment: |at| at.0.to_string(),
    };
    // What comes behind a form feed is the response; without one the text is both, as what `curl -v` shows may be.
    let at = input.iter().position(|byte| *byte == b'\x0c');
    let (request, response) = at.map_or((input, input), |at| (&input[..at], &input[at + 1..]));
    if let Ok(explained) = signed::explain(&here, request, Some(response)) {
        shows_no_secret(&explained);
    }
    let explained = match signed::explain(&here, request, None) {
        Ok(explained) => explained,
        Err(said) => {
            assert!(said.chars().all(|c| !c.is_control()), "{said:?}");
            return;
        }
    };
    shows_no_secret(&explained);
    if explained.verdict == Verdict::Right {
        a_server_would_have_taken_it(request);
    }
}

fn shows_no_secret(explained: &signed::Explained) {
    let json = explained.json.to_string();
    assert!(!explained.text.contains(|c: char| c.is_control() && c != '\n'), "{:?}", explained.text);
    for shown in [&explained.text, &json] {
        let lower = shown.to_ascii_lowercase();
        for hidden in [secret(1).expose(), key(3).expose(), secret(31).expose()] {
            let hidden = hidden.to_ascii_lowercase();
            for piece in hidden.as_bytes().windows(PIECE) {
                let piece = std::str::from_utf8(piece).unwrap();
                assert!(!lower.contains(piece), "{piece} in {shown}");
            }
        }
    }
}

/// Another reading of the request, and the library's own verdict on it.
fn a_server_would_have_taken_it(input: &[u8]) {
    let text = input::text(input);
    if text.lines().any(|line| line.starts_with(['>', ':'])) || text.starts_with('\u{feff}') {
        return;
    }
    let head = text.split("\r\n\r\n").next().unwrap().split("\n\n").next().unwrap();
    let mut lines = head.lines().skip_while(|line| line.is_empty());
    let mut words = lines.next().unwrap().split(' ');
    let (method, target) = (words.next().unwrap(), words.next().unwrap());
    let mut fields = HeaderMap::new();
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let both =
            (HeaderName::try_from(name), HeaderValue::from_bytes(value.trim_matches([' ', '\t']).as_bytes()));
        if let (Ok(name), Ok(value)) = both {
            fields.append(name, value);
        }
    }
    // Whether a nonce is the server's own is its business.
    if !target.starts_with('/') || fields.get_all("cookie").iter().count() > 1 || head.contains("\"csn.") {
        return;
    }
    let host = fields.get("host").unwrap().to_str().unwrap().to_ascii_lowercase();
    let (authority, prefix) =
        if host.starts_with("api.") { ("api.example:8443", "/orders") } else { ("orders.example", "") };
    let (path, query) = target.split_once('?').map_or((target, None), |(path, query)| (path, Some(query)));
    let path = format!("{prefix}{path}");
    let claimed = Claimed::read(&fields).unwrap().unwrap();
    let keys = PairKeys::derive(&secret(31), &key(131), &key(31));
    let ours = PairKeys::derive(&secret(31), &key(31), &key(131));
    let parts = RequestParts { method, authority, path: &path, query, fields: &fields };
    let plain = RequestParts {
        authority: host.trim_end_matches(":443"),
        path: path.strip_prefix(prefix).unwrap(),
        ..parts
    };
    let taken = [(&keys, &parts), (&ours, &plain)].into_iter().any(|(keys, parts)| {
        let key = MacKey::new(keys.direct().client_to_server.as_slice());
        // Whatever the time: when it came is not in the request.
        let created = created(&fields).saturating_sub(30);
        (0..=60).any(|ahead| claimed.verify(&key, parts, UnixTime(created + ahead)).is_ok())
    });
    assert!(taken, "{head}");
}

fn created(fields: &HeaderMap) -> u64 {
    let input = fields.get("signature-input").unwrap().to_str().unwrap();
    let digits = input.split(";created=").nth(1).unwrap();
    digits.split(';').next().unwrap().parse().unwrap()
}

/// A captured request, and after a zero byte the challenge that was handed out.
pub(crate) fn explain(input: &[u8]) {
    let (request, handed_out) = input::two(input);
    let handed_out = Some(input::text(handed_out)).filter(|text| !text.is_empty());
    let captured = Captured::read(request);
    if captured.notes.is_empty() && !captured.is_response {
        agrees_with_the_server(request, &captured);
    }
    for name in ["billing", "reports"] {
        let context = Context {
            peer: &STORE.get(&name.parse().unwrap()).unwrap(),
            others: &STORE.read_all().unwrap(),
            lookup: STORE.lookup_key(),
            captured: &captured,
            handed_out: handed_out.as_deref(),
        };
        let judgement = context.judge();
        let text = report::text(context.peer, &captured, &judgement);
        let json = report::json(context.peer, &captured, &judgement).to_string();
        assert!(!text.contains(|c: char| c.is_control() && c != '\n'), "{text:?}");
        for shown in [text, json] {
            nothing_comes_out(&shown, &captured, handed_out.as_deref());
        }
        is_right(&judgement, name, &captured, handed_out.as_deref());
    }
}

/// What a server takes as a signed request was captured as that.
fn agrees_with_the_server(request: &[u8], captured: &Captured) {
    let text = input::text(request);
    if text.trim_start().starts_with(['{', '\u{feff}']) || text.lines().any(|line| line.starts_with("> ")) {
        return;
    }
    let head = text.split("\r\n\r\n").next().unwrap().split("\n\n").next().unwrap();
    let fields = head.lines().filter_map(|line| line.split_once(':'));
    let headers: Result<HeaderMap, ()> = fields
        .map(|(name, value)| {
            let value = HeaderValue::from_str(value.trim_matches([' ', '\t'])).map_err(drop)?;
            Ok((HeaderName::try_from(name).map_err(drop)?, value))
        })
        .collect();
    let Ok(headers) = headers else { return };
    if let Ok(Presented::Signed { api_key, challenge, signature, .. }) = presented(&headers) {
        assert_eq!(captured.api_key.as_deref().unwrap(), api_key.expose());
        assert_eq!(captured.challenge.as_deref().unwrap(), challenge.as_str());
        assert_eq!(captured.signature.as_deref().unwrap().to_lowercase(), signature.to_hex());
        assert_eq!(captured.refused, None);
    }
}

/// The texts that may have been signed.
fn messages<'a>(captured: &'a Captured, handed_out: Option<&'a str>) -> Vec<&'a str> {
    let came = [&captured.challenge, &captured.client_challenge, &captured.signature];
    came.into_iter().filter_map(|text| Some(text.as_ref()?.as_str())).chain(handed_out).collect()
}

fn nothing_comes_out(shown: &str, captured: &Captured, handed_out: Option<&str>) {
    let lower = shown.to_ascii_lowercase();
    let mut secrets = vec![secret(1).expose().to_owned(), key(3).expose().to_owned()];
    // The store has but a hash of this one: it is recognised where it is a field.
    let fields = captured.api_key.iter().map(|text| text.as_str()).chain(messages(captured, handed_out));
    if fields
        .filter(|text| Some(*text) != captured.signature.as_deref().map(String::as_str))
        .any(|text| text == key(2).expose())
    {
        secrets.push(key(2).expose().to_owned());
    }
    for secret in &secrets {
        let secret = secret.to_ascii_lowercase();
        for piece in secret.as_bytes().windows(PIECE) {
            let piece = std::str::from_utf8(piece).unwrap();
            assert!(!lower.contains(piece), "{piece} in {shown}");
        }
    }
    for message in messages(captured, handed_out) {
        let (shared, ours) = (secret(1).expose().to_owned(), key(3).expose().to_owned());
        for (secret, keys) in [(shared, [Some(key(1)), Some(key(101))]), (ours, [None, None])] {
            for key in keys {
                let key = key.as_ref().map_or("", |key| key.expose());
                let mac = MacKey::new(secret.as_bytes()).mac(&[key.as_bytes(), message.as_bytes()]).to_hex();
                assert!(!lower.contains(&mac), "{mac} in {shown}");
            }
        }
    }
}

/// What is called right, a server would have taken for right.
fn is_right(judgement: &Judgement, peer: &str, captured: &Captured, handed_out: Option<&str>) {
    if judgement.verdict != Verdict::Right {
        return;
    }
    let challenge = captured.challenge.as_deref().map(String::as_str).or(handed_out).unwrap();
    let signature = captured.signature.as_deref().unwrap().to_ascii_lowercase();
    let came = captured.api_key.as_deref().unwrap().as_str();
    let right = if peer == "billing" {
        let by = [key(1), key(101)].into_iter().find(|key| key.expose() == came).unwrap();
        match challenge.parse::<shared_secret::Challenge>() {
            Ok(challenge) => shared_secret::sign(&secret(1).mac_key(), &by, &challenge).to_hex(),
            Err(_) => MacKey::new(secret(1).expose().as_bytes())
                .mac(&[came.as_bytes(), challenge.as_bytes()])
                .to_hex(),
        }
    } else {
        let by = [key(2), key(3)].into_iter().find(|key| key.expose() == came).unwrap();
        match challenge.parse::<api_key::Challenge>() {
            Ok(challenge) => api_key::sign(&by, &challenge).to_hex(),
            Err(_) => MacKey::new(came.as_bytes()).mac(&[challenge.as_bytes()]).to_hex(),
        }
    };
    assert_eq!(signature, right);
}
