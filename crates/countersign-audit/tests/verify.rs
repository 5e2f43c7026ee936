//! What somebody did to the trail is found and named; what a writer, a crash or retention did is no alarm.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a broken helper ends the test"
)]

mod support;

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::PermissionsExt as _;

use countersign_audit::{
    Anchor, AuditKey, FaultKind, Heads, HeadsError, NoticeKind, Records, StoredHead, Verify, verify,
};
use support::{Place, Wrong};

/// Twelve records of `serve` in files of four, and three of `call`.
fn trail() -> Place {
    let mut place = Place::new();
    place.write("serve", &["1", "2", "3", "4"]);
    place.settings.rotate_bytes = fs::metadata(place.file("serve.jsonl")).unwrap().len() + 64;
    place.write("serve", &["5", "6", "7", "8", "9", "a", "b", "c"]);
    place.write("call", &["1", "2", "3"]);
    assert_eq!(
        place.names(),
        [
            "call.jsonl",
            "call.lock",
            "serve.000000000001.jsonl",
            "serve.000000000005.jsonl",
            "serve.jsonl",
            "serve.lock"
        ]
    );
    place.assert_whole();
    place
}

const FIRST: &str = "serve.000000000001.jsonl";
const SECOND: &str = "serve.000000000005.jsonl";
const LAST: &str = "serve.jsonl";

fn wrong(kind: FaultKind, from: u64, to: u64, file: &str, line: u64) -> Wrong {
    (kind, Some(from), Some(to), file.to_owned(), Some(line))
}

fn inserted(kind: FaultKind, file: &str, line: u64) -> Wrong {
    (kind, None, None, file.to_owned(), Some(line))
}

/// Does something to the lines of a file, and says what is found then.
#[track_caller]
fn after(name: &str, change: impl FnOnce(&mut Vec<String>)) -> Vec<Wrong> {
    let place = trail();
    let mut lines = place.lines(name);
    change(&mut lines);
    place.put(name, &lines);
    place.faults()
}

#[test]
fn a_whole_trail_has_its_numbers_and_an_anchor_for_each_writer() {
    let place = trail();
    let report = place.verify();
    assert!(report.notices.is_empty(), "{report:#?}");
    let writers: Vec<_> = report
        .writers
        .iter()
        .map(|it| (it.writer.as_str(), it.whole, it.records, it.files, it.first, it.last))
        .collect();
    assert_eq!(writers, [("call", true, 3, 1, Some(1), 3), ("serve", true, 12, 3, Some(1), 12)]);
    let last = place.entries().into_iter().rfind(|it| it.record.reason == "c").unwrap();
    assert_eq!(
        report.writers[1].anchor.as_ref().unwrap().to_string(),
        format!("serve:12:{}", last.mac.unwrap())
    );
}

#[test]
fn a_changed_record_is_named() {
    let changed = |line: &mut String| *line = line.replace("\"reason\":\"", "\"reason\":\"x");
    assert_eq!(after(SECOND, |lines| changed(&mut lines[1])), [wrong(FaultKind::Changed, 6, 6, SECOND, 2)]);
    assert_eq!(
        after(SECOND, |lines| lines.iter_mut().for_each(changed)),
        [5, 6, 7, 8].map(|seq| wrong(FaultKind::Changed, seq, seq, SECOND, seq - 4))
    );
    // The first and the last of all.
    assert_eq!(after(FIRST, |lines| changed(&mut lines[0])), [wrong(FaultKind::Changed, 1, 1, FIRST, 1)]);
    assert_eq!(after(LAST, |lines| changed(&mut lines[3])), [wrong(FaultKind::Changed, 12, 12, LAST, 4)]);
    // Not even JSON any more.
    let nothing = after(SECOND, |lines| "nothing\n".clone_into(&mut lines[2]));
    assert_eq!(nothing, [wrong(FaultKind::Changed, 7, 7, SECOND, 3)]);
}

