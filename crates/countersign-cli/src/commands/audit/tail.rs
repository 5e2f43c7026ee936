use std::io::IsTerminal as _;
use std::time::Duration;

use countersign::audit::{Direction, Entry, Follow, tail};
use countersign::protocol::wire::printable;
use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::args::TailArgs;
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show;

/// How often `--follow` looks for new records.
const LOOK: Duration = Duration::from_millis(200);

pub(crate) fn run(home: &Home, args: &TailArgs) -> Result<(), Failure> {
    home.config()?;
    let directory = home.audit_directory();
    let named = || directory.display().to_string();
    // Before what is there is read, so that nothing is between the two; it may be shown twice so.
    let follow = args.follow.then(|| Follow::from_now(&directory)).transpose().context(named)?;
    let (entries, unreadable) = tail(&directory, args.lines).context(named)?;
    if unreadable > 0 {
        show::err(&format!(
            "countersign: {unreadable} lines of the trail cannot be read (a crash leaves half a line)\n"
        ));
    }
    show::out(&text(args, &entries, true)?)?;
    let Some(mut follow) = follow else { return Ok(()) };
    let seen: Vec<Entry> = entries;
    while is_read(LOOK)? {
        let mut entries = follow.next(&directory).context(named)?;
        entries.retain(|entry| !seen.contains(entry));
        if !entries.is_empty() {
            entries.sort_by(|a, b| a.time.cmp(&b.time));
            show::out(&text(args, &entries, false)?)?;
        }
    }
    Ok(())
}

/// Waits so long, or until nobody reads standard output any more: `false` then.
fn is_read(time: Duration) -> Result<bool, Failure> {
    let stdout = std::io::stdout();
    let mut fds = [PollFd::new(&stdout, PollFlags::empty())];
    let timeout = Timespec { tv_sec: 0, tv_nsec: i64::from(time.subsec_nanos()) };
    match poll(&mut fds, Some(&timeout)) {
        Ok(_) | Err(rustix::io::Errno::INTR) => {}
        Err(error) => return Err(std::io::Error::from(error).into()),
    }
    let gone = PollFlags::ERR | PollFlags::HUP | PollFlags::NVAL;
    Ok(!fds.iter().any(|fd| fd.revents().intersects(gone)))
}

fn text(args: &TailArgs, entries: &[Entry], head: bool) -> Result<String, Failure> {
    if args.json || !std::io::stdout().is_terminal() {
        let mut text = String::new();
        for entry in entries {
            text.push_str(&show::escaped(&serde_json::to_string(entry)?));
            text.push('\n');
        }
        return Ok(text);
    }
    let table = table(entries);
    if head {
        Ok(table)
    } else {
        Ok(table.split_once('\n').map_or(String::new(), |(_, rows)| rows.to_owned()))
    }
}

/// The trail as a table for people.
fn table(entries: &[Entry]) -> String {
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
