//! `[[peer]]`: peers that are declared here, with their keys and secrets elsewhere.

use std::fmt;
use std::path::{Path, PathBuf};

use countersign::client::{BaseUrl, tls_config};
use countersign::protocol::cs1::Binding;
use countersign::store::Cs1Options;
use countersign::store::declared::{Declared, DeclaredKeys, Given};
use countersign::store::lifecycle::DEFAULT_ROTATE_EVERY;
use countersign::store::origin::Origin;
use countersign::{ApiKey, Profile, ServiceName, Trust};
use serde::Deserialize;
use toml::Spanned;

use super::{Bounded, ConfigError, Fault};

const DAY: u64 = 24 * 60 * 60;

/// A value that may be a secret put in the wrong place: it is looked at later, by code that does not repeat it.
type Place = Option<Spanned<String>>;

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct PeerTable {
    name: Spanned<ServiceName>,
    profile: Profile,
    url: Option<Spanned<String>>,
    tls_ca: Option<Spanned<PathBuf>>,
    tls_pin: Option<Spanned<String>>,
    #[serde(default)]
    danger_unproven_server: bool,
    binding: Option<Spanned<String>>,
    #[serde(default)]
    danger_direct: bool,
    rotate_every_days: Option<Bounded<0, 3650>>,
    our_key: Place,
    their_key: Place,
    secret: Place,
    our_secret: Place,
    their_secret: Place,
    next_our_key: Place,
    next_their_key: Place,
    next_secret: Place,
    next_our_secret: Place,
    next_their_secret: Place,
}

/// The settings of one credential.
struct Settings<'a> {
    our_key: &'a Place,
    their_key: &'a Place,
    secret: &'a Place,
    our_secret: &'a Place,
    their_secret: &'a Place,
}

impl PeerTable {
    pub(crate) fn start(&self) -> usize {
        self.name.span().start
    }

    pub(crate) fn name(&self) -> &ServiceName {
        self.name.as_ref()
    }

    /// The peer as the store takes it, with relative paths below `home`. Files are not looked at, but for that of
    /// `tls_ca`.
    pub(crate) fn declared(&self, home: &Path) -> Result<Declared, ConfigError> {
        let (keys, next) = self.keys(home).map_err(|fault| ConfigError(fault.message))?;
        let trust = match (&self.tls_ca, &self.tls_pin) {
            (Some(path), _) => {
                let path = home.join(path.as_ref());
                let failed = |error: &dyn fmt::Display| ConfigError(format!("{}: {error}", path.display()));
                let trust = Trust::Ca(std::fs::read_to_string(&path).map_err(|error| failed(&error))?);
                tls_config(&trust).map_err(|error| failed(&error))?;
                trust
            }
            (None, Some(pin)) => Trust::parse_pin(pin.as_ref()).map_err(wrong)?,
            (None, None) => Trust::System,
        };
        // Kept as the parser writes it: in ASCII, percent-encoded.
        let url = self.url.as_ref().map(|url| BaseUrl::parse(url.as_ref())).transpose();
        let url = url.map_err(wrong)?;
        let cs1 = self.cs1().map_err(|fault| ConfigError(fault.message))?;
        Ok(Declared {
            name: self.name().clone(),
            url: url.map(|url| url.to_string()),
            trust,
            danger_unproven_server: self.danger_unproven_server,
            cs1,
            rotate_every: match self.rotate_every_days {
                None => Some(DEFAULT_ROTATE_EVERY),
                Some(Bounded(0)) => None,
                Some(Bounded(days)) => Some(days * DAY),
            },
            keys,
            next,
        })
    }

    /// What is wrong with it, as far as it can be told without looking at any file.
    pub(crate) fn check(&self) -> Result<(), Fault> {
        if let Some(url) = &self.url {
            BaseUrl::parse(url.as_ref()).map_err(|error| Fault::at(url, error))?;
        }
        if let Some(pin) = &self.tls_pin {
            Trust::parse_pin(pin.as_ref()).map_err(|error| Fault::at(pin, error))?;
        }
        if let (Some(authority), Some(_)) = (&self.tls_ca, &self.tls_pin) {
            return Err(Fault::at(authority, "give `tls_ca` or `tls_pin`, not both"));
        }
        self.cs1()?;
        self.keys(Path::new("")).map(drop)
    }

    fn cs1(&self) -> Result<Cs1Options, Fault> {
        let binding = match &self.binding {
            None => Binding::None,
            Some(text) => Binding::parse(text.as_ref())
                .ok_or_else(|| Fault::at(text, "a binding is \"none\" or \"tls-exporter\""))?,
        };
        let cs1 = Cs1Options { binding, danger_direct: self.danger_direct };
        cs1.check(self.profile, self.danger_unproven_server)
            .map_err(|error| Fault { start: self.start(), message: error.to_string() })?;
        Ok(cs1)
    }

