use countersign::Trust;
use countersign::store::Listing;
use countersign_gateway::TlsIdentity;
use serde_json::json;

use super::peer::{complain, describe};
use crate::args::JsonArgs;
use crate::failure::Failure;
use crate::home::Home;
use crate::show;

pub(crate) fn run(home: &Home, args: &JsonArgs) -> Result<(), Failure> {
    let config = home.config()?;
    let store = home.store()?;
    let Listing { peers, damaged } = store.read_all()?;
    let stale = store.stale();
    let (certificate, key) = home.tls_files(&config);
    // A service that only calls others may have no TLS identity.
    let pin = TlsIdentity::load(&certificate, &key).and_then(|identity| identity.pin());
    let pin = pin.map(|pin| Trust::pin_text(&pin)).map_err(|error| error.to_string());
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
        }))?;
        return complain(&damaged);
    }
    let now = show::now();
    let rows: Vec<_> = peers
        .iter()
        .flat_map(|peer| {
            peer.credentials.iter().map(|credential| {
                vec![
                    credential.id(&peer.name).to_string(),
                    peer.profile.to_string(),
                    show::age(credential.created, now),
                    credential.fingerprint.to_string(),
                ]
            })
        })
        .collect();
    let mut text = format!(
        "service  {}\nhome     {}\nsecrets  {}\n",
        config.service,
        home.path().display(),
        config.secrets.place()
    );
    if let Some(stale) = stale {
        let age = show::duration(stale.age);
        text.push_str(&format!("         {}: this is the copy of {age} ago\n", stale.reason));
    }
    match pin {
        Ok(pin) => text.push_str(&format!("TLS pin  {pin}\n\n")),
        Err(error) => text.push_str(&format!("TLS      {error}\n\n")),
    }
    if rows.is_empty() && damaged.is_empty() {
        text.push_str("no peers yet: `countersign peer add` (docs/key-exchange.md)\n");
    } else {
        text.push_str(&show::table(&["CREDENTIAL", "PROFILE", "AGE", "FINGERPRINT"], &rows));
    }
    show::out(&show::printable_lines(&text))?;
    complain(&damaged)
}
