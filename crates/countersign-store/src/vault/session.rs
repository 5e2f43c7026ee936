//! Who we are at Vault: a token, its renewal, and a new login when it has ended.

use std::sync::Arc;
use std::time::{Duration, Instant};

use http::{Method, StatusCode};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::VaultError;
use super::http::{Answer, Http};
use super::settings::{Connection, Login};
use crate::origin::{Modes, Origin};

/// How long after a renewal that failed the next one is tried.
const RENEW_AGAIN: Duration = Duration::from_secs(5);

/// As good as for ever, in seconds: what is longer could not be added to a time.
const LONGEST: u64 = 10 * 365 * 24 * 60 * 60;

/// Requests to Vault in the name of this service.
pub(super) struct Session {
    http: Http,
    login: Login,
    modes: Modes,
    grant: Option<Grant>,
    /// A token that cannot be renewed is told of once.
    warned: bool,
}

/// A token, and what is known of its life.
struct Grant {
    token: Zeroizing<String>,
    lease: Option<Lease>,
}

#[derive(Clone, Copy, Debug)]
struct Lease {
    renewable: bool,
    /// What the first grant was: one that is much shorter has come to its greatest age.
    first: Duration,
    renew_at: Instant,
    ends: Instant,
}

impl Lease {
    /// `None` for a token that does not end.
    fn of(seconds: u64, renewable: bool, first: Option<Duration>) -> Option<Self> {
        let granted = Duration::from_secs(seconds.min(LONGEST));
        let now = Instant::now();
        (seconds > 0).then(|| Self {
            renewable,
            first: first.unwrap_or(granted),
            renew_at: now + granted * 2 / 3,
            ends: now + granted,
        })
    }

    /// Whether renewing it gives little more: it has come to its greatest age.
    fn is_worn(&self) -> bool {
        self.ends.saturating_duration_since(Instant::now()) < self.first / 2
    }
}

impl Session {
    pub(super) fn new(connection: Connection) -> Result<Self, VaultError> {
        let Connection { address, tls, namespace, login, modes, timeout, .. } = connection;
        let namespace = namespace.map(|path| path.as_str().parse()).transpose();
        let namespace = namespace.map_err(|_| VaultError::Gone)?;
        let http = Http::new(address, tls, namespace, timeout);
        Ok(Self { http, login, modes, grant: None, warned: false })
    }

    pub(super) fn address(&self) -> String {
        self.http.address().to_string()
    }

    /// In how many seconds the token ends, if it does and is known.
    pub(super) fn ends_in(&self) -> Option<u64> {
        let lease = self.grant.as_ref()?.lease?;
        Some(lease.ends.saturating_duration_since(Instant::now()).as_secs())
    }

    /// Whether a new token is made when one ends.
    pub(super) const fn logs_in(&self) -> bool {
        matches!(self.login, Login::AppRole { .. })
    }

    /// Sends a request with a token that should be good; if Vault thinks otherwise, once more after one new login.
    /// What comes back has a status of success, or is Vault's own 400 or 404.
    pub(super) async fn call(
        &mut self,
        what: &'static str,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer, VaultError> {
        let fresh = self.grant.is_none();
        self.prepare().await?;
        let first = self.once(method.clone(), path, body.clone()).await?;
        let denied = first.status == StatusCode::FORBIDDEN && is_vaults(&first);
        if denied && !fresh {
            self.grant = None;
            self.prepare().await?;
            let second = self.once(method, path, body).await?;
            return self.judge(what, path, second);
        }
        self.judge(what, path, first)
    }

    async fn once(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
    ) -> Result<Answer, VaultError> {
        let token = self.grant.as_ref().map(|grant| &grant.token);
        self.http.send(method, path, token, body).await
    }

    /// What an answer means. Only Vault's own "no" is a refusal: a proxy's 403 is an outage.
    fn judge(&self, what: &'static str, path: &str, answer: Answer) -> Result<Answer, VaultError> {
        let (address, status) = (self.address(), answer.status.as_u16());
        match status {
            200..=299 => Ok(answer),
            300..=399 => Err(VaultError::Redirected { address, status }),
            400 | 404 if is_vaults(&answer) => Ok(answer),
            403 if is_vaults(&answer) => Err(VaultError::Denied { what, path: path.to_owned() }),
            429 => Err(VaultError::Busy { address }),
            503 => Err(VaultError::Sealed { address }),
            _ => Err(VaultError::Odd { address, status }),
        }
    }

