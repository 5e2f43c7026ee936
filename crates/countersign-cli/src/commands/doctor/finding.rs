//! What was found, and the command that mends it.

use std::path::Path;

use clap::CommandFactory as _;
use serde_json::{Value, json};

use crate::args::Args;
use crate::show::{Paint, printable_lines};

#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Level {
    Ok,
    Warn,
    Fail,
}

/// One thing that was looked at.
#[derive(Debug)]
pub(super) struct Finding {
    /// A stable name, for programs.
    check: &'static str,
    level: Level,
    what: String,
    mend: Option<String>,
}

#[derive(Debug, Default)]
pub(super) struct Findings(Vec<Finding>);

impl Level {
    const fn as_str(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warn => "warn",
            Self::Fail => "fail",
        }
    }
}

impl Findings {
    pub(super) fn ok(&mut self, check: &'static str, what: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Ok, what: what.into(), mend: None });
    }

    pub(super) fn warn(&mut self, check: &'static str, what: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Warn, what: what.into(), mend: Some(mend.into()) });
    }

    pub(super) fn fail(&mut self, check: &'static str, what: impl Into<String>, mend: impl Into<String>) {
        self.0.push(Finding { check, level: Level::Fail, what: what.into(), mend: Some(mend.into()) });
    }

    pub(super) fn append(&mut self, mut others: Self) {
        self.0.append(&mut others.0);
    }

    /// How many there are of this level.
    pub(super) fn count(&self, level: Level) -> usize {
        self.0.iter().filter(|finding| finding.level == level).count()
    }

    pub(super) fn json(&self) -> Value {
        let findings: Vec<Value> = self
            .0
            .iter()
            .map(|finding| {
                json!({
                    "check": finding.check,
                    "level": finding.level.as_str(),
                    "what": finding.what,
                    "mend": finding.mend,
                })
            })
            .collect();
        json!({"failed": self.count(Level::Fail), "warned": self.count(Level::Warn), "findings": findings})
    }

    pub(super) fn text(&self, paint: &Paint) -> String {
        let mut text = String::new();
        for finding in &self.0 {
            let level = format!("{:<4}", finding.level.as_str());
            let level = match finding.level {
                Level::Ok => paint.good(&level),
                Level::Warn => paint.title(&level),
                Level::Fail => paint.bad(&level),
            };
            text.push_str(&format!("{level}  {:<18}{}\n", finding.check, indented(&finding.what)));
            if let Some(mend) = &finding.mend {
                text.push_str(&format!("{:24}{}\n", "", paint.title(&format!("→ {}", indented(mend)))));
            }
        }
        text
    }
}

fn indented(text: &str) -> String {
    printable_lines(text).trim_end().replace('\n', &format!("\n{:24}", ""))
}

/// A path or a word as a shell takes it.
pub(crate) fn quoted(word: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+:=@%".contains(c);
    if !word.is_empty() && word.chars().all(plain) {
        word.to_owned()
    } else {
        format!("'{}'", word.replace('\'', r"'\''"))
    }
}

/// A path as a shell takes it.
pub(crate) fn path(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

/// Whether this program has a command of this name; what mends something must be there.
pub(super) fn has_command(words: &[&str]) -> bool {
    let mut command = Args::command();
    words.iter().all(|word| match command.find_subcommand(word).cloned() {
        Some(found) => {
            command = found;
            true
        }
        None => false,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_quoted_for_a_shell() {
        assert_eq!(quoted("/var/lib/x_1"), "/var/lib/x_1");
        assert_eq!(quoted("a b"), "'a b'");
        assert_eq!(quoted("a'b"), r"'a'\''b'");
        assert_eq!(quoted(""), "''");
    }

    #[test]
    fn only_commands_that_exist_are_named() {
        assert!(
            has_command(&["peer", "add"]) && !has_command(&["peer", "dance"]) && !has_command(&["dance"])
        );
    }
}
