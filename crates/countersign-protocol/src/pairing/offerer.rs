//! The offerer's side (section 7), as typed states. Between P2 and P3 the state waits in a store, sealed there.

use std::fmt;

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::BadShare;
use super::message::{Conclusion, Confirm, Share, Start};
use super::pake::{Context, respond};
use super::schedule::{self, Hash, Pair, Role, Root};
use super::statement::{Statement, Terms};
use super::words::Password;
use crate::identity::ServiceName;

/// Answers P1 under the password of a code that has been claimed for it: P2. `random` gives the private scalar.
///
/// # Errors
/// [`BadShare`], if P1 was not read with [`super::message::Message::read`].
pub fn claim(
    password: &Password,
    service: &ServiceName,
    start: &Start,
    random: &Zeroizing<[u8; 64]>,
) -> Result<(Share, Claimed), BadShare> {
    let channel = schedule::channel(start.offer, &start.url);
    let password = password.spelled();
    let context = Context { password: password.as_bytes(), channel: &channel, session: &start.session };
    let data = (schedule::accepter_data(), schedule::offerer_data(service));
    let (share, secret) = respond(context, &start.share, (&data.0, &data.1), random)?;
    let hash = schedule::shares(&channel, service, &start.session, (&start.share, &share));
    let claimed = Claimed { session: start.session, root: Root::new(&secret, &hash), hash };
    Ok((Share { service: service.clone(), share }, claimed))
}

/// Waits for P3. Its `Debug` shows nothing.
#[derive(Clone)]
pub struct Claimed {
    session: [u8; 16],
    root: Root,
    hash: Hash,
}

impl fmt::Debug for Claimed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Claimed(…)")
    }
}

/// The accepter does not have the words, or what it sent was changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the other side did not confirm the words")]
pub struct NotConfirmed;

impl Claimed {
    /// Bytes for a store, which seals them.
    #[must_use]
    pub fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let mut bytes = Zeroizing::new(Vec::with_capacity(80));
        bytes.extend_from_slice(&self.session);
        bytes.extend_from_slice(self.root.as_bytes());
        bytes.extend_from_slice(&self.hash);
        bytes
    }

    /// What [`Claimed::to_bytes`] gave; `None` for anything else.
    #[must_use]
    pub fn from_bytes(bytes: &[u8]) -> Option<Self> {
        let (session, rest) = bytes.split_first_chunk::<16>()?;
        let (root, hash) = rest.split_first_chunk::<32>()?;
        Some(Self { session: *session, root: Root::from_stored(root), hash: hash.try_into().ok()? })
    }

    /// Whether this is the exchange that a P3 belongs to.
    #[must_use]
    pub fn is_of(&self, message: &Confirm) -> bool {
        bool::from(self.session.ct_eq(&message.session))
    }

    /// Verifies P3 and opens what is sealed in it.
    ///
    /// # Errors
    /// [`NotConfirmed`]. There is no second try: the state is consumed.
    pub fn verify(self, message: &Confirm) -> Result<Verified, NotConfirmed> {
        let Self { root, hash, .. } = self;
        let expected = root.confirm(Role::Accepter, &hash, &message.sealed);
        if !bool::from(expected.ct_eq(&message.confirm)) {
            return Err(NotConfirmed);
        }
        let opened = root.open(Role::Accepter, &hash, &message.sealed).ok_or(NotConfirmed)?;
        let statement = Statement::read(&opened).ok_or(NotConfirmed)?;
        let hash = schedule::next(&hash, &message.sealed, &message.confirm);
        Ok(Verified { statement, root, hash })
    }
}

/// The accepter has proved that it has the words.
#[derive(Debug)]
pub struct Verified {
    statement: Statement,
    root: Root,
    hash: Hash,
}

impl Verified {
    /// What the accepter states.
    #[must_use]
    pub const fn statement(&self) -> &Statement {
        &self.statement
    }

    /// Confirms: P4 and the pair. P4 may be told once the pair is stored (PA-23).
    #[must_use]
    pub fn conclude(self, terms: &Terms, nonce: [u8; 12]) -> (Conclusion, Pair) {
        let sealed = self.root.seal(Role::Offerer, &self.hash, nonce, &terms.write());
        let confirm = self.root.confirm(Role::Offerer, &self.hash, &sealed);
        let pair = self.root.pair(&schedule::next(&self.hash, &sealed, &confirm));
        (Conclusion { sealed, confirm }, pair)
    }
}
