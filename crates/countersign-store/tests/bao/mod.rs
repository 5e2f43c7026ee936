//! Real OpenBao servers on free ports of loopback, which end with their test.
//!
//! `cargo xtask test` installs the program and says in `COUNTERSIGN_TEST_BAO` where it is.

#![allow(dead_code, unreachable_pub, reason = "each file of tests uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "a broken fixture ends the test")]

use std::fs::File;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::{Duration, Instant};

use tempfile::TempDir;

/// What is there is loaded and slow; a test that passes never waits for it.
const PATIENCE: Duration = Duration::from_secs(60);

/// The program; says that the test is left out if it is not there.
pub fn program() -> Option<PathBuf> {
    let path = std::env::var_os("COUNTERSIGN_TEST_BAO").map(PathBuf::from);
    if path.is_none() {
        println!("left out: needs OpenBao; run cargo xtask test");
    }
    path
}

/// A server. Killed when its test ends.
pub struct Bao {
    program: PathBuf,
    directory: TempDir,
    pub address: String,
    pub token: String,
    child: Mutex<Option<Child>>,
    unseal_key: Option<String>,
    ca: Option<PathBuf>,
}

impl Bao {
    /// A development server: in memory, unsealed, `secret/` is a key-value engine of version 2.
    pub fn dev() -> Option<Self> {
        let mut bao = Self::new(program()?, "http", None);
        bao.token = format!("root-{}", bao.port());
        bao.start();
        Some(bao)
    }

    /// A server with files, that has to be unsealed after each start. Over TLS with this certificate and key, if
    /// they are given: `ca` is what its callers trust.
    pub fn with_files(tls: Option<(&str, &str)>) -> Option<Self> {
        let program = program()?;
        let mut bao = Self::new(program, if tls.is_some() { "https" } else { "http" }, None);
        let home = bao.directory.path();
        let listener = match tls {
            Some((certificate, key)) => {
                std::fs::write(home.join("certificate.pem"), certificate).unwrap();
                std::fs::write(home.join("key.pem"), key).unwrap();
                bao.ca = Some(home.join("certificate.pem"));
                format!(
                    "tls_cert_file = \"{0}/certificate.pem\"\n tls_key_file = \"{0}/key.pem\"",
                    home.display()
                )
            }
            None => "tls_disable = true".to_owned(),
        };
        std::fs::create_dir(home.join("data")).unwrap();
        let cluster = free_port();
        let config = format!(
            "storage \"raft\" {{\n path = \"{}/data\"\n node_id = \"one\"\n performance_multiplier = 1\n}}\n\
             cluster_addr = \"http://127.0.0.1:{cluster}\"\nlistener \"tcp\" {{\n address = \"{}\"\n {listener}\n}}\n\
             api_addr = \"{}\"\ndisable_mlock = true\n",
            home.display(),
            bao.host(),
            bao.address,
        );
        std::fs::write(home.join("config.hcl"), config).unwrap();
        bao.unseal_key = Some(String::new());
        bao.start();
        let made = bao.run(&["operator", "init", "-key-shares=1", "-key-threshold=1", "-format=json"]);
        let made: serde_json::Value = serde_json::from_str(&made).unwrap();
        bao.unseal_key = made["unseal_keys_b64"][0].as_str().map(str::to_owned);
        bao.token = made["root_token"].as_str().unwrap().to_owned();
        bao.unseal();
        bao.run(&["secrets", "enable", "-path=secret", "-version=2", "kv"]);
        Some(bao)
    }

    fn new(program: PathBuf, scheme: &str, ca: Option<PathBuf>) -> Self {
        let port = free_port();
        Self {
            program,
            directory: tempfile::tempdir().unwrap(),
            address: format!("{scheme}://127.0.0.1:{port}"),
            token: String::new(),
            child: Mutex::new(None),
            unseal_key: None,
            ca,
        }
    }

    /// Host and port.
    pub fn host(&self) -> &str {
        self.address.split_once("://").unwrap().1
    }

    fn port(&self) -> &str {
        self.address.rsplit_once(':').unwrap().1
    }

