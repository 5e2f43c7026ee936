//! Credentials that were ended here while Vault was away: they stay ended here, and Vault is told when it is back.

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::mac::{decode_hex, encode_hex};
use serde::{Deserialize, Serialize};

use super::copy::wall;
use super::document::Document;
use crate::StoreError;
use crate::lifecycle::Ending;
use crate::sqlite::{Aside, SqliteStore};

/// One row each: two commands at once must not take each other's away.
const BEGINNING: &str = "vault-ended ";

/// A credential that was ended here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct EndedHere {
    pub(super) peer: ServiceName,
    pub(super) uid: [u8; 16],
    pub(super) how: Ending,
    pub(super) at: UnixTime,
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

    pub(super) fn save(&self, local: &SqliteStore) -> Result<(), StoreError> {
        let form = Form { peer: self.peer.clone(), how: self.how.as_str().to_owned() };
        let bytes = serde_json::to_vec(&form).map_err(|_| StoreError::Damaged(self.peer.to_string()))?;
        local.put_aside(&self.name(), &[], self.at, &bytes)
    }

    pub(super) fn forget(&self, local: &SqliteStore) -> Result<(), StoreError> {
        local.drop_aside(&self.name())
    }

    /// All of them.
    pub(super) fn all(local: &SqliteStore) -> Result<Vec<Self>, StoreError> {
        let mut all = Vec::new();
        for name in local.aside_names(BEGINNING)? {
            let Some(Aside { kept: at, plaintext }) = local.aside(&name, &[])? else { continue };
            let form: Option<Form> = serde_json::from_slice(&plaintext).ok();
            let mut uid = [0; 16];
            let read = name.strip_prefix(BEGINNING).and_then(|hex| decode_hex(hex.as_bytes(), &mut uid));
            if let (Some(Form { peer, how }), Some(())) = (form, read)
                && let Some(how) = Ending::parse(&how)
            {
                all.push(Self { peer, uid, how, at });
            }
        }
        Ok(all)
    }

    /// Ends it in a document; `false` if it does not live there. What is over by now is retired with it: in a document
    /// that has only just come back, nobody may have done so, and a predecessor would be left without an end.
    pub(super) fn apply(&self, document: &mut Document) -> bool {
        let Ok(peer) = document.set.get(&self.peer) else { return false };
        let number = peer.credentials.iter().find(|one| one.uid == self.uid).map(|one| one.number);
        number.is_some_and(|number| {
            document.set.end_later(&self.peer, number, self.how, self.at, wall()).is_ok()
        })
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
        let next = Next { keys, overlap: Overlap::new(at, 10, Some(60)), confirmed: false };
        let uid = document.set.rotate(&peer, next, at).unwrap().credentials.last().unwrap().uid;
        // Ended before the deadline of the other one, which is long over.
        assert!(EndedHere { peer: peer.clone(), uid, how: Ending::Revoked, at }.apply(&mut document));
        let peer = document.set.get(&peer).unwrap();
        assert!(peer.credentials.is_empty());
        let how: Vec<_> = peer.ended.iter().map(|ended| (ended.number, ended.how)).collect();
        assert_eq!(how, [(1, Ending::Retired), (2, Ending::Revoked)]);
        assert_eq!(peer.ended.last().unwrap().ended, at, "when the operator did it");
    }
}
