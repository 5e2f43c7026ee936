//! Peers and their secrets in `HashiCorp` Vault or `OpenBao`: one document in a key-value engine of version 2 for each
//! service, which all of its nodes share. The master key, wrapped by the Transit engine.
//!
//! One thread speaks to Vault, over one connection. It asks two or three times a second whether the document has
//! changed; whoever reads peers reads what it has last seen. Every change is a check-and-set: of two nodes that
//! change at once, one begins anew with what the other has written, so that no key serves two peers and no two
//! rotations of one peer are open.
//!
//! While Vault is away the last good document goes on, for [`Place::max_stale`] at most, also over a restart: it is
//! kept in the local store, sealed. What Vault **refuses** is not an outage, and ends it (`standing.rs`).

mod copy;
mod doctor;
mod document;
mod ended;
mod error;
mod form;
mod http;
mod kv;
mod session;
mod settings;
mod standing;
mod state;
mod transit;
mod worker;

use std::fmt;
use std::sync::mpsc::{self, RecvTimeoutError, sync_channel};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{CredentialId, ServiceName};
use countersign_protocol::lookup::LookupKey;
use tokio::sync::mpsc::error::TrySendError;

use crate::lifecycle::{Ending, Next, Use, Which};
use crate::sqlite::SqliteStore;
use crate::{Listing, Move, Moved, NewPeer, Peer, PeerStore, Stale, StoreError};

pub use doctor::{Health, copy_age, examine};
pub use error::{DocumentFault, VaultError};
pub use http::{Address, AddressError};
pub use settings::{Connection, DEFAULT_MAX_STALE, DEFAULT_TIMEOUT, Login, Place, VaultPath, VaultPathError};
pub use transit::Transit;

use copy::Copies;
use document::Document;
use ended::EndedHere;
use session::Session;
use state::Shared;
use worker::{Job, Worker};

/// The largest document that is written, in bytes. Vault's integrated storage takes 1 MiB with what it adds itself.
const MAX_DOCUMENT: usize = 1_000_000;

/// So many requests, each with its time-out, come before anything is known at the start or of a change.
const REQUESTS: u32 = 8;

/// How long a change that Vault does not allow, or is slow to make, is not tried again by itself.
const NOT_ALLOWED: Duration = Duration::from_secs(10 * 60);

/// How long the thread may take to end.
const END: Duration = Duration::from_secs(2);

/// How long tidying up waits for Vault. What it has come to later is seen in the document.
const TIDY: Duration = Duration::from_secs(1);

/// Changes that wait for the thread at most.
const WAITING: usize = 64;

/// Peers in Vault.
pub struct VaultStore {
    shared: Arc<Shared>,
    place: Place,
    local: Arc<SqliteStore>,
    patience: Duration,
    /// When Vault did not allow to tidy up, or was slow.
    untidy: Mutex<Option<Instant>>,
    /// Gone while the store is being dropped.
    jobs: Option<tokio::sync::mpsc::Sender<Job>>,
    ended: Mutex<mpsc::Receiver<()>>,
}

impl fmt::Debug for VaultStore {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VaultStore").field("place", &self.place).finish_non_exhaustive()
    }
}

