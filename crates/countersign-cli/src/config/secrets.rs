//! `[secrets]`: where peers and their secrets are.

use countersign::store::origin::Modes;
use serde::Deserialize;
use toml::Spanned;

use super::Fault;
use super::vault::VaultTable;

/// Where peers and their secrets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum From {
    /// In `store.sqlite`.
    #[default]
    Store,
    /// Declared in `countersign.toml`, with the secrets in the environment, in files or in systemd credentials.
    Config,
    /// In Vault or `OpenBao`.
    Vault,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Secrets {
    from: Option<Spanned<From>>,
    danger_readable_by_others: bool,
    pub(crate) vault: Option<VaultTable>,
}

impl Secrets {
    pub(crate) fn from(&self) -> From {
        self.from.as_ref().map_or_else(From::default, |from| *from.as_ref())
    }

    /// What is wrong with it, as far as it can be told without looking at any file.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        match (&self.vault, &self.from) {
            (Some(vault), _) => vault.check(),
            (None, Some(from)) if *from.as_ref() == From::Vault => {
                Err(Fault::at(from, "where is Vault? Add a table `[secrets.vault]` (docs/secrets.md)"))
            }
            (None, _) => Ok(()),
        }
    }

    /// Which modes files with secrets may have.
    pub(crate) const fn modes(&self) -> Modes {
        if self.danger_readable_by_others { Modes::DangerReadableByOthers } else { Modes::Strict }
    }

    /// Where peers and their secrets are, for a person.
    pub(crate) fn place(&self) -> String {
        match (self.from(), &self.vault) {
            (From::Store, _) => "store.sqlite, sealed under the master key".to_owned(),
            (From::Config, _) => "declared in countersign.toml (read-only)".to_owned(),
            (From::Vault, Some(vault)) => format!("Vault at {}", vault.shown()),
            (From::Vault, None) => "Vault".to_owned(),
        }
    }
}
