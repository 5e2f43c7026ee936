//! What Vault last said, sealed in the local store, and for how long it may be used.

use std::time::{Instant, SystemTime};

use countersign_protocol::UnixTime;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use zeroize::Zeroizing;

use super::settings::{Connection, Place, VaultPath};
use crate::StoreError;
use crate::sqlite::{Aside, SqliteStore};

const NAME: &str = "vault copy";

/// How old a copy is. A clock that is set back does not make it younger while this process runs, nor does a restart: the
/// age is kept with the copy. How long nothing ran is known from the clock alone.
#[derive(Clone, Copy, Debug)]
pub(super) struct Age {
    /// When it was current, by the wall clock.
    pub(super) kept: UnixTime,
    /// How old it was known to be …
    floor: u64,
    /// … then.
    at: Instant,
}

impl Age {
    /// Of what is current now.
    pub(super) fn new() -> Self {
        Self { kept: wall(), floor: 0, at: Instant::now() }
    }

    /// In seconds.
    pub(super) fn seconds(&self) -> u64 {
        let known = self.floor.saturating_add(self.at.elapsed().as_secs());
        known.max(wall().since(self.kept))
    }
}

/// The wall clock.
pub(super) fn wall() -> UnixTime {
    let now = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH);
    UnixTime(now.map_or(0, |now| now.as_secs()))
}

/// A copy.
pub(super) struct Kept {
    /// `None` where there was no document.
    pub(super) document: Option<Zeroizing<Vec<u8>>>,
    pub(super) age: Age,
}

/// Where the copy is, and for what it is one.
pub(super) struct Copies {
    /// Whether a refusal ends it.
    ends: bool,
    /// What it is sealed to: service, address, namespace, mount and document.
    scope: [String; 5],
}

#[derive(Serialize, Deserialize)]
struct Form<'a> {
    /// How old it was known to be when this was written, in seconds.
    age: u64,
    /// `null` where there was none.
    #[serde(borrow)]
    document: Option<&'a RawValue>,
}

impl Copies {
    pub(super) fn new(place: &Place, connection: &Connection) -> Self {
        let namespace = connection.namespace.as_ref().map(VaultPath::as_str);
        Self { ends: connection.is_service, ..Self::of(place, connection.address.as_str(), namespace) }
    }

    fn of(place: &Place, address: &str, namespace: Option<&str>) -> Self {
        let scope = [place.service.as_str(), address, namespace.unwrap_or_default(), place.mount.as_str()];
        let [service, address, namespace, mount] = scope.map(str::to_owned);
        Self { ends: true, scope: [service, address, namespace, mount, place.key()] }
    }

    fn scope(&self) -> [&[u8]; 5] {
        self.scope.each_ref().map(String::as_bytes)
    }

    /// Keeps what was said, or that nothing was there.
    pub(super) fn save(
        &self,
        local: &SqliteStore,
        document: Option<&Zeroizing<Vec<u8>>>,
        age: &Age,
    ) -> Result<(), StoreError> {
        let text = document.and_then(|json| std::str::from_utf8(json).ok());
        let document = text.and_then(|text| serde_json::from_str(text).ok());
        let room = text.map_or(0, str::len) + 64;
        let mut bytes = Zeroizing::new(Vec::with_capacity(room));
        let form = Form { age: age.seconds(), document };
        serde_json::to_writer(&mut *bytes, &form).map_err(|_| StoreError::Damaged(NAME.to_owned()))?;
        local.put_aside(NAME, &self.scope(), age.kept, &bytes)
    }

    /// The copy, if there is one that opens.
    pub(super) fn load(&self, local: &SqliteStore) -> Result<Option<Kept>, StoreError> {
        let Some(Aside { kept, plaintext: Some(plaintext) }) = local.aside(NAME, &self.scope())? else {
            return Ok(None);
        };
        let Ok(form) = serde_json::from_slice::<Form<'_>>(&plaintext) else { return Ok(None) };
        let age = Age { kept, floor: form.age, at: Instant::now() };
        let document = form.document.map(|raw| Zeroizing::new(raw.get().as_bytes().to_vec()));
        Ok(Some(Kept { document, age }))
    }

    /// Vault has said no: switching it off must not bring the copy back, if it was the service that heard it.
    pub(super) fn refuse(&self, local: &SqliteStore) -> Result<(), StoreError> {
        if self.ends { Self::forget(local) } else { Ok(()) }
    }

    /// Removes it.
    pub(super) fn forget(local: &SqliteStore) -> Result<(), StoreError> {
        local.drop_aside(NAME)
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;
    use crate::master::MasterKey;

    fn place(prefix: &str) -> Place {
        Place {
            service: "orders".parse().unwrap(),
            mount: "secret".parse().unwrap(),
            prefix: prefix.parse().unwrap(),
            max_stale: 60,
        }
    }

    fn age(kept: UnixTime, floor: u64, ago: u64) -> Age {
        Age { kept, floor, at: Instant::now().checked_sub(Duration::from_secs(ago)).unwrap() }
    }

    #[test]
    fn a_clock_that_jumps_makes_nothing_younger() {
        let now = wall();
        // Set back: the copy seems to be from the future.
        assert!(age(now.plus(5_000), 70, 30).seconds() >= 100);
        // Set forward, or a machine that slept.
        assert!(age(UnixTime(now.0 - 5_000), 70, 30).seconds() >= 5_000);
    }

    #[test]
    fn a_copy_opens_for_its_own_place_only_and_its_age_goes_on() {
        let directory = tempfile::tempdir().unwrap();
        let local =
            SqliteStore::create(&directory.path().join("store.sqlite"), &MasterKey::generate()).unwrap();
        let copies = Copies::of(&place("countersign"), "https://one:8200", None);
        assert!(copies.load(&local).unwrap().is_none());
        let json = Zeroizing::new(br#"{"a":1}"#.to_vec());
        let kept = wall().plus(1_000);
        copies.save(&local, Some(&json), &age(kept, 40, 2)).unwrap();
        let Kept { document, age: loaded } = copies.load(&local).unwrap().unwrap();
        assert_eq!(document.unwrap().as_slice(), json.as_slice());
        assert!(loaded.seconds() >= 42 && loaded.kept == kept, "{loaded:?}");
        for other in [
            Copies::of(&place("countersign"), "https://two:8200", None),
            Copies::of(&place("countersign"), "https://one:8200", Some("team")),
            Copies::of(&place("elsewhere"), "https://one:8200", None),
        ] {
            assert!(other.load(&local).unwrap().is_none());
        }
        copies.save(&local, None, &Age::new()).unwrap();
        assert!(copies.load(&local).unwrap().unwrap().document.is_none());
        Copies::forget(&local).unwrap();
        assert!(copies.load(&local).unwrap().is_none());
    }
}
