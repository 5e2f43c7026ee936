//! Rotation, retirement and revocation as every store has to keep them.

use countersign_protocol::UnixTime;
use countersign_protocol::identity::Profile;

use super::{NOW, cs1_peer, key, name, secret, shared_secret_peer};
use crate::{
    Basis, Ending, Keys, NewKeys, Next, Overlap, Peer, PeerStore, Rotation, StoreError, Use, UseDirection,
    Which,
};

const GRACE: u64 = 1_000;

pub(super) fn check<S: PeerStore>(make: impl Fn() -> S) {
    a_new_peer_has_a_schedule_and_no_rotation(&make());
    a_rotation_keeps_both_until_the_peer_has_used_the_new_one(&make());
    a_deadline_ends_the_old_one_all_the_same(&make());
    one_rotation_at_a_time(&make());
    nothing_of_an_earlier_credential_comes_back(&make());
    the_api_keys_in_use_may_stay(&make());
    a_refused_rotation_changes_nothing(&make());
    what_no_longer_follows_what_was_looked_at_is_refused(&make());
    what_is_over_is_retired_once(&make());
    a_rotation_can_be_called_off(&make());
    what_is_over_does_not_come_back_when_its_successor_ends(&make);
    revocation_erases_and_remembers(&make());
    an_ended_credential_can_still_be_called_compromised(&make());
    all_that_were_revoked_can_be_called_compromised(&make());
    after_a_revocation_a_new_credential_can_be_made(&make());
    a_use_confirms_once_and_later_uses_change_no_version(&make());
    a_use_of_what_has_ended_is_ignored(&make());
    of_racing_rotations_exactly_one_wins(&make());
    a_schedule_is_kept(&make());
    under_cs1_a_credential_is_followed_by_one_of_cs1(&make());
}

fn keys(seed: u8) -> NewKeys {
    NewKeys::shared_secret(key(seed), key(seed + 100), secret(seed), secret(seed)).expect("different keys")
}

fn next(seed: u8, deadline: Option<u64>) -> Next {
    Next { keys: keys(seed), overlap: Overlap::new(NOW, GRACE, deadline), confirmed: false, follows: None }
}

fn billing(store: &impl PeerStore) -> Peer {
    store.get(&name("billing")).unwrap()
}

fn accepted(store: &impl PeerStore, now: UnixTime) -> Vec<u32> {
    billing(store).accepted(now).map(|credential| credential.number).collect()
}

fn used(store: &impl PeerStore, number: u32, direction: UseDirection, at: UnixTime) {
    let peer = billing(store);
    let credential = peer.credentials.iter().find(|one| one.number == number).expect("it lives");
    store.note(&[Use { uid: credential.uid, direction, at }]).unwrap();
}

fn a_new_peer_has_a_schedule_and_no_rotation(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let peer = billing(store);
    assert_eq!(peer.due(), Some(NOW.plus(90 * 86_400)));
    assert_eq!(peer.rotation(NOW), Rotation::Idle);
    assert!(!peer.is_overdue(NOW) && peer.is_overdue(NOW.plus(90 * 86_400)));
    assert!(peer.ended.is_empty());
}

fn a_rotation_keeps_both_until_the_peer_has_used_the_new_one(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let rotated = store.rotate(&name("billing"), next(2, None), NOW).unwrap();
    let newest = rotated.credentials.last().map(|credential| credential.number);
    assert_eq!((newest, rotated.credentials.len()), (Some(2), 2));
    let far = NOW.plus(50 * GRACE);
    assert_eq!(accepted(store, far), [1, 2], "the peer has not used it");
    assert!(billing(store).is_overdue(far), "somebody should ask why");
    let sent = |now| billing(store).sending(now).first().map(|credential| credential.number);
    assert_eq!(sent(far), Some(1));
    used(store, 2, UseDirection::Inbound, far);
    assert_eq!(sent(far), Some(2), "it has it");
    assert_eq!(billing(store).rotation(far), Rotation::Confirmed { ends: far.plus(GRACE) });
    assert_eq!(accepted(store, far.plus(GRACE - 1)), [1, 2]);
    assert_eq!(accepted(store, far.plus(GRACE)), [2]);
}

