//! What goes well: the exchange, the handshakes, and at the end the trail of everything.

use std::collections::BTreeMap;

use countersign::audit::{Direction, Outcome, tail};
use countersign::{NewKeys, PeerStore as _};

use super::report::Report;
use super::stage::{Stage, outcome};
use crate::failure::Failure;

pub(super) fn exchange(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "Keys, exchanged out of band",
        "An API key each and one secret; both operators then read a fingerprint to each other.",
    )?;
    let Stage { orders, billing, pair, .. } = stage;
    let keys = |ours: &countersign::ApiKey, theirs: &countersign::ApiKey| {
        NewKeys::shared_secret(ours.clone(), theirs.clone(), pair.secret.clone(), pair.secret.clone())
    };
    let at_orders = orders.add("billing", Some(billing), keys(&pair.orders_key, &pair.billing_key)?)?;
    let at_billing = billing.add("orders", Some(orders), keys(&pair.billing_key, &pair.orders_key)?)?;
    let fingerprint = |peer: &countersign::store::Peer| {
        peer.credentials.last().map(|credential| credential.fingerprint.to_string()).unwrap_or_default()
    };
    report.step(
        "fingerprint",
        "orders and billing see the same fingerprint",
        &fingerprint(&at_orders),
        &fingerprint(&at_billing),
    )?;
    let again = billing.store.add(
        countersign::NewPeer {
            name: "stranger".parse()?,
            url: None,
            trust: countersign::Trust::System,
            danger_unproven_server: false,
            cs1: Default::default(),
            keys: keys(&pair.billing_key, &countersign::ApiKey::generate(&countersign::store::random()))?,
        },
        crate::show::now(),
    );
    let refused = matches!(again, Err(countersign::store::StoreError::KeyTaken(_)));
    let got = if refused { "refused" } else { "accepted" };
    report.step(
        "one-peer-per-secret",
        "billing will not use the same secret for a second peer",
        "refused",
        got,
    )?;
    let reports_key = || Some(stage.reports_key.clone());
    orders.add("reports", None, NewKeys::api_key(None, reports_key())?)?;
    stage.reports.add("orders", Some(orders), NewKeys::api_key(reports_key(), None)?)?;
    Ok(())
}

pub(super) async fn handshakes(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "They prove to each other who they are",
        "Profile shared-secret: HMAC-SHA256(secret, API key ‖ challenge), first the caller, then the server.",
    )?;
    let Stage { orders, billing, reports, pair, .. } = stage;
    let client = billing.client("orders")?;
    report.step(
        "call",
        "billing calls orders: both prove themselves, then the request goes",
        "200 billing",
        &outcome(&client, "/invoices").await,
    )?;
    let again = outcome(&client, "/invoices/7").await;
    let (entries, _) = tail(&billing.home.audit_directory(), usize::MAX)?;
    let shakes = entries.iter().filter(|entry| entry.record.direction == Direction::Outbound).count();
    report.step(
        "token",
        "it calls again with its token (good for 5 minutes)",
        "200 billing, 1 handshake in all",
        &format!("{again}, {shakes} handshake in all"),
    )?;
    report.step(
        "roles-reversed",
        "orders calls billing: the same with roles reversed",
        "200 orders",
        &outcome(&orders.client("billing")?, "/").await,
    )?;
    let challenge = stage.knock(&pair.billing_key).await?;
    let answer = stage.answer(&pair.billing_key, &pair.secret, &challenge).await?;
    report.step(
        "per-request",
        "with curl and openssl alone, on the protected route itself",
        "200 billing",
        &answer.summary(),
    )?;
    report.step(
        "api-key",
        "reports calls orders under the profile api-key (the key is the secret)",
        "200 reports",
        &outcome(&reports.client("orders")?, "/").await,
    )?;
    Ok(())
}

pub(super) fn trail(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "The trail",
        "Every attempt is a line with service, credential, source, outcome, exact reason and request id.",
    )?;
    let (entries, _) = tail(&stage.orders.home.audit_directory(), usize::MAX)?;
    let mut reasons: BTreeMap<&str, usize> = BTreeMap::new();
    for entry in &entries {
        *reasons.entry(entry.record.reason.as_str()).or_default() += 1;
    }
    let counted: Vec<String> = reasons.iter().map(|(reason, count)| format!("{count} {reason}")).collect();
    for line in counted.chunks(4) {
        report.note(&line.join(", "))?;
    }
    let expected = [
        "accepted",
        "challenge-sent",
        "challenge-expired",
        "challenge-foreign",
        "challenge-used",
        "credential-compromised",
        "credential-retired",
        "digest-mismatch",
        "own-key",
        "rate-limited-key-failures",
        "request-replayed",
        "token-key",
        "token-orphaned",
        "two-methods",
        "unknown-key",
        "wrong-profile",
        "wrong-signature",
    ];
    let missing: Vec<_> = expected.into_iter().filter(|reason| !reasons.contains_key(reason)).collect();
    let missing = if missing.is_empty() { "none".to_owned() } else { missing.join(", ") };
    let missing = format!("missing: {missing}");
    report.step(
        "trail-complete",
        "each kind of attempt is on orders' trail with its exact reason",
        "missing: none",
        &missing,
    )?;
    let of_billing = entries.iter().any(|entry| {
        entry.record.outcome == Outcome::Accepted && entry.record.credential.as_deref() == Some("billing/1")
    });
    report.step(
        "trail-names",
        "accepted attempts name the credential: billing/1",
        "true",
        &of_billing.to_string(),
    )?;
    let secrets = [stage.pair.secret.expose(), stage.reports_key.expose()];
    let mut leaks = 0;
    for service in [&stage.orders, &stage.billing, &stage.reports, &stage.ledger] {
        for directory in [service.home.audit_directory(), service.home.path().to_owned()] {
            for file in std::fs::read_dir(directory)? {
                let path = file?.path();
                // The reserve is room on the disk, and zeros.
                if path.is_file() && !path.ends_with("reserve") {
                    let bytes = std::fs::read(&path)?;
                    let holds =
                        |secret: &&str| bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                    leaks += secrets.iter().filter(|secret| holds(secret)).count();
                }
            }
        }
    }
    report.step(
        "no-secret-on-disk",
        "no secret stands readable in any trail, store or config",
        "0",
        &leaks.to_string(),
    )?;
    Ok(())
}