#[test]
fn removed_records_are_named() {
    assert_eq!(after(SECOND, |lines| drop(lines.remove(1))), [wrong(FaultKind::Missing, 6, 6, SECOND, 2)]);
    assert_eq!(after(SECOND, |lines| drop(lines.drain(1..))), [wrong(FaultKind::Missing, 6, 8, LAST, 1)]);
    assert_eq!(
        after(FIRST, |lines| drop(lines.drain(..2))),
        [wrong(FaultKind::MissingStart, 1, 2, FIRST, 1)]
    );
    assert_eq!(after(LAST, |lines| drop(lines.drain(1..))), [wrong(FaultKind::CutOff, 10, 12, LAST, 1)]);
    assert_eq!(after(LAST, Vec::clear), [(FaultKind::CutOff, Some(9), Some(12), LAST.to_owned(), None)]);
    // One changed and two removed.
    let both = after(SECOND, |lines| {
        lines.drain(1..3);
        lines[1] = lines[1].replace("\"reason\":\"8", "\"reason\":\"9");
    });
    assert_eq!(both, [wrong(FaultKind::Changed, 8, 8, SECOND, 2), wrong(FaultKind::Missing, 6, 7, LAST, 1)]);
}

#[test]
fn moved_and_doubled_records_are_named() {
    assert_eq!(after(SECOND, |lines| lines.swap(1, 2)), [wrong(FaultKind::Moved, 6, 6, SECOND, 3)]);
    assert_eq!(after(SECOND, |lines| lines.rotate_left(2)), [wrong(FaultKind::Moved, 5, 6, SECOND, 3)]);
    let doubled = after(SECOND, |lines| lines.insert(2, lines[1].clone()));
    assert_eq!(doubled, [wrong(FaultKind::Repeated, 6, 6, SECOND, 3)]);
    let from_before = after(LAST, |lines| {
        let place = trail();
        lines.extend(place.lines(FIRST));
    });
    // Another trail's lines have other times, and so other MACs: as records of this key they are known by number.
    assert!(from_before.iter().all(|(kind, ..)| *kind == FaultKind::Repeated), "{from_before:?}");
    let place = trail();
    fs::copy(place.file(FIRST), place.file("serve.000000000001-2.jsonl")).unwrap();
    assert_eq!(place.faults(), [wrong(FaultKind::Repeated, 1, 4, "serve.000000000001-2.jsonl", 1)]);
}

#[test]
fn lines_that_no_writer_or_another_one_wrote_are_named() {
    let stranger = "{\"v\":2,\"seq\":7,\"reason\":\"made up\"}\n".to_owned();
    let put_in = stranger.clone();
    assert_eq!(after(SECOND, |lines| lines.insert(2, put_in)), [inserted(FaultKind::Inserted, SECOND, 3)]);
    let put_in = stranger.clone();
    assert_eq!(after(FIRST, |lines| lines.insert(0, put_in)), [inserted(FaultKind::Inserted, FIRST, 1)]);
    assert_eq!(after(LAST, |lines| lines.push(stranger)), [inserted(FaultKind::Inserted, LAST, 5)]);
    assert_eq!(
        after(SECOND, |lines| lines.insert(0, "\n".to_owned())),
        [inserted(FaultKind::Inserted, SECOND, 1)]
    );
    let place = trail();
    let (call, mut lines) = (place.lines("call.jsonl"), place.lines(LAST));
    lines.insert(1, call[0].clone());
    place.put(LAST, &lines);
    assert_eq!(place.faults(), [inserted(FaultKind::Foreign, LAST, 2)]);
    assert!(place.verify().faults[0].text.contains("the chain of call"));
    // Half a line anywhere but at the end.
    let place = trail();
    let mut text = fs::read(place.file(SECOND)).unwrap();
    text.pop();
    fs::write(place.file(SECOND), text).unwrap();
    place.assert_whole();
    let mut lines = place.lines(SECOND);
    lines.push("{\"v\":2,".to_owned());
    place.put(SECOND, &lines);
    assert!(!place.verify().is_whole());
}

