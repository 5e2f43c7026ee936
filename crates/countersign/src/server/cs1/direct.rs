//! A request that was signed without a handshake, under the keys of the pair (section 9).

use std::sync::Arc;

use countersign_protocol::cs1::Policy;
use countersign_protocol::cs1::request::{Claimed, RequestParts, Unclaimed};
use countersign_protocol::identity::ApiKey;
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;

use crate::server::attempt::Attempt;
use crate::server::authenticator::Inner;
use crate::server::snapshot::{Cs1Credential, Snapshot};

/// The API keys of the pair, as `keyid` names them.
#[derive(Clone, Copy)]
pub(super) struct Pair<'a> {
    pub(super) client: &'a str,
    pub(super) server: &'a str,
}

/// Finds whose MAC it is. A pair that is not known, and one for which this is not switched on (CS-40), cost as much as one
/// with a wrong MAC, and are answered alike.
pub(super) fn verify<'c>(
    inner: &Inner,
    attempt: &mut Attempt<'_>,
    snapshot: &Snapshot,
    pair: Pair<'_>,
    claimed: &Claimed<'c>,
    request: &RequestParts<'_>,
    policy: Policy<'_>,
) -> Result<(Arc<Cs1Credential>, Unclaimed<'c>), Refusal> {
    let [client, server]: [Result<ApiKey, _>; 2] = [pair.client, pair.server].map(str::parse);
    let (Ok(client), Ok(server)) = (client, server) else { return Err(Refusal::SignatureForm) };
    let found = snapshot.find(&client, inner.clock.now());
    attempt.with_key(&found);
    attempt.check_failures()?;
    let pairs = found.cs1(&server).and_then(|mut pairs| {
        pairs.retain(|one| one.direct().is_some());
        if pairs.is_empty() { Err(Refusal::DirectOff) } else { Ok(pairs) }
    });
    let live = pairs.as_deref().unwrap_or_default();
    let mut right = None;
    for index in 0..snapshot.macs.max(live.len()) {
        let one = live.get(index);
        let key = one.and_then(|one| one.direct()).map(|keys| MacKey::new(keys.client_to_server.as_slice()));
        match (claimed.verify(key.as_ref().unwrap_or(&inner.decoy), request, policy), one) {
            (Ok(unclaimed), Some(one)) => right = Some((Arc::clone(one), unclaimed)),
            (Ok(_), None) | (Err(Refusal::WrongSignature), _) => {}
            // Of its form, which no key changes; or of its time, after a right MAC.
            (Err(other), _) => return Err(other),
        }
    }
    match (right, pairs) {
        (Some(right), _) => Ok(right),
        (None, Ok(_)) => Err(Refusal::WrongSignature),
        (None, Err(refusal)) => Err(refusal),
    }
}
