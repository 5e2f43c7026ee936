//! What a request costs the allocator once its session is known: nothing.

#![allow(clippy::unwrap_used, reason = "tests")]

use allocation_counter::measure;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::content::content_digest;
use countersign_protocol::cs1::request::{Claimed, Instructions, RequestParts, Signing, sign};
use countersign_protocol::cs1::ticket::{Claims, TicketKeys};
use countersign_protocol::cs1::{Binding, KeyName, SessionKeys};
use countersign_protocol::identity::CredentialId;
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_store::{ReplayLog, TicketCache};
use http::HeaderMap;
use zeroize::Zeroizing;

const NOW: UnixTime = UnixTime(1_800_000_000);
const CONTENT: &[u8] = b"{\"item\": 1}";

fn parts(fields: &HeaderMap) -> RequestParts<'_> {
    let (path, query) = ("/invoices", Some("page=2"));
    RequestParts { method: "POST", authority: "orders.example", path, query, fields }
}

fn signed(ticket: &str, key: &MacKey, number: u8) -> HeaderMap {
    let mut fields = HeaderMap::new();
    fields.insert("host", "orders.example".parse().unwrap());
    fields.insert("content-type", "application/json".parse().unwrap());
    fields.insert("authorization", "Basic YTpi".parse().unwrap());
    fields.insert("x-of-the-application", "1".parse().unwrap());
    fields.insert("content-digest", content_digest(CONTENT).unwrap());
    let signing = Signing { key, ticket, now: NOW, window: 60, nonce: [number; 16] };
    let Instructions { signature_input, signature, .. } = sign(&signing, &parts(&fields)).unwrap();
    fields.insert("signature-input", signature_input);
    fields.insert("signature", signature);
    fields
}

#[test]
fn a_request_of_a_known_session_is_verified_without_allocating() {
    let tickets = TicketKeys::new("orders".parse().unwrap(), &Zeroizing::new([1; 40]), NOW);
    let keys = SessionKeys {
        client_to_server: Zeroizing::new([7; 32]),
        server_to_client: Zeroizing::new([8; 32]),
        id: [3; 16],
    };
    let credential = CredentialId { peer: "billing".parse().unwrap(), number: 1 };
    let expires = NOW.plus(600);
    let claims = Claims { credential, uid: [1; 16], keys, issued: NOW, expires, binding: Binding::None };
    let ticket = tickets.seal(&claims, [5; 12]);
    let key = MacKey::new(&[7; 32]);
    let requests: Vec<_> = (0..200).map(|number| signed(&ticket, &key, number)).collect();
    let (cache, log) = (TicketCache::new(1_000), ReplayLog::new(usize::MAX));
    cache.get_or_open(&ticket, NOW, || tickets.open(&ticket, NOW)).unwrap();
    for number in 1..=100_000_u128 {
        log.claim(number << 64, NOW.plus(65), NOW).unwrap();
    }

    let verify = |fields: &HeaderMap| {
        let claimed = Claimed::read(fields).unwrap().unwrap();
        let KeyName::Ticket(ticket) = claimed.key_name() else { panic!("it names a ticket") };
        let opened = cache.get_or_open::<()>(ticket, NOW, || Err(())).unwrap();
        let keys = opened.keys_on(None).unwrap();
        let unclaimed = claimed.verify(&keys.request, &parts(fields), NOW).unwrap();
        let verified = unclaimed.claim(&opened.claims().keys.id, |id, until| {
            log.claim(id, until, NOW).map_err(|_| Refusal::RequestReplayed)
        })?;
        let mut check = verified.content().check();
        check.update(CONTENT);
        check.finish()
    };
    let mut allocated = 0;
    for fields in &requests {
        let told = measure(|| verify(fields).unwrap());
        allocated += usize::from(told.count_total > 0);
    }
    // Now and then one of the log's 64 tables grows; each has about 1,600 places, and gets three more.
    assert!(allocated <= 10, "{allocated} of 200");
    for fields in &requests {
        let told = measure(|| assert_eq!(verify(fields), Err(Refusal::RequestReplayed)));
        assert_eq!(told.count_total, 0);
    }
}
