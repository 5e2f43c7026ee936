//! When credentials were used, kept in memory and written to the store now and then: not every request is a write.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign_protocol::UnixTime;
use countersign_store::{Credential, Use, UseDirection};

use super::snapshot::Snapshot;

/// How long the store's knowledge of a use may lag behind, in seconds.
const LAG: u64 = 30;

/// When a credential was last used, and how much of that the store knows. In seconds since 1970, 0 for never.
#[derive(Debug)]
pub(super) struct Mark {
    last: AtomicU64,
    noted: AtomicU64,
    /// Whether the store knows that the peer has this credential. If not, its first use is news: a rotation may be
    /// waiting for it.
    confirmed: bool,
}

impl Mark {
    pub(super) fn of(credential: &Credential) -> Arc<Self> {
        let noted = credential.used_inbound.map_or(0, |at| at.0);
        Arc::new(Self {
            last: AtomicU64::new(noted),
            noted: AtomicU64::new(noted),
            confirmed: credential.confirmed.is_some(),
        })
    }

    /// The mark of the same credential in a newer snapshot.
    pub(super) fn follow(self: &Arc<Self>, credential: &Credential) -> Arc<Self> {
        if self.confirmed == credential.confirmed.is_some() {
            return Arc::clone(self);
        }
        let newer = Self::of(credential);
        newer.last.fetch_max(self.last.load(Ordering::Relaxed), Ordering::Relaxed);
        newer
    }

    pub(super) fn used(&self, now: UnixTime) {
        self.last.fetch_max(now.0, Ordering::Relaxed);
    }

    /// The use that the store is to be told of, if it is time; `all`: whether or not it is.
    fn due(&self, now: UnixTime, all: bool) -> Option<UnixTime> {
        let (last, noted) = (self.last.load(Ordering::Relaxed), self.noted.load(Ordering::Relaxed));
        let time = all || !self.confirmed || now.0.saturating_sub(noted) >= LAG;
        (last > noted && time).then_some(UnixTime(last))
    }
}

/// What the store is to be told of now.
pub(super) fn due(snapshot: &Snapshot, now: UnixTime, all: bool) -> Vec<Use> {
    let due = |who: &super::snapshot::Identified| {
        let at = who.mark.due(now, all)?;
        Some(Use { uid: who.uid, direction: UseDirection::Inbound, at })
    };
    snapshot.credentials().filter_map(due).collect()
}

/// Remembers that the store was told.
pub(super) fn noted(snapshot: &Snapshot, uses: &[Use], now: UnixTime) {
    for one in uses {
        if let Some(who) = snapshot.live(&one.uid, now) {
            who.mark.noted.fetch_max(one.at.0, Ordering::Relaxed);
        }
    }
}
