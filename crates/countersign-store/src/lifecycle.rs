//! How a credential comes, overlaps with its successor, and ends. Pure: every store keeps what this decides.
//!
//! A peer has one credential, or two while a rotation goes on. The older one is accepted until the peer has shown
//! that it has the newer one **and** the grace period is over, or until a deadline that the operator has stated.
//! That is decided from stored data and the time at every verification, not by whoever tidies up.

use countersign_protocol::UnixTime;
use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::lookup::{LookupHash, LookupKey};

use crate::{Basis, Credential, Keys, NewKeys, Peer, StoreError};

/// How often a peer's credential is to be rotated unless it is set otherwise: 90 days, in seconds.
pub const DEFAULT_ROTATE_EVERY: u64 = 90 * 24 * 60 * 60;

/// A peer has several processes, and not all of them change over in the same second: after the first use of the new
/// credential the old one lives on for as long as the grace period, but not longer than this, in seconds.
const MAX_LINGER: u64 = 60 * 60;

/// For how long a credential is accepted beside its successor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Overlap {
    /// When the successor was made.
    pub since: UnixTime,
    /// Until then both are accepted in any case (but for the deadline).
    pub grace_ends: UnixTime,
    /// From then on the older one is refused even if the peer has never used the newer one.
    pub deadline: Option<UnixTime>,
}

impl Overlap {
    /// An overlap from `now` on, of `grace` seconds at least; if a `deadline` is given, in seconds from `now`, of so
    /// many at most.
    #[must_use]
    pub fn new(now: UnixTime, grace: u64, deadline: Option<u64>) -> Self {
        Self { since: now, grace_ends: now.plus(grace), deadline: deadline.map(|seconds| now.plus(seconds)) }
    }

    /// From when on the older credential is refused; `None` as long as that depends on the peer. `confirmed` is when
    /// the peer first used the newer one.
    #[must_use]
    pub fn ends(&self, confirmed: Option<UnixTime>) -> Option<UnixTime> {
        let linger = self.grace_ends.since(self.since).min(MAX_LINGER);
        let done = confirmed.map(|at| at.plus(linger).max(self.grace_ends));
        match (done, self.deadline) {
            (Some(done), Some(deadline)) => Some(done.min(deadline)),
            (done, deadline) => done.or(deadline),
        }
    }
}

/// How a credential ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ending {
    /// Its successor took over.
    Retired,
    /// It was made and never put to use: the rotation was called off.
    Abandoned,
    /// It was agreed on in band and never confirmed. Of a peer the last such one is remembered.
    GivenUp,
    /// An operator ended it.
    Revoked,
    /// An operator ended it because somebody else may have it: whoever comes with it is an alarm.
    Compromised,
}

impl Ending {
    /// As it is stored and shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Retired => "retired",
            Self::Abandoned => "abandoned",
            Self::GivenUp => "given-up",
            Self::Revoked => "revoked",
            Self::Compromised => "compromised",
        }
    }

    /// Whether the other side may never have had such a credential.
    #[must_use]
    pub const fn was_never_common(self) -> bool {
        matches!(self, Self::Abandoned | Self::GivenUp)
    }

    /// The reverse of [`Ending::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::Retired, Self::Abandoned, Self::GivenUp, Self::Revoked, Self::Compromised]
            .into_iter()
            .find(|ending| ending.as_str() == text)
    }
}

/// What is left of a credential that has ended: no key and no secret, only what it takes to recognise it.
#[derive(Clone, Debug)]
pub struct Ended {
    /// Its number.
    pub number: u32,
    /// When it was added.
    pub created: UnixTime,
    /// When it ended.
    pub ended: UnixTime,
    /// How.
    pub how: Ending,
    /// What operators have compared.
    pub fingerprint: Fingerprint,
    /// The keyed hash of the API key that the peer presented to us, if it had one.
    pub presented: Option<LookupHash>,
    /// The keyed hashes of all its keys and secrets: none of them may come back.
    pub hashes: Vec<LookupHash>,
}

/// Which credentials of a peer are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Which {
    /// All that live.
    All,
    /// The one with this number.
    Number(u32),
}

/// That a credential was used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Use {
    /// [`Credential::uid`].
    pub uid: [u8; 16],
    /// By whom.
    pub direction: UseDirection,
    /// When.
    pub at: UnixTime,
}

/// Who used a credential.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UseDirection {
    /// The peer, to authenticate to us.
    Inbound,
    /// We, to authenticate to the peer, which accepted it.
    Outbound,
}