impl VaultStore {
    /// Logs in and reads the document, or, if Vault is away, the copy of it in `local`. Blocks for a few time-outs at
    /// most.
    ///
    /// # Errors
    /// Vault refuses; or it is away, and there is no copy that is young enough.
    pub fn open(connection: Connection, place: Place, local: Arc<SqliteStore>) -> Result<Self, StoreError> {
        let patience = connection.timeout.saturating_mul(REQUESTS) + END;
        let copies = Copies::new(&place, &connection);
        let session = Session::new(connection)?;
        let mut worker = Worker::new(session, place.clone(), Arc::clone(&local), copies, patience);
        let (jobs, waiting) = tokio::sync::mpsc::channel(WAITING);
        let (started, start) = sync_channel(1);
        let (end, ended) = sync_channel(1);
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
        let runtime = runtime.map_err(|error| VaultError::Setup(Arc::new(error)))?;
        let thread = move || {
            runtime.block_on(async {
                match worker.start().await.map(Arc::new) {
                    Ok(shared) => {
                        if started.send(Ok(Arc::clone(&shared))).is_ok() {
                            worker.run(&shared, waiting).await;
                        }
                    }
                    Err(error) => {
                        worker.session.log_out().await;
                        let _ = started.send(Err(error));
                    }
                }
            });
            let _ = end.send(());
        };
        let spawned = std::thread::Builder::new().name("countersign-vault".to_owned()).spawn(thread);
        spawned.map_err(|error| VaultError::Setup(Arc::new(error)))?;
        let shared = start.recv_timeout(patience).map_err(|_| VaultError::Gone)??;
        Ok(Self {
            shared,
            place,
            local,
            patience,
            untidy: Mutex::default(),
            jobs: Some(jobs),
            ended: Mutex::new(ended),
        })
    }

    fn send(&self, job: Job) -> Result<(), VaultError> {
        let jobs = self.jobs.as_ref().ok_or(VaultError::Gone)?;
        jobs.try_send(job).map_err(|error| match error {
            TrySendError::Full(_) => VaultError::Contended,
            TrySendError::Closed(_) => VaultError::Gone,
        })
    }

    /// Has the document changed. `edit` may be run several times; what it gave the last time is the result, and
    /// `false` beside it that there is nothing to write.
    fn change<T: Send + 'static>(
        &self,
        edit: impl FnMut(&mut Document) -> Result<(T, bool), StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        self.change_within(self.patience, edit)
    }

    /// The same, for whoever waits for so long at most.
    fn change_within<T: Send + 'static>(
        &self,
        patience: Duration,
        mut edit: impl FnMut(&mut Document) -> Result<(T, bool), StoreError> + Send + 'static,
    ) -> Result<T, StoreError> {
        let result = Arc::new(Mutex::new(None));
        let slot = Arc::clone(&result);
        let edit = move |document: &mut Document| {
            let (value, changed) = edit(document)?;
            *slot.lock().unwrap_or_else(PoisonError::into_inner) = Some(value);
            Ok(changed)
        };
        let (done, wait) = sync_channel(1);
        self.send(Job::Change(Box::new(edit), done))?;
        match wait.recv_timeout(patience) {
            Ok(done) => done?,
            Err(RecvTimeoutError::Timeout) => {
                let error = VaultError::Unreachable {
                    address: self.place.shown(),
                    why: "no answer came in time".to_owned(),
                };
                return Err(VaultError::Uncertain(Box::new(error)).into());
            }
            Err(RecvTimeoutError::Disconnected) => return Err(VaultError::Gone.into()),
        }
        let value = result.lock().unwrap_or_else(PoisonError::into_inner).take();
        value.ok_or_else(|| VaultError::Gone.into())
    }

    /// Ends credentials here, because Vault could not be told; their numbers. Whether peers may be let in at the moment
    /// does not matter.
    fn end_here(
        &self,
        name: &ServiceName,
        which: Which,
        how: Ending,
        now: UnixTime,
    ) -> Result<Vec<u32>, StoreError> {
        // Who ended it in another process is heard first.
        self.shared.look_now(&self.local)?;
        let ending = EndedHere::of(&self.shared.state().document, name, which, how, now);
        let numbers = EndedHere::save_all(&ending, &self.local)?;
        self.shared.look_now(&self.local)?;
        Ok(numbers)
    }
}

