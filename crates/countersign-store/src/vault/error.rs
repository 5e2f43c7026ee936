use std::sync::Arc;

use crate::origin::OriginError;

/// Why Vault did not do what it was asked to. What it said itself is not repeated: its texts can quote a request.
#[derive(Clone, Debug, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// Nothing at that address takes a connection, or TLS does not come about.
    #[error("Vault at {address} cannot be reached: {why}")]
    Unreachable {
        /// Where.
        address: String,
        /// What the system or TLS said, printable.
        why: String,
    },
    /// It did not answer in time.
    #[error("Vault at {address} does not answer within {seconds} seconds")]
    Silent {
        /// Where.
        address: String,
        /// How long it had.
        seconds: u64,
    },
    /// It is sealed, or has no leader.
    #[error("Vault at {address} is sealed or not ready (status 503); it has to be unsealed there")]
    Sealed {
        /// Where.
        address: String,
    },
    /// It limits requests.
    #[error("Vault at {address} has too many requests (status 429)")]
    Busy {
        /// Where.
        address: String,
    },
    /// It names another node. No redirect is followed.
    #[error(
        "Vault at {address} answers with a redirect (status {status}), and none is followed; give the address of the active node or of a balancer in front of all"
    )]
    Redirected {
        /// Where.
        address: String,
        /// The status.
        status: u16,
    },
    /// An answer of another kind than was asked for.
    #[error("what answers at {address} fails, or is not Vault (status {status})")]
    Odd {
        /// Where.
        address: String,
        /// The status.
        status: u16,
    },
    /// The login was refused.
    #[error(
        "Vault refuses the login with {how} (status {status}); whoever manages it has taken it back, or it has expired: issue a new one (docs/secrets.md)"
    )]
    Login {
        /// With what.
        how: &'static str,
        /// The status.
        status: u16,
    },
    /// The login is not taken now, and whoever manages Vault need not have done anything.
    #[error(
        "Vault does not take the login with {how} (status {status}) and does not say that it is wrong: it locks a role out for a while after five wrong guesses, by anybody (`bao read sys/locked-users`), or nothing is mounted there any more (`bao auth list`). docs/secrets.md, \"Locked out\""
    )]
    LoginHeldUp {
        /// With what.
        how: &'static str,
        /// The status.
        status: u16,
    },
    /// What the login needs cannot be read here.
    #[error("the login to Vault: {0}")]
    Origin(Arc<OriginError>),
    /// The token may not do that.
    #[error(
        "Vault does not allow {what} {path} (permission denied): the token was taken back, or its policy does not have it (docs/secrets.md)"
    )]
    Denied {
        /// Reading, writing, …
        what: &'static str,
        /// What of.
        path: String,
    },
    /// Nothing is mounted there.
    #[error("Vault has nothing mounted where {path} should be; `bao secrets list` shows what it has")]
    NotMounted {
        /// The path.
        path: String,
    },
    /// A key-value engine of version 1, or another engine.
    #[error(
        "the mount {mount} is not a key-value engine of version 2 (`bao secrets enable -version=2 -path={mount} kv`)"
    )]
    NotVersioned {
        /// The mount.
        mount: String,
    },
    /// The document is not what this program wrote.
    #[error(
        "the document {path} in Vault cannot be read ({what}); nothing is overwritten. Put an earlier version back: `bao kv rollback -mount={mount} -version=N {key}`"
    )]
    Document {
        /// Mount and path.
        path: String,
        /// The mount.
        mount: String,
        /// The path below it.
        key: String,
        /// What is wrong with it.
        what: DocumentFault,
    },
    /// All peers are one document, which has a greatest size.
    #[error(
        "with this change the peers would be {bytes} bytes in one document, and Vault takes {limit}; nothing was changed. Remove peers, or serve them under a second service name"
    )]
    TooLarge {
        /// How large it would be.
        bytes: usize,
        /// How large it may be.
        limit: usize,
    },
    /// Others changed the document each time.
    #[error("other nodes keep changing the document in Vault; nothing was changed, try again")]
    Contended,
    /// The answer to a write was lost, and what it came to cannot be found out.
    #[error(
        "{0}. Whether the change was made is not known: look with `countersign status` when Vault answers"
    )]
    Uncertain(Box<VaultError>),
    /// Nothing is changed while Vault is away.
    #[error(
        "{0}. Nothing was changed: until it answers, peers are taken from a copy that cannot be changed (but `countersign revoke NAME` shuts a peer out here at once)"
    )]
    Unchangeable(Box<VaultError>),
    /// The copy has reached its age.
    #[error(
        "{error}, and the copy of what it last said is {age} seconds old, more than max_stale_seconds = {max}"
    )]
    TooOld {
        /// Why Vault cannot be asked.
        error: Box<VaultError>,
        /// The age.
        age: u64,
        /// The limit.
        max: u64,
    },
    /// There is nothing to go on with.
    #[error("{0}, and there is no copy of what it last said")]
    NoCopy(Box<VaultError>),
    /// What was to be unwrapped is not what Transit made.
    #[error(
        "Transit's key {key} does not decrypt the master key (status {status}): another key, or a damaged file"
    )]
    Transit {
        /// The key's name.
        key: String,
        /// The status.
        status: u16,
    },
    /// The part of this program that speaks to Vault is gone.
    #[error("the connection to Vault was given up; restart the service")]
    Gone,
    /// The system does not give what it takes.
    #[error("the connection to Vault cannot be set up: {0}")]
    Setup(Arc<std::io::Error>),
}

/// What is wrong with a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentFault {
    /// Not its form at all.
    #[error("it does not have the form of one of ours")]
    Form,
    /// A later form.
    #[error("a later version of Countersign wrote it: use that version here too")]
    Newer,
    /// Another service's.
    #[error("it belongs to another service")]
    Service,
}

/// What an error says about what may go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Class {
    /// Vault is away: the last good state goes on.
    Outage,
    /// Vault, or whoever manages it, says no: nothing goes on.
    Refusal,
    /// Vault answers, and what it has is no use: the last good state goes on.
    Nonsense,
}

impl VaultError {
    pub(super) const fn class(&self) -> Class {
        match self {
            Self::Login { .. } | Self::Denied { .. } | Self::NotMounted { .. } => Class::Refusal,
            Self::Document { .. } | Self::NotVersioned { .. } => Class::Nonsense,
            _ => Class::Outage,
        }
    }

    /// The same for metrics, logs and screens: a few fixed words.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Unreachable { .. } => "Vault cannot be reached",
            Self::Silent { .. } => "Vault does not answer in time",
            Self::Sealed { .. } => "Vault is sealed or not ready",
            Self::Busy { .. } => "Vault has too many requests",
            Self::LoginHeldUp { .. } => "Vault does not take the login now",
            Self::Origin(_) => "the login to Vault cannot be read",
            Self::Document { .. } => "the document in Vault cannot be read",
            _ => "Vault fails",
        }
    }

    /// Whether something may have been done although it failed.
    pub(super) const fn is_uncertain(&self) -> bool {
        matches!(
            self,
            Self::Silent { .. } | Self::Odd { .. } | Self::Unreachable { .. } | Self::Sealed { .. }
        )
    }
}
