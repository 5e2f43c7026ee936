//! How many connections one source may hold, so that it cannot hold all of them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

use countersign::server::source_network;

/// Connections by source. It has an entry only for sources that are connected.
#[derive(Debug)]
pub(crate) struct Sources {
    most: usize,
    open: Mutex<HashMap<u128, usize>>,
}

impl Sources {
    pub(crate) fn new(most: usize) -> Arc<Self> {
        Arc::new(Self { most, open: Mutex::default() })
    }

    /// Takes a place for one connection, until what comes back is dropped; `None` if the source has all it may.
    pub(crate) fn enter(self: &Arc<Self>, source: IpAddr) -> Option<Place> {
        let network = source_network(source);
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let count = open.entry(network).or_default();
        if *count >= self.most {
            return None;
        }
        *count += 1;
        Some(Place { sources: Arc::clone(self), network })
    }
}

/// One connection's place.
#[derive(Debug)]
pub(crate) struct Place {
    sources: Arc<Sources>,
    network: u128,
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut open = self.sources.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(count) = open.get_mut(&self.network) {
            *count -= 1;
            if *count == 0 {
                open.remove(&self.network);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_source_cannot_take_the_places_of_others_and_gets_its_own_back() {
        let sources = Sources::new(2);
        let (here, there) = (IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let first = sources.enter(here);
        let second = sources.enter(here);
        assert!(first.is_some() && second.is_some());
        assert!(sources.enter(here).is_none());
        assert!(sources.enter(there).is_some());
        drop(first);
        assert!(sources.enter(here).is_some());
        drop(second);
        assert!(sources.open.lock().unwrap().is_empty());
    }
}
