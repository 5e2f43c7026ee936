use countersign::CredentialId;
use countersign::store::{Ending, Which};

use super::rotate;
use crate::args::RevokeArgs;
use crate::change::{self, Change};
use crate::failure::Failure;
use crate::home::Home;
use crate::show;

/// Ends credentials. Waits for nothing: no lock, no trail.
pub(crate) fn run(home: &Home, args: &RevokeArgs) -> Result<(), Failure> {
    let stores = home.changeable(
        "take its file away, or put another secret in its place: a running server refuses what was there within a second",
    )?;
    let name = &args.peer.name;
    let which = args.credential.map_or(Which::All, Which::Number);
    let (how, reason) = if args.compromised {
        (Ending::Compromised, "revoked-compromised")
    } else {
        (Ending::Revoked, "revoked")
    };
    let numbers = stores.peers.end(name, which, how, show::now())?;
    // From here on it is in effect, whatever else fails.
    let peer = stores.peers.get(name);
    let profile = peer.as_ref().ok().map(|peer| peer.profile);
    let ids: Vec<_> =
        numbers.iter().map(|number| CredentialId { peer: name.clone(), number: *number }).collect();
    let recorded = ids.iter().try_for_each(|id| {
        let change = Change { credential: Some(id.clone()), profile, ..Change::of("revoke", reason, name) };
        change::record(home, &stores.local, change)
    });
    let shown: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "revoked {}: a running server refuses the next request with it, and its tokens, within a second\n",
        shown.join(", ")
    );
    for number in &numbers {
        text.push_str(&rotate::remove(home, name, *number).unwrap_or_default());
    }
    if let Ok(peer) = &peer {
        let live: Vec<_> = peer.accepted(show::now()).map(|one| one.id(name).to_string()).collect();
        text.push_str(&if live.is_empty() {
            format!("Neither side can call the other now. New keys: `countersign rotate {name}`, then hand them over.\n")
        } else {
            format!("Still accepted: {}\n", live.join(", "))
        });
    }
    if args.compromised {
        text.push_str(&format!(
            "On the other side as well: `countersign revoke NAME --compromised` (this service's name there).\n\
             Who came with it before?  countersign audit tail -n 1000 | grep {0}/\n\
             Who comes with it now?    countersign audit tail -n 1000 | grep credential-compromised\n",
            name
        ));
    } else {
        text.push_str("The other side may still send it, and accept it: tell its operator.\n");
    }
    show::out(&text)?;
    recorded
}
