//! Retention, with times of our own.

use std::fs;
use std::path::Path;

use tempfile::TempDir;
use time::{Duration, OffsetDateTime};

use super::*;
use crate::{AuditKey, MemoryHeads, Settings, Verify, verify};

const DAY: Duration = Duration::DAY;

struct Place {
    directory: TempDir,
    heads: MemoryHeads,
    chain: Chain,
}

fn key() -> AuditKey {
    AuditKey::new([7; 32].into())
}

fn start() -> OffsetDateTime {
    OffsetDateTime::from_unix_timestamp(1_700_000_000).unwrap()
}

impl Place {
    fn new(settings: Settings) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let heads = MemoryHeads::default();
        let settings = Settings { danger_no_sync: true, ..settings };
        let chain =
            Chain::open(directory.path(), "serve", &key(), Box::new(heads.clone()), settings).unwrap();
        Self { directory, heads, chain }
    }

    /// One record.
    fn write(&mut self, now: OffsetDateTime) {
        let record = Record::new(Direction::Local, "test", Outcome::Refused, "a");
        self.chain
            .locked(|chain| {
                chain.append(&[(now, record)])?;
                chain.keep_head();
                chain.prune(now, usize::MAX);
                Ok(())
            })
            .unwrap();
    }

    /// One record a day, from this day to before that one.
    fn days(&mut self, days: std::ops::Range<i64>) {
        for day in days {
            self.write(start() + DAY * i32::try_from(day).unwrap());
        }
    }

    fn files(&self) -> usize {
        files::of_writer(self.directory.path(), "serve").unwrap().len()
    }

    fn first(&self) -> u64 {
        self.heads.all()["serve"].start_seq + 1
    }

    #[track_caller]
    fn assert_whole(&self) {
        let report = verify(self.directory.path(), &key(), &self.heads, &Verify::default()).unwrap();
        assert!(report.is_whole(), "{report:#?}");
    }
}

fn set_old(path: &Path) {
    let long_ago = std::time::SystemTime::UNIX_EPOCH;
    fs::File::options().write(true).open(path).unwrap().set_modified(long_ago).unwrap();
}

#[test]
fn records_are_kept_for_as_long_as_is_said_and_not_much_longer() {
    let mut place = Place::new(Settings::default());
    for day in 0..400 {
        place.days(day..day + 1);
        // One record a day, and one for each file that was removed.
        let oldest = place.first();
        let removed = files::of_writer(place.directory.path(), "serve").unwrap().first().cloned().unwrap().1;
        let first = first_record(&removed, &key().writer("serve")).unwrap().unwrap();
        let age = start() + DAY * i32::try_from(day).unwrap() - first.time.unwrap();
        assert!(
            age >= DAY * i32::try_from(day.min(90)).unwrap(),
            "on day {day} the oldest is {age}: {oldest}"
        );
        assert!(age <= DAY * 125, "on day {day} the oldest is {age}");
        place.assert_whole();
    }
    assert!(place.first() > 250);
}

#[test]
fn a_clock_that_is_set_a_year_ahead_removes_nothing_before_it_was_so_for_a_tenth_of_the_time() {
    let mut place = Place::new(Settings::default());
    place.days(0..80);
    let files = place.files();
    let ahead = start() + DAY * (80 + 365);
    for hour in 0..9 * 24 {
        place.write(ahead + Duration::HOUR * hour);
        assert_eq!(place.first(), 1, "after {hour} hours");
    }
    assert!(place.files() > files);
    // Put right again: nothing is lost, now or later, before its time.
    place.days(90..95);
    assert_eq!(place.first(), 1);
    place.assert_whole();
    // What was written in that time is not kept for a year: what came after it cannot be older.
    place.days(95..300);
    assert!(place.first() > 80 + 9 * 24, "{}", place.first());
    place.assert_whole();
    // If the clock was right, they go in the end.
    let mut place = Place::new(Settings::default());
    place.days(0..80);
    place.days(445..470);
    assert!(place.first() > 70, "{}", place.first());
    place.assert_whole();
}

