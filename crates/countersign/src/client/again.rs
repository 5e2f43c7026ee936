//! When a request that got no answer goes out again by itself, whatever its method (CS-58).

use std::time::{Duration, Instant};

use super::ClientError;

/// The pauses before attempts to connect: none, this, and twice as much each time, up to the longest.
const FIRST: Duration = Duration::from_millis(50);
const LONGEST: Duration = Duration::from_millis(800);

/// How often a request goes out again after connections that did not take it. More than one can have been idle.
const CONNECTIONS: usize = 4;

/// What is left to be tried for one request.
pub(super) struct Again {
    /// Until when it is tried to connect.
    until: Instant,
    pause: Option<Duration>,
    connections: usize,
}

impl Again {
    /// Waits as long as `patience` for a server that refuses connections, and tries once more in any case.
    pub(super) fn new(patience: Duration) -> Self {
        Self { until: Instant::now() + patience, pause: None, connections: CONNECTIONS }
    }

    /// Whether there is another attempt after this error: waits until it is time for it.
    pub(super) async fn after(&mut self, error: &ClientError) -> bool {
        match error {
            ClientError::Connect { passing: true, .. } => {
                let pause = self.pause.unwrap_or_default();
                if !pause.is_zero() && Instant::now() + pause > self.until {
                    return false;
                }
                self.pause = Some((pause * 2).clamp(FIRST, LONGEST));
                tokio::time::sleep(pause).await;
                true
            }
            ClientError::NotTaken { .. } if self.connections > 0 => {
                self.connections -= 1;
                true
            }
            _ => false,
        }
    }
}
