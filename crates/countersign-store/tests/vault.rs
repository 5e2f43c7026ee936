//! Peers in Vault, against a real OpenBao.

#![cfg(feature = "vault")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod bao;

use std::cell::{Cell, RefCell};
use std::io::{Read as _, Write as _};
use std::net::TcpListener;
use std::os::unix::fs::PermissionsExt as _;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bao::{Bao, eventually};
use countersign_protocol::UnixTime;
use countersign_store::contract::{self, key, secret, shared_secret_peer};
use countersign_store::master::MasterKey;
use countersign_store::origin::{Modes, Origin};
use countersign_store::sqlite::SqliteStore;
use countersign_store::vault::{Address, Connection, Login, Place, VaultStore, end_without_vault};
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
    namespace: Option<&'static str>,
    is_service: bool,
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
            namespace: None,
            is_service: true,
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

    fn connection(&self) -> Connection {
        Connection {
            address: Address::parse(&self.address, false).unwrap(),
            tls: self.tls.clone(),
            namespace: self.namespace.map(|path| path.parse().unwrap()),
            login: self.login.clone(),
            modes: Modes::Strict,
            is_service: self.is_service,
            timeout: self.timeout,
        }
    }

    fn place(&self) -> Place {
        Place {
            service: "orders".parse().unwrap(),
            mount: "secret".parse().unwrap(),
            prefix: self.prefix.parse().unwrap(),
            max_stale: self.max_stale,
        }
    }

    fn open(&self) -> Result<VaultStore, StoreError> {
        VaultStore::open(self.connection(), self.place(), self.local())
    }
}

fn add(store: &VaultStore, name: &str, seed: u8) {
    store.add(shared_secret_peer(name, seed), NOW).unwrap();
}

fn names(store: &VaultStore) -> Vec<String> {
    store.list().unwrap().into_iter().map(|peer| peer.name.to_string()).collect()
}

fn next(seed: u8) -> Next {
    let keys = NewKeys::shared_secret(key(seed), key(seed + 100), secret(seed), secret(seed)).unwrap();
    Next { keys, overlap: Overlap::new(NOW, 1_000, None), confirmed: false, follows: None }
}

fn billing() -> countersign_protocol::identity::ServiceName {
    "billing".parse().unwrap()
}

fn live(store: &VaultStore) -> Vec<u32> {
    store.get(&billing()).unwrap().credentials.iter().map(|one| one.number).collect()
}

/// Ends the one credential of `billing`, which Vault cannot be told; what is said.
#[track_caller]
fn ended_here(store: &VaultStore) -> String {
    let error = store.end(&billing(), Which::All, Ending::Revoked, NOW).unwrap_err();
    assert!(live(store).is_empty(), "{error}");
    let StoreError::EndedHere { numbers, .. } = &error else { panic!("{error}") };
    assert_eq!(*numbers, [1]);
    let said = error.to_string();
    assert!(said.contains("billing/1 ended on this node") && said.contains("every other node"), "{said}");
    said
}

/// A policy for the document of [`Node`].
fn policy(bao: &Bao, name: &str, data: &str) {
    bao.policy(
        name,
        &format!(
            "path \"secret/data/countersign/orders/peers\" {{ capabilities = [{data}] }}\n\
             path \"secret/metadata/countersign/orders/peers\" {{ capabilities = [\"read\"] }}\n"
        ),
    );
}

/// An `AppRole` that may do everything with the document.
fn role(bao: &Bao, settings: &[&str]) -> (String, String) {
    policy(bao, "orders", "\"create\", \"read\", \"update\"");
    bao.run(&["auth", "enable", "approle"]);
    bao.approle("orders", &[&["token_policies=orders"][..], settings].concat())
}

/// What no error, no log and no file may hold.
fn assert_secret(text: &str, bao: &Bao) {
    for hidden in [bao.token.as_str(), secret(1).expose(), key(1).expose()] {
        assert!(!text.contains(hidden), "{text}");
    }
}

#[test]
fn the_vault_store_keeps_the_contract() {
    let Some(bao) = Bao::dev() else { return };
    let (made, nodes) = (Cell::new(0), RefCell::new(Vec::new()));
    contract::check(|| {
        made.set(made.get() + 1);
        let node = Node { prefix: format!("contract/{}", made.get()), ..Node::new(&bao) };
        let store = node.open().unwrap();
        // The directory stays until the end.
        nodes.borrow_mut().push(node);
        store
    });
}