/// Ends credentials on this node alone, without a word to Vault: what it last said is enough to know them by, however
/// old it is. For when a [`VaultStore`] cannot be opened.
///
/// # Errors
/// There is no copy in which the peer has such a credential, or the local store cannot be written.
pub fn end_without_vault(
    connection: &Connection,
    place: &Place,
    local: &SqliteStore,
    (name, which): (&ServiceName, Which),
    how: Ending,
    now: UnixTime,
) -> Result<Vec<u32>, StoreError> {
    let kept = Copies::new(place, connection).load(local)?;
    let document = kept.and_then(|kept| kept.document);
    let read = document.and_then(|json| Document::read(&json, &place.service).ok());
    let Some(mut document) = read else { return Ok(Vec::new()) };
    for one in EndedHere::all(local)? {
        one.apply(&mut document);
    }
    EndedHere::save_all(&EndedHere::of(&document, name, which, how, now), local)
}

impl Drop for VaultStore {
    fn drop(&mut self) {
        self.jobs = None;
        // It gives its token back, and does not wait for long.
        let ended = self.ended.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = ended.recv_timeout(END);
    }
}

/// Reads a document and writes it again, as a change would: how many peers it has, how many of those cannot be read, and
/// the result. For the fuzz targets.
///
/// # Errors
/// It is no document of this service.
#[doc(hidden)]
pub fn reread(
    json: &[u8],
    service: &ServiceName,
) -> Result<(usize, usize, zeroize::Zeroizing<Vec<u8>>), DocumentFault> {
    let mut document = Document::read(json, service)?;
    let damaged = document.damaged.len();
    let written = document.write(service).map_err(|_| DocumentFault::Form)?;
    Ok((document.set.peers().count() + damaged, damaged, written))
}

/// Runs requests to their end on a thread of their own: whoever calls may be inside a runtime already.
fn block<T: Send>(
    connection: Connection,
    work: impl AsyncFnOnce(&mut Session) -> Result<T, VaultError> + Send,
) -> Result<T, VaultError> {
    let failed = |error| VaultError::Setup(Arc::new(error));
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(failed)?;
    let mut session = Session::new(connection)?;
    let run = move || {
        runtime.block_on(async move {
            let result = work(&mut session).await;
            session.log_out().await;
            result
        })
    };
    std::thread::scope(|scope| {
        let thread = std::thread::Builder::new().spawn_scoped(scope, run).map_err(failed)?;
        thread.join().map_err(|_| VaultError::Gone)?
    })
}

/// Why Vault was not told, without what does not hold for what is done here.
fn untold(error: StoreError) -> StoreError {
    match error {
        StoreError::Vault(VaultError::Unchangeable(inner)) => (*inner).into(),
        error => error,
    }
}

/// Nothing is added where something stands that cannot be read.
fn refuse_damaged(document: &Document, name: &ServiceName) -> Result<(), StoreError> {
    match document.damaged.contains_key(name.as_str()) {
        true => Err(StoreError::Damaged(name.to_string())),
        false => Ok(()),
    }
}

impl PeerStore for VaultStore {
    fn add(&self, peer: NewPeer, now: UnixTime) -> Result<Peer, StoreError> {
        self.change(move |document| {
            refuse_damaged(document, &peer.name)?;
            Ok((document.set.add(peer.clone(), now)?, true))
        })
    }

    fn remove(&self, name: &ServiceName) -> Result<(), StoreError> {
        let name = name.clone();
        self.change(move |document| {
            if document.damaged.remove(name.as_str()).is_none() {
                document.set.remove(&name)?;
            }
            Ok(((), true))
        })
    }

    fn rotate(&self, name: &ServiceName, next: Next, now: UnixTime) -> Result<Peer, StoreError> {
        let name = name.clone();
        self.change(move |document| {
            refuse_damaged(document, &name)?;
            Ok((document.set.rotate(&name, next.clone(), now)?, true))
        })
    }

    fn agree(&self, name: &ServiceName, wanted: &Move, now: UnixTime) -> Result<Moved, StoreError> {
        let (name, wanted) = (name.clone(), wanted.clone());
        self.change(move |document| {
            refuse_damaged(document, &name)?;
            Ok((document.set.agree(&name, &wanted, now)?, true))
        })
    }

