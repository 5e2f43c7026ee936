//! A server with one session and a request that is signed for it, as both benchmarks of `cs1` measure them.

use std::collections::HashMap;
use std::sync::Arc;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::content::content_digest;
use countersign_protocol::cs1::request::{Claimed, Instructions, RequestParts, Signing, sign};
use countersign_protocol::cs1::ticket::{Claims, TicketKeys};
use countersign_protocol::cs1::{Binding, KeyName, SessionKeys};
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_store::{Mixed, Opened, ReplayLog, TicketCache};
use http::{Request, header};
use zeroize::Zeroizing;

pub(crate) const NOW: UnixTime = UnixTime(1_800_000_000);
pub(crate) const AUTHORITY: &str = "orders.example";
pub(crate) const CONTENT: &[u8] = b"{\"item\": 1}";
const KEY: [u8; 32] = [7; 32];

/// What a server has in memory when the second request of a session comes.
pub(crate) struct Server {
    tickets: TicketKeys,
    cache: TicketCache,
    log: ReplayLog,
    /// The live credentials, by their unique ids.
    live: HashMap<[u8; 16], CredentialId, Mixed>,
    /// Of the session.
    pub(crate) ticket: String,
    pub(crate) key: MacKey,
    claimed: u128,
    /// After so many two minutes are over, as the log sees it, and it forgets those that have expired.
    most: u64,
    left: u64,
    late: u64,
}

impl Server {
    pub(crate) fn new() -> Self {
        let service: ServiceName = "orders".parse().expect("a name");
        let credential = CredentialId { peer: "billing".parse().expect("a name"), number: 1 };
        let tickets = TicketKeys::new(service, &Zeroizing::new([1; 40]), NOW);
        let keys = SessionKeys {
            client_to_server: Zeroizing::new(KEY),
            server_to_client: Zeroizing::new([8; 32]),
            id: [3; 16],
        };
        let claims = Claims {
            credential: credential.clone(),
            uid: [1; 16],
            keys,
            issued: NOW,
            expires: NOW.plus(600),
            binding: Binding::None,
        };
        let ticket = tickets.seal(&claims, [5; 12]).to_string();
        Self {
            tickets,
            cache: TicketCache::new(16_384),
            log: ReplayLog::new(usize::MAX),
            live: HashMap::from_iter([([1; 16], credential)]),
            ticket,
            key: MacKey::new(&KEY),
            claimed: 0,
            most: 10_000,
            left: 10_000,
            late: 0,
        }
    }

    /// So many nonces live besides, and each stays. Without this there are ten thousand at most.
    pub(crate) fn with_nonces(mut self, many: u128) -> Self {
        (self.most, self.left) = (u64::MAX, u64::MAX);
        for _ in 0..many {
            self.claimed += 1;
            self.log.claim(scattered(self.claimed), NOW.plus(65), NOW).expect("the first");
        }
        self
    }

    /// All that a server asks before a request has an effect: its form, its ticket, whether the credential lives, the
    /// MAC, the time, the nonce. Each time the nonce counts as another one, for the same would be refused.
    pub(crate) fn verify<B>(&mut self, request: &Request<B>) -> Result<Arc<Opened>, Refusal> {
        self.claimed += 1;
        self.left -= 1;
        if self.left == 0 {
            self.left = self.most;
            self.late += 128;
        }
        let late = self.late;
        let other = scattered(self.claimed);
        let fields = request.headers();
        let claimed = Claimed::read(fields)?.ok_or(Refusal::NoCredentials)?;
        let KeyName::Ticket(ticket) = claimed.key_name() else { return Err(Refusal::NoCredentials) };
        let opened = self.cache.get_or_open(ticket, NOW, || self.tickets.open(ticket, NOW));
        let opened = opened.map_err(|_| Refusal::NoCredentials)?;
        let claims = opened.claims();
        if self.live.get(&claims.uid) != Some(&claims.credential)
            || fields.get(header::HOST).is_none_or(|host| host != AUTHORITY)
        {
            return Err(Refusal::NoCredentials);
        }
        let keys = opened.keys_on(None)?;
        let session = &claims.keys.id;
        let unclaimed = claimed.verify(&keys.request, &parts(request), NOW)?;
        let verified = unclaimed.claim(session, |id, until| {
            self.log.claim(id ^ other, until.plus(late), NOW.plus(late)).map_err(|_| Refusal::RequestReplayed)
        })?;
        std::hint::black_box(verified);
        Ok(opened)
    }

    /// With a new nonce, as a client does.
    pub(crate) fn sign<B>(&self, request: &Request<B>) -> Result<Instructions, Refusal> {
        sign(&self.signing(), &parts(request))
    }

    fn signing(&self) -> Signing<'_> {
        Signing { key: &self.key, ticket: &self.ticket, now: NOW, window: 60, nonce: [5; 16] }
    }

    /// One that is signed, and its signature base.
    pub(crate) fn signed(&self) -> (Request<()>, Vec<u8>) {
        let mut request = unsigned();
        let digest = request.headers()["content-digest"].to_str().expect("text").to_owned();
        let Instructions { signature_input, signature, .. } = self.sign(&request).expect("it can be signed");
        let params = signature_input.to_str().expect("text").strip_prefix("cs=").expect("our label");
        let base = format!(
            "\"@method\": POST\n\"@authority\": {AUTHORITY}\n\"@path\": /invoices\n\"@query\": ?page=2\n\
             \"content-digest\": {digest}\n\"content-type\": application/json\n\"@signature-params\": {params}"
        );
        let mac = self.key.mac(&[base.as_bytes()]);
        let expected = countersign_protocol::mac::encode_hex(mac.as_bytes());
        let base64 = signature.to_str().expect("text");
        assert_eq!(decoded(base64), expected, "the floor is over the very base");
        request.headers_mut().insert("signature-input", signature_input.clone());
        request.headers_mut().insert("signature", signature);
        (request, base.into_bytes())
    }
}

/// A request with content, not signed.
pub(crate) fn unsigned() -> Request<()> {
    let request = Request::post(format!("https://{AUTHORITY}/invoices?page=2"))
        .header(header::HOST, AUTHORITY)
        .header(header::CONTENT_TYPE, "application/json")
        .header(header::CONTENT_LENGTH, CONTENT.len())
        .header("content-digest", content_digest(CONTENT).expect("a digest"));
    request.body(()).expect("a request")
}

pub(crate) fn parts<B>(request: &Request<B>) -> RequestParts<'_> {
    RequestParts {
        method: request.method().as_str(),
        authority: AUTHORITY,
        path: request.uri().path(),
        query: request.uri().query(),
        fields: request.headers(),
    }
}

/// Numbers of which no two are alike, in no order.
pub(crate) fn scattered(number: u128) -> u128 {
    number.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835)
}

/// The MAC in a field `Signature`, in hexadecimal.
fn decoded(signature: &str) -> String {
    use base64::Engine as _;
    let encoded = signature.strip_prefix("cs=:").and_then(|text| text.strip_suffix(':')).expect("our form");
    let mac = base64::engine::general_purpose::STANDARD.decode(encoded).expect("base64");
    countersign_protocol::mac::encode_hex(&mac)
}