#[test]
fn a_removed_file_is_named_and_so_is_a_renamed_and_an_unknown_one() {
    let place = trail();
    fs::remove_file(place.file(FIRST)).unwrap();
    assert_eq!(place.faults(), [wrong(FaultKind::MissingStart, 1, 4, SECOND, 1)]);
    let place = trail();
    fs::remove_file(place.file(SECOND)).unwrap();
    assert_eq!(place.faults(), [wrong(FaultKind::Missing, 5, 8, LAST, 1)]);
    assert!(place.verify().faults[0].text.contains("a file was removed"));
    let place = trail();
    fs::remove_file(place.file(LAST)).unwrap();
    assert_eq!(place.faults(), [wrong(FaultKind::CutOff, 9, 12, SECOND, 4)]);
    let place = trail();
    for name in [FIRST, SECOND, LAST] {
        fs::remove_file(place.file(name)).unwrap();
    }
    assert_eq!(place.faults(), [(FaultKind::CutOff, Some(1), Some(12), String::new(), None)]);
    let place = trail();
    fs::rename(place.file(FIRST), place.file("serve.000000000006.jsonl")).unwrap();
    let kinds: Vec<_> = place.faults().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [FaultKind::FileRenamed, FaultKind::Moved], "{:#?}", place.verify());
    let place = trail();
    fs::rename(place.file(SECOND), place.file("serve.old.jsonl")).unwrap();
    let kinds: Vec<_> = place.faults().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [FaultKind::FileUnknown, FaultKind::Missing]);
}

/// Says of the first question about each writer that nothing is known: its writer is about to begin.
struct NotYet(countersign_audit::MemoryHeads, std::sync::atomic::AtomicUsize);

impl Heads for NotYet {
    fn load(&self, writer: &str) -> Result<Option<StoredHead>, HeadsError> {
        let asked = self.1.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        if asked == 0 { Ok(None) } else { self.0.load(writer) }
    }

    fn store(&self, writer: &str, head: &StoredHead) -> Result<(), HeadsError> {
        self.0.store(writer, head)
    }

    fn writers(&self) -> Result<Vec<String>, HeadsError> {
        self.0.writers()
    }
}

#[test]
fn a_chain_that_is_begun_meanwhile_or_not_yet_is_whole() {
    let place = Place::new();
    place.write("serve", &["1", "2"]);
    let line = place.lines(LAST)[0].clone();
    let heads = NotYet(place.heads.clone(), 0.into());
    let report = verify(&place.audit(), &place.key, &heads, &Verify::default()).unwrap();
    assert!(report.is_whole() && report.writers[0].records == 2, "{report:#?}");
    // Killed before the first line was written whole: nobody was told of it.
    place.heads.restore(BTreeMap::new());
    for begun in ["", &line[..1], &line[..line.len() - 1]] {
        place.put(LAST, &[begun.to_owned()]);
        place.assert_whole();
    }
    place.put(LAST, &[line]);
    assert_eq!(place.faults().into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>(), [FaultKind::HeadLost]);
}

#[test]
fn a_head_that_is_lost_forged_or_another_writers_is_named() {
    let place = trail();
    let whole = place.heads.all();
    let change = |change: &dyn Fn(&mut BTreeMap<String, countersign_audit::StoredHead>)| {
        let mut heads = whole.clone();
        change(&mut heads);
        place.heads.restore(heads);
        place.faults().into_iter().map(|(kind, ..)| kind).collect::<Vec<_>>()
    };
    assert_eq!(change(&|heads| heads.retain(|writer, _| writer != "serve")), [FaultKind::HeadLost]);
    for member in 0..4 {
        let forged = change(&|heads| {
            let head = heads.get_mut("serve").unwrap();
            match member {
                0 => head.seq -= 1,
                1 => head.mac[0] ^= 1,
                2 => head.start_seq += 4,
                _ => head.seal[31] ^= 1,
            }
        });
        assert_eq!(forged, [FaultKind::HeadChanged], "{member}");
    }
    let swapped = change(&|heads| {
        let call = heads["call"].clone();
        heads.insert("serve".to_owned(), call);
    });
    assert_eq!(swapped, [FaultKind::HeadChanged]);
    // A head from before is what a crash leaves.
    let mut before = Place::new();
    before.settings.rotate_bytes = place.settings.rotate_bytes;
    before.write("serve", &["1"]);
    let heads = before.heads.all();
    before.write("serve", &["2", "3", "4", "5", "6"]);
    before.heads.restore(heads);
    before.assert_whole();
    // Records after the one that the head is about are another matter.
    let other = Place::new();
    other.write("serve", &["another", "trail"]);
    let mut heads = place.heads.all();
    heads.insert("serve".to_owned(), other.heads.all()["serve"].clone());
    place.heads.restore(heads);
    assert_eq!(place.faults(), [wrong(FaultKind::Forked, 2, 2, FIRST, 2)]);
}