    /// What Vault cannot be told is done here at once, and there as soon as that is possible: whatever is wrong with it,
    /// whoever is to be shut out must not stay in.
    fn end(
        &self,
        name: &ServiceName,
        which: Which,
        how: Ending,
        now: UnixTime,
    ) -> Result<Vec<u32>, StoreError> {
        let peer = name.clone();
        let there = self.change(move |document| {
            refuse_damaged(document, &peer)?;
            Ok((document.set.end(&peer, which, how, now)?, true))
        });
        match there {
            Err(error) if !error.is_about_the_peer() => {
                let numbers = self.end_here(name, which, how, now)?;
                if numbers.is_empty() {
                    return Err(error);
                }
                Err(StoreError::EndedHere { peer: name.clone(), numbers, why: Box::new(untold(error)) })
            }
            done => done,
        }
    }

    fn settle(&self, now: UnixTime) -> Result<Vec<CredentialId>, StoreError> {
        // Whoever is over is refused in any case: tidying up does not wait for Vault, or for another policy.
        let held = |at: &Option<Instant>| at.is_some_and(|at| at.elapsed() < NOT_ALLOWED);
        if held(&self.untidy.lock().unwrap_or_else(PoisonError::into_inner)) {
            return Ok(Vec::new());
        }
        let due = {
            let state = self.shared.state();
            state.is_current() && !state.document.set.clone().settle(now).is_empty()
        };
        if !due {
            return Ok(Vec::new());
        }
        let settled = self.change_within(TIDY, move |document| {
            let settled = document.set.settle(now);
            let any = !settled.is_empty();
            Ok((settled, any))
        });
        match settled {
            // It does not want that, or is slow: later.
            Err(StoreError::Vault(
                VaultError::Denied { .. } | VaultError::Uncertain(_) | VaultError::Contended,
            )) => {
                *self.untidy.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now());
                Ok(Vec::new())
            }
            settled => settled,
        }
    }

    fn note(&self, uses: &[Use]) -> Result<(), StoreError> {
        let live = |used: &&Use| self.shared.state().document.set.peers().any(|peer| peer.has(used));
        let uses: Vec<Use> = uses.iter().filter(live).copied().collect();
        self.local.note_elsewhere(&uses)?;
        let first = self.shared.state().note(&uses);
        if !first.is_empty() {
            // If there is no room for it now, the next change of the document brings it along.
            let _ = self.send(Job::Tell(first));
        }
        Ok(())
    }

    fn set_schedule(&self, name: &ServiceName, every: Option<u64>) -> Result<(), StoreError> {
        let name = name.clone();
        self.change(move |document| {
            refuse_damaged(document, &name)?;
            document.set.set_schedule(&name, every)?;
            Ok(((), true))
        })
    }

    fn get(&self, name: &ServiceName) -> Result<Peer, StoreError> {
        let listing = self.read_all()?;
        if let Some(peer) = listing.peers.into_iter().find(|peer| peer.name == *name) {
            return Ok(peer);
        }
        refuse_damaged(&self.shared.state().document, name)?;
        Err(StoreError::NoSuchPeer(name.clone()))
    }

    fn read_all(&self) -> Result<Listing, StoreError> {
        let known = self.local.known_elsewhere()?;
        let state = self.shared.state();
        state.version(&self.place)?;
        let mut peers: Vec<Peer> = state.document.set.peers().cloned().collect();
        let damaged = state.document.complaints();
        drop(state);
        for peer in &mut peers {
            peer.complete(|credential| {
                if let Some(known) = known.get(&credential.uid) {
                    known.complete(credential);
                }
            });
        }
        Ok(Listing { peers, damaged })
    }

    fn version(&self) -> Result<u64, StoreError> {
        self.shared.look(&self.local)?;
        self.shared.state().version(&self.place)
    }

    fn stale(&self) -> Option<Stale> {
        self.shared.state().stale(&self.place)
    }

    fn lookup_key(&self) -> &LookupKey {
        self.shared.lookup_key()
    }
}
