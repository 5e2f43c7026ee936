use countersign_protocol::UnixTime;
use countersign_protocol::identity::CredentialId;
use countersign_store::Peer;

use super::Authenticator;

/// How old a peer's newest credential is, and when it is to be rotated: for metrics and warnings.
#[derive(Clone, Debug)]
pub struct Age {
    /// Which credential.
    pub credential: CredentialId,
    /// When it was made.
    pub created: UnixTime,
    /// When it is to be rotated; `None` without a schedule.
    pub due: Option<UnixTime>,
    /// From when on somebody should see to it: it is due, or its rotation has been waiting for the peer for longer
    /// than the grace period.
    pub overdue_from: Option<UnixTime>,
}

impl Age {
    pub(super) fn of(peer: &Peer) -> Option<Self> {
        let newest = peer.credentials.last()?;
        Some(Self {
            credential: newest.id(&peer.name),
            created: newest.created,
            due: peer.due(),
            overdue_from: peer.overdue_from(),
        })
    }

    /// Whether somebody should see to it.
    #[must_use]
    pub fn is_overdue(&self, now: UnixTime) -> bool {
        self.overdue_from.is_some_and(|from| from <= now)
    }
}

impl Authenticator {
    /// The ages of all peers' newest credentials, by name, and the time to hold them against.
    #[must_use]
    pub fn ages(&self) -> (Vec<Age>, UnixTime) {
        let inner = self.inner();
        (inner.snapshot().ages.clone(), inner.clock.now())
    }
}
