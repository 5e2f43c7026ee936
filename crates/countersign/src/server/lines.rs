//! Which attempts get a line of their own on the trail, and what becomes of the others.
//!
//! An accepted attempt always gets one. Of those that are not accepted strangers can make as many as they like, from as
//! many addresses as they like, and must not be able to fill the disk or to push older records out of it. So there is
//! so much room for their lines and no more, whoever comes; beyond it attempts are counted, by step and reason, and the
//! counts are written as records now and then.

use std::collections::BTreeMap;
use std::net::IpAddr;
use std::sync::{Mutex, MutexGuard, PoisonError};

use countersign_audit::{Direction, Outcome, Record};
use countersign_store::{Limiter, Quota};

use super::limits::source_network;

/// Lines of rate-limited attempts, by source.
const LIMITED: Quota = Quota::per_minute(60, 60);
/// Lines of attempts that are not accepted and name no credential that is known here, of all sources together.
const STRANGERS: Quota = Quota::per_minute(600, 5_000);
/// The same for those that name one. Anybody can name one under `shared-secret`, where keys are public.
const NAMED: Quota = Quota::per_minute(3_000, 5_000);
/// How long counts are kept before they are written, in milliseconds.
const WRITE_AFTER_MS: u64 = 10_000;

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
    folded: Mutex<Counts>,
}

#[derive(Debug, Default)]
struct Counts {
    kinds: BTreeMap<Kind, Folded>,
    /// When the first of these came.
    since_ms: u64,
}

impl Lines {
    pub(super) fn new(capacity: usize) -> Self {
        Self {
            limited: Limiter::new(LIMITED, capacity),
            strangers: Limiter::new(STRANGERS, 1),
            named: Limiter::new(NAMED, 1),
            folded: Mutex::default(),
        }
    }

    /// Bytes of the table whose size depends on a setting.
    #[cfg(test)]
    pub(super) fn bytes(&self) -> usize {
        self.limited.bytes()
    }

    /// Whether an attempt that is not accepted gets a line.
    pub(super) fn has_room(&self, limited: bool, named: bool, source: IpAddr, now_ms: u64) -> bool {
        let all = if named { &self.named } else { &self.strangers };
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

    /// The counts that are to be written now; with `all` those that could wait as well.
    pub(super) fn take(&self, all: bool, now_ms: u64) -> Vec<Folded> {
        let mut counts = self.counts();
        if counts.kinds.is_empty() || !(all || now_ms.saturating_sub(counts.since_ms) >= WRITE_AFTER_MS) {
            return Vec::new();
        }
        std::mem::take(&mut counts.kinds).into_values().collect()
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

    use super::*;

    const KIND: Kind = Kind { step: "request", refused: true, reason: "no-credentials" };

    fn from(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_million_strangers_write_no_more_than_a_bounded_number_of_lines() {
        let lines = Lines::new(4096);
        let (mut written, mut folded) = (0_u64, 0_u64);
        // Each from an address of its own, all within a minute, half of them naming a peer whose key is public.
        for number in 0..1_000_000_u32 {
            let (source, now) =
                (IpAddr::V4(Ipv4Addr::from(0x1400_0000 + number)), u64::from(number) * 60 / 1_000);
            if lines.has_room(number % 3 == 0, number % 2 == 0, source, now) {
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
            .map(|now| u32::from(lines.has_room(false, false, from("192.0.2.1"), now)))
            .sum();
        assert!((36_000..=36_001).contains(&later), "{later} in an hour");
    }

    #[test]
    fn strangers_who_name_nobody_take_no_room_from_those_who_name_a_peer() {
        let lines = Lines::new(4096);
        while lines.has_room(false, false, from("192.0.2.1"), 0) {}
        assert!(lines.has_room(false, true, from("192.0.2.1"), 0));
    }

    #[test]
    fn counts_say_what_all_of_them_have_in_common() {
        let lines = Lines::new(4096);
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
        let lines = Lines::new(4096);
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
