use std::sync::Arc;

use countersign::store::sqlite::SqliteStore;
use countersign::store::vault::end_without_vault;
use countersign::store::{Ending, Which};
use countersign::{CredentialId, ServiceName};

use super::rotate;
use crate::args::RevokeArgs;
use crate::change::{self, Change};
use crate::config::SecretsFrom;
use crate::failure::Failure;
use crate::home::{Ended, Home};
use crate::show;

/// Ends credentials. Waits for nothing: no lock, no trail.
pub(crate) fn run(home: &Home, args: &RevokeArgs) -> Result<(), Failure> {
    let name = &args.peer.name;
    let which = args.credential.map_or(Which::All, Which::Number);
    let (how, reason) = if args.compromised {
        (Ending::Compromised, "revoked-compromised")
    } else {
        (Ending::Revoked, "revoked")
    };
    let stores = home.changeable(
        "take its file away, or put another secret in its place: a running server refuses what was there within a second",
    );
    let (Ended { numbers, untold }, local, peer) = match stores {
        Ok(stores) => (stores.end(name, which, how)?, Arc::clone(&stores.local), stores.peers.get(name).ok()),
        Err(failure) => {
            let (ended, local) = without_vault(home, name, which, how, failure)?;
            (ended, local, None)
        }
    };
    // From here on it is in effect, whatever else fails.
    let profile = peer.as_ref().map(|peer| peer.profile);
    let detail = untold.is_err().then(|| "on this node; Vault could not be told".to_owned());
    let ids: Vec<_> =
        numbers.iter().map(|number| CredentialId { peer: name.clone(), number: *number }).collect();
    let recorded = ids.iter().map(|id| {
        let of = Change::of("revoke", reason, name);
        let change = Change { credential: Some(id.clone()), profile, detail: detail.clone(), ..of };
        change::record(home, &local, change)
    });
    // Each is tried, also after one that could not be written.
    let recorded = recorded.fold(Ok(()), Failure::both);
    let shown: Vec<_> = ids.iter().map(ToString::to_string).collect();
    let mut text = format!(
        "revoked {}: a running server refuses the next request with it, and its tokens, within a second\n",
        shown.join(", ")
    );
    for number in &numbers {
        text.push_str(&rotate::remove(home, name, *number).unwrap_or_default());
    }
    if let Some(peer) = &peer {
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
    Failure::both(show::done(&text), Failure::both(recorded, untold))
}

/// Ends credentials here although the peers cannot be had from Vault: it refuses this login, say, and not the one of the
/// running service.
fn without_vault(
    home: &Home,
    name: &ServiceName,
    which: Which,
    how: Ending,
    failure: Failure,
) -> Result<(Ended, Arc<SqliteStore>), Failure> {
    let config = home.config()?;
    if config.secrets.from() != SecretsFrom::Vault {
        return Err(failure);
    }
    let local = Arc::new(home.local_store()?);
    let vault = home.vault(&config)?;
    let connection = vault.connection(home.path(), config.secrets.modes())?;
    let place = vault.place(&config.service)?;
    let numbers = end_without_vault(&connection, &place, &local, (name, which), how, show::now())?;
    if numbers.is_empty() {
        return Err(failure);
    }
    let untold = Failure::new(format!(
        "{name} is shut out on this node, and on no other yet: Vault could not be told ({}). A running server goes on trying to tell it; until it is told, run the same command on every other node",
        failure.message()
    ));
    Ok((Ended { numbers, untold: Err(untold) }, local))
}
