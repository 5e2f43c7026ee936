//! The offering side of a pairing (`specs/pairing.md`, section 7): P1 and P3 on one endpoint.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use countersign_audit::Outcome;
use countersign_protocol::UnixTime;
use countersign_protocol::identity::{CredentialId, Profile, ServiceName};
use countersign_protocol::pairing::message::{Confirm, Message, Start};
use countersign_protocol::pairing::offerer::{self, Claimed, Verified};
use countersign_protocol::pairing::{
    CONFIRM_WITHIN, PairingRefusal, Password, REPEAT_WITHIN, Statement, Terms,
};
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::Refusal;
use countersign_store::pairing::{Agreed, Offer, PairingStore, Stage};
use countersign_store::{Limiter, Quota, StoreError, random};
use http::{HeaderMap, Method, Request};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::ExternalUrl;
use super::attempt::Attempt;
use super::authenticator::{Authenticator, Inner};
use super::endpoints::{Answer, close, json_bytes, put, read};
use super::reject::problem_response;

/// P1 is answered no sooner than this after it came: how long it takes to claim a code tells nobody that there was one
/// (PA-18).
const FLOOR: Duration = Duration::from_millis(250);

/// What one process needs to answer.
pub(super) struct Pairing {
    store: Arc<dyn PairingStore>,
    /// P1 of all sources together (PA-19).
    all: Limiter,
}

impl Pairing {
    pub(super) fn new(store: Arc<dyn PairingStore>) -> Self {
        Self { store, all: Limiter::new(Quota::per_minute(1_200, 300), 1) }
    }
}

/// The endpoint.
pub(super) async fn pairing(
    State(authenticator): State<Authenticator>,
    request: Request<axum::body::Body>,
) -> Answer {
    let since = tokio::time::Instant::now();
    let (parts, body) = request.into_parts();
    let source = authenticator.source(&parts.extensions, &parts.headers);
    let mut attempt = Attempt::new(&authenticator, source, "pairing");
    if parts.method != Method::POST {
        let mut response = problem_response(Problem::MethodNotAllowed, &attempt.request_id, None);
        put(attempt.standing(), &mut response);
        return response;
    }
    let message = match attempt.check_request() {
        Ok(()) => match read(authenticator.inner(), body).await {
            Ok(body) => Message::read(&body).map_err(Refusal::from),
            Err(malformed) => Err(malformed.into()),
        },
        Err(limited) => Err(limited),
    };
    let result = match message {
        Ok(Message::Start(message)) => {
            let answer = start(&authenticator, &mut attempt, message).await;
            // All that may take time belongs before it.
            let written = attempt.written().await;
            tokio::time::sleep_until(since + FLOOR).await;
            answer.and_then(|answer| written.map(|()| answer))
        }
        Ok(Message::Confirm(message)) => confirm(&authenticator, &mut attempt, message).await,
        Err(refusal) => Err(refusal),
    };
    let result = result.map(|body| json_bytes(body.into(), HeaderMap::new()));
    close(&mut attempt, result).await
}

/// P1 gives P2, whether or not there is such an offer.
async fn start(
    authenticator: &Authenticator,
    attempt: &mut Attempt<'_>,
    message: Start,
) -> Result<Vec<u8>, Refusal> {
    attempt.step("pairing-start");
    attempt.check_failures()?;
    let inner = authenticator.inner();
    // The one URL for which the other side has words, as it and we write it.
    let is_ours = message
        .url
        .parse::<ExternalUrl>()
        .is_ok_and(|url| url.to_string() == message.url && authenticator.external_urls().contains(&url));
    if !is_ours {
        return Err(Refusal::Misdirected);
    }
    // Each counts, also that of an honest caller, who has a few a minute. What is left would else tell what was found.
    attempt.count_failure();
    if let Some(pairing) = &inner.pairing {
        let limited = pairing.all.hit(&(), inner.clock.now_ms());
        limited.map_err(|wait| {
            Refusal::Pairing(PairingRefusal::TooMany { retry_after: wait.div_ceil(1_000).max(1) })
        })?;
    }
    // `pair offer`, another process, has written down when the offer ends.
    let (service, now) = (inner.service.clone(), inner.clock.wall());
    let this = authenticator.clone();
    let claimed = blocking(move || {
        let pairing = this.inner().pairing.as_ref();
        let claimed = pairing.map(|pairing| claim(&*pairing.store, &service, &message, now));
        if let Some(share) = claimed.transpose()?.flatten() {
            return Ok((share, true));
        }
        // The same work, with words that nobody has.
        let password = Password::generate(&Zeroizing::new(random()));
        let (share, _) = offerer::claim(&password, &service, &message, &Zeroizing::new(random()))
            .map_err(|_| Refusal::Pairing(PairingRefusal::NoOffer))?;
        Ok((share.write(), false))
    });
    let (share, is_claimed) = claimed.await?;
    if is_claimed {
        attempt.tell(Outcome::Challenged, "pairing-claimed");
    } else {
        attempt.tell(Outcome::Refused, PairingRefusal::NoOffer.code());
    }
    Ok(share)
}

