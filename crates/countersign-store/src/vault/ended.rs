//! Credentials that were ended here while Vault could not be told: they stay ended here, and Vault is told when that is
//! possible.
//!
//! That a row is there is enough: it is named after the credential. One whose content does not open ends its credential
//! as well, since a damaged disk must not let anybody in again.

use std::fmt;

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::mac::{decode_hex, encode_hex};
use serde::{Deserialize, Serialize};

use super::copy::wall;
use super::document::Document;
use crate::lifecycle::{Ending, Which};
use crate::sqlite::{Aside, SqliteStore};
use crate::{Peer, StoreError};

/// One row each: two commands at once must not take each other's away.
const BEGINNING: &str = "vault-ended ";

/// A credential that was ended here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndedHere {
    pub(super) uid: [u8; 16],
    /// The number that it had.
    number: Option<u32>,
    pub(super) at: UnixTime,
    /// Whose it is, and how it was ended; `None` if the row is damaged.
    pub(super) said: Option<(ServiceName, Ending)>,
}

#[derive(Serialize, Deserialize)]
struct Form {
    peer: ServiceName,
    how: String,
}

impl EndedHere {
    fn name(&self) -> String {
        format!("{BEGINNING}{}", encode_hex(&self.uid))
    }

    /// The credentials of a peer that live in this document.
    pub(super) fn of(
        document: &Document,
        name: &ServiceName,
        which: Which,
        how: Ending,
        at: UnixTime,
    ) -> Vec<Self> {
        let means = |number: u32| match which {
            Which::All => true,
            Which::Number(one) => one == number,
        };
        let live = document.set.get(name).map(|peer| peer.credentials).unwrap_or_default();
        let meant = live.iter().filter(|one| means(one.number));
        meant
            .map(|one| Self { uid: one.uid, number: Some(one.number), at, said: Some((name.clone(), how)) })
            .collect()
    }

    /// Ends them here; their numbers.
    pub(super) fn save_all(all: &[Self], local: &SqliteStore) -> Result<Vec<u32>, StoreError> {
        for one in all {
            one.save(local)?;
        }
        Ok(all.iter().filter_map(|one| one.number).collect())
    }

    fn save(&self, local: &SqliteStore) -> Result<(), StoreError> {
        let Some((peer, how)) = &self.said else { return Ok(()) };
        let form = Form { peer: peer.clone(), how: how.as_str().to_owned() };
        let bytes = serde_json::to_vec(&form).map_err(|_| StoreError::Damaged(peer.to_string()))?;
        local.put_aside(&self.name(), &[], self.at, &bytes)
    }

    pub(super) fn forget(&self, local: &SqliteStore) -> Result<(), StoreError> {
        local.drop_aside(&self.name())
    }

    /// All of them.
    pub(super) fn all(local: &SqliteStore) -> Result<Vec<Self>, StoreError> {
        let mut all = Vec::new();
        for name in local.aside_names(BEGINNING)? {
            let mut uid = [0; 16];
            let read = name.strip_prefix(BEGINNING).and_then(|hex| decode_hex(hex.as_bytes(), &mut uid));
            // It names no credential, or not as we do.
            let Some(()) = read.filter(|()| name.ends_with(&encode_hex(&uid))) else { continue };
            // Another process has told Vault meanwhile.
            let Some(Aside { kept: at, plaintext }) = local.aside(&name, &[])? else { continue };
            let form = plaintext.and_then(|plaintext| serde_json::from_slice::<Form>(&plaintext).ok());
            let said = form.and_then(|Form { peer, how }| Some((peer, Ending::parse(&how)?)));
            all.push(Self { uid, number: None, at, said });
        }
        Ok(all)
    }

    /// Ends it in a document; `false` if it does not live there. What is over by now is retired with it: in a document
    /// that has only just come back, nobody may have done so, and a predecessor would be left without an end.
    pub(super) fn apply(&self, document: &mut Document) -> bool {
        let owns = |peer: &Peer| {
            let one = peer.credentials.iter().find(|one| one.uid == self.uid)?;
            Some((peer.name.clone(), one.number))
        };
        let found = document.set.peers().find_map(owns);
        let how = self.said.as_ref().map_or(Ending::Revoked, |(_, how)| *how);
        // The time of a damaged row is anybody's word.
        let (now, at) = (wall(), self.said.as_ref().map(|_| self.at));
        found.is_some_and(|(name, number)| {
            document.set.end_later(&name, number, how, at.unwrap_or(now), now).is_ok()
        })
    }
}

impl fmt::Display for EndedHere {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.said {
            Some((peer, how)) => write!(f, "a credential of {peer} ({})", how.as_str()),
            None => f.write_str("a credential whose row in store.sqlite is damaged (taken as revoked)"),
        }
    }
}

#[cfg(all(test, feature = "contract"))]
#[allow(clippy::unwrap_used, reason = "what breaks in a helper ends the test")]
mod tests {
    use zeroize::Zeroizing;

    use super::*;
    use crate::NewKeys;
    use crate::contract::{key, secret, shared_secret_peer};
    use crate::lifecycle::{Next, Overlap};

    #[test]
    fn what_was_over_when_vault_came_back_stays_over() {
        let (peer, at): (ServiceName, _) = ("billing".parse().unwrap(), UnixTime(1_700_000_000));
        let mut document = Document::new(Zeroizing::new([7; 32]));
        document.set.add(shared_secret_peer("billing", 1), at).unwrap();
        let keys = NewKeys::shared_secret(key(2), key(102), secret(2), secret(2)).unwrap();
        let next = Next { keys, overlap: Overlap::new(at, 10, Some(60)), confirmed: false, follows: None };
        let uid = document.set.rotate(&peer, next, at).unwrap().credentials.last().unwrap().uid;
        // Ended before the deadline of the other one, which is long over.
        let ended = EndedHere { uid, number: Some(2), at, said: Some((peer.clone(), Ending::Revoked)) };
        assert!(ended.apply(&mut document));
        let peer = document.set.get(&peer).unwrap();
        assert!(peer.credentials.is_empty());
        let how: Vec<_> = peer.ended.iter().map(|ended| (ended.number, ended.how)).collect();
        assert_eq!(how, [(1, Ending::Retired), (2, Ending::Revoked)]);
        assert_eq!(peer.ended.last().unwrap().ended, at, "when the operator did it");
    }
}
