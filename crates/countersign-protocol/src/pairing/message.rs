//! P1 to P4 as JSON (section 5): strict inwards, on both sides.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::pake::is_share;
use super::statement::is_url;
use super::words::OfferId;
use crate::identity::ServiceName;
use crate::mac::Tag;
use crate::refusal::Malformed;
use crate::wire::body::parse;

/// Where the offerer takes P1 and P3, below its URL.
pub const PATH: &str = "/.well-known/countersign/pairing";
/// The longest sealed value, in bytes.
const MAX_SEALED: usize = 2048;

/// P1.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Start {
    /// Which offer is meant.
    pub offer: OfferId,
    /// The URL that the accepter dialled.
    pub url: String,
    /// What names this exchange: 16 random bytes, `sid` of `CPace`.
    pub session: [u8; 16],
    /// Ya.
    pub share: [u8; 32],
}

/// P3. Its `Debug` does not show what is sealed.
#[derive(Clone)]
pub struct Confirm {
    /// As in P1.
    pub offer: OfferId,
    /// As in P1.
    pub session: [u8; 16],
    /// The accepter's statement.
    pub sealed: Vec<u8>,
    /// The accepter's confirmation.
    pub confirm: Tag,
}

impl fmt::Debug for Confirm {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Confirm").field("offer", &self.offer).finish_non_exhaustive()
    }
}

/// What comes to the offerer.
#[derive(Clone, Debug)]
pub enum Message {
    /// P1.
    Start(Start),
    /// P3.
    Confirm(Confirm),
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Form {
    step: String,
    offer: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    url: Option<String>,
    session: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    share: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    confirm: Option<String>,
}

impl Message {
    /// Reads P1 or P3.
    ///
    /// # Errors
    /// [`Malformed`], also for a share that is none (PA-14): nothing is looked up, and no code is claimed for it.
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let form: Form = parse(body)?;
        let offer = form.offer.parse().map_err(|_| Malformed::Member("offer"))?;
        let session = bytes(&form.session).ok_or(Malformed::Member("session"))?;
        match (form.step.as_str(), form.url, form.share, form.sealed, form.confirm) {
            ("start", Some(url), Some(share), None, None) => {
                if !is_url(&url) {
                    return Err(Malformed::Member("url"));
                }
                let share = bytes(&share).filter(is_share).ok_or(Malformed::Member("share"))?;
                Ok(Self::Start(Start { offer, url, session, share }))
            }
            ("confirm", None, None, Some(sealed), Some(confirm)) => {
                let sealed = opaque(&sealed).ok_or(Malformed::Member("sealed"))?;
                let confirm = bytes(&confirm).map(Tag::from_bytes).ok_or(Malformed::Member("confirm"))?;
                Ok(Self::Confirm(Confirm { offer, session, sealed, confirm }))
            }
            _ => Err(Malformed::Member("step")),
        }
    }

    /// Writes it.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let form = match self {
            Self::Start(start) => Form {
                step: "start".to_owned(),
                offer: start.offer.to_string(),
                url: Some(start.url.clone()),
                session: URL_SAFE_NO_PAD.encode(start.session),
                share: Some(URL_SAFE_NO_PAD.encode(start.share)),
                sealed: None,
                confirm: None,
            },
            Self::Confirm(confirm) => Form {
                step: "confirm".to_owned(),
                offer: confirm.offer.to_string(),
                url: None,
                session: URL_SAFE_NO_PAD.encode(confirm.session),
                share: None,
                sealed: Some(URL_SAFE_NO_PAD.encode(&confirm.sealed)),
                confirm: Some(URL_SAFE_NO_PAD.encode(confirm.confirm.as_bytes())),
            },
        };
        serde_json::to_vec(&form).unwrap_or_default()
    }
}

/// P2.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    /// The offerer's name.
    pub service: ServiceName,
    /// Yb.
    pub share: [u8; 32],
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ShareForm {
    service: String,
    share: String,
}

impl Share {
    /// Writes it.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let form = ShareForm { service: self.service.to_string(), share: URL_SAFE_NO_PAD.encode(self.share) };
        serde_json::to_vec(&form).unwrap_or_default()
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let form: ShareForm = parse(body)?;
        Ok(Self {
            service: form.service.parse().map_err(|_| Malformed::Member("service"))?,
            share: bytes(&form.share).filter(is_share).ok_or(Malformed::Member("share"))?,
        })
    }
}

/// P4.
#[derive(Clone, Debug)]
pub struct Conclusion {
    /// The offerer's terms.
    pub sealed: Vec<u8>,
    /// The offerer's confirmation.
    pub confirm: Tag,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct ConclusionForm {
    sealed: String,
    confirm: String,
}

impl Conclusion {
    /// Writes it.
    #[must_use]
    pub fn write(&self) -> Vec<u8> {
        let form = ConclusionForm {
            sealed: URL_SAFE_NO_PAD.encode(&self.sealed),
            confirm: URL_SAFE_NO_PAD.encode(self.confirm.as_bytes()),
        };
        serde_json::to_vec(&form).unwrap_or_default()
    }

    /// Reads it.
    ///
    /// # Errors
    /// [`Malformed`].
    pub fn read(body: &[u8]) -> Result<Self, Malformed> {
        let form: ConclusionForm = parse(body)?;
        Ok(Self {
            sealed: opaque(&form.sealed).ok_or(Malformed::Member("sealed"))?,
            confirm: bytes(&form.confirm).map(Tag::from_bytes).ok_or(Malformed::Member("confirm"))?,
        })
    }
}

/// Canonical base64url without padding, of so many bytes (PA-13).
fn bytes<const N: usize>(text: &str) -> Option<[u8; N]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}

fn opaque(text: &str) -> Option<Vec<u8>> {
    URL_SAFE_NO_PAD.decode(text).ok().filter(|bytes| (1..=MAX_SEALED).contains(&bytes.len()))
}