#[test]
fn of_two_nodes_that_change_at_once_both_are_heard_and_no_key_is_taken_twice() {
    let Some(bao) = Bao::dev() else { return };
    let nodes = [Node::new(&bao), Node::new(&bao)];
    let stores: Vec<_> = nodes.iter().map(|node| node.open().unwrap()).collect();
    std::thread::scope(|scope| {
        for index in 0..8 {
            let store = &stores[index % 2];
            scope.spawn(move || add(store, &format!("peer-{index}"), u8::try_from(index).unwrap() + 1));
        }
    });
    for store in &stores {
        eventually("both see all", || names(store).len() == 8);
    }
    assert_eq!(stores[0].lookup_key().hash("x"), stores[1].lookup_key().hash("x"), "they agree on hashes");
    let wins: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..6)
            .map(|index| {
                let store = &stores[index % 2];
                scope.spawn(move || {
                    usize::from(store.add(shared_secret_peer(&format!("same-{index}"), 50), NOW).is_ok())
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
    let rotated: usize = std::thread::scope(|scope| {
        let all: Vec<_> = (0..4_u8)
            .map(|index| {
                let store = &stores[usize::from(index) % 2];
                scope.spawn(move || {
                    usize::from(store.rotate(&"peer-0".parse().unwrap(), next(60 + index), NOW).is_ok())
                })
            })
            .collect();
        all.into_iter().map(|one| one.join().unwrap()).sum()
    });
    assert_eq!(rotated, 1, "one rotation at a time, over all nodes");
}

#[test]
fn a_change_by_one_node_is_seen_by_the_other_and_so_is_the_peers_first_use() {
    let Some(bao) = Bao::dev() else { return };
    let nodes = [Node::new(&bao), Node::new(&bao)];
    let [one, other] = nodes.each_ref().map(|node| node.open().unwrap());
    let before = other.version().unwrap();
    add(&one, "billing", 1);
    eventually("the other sees it", || other.version().unwrap() != before);
    assert_eq!(names(&other), ["billing"]);
    one.rotate(&billing(), next(2), NOW).unwrap();
    eventually("the other sees the rotation", || live(&other) == [1, 2]);
    let uid = one.get(&billing()).unwrap().credentials[1].uid;
    one.note(&[Use { uid, direction: UseDirection::Inbound, at: NOW.plus(7) }]).unwrap();
    let confirmed = |store: &VaultStore| store.get(&billing()).unwrap().credentials[1].confirmed;
    eventually("the other knows that the peer has it", || confirmed(&other) == Some(NOW.plus(7)));
    assert_eq!(other.get(&billing()).unwrap().credentials[1].used_inbound, None, "uses stay where they were");
    one.end(&billing(), Which::All, Ending::Compromised, NOW).unwrap();
    eventually("the other shuts it out", || live(&other).is_empty());
}

#[test]
fn a_first_use_that_could_not_be_told_is_told_after_a_restart() {
    let Some(bao) = Bao::dev() else { return };
    policy(&bao, "reads", "\"read\"");
    add(&Node::new(&bao).open().unwrap(), "billing", 1);
    let node = Node::with_token(&bao.address, &bao.token(&["-policy=reads"]));
    let store = node.open().unwrap();
    let uid = store.get(&billing()).unwrap().credentials[0].uid;
    let at = NOW.plus(3);
    store.note(&[Use { uid, direction: UseDirection::Inbound, at }]).unwrap();
    assert_eq!(
        store.get(&billing()).unwrap().credentials[0].confirmed,
        Some(at),
        "it counts here in any case"
    );
    drop(store);
    let other_node = Node::new(&bao);
    let other = other_node.open().unwrap();
    let confirmed = || other.get(&billing()).unwrap().credentials[0].confirmed;
    assert_eq!(confirmed(), None);
    node.put("token", &bao.token);
    let _store = node.open().unwrap();
    eventually("it is told", || confirmed() == Some(at));
}

#[test]
fn approle_logs_in_and_again_when_its_token_is_taken_back_and_gives_it_back_at_the_end() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao).approle(role(&bao, &["token_ttl=10m"]));
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    let accessors = || bao.run(&["list", "-format=json", "auth/token/accessors"]).lines().count();
    bao.run(&["token", "revoke", "-mode=path", "auth/approle"]);
    add(&store, "shipping", 2);
    assert_eq!(store.stale(), None);
    let with_it = accessors();
    drop(store);
    eventually("its token is gone", || accessors() < with_it);
}

/// Asks for longer than any token of the test lives.
fn lives_for(store: &VaultStore, time: Duration) {
    let start = Instant::now();
    while start.elapsed() < time {
        store.version().unwrap();
        assert_eq!(store.stale(), None);
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn a_token_is_renewed_before_it_ends() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::with_token(&bao.address, &bao.token(&["-policy=root", "-ttl=3s"]));
    let store = node.open().unwrap();
    lives_for(&store, Duration::from_secs(8));
    add(&store, "billing", 1);
}

#[test]
fn a_token_that_cannot_be_renewed_any_more_is_replaced_by_a_new_login() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao).approle(role(&bao, &["token_ttl=2s", "token_max_ttl=4s"]));
    let store = node.open().unwrap();
    lives_for(&store, Duration::from_secs(9));
    add(&store, "billing", 1);
}