#[test]
fn a_clock_that_is_put_back_removes_nothing_and_stops_nothing() {
    let mut place = Place::new(Settings::default());
    place.days(0..60);
    for hour in 0..100 {
        place.write(start() - DAY * 3650 + Duration::HOUR * hour);
    }
    assert_eq!(place.first(), 1);
    place.days(61..70);
    assert_eq!(place.first(), 1);
    place.assert_whole();
}

#[test]
fn the_date_of_a_file_removes_nothing() {
    let mut place = Place::new(Settings::default());
    place.days(0..60);
    for (_, path) in files::of_writer(place.directory.path(), "serve").unwrap() {
        set_old(&path);
    }
    place.days(60..62);
    assert_eq!(place.first(), 1);
}

#[test]
fn no_more_bytes_are_kept_than_is_said_and_a_damaged_beginning_does_not_change_that() {
    let mut place = Place::new(Settings { rotate_bytes: 2_000, keep_bytes: 10_000, ..Settings::default() });
    let bytes = |place: &Place| -> u64 {
        let files = files::of_writer(place.directory.path(), "serve").unwrap();
        files.iter().map(|(_, path)| path.metadata().unwrap().len()).sum()
    };
    for number in 0..200_i32 {
        place.write(start() + Duration::SECOND * number);
        assert!(bytes(&place) < 10_000 + 2_000, "{}", bytes(&place));
        place.assert_whole();
    }
    assert!(place.first() > 100);
    // Somebody damages the first line of each file.
    for (_, path) in files::of_writer(place.directory.path(), "serve").unwrap() {
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, text.replacen("\"v\":2", "\"v\":3", 1)).unwrap();
    }
    place.chain.looked.clear();
    for number in 200..400_i32 {
        place.write(start() + Duration::SECOND * number);
        // Lines that are damaged count for nothing.
        assert!(bytes(&place) < 10_000 + 2_000 + 2_000, "{}", bytes(&place));
    }
}

#[test]
fn what_a_crash_leaves_while_a_file_is_removed_is_no_alarm() {
    let mut place = Place::new(Settings { rotate_bytes: 2_000, keep_bytes: 10_000, ..Settings::default() });
    for number in 0..20_i32 {
        place.write(start() + Duration::SECOND * number);
    }
    let kept = place.chain.kept().unwrap();
    // The store knows that it is to go, and it is still there.
    let next = kept[1].first.before;
    let start_of = place.chain.ends.unwrap().start;
    place.chain.say_removed("a", (start_of, next), next.seq - start_of.seq, true, start()).unwrap();
    place.chain.begin_at(next).unwrap();
    assert!(place.first() > 1);
    place.assert_whole();
    fs::remove_file(&kept[0].path).unwrap();
    place.assert_whole();
    fs::remove_file(&kept[1].path).unwrap();
    let report = verify(place.directory.path(), &key(), &place.heads, &Verify::default()).unwrap();
    assert_eq!(report.faults[0].kind, crate::FaultKind::MissingStart);
}

#[test]
fn a_file_whose_first_line_is_damaged_is_put_aside_in_its_place() {
    let mut place = Place::new(Settings::default());
    place.days(0..3);
    let text = fs::read_to_string(&place.chain.path).unwrap();
    fs::write(&place.chain.path, text.replace("refused", "accepted")).unwrap();
    place.chain.tip = None;
    place.chain.locked(Chain::settle).unwrap();
    place.chain.locked(Chain::rotate).unwrap();
    place.days(3..5);
    let names: Vec<_> = files::of_writer(place.directory.path(), "serve").unwrap();
    assert!(matches!(names[0].0, Kind::Archive(3, 1)), "{names:?}");
}