fn a_deadline_ends_the_old_one_all_the_same(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, Some(5 * GRACE)), NOW).unwrap();
    assert_eq!(accepted(store, NOW.plus(5 * GRACE - 1)), [1, 2]);
    assert_eq!(accepted(store, NOW.plus(5 * GRACE)), [2]);
}

fn one_rotation_at_a_time(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, None), NOW).unwrap();
    let second = store.rotate(&name("billing"), next(3, None), NOW);
    assert!(matches!(second, Err(StoreError::RotationOpen(_))), "{second:?}");
    // Once the old one is over, the next one can be made; the old one need not have been tidied away.
    used(store, 2, UseDirection::Inbound, NOW);
    let rotated = store.rotate(&name("billing"), next(3, None), NOW.plus(GRACE)).unwrap();
    let numbers: Vec<_> = rotated.credentials.iter().map(|credential| credential.number).collect();
    assert_eq!(numbers, [2, 3]);
}

fn nothing_of_an_earlier_credential_comes_back(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.add(shared_secret_peer("orders", 9), NOW).unwrap();
    store.rotate(&name("billing"), next(2, None), NOW).unwrap();
    store.end(&name("billing"), Which::Number(1), Ending::Compromised, NOW).unwrap();
    let refused = |keys: NewKeys| {
        let next = Next { keys, overlap: Overlap::new(NOW, GRACE, None), confirmed: false, follows: None };
        store.rotate(&name("billing"), next, NOW)
    };
    for old in [1, 2] {
        let same = refused(keys(old));
        assert!(matches!(same, Err(StoreError::KeyReused(_))), "{same:?}");
        let mixed = NewKeys::shared_secret(key(30), key(31), secret(old), secret(old)).unwrap();
        let mixed = refused(mixed);
        assert!(matches!(mixed, Err(StoreError::KeyReused(_))), "{mixed:?}");
    }
    let swapped = NewKeys::shared_secret(key(102), key(2), secret(3), secret(3)).unwrap();
    assert!(matches!(refused(swapped), Err(StoreError::KeyReused(_))), "roles exchanged");
    let others = refused(keys(9));
    assert!(matches!(others, Err(StoreError::KeyTaken(owner)) if owner == name("orders")));
    let other_peer = store.add(shared_secret_peer("third", 1), NOW);
    assert!(matches!(other_peer, Err(StoreError::KeyTaken(_))), "not even with another peer");
}

fn the_api_keys_in_use_may_stay(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let keys = NewKeys::shared_secret(key(1), key(101), secret(2), secret(2)).unwrap();
    let next = Next { keys, overlap: Overlap::new(NOW, GRACE, None), confirmed: false, follows: None };
    store.rotate(&name("billing"), next, NOW).unwrap();
    assert_eq!(accepted(store, NOW), [1, 2]);
    store.end(&name("billing"), Which::Number(1), Ending::Revoked, NOW).unwrap();
    assert_eq!(accepted(store, NOW), [2]);
}

fn a_refused_rotation_changes_nothing(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.add(shared_secret_peer("orders", 9), NOW).unwrap();
    let before = store.version().unwrap();
    assert!(store.rotate(&name("billing"), next(9, None), NOW).is_err());
    let other = Next { keys: NewKeys::api_key(Some(key(40)), None).unwrap(), ..next(2, None) };
    let other = store.rotate(&name("billing"), other, NOW);
    assert!(matches!(other, Err(StoreError::OtherProfile { .. })), "{other:?}");
    let nobody = store.rotate(&name("nobody"), next(2, None), NOW);
    assert!(matches!(nobody, Err(StoreError::NoSuchPeer(_))));
    assert_eq!(store.version().unwrap(), before);
    assert_eq!(billing(store).rotation(NOW), Rotation::Idle);
    assert!(billing(store).credentials.iter().all(|credential| credential.overlap.is_none()));
    store.rotate(&name("billing"), next(2, None), NOW).unwrap();
}