#[test]
fn a_token_that_is_taken_back_ends_the_service_and_its_copy_and_a_new_one_revives_it() {
    let Some(bao) = Bao::dev() else { return };
    policy(&bao, "orders", "\"create\", \"read\", \"update\"");
    let token = bao.token(&["-policy=orders"]);
    let node = Node::with_token(&bao.address, &token);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    bao.run(&["token", "revoke", &token]);
    let mut said = String::new();
    eventually("it is refused", || store.version().map_err(|error| said = error.to_string()).is_err());
    assert!(said.contains("does not allow reading") && !said.contains(&token), "{said}");
    assert!(store.read_all().is_err() && store.get(&billing()).is_err() && store.stale().is_none());
    // Switching Vault off now revives nothing.
    let error = node.open().unwrap_err().to_string();
    assert!(error.contains("does not allow reading"), "{error}");
    let another = bao.token(&["-policy=orders"]);
    node.put("token", &another);
    eventually("the new token is taken", || store.version().is_ok());
    bao.run(&["token", "revoke", &another]);
    eventually("it is refused", || store.version().is_err());
    bao.kill();
    std::thread::sleep(Duration::from_secs(1));
    assert!(store.version().is_err(), "an outage takes nothing back");
    drop(store);
    let error = node.open().unwrap_err().to_string();
    assert!(error.contains("there is no copy"), "{error}");
}

