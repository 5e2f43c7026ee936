//! The master key, wrapped by Vault's Transit engine: without Vault nobody opens the store.

use std::fmt;

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::session::{Session, errors, json, parse};
use super::settings::{Connection, VaultPath};
use super::{VaultError, block};
use crate::master::MasterKey;

/// A wrapped key is `vault:v1:` and some base64; this is more than any, in bytes.
const MAX_WRAPPED: usize = 1024;

/// A key of the Transit engine that wraps master keys.
#[derive(Clone)]
pub struct Transit {
    /// How Vault is reached.
    pub connection: Connection,
    /// Where the engine is mounted: `transit`.
    pub mount: VaultPath,
    /// The key's name.
    pub key: VaultPath,
}

impl fmt::Debug for Transit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Transit").field("key", &self.key).finish_non_exhaustive()
    }
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
}

#[derive(Deserialize)]
struct Encrypted {
    data: Ciphertext,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Decrypted {
    data: Plaintext,
}

#[derive(Deserialize)]
struct Plaintext {
    plaintext: Zeroizing<String>,
}

impl Transit {
    /// Wraps a master key: what Vault gives may be kept in a file.
    ///
    /// # Errors
    /// Vault is away, or refuses.
    pub fn wrap(&self, master: &MasterKey) -> Result<String, VaultError> {
        let body = json(&Encrypt { plaintext: &master.text() });
        self.wrapped("encrypt", body)
    }

    /// The same master key under the newest version of the Transit key. It does not leave Vault for that.
    ///
    /// # Errors
    /// Vault is away, or refuses; or this is not what its key wrapped.
    pub fn rewrap(&self, wrapped: &str) -> Result<String, VaultError> {
        self.wrapped("rewrap", json(&Decrypt { ciphertext: checked(wrapped, &self.key)? }))
    }

    /// The master key.
    ///
    /// # Errors
    /// Vault is away, or refuses; or this is not what its key wrapped.
    pub fn unwrap(&self, wrapped: &str) -> Result<MasterKey, VaultError> {
        let body = json(&Decrypt { ciphertext: checked(wrapped, &self.key)? });
        let key = self.key.clone();
        self.ask("decrypt", body, move |session, answer| {
            let decrypted: Decrypted = parse(answer).ok_or_else(|| session.odd(answer))?;
            let wrong = || VaultError::Transit { key: key.to_string(), status: 200 };
            MasterKey::parse(&decrypted.data.plaintext).ok_or_else(wrong)
        })
    }

    fn wrapped(&self, what: &'static str, body: Zeroizing<Vec<u8>>) -> Result<String, VaultError> {
        let key = self.key.clone();
        self.ask(what, body, move |session, answer| {
            let encrypted: Encrypted = parse(answer).ok_or_else(|| session.odd(answer))?;
            Ok(checked(&encrypted.data.ciphertext, &key)?.to_owned())
        })
    }

    fn ask<T: Send>(
        &self,
        what: &'static str,
        body: Zeroizing<Vec<u8>>,
        read: impl FnOnce(&Session, &super::http::Answer) -> Result<T, VaultError> + Send,
    ) -> Result<T, VaultError> {
        let path = format!("{}/{what}/{}", self.mount, self.key);
        let key = self.key.to_string();
        block(self.connection.clone(), async move |session: &mut Session| {
            let answer = session.call("using", Method::POST, &path, Some(body)).await?;
            match answer.status {
                status if status.is_success() => read(session, &answer),
                StatusCode::NOT_FOUND if !errors(&answer).is_empty() => Err(VaultError::NotMounted { path }),
                status => Err(VaultError::Transit { key, status: status.as_u16() }),
            }
        })
    }
}

/// What has the form of a wrapped key.
fn checked<'a>(text: &'a str, key: &VaultPath) -> Result<&'a str, VaultError> {
    let text = text.trim_end();
    let plain = |byte: u8| byte.is_ascii_alphanumeric() || b":+/=".contains(&byte);
    if text.starts_with("vault:v") && text.len() <= MAX_WRAPPED && text.bytes().all(plain) {
        Ok(text)
    } else {
        Err(VaultError::Transit { key: key.to_string(), status: 0 })
    }
}
