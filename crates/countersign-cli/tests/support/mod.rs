//! What the tests of the command share: homes in temporary directories, the real binary, servers that end with
//! their test, and pairs of services that know each other.
//!
//! Every [`Home`] watches over its secrets: no command may print one, and when the home is dropped, no file in it
//! but the two private keys and those in `exchange/` may hold one.

#![allow(dead_code, unreachable_pub, unused_imports, reason = "each file of tests uses its part")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken fixture ends the test"
)]

pub mod fake;
pub mod faults;
pub mod life;
pub mod pair;
pub mod pairing;
pub mod proxy;
pub mod raw;
pub mod rotating;
pub mod serving;

use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use countersign::store::master::{MasterKey, Source};
use countersign::store::random;
use countersign::store::sqlite::SqliteStore;
use countersign::{ApiKey, PeerStore as _, SharedSecret};
use serde_json::Value;
use tempfile::TempDir;

pub use fake::{Exchange, Fake};
pub use pair::{ApiKeyPair, Pair};
pub use proxy::{Proxy, Tunnel};
pub use raw::{Connection, Reply, exchange, try_exchange};
pub use serving::Serving;

/// Long enough for a loaded machine; a test that passes never waits for it.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// Waits until `done`, and fails if that never comes.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// Whether other programs may not be run; says so then.
pub fn left_out(needs: &str) -> bool {
    let out = std::env::var_os("COUNTERSIGN_TEST_EXTERNAL").is_none_or(|value| value != "1");
    if out {
        println!("left out: needs {needs}; run cargo xtask test");
    }
    out
}

pub fn new_key() -> String {
    ApiKey::generate(&random()).expose().to_owned()
}

pub fn new_secret() -> String {
    SharedSecret::generate(&random()).expose().to_owned()
}

/// What a command came to.
#[derive(Debug)]
pub struct Done {
    pub code: i32,
    pub stdout: String,
    pub stderr: String,
}

impl Done {
    /// Exit code 0; gives standard output.
    #[track_caller]
    pub fn ok(self) -> String {
        assert_eq!(self.code, 0, "{self:?}");
        self.stdout
    }

    /// This exit code, nothing on standard output, and all of `said` on standard error.
    #[track_caller]
    pub fn refused(&self, code: i32, said: &[&str]) {
        assert_eq!(self.code, code, "{self:?}");
        assert_eq!(self.stdout, "", "{self:?}");
        for text in said {
            assert!(self.stderr.contains(text), "no {text:?} in {self:?}");
        }
    }

    /// Failed with this exit code, and said this on standard output.
    #[track_caller]
    pub fn refused_with_output(&self, code: i32, said: &str) {
        assert_eq!(self.code, code, "{self:?}");
        assert!(self.stdout.contains(said), "no {said:?} in {self:?}");
    }

    #[track_caller]
    pub fn json(self) -> Value {
        let text = self.ok();
        serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"))
    }
}

/// The binary, with nothing of the surrounding environment that it would look at.
pub fn countersign() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_countersign"));
    for name in
        ["COUNTERSIGN_HOME", "COUNTERSIGN_MASTER_KEY", "CREDENTIALS_DIRECTORY", "RUST_LOG", "XDG_DATA_HOME"]
    {
        command.env_remove(name);
    }
    command.env("HOME", "/nonexistent").stdin(Stdio::null());
    command
}

/// Runs a command to its end. Nothing that a terminal would obey may come out of it.
#[track_caller]
pub fn finish(mut command: Command, input: &[u8]) -> Done {
    if !input.is_empty() {
        command.stdin(Stdio::piped());
    }
    let mut child = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap();
    if let Some(mut stdin) = child.stdin.take() {
        // A command that refuses does not read what it is given.
        let _ = stdin.write_all(input);
    }
    let output = child.wait_with_output().unwrap();
    let done = Done {
        code: output.status.code().unwrap_or_else(|| panic!("killed: {output:?}")),
        stdout: String::from_utf8(output.stdout).unwrap(),
        stderr: String::from_utf8(output.stderr).unwrap(),
    };
    for text in [&done.stdout, &done.stderr] {
        let obeyed = |c: char| c.is_control() && c != '\n' && c != '\t';
        assert!(!text.contains(obeyed), "a control character came out: {text:?}");
    }
    done
}

/// The data directory of one service, and a place for files beside it.
pub struct Home {
    directory: TempDir,
    secrets: Mutex<Vec<String>>,
}

impl Home {
    /// Nothing is in it yet.
    pub fn empty() -> Self {
        Self { directory: tempfile::tempdir().unwrap(), secrets: Mutex::default() }
    }

    /// `countersign init`
    pub fn of(service: &str) -> Self {
        let home = Self::empty();
        home.run(&["init", "--service", service]).ok();
        home
    }

    /// The same again, in another place: in memory, where there is such a place, for tests that make hundreds.
    pub fn copy(&self) -> Self {
        let directory = tempfile::tempdir_in("/dev/shm").or_else(|_| tempfile::tempdir()).unwrap();
        let copy = Self { directory, secrets: Mutex::default() };
        *copy.secrets.lock().unwrap() = self.secrets.lock().unwrap().clone();
        copy_tree(self.directory.path(), copy.directory.path());
        copy
    }

    pub fn path(&self) -> PathBuf {
        self.directory.path().join("home")
    }