/// Asks for a login with a wrong secret id, as anybody who knows the role's id can; the statuses.
fn guess(bao: &Bao, role_id: &str, times: usize) -> Vec<String> {
    let mut said = Vec::new();
    for _ in 0..times {
        let body = format!(r#"{{"role_id":"{role_id}","secret_id":"wrong"}}"#);
        let mut stream = std::net::TcpStream::connect(bao.host()).unwrap();
        let head = "POST /v1/auth/approle/login HTTP/1.1\r\nhost: x\r\nconnection: close\r\n";
        write!(stream, "{head}content-length: {}\r\n\r\n{body}", body.len()).unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        said.push(answer.split(' ').nth(1).unwrap().to_owned());
    }
    said
}

#[test]
fn whoever_guesses_at_vault_locks_the_role_out_and_that_is_an_outage_and_no_refusal() {
    let Some(bao) = Bao::dev() else { return };
    let (role_id, secret_id) = role(&bao, &["token_ttl=10m"]);
    let node = Node::new(&bao).approle((role_id.clone(), secret_id));
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    assert_eq!(guess(&bao, &role_id, 7).last().unwrap(), "403", "it is locked out");
    // The token ends, and there is no new one.
    bao.run(&["token", "revoke", "-mode=path", "auth/approle"]);
    eventually("it is noticed", || store.stale().is_some());
    assert_eq!(store.stale().unwrap().reason, "Vault does not take the login now");
    assert_eq!(names(&store), ["billing"], "nobody is shut out");
    drop(store);
    let store = node.open().unwrap();
    assert_eq!(names(&store), ["billing"], "the copy is there, also for a restart");
    let error = store.remove(&billing()).unwrap_err().to_string();
    assert!(error.contains("bao read sys/locked-users"), "{error}");
    bao.run(&["auth", "tune", "-user-lockout-disable=true", "approle"]);
    eventually("it is current again", || store.stale().is_none());
    assert_eq!(guess(&bao, &role_id, 7).last().unwrap(), "400", "nobody is locked out any more");
    // What whoever manages Vault takes back is a refusal still.
    bao.run(&["delete", "auth/approle/role/orders"]);
    bao.run(&["token", "revoke", "-mode=path", "auth/approle"]);
    eventually("it is refused", || store.version().is_err());
    assert!(node.open().unwrap_err().to_string().contains("refuses the login with AppRole"));
}

#[test]
fn an_operator_who_is_refused_does_not_end_the_services_copy() {
    let Some(bao) = Bao::dev() else { return };
    let mut node = Node::new(&bao);
    add(&node.open().unwrap(), "billing", 1);
    node.put("token", "hvs.expired-expired");
    node.is_service = false;
    assert!(node.open().is_err());
    node.put("token", &bao.token);
    node.is_service = true;
    bao.kill();
    let store = node.open().unwrap();
    assert!(store.stale().is_some());
    assert_eq!(names(&store), ["billing"]);
}

#[test]
fn a_secret_id_that_is_taken_back_is_a_refusal() {
    let Some(bao) = Bao::dev() else { return };
    let (role_id, secret_id) = role(&bao, &[]);
    let node = Node::new(&bao).approle((role_id, secret_id.clone()));
    drop(node.open().unwrap());
    bao.run(&["write", "auth/approle/role/orders/secret-id/destroy", &format!("secret_id={secret_id}")]);
    let error = node.open().unwrap_err().to_string();
    assert!(error.contains("refuses the login with AppRole") && !error.contains(&secret_id), "{error}");
}

#[test]
fn what_the_policy_does_not_allow_is_told_and_shuts_nobody_out() {
    let Some(bao) = Bao::dev() else { return };
    policy(&bao, "reads", "\"read\"");
    policy(&bao, "nothing", "\"deny\"");
    add(&Node::new(&bao).open().unwrap(), "billing", 1);
    let node = Node::with_token(&bao.address, &bao.token(&["-policy=reads"]));
    let store = node.open().unwrap();
    let error = store.add(shared_secret_peer("shipping", 2), NOW).unwrap_err().to_string();
    assert!(error.contains("does not allow writing secret/data/countersign/orders/peers"), "{error}");
    assert_secret(&error, &bao);
    lives_for(&store, Duration::from_secs(1));
    assert_eq!(live(&store), [1]);
    let error = ended_here(&store);
    assert!(error.contains("does not allow writing"), "{error}");
    let node = Node::with_token(&bao.address, &bao.token(&["-policy=nothing"]));
    let error = node.open().unwrap_err().to_string();
    assert!(error.contains("does not allow reading secret/data"), "{error}");
    let node = Node::with_token(&bao.address, "hvs.wrong-wrong-wrong");
    let error = node.open().unwrap_err().to_string();
    assert!(error.contains("does not allow") && !error.contains("wrong-wrong"), "{error}");
}

#[test]
fn a_sealed_vault_is_an_outage_in_which_a_peer_can_still_be_shut_out() {
    let Some(bao) = Bao::with_files(None) else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    add(&store, "shipping", 2);
    bao.seal();
    eventually("the outage is noticed", || store.stale().is_some());
    assert_eq!(store.stale().unwrap().reason, "Vault is sealed or not ready");
    assert_eq!(names(&store), ["billing", "shipping"]);
    for error in [
        store.add(shared_secret_peer("third", 3), NOW).unwrap_err(),
        store.remove(&billing()).unwrap_err(),
        store.rotate(&billing(), next(4), NOW).map(drop).unwrap_err(),
        store.set_schedule(&billing(), None).unwrap_err(),
    ] {
        let said = error.to_string();
        assert!(said.contains("sealed") && said.contains("Nothing was changed"), "{said}");
        assert_secret(&said, &bao);
    }
    // Another process of the same node shuts a peer out; it may have started in the outage.
    let another = node.open().unwrap();
    assert!(another.stale().is_some());
    let before = store.version().unwrap();
    let error = another.end(&billing(), Which::All, Ending::Compromised, NOW).unwrap_err();
    assert!(matches!(&error, StoreError::EndedHere { numbers, .. } if *numbers == [1]), "{error}");
    assert!(error.to_string().contains("sealed") && !error.to_string().contains("Nothing was"), "{error}");
    assert!(another.end(&billing(), Which::All, Ending::Revoked, NOW).is_err(), "it has ended already");
    assert!(live(&another).is_empty());
    eventually("the running one sees it", || store.version().unwrap() != before);
    assert!(live(&store).is_empty());
    drop((store, another));
    let store = node.open().unwrap();
    assert!(live(&store).is_empty(), "it outlives a restart");
    assert_eq!(names(&store), ["billing", "shipping"]);
    bao.unseal();
    eventually("it is current again", || store.stale().is_none());
    let elsewhere_node = Node::new(&bao);
    let elsewhere = elsewhere_node.open().unwrap();
    eventually("Vault is told", || live(&elsewhere).is_empty());
    let ended = elsewhere.get(&billing()).unwrap().ended;
    assert_eq!((ended[0].number, ended[0].how, ended[0].ended), (1, Ending::Compromised, NOW));
    add(&store, "third", 3);
}

#[test]
fn a_vault_that_dies_and_comes_back_is_taken_up_again() {
    let Some(bao) = Bao::with_files(None) else { return };
    let node = Node::new(&bao);
    // Unsealed, it still takes a moment to become the leader, and answers 400 to whoever is faster.
    let mut opened = None;
    eventually("it is ready", || {
        opened = node.open().ok();
        opened.is_some()
    });
    let store = opened.unwrap();
    add(&store, "billing", 1);
    bao.kill();
    eventually("the outage is noticed", || store.stale().is_some());
    assert_eq!(names(&store), ["billing"]);
    drop(store);
    let store = node.open().unwrap();
    assert_eq!(names(&store), ["billing"], "a restart takes the copy");
    assert!(store.stale().unwrap().age < 60);
    for entry in std::fs::read_dir(node.directory.path()).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("store.sqlite") {
            let bytes = std::fs::read(&path).unwrap();
            for needle in [secret(1).expose(), key(1).expose(), "shared-secret", &bao.token] {
                assert!(!bytes.windows(needle.len()).any(|window| window == needle.as_bytes()), "{needle}");
            }
        }
    }
    bao.start();
    bao.unseal();
    eventually("it is current again", || store.stale().is_none());
    add(&store, "shipping", 2);
}

