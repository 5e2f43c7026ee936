//! The server's side of the handshake: verify the client's proof, burn the challenge, and only then prove ourselves.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::challenge::{Challenge, Issuer};
use super::ephemeral::Ephemeral;
use super::keys::{PairKeys, SessionKeys};
use super::transcript::{Binding, Exporter, Hello, Transcript, client_proof, server_proof};
use super::{MAX_TICKET_LIFETIME, ticket};
use crate::UnixTime;
use crate::candidates::find;
pub use crate::candidates::{Candidate, Effort, Holders};
use crate::mac::Tag;
use crate::refusal::Refusal;
use crate::shared_secret::challenge::Standing;
pub use crate::shared_secret::server::ClaimId;

/// M3, as it came in.
#[derive(Clone, Copy, Debug)]
pub struct Attempt<'a> {
    /// What the client said first, said again.
    pub hello: &'a Hello,
    /// The challenge that it says it answers.
    pub challenge: &'a Challenge,
    /// CP.
    pub proof: &'a Tag,
    /// What the TLS connection gives on which M3 came, if it gives anything.
    pub exporter: Option<&'a Exporter>,
}

/// A credential that a client may prove to have.
pub trait Pair: Candidate {
    /// Its keys, for calls from the peer to us.
    fn keys(&self) -> &PairKeys;

    /// What its handshakes have to be bound to (CS-31).
    fn binding(&self) -> Binding;
}

impl<T: Pair> Pair for std::sync::Arc<T> {
    fn keys(&self) -> &PairKeys {
        T::keys(self)
    }

    fn binding(&self) -> Binding {
        T::binding(self)
    }
}

/// The proof is right; whether the challenge was answered before is still to be asked.
///
/// There is no answer without that: the first of these compiles, the second leaves the claim out and does not.
/// ```
/// use countersign_protocol::cs1::server::{Accepted, Pair, Unclaimed};
/// use countersign_protocol::refusal::Refusal;
/// fn m4<C: Pair>(proved: Unclaimed<'_, C>) -> Result<Accepted, Refusal> {
///     let verified = proved.claim(|_id| Ok(())).map_err(|(refusal, _)| refusal)?;
///     verified.accept(&[7; 32].into(), 600, |_keys, _seconds| String::new().into())
/// }
/// ```
/// ```compile_fail,E0599
/// use countersign_protocol::cs1::server::{Accepted, Pair, Unclaimed};
/// use countersign_protocol::refusal::Refusal;
/// fn m4<C: Pair>(proved: Unclaimed<'_, C>) -> Result<Accepted, Refusal> {
///     let verified = proved;
///     verified.accept(&[7; 32].into(), 600, |_keys, _seconds| String::new().into())
/// }
/// ```
#[derive(Debug)]
#[must_use = "claim the challenge, or it can be answered again"]
pub struct Unclaimed<'a, C> {
    proved: Proved<'a, C>,
    claim: ClaimId,
}

#[derive(Debug)]
struct Proved<'a, C> {
    holder: &'a C,
    transcript: Transcript,
    proof: Tag,
    share: [u8; 32],
}

/// That a client holds the secret, and answered a challenge of ours in time and for the first time. Made only by
/// [`Unclaimed::claim`].
#[derive(Debug)]
pub struct Verified<'a, C>(Proved<'a, C>);

