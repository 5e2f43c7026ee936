//! What a million sources cost in the rate limiter, beside what one would write without it.

use std::collections::HashMap;
use std::hint::black_box;
use std::net::{IpAddr, Ipv4Addr};
use std::num::NonZeroU32;
use std::sync::Mutex;
use std::time::Instant;

use countersign::server::{Limits, source_network};
use countersign::store::{Limiter, Quota};
use governor::RateLimiter;

use crate::paired::compare;

const SOURCES: u32 = 1_000_000;
/// Sixty a minute, sixty at once.
const QUOTA: Quota = Quota::per_minute(60, 60);

pub(crate) fn run() {
    let default = Limits::default().capacity;
    let ours = measure("ours, default capacity", || flooded(default));
    let large = measure("ours, capacity for two million", || flooded(2_097_152));
    let naive = measure("HashMap<IpAddr, (u64, Instant)>", || {
        let naive = Mutex::new(HashMap::new());
        for number in 0..SOURCES {
            assert!(naively(&naive, source(number)));
        }
        naive
    });
    let theirs = measure("governor 0.10, keyed, in a HashMap", || {
        let limiter =
            RateLimiter::hashmap(governor::Quota::per_minute(NonZeroU32::new(60).expect("not nought")));
        for number in 0..SOURCES {
            assert!(limiter.check_key(&source(number)).is_ok());
        }
        limiter
    });
    println!();
    let (mut new, mut other, mut now) = (SOURCES, 0, 1);
    let empty = Limiter::new(QUOTA, default);
    let strangers = || {
        new += 1;
        black_box(hit(&ours, new, 0));
    };
    // An hour apart: everybody is at rest again.
    let alone = || {
        (other, now) = (other + 1, now + 3_600_000);
        black_box(hit(&empty, other, now));
    };
    compare("ours: a new source in a full table, to one in an empty table", strangers, alone);
    let (mut one, mut same) = (scattered(), scattered());
    let known = || {
        black_box(hit(&large, one(), 0));
    };
    compare("ours: one of a million sources, to the HashMap", known, || {
        black_box(naively(&naive, source(same())));
    });
    let (mut one, mut same) = (scattered(), scattered());
    let known = || {
        black_box(hit(&large, one(), 0));
    };
    compare("ours: one of a million sources, to governor", known, || {
        black_box(theirs.check_key(&source(same())).is_ok());
    });
}

/// A limiter that each of a million sources has been at.
fn flooded(capacity: usize) -> Limiter {
    let limiter = Limiter::new(QUOTA, capacity);
    for number in 0..SOURCES {
        assert!(hit(&limiter, number, 0));
    }
    println!("its table: {} bytes, fixed; {} sources are counted in it", limiter.bytes(), limiter.counted(0));
    limiter
}

fn hit(limiter: &Limiter, number: u32, now: u64) -> bool {
    limiter.hit(&source_network(source(number)), now).is_ok()
}

/// All sources again and again, in an order that no cache foresees.
fn scattered() -> impl FnMut() -> u32 {
    let mut number = 0_u32;
    move || {
        number = (number + 611_953) % SOURCES;
        number
    }
}

fn source(number: u32) -> IpAddr {
    IpAddr::V4(Ipv4Addr::from(number.wrapping_add(0x0b00_0000)))
}

/// What one would write: a count that begins anew every minute.
fn naively(counts: &Mutex<HashMap<IpAddr, (u64, Instant)>>, source: IpAddr) -> bool {
    let now = Instant::now();
    let mut counts = counts.lock().expect("nobody panics");
    let (count, since) = counts.entry(source).or_insert((0, now));
    if now.duration_since(*since).as_secs() >= 60 {
        (*count, *since) = (0, now);
    }
    *count += 1;
    *count <= 60
}

/// Makes it and prints by how much the process has grown.
fn measure<T>(name: &str, make: impl FnOnce() -> T) -> T {
    let before = resident();
    let made = make();
    let grown = resident().saturating_sub(before);
    let each = f64::from(u32::try_from(grown / 1_000).unwrap_or(u32::MAX)) * 1_000.0 / f64::from(SOURCES);
    println!(
        "{name:<40} {:>6.1} MiB resident, {each:>6.1} bytes a source",
        each * f64::from(SOURCES) / 1_048_576.0
    );
    made
}

/// Resident bytes of this process (Linux).
fn resident() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).unwrap_or_default();
    line.trim().trim_end_matches(" kB").parse::<u64>().unwrap_or_default() * 1024
}
