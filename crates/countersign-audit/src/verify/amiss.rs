//! What is not as it should be, until it is clear what it is: records that did not come, lines that are nobody's,
//! records that stand where they should not.

use super::report::{FaultKind, records};
use super::walk::Walk;
use crate::line;
use crate::lines::Line;

/// Ranges of missing records, and lines that are no record, that are kept in mind until it is clear what they are.
pub(super) const IN_MIND: usize = 1024;

/// A file and a line in it.
#[derive(Clone, Debug)]
pub(super) struct At {
    pub(super) index: usize,
    pub(super) file: String,
    pub(super) line: u64,
}

/// Records that were not there when they should have come. They may stand further on.
pub(super) struct Gap {
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) kind: FaultKind,
    pub(super) at: At,
    pub(super) text: String,
}

/// A line that is not its writer's.
pub(super) struct Bad {
    pub(super) at: At,
    pub(super) claim: Option<u64>,
    pub(super) what: What,
}

pub(super) enum What {
    Unreadable,
    /// Version 1, which has no chain.
    Unchained,
    NotItsMac,
    Of(String),
}

/// Records one after the other that stand where they should not.
pub(super) struct Run {
    pub(super) kind: FaultKind,
    pub(super) from: u64,
    pub(super) to: u64,
    pub(super) after: u64,
    pub(super) at: At,
}

impl Walk<'_> {
    /// A record behind one with a greater number: it was missing before, or it is there twice.
    pub(super) fn out_of_order(&mut self, seq: u64, after: u64) {
        let kind = if self.fill(seq) { FaultKind::Moved } else { FaultKind::Repeated };
        match &mut self.run {
            Some(run) if run.kind == kind && run.to + 1 == seq => run.to = seq,
            _ => {
                self.end_run();
                self.run = Some(Run { kind, from: seq, to: seq, after, at: self.at.clone() });
            }
        }
    }

    /// Takes a record out of those that are missing.
    fn fill(&mut self, seq: u64) -> bool {
        let Some(index) = self.gaps.iter().position(|gap| (gap.from..=gap.to).contains(&seq)) else {
            return false;
        };
        let gap = self.gaps.remove(index);
        let parts = [(gap.from, seq - 1), (seq + 1, gap.to)];
        for (from, to) in parts.into_iter().filter(|(from, to)| from <= to) {
            let text = format!("{} missing", are(from, to));
            self.gaps.push(Gap { from, to, kind: gap.kind, at: gap.at.clone(), text });
        }
        true
    }

    pub(super) fn end_run(&mut self) {
        let Some(Run { kind, from, to, after, at }) = self.run.take() else { return };
        let place = format!("({}, line {})", at.file, at.line);
        let what = records(from, to);
        let text = match kind {
            FaultKind::Moved if from == to => format!("{what} stands behind record {after} {place}: moved"),
            FaultKind::Moved => format!("{what} stand behind record {after} {place}: moved"),
            _ if from == to => format!("{what} stands once more behind record {after} {place}"),
            _ => format!("{what} stand once more behind record {after} {place}"),
        };
        self.fault(kind, Some(&at), Some((from, to)), &text);
    }

    /// Says what the lines are that were nobody's, now that it is known how many records are missing in their place.
    pub(super) fn resolve(&mut self, gap: Option<Gap>) {
        let bad = std::mem::take(&mut self.bad);
        let Some(gap) = gap else {
            bad.iter().for_each(|bad| self.inserted(bad));
            return;
        };
        let one_each = bad.len() as u64 == gap.to - gap.from + 1;
        let mut changed: Vec<u64> = Vec::new();
        for (seq, bad) in (gap.from..).zip(bad) {
            let claim =
                bad.claim.filter(|claim| (gap.from..=gap.to).contains(claim) && !changed.contains(claim));
            match if one_each { Some(seq) } else { claim } {
                Some(seq) => {
                    changed.push(seq);
                    let text = format!(
                        "record {seq} was changed ({}, line {}): {}",
                        bad.at.file,
                        bad.at.line,
                        bad.what.text()
                    );
                    self.fault(FaultKind::Changed, Some(&bad.at), Some((seq, seq)), &text);
                }
                None => self.inserted(&bad),
            }
        }
        changed.sort_unstable();
        if self.gaps.len() >= IN_MIND {
            self.tell_gaps();
        }
        self.gaps.push(gap);
        for seq in changed {
            self.fill(seq);
        }
    }

    fn inserted(&mut self, bad: &Bad) {
        let behind = match self.position {
            Some(position) => format!("behind record {}", position.seq),
            None => "before the first record".to_owned(),
        };
        let text = format!("{}, line {}, {behind}: {}", bad.at.file, bad.at.line, bad.what.text());
        let kind = if matches!(bad.what, What::Of(_)) { FaultKind::Foreign } else { FaultKind::Inserted };
        self.fault(kind, Some(&bad.at), None, &text);
    }

    pub(super) fn tell_gaps(&mut self) {
        for Gap { from, to, kind, at, text } in std::mem::take(&mut self.gaps) {
            let at = Some(&at).filter(|at| !at.file.is_empty());
            self.fault(kind, at, Some((from, to)), &text);
        }
    }
}

impl What {
    fn text(&self) -> String {
        match self {
            Self::Unreadable => "the line is no record at all".to_owned(),
            Self::Unchained => "the line is of version 1 and has no chain".to_owned(),
            Self::NotItsMac => "the line does not go with its MAC".to_owned(),
            Self::Of(writer) => format!("the line belongs to the chain of {writer}"),
        }
    }
}

pub(super) fn judge(line: &Line<'_>) -> What {
    match line::claimed(line.text) {
        Some((version, _)) if version < line::VERSION => What::Unchained,
        Some(_) => What::NotItsMac,
        None => What::Unreadable,
    }
}

/// `record 7 is`, or `the records 7 to 9 are`.
pub(super) fn are(from: u64, to: u64) -> String {
    format!("{} {}", records(from, to), if from == to { "is" } else { "are" })
}
