//! The JSON of rotations (`specs/rotation.md`): strict towards callers, lenient in what an answer may hold beside.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};

use super::body::parse;
use crate::UnixTime;
use crate::mac::Tag;
use crate::refusal::Malformed;
use crate::rotation::{Answer, Confirm, MAX_RID, Names, Outcome, Propose, Ruling};

/// What a responder is asked.
#[derive(Clone, Debug)]
pub enum Asked {
    /// R1; has to be signed.
    Propose(Propose),
    /// Section 4; has to be signed.
    Status,
    /// R3; proves itself.
    Confirm(Confirm),
}

/// How things stand at a responder (section 4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Status {
    /// Its time.
    pub now: UnixTime,
    /// For how long it accepts an old credential after it has seen the new one used, in seconds.
    pub grace: u64,
    /// Whether it wants a rotation and cannot begin it itself.
    pub wanted: bool,
}

/// An answer that is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the answer has not the form of one about a rotation")]
pub struct NotAnAnswer;

#[derive(Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields, tag = "rotation")]
enum In {
    #[serde(rename = "propose", rename_all = "camelCase")]
    Propose { api_key: String, peer_key: String, rid: u64, nonce: String, ephemeral: String },
    #[serde(rename = "status")]
    Status {},
    #[serde(rename = "confirm", rename_all = "camelCase")]
    Confirm { api_key: String, peer_key: String, rid: u64, proof_old: String, proof_new: String },
}

/// Reads a request's body.
///
/// # Errors
/// [`Malformed`].
pub fn read(body: &[u8]) -> Result<Asked, Malformed> {
    Ok(match parse(body)? {
        In::Status {} => Asked::Status,
        In::Propose { api_key, peer_key, rid, nonce, ephemeral } => Asked::Propose(Propose {
            names: names(&api_key, &peer_key)?,
            rid: number(rid)?,
            nonce: bytes(&nonce).ok_or(Malformed::Member("nonce"))?,
            share: bytes(&ephemeral).ok_or(Malformed::Member("ephemeral"))?,
        }),
        In::Confirm { api_key, peer_key, rid, proof_old, proof_new } => Asked::Confirm(Confirm {
            names: names(&api_key, &peer_key)?,
            rid: number(rid)?,
            old: bytes(&proof_old).map(Tag::from_bytes).ok_or(Malformed::Member("proofOld"))?,
            new: bytes(&proof_new).map(Tag::from_bytes).ok_or(Malformed::Member("proofNew"))?,
        }),
    })
}

fn names(api_key: &str, peer_key: &str) -> Result<Names, Malformed> {
    Ok(Names {
        initiator: api_key.parse().map_err(|_| Malformed::Member("apiKey"))?,
        responder: peer_key.parse().map_err(|_| Malformed::Member("peerKey"))?,
    })
}

const fn number(rid: u64) -> Result<u64, Malformed> {
    if rid == 0 || rid > MAX_RID { Err(Malformed::Member("rid")) } else { Ok(rid) }
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase", tag = "rotation")]
enum Out<'a> {
    #[serde(rename = "propose", rename_all = "camelCase")]
    Propose { api_key: &'a str, peer_key: &'a str, rid: u64, nonce: String, ephemeral: String },
    #[serde(rename = "confirm", rename_all = "camelCase")]
    Confirm { api_key: &'a str, peer_key: &'a str, rid: u64, proof_old: String, proof_new: String },
    #[serde(rename = "status")]
    Ask {},
    #[serde(rename = "answer")]
    Answer { rid: u64, nonce: String, ephemeral: String, proof: String },
    #[serde(rename = "done")]
    Done { rid: u64, proof: String },
    #[serde(rename = "aborted")]
    Aborted { rid: u64, proof: String },
    #[serde(rename = "status")]
    Status { now: u64, grace: u64, wanted: bool },
}

fn text(bytes: &[u8; 32]) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

fn json(out: &Out<'_>) -> Vec<u8> {
    serde_json::to_vec(out).unwrap_or_default()
}

