//! What every [`PairingStore`] has to do.

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::Binding;
use countersign_protocol::pairing::{
    CONFIRM_WITHIN, MAX_CODES, OFFER_LIFETIME, OfferId, Password, REPEAT_WITHIN,
};
use zeroize::Zeroizing;

use super::{NOW, key, secret};
use crate::StoreError;
use crate::pairing::{Agreed, Choices, MAX_OFFERS, NoCode, Offer, PairingStore, Stage};

/// Runs the suite; `make` gives a fresh, empty store each time.
///
/// # Panics
/// If the store breaks the contract.
pub fn check<S: PairingStore>(make: impl Fn() -> S) {
    an_offer_comes_back_as_it_was_in_every_stage(&make());
    an_id_is_in_use_until_its_offer_is_over(&make());
    no_more_than_so_many_are_open_at_one_time(&make());
    what_was_changed_meanwhile_is_not_replaced(&make());
    what_is_withdrawn_is_gone(&make());
    of_racing_claims_exactly_one_wins(&make());
    a_burned_code_has_a_successor_until_all_are_used(&make());
}

fn password(seed: u8) -> Password {
    Password::generate(&Zeroizing::new([seed; 6]))
}

fn offer(seed: u8) -> Offer {
    let choices = Choices {
        name: Some("billing".parse().unwrap()),
        binding: Binding::TlsExporter,
        pins: vec![[1; 32], [2; 32]],
        system_trust: seed.is_multiple_of(2),
    };
    Offer::new(OfferId::generate(&[0, 0, seed]), password(seed), choices, NOW.plus(OFFER_LIFETIME))
}

fn known(store: &impl PairingStore, seed: u8) -> Offer {
    store.offer(offer(seed).id).unwrap().expect("it is there")
}

fn agreed() -> Agreed {
    Agreed {
        name: "billing".parse().unwrap(),
        url: Some("https://billing.example".to_owned()),
        pin: Some([3; 32]),
        binding: Binding::None,
        our_key: key(1),
        their_key: key(2),
        secret: secret(3),
    }
}

fn an_offer_comes_back_as_it_was_in_every_stage(store: &impl PairingStore) {
    assert!(store.offer(offer(1).id).unwrap().is_none());
    assert!(store.open(&offer(1), NOW).unwrap());
    let stages = [
        Stage::Claimed { state: Zeroizing::new(vec![7; 80]), until: NOW.plus(30) },
        Stage::Failed { why: "pairing-wrong-words".to_owned() },
        Stage::Confirmed { message: [8; 32], answer: b"answer".to_vec(), peer: Box::new(agreed()) },
        Stage::Paired { message: [8; 32], answer: b"answer".to_vec(), name: agreed().name, at: NOW },
    ];
    let first = known(store, 1);
    assert_eq!((&first.choices, first.codes, first.expires), (&offer(1).choices, 1, offer(1).expires));
    assert_eq!(first.claimable(NOW).map(Password::number), Some(password(1).number()));
    for (count, stage) in stages.into_iter().enumerate() {
        let next = Offer { stage, ..known(store, 1) };
        assert!(store.replace(&next).unwrap());
        let now = known(store, 1);
        assert_eq!(now.revision, u64::try_from(count).unwrap() + 1);
        assert_eq!(now.to_bytes(), Offer { revision: now.revision, ..next }.to_bytes());
        assert!(now.claimable(NOW).is_none());
    }
    let peer = agreed().peer().unwrap();
    assert_eq!((peer.name, peer.trust), (agreed().name, crate::Trust::Pin([3; 32])));
}

fn an_id_is_in_use_until_its_offer_is_over(store: &impl PairingStore) {
    assert!(store.open(&offer(1), NOW).unwrap());
    assert!(!store.open(&Offer { codes: 2, ..offer(1) }, NOW.plus(OFFER_LIFETIME - 1)).unwrap());
    assert_eq!(known(store, 1).codes, 1);
    assert!(store.open(&Offer { codes: 2, ..offer(1) }, NOW.plus(OFFER_LIFETIME)).unwrap());
    assert_eq!(known(store, 1).codes, 2);
    // One that has succeeded answers for a while, and so does one that is half done.
    let at = NOW.plus(5);
    let paired = Stage::Paired { message: [8; 32], answer: Vec::new(), name: agreed().name, at };
    let confirmed = Stage::Confirmed { message: [8; 32], answer: Vec::new(), peer: Box::new(agreed()) };
    let late = offer(1).expires.plus(CONFIRM_WITHIN + REPEAT_WITHIN);
    for (stage, last) in [(paired, at.plus(REPEAT_WITHIN)), (confirmed, UnixTime(late.0 - 1))] {
        let mut half = Offer { stage, ..known(store, 1) };
        assert!(!half.end(), "the other side has confirmed");
        assert!(store.replace(&half).unwrap());
        assert!(!store.open(&offer(1), last).unwrap());
        assert!(store.open(&offer(1), last.plus(1)).unwrap());
    }
    let mut open = known(store, 1);
    assert!(open.end() && open.claimable(NOW).is_none());
    assert_eq!(open.next_code(password(9), NOW), Err(NoCode::Exhausted));
}

