//! `pair offer` while it waits, line by line.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::mpsc::{self, Receiver};

use serde_json::Value;

use super::{Done, Home, PATIENCE, Serving};

/// A running `pair offer --json`.
pub struct Offering {
    child: Child,
    lines: Receiver<String>,
}

impl Offering {
    /// Starts it on a home that is served.
    pub fn start(home: &Home, options: &[&str]) -> Self {
        let mut command = home.command(&["pair", "offer", "--json"]);
        command.args(options).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap();
        let stdout = child.stdout.take().unwrap();
        let (send, lines) = mpsc::channel();
        std::thread::spawn(move || {
            for line in BufReader::new(stdout).lines().map_while(Result::ok) {
                let _ = send.send(line);
            }
        });
        Self { child, lines }
    }

    /// The next thing that it tells.
    #[track_caller]
    pub fn event(&mut self, name: &str) -> Value {
        let Ok(line) = self.lines.recv_timeout(PATIENCE) else {
            let _ = self.child.kill();
            panic!("no {name}: {:?}", self.child.wait());
        };
        let event: Value = serde_json::from_str(&line).unwrap();
        assert_eq!(event["event"], name, "{event}");
        event
    }

    /// The words of the first code.
    #[track_caller]
    pub fn words(&mut self) -> String {
        self.event("offer")["words"].as_str().unwrap().to_owned()
    }

    /// What comes after a code was burned for this reason: the words of the next one.
    #[track_caller]
    pub fn next_words(&mut self, reason: &str) -> String {
        assert_eq!(self.event("burned")["reason"], reason);
        self.event("code")["words"].as_str().unwrap().to_owned()
    }

    /// Ctrl-C.
    pub fn interrupt(&self) {
        let status = Command::new("kill").args(["-INT", &self.child.id().to_string()]).status().unwrap();
        assert!(status.success());
    }

    /// SIGKILL.
    pub fn kill(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }

    /// Waits for its end.
    #[track_caller]
    pub fn end(mut self) -> (i32, String) {
        let mut stderr = String::new();
        let mut from = self.child.stderr.take().unwrap();
        std::io::Read::read_to_string(&mut from, &mut stderr).unwrap();
        let status = self.child.wait().unwrap();
        (status.code().unwrap_or(-1), stderr)
    }
}

impl Drop for Offering {
    fn drop(&mut self) {
        self.kill();
    }
}

/// `pair accept` with these words.
#[track_caller]
pub fn accept(home: &Home, url: &str, words: &str, options: &[&str]) -> Done {
    let accept = ["pair", "accept", url, "--words-file", "-"];
    home.run_with(&[&accept[..], options].concat(), words.as_bytes())
}

/// The words with another one in the place of the last.
pub fn wrong(words: &str) -> String {
    let (others, last) = words.rsplit_once(' ').unwrap();
    format!("{others} {}", if last == "zoo" { "able" } else { "zoo" })
}

/// `orders`, which serves over TLS, and `billing`, which does not.
pub fn orders_and_billing() -> (Home, Serving, Home) {
    let orders = Home::of("orders");
    let serving = Serving::https(&orders);
    (orders, serving, Home::of("billing"))
}
