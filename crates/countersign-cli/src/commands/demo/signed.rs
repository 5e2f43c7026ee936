//! The profile `cs1`: requests and answers that are signed, and somebody in between who has everything but the secret.

use bytes::Bytes;
use countersign::audit::{Direction, tail};
use countersign::client::{Client, ClientError, Unproved};
use countersign::protocol::wire::reply::ReplyError;
use countersign::store::random;
use countersign::{ApiKey, NewKeys, PeerStore as _, SharedSecret};
use http::Request;
use http_body_util::BodyExt as _;

use super::between::{Attack, Between};
use super::report::Report;
use super::stage::{Answer, Stage};
use crate::failure::Failure;

pub(super) async fn chapter(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "Every message signed",
        "Profile cs1: both prove themselves and agree on keys that the secret does not give away; then each request and answer is signed.",
    )?;
    let Stage { orders, ledger, .. } = stage;
    let (ours, theirs) = (ApiKey::generate(&random()), ApiKey::generate(&random()));
    let secret = SharedSecret::generate(&random());
    let at_orders =
        orders.add("ledger", None, NewKeys::cs1(ours.clone(), theirs.clone(), secret.clone())?)?;
    let at_ledger = ledger.add("orders", Some(orders), NewKeys::cs1(theirs, ours, secret)?)?;
    let digits = |peer: &countersign::store::Peer| {
        peer.credentials.last().map(|credential| credential.fingerprint.to_string()).unwrap_or_default()
    };
    report.step(
        "cs1-fingerprint",
        "orders and ledger have one secret, and see the same fingerprint",
        &digits(&at_orders),
        &digits(&at_ledger),
    )?;
    let client = ledger.client("orders")?;
    report.step(
        "cs1-call",
        "ledger calls orders: a handshake, a signed request, a signed answer",
        "200 ledger",
        &pay(&client).await,
    )?;
    let again = pay(&client).await;
    let (entries, _) = tail(&ledger.home.audit_directory(), usize::MAX)?;
    let shakes = entries.iter().filter(|entry| entry.record.direction == Direction::Outbound).count();
    report.step(
        "cs1-session",
        "it calls again in the same session; orders has kept nothing of it",
        "200 ledger, 1 handshake in all",
        &format!("{again}, {shakes} handshake in all"),
    )?;
    in_between(stage, report).await
}

/// Everything over TLS, with the key that ledger has pinned.
async fn in_between(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "Somebody in between, who even has orders' TLS key",
        "TLS gives him every message in the clear, and lets him change it. Signatures do not.",
    )?;
    let Stage { orders, ledger, .. } = stage;
    let between = Between::start(orders).await?;
    // On a real network he would have orders' own name; here he has another port.
    let mut urls = orders.authenticator.external_urls();
    urls.push(between.url.parse()?);
    orders.authenticator.set_external_urls(urls);
    let client = || -> Result<Client, Failure> {
        let mut peer = ledger.store.get(&"orders".parse()?)?;
        peer.url = Some(between.url.clone());
        Ok(Client::builder().audit(ledger.home.trail(&ledger.store, "call")?).build(&peer)?)
    };
    let session = client()?;
    report.step(
        "cs1-passive",
        "as long as he only listens, nothing is noticed: he has broken TLS",
        "200 ledger",
        &pay(&session).await,
    )?;
    for (attack, step, title, expected) in [
        (
            Attack::ChangeRequest,
            "cs1-tampered",
            "he puts another amount into a request: orders refuses it, unsigned",
            "outcome unknown: not signed, 401 digest-mismatch",
        ),
        (
            Attack::ChangeAnswer,
            "cs1-answer-tampered",
            "he puts other content into an answer: ledger does not take it",
            "outcome unknown: other content",
        ),
        (
            Attack::StripAnswer,
            "cs1-answer-stripped",
            "he takes the signature off an answer: ledger does not take it",
            "outcome unknown: not signed, 200",
        ),
    ] {
        between.set(attack);
        report.step(step, title, expected, &pay(&session).await)?;
    }
    between.set(Attack::Replay);
    let first = pay(&session).await;
    report.step(
        "cs1-replayed",
        "he sends a signed request twice: it has its effect once",
        "200 ledger, then 401 request-replayed",
        &format!("{first}, then {}", between.second()),
    )?;
    between.set(Attack::Downgrade);
    report.step(
        "cs1-downgrade",
        "he answers the handshake as guide 1 would: ledger sends nothing more",
        "no challenge of cs1",
        &pay(&client()?).await,
    )?;
    // With the API keys, which are public, and no signature.
    let keys = ledger.store.get(&"orders".parse()?)?;
    let key = keys.api_keys().map(|(ours, _)| ours.expose().to_owned()).unwrap_or_default();
    let knock = stage.send(http::Method::GET, "/invoices", &[("x-api-key", &key)], "").await?;
    let signature = "0".repeat(64);
    let fields = [
        ("x-api-key", key.as_str()),
        ("x-challenge", &knock.member("challenge")?),
        ("x-signature", &signature),
    ]
    .map(|(name, value)| (name, value.to_owned()));
    let fields: Vec<(&'static str, &str)> =
        fields.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let guide1 = stage.send(http::Method::GET, "/invoices", &fields, "").await?;
    report.step(
        "cs1-pinned",
        "he tries ledger's key at orders under guide 1: it is pinned there, too",
        "401 authentication-failed",
        &guide1.summary(),
    )?;
    between.set(Attack::None);
    report.step(
        "cs1-goes-on",
        "he has given up: the session of before goes on",
        "200 ledger",
        &pay(&session).await,
    )
}

/// A request that must not have its effect twice, and what became of it.
async fn pay(client: &Client) -> String {
    let Ok(request) = Request::post("/payments").body(Bytes::from_static(b"{\"amount\":5}")) else {
        return "no request".to_owned();
    };
    match client.send(request).await {
        Ok(response) => {
            let (parts, body) = response.into_parts();
            let Ok(body) = body.collect().await else { return "the answer was cut off".to_owned() };
            let body = String::from_utf8_lossy(&body.to_bytes()).into_owned();
            Answer { status: parts.status.as_u16(), headers: parts.headers, body }.summary()
        }
        Err(ClientError::OutcomeUnknown { why: Unproved::Unsigned, status, hint, .. }) => {
            let hint = hint.map(|hint| format!(" {}", hint.trim_matches('`'))).unwrap_or_default();
            format!("outcome unknown: not signed, {status}{hint}")
        }
        Err(ClientError::OutcomeUnknown { why: Unproved::Content, .. }) => {
            "outcome unknown: other content".to_owned()
        }
        Err(ClientError::Handshake { error: ReplyError::ForeignShape, .. }) => {
            "no challenge of cs1".to_owned()
        }
        Err(error) => error.to_string(),
    }
}