/// Where a peer's rotation stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rotation {
    /// None goes on.
    Idle,
    /// The next credential is there and the peer has not used it yet.
    Waiting {
        /// Until then both are accepted in any case.
        grace_ends: UnixTime,
        /// When the old one ends all the same.
        deadline: Option<UnixTime>,
    },
    /// The peer has used the next one; the old one ends then.
    Confirmed {
        /// When the old one is refused.
        ends: UnixTime,
    },
}

/// The next credential of a peer.
#[derive(Clone, Debug)]
pub struct Next {
    /// Its keys, of the peer's profile.
    pub keys: NewKeys,
    /// How long the present one stays good.
    pub overlap: Overlap,
    /// Whether the peer is known to have it, because it made it.
    pub confirmed: bool,
    /// What it was found to follow, if somebody has looked: the store takes it only while that is so. A `revoke` in
    /// between changes who may say what comes next.
    pub follows: Option<Basis>,
}

impl Which {
    const fn means(self, number: u32) -> bool {
        match self {
            Self::All => true,
            Self::Number(one) => one == number,
        }
    }
}

impl Keys {
    /// The keyed hash of the API key that the peer presents to us.
    pub(crate) fn presented(&self, lookup: &LookupKey) -> Option<LookupHash> {
        match self {
            Self::Cs1 { their_key, .. } | Self::SharedSecret { their_key, .. } => {
                Some(lookup.hash(their_key.expose()))
            }
            Self::ApiKey { theirs, .. } => *theirs,
        }
    }
}

impl Peer {
    /// From when on this credential of the peer is refused; `None` while nothing ends it.
    #[must_use]
    pub fn ends(&self, credential: &Credential) -> Option<UnixTime> {
        let successor = self.credentials.iter().find(|other| other.number > credential.number)?;
        credential.overlap?.ends(successor.confirmed)
    }

    /// The credentials that are good now, oldest first.
    pub fn accepted(&self, now: UnixTime) -> impl Iterator<Item = &Credential> {
        self.credentials.iter().filter(move |credential| self.ends(credential).is_none_or(|end| now < end))
    }

    /// With what we authenticate to the peer, the best choice first. A new credential goes first only once it is
    /// known that the peer has it.
    #[must_use]
    pub fn sending(&self, now: UnixTime) -> Vec<&Credential> {
        let mut choices: Vec<_> = self.accepted(now).collect();
        if let Some(agreed) = self.sending_in_band(&choices) {
            return agreed;
        }
        if choices.last().is_some_and(|newest| newest.confirmed.is_some()) {
            choices.reverse();
        }
        choices
    }

    /// Where its rotation stands.
    #[must_use]
    pub fn rotation(&self, now: UnixTime) -> Rotation {
        let mut live = self.accepted(now);
        let (Some(old), Some(new)) = (live.next(), live.next()) else { return Rotation::Idle };
        let Some(overlap) = old.overlap else { return Rotation::Idle };
        match (new.confirmed, self.ends(old)) {
            (Some(_), Some(ends)) => Rotation::Confirmed { ends },
            _ => Rotation::Waiting { grace_ends: overlap.grace_ends, deadline: overlap.deadline },
        }
    }

    /// When its newest credential is to be rotated; `None` if it has no schedule, or no credential.
    #[must_use]
    pub fn due(&self) -> Option<UnixTime> {
        Some(self.credentials.last()?.created.plus(self.rotate_every?))
    }

    /// When its newest credential is to be rotated in band: a little before it is due, up to a tenth of the time, so that not all
    /// of them come at once and nobody has to be reminded.
    #[must_use]
    pub fn due_in_band(&self) -> Option<UnixTime> {
        let (newest, every) = (self.credentials.last()?, self.rotate_every?);
        let [byte, ..] = newest.uid;
        let early = (every / 10).saturating_mul(u64::from(byte)) / 255;
        Some(newest.created.plus(every.saturating_sub(early)))
    }

    /// From when on somebody should see to it: when the rotation is due, or, if one has been waiting for the peer, when
    /// its grace period is over.
    #[must_use]
    pub fn overdue_from(&self) -> Option<UnixTime> {
        match self.credentials.as_slice() {
            [old, new] if new.confirmed.is_none() => old.overlap.map(|overlap| overlap.grace_ends),
            _ => self.due(),
        }
    }

    /// Whether somebody should see to it now.
    #[must_use]
    pub fn is_overdue(&self, now: UnixTime) -> bool {
        self.overdue_from().is_some_and(|from| from <= now)
    }

