//! `[secrets]`: where peers and their secrets are.

use countersign::store::origin::Modes;
use serde::Deserialize;

/// Where peers and their secrets are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum From {
    /// In `store.sqlite`.
    #[default]
    Store,
    /// Declared in `countersign.toml`, with the secrets in the environment, in files or in systemd credentials.
    Config,
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Secrets {
    pub(crate) from: From,
    danger_readable_by_others: bool,
}

impl Secrets {
    /// Which modes files with secrets may have.
    pub(crate) const fn modes(&self) -> Modes {
        if self.danger_readable_by_others { Modes::DangerReadableByOthers } else { Modes::Strict }
    }

    /// Where peers and their secrets are, for a person.
    pub(crate) const fn place(&self) -> &'static str {
        match self.from {
            From::Store => "store.sqlite, sealed under the master key",
            From::Config => "declared in countersign.toml (read-only)",
        }
    }
}
