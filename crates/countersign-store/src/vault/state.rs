//! What is known of Vault: written by the one thread that speaks to it, read by everybody.

use std::sync::{Mutex, MutexGuard, OnceLock, PoisonError};
use std::time::{Duration, Instant};

use countersign_protocol::lookup::LookupKey;

use super::document::Document;
use super::ended::EndedHere;
use super::standing::Standing;
use super::{VaultError, settings::Place};
use crate::lifecycle::Use;
use crate::sqlite::SqliteStore;
use crate::{Stale, StoreError};

/// How often it is looked whether another process has ended a credential here.
const LOOK: Duration = Duration::from_millis(250);

pub(super) struct Shared {
    state: Mutex<State>,
    lookups: Lookups,
}

pub(super) struct State {
    /// The peers that are in effect: Vault's, with what is only known here.
    pub(super) document: Document,
    pub(super) standing: Standing,
    version: u64,
    digest: u64,
    ended: Vec<EndedHere>,
    looked: Instant,
    /// When the thread that speaks to Vault last came to an end of what it did.
    beat: Instant,
    /// After how long without that it is taken for dead.
    silence: Duration,
}

impl Shared {
    pub(super) fn new(document: Document, standing: Standing, silence: Duration) -> Self {
        let lookups = Lookups::new(document.set.lookup_key().clone());
        let state = State {
            digest: document.digest(),
            document,
            standing,
            version: 1,
            ended: Vec::new(),
            looked: Instant::now(),
            beat: Instant::now(),
            silence,
        };
        Self { state: Mutex::new(state), lookups }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, State> {
        // Every change is made of steps that cannot panic half-way.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The key of the document that is in effect.
    pub(super) fn lookup_key(&self) -> &LookupKey {
        self.lookups.last()
    }

    /// Takes a document over, with what is only known here.
    pub(super) fn take(&self, mut document: Document, local: &SqliteStore) -> Result<(), StoreError> {
        let ended = EndedHere::all(local)?;
        localize(&mut document, local, &ended)?;
        let mut state = self.state();
        if document.lookup != state.document.lookup {
            self.lookups.push(document.set.lookup_key().clone());
        }
        complain(&ended, &state.ended);
        (state.document, state.ended) = (document, ended);
        state.settle();
        Ok(())
    }

    /// Sees now and then whether another process has ended a credential here.
    pub(super) fn look(&self, local: &SqliteStore) -> Result<(), StoreError> {
        if self.state().looked.elapsed() < LOOK {
            return Ok(());
        }
        // As long as it cannot be seen, each question fails: what was ended here would be let in.
        self.look_now(local)?;
        self.state().looked = Instant::now();
        Ok(())
    }

    /// Sees whether a credential has been ended here.
    pub(super) fn look_now(&self, local: &SqliteStore) -> Result<(), StoreError> {
        let ended = EndedHere::all(local)?;
        let mut state = self.state();
        if ended != state.ended {
            for one in &ended {
                one.apply(&mut state.document);
            }
            complain(&ended, &state.ended);
            state.ended = ended;
            state.settle();
        }
        Ok(())
    }

    /// Vault knows that these have ended.
    pub(super) fn told(&self, ended: &[EndedHere]) {
        self.state().ended.retain(|one| !ended.contains(one));
    }

    /// The thread that speaks to Vault lives.
    pub(super) fn beat(&self) {
        self.state().beat = Instant::now();
    }

    pub(super) fn set(&self, standing: Standing) {
        self.state().standing = standing;
    }
}

impl State {
    /// Counts what has changed.
    fn settle(&mut self) {
        let digest = self.document.digest();
        if std::mem::replace(&mut self.digest, digest) != digest {
            self.version += 1;
        }
    }

    /// Takes note of uses; those that are the first of a credential.
    pub(super) fn note(&mut self, uses: &[Use]) -> Vec<Use> {
        let unconfirmed = |used: &&Use| {
            let all = self.document.set.peers().flat_map(|peer| &peer.credentials);
            all.filter(|one| one.uid == used.uid).any(|one| one.confirmed.is_none())
        };
        let first: Vec<Use> = uses.iter().filter(unconfirmed).copied().collect();
        self.document.set.note(uses);
        self.settle();
        first
    }

    pub(super) const fn is_current(&self) -> bool {
        matches!(self.standing, Standing::Current)
    }

    /// What has been ended here, and Vault may not know yet.
    pub(super) fn ended(&self) -> &[EndedHere] {
        &self.ended
    }

    /// The number of the state that is in effect, if anything may be.
    pub(super) fn version(&self, place: &Place) -> Result<u64, StoreError> {
        // Without the thread nothing would ever change.
        if self.beat.elapsed() > self.silence {
            return Err(VaultError::Gone.into());
        }
        match &self.standing {
            Standing::Current => Ok(self.version),
            Standing::Refused(error) => Err(error.clone().into()),
            Standing::Copy(error, age) => {
                let seconds = age.seconds();
                if seconds < place.max_stale {
                    return Ok(self.version);
                }
                let error = Box::new(error.clone());
                Err(VaultError::TooOld { error, age: seconds, max: place.max_stale }.into())
            }
        }
    }

    pub(super) fn stale(&self, place: &Place) -> Option<Stale> {
        let Standing::Copy(error, age) = &self.standing else { return None };
        Some(Stale { since: age.kept, age: age.seconds(), max: place.max_stale, reason: error.reason() })
    }
}

/// Says which of those that have come are damaged.
fn complain(now: &[EndedHere], before: &[EndedHere]) {
    for one in now.iter().filter(|one| one.said.is_none() && !before.contains(one)) {
        tracing::error!(
            "ended on this node: {one}; see to the disk, and look whom it was (`countersign status`)"
        );
    }
}

/// Adds to Vault's document what this service knows by itself: that a peer has a credential, and what was ended here.
pub(super) fn localize(
    document: &mut Document,
    local: &SqliteStore,
    ended: &[EndedHere],
) -> Result<(), StoreError> {
    let known = local.known_elsewhere()?;
    document.set.complete(|credential| {
        if let Some(known) = known.get(&credential.uid) {
            known.complete(credential);
        }
    });
    for one in ended {
        one.apply(document);
    }
    Ok(())
}

/// Keys that can be lent out while newer ones come: a document that is made anew has another one. They are few.
struct Lookups {
    key: LookupKey,
    next: OnceLock<Box<Self>>,
}

impl Lookups {
    const fn new(key: LookupKey) -> Self {
        Self { key, next: OnceLock::new() }
    }

    fn last(&self) -> &LookupKey {
        let mut at = self;
        while let Some(next) = at.next.get() {
            at = next;
        }
        &at.key
    }

    fn push(&self, key: LookupKey) {
        let mut at = self;
        let mut new = Box::new(Self::new(key));
        while let Err(back) = at.next.set(new) {
            let Some(next) = at.next.get() else { return };
            (at, new) = (next, back);
        }
    }
}

#[cfg(test)]
mod tests {
    use zeroize::Zeroizing;

    use super::*;

    #[test]
    fn without_the_thread_that_speaks_to_vault_nobody_is_let_in() {
        let place = Place {
            service: "orders".parse().unwrap(),
            mount: "secret".parse().unwrap(),
            prefix: "countersign".parse().unwrap(),
            max_stale: 60,
        };
        let of = |silence| Shared::new(Document::new(Zeroizing::new([1; 32])), Standing::Current, silence);
        assert!(of(Duration::from_secs(60)).state().version(&place).is_ok());
        let dead = of(Duration::ZERO);
        std::thread::sleep(Duration::from_millis(1));
        assert!(dead.state().version(&place).is_err());
    }

    #[test]
    fn a_key_that_is_lent_out_stays_while_newer_ones_come() {
        let key = |byte| LookupKey::new(&Zeroizing::new([byte; 32]));
        let lookups = Lookups::new(key(1));
        let first = lookups.last();
        for byte in 2..5 {
            lookups.push(key(byte));
            assert_eq!(lookups.last().hash("x"), key(byte).hash("x"));
        }
        assert_eq!(first.hash("x"), key(1).hash("x"));
    }
}
