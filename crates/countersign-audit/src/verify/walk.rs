//! Along one chain, line by line. After something that is wrong it goes on with the next line that is its writer's.

use std::collections::BTreeMap;

use super::amiss::{At, Bad, Gap, IN_MIND, Run, What, are, judge};
use super::report::{Anchor, Collected, Fault, FaultKind, Notice, NoticeKind, records};
use crate::head::Ends;
use crate::key::WriterKey;
use crate::line::{self, Link, Sealed};
use crate::lines::Line;
use crate::retain::{REMOVED, REMOVED_DAMAGED, begins_after};
use crate::{Entry, Outcome};

pub(super) struct Walk<'a> {
    writer: &'a str,
    keys: &'a BTreeMap<String, WriterKey>,
    collected: &'a mut Collected,
    head: Option<Ends>,
    expect: Vec<(&'a Anchor, bool)>,
    /// Where the chain has to begin, as long as no record has come.
    start: Option<Link>,
    /// The record with the greatest number so far.
    pub(super) position: Option<Link>,
    /// In which file it stands.
    position_file: usize,
    pub(super) at: At,
    /// The number in the file's name, until its first record has come.
    named: Option<u64>,
    pub(super) gaps: Vec<Gap>,
    pub(super) bad: Vec<Bad>,
    pub(super) run: Option<Run>,
    records: u64,
    /// What the chain says of records that retention has removed.
    removed: Removed,
}

#[derive(Default)]
struct Removed {
    /// What the store said, before any file was opened, of where the chain begins.
    stored: u64,
    /// What the chain's last record of that kind says, and that record's number, file and time.
    said: Option<(u64, u64, String, String)>,
    /// How many of that kind there are.
    times: u64,
    /// Whether the store's word was lost once, and its writer has taken what was there for the beginning.
    guessed: bool,
}