impl Propose {
    /// R1's body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json(&Out::Propose {
            api_key: self.names.initiator.expose(),
            peer_key: self.names.responder.expose(),
            rid: self.rid,
            nonce: text(&self.nonce),
            ephemeral: text(&self.share),
        })
    }
}

impl Confirm {
    /// R3's body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json(&Out::Confirm {
            api_key: self.names.initiator.expose(),
            peer_key: self.names.responder.expose(),
            rid: self.rid,
            proof_old: text(self.old.as_bytes()),
            proof_new: text(self.new.as_bytes()),
        })
    }
}

impl Answer {
    /// R2's body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json(&Out::Answer {
            rid: self.rid,
            nonce: text(&self.nonce),
            ephemeral: text(&self.share),
            proof: text(self.proof.as_bytes()),
        })
    }
}

impl Ruling {
    /// R4's body.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        let (rid, proof) = (self.rid, text(self.proof.as_bytes()));
        json(&match self.outcome {
            Outcome::Done => Out::Done { rid, proof },
            Outcome::Aborted => Out::Aborted { rid, proof },
        })
    }
}

impl Status {
    /// The body of the request that asks for it.
    #[must_use]
    pub fn ask() -> Vec<u8> {
        json(&Out::Ask {})
    }

    /// The body of the answer.
    #[must_use]
    pub fn to_json(&self) -> Vec<u8> {
        json(&Out::Status { now: self.now.0, grace: self.grace, wanted: self.wanted })
    }

    /// Reads the answer.
    ///
    /// # Errors
    /// [`NotAnAnswer`]: also from a server that answers everything with 200 and knows nothing of rotations.
    pub fn read(body: &[u8]) -> Result<Self, NotAnAnswer> {
        #[derive(Deserialize)]
        struct In {
            rotation: String,
            now: u64,
            grace: u64,
            wanted: bool,
        }
        let read: In = reply(body)?;
        if read.rotation != "status" {
            return Err(NotAnAnswer);
        }
        Ok(Self { now: UnixTime(read.now), grace: read.grace, wanted: read.wanted })
    }
}

/// Reads R2.
///
/// # Errors
/// [`NotAnAnswer`].
pub fn read_answer(body: &[u8]) -> Result<Answer, NotAnAnswer> {
    #[derive(Deserialize)]
    struct In {
        rotation: String,
        rid: u64,
        nonce: String,
        ephemeral: String,
        proof: String,
    }
    let read: In = reply(body)?;
    if read.rotation != "answer" {
        return Err(NotAnAnswer);
    }
    Ok(Answer {
        rid: read.rid,
        nonce: bytes(&read.nonce).ok_or(NotAnAnswer)?,
        share: bytes(&read.ephemeral).ok_or(NotAnAnswer)?,
        proof: bytes(&read.proof).map(Tag::from_bytes).ok_or(NotAnAnswer)?,
    })
}

/// Reads R4.
///
/// # Errors
/// [`NotAnAnswer`].
pub fn read_ruling(body: &[u8]) -> Result<Ruling, NotAnAnswer> {
    #[derive(Deserialize)]
    struct In {
        rotation: String,
        rid: u64,
        proof: String,
    }
    let read: In = reply(body)?;
    let outcome = match read.rotation.as_str() {
        "done" => Outcome::Done,
        "aborted" => Outcome::Aborted,
        _ => return Err(NotAnAnswer),
    };
    let proof = bytes(&read.proof).map(Tag::from_bytes).ok_or(NotAnAnswer)?;
    Ok(Ruling { rid: read.rid, outcome, proof })
}

fn reply<'a, T: Deserialize<'a>>(body: &'a [u8]) -> Result<T, NotAnAnswer> {
    if body.len() > super::MAX_BODY || !body.trim_ascii_start().starts_with(b"{") {
        return Err(NotAnAnswer);
    }
    serde_json::from_slice(body).map_err(|_| NotAnAnswer)
}

/// Canonical base64url without padding, of 32 bytes (CS-1).
fn bytes(text: &str) -> Option<[u8; 32]> {
    URL_SAFE_NO_PAD.decode(text).ok()?.try_into().ok()
}
