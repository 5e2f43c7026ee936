//! The one thread that speaks to Vault. It looks whether the document has changed, makes the changes that others ask
//! for, and keeps the copy.

use std::sync::Arc;
use std::sync::mpsc::SyncSender;
use std::time::{Duration, Instant};

use tokio::sync::mpsc;
use zeroize::Zeroizing;

use super::copy::{Age, Copies, Kept};
use super::document::Document;
use super::ended::EndedHere;
use super::error::Class;
use super::kv::{self, Found, Stamp, Written};
use super::session::Session;
use super::settings::Place;
use super::standing::{Copying, Standing, Tell};
use super::state::{Shared, localize};
use super::{MAX_DOCUMENT, NOT_ALLOWED, VaultError};
use crate::lifecycle::{Use, UseDirection};
use crate::sqlite::SqliteStore;
use crate::{StoreError, random};

/// How often Vault is asked whether the document has changed.
const POLL: Duration = Duration::from_millis(400);
/// How seldom it is asked while it is away.
const MAX_PAUSE: Duration = Duration::from_secs(15);
/// How often the time at which the copy was current is written down.
const KEEP: Duration = Duration::from_secs(60);
/// How often its age is written down while Vault is away.
const KEEP_AGE: Duration = Duration::from_secs(10);
/// How often an outage that goes on is told of.
const REMIND: Duration = Duration::from_secs(60 * 60);
/// How often a change is tried again that others were faster than.
const ATTEMPTS: u64 = 30;
/// How long what is left to do may take when the store is dropped.
const LAST: Duration = Duration::from_secs(1);

/// A change of the document; `false` if there is nothing to write. May be run several times.
pub(super) type Edit = Box<dyn FnMut(&mut Document) -> Result<bool, StoreError> + Send>;

pub(super) enum Job {
    Change(Edit, SyncSender<Result<(), StoreError>>),
    /// First uses of credentials, which Vault is to be told of.
    Tell(Vec<Use>),
}

pub(super) struct Worker {
    pub(super) session: Session,
    pub(super) place: Place,
    pub(super) local: Arc<SqliteStore>,
    pub(super) copies: Copies,
    /// How long one look at Vault may take.
    patience: Duration,
    seen: Option<Seen>,
    /// First uses that the document does not know of.
    untold: Vec<Use>,
    not_allowed: Option<Instant>,
    failures: u32,
    reminded: Instant,
}

/// The document as it was last read or written.
struct Seen {
    stamp: Option<Stamp>,
    json: Option<Zeroizing<Vec<u8>>>,
    current: Age,
    saved: Option<Instant>,
}

impl Worker {
    pub(super) fn new(
        session: Session,
        place: Place,
        local: Arc<SqliteStore>,
        copies: Copies,
        patience: Duration,
    ) -> Self {
        Self {
            session,
            place,
            local,
            copies,
            patience,
            seen: None,
            untold: Vec::new(),
            not_allowed: None,
            failures: 0,
            reminded: Instant::now(),
        }
    }

    /// What is there at the start: Vault's document, or the copy of it.
    pub(super) async fn start(&mut self) -> Result<Shared, StoreError> {
        let silence = self.patience + MAX_PAUSE;
        let error = match self.look().await {
            Ok(Some((found, document))) => {
                let shared = Shared::new(document.clone(), Standing::Current, silence);
                self.took(&shared, found, document)?;
                self.save();
                return Ok(shared);
            }
            Ok(None) => VaultError::Gone,
            Err(error) => error,
        };
        self.failures = 1;
        if error.class() == Class::Refusal {
            self.copies.refuse(&self.local)?;
            return Err(error.into());
        }
        let copy = if self.place.max_stale == 0 { None } else { self.copies.load(&self.local)? };
        let Some(Kept { document: json, age }) = copy else {
            return Err(VaultError::NoCopy(Box::new(error)).into());
        };
        let document = self.read(json.as_ref())?;
        let shared = Shared::new(document.clone(), Standing::Copy(error.clone(), age), silence);
        shared.take(document, &self.local)?;
        shared.state().version(&self.place)?;
        self.seen = Some(Seen { stamp: None, json, current: age, saved: None });
        self.warn(&error, &age);
        Ok(shared)
    }

