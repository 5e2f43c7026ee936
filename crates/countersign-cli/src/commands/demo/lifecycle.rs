//! A credential's life: a rotation while requests go on, and a revocation.

use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use countersign::PeerStore;
use countersign::client::Client;
use countersign::protocol::api_key::sign;
use countersign::store::{Ending, Exported, Next, Overlap, Rotation, Which};
use countersign::{ApiKey, NewKeys, ServiceName};
use http::Method;
use tokio::task::JoinHandle;

use super::report::Report;
use super::stage::{Service, Stage, outcome};
use crate::failure::Failure;
use crate::show;

/// So many times what is waited for is looked at, with `PAUSE` in between: ten seconds.
const LOOKS: usize = 500;
const PAUSE: Duration = Duration::from_millis(20);

/// For how long both credentials are good, in seconds.
const GRACE: u64 = 7 * 24 * 60 * 60;

/// Callers that go on until they are stopped.
pub(super) struct Load {
    stop: Arc<AtomicBool>,
    failed: Arc<AtomicUsize>,
    /// The first few that failed: what came in place of what was expected.
    failures: Arc<Mutex<Vec<String>>>,
    counts: Vec<Arc<AtomicUsize>>,
    callers: Vec<JoinHandle<()>>,
}

impl Load {
    pub(super) fn new() -> Self {
        Self {
            stop: Arc::default(),
            failed: Arc::default(),
            failures: Arc::default(),
            counts: Vec::new(),
            callers: Vec::new(),
        }
    }

    /// One that keeps its session, or makes a handshake for each request.
    pub(super) fn caller(
        &mut self,
        from: &Service,
        to: &Service,
        expected: &'static str,
        keeps: bool,
    ) -> Result<(), Failure> {
        let (store, name): (Arc<dyn PeerStore>, ServiceName) =
            (Arc::<countersign::store::sqlite::SqliteStore>::clone(&from.store), to.name.parse()?);
        let make = move || {
            let peer = store.get(&name).ok()?;
            Client::builder().follow(Arc::clone(&store)).build(&peer).ok()
        };
        let (stop, failed, count) =
            (Arc::clone(&self.stop), Arc::clone(&self.failed), Arc::<AtomicUsize>::default());
        let failures = Arc::clone(&self.failures);
        let (caller, called) = (from.name, to.name);
        self.counts.push(Arc::clone(&count));
        self.callers.push(tokio::spawn(async move {
            let mut kept = make();
            while !stop.load(Ordering::Relaxed) {
                if !keeps {
                    kept = make();
                }
                let got = match &kept {
                    Some(client) => outcome(client, "/invoices").await,
                    None => String::new(),
                };
                let which = if got == expected { &count } else { &failed };
                which.fetch_add(1, Ordering::Relaxed);
                if got != expected {
                    let mut failures = failures.lock().unwrap_or_else(PoisonError::into_inner);
                    if failures.len() < 3 {
                        failures.push(format!("{caller} calls {called}: {got}"));
                    }
                }
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }));
        Ok(())
    }

    /// Waits until each caller has come further.
    pub(super) async fn goes_on(&self) {
        let now = || self.counts.iter().map(|count| count.load(Ordering::Relaxed));
        let further: Vec<usize> = now().map(|count| count + 5).collect();
        eventually(|| now().zip(&further).all(|(count, further)| count >= *further)).await;
    }

    /// How many requests succeeded, and what came of those that failed: `0`, or how many and the first few.
    pub(super) async fn end(self) -> (usize, String) {
        self.stop.store(true, Ordering::Relaxed);
        for caller in self.callers {
            let _ = caller.await;
        }
        let done = self.counts.iter().map(|count| count.load(Ordering::Relaxed)).sum();
        let failures = self.failures.lock().unwrap_or_else(PoisonError::into_inner);
        let failed = std::iter::once(self.failed.load(Ordering::Relaxed).to_string());
        (done, failed.chain(failures.iter().cloned()).collect::<Vec<_>>().join("; "))
    }
}

async fn eventually(mut done: impl FnMut() -> bool) {
    for _ in 0..LOOKS {
        if done() {
            return;
        }
        tokio::time::sleep(PAUSE).await;
    }
}

pub(super) async fn rotation(stage: &mut Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "A rotation, while requests go on",
        "Both credentials are good until the peer has used the new one. All the while four callers keep calling.",
    )?;
    let Stage { orders, billing, .. } = &*stage;
    let (of_billing, of_orders): (ServiceName, ServiceName) = ("billing".parse()?, "orders".parse()?);
    let mut load = Load::new();
    load.caller(billing, orders, "200 billing", true)?;
    load.caller(billing, orders, "200 billing", true)?;
    load.caller(billing, orders, "200 billing", false)?;
    load.caller(orders, billing, "200 orders", true)?;
    load.goes_on().await;

