//! Two services that have nothing in common are paired by spoken words, and then rotate in band while requests go on.

use std::sync::Arc;
use std::time::Duration;

use countersign::client::pairing::{AcceptError, Ours, accept};
use countersign::client::{BaseUrl, Client};
use countersign::protocol::cs1::Binding;
use countersign::protocol::pairing::{Code, MAX_CODES, OfferId, Password};
use countersign::rotation::{Driver, Progress, Settings};
use countersign::store::pairing::{Choices, Offer, PairingStore as _};
use countersign::store::{Peer, StoreError, random};
use countersign::{NewPeer, PeerStore, ServiceName, Trust};
use zeroize::Zeroizing;

use super::lifecycle::Load;
use super::report::Report;
use super::stage::{Service, Stage, outcome};
use crate::failure::Failure;
use crate::show;

/// Both sides are one process here: nobody else has to learn of a new credential.
const SETTINGS: Settings = Settings {
    grace: Duration::from_secs(900),
    propagation: Duration::from_millis(150),
    ..Settings::DEFAULT
};

pub(super) async fn chapter(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "Paired by six spoken words",
        "ledger reads them out, reports types them (`pair offer`, `pair accept`). The pair's secret is derived on both sides and never travels.",
    )?;
    let Stage { ledger, reports, .. } = stage;
    let password = || Password::generate(&Zeroizing::new(random()));
    let code = Code { offer: OfferId::generate(&random()), password: password() };
    let choices =
        Choices { name: None, binding: Binding::None, pins: vec![pin(ledger)?], system_trust: false };
    let now = show::now();
    ledger.store.open(&Offer::new(code.offer, code.password.clone(), choices, now.plus(600)), now)?;
    report.note(&format!("ledger: {}", code.spoken().as_str()))?;

    let wrong = Code { offer: code.offer, password: password() };
    let got = join(reports, ledger, &wrong).await?;
    report.step(
        "pair-wrong-words",
        "reports types other words: refused, and the code is burned",
        "pairing-failed",
        got.err().as_ref().map_or("paired", AcceptError::code),
    )?;
    let burned = join(reports, ledger, &code).await?;
    report.step(
        "pair-burned-code",
        "now the right words are too late: one guess for each code",
        "pairing-failed",
        burned.err().as_ref().map_or("paired", AcceptError::code),
    )?;

    let mut offer =
        ledger.store.offer(code.offer)?.ok_or_else(|| Failure::new("the offer is gone before its time"))?;
    let next = password();
    offer.next_code(next.clone(), show::now()).map_err(|error| Failure::new(error.to_string()))?;
    ledger.store.replace(&offer)?;
    let next = Code { offer: code.offer, password: next };
    report.note(&format!("ledger, number 2 of {MAX_CODES}: {}", next.spoken().as_str()))?;
    let joined = join(reports, ledger, &next).await?.map_err(|error| Failure::new(error.to_string()))?;
    let at_reports = reports.store.add(joined, show::now())?;
    reports.authenticator.refresh()?;
    ledger.authenticator.refresh()?;
    let at_ledger = ledger.store.get(&"reports".parse()?)?;
    report.step(
        "paired",
        "reports types the next ones: both have the same fingerprint, and the other's URL and TLS key",
        &facts(&at_ledger, &reports.url, &reports.trust),
        &facts(&at_reports, &ledger.url, &ledger.trust).replace(&ledger.url, &reports.url),
    )?;
    report.step(
        "pair-call",
        "reports calls ledger",
        "200 reports",
        &outcome(&client(reports, "ledger")?, "/invoices").await,
    )?;
    report.step(
        "pair-call-back",
        "ledger calls reports",
        "200 ledger",
        &outcome(&client(ledger, "reports")?, "/invoices").await,
    )?;
    rotation(ledger, reports, report).await
}

async fn rotation(ledger: &Service, reports: &Service, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "A rotation that nobody notices",
        "The two agree on the next credential in band (`rotate`, or `serve` when it is due), while callers go on in both directions.",
    )?;
    let mut load = Load::new();
    load.caller(reports, ledger, "200 reports", true)?;
    load.caller(ledger, reports, "200 ledger", true)?;
    load.caller(reports, ledger, "200 reports", false)?;
    load.goes_on().await;
    let before = newest(reports, "ledger")?;
    let store: Arc<dyn PeerStore> = Arc::<countersign::store::sqlite::SqliteStore>::clone(&reports.store);
    let name: ServiceName = "ledger".parse()?;
    let driver = Driver::new(store, name, client(reports, "ledger")?, SETTINGS);
    let progress = driver.rotate().await.map_err(|fault| Failure::new(fault.to_string()))?;
    report.step(
        "rotated-in-band",
        "reports begins, ledger answers, both confirm; nothing is handed over",
        "ledger/2 is in use",
        &match progress {
            Progress::Done(number) => format!("ledger/{number} is in use"),
            other => format!("{other:?}"),
        },
    )?;
    load.goes_on().await;
    let after = newest(reports, "ledger")?;
    report.step(
        "rotated-fingerprint",
        "both have the same new credential",
        &newest(ledger, "reports")?,
        if after == before { "the old one" } else { &after },
    )?;
    let (done, failed) = load.end().await;
    report.note(&format!("{done} requests meanwhile"))?;
    report.step("rotated-under-load", "requests that failed meanwhile", "0", &failed)
}

/// What `pair accept` does.
async fn join(from: &Service, to: &Service, code: &Code) -> Result<Result<NewPeer, AcceptError>, Failure> {
    let ours = Ours {
        service: from.name.parse()?,
        name: None,
        url: Some(from.url.clone()),
        pin: Some(pin(from)?),
        system_trust: false,
        timeout: Duration::from_secs(15),
        repeat: Duration::from_secs(15),
    };
    let is_taken = |name: &ServiceName| !matches!(from.store.get(name), Err(StoreError::NoSuchPeer(_)));
    Ok(accept(code, &BaseUrl::parse(&to.url)?, ours, is_taken).await)
}

fn pin(service: &Service) -> Result<[u8; 32], Failure> {
    match service.trust {
        Trust::Pin(pin) => Ok(pin),
        _ => Err(Failure::new("a service of the demo has a pin")),
    }
}

/// A client that outlives a rotation.
fn client(from: &Service, to: &str) -> Result<Client, Failure> {
    let store: Arc<dyn PeerStore> = Arc::<countersign::store::sqlite::SqliteStore>::clone(&from.store);
    Ok(Client::builder().follow(store).build(&from.store.get(&to.parse()?)?)?)
}

fn newest(service: &Service, peer: &str) -> Result<String, Failure> {
    let peer = service.store.get(&peer.parse()?)?;
    Ok(peer.newest_fingerprint().map(ToString::to_string).unwrap_or_default())
}

/// The fingerprint, and whether URL and TLS key are those of the other side.
fn facts(peer: &Peer, url: &str, trust: &Trust) -> String {
    let right =
        peer.url.as_deref().is_some_and(|stated| stated.trim_end_matches('/') == url.trim_end_matches('/'));
    let digits = peer.newest_fingerprint().map(ToString::to_string).unwrap_or_default();
    format!("{digits}; URL {right}, TLS key {}", peer.trust == *trust)
}
