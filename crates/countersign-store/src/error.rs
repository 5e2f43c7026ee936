use countersign_protocol::identity::{FormError, Profile, ServiceName};

#[cfg(feature = "sqlite")]
use countersign_protocol::wire::printable;

use crate::origin::{Origin, OriginError};
use crate::{KeysError, OptionsError};

/// Why a store did not do what it was asked to. Whose fault it is: the caller's in the first eleven, the
/// machine's or the file's in the rest. No secret is ever part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum StoreError {
    /// A peer of this name exists.
    #[error(
        "there is a peer named `{0}` already; remove it first (`countersign peer remove {0}`) or choose another name"
    )]
    NameTaken(ServiceName),
    /// A key or a secret is in use with another peer: whoever held it could pass as both.
    #[error(
        "one of these keys or secrets is in use with the peer `{0}` already; every peer needs its own (`countersign keygen`)"
    )]
    KeyTaken(ServiceName),
    /// No peer of this name.
    #[error("there is no peer named `{0}`; `countersign peer list` shows those that are")]
    NoSuchPeer(ServiceName),
    /// A rotation is going on.
    #[error(
        "a rotation of `{0}` is going on already; `countersign status` shows where it stands, `countersign rotate {0} --finish` or `--abandon` ends it"
    )]
    RotationOpen(ServiceName),
    /// The next credential has a key or a secret of an earlier one.
    #[error(
        "one of these keys or secrets belonged to an earlier credential of `{0}`; a rotation needs new ones (`countersign keygen`)"
    )]
    KeyReused(ServiceName),
    /// What the next credential was to follow is not what is there now.
    #[error(
        "the credentials of `{0}` were changed by somebody else in this moment, and these keys may not follow what is left; nothing was changed. See `countersign status`, and run this again if they still should"
    )]
    ChangedMeanwhile(ServiceName),
    /// Keys of another profile.
    #[error("the peer `{peer}` has the profile {profile}, and these keys are for another one")]
    OtherProfile {
        /// The peer.
        peer: ServiceName,
        /// Its profile.
        profile: Profile,
    },
    /// Options that do not go together.
    #[error(transparent)]
    Options(#[from] OptionsError),
    /// No credential of this number lives.
    #[error("`{peer}` has no live credential {number}; `countersign status` shows those that it has")]
    NoCredential {
        /// The peer.
        peer: ServiceName,
        /// The number.
        number: u32,
    },
    /// No credential lives at all.
    #[error("all credentials of `{0}` have ended already; `countersign rotate {0}` makes a new one")]
    NothingLive(ServiceName),
    /// A move of a rotation in band cannot be made.
    #[error("the rotation cannot go on: {0}")]
    Rotation(#[from] crate::MoveError),
    /// Offers of a pairing that are all open.
    #[error(
        "there are too many open offers of a pairing; they close by themselves, ten minutes after they were made"
    )]
    TooManyOffers,
    /// The store only reads.
    #[error("these peers are declared elsewhere and cannot be changed here: {0}")]
    ReadOnly(&'static str),
    /// A key or secret of a declared peer cannot be had, or cannot be used.
    #[error("the peer `{peer}` is left out: {what}: {error}")]
    Declared {
        /// The peer.
        peer: ServiceName,
        /// Which of its settings.
        what: &'static str,
        /// What is wrong with it.
        error: DeclaredError,
    },
    /// Neither there nor to be made by opening.
    #[error("there is no store at {path}; `countersign init` makes one")]
    NoStore {
        /// Where it was looked for.
        path: String,
    },
    /// A store is there already.
    #[error("there is a store at {path} already; nothing was changed")]
    Exists {
        /// Where.
        path: String,
    },
    /// The master key does not open this store.
    #[error(
        "the master key is not the one this store was made with (or the store is damaged); nothing was changed. Put the right key back, or restore the store and its key together"
    )]
    WrongMasterKey,
    /// The next master key is the present one.
    #[error("this is the store's master key already; a change needs another one (`openssl rand -base64 32`)")]
    SameMasterKey,
    /// A change of the master key was begun and not ended.
    #[error(
        "a change of the master key is open: two master keys open this store. `countersign master-key rotate --finish`, run with the new one, takes the old one away; `--abandon`, run with the old one, takes the new one away"
    )]
    RewrapOpen,
    /// The change of the master key cannot be finished with the old one.
    #[error(
        "the master key that this command was given is still the old one: first put the new one in its place, for the service too, then finish. Nothing was changed"
    )]
    RewrapNotTakenOver,
    /// The change of the master key cannot be called off with the new one.
    #[error(
        "the master key that this command was given is the new one already: put the old one back before the change is called off, or finish it (`countersign master-key rotate --finish`). Nothing was changed"
    )]
    RewrapTakenOver,
    /// A sealed record does not open: changed, moved or damaged.
    #[error(
        "the stored credential {0} does not open: it was changed outside of Countersign or is damaged; restore the store from a backup, or remove the peer and add it again"
    )]
    Damaged(String),
    /// The store was written by a later version.
    #[error(
        "the store was written by a later version of Countersign (its schema is newer than this program's); use that version"
    )]
    TooNew,
    /// Another file is where the open store was, or none: changes made there would never be seen.
    #[error(
        "the store {path} was replaced or removed while in use; restart the service, so that it opens what is there now"
    )]
    Replaced {
        /// Where it was.
        path: String,
    },
    /// The database says no.
    #[cfg(feature = "sqlite")]
    #[error("the store cannot be read or written: {}{}", reason(.0), advice(.0))]
    Sqlite(#[from] rusqlite::Error),
    /// The disk failed at the very end of a change.
    #[cfg(feature = "sqlite")]
    #[error(
        "the disk reported an error while a change was being made to last ({0}): whether the change is in effect is not known. See to the disk (`dmesg`), look (`countersign status`), and repeat the change if it is not"
    )]
    Unsure(rusqlite::Error),
    /// Vault says no, or nothing.
    #[cfg(feature = "vault")]
    #[error(transparent)]
    Vault(#[from] crate::vault::VaultError),
    /// The change was made on this node, and the place where the peers are kept could not be told.
    #[cfg(feature = "vault")]
    #[error(
        "{} ended on this node, and on no other yet: Vault could not be told ({why}). A running server goes on trying to tell it; until it is told, run the same command on every other node", list(.peer, .numbers)
    )]
    EndedHere {
        /// The peer.
        peer: ServiceName,
        /// Numbers of the credentials that have ended here.
        numbers: Vec<u32>,
        /// Why Vault does not know.
        why: Box<StoreError>,
    },
    /// The file system says no.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: String,
        /// What the system said.
        error: std::io::Error,
    },
}

