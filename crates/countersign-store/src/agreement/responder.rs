//! The moves of who answers.

use countersign_protocol::UnixTime;
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::mac::Tag;
use countersign_protocol::rotation::responder;
use countersign_protocol::rotation::{Answer, Confirm, Names, Outcome, Propose, Rights};
use zeroize::Zeroizing;

use super::{Answered, Change, MoveError, Moved, OurStep, Said, TheirStep, Theirs};
use crate::lifecycle::{Ending, Which};
use crate::{Credential, Keys, NewKeys, Peer, StoreError};

/// The keys of a credential that the peer begins with: we are the responder of this direction.
fn rights(credential: &Credential) -> Option<(Names, Rights)> {
    let Keys::Cs1 { our_key, their_key, secret } = &credential.keys else { return None };
    let names = Names { initiator: their_key.clone(), responder: our_key.clone() };
    Some((names, Rights::derive(secret, their_key, our_key)))
}

impl Peer {
    /// PENDING, if it can be; the answer again, if it is that already.
    pub(super) fn answer(
        &mut self,
        propose: &Propose,
        signer: &[u8; 16],
        (nonce, private): ([u8; 32], &Zeroizing<[u8; 32]>),
        (grace, supersede_after): (u64, u64),
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Change, StoreError> {
        self.settle(now, lookup);
        let old = self.credential(signer).ok_or(MoveError::NotTheSigner)?;
        let (names, rights) = rights(old).ok_or(MoveError::NotCs1)?;
        if names != propose.names {
            return Err(MoveError::NotTheSigner.into());
        }
        let last = self.agreement.last_theirs;
        if let Some(open) = &self.agreement.theirs
            && open.rid == propose.rid
            && let TheirStep::Pending { asked, answer, .. } | TheirStep::Current { asked, answer, .. } =
                &open.at
            && *asked == Said::of(propose)
            && open.old == *signer
        {
            return Ok((Moved::Answer(answer.message(open.rid)), Vec::new()));
        }
        if propose.rid <= last {
            return Err(MoveError::Over { last }.into());
        }
        match self.agreement.ours.as_ref().map(|ours| &ours.at) {
            Some(OurStep::Ready { .. }) => return Err(MoveError::Busy.into()),
            // RO-3: the lesser key goes on.
            Some(OurStep::Proposed { .. })
                if names.responder.expose().as_bytes() < names.initiator.expose().as_bytes()
                    && !self.is_stale(supersede_after, now) =>
            {
                return Err(MoveError::Busy.into());
            }
            // Forgetting what only we know is safe at any time (RO-9).
            Some(OurStep::Proposed { .. }) => self.agreement.ours = None,
            None => {}
        }
        // Whoever begins another one has forgotten this one (RO-12).
        self.give_up(supersede_after, now, lookup)?;
        match self.credentials.as_slice() {
            [one] if one.uid == *signer => {}
            [_] => return Err(MoveError::NotTheSigner.into()),
            _ => return Err(MoveError::Busy.into()),
        }
        let done = responder::answer(&rights, propose, nonce, private).map_err(|_| MoveError::ZeroShare)?;
        let keys = NewKeys::cs1(done.next.responder, done.next.initiator, done.next.secret)
            .map_err(|_| MoveError::Proof)?;
        let (new, hashes) = self.take_next(keys, grace, now, lookup)?;
        let at = TheirStep::Pending { new, asked: Said::of(propose), answer: Answered::of(&done.answer) };
        self.agreement.last_theirs = propose.rid;
        self.agreement.theirs = Some(Theirs { rid: propose.rid, old: *signer, since: now.0, at });
        Ok((Moved::Answer(done.answer), hashes))
    }

    /// CURRENT, or the tombstone's word.
    pub(super) fn confirm(&mut self, confirm: &Confirm) -> Result<Moved, StoreError> {
        let open =
            self.agreement.theirs.clone().filter(|open| open.rid == confirm.rid).ok_or(MoveError::Unknown)?;
        // The old one may be gone, ended by an operator or by its time. Then the new proof alone says who asks.
        let old_rights = match self.credential(&open.old) {
            None => None,
            Some(old) => {
                let (names, old_rights) = rights(old).ok_or(MoveError::NotCs1)?;
                if names != confirm.names {
                    return Err(MoveError::Unknown.into());
                }
                Some(old_rights)
            }
        };
        match open.at {
            TheirStep::Pending { new, asked, answer } | TheirStep::Current { new, asked, answer } => {
                let (_, new_rights) = self.credential(&new).and_then(rights).ok_or(MoveError::Unknown)?;
                if !responder::shows_new(&new_rights, confirm) {
                    return Err(MoveError::Proof.into());
                }
                let at = TheirStep::Current { new, asked, answer };
                self.agreement.theirs = Some(Theirs { at, ..open });
                Ok(Moved::Ruling(new_rights.ruling(confirm.rid, Outcome::Done)))
            }
            TheirStep::Over => {
                let old_rights = old_rights.filter(|rights| responder::shows_old(rights, confirm));
                let old_rights = old_rights.ok_or(MoveError::Proof)?;
                Ok(Moved::Ruling(old_rights.ruling(confirm.rid, Outcome::Aborted)))
            }
        }
    }

    /// The tombstone, in the place of PENDING, once it has waited for so long.
    pub(super) fn give_up(
        &mut self,
        after: u64,
        now: UnixTime,
        lookup: &LookupKey,
    ) -> Result<Moved, StoreError> {
        if self.agreement.theirs.as_ref().is_some_and(|open| is_over(open.since, after, now)) {
            self.abandon_pending(now, lookup)?;
        }
        Ok(Moved::Nothing)
    }

    fn abandon_pending(&mut self, now: UnixTime, lookup: &LookupKey) -> Result<(), StoreError> {
        let Some(open) = self.agreement.theirs.clone() else { return Ok(()) };
        let TheirStep::Pending { new, .. } = open.at else { return Ok(()) };
        let Some(number) = self.credential(&new).map(|one| one.number) else { return Ok(()) };
        self.agreement.theirs = Some(Theirs { at: TheirStep::Over, ..open });
        self.end(Which::Number(number), Ending::GivenUp, now, lookup)?;
        Ok(())
    }

    /// Whether a proposal of ours has had no answer for so long: the peer may not be reachable from here, and we from there.
    fn is_stale(&self, after: u64, now: UnixTime) -> bool {
        self.agreement.ours.as_ref().is_some_and(|ours| is_over(ours.since, after, now))
    }
}

/// Whether so many seconds have passed. A clock that was set back says nothing about that; giving up is safe then.
fn is_over(since: u64, after: u64, now: UnixTime) -> bool {
    now.0.checked_sub(since).is_none_or(|age| age >= after)
}

impl Said {
    const fn of(propose: &Propose) -> Self {
        Self { nonce: propose.nonce, share: propose.share }
    }
}

impl Answered {
    const fn of(answer: &Answer) -> Self {
        let said = Said { nonce: answer.nonce, share: answer.share };
        Self { said, proof: *answer.proof.as_bytes() }
    }

    const fn message(&self, rid: u64) -> Answer {
        let Said { nonce, share } = self.said;
        Answer { rid, nonce, share, proof: Tag::from_bytes(self.proof) }
    }
}