#[test]
fn a_server_that_never_answers_is_an_outage() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node { timeout: Duration::from_secs(1), ..Node::new(&bao) };
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    bao.kill();
    let silent = TcpListener::bind(bao.host()).unwrap();
    let kept = std::thread::spawn(move || silent.incoming().take(3).collect::<Vec<_>>());
    eventually("it is noticed", || {
        store.stale().is_some_and(|stale| stale.reason == "Vault does not answer in time")
    });
    let start = Instant::now();
    assert_eq!(names(&store), ["billing"]);
    assert!(store.settle(NOW).unwrap().is_empty());
    let uid = store.get(&billing()).unwrap().credentials[0].uid;
    store.note(&[Use { uid, direction: UseDirection::Inbound, at: NOW }]).unwrap();
    assert!(start.elapsed() < Duration::from_millis(900), "nobody waits for it who only reads");
    let error = store.add(shared_secret_peer("third", 3), NOW).unwrap_err().to_string();
    assert!(error.contains("does not answer within 1 seconds"), "{error}");
    drop((store, kept));
}

#[test]
fn tidying_up_does_not_wait_for_a_vault_that_is_slow() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node { timeout: Duration::from_secs(60), ..Node::new(&bao) };
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    store.rotate(&billing(), next(2), NOW).unwrap();
    let uid = store.get(&billing()).unwrap().credentials[1].uid;
    store.note(&[Use { uid, direction: UseDirection::Inbound, at: NOW.plus(7) }]).unwrap();
    bao.hold(true);
    let settled = store.settle(NOW.plus(10_000));
    bao.hold(false);
    assert!(settled.unwrap().is_empty(), "it has not waited");
    eventually("it is done all the same", || live(&store) == [2]);
}

#[test]
fn a_copy_is_not_used_beyond_its_age_and_none_at_all_where_none_is_wanted() {
    let Some(bao) = Bao::with_files(None) else { return };
    let node = Node { max_stale: 3, ..Node::new(&bao) };
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    let none = Node { max_stale: 0, ..Node::new(&bao) };
    let without = none.open().unwrap();
    bao.seal();
    eventually("the outage is noticed", || store.stale().is_some() && without.stale().is_some());
    assert_eq!(names(&store), ["billing"]);
    assert!(without.version().is_err() && without.read_all().is_err());
    let mut said = String::new();
    eventually("it is too old", || store.version().map_err(|error| said = error.to_string()).is_err());
    assert!(said.contains("more than max_stale_seconds = 3"), "{said}");
    assert!(store.read_all().is_err());
    let error = node.open().unwrap_err().to_string();
    assert!(error.contains("more than max_stale_seconds = 3"), "{error}");
    let error = none.open().unwrap_err().to_string();
    assert!(error.contains("there is no copy"), "{error}");
    bao.unseal();
    for store in [&store, &without] {
        eventually("it is current again", || store.version().is_ok() && store.stale().is_none());
    }
}