fn what_no_longer_follows_what_was_looked_at_is_refused(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let seen = billing(store).basis(NOW);
    let following = |seed, basis: &Basis| Next { follows: Some(basis.clone()), ..next(seed, None) };
    let refused = |basis: &Basis| {
        let before = store.version().unwrap();
        let taken = store.rotate(&name("billing"), following(2, basis), NOW);
        assert!(matches!(taken, Err(StoreError::ChangedMeanwhile(_))), "{taken:?}");
        assert_eq!(store.version().unwrap(), before);
    };
    store.end(&name("billing"), Which::All, Ending::Revoked, NOW).unwrap();
    refused(&seen);
    let seen = billing(store).basis(NOW);
    store.end(&name("billing"), Which::Number(1), Ending::Compromised, NOW).unwrap();
    refused(&seen);
    let seen = billing(store).basis(NOW);
    store.rotate(&name("billing"), following(2, &seen), NOW).unwrap();
    // That something is used, and that what is over is tidied away, changes nothing.
    let seen = billing(store).basis(NOW);
    used(store, 2, UseDirection::Inbound, NOW);
    store.rotate(&name("billing"), following(3, &seen), NOW).unwrap();
    used(store, 3, UseDirection::Inbound, NOW);
    let late = NOW.plus(GRACE);
    let seen = billing(store).basis(late);
    store.settle(late).unwrap();
    store.rotate(&name("billing"), following(4, &seen), late).unwrap();
}

fn what_is_over_is_retired_once(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, Some(GRACE)), NOW).unwrap();
    assert!(store.settle(NOW).unwrap().is_empty());
    let over = store.settle(NOW.plus(GRACE)).unwrap();
    let over: Vec<_> = over.iter().map(ToString::to_string).collect();
    assert_eq!(over, ["billing/1"]);
    assert!(store.settle(NOW.plus(GRACE)).unwrap().is_empty());
    let peer = billing(store);
    let [ended] = peer.ended.as_slice() else { panic!("one has ended") };
    assert_eq!((ended.number, ended.how, ended.ended), (1, Ending::Retired, NOW.plus(GRACE)));
    assert_eq!(ended.presented, Some(store.lookup_key().hash(key(101).expose())));
    let [left] = peer.credentials.as_slice() else { panic!("one lives") };
    assert_eq!((left.number, left.overlap), (2, None));
}

fn a_rotation_can_be_called_off(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, Some(GRACE)), NOW).unwrap();
    store.end(&name("billing"), Which::Number(2), Ending::Abandoned, NOW).unwrap();
    assert_eq!(accepted(store, NOW.plus(100 * GRACE)), [1], "its deadline went with the successor");
    let again = store.rotate(&name("billing"), next(3, None), NOW).unwrap();
    assert_eq!(again.credentials.last().map(|credential| credential.number), Some(3), "no number twice");
}

fn what_is_over_does_not_come_back_when_its_successor_ends<S: PeerStore>(make: impl Fn() -> S) {
    let endings = |store: &S| -> Vec<_> {
        assert!(billing(store).credentials.is_empty(), "neither now nor when it is read again");
        billing(store).ended.iter().map(|ended| (ended.number, ended.how)).collect()
    };
    // The deadline has come, and nobody has tidied up.
    for how in [Ending::Revoked, Ending::Compromised, Ending::Abandoned] {
        let store = make();
        store.add(shared_secret_peer("billing", 1), NOW).unwrap();
        store.rotate(&name("billing"), next(2, Some(GRACE)), NOW).unwrap();
        let ended = store.end(&name("billing"), Which::Number(2), how, NOW.plus(GRACE)).unwrap();
        assert_eq!(ended, [2], "what the operator has ended");
        assert_eq!(accepted(&store, NOW), [0; 0], "whatever the clock says");
        assert_eq!(endings(&store), [(1, Ending::Retired), (2, how)]);
    }
    // The peer has used the new one, and the grace period is over.
    let store = make();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, None), NOW).unwrap();
    used(&store, 2, UseDirection::Inbound, NOW);
    store.end(&name("billing"), Which::Number(2), Ending::Revoked, NOW.plus(GRACE)).unwrap();
    assert_eq!(endings(&store), [(1, Ending::Retired), (2, Ending::Revoked)]);
    // What the operator says of one that is over counts.
    let store = make();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, Some(GRACE)), NOW).unwrap();
    let all = store.end(&name("billing"), Which::All, Ending::Compromised, NOW.plus(GRACE)).unwrap();
    assert_eq!(all, [1, 2]);
    assert_eq!(endings(&store), [(1, Ending::Compromised), (2, Ending::Compromised)]);
    // One moment before, it lives on.
    let store = make();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, Some(GRACE)), NOW).unwrap();
    store.end(&name("billing"), Which::Number(2), Ending::Revoked, NOW.plus(GRACE - 1)).unwrap();
    assert_eq!(accepted(&store, NOW.plus(GRACE)), [1]);
}

