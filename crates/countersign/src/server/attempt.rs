use std::fmt;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use countersign_audit::{Direction, Outcome, Record, Ticket};
use countersign_protocol::identity::{CredentialId, Profile};
use countersign_protocol::lookup::LookupHash;
use countersign_protocol::mac::encode_hex;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::Challenge;
use countersign_store::random;

use super::authenticator::Authenticator;
use super::lines::{Kind, Share};
use super::rate_fields::RateFields;
use super::reject::Rejection;
use super::snapshot::{Found, Identified};
use super::uses::Mark;

/// One attempt on its way through: what is known of it so far, for the limits and the trail.
pub(super) struct Attempt<'a> {
    authenticator: &'a Authenticator,
    source: IpAddr,
    step: &'static str,
    pub(super) request_id: String,
    service: Option<String>,
    credential: Option<String>,
    profile: Option<Profile>,
    key: Option<LookupHash>,
    pending: Option<Pending>,
}

/// A record on its way to the disk. Nothing that it says may be told before it is there.
struct Pending {
    ticket: Ticket,
    outcome: Outcome,
    reason: &'static str,
    /// The credential that is accepted by it.
    used: Option<Used>,
}

struct Used {
    uid: [u8; 16],
    mark: Arc<Mark>,
}

/// For how long a record may be on its way to the disk. Whoever waits longer is refused: he should not be let in by
/// something that was decided long ago.
const PATIENCE: Duration = Duration::from_secs(10);

/// How often it is said that the trail cannot be written, in milliseconds: every attempt finds it out anew.
const COMPLAIN_MS: u64 = 1_000;

impl<'a> Attempt<'a> {
    pub(super) fn new(authenticator: &'a Authenticator, source: IpAddr, step: &'static str) -> Self {
        Self {
            authenticator,
            source,
            step,
            request_id: encode_hex(&random::<16>()),
            service: None,
            credential: None,
            profile: None,
            key: None,
            pending: None,
        }
    }

    /// The key that came, looked up. From here on the attempt counts against it.
    pub(super) fn with_key(&mut self, found: &Found<'_>) {
        (self.service, self.credential) = {
            let (service, credential) = found.named();
            (service, Some(credential))
        };
        self.profile = found.profile();
        self.key = Some(found.hash);
    }

    pub(super) fn with_credential(&mut self, who: &Identified) {
        self.with_claimed(&who.id);
        self.profile = Some(who.profile);
    }

    /// The credential that a token names. It may not be there any more, and its profile is not known then.
    pub(super) fn with_claimed(&mut self, id: &CredentialId) {
        self.service = Some(id.peer.to_string());
        self.credential = Some(id.to_string());
    }

    /// Where it comes from.
    pub(super) const fn source(&self) -> IpAddr {
        self.source
    }

    pub(super) fn step(&mut self, step: &'static str) {
        self.step = step;
    }

    /// Whether the limits let a request to an endpoint through.
    pub(super) fn check_request(&self) -> Result<(), Refusal> {
        let inner = self.authenticator.inner();
        let now = inner.clock.now_ms();
        match self.key {
            None => inner.limiters.request(self.source, now),
            Some(key) => inner.limiters.request_with_key(self.source, key, now),
        }
    }

    /// Whether the limits let another refused request of this source on a protected route pass as what it is.
    pub(super) fn check_refused(&self, refusal: Refusal) -> Result<(), Refusal> {
        let inner = self.authenticator.inner();
        let now = inner.clock.now_ms();
        match refusal {
            // The first step of guide 1, as on `/authenticate`.
            Refusal::ChallengeSent => inner.limiters.request(self.source, now),
            _ => inner.limiters.refused(self.source, now),
        }
    }

    /// Whether this source and key have failed too often.
    pub(super) fn check_failures(&self) -> Result<(), Refusal> {
        let inner = self.authenticator.inner();
        inner.limiters.may_try(self.source, self.key, inner.clock.now_ms())
    }

    /// Has it written down that this credential has proved itself. It must not be told before [`Attempt::written`]
    /// says that it was.
    pub(super) fn accept(&mut self, who: &Identified) {
        self.with_credential(who);
        self.submit(Outcome::Accepted, "accepted", None);
        if let Some(pending) = &mut self.pending {
            pending.used = Some(Used { uid: who.uid, mark: Arc::clone(&who.mark) });
        }
    }

    /// Has it written down, as far as there is room, how a step came out that is told as an answer and not as a refusal.
    pub(super) fn tell(&mut self, outcome: Outcome, reason: &'static str) {
        if self.has_line(false, outcome, reason) {
            self.submit(outcome, reason, None);
        }
    }

    /// Has it written down that this peer has been paired.
    pub(super) fn paired(&mut self, credential: &CredentialId, profile: Profile) {
        self.with_claimed(credential);
        self.profile = Some(profile);
        self.submit(Outcome::Accepted, "paired", None);
    }

    /// Counts what is no refusal and must not be told from one.
    pub(super) fn count_failure(&self) {
        let inner = self.authenticator.inner();
        inner.limiters.failed(self.source, self.key, inner.clock.now_ms());
    }

    /// Has it written down that a challenge was given.
    pub(super) fn challenged(&mut self) {
        let (outcome, reason) = (Outcome::Challenged, Refusal::ChallengeSent.code());
        if self.has_line(false, outcome, reason) {
            self.submit(outcome, reason, None);
        }
    }

