//! What can be said about a store without its master key.

use std::path::Path;

use countersign_protocol::wire::printable;
use rusqlite::{Connection, OpenFlags};

use super::{Place, connect, rewrap, schema};
use crate::StoreError;

/// So much damage is told at most.
const MOST: usize = 10;

/// What the file of a store looks like from outside.
#[derive(Clone, Debug)]
pub struct Inspection {
    /// The version of its schema.
    pub schema: i64,
    /// What SQLite finds damaged in it, a line each; empty if nothing is.
    pub damage: Vec<String>,
    /// Whether two master keys open it, because a change of the master key was begun and not finished.
    pub rewrap_open: bool,
}

/// Looks at a store without its key and without changing it: version, structure, references between tables. That
/// what is sealed in it opens is another question.
///
/// # Errors
/// [`StoreError::NoStore`], [`StoreError::TooNew`], or it cannot be read as a database at all.
pub fn inspect(path: &Path) -> Result<Inspection, StoreError> {
    Place::of(path)?;
    let connection = connect(path, OpenFlags::SQLITE_OPEN_READ_ONLY)?;
    let version = schema::version(&connection)?;
    if version == 0 {
        return Err(StoreError::NoStore { path: path.display().to_string() });
    }
    schema::refuse_newer(&connection)?;
    let mut damage = lines(&connection, "PRAGMA integrity_check(10)", 0)?;
    damage.retain(|line| line != "ok");
    let lost = lines(&connection, "PRAGMA foreign_key_check", 0)?;
    damage.extend(lost.into_iter().map(|table| format!("a row of {table} belongs to no peer")));
    damage.truncate(MOST);
    let rewrap_open = rewrap::is_open(&connection)?;
    Ok(Inspection { schema: version, damage, rewrap_open })
}

fn lines(connection: &Connection, query: &str, column: usize) -> Result<Vec<String>, StoreError> {
    let mut statement = connection.prepare(query)?;
    let rows = statement.query_map([], |row| row.get::<_, String>(column))?;
    rows.map(|row| Ok(printable(&row?, 200))).collect()
}
