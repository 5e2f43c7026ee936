//! Which attempts get a line of their own on the trail, and what becomes of the others.
//!
//! An accepted attempt always gets one. Of those that are not accepted strangers can make as many as they like, from as
//! many addresses as they like, and must not be able to fill the disk or to push older records out of it. So there is
//! so much room for their lines and no more, whoever comes: what the trail says that it can keep for as long as it is to
//! keep records ([`AuditSink::spare_lines`](countersign_audit::AuditSink::spare_lines)). Beyond it attempts are counted,
//! by step and reason, and the counts are written as records now and then, which take of that room as well.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_audit::{Direction, Outcome, Record};
use countersign_protocol::refusal::Refusal;
use countersign_store::{Limiter, Quota};

use super::limits::source_network;

/// Lines of rate-limited attempts, by source.
const LIMITED: Quota = Quota::per_minute(60, 60);
/// How long counts are kept before they are written, in milliseconds.
const WRITE_AFTER_MS: u64 = 10_000;

/// What an attempt that is not accepted takes its line from: none of them can use up what is another's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Share {
    /// Refused, and names no credential that is known here.
    Stranger,
    /// Refused, and names one. Anybody can name one under `shared-secret`, where keys are public.
    Named,
    /// Was given a challenge.
    Challenged,
    /// Came with a credential that is marked as compromised: an alarm.
    Alarm,
}

impl Share {
    pub(super) fn of(outcome: Outcome, reason: &str, named: bool) -> Self {
        match outcome {
            Outcome::Challenged => Self::Challenged,
            _ if reason == Refusal::CredentialCompromised.code() => Self::Alarm,
            _ if named => Self::Named,
            _ => Self::Stranger,
        }
    }
}

/// The `part`th part of the lines that can be spared a day, and no more than so many a minute: at once what comes to a
/// week, and no more than 5,000.
fn budget(spare: u64, part: u64, most_per_minute: u64) -> Limiter {
    let per_day = (spare / part).clamp(1, most_per_minute * 60 * 24);
    let burst = u32::try_from(per_day.saturating_mul(7)).unwrap_or(u32::MAX).min(5_000);
    Limiter::new(Quota::per_day(per_day, burst), 1)
}

/// One kind of attempt. Fixed sets both, so that counts take little memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Kind {
    pub(super) step: &'static str,
    pub(super) refused: bool,
    pub(super) reason: &'static str,
}

/// Attempts of one kind that got no line.
#[derive(Clone, Debug)]
pub(super) struct Folded {
    kind: Kind,
    count: u64,
    first_time: String,
    last_time: String,
    /// The first one's; others may have come from elsewhere.
    source: IpAddr,
    one_source: bool,
    one_network: bool,
    /// The peer that all of them named, if it is one.
    service: Option<String>,
}

#[derive(Debug)]
pub(super) struct Lines {
    limited: Limiter,
    strangers: Limiter,
    named: Limiter,
    challenged: Limiter,
    alarm: Limiter,
    /// Records that hold counts.
    counts: Limiter,
    folded: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    kinds: BTreeMap<Kind, Folded>,
    /// When the first of these came.
    since_ms: u64,
}

impl Lines {
    /// `spare`: lines a day, of all of these together.
    pub(super) fn new(capacity: usize, spare: u64) -> Self {
        Self {
            limited: Limiter::new(LIMITED, capacity),
            strangers: budget(spare, 4, 600),
            named: budget(spare, 4, 3_000),
            challenged: budget(spare, 4, 3_000),
            alarm: budget(spare, 8, 60),
            counts: budget(spare, 8, 600),
            folded: Mutex::default(),
        }
    }

    /// Bytes of the table whose size depends on a setting.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.limited.bytes()
    }

    /// Whether an attempt that is not accepted gets a line.
    pub(super) fn has_room(&self, limited: bool, share: Share, source: IpAddr, now_ms: u64) -> bool {
        let all = match share {
            Share::Stranger => &self.strangers,
            Share::Named => &self.named,
            Share::Challenged => &self.challenged,
            Share::Alarm => &self.alarm,
        };
        (!limited || self.limited.hit(&source_network(source), now_ms).is_ok())
            && all.hit(&(), now_ms).is_ok()
    }

    fn counts(&self) -> MutexGuard<'_, Counts> {
        self.folded.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts one that gets none.
    pub(super) fn fold(&self, kind: Kind, source: IpAddr, service: Option<&String>, now_ms: u64) {
        let time = countersign_audit::now();
        let folded = Folded {
            kind,
            count: 1,
            first_time: time.clone(),
            last_time: time,
            source: source.to_canonical(),
            one_source: true,
            one_network: true,
            service: service.cloned(),
        };
        self.counts().add(folded, now_ms);
    }

    /// The counts that are to be written now, those first that began first, as far as there is room for them; with
    /// `all` every one.
    pub(super) fn take(&self, all: bool, now_ms: u64) -> Vec<Folded> {
        let mut counts = self.counts();
        if counts.kinds.is_empty() || !(all || now_ms.saturating_sub(counts.since_ms) >= WRITE_AFTER_MS) {
            return Vec::new();
        }
        let mut due: Vec<Folded> = std::mem::take(&mut counts.kinds).into_values().collect();
        if !all {
            due.sort_by(|a, b| a.first_time.cmp(&b.first_time));
            let room = due.iter().take_while(|_| self.counts.hit(&(), now_ms).is_ok()).count();
            // The others go on counting.
            counts.kinds = due.split_off(room).into_iter().map(|folded| (folded.kind, folded)).collect();
            counts.since_ms = now_ms;
        }
        due
    }

    /// Takes back what could not be written.
    pub(super) fn put_back(&self, folded: Folded, now_ms: u64) {
        self.counts().add(folded, now_ms);
    }
}