/// Claims the code, before anything is answered. `None` if there is none to claim.
fn claim(
    store: &dyn PairingStore,
    service: &ServiceName,
    message: &Start,
    now: UnixTime,
) -> Result<Option<Vec<u8>>, Refusal> {
    let Some(offer) = store.offer(message.offer).map_err(unavailable)? else { return Ok(None) };
    let Some(password) = offer.claimable(now) else { return Ok(None) };
    let claimed = offerer::claim(password, service, message, &Zeroizing::new(random()));
    let Ok((share, claimed)) = claimed else { return Ok(None) };
    let stage = Stage::Claimed { state: claimed.to_bytes(), until: now.plus(CONFIRM_WITHIN) };
    let won = store.replace(&Offer { stage, ..offer }).map_err(unavailable)?;
    Ok(won.then(|| share.write()))
}

/// P3 gives P4, once the peer is there.
async fn confirm(
    authenticator: &Authenticator,
    attempt: &mut Attempt<'_>,
    message: Confirm,
) -> Result<Vec<u8>, Refusal> {
    attempt.step("pairing-confirm");
    attempt.check_failures()?;
    let this = authenticator.clone();
    let (answer, name) = blocking(move || conclude(&this, &message)).await?;
    attempt.paired(&CredentialId { peer: name, number: 1 }, Profile::Cs1);
    Ok(answer)
}

type Concluded = (Vec<u8>, ServiceName);

fn conclude(authenticator: &Authenticator, message: &Confirm) -> Result<Concluded, Refusal> {
    let inner = authenticator.inner();
    let pairing = inner.pairing.as_ref().ok_or(Refusal::Pairing(PairingRefusal::NoOffer))?;
    let store = &*pairing.store;
    let now = inner.clock.wall();
    let refused = |why| Err(Refusal::Pairing(why));
    let Some(offer) = store.offer(message.offer).map_err(unavailable)? else {
        return refused(PairingRefusal::NoOffer);
    };
    let digest: [u8; 32] = Sha256::digest(Message::Confirm(message.clone()).write()).into();
    match &offer.stage {
        Stage::Claimed { state, until } => {
            let claimed = Claimed::from_bytes(state).filter(|claimed| claimed.is_of(message));
            let Some(claimed) = claimed else { return refused(PairingRefusal::NoOffer) };
            let judged = if *until < now {
                Err(PairingRefusal::TooLate)
            } else {
                judge(inner, &offer, claimed, message)
            };
            match judged {
                Ok((verified, agreed)) => {
                    let offer = agree(store, &offer, verified, agreed, digest)?;
                    finish(authenticator, store, &offer, now)
                }
                Err(why) => {
                    let stage = Stage::Failed { why: why.code().to_owned() };
                    // Whoever was faster has seen to it.
                    store.replace(&Offer { stage, ..offer.clone() }).map_err(unavailable)?;
                    refused(why)
                }
            }
        }
        // The answer was lost, or we were killed before it was given.
        Stage::Confirmed { message, .. } if *message == digest && !offer.is_over(now) => {
            finish(authenticator, store, &offer, now)
        }
        Stage::Paired { message, answer, name, at }
            if *message == digest && now <= at.plus(REPEAT_WITHIN) =>
        {
            Ok((answer.clone(), name.clone()))
        }
        _ => refused(PairingRefusal::NoOffer),
    }
}

