//! Vault: whether it answers, how long the login is good, what it allows, and how old the copy of it is.

use countersign::store::vault::{Health, VaultError, copy_age, examine};

use super::finding::{Findings, path};
use crate::config::{Config, SecretsFrom};
use crate::failure::Failure;
use crate::home::Home;
use crate::show::span;

/// A token that ends sooner than this was not renewed, in seconds.
const SOON: u64 = 60 * 60;

const LOGIN: &str = "issue a new token or secret id and put it where [secrets.vault] says (docs/secrets.md)";

/// Anybody who knows the role's id can bring it about, and the role's id is no secret.
const LOCKED_OUT: &str = "bao auth tune -user-lockout-disable=true approle   (ends the lock-out; if there is none, `bao auth list` does not have the mount: docs/secrets.md)";

pub(super) fn check(home: &Home, config: &Config, offline: bool, findings: &mut Findings) {
    if config.secrets.from() != SecretsFrom::Vault {
        return;
    }
    copy(home, config, findings);
    if offline {
        return;
    }
    match look(home, config) {
        Ok(health) => tell(&health, config, findings),
        Err(Looked::Config(failure)) => {
            findings.fail("vault", failure.message(), format!("correct {}", path(&home.config_file())));
        }
        Err(Looked::Vault(error)) => {
            let mend = match &error {
                VaultError::Login { .. } | VaultError::Denied { .. } | VaultError::Origin(_) => {
                    LOGIN.to_owned()
                }
                VaultError::LoginHeldUp { .. } => LOCKED_OUT.to_owned(),
                VaultError::Sealed { .. } => "bao operator unseal".to_owned(),
                VaultError::NotMounted { .. } => "bao secrets enable -path=MOUNT -version=2 kv".to_owned(),
                _ => format!("BAO_ADDR={} bao status", address(config)),
            };
            findings.fail("vault", error.to_string(), mend);
        }
    }
}

enum Looked {
    Config(Failure),
    Vault(VaultError),
}

fn look(home: &Home, config: &Config) -> Result<Health, Looked> {
    let vault = home.vault(config).map_err(Looked::Config)?;
    let connection = vault.connection(home.path(), config.secrets.modes());
    let connection = connection.map_err(|error| Looked::Config(error.into()))?;
    let place = vault.place(&config.service).map_err(|error| Looked::Config(error.into()))?;
    examine(connection, &place).map_err(Looked::Vault)
}

fn address(config: &Config) -> &str {
    config.secrets.vault.as_ref().map_or("…", |vault| vault.shown())
}

fn tell(health: &Health, config: &Config, findings: &mut Findings) {
    let (bytes, most) = health.bytes;
    let peers = if health.found {
        format!("{} peers in {bytes} of {most} bytes", health.peers)
    } else {
        "no document yet: `countersign peer add` makes it".to_owned()
    };
    findings.ok("vault", format!("{} answers: {peers}", address(config)));
    if bytes > most / 10 * 8 {
        findings.warn(
            "vault-size",
            format!("the document has {bytes} of {most} bytes; beyond that no peer can be added"),
            "countersign peer remove NAME   (those that are not used any more)",
        );
    }
    match health.token_ends_in {
        Some(seconds) if seconds < SOON && !health.logs_in => {
            findings.warn("vault-login", format!("the token ends in {}", span(seconds)), LOGIN);
        }
        Some(seconds) => findings.ok("vault-login", format!("the token ends in {}", span(seconds))),
        None => findings.ok("vault-login", "the token does not end, or may not be asked"),
    }
    if health.is_root {
        findings.warn(
            "vault-policy",
            "the login may do everything: whoever takes it from this machine has all of Vault",
            "bao policy write …, and a login with that policy alone (docs/secrets.md)",
        );
    } else if !health.can_write {
        findings.warn(
            "vault-policy",
            "the login may not change the document: that a peer has taken up a rotation is known on this node only",
            "add \"update\" to the policy, or leave it and rotate with a deadline (docs/secrets.md)",
        );
    } else if !health.can_poll {
        findings.warn(
            "vault-policy",
            "the login may not read the document's metadata: all of it is read two or three times a second",
            "add \"read\" on MOUNT/metadata/PREFIX/SERVICE/peers to the policy (docs/secrets.md)",
        );
    } else {
        findings.ok("vault-policy", "the document may be read and changed");
    }
}

/// The copy that an outage would be bridged with.
fn copy(home: &Home, config: &Config, findings: &mut Findings) {
    let found = home.local_store().and_then(|local| {
        let vault = home.vault(config)?;
        let connection = vault.connection(home.path(), config.secrets.modes())?;
        let place = vault.place(&config.service)?;
        Ok((copy_age(&connection, &place, &local)?, place.max_stale))
    });
    match found {
        Ok((_, 0)) => {
            findings.ok("vault-copy", "max_stale_seconds = 0: an outage of Vault ends this service");
        }
        Ok((None, _)) => findings.warn(
            "vault-copy",
            "there is no copy: an outage of Vault could not be bridged over a restart",
            "countersign status   (makes one, if Vault answers)",
        ),
        Ok((Some(age), max)) if age >= max => findings.warn(
            "vault-copy",
            format!("the copy is {} old and is not used any more", span(age)),
            "countersign status   (makes a new one, if Vault answers)",
        ),
        Ok((Some(age), max)) => findings.ok(
            "vault-copy",
            format!("{} old; it is used for {} after it was current", span(age), span(max)),
        ),
        // What is wrong with these was told already.
        Err(_) => {}
    }
}