#[test]
fn a_document_that_is_nonsense_changes_nothing_and_is_not_overwritten() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    let place = ["-mount=secret", "countersign/orders/peers"];
    let versions = || {
        bao.run(&[&["kv", "metadata", "get", "-format=json"][..], &place].concat())
            .matches("destroyed")
            .count()
    };
    for (nonsense, said) in [
        (r#"{"form": "x"}"#, "does not have the form"),
        (r#"{"countersign": "{\"form\": 2}"}"#, "a later version of Countersign"),
        (r#"{"countersign": "{\"form\": 1, \"peers\": []}"}"#, "does not have the form"),
        (
            r#"{"countersign": "{\"form\": 1, \"service\": \"else\", \"change\": \"\", \"lookup\": \"\", \"peers\": {}}"}"#,
            "belongs to another service",
        ),
    ] {
        bao.feed(&["kv", "put", place[0], place[1], "-"], nonsense);
        let before = versions();
        eventually("it is noticed", || store.stale().is_some());
        assert_eq!(names(&store), ["billing"], "the last good state goes on");
        let error = store.add(shared_secret_peer("shipping", 2), NOW).unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("bao kv rollback"), "{error}");
        assert_eq!(versions(), before, "nothing is overwritten");
        bao.run(&["kv", "rollback", "-version=1", place[0], place[1]]);
        eventually("it is mended", || store.stale().is_none());
    }
    add(&store, "shipping", 2);
}

#[test]
fn a_peer_is_shut_out_here_while_the_document_is_nonsense_and_there_when_it_is_mended() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    let place = ["-mount=secret", "countersign/orders/peers"];
    bao.feed(&["kv", "put", place[0], place[1], "-"], r#"{"form": "x"}"#);
    eventually("it is noticed", || store.stale().is_some());
    let running = node.open().unwrap();
    assert_eq!(live(&running), [1]);
    let error = ended_here(&store);
    assert!(error.contains("cannot be read") && error.contains("bao kv rollback"), "{error}");
    eventually("the running one sees it", || running.version().is_ok() && live(&running).is_empty());
    bao.run(&["kv", "rollback", "-version=1", place[0], place[1]]);
    let other_node = Node::new(&bao);
    let other = other_node.open().unwrap();
    eventually("Vault is told", || live(&other).is_empty());
    for (which, says_no) in [(Which::All, "have ended already"), (Which::Number(7), "no live credential 7")] {
        let error = other.end(&billing(), which, Ending::Revoked, NOW).unwrap_err().to_string();
        assert!(error.contains(says_no), "{error}");
    }
}

#[test]
fn an_operator_whom_vault_refuses_shuts_a_peer_out_on_his_node_all_the_same() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    let connection = Connection {
        login: Login::Token(Origin::File(node.put("expired", "hvs.expired-expired"))),
        is_service: false,
        ..node.connection()
    };
    assert!(VaultStore::open(connection.clone(), node.place(), node.local()).is_err());
    let end = |which| {
        let peer = &billing();
        let local = node.local();
        end_without_vault(&connection, &node.place(), &local, (peer, which), Ending::Revoked, NOW).unwrap()
    };
    assert!(end(Which::Number(2)).is_empty());
    assert_eq!(end(Which::All), [1]);
    assert!(end(Which::All).is_empty());
    eventually("the running service shuts it out", || {
        store.version().unwrap();
        live(&store).is_empty()
    });
    let other_node = Node::new(&bao);
    let other = other_node.open().unwrap();
    eventually("and tells Vault", || live(&other).is_empty());
}

#[test]
fn what_was_ended_here_stays_ended_when_its_row_is_damaged() {
    let Some(bao) = Bao::dev() else { return };
    policy(&bao, "reads", "\"read\"");
    add(&Node::new(&bao).open().unwrap(), "billing", 1);
    let node = Node::with_token(&bao.address, &bao.token(&["-policy=reads"]));
    let store = node.open().unwrap();
    ended_here(&store);
    drop(store);
    let file = node.directory.path().join("store.sqlite");
    let changed = rusqlite::Connection::open(file)
        .unwrap()
        .execute(
            "UPDATE aside SET sealed = zeroblob(40), kept = 9000000000000 WHERE name LIKE 'vault-ended %'",
            [],
        )
        .unwrap();
    assert_eq!(changed, 1);
    let store = node.open().unwrap();
    let ended = store.get(&billing()).unwrap().ended;
    assert_eq!((ended.len(), ended[0].how), (1, Ending::Revoked));
    assert!(ended[0].ended.0 < 9_000_000_000, "its time is not believed");
    assert!(live(&store).is_empty());
}

#[test]
fn what_is_ended_here_cannot_be_overlooked_while_the_store_is_out_of_reach() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    store.version().unwrap();
    let (file, away) = (node.directory.path().join("store.sqlite"), node.directory.path().join("away"));
    std::fs::rename(&file, &away).unwrap();
    eventually("it is noticed", || store.version().is_err());
    for _ in 0..50 {
        assert!(store.version().is_err());
    }
    std::fs::rename(&away, &file).unwrap();
    eventually("it is there again", || store.version().is_ok());
}

#[test]
fn a_peer_that_was_edited_by_hand_is_left_out_and_kept() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    add(&store, "shipping", 2);
    let place = ["-mount=secret", "countersign/orders/peers"];
    let read = || bao.run(&["kv", "get", "-format=json", "-field=data", place[0], place[1]]);
    let edited = read().replace(secret(1).expose(), secret(9).expose());
    bao.feed(&["kv", "put", place[0], place[1], "-"], &edited);
    eventually("it is left out", || store.read_all().unwrap().peers.len() == 1);
    let damaged = store.read_all().unwrap().damaged;
    assert!(matches!(damaged.as_slice(), [StoreError::Damaged(name)] if name == "billing"), "{damaged:?}");
    assert!(matches!(store.get(&billing()), Err(StoreError::Damaged(_))));
    assert!(store.add(shared_secret_peer("billing", 5), NOW).is_err());
    add(&store, "third", 3);
    assert!(read().contains(secret(9).expose()), "what cannot be read is not thrown away");
    store.remove(&billing()).unwrap();
    add(&store, "billing", 1);
    assert!(!read().contains(secret(9).expose()));
}

