use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension as _, params};

use super::{Place, connect, tidy_on_close};
use crate::StoreError;

/// How long a head waits for somebody else who writes to the store. One that is not stored costs little: the next
/// one says more. The trail waits meanwhile.
const BUSY: Duration = Duration::from_millis(250);

/// Pages of SQLite's log, 4 KiB each, before what is in it goes to the store itself and the log begins anew. Each head
/// takes two. On a full disk the log must not take all the room that the trail has kept for itself.
const LOG_PAGES: u32 = 256;

/// Where the trail's chains end: the table `audit_head`. Not part of [`PeerStore`](crate::PeerStore), and what is
/// written here does not change its version.
#[derive(Debug)]
pub struct AuditHeads {
    connection: Connection,
    place: Place,
}

/// One writer's row. What its values mean, and whether the seal is right, is for the trail to say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AuditHead {
    /// The last record that is known to be on disk; 0 for none.
    pub seq: u64,
    /// Its MAC.
    pub mac: [u8; 32],
    /// The last record that retention has removed; 0 for none.
    pub start_seq: u64,
    /// Its MAC.
    pub start_mac: [u8; 32],
    /// The MAC of all of this.
    pub seal: [u8; 32],
}

impl AuditHeads {
    pub(super) fn open(place: Place) -> Result<Self, StoreError> {
        place.check()?;
        let connection = connect(&place.path, OpenFlags::SQLITE_OPEN_READ_WRITE)?;
        connection.busy_timeout(BUSY)?;
        // A head that a power cut takes back is one that the trail is ahead of, which is what a head may be.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        tidy_on_close(&connection, place.tidy)?;
        connection.pragma_update(None, "wal_autocheckpoint", LOG_PAGES)?;
        Ok(Self { connection, place })
    }

    /// The row of `writer`, if it has one.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn load(&self, writer: &str) -> Result<Option<AuditHead>, StoreError> {
        self.place.check()?;
        let mut statement = self.connection.prepare_cached(
            "SELECT seq, mac, start_seq, start_mac, seal FROM audit_head WHERE writer = ?1",
        )?;
        let row = statement.query_row(params![writer], |row| {
            let number = |index| Ok::<_, rusqlite::Error>(row.get::<_, i64>(index)?.cast_unsigned());
            Ok(AuditHead {
                seq: number(0)?,
                mac: row.get(1)?,
                start_seq: number(2)?,
                start_mac: row.get(3)?,
                seal: row.get(4)?,
            })
        });
        Ok(row.optional()?)
    }

    /// All writers that have a row, by name.
    ///
    /// # Errors
    /// The store cannot be read.
    pub fn writers(&self) -> Result<Vec<String>, StoreError> {
        self.place.check()?;
        let mut statement = self.connection.prepare("SELECT writer FROM audit_head ORDER BY writer")?;
        let writers = statement.query_map([], |row| row.get(0))?.collect::<Result<_, _>>();
        Ok(writers?)
    }

    /// Puts the row of `writer` in place.
    ///
    /// # Errors
    /// The store cannot be written, or somebody else writes to it for longer than a quarter of a second.
    pub fn store(&self, writer: &str, head: &AuditHead) -> Result<(), StoreError> {
        self.place.check()?;
        let mut statement = self.connection.prepare_cached(
            "INSERT INTO audit_head (writer, seq, mac, start_seq, start_mac, seal)
                 VALUES (?1, ?2, ?3, ?4, ?5, ?6)
             ON CONFLICT (writer) DO UPDATE SET seq = excluded.seq, mac = excluded.mac,
                 start_seq = excluded.start_seq, start_mac = excluded.start_mac, seal = excluded.seal",
        )?;
        statement.execute(params![
            writer,
            head.seq.cast_signed(),
            head.mac,
            head.start_seq.cast_signed(),
            head.start_mac,
            head.seal
        ])?;
        Ok(())
    }
}
