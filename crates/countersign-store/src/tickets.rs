use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::ticket::Claims;
use countersign_protocol::cs1::{Binding, Exporter, SessionKeys};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;

use crate::mixed::Mixed;

/// What has expired is gone this many seconds later, as long as somebody asks.
const WIDTH: u64 = 32;
/// Parts that are locked one by one.
const SHARDS: usize = 16;

/// The keys of one session on one connection, prepared. Zeroised when dropped.
#[derive(Clone, Debug)]
pub struct MessageKeys {
    /// Of requests.
    pub request: MacKey,
    /// Of responses.
    pub response: MacKey,
}

impl MessageKeys {
    fn prepare(keys: &SessionKeys) -> Self {
        let SessionKeys { client_to_server, server_to_client, .. } = keys;
        Self {
            request: MacKey::new(client_to_server.as_slice()),
            response: MacKey::new(server_to_client.as_slice()),
        }
    }
}

/// A ticket that was opened, and its keys prepared.
#[derive(Debug)]
pub struct Opened {
    claims: Claims,
    keys: MessageKeys,
}

impl Opened {
    /// Prepares the keys.
    #[must_use]
    pub fn new(claims: Claims) -> Self {
        let keys = MessageKeys::prepare(&claims.keys);
        Self { claims, keys }
    }

    /// What the ticket says.
    #[must_use]
    pub const fn claims(&self) -> &Claims {
        &self.claims
    }

    /// The keys on a connection, as the binding says (CS-32). Those of a session that is bound to TLS are derived each
    /// time: who serves many requests over such a connection keeps them with it.
    ///
    /// # Errors
    /// [`Refusal::WrongBinding`] if the session is bound to its TLS connection, and this one gives no exporter.
    pub fn keys_on(&self, exporter: Option<&Exporter>) -> Result<Cow<'_, MessageKeys>, Refusal> {
        match self.claims.binding {
            Binding::None => Ok(Cow::Borrowed(&self.keys)),
            Binding::TlsExporter => {
                self.claims.keys_on(exporter).map(|keys| Cow::Owned(MessageKeys::prepare(&keys)))
            }
        }
    }
}

/// Tickets that were opened before, so that the next request with one need not open it again.
///
/// Only what `open` has opened gets in, and what is asked for has to be the same text to its last byte: nobody makes an
/// entry without a ticket that our own key has sealed, and nobody finds one without having it. Opened says nothing of
/// whoever sent it: the request is verified after this, and whether the credential still lives is asked each time (CS-19).
///
/// An entry ends with its ticket. Of many, those that were not used for the longest go first; who makes many sessions can
/// push out others', which then cost one opening more. An entry takes about a kilobyte. Its keys are zeroised when it goes
/// and the last request that uses it is done.
pub struct TicketCache {
    /// Entries in one half of one part.
    half: usize,
    /// The time, in units of [`WIDTH`], at which all parts were tidied.
    tidied: AtomicU64,
    shards: Box<[Mutex<Shard>]>,
}

/// The last characters of a ticket. They hold most of its authentication tag: nobody can choose tickets that share them.
type Tail = [u8; 16];
type Entries = HashMap<Tail, Entry, Mixed>;

/// Two halves: who is found among the old goes to the young, and when these are as many as may be, they are the old.
#[derive(Default)]
struct Shard {
    young: Entries,
    old: Entries,
}

struct Entry {
    ticket: Box<str>,
    opened: Arc<Opened>,
}

impl TicketCache {
    /// A cache for at most about `capacity` tickets, and never fewer than 32.
    #[must_use]
    pub fn new(capacity: usize) -> Self {
        let shards = (0..SHARDS).map(|_| Mutex::default()).collect();
        Self { half: (capacity / SHARDS / 2).max(1), tidied: AtomicU64::new(0), shards }
    }

    /// Finds an opened ticket that has not expired, or opens it. Nothing is locked meanwhile: two callers may open the
    /// same one.
    ///
    /// # Errors
    /// What `open` says. Nothing is kept of it.
    pub fn get_or_open<E>(
        &self,
        ticket: &str,
        now: UnixTime,
        open: impl FnOnce() -> Result<Claims, E>,
    ) -> Result<Arc<Opened>, E> {
        let current = now.0 / WIDTH;
        if self.tidied.load(Ordering::Relaxed) < current
            && self.tidied.fetch_max(current, Ordering::Relaxed) < current
        {
            self.tidy(now);
        }
        let Some(tail) = ticket.as_bytes().last_chunk() else { return open().map(Opened::new).map(Arc::new) };
        if let Some(opened) = self.find(tail, ticket, now) {
            return Ok(opened);
        }
        let opened = Arc::new(Opened::new(open()?));
        self.insert(tail, Entry { ticket: ticket.into(), opened: Arc::clone(&opened) });
        Ok(opened)
    }