    /// Adds the next credential, and gives the hashes of its keys and secrets that are new here: no other peer may
    /// have them.
    pub(crate) fn rotate(
        &mut self,
        next: Next,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Vec<LookupHash>, StoreError> {
        let Next { keys, overlap, confirmed, follows } = next;
        if follows.is_some_and(|basis| basis != self.basis(now)) {
            return Err(StoreError::ChangedMeanwhile(self.name.clone()));
        }
        self.settle(now, lookup);
        if keys.profile() != self.profile {
            return Err(StoreError::OtherProfile { peer: self.name.clone(), profile: self.profile });
        }
        let (fingerprint, keys) = (keys.fingerprint(), keys.into_keys(lookup));
        let hashes = self.new_hashes(&keys, lookup)?;
        match self.credentials.as_mut_slice() {
            [] => {}
            [one] => one.overlap = Some(overlap),
            _ => return Err(StoreError::RotationOpen(self.name.clone())),
        }
        let mut credential = Credential::new(self.next_number(), now, fingerprint, keys);
        credential.confirmed = confirmed.then_some(now);
        self.credentials.push(credential);
        self.tidy_agreement();
        Ok(hashes)
    }

    /// Nothing of an earlier credential may come back, but for the API keys of the one that is in use now: a
    /// stranger's code may be able to change its secret only.
    fn new_hashes(&self, keys: &Keys, lookup: &LookupKey) -> Result<Vec<LookupHash>, StoreError> {
        let now = self.credentials.last().and_then(|one| one.keys.public());
        let kept = match (now, keys.public()) {
            (Some((our_key, their_key)), Some((our_next, their_next))) => {
                let pairs = [(our_key, our_next), (their_key, their_next)];
                let same = pairs.into_iter().filter(|(now, next)| now == next);
                same.map(|(key, _)| lookup.hash(key.expose())).collect()
            }
            _ => Vec::new(),
        };
        let mut hashes = keys.hashes(lookup);
        hashes.retain(|hash| !kept.contains(hash));
        let live = self.credentials.iter().flat_map(|one| one.keys.hashes(lookup));
        let mut earlier = live.chain(self.ended.iter().flat_map(|one| one.hashes.iter().copied()));
        if earlier.any(|hash| hashes.contains(&hash)) {
            return Err(StoreError::KeyReused(self.name.clone()));
        }
        Ok(hashes)
    }

    /// Ends credentials. One that is left alone is as if it had never had a successor, unless its time was over
    /// already: that one ends as well, and does not come back.
    pub(crate) fn end(
        &mut self,
        which: Which,
        how: Ending,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Vec<u32>, StoreError> {
        self.end_later(which, how, now, now, lookup)
    }

    /// Ends, at `now`, what was meant to end at `at`.
    pub(crate) fn end_later(
        &mut self,
        which: Which,
        how: Ending,
        at: UnixTime,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Vec<u32>, StoreError> {
        // Seen before anything is taken away: the end of one depends on its successor.
        let over = self.over(now.max(at));
        let numbers = self.retire(|number| which.means(number), how, at, lookup);
        self.retire(|number| over.contains(&number), Ending::Retired, now.max(at), lookup);
        self.leave_alone();
        self.tidy_agreement();
        if how == Ending::GivenUp {
            // Its keys were random and nobody used them: only its number is not to come again, which the last one sees to.
            self.ended.retain(|one| one.how != Ending::GivenUp || numbers.contains(&one.number));
        }
        if !numbers.is_empty() {
            return Ok(numbers);
        }
        // One that has ended cannot end again, but that somebody else had it can become known later.
        let marked = if how == Ending::Compromised { self.mark_compromised(which) } else { Vec::new() };
        if marked.is_empty() { Err(self.nothing_to_end(which)) } else { Ok(marked) }
    }

    /// The numbers of those whose time is over.
    fn over(&self, now: UnixTime) -> Vec<u32> {
        let over = |credential: &&Credential| self.ends(credential).is_some_and(|end| end <= now);
        self.credentials.iter().filter(over).map(|credential| credential.number).collect()
    }

    /// Leaves of some credentials what it takes to recognise them; their numbers.
    fn retire(
        &mut self,
        meant: impl Fn(u32) -> bool,
        how: Ending,
        at: UnixTime,
        lookup: &LookupKey,
    ) -> Vec<u32> {
        let (ending, staying): (Vec<_>, Vec<_>) =
            self.credentials.drain(..).partition(|credential| meant(credential.number));
        self.credentials = staying;
        let numbers = ending.iter().map(|credential| credential.number).collect();
        self.ended.extend(ending.into_iter().map(|credential| Ended {
            number: credential.number,
            created: credential.created,
            ended: at,
            how,
            presented: credential.keys.presented(lookup),
            hashes: credential.keys.hashes(lookup),
            fingerprint: credential.fingerprint,
        }));
        self.ended.sort_by_key(|ended| ended.number);
        numbers
    }

    /// One that is left alone has no successor.
    fn leave_alone(&mut self) {
        if let [one] = self.credentials.as_mut_slice() {
            one.overlap = None;
        }
    }

    /// Marks the one with that number, however it ended; of all, those that were revoked: who retired long ago is no
    /// alarm because something is said of the peer as a whole.
    fn mark_compromised(&mut self, which: Which) -> Vec<u32> {
        let meant = |ended: &&mut Ended| match which {
            Which::All => ended.how == Ending::Revoked,
            Which::Number(number) => ended.number == number,
        };
        let marked = self.ended.iter_mut().filter(meant);
        marked
            .map(|ended| {
                ended.how = Ending::Compromised;
                ended.number
            })
            .collect()
    }

    fn nothing_to_end(&self, which: Which) -> StoreError {
        match which {
            Which::All => StoreError::NothingLive(self.name.clone()),
            Which::Number(number) => StoreError::NoCredential { peer: self.name.clone(), number },
        }
    }

    /// Retires what is refused already.
    pub(crate) fn settle(&mut self, now: UnixTime, lookup: &LookupKey) -> Vec<u32> {
        let over = self.over(now);
        let retired = self.retire(|number| over.contains(&number), Ending::Retired, now, lookup);
        self.leave_alone();
        self.tidy_agreement();
        retired
    }

    /// The hashes of all keys and secrets that it has, and had.
    pub(crate) fn all_hashes(&self, lookup: &LookupKey) -> Vec<LookupHash> {
        let live = self.credentials.iter().flat_map(|one| one.keys.hashes(lookup));
        live.chain(self.ended.iter().flat_map(|one| one.hashes.iter().copied())).collect()
    }

    /// Whether this is a use of one of its live credentials.
    #[cfg(feature = "sqlite")]
    pub(crate) fn has(&self, used: &Use) -> bool {
        self.credentials.iter().any(|one| one.uid == used.uid)
    }

    /// Takes note of a use; `true` if it was the peer's first sign that it has this credential.
    pub(crate) fn note(&mut self, used: &Use) -> bool {
        let Some(credential) = self.credentials.iter_mut().find(|one| one.uid == used.uid) else {
            return false;
        };
        let last = match used.direction {
            UseDirection::Inbound => &mut credential.used_inbound,
            UseDirection::Outbound => &mut credential.used_outbound,
        };
        *last = (*last).max(Some(used.at));
        let news = credential.confirmed.is_none();
        if !news || !self.shows_in_band(&used.uid, used.direction) {
            return false;
        }
        if let Some(credential) = self.credentials.iter_mut().find(|one| one.uid == used.uid) {
            credential.confirmed = Some(used.at);
        }
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const START: UnixTime = UnixTime(1_000_000);

    #[test]
    fn the_old_one_waits_for_the_peer_and_for_the_end_of_grace() {
        let overlap = Overlap::new(START, 600, None);
        assert_eq!(overlap.ends(None), None, "never before the peer has the new one");
        assert_eq!(overlap.ends(Some(START.plus(1))), Some(START.plus(601)));
        assert_eq!(overlap.ends(Some(START.plus(5_000))), Some(START.plus(5_600)));
        let long = Overlap::new(START, 90_000, None);
        assert_eq!(long.ends(Some(START.plus(1))), Some(START.plus(90_000)));
        assert_eq!(long.ends(Some(START.plus(100_000))), Some(START.plus(103_600)));
    }

    #[test]
    fn a_deadline_ends_it_whatever_the_peer_does() {
        let overlap = Overlap::new(START, 600, Some(900));
        assert_eq!(overlap.ends(None), Some(START.plus(900)));
        assert_eq!(overlap.ends(Some(START)), Some(START.plus(600)));
        assert_eq!(overlap.ends(Some(START.plus(800))), Some(START.plus(900)));
    }

    #[test]
    fn without_grace_the_first_use_of_the_new_one_ends_the_old_one() {
        let overlap = Overlap::new(START, 0, None);
        assert_eq!(overlap.ends(Some(START.plus(7))), Some(START.plus(7)));
    }

    #[test]
    fn endings_are_read_as_they_are_written() {
        let all = [Ending::Retired, Ending::Abandoned, Ending::GivenUp, Ending::Revoked, Ending::Compromised];
        for ending in all {
            assert_eq!(Ending::parse(ending.as_str()), Some(ending));
        }
        assert_eq!(Ending::parse("else"), None);
    }
}
