//! When a request that got no answer goes out again by itself (CS-35, CS-58).

use std::time::Duration;

use countersign_store::random;
use tokio::time::{Instant, sleep};

use super::ClientError;

/// The pauses before attempts to connect: none, this, and twice as much each time, up to the longest; each a quarter more or
/// less, so that not all callers come back in step.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(800);

/// How often a request goes out again that HTTP/2 says was not taken.
const REFUSED: usize = 4;

/// What is left to be tried for one request.
pub(super) struct Again {
    /// Until when it is tried to connect.
    until: Instant,
    pause: Option<Duration>,
    refused: usize,
}

impl Again {
    /// Waits as long as `patience` for a server that takes no connections, and tries once more in any case.
    pub(super) fn new(patience: Duration) -> Self {
        Self::until(Instant::now() + patience)
    }

    /// The same from an earlier beginning.
    pub(super) const fn until(until: Instant) -> Self {
        Self { until, pause: None, refused: REFUSED }
    }

    /// Whether there is another attempt after this error: waits until it is time for it.
    pub(super) async fn after(&mut self, error: &ClientError) -> bool {
        match error {
            ClientError::Connect { passing: true, .. } => self.later().await,
            ClientError::Broken { refused: true, .. } if self.refused > 0 => {
                self.refused -= 1;
                true
            }
            _ => false,
        }
    }

    /// The same for what has no effect if it does not end.
    pub(super) async fn after_harmless(&mut self, error: &ClientError) -> bool {
        match error {
            ClientError::Connect { passing: true, .. } | ClientError::Broken { .. } => self.later().await,
            _ => false,
        }
    }

    async fn later(&mut self) -> bool {
        let pause = self.pause.unwrap_or_default();
        if !pause.is_zero() && Instant::now() + pause > self.until {
            return false;
        }
        self.pause = Some((pause * 2).clamp(FIRST, LONGEST));
        let [by] = random::<1>();
        sleep(pause.mul_f32(0.75 + f32::from(by) / 512.0)).await;
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(passing: bool) -> ClientError {
        ClientError::Connect { url: String::new(), why: String::new(), passing }
    }

    fn broken(refused: bool) -> ClientError {
        ClientError::Broken { url: String::new(), why: String::new(), refused }
    }

    #[tokio::test(start_paused = true)]
    async fn a_server_that_is_away_is_waited_for_as_long_as_patience_lasts_and_no_longer() {
        for (seconds, least, most) in [(0, 1, 1), (1, 4, 6), (5, 9, 13), (30, 36, 52)] {
            let patience = Duration::from_secs(seconds);
            let (since, mut again, mut attempts) = (Instant::now(), Again::new(patience), 0);
            while again.after(&connect(true)).await {
                attempts += 1;
            }
            assert!((least..=most).contains(&attempts), "{seconds}: {attempts}");
            assert!(since.elapsed() <= patience + LONGEST / 4);
        }
    }

    #[tokio::test(start_paused = true)]
    async fn who_has_waited_already_tries_once_more_and_what_will_not_pass_is_not_tried_again() {
        let mut again = Again::until(Instant::now());
        tokio::time::advance(Duration::from_secs(100)).await;
        assert!(again.after(&connect(true)).await && !again.after(&connect(true)).await);
        let mut again = Again::new(Duration::from_secs(5));
        assert!(!again.after(&connect(false)).await && !again.after(&broken(false)).await);
        for _ in 0..REFUSED {
            assert!(again.after(&broken(true)).await);
        }
        assert!(!again.after(&broken(true)).await);
    }
}
