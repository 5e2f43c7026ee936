//! Whether peers under `cs1` can rotate in band: who begins can reach the other, which answers; clocks agree; grace is long enough.

use std::sync::Arc;
use std::time::Duration;

use countersign::client::Client;
use countersign::protocol::cs1::MAX_TICKET_LIFETIME;
use countersign::protocol::wire::rotation::Status;
use countersign::rotation::{Driver, Fault};
use countersign::store::{Listing, Peer};
use countersign::{PeerStore, Profile};

use super::finding::{Findings, path};
use crate::config::{Config, SecretsFrom};
use crate::home::Home;
use crate::show;

const PATIENCE: Duration = Duration::from_secs(5);

/// How far two clocks may be apart before it is said, in seconds. Nothing fails because of it: times come from the server's answers.
const APART: u64 = 60;

/// How long a step may be open before somebody should look, in seconds.
const LONG: u64 = 60 * 60;

pub(super) fn check(
    home: &Home,
    config: Option<&Config>,
    listing: &Listing,
    offline: bool,
    findings: &mut Findings,
) {
    let Some(config) = config else { return };
    let mut peers = listing.peers.iter().filter(|peer| peer.profile == Profile::Cs1).peekable();
    if peers.peek().is_none() || config.secrets.from() == SecretsFrom::Config {
        return;
    }
    own(home, config, findings);
    for peer in peers {
        open(home, peer, findings);
        if !offline && peer.url.is_some() && !peer.credentials.is_empty() {
            ask(home, config, peer, findings);
        }
    }
}

/// What is set here.
fn own(home: &Home, config: &Config, findings: &mut Findings) {
    let file = path(&home.config_file());
    let grace = config.rotation.grace_seconds.0;
    let least = u64::from(MAX_TICKET_LIFETIME) + config.rotation.propagation_seconds.0;
    if grace < least {
        let what = format!(
            "an old credential ends {grace} s after its successor is in use, and sessions under it live for up to {MAX_TICKET_LIFETIME} s: callers that do not change over by themselves are cut off"
        );
        findings.warn(
            "rotation-grace",
            what,
            format!("set `grace_seconds` to at least {least} under [rotation] in {file}"),
        );
    }
    if !config.rotation.scheduled {
        let what = "`serve` begins no rotations by itself (`scheduled = false`)";
        findings.warn("rotation", what, format!("set `scheduled = true` under [rotation] in {file}, or see to `countersign rotate NAME` yourself"));
    }
}

/// A rotation that does not end.
fn open(home: &Home, peer: &Peer, findings: &mut Findings) {
    let now = show::now();
    let Some((step, since)) = peer.step() else { return };
    let (name, age) = (&peer.name, now.since(since));
    if age < LONG {
        return;
    }
    let what = format!(
        "a rotation of {name} is {} since {}: neither side is shut out, and it does not get on",
        step.as_str(),
        show::age(since, now)
    );
    let mend = format!(
        "countersign --home {} rotate {name}   (says what is in the way; docs/rotation.md, \"When it does not end\")",
        path(home.path())
    );
    findings.warn("rotation", what, mend);
}

/// Asks the peer.
fn ask(home: &Home, config: &Config, peer: &Peer, findings: &mut Findings) {
    let name = &peer.name;
    let command = format!("countersign --home {}", path(home.path()));
    match status(home, config, peer) {
        Ok(status) => {
            let now = show::now();
            let apart = now.0.abs_diff(status.now.0);
            if apart > APART {
                let what = format!("the clock of {name} is {apart} s away from the one here");
                findings.warn("rotation-clock", what, "set both by NTP: `timedatectl`");
            }
            let least = u64::from(MAX_TICKET_LIFETIME);
            if status.grace < least {
                let what = format!(
                    "{name} ends an old credential {} s after its successor is in use, before sessions under it end ({least} s)",
                    status.grace
                );
                findings.warn(
                    "rotation-grace",
                    what,
                    format!("ask its operator to set `grace_seconds` to at least {least}"),
                );
            }
            findings.ok("rotation", format!("{name} answers, and rotates in band"));
        }
        Err(Asking::Fault(Fault::Unsupported)) => {
            let what = format!("{name} does not rotate in band");
            findings.warn("rotation", what, format!("{command} rotate {name} --by-hand, when it is due"));
        }
        // Why it cannot be reached, or trusted, stands elsewhere.
        Err(Asking::Fault(fault)) => {
            let what = format!("{name} cannot be asked whether it rotates in band: {fault}");
            findings.warn(
                "rotation",
                what,
                format!("{command} call -v {}", peer.url.as_deref().unwrap_or_default()),
            );
        }
        Err(Asking::Here) => {}
    }
}

enum Asking {
    Fault(Fault),
    /// What is wrong here stands elsewhere.
    Here,
}

fn status(home: &Home, config: &Config, peer: &Peer) -> Result<Status, Asking> {
    let store: Arc<dyn PeerStore> = home.store().map_err(|_| Asking::Here)?;
    let runtime =
        tokio::runtime::Builder::new_current_thread().enable_all().build().map_err(|_| Asking::Here)?;
    let client = Client::builder().timeout(PATIENCE).follow(Arc::clone(&store)).build(peer);
    let client = client.map_err(|error| Asking::Fault(error.into()))?;
    let driver = Driver::new(store, peer.name.clone(), client, config.rotation.settings());
    runtime.block_on(driver.status()).map_err(Asking::Fault)
}