fn no_more_than_so_many_are_open_at_one_time(store: &impl PairingStore) {
    let most = u8::try_from(MAX_OFFERS).unwrap();
    for seed in 0..most {
        assert!(store.open(&offer(seed), NOW).unwrap());
    }
    assert!(matches!(store.open(&offer(most), NOW), Err(StoreError::TooManyOffers)));
    store.withdraw(offer(0).id).unwrap();
    assert!(store.open(&offer(most), NOW).unwrap());
    // They close by themselves.
    assert!(store.open(&offer(most + 1), NOW.plus(OFFER_LIFETIME)).unwrap());
    assert!(store.offer(offer(1).id).unwrap().is_none());
}

fn what_was_changed_meanwhile_is_not_replaced(store: &impl PairingStore) {
    assert!(!store.replace(&offer(1)).unwrap(), "there is none");
    assert!(store.open(&offer(1), NOW).unwrap());
    let (one, other) = (known(store, 1), known(store, 1));
    assert!(store.replace(&Offer { codes: 2, ..one }).unwrap());
    assert!(!store.replace(&Offer { codes: 3, ..other }).unwrap());
    assert_eq!(known(store, 1).codes, 2);
}

fn what_is_withdrawn_is_gone(store: &impl PairingStore) {
    store.withdraw(offer(1).id).unwrap();
    assert!(store.open(&offer(1), NOW).unwrap());
    assert!(store.open(&offer(2), NOW).unwrap());
    let claimed = known(store, 1);
    store.withdraw(offer(1).id).unwrap();
    assert!(store.offer(offer(1).id).unwrap().is_none());
    assert!(!store.replace(&claimed).unwrap(), "what it came to meanwhile comes to nothing");
    assert_eq!(known(store, 2).codes, 1);
}

fn of_racing_claims_exactly_one_wins(store: &impl PairingStore) {
    assert!(store.open(&offer(1), NOW).unwrap());
    let wins: usize = std::thread::scope(|scope| {
        let claims: Vec<_> = (0..8_u8)
            .map(|seed| {
                scope.spawn(move || {
                    let open = known(store, 1);
                    if open.claimable(NOW).is_none() {
                        return 0;
                    }
                    let state = Zeroizing::new(vec![seed; 80]);
                    let stage = Stage::Claimed { state, until: NOW.plus(30) };
                    usize::from(store.replace(&Offer { stage, ..open }).unwrap())
                })
            })
            .collect();
        claims.into_iter().map(|claim| claim.join().unwrap()).sum()
    });
    assert_eq!(wins, 1);
    assert!(known(store, 1).claimable(NOW).is_none());
}

fn a_burned_code_has_a_successor_until_all_are_used(store: &impl PairingStore) {
    assert!(store.open(&offer(1), NOW).unwrap());
    assert_eq!(known(store, 1).next_code(password(2), NOW), Err(NoCode::InUse));
    for count in 2..=MAX_CODES {
        let state = Zeroizing::new(vec![7; 80]);
        let claimed = Stage::Claimed { state, until: NOW.plus(30) };
        assert!(store.replace(&Offer { stage: claimed, ..known(store, 1) }).unwrap());
        let mut abandoned = known(store, 1);
        assert_eq!(abandoned.next_code(password(count), NOW.plus(30)), Err(NoCode::InUse));
        assert_eq!(abandoned.clone().next_code(password(9), abandoned.expires), Err(NoCode::Expired));
        abandoned.next_code(password(count), NOW.plus(31)).unwrap();
        assert!(store.replace(&abandoned).unwrap());
        assert_eq!(known(store, 1).claimable(NOW).map(Password::number), Some(password(count).number()));
    }
    let failed = Stage::Failed { why: "pairing-wrong-words".to_owned() };
    assert!(store.replace(&Offer { stage: failed, ..known(store, 1) }).unwrap());
    assert_eq!(known(store, 1).next_code(password(9), NOW), Err(NoCode::Exhausted));
}
