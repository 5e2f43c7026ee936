//! The trail under attack: it is verified, and then copies of it are tampered with, each time in another way.

use std::path::Path;

use countersign::StoreHeads;
use countersign::audit::{Anchor, AuditKey, Report as Found, Verify, verify};

use super::report::Report;
use super::stage::{Service, Stage};
use crate::failure::Failure;

/// Does something to the lines of a trail.
type Tampering = fn(&mut Vec<String>);

pub(super) fn chapter(stage: &Stage, report: &mut Report) -> Result<(), Failure> {
    report.chapter(
        "Somebody touches the trail",
        "Each record carries a MAC and that of the one before; the store knows the last. On copies:",
    )?;
    for service in [&stage.orders, &stage.billing, &stage.reports] {
        let found = look(service, &service.home.audit_directory(), Vec::new())?;
        let writers = found.writers.len();
        let got = if found.is_whole() && writers > 0 { "whole".to_owned() } else { told(&found) };
        let title = format!("{}'s trail is verified, with {writers} chains", service.name);
        report.step("trail-whole", &title, "whole", &got)?;
    }
    let orders = &stage.orders;
    let tamperings: [(&str, &str, &str, Tampering); 4] = [
        ("trail-changed", "a byte of record 3 is changed", "record 3 was changed", |lines| {
            if let Some(line) = lines.get_mut(2) {
                // The last digit of its time.
                let mut bytes = std::mem::take(line).into_bytes();
                if let Some(digit) =
                    bytes.iter().position(|byte| *byte == b'Z').and_then(|at| bytes.get_mut(at - 1))
                {
                    *digit ^= 1;
                }
                *line = String::from_utf8_lossy(&bytes).into_owned();
            }
        }),
        ("trail-removed", "record 3 is removed", "record 3 is removed", |lines| {
            lines.remove(2);
        }),
        ("trail-moved", "the records 3 and 4 are swapped", "record 3 stands behind record 4", |lines| {
            lines.swap(2, 3);
        }),
        ("trail-cut-off", "the last record is cut off", "cut off at the end", |lines| {
            lines.pop();
        }),
    ];
    for (step, title, expected, tamper) in tamperings {
        let found = tampered(orders, tamper)?;
        let text = told(&found);
        let got = if text.contains(expected) && found.faults.len() == 1 { expected } else { &text };
        report.step(step, title, expected, got)?;
    }
    back_in_time(orders, report)
}

/// Old files and an old store, put back together, verify. A number noted elsewhere does not go back with them.
fn back_in_time(service: &Service, report: &mut Report) -> Result<(), Failure> {
    let found = look(service, &service.home.audit_directory(), Vec::new())?;
    let noted: Vec<Anchor> = found.writers.into_iter().filter_map(|writer| writer.anchor).collect();
    let whole = look(service, &service.home.audit_directory(), noted.clone())?.is_whole();
    let other: Vec<Anchor> = noted
        .iter()
        .map(|anchor| {
            let text = anchor.to_string();
            text.replacen(&format!(":{}:", anchor.seq), &format!(":{}:", anchor.seq + 1), 1).parse()
        })
        .collect::<Result<_, _>>()?;
    let missing = !look(service, &service.home.audit_directory(), other)?.is_whole();
    report.step(
        "trail-anchor",
        "a record noted elsewhere is compared: one that is there, one that is not",
        "found, missing",
        &format!(
            "{}, {}",
            if whole { "found" } else { "missing" },
            if missing { "missing" } else { "found" }
        ),
    )
}

/// What is found in a copy of this trail in which the longest chain was tampered with.
fn tampered(service: &Service, tamper: Tampering) -> Result<Found, Failure> {
    let copy = tempfile::Builder::new().prefix("countersign-demo-trail-").tempdir()?;
    for file in std::fs::read_dir(service.home.audit_directory())? {
        let file = file?;
        if file.path().extension().is_some_and(|extension| extension == "jsonl") {
            std::fs::copy(file.path(), copy.path().join(file.file_name()))?;
        }
    }
    let path = copy.path().join("serve.jsonl");
    let text = std::fs::read_to_string(&path)?;
    let mut lines: Vec<String> = text.split_inclusive('\n').map(str::to_owned).collect();
    if lines.len() < 5 {
        return Err(Failure::new("the trail is too short for this chapter"));
    }
    tamper(&mut lines);
    std::fs::write(&path, lines.concat())?;
    look(service, copy.path(), Vec::new())
}

fn look(service: &Service, directory: &Path, expect: Vec<Anchor>) -> Result<Found, Failure> {
    let heads = StoreHeads::of(&service.store)?;
    let key = AuditKey::new(service.store.audit_key());
    Ok(verify(directory, &key, &heads, &Verify { expect, ..Verify::default() })?)
}

fn told(found: &Found) -> String {
    let faults: Vec<&str> = found.faults.iter().map(|fault| fault.text.as_str()).collect();
    if faults.is_empty() { "whole".to_owned() } else { faults.join("; ") }
}
