//! The next credential, made by the other side.

use std::str::FromStr;

use countersign::protocol::UnixTime;
use countersign::protocol::fingerprint::Fingerprint;
use countersign::store::exchange::MAX;
use countersign::store::{Basis, Ending, Exported, Next, Peer, StoreError};

use super::make::settle;
use super::{Times, newest, refuse_open, until};
use crate::args::RotateArgs;
use crate::change::{self, Change};
use crate::failure::{Context as _, Failure};
use crate::home::{Home, Stores};
use crate::secret_input::SecretSource;
use crate::show;

/// Decimal digits of a fingerprint.
const DIGITS: usize = 30;

/// A fingerprint as somebody has read it out.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct ReadOut(String);

impl FromStr for ReadOut {
    type Err = &'static str;

    /// In any groups: people read them out as they like.
    fn from_str(text: &str) -> Result<Self, &'static str> {
        let between = |c: char| c == ' ' || c == '-';
        let digits: String = text.chars().filter(|c| !between(*c)).collect();
        let good = digits.len() == DIGITS && digits.bytes().all(|byte| byte.is_ascii_digit());
        let wrong = "a fingerprint has 30 digits; put them in quotes, or write them without spaces";
        if good { Ok(Self(digits)) } else { Err(wrong) }
    }
}

impl ReadOut {
    /// Whether it is this one.
    pub(crate) fn is(&self, fingerprint: &Fingerprint) -> bool {
        fingerprint.as_str().parse().is_ok_and(|other: Self| other == *self)
    }
}

pub(super) fn take(
    home: &Home,
    stores: &Stores,
    args: &RotateArgs,
    source: &SecretSource,
    times: Times,
) -> Result<(), Failure> {
    // A wrong name is told before anything is read.
    stores.peers.get(&args.peer.name)?;
    let text = source.text("the other side's keys", MAX as u64)?;
    let exported = Exported::parse(&text).context(|| "the other side's keys".to_owned())?;
    let _lock = home.lock()?;
    let (peer, now) = (stores.peers.get(&args.peer.name)?, show::now());
    let basis = check(home, stores, &peer, &exported, args.fingerprint.as_ref(), now)?;
    let detail = format!(
        "{} made its keys, as its {}/{}; {}",
        exported.maker,
        exported.taker,
        exported.number,
        times.detail()
    );
    let next = Next {
        keys: exported.keys.exchanged(),
        overlap: times.overlap(now),
        // Whoever has made it has it.
        confirmed: true,
        // `revoke` waits for no lock.
        follows: Some(basis),
    };
    let peer = stores.peers.rotate(&peer.name, next, now)?;
    let (name, new) = (&peer.name, newest(&peer)?);
    let change = Change {
        credential: Some(new.id(name)),
        profile: Some(peer.profile),
        detail: Some(detail),
        ..Change::of("rotate", "rotation-taken", name)
    };
    let recorded = change::record(home, &stores.local, change);
    settle();
    let old = peer.accepted(now).find(|one| one.number < new.number);
    let old = old.map_or_else(String::new, |old| {
        format!("Both are accepted. {}: {}\n", old.id(name), until(&peer, old, now))
    });
    let told = show::done(&format!(
        "{} is the next credential of {name} (profile {}), taken in and used from now on\nfingerprint {}\n{old}\
         Remove the file. On the other side `countersign rotate … --check` tells when this service has used it.\n",
        new.id(name),
        peer.profile,
        new.fingerprint,
    ));
    Failure::both(told, recorded)
}