    /// Starts the process, as it was started before.
    pub fn start(&self) {
        let mut command = self.command();
        if self.unseal_key.is_some() {
            command.args(["server", "-config"]).arg(self.directory.path().join("config.hcl"));
        } else {
            command.args(["server", "-dev", "-dev-no-store-token"]);
            command.arg(format!("-dev-listen-address={}", self.host()));
            command.arg(format!("-dev-root-token-id={}", self.token));
        }
        let log = File::options().create(true).append(true).open(self.log()).unwrap();
        let child = command.stdout(log.try_clone().unwrap()).stderr(log).spawn().unwrap();
        *self.child.lock().unwrap() = Some(child);
        // 0: ready, 2: sealed.
        eventually("the server answers", || {
            let status = self.quiet(&["status"]);
            status == Some(0) || (self.unseal_key.is_some() && status == Some(2))
        });
    }

    /// Kills the process, as a crash does.
    pub fn kill(&self) {
        if let Some(mut child) = self.child.lock().unwrap().take() {
            let _ = child.kill();
            let _ = child.wait();
        }
    }

    /// Lets the process take connections and answer nothing, or go on.
    pub fn hold(&self, held: bool) {
        let id = self.child.lock().unwrap().as_ref().unwrap().id();
        let signal = if held { "-STOP" } else { "-CONT" };
        assert!(Command::new("kill").args([signal, &id.to_string()]).status().unwrap().success());
    }

    pub fn unseal(&self) {
        self.run(&["operator", "unseal", self.unseal_key.as_deref().unwrap()]);
        eventually("it is unsealed", || self.quiet(&["status"]) == Some(0));
    }

    pub fn seal(&self) {
        self.run(&["operator", "seal"]);
    }

    fn log(&self) -> PathBuf {
        self.directory.path().join("bao.log")
    }

    /// `bao`, in the name of root.
    pub fn command(&self) -> Command {
        let mut command = Command::new(&self.program);
        command.env_clear().envs(self.environment()).stdin(Stdio::null());
        command
    }

    /// What `bao` needs to know.
    pub fn environment(&self) -> Vec<(&'static str, String)> {
        let mut all = vec![
            ("BAO_ADDR", self.address.clone()),
            ("BAO_TOKEN", self.token.clone()),
            ("HOME", self.directory.path().display().to_string()),
            ("PATH", std::env::var("PATH").unwrap_or_default()),
        ];
        if let Some(ca) = &self.ca {
            all.push(("BAO_CACERT", ca.display().to_string()));
        }
        all
    }

    /// The directory in which the program is.
    pub fn programs(&self) -> &Path {
        self.program.parent().unwrap()
    }

    fn quiet(&self, arguments: &[&str]) -> Option<i32> {
        let mut command = self.command();
        command.args(arguments).stdout(Stdio::null()).stderr(Stdio::null());
        command.status().unwrap().code()
    }

    /// Runs `bao …`; gives what it prints.
    #[track_caller]
    pub fn run(&self, arguments: &[&str]) -> String {
        let output = self.command().args(arguments).output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The same with a text on its standard input.
    #[track_caller]
    pub fn feed(&self, arguments: &[&str], input: &str) -> String {
        use std::io::Write as _;
        let mut command = self.command();
        command.args(arguments).stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        child.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        let output = child.wait_with_output().unwrap();
        assert!(output.status.success(), "{arguments:?}: {output:?}");
        String::from_utf8(output.stdout).unwrap()
    }

    pub fn policy(&self, name: &str, text: &str) {
        self.feed(&["policy", "write", name, "-"], text);
    }

    /// A token with these options.
    pub fn token(&self, options: &[&str]) -> String {
        let made = self.run(&[&["token", "create", "-field=token"][..], options].concat());
        made.trim().to_owned()
    }

    /// An `AppRole` with these settings: role id and secret id.
    pub fn approle(&self, name: &str, settings: &[&str]) -> (String, String) {
        let path = format!("auth/approle/role/{name}");
        self.run(&[&["write", &path][..], settings].concat());
        let role_id = self.run(&["read", "-field=role_id", &format!("{path}/role-id")]);
        let secret_id = self.run(&["write", "-f", "-field=secret_id", &format!("{path}/secret-id")]);
        (role_id.trim().to_owned(), secret_id.trim().to_owned())
    }
}

impl Drop for Bao {
    fn drop(&mut self) {
        self.kill();
        if std::thread::panicking() {
            eprintln!("{}", std::fs::read_to_string(self.log()).unwrap_or_default());
        }
    }
}

/// A port that nobody has at the moment. (A server cannot be told to choose one and say which.)
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port()
}

/// Waits until `done`, and fails if that never comes.
#[track_caller]
pub fn eventually(what: &str, mut done: impl FnMut() -> bool) {
    let start = Instant::now();
    while !done() {
        assert!(start.elapsed() < PATIENCE, "never happened: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}
