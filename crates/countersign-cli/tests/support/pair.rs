//! `billing`, which calls, and `orders`, which is called.

use countersign::protocol::shared_secret::sign;
use countersign::{ApiKey, SharedSecret};
use serde_json::json;

use super::raw::{Reply, exchange, post};
use super::{Home, new_key, new_secret};

/// Two services under `shared-secret`. Nobody serves yet, and `billing` does not know `orders` yet.
pub struct Pair {
    pub orders: Home,
    pub billing: Home,
    pub orders_key: String,
    pub billing_key: String,
    pub secret: String,
}

impl Pair {
    /// Neither knows the other yet.
    pub fn undeclared() -> Self {
        Self {
            orders: Home::of("orders"),
            billing: Home::of("billing"),
            orders_key: new_key(),
            billing_key: new_key(),
            secret: new_secret(),
        }
    }

    /// `orders` knows `billing`.
    pub fn new() -> Self {
        let pair = Self::undeclared();
        let file = pair.orders.secret_file("secret", &pair.secret);
        let keys = ["--our-key", &pair.orders_key, "--their-key", &pair.billing_key, "--secret-file", &file];
        pair.orders
            .run(&[&["peer", "add", "billing", "--profile", "shared-secret"][..], &keys].concat())
            .ok();
        pair
    }

    /// `billing` gets to know `orders`, with trust or other options.
    pub fn meet(&self, url: &str, options: &[&str]) {
        let file = self.billing.secret_file("secret", &self.secret);
        let keys = ["--our-key", &self.billing_key, "--their-key", &self.orders_key, "--secret-file", &file];
        let peer = ["peer", "add", "orders", "--profile", "shared-secret", "--url", url];
        self.billing.run(&[&peer[..], &keys, options].concat()).ok();
    }

    /// `billing`'s signature under a challenge.
    pub fn sign(&self, challenge: &str) -> String {
        let key: ApiKey = self.billing_key.parse().unwrap();
        let secret: SharedSecret = self.secret.parse().unwrap();
        sign(&secret.mac_key(), &key, &challenge.parse().unwrap()).to_hex()
    }

    /// A challenge for `billing`.
    #[track_caller]
    pub fn challenge(&self, address: &str) -> String {
        let reply = post(address, "/authenticate", &[], &json!({"apiKey": self.billing_key}));
        assert_eq!(reply.status, 200, "{reply:?}");
        reply.json()["challenge"].as_str().unwrap().to_owned()
    }

    /// A challenge for `billing`, unless the limits say no.
    pub fn challenge_or_limit(&self, address: &str) -> Option<String> {
        let reply = post(address, "/authenticate", &[], &json!({"apiKey": self.billing_key}));
        (reply.status != 429).then(|| reply.json()["challenge"].as_str().unwrap().to_owned())
    }

    /// `billing`'s answer to a challenge.
    #[track_caller]
    pub fn answer(&self, address: &str, challenge: &str) -> Reply {
        let answer = json!({
            "apiKey": self.billing_key, "challenge": challenge, "signedChallenge": self.sign(challenge),
        });
        post(address, "/verify_challenge", &[], &answer)
    }

    /// The value of an `Authorization` header for `billing`.
    #[track_caller]
    pub fn bearer(&self, address: &str) -> String {
        let reply = self.answer(address, &self.challenge(address));
        assert_eq!(reply.status, 200, "{reply:?}");
        let token = reply.json()["token"].as_str().unwrap().to_owned();
        self.orders.hide(&token);
        format!("Bearer {token}")
    }

    /// A request of `billing` with a fresh token.
    #[track_caller]
    pub fn get(&self, address: &str, path: &str) -> Reply {
        exchange(address, "GET", path, &[("Authorization", &self.bearer(address))], b"")
    }
}

/// Two services under `api-key`. Nobody serves yet, and `billing` does not know `orders` yet.
pub struct ApiKeyPair {
    pub orders: Home,
    pub billing: Home,
    /// What `billing` presents.
    pub key: String,
}

impl ApiKeyPair {
    /// `orders` knows `billing`.
    pub fn new() -> Self {
        let pair = Self { orders: Home::of("orders"), billing: Home::of("billing"), key: new_key() };
        let file = pair.orders.secret_file("key", &pair.key);
        pair.orders.run(&["peer", "add", "billing", "--profile", "api-key", "--their-key-file", &file]).ok();
        pair
    }

    /// `billing` gets to know `orders`, with trust or other options.
    pub fn meet(&self, url: &str, options: &[&str]) {
        let file = self.billing.secret_file("key", &self.key);
        let peer = ["peer", "add", "orders", "--profile", "api-key", "--url", url, "--our-key-file", &file];
        self.billing.run(&[&peer[..], options].concat()).ok();
    }
}
