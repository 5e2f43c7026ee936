use std::fmt;

use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

use super::transcript::{Exporter, Transcript};
use crate::candidates::Candidate;
use crate::hkdf::Prk;
use crate::identity::ApiKey;
use crate::lp;
use crate::mac::{MacKey, Tag};
use crate::secret::SharedSecret;

/// Kd (section 2), from which the keys of calls from `client` to `server` are expanded.
pub(crate) fn direction(secret: &SharedSecret, client: &ApiKey, server: &ApiKey) -> Prk {
    let root = Prk::extract(b"countersign/1", secret.expose().as_bytes());
    let info = lp(&[b"dir", client.expose().as_bytes(), server.expose().as_bytes()]);
    Prk::new(&root.expand(&info))
}

/// The keys of one direction of a pair (section 2): of calls from the service with the API key C to the one with the API
/// key S. The other direction has others (CS-4).
#[derive(Clone)]
pub struct PairKeys {
    pub(super) client_proof: MacKey,
    pub(super) server_proof: MacKey,
    /// Salt of the session's keys.
    pub(super) agreement: Zeroizing<[u8; 32]>,
    direct: SessionKeys,
}

impl PairKeys {
    /// Derives them.
    #[must_use]
    pub fn derive(secret: &SharedSecret, client: &ApiKey, server: &ApiKey) -> Self {
        let direction = direction(secret, client, server);
        let key = |purpose: &[u8]| direction.expand::<32>(&lp(&[purpose]));
        let name = lp(&[b"direct", client.expose().as_bytes(), server.expose().as_bytes()]);
        let direct = SessionKeys {
            client_to_server: key(b"req"),
            server_to_client: key(b"rsp"),
            id: Tag::from_bytes(Sha256::digest(&name).into()).first16(),
        };
        Self {
            client_proof: MacKey::new(key(b"cp").as_slice()),
            server_proof: MacKey::new(key(b"sp").as_slice()),
            agreement: key(b"dh"),
            direct,
        }
    }

    /// Kreq and Krsp, in the place of a session's keys, and what stands in the place of its id (section 9). Only where it is
    /// switched on for the peer, and no exporter is configured (CS-40).
    #[must_use]
    pub const fn direct(&self) -> &SessionKeys {
        &self.direct
    }
}

impl fmt::Debug for PairKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("PairKeys(…)")
    }
}

impl Candidate for PairKeys {
    fn mac_key(&self) -> &MacKey {
        &self.client_proof
    }
}

/// The keys of a session, and its id (section 3). `Debug` shows the id only; zeroised when dropped.
#[derive(Clone)]
pub struct SessionKeys {
    /// Signs requests.
    pub client_to_server: Zeroizing<[u8; 32]>,
    /// Signs responses.
    pub server_to_client: Zeroizing<[u8; 32]>,
    /// Under this id nonces are burned.
    pub id: [u8; 16],
}

impl SessionKeys {
    /// `ES`, `TH` and what is expanded from them. `transcript` is T, `proof` CP, `share` se.
    pub(super) fn derive(
        agreement: &Zeroizing<[u8; 32]>,
        shared: &Zeroizing<[u8; 32]>,
        transcript: &Transcript,
        proof: &Tag,
        share: &[u8; 32],
    ) -> Self {
        let secret = Prk::extract(agreement.as_slice(), shared.as_slice());
        let spoken = lp(&[proof.as_bytes(), share]);
        let hash = Sha256::new().chain_update(transcript.as_bytes()).chain_update(spoken).finalize();
        let info = |purpose: &[u8]| lp(&[purpose, hash.as_slice()]);
        Self {
            client_to_server: secret.expand(&info(b"c2s")),
            server_to_client: secret.expand(&info(b"s2c")),
            id: *secret.expand(&info(b"sid")),
        }
    }

    /// The keys on one connection of a session that is bound to TLS (CS-32). The id stays.
    #[must_use]
    pub fn on_connection(&self, exporter: &Exporter) -> Self {
        let info = lp(&[b"conn", exporter.as_bytes()]);
        let key = |key: &Zeroizing<[u8; 32]>| Prk::new(key).expand(&info);
        Self {
            client_to_server: key(&self.client_to_server),
            server_to_client: key(&self.server_to_client),
            id: self.id,
        }
    }
}

impl fmt::Debug for SessionKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("SessionKeys").field("id", &crate::mac::encode_hex(&self.id)).finish_non_exhaustive()
    }
}
