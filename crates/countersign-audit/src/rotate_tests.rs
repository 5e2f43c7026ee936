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
                chain.prune(now);
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
    place.chain.firsts.clear();
    for number in 200..400_i32 {
        place.write(start() + Duration::SECOND * number);
        assert!(bytes(&place) < 10_000 + 2_000, "{}", bytes(&place));
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
    let next = kept[1].first.unwrap().before;
    assert!(place.chain.begin_at(Some(next)).unwrap());
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
    place.chain.locked(|chain| chain.rotate(start())).unwrap();
    place.days(3..5);
    let names: Vec<_> = files::of_writer(place.directory.path(), "serve").unwrap();
    assert!(matches!(names[0].0, Kind::Archive(3, 1)), "{names:?}");
}