fn revocation_erases_and_remembers(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.add(shared_secret_peer("orders", 9), NOW).unwrap();
    store.rotate(&name("billing"), next(2, None), NOW).unwrap();
    let before = store.version().unwrap();
    let ended = store.end(&name("billing"), Which::All, Ending::Revoked, NOW).unwrap();
    assert_eq!(ended, [1, 2]);
    assert_ne!(store.version().unwrap(), before);
    let peer = billing(store);
    assert!(peer.credentials.is_empty() && peer.sending(NOW).is_empty());
    assert_eq!(peer.due(), None);
    let how: Vec<_> = peer.ended.iter().map(|ended| (ended.number, ended.how)).collect();
    assert_eq!(how, [(1, Ending::Revoked), (2, Ending::Revoked)]);
    let again = store.end(&name("billing"), Which::All, Ending::Revoked, NOW);
    assert!(matches!(again, Err(StoreError::NothingLive(_))));
    let missing = store.end(&name("billing"), Which::Number(7), Ending::Revoked, NOW);
    assert!(matches!(missing, Err(StoreError::NoCredential { number: 7, .. })));
    assert_eq!(store.list().unwrap().len(), 2, "the other peer is not touched");
}

fn an_ended_credential_can_still_be_called_compromised(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.end(&name("billing"), Which::Number(1), Ending::Revoked, NOW).unwrap();
    let again = store.end(&name("billing"), Which::Number(1), Ending::Revoked, NOW);
    assert!(matches!(again, Err(StoreError::NoCredential { .. })));
    let marked = store.end(&name("billing"), Which::Number(1), Ending::Compromised, NOW).unwrap();
    assert_eq!(marked, [1]);
    assert!(billing(store).ended.iter().all(|ended| ended.how == Ending::Compromised));
}

fn all_that_were_revoked_can_be_called_compromised(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.rotate(&name("billing"), next(2, Some(GRACE)), NOW).unwrap();
    store.settle(NOW.plus(GRACE)).unwrap();
    store.rotate(&name("billing"), next(3, None), NOW.plus(GRACE)).unwrap();
    let end = |how| store.end(&name("billing"), Which::All, how, NOW.plus(GRACE));
    assert_eq!(end(Ending::Revoked).unwrap(), [2, 3]);
    assert_eq!(end(Ending::Compromised).unwrap(), [2, 3]);
    let how: Vec<_> = billing(store).ended.iter().map(|ended| ended.how).collect();
    assert_eq!(how, [Ending::Retired, Ending::Compromised, Ending::Compromised]);
    assert!(matches!(end(Ending::Compromised), Err(StoreError::NothingLive(_))));
}

fn after_a_revocation_a_new_credential_can_be_made(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.end(&name("billing"), Which::All, Ending::Compromised, NOW).unwrap();
    store.rotate(&name("billing"), next(2, None), NOW).unwrap();
    assert_eq!(accepted(store, NOW.plus(100 * GRACE)), [2]);
    assert_eq!(billing(store).rotation(NOW), Rotation::Idle, "there is nothing to wait for");
}