impl StoreError {
    /// Whether it is the peer that does not have what is to be ended, and not the place where peers are kept that fails.
    #[cfg(feature = "vault")]
    pub(crate) const fn is_about_the_peer(&self) -> bool {
        matches!(self, Self::NoSuchPeer(_) | Self::NoCredential { .. } | Self::NothingLive(_))
    }
}

/// `billing/1, billing/2`
#[cfg(feature = "vault")]
fn list(peer: &ServiceName, numbers: &[u32]) -> String {
    let all: Vec<_> = numbers.iter().map(|number| format!("{peer}/{number}")).collect();
    all.join(", ")
}

/// What the database says, without the statement.
#[cfg(feature = "sqlite")]
fn reason(error: &rusqlite::Error) -> String {
    match error {
        rusqlite::Error::SqlInputError { msg, .. } => printable(msg, 200),
        _ => printable(&error.to_string(), 200),
    }
}

/// What to do about it.
#[cfg(feature = "sqlite")]
fn advice(error: &rusqlite::Error) -> &'static str {
    use rusqlite::ErrorCode;
    match error.sqlite_error_code() {
        Some(ErrorCode::DiskFull) => "; nothing was changed. Make room on the disk, then try again",
        Some(ErrorCode::SystemIoFailure) => {
            "; nothing was changed. The disk is full or broken: see `df` and `dmesg`, then try again"
        }
        Some(ErrorCode::ReadOnly | ErrorCode::CannotOpen | ErrorCode::PermissionDenied) => {
            "; nothing was changed. Its file and its directory must be writable for this user, on a file system that is not read-only: `countersign doctor` says which of it is not so"
        }
        Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase) => {
            "; it is damaged. Restore it from a backup (docs/backup.md)"
        }
        Some(ErrorCode::DatabaseBusy | ErrorCode::DatabaseLocked) => {
            "; nothing was changed. Another process has been writing to it for too long: try again"
        }
        _ => {
            "; it may be damaged, which `countersign doctor` looks for: restore it from a backup then (docs/backup.md)"
        }
    }
}

/// What is wrong with a key or a secret that is declared. Never holds it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum DeclaredError {
    /// It cannot be read.
    #[error(transparent)]
    Origin(#[from] OriginError),
    /// What was read is no key or secret.
    #[error("what {origin} holds cannot be used: {error}")]
    Form {
        /// Where it was read.
        origin: Origin,
        /// Why not.
        error: FormError,
    },
    /// The keys do not make a safe pair.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// A key or a secret is in use with another peer.
    #[error("in use with the peer `{0}` already; every peer needs its own (`countersign keygen`)")]
    Taken(ServiceName),
}
