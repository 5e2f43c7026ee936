//! With which key a signature says it was made, as far as this service has it.

use countersign::ServiceName;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::PairKeys;
use countersign::protocol::cs1::request::DIRECT_TAG;
use countersign::protocol::cs1::ticket::TicketKeys;
use countersign::protocol::mac::MacKey;
use countersign::protocol::token::TokenError;
use countersign::store::{Keys, Peer, State, StateStore};

use super::super::judge::Signer;
use super::claim::Claim;

/// What came of looking for the key.
#[derive(Default)]
pub(super) struct Found {
    pub(super) key: Option<MacKey>,
    /// That of the response.
    pub(super) answer: Option<MacKey>,
    pub(super) credential: Option<String>,
    pub(super) signer: Option<Signer>,
    /// For what the server refuses the key, whatever is signed with it.
    pub(super) refused: Option<String>,
    /// Why it is not here, so that the signature itself could not be checked.
    pub(super) missing: Option<String>,
    /// From when until when its ticket is good.
    pub(super) lives: Option<(u64, u64)>,
}

impl Found {
    fn missing(why: impl Into<String>) -> Self {
        Self { missing: Some(why.into()), ..Self::default() }
    }

    fn refused(why: impl Into<String>) -> Self {
        Self { refused: Some(why.into()), ..Self::default() }
    }
}

/// Looks for the key that the signature names. The ticket keys are those that the server wrote down here.
pub(super) fn find(claim: &Claim, peer: &Peer, service: &ServiceName, state: &dyn StateStore) -> Found {
    match (claim.keyid.as_deref(), claim.tag.as_deref()) {
        (None, _) => Found::missing("the signature names no key"),
        (Some(keyid), Some(DIRECT_TAG)) => direct(keyid, peer),
        (Some(ticket), _) => of_ticket(ticket, peer, service, state),
    }
}

fn of_ticket(ticket: &str, peer: &Peer, service: &ServiceName, state: &dyn StateStore) -> Found {
    let kept = match state.kept(State::TicketKeys) {
        Ok(kept) => kept.and_then(|kept| TicketKeys::import(service.clone(), &kept.bytes)),
        Err(error) => return Found::missing(error.to_string()),
    };
    let Some(keys) = kept else {
        return Found::missing(
            "the key of the session is in the ticket, which only the called server's keys open, and no `serve` has left any here: explain the request there",
        );
    };
    // Whatever its age: that is told apart.
    let claims = match keys.open(ticket, UnixTime(0)) {
        Ok(claims) => claims,
        Err(TokenError::Key) => {
            return Found::missing(
                "the ticket was not sealed under the keys that this server has now: another server sealed it (if this service was the caller, explain the request where it was refused), or it is hours old",
            );
        }
        Err(TokenError::Form) => {
            return Found::refused("`keyid` has not the form of a ticket: was it cut off?");
        }
        Err(_) => return Found::refused("the ticket does not open: it was changed, or is another service's"),
    };
    let id = claims.credential.to_string();
    let mut found = Found {
        credential: Some(id.clone()),
        signer: Some(Signer::Peer),
        lives: Some((claims.issued.0, claims.expires.0)),
        ..Found::default()
    };
    if claims.credential.peer != peer.name {
        found.refused = Some(format!("the ticket is that of {id}, and not of {}", peer.name));
    } else if !peer.credentials.iter().any(|one| one.uid == claims.uid) {
        found.refused =
            Some(format!("the ticket is that of {id}, which has ended: the caller needs a new handshake"));
    }
    match claims.keys_on(None) {
        Ok(keys) => {
            found.key = Some(MacKey::new(keys.client_to_server.as_slice()));
            found.answer = Some(MacKey::new(keys.server_to_client.as_slice()));
        }
        Err(_) => {
            found.missing = Some(
                "the session is bound to its TLS connection (tls-exporter), and what the connection gave is not in the request".to_owned(),
            );
        }
    }
    found
}

/// Without a handshake: the keys of the pair, in the direction that `keyid` says.
fn direct(keyid: &str, peer: &Peer) -> Found {
    let (client, server) = keyid.split_once(':').unwrap_or((keyid, ""));
    for credential in peer.credentials.iter().rev() {
        let Keys::Cs1 { our_key, their_key, secret } = &credential.keys else { continue };
        let (ours, theirs) = (our_key.expose(), their_key.expose());
        let (signer, pair) = match (client, server) {
            (client, server) if (client, server) == (theirs, ours) => {
                (Signer::Peer, PairKeys::derive(secret, their_key, our_key))
            }
            (client, server) if (client, server) == (ours, theirs) => {
                (Signer::Us, PairKeys::derive(secret, our_key, their_key))
            }
            _ => continue,
        };
        let is_off = signer == Signer::Peer && !peer.cs1.danger_direct;
        return Found {
            key: Some(MacKey::new(pair.direct().client_to_server.as_slice())),
            answer: Some(MacKey::new(pair.direct().server_to_client.as_slice())),
            credential: Some(credential.id(&peer.name).to_string()),
            signer: Some(signer),
            refused: is_off.then(|| {
                "requests without a handshake are not taken from this peer: it makes a handshake, or is added with --danger-direct".to_owned()
            }),
            ..Found::default()
        };
    }
    let known = |key: &str| {
        peer.credentials
            .iter()
            .filter_map(|one| one.keys.public())
            .any(|(ours, theirs)| ours.expose() == key || theirs.expose() == key)
    };
    Found::refused(match (known(client), known(server)) {
        (true, true) => "`keyid` names keys of two credentials: both are of one",
        (true, false) => {
            "`keyid` names a key of this peer, and beside it one that is not: it is the caller's API key, a colon and the called one's"
        }
        _ => "`keyid` names no keys of this peer: an older credential, or that of another peer",
    })
}