#[test]
fn a_document_that_is_deleted_has_no_peers_and_comes_back_when_it_is_undeleted() {
    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    add(&store, "billing", 1);
    let place = ["-mount=secret", "countersign/orders/peers"];
    bao.run(&["kv", "delete", place[0], place[1]]);
    eventually("nobody is let in", || names(&store).is_empty());
    assert_eq!(store.stale(), None, "that is no outage");
    bao.run(&["kv", "undelete", "-versions=1", place[0], place[1]]);
    eventually("it is back", || names(&store) == ["billing"]);
    bao.run(&["kv", "metadata", "delete", place[0], place[1]]);
    eventually("nobody is let in", || names(&store).is_empty());
    add(&store, "shipping", 2);
    assert_eq!(names(&store), ["shipping"]);
    // The same number as before, and another document.
    bao.run(&["kv", "metadata", "delete", place[0], place[1]]);
    add(&Node::new(&bao).open().unwrap(), "third", 3);
    eventually("it is the other one", || names(&store) == ["third"]);
    bao.kill();
    eventually("the outage is noticed", || store.stale().is_some());
    assert_eq!(names(&node.open().unwrap()), ["third"], "the copy followed");
}

#[test]
fn hundreds_of_peers_fit() {
    use countersign_protocol::identity::ApiKey;
    use countersign_protocol::secret::SharedSecret;
    use countersign_store::random;

    let Some(bao) = Bao::dev() else { return };
    let node = Node::new(&bao);
    let store = node.open().unwrap();
    for number in 0..300 {
        let [ours, theirs] = [(); 2].map(|()| ApiKey::generate(&random()));
        let secret = SharedSecret::generate(&random());
        let keys = NewKeys::shared_secret(ours, theirs, secret.clone(), secret).unwrap();
        let peer = countersign_store::NewPeer { keys, ..shared_secret_peer(&format!("peer-{number}"), 1) };
        store.add(peer, NOW).unwrap();
    }
    let other = Node::new(&bao);
    assert_eq!(names(&other.open().unwrap()).len(), 300);
    let text = bao.run(&["kv", "get", "-field=countersign", "-mount=secret", "countersign/orders/peers"]);
    println!("300 peers: {} bytes", text.len());
}

#[test]
fn more_than_a_document_holds_is_refused_before_it_is_sent() {
    let Some(bao) = Bao::dev() else { return };
    let store_node = Node::new(&bao);
    let store = store_node.open().unwrap();
    add(&store, "billing", 1);
    let large = countersign_store::Trust::Ca("x".repeat(1_000_000));
    let large = countersign_store::NewPeer { trust: large, ..shared_secret_peer("shipping", 2) };
    let error = store.add(large, NOW).unwrap_err().to_string();
    assert!(error.contains("Vault takes 1000000; nothing was changed"), "{error}");
    assert_eq!(names(&store), ["billing"]);
    add(&store, "shipping", 2);
}

#[test]
fn only_a_key_value_engine_of_version_2_is_written_to() {
    let Some(bao) = Bao::dev() else { return };
    bao.run(&["secrets", "disable", "secret"]);
    let node = Node::new(&bao);
    let error = node.open().unwrap_err().to_string();
    assert!(error.contains("nothing mounted"), "{error}");
    bao.run(&["secrets", "enable", "-path=secret", "-version=1", "kv"]);
    let store = node.open().unwrap();
    let error = store.add(shared_secret_peer("billing", 1), NOW).unwrap_err().to_string();
    assert!(error.contains("not a key-value engine of version 2"), "{error}");
}

#[test]
fn tls_is_checked() {
    let made = rcgen::generate_simple_self_signed(["localhost".to_owned(), "127.0.0.1".to_owned()]).unwrap();
    let (pem, key_pem) = (made.cert.pem(), made.signing_key.serialize_pem());
    let Some(bao) = Bao::with_files(Some((&pem, &key_pem))) else { return };
    let other = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).unwrap().cert.pem();
    let right = Node { tls: tls(Some(&pem)), ..Node::new(&bao) };
    let wrong = Node { tls: tls(Some(&other)), ..Node::new(&bao) };
    add(&right.open().unwrap(), "billing", 1);
    let error = wrong.open().unwrap_err().to_string();
    assert!(error.contains("cannot be reached") && error.contains("certificate"), "{error}");
    assert_secret(&error, &bao);
    let plain = Node::with_token(&bao.address.replace("https", "http"), &bao.token);
    assert!(plain.open().unwrap_err().to_string().contains("status 400"));
}

