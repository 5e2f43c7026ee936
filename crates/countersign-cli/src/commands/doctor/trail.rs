//! The trail: whether it can be written, and read, whether somebody touched it, and how much room it has.

use std::fs::OpenOptions;
use std::path::Path;

use countersign::audit::{self, Verify};
use rustix::fs::statvfs;

use super::finding::{Findings, path};
use crate::commands::audit::examine;
use crate::config::Config;
use crate::home::Home;

/// A longer trail takes more than a few seconds to verify.
const LONG: u64 = 256 << 20;
/// With less room than this on the disk it is time to do something.
const LITTLE: u64 = 256 << 20;
/// With less than this nothing is accepted any more, soon.
const HARDLY_ANY: u64 = 4 << 20;

pub(super) fn check(home: &Home, findings: &mut Findings) {
    let directory = home.audit_directory();
    if !directory.exists() {
        return findings.ok("trail", "nothing has been written to it yet");
    }
    for file in std::fs::read_dir(&directory).into_iter().flatten().flatten() {
        let file = file.path();
        if file.extension().is_none_or(|extension| extension != "jsonl") {
            continue;
        }
        // Nothing is written; a directory, or a file of somebody else, is found out so.
        if let Err(error) = OpenOptions::new().append(true).open(&file) {
            let what = format!("{} cannot be written ({error}): nothing is accepted", file.display());
            let mend = format!(
                "chown --reference={1} {0} && chmod 600 {0}   (leave it where it is: its records are part of the chain)",
                path(&file),
                path(&directory)
            );
            findings.fail("trail", what, mend);
        }
    }
    match audit::tail(&directory, 1) {
        Ok((_, 0)) => findings.ok("trail", format!("{} can be read", directory.display())),
        Ok((_, lines)) => findings.warn(
            "trail",
            format!("{lines} lines of the trail cannot be read; a crash leaves half a line"),
            format!("grep -nv '}}$' {}/*.jsonl", path(&directory)),
        ),
        Err(error) => {
            let what = format!("{} cannot be read: {error}", directory.display());
            findings.fail("trail", what, format!("chmod 700 {}", path(&directory)));
        }
    }
}

/// Whether its chains are whole, and their ends are where the store says.
pub(super) fn chain(home: &Home, findings: &mut Findings) {
    let directory = home.audit_directory();
    let Ok(store) = home.local_store() else { return };
    let files = std::fs::read_dir(&directory).into_iter().flatten().flatten();
    let bytes: u64 = files
        .filter(|file| file.path().extension().is_some_and(|extension| extension == "jsonl"))
        .filter_map(|file| file.metadata().ok().map(|metadata| metadata.len()))
        .sum();
    let command = format!("countersign --home {} audit verify", path(home.path()));
    if bytes > LONG {
        let what = format!("its {} MiB were not verified here, for that takes a while", bytes >> 20);
        return findings.warn("trail-chain", what, command);
    }
    match examine(home, &store, &Verify { most: 3, ..Verify::default() }) {
        Ok(report) if report.is_whole() => {
            let records: u64 = report.writers.iter().map(|writer| writer.records).sum();
            findings.ok("trail-chain", format!("{records} records, none changed, removed or cut off"));
        }
        Ok(report) => {
            let faults: Vec<&str> = report.faults.iter().map(|fault| fault.text.as_str()).collect();
            let more = if report.more_faults > 0 {
                format!("; and {} more", report.more_faults)
            } else {
                String::new()
            };
            let what =
                format!("somebody touched the trail, or the disk lost it: {}{more}", faults.join("; "));
            findings.fail(
                "trail-chain",
                what,
                format!("{command}   (names all of it; what is lost stays lost)"),
            );
        }
        Err(failure) => findings.fail("trail-chain", failure.message(), command),
    }
}

/// With fewer lines a day nearly every attempt that is not accepted is only counted.
const FEW_LINES: u64 = 1_440;

/// Whether what is to be kept, and for how long, leaves room for attempts that are not accepted.
pub(super) fn budget(config: &Config, findings: &mut Findings) {
    let settings = config.audit.settings(true);
    let (lines, days) = (settings.spare_lines(), settings.keep.as_secs() / (24 * 60 * 60));
    let what = format!(
        "{lines} lines a day for attempts that are not accepted, so that {days} days fit into {} MiB; beyond that they are counted",
        settings.keep_bytes >> 20
    );
    if lines < FEW_LINES {
        // The same for as long, or as much for a shorter time.
        let mib = (settings.keep_bytes >> 20).saturating_mul(FEW_LINES) / lines.max(1) + 1;
        let mend = format!("set `keep_mib = {mib}` under [audit] in the configuration, or fewer `keep_days`");
        findings.warn("trail-budget", what, mend);
    } else {
        findings.ok("trail-budget", what);
    }
}

/// How much room there is for it.
pub(super) fn room(home: &Home, config: &Config, findings: &mut Findings) {
    let directory = home.audit_directory();
    let on: &Path = if directory.exists() { &directory } else { home.path() };
    let Ok(disk) = statvfs(on) else { return };
    let free = disk.f_bavail.saturating_mul(disk.f_frsize);
    let what = format!("{} MiB are free on the disk that the trail is on", free >> 20);
    let mend =
        format!("df -h {}   (make room there, or lower `keep_mib` and `keep_days` under [audit])", path(on));
    let (reserve, wanted) = (directory.join("reserve"), config.audit.settings(true).reserve_bytes);
    // `serve` makes it when it starts, and whenever there is twice as much room.
    let has_served = directory.join("serve.jsonl").exists();
    if free < HARDLY_ANY {
        findings.fail("trail-room", format!("{what}: soon nothing is accepted any more"), mend);
    } else if wanted > 0 && has_served && !reserve.exists() {
        let what = format!(
            "{what}, and the {} MiB that are kept for it are used up or were never there",
            wanted >> 20
        );
        findings.warn("trail-room", what, mend);
    } else if free < LITTLE {
        findings.warn("trail-room", what, mend);
    } else {
        findings.ok("trail-room", what);
    }
}
