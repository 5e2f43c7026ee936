//! Two pieces of work in turn, and the ratio of their times: the processor's time of this thread, so that others who use
//! the machine meanwhile count as little as can be.

use std::time::Duration;

use rustix::time::{ClockId, clock_gettime};

const ROUNDS: usize = 60;
const ROUND: Duration = Duration::from_millis(10);

/// Times `work` and `floor` in turn and prints one line.
pub(crate) fn compare(name: &str, work: impl FnMut(), floor: impl FnMut()) {
    compare_parts(name, whole(work), whole(floor));
}

/// How long this thread has run.
pub(crate) fn now() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    let part = |number: i64| u64::try_from(number).unwrap_or(0);
    Duration::from_secs(part(time.tv_sec)) + Duration::from_nanos(part(time.tv_nsec))
}

/// The same for work of which only a part counts: each is told how often, and says how long its part took.
pub(crate) fn compare_parts(
    name: &str,
    mut work: impl FnMut(u32) -> Duration,
    mut floor: impl FnMut(u32) -> Duration,
) {
    let (times_work, times_floor) = (calibrate(&mut work), calibrate(&mut floor));
    let mut rounds: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| (each(times_work, &mut work), each(times_floor, &mut floor))).collect();
    let ratio = |(work, floor): &(f64, f64)| work / floor;
    rounds.sort_by(|one, two| ratio(one).total_cmp(&ratio(two)));
    let (Some(first), Some(last), Some(median)) = (rounds.first(), rounds.last(), rounds.get(ROUNDS / 2))
    else {
        return;
    };
    println!(
        "{name:<66} {:>5.2}  ({:.2} to {:.2})   {:>6.0} ns against {:>5.0} ns",
        ratio(median),
        ratio(first),
        ratio(last),
        median.0,
        median.1,
    );
}

fn whole(mut work: impl FnMut()) -> impl FnMut(u32) -> Duration {
    move |times| {
        let start = now();
        for _ in 0..times {
            work();
        }
        now() - start
    }
}

/// How often `work` runs in one round.
fn calibrate(work: &mut impl FnMut(u32) -> Duration) -> u32 {
    let mut times = 1;
    while work(times) < ROUND {
        times *= 2;
    }
    times
}

/// Nanoseconds of one run.
fn each(times: u32, work: &mut impl FnMut(u32) -> Duration) -> f64 {
    work(times).as_secs_f64() * 1e9 / f64::from(times)
}
