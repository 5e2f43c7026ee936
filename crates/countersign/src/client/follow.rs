//! A client that outlives its peer's credentials looks for new ones, and says which of them the peer has taken.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use countersign_protocol::identity::ServiceName;
use countersign_store::{PeerStore, StoreError, Use, UseDirection};

use super::ClientError;
use super::known::{Known, Plan, now};

/// How long a change in the store may go unseen by requests.
const LOOK_EVERY: Duration = Duration::from_millis(250);

/// How often one use follows another into the store at most, in seconds.
const NOTE_EVERY: u64 = 30;

/// The store that a client follows.
pub(super) struct Follow {
    store: Arc<dyn PeerStore>,
    peer: ServiceName,
    since: Instant,
    /// When it was last looked at, in milliseconds after `since`, plus one; 0 for never.
    looked: AtomicU64,
    /// When a use was last written, in seconds since 1970, and of which credential (a piece of its id).
    noted: [AtomicU64; 2],
}

impl Follow {
    pub(super) fn new(store: Arc<dyn PeerStore>, peer: ServiceName) -> Self {
        Self { store, peer, since: Instant::now(), looked: AtomicU64::new(0), noted: Default::default() }
    }

    fn now(&self) -> u64 {
        u64::try_from(self.since.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Whether it has not been looked at for a while.
    pub(super) fn is_time(&self) -> bool {
        let looked = self.looked.load(Ordering::Relaxed);
        let every = u64::try_from(LOOK_EVERY.as_millis()).unwrap_or(u64::MAX);
        looked == 0 || self.now().saturating_sub(looked) >= every
    }

    /// The peer anew, if it has changed since `known` was read.
    pub(super) async fn look(&self, known: &Known) -> Result<Option<Known>, ClientError> {
        let now = self.now();
        let (store, peer, seen) = (Arc::clone(&self.store), self.peer.clone(), known.version);
        let read = blocking(move || {
            // The version first: a change in between is seen next time.
            let version = store.version()?;
            if seen == Some(version) {
                return Ok(None);
            }
            Ok(Some((store.get(&peer)?, version)))
        });
        let read = read.await?;
        self.looked.store(now, Ordering::Relaxed);
        read.map(|(peer, version)| Known::of(&peer, Some(version))).transpose()
    }

    /// Tells the store that the peer has taken this credential. A rotation may be waiting for that.
    pub(super) async fn note(&self, plan: &Plan) {
        let at = now();
        let [time, which] = &self.noted;
        let piece = u64::from_le_bytes(plan.uid.first_chunk().copied().unwrap_or_default());
        if which.load(Ordering::Relaxed) == piece
            && at.0.saturating_sub(time.load(Ordering::Relaxed)) < NOTE_EVERY
        {
            return;
        }
        let (store, one) =
            (Arc::clone(&self.store), Use { uid: plan.uid, direction: UseDirection::Outbound, at });
        match blocking(move || store.note(&[one])).await {
            Ok(()) => {
                time.store(at.0, Ordering::Relaxed);
                which.store(piece, Ordering::Relaxed);
            }
            // The call itself has nothing to do with it.
            Err(error) => tracing::warn!(%error, "that a credential was used cannot be written to the store"),
        }
    }
}

async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, ClientError> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => Ok(result?),
        Err(error) => Err(ClientError::Interrupted(error.to_string())),
    }
}
