//! Peers in Vault, against a real OpenBao.

#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod bao;

use std::cell::Cell;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bao::{Bao, eventually};
use countersign_protocol::UnixTime;
use countersign_store::contract::{self, key, secret, shared_secret_peer};
use countersign_store::master::MasterKey;
use countersign_store::origin::{Modes, Origin};
use countersign_store::sqlite::SqliteStore;
use countersign_store::vault::{Address, Connection, Login, Place, VaultStore};
use countersign_store::{Ending, NewKeys, Next, Overlap, PeerStore, StoreError, Use, UseDirection, Which};
use rustls::{ClientConfig, RootCertStore};
use tempfile::TempDir;

const NOW: UnixTime = UnixTime(1_700_000_000);

/// One node of a service: a local store, and a login.
struct Node {
    directory: TempDir,
    master: MasterKey,
    address: String,
    login: Login,
    tls: ClientConfig,
    prefix: String,
    max_stale: u64,
    timeout: Duration,
}

fn tls(pem: Option<&str>) -> ClientConfig {
    let mut roots = RootCertStore::empty();
    if let Some(pem) = pem {
        use rustls::pki_types::pem::PemObject as _;
        roots.add(rustls::pki_types::CertificateDer::from_pem_slice(pem.as_bytes()).unwrap()).unwrap();
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    builder.unwrap().with_root_certificates(roots).with_no_client_auth()
}

impl Node {
    /// With root's token in a file.
    fn new(bao: &Bao) -> Self {
        Self::with_token(&bao.address, &bao.token)
    }

    fn with_token(address: &str, token: &str) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let master = MasterKey::generate();
        SqliteStore::create(&directory.path().join("store.sqlite"), &master).unwrap();
        let node = Self {
            login: Login::Token(Origin::File(directory.path().join("token"))),
            directory,
            master,
            address: address.to_owned(),
            tls: tls(None),
            prefix: "countersign".to_owned(),
            max_stale: 60,
            timeout: Duration::from_secs(5),
        };
        node.put("token", token);
        node
    }

    fn put(&self, name: &str, text: &str) -> PathBuf {
        let (path, next) = (self.directory.path().join(name), self.directory.path().join("next"));
        std::fs::write(&next, format!("{text}\n")).unwrap();
        std::fs::set_permissions(&next, std::fs::Permissions::from_mode(0o400)).unwrap();
        std::fs::rename(next, &path).unwrap();
        path
    }

    fn approle(mut self, (role_id, secret_id): (String, String)) -> Self {
        let role_id = Origin::File(self.put("role-id", &role_id));
        let secret_id = Origin::File(self.put("secret-id", &secret_id));
        self.login = Login::AppRole { mount: "approle".parse().unwrap(), role_id, secret_id };
        self
    }

    fn local(&self) -> Arc<SqliteStore> {
        Arc::new(SqliteStore::open(&self.directory.path().join("store.sqlite"), &self.master).unwrap())
    }

    fn open(&self) -> Result<VaultStore, StoreError> {
        let connection = Connection {
            address: Address::parse(&self.address, false).unwrap(),
            tls: self.tls.clone(),
            namespace: None,
            login: self.login.clone(),
            modes: Modes::Strict,
            timeout: self.timeout,
        };
        let place = Place {
            service: "orders".parse().unwrap(),
            mount: "secret".parse().unwrap(),
            prefix: self.prefix.parse().unwrap(),
            max_stale: self.max_stale,
        };
        VaultStore::open(connection, place, self.local())
    }
}

#[test]
fn the_vault_store_keeps_the_contract() {
    let Some(bao) = Bao::dev() else { return };
    let (made, nodes) = (Cell::new(0), std::cell::RefCell::new(Vec::new()));
    contract::check(|| {
        made.set(made.get() + 1);
        let node = Node { prefix: format!("contract/{}", made.get()), ..Node::new(&bao) };
        let store = node.open().unwrap();
        // The directory stays until the end.
        nodes.borrow_mut().push(node);
        store
    });
}
