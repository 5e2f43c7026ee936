use std::hint::black_box;

use countersign::protocol::mac::{MacKey, Tag};
use countersign::protocol::shared_secret::server::{Attempt, Candidate, Effort, Holders, verify};
use countersign::protocol::shared_secret::{Issuer, Lifetime, sign};
use countersign::protocol::{UnixTime, api_key};
use countersign_store::ReplayLog;
use countersign_store::contract::{key, secret};
use hmac::{Hmac, KeyInit as _, Mac as _};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::paired::compare;

#[derive(Debug)]
struct Holder(MacKey);

impl Candidate for Holder {
    fn mac_key(&self) -> &MacKey {
        &self.0
    }
}

pub(crate) fn run() {
    shared_secret();
    api_key_profile();
}

/// What hand-written code does: key the MAC anew for each message, then compare.
fn bare(key: &[u8], parts: &[&[u8]], signature: &Tag) -> bool {
    let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("any key");
    for part in parts {
        mac.update(part);
    }
    mac.verify_slice(signature.as_bytes()).is_ok()
}

fn shared_secret() {
    const NOW: UnixTime = UnixTime(1_700_000_000);
    let (key, secret) = (key(1), secret(1));
    let issuer =
        Issuer::new(&Zeroizing::new([7; 32]), "orders".parse().expect("a name"), Lifetime::default());
    let challenge = issuer.issue(&key, NOW, [3; 7]);
    let holders = [Holder(secret.mac_key())];
    let decoy = MacKey::new(&[9; 32]);
    let signature = sign(&secret.mac_key(), &key, &challenge);
    let attempt = Attempt { api_key: &key, challenge: &challenge, signature: &signature };
    let work = || {
        let effort = Effort { macs: 1, decoy: &decoy };
        let unclaimed = verify(&issuer, attempt, Holders::Live(&holders), effort, NOW).expect("it is right");
        black_box(unclaimed.claim(|_| Ok(())).is_ok());
    };
    let parts = [key.expose().as_bytes(), challenge.as_str().as_bytes()];
    compare("shared-secret: challenge and signature, to a bare HMAC", work, || {
        assert!(bare(black_box(secret.expose().as_bytes()), black_box(&parts), &signature));
    });
    let prepared = secret.mac_key();
    compare("shared-secret: the same, to an HMAC with a prepared key", work, || {
        black_box(prepared.mac(black_box(&parts)));
    });
    let log = ReplayLog::new(10_000_000);
    let mut id = 0_u128;
    let claimed = || {
        let effort = Effort { macs: 1, decoy: &decoy };
        let unclaimed = verify(&issuer, attempt, Holders::Live(&holders), effort, NOW).expect("it is right");
        id += 1;
        black_box(unclaimed.claim(|claim| {
            log.claim(id, claim.expires, NOW)
                .map_err(|_| countersign::protocol::refusal::Refusal::ReplayLogFull)
        }))
        .expect("a new claim");
    };
    compare("shared-secret: with the claim in the replay log, to a bare HMAC", claimed, || {
        assert!(bare(black_box(secret.expose().as_bytes()), black_box(&parts), &signature));
    });
}

fn api_key_profile() {
    let key = key(1);
    for outstanding in [1, 8, 64] {
        let challenges: Vec<_> = (0..outstanding)
            .map(|seed| api_key::Challenge::generate(UnixTime(1_700_000_000), &[seed; 16]))
            .collect();
        let last = challenges.last().expect("there is one");
        let signature = api_key::sign(&key, last);
        let attempt = api_key::server::Attempt { api_key: &key, signature: &signature, echo: None };
        let work = || {
            let unclaimed = api_key::server::verify(attempt, &challenges).expect("it is right");
            black_box(unclaimed.claim(|_| Ok(())).is_ok());
        };
        let name = format!("api-key: {outstanding} outstanding, to a bare HMAC");
        compare(&name, work, || {
            let parts = [last.as_str().as_bytes()];
            assert!(bare(black_box(key.expose().as_bytes()), black_box(&parts), &signature));
        });
    }
}
