//! What this service knows by itself of credentials that are kept elsewhere: when it first saw them, the numbers it
//! gave them, and their uses. No keys and no secrets.

use std::collections::HashMap;

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ServiceName;
use rusqlite::{Connection, Row, TransactionBehavior, params};

use super::SqliteStore;
use crate::lifecycle::{Use, UseDirection};
use crate::{Credential, StoreError};

/// Of so many credentials that got no number here something is known at most: ten times what fits into Vault's document.
const REMEMBERED: i64 = 30_000;

/// What is known of one credential.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Known {
    /// The number that it got here, if numbers are given here.
    pub(crate) number: Option<u32>,
    /// When it was first seen here.
    pub(crate) since: UnixTime,
    confirmed: Option<UnixTime>,
    used_inbound: Option<UnixTime>,
    used_outbound: Option<UnixTime>,
}

impl Known {
    /// Adds what is known here to what came from elsewhere.
    pub(crate) fn complete(&self, credential: &mut Credential) {
        // Confirmed at the first of two times, used at the last.
        credential.confirmed = match (credential.confirmed, self.confirmed) {
            (Some(there), Some(here)) => Some(there.min(here)),
            (there, here) => there.or(here),
        };
        credential.used_inbound = credential.used_inbound.max(self.used_inbound);
        credential.used_outbound = credential.used_outbound.max(self.used_outbound);
    }

    fn read(row: &Row<'_>) -> rusqlite::Result<([u8; 16], Self)> {
        let time = |column: usize| {
            Ok::<_, rusqlite::Error>(row.get::<_, Option<i64>>(column)?.map(|at| UnixTime(at.unsigned_abs())))
        };
        let known = Self {
            number: row.get(1)?,
            since: time(2)?.unwrap_or_default(),
            confirmed: time(3)?,
            used_inbound: time(4)?,
            used_outbound: time(5)?,
        };
        Ok((row.get(0)?, known))
    }
}

impl SqliteStore {
    /// Gives each of these credentials the next free number of its peer, unless it has one already.
    pub(crate) fn number(&self, met: &[(&ServiceName, [u8; 16])], now: UnixTime) -> Result<(), StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for (peer, uid) in met {
            transaction.execute(
                "INSERT INTO elsewhere (uid, peer, number, since)
                 SELECT ?1, ?2, 1 + COALESCE(MAX(number), 0), ?3 FROM elsewhere WHERE peer = ?2
                 ON CONFLICT (uid) DO NOTHING",
                params![uid, peer.as_str(), seconds(now)],
            )?;
        }
        Ok(transaction.commit()?)
    }

    /// Takes note of uses of credentials that are kept elsewhere.
    pub(crate) fn note_elsewhere(&self, uses: &[Use]) -> Result<(), StoreError> {
        let mut connection = self.lock()?;
        let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
        for used in uses {
            let (inbound, outbound) = match used.direction {
                UseDirection::Inbound => (Some(seconds(used.at)), None),
                UseDirection::Outbound => (None, Some(seconds(used.at))),
            };
            transaction.execute(
                "INSERT INTO elsewhere (uid, since, confirmed, used_inbound, used_outbound)
                 VALUES (?1, ?2, ?2, ?3, ?4)
                 ON CONFLICT (uid) DO UPDATE SET
                     confirmed = COALESCE(confirmed, excluded.confirmed),
                     used_inbound = MAX(COALESCE(used_inbound, excluded.used_inbound),
                                        COALESCE(excluded.used_inbound, used_inbound)),
                     used_outbound = MAX(COALESCE(used_outbound, excluded.used_outbound),
                                         COALESCE(excluded.used_outbound, used_outbound))",
                params![used.uid, seconds(used.at), inbound, outbound],
            )?;
        }
        forget(&transaction, REMEMBERED)?;
        Ok(transaction.commit()?)
    }

    /// All that is known, by [`Credential::uid`].
    pub(crate) fn known_elsewhere(&self) -> Result<HashMap<[u8; 16], Known>, StoreError> {
        let connection = self.lock()?;
        let mut statement = connection.prepare_cached(
            "SELECT uid, number, since, confirmed, used_inbound, used_outbound FROM elsewhere",
        )?;
        let known = statement.query_map([], Known::read)?.collect::<Result<_, _>>()?;
        Ok(known)
    }
}

/// Forgets those that were used longest ago. Numbers that were given here are never given again, and stay.
fn forget(connection: &Connection, most: i64) -> Result<(), StoreError> {
    let query = "SELECT count(*) FROM elsewhere WHERE number IS NULL";
    let known: i64 = connection.query_row(query, [], |row| row.get(0))?;
    if known > most {
        connection.execute(
            "DELETE FROM elsewhere WHERE uid IN (
                 SELECT uid FROM elsewhere WHERE number IS NULL
                 ORDER BY MAX(since, COALESCE(used_inbound, 0), COALESCE(used_outbound, 0)) LIMIT ?1)",
            params![known - most],
        )?;
    }
    Ok(())
}

fn seconds(time: UnixTime) -> i64 {
    i64::try_from(time.0).unwrap_or(i64::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::master::MasterKey;

    #[test]
    fn what_was_used_longest_ago_is_forgotten_and_numbers_that_were_given_here_stay() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("store.sqlite");
        let store = SqliteStore::create(&path, &MasterKey::generate()).unwrap();
        let used = |uid, at| Use { uid: [uid; 16], direction: UseDirection::Inbound, at: UnixTime(at) };
        store.number(&[(&"billing".parse().unwrap(), [9; 16])], UnixTime(1)).unwrap();
        store.note_elsewhere(&[used(1, 10), used(2, 20), used(3, 30), used(1, 40)]).unwrap();
        forget(&store.lock().unwrap(), 2).unwrap();
        let mut left: Vec<_> = store.known_elsewhere().unwrap().into_keys().map(|uid| uid[0]).collect();
        left.sort_unstable();
        assert_eq!(left, [1, 3, 9]);
    }
}