#[test]
fn a_trail_that_was_put_back_in_time_and_written_on_is_found_by_an_anchor_alone() {
    let place = Place::new();
    place.write("serve", &["one", "two"]);
    let (heads, lines) = (place.heads.all(), place.lines(LAST));
    place.write("serve", &["three", "four"]);
    let anchor = place.verify().writers[0].anchor.clone().unwrap();
    assert!(place.verify_with(vec![anchor.clone()]).is_whole());
    // Files and store from before, together.
    place.put(LAST, &lines);
    place.heads.restore(heads);
    place.assert_whole();
    let kinds = |report: countersign_audit::Report| {
        report.faults.into_iter().map(|fault| fault.kind).collect::<Vec<_>>()
    };
    assert_eq!(kinds(place.verify_with(vec![anchor.clone()])), [FaultKind::AnchorMissing]);
    place.write("serve", &["other", "records"]);
    place.assert_whole();
    assert_eq!(kinds(place.verify_with(vec![anchor.clone()])), [FaultKind::AnchorDiffers]);
    let text = anchor.to_string();
    assert_eq!(text.parse::<Anchor>().unwrap(), anchor);
    let nobody: Anchor = text.replace("serve", "nobody").parse().unwrap();
    assert_eq!(kinds(place.verify_with(vec![nobody])), [FaultKind::AnchorMissing]);
}

#[test]
fn what_is_no_anchor_is_refused() {
    let mac = "A".repeat(43);
    assert!(format!("serve:1:{mac}").parse::<Anchor>().is_ok());
    for text in [
        "",
        "serve",
        "serve:1",
        "serve:0:",
        &format!("serve:0:{mac}"),
        &format!("serve:-1:{mac}"),
        &format!("serve:+1:{mac}"),
        &format!("serve:1:{mac}A"),
        &format!("Serve:1:{mac}"),
        &format!(":1:{mac}"),
        &format!("serve:1:{mac}:"),
        &format!("../serve:1:{mac}"),
        &format!("serve:99999999999999999999:{mac}"),
    ] {
        assert!(text.parse::<Anchor>().is_err(), "{text}");
    }
}

#[test]
fn another_key_finds_that_nothing_is_its_writers() {
    let place = trail();
    let other = AuditKey::new([8; 32].into());
    let report = verify(&place.audit(), &other, &place.heads, &Verify::default()).unwrap();
    assert_eq!(report.writers.iter().map(|it| it.records).collect::<Vec<_>>(), [0, 0]);
    assert!(!report.is_whole());
    let none = verify(
        &place.file("nowhere"),
        &other,
        &countersign_audit::MemoryHeads::default(),
        &Verify::default(),
    );
    assert!(none.unwrap().is_whole(), "where nothing was ever written nothing is missing");
}

