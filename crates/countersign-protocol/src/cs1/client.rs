//! The client's side of the handshake, as typed states: each takes the answer it waits for and gives the next.
//!
//! ```
//! use countersign_protocol::cs1::client::{Credential, Randomness, start};
//! use countersign_protocol::cs1::{Binding, PairKeys};
//! # use countersign_protocol::{identity::ApiKey, secret::SharedSecret, wire::Incoming};
//! # use zeroize::Zeroizing;
//! # let (ours, theirs) = (ApiKey::generate(&[1; 16]), ApiKey::generate(&[2; 16]));
//! # let secret = SharedSecret::generate(b"0123456789abcdef0123456789abcdef");
//! let credential = Credential::new(&secret, ours, theirs);
//! let random = Randomness { nonce: [7; 32], ephemeral: Zeroizing::new([8; 32]) };
//! let (request, waiting) = start(&credential, Binding::None, &random);
//! assert_eq!(request.path, "/authenticate");
//! // Nothing is proved under what is not a challenge of this protocol:
//! let answer = Incoming { status: 200, headers: &Default::default(), body: br#"{"challenge":"GET /admin"}"# };
//! assert!(waiting.receive(&answer, None).is_err());
//! ```
//!
//! The steps have one order, and each is taken once. Of the two that follow, the first compiles; the second differs in its last
//! line alone, which takes M4 where M2 is waited for, and does not:
//!
//! ```
//! use countersign_protocol::cs1::client::{AwaitChallenge, Established};
//! use countersign_protocol::wire::{Incoming, reply::ReplyError};
//! fn session(waiting: AwaitChallenge<'_>, m2: &Incoming<'_>, m4: &Incoming<'_>) -> Result<Established, ReplyError> {
//!     let (_m3, waiting) = waiting.receive(m2, None)?;
//!     waiting.receive(m4)
//! }
//! ```
//! ```compile_fail,E0061
//! use countersign_protocol::cs1::client::{AwaitChallenge, Established};
//! use countersign_protocol::wire::{Incoming, reply::ReplyError};
//! fn session(waiting: AwaitChallenge<'_>, m2: &Incoming<'_>, m4: &Incoming<'_>) -> Result<Established, ReplyError> {
//!     waiting.receive(m4)
//! }
//! ```
//! Nor is a challenge answered twice (CS-9: the private key goes with the state):
//!
//! ```compile_fail,E0382
//! use countersign_protocol::cs1::client::{AwaitChallenge, Established};
//! use countersign_protocol::wire::{Incoming, reply::ReplyError};
//! fn session(waiting: AwaitChallenge<'_>, m2: &Incoming<'_>, m4: &Incoming<'_>) -> Result<Established, ReplyError> {
//!     let (_m3, next) = waiting.receive(m2, None)?;
//!     let (_m3, _next) = waiting.receive(m2, None)?;
//!     next.receive(m4)
//! }
//! ```

use zeroize::Zeroizing;

use super::challenge::Challenge;
use super::ephemeral::Ephemeral;
use super::keys::{PairKeys, SessionKeys};
use super::transcript::{Binding, Exporter, Hello, Transcript, client_proof};
use super::{server, ticket};
use crate::UnixTime;
use crate::identity::ApiKey;
use crate::mac::Tag;
use crate::secret::SharedSecret;
use crate::wire::reply::{self, ReplyError};
use crate::wire::{self, Incoming, Outgoing, cs1 as body};

/// What the client needs to know of one credential.
#[derive(Clone, Debug)]
pub struct Credential {
    our_key: ApiKey,
    their_key: ApiKey,
    keys: PairKeys,
}

impl Credential {
    /// C is `our_key`, S is `their_key`.
    #[must_use]
    pub fn new(secret: &SharedSecret, our_key: ApiKey, their_key: ApiKey) -> Self {
        let keys = PairKeys::derive(secret, &our_key, &their_key);
        Self { our_key, their_key, keys }
    }

    /// C.
    #[must_use]
    pub const fn our_key(&self) -> &ApiKey {
        &self.our_key
    }
}

