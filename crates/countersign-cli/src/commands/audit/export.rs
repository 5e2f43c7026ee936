use std::io::{self, BufWriter, ErrorKind, Write};
use std::path::Path;

use countersign::audit::{AuditKey, Records, Verify, Written};

use super::args::{ExportArgs, Format};
use super::examine;
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show;

/// The columns of a table, in their order: new ones come at the end.
const COLUMNS: [&str; 20] = [
    "writer",
    "seq",
    "time",
    "direction",
    "service",
    "credential",
    "profile",
    "step",
    "source",
    "outcome",
    "reason",
    "detail",
    "requestId",
    "count",
    "firstTime",
    "lastTime",
    "sourceNetwork",
    "v",
    "prev",
    "mac",
];

pub(crate) fn run(home: &Home, args: &ExportArgs) -> Result<(), Failure> {
    let key = if args.danger_unverified {
        home.config()?;
        show::err("countersign: this trail is not verified: do not take it for evidence\n");
        None
    } else {
        let store = home.local_store()?;
        let report = examine(home, &store, &Verify::default())?;
        if let Some(fault) = report.faults.first() {
            return Err(Failure::new(format!(
                "the trail is not whole, so nothing is exported ({fault}): `countersign audit verify` says more, and --danger-unverified exports it as it is"
            )));
        }
        Some(AuditKey::new(store.audit_key()))
    };
    let directory = home.audit_directory();
    let mut records = Records::open(&directory, key.as_ref()).context(|| directory.display().to_string())?;
    let count = if args.out == Path::new("-") {
        match write(&mut records, args, io::stdout().lock()) {
            // A reader that went away (`| head`) is no error.
            Err(error) if error.kind() == ErrorKind::BrokenPipe => return Ok(()),
            written => written.context(|| directory.display().to_string())?,
        }
    } else {
        to_file(&mut records, args)?
    };
    if records.unreadable() > 0 {
        show::err(&format!(
            "countersign: {} lines of the trail are no records and were left out\n",
            records.unreadable()
        ));
    }
    if args.out != Path::new("-") {
        show::err(&format!("countersign: {count} records are in {}\n", args.out.display()));
    }
    Ok(())
}

/// Whole, for its owner alone, or not there.
fn to_file(records: &mut Records, args: &ExportArgs) -> Result<u64, Failure> {
    let named = || args.out.display().to_string();
    let directory = args.out.parent().filter(|path| !path.as_os_str().is_empty()).unwrap_or(Path::new("."));
    let exists = || io::Error::new(ErrorKind::AlreadyExists, "it is there already; choose another name");
    if args.out.symlink_metadata().is_ok() {
        return Err(exists()).context(named);
    }
    // Mode 0600 from the beginning.
    let file = tempfile::Builder::new().suffix(".unfinished").tempfile_in(directory).context(named)?;
    let count = write(records, args, &file).context(named)?;
    file.as_file().sync_all().context(named)?;
    file.persist_noclobber(&args.out).map_err(|error| error.error).context(named)?;
    Ok(count)
}

/// Writes what was asked for; how many records.
fn write(records: &mut Records, args: &ExportArgs, to: impl Write) -> io::Result<u64> {
    let mut to = BufWriter::new(to);
    if args.format == Format::Csv {
        writeln!(to, "{}", COLUMNS.join(","))?;
    }
    let mut count = 0;
    for record in records {
        let record = record?;
        if !is_wanted(args, &record) {
            continue;
        }
        count += 1;
        let line = match args.format {
            Format::Jsonl => show::escaped(&serde_json::to_string(&record)?),
            Format::Csv => row(&record)?,
        };
        writeln!(to, "{line}")?;
    }
    to.flush()?;
    Ok(count)
}

fn is_wanted(args: &ExportArgs, record: &Written) -> bool {
    let entry = &record.entry;
    args.since.as_ref().is_none_or(|since| entry.time >= *since)
        && args.until.as_ref().is_none_or(|until| entry.time < *until)
        && args.peer.as_ref().is_none_or(|peer| entry.record.service.as_deref() == Some(peer.as_str()))
        && args.outcome.is_none_or(|outcome| entry.record.outcome == outcome)
}

fn row(record: &Written) -> io::Result<String> {
    let json = serde_json::to_value(record)?;
    let cells = COLUMNS.iter().map(|column| match json.get(column) {
        None | Some(serde_json::Value::Null) => String::new(),
        Some(serde_json::Value::String(text)) => cell(text),
        Some(value) => cell(&value.to_string()),
    });
    Ok(cells.collect::<Vec<_>>().join(","))
}

/// A cell of a table. Quoted where it has to be (RFC 4180); what a spreadsheet would take for a formula gets an
/// apostrophe in front; what a terminal would obey is shown as `?`.
fn cell(text: &str) -> String {
    let text = show::printable_lines(text);
    let formula = text.starts_with(['=', '+', '-', '@', '\t']);
    let guarded = if formula { format!("'{text}") } else { text };
    if guarded.contains([',', '"', '\n', '\t']) || guarded.starts_with(' ') {
        format!("\"{}\"", guarded.replace('"', "\"\""))
    } else {
        guarded
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn cells_are_quoted_and_no_spreadsheet_takes_one_for_a_formula() {
        for (text, written) in [
            ("plain", "plain"),
            ("a,b", "\"a,b\""),
            ("say \"no\"", "\"say \"\"no\"\"\""),
            ("two\nlines", "\"two\nlines\""),
            ("=1+1", "'=1+1"),
            ("+1", "'+1"),
            ("-1", "'-1"),
            ("@SUM(A1)", "'@SUM(A1)"),
            ("\t=1", "\"'\t=1\""),
            ("\r=1", "?=1"),
            ("=HYPERLINK(\"http://x\",1)", "\"'=HYPERLINK(\"\"http://x\"\",1)\""),
            ("", ""),
        ] {
            assert_eq!(cell(text), written, "{text:?}");
        }
    }
}
