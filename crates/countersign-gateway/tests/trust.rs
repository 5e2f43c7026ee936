//! What `--tls-ca` trusts: authorities, and a server's own certificate, whatever that says of itself.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

use std::path::Path;
use std::sync::Arc;

use countersign::MemoryStore;
use countersign::client::http_client;
use countersign::server::Authenticator;
use countersign::store::{Trust, file};
use countersign_gateway::{Gateway, Metrics, Settings, TlsIdentity};
use http::{Request, StatusCode};
use http_body_util::{BodyExt as _, Empty};
use hyper::body::Bytes;
use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use time::{Duration, OffsetDateTime};

/// A certificate for these names in PEM, signed by itself or by `issuer`, and its key.
fn certificate(
    names: &[&str],
    is_ca: IsCa,
    ends: OffsetDateTime,
    issuer: Option<&Issuer<'_, KeyPair>>,
) -> (String, KeyPair, CertificateParams) {
    let key = KeyPair::generate().unwrap();
    let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
    let mut params = CertificateParams::new(names).unwrap();
    params.is_ca = is_ca;
    params.not_before = OffsetDateTime::now_utc() - Duration::days(10);
    params.not_after = ends;
    let made = match issuer {
        Some(issuer) => params.signed_by(&key, issuer),
        None => params.self_signed(&key),
    };
    (made.unwrap().pem(), key, params)
}

fn authority() -> IsCa {
    IsCa::Ca(BasicConstraints::Unconstrained)
}

fn tomorrow() -> OffsetDateTime {
    OffsetDateTime::now_utc() + Duration::DAY
}

/// A server with this certificate.
async fn serve(directory: &Path, pem: &str, key: &KeyPair) -> String {
    let (chain, private) = (directory.join("certificate.pem"), directory.join("key.pem"));
    file::write_new(&chain, 0o644, pem.as_bytes()).unwrap();
    file::write_new(&private, 0o600, key.serialize_pem().as_bytes()).unwrap();
    let store = Arc::new(MemoryStore::new());
    let authenticator = Authenticator::builder("orders".parse().unwrap(), store).build().unwrap();
    let mut settings = Settings::new(vec!["https://127.0.0.1:0".parse().unwrap()]);
    settings.tls = Some(TlsIdentity::load(&chain, &private).unwrap());
    let gateway = Gateway::bind(authenticator, Metrics::new(), settings).await.unwrap();
    let url = gateway.listening()[0].to_string();
    tokio::spawn(gateway.run(std::future::pending()));
    url
}

/// Whether a client with this trust gets an answer; else what it says.
async fn reach(url: &str, trusted: &str) -> Result<(), String> {
    let client = http_client(&Trust::Ca(trusted.to_owned())).unwrap();
    let body = Empty::<Bytes>::new().map_err(|never| match never {}).boxed_unsync();
    match client.request(Request::get(url).body(body).unwrap()).await {
        Ok(answer) => {
            assert_eq!(answer.status(), StatusCode::UNAUTHORIZED);
            Ok(())
        }
        Err(error) => Err(format!("{error:?}")),
    }
}

#[tokio::test]
async fn a_servers_own_certificate_is_trusted_also_if_it_calls_itself_an_authority() {
    for is_ca in [authority(), IsCa::NoCa, IsCa::ExplicitNoCa] {
        let directory = tempfile::tempdir().unwrap();
        let (pem, key, _) = certificate(&["127.0.0.1"], is_ca, tomorrow(), None);
        let url = serve(directory.path(), &pem, &key).await;
        reach(&url, &pem).await.unwrap();
        let (other, _, _) = certificate(&["127.0.0.1"], authority(), tomorrow(), None);
        reach(&url, &format!("{other}{pem}")).await.unwrap();
        assert!(reach(&url, &other).await.is_err(), "another certificate of the same names");
    }
}

#[tokio::test]
async fn its_names_and_dates_count_all_the_same() {
    let yesterday = OffsetDateTime::now_utc() - Duration::DAY;
    for (names, ends, complaint) in
        [(["orders.example"], tomorrow(), "NotValidForName"), (["127.0.0.1"], yesterday, "Expired")]
    {
        let directory = tempfile::tempdir().unwrap();
        let (pem, key, _) = certificate(&names, authority(), ends, None);
        let url = serve(directory.path(), &pem, &key).await;
        let refused = reach(&url, &pem).await.unwrap_err();
        assert!(refused.contains(complaint), "{refused}");
    }
}

#[tokio::test]
async fn a_certificate_that_a_given_authority_signed_is_trusted() {
    let directory = tempfile::tempdir().unwrap();
    let (root, root_key, root_params) = certificate(&["root"], authority(), tomorrow(), None);
    let issuer = Issuer::new(root_params, root_key);
    let (pem, key, _) = certificate(&["127.0.0.1"], IsCa::NoCa, tomorrow(), Some(&issuer));
    let url = serve(directory.path(), &pem, &key).await;
    reach(&url, &root).await.unwrap();
}