#[test]
fn what_the_trail_says_of_itself_is_told() {
    let place = Place::new();
    place.write("serve", &["one", "two", "three"]);
    let lines = place.lines(LAST);
    place.put(LAST, &lines[..2]);
    place.write("serve", &["after"]);
    assert_eq!(place.faults(), [wrong(FaultKind::Missing, 3, 3, LAST, 3)]);
    let notices = place.verify().notices;
    assert_eq!((notices[0].kind, notices[0].seq), (NoticeKind::Noted, Some(4)));
    assert!(notices[0].text.contains("records-missing"), "{notices:?}");

    let place = Place::new();
    place.write("serve", &["one"]);
    let mut lines = place.lines(LAST);
    lines.push("made up\n".to_owned());
    place.put(LAST, &lines);
    place.write("serve", &["two"]);
    let report = place.verify();
    assert!(report.is_whole(), "{report:#?}");
    let kinds: Vec<_> = report.notices.iter().map(|notice| notice.kind).collect();
    assert_eq!(kinds, [NoticeKind::Noted, NoticeKind::Aside]);

    // Without the head from before nobody can tell what was cut off: that is said for as long as the record is kept.
    let place = Place::new();
    place.write("serve", &["one", "two"]);
    let lines = place.lines(LAST);
    place.put(LAST, &lines[..1]);
    place.heads.restore(BTreeMap::new());
    place.write("serve", &["three"]);
    assert_eq!(place.faults(), [wrong(FaultKind::Noted, 2, 2, LAST, 2)]);
    assert!(place.verify().faults[0].text.contains("head-lost"));
}

#[test]
fn half_a_last_line_is_a_notice_and_lines_of_version_1_are_told_to_be_beyond_checking() {
    let place = trail();
    let mut file = fs::OpenOptions::new().append(true).open(place.file(LAST)).unwrap();
    file.write_all(b"{\"v\":2,\"seq\":13,\"ti").unwrap();
    let old = "{\"v\":1,\"seq\":7,\"time\":\"2026-01-01T00:00:00.000Z\",\"direction\":\"inbound\",\"step\":\"token\",\
               \"outcome\":\"refused\",\"reason\":\"x\"}\n";
    fs::write(place.file("serve.v1.jsonl"), old).unwrap();
    let report = place.verify();
    assert!(report.is_whole(), "{report:#?}");
    let kinds: Vec<_> = report.notices.iter().map(|notice| notice.kind).collect();
    assert_eq!(kinds, [NoticeKind::Unchained, NoticeKind::HalfLine]);
    // Before a later version has been there.
    let new = Place::new();
    fs::create_dir(new.audit()).unwrap();
    fs::write(new.file(LAST), old).unwrap();
    let report = new.verify();
    assert!(report.is_whole() && report.notices[0].kind == NoticeKind::Unchained, "{report:#?}");
    // In a chain such a line is something else.
    let old = after(SECOND, |lines| old.clone_into(&mut lines[1]));
    assert_eq!(old, [wrong(FaultKind::Changed, 6, 6, SECOND, 2)]);
}

#[test]
fn a_first_line_of_version_1_does_not_take_a_chain_out_of_sight() {
    let place = trail();
    let mut lines = place.lines(LAST);
    lines[0] = lines[0].replace("\"v\":2", "\"v\":1");
    place.put(LAST, &lines);
    place.write("serve", &["after"]);
    assert!(!place.names().iter().any(|name| name.contains(".v1.")), "{:?}", place.names());
    // It was put aside as it became too long.
    assert_eq!(place.faults(), [wrong(FaultKind::Changed, 9, 9, "serve.000000000010.jsonl", 1)]);
}

#[test]
fn what_cannot_be_read_is_named_and_the_others_are_read() {
    let place = trail();
    fs::remove_file(place.file(SECOND)).unwrap();
    fs::create_dir(place.file(SECOND)).unwrap();
    let kinds: Vec<_> = place.faults().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [FaultKind::FileUnreadable, FaultKind::Missing]);
    // A pipe must not be waited for.
    fs::remove_dir(place.file(SECOND)).unwrap();
    rustix::fs::mknodat(
        rustix::fs::CWD,
        place.file(SECOND),
        rustix::fs::FileType::Fifo,
        rustix::fs::Mode::RUSR,
        0,
    )
    .unwrap();
    let kinds: Vec<_> = place.faults().into_iter().map(|(kind, ..)| kind).collect();
    assert_eq!(kinds, [FaultKind::FileUnreadable, FaultKind::Missing]);
}

