//! What must fail: impostors as callers, impostors as servers, brute force.

use std::time::Duration;

use countersign::client::{BaseUrl, ClientError};
use countersign::protocol::shared_secret::sign;
use countersign::store::random;
use countersign::{ApiKey, NewKeys, PeerStore, SharedSecret};
use http::Method;

use super::report::Report;
use super::stage::{Answer, Stage, outcome};
use crate::failure::Failure;

pub(super) async fn callers(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter("Impostors call orders", "Each over the same TLS, with everything but what it takes.")?;
    let pair = &stage.pair;
    let (stranger, guess) = (ApiKey::generate(&random()), SharedSecret::generate(&random()));

    let challenge = stage.knock(&stranger).await?;
    let unknown = stage.answer(&stranger, &guess, &challenge).await?;
    report.step(
        "unknown-key",
        "a key that nobody has (it gets a challenge like any other)",
        "401 authentication-failed",
        &unknown.summary(),
    )?;
    let challenge = stage.knock(&pair.billing_key).await?;
    let wrong = stage.answer(&pair.billing_key, &guess, &challenge).await?;
    report.step(
        "wrong-secret",
        "billing's key, but not the secret",
        "401 authentication-failed",
        &wrong.summary(),
    )?;
    let same = unknown.uniform()? == wrong.uniform()?;
    report.step(
        "uniform",
        "both get the same bytes, but for request id and fresh challenge",
        "true",
        &same.to_string(),
    )?;

    let challenge = stage.knock(&pair.billing_key).await?;
    let first = stage.answer(&pair.billing_key, &pair.secret, &challenge).await?;
    let replay = stage.answer(&pair.billing_key, &pair.secret, &challenge).await?;
    report.step(
        "replay",
        "a recorded request is sent again",
        "200 billing, then 401 challenge-used",
        &format!("{}, then {}", first.summary(), replay.summary()),
    )?;
    let challenge = stage.knock(&pair.billing_key).await?;
    let answers = race(stage, &challenge).await?;
    let accepted = answers.iter().filter(|answer| answer.status == 200).count();
    report.step(
        "race",
        "the same signature eight times at once: exactly one gets in",
        "1",
        &accepted.to_string(),
    )?;
    let challenge = stage.knock(&pair.billing_key).await?;
    stage.orders.clock.advance(Duration::from_secs(31));
    let late = stage.answer(&pair.billing_key, &pair.secret, &challenge).await?;
    report.step(
        "expired",
        "a challenge is answered 31 seconds later (orders' clock put forward)",
        "401 challenge-expired",
        &late.summary(),
    )?;
    let challenge = stage.knock(&stranger).await?;
    let foreign = stage.answer(&pair.billing_key, &pair.secret, &challenge).await?;
    report.step(
        "foreign",
        "a challenge that was given for another key",
        "401 challenge-invalid",
        &foreign.summary(),
    )?;

    let challenge = stage.knock(&pair.orders_key).await?;
    let own = stage.answer(&pair.orders_key, &pair.secret, &challenge).await?;
    report.step(
        "own-key",
        "orders' own key comes back from outside",
        "401 authentication-failed",
        &own.summary(),
    )?;
    let challenge = stage.knock(&stage.reports_key).await?;
    let secret: SharedSecret = format!("{}{}", stage.reports_key.expose(), "-0123456789").parse()?;
    let downgrade = stage.answer(&stage.reports_key, &secret, &challenge).await?;
    report.step(
        "profile-pinned",
        "a key of one profile is presented under the other",
        "401 authentication-failed",
        &downgrade.summary(),
    )?;

    tokens(stage, report).await
}

async fn race(stage: &Stage, challenge: &str) -> Result<Vec<Answer>, Failure> {
    let pair = &stage.pair;
    let attempt = || stage.answer(&pair.billing_key, &pair.secret, challenge);
    let (a, b, c, d, e, f, g, h) =
        tokio::join!(attempt(), attempt(), attempt(), attempt(), attempt(), attempt(), attempt(), attempt());
    [a, b, c, d, e, f, g, h].into_iter().collect()
}