    let peer = orders.store.get(&of_billing)?;
    let exported = Exported {
        maker: of_orders.clone(),
        taker: of_billing.clone(),
        number: peer.next_number(),
        replaces: peer
            .newest_fingerprint()
            .cloned()
            .ok_or_else(|| Failure::new("billing has no credential to replace"))?,
        keys: NewKeys::following(&peer, false)?,
    };
    let next = |keys: NewKeys, confirmed: bool| Next {
        keys,
        overlap: Overlap::new(show::now(), GRACE, None),
        confirmed,
        follows: None,
    };
    orders.store.rotate(&of_billing, next(exported.keys.clone(), false), show::now())?;
    // Handed over once the running server knows them; `rotate` waits for a second.
    orders.authenticator.refresh()?;
    load.goes_on().await;
    report.step(
        "rotation-made",
        "orders makes the next credential (`rotate billing`)",
        "waiting for billing",
        standing(orders, &of_billing)?,
    )?;
    // What the file says is all that billing gets.
    let taken = Exported::parse(&exported.text())?;
    let at_billing = billing.store.rotate(&of_orders, next(taken.keys.exchanged(), true), show::now())?;
    // As before: `rotate --from` waits until the running server knows them.
    billing.authenticator.refresh()?;
    let fingerprint = at_billing.newest_fingerprint().map(ToString::to_string).unwrap_or_default();
    report.step(
        "rotation-taken",
        "billing takes it in (`rotate orders --from FILE`): the same fingerprint",
        exported.keys.fingerprint().as_str(),
        &fingerprint,
    )?;
    eventually(|| standing(orders, &of_billing).is_ok_and(|standing| standing == "billing has it")).await;
    report.step(
        "rotation-confirmed",
        "orders has seen billing use it (`rotate billing --check`)",
        "billing has it",
        standing(orders, &of_billing)?,
    )?;
    for (service, name) in [(orders, &of_billing), (billing, &of_orders)] {
        service.store.end(name, Which::Number(1), Ending::Retired, show::now())?;
        load.goes_on().await;
    }
    report.step(
        "rotation-finished",
        "the old one is ended on both sides (`rotate … --finish`)",
        "no rotation is open",
        standing(orders, &of_billing)?,
    )?;
    let (done, failed) = load.end().await;
    report.note(&format!("{done} requests meanwhile"))?;
    report.step("rotation-under-load", "requests that failed meanwhile", "0", &failed)?;

    let pair = &stage.pair;
    let challenge = stage.knock(&pair.billing_key).await?;
    let old = stage.answer(&pair.billing_key, &pair.secret, &challenge).await?;
    report.step(
        "old-credential",
        "the old key and secret, once more",
        "401 authentication-failed",
        &old.summary(),
    )?;
    if let Some(pair) = super::stage::Pair::of(&at_billing) {
        stage.pair = pair;
    }
    let pair = &stage.pair;
    let challenge = stage.knock(&pair.billing_key).await?;
    let new = stage.answer(&pair.billing_key, &pair.secret, &challenge).await?;
    report.step("new-credential", "the new ones", "200 billing", &new.summary())?;
    Ok(())
}

/// Where a rotation stands, as `rotate --check` and `status` have it.
fn standing(service: &Service, peer: &ServiceName) -> Result<&'static str, Failure> {
    Ok(match service.store.get(peer)?.rotation(show::now()) {
        Rotation::Idle => "no rotation is open",
        Rotation::Waiting { .. } => "waiting for billing",
        Rotation::Confirmed { .. } => "billing has it",
    })
}

pub(super) async fn revocation(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter("A revocation", "In a running server, and with what was given out before.")?;
    let Stage { orders, reports, reports_key, .. } = stage;
    let authorization = format!("Bearer {}", token(stage, reports_key).await?);
    let headers = [("authorization", authorization.as_str())];
    let with_token = || stage.send(Method::GET, "/invoices", &headers, "");
    let before = with_token().await?;
    orders.store.end(&"reports".parse()?, Which::All, Ending::Compromised, show::now())?;
    // A running `serve` sees it by itself, within a second.
    let mut after = with_token().await?;
    for _ in 0..LOOKS {
        if after.status != 200 {
            break;
        }
        tokio::time::sleep(PAUSE).await;
        after = with_token().await?;
    }
    report.step(
        "revoked-token",
        "reports is revoked (`revoke reports --compromised`): its token dies",
        "200 reports, then 401 session-invalid",
        &format!("{}, then {}", before.summary(), after.summary()),
    )?;
    report.step(
        "revoked-key",
        "and its next handshake is refused",
        "401",
        &outcome(&reports.client("orders")?, "/").await,
    )?;
    Ok(())
}

/// A token under the profile api-key, by hand.
async fn token(stage: &Stage, key: &ApiKey) -> Result<String, Failure> {
    let shown = key.expose();
    let answer =
        stage.send(Method::POST, "/authenticate", &[], &format!(r#"{{"apiKey":"{shown}"}}"#)).await?;
    let signature = sign(key, &answer.member("challenge")?.parse()?).to_hex();
    let body = format!(r#"{{"apiKey":"{shown}","signedChallenge":"{signature}"}}"#);
    stage.send(Method::POST, "/verify_challenge", &[], &body).await?.member("token")
}