/// 60 records of a minute each, in files of four, of which none is to go.
fn plenty() -> Place {
    let mut place = Place::new(Settings { rotate_bytes: 1_000, keep_bytes: 100_000, ..Settings::default() });
    for number in 0..60_i32 {
        place.write(start() + Duration::MINUTE * number);
    }
    assert_eq!(place.first(), 1);
    assert!(place.files() > 10);
    place
}

fn archives(place: &Place) -> Vec<std::path::PathBuf> {
    let all = files::of_writer(place.directory.path(), "serve").unwrap().into_iter();
    all.filter(|(kind, _)| matches!(kind, Kind::Archive(..))).map(|(_, path)| path).collect()
}

fn notes(place: &Place, reason: &str) -> usize {
    let (entries, _) = crate::tail(place.directory.path(), 10_000).unwrap();
    entries.iter().filter(|entry| entry.record.reason == reason).count()
}

fn faults(place: &Place) -> Vec<crate::FaultKind> {
    let report = verify(place.directory.path(), &key(), &place.heads, &Verify::default()).unwrap();
    report.faults.into_iter().map(|fault| fault.kind).collect()
}

/// What a stranger to the key does to files makes the writer remove nothing, however it is asked again.
#[track_caller]
fn assert_removes_nothing(mut place: Place) -> Place {
    let before = archives(&place);
    for fresh in [false, true] {
        if fresh {
            place.chain.looked.clear();
        }
        for number in 60..63_i32 {
            place.write(start() + Duration::MINUTE * number);
        }
        for path in &before {
            assert!(path.exists(), "{} was removed", path.display());
        }
    }
    assert_eq!(place.first(), 1);
    place
}

#[test]
fn a_file_that_somebody_makes_long_makes_nothing_be_removed() {
    for fresh in [true, false] {
        let mut place = plenty();
        if !fresh {
            // Its records were counted before.
            place.chain.settings.keep_bytes = 1;
            let kept = place.chain.kept().unwrap();
            assert!(place.chain.bytes(&kept, usize::MAX).unwrap() > 1);
            place.chain.settings.keep_bytes = 100_000;
        }
        let victim = archives(&place).remove(0);
        let whole = fs::metadata(&victim).unwrap().len();
        let file = fs::OpenOptions::new().write(true).open(&victim).unwrap();
        file.set_len(64 << 20).unwrap();
        let place = assert_removes_nothing(place);
        assert_eq!(faults(&place), [crate::FaultKind::Inserted]);
        // And if it is made good again, the trail says what was there.
        file.set_len(whole).unwrap();
        place.assert_whole();
        assert!((1..=2).contains(&notes(&place, "file-grown")));
    }
}

#[test]
fn records_that_are_there_more_often_make_nothing_be_removed() {
    let place = plenty();
    let copied = archives(&place).remove(3);
    for number in 2..80 {
        fs::copy(&copied, place.directory.path().join(format!("serve.000000000001-{number}.jsonl"))).unwrap();
    }
    let place = assert_removes_nothing(place);
    assert!(!faults(&place).is_empty());
    // Nor if it is the file in use that is copied, and there is less room than it has.
    let mut place = plenty();
    let in_use = place.chain.path.clone();
    place.chain.settings.rotate_bytes = 1_000_000;
    for number in 0..40 {
        place.write(start() + Duration::MINUTE * number);
    }
    place.chain.settings.keep_bytes = 1;
    let kept = place.chain.kept().unwrap();
    place.chain.settings.keep_bytes = place.chain.bytes(&kept, usize::MAX).unwrap() + 2_000;
    fs::copy(&in_use, place.directory.path().join("serve.000000000001-2.jsonl")).unwrap();
    assert!(fs::metadata(&in_use).unwrap().len() > 4_000);
    assert_removes_nothing(place);
    // Nor those that are apart from each other.
    let place = plenty();
    let victim = archives(&place).remove(0);
    let text = fs::read_to_string(&victim).unwrap();
    let (last, rest) = text.trim_end().rsplit_once('\n').map(|(rest, last)| (last, rest)).unwrap();
    fs::write(&victim, format!("{rest}\n{}\n{last}\n", "x".repeat(200_000))).unwrap();
    let place = assert_removes_nothing(place);
    assert_eq!(faults(&place), [crate::FaultKind::Inserted]);
}