/// Whether the words are right and all that is stated can be taken. Nothing is stored, and nothing was told yet.
fn judge(
    inner: &Inner,
    offer: &Offer,
    claimed: Claimed,
    message: &Confirm,
) -> Result<(Verified, Statement), PairingRefusal> {
    let verified = claimed.verify(message).map_err(|_| PairingRefusal::WrongWords)?;
    let statement = verified.statement().clone();
    if statement.seen.is_some_and(|seen| !offer.choices.pins.contains(&seen)) {
        return Err(PairingRefusal::Misbound);
    }
    if let Some(url) = &statement.url {
        let parsed: ExternalUrl = url.parse().map_err(|_| PairingRefusal::Unusable)?;
        let is_local = ["localhost", "127.0.0.1", "[::1]"].contains(&parsed.host());
        let has_trust = statement.pin.is_some() || offer.choices.system_trust || !parsed.is_https();
        if !(parsed.is_https() || is_local) || !has_trust {
            return Err(PairingRefusal::Unusable);
        }
    }
    let name = offer.choices.name.as_ref().unwrap_or(&statement.service);
    // Nobody is called as we are.
    if *name == inner.service {
        return Err(PairingRefusal::NameTaken);
    }
    match inner.store().get(name) {
        Err(StoreError::NoSuchPeer(_)) => Ok((verified, statement)),
        Ok(_) | Err(StoreError::Damaged(_)) => Err(PairingRefusal::NameTaken),
        Err(_) => Err(PairingRefusal::Store),
    }
}

/// Makes P4 and the pair, and has them kept before anything is told.
fn agree(
    store: &dyn PairingStore,
    offer: &Offer,
    verified: Verified,
    statement: Statement,
    message: [u8; 32],
) -> Result<Offer, Refusal> {
    let choices = &offer.choices;
    let terms = Terms { pins: choices.pins.clone(), binding: choices.binding };
    let (conclusion, pair) = verified.conclude(&terms, random());
    let peer = Agreed {
        name: choices.name.clone().unwrap_or(statement.service),
        url: statement.url,
        pin: statement.pin.filter(|_| !choices.system_trust),
        binding: choices.binding,
        our_key: pair.offerer_key,
        their_key: pair.accepter_key,
        secret: pair.secret,
    };
    let stage = Stage::Confirmed { message, answer: conclusion.write(), peer: Box::new(peer) };
    let next = Offer { stage, ..offer.clone() };
    if !store.replace(&next).map_err(unavailable)? {
        return Err(Refusal::Pairing(PairingRefusal::NoOffer));
    }
    Ok(Offer { revision: next.revision + 1, ..next })
}

/// Adds the peer, unless that has been done, and gives P4. It may be told after this.
fn finish(
    authenticator: &Authenticator,
    store: &dyn PairingStore,
    offer: &Offer,
    now: UnixTime,
) -> Result<Concluded, Refusal> {
    let Stage::Confirmed { message, answer, peer } = &offer.stage else {
        return Err(Refusal::Pairing(PairingRefusal::NoOffer));
    };
    let peers = authenticator.inner().store();
    let new = peer.peer().map_err(|_| Refusal::Pairing(PairingRefusal::Unusable))?;
    let fingerprint = new.keys.fingerprint();
    match peers.add(new, now) {
        Ok(_) => {}
        // We were killed in between: it is the very same one.
        Err(StoreError::NameTaken(name))
            if peers.get(&name).is_ok_and(|known| known.newest_fingerprint() == Some(&fingerprint)) => {}
        Err(StoreError::NameTaken(_) | StoreError::KeyTaken(_)) => {
            let stage = Stage::Failed { why: PairingRefusal::NameTaken.code().to_owned() };
            store.replace(&Offer { stage, ..offer.clone() }).map_err(unavailable)?;
            return Err(Refusal::Pairing(PairingRefusal::NameTaken));
        }
        Err(error) => return Err(unavailable(error)),
    }
    let (answer, name) = (answer.clone(), peer.name.clone());
    let stage = Stage::Paired { message: *message, answer: answer.clone(), name: name.clone(), at: now };
    // Of two that finish the same, one is enough; the next repetition finds out.
    store.replace(&Offer { stage, ..offer.clone() }).map_err(unavailable)?;
    // The first request may come in the next moment. If it cannot be read now, it is in a moment.
    if let Err(error) = authenticator.refresh() {
        tracing::warn!(%error, "the peer that was just paired is not in effect yet");
    }
    Ok((answer, name))
}

#[allow(clippy::needless_pass_by_value, reason = "it is what `map_err` gives")]
fn unavailable(error: StoreError) -> Refusal {
    tracing::error!(%error, "nothing is paired until the store can be read and written");
    Refusal::Pairing(PairingRefusal::Store)
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, Refusal> + Send + 'static,
) -> Result<T, Refusal> {
    tokio::task::spawn_blocking(work).await.unwrap_or(Err(Refusal::Pairing(PairingRefusal::Store)))
}
