//! Two pieces of work in turn, and the ratio of their times.

use std::time::{Duration, Instant};

const ROUNDS: usize = 60;
const ROUND: Duration = Duration::from_millis(10);

/// Times `work` and `floor` in turn and prints one line.
pub(crate) fn compare(name: &str, mut work: impl FnMut(), mut floor: impl FnMut()) {
    let (times_work, times_floor) = (calibrate(&mut work), calibrate(&mut floor));
    let mut rounds: Vec<(f64, f64)> =
        (0..ROUNDS).map(|_| (time(times_work, &mut work), time(times_floor, &mut floor))).collect();
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

/// How often `work` runs in one round.
fn calibrate(work: &mut impl FnMut()) -> u32 {
    let mut times = 1;
    loop {
        let start = Instant::now();
        for _ in 0..times {
            work();
        }
        if start.elapsed() >= ROUND {
            return times;
        }
        times *= 2;
    }
}

/// Nanoseconds of one run of `work`.
fn time(times: u32, work: &mut impl FnMut()) -> f64 {
    let start = Instant::now();
    for _ in 0..times {
        work();
    }
    start.elapsed().as_secs_f64() * 1e9 / f64::from(times)
}