    pub(super) async fn run(mut self, shared: &Shared, mut jobs: mpsc::Receiver<Job>) {
        loop {
            let pause = self.pause();
            tokio::select! {
                job = jobs.recv() => match job {
                    Some(Job::Change(mut edit, done)) => {
                        let result = self.change(shared, &mut edit).await;
                        shared.beat();
                        // Whoever asked may have stopped waiting.
                        let _ = done.send(result);
                    }
                    Some(Job::Tell(uses)) => {
                        self.untold.extend(uses);
                        self.tell(shared).await;
                    }
                    None => break,
                },
                () = tokio::time::sleep(pause) => {
                    self.poll(shared).await;
                    shared.beat();
                    self.tell(shared).await;
                }
            }
        }
        let last = async {
            self.tell(shared).await;
            self.session.log_out().await;
        };
        let _ = tokio::time::timeout(LAST, last).await;
    }

    /// Until Vault is asked again: longer after each failure, and not at the same time as every other node.
    fn pause(&self) -> Duration {
        let doubled = POLL.saturating_mul(1 << self.failures.min(8));
        let longest = if self.failures == 0 { POLL } else { doubled.min(MAX_PAUSE) };
        let [jitter] = random::<1>();
        longest.mul_f64(0.75 + f64::from(jitter) / 1024.0)
    }

    /// The document, unless it is the one that is known.
    async fn look(&mut self) -> Result<Option<(Found, Document)>, VaultError> {
        let known = self.seen.as_ref().map(|seen| seen.stamp.clone());
        if let Some(known) = known
            && self.failures == 0
            && kv::is_unchanged(&mut self.session, &self.place, known.as_ref()).await? == Some(true)
        {
            return Ok(None);
        }
        let found = kv::read(&mut self.session, &self.place).await?;
        let document = self.document(&found)?;
        Ok(Some((found, document)))
    }

    fn document(&self, found: &Found) -> Result<Document, VaultError> {
        match found {
            Found::Nothing(_) => self.read(None),
            Found::Document(json, _) => self.read(Some(json)),
        }
    }

    fn read(&self, json: Option<&Zeroizing<Vec<u8>>>) -> Result<Document, VaultError> {
        let wrong = |what| VaultError::Document {
            path: self.place.shown(),
            mount: self.place.mount.to_string(),
            key: self.place.key(),
            what,
        };
        match json {
            Some(json) => Document::read(json, &self.place.service).map_err(wrong),
            None => Ok(Document::new(Zeroizing::new(random()))),
        }
    }

    async fn poll(&mut self, shared: &Shared) {
        let looked = self.look().await;
        let done = match looked {
            Ok(None) => Ok(()),
            Ok(Some((found, document))) => self.took(shared, found, document),
            Err(error) => return self.fail(shared, error),
        };
        match done.and_then(|()| shared.look(&self.local)) {
            Ok(()) => self.good(shared),
            Err(error) => tracing::warn!(%error, "what Vault says cannot be taken over"),
        }
    }

    /// Takes over what was read or written.
    fn took(&mut self, shared: &Shared, found: Found, mut document: Document) -> Result<(), StoreError> {
        let (json, stamp) = match found {
            Found::Nothing(stamp) => (None, stamp),
            Found::Document(json, stamp) => (Some(json), Some(stamp)),
        };
        if json.is_none() {
            // As long as nobody has made a document, the key that it would get stays the same here.
            let state = shared.state();
            if state.document.damaged.is_empty() && state.document.set.peers().next().is_none() {
                document = Document::new(state.document.lookup.clone());
            }
        }
        let unconfirmed: Vec<[u8; 16]> = document
            .set
            .peers()
            .flat_map(|peer| &peer.credentials)
            .filter(|one| one.confirmed.is_none())
            .map(|one| one.uid)
            .collect();
        shared.take(document, &self.local)?;
        let state = shared.state();
        let known = state.document.set.peers().flat_map(|peer| &peer.credentials);
        self.untold = known
            .filter(|one| unconfirmed.contains(&one.uid))
            .filter_map(|one| {
                Some(Use { uid: one.uid, direction: UseDirection::Inbound, at: one.confirmed? })
            })
            .collect();
        drop(state);
        let same = self.seen.as_ref().filter(|seen| seen.stamp == stamp && seen.json == json);
        let saved = same.and_then(|seen| seen.saved);
        self.seen = Some(Seen { stamp, json, current: Age::new(), saved });
        Ok(())
    }

