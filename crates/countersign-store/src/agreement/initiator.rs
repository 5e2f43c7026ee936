//! The moves of who begins.

use countersign_protocol::UnixTime;
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::rotation::{Answer, MAX_RID, Names, NotAgreed, Outcome, Proposal, Rights, Ruling};

use super::{Change, MoveError, Moved, OurStep, Ours};
use crate::lifecycle::{Ending, Next, Overlap, Which};
use crate::{Credential, Keys, NewKeys, Peer, StoreError};

/// The keys of a credential that we begin with: we are the initiator of this direction.
pub(super) fn rights(credential: &Credential) -> Option<(Names, Rights)> {
    let Keys::Cs1 { our_key, their_key, secret } = &credential.keys else { return None };
    let names = Names { initiator: our_key.clone(), responder: their_key.clone() };
    Some((names, Rights::derive(secret, our_key, their_key)))
}

impl Peer {
    pub(super) fn credential(&self, uid: &[u8; 16]) -> Option<&Credential> {
        self.credentials.iter().find(|one| one.uid == *uid)
    }

    /// PROPOSED, if nothing else is open.
    pub(super) fn propose(
        &mut self,
        nonce: [u8; 32],
        private: &zeroize::Zeroizing<[u8; 32]>,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Moved, StoreError> {
        self.settle(now, lookup);
        if self.agreement.ours.is_none() {
            let old = match self.credentials.as_slice() {
                [] => return Err(MoveError::NothingLive.into()),
                [one] => one.uid,
                _ => return Err(MoveError::Busy.into()),
            };
            let rid = self.agreement.last_ours.saturating_add(1).max(now.0.min(MAX_RID));
            if rid > MAX_RID {
                return Err(MoveError::NoNumber.into());
            }
            let at = OurStep::Proposed { nonce, private: private.clone() };
            self.agreement.last_ours = rid;
            self.agreement.ours = Some(Ours { rid, old, since: now.0, at });
        }
        self.outgoing().map(Moved::Send).ok_or_else(|| MoveError::Unknown.into())
    }

    /// Nothing, in the place of PROPOSED.
    pub(super) fn withdraw(&mut self, rid: u64, last: Option<u64>) -> Moved {
        let is_it = |ours: &Ours| ours.rid == rid && matches!(ours.at, OurStep::Proposed { .. });
        if self.agreement.ours.as_ref().is_some_and(is_it) {
            self.agreement.ours = None;
            self.agreement.last_ours = self.agreement.last_ours.max(last.unwrap_or(0).min(MAX_RID - 1));
        }
        Moved::Nothing
    }

    /// READY, if the answer is right.
    pub(super) fn receive(
        &mut self,
        answer: &Answer,
        grace: u64,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Change, StoreError> {
        let ours = self.agreement.ours.clone().ok_or(MoveError::Unknown)?;
        let OurStep::Proposed { nonce, private } = ours.at else {
            return Err(MoveError::Unknown.into());
        };
        let old = self.credential(&ours.old).ok_or(MoveError::Unknown)?;
        let (names, rights) = rights(old).ok_or(MoveError::NotCs1)?;
        let proposal = Proposal::new(names, ours.rid, nonce, private);
        let agreed = proposal.receive(&rights, answer).map_err(|wrong| match wrong {
            NotAgreed::OtherRotation => MoveError::Unknown,
            NotAgreed::ZeroShare => MoveError::ZeroShare,
            _ => MoveError::Proof,
        })?;
        let pair = agreed.into_pair();
        let keys = NewKeys::cs1(pair.initiator, pair.responder, pair.secret).map_err(|_| MoveError::Proof)?;
        let (new, hashes) = self.take_next(keys, grace, now, lookup)?;
        self.agreement.ours = Some(Ours { at: OurStep::Ready { new }, since: now.0, ..ours });
        let message = self.outgoing().ok_or(MoveError::Unknown)?;
        Ok((Moved::Send(message), hashes))
    }

    /// CURRENT, or the old one alone.
    pub(super) fn conclude(
        &mut self,
        ruling: &Ruling,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Moved, StoreError> {
        let ours =
            self.agreement.ours.as_ref().filter(|ours| ours.rid == ruling.rid).ok_or(MoveError::Unknown)?;
        let OurStep::Ready { new } = ours.at else { return Err(MoveError::Unknown.into()) };
        let uid = match ruling.outcome {
            Outcome::Done => new,
            Outcome::Aborted => ours.old,
        };
        let (_, rights) = self.credential(&uid).and_then(rights).ok_or(MoveError::Unknown)?;
        if !rights.made(ruling) {
            return Err(MoveError::Proof.into());
        }
        self.agreement.ours = None;
        let new = self.credentials.iter_mut().find(|one| one.uid == new).ok_or(MoveError::Unknown)?;
        let number = new.number;
        match ruling.outcome {
            Outcome::Done => {
                // It has accepted it from us: with that there is no way back.
                (new.confirmed, new.used_outbound) = (Some(now), Some(now));
                Ok(Moved::Done(number))
            }
            Outcome::Aborted => {
                self.end(Which::Number(number), Ending::GivenUp, now, lookup)?;
                Ok(Moved::Aborted)
            }
        }
    }

    /// Adds the next credential, which nobody is known to have.
    pub(super) fn take_next(
        &mut self,
        keys: NewKeys,
        grace: u64,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<([u8; 16], Vec<countersign_protocol::lookup::LookupHash>), StoreError> {
        let overlap = Overlap::new(now, grace, None);
        let hashes = self.rotate(Next { keys, overlap, confirmed: false, follows: None }, now, lookup)?;
        let new = self.credentials.last().map(|one| one.uid).ok_or(MoveError::NothingLive)?;
        self.agreement.wanted = None;
        Ok((new, hashes))
    }
}
