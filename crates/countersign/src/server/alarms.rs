//! The alarm in the log that somebody comes with a credential that is marked as compromised: at once, and from then on
//! once a minute with how often. Keys are public under `shared-secret`, so anybody can set it off as often as he likes.

use std::collections::BTreeMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// How long it is quiet after it was said, in milliseconds.
const QUIET_MS: u64 = 60_000;

/// By credential, of which there are only as many as there are known.
#[derive(Debug, Default)]
pub(super) struct Alarms(Mutex<BTreeMap<String, Alarm>>);

#[derive(Debug)]
struct Alarm {
    said_ms: u64,
    /// Attempts since.
    unsaid: u64,
}

impl Alarms {
    fn lock(&self) -> MutexGuard<'_, BTreeMap<String, Alarm>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts an attempt. How many there are to say, if it is to be said now.
    pub(super) fn count(&self, credential: &str, now_ms: u64) -> Option<u64> {
        let mut alarms = self.lock();
        let Some(alarm) = alarms.get_mut(credential) else {
            alarms.insert(credential.to_owned(), Alarm { said_ms: now_ms, unsaid: 0 });
            return Some(1);
        };
        alarm.unsaid = alarm.unsaid.saturating_add(1);
        if now_ms.saturating_sub(alarm.said_ms) < QUIET_MS {
            return None;
        }
        alarm.said_ms = now_ms;
        Some(std::mem::take(&mut alarm.unsaid))
    }

    /// What is to be said although nothing has come: how many there were at the end; with `all` also what could wait.
    pub(super) fn due(&self, all: bool, now_ms: u64) -> Vec<(String, u64)> {
        let mut due = Vec::new();
        self.lock().retain(|credential, alarm| {
            if !all && now_ms.saturating_sub(alarm.said_ms) < QUIET_MS {
                return true;
            }
            if alarm.unsaid > 0 {
                due.push((credential.clone(), std::mem::take(&mut alarm.unsaid)));
                alarm.said_ms = now_ms;
                return true;
            }
            false
        });
        due
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_is_said_at_once_and_then_once_a_minute_for_each_credential_and_each_attempt_is_counted() {
        let alarms = Alarms::default();
        let said: Vec<u64> = (0..180_000).filter_map(|now| alarms.count("billing/1", now)).collect();
        assert_eq!(said, [1, 60_000, 60_000]);
        assert_eq!(alarms.count("billing/2", 180_000), Some(1), "another one does not wait for it");
        assert!(alarms.due(false, 179_999).is_empty());
        assert_eq!(alarms.due(false, 180_000), [("billing/1".to_owned(), 59_999)]);
        assert!(alarms.due(true, 180_001).is_empty());
        assert_eq!(alarms.count("billing/1", 500_000), Some(1));
        assert_eq!(alarms.count("billing/1", 500_001), None);
        assert_eq!(alarms.due(true, 500_002), [("billing/1".to_owned(), 1)]);
    }

    #[test]
    fn what_is_over_is_forgotten() {
        let alarms = Alarms::default();
        alarms.count("billing/1", 0);
        assert!(alarms.due(false, QUIET_MS).is_empty());
        assert!(alarms.lock().is_empty());
    }
}