/// Gets a token for billing by hand, as a script would.
async fn token(stage: &Stage, path: &str) -> Result<String, Failure> {
    let pair = &stage.pair;
    let key = pair.billing_key.expose();
    let answer = stage.send(Method::POST, "/authenticate", &[], &format!(r#"{{"apiKey":"{key}"}}"#)).await?;
    let challenge = answer.member("challenge")?;
    let signature = sign(&pair.secret.mac_key(), &pair.billing_key, &challenge.parse()?).to_hex();
    let body = format!(r#"{{"apiKey":"{key}","challenge":"{challenge}","signedChallenge":"{signature}"}}"#);
    stage.send(Method::POST, path, &[], &body).await?.member("token")
}

async fn tokens(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    let Stage { orders, billing, pair, .. } = stage;
    let good = format!("Bearer {}", token(stage, "/verify_challenge").await?);
    let with = |authorization: String| async move {
        stage.send(Method::GET, "/invoices", &[("authorization", &authorization)], "").await
    };
    let both = [("authorization", good.as_str()), ("x-api-key", pair.billing_key.expose())];
    let both = stage.send(Method::GET, "/invoices", &both, "").await?;
    report.step(
        "two-methods",
        "a token and an API key in one request",
        "400 two-methods",
        &both.summary(),
    )?;
    // A token of billing's own server, which has other keys.
    let elsewhere = countersign::protocol::token::TokenKeys::new(
        billing.name.parse()?,
        &zeroize::Zeroizing::new(random()),
        billing.clock.now(),
    );
    let claims = countersign::protocol::token::Claims {
        credential: countersign::CredentialId { peer: "billing".parse()?, number: 1 },
        uid: random(),
        issued: billing.clock.now(),
        expires: billing.clock.now().plus(300),
    };
    let foreign = with(format!("Bearer {}", *elsewhere.seal(&claims, random()))).await?;
    report.step(
        "foreign-token",
        "a token that another server sealed",
        "401 session-invalid",
        &foreign.summary(),
    )?;
    let before = with(good.clone()).await?;
    orders.store.remove(&"billing".parse()?)?;
    orders.authenticator.refresh()?;
    let after = with(good).await?;
    report.step(
        "token-dies",
        "billing is removed: its token dies with it",
        "200 billing, then 401 session-invalid",
        &format!("{}, then {}", before.summary(), after.summary()),
    )?;
    let keys = NewKeys::shared_secret(
        pair.orders_key.clone(),
        pair.billing_key.clone(),
        pair.secret.clone(),
        pair.secret.clone(),
    )?;
    orders.add("billing", Some(billing), keys)?;
    Ok(())
}

pub(super) async fn servers(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter("Impostors as servers", "The client refuses before it sends any data.")?;
    let Stage { orders, billing, reports, .. } = stage;
    // Somebody in between has a TLS key of his own.
    let mut peer = billing.store.get(&"orders".parse()?)?;
    peer.url = Some(reports.url.clone());
    let client = countersign::client::Client::new(&peer)?;
    report.step(
        "wrong-tls-key",
        "a server with another TLS key than the pinned one",
        "wrong TLS key",
        &outcome(&client, "/").await,
    )?;
    // A server that even has the TLS key, and knows billing's API key, but not the secret.
    let (impostor, guess) = (ApiKey::generate(&random()), SharedSecret::generate(&random()));
    let caller = ApiKey::generate(&random());
    let told = SharedSecret::generate(&random());
    let keys = |ours: &ApiKey, theirs: &ApiKey, our: &SharedSecret, their: &SharedSecret| {
        NewKeys::shared_secret(ours.clone(), theirs.clone(), our.clone(), their.clone())
    };
    orders.add("victim", None, keys(&impostor, &caller, &guess, &told)?)?;
    let real = SharedSecret::generate(&random());
    billing.add("impostor", Some(orders), keys(&caller, &impostor, &told, &real)?)?;
    report.step(
        "impostor-server",
        "a server that lets billing in, but cannot prove itself",
        "server-impostor",
        &outcome(&billing.client("impostor")?, "/").await,
    )?;
    let plain = BaseUrl::parse("http://orders.example:8080");
    let got = if matches!(plain, Err(ClientError::PlainHttp(_))) { "refused" } else { "accepted" };
    report.step("plain-http", "plain HTTP to another machine", "refused", got)?;
    Ok(())
}

pub(super) async fn brute_force(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter("Brute force", "Wrong signatures under billing's key, as fast as they go.")?;
    let pair = &stage.pair;
    let authorization = format!("Bearer {}", token(stage, "/verify_challenge").await?);
    // A wrong answer does not burn a challenge, so that a stranger cannot burn billing's.
    let challenge = stage.knock(&pair.billing_key).await?;
    let mut tries = 0;
    let limited = loop {
        let guess = SharedSecret::generate(&random());
        let answer = stage.answer(&pair.billing_key, &guess, &challenge).await?;
        tries += 1;
        if answer.status != 401 || tries == 100 {
            break answer;
        }
    };
    report.step(
        "brute-force",
        &format!("after {tries} tries the source has to wait"),
        "429 rate-limited",
        &limited.summary(),
    )?;
    let waits = limited.headers.get("retry-after").is_some();
    report.step("retry-after", "the answer says for how long (Retry-After)", "true", &waits.to_string())?;
    let served = stage.send(Method::GET, "/invoices", &[("authorization", &authorization)], "").await?;
    report.step(
        "still-served",
        "billing itself, with its token, is served meanwhile",
        "200 billing",
        &served.summary(),
    )?;
    Ok(())
}