    /// Sees to it that there is a token: logs in, renews, or logs in anew.
    async fn prepare(&mut self) -> Result<(), VaultError> {
        let now = Instant::now();
        match self.grant.as_ref().map(|grant| grant.lease) {
            None => self.log_in().await,
            Some(Some(lease)) if now >= lease.ends => self.log_in().await,
            Some(Some(lease)) if now >= lease.renew_at => self.renew(lease).await,
            Some(_) => Ok(()),
        }
    }

    async fn renew(&mut self, lease: Lease) -> Result<(), VaultError> {
        if lease.renewable {
            let body = Some(Zeroizing::new(b"{}".to_vec()));
            let sent = self.once(Method::POST, "auth/token/renew-self", body).await;
            match sent.and_then(|answer| self.judge("renewing its token at", "auth/token/renew-self", answer))
            {
                Ok(answer) if answer.status.is_success() => {
                    let auth = self.auth(&answer)?;
                    let longer = Lease::of(auth.lease_duration, auth.renewable, Some(lease.first));
                    if let Some(grant) = &mut self.grant {
                        grant.lease = longer;
                    }
                    if longer.is_none_or(|longer| !longer.is_worn()) {
                        return Ok(());
                    }
                }
                // Refused: perhaps a new login is not.
                Ok(_) | Err(VaultError::Denied { .. }) => {}
                // Vault is away; the token is good for a while yet.
                Err(error) => {
                    self.later();
                    tracing::debug!(%error, "the token for Vault is not renewed yet");
                    return Ok(());
                }
            }
        }
        match (self.log_in().await, &self.login) {
            (Err(error), _) if Instant::now() >= lease.ends => Err(error),
            (Err(error), _) => {
                self.later();
                tracing::warn!(%error, "the token for Vault ends soon, and there is no new one yet");
                Ok(())
            }
            (Ok(()), Login::AppRole { .. }) => Ok(()),
            (Ok(()), Login::Token(origin)) => {
                // The same one again, most likely: it is for its owner to replace it in time.
                let worn =
                    self.grant.as_ref().and_then(|grant| grant.lease).is_some_and(|lease| {
                        lease.ends.saturating_duration_since(Instant::now()) < lease.first
                    });
                if worn && !std::mem::replace(&mut self.warned, true) {
                    let seconds = self.ends_in().unwrap_or_default();
                    tracing::warn!(
                        seconds,
                        "the token for Vault ends then and cannot be renewed: put a new one into {origin}"
                    );
                }
                self.later();
                Ok(())
            }
        }
    }

    fn later(&mut self) {
        if let Some(lease) = self.grant.as_mut().and_then(|grant| grant.lease.as_mut()) {
            lease.renew_at = Instant::now() + RENEW_AGAIN;
        }
    }

    async fn log_in(&mut self) -> Result<(), VaultError> {
        let grant = match self.login.clone() {
            Login::Token(origin) => self.token(&origin).await?,
            Login::AppRole { mount, role_id, secret_id } => {
                let (role_id, secret_id) = (self.read(&role_id)?, self.read(&secret_id)?);
                let body = json(&AppRoleBody { role_id: &role_id, secret_id: &secret_id });
                let path = format!("auth/{mount}/login");
                let answer = self.http.send(Method::POST, &path, None, Some(body)).await?;
                let status = answer.status.as_u16();
                let how = self.login.shown();
                match status {
                    400 if is_vaults(&answer) => return Err(VaultError::Login { how, status }),
                    // A stranger who knows the role's id, which is no secret, brings this about by guessing: the role
                    // is locked out, whatever comes with it.
                    403 | 404 if is_vaults(&answer) => return Err(VaultError::LoginHeldUp { how, status }),
                    _ => {}
                }
                let answer = self.judge("logging in at", &path, answer)?;
                let auth = self.auth(&answer)?;
                let lease = Lease::of(auth.lease_duration, auth.renewable, None);
                Grant { token: auth.client_token, lease }
            }
        };
        tracing::debug!("logged in to Vault");
        self.grant = Some(grant);
        Ok(())
    }