impl Counts {
    fn add(&mut self, new: Folded, now_ms: u64) {
        if self.kinds.is_empty() {
            self.since_ms = now_ms;
        }
        let Some(known) = self.kinds.get_mut(&new.kind) else {
            self.kinds.insert(new.kind, new);
            return;
        };
        known.count = known.count.saturating_add(new.count);
        known.one_source &= new.one_source && source_network(known.source) == source_network(new.source);
        known.one_network &= new.one_network && network(known.source) == network(new.source);
        if known.service != new.service {
            known.service = None;
        }
        known.first_time = new.first_time.min(std::mem::take(&mut known.first_time));
        known.last_time = new.last_time.max(std::mem::take(&mut known.last_time));
    }
}

impl Folded {
    /// The record that stands for all of them.
    pub(super) fn record(&self) -> Record {
        let outcome = if self.kind.refused { Outcome::Refused } else { Outcome::Challenged };
        Record {
            service: self.service.clone(),
            source: self.one_source.then_some(self.source),
            source_network: (self.one_network && !self.one_source).then(|| network(self.source)),
            count: Some(self.count),
            first_time: Some(self.first_time.clone()),
            last_time: Some(self.last_time.clone()),
            detail: Some(format!("{} attempts that got no line of their own", self.count)),
            ..Record::new(Direction::Inbound, self.kind.step, outcome, self.kind.reason)
        }
    }
}

/// The /24 or /48 that an address is in.
fn network(source: IpAddr) -> String {
    match source {
        IpAddr::V4(v4) => {
            let [a, b, c, _] = v4.octets();
            format!("{a}.{b}.{c}.0/24")
        }
        IpAddr::V6(v6) => {
            let bits = v6.to_bits() >> 80 << 80;
            format!("{}/48", std::net::Ipv6Addr::from_bits(bits))
        }
    }
}

#[cfg(test)]
mod tests {
    use std::net::Ipv4Addr;

    use countersign_audit::Settings;

    use super::*;

    const KIND: Kind = Kind { step: "request", refused: true, reason: "no-credentials" };

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_million_strangers_write_no_more_than_a_bounded_number_of_lines() {
        let lines = Lines::new(4096, u64::MAX);
        let (mut written, mut folded) = (0_u64, 0_u64);
        // Each from an address of its own, all within a minute, half of them naming a peer whose key is public.
        for number in 0..1_000_000_u32 {
            let (source, now) =
                (IpAddr::V4(Ipv4Addr::from(0x1400_0000 + number)), u64::from(number) * 60 / 1_000);
            let share = if number % 2 == 0 { Share::Named } else { Share::Stranger };
            if lines.has_room(number % 3 == 0, share, source, now) {
                written += 1;
            } else {
                lines.fold(KIND, source, None, now);
                folded += 1;
            }
        }
        assert_eq!(written + folded, 1_000_000);
        // Two bursts, and what comes back in a minute.
        assert!(written <= 5_000 + 600 + 5_000 + 3_000, "{written}");
        let counts = lines.take(false, 60_000);
        assert_eq!(counts.len(), 1, "a count for each kind, however many there were");
        assert_eq!(counts[0].record().count, Some(folded));
        // In the long run it is so many a minute.
        let later: u32 = (60_000..3_660_000_u64)
            .map(|now| u32::from(lines.has_room(false, Share::Stranger, from("192.0.2.1"), now)))
            .sum();
        assert!((36_000..=36_001).contains(&later), "{later} in an hour");
    }

    #[test]
    fn who_uses_up_one_share_takes_no_room_from_another() {
        let shares = [Share::Stranger, Share::Named, Share::Challenged, Share::Alarm];
        for share in shares {
            let lines = Lines::new(4096, u64::MAX);
            while lines.has_room(false, share, from("192.0.2.1"), 0) {}
            for other in shares.into_iter().filter(|other| *other != share) {
                assert!(lines.has_room(false, other, from("192.0.2.1"), 0), "{share:?} {other:?}");
            }
        }
        let of = |outcome, refusal: Refusal| Share::of(outcome, refusal.code(), true);
        assert_eq!(of(Outcome::Refused, Refusal::CredentialCompromised), Share::Alarm);
        assert_eq!(of(Outcome::Challenged, Refusal::ChallengeSent), Share::Challenged);
        assert_eq!(of(Outcome::Refused, Refusal::WrongSignature), Share::Named);
        assert_eq!(Share::of(Outcome::Refused, "unknown-key", false), Share::Stranger);
    }