/// Whether these keys are meant for this peer, and new; what they follow, or what was there when the operators said that
/// they may.
fn check(
    home: &Home,
    stores: &Stores,
    peer: &Peer,
    exported: &Exported,
    read_out: Option<&ReadOut>,
    now: UnixTime,
) -> Result<Basis, Failure> {
    let name = &peer.name;
    if exported.keys.profile() != peer.profile {
        return Err(StoreError::OtherProfile { peer: name.clone(), profile: peer.profile }.into());
    }
    let fingerprint = exported.keys.fingerprint();
    let live = peer.credentials.iter().find(|one| one.fingerprint == fingerprint);
    if let Some(known) = live {
        return Err(Failure::new(format!(
            "these are the keys of {}, which is here already: either this side made them, and the file belongs on the other side, or they have been taken in before. Nothing was changed",
            known.id(name)
        )));
    }
    if let Some(known) = peer.ended.iter().find(|one| one.fingerprint == fingerprint) {
        return Err(Failure::new(format!(
            "these are the keys of {name}/{}, which has ended ({}) and does not come back. The other side has to make new ones: `countersign rotate …` there",
            known.number,
            known.how.as_str()
        )));
    }
    if peer.accepted(now).count() > 1 {
        refuse_open(home, peer, now).map_err(|failure| {
            Failure::new(format!(
                "{}. (If both sides have made new keys, one of them has to call it off and take in those of the other.)",
                failure.message()
            ))
        })?;
    }
    if read_out.is_some_and(|read_out| !read_out.is(&fingerprint)) {
        return Err(Failure::new(
            "the fingerprint that was given is not that of these keys: either it was misread, or they are not the ones that the other side made. Nothing was changed",
        ));
    }
    let basis = peer.basis(now);
    match &basis {
        Basis::Newest(newest) if *newest == exported.replaces => Ok(basis),
        Basis::Ended { fingerprint, how, .. } if *fingerprint == exported.replaces && !is_doubtful(*how) => {
            Ok(basis)
        }
        // Nothing here says who may follow: the operators do.
        Basis::Ended { .. } if read_out.is_some() => {
            refuse_others(stores, peer, exported, now)?;
            Ok(basis)
        }
        Basis::Ended { number, how, .. } if is_doubtful(*how) => {
            refuse_others(stores, peer, exported, now)?;
            Err(Failure::new(format!(
                "{name}/{number} has ended ({}), and whoever had it can make keys that follow it. Have the operator of {name} read out the fingerprint of the new keys, not on the channel on which they came, and give it: --fingerprint \"DIGITS\". Nothing was changed",
                how.as_str()
            )))
        }
        Basis::Newest(_) | Basis::Ended { .. } | Basis::Nothing => {
            refuse_others(stores, peer, exported, now)?;
            Err(Failure::new(format!(
                "these keys do not follow those that {name} has here; the two sides do not have the same keys now: compare fingerprints (`countersign status`). Nothing was changed"
            )))
        }
    }
}

/// Whether somebody else may have it.
const fn is_doubtful(how: Ending) -> bool {
    matches!(how, Ending::Revoked | Ending::Compromised)
}

/// Keys that follow those of another peer are told as such.
fn refuse_others(stores: &Stores, peer: &Peer, exported: &Exported, now: UnixTime) -> Result<(), Failure> {
    let others = stores.peers.read_all()?.peers;
    let follows = |other: &&Peer| match other.basis(now) {
        Basis::Newest(fingerprint) | Basis::Ended { fingerprint, .. } => fingerprint == exported.replaces,
        Basis::Nothing => false,
    };
    match others.iter().filter(|other| other.name != peer.name).find(follows) {
        Some(other) => Err(Failure::new(format!(
            "these keys do not follow those that {} has here; they are for {}. Nothing was changed",
            peer.name, other.name
        ))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use super::*;

    #[test]
    fn a_fingerprint_is_read_in_any_groups_and_is_that_one_only() {
        let fingerprint = Fingerprint::of("shared-secret", &[("key", "secret")]);
        let plain = fingerprint.as_str().replace(' ', "");
        let (front, back) = plain.split_at(13);
        for text in [
            fingerprint.as_str(),
            &plain,
            &fingerprint.as_str().replace(' ', "-"),
            &format!(" {front} {back} "),
        ] {
            assert!(text.parse::<ReadOut>().unwrap().is(&fingerprint), "{text}");
        }
        let other = Fingerprint::of("shared-secret", &[("key", "another")]);
        assert!(!other.as_str().parse::<ReadOut>().unwrap().is(&fingerprint));
        for wrong in ["", "1", front, &format!("{plain}1"), &plain.replacen(front, "١٢٣٤٥٦٧٨٩٠١٢٣", 1)]
        {
            assert!(wrong.parse::<ReadOut>().is_err(), "{wrong}");
        }
    }
}