    fn keys(&self, home: &Path) -> Result<(DeclaredKeys, Option<DeclaredKeys>), Fault> {
        let now = Settings {
            our_key: &self.our_key,
            their_key: &self.their_key,
            secret: &self.secret,
            our_secret: &self.our_secret,
            their_secret: &self.their_secret,
        };
        let keys = self.credential(&now, home)?;
        // What does not change need not be named again: where they are public the keys, under api-key one direction.
        let next_secrets = [&self.next_secret, &self.next_our_secret, &self.next_their_secret];
        let next_keys = [&self.next_our_key, &self.next_their_key];
        if next_secrets.into_iter().chain(next_keys).all(Option::is_none) {
            return Ok((keys, None));
        }
        let kept = |next: &'_ Place, now: &'_ Place| if next.is_some() { next.clone() } else { now.clone() };
        let (our_key, their_key) =
            (kept(&self.next_our_key, &self.our_key), kept(&self.next_their_key, &self.their_key));
        let next = Settings {
            our_key: &our_key,
            their_key: &their_key,
            secret: &self.next_secret,
            our_secret: &self.next_our_secret,
            their_secret: &self.next_their_secret,
        };
        Ok((keys, Some(self.credential(&next, home)?)))
    }

    fn credential(&self, from: &Settings<'_>, home: &Path) -> Result<DeclaredKeys, Fault> {
        let wrong = |message: &str| Fault { start: self.start(), message: message.to_owned() };
        let secret = |place: &Spanned<String>| origin(place, home);
        match self.profile {
            Profile::Cs1 => {
                let (Some(our_key), Some(their_key)) = (from.our_key, from.their_key) else {
                    return Err(wrong("the profile cs1 needs `our_key` and `their_key`"));
                };
                let (Some(one), None, None) = (from.secret, from.our_secret, from.their_secret) else {
                    return Err(wrong(
                        "the profile cs1 has one secret for both directions: `secret` (and `next_secret` for the next credential)",
                    ));
                };
                let (our_key, their_key) = (given(our_key, home)?, given(their_key, home)?);
                Ok(DeclaredKeys::Cs1 { our_key, their_key, secret: secret(one)? })
            }
            Profile::SharedSecret => {
                let (Some(our_key), Some(their_key)) = (from.our_key, from.their_key) else {
                    return Err(wrong("the profile shared-secret needs `our_key` and `their_key`"));
                };
                let (our_secret, their_secret) = match (from.secret, from.our_secret, from.their_secret) {
                    (Some(one), None, None) => (secret(one)?, secret(one)?),
                    (None, Some(ours), Some(theirs)) => (secret(ours)?, secret(theirs)?),
                    _ => {
                        return Err(wrong(
                            "the profile shared-secret needs `secret`, or else `our_secret` and `their_secret` (and the next credential all of its own)",
                        ));
                    }
                };
                let (our_key, their_key) = (given(our_key, home)?, given(their_key, home)?);
                Ok(DeclaredKeys::SharedSecret { our_key, their_key, our_secret, their_secret })
            }
            Profile::ApiKey => {
                if from.secret.is_some() || from.our_secret.is_some() || from.their_secret.is_some() {
                    return Err(wrong("the profile api-key has no secret beside the key"));
                }
                let ours = from.our_key.as_ref().map(secret).transpose()?;
                let theirs = from.their_key.as_ref().map(secret).transpose()?;
                if ours.is_none() && theirs.is_none() {
                    return Err(wrong("the profile api-key needs `our_key`, `their_key` or both"));
                }
                Ok(DeclaredKeys::ApiKey { ours, theirs })
            }
            other => Err(wrong(&format!("the profile {other} cannot be declared"))),
        }
    }
}

/// Where a secret is.
pub(crate) fn origin(place: &Spanned<String>, home: &Path) -> Result<Origin, Fault> {
    let origin: Origin = place.as_ref().parse().map_err(|error| Fault::at(place, error))?;
    Ok(origin.below(home))
}

/// A public API key, or where it is. (No key has a colon, and every place has.)
fn given(place: &Spanned<String>, home: &Path) -> Result<Given, Fault> {
    if place.as_ref().contains(':') {
        return origin(place, home).map(Given::From);
    }
    let key: ApiKey = place.as_ref().parse().map_err(|error| Fault::at(place, error))?;
    Ok(Given::Here(key))
}

fn wrong(error: impl fmt::Display) -> ConfigError {
    ConfigError(error.to_string())
}