    /// A file beside the data directory.
    pub fn beside(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    /// A new file beside the data directory.
    pub fn file(&self, name: &str, mode: u32, bytes: &[u8]) -> String {
        let path = self.beside(name);
        std::fs::write(&path, bytes).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        path.to_str().unwrap().to_owned()
    }

    /// A file that only its owner can read; its content must not come out anywhere.
    pub fn secret_file(&self, name: &str, secret: &str) -> String {
        self.hide(secret);
        self.file(name, 0o600, format!("{secret}\n").as_bytes())
    }

    /// This must not be printed or kept in the clear.
    pub fn hide(&self, secret: &str) {
        self.secrets.lock().unwrap().push(secret.to_owned());
    }

    pub fn command(&self, arguments: &[&str]) -> Command {
        let mut command = countersign();
        command.arg("--home").arg(self.path()).args(arguments).current_dir(self.directory.path());
        command
    }

    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> Done {
        self.run_with(arguments, b"")
    }

    #[track_caller]
    pub fn run_with(&self, arguments: &[&str], input: &[u8]) -> Done {
        self.finish(self.command(arguments), input)
    }

    /// Runs a command to its end. None of this home's secrets may come out of it.
    #[track_caller]
    pub fn finish(&self, command: Command, input: &[u8]) -> Done {
        let done = finish(command, input);
        for secret in self.secrets.lock().unwrap().iter() {
            assert!(
                !done.stdout.contains(secret) && !done.stderr.contains(secret),
                "a secret came out: {done:?}"
            );
        }
        done
    }

    /// Adds tables to `countersign.toml`.
    pub fn configure(&self, text: &str) {
        let path = self.path().join("countersign.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, format!("{before}\n{text}\n")).unwrap();
    }

    /// Adds lines to the table `[serve]`.
    pub fn configure_serve(&self, lines: &str) {
        let path = self.path().join("countersign.toml");
        let before = std::fs::read_to_string(&path).unwrap();
        std::fs::write(path, before.replace("[serve]", &format!("[serve]\n{lines}"))).unwrap();
    }

    /// A peer with its keys, as the client library needs it.
    pub fn peer(&self, name: &str) -> countersign::store::Peer {
        let file = Source::File(self.path().join("master.key"));
        let key = MasterKey::load(&file, |_| None).unwrap();
        let store = SqliteStore::open(&self.path().join("store.sqlite"), &key).unwrap();
        store.get(&name.parse().unwrap()).unwrap()
    }

    /// The attempts on this home's trail, of all writers.
    pub fn trail(&self) -> Vec<Value> {
        self.records().into_iter().filter(|record| record["direction"] != "local").collect()
    }

    /// Everything on this home's trail.
    pub fn records(&self) -> Vec<Value> {
        let lines = self.run(&["audit", "tail", "-n", "1000"]).ok();
        lines.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    /// How many records of the trail have this member.
    pub fn recorded(&self, member: &str, value: &str) -> usize {
        self.trail().iter().filter(|record| record[member] == value).count()
    }

    /// The pin that `init` printed.
    pub fn pin(&self) -> String {
        self.run(&["status", "--json"]).json()["tlsPin"].as_str().unwrap().to_owned()
    }

    pub fn certificate(&self) -> String {
        self.path().join("tls/certificate.pem").to_str().unwrap().to_owned()
    }

    /// No file but the private keys holds a secret.
    #[track_caller]
    pub fn assert_nothing_leaked(&self) {
        let secrets = self.secrets.lock().unwrap();
        for path in files(&self.path()) {
            // The reserve of the trail is megabytes of zeros.
            if ["master.key", "tls/key.pem", "audit/reserve"].iter().any(|name| path.ends_with(name)) {
                continue;
            }
            // Keys that are there to be handed over; its tests look at when they go.
            if path.parent().is_some_and(|parent| parent.ends_with("exchange")) {
                assert_eq!(path.metadata().unwrap().permissions().mode() & 0o7777, 0o600);
                continue;
            }
            let Ok(bytes) = std::fs::read(&path) else { continue };
            for secret in secrets.iter() {
                let found = bytes.windows(secret.len()).any(|window| window == secret.as_bytes());
                assert!(!found, "{secret} is in {}", path.display());
            }
        }
    }
}

impl Drop for Home {
    fn drop(&mut self) {
        if !std::thread::panicking() {
            self.assert_nothing_leaked();
        }
    }
}

fn copy_tree(from: &Path, to: &Path) {
    for entry in std::fs::read_dir(from).unwrap() {
        let (source, target) = (entry.as_ref().unwrap().path(), to.join(entry.unwrap().file_name()));
        if source.is_dir() {
            std::fs::create_dir(&target).unwrap();
            std::fs::set_permissions(&target, source.metadata().unwrap().permissions()).unwrap();
            copy_tree(&source, &target);
        } else {
            std::fs::copy(&source, &target).unwrap();
        }
    }
}

/// All files below a directory.
pub fn files(directory: &Path) -> Vec<PathBuf> {
    let Ok(entries) = std::fs::read_dir(directory) else { return Vec::new() };
    entries
        .flat_map(|entry| {
            let path = entry.unwrap().path();
            if path.is_dir() { files(&path) } else { vec![path] }
        })
        .collect()
}
