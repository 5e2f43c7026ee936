//! `countersign.toml`. The command is a program and not a library, so its file is compiled into this crate too.

#[path = "../../crates/countersign-cli/src/config.rs"]
#[allow(dead_code, reason = "only the reader is used")]
mod file;

use file::Config;

use crate::input;

/// The first number after "line ".
fn line_in(message: &str) -> Option<usize> {
    let (_, rest) = message.split_once("line ")?;
    let end = rest.find(|c: char| !c.is_ascii_digit()).unwrap_or(rest.len());
    rest[..end].parse().ok()
}

pub(crate) fn config(input: &[u8]) {
    let text = input::text(input);
    match Config::parse(&text) {
        Ok(config) => {
            let table: toml::Table = text.parse().expect("what we take is TOML");
            assert_eq!(table["service"].as_str(), Some(config.service.as_str()));
            let danger = table.get("danger_plain_http").and_then(toml::Value::as_bool);
            let listeners = config.listeners();
            assert_eq!(listeners.len(), config.serve.listen.len(), "none is lost");
            for listener in listeners {
                assert!(listener.check(danger.unwrap_or(false)).is_ok());
            }
            assert!((5..=120).contains(&config.challenge.lifetime().as_secs()));
            assert!(config.token.lifetime().is_none_or(|seconds| (1..=300).contains(&seconds)));
            let timeouts = config.timeouts.timeouts();
            for timeout in
                [timeouts.tls_handshake, timeouts.head, timeouts.body, timeouts.write, timeouts.drain]
            {
                assert!((1..=3600).contains(&timeout.as_secs()));
            }
            let template = Config::template(&config.service);
            assert_eq!(Config::parse(&template).unwrap().service, config.service);
        }
        Err(error) => {
            let shown = error.to_string();
            assert!(!shown.is_empty());
            // It points into the file, or just behind it.
            let lines = text.split('\n').count();
            assert!(line_in(&shown).is_none_or(|line| (1..=lines + 1).contains(&line)), "{shown}");
        }
    }
}