    /// Vault has said something of use.
    fn good(&mut self, shared: &Shared) {
        self.failures = 0;
        if let Some(seen) = &mut self.seen {
            seen.current = Age::new();
        }
        let before = shared.state().standing.clone();
        let (after, copying, tell) = before.after_good();
        shared.set(after);
        self.tell_of(tell, &before);
        self.keep(copying);
    }

    /// Vault has said nothing of use.
    fn fail(&mut self, shared: &Shared, error: VaultError) {
        self.failures = self.failures.saturating_add(1);
        let age = self.seen.as_ref().map_or_else(Age::new, |seen| seen.current);
        let (after, copying, tell) = shared.state().standing.clone().after(error, age);
        shared.set(after.clone());
        self.tell_of(tell, &after);
        self.keep(copying);
    }

    fn tell_of(&mut self, tell: Tell, standing: &Standing) {
        match (tell, standing) {
            (Tell::Away, Standing::Copy(error, age)) => self.warn(error, age),
            (Tell::StillAway, Standing::Copy(error, age)) if self.reminded.elapsed() >= REMIND => {
                self.warn(error, age);
            }
            (Tell::Back, Standing::Copy(_, age)) => {
                tracing::warn!(seconds = age.seconds(), "Vault answers again; its secrets are current");
            }
            (Tell::Refused, Standing::Refused(error)) => {
                tracing::error!(%error, "Vault refuses: in 30 seconds nobody is let in any more");
            }
            (Tell::LetIn, _) => tracing::warn!("Vault lets this service read its secrets again"),
            _ => {}
        }
    }

    /// Keeps the copy, or does not.
    fn keep(&mut self, copying: Copying) {
        let saved = self.seen.as_ref().and_then(|seen| seen.saved);
        let older = |time| saved.is_none_or(|at| at.elapsed() >= time);
        match copying {
            Copying::KeepNowAndThen if older(KEEP) => self.save(),
            Copying::KeepOften if older(KEEP_AGE) => self.save(),
            Copying::Keep => self.save(),
            Copying::Drop => {
                if let Err(error) = self.copies.refuse(&self.local) {
                    tracing::error!(%error, "the copy of Vault's secrets cannot be removed");
                }
                if let Some(seen) = &mut self.seen {
                    seen.saved = None;
                }
            }
            Copying::Leave | Copying::KeepNowAndThen | Copying::KeepOften => {}
        }
    }

    /// Keeps the copy.
    fn save(&mut self) {
        let Some(seen) = &mut self.seen else { return };
        seen.saved = Some(Instant::now());
        let saved = if self.place.max_stale == 0 {
            Copies::forget(&self.local)
        } else {
            self.copies.save(&self.local, seen.json.as_ref(), &seen.current)
        };
        if let Err(error) = saved {
            tracing::warn!(%error, "the copy of Vault's secrets cannot be kept");
        }
    }

    fn warn(&mut self, error: &VaultError, age: &Age) {
        self.reminded = Instant::now();
        let (age, max) = (age.seconds(), self.place.max_stale);
        tracing::warn!(%error, age, max, "peers are taken from the copy of what Vault last said");
    }