    /// Whether it gets a line on the trail. If not it is counted, for the trail and for the metrics.
    fn has_line(&self, limited: bool, outcome: Outcome, reason: &'static str) -> bool {
        let inner = self.authenticator.inner();
        if inner.audit.is_none() {
            return true;
        }
        let (now, lines) = (inner.clock.now_ms(), &inner.limiters.lines);
        let share = Share::of(outcome, reason, self.service.is_some());
        let has_line = lines.has_room(limited, share, self.source, now);
        if !has_line {
            let kind = Kind { step: self.step, refused: outcome == Outcome::Refused, reason };
            lines.fold(kind, self.source, self.service.as_ref(), now);
            inner.count(outcome, reason);
        }
        has_line
    }

    /// Waits for what was submitted, and counts it. A credential that has ended meanwhile is not accepted: a slow disk
    /// is no way around a revocation.
    pub(super) async fn written(&mut self) -> Result<(), Refusal> {
        let Some(Pending { ticket, outcome, reason, used }) = self.pending.take() else { return Ok(()) };
        let inner = self.authenticator.inner();
        let Ok(written) = tokio::time::timeout(PATIENCE, ticket).await else {
            return Err(self.unwritten(&"the disk has not answered for ten seconds"));
        };
        if let Err(error) = written {
            return Err(self.unwritten(&error));
        }
        if let Some(Used { uid, mark }) = used {
            let now = inner.clock.now();
            let snapshot = inner.peers()?;
            if snapshot.live(&uid, now).is_none() {
                return Err(snapshot.gone(self.key, now));
            }
            mark.used(now);
        }
        inner.count(outcome, reason);
        Ok(())
    }

    fn unwritten(&self, error: &dyn fmt::Display) -> Refusal {
        let inner = self.authenticator.inner();
        let now = inner.elapsed_ms().max(1);
        let before = inner.trail_failed_ms.swap(now, Ordering::Relaxed);
        if before == 0 || now.saturating_sub(before) >= COMPLAIN_MS {
            tracing::error!(%error, "nothing is accepted until the audit trail can be written");
        }
        Refusal::AuditUnavailable
    }

    /// Counts and writes down a refusal, and makes what the other side is told.
    pub(super) async fn refuse(&mut self, refusal: Refusal, challenge: Option<Challenge>) -> Rejection {
        let inner = self.authenticator.inner();
        if refusal.is_failure() {
            inner.limiters.failed(self.source, self.key, inner.clock.now_ms());
        }
        if refusal == Refusal::CredentialCompromised {
            let (source, credential) =
                (self.source.to_canonical(), self.credential.as_deref().unwrap_or_default());
            if let Some(times) = inner.limiters.alarms.count(credential, inner.clock.now_ms()) {
                tracing::error!(%source, credential, times, "somebody has come with a credential that is marked as compromised");
            }
        }
        // A trail that cannot be written turns even a refusal into "cannot decide": it must be noticed.
        let refusal = match self.write_refusal(&refusal).await {
            Ok(()) => refusal,
            Err(unavailable) => {
                inner.count(Outcome::Refused, unavailable.code());
                unavailable
            }
        };
        let challenge = challenge.filter(|_| refusal.problem().status() == 401);
        let rate = inner.limiters.used_up(&refusal);
        let lifetime = inner.issuer.lifetime();
        Rejection {
            refusal,
            request_id: self.request_id.clone(),
            realm: inner.service.clone(),
            challenge: challenge.map(|challenge| (challenge, lifetime)),
            rate,
            accept_signature: None,
        }
    }

    /// How the caller stands with the limits on the endpoints, after what it has done.
    pub(super) fn standing(&self) -> Option<RateFields> {
        let inner = self.authenticator.inner();
        inner.limiters.standing(self.source, self.key, inner.clock.now_ms())
    }

    async fn write_refusal(&mut self, refusal: &Refusal) -> Result<(), Refusal> {
        if *refusal == Refusal::AuditUnavailable {
            return Err(Refusal::AuditUnavailable);
        }
        let detail = match refusal {
            Refusal::Malformed(malformed) => Some(malformed.to_string()),
            Refusal::MissingHeader(name) => Some((*name).to_owned()),
            _ => None,
        };
        let outcome = if *refusal == Refusal::ChallengeSent { Outcome::Challenged } else { Outcome::Refused };
        let limited = matches!(refusal, Refusal::RateLimited { .. });
        if !self.has_line(limited, outcome, refusal.code()) {
            return Ok(());
        }
        self.submit(outcome, refusal.code(), detail);
        self.written().await
    }

    fn submit(&mut self, outcome: Outcome, reason: &'static str, detail: Option<String>) {
        let inner = self.authenticator.inner();
        let ticket = match &inner.audit {
            None => Ticket::known(Ok(())),
            Some(audit) => audit.submit(Record {
                service: self.service.clone(),
                credential: self.credential.clone(),
                profile: self.profile,
                source: Some(self.source.to_canonical()),
                detail,
                request_id: self.request_id.clone(),
                ..Record::new(Direction::Inbound, self.step, outcome, reason)
            }),
        };
        self.pending = Some(Pending { ticket, outcome, reason, used: None });
    }
}