/// What has to be random, anew for each handshake (CS-5).
pub struct Randomness {
    /// `cn`
    pub nonce: [u8; 32],
    /// The ephemeral private key.
    pub ephemeral: Zeroizing<[u8; 32]>,
}

/// Begins a handshake: M1.
#[must_use]
pub fn start<'a>(
    credential: &'a Credential,
    binding: Binding,
    random: &Randomness,
) -> (Outgoing, AwaitChallenge<'a>) {
    let ephemeral = Ephemeral::new(&random.ephemeral);
    let hello = Hello {
        client: credential.our_key.clone(),
        server: credential.their_key.clone(),
        nonce: random.nonce,
        share: ephemeral.share(),
        binding,
    };
    let request = Outgoing::post(wire::AUTHENTICATE, &body::hello(&hello));
    (request, AwaitChallenge { credential, hello, ephemeral })
}

/// Waits for M2.
#[derive(Debug)]
pub struct AwaitChallenge<'a> {
    credential: &'a Credential,
    hello: Hello,
    ephemeral: Ephemeral,
}

impl<'a> AwaitChallenge<'a> {
    /// Takes the challenge and proves itself: M3. `exporter` is that of the connection on which M3 will travel.
    ///
    /// # Errors
    /// Not a 200, not JSON, not a challenge; or a binding without an exporter.
    pub fn receive(
        self,
        answer: &Incoming<'_>,
        exporter: Option<&Exporter>,
    ) -> Result<(Outgoing, AwaitProof<'a>), ReplyError> {
        let challenge = reply::challenge(answer)?;
        let challenge: Challenge = challenge.parse().map_err(|_| ReplyError::ForeignShape)?;
        let Self { credential, hello, ephemeral } = self;
        if hello.binding == Binding::TlsExporter && exporter.is_none() {
            return Err(ReplyError::NoExporter);
        }
        let transcript = hello.transcript(exporter, &challenge);
        let proof = credential.keys.client_proof.mac(&client_proof(&transcript));
        let request = Outgoing::post(wire::VERIFY_CHALLENGE, &body::proof(&hello, &challenge, &proof));
        let time = challenge.time();
        Ok((request, AwaitProof { credential, ephemeral, transcript, proof, time }))
    }
}

/// Waits for M4.
#[derive(Debug)]
pub struct AwaitProof<'a> {
    credential: &'a Credential,
    ephemeral: Ephemeral,
    transcript: Transcript,
    proof: Tag,
    time: UnixTime,
}

impl AwaitProof<'_> {
    /// Takes the server's proof, and gives the session.
    ///
    /// # Errors
    /// Not a 200, not what M4 is, or a server that does not hold the secret. Nothing of it may be used then (CS-7).
    pub fn receive(self, answer: &Incoming<'_>) -> Result<Established, ReplyError> {
        let body::Accepted { share, ticket, seconds, proof } = body::accepted(answer)?;
        let bare = ticket.strip_prefix(ticket::PREFIX).ok_or(ReplyError::TokenForm)?;
        let keys = &self.credential.keys;
        if !server::is_proof(keys, &self.transcript, &self.proof, &share, bare, seconds, &proof) {
            return Err(ReplyError::ServerImpostor);
        }
        let shared = self.ephemeral.agree(&share).map_err(|_| ReplyError::ServerImpostor)?;
        let keys = SessionKeys::derive(&keys.agreement, &shared, &self.transcript, &self.proof, &share);
        Ok(Established { ticket, keys, seconds, time: self.time })
    }
}

/// A session: the server has proved itself.
#[derive(Debug)]
pub struct Established {
    /// The ticket, with its prefix: the `keyid` of requests. Nothing secret, and of no use without the keys.
    pub ticket: String,
    /// The keys.
    pub keys: SessionKeys,
    /// For how many seconds the ticket is good, from `time` on.
    pub seconds: u32,
    /// The server's time when it made its challenge. The client's clock from here on (CS-30).
    pub time: UnixTime,
}
