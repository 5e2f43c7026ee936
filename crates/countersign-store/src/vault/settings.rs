use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use countersign_protocol::identity::ServiceName;
use rustls::ClientConfig;

use super::Address;
use crate::origin::{Modes, Origin};

/// How long one request to Vault may take unless it is set otherwise.
pub const DEFAULT_TIMEOUT: Duration = Duration::from_secs(5);
/// How old the copy may get unless it is set otherwise: a day, in seconds.
pub const DEFAULT_MAX_STALE: u64 = 24 * 60 * 60;

/// A mount, a path below one, a namespace or a key's name: segments of letters, digits, `_`, `-` and `.`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VaultPath(String);

/// Not such a path.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a path in Vault is made of letters, digits, `_`, `-` and `.`, with `/` between its segments")]
pub struct VaultPathError;

impl FromStr for VaultPath {
    type Err = VaultPathError;

    fn from_str(text: &str) -> Result<Self, VaultPathError> {
        let text = text.trim_end_matches('/');
        let plain = |byte: u8| byte.is_ascii_alphanumeric() || b"_-.".contains(&byte);
        let good = |segment: &str| !matches!(segment, "" | "." | "..") && segment.bytes().all(plain);
        if text.len() <= 200 && text.split('/').all(good) {
            Ok(Self(text.to_owned()))
        } else {
            Err(VaultPathError)
        }
    }
}

impl VaultPath {
    /// Without a slash at either end.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for VaultPath {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&self.0)
    }
}

/// How this service shows Vault who it is. The values are read each time they are needed.
#[derive(Clone, Debug)]
pub enum Login {
    /// A token that somebody else made and, maybe, replaces.
    Token(Origin),
    /// `AppRole`: a token of its own for each process.
    AppRole {
        /// Where the auth method is mounted: `approle`.
        mount: VaultPath,
        /// Which role.
        role_id: Origin,
        /// What proves it.
        secret_id: Origin,
    },
}

impl Login {
    pub(super) const fn shown(&self) -> &'static str {
        match self {
            Self::Token(_) => "the token",
            Self::AppRole { .. } => "AppRole",
        }
    }
}

/// How Vault or `OpenBao` is reached.
#[derive(Clone)]
pub struct Connection {
    /// Where it is.
    pub address: Address,
    /// Which certificates it may show.
    pub tls: ClientConfig,
    /// Its namespace, if not the root.
    pub namespace: Option<VaultPath>,
    /// Who we are there.
    pub login: Login,
    /// Which modes the files of the login may have.
    pub modes: Modes,
    /// How long one request may take.
    pub timeout: Duration,
    /// Whether this is the running service itself, and not a command that somebody gives: only what Vault refuses the
    /// service ends its copy. A command may have another login, or another environment.
    pub is_service: bool,
}

impl fmt::Debug for Connection {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Connection").field("address", &self.address).finish_non_exhaustive()
    }
}

/// Where a service's peers are.
#[derive(Clone, Debug)]
pub struct Place {
    /// Whose peers they are.
    pub service: ServiceName,
    /// The mount of a key-value engine of version 2.
    pub mount: VaultPath,
    /// The path below it under which services are: the document is at `PREFIX/SERVICE/peers`.
    pub prefix: VaultPath,
    /// How old the copy may get while Vault is away, in seconds; 0 for no copy at all.
    pub max_stale: u64,
}

impl Place {
    /// The document below the mount.
    pub(super) fn key(&self) -> String {
        format!("{}/{}/peers", self.prefix, self.service)
    }

    /// The document for a person.
    pub(super) fn shown(&self) -> String {
        format!("{}/{}", self.mount, self.key())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_path_has_plain_segments_only() {
        for good in ["secret", "team/kv", "a.b_c-d", "secret/"] {
            assert_eq!(good.parse::<VaultPath>().unwrap().as_str(), good.trim_end_matches('/'));
        }
        for wrong in
            ["", "/", "/secret", "a//b", "a/../b", ".", "a b", "a?b", "a%2fb", "a#", &"x".repeat(201)]
        {
            assert!(wrong.parse::<VaultPath>().is_err(), "{wrong}");
        }
    }
}