    /// Changes the document: reads, edits, writes if nobody was faster, or else begins anew.
    async fn change(&mut self, shared: &Shared, edit: &mut Edit) -> Result<(), StoreError> {
        // The writes whose answers were lost.
        let mut lost: Vec<String> = Vec::new();
        for attempt in 0..ATTEMPTS {
            let read = kv::read(&mut self.session, &self.place).await;
            let read = read.and_then(|found| Ok((self.document(&found)?, found)));
            let (mut document, found) = match read {
                Ok(read) => read,
                Err(error) => return Err(self.unread(shared, error, !lost.is_empty())),
            };
            if lost.contains(&document.change) {
                return self.changed(shared, found, document);
            }
            if matches!(found, Found::Nothing(_)) {
                document = Document::new(shared.state().document.lookup.clone());
            }
            localize(&mut document, &self.local, &EndedHere::all(&self.local)?)?;
            if !edit(&mut document)? {
                let document = self.document(&found)?;
                return self.changed(shared, found, document);
            }
            let json = document.write(&self.place.service)?;
            if json.len() > MAX_DOCUMENT {
                return Err(VaultError::TooLarge { bytes: json.len(), limit: MAX_DOCUMENT }.into());
            }
            match kv::write(&mut self.session, &self.place, &found, &json).await {
                Ok(Written::Done(stamp)) => {
                    return self.changed(shared, Found::Document(json, stamp), document);
                }
                Ok(Written::Overtaken) => {
                    let [jitter] = random::<1>();
                    let pause = Duration::from_millis(5 + attempt.min(10) * u64::from(jitter) / 16);
                    tokio::time::sleep(pause).await;
                }
                Err(error) if error.is_uncertain() && lost.len() < 2 => lost.push(document.change),
                Err(error) if error.is_uncertain() => {
                    self.fail(shared, error.clone());
                    return Err(VaultError::Uncertain(Box::new(error)).into());
                }
                // Whoever may read and not write is not shut out.
                Err(error) => return Err(error.into()),
            }
        }
        Err(VaultError::Contended.into())
    }

    fn changed(&mut self, shared: &Shared, found: Found, document: Document) -> Result<(), StoreError> {
        self.took(shared, found, document)?;
        self.good(shared);
        Ok(())
    }

    fn unread(&mut self, shared: &Shared, error: VaultError, lost: bool) -> StoreError {
        self.fail(shared, error.clone());
        match error.class() {
            _ if lost => VaultError::Uncertain(Box::new(error)).into(),
            Class::Outage => VaultError::Unchangeable(Box::new(error)).into(),
            Class::Refusal | Class::Nonsense => error.into(),
        }
    }

    /// Tells Vault what happened here: that a peer has a credential, and what was ended while Vault was away.
    async fn tell(&mut self, shared: &Shared) {
        let (ended, current) = {
            let state = shared.state();
            (state.ended().to_vec(), matches!(state.standing, Standing::Current))
        };
        let held = self.not_allowed.is_some_and(|at| at.elapsed() < NOT_ALLOWED);
        if !current || held || (ended.is_empty() && self.untold.is_empty()) {
            return;
        }
        let (uses, there) = (self.untold.clone(), ended.clone());
        // Written in any case: the document that is edited has all of it already.
        let mut edit: Edit = Box::new(move |document: &mut Document| {
            document.set.note(&uses);
            for one in &there {
                one.apply(document);
            }
            Ok(true)
        });
        match self.change(shared, &mut edit).await {
            Ok(()) => {
                self.not_allowed = None;
                self.untold.clear();
                shared.told(&ended);
                for one in ended {
                    tracing::warn!("Vault knows what was ended here: {one}");
                    if let Err(error) = one.forget(&self.local) {
                        // Or else Vault would be told again at once, and again.
                        self.not_allowed = Some(Instant::now());
                        tracing::warn!(%error, "that cannot be written down");
                    }
                }
            }
            Err(error) => {
                self.not_allowed = Some(Instant::now());
                tracing::warn!(%error, "Vault cannot be told what happened here; it stays in effect on this node");
            }
        }
    }
}
