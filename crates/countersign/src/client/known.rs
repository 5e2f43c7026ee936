//! What is known of the peer that is called, and with which of our credentials to begin.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::{SystemTime, UNIX_EPOCH};

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::identity::{CredentialId, Profile};
use countersign_store::Peer;

use super::bound::Bound;
use super::connector::http_client;
use super::handshake::Proof;
use super::way::Way;
use super::{BaseUrl, ClientError};

/// A peer, ready to be called.
pub(super) struct Known {
    /// The store's version when it was read, if the client follows one.
    pub(super) version: Option<u64>,
    pub(super) base: BaseUrl,
    pub(super) profile: Profile,
    pub(super) way: Way,
    /// The best choice first; never empty.
    pub(super) plans: Vec<Arc<Plan>>,
}

/// One credential of ours.
#[derive(Debug)]
pub(super) struct Plan {
    pub(super) id: CredentialId,
    pub(super) uid: [u8; 16],
    pub(super) proof: Proof,
}

impl Known {
    /// From a peer as the store has it.
    pub(super) fn of(peer: &Peer, version: Option<u64>) -> Result<Self, ClientError> {
        let url = peer.url.as_deref().ok_or_else(|| ClientError::NoUrl(peer.name.to_string()))?;
        let sending = peer.sending(now());
        if sending.is_empty() {
            return Err(ClientError::NoCredential(peer.name.to_string()));
        }
        let plans: Vec<_> = sending
            .into_iter()
            .filter_map(|credential| {
                let proof = Proof::of(peer, credential)?;
                Some(Arc::new(Plan { id: credential.id(&peer.name), uid: credential.uid, proof }))
            })
            .collect();
        if plans.is_empty() {
            return Err(ClientError::NoKey(peer.name.to_string()));
        }
        let base = BaseUrl::parse(url)?;
        let way = match peer.cs1.binding {
            Binding::None => Way::Pool(http_client(&peer.trust)?),
            Binding::TlsExporter => Way::Bound(Bound::new(&base, &peer.trust)?),
        };
        Ok(Self { version, base, profile: peer.profile, way, plans })
    }

    pub(super) fn has(&self, plan: &Plan) -> bool {
        self.plans.iter().any(|one| one.uid == plan.uid)
    }
}

/// The credentials that the peer has refused since it last took them: they are tried last, so that during a
/// rotation not every handshake begins with one that is over.
#[derive(Debug, Default)]
pub(super) struct Refused(Mutex<Vec<[u8; 16]>>);

impl Refused {
    /// The plans in the order in which to try them.
    pub(super) fn order(&self, plans: &[Arc<Plan>]) -> Vec<Arc<Plan>> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut order = plans.to_vec();
        order.sort_by_key(|plan| refused.contains(&plan.uid));
        order
    }

    /// The plan with which to begin.
    pub(super) fn first<'a>(&self, plans: &'a [Arc<Plan>]) -> Option<&'a Arc<Plan>> {
        let refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        plans.iter().find(|plan| !refused.contains(&plan.uid)).or_else(|| plans.first())
    }

    pub(super) fn set(&self, plan: &Plan, is_refused: bool) {
        let mut refused = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        refused.retain(|uid| *uid != plan.uid);
        if is_refused {
            // Bounded: a peer has two live credentials at most.
            refused.truncate(7);
            refused.insert(0, plan.uid);
        }
    }
}

/// The wall clock: credentials end by it.
pub(crate) fn now() -> UnixTime {
    UnixTime(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()))
}
