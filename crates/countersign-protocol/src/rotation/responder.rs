//! What the responder says.

use subtle::ConstantTimeEq as _;
use zeroize::Zeroizing;

use super::{Answer, Confirm, NextPair, Propose, Rights, transcript};
use crate::cs1::{Ephemeral, ZeroShare};

/// The answer to R1, and the keys that it leads to: to be stored before it is sent.
#[derive(Debug)]
pub struct Answered {
    /// R2.
    pub answer: Answer,
    /// The new keys.
    pub next: NextPair,
}

/// Answers R1, whose signature was verified with the credential that it names (RO-6). Nonce and private key are random and new (RO-5).
///
/// # Errors
/// [`ZeroShare`], if the initiator's ephemeral key is one of small order.
pub fn answer(
    old: &Rights,
    propose: &Propose,
    nonce: [u8; 32],
    private: &Zeroizing<[u8; 32]>,
) -> Result<Answered, ZeroShare> {
    let ephemeral = Ephemeral::new(private);
    let share = ephemeral.share();
    let said = transcript(propose, &nonce, &share);
    let shared = ephemeral.agree(&propose.share)?;
    let next = NextPair::derive(old, &propose.names, &shared, &said);
    let proof = next.rights().answer(&said);
    Ok(Answered { answer: Answer { rid: propose.rid, nonce, share, proof }, next })
}

/// Whether R3 shows that the initiator has the new keys. In constant time.
#[must_use]
pub fn shows_new(new: &Rights, confirm: &Confirm) -> bool {
    new.confirm(confirm.rid).ct_eq(&confirm.new).into()
}

/// Whether R3 shows that the initiator has the old keys, so that it may be told that the rotation was aborted. In constant time.
#[must_use]
pub fn shows_old(old: &Rights, confirm: &Confirm) -> bool {
    old.confirm(confirm.rid).ct_eq(&confirm.old).into()
}
