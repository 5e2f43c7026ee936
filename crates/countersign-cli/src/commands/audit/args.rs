//! The command line of `countersign audit`.

#![allow(clippy::doc_markdown, reason = "these comments are the help text, where backticks only disturb")]

use std::path::PathBuf;

use clap::{Args as ClapArgs, Subcommand, ValueEnum};
use countersign::ServiceName;
use countersign::audit::{Anchor, Outcome};
use time::format_description::well_known::Rfc3339;
use time::macros::format_description;
use time::{Date, OffsetDateTime, UtcOffset};

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the last attempts: a table on a terminal, JSON lines elsewhere
    Tail(TailArgs),
    /// Find out whether a record was changed, removed, moved, put in or cut off
    #[command(after_help = VERIFY)]
    Verify(VerifyArgs),
    /// Write records out, for a spreadsheet or another program
    Export(ExportArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct TailArgs {
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(crate) lines: usize,
    /// Go on with the records that come, until interrupted
    #[arg(short, long)]
    pub(crate) follow: bool,
    /// Write JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

const VERIFY: &str = "\
The exit code is 0 only if the trail is whole. For each writer the last record is printed as WRITER:NUMBER:MAC. Note it
on another machine: whoever has the master key, or can put back old files and an old store together, can be found by
comparing alone.

Example:
  countersign audit verify --expect serve:1204:x0fVJQb0sI8kOd2tZ5c4m0mJXl1Jb9H6q7bWQ3nD4aE";

#[derive(Debug, ClapArgs)]
pub(crate) struct VerifyArgs {
    /// A record that has to be there, as an earlier run printed it; may come several times
    #[arg(long, value_name = "WRITER:NUMBER:MAC")]
    pub(crate) expect: Vec<Anchor>,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ExportArgs {
    /// From this time on: 2026-11-27 or 2026-11-27T08:00:00Z
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) since: Option<String>,
    /// Before this time
    #[arg(long, value_name = "TIME", value_parser = moment)]
    pub(crate) until: Option<String>,
    /// Only records about this peer
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: Option<ServiceName>,
    /// Only this outcome: accepted, challenged, refused, changed or gap
    #[arg(long, value_parser = outcome)]
    pub(crate) outcome: Option<Outcome>,
    /// jsonl: a JSON object a line; csv: a table with a head (RFC 4180)
    #[arg(long, value_enum, default_value_t = Format::Jsonl)]
    pub(crate) format: Format,
    /// Where to: a new file that only you can read, or - for standard output
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) out: PathBuf,
    /// Export a trail that was tampered with, its damaged records included
    #[arg(long)]
    pub(crate) danger_unverified: bool,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    Jsonl,
    Csv,
}

fn outcome(text: &str) -> Result<Outcome, String> {
    use Outcome::{Accepted, Challenged, Changed, Gap, Refused};
    let mut outcomes = [Accepted, Challenged, Refused, Changed, Gap].into_iter();
    let found = outcomes.find(|outcome| outcome.as_str() == text);
    found.ok_or_else(|| "one of accepted, challenged, refused, changed, gap".to_owned())
}

/// A time as records carry it, so that text compares as time does.
fn moment(text: &str) -> Result<String, String> {
    let wrong = |_| "a time is 2026-11-27 (UTC) or 2026-11-27T08:00:00Z".to_owned();
    let date = Date::parse(text, format_description!("[year]-[month]-[day]"));
    let time = match date {
        Ok(date) => date.midnight().assume_utc(),
        Err(_) => OffsetDateTime::parse(text, &Rfc3339).map_err(wrong)?,
    };
    let form = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:3]Z");
    time.to_offset(UtcOffset::UTC).format(form).map_err(|_| "that time is out of range".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn times_are_taken_in_any_zone_and_compare_as_text() {
        assert_eq!(moment("2026-11-27").unwrap(), "2026-11-27T00:00:00.000Z");
        assert_eq!(moment("2026-11-27T01:30:00+02:00").unwrap(), "2026-11-26T23:30:00.000Z");
        assert_eq!(moment("2026-11-27T01:30:00.1239Z").unwrap(), "2026-11-27T01:30:00.123Z");
        for text in ["", "yesterday", "2026-13-01", "2026-11-27T08:00", "=1+1"] {
            assert!(moment(text).is_err(), "{text}");
        }
    }
}
