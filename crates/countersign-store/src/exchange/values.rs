//! Lines `NAME=VALUE`, read strictly.

use std::fmt::Write as _;

use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{ApiKey, FormError, Profile};
use countersign_protocol::secret::SharedSecret;

use super::{ExchangeError, MAX};
use crate::NewKeys;
use crate::peer::Form;

/// The values of a text.
pub(super) struct Values<'a>(Vec<(&'static str, &'a str)>);

impl<'a> Values<'a> {
    /// Reads lines `NAME=VALUE`, of which the first says `FORM=form`; each of the names comes once at most, and no other.
    pub(super) fn read(text: &'a str, form: &str, names: &[&'static str]) -> Result<Self, ExchangeError> {
        if text.len() > MAX {
            return Err(ExchangeError::TooLong);
        }
        let mut values: Vec<(&'static str, &'a str)> = Vec::new();
        for (index, line) in text.split('\n').enumerate() {
            let line = line.strip_suffix('\r').unwrap_or(line);
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            let wrong =
                || if values.is_empty() { ExchangeError::Other } else { ExchangeError::Line(index + 1) };
            let (name, value) = line.split_once('=').ok_or_else(wrong)?;
            let name = names.iter().copied().find(|known| *known == name).ok_or_else(wrong)?;
            if values.iter().any(|(known, _)| *known == name) {
                return Err(ExchangeError::Line(index + 1));
            }
            values.push((name, value));
            if values.first() != Some(&("FORM", form)) {
                return Err(ExchangeError::Other);
            }
        }
        if values.is_empty() { Err(ExchangeError::Other) } else { Ok(Self(values)) }
    }

    pub(super) fn find(&self, name: &'static str) -> Option<&'a str> {
        self.0.iter().find(|(known, _)| *known == name).map(|(_, value)| *value)
    }

    pub(super) fn need(&self, name: &'static str) -> Result<&'a str, ExchangeError> {
        self.find(name).ok_or(ExchangeError::Missing(name))
    }

    /// A value of a type whose error says nothing of it.
    pub(super) fn parse<T: std::str::FromStr<Err = FormError>>(
        &self,
        name: &'static str,
    ) -> Result<T, ExchangeError> {
        self.need(name)?.parse().map_err(|error| ExchangeError::Value { name, error })
    }

    fn key(&self, name: &'static str) -> Result<Option<ApiKey>, ExchangeError> {
        self.find(name).map(|_| self.parse(name)).transpose()
    }

    pub(super) fn fingerprint(&self, name: &'static str) -> Result<Fingerprint, ExchangeError> {
        let text = self.need(name)?;
        let groups: Vec<&str> = text.split('-').collect();
        let digits = |group: &&str| group.len() == 5 && group.bytes().all(|byte| byte.is_ascii_digit());
        if groups.len() != 6 || !groups.iter().all(digits) {
            return Err(ExchangeError::Wrong(name));
        }
        Ok(Fingerprint::from_stored(groups.join(" ")))
    }

    pub(super) fn none_of(&self, names: &[&'static str]) -> Result<(), ExchangeError> {
        names
            .iter()
            .find(|name| self.find(name).is_some())
            .map_or(Ok(()), |name| Err(ExchangeError::Beside(name)))
    }

    pub(super) fn keys(&self, profile: Profile) -> Result<NewKeys, ExchangeError> {
        match profile {
            Profile::Cs1 => {
                self.none_of(&["MAKER_SECRET", "TAKER_SECRET"])?;
                let (our_key, their_key) = (self.parse("MAKER_API_KEY")?, self.parse("TAKER_API_KEY")?);
                Ok(NewKeys::cs1(our_key, their_key, self.parse("SECRET")?)?)
            }
            Profile::SharedSecret => {
                let (maker, taker) = if self.find("SECRET").is_some() {
                    self.none_of(&["MAKER_SECRET", "TAKER_SECRET"])?;
                    let one: SharedSecret = self.parse("SECRET")?;
                    (one.clone(), one)
                } else if self.find("MAKER_SECRET").is_some() {
                    (self.parse("MAKER_SECRET")?, self.parse("TAKER_SECRET")?)
                } else {
                    return Err(ExchangeError::Missing("SECRET"));
                };
                let (our_key, their_key) = (self.parse("MAKER_API_KEY")?, self.parse("TAKER_API_KEY")?);
                Ok(NewKeys::shared_secret(our_key, their_key, maker, taker)?)
            }
            Profile::ApiKey => {
                self.none_of(&["SECRET", "MAKER_SECRET", "TAKER_SECRET"])?;
                Ok(NewKeys::api_key(self.key("MAKER_API_KEY")?, self.key("TAKER_API_KEY")?)?)
            }
            _ => Err(ExchangeError::Wrong("PROFILE")),
        }
    }
}

/// A fingerprint as one word.
pub(super) fn dashed(fingerprint: &Fingerprint) -> String {
    fingerprint.as_str().replace(' ', "-")
}

/// The lines with the keys.
pub(super) fn write_keys(text: &mut String, keys: &NewKeys) {
    match &keys.0 {
        Form::Cs1 { our_key, their_key, secret } => {
            let _ = write!(
                text,
                "MAKER_API_KEY={}\nTAKER_API_KEY={}\nSECRET={}\n",
                our_key.expose(),
                their_key.expose(),
                secret.expose()
            );
        }
        Form::SharedSecret { our_key, their_key, our_secret, their_secret } => {
            let (ours, theirs) = (our_secret.expose(), their_secret.expose());
            let _ =
                write!(text, "MAKER_API_KEY={}\nTAKER_API_KEY={}\n", our_key.expose(), their_key.expose());
            let _ = if ours == theirs {
                writeln!(text, "SECRET={ours}")
            } else {
                write!(text, "MAKER_SECRET={ours}\nTAKER_SECRET={theirs}\n")
            };
        }
        Form::ApiKey { ours, theirs } => {
            for (name, key) in [("MAKER_API_KEY", ours), ("TAKER_API_KEY", theirs)] {
                if let Some(key) = key {
                    let _ = writeln!(text, "{name}={}", key.expose());
                }
            }
        }
    }
}
