//! What the trail costs: complete guide-2 authentications, both steps on the trail, by one caller and by many.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use countersign::audit::{AuditSink, Record, Ticket};

use crate::authentications::{gateway, open, rate};

const ROUNDS: usize = 7;
const CALLERS: [usize; 3] = [1, 8, 64];

/// Takes every record and does nothing with it, but count.
#[derive(Default)]
struct Nothing(AtomicU64);

impl AuditSink for Nothing {
    fn submit(&self, _: Record) -> Ticket {
        self.0.fetch_add(1, Ordering::Relaxed);
        Ticket::known(Ok(()))
    }
}

pub(crate) fn run() {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().expect("a runtime");
    runtime.block_on(async {
        // Where builds go, and not into memory as `/tmp` is on many machines.
        let place = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("../target");
        let [synced, unsynced] = [(); 2].map(|()| tempfile::tempdir_in(&place).expect("a directory"));
        let nothing = Arc::new(Nothing::default());
        let servers = [
            gateway(Some(Arc::clone(&nothing) as Arc<dyn AuditSink>)).await,
            gateway(Some(Arc::new(open(unsynced.path(), true)))).await,
            gateway(Some(Arc::new(open(synced.path(), false)))).await,
        ];
        println!("{:>7} {:>34} {:>34} {:>34}", "callers", "a sink that does nothing", "trail, not waiting for the disk", "trail, each group synced");
        for callers in CALLERS {
            let mut rounds = Vec::new();
            for _ in 0..ROUNDS {
                let mut round = [0.0; 3];
                for (rate_of, address) in round.iter_mut().zip(servers) {
                    *rate_of = rate(address, callers, true).await;
                }
                rounds.push(round);
            }
            let figures = [0, 1, 2].map(|server: usize| {
                let rate = median(rounds.iter().filter_map(|round| round.get(server).copied()));
                let ratio = median(rounds.iter().filter_map(|round| Some(round.get(server)? / round.first()?)));
                #[allow(clippy::cast_precision_loss, reason = "a few callers")]
                let each = 1e6 * callers as f64 / rate;
                format!("{rate:>7.0}/s {each:>7.0} us each {ratio:>5.2}")
            });
            println!("{callers:>7} {:>34} {:>34} {:>34}", figures[0], figures[1], figures[2]);
        }
        println!("(pairs of requests a second, the time of one pair for its caller, and the ratio to the first column; medians of {ROUNDS} rounds in turn; {} records went to the sink)", nothing.0.load(Ordering::Relaxed));
        println!("bare syncs of this disk, 400 bytes each: {}", syncs(synced.path()));
    });
}

fn median(numbers: impl Iterator<Item = f64>) -> f64 {
    let mut numbers: Vec<f64> = numbers.collect();
    numbers.sort_by(f64::total_cmp);
    numbers.get(numbers.len() / 2).copied().unwrap_or_default()
}

/// How long the disk itself takes, without any of our code.
fn syncs(directory: &std::path::Path) -> String {
    use std::io::Write as _;
    let mut file = std::fs::File::create(directory.join("bare")).expect("a file");
    let times = (0..200).map(|_| {
        let start = std::time::Instant::now();
        file.write_all(&[b'x'; 400]).and_then(|()| file.sync_data()).expect("a disk");
        start.elapsed().as_secs_f64() * 1e6
    });
    format!("{:.0} us each (median of 200)", median(times))
}
