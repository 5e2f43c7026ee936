//! Callers with what they hold, and the answers that they get.

use std::collections::BTreeSet;

use bytes::Bytes;
use countersign::protocol::api_key;
use countersign::protocol::shared_secret::{Challenge, sign};
use countersign::protocol::wire::www_authenticate;
use countersign::store::random;
use countersign::{ApiKey, NewKeys, NewPeer, SharedSecret, Trust};
use http::HeaderMap;
use serde_json::{Value, json};

/// What a caller under `shared-secret` and this server hold, one secret per direction.
#[derive(Clone)]
pub(crate) struct Caller {
    pub(crate) key: ApiKey,
    pub(crate) secret: SharedSecret,
    pub(crate) server_key: ApiKey,
    pub(crate) server_secret: SharedSecret,
}

impl Caller {
    pub(crate) fn new() -> Self {
        Self { key: new_key(), secret: new_secret(), server_key: new_key(), server_secret: new_secret() }
    }

    /// The signature under a challenge, in hexadecimal.
    pub(crate) fn sign(&self, challenge: &str) -> String {
        sign(&self.secret.mac_key(), &self.key, &challenge.parse().unwrap()).to_hex()
    }

    /// What the server has to answer to the caller's own challenge.
    pub(crate) fn proof_of_the_server(&self, challenge: &Challenge) -> String {
        sign(&self.server_secret.mac_key(), &self.server_key, challenge).to_hex()
    }

    /// The three headers of guide 1.
    pub(crate) fn signed(&self, challenge: &str) -> Vec<(&'static str, String)> {
        vec![
            ("x-api-key", self.key.expose().to_owned()),
            ("x-challenge", challenge.to_owned()),
            ("x-signature", self.sign(challenge)),
        ]
    }

    /// The body of `/verify_challenge`.
    pub(crate) fn answer(&self, challenge: &str) -> Value {
        json!({"apiKey": self.key.expose(), "challenge": challenge, "signedChallenge": self.sign(challenge)})
    }
}

pub(crate) fn new_key() -> ApiKey {
    ApiKey::generate(&random())
}

pub(crate) fn new_secret() -> SharedSecret {
    SharedSecret::generate(&random())
}

/// `{"apiKey": …}`
pub(crate) fn asking(key: &ApiKey) -> Value {
    json!({"apiKey": key.expose()})
}

/// Guide 2's answer to a challenge.
pub(crate) fn answer_2(key: &ApiKey, challenge: &str) -> Value {
    let signature = api_key::sign(key, &challenge.parse().unwrap()).to_hex();
    json!({"apiKey": key.expose(), "signedChallenge": signature})
}

pub(crate) fn new_peer(name: &str, keys: NewKeys) -> NewPeer {
    NewPeer {
        name: name.parse().unwrap(),
        url: None,
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Default::default(),
        keys,
    }
}

pub(crate) fn guide_1_peer(name: &str, caller: &Caller) -> NewPeer {
    let Caller { key, secret, server_key, server_secret } = caller.clone();
    new_peer(name, NewKeys::shared_secret(server_key, key, server_secret, secret).unwrap())
}

pub(crate) fn guide_2_peer(name: &str, ours: Option<&ApiKey>, theirs: &ApiKey) -> NewPeer {
    new_peer(name, NewKeys::api_key(ours.cloned(), Some(theirs.clone())).unwrap())
}

/// A response, read in full.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

impl Answer {
    pub(crate) fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or_else(|error| panic!("{error}: {:?}", self.body))
    }

    pub(crate) fn text(&self, member: &str) -> String {
        self.json()[member].as_str().unwrap_or_else(|| panic!("no {member}: {:?}", self.body)).to_owned()
    }

    pub(crate) fn header(&self, name: &str) -> Option<&str> {
        self.headers.get(name).map(|value| value.to_str().unwrap())
    }

    /// The challenge of a 401.
    pub(crate) fn challenge(&self) -> String {
        www_authenticate::challenge(&self.headers)
            .unwrap_or_else(|| panic!("no challenge: {:?}", self.headers))
    }

    /// The body without what differs from request to request.
    pub(crate) fn uniform(&self) -> (u16, BTreeSet<String>, Value) {
        let names = self.headers.keys().map(ToString::to_string).collect();
        let mut body = self.json();
        for member in ["requestId", "challenge"] {
            if let Some(value) = body.get_mut(member) {
                *value = Value::from(value.as_str().unwrap().len());
            }
        }
        (self.status, names, body)
    }
}
