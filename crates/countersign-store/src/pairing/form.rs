//! An offer as bytes, which a store seals.

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::pairing::{OfferId, Password, Pin};
use serde::{Deserialize, Serialize};
use zeroize::{Zeroize as _, Zeroizing};

use super::{Agreed, Choices, Offer, Stage};

/// An offer as it is sealed.
#[derive(Serialize, Deserialize)]
struct Form {
    revision: u64,
    expires: u64,
    name: Option<String>,
    binding: String,
    pins: Vec<Pin>,
    system_trust: bool,
    codes: u8,
    stage: StageForm,
}

#[derive(Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
enum StageForm {
    Open { password: u64 },
    Claimed { state: Zeroizing<Vec<u8>>, until: u64 },
    Failed { why: String },
    Confirmed { message: [u8; 32], answer: Vec<u8>, peer: AgreedForm },
    Paired { message: [u8; 32], answer: Vec<u8>, name: String, at: u64 },
}

#[derive(Serialize, Deserialize)]
struct AgreedForm {
    name: String,
    url: Option<String>,
    pin: Option<Pin>,
    binding: String,
    our_key: String,
    their_key: String,
    secret: Zeroizing<String>,
}

impl Drop for StageForm {
    fn drop(&mut self) {
        if let Self::Open { password } = self {
            password.zeroize();
        }
    }
}

/// The longest offer as bytes. Reserved at once: a growing buffer would leave pieces of secrets behind.
const ROOM: usize = 64 * 1024;

impl Offer {
    pub(crate) fn to_bytes(&self) -> Zeroizing<Vec<u8>> {
        let stage = match &self.stage {
            Stage::Open { password } => StageForm::Open { password: password.number() },
            Stage::Claimed { state, until } => StageForm::Claimed { state: state.clone(), until: until.0 },
            Stage::Failed { why } => StageForm::Failed { why: why.clone() },
            Stage::Confirmed { message, answer, peer } => StageForm::Confirmed {
                message: *message,
                answer: answer.clone(),
                peer: AgreedForm {
                    name: peer.name.to_string(),
                    url: peer.url.clone(),
                    pin: peer.pin,
                    binding: peer.binding.as_str().to_owned(),
                    our_key: peer.our_key.expose().to_owned(),
                    their_key: peer.their_key.expose().to_owned(),
                    secret: Zeroizing::new(peer.secret.expose().to_owned()),
                },
            },
            Stage::Paired { message, answer, name, at } => StageForm::Paired {
                message: *message,
                answer: answer.clone(),
                name: name.to_string(),
                at: at.0,
            },
        };
        let form = Form {
            revision: self.revision,
            expires: self.expires.0,
            name: self.choices.name.as_ref().map(ToString::to_string),
            binding: self.choices.binding.as_str().to_owned(),
            pins: self.choices.pins.clone(),
            system_trust: self.choices.system_trust,
            codes: self.codes,
            stage,
        };
        let mut bytes = Zeroizing::new(Vec::with_capacity(ROOM));
        // Writing to memory does not fail.
        let _ = serde_json::to_writer(&mut *bytes, &form);
        bytes
    }

    pub(crate) fn from_bytes(id: OfferId, bytes: &[u8]) -> Option<Self> {
        let mut form: Form = serde_json::from_slice(bytes).ok()?;
        let stage = match &mut form.stage {
            StageForm::Open { password } => Stage::Open { password: Password::from_stored(*password) },
            StageForm::Claimed { state, until } => {
                Stage::Claimed { state: std::mem::take(state), until: UnixTime(*until) }
            }
            StageForm::Failed { why } => Stage::Failed { why: std::mem::take(why) },
            StageForm::Confirmed { message, answer, peer } => Stage::Confirmed {
                message: *message,
                answer: std::mem::take(answer),
                peer: Box::new(Agreed {
                    name: peer.name.parse().ok()?,
                    url: peer.url.take(),
                    pin: peer.pin,
                    binding: Binding::parse(&peer.binding)?,
                    our_key: peer.our_key.parse().ok()?,
                    their_key: peer.their_key.parse().ok()?,
                    secret: peer.secret.parse().ok()?,
                }),
            },
            StageForm::Paired { message, answer, name, at } => Stage::Paired {
                message: *message,
                answer: std::mem::take(answer),
                name: name.parse().ok()?,
                at: UnixTime(*at),
            },
        };
        let choices = Choices {
            name: form.name.as_deref().map(str::parse).transpose().ok()?,
            binding: Binding::parse(&form.binding)?,
            pins: form.pins,
            system_trust: form.system_trust,
        };
        Some(Self {
            id,
            revision: form.revision,
            expires: UnixTime(form.expires),
            choices,
            codes: form.codes,
            stage,
        })
    }
}