    /// The token that is given, and when it ends, as far as it may be asked.
    async fn token(&self, origin: &Origin) -> Result<Grant, VaultError> {
        let token = self.read(origin)?;
        let answer = self.http.send(Method::GET, "auth/token/lookup-self", Some(&token), None).await?;
        let lease = match answer.status {
            // Without the policy `default` a good token cannot ask: the request itself will tell.
            StatusCode::FORBIDDEN if is_vaults(&answer) => None,
            _ => {
                let answer = self.judge("asking about its token at", "auth/token/lookup-self", answer)?;
                let looked: LookupAnswer = parse(&answer).ok_or_else(|| self.odd(&answer))?;
                let before = self.grant.as_ref().filter(|grant| grant.token == token);
                let first = before.and_then(|grant| grant.lease).map(|lease| lease.first);
                Lease::of(looked.data.ttl, looked.data.renewable, first)
            }
        };
        Ok(Grant { token, lease })
    }

    fn read(&self, origin: &Origin) -> Result<Zeroizing<String>, VaultError> {
        let value = origin.read(self.modes, |name| std::env::var_os(name));
        value.map_err(|error| VaultError::Origin(Arc::new(error)))
    }

    fn auth(&self, answer: &Answer) -> Result<Auth, VaultError> {
        parse::<LoginAnswer>(answer).and_then(|login| login.auth).ok_or_else(|| self.odd(answer))
    }

    /// An answer that is not what was asked for.
    pub(super) fn odd(&self, answer: &Answer) -> VaultError {
        VaultError::Odd { address: self.address(), status: answer.status.as_u16() }
    }

    /// Gives back a token that was made for this process.
    pub(super) async fn log_out(&mut self) {
        if self.logs_in() && self.grant.is_some() {
            let body = Some(Zeroizing::new(b"{}".to_vec()));
            // Its lease ends it in any case.
            let _ = self.once(Method::POST, "auth/token/revoke-self", body).await;
            self.grant = None;
        }
    }
}

#[derive(Deserialize)]
struct LoginAnswer {
    auth: Option<Auth>,
}

#[derive(Deserialize)]
struct Auth {
    client_token: Zeroizing<String>,
    lease_duration: u64,
    renewable: bool,
}

#[derive(Deserialize)]
struct LookupAnswer {
    data: Lookup,
}

#[derive(Deserialize)]
struct Lookup {
    ttl: u64,
    #[serde(default)]
    renewable: bool,
}

#[derive(Serialize)]
struct AppRoleBody<'a> {
    role_id: &'a str,
    secret_id: &'a str,
}

/// A body, in a buffer that does not grow and so leaves nothing behind.
pub(super) fn json(value: &impl Serialize) -> Zeroizing<Vec<u8>> {
    let mut bytes = Zeroizing::new(Vec::with_capacity(16 * 1024));
    // Writing to memory does not fail, and what we send has no maps with odd keys.
    let _ = serde_json::to_writer(&mut *bytes, value);
    bytes
}

pub(super) fn parse<'a, T: Deserialize<'a>>(answer: &'a Answer) -> Option<T> {
    serde_json::from_slice(&answer.body).ok()
}

/// What Vault says is wrong. For comparing, not for showing: it may quote what was sent.
pub(super) fn errors(answer: &Answer) -> Vec<String> {
    parse::<Said>(answer).and_then(|said| said.errors).unwrap_or_default()
}

/// Whether this has the form of Vault's answers, and not of some proxy's.
fn is_vaults(answer: &Answer) -> bool {
    parse::<Said>(answer).is_some_and(|said| said.errors.is_some() || said.request_id.is_some())
}

#[derive(Deserialize)]
struct Said {
    errors: Option<Vec<String>>,
    request_id: Option<String>,
}
