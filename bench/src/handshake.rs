//! The server's part of `cs1`'s handshake, without HTTP.

use std::cell::Cell;
use std::time::Duration;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::client::{Credential, Randomness, start};
use countersign_protocol::cs1::server::{Attempt, Candidate, Effort, Holders, Pair, verify};
use countersign_protocol::cs1::ticket::{Claims, TicketKeys};
use countersign_protocol::cs1::{Binding, Issuer, PairKeys};
use countersign_protocol::identity::{ApiKey, CredentialId};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::Lifetime;
use countersign_protocol::wire::{Incoming, cs1 as wire};
use countersign_store::ReplayLog;
use http::HeaderMap;
use zeroize::Zeroizing;

use crate::paired::now;

const NOW: UnixTime = UnixTime(1_800_000_000);

#[derive(Debug)]
struct Known(PairKeys);

impl Candidate for Known {
    fn mac_key(&self) -> &MacKey {
        self.0.mac_key()
    }
}

impl Pair for Known {
    fn keys(&self) -> &PairKeys {
        &self.0
    }

    fn binding(&self) -> Binding {
        Binding::None
    }
}

/// Both sides of a pair.
pub(crate) struct Handshakes {
    credential: Credential,
    issuer: Issuer,
    known: [Known; 1],
    decoy: MacKey,
    tickets: TicketKeys,
    log: ReplayLog,
    count: Cell<u64>,
}

impl Handshakes {
    pub(crate) fn new() -> Self {
        let (ours, theirs) = (ApiKey::generate(&[1; 16]), ApiKey::generate(&[2; 16]));
        let secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef");
        Self {
            credential: Credential::new(&secret, ours.clone(), theirs.clone()),
            issuer: Issuer::new(&Zeroizing::new([7; 32]), Lifetime::default()),
            known: [Known(PairKeys::derive(&secret, &ours, &theirs))],
            decoy: MacKey::new(&[9; 32]),
            tickets: TicketKeys::new("orders".parse().expect("a name"), &Zeroizing::new([1; 40]), NOW),
            log: ReplayLog::new(usize::MAX),
            count: Cell::new(0),
        }
    }

    /// A whole handshake, with all checks on both sides; gives how long the server took.
    pub(crate) fn run(&self) -> Duration {
        let headers = HeaderMap::new();
        let random = Randomness { nonce: self.bytes(), ephemeral: Zeroizing::new(self.bytes()) };
        let (m1, waiting) = start(&self.credential, Binding::None, &random);
        let nonce = self.bytes();

        let begin = now();
        let hello = wire::read_hello(&m1.body).expect("M1");
        let challenge = self.issuer.issue(&hello, NOW, nonce).expect("a challenge");
        let m2 = format!("{{\"challenge\":\"{}\",\"expiresIn\":30}}", challenge.as_str());
        let first = now() - begin;

        let m2 = Incoming { status: 200, headers: &headers, body: m2.as_bytes() };
        let (m3, waiting) = waiting.receive(&m2, None).expect("M2");
        let ephemeral = Zeroizing::new(self.bytes());

        let begin = now();
        let proof = wire::read_proof(&m3.body).expect("M3");
        let attempt =
            Attempt { hello: &proof.hello, challenge: &proof.challenge, proof: &proof.proof, exporter: None };
        let effort = Effort { macs: 1, decoy: &self.decoy };
        let unclaimed =
            verify(&self.issuer, attempt, Holders::Live(&self.known), effort, NOW).expect("it is right");
        let verified = unclaimed
            .claim(|claim| self.log.claim(claim.id, claim.expires, NOW).map_err(|_| Refusal::ChallengeUsed))
            .expect("the first");
        let accepted = verified.accept(&ephemeral, 600, |keys, _| {
            let credential = CredentialId { peer: "billing".parse().expect("a name"), number: 1 };
            let expires = NOW.plus(600);
            let claims =
                Claims { credential, uid: [1; 16], keys, issued: NOW, expires, binding: Binding::None };
            self.tickets.seal(&claims, [5; 12])
        });
        let m4 = wire::write_accepted(&accepted.expect("a share"));
        let second = now() - begin;

        waiting.receive(&Incoming { status: 200, headers: &headers, body: &m4 }).expect("M4");
        first + second
    }

    /// Others each time. What a server draws at random is drawn outside of its time, here as for TLS' session: one call of
    /// the random source is far below a microsecond.
    fn bytes(&self) -> [u8; 32] {
        self.count.set(self.count.get() + 1);
        *MacKey::new(b"bytes").mac(&[&self.count.get().to_be_bytes()]).as_bytes()
    }
}