#[test]
fn a_namespace_is_a_place_of_its_own() {
    let Some(bao) = Bao::dev() else { return };
    bao.run(&["namespace", "create", "team"]);
    bao.run(&["secrets", "enable", "-namespace=team", "-path=secret", "-version=2", "kv"]);
    let node = Node { namespace: Some("team"), ..Node::new(&bao) };
    add(&node.open().unwrap(), "billing", 1);
    assert!(names(&Node::new(&bao).open().unwrap()).is_empty());
    assert_eq!(names(&node.open().unwrap()), ["billing"]);
}

/// Answers every request with this and closes.
fn answering(answer: &'static str) -> String {
    let listener = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    std::thread::spawn(move || {
        for stream in listener.incoming() {
            let Ok(mut stream) = stream else { return };
            let mut request = [0; 4096];
            let _ = stream.read(&mut request);
            let _ = stream.write_all(answer.as_bytes());
        }
    });
    address
}

#[test]
fn what_is_not_vaults_own_no_is_an_outage() {
    for (answer, said) in [
        ("HTTP/1.1 307 x\r\nlocation: http://127.0.0.1:1/v1/x\r\ncontent-length: 0\r\n\r\n", "redirect"),
        ("HTTP/1.1 403 x\r\ncontent-length: 6\r\n\r\n<html>", "is not Vault (status 403)"),
        ("HTTP/1.1 404 x\r\ncontent-length: 0\r\n\r\n", "is not Vault (status 404)"),
        ("HTTP/1.1 200 x\r\ncontent-length: 2\r\n\r\n{}", "is not Vault (status 200)"),
        ("HTTP/1.1 500 x\r\ncontent-length: 0\r\n\r\n", "status 500"),
        ("HTTP/1.1 429 x\r\ncontent-length: 0\r\n\r\n", "too many requests"),
        ("HTTP/1.1 200 x\r\ncontent-length: 99999999\r\n\r\n{", "cannot be reached"),
        ("SSH-2.0-x\r\n", "cannot be reached"),
    ] {
        let node = Node::with_token(&answering(answer), "hvs.0123456789");
        let error = node.open().unwrap_err().to_string();
        assert!(error.contains(said) && error.contains("there is no copy"), "{answer}: {error}");
        assert!(!error.contains("hvs.0123456789"));
    }
}

/// Between a store and the server; can lose the answer to a write.
struct Lossy {
    address: String,
    lose: Arc<std::sync::atomic::AtomicUsize>,
}

impl Lossy {
    fn before(bao: &Bao) -> Self {
        use std::sync::atomic::{AtomicUsize, Ordering};
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = format!("http://{}", listener.local_addr().unwrap());
        let lose = Arc::new(AtomicUsize::new(0));
        let (to, left) = (bao.host().to_owned(), Arc::clone(&lose));
        std::thread::spawn(move || {
            for client in listener.incoming() {
                let (Ok(mut client), Ok(mut server)) = (client, std::net::TcpStream::connect(&to)) else {
                    return;
                };
                let left = Arc::clone(&left);
                std::thread::spawn(move || {
                    let mut buffer = vec![0; 1 << 20];
                    // Requests and answers of this test fit into one piece each.
                    while let Ok(length @ 1..) = client.read(&mut buffer) {
                        let write = buffer.starts_with(b"POST /v1/secret/data");
                        server.write_all(&buffer[..length]).unwrap();
                        let Ok(answered @ 1..) = server.read(&mut buffer) else { return };
                        let lost = |left: usize| left.checked_sub(1);
                        if write && left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, lost).is_ok() {
                            return;
                        }
                        client.write_all(&buffer[..answered]).unwrap();
                    }
                });
            }
        });
        Self { address, lose }
    }
}

#[test]
fn a_write_whose_answer_is_lost_is_made_once_and_known() {
    let Some(bao) = Bao::dev() else { return };
    let lossy = Lossy::before(&bao);
    let node = Node::with_token(&lossy.address, &bao.token);
    let store = node.open().unwrap();
    lossy.lose.store(1, std::sync::atomic::Ordering::SeqCst);
    add(&store, "billing", 1);
    lossy.lose.store(1, std::sync::atomic::Ordering::SeqCst);
    store.rotate(&billing(), next(2), NOW).unwrap();
    assert_eq!(lossy.lose.load(std::sync::atomic::Ordering::SeqCst), 0);
    assert_eq!(live(&Node::new(&bao).open().unwrap()), [1, 2]);
}
