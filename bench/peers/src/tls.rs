//! A handshake: ours, and TLS 1.3 with certificates of both sides. Both in memory, and of both the server's time only.

use std::sync::Arc;
use std::time::Duration;

use rcgen::{BasicConstraints, CertificateParams, IsCa, Issuer, KeyPair};
use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer};
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{ClientConfig, ClientConnection, RootCertStore, ServerConfig, ServerConnection};

use crate::handshake::Handshakes;
use crate::paired::{compare_parts, now};

pub(crate) fn run() {
    let ours = Handshakes::new();
    let mut ours = move |times: u32| (0..times).map(|_| ours.run()).sum();
    for (name, provider) in
        [("X25519", only_x25519()), ("X25519MLKEM768, rustls' default", aws_lc_rs::default_provider())]
    {
        let pair = Pair::new(provider);
        let theirs = move |times: u32| (0..times).map(|_| pair.handshake()).sum();
        compare_parts(&format!("ours, to mutual TLS 1.3 with P-256 and {name}"), &mut ours, theirs);
    }
}

/// The key exchange that ours has.
fn only_x25519() -> CryptoProvider {
    CryptoProvider { kx_groups: vec![aws_lc_rs::kx_group::X25519], ..aws_lc_rs::default_provider() }
}

/// A client and a server that know one authority, each with a certificate of it.
struct Pair {
    client: Arc<ClientConfig>,
    server: Arc<ServerConfig>,
}

impl Pair {
    fn new(provider: CryptoProvider) -> Self {
        let provider = Arc::new(provider);
        let key = KeyPair::generate().expect("a key");
        let mut params = CertificateParams::new(Vec::new()).expect("parameters");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let mut roots = RootCertStore::empty();
        roots.add(params.self_signed(&key).expect("a certificate").der().clone()).expect("a root");
        let roots = Arc::new(roots);
        let authority = Issuer::new(params, key);
        let (chain, key) = certificate(&authority, "orders.example");
        let verifier = WebPkiClientVerifier::builder_with_provider(Arc::clone(&roots), Arc::clone(&provider));
        let mut server = ServerConfig::builder_with_provider(Arc::clone(&provider))
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_client_cert_verifier(verifier.build().expect("a verifier"))
            .with_single_cert(chain, key)
            .expect("a key");
        // Nothing is resumed, and no work is done for it.
        server.send_tls13_tickets = 0;
        server.session_storage = Arc::new(NoServerSessionStorage {});
        let (chain, key) = certificate(&authority, "billing.example");
        let mut client = ClientConfig::builder_with_provider(provider)
            .with_protocol_versions(&[&rustls::version::TLS13])
            .expect("TLS 1.3")
            .with_root_certificates(roots)
            .with_client_auth_cert(chain, key)
            .expect("a key");
        client.resumption = rustls::client::Resumption::disabled();
        Self { client: Arc::new(client), server: Arc::new(server) }
    }

    /// A whole handshake; gives how long the server took.
    fn handshake(&self) -> Duration {
        let name = "orders.example".try_into().expect("a name");
        let mut client = ClientConnection::new(Arc::clone(&self.client), name).expect("a client");
        let begin = now();
        let mut server = ServerConnection::new(Arc::clone(&self.server)).expect("a server");
        let mut spent = now() - begin;
        while client.is_handshaking() || server.is_handshaking() {
            let mut sent = Vec::new();
            while client.wants_write() {
                client.write_tls(&mut sent).expect("memory");
            }
            let mut received = Vec::new();
            let begin = now();
            let mut rest = sent.as_slice();
            while !rest.is_empty() {
                server.read_tls(&mut rest).expect("memory");
                server.process_new_packets().expect("a handshake");
            }
            while server.wants_write() {
                server.write_tls(&mut received).expect("memory");
            }
            spent += now() - begin;
            let mut rest = received.as_slice();
            while !rest.is_empty() {
                client.read_tls(&mut rest).expect("memory");
                client.process_new_packets().expect("a handshake");
            }
        }
        assert!(server.peer_certificates().is_some(), "both have proved themselves");
        spent
    }
}

fn certificate(
    authority: &Issuer<'_, KeyPair>,
    name: &str,
) -> (Vec<CertificateDer<'static>>, PrivateKeyDer<'static>) {
    let key = KeyPair::generate().expect("a key");
    let params = CertificateParams::new([name.to_owned()]).expect("parameters");
    let certificate = params.signed_by(&key, authority).expect("a certificate");
    let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(key.serialize_der()));
    (vec![certificate.der().clone()], key)
}
