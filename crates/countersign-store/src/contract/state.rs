//! What every [`StateStore`] has to do with what a server keeps for its next start.

use countersign_protocol::UnixTime;

use super::NOW;
use crate::{State, StateStore};

const ALL: [State; 3] = [State::TicketKeys, State::ReplayLog, State::Lost];

/// Runs the suite; `make` gives a fresh, empty store each time.
///
/// # Panics
/// If the store breaks the contract.
pub fn check<S: StateStore>(make: impl Fn() -> S) {
    a_fresh_store_keeps_nothing(&make());
    what_is_kept_comes_back_with_its_time(&make());
    what_is_kept_later_takes_the_place_of_the_earlier(&make());
    each_state_is_kept_by_itself(&make());
    what_is_forgotten_is_gone(&make());
    what_is_taken_is_gone(&make());
    after_racing_takers_it_is_gone(&make());
}

fn kept(store: &impl StateStore, state: State) -> Option<(UnixTime, Vec<u8>)> {
    store.kept(state).unwrap().map(|kept| (kept.at, kept.bytes.to_vec()))
}

fn a_fresh_store_keeps_nothing(store: &impl StateStore) {
    for state in ALL {
        assert_eq!(kept(store, state), None);
        assert!(!store.has(state).unwrap());
        assert!(store.take(state).unwrap().is_none());
        store.forget(state).unwrap();
    }
}

fn what_is_kept_comes_back_with_its_time(store: &impl StateStore) {
    let long: Vec<u8> = (0..100_000_u32).flat_map(u32::to_be_bytes).collect();
    for (at, bytes) in
        [(NOW, &b"keys"[..]), (NOW.plus(1), b""), (NOW.plus(2), b"\0\xff"), (NOW.plus(3), &long)]
    {
        store.keep(State::TicketKeys, at, bytes).unwrap();
        for _ in 0..2 {
            assert_eq!(kept(store, State::TicketKeys), Some((at, bytes.to_vec())), "looking takes nothing");
        }
    }
}

fn what_is_kept_later_takes_the_place_of_the_earlier(store: &impl StateStore) {
    store.keep(State::ReplayLog, NOW, b"earlier").unwrap();
    // Whatever the clock says: it may have been set back.
    store.keep(State::ReplayLog, UnixTime(NOW.0 - 1), b"later").unwrap();
    assert_eq!(kept(store, State::ReplayLog), Some((UnixTime(NOW.0 - 1), b"later".to_vec())));
    store.forget(State::ReplayLog).unwrap();
    assert_eq!(kept(store, State::ReplayLog), None, "the earlier one does not come back");
}

fn each_state_is_kept_by_itself(store: &impl StateStore) {
    store.keep(State::TicketKeys, NOW, b"keys").unwrap();
    assert_eq!(kept(store, State::ReplayLog), None);
    store.keep(State::ReplayLog, NOW.plus(5), b"log").unwrap();
    assert_eq!(kept(store, State::TicketKeys), Some((NOW, b"keys".to_vec())));
    store.forget(State::ReplayLog).unwrap();
    assert_eq!(kept(store, State::TicketKeys), Some((NOW, b"keys".to_vec())));
}

fn what_is_forgotten_is_gone(store: &impl StateStore) {
    store.keep(State::TicketKeys, NOW, b"keys").unwrap();
    store.forget(State::TicketKeys).unwrap();
    assert_eq!(kept(store, State::TicketKeys), None);
    store.forget(State::TicketKeys).unwrap();
    store.keep(State::TicketKeys, NOW, b"others").unwrap();
    assert_eq!(kept(store, State::TicketKeys), Some((NOW, b"others".to_vec())));
}

fn what_is_taken_is_gone(store: &impl StateStore) {
    store.keep(State::ReplayLog, NOW, b"log").unwrap();
    assert!(store.has(State::ReplayLog).unwrap() && !store.has(State::TicketKeys).unwrap());
    let taken = store.take(State::ReplayLog).unwrap().expect("it is there");
    assert_eq!((taken.at, taken.bytes.as_slice()), (NOW, &b"log"[..]));
    assert!(store.take(State::ReplayLog).unwrap().is_none());
    assert!(!store.has(State::ReplayLog).unwrap());
    assert_eq!(kept(store, State::ReplayLog), None);
}

/// Servers that start at once: whoever gets it gets all of it, and nothing is left behind.
fn after_racing_takers_it_is_gone(store: &impl StateStore) {
    store.keep(State::ReplayLog, NOW, b"log").unwrap();
    std::thread::scope(|scope| {
        let takers: Vec<_> = (0..4).map(|_| scope.spawn(|| store.take(State::ReplayLog).unwrap())).collect();
        for taken in takers.into_iter().filter_map(|taker| taker.join().unwrap()) {
            assert_eq!(taken.bytes.as_slice(), b"log");
        }
    });
    assert_eq!(kept(store, State::ReplayLog), None);
}
