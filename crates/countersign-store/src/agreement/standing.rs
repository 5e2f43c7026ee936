//! What a rotation means for what is sent, and how it stands.

use countersign_protocol::UnixTime;
use countersign_protocol::rotation::{Confirm, Proposal, Propose};

use super::{OurStep, TheirStep, initiator};
use crate::lifecycle::UseDirection;
use crate::{Credential, Peer};

/// What who has begun a rotation repeats until it is answered.
#[derive(Clone, Debug)]
pub enum Message {
    /// R1, to be signed.
    Propose(Propose),
    /// R3, not to be signed.
    Confirm(Confirm),
}

impl Message {
    /// The rotation's number.
    #[must_use]
    pub const fn rid(&self) -> u64 {
        match self {
            Self::Propose(propose) => propose.rid,
            Self::Confirm(confirm) => confirm.rid,
        }
    }
}

/// At which step a rotation in band is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// We have begun, and the peer has not answered yet.
    Proposed,
    /// We have the new credential, and the peer has not confirmed yet that it has it.
    Ready,
    /// We have answered, and the peer has not confirmed yet.
    Pending,
    /// The peer has confirmed, and has not used the new one yet.
    Current,
}

impl Step {
    /// As it is shown.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Proposed => "proposed",
            Self::Ready => "ready",
            Self::Pending => "pending",
            Self::Current => "current",
        }
    }
}

impl Peer {
    /// What is to be sent now, and again until it is answered.
    #[must_use]
    pub fn outgoing(&self) -> Option<Message> {
        let ours = self.agreement.ours.as_ref()?;
        let (names, old) = initiator::rights(self.credential(&ours.old)?)?;
        Some(match &ours.at {
            OurStep::Proposed { nonce, private } => {
                Message::Propose(Proposal::new(names, ours.rid, *nonce, private.clone()).message())
            }
            OurStep::Ready { new } => {
                let (_, new) = initiator::rights(self.credential(new)?)?;
                Message::Confirm(Confirm::new(names, ours.rid, &old, &new))
            }
        })
    }

    /// Whether a confirmation (R3) would be ruled on. Nothing changes: so that strangers cannot make a store write.
    #[must_use]
    pub fn would_rule(&self, confirm: &Confirm) -> bool {
        self.agreement.theirs.as_ref().is_some_and(|open| open.rid == confirm.rid)
            && self.clone().confirm(confirm).is_ok()
    }

    /// Whether there is anything that the peer could confirm.
    #[must_use]
    pub const fn has_answered(&self) -> bool {
        self.agreement.theirs.is_some()
    }

    /// At which step its rotation in band is, and since when; `None` if none goes on.
    #[must_use]
    pub fn step(&self) -> Option<(Step, UnixTime)> {
        let ours = self.agreement.ours.as_ref().map(|ours| {
            let step = match ours.at {
                OurStep::Proposed { .. } => Step::Proposed,
                OurStep::Ready { .. } => Step::Ready,
            };
            (step, UnixTime(ours.since))
        });
        let theirs = self.agreement.theirs.as_ref().and_then(|theirs| {
            let (step, new) = match &theirs.at {
                TheirStep::Pending { new, .. } => (Step::Pending, new),
                TheirStep::Current { new, .. } => (Step::Current, new),
                TheirStep::Over => return None,
            };
            let open = self.credential(new).is_some_and(|new| new.confirmed.is_none());
            open.then_some((step, UnixTime(theirs.since)))
        });
        ours.or(theirs)
    }

    /// Since when we want a rotation that the peer has to begin; `None` once there is a newer credential.
    #[must_use]
    pub fn wanted(&self) -> Option<UnixTime> {
        let newest = self.credentials.last()?;
        self.agreement.wanted.map(UnixTime).filter(|since| newest.created <= *since)
    }

    /// With what we authenticate while a rotation in band goes on; `None` if none says anything about it. The best choice first.
    pub(crate) fn sending_in_band<'a>(&'a self, accepted: &[&'a Credential]) -> Option<Vec<&'a Credential>> {
        let is = |uid: &[u8; 16]| {
            let uid = *uid;
            move |one: &&&Credential| one.uid == uid
        };
        let ours = self.agreement.ours.as_ref();
        let theirs = self.agreement.theirs.as_ref();
        let only = match (ours.map(|ours| (&ours.at, &ours.old)), theirs.map(|one| (&one.at, &one.old))) {
            // The peer may not have the new one, or may give it up.
            (Some((OurStep::Ready { .. }, old)), _) | (_, Some((TheirStep::Pending { .. }, old))) => {
                accepted.iter().find(is(old)).map(|old| vec![*old])
            }
            (_, Some((TheirStep::Current { new, .. }, old))) => {
                let both = [accepted.iter().find(is(new)), accepted.iter().find(is(old))];
                Some(both.into_iter().flatten().copied().collect())
            }
            _ => None,
        };
        only.filter(|choices: &Vec<_>| !choices.is_empty())
    }

    /// Adds to each credential what is known of it elsewhere; not that the peer has one that a rotation in band has just brought: that shows here.
    #[cfg(feature = "vault")]
    pub(crate) fn complete(&mut self, mut complete: impl FnMut(&mut Credential)) {
        let (ours, theirs) = (&self.agreement.ours, &self.agreement.theirs);
        let open = [
            ours.as_ref().and_then(|ours| match &ours.at {
                OurStep::Ready { new } => Some(new),
                OurStep::Proposed { .. } => None,
            }),
            theirs.as_ref().and_then(|theirs| match &theirs.at {
                TheirStep::Pending { new, .. } | TheirStep::Current { new, .. } => Some(new),
                TheirStep::Over => None,
            }),
        ];
        for credential in &mut self.credentials {
            let confirmed = credential.confirmed;
            complete(credential);
            if open.contains(&Some(&credential.uid)) {
                credential.confirmed = confirmed;
            }
        }
    }

    /// Takes a use of a credential that a rotation in band has brought; whether it shows that the peer has it, and so may be noted as that.
    pub(crate) fn shows_in_band(&mut self, uid: &[u8; 16], direction: UseDirection) -> bool {
        if let Some(ours) = &self.agreement.ours
            && matches!(&ours.at, OurStep::Ready { new } if new == uid)
        {
            // Nothing but the peer's word (RO-10).
            return false;
        }
        let Some(theirs) = &mut self.agreement.theirs else { return true };
        match (&theirs.at, direction) {
            (TheirStep::Pending { new, .. } | TheirStep::Current { new, .. }, UseDirection::Outbound)
                if new == uid =>
            {
                // That it is taken does not show that it is used (RO-14).
                false
            }
            (TheirStep::Pending { new, asked, answer }, UseDirection::Inbound) if new == uid => {
                // RO-13. Only who is through sends with it.
                theirs.at = TheirStep::Current { new: *new, asked: *asked, answer: *answer };
                true
            }
            _ => true,
        }
    }
}