/// Verifies M3. One MAC for the challenge and at least `effort.macs` for the proof, whatever fails.
///
/// # Errors
/// [`Refusal::ChallengeForeign`], [`Refusal::ChallengeExpired`], [`Refusal::WrongSignature`], [`Refusal::WrongBinding`], or
/// the refusal in [`Holders::Nobody`].
pub fn verify<'a, C: Pair>(
    issuer: &Issuer,
    attempt: Attempt<'_>,
    holders: Holders<'a, C>,
    effort: Effort<'_>,
    now: UnixTime,
) -> Result<Unclaimed<'a, C>, Refusal> {
    let Attempt { hello, challenge, proof, exporter } = attempt;
    let standing = issuer.check(hello, challenge, now);
    let transcript = hello.transcript(exporter, challenge);
    let found = find(holders, effort, proof, |key| key.mac(&client_proof(&transcript)));
    let issued = match standing {
        Standing::Live(issued) => issued,
        Standing::Expired => return Err(Refusal::ChallengeExpired),
        Standing::Foreign => return Err(Refusal::ChallengeForeign),
    };
    let holder = found?;
    // After the proof: what a peer is bound to is not told to strangers. A connection that gives no exporter cannot
    // have been bound to.
    let unbound = hello.binding == Binding::TlsExporter && exporter.is_none();
    if hello.binding != holder.binding() || unbound {
        return Err(Refusal::WrongBinding);
    }
    let claim = ClaimId { id: challenge.id(), expires: issuer.burned_until(issued) };
    let proved = Proved { holder, transcript, proof: *proof, share: hello.share };
    Ok(Unclaimed { proved, claim })
}

impl<'a, C> Unclaimed<'a, C> {
    /// Burns the challenge (CS-15). `claim` must be atomic: of many callers with one id exactly one gets `Ok`.
    ///
    /// # Errors
    /// What `claim` says: [`Refusal::ChallengeUsed`], or that the replay log cannot take it.
    pub fn claim(
        self,
        claim: impl FnOnce(ClaimId) -> Result<(), Refusal>,
    ) -> Result<Verified<'a, C>, (Refusal, &'a C)> {
        match claim(self.claim) {
            Ok(()) => Ok(Verified(self.proved)),
            Err(refusal) => Err((refusal, self.proved.holder)),
        }
    }
}

/// M4.
#[derive(Debug)]
pub struct Accepted {
    /// `se`
    pub share: [u8; 32],
    /// The ticket, with its prefix.
    pub ticket: Zeroizing<String>,
    /// How many seconds it is good.
    pub seconds: u32,
    /// SP.
    pub proof: Tag,
}

impl<'a, C: Pair> Verified<'a, C> {
    /// Who proved itself.
    #[must_use]
    pub const fn holder(&self) -> &'a C {
        self.0.holder
    }

    /// Agrees on the session's keys, has them sealed into a ticket, and proves ourselves. `ephemeral` are 32 random bytes;
    /// the keys are gone when this returns. `seal` is told for how many seconds: `seconds`, and not beyond
    /// [`MAX_TICKET_LIFETIME`].
    ///
    /// # Errors
    /// [`Refusal::ZeroShare`]. The challenge stays burned.
    pub fn accept(
        self,
        ephemeral: &Zeroizing<[u8; 32]>,
        seconds: u32,
        seal: impl FnOnce(SessionKeys, u32) -> Zeroizing<String>,
    ) -> Result<Accepted, Refusal> {
        let Proved { holder, transcript, proof, share: client } = self.0;
        let seconds = seconds.clamp(1, MAX_TICKET_LIFETIME);
        let ephemeral = Ephemeral::new(ephemeral);
        let share = ephemeral.share();
        let shared = ephemeral.agree(&client).map_err(|_| Refusal::ZeroShare)?;
        let keys = holder.keys();
        let ticket =
            seal(SessionKeys::derive(&keys.agreement, &shared, &transcript, &proof, &share), seconds);
        let bare = ticket.strip_prefix(ticket::PREFIX).unwrap_or(&ticket);
        let proof = keys.server_proof.mac(&[&server_proof(&transcript, &proof, &share, bare, seconds)]);
        Ok(Accepted { share, ticket, seconds, proof })
    }
}

/// Whether this is the server's proof for what the client has said and heard.
pub(super) fn is_proof(
    keys: &PairKeys,
    transcript: &Transcript,
    proof: &Tag,
    share: &[u8; 32],
    ticket: &str,
    seconds: u32,
    claimed: &Tag,
) -> bool {
    let expected = keys.server_proof.mac(&[&server_proof(transcript, proof, share, ticket, seconds)]);
    expected.ct_eq(claimed).into()
}