impl<'a> Walk<'a> {
    pub(super) fn new(
        writer: &'a str,
        keys: &'a BTreeMap<String, WriterKey>,
        head: Option<Ends>,
        expect: &[&'a Anchor],
        collected: &'a mut Collected,
    ) -> Self {
        Self {
            writer,
            keys,
            collected,
            head,
            expect: expect.iter().map(|anchor| (*anchor, false)).collect(),
            start: head.map(|head| head.start),
            position: None,
            position_file: 0,
            at: At { index: 0, file: String::new(), line: 0 },
            named: None,
            gaps: Vec::new(),
            bad: Vec::new(),
            run: None,
            records: 0,
            removed: Removed::default(),
        }
    }

    /// What the store said of the chain's beginning before any file was opened.
    pub(super) fn stored_start(&mut self, seq: u64) {
        self.removed.stored = seq;
    }

    pub(super) fn fault(&mut self, kind: FaultKind, at: Option<&At>, range: Option<(u64, u64)>, text: &str) {
        let fault = Fault {
            writer: self.writer.to_owned(),
            kind,
            from: range.map(|(from, _)| from),
            to: range.map(|(_, to)| to),
            file: at.map(|at| at.file.clone()),
            line: at.map(|at| at.line).filter(|line| *line > 0),
            text: format!("{}: {text}", self.writer),
        };
        self.collected.fault(at.map_or((0, 0), |at| (at.index, at.line)), fault);
    }

    fn notice(&mut self, kind: NoticeKind, seq: Option<u64>, file: &str, text: &str) {
        let text = format!("{}: {text}", self.writer);
        let file = Some(file.to_owned());
        self.collected.notice(Notice { writer: self.writer.to_owned(), kind, seq, file, text });
    }

    pub(super) fn head_lost(&mut self) {
        let text = "the store knows nothing of this chain: nobody can tell whether records are missing at its beginning or end";
        self.fault(FaultKind::HeadLost, None, None, text);
    }

    pub(super) fn head_changed(&mut self) {
        let text = "what the store says of where this chain begins and ends was not written by its writer: nobody can tell whether records are missing there";
        self.fault(FaultKind::HeadChanged, None, None, text);
    }

    pub(super) fn unreadable_file(&mut self, index: usize, name: &str, error: &std::io::Error) {
        let at = At { index, file: name.to_owned(), line: 0 };
        self.fault(FaultKind::FileUnreadable, Some(&at), None, &format!("{name} cannot be read: {error}"));
    }

    pub(super) fn unknown_file(&mut self, index: usize, name: &str) {
        let at = At { index, file: name.to_owned(), line: 0 };
        let text = format!("{name} is not a name that a writer gives; what is in it was not looked at");
        self.fault(FaultKind::FileUnknown, Some(&at), None, &text);
    }

    pub(super) fn unchained(&mut self, name: &str) {
        let text = format!("{name} holds lines of version 1, which have no chain: nobody can check them");
        self.notice(NoticeKind::Unchained, None, name, &text);
    }

    pub(super) fn aside(&mut self, name: &str) {
        let text = format!("{name} holds what its writer found behind the last record and had not written");
        self.notice(NoticeKind::Aside, None, name, &text);
    }

    /// Retention has removed what was to come next: the chain begins here now.
    pub(super) fn begin_again(&mut self, start: Link) {
        if self.position.or(self.start).is_some_and(|known| known.seq < start.seq) {
            self.end_run();
            self.resolve(None);
            (self.start, self.position) = (Some(start), None);
            // With it may have gone what said how far it had come before.
            self.removed.stored = 0;
        }
    }

    pub(super) fn enter(&mut self, index: usize, name: &str, named: Option<u64>) {
        self.at = At { index, file: name.to_owned(), line: 0 };
        self.named = named;
    }

    pub(super) fn leave(&mut self) {
        self.end_run();
    }

    /// `is_last`: of the file in use, whose last line a crash may have cut short.
    pub(super) fn line(&mut self, line: &Line<'_>, is_last: bool) {
        self.at.line = line.number;
        let keys = self.keys;
        let Some(key) = keys.get(self.writer) else { return };
        if let Some(sealed) = line::read(key, line.text) {
            self.records += 1;
            self.check_name(sealed.link.seq);
            self.record(sealed);
            self.check_note(line.text, sealed.link.seq);
        } else if is_last && !line.ended {
            let text = "half a line stands at the end: it is being written at this moment, or a crash left it; nobody was told that its record was written";
            let file = self.at.file.clone();
            self.notice(NoticeKind::HalfLine, None, &file, text);
        } else {
            let what = keys
                .iter()
                .find(|(name, key)| *name != self.writer && line::read(key, line.text).is_some())
                .map_or_else(|| judge(line), |(name, _)| What::Of(name.clone()));
            let claim = line::claimed_seq(line.text);
            if self.bad.len() == IN_MIND {
                self.resolve(None);
            }
            self.bad.push(Bad { at: self.at.clone(), claim, what });
        }
    }

    fn check_name(&mut self, seq: u64) {
        // With a damaged first line a file has a later number in its name than its first record.
        let wrong = self.named.take().filter(|named| *named < seq && self.bad.is_empty() || *named > seq);
        if let Some(named) = wrong
            && self.position.or(self.start).is_none_or(|position| position.seq + 1 != named)
        {
            let at = At { line: 0, ..self.at.clone() };
            let text = format!(
                "{} begins with record {seq}: somebody renamed it, or removed its first records",
                at.file
            );
            self.fault(FaultKind::FileRenamed, Some(&at), Some((seq, seq)), &text);
        }
    }

    /// A line that its writer wrote.
    fn record(&mut self, Sealed { link, prev }: Sealed) {
        self.check_marks(link);
        let before = Link { seq: link.seq.saturating_sub(1), mac: prev };
        let Some(position) = self.position else { return self.first(link, before) };
        if link.seq <= position.seq {
            return self.out_of_order(link.seq, position.seq);
        }
        self.end_run();
        if link.seq == position.seq + 1 {
            self.resolve(None);
            if prev != position.mac {
                self.forked(link.seq, "does not follow the one before it");
            }
        } else {
            let (from, to) = (position.seq + 1, before.seq);
            let between =
                if self.position_file == self.at.index { "" } else { ": a file was removed, or its end" };
            let text = format!(
                "{} removed between record {} and record {}{between}",
                are(from, to),
                position.seq,
                link.seq
            );
            self.resolve(Some(Gap { from, to, kind: FaultKind::Missing, at: self.at.clone(), text }));
        }
        self.take(link);
    }

    fn first(&mut self, link: Link, before: Link) {
        match self.start {
            Some(start) if before.seq > start.seq => {
                let (from, to) = (start.seq + 1, before.seq);
                let text = format!(
                    "{} missing at the beginning: the files begin with record {}, and retention has removed none after {}",
                    are(from, to),
                    link.seq,
                    start.seq
                );
                self.resolve(Some(Gap {
                    from,
                    to,
                    kind: FaultKind::MissingStart,
                    at: self.at.clone(),
                    text,
                }));
            }
            Some(start) if before.seq == start.seq && before != start => {
                self.resolve(None);
                self.forked(link.seq, "does not follow where the chain begins");
            }
            // What retention is about to remove, or the beginning of the chain.
            _ => {
                self.resolve(None);
                if before.seq == 0 && before != Link::START {
                    self.forked(link.seq, "says that there was one before it");
                }
            }
        }
        self.take(link);
    }

    fn take(&mut self, link: Link) {
        self.position = Some(link);
        self.position_file = self.at.index;
    }

    fn forked(&mut self, seq: u64, why: &str) {
        let at = self.at.clone();
        let text = format!(
            "record {seq} ({}, line {}) {why}: the trail was taken back in time and written on, or somebody has its key",
            at.file, at.line
        );
        self.fault(FaultKind::Forked, Some(&at), Some((seq, seq)), &text);
    }

    /// What is known of single records from elsewhere.
    fn check_marks(&mut self, link: Link) {
        if let Some(Ends { start, head }) = self.head
            && [start, head].iter().any(|known| known.seq == link.seq && known.mac != link.mac)
        {
            self.forked(link.seq, "is not the one that the store knows");
        }
        for index in 0..self.expect.len() {
            let Some((anchor, found)) = self.expect.get_mut(index) else { continue };
            if anchor.seq == link.seq {
                *found = true;
                let seq = anchor.seq;
                if anchor.mac != link.mac {
                    let at = self.at.clone();
                    let text =
                        format!("record {seq} is not the one that was expected: the trail was written anew");
                    self.fault(FaultKind::AnchorDiffers, Some(&at), Some((seq, seq)), &text);
                }
            }
        }
    }

    /// What the writer says of its own trail.
    fn check_note(&mut self, text: &[u8], seq: u64) {
        const ITSELF: &[u8] = b"\"step\":\"trail\"";
        if !text.windows(ITSELF.len()).any(|window| window == ITSELF) {
            return;
        }
        let Ok(entry) = serde_json::from_slice::<Entry>(text) else { return };
        if entry.record.step != "trail" {
            return;
        }
        let (reason, detail) = (entry.record.reason, entry.record.detail.unwrap_or_default());
        if let Some(begins) = begins_after(&detail).filter(|_| [REMOVED, REMOVED_DAMAGED].contains(&&*reason))
        {
            self.removed.times += 1;
            self.removed.said = Some((begins, seq, self.at.file.clone(), entry.time.clone()));
        }
        if entry.record.outcome != Outcome::Gap {
            return;
        }
        self.removed.guessed |= matches!(reason.as_str(), "head-lost" | "head-changed");
        let said = format!("record {seq} of {} says: {reason}: {detail}", entry.time);
        let at = self.at.clone();
        // Missing records are found by their numbers. Dropped ones, and what was set aside, take none away.
        // Lines that do not belong where they are are found by themselves.
        const FOUND: [&str; 5] =
            ["records-missing", "records-dropped", "lines-set-aside", "file-grown", "file-mixed"];
        if FOUND.contains(&&*reason) {
            self.notice(NoticeKind::Noted, Some(seq), &at.file, &said);
        } else {
            self.fault(FaultKind::Noted, Some(&at), Some((seq, seq)), &said);
        }
    }

    /// Compares what the store says of the beginning with what the chain says of it.
    fn check_removed(&mut self) {
        let Removed { stored, said, times, guessed } = std::mem::take(&mut self.removed);
        let known = said.as_ref().map_or(0, |(begins, ..)| *begins);
        if stored > known && !guessed {
            let text = format!(
                "{} not there any more, and no record says that retention has removed {}: a crash on a full disk, or somebody has the key",
                are(known + 1, stored),
                if stored == known + 1 { "it" } else { "them" },
            );
            self.fault(FaultKind::RemovedUnsaid, None, Some((known + 1, stored)), &text);
        }
        if let Some((begins, seq, file, time)) = said {
            let text = format!(
                "retention has removed {}, the last of them on {time} (record {seq}; {times} records of this kind are kept)",
                records(1, begins)
            );
            self.notice(NoticeKind::Removed, Some(seq), &file, &text);
        }
    }

    /// Compares the end with what the store knows. How many records there were, and the last of them.
    pub(super) fn end(mut self) -> (u64, Link) {
        self.end_run();
        let last = self.position.or(self.start).unwrap_or(Link::START);
        match self.head {
            Some(Ends { head, .. }) if head.seq > last.seq => {
                let (from, to) = (last.seq + 1, head.seq);
                let text = format!(
                    "{} cut off at the end: the store knows of {}, the files end with record {}",
                    are(from, to),
                    head.seq,
                    last.seq
                );
                let at = self.at.clone();
                self.resolve(Some(Gap { from, to, kind: FaultKind::CutOff, at, text }));
            }
            _ => self.resolve(None),
        }
        self.tell_gaps();
        self.check_removed();
        for (anchor, found) in std::mem::take(&mut self.expect) {
            if !found {
                self.not_found(anchor, last);
            }
        }
        (self.records, if self.position.is_some() { last } else { Link::START })
    }

    fn not_found(&mut self, anchor: &Anchor, last: Link) {
        let seq = anchor.seq;
        let start = self.start.filter(|start| start.seq >= seq);
        let (kind, text) = match start {
            // Its MAC is what the chain now begins with.
            Some(start) if start.seq == seq && start.mac == anchor.mac => return,
            Some(start) if start.seq == seq => (
                FaultKind::AnchorDiffers,
                format!("record {seq}, which retention has removed, was another one"),
            ),
            Some(start) => (
                FaultKind::AnchorRemoved,
                format!(
                    "record {seq} cannot be compared: retention has removed the records up to {}; note a newer one",
                    start.seq
                ),
            ),
            None if last.seq < seq => (
                FaultKind::AnchorMissing,
                format!(
                    "record {seq} was there once, and the chain ends with {}: it was taken back in time",
                    last.seq
                ),
            ),
            None => (FaultKind::AnchorMissing, format!("record {seq}, which was there once, is not there")),
        };
        self.fault(kind, None, Some((seq, seq)), &text);
    }
}
