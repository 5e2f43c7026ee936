use std::fmt::Write as _;

use countersign::StoreHeads;
use countersign::audit::{AuditKey, Report, Verify, verify};
use countersign::protocol::wire::printable;
use countersign::store::sqlite::SqliteStore;
use serde_json::Value;

use super::args::VerifyArgs;
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show::{self, Paint};

pub(crate) fn run(home: &Home, args: &VerifyArgs) -> Result<(), Failure> {
    let store = home.local_store()?;
    let report = examine(home, &store, &Verify { expect: args.expect.clone(), ..Verify::default() })?;
    if args.json {
        let mut json = serde_json::to_value(&report)?;
        if let Value::Object(members) = &mut json {
            members.insert("whole".to_owned(), report.is_whole().into());
        }
        show::json(&json)?;
    } else {
        show::out(&text(&report, &Paint::stdout())?)?;
    }
    match report.faults.len() as u64 + report.more_faults {
        0 => Ok(()),
        1 => Err(Failure::new("the trail is not whole: 1 fault")),
        count => Err(Failure::new(format!("the trail is not whole: {count} faults"))),
    }
}

/// Looks at the trail of this home.
pub(crate) fn examine(home: &Home, store: &SqliteStore, options: &Verify) -> Result<Report, Failure> {
    let directory = home.audit_directory();
    let heads = StoreHeads::of(store)?;
    verify(&directory, &AuditKey::new(store.audit_key()), &heads, options)
        .context(|| directory.display().to_string())
}

fn text(report: &Report, paint: &Paint) -> Result<String, std::fmt::Error> {
    let mut text = String::new();
    if report.writers.is_empty() {
        text.push_str("nothing was ever written to this trail\n");
    }
    for writer in &report.writers {
        let word = if writer.whole { paint.good("whole") } else { paint.bad("BAD  ") };
        let range = match (writer.records, writer.first, writer.last) {
            (0, _, _) => "no records".to_owned(),
            (count, Some(first), last) => format!("{count} records, {first} to {last}"),
            (count, None, last) => format!("{count} records up to {last}"),
        };
        writeln!(text, "{word}  {:<8} {range}, {} files", printable(&writer.writer, 40), writer.files)?;
    }
    for fault in &report.faults {
        writeln!(text, "{}  {}", paint.bad("fault"), show::printable_lines(&fault.text))?;
    }
    if report.more_faults > 0 {
        writeln!(text, "{}  and {} more", paint.bad("fault"), report.more_faults)?;
    }
    for notice in &report.notices {
        writeln!(text, "{}   {}", paint.title("note"), show::printable_lines(&notice.text))?;
    }
    if report.more_notices > 0 {
        writeln!(text, "{}   and {} more", paint.title("note"), report.more_notices)?;
    }
    for anchor in report.writers.iter().filter_map(|writer| writer.anchor.as_ref()) {
        writeln!(text, "last   {}", show::printable_lines(&anchor.to_string()))?;
    }
    Ok(text)
}