#[test]
fn it_goes_on_after_a_fault_and_lists_so_many_at_most() {
    let place = Place::new();
    let reasons: Vec<String> = (0..100).map(|number| number.to_string()).collect();
    place.write("serve", &reasons.iter().map(String::as_str).collect::<Vec<_>>());
    let mut lines = place.lines(LAST);
    for line in lines.iter_mut().step_by(2) {
        *line = line.replace("refused", "accepted");
    }
    place.put(LAST, &lines);
    assert_eq!(place.verify().faults.len(), 50);
    let options = Verify { most: 10, ..Verify::default() };
    let report = verify(&place.audit(), &place.key, &place.heads, &options).unwrap();
    assert_eq!((report.faults.len(), report.more_faults), (10, 40));
    assert!(!report.is_whole());
    // Far more garbage than is kept in mind.
    place.put(LAST, &vec!["garbage\n".to_owned(); 5_000]);
    let report = place.verify();
    assert_eq!(report.faults.len() as u64 + report.more_faults, 5_001);
    // A line without end takes no memory.
    fs::write(place.file(LAST), vec![b'x'; 20 << 20]).unwrap();
    assert_eq!(place.faults().last().unwrap().0, FaultKind::CutOff);
}

#[test]
fn reading_changes_nothing() {
    let place = trail();
    let modes = |place: &Place| {
        let of = |name: &String| {
            let metadata = fs::metadata(place.file(name)).unwrap();
            (name.clone(), metadata.permissions().mode(), metadata.modified().unwrap(), metadata.len())
        };
        place.names().iter().map(of).collect::<Vec<_>>()
    };
    let before = modes(&place);
    place.assert_whole();
    assert_eq!(modes(&place), before);
}

#[test]
fn of_one_writer_its_own_lines_come_up_to_the_first_that_it_did_not_write() {
    let read = |place: &Place| {
        let (mut found, mut end) = (Vec::new(), None);
        match Records::chained(&place.audit(), "admin", &place.key) {
            Ok(records) => {
                for record in records {
                    match record {
                        Ok(record) => found.push(record.entry.record.reason),
                        Err(error) => end = Some(error.kind()),
                    }
                }
            }
            Err(error) => end = Some(error.kind()),
        }
        (found, end)
    };
    let mut place = Place::new();
    place.settings.rotate_bytes = 600;
    place.write("serve", &["of another"]);
    place.write("admin", &["a", "b", "c", "d"]);
    assert!(place.names().len() > 4, "several files");
    assert_eq!(read(&place), (["a", "b", "c", "d"].map(str::to_owned).to_vec(), None));
    // What has no chain, or a name of its own, is nobody's.
    let forged = place.lines("serve.jsonl").concat();
    for name in ["admin.v1.jsonl", "admin.more.jsonl"] {
        fs::write(place.file(name), forged.replace("\"v\":2", "\"v\":1")).unwrap();
    }
    assert_eq!(read(&place).0.len(), 4);
    let whole = place.lines("admin.jsonl");
    place.put("admin.jsonl", &[whole.clone(), vec![forged.clone()]].concat());
    let (found, end) = read(&place);
    assert_eq!(
        (found.len(), end),
        (4, Some(std::io::ErrorKind::InvalidData)),
        "what stands before it is good"
    );
    place.put("admin.jsonl", &[vec![forged], whole].concat());
    let (found, end) = read(&place);
    assert!(found.len() < 4 && found.first().is_some_and(|first| first == "a"), "{found:?}");
    assert_eq!(end, Some(std::io::ErrorKind::InvalidData));
    // Half a line is what a crash leaves.
    let whole = place.lines("serve.jsonl");
    place.put("admin.jsonl", &[whole[0][..40].to_owned()]);
    assert_eq!(read(&place).1, None);
}