    /// Erases what has expired. To be called now and then: without requests nobody else does.
    pub fn tidy(&self, now: UnixTime) {
        for shard in &self.shards {
            let mut shard = lock(shard);
            let Shard { young, old } = &mut *shard;
            for half in [young, old] {
                half.retain(|_, entry| now < entry.opened.claims.expires);
            }
        }
    }

    /// Erases everything: for whoever discards the key of the tickets (CS-45).
    pub fn clear(&self) {
        for shard in &self.shards {
            *lock(shard) = Shard::default();
        }
    }

    /// How many tickets are kept. Some of them may have expired a moment ago.
    #[must_use]
    pub fn len(&self) -> usize {
        let lengths = self.shards.iter().map(|shard| {
            let shard = lock(shard);
            shard.young.len() + shard.old.len()
        });
        lengths.sum()
    }

    /// Whether none is kept.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    fn find(&self, tail: &Tail, ticket: &str, now: UnixTime) -> Option<Arc<Opened>> {
        let is_it = |entry: &Entry| *entry.ticket == *ticket && now < entry.opened.claims.expires;
        let mut shard = self.shard(tail);
        if let Some(entry) = shard.young.get(tail).filter(|entry| is_it(entry)) {
            return Some(Arc::clone(&entry.opened));
        }
        if !shard.old.get(tail).is_some_and(is_it) {
            return None;
        }
        let entry = shard.old.remove(tail)?;
        drop(shard);
        let opened = Arc::clone(&entry.opened);
        self.insert(tail, entry);
        Some(opened)
    }

    fn insert(&self, tail: &Tail, entry: Entry) {
        let mut shard = self.shard(tail);
        let same = shard.old.remove(tail);
        let gone = if shard.young.len() < self.half {
            Entries::default()
        } else {
            let young = std::mem::take(&mut shard.young);
            std::mem::replace(&mut shard.old, young)
        };
        let replaced = shard.young.insert(*tail, entry);
        // Zeroising takes its time, and needs no lock.
        drop(shard);
        drop((same, gone, replaced));
    }

    fn shard(&self, tail: &Tail) -> MutexGuard<'_, Shard> {
        // The last character has bits to spare, and all of it takes longer to add up.
        let [one, two, ..] = *tail;
        let index = (usize::from(one) + usize::from(two)) % SHARDS;
        match self.shards.get(index) {
            Some(shard) => lock(shard),
            None => unreachable!("the index was taken modulo the length"),
        }
    }
}

/// No step leaves a part half-way.
fn lock(shard: &Mutex<Shard>) -> MutexGuard<'_, Shard> {
    shard.lock().unwrap_or_else(PoisonError::into_inner)
}