    #[test]
    fn whatever_comes_all_the_time_fits_into_half_of_what_is_kept_for_as_long_as_it_is_kept() {
        for (keep_mib, days) in [(4096, 90), (256, 90), (2, 90), (4096, 1), (64, 3650)] {
            let settings = Settings {
                keep_bytes: keep_mib << 20,
                keep: std::time::Duration::from_secs(days * 24 * 60 * 60),
                ..Settings::default()
            };
            let lines = Lines::new(4096, settings.spare_lines());
            let (mut written, source) = (0_u64, from("192.0.2.1"));
            // Everybody comes all the time, and each kind is counted as well: in steps of six hours.
            for now in (0..=days * 4).map(|step| step * 21_600_000) {
                for share in [Share::Stranger, Share::Named, Share::Challenged, Share::Alarm] {
                    while lines.has_room(false, share, source, now) {
                        written += 1;
                    }
                }
                loop {
                    for step in ["a", "b", "c", "d", "e", "f", "g", "h"] {
                        lines.fold(Kind { step, ..KIND }, source, None, now.saturating_sub(WRITE_AFTER_MS));
                    }
                    let taken = lines.take(false, now).len() as u64;
                    written += taken;
                    if taken == 0 {
                        break;
                    }
                    lines.counts().since_ms = 0;
                }
            }
            // Each share holds a week's at once.
            let most = settings.spare_lines() * (days + 7) + 40;
            assert!(written <= most, "{keep_mib} MiB, {days} days: {written} of {most}");
            assert!(written * 640 <= (keep_mib << 20) * 9 / 10 + 30_000, "{written}");
        }
    }

    #[test]
    fn counts_for_which_there_is_no_room_go_on_and_those_that_wait_longest_come_first() {
        let lines = Lines::new(4096, 8);
        let kind = |step| Kind { step, ..KIND };
        let mut taken = Vec::new();
        for (number, step) in ["d", "c", "b", "a", "e", "f", "g", "h", "i"].into_iter().enumerate() {
            lines.fold(kind(step), from("192.0.2.1"), None, 0);
            // The order is by time.
            let first = format!("2026-11-27T00:00:{number:02}.000Z");
            lines.counts().kinds.get_mut(&kind(step)).unwrap().first_time = first;
        }
        taken.extend(lines.take(false, 20_000).iter().map(|it| it.kind.step));
        assert_eq!(taken, ["d", "c", "b", "a", "e", "f", "g"], "a week's at once");
        lines.fold(kind("h"), from("192.0.2.1"), None, 30_000);
        assert!(lines.take(false, 40_000).is_empty());
        let rest: Vec<_> = lines.take(true, 40_000).iter().map(|it| it.record().count).collect();
        assert_eq!(rest, [Some(2), Some(1)], "nothing is lost");
    }

    #[test]
    fn counts_say_what_all_of_them_have_in_common() {
        let lines = Lines::new(4096, u64::MAX);
        let billing = Some("billing".to_owned());
        let fold =
            |source: &str, service: &Option<String>| lines.fold(KIND, from(source), service.as_ref(), 0);
        let one = |lines: &Lines| lines.take(true, 0).remove(0).record();
        fold("192.0.2.1", &billing);
        fold("::ffff:192.0.2.1", &billing);
        let record = one(&lines);
        assert_eq!((record.source, record.count), (Some(from("192.0.2.1")), Some(2)));
        assert_eq!((record.service, record.source_network), (billing.clone(), None));
        assert!(record.first_time <= record.last_time && record.request_id.is_empty());
        fold("192.0.2.1", &billing);
        fold("192.0.2.9", &None);
        let record = one(&lines);
        assert_eq!((record.source, record.service), (None, None));
        assert_eq!(record.source_network.as_deref(), Some("192.0.2.0/24"));
        fold("2001:db8:0:1::1", &None);
        fold("2001:db8:0:2::1", &None);
        assert_eq!(one(&lines).source_network.as_deref(), Some("2001:db8::/48"));
        fold("192.0.2.1", &None);
        fold("198.51.100.1", &None);
        assert_eq!(one(&lines).source_network, None);
    }

    #[test]
    fn counts_wait_for_ten_seconds_and_come_back_if_they_could_not_be_written() {
        let lines = Lines::new(4096, u64::MAX);
        lines.fold(KIND, from("192.0.2.1"), None, 1_000);
        lines.fold(Kind { refused: false, ..KIND }, from("192.0.2.1"), None, 5_000);
        assert!(lines.take(false, 10_999).is_empty());
        let taken = lines.take(false, 11_000);
        assert_eq!(taken.len(), 2);
        assert!(lines.take(true, 11_000).is_empty());
        for folded in taken {
            lines.put_back(folded, 11_000);
        }
        lines.fold(KIND, from("192.0.2.1"), None, 12_000);
        let counts: Vec<_> = lines.take(true, 12_000).iter().map(|it| it.record().count).collect();
        assert_eq!(counts, [Some(1), Some(2)]);
    }
}
