//! A running `countersign serve`.

use std::fs::File;
use std::io::{BufRead as _, BufReader};
use std::os::unix::process::ExitStatusExt as _;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::mpsc;

use super::{Home, PATIENCE, eventually};

/// A child that is killed when its test ends.
pub struct Serving {
    child: Child,
    log: PathBuf,
    /// What it listens on, in the order in which it says so.
    pub urls: Vec<String>,
}

impl Serving {
    /// `countersign serve` on a free port of loopback, without TLS.
    pub fn http(home: &Home) -> Self {
        Self::start(home, &["--listen", "http://127.0.0.1:0"])
    }

    /// The same with TLS.
    pub fn https(home: &Home) -> Self {
        Self::start(home, &["--listen", "https://127.0.0.1:0"])
    }

    /// `countersign serve …`, once it listens.
    pub fn start(home: &Home, arguments: &[&str]) -> Self {
        let listeners = arguments.iter().filter(|given| ["--listen", "--admin"].contains(given)).count();
        let mut command = home.command(&["serve"]);
        command.args(arguments);
        Self::of(command, &home.beside("serve.log"), listeners)
    }

    /// The same, for a home with which it may not come up: what it said then.
    pub fn http_or_why_not(home: &Home) -> Result<Self, String> {
        let mut command = home.command(&["serve"]);
        command.args(["--listen", "http://127.0.0.1:0"]);
        Self::try_of(command, &home.beside("serve.log"), 1)
    }

    /// Any server that says what it listens on.
    pub fn of(command: Command, log: &std::path::Path, listeners: usize) -> Self {
        Self::try_of(command, log, listeners).unwrap_or_else(|log| panic!("no listener: {log}"))
    }

    fn try_of(mut command: Command, log: &std::path::Path, listeners: usize) -> Result<Self, String> {
        let file = File::options().create(true).append(true).open(log).unwrap();
        let mut child = command.stdout(Stdio::piped()).stderr(file).spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        let mut serving = Self { child, log: log.to_owned(), urls: Vec::new() };
        for _ in 0..listeners {
            let Ok(line) = lines.recv_timeout(PATIENCE) else { return Err(serving.log()) };
            let url = line.strip_prefix("listening on ").unwrap_or_else(|| panic!("{line}"));
            serving.urls.push(url.to_owned());
        }
        Ok(serving)
    }

    /// The first URL.
    pub fn url(&self) -> &str {
        &self.urls[0]
    }

    /// Host and port of the first URL.
    pub fn address(&self) -> &str {
        address(&self.urls[0])
    }

    pub fn port(&self) -> &str {
        self.url().rsplit_once(':').unwrap().1
    }

    /// What it wrote to standard error so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(&self.log).unwrap()
    }

    /// Waits until it has been killed, by whomever.
    #[track_caller]
    pub fn killed(&mut self) {
        let mut signal = None;
        eventually("the server is killed", || {
            signal = self.child.try_wait().unwrap().map(|status| status.signal());
            signal.is_some()
        });
        assert_eq!(signal.flatten(), Some(9), "it ended by itself: {}", self.log());
    }

    pub fn terminate(&self) {
        let status = Command::new("kill").args(["-TERM", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// SIGKILL, and waits until it is gone.
    pub fn kill(&mut self) {
        self.child.kill().unwrap();
        self.child.wait().unwrap();
    }

    /// Its process.
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// What of its memory is in use, in bytes (`VmRSS`).
    pub fn resident(&self) -> u64 {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.child.id())).unwrap();
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap();
        line.trim().trim_end_matches(" kB").parse::<u64>().unwrap() * 1024
    }

    /// Waits for its end; the exit code.
    #[track_caller]
    pub fn ended(&mut self) -> i32 {
        let mut code = None;
        eventually("the server ends", || {
            code = self.child.try_wait().unwrap().map(|status| status.code());
            code.is_some()
        });
        code.flatten().unwrap_or_else(|| panic!("killed: {}", self.log()))
    }
}

impl Drop for Serving {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Host and port of a URL.
pub fn address(url: &str) -> &str {
    let rest = url.split_once("://").unwrap().1;
    rest.split('/').next().unwrap()
}