impl std::fmt::Debug for TicketCache {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("TicketCache").field("half", &self.half).field("kept", &self.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use std::cell::Cell;

    use countersign_protocol::cs1::ticket::TicketKeys;
    use countersign_protocol::identity::CredentialId;
    use countersign_protocol::token::TokenError;
    use subtle::ConstantTimeEq as _;
    use zeroize::Zeroizing;

    use super::*;

    const NOW: UnixTime = UnixTime(1_800_000_000);

    fn keys() -> TicketKeys {
        TicketKeys::new("orders".parse().unwrap(), &Zeroizing::new([1; 40]), NOW)
    }

    fn claims(binding: Binding) -> Claims {
        Claims {
            credential: CredentialId { peer: "billing".parse().unwrap(), number: 1 },
            uid: [1; 16],
            keys: SessionKeys {
                client_to_server: Zeroizing::new([2; 32]),
                server_to_client: Zeroizing::new([3; 32]),
                id: [4; 16],
            },
            issued: NOW,
            expires: NOW.plus(600),
            binding,
        }
    }

    fn ticket(keys: &TicketKeys, number: u32) -> String {
        let mut nonce = [0; 12];
        nonce.iter_mut().zip(number.to_be_bytes()).for_each(|(to, from)| *to = from);
        keys.seal(&claims(Binding::None), nonce).to_string()
    }

    #[test]
    fn a_ticket_is_opened_once_while_it_lives() {
        let (keys, cache, opened) = (keys(), TicketCache::new(100), Cell::new(0));
        let ticket = ticket(&keys, 1);
        let ask = |at: UnixTime| {
            cache.get_or_open(&ticket, at, || {
                opened.set(opened.get() + 1);
                keys.open(&ticket, at)
            })
        };
        for second in [0, 1, 31, 64, 599] {
            let found = ask(NOW.plus(second)).unwrap();
            assert_eq!(found.claims().expires, NOW.plus(600));
            let mac = found.keys_on(None).unwrap().request.mac(&[b"base"]);
            assert!(bool::from(mac.ct_eq(&MacKey::new(&[2; 32]).mac(&[b"base"]))));
            let mac = found.keys_on(None).unwrap().response.mac(&[b"base"]);
            assert!(bool::from(mac.ct_eq(&MacKey::new(&[3; 32]).mac(&[b"base"]))));
        }
        assert_eq!(opened.get(), 1);
        assert_eq!(ask(NOW.plus(600)).unwrap_err(), TokenError::Expired);
        assert_eq!(opened.get(), 2);
    }

    #[test]
    fn an_expired_entry_is_not_found_though_nobody_has_tidied() {
        let (keys, cache) = (keys(), TicketCache::new(100));
        let ticket = ticket(&keys, 1);
        // Its last second and its expiry are in one unit of time.
        let last = UnixTime(NOW.0 / WIDTH * WIDTH + WIDTH - 2);
        let claims = Claims { expires: last.plus(1), ..claims(Binding::None) };
        cache.get_or_open::<()>(&ticket, last, || Ok(claims)).unwrap();
        assert!(cache.get_or_open(&ticket, last, || Err(())).is_ok());
        assert!(cache.get_or_open(&ticket, last.plus(1), || Err(())).is_err());
    }

    #[test]
    fn what_does_not_open_is_not_kept_and_another_text_is_another_ticket() {
        let (keys, cache) = (keys(), TicketCache::new(100));
        let ticket = ticket(&keys, 1);
        cache.get_or_open(&ticket, NOW, || keys.open(&ticket, NOW)).unwrap();
        for at in 0..ticket.len() {
            let mut other = ticket.clone().into_bytes();
            other[at] = if other[at] == b'A' { b'B' } else { b'A' };
            let other = String::from_utf8(other).unwrap();
            assert!(cache.get_or_open(&other, NOW, || keys.open(&other, NOW)).is_err(), "{at}");
        }
        for other in
            ["", "cst.", &ticket[4..], &ticket[1..], &ticket[ticket.len() - 16..], &format!("{ticket}A")]
        {
            assert!(cache.get_or_open(other, NOW, || keys.open(other, NOW)).is_err(), "{other}");
        }
        assert_eq!(cache.len(), 1);
    }

    #[test]
    fn it_never_holds_more_than_it_may_and_keeps_what_is_used() {
        let (keys, cache) = (keys(), TicketCache::new(640));
        let used = ticket(&keys, 0);
        cache.get_or_open(&used, NOW, || keys.open(&used, NOW)).unwrap();
        for number in 1..5_000 {
            let other = ticket(&keys, number);
            cache.get_or_open(&other, NOW, || keys.open(&other, NOW)).unwrap();
            assert!(cache.get_or_open(&used, NOW, || Err(())).is_ok(), "after {number} others");
        }
        assert!((320..=640).contains(&cache.len()), "{}", cache.len());
        cache.clear();
        assert!(cache.is_empty());
    }

    #[test]
    fn what_has_expired_is_erased_though_nobody_asks_for_it() {
        let (keys, cache) = (keys(), TicketCache::new(100));
        let weak = Arc::downgrade(&{
            let ticket = ticket(&keys, 1);
            cache.get_or_open(&ticket, NOW, || keys.open(&ticket, NOW)).unwrap()
        });
        assert!(weak.upgrade().is_some());
        let _ = cache.get_or_open("a stranger's text", NOW.plus(600 + WIDTH), || Err(()));
        assert!(weak.upgrade().is_none());
    }

    #[test]
    fn keys_of_a_bound_session_are_those_of_the_connection() {
        let opened = Opened::new(claims(Binding::TlsExporter));
        assert_eq!(opened.keys_on(None).unwrap_err(), Refusal::WrongBinding);
        let exporter = Exporter::new(Zeroizing::new([9; 32]));
        let expected = claims(Binding::TlsExporter).keys_on(Some(&exporter)).unwrap();
        let mac = opened.keys_on(Some(&exporter)).unwrap().request.mac(&[b"base"]);
        let expected = MacKey::new(expected.client_to_server.as_slice()).mac(&[b"base"]);
        assert!(bool::from(mac.ct_eq(&expected)));
        assert!(!bool::from(mac.ct_eq(&MacKey::new(&[2; 32]).mac(&[b"base"]))));
    }

    #[test]
    fn debug_output_shows_no_key() {
        let (keys, cache) = (keys(), TicketCache::new(100));
        let ticket = ticket(&keys, 1);
        let opened = cache.get_or_open(&ticket, NOW, || keys.open(&ticket, NOW)).unwrap();
        let shown = format!("{opened:?} {cache:?}");
        for secret in ["2, 2", "3, 3", "0202", "0303", ticket.as_str()] {
            assert!(!shown.contains(secret), "{shown}");
        }
    }
}