fn a_use_confirms_once_and_later_uses_change_no_version(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let version = || store.version().unwrap();
    let before = version();
    used(store, 1, UseDirection::Outbound, NOW.plus(5));
    let confirmed = version();
    assert_ne!(confirmed, before);
    used(store, 1, UseDirection::Inbound, NOW.plus(9));
    used(store, 1, UseDirection::Inbound, NOW.plus(7));
    assert_eq!(version(), confirmed);
    let peer = billing(store);
    let [credential] = peer.credentials.as_slice() else { panic!("one credential") };
    assert_eq!(credential.confirmed, Some(NOW.plus(5)));
    assert_eq!((credential.used_inbound, credential.used_outbound), (Some(NOW.plus(9)), Some(NOW.plus(5))));
}

fn a_use_of_what_has_ended_is_ignored(store: &impl PeerStore) {
    let added = store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let uid = added.credentials.first().map(|credential| credential.uid).expect("one");
    store.remove(&name("billing")).unwrap();
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.note(&[Use { uid, direction: UseDirection::Inbound, at: NOW }]).unwrap();
    assert!(billing(store).credentials.iter().all(|credential| credential.confirmed.is_none()));
}

fn of_racing_rotations_exactly_one_wins(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    let wins: usize = std::thread::scope(|scope| {
        let rotations: Vec<_> = (10..18)
            .map(|seed| {
                scope
                    .spawn(move || usize::from(store.rotate(&name("billing"), next(seed, None), NOW).is_ok()))
            })
            .collect();
        rotations.into_iter().map(|rotation| rotation.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
    assert_eq!(accepted(store, NOW), [1, 2]);
}

fn a_schedule_is_kept(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    store.set_schedule(&name("billing"), Some(60)).unwrap();
    assert_eq!(billing(store).due(), Some(NOW.plus(60)));
    store.set_schedule(&name("billing"), None).unwrap();
    assert_eq!(billing(store).due(), None);
    assert!(!billing(store).is_overdue(UnixTime(u64::MAX)));
    assert!(matches!(store.set_schedule(&name("nobody"), None), Err(StoreError::NoSuchPeer(_))));
}

fn under_cs1_a_credential_is_followed_by_one_of_cs1(store: &impl PeerStore) {
    store.add(cs1_peer("billing", 1), NOW).unwrap();
    let overlap = Overlap::new(NOW, GRACE, None);
    let with = |keys: NewKeys| {
        store.rotate(&name("billing"), Next { keys, overlap, confirmed: false, follows: None }, NOW)
    };
    let same = NewKeys::cs1(key(1), key(101), secret(1)).unwrap();
    assert!(matches!(with(same), Err(StoreError::KeyReused(_))));
    let other = store.rotate(&name("billing"), next(2, None), NOW);
    assert!(matches!(other, Err(StoreError::OtherProfile { .. })), "{other:?}");
    // Made for it: the API keys stay if they are to.
    for keep in [false, true] {
        let keys = NewKeys::following(&billing(store), keep).unwrap();
        assert_eq!((keys.profile(), keys.keep_api_keys_of(&billing(store))), (Profile::Cs1, keep));
        assert_eq!(keys.clone().exchanged().fingerprint(), keys.fingerprint(), "both sides see the same");
    }
    with(NewKeys::cs1(key(1), key(101), secret(2)).unwrap()).unwrap();
    let peer = billing(store);
    assert_eq!(peer.cs1, cs1_peer("billing", 1).cs1, "a rotation changes keys only");
    assert_eq!(accepted(store, NOW), [1, 2]);
    let secrets: Vec<_> = peer
        .credentials
        .iter()
        .map(|credential| match &credential.keys {
            Keys::Cs1 { secret, .. } => secret.expose(),
            _ => panic!("the profile's keys"),
        })
        .collect();
    assert_eq!(secrets, [secret(1).expose(), secret(2).expose()]);
    used(store, 2, UseDirection::Inbound, NOW);
    store.settle(NOW.plus(GRACE)).unwrap();
    let peer = billing(store);
    let [ended] = peer.ended.as_slice() else { panic!("one has ended") };
    assert_eq!(ended.presented, Some(store.lookup_key().hash(key(101).expose())));
    assert_eq!(ended.hashes.len(), 3, "two keys and one secret");
    let reused = with(NewKeys::cs1(key(30), key(31), secret(1)).unwrap());
    assert!(matches!(reused, Err(StoreError::KeyReused(_))), "{reused:?}");
}
