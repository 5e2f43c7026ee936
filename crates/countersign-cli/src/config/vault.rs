//! `[secrets.vault]`: how Vault or `OpenBao` is reached, and where things are in it.

use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use countersign::client::tls_config;
use countersign::store::origin::{Modes, Origin};
use countersign::store::vault::{
    Address, Connection, DEFAULT_MAX_STALE, DEFAULT_TIMEOUT, Login, Place, VaultPath,
};
use countersign::{ServiceName, Trust};
use serde::Deserialize;
use toml::Spanned;

use super::peers::origin;
use super::{Bounded, ConfigError, Fault};

/// With a token in it, an operator's commands are made in his own name, and not in that of the service.
pub(crate) const OPERATOR_TOKEN: &str = "COUNTERSIGN_VAULT_TOKEN";

const MONTH: u64 = 30 * 24 * 60 * 60;

/// A value that may be a secret put in the wrong place, or is checked by code that knows more than a type.
type Text = Spanned<String>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct VaultTable {
    address: Text,
    ca: Option<Spanned<PathBuf>>,
    pin: Option<Text>,
    namespace: Option<Text>,
    mount: Option<Text>,
    prefix: Option<Text>,
    token: Option<Text>,
    role_id: Option<Text>,
    secret_id: Option<Text>,
    approle_mount: Option<Text>,
    timeout_seconds: Option<Bounded<1, 60>>,
    max_stale_seconds: Option<Bounded<0, MONTH>>,
    pub(crate) transit_key: Option<Text>,
    transit_mount: Option<Text>,
    #[serde(default)]
    danger_plain_http: bool,
}

impl VaultTable {
    /// What is wrong with it, as far as it can be told without looking at any file.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        let address = self.address()?;
        for given in [self.ca.as_ref().map(|path| path.span()), self.pin.as_ref().map(|pin| pin.span())] {
            if let Some(span) = given
                && !address.is_tls()
            {
                return Err(Fault {
                    start: span.start,
                    message: "`ca` and `pin` say whose TLS is trusted, and the address is http://, which has none: give https://…, or take this away".to_owned(),
                });
            }
        }
        if self.danger_plain_http && address.is_tls() {
            return Err(Fault::at(
                &self.address,
                "`danger_plain_http` is for an address with http://, and this one has https://: take the setting away",
            ));
        }
        if let Some(pin) = &self.pin {
            Trust::parse_pin(pin.as_ref()).map_err(|error| Fault::at(pin, error))?;
        }
        if let (Some(authority), Some(_)) = (&self.ca, &self.pin) {
            return Err(Fault::at(authority, "give `ca` or `pin`, not both"));
        }
        for path in [&self.namespace, &self.mount, &self.prefix, &self.transit_key, &self.transit_mount] {
            optional(path.as_ref())?;
        }
        self.login(Path::new("")).map(drop)
    }

    fn address(&self) -> Result<Address, Fault> {
        let parsed = Address::parse(self.address.as_ref(), self.danger_plain_http);
        parsed.map_err(|error| Fault::at(&self.address, error))
    }

    fn login(&self, home: &Path) -> Result<Login, Fault> {
        match (&self.token, &self.role_id, &self.secret_id) {
            (Some(token), None, None) => Ok(Login::Token(origin(token, home)?)),
            (None, Some(role_id), Some(secret_id)) => Ok(Login::AppRole {
                mount: or(self.approle_mount.as_ref(), "approle")?,
                role_id: origin(role_id, home)?,
                secret_id: origin(secret_id, home)?,
            }),
            _ => Err(Fault::at(
                &self.address,
                "how does this service log in? Give `token`, or `role_id` and `secret_id` (each `env:NAME`, `file:/path` or `credential:NAME`)",
            )),
        }
    }

    /// How Vault is reached by a command. Reads the file of `ca`.
    pub(crate) fn connection(&self, home: &Path, modes: Modes) -> Result<Connection, ConfigError> {
        let address = self.address().map_err(plain)?;
        let trust = match (&self.ca, &self.pin) {
            (Some(path), _) => {
                let path = home.join(path.as_ref());
                let failed = |error: &dyn fmt::Display| ConfigError(format!("{}: {error}", path.display()));
                let trust = Trust::Ca(std::fs::read_to_string(&path).map_err(|error| failed(&error))?);
                tls_config(&trust).map_err(|error| failed(&error))?;
                trust
            }
            (None, Some(pin)) => {
                Trust::parse_pin(pin.as_ref()).map_err(|error| ConfigError(error.to_string()))?
            }
            // Without TLS no authority is asked.
            (None, None) if !address.is_tls() => Trust::Pin([0; 32]),
            (None, None) => Trust::System,
        };
        Ok(Connection {
            address,
            tls: tls_config(&trust).map_err(|error| ConfigError(error.to_string()))?,
            namespace: optional(self.namespace.as_ref()).map_err(plain)?,
            login: if has_operator_token() {
                Login::Token(Origin::Environment(OPERATOR_TOKEN.to_owned()))
            } else {
                self.login(home).map_err(plain)?
            },
            is_service: false,
            modes,
            timeout: self.timeout_seconds.map_or(DEFAULT_TIMEOUT, |seconds| Duration::from_secs(seconds.0)),
        })
    }

    /// Where the peers of `service` are.
    pub(crate) fn place(&self, service: &ServiceName) -> Result<Place, ConfigError> {
        Ok(Place {
            service: service.clone(),
            mount: or(self.mount.as_ref(), "secret").map_err(plain)?,
            prefix: or(self.prefix.as_ref(), "countersign").map_err(plain)?,
            max_stale: self.max_stale_seconds.map_or(DEFAULT_MAX_STALE, |seconds| seconds.0),
        })
    }

    /// Mount and name of the key that wraps the master key, if one does.
    pub(crate) fn transit(&self) -> Result<Option<(VaultPath, VaultPath)>, ConfigError> {
        let Some(key) = optional(self.transit_key.as_ref()).map_err(plain)? else { return Ok(None) };
        Ok(Some((or(self.transit_mount.as_ref(), "transit").map_err(plain)?, key)))
    }

    /// `https://HOST:PORT`
    pub(crate) fn shown(&self) -> &str {
        self.address.as_ref()
    }
}

/// Whether an operator has put his own token into the environment.
pub(crate) fn has_operator_token() -> bool {
    std::env::var_os(OPERATOR_TOKEN).is_some_and(|token| !token.is_empty())
}

fn optional(text: Option<&Text>) -> Result<Option<VaultPath>, Fault> {
    text.map(|text| text.as_ref().parse().map_err(|error| Fault::at(text, error))).transpose()
}

fn or(text: Option<&Text>, default: &str) -> Result<VaultPath, Fault> {
    match optional(text)? {
        Some(path) => Ok(path),
        None => default.parse().map_err(|error: countersign::store::vault::VaultPathError| Fault {
            start: 0,
            message: error.to_string(),
        }),
    }
}

/// A fault that was found when the file was read already.
fn plain(fault: Fault) -> ConfigError {
    ConfigError(fault.message)
}
