//! The trail: whether it can be written, and read.

use std::fs::OpenOptions;

use countersign::audit;

use super::finding::{Findings, path};
use crate::home::Home;

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
            findings.fail("trail", what, format!("mv {0} {0}.aside   (a new one is begun)", path(&file)));
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
