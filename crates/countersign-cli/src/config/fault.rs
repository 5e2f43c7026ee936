//! What is wrong in the file, and in which line.

use std::fmt;

use toml::Spanned;

/// What is wrong in the file, and where.
#[derive(Debug)]
pub(crate) struct ConfigError(pub(super) String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a value that may be a secret in the wrong place: the line is told, not shown.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Bytes from the beginning of the file.
    pub(super) start: usize,
    pub(super) message: String,
}

impl Fault {
    pub(super) fn at<T>(value: &Spanned<T>, error: impl fmt::Display) -> Self {
        Self { start: value.span().start, message: error.to_string() }
    }

    pub(super) fn in_text(&self, text: &str) -> ConfigError {
        let (line, shown) = line_of(text, self.start);
        let setting = shown.split_once('=').map_or("", |(setting, _)| setting.trim());
        ConfigError(format!("line {line}, `{setting}`: {}", self.message))
    }
}

/// The number of the line with this byte, from 1, and the line.
fn line_of(text: &str, start: usize) -> (usize, &str) {
    let line = text.get(..start).unwrap_or_default().matches('\n').count();
    (line + 1, text.lines().nth(line).unwrap_or_default())
}

/// An error with the line that it is about.
pub(super) fn at_line(text: &str, start: usize, error: &dyn fmt::Display) -> ConfigError {
    let (line, shown) = line_of(text, start);
    ConfigError(format!("line {line}: {error}\n  |\n{line} | {shown}\n  |"))
}

/// What the parser says, with the line that it is about, unless somebody may have written a secret there.
pub(super) fn from_parser(text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map(|span| span.start);
    let before = start.and_then(|start| text.get(..start)).unwrap_or_default();
    let section = before.lines().map(str::trim_start).rfind(|line| line.starts_with('[')).unwrap_or_default();
    match start.map(|start| line_of(text, start)) {
        Some((line, shown)) if section.starts_with("[[peer]]") || is_secret(section, shown) => ConfigError(
            format!("line {line}: {} (the line is not shown: a secret may be in it)", error.message()),
        ),
        _ => ConfigError(error.to_string()),
    }
}

/// Whether a login to Vault may stand in this line.
fn is_secret(section: &str, line: &str) -> bool {
    section.starts_with("[secrets") || line.trim_start().starts_with("secrets")
}
