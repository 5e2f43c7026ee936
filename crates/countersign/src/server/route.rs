//! Protected routes: who may pass.

use std::net::IpAddr;
use std::sync::Arc;

use countersign_protocol::identity::{ApiKey, Profile};
use countersign_protocol::mac::Tag;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::server::{self, Verified};
use countersign_protocol::shared_secret::{Challenge, Issuer};
use countersign_protocol::wire::header::{self, Presented};
use countersign_store::{ClaimError, random};
use http::{HeaderMap, HeaderValue};

use super::attempt::Attempt;
use super::authenticator::{Authenticator, Inner};
use super::extract::Peer;
use super::reject::Rejection;
use super::snapshot::{SharedSecretCredential, Snapshot};

/// A request that may pass.
#[derive(Debug)]
#[non_exhaustive]
pub struct Admitted {
    /// Who sent it.
    pub peer: Peer,
    /// The id under which the trail has it.
    pub request_id: String,
    /// What goes with the response: our proof, if the caller asked for one.
    pub proof: HeaderMap,
}

impl Authenticator {
    /// Decides about a request on a protected route by its headers, from where [`Self::source`] says.
    ///
    /// # Errors
    /// The [`Rejection`] to answer with. It is on the trail already.
    pub async fn admit(&self, headers: &HeaderMap, source: IpAddr) -> Result<Admitted, Box<Rejection>> {
        let mut attempt = Attempt::new(self, source, "request");
        let decision = decide(self.inner(), &mut attempt, headers);
        match decision {
            // What was decided is told when it is on the trail, and not before.
            Ok((peer, proof)) => match attempt.written().await {
                Ok(()) => Ok(Admitted { peer, request_id: attempt.request_id, proof }),
                Err(unavailable) => Err(Box::new(attempt.refuse(unavailable, None).await)),
            },
            // Strangers' requests are limited here as they are on the endpoints: each of them is a line on the trail.
            Err((refusal, challenge)) => Err(Box::new(match attempt.check_refused(refusal) {
                Ok(()) => attempt.refuse(refusal, challenge).await,
                Err(limited) => attempt.refuse(limited, None).await,
            })),
        }
    }
}

type Decision = Result<(Peer, HeaderMap), (Refusal, Option<Challenge>)>;

fn decide(inner: &Inner, attempt: &mut Attempt<'_>, headers: &HeaderMap) -> Decision {
    let presented = header::presented(headers).map_err(bare)?;
    let snapshot = inner.peers().map_err(bare)?;
    match presented {
        Presented::Nothing => Err(bare(Refusal::NoCredentials)),
        Presented::Token(token) => {
            attempt.step("token");
            let peer = by_token(inner, attempt, &snapshot, token).map_err(bare)?;
            Ok((peer, HeaderMap::new()))
        }
        Presented::Key { api_key, missing } => {
            attempt.with_key(&snapshot.find(&api_key, inner.clock.now()));
            attempt.check_failures().map_err(bare)?;
            let refusal = missing.map_or(Refusal::ChallengeSent, Refusal::MissingHeader);
            Err((refusal, Some(fresh_challenge(inner, &api_key))))
        }
        Presented::Signed { api_key, challenge, signature, client_challenge } => {
            let signed = Signed { api_key: &api_key, challenge: &challenge, signature: &signature };
            let verified = by_signature(inner, attempt, &snapshot, signed).map_err(|refusal| {
                // Limits and overload are no reason to make another challenge.
                let challenge = (refusal.problem().status() == 401).then(|| fresh_challenge(inner, &api_key));
                (refusal, challenge)
            })?;
            let credential = verified.holder();
            let proof = client_challenge.map(|challenge| prove(&verified, &challenge)).unwrap_or_default();
            Ok((Peer::new(credential.who.id.clone(), Profile::SharedSecret), proof))
        }
    }
}

fn bare(refusal: Refusal) -> (Refusal, Option<Challenge>) {
    (refusal, None)
}

/// A challenge for whoever presents this key, known or not.
pub(super) fn fresh_challenge(inner: &Inner, api_key: &ApiKey) -> Challenge {
    Issuer::issue(&inner.issuer, api_key, inner.clock.now(), random())
}

fn by_token(
    inner: &Inner,
    attempt: &mut Attempt<'_>,
    snapshot: &Snapshot,
    token: &str,
) -> Result<Peer, Refusal> {
    // A token is never held up by failures of others at the same address: opening it costs less than keeping its
    // owner out would. One that does not open counts like any refused request, and not as a failure.
    let opened = inner.open_token(token).and_then(|claims| {
        attempt.with_claimed(&claims.credential);
        snapshot.live(&claims.uid, inner.clock.now()).ok_or(Refusal::TokenOrphaned)
    });
    let who = opened?;
    attempt.accept(who);
    Ok(Peer::new(who.id.clone(), who.profile))
}

#[derive(Clone, Copy)]
pub(super) struct Signed<'a> {
    pub(super) api_key: &'a ApiKey,
    pub(super) challenge: &'a Challenge,
    pub(super) signature: &'a Tag,
}

/// Guide 1, on a protected route and on `/verify_challenge` alike.
pub(super) fn by_signature<'a>(
    inner: &Inner,
    attempt: &mut Attempt<'_>,
    snapshot: &'a Snapshot,
    signed: Signed<'_>,
) -> Result<Verified<'a, Arc<SharedSecretCredential>>, Refusal> {
    let now = inner.clock.now();
    let found = snapshot.find(signed.api_key, now);
    attempt.with_key(&found);
    attempt.check_failures()?;
    let Signed { api_key, challenge, signature } = signed;
    let unclaimed = server::verify(
        &inner.issuer,
        server::Attempt { api_key, challenge, signature },
        found.shared_secret(),
        inner.effort(snapshot),
        now,
    )?;
    let claimed = unclaimed.claim(|claim| {
        inner.replays.claim(claim.id, claim.expires, now).map_err(|error| match error {
            ClaimError::Used => Refusal::ChallengeUsed,
            ClaimError::Full => Refusal::ReplayLogFull,
            ClaimError::Expired => Refusal::ChallengeExpired,
        })
    });
    let verified = claimed.map_err(|(refusal, holder)| {
        attempt.with_credential(&holder.who);
        refusal
    })?;
    attempt.accept(&verified.holder().who);
    Ok(verified)
}

/// Our key and signature for the caller's challenge.
pub(super) fn prove(
    verified: &Verified<'_, Arc<SharedSecretCredential>>,
    challenge: &Challenge,
) -> HeaderMap {
    let credential = verified.holder();
    let signature = verified.prove(&credential.our_key, &credential.our_secret, challenge);
    let mut headers = HeaderMap::new();
    for (name, text) in
        [(header::X_API_KEY, credential.our_key.expose()), (header::X_SIGNATURE, &signature.to_hex())]
    {
        if let Ok(value) = HeaderValue::from_str(text) {
            headers.insert(name, value);
        }
    }
    headers
}
