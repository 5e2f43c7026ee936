//! M1 to M4 on `/authenticate` and `/verify_challenge` (section 3).

use bytes::Bytes;
use countersign_protocol::cs1::server::{self, Attempt as Presented, Holders};
use countersign_protocol::cs1::ticket::Claims;
use countersign_protocol::cs1::{Binding, Challenge, Exporter, MAX_TICKET_LIFETIME};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::wire::cs1 as wire;
use countersign_store::random;
use zeroize::Zeroizing;

use super::burn;
use crate::server::attempt::Attempt;
use crate::server::authenticator::Inner;

/// The challenge to M1, whoever it is from: which keys exist is learned by nobody who cannot prove one (CS-11).
pub(in crate::server) fn challenge(
    inner: &Inner,
    attempt: &mut Attempt<'_>,
    body: &[u8],
) -> Result<Challenge, Refusal> {
    let hello = wire::read_hello(body)?;
    let (snapshot, now) = (inner.peers()?, inner.clock.now());
    attempt.with_key(&snapshot.find(&hello.client, now));
    attempt.check_request()?;
    attempt.check_failures()?;
    // A clock before 2001 or after 2286 has no ten digits.
    let challenge = inner.cs1.issuer.issue(&hello, now, random()).map_err(|_| Refusal::ClockUnusable)?;
    attempt.challenged();
    Ok(challenge)
}

/// M4 to M3. `exporter` is that of the connection on which M3 came.
pub(in crate::server) fn accept(
    inner: &Inner,
    attempt: &mut Attempt<'_>,
    body: &[u8],
    exporter: Option<&Exporter>,
) -> Result<Bytes, Refusal> {
    let wire::Proof { hello, challenge, proof } = wire::read_proof(body)?;
    let (snapshot, now) = (inner.peers()?, inner.clock.now());
    let found = snapshot.find(&hello.client, now);
    attempt.with_key(&found);
    attempt.check_request()?;
    attempt.check_failures()?;
    let pairs = found.cs1(&hello.server);
    let holders = match &pairs {
        Ok(pairs) => Holders::Live(pairs),
        Err(refusal) => Holders::Nobody(*refusal),
    };
    let presented = Presented { hello: &hello, challenge: &challenge, proof: &proof, exporter };
    let unclaimed = server::verify(&inner.cs1.issuer, presented, holders, inner.effort(&snapshot), now)?;
    let claimed = unclaimed.claim(|claim| burn(inner, claim.id, claim.expires, now, Refusal::ChallengeUsed));
    let verified = claimed.map_err(|(refusal, holder)| {
        attempt.with_credential(&holder.who);
        refusal
    })?;
    let who = std::sync::Arc::clone(&verified.holder().who);
    let binding = hello.binding;
    let accepted = verified.accept(&Zeroizing::new(random()), MAX_TICKET_LIFETIME, |keys, seconds| {
        let (credential, uid) = (who.id.clone(), who.uid);
        let expires = now.plus(u64::from(seconds));
        inner.cs1.tickets.seal(&Claims { credential, uid, keys, issued: now, expires, binding }, now)
    });
    let accepted = accepted.inspect_err(|_| attempt.with_credential(&who))?;
    debug_assert!(binding == Binding::None || exporter.is_some(), "`verify` has seen to it");
    attempt.accept(&who);
    Ok(Bytes::from(wire::write_accepted(&accepted)))
}