#[test]
fn a_file_that_is_renamed_does_not_move_the_beginning_of_the_chain() {
    let mut place = plenty();
    let newest = archives(&place).pop().unwrap();
    fs::rename(&newest, place.directory.path().join("serve.000000000002.jsonl")).unwrap();
    // The oldest has to go, and it alone.
    place.chain.looked.clear();
    let kept = place.chain.kept().unwrap();
    let second = kept[1].first.before.seq;
    place.chain.settings.keep_bytes = 1;
    place.chain.settings.keep_bytes = place.chain.bytes(&kept, usize::MAX).unwrap() - 1;
    place.chain.locked(|chain| chain.remove_old(start(), usize::MAX)).unwrap();
    assert_eq!(place.first(), second + 1);
    assert!(faults(&place).contains(&crate::FaultKind::FileRenamed));
    // Named as it was, it is all there.
    fs::rename(place.directory.path().join("serve.000000000002.jsonl"), &newest).unwrap();
    place.assert_whole();
}

#[test]
fn a_record_of_a_newer_file_in_an_old_one_does_not_move_the_beginning_either() {
    let mut place = plenty();
    let all = archives(&place);
    let newest = fs::read_to_string(all.last().unwrap()).unwrap();
    let mut oldest = fs::read_to_string(&all[0]).unwrap();
    oldest.push_str(newest.lines().next_back().unwrap());
    oldest.push('\n');
    fs::write(&all[0], oldest).unwrap();
    place.chain.looked.clear();
    place.chain.settings.keep_bytes = 10_000;
    place.write(start() + Duration::HOUR);
    place.write(start() + Duration::HOUR);
    assert!(all[0].exists(), "it holds a record that is not to go");
    assert!(all.last().unwrap().exists());
    assert_eq!(notes(&place, "file-mixed"), 1);
    assert!(place.first() < 60, "{}", place.first());
}

#[test]
fn what_is_removed_over_a_gap_stays_a_fault_and_what_is_removed_whole_is_a_notice() {
    let mut place = plenty();
    let all = archives(&place);
    place.chain.settings.keep_bytes = 10_000;
    place.write(start() + Duration::HOUR);
    place.assert_whole();
    let report = verify(place.directory.path(), &key(), &place.heads, &Verify::default()).unwrap();
    let notice = report.notices.iter().find(|notice| notice.kind == crate::NoticeKind::Removed).unwrap();
    let range = format!("the records 1 to {}, the last of them on ", place.first() - 1);
    assert!(notice.text.contains(&range), "{}", notice.text);
    assert!(!all[0].exists());
    // Somebody removes the second of those that are left.
    fs::remove_file(&archives(&place)[1]).unwrap();
    assert_eq!(faults(&place), [crate::FaultKind::Missing]);
    for number in 0..16_i32 {
        place.write(start() + Duration::HOUR + Duration::MINUTE * number);
    }
    assert_eq!(notes(&place, REMOVED_DAMAGED), 1);
    assert_eq!(faults(&place), [crate::FaultKind::Noted], "{}", place.first());
}

#[test]
fn a_beginning_of_which_the_chain_says_nothing_is_a_fault() {
    let mut place = plenty();
    let kept = place.chain.kept().unwrap();
    place.chain.begin_at(kept[1].first.before).unwrap();
    fs::remove_file(&kept[0].path).unwrap();
    assert_eq!(faults(&place), [crate::FaultKind::RemovedUnsaid]);
}

#[test]
fn what_a_record_says_of_the_beginning_can_be_read_again() {
    assert_eq!(begins_after(&format!("a; {}", begins(7))), Some(7));
    assert_eq!(begins_after("the chain begins after record x now"), None);
    assert_eq!(begins_after("a, lines of version 1, was older"), None);
}
