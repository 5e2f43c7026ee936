//! How things are shown to people: tables, ages, colour only on a terminal, nothing that a terminal would obey.

use std::io::{IsTerminal as _, Write as _};

use anstyle::{AnsiColor, Style};
use countersign::protocol::UnixTime;
use countersign::store::Stale;

use crate::failure::Failure;

/// Writes to standard output; a reader that went away (`| head`) is no error.
pub(crate) fn out(text: &str) -> Result<(), Failure> {
    let mut stdout = std::io::stdout().lock();
    match stdout.write_all(text.as_bytes()).and_then(|()| stdout.flush()) {
        Err(error) if error.kind() != std::io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

/// Says that a change is made, which stands also if this cannot be said.
pub(crate) fn done(text: &str) -> Result<(), Failure> {
    out(text).map_err(|failure| {
        Failure::new(format!(
            "the change is made and in effect; only what there is to say of it cannot be written to standard output: {}",
            failure.message()
        ))
    })
}

/// Writes to standard error. If that cannot be written, nobody is left to be told.
pub(crate) fn err(text: &str) {
    let _ = std::io::stderr().lock().write_all(text.as_bytes());
}

/// Pretty JSON and a line end.
pub(crate) fn json(value: &impl serde::Serialize) -> Result<(), Failure> {
    out(&format!("{}\n", escaped(&serde_json::to_string_pretty(value)?)))
}

/// JSON text without the control characters that JSON itself allows (DEL and U+0080 to U+009F).
pub(crate) fn escaped(json: &str) -> String {
    let escape =
        |c: char| if c.is_control() && c != '\n' { format!("\\u{:04x}", u32::from(c)) } else { c.into() };
    json.chars().map(escape).collect()
}

/// Text from anywhere, with all control characters but line ends and tabs made harmless, and so what turns the
/// direction of text around or is not seen at all.
pub(crate) fn printable_lines(text: &str) -> String {
    let hidden = |c: char| matches!(c, '\u{ad}' | '\u{61c}' | '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}');
    let harmful = |c: char| (c.is_control() && c != '\n' && c != '\t') || hidden(c);
    text.chars().map(|c| if harmful(c) { '?' } else { c }).collect()
}

/// Columns of text, as wide as they need to be.
pub(crate) fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut widths: Vec<usize> = head.iter().map(|text| text.chars().count()).collect();
    for row in rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    let line = |cells: &mut dyn Iterator<Item = &str>| {
        let cells: Vec<String> = cells.zip(&widths).map(|(cell, width)| format!("{cell:width$}")).collect();
        format!("{}\n", cells.join("  ").trim_end())
    };
    let mut text = line(&mut head.iter().copied());
    for row in rows {
        text.push_str(&line(&mut row.iter().map(String::as_str)));
    }
    text
}

/// Says on standard error that peers come from a copy.
pub(crate) fn warn_of_copy(stale: &Stale) {
    err(&format!(
        "countersign: warning: {}. Peers come from the copy of {} ago, which is good for {} more; other nodes do not see what is revoked here until it answers\n",
        stale.reason,
        span(stale.age),
        span(stale.max.saturating_sub(stale.age)),
    ));
}

/// How long ago, roughly.
pub(crate) fn age(since: UnixTime, now: UnixTime) -> String {
    span(now.since(since))
}

/// How long, roughly.
pub(crate) fn span(seconds: u64) -> String {
    match seconds {
        0..60 => format!("{seconds} s"),
        60..3600 => format!("{} min", seconds / 60),
        3600..172_800 => format!("{} h", seconds / 3600),
        _ => format!("{} d", seconds / 86_400),
    }
}

/// A moment, in UTC: `2026-12-04 09:30`.
pub(crate) fn moment(at: UnixTime) -> String {
    let form = time::macros::format_description!("[year]-[month]-[day] [hour]:[minute]");
    let known = i64::try_from(at.0).ok().and_then(|at| time::OffsetDateTime::from_unix_timestamp(at).ok());
    known.and_then(|known| known.format(&form).ok()).unwrap_or_else(|| "in a far future".to_owned())
}

/// The wall clock.
pub(crate) fn now() -> UnixTime {
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
    UnixTime(now.map_or(0, |now| now.as_secs()))
}

/// Colours for standard output, empty where it is not a terminal or `NO_COLOR` is set.
pub(crate) struct Paint {
    on: bool,
}

impl Paint {
    pub(crate) fn stdout() -> Self {
        let wanted = std::env::var_os("NO_COLOR").is_none_or(|value| value.is_empty());
        Self { on: wanted && std::io::stdout().is_terminal() }
    }

    pub(crate) fn good(&self, text: &str) -> String {
        self.paint(text, AnsiColor::Green.on_default())
    }

    pub(crate) fn bad(&self, text: &str) -> String {
        self.paint(text, AnsiColor::Red.on_default())
    }

    pub(crate) fn title(&self, text: &str) -> String {
        self.paint(text, Style::new().bold())
    }

    pub(crate) fn dim(&self, text: &str) -> String {
        self.paint(text, Style::new().dimmed())
    }

    fn paint(&self, text: &str, style: Style) -> String {
        if self.on { format!("{style}{text}{style:#}") } else { text.to_owned() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_that_a_terminal_would_obey_or_hide_is_shown() {
        let shown = printable_lines("a\u{1b}[31m\u{202e}b\u{200b}c\u{feff}\u{85}\r\n\td\u{fc}");
        assert_eq!(shown, "a?[31m?b?c???\n\td\u{fc}");
    }
}
