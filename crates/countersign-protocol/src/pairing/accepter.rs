//! The accepter's side (section 6), as typed states: each takes the answer it waits for and gives the next.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::message::{Conclusion, Confirm, Message, PATH, Share, Start};
use super::pake::{Context, Secret, Started, start as begin};
use super::schedule::{self, Hash, Pair, Role, Root};
use super::statement::{Statement, Terms};
use super::words::{Code, OfferId};
use super::{BadShare, Pin};
use crate::identity::ServiceName;
use crate::wire::reply::ReplyError;
use crate::wire::{Incoming, Outgoing};

/// What has to be random, anew for each exchange (PA-12).
pub struct Randomness {
    /// Names the exchange.
    pub session: [u8; 16],
    /// Gives the private scalar.
    pub scalar: Zeroizing<[u8; 64]>,
}

/// Why an accepter did not go on. Nothing is stored then.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PairingError {
    /// Not a 200.
    #[error(transparent)]
    Answer(#[from] ReplyError),
    /// Not P2 or P4.
    #[error(
        "the server's answer is not the one that this step of pairing gives; is it a Countersign service?"
    )]
    Form,
    /// Its share is none that can be used.
    #[error(transparent)]
    Share(#[from] BadShare),
    /// P4 is not confirmed under the words.
    #[error(
        "the other side did not prove that it has the words: nothing was stored here. Ask its operator whether his `pair offer` says that it is paired; if so he removes that peer again"
    )]
    Impostor,
    /// The TLS key that was seen is none of the offerer's.
    #[error(
        "the other side's TLS key is not the one that this connection showed: somebody stands in between, or a proxy ends TLS there (its operator names its key with `pair offer --tls-pin`); nothing was stored here"
    )]
    Misbound,
}

/// Begins with the words and the URL that is dialled: P1.
///
/// # Errors
/// [`BadShare`]: with a probability that is none.
pub fn start(code: &Code, url: &str, random: &Randomness) -> Result<(Outgoing, AwaitShare), BadShare> {
    let channel = schedule::channel(code.offer, url);
    let password = code.password.spelled();
    let context = Context { password: password.as_bytes(), channel: &channel, session: &random.session };
    let (share, started) = begin(context, &schedule::accepter_data(), &random.scalar)?;
    let message =
        Message::Start(Start { offer: code.offer, url: url.to_owned(), session: random.session, share });
    let waiting = AwaitShare { offer: code.offer, channel, session: random.session, share, started };
    Ok((post(&message), waiting))
}

fn post(message: &Message) -> Outgoing {
    Outgoing::json(PATH, message.write())
}

/// Waits for P2.
#[derive(Debug)]
pub struct AwaitShare {
    offer: OfferId,
    channel: Vec<u8>,
    session: [u8; 16],
    share: [u8; 32],
    started: Started,
}

impl AwaitShare {
    /// Takes the offerer's name and share. Nothing of it is proved yet.
    ///
    /// # Errors
    /// Not a 200, not P2, or a share that is none.
    pub fn receive(self, answer: &Incoming<'_>) -> Result<Ready, PairingError> {
        if answer.status != 200 {
            return Err(ReplyError::status(answer).into());
        }
        let Share { service, share } = Share::read(answer.body).map_err(|_| PairingError::Form)?;
        let secret: Secret = self.started.finish(&share, &schedule::offerer_data(&service))?;
        let hash = schedule::shares(&self.channel, &service, &self.session, (&self.share, &share));
        let root = Root::new(&secret, &hash);
        Ok(Ready { offer: self.offer, session: self.session, service, root, hash })
    }
}

/// Has what it takes to confirm.
#[derive(Debug)]
pub struct Ready {
    offer: OfferId,
    session: [u8; 16],
    service: ServiceName,
    root: Root,
    hash: Hash,
}

impl Ready {
    /// The name that the offerer states. Proved with P4.
    #[must_use]
    pub const fn service(&self) -> &ServiceName {
        &self.service
    }

    /// Confirms: P3.
    #[must_use]
    pub fn confirm(self, statement: &Statement, nonce: [u8; 12]) -> (Outgoing, AwaitConfirmation) {
        let sealed = self.root.seal(Role::Accepter, &self.hash, nonce, &statement.write());
        let confirm = self.root.confirm(Role::Accepter, &self.hash, &sealed);
        let hash = schedule::next(&self.hash, &sealed, &confirm);
        let message = Message::Confirm(Confirm { offer: self.offer, session: self.session, sealed, confirm });
        let waiting =
            AwaitConfirmation { service: self.service, root: self.root, hash, seen: statement.seen };
        (post(&message), waiting)
    }
}

/// Waits for P4.
#[derive(Debug)]
pub struct AwaitConfirmation {
    service: ServiceName,
    root: Root,
    hash: Hash,
    seen: Option<Pin>,
}

impl AwaitConfirmation {
    /// Takes the offerer's confirmation and terms, and gives the pair.
    ///
    /// # Errors
    /// Not a 200, not P4, not confirmed under the words, or another TLS key than the one that was seen.
    pub fn receive(self, answer: &Incoming<'_>) -> Result<Paired, PairingError> {
        if answer.status != 200 {
            return Err(ReplyError::status(answer).into());
        }
        let Conclusion { sealed, confirm } = Conclusion::read(answer.body).map_err(|_| PairingError::Form)?;
        let expected = self.root.confirm(Role::Offerer, &self.hash, &sealed);
        if !bool::from(expected.ct_eq(&confirm)) {
            return Err(PairingError::Impostor);
        }
        let opened = self.root.open(Role::Offerer, &self.hash, &sealed).ok_or(PairingError::Impostor)?;
        let terms = Terms::read(&opened).ok_or(PairingError::Form)?;
        if self.seen.is_some_and(|seen| !terms.pins.contains(&seen)) {
            return Err(PairingError::Misbound);
        }
        let pair = self.root.pair(&schedule::next(&self.hash, &sealed, &confirm));
        Ok(Paired { service: self.service, terms, pair })
    }
}

/// The offerer has proved that it has the words.
#[derive(Debug)]
pub struct Paired {
    /// Its name.
    pub service: ServiceName,
    /// What it proposes.
    pub terms: Terms,
    /// The keys.
    pub pair: Pair,
}
