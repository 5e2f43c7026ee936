use std::io::IsTerminal as _;

use countersign::audit::{Direction, Entry, tail};
use countersign::protocol::wire::printable;

use crate::args::{AuditCommand, AuditTailArgs};
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show;

pub(crate) fn run(home: &Home, command: &AuditCommand) -> Result<(), Failure> {
    let AuditCommand::Tail(args) = command;
    home.config()?;
    let directory = home.audit_directory();
    let (entries, unreadable) = tail(&directory, args.lines).context(|| directory.display().to_string())?;
    if unreadable > 0 {
        eprintln!("countersign: {unreadable} lines of the trail cannot be read (a crash leaves half a line)");
    }
    show::out(&text(args, &entries)?)
}

fn text(args: &AuditTailArgs, entries: &[Entry]) -> Result<String, Failure> {
    if args.json || !std::io::stdout().is_terminal() {
        let mut text = String::new();
        for entry in entries {
            text.push_str(&show::escaped(&serde_json::to_string(entry)?));
            text.push('\n');
        }
        return Ok(text);
    }
    Ok(table(entries))
}

/// The trail as a table for people.
pub(crate) fn table(entries: &[Entry]) -> String {
    let rows: Vec<_> = entries
        .iter()
        .map(|entry| {
            let record = &entry.record;
            let or_dash = |text: Option<String>| printable(&text.unwrap_or_else(|| "-".to_owned()), 80);
            let direction = match record.direction {
                Direction::Inbound => "in",
                Direction::Outbound => "out",
                Direction::Local => "local",
            };
            vec![
                printable(&entry.time, 30),
                direction.to_owned(),
                or_dash(record.credential.clone().or_else(|| record.service.clone())),
                or_dash(record.profile.map(|profile| profile.to_string())),
                printable(&record.step, 20),
                or_dash(record.source.map(|source| source.to_string())),
                record.outcome.as_str().to_owned(),
                printable(&record.reason, 40),
                printable(&record.request_id, 32),
            ]
        })
        .collect();
    let head = ["TIME", "DIR", "CREDENTIAL", "PROFILE", "STEP", "SOURCE", "OUTCOME", "REASON", "REQUEST ID"];
    show::table(&head, &rows)
}
