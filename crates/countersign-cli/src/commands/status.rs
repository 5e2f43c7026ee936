use countersign::Trust;
use countersign::protocol::UnixTime;
use countersign::store::{Listing, Peer, Rotation};
use countersign_gateway::TlsIdentity;
use serde_json::json;

use super::peer::{complain, describe};
use crate::args::JsonArgs;
use crate::config::SecretsFrom;
use crate::failure::Failure;
use crate::home::Home;
use crate::{life, show};

pub(crate) fn run(home: &Home, args: &JsonArgs) -> Result<(), Failure> {
    let config = home.config()?;
    let store = home.store()?;
    let Listing { peers, damaged } = store.read_all()?;
    let stale = store.stale();
    let (certificate, key) = home.tls_files(&config);
    // A service that only calls others may have no TLS identity.
    let pin = TlsIdentity::load(&certificate, &key).and_then(|identity| identity.pin());
    let pin = pin.map(|pin| Trust::pin_text(&pin)).map_err(|error| error.to_string());
    let now = show::now();
    let late: Vec<&Peer> = peers.iter().filter(|peer| peer.is_overdue(now)).collect();
    let verdict = || complain(&damaged).and_then(|()| overdue(&late, now));
    if args.json {
        show::json(&json!({
            "service": config.service.as_str(),
            "home": home.path().display().to_string(),
            "secrets": config.secrets.place(),
            "secretsStale": stale.map(|stale| json!({
                "since": stale.since.0,
                "seconds": stale.age,
                "maxSeconds": stale.max,
                "reason": stale.reason,
            })),
            "tlsPin": pin.ok(),
            "peers": peers.iter().map(describe).collect::<Vec<_>>(),
            "overdue": late.iter().map(|peer| peer.name.as_str()).collect::<Vec<_>>(),
        }))?;
        return verdict();
    }
    let mut text = format!(
        "service  {}\nhome     {}\nsecrets  {}\n",
        config.service,
        home.path().display(),
        config.secrets.place()
    );
    if let Some(stale) = stale {
        let age = show::span(stale.age);
        text.push_str(&format!("         {}: this is the copy of {age} ago\n", stale.reason));
    }
    match pin {
        Ok(pin) => text.push_str(&format!("TLS pin  {pin}\n\n")),
        Err(error) => text.push_str(&format!("TLS      {error}\n\n")),
    }
    let mut text = show::printable_lines(&text);
    if peers.is_empty() && damaged.is_empty() {
        text.push_str("no peers yet: `countersign peer add` (docs/key-exchange.md)\n");
    } else {
        text.push_str(&table(&peers, now));
    }
    if config.secrets.from() == SecretsFrom::Config {
        text.push_str("\nThese peers, their keys and their schedules are changed in countersign.toml and where it points.\n");
    }
    show::out(&text)?;
    verdict()
}

/// One line a credential, red where somebody should see to it.
fn table(peers: &[Peer], now: UnixTime) -> String {
    let (rows, late): (Vec<_>, Vec<_>) = peers.iter().flat_map(|peer| life::rows(peer, now)).unzip();
    let paint = show::Paint::stdout();
    let late = std::iter::once(false).chain(late);
    let table = show::printable_lines(&show::table(&life::HEAD, &rows));
    let lines = table.lines().zip(late);
    lines.map(|(line, late)| if late { paint.bad(line) } else { line.to_owned() } + "\n").collect()
}

/// Exit code 1 if somebody should see to a peer, and what to do.
fn overdue(late: &[&Peer], now: UnixTime) -> Result<(), Failure> {
    if late.is_empty() {
        return Ok(());
    }
    let lines: Vec<_> = late
        .iter()
        .map(|peer| {
            let name = &peer.name;
            match peer.rotation(now) {
                Rotation::Waiting { .. } => format!(
                    "overdue: {name} has not used its next credential in the grace period: `countersign rotate {name} --check`, and ask its operator"
                ),
                Rotation::Confirmed { .. } => format!(
                    "overdue: {name}: `countersign rotate {name} --finish`, then `countersign rotate {name}`"
                ),
                Rotation::Idle => format!("overdue: {name}: `countersign rotate {name}` (docs/rotation.md)"),
            }
        })
        .collect();
    Err(Failure::new(lines.join("\n")))
}
