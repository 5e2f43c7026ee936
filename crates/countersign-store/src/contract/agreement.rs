//! Rotation in band (`specs/rotation.md`) as every store has to keep it: two stores, and what they say to each other.
//! `tests/rotation_model.rs` walks through every state with the pure code; here is what a store can do wrong beside it.

use countersign_protocol::UnixTime;
use countersign_protocol::mac::Tag;
use countersign_protocol::rotation::{Answer, Confirm, Outcome, Propose, Ruling};
use zeroize::Zeroizing;

use super::{NOW, cs1_peer, key, name, secret, shared_secret_peer};
use crate::agreement::{Message, Step};
use crate::{
    Agreement, Ending, Move, MoveError, Moved, NewKeys, NewPeer, Peer, PeerStore, StoreError, Use,
    UseDirection, Which,
};

const GRACE: u64 = 900;

pub(super) fn check<S: PeerStore>(make: impl Fn() -> S) {
    a_whole_rotation_leaves_both_with_the_new_credential(&Two::of(&make));
    what_is_repeated_is_answered_as_before_and_changes_nothing(&Two::of(&make));
    a_move_that_fails_changes_nothing(&Two::of(&make));
    of_racing_moves_one_is_made_and_the_others_find_it_done(&Two::of(&make));
    who_gives_up_says_so_and_numbers_are_not_used_again(&Two::of(&make));
    if_both_begin_one_goes_on(&Two::of(&make));
    a_proposal_can_be_forgotten_and_the_next_one_has_a_greater_number(&Two::of(&make));
    what_ends_in_the_middle_takes_the_rotation_with_it(&make);
    a_peer_that_comes_again_knows_of_no_rotation(&Two::of(&make));
    a_use_of_the_new_one_shows_nothing_to_who_has_begun(&Two::of(&make));
    a_use_by_who_has_begun_confirms_and_one_by_who_answered_does_not(&Two::of(&make));
    a_rotation_can_be_wanted(&Two::of(&make));
    only_cs1_rotates_in_band(&make());
}

/// One side: its store, and what it calls the other.
struct Side<S> {
    store: S,
    other: &'static str,
}

/// Who begins, and who answers.
struct Two<S> {
    one: Side<S>,
    other: Side<S>,
}

impl<S: PeerStore> Two<S> {
    fn of(make: &impl Fn() -> S) -> Self {
        let two = Self {
            one: Side { store: make(), other: "billing" },
            other: Side { store: make(), other: "orders" },
        };
        two.one.store.add(cs1_peer("billing", 1), NOW).unwrap();
        let keys = NewKeys::cs1(key(101), key(1), secret(1)).expect("different keys");
        two.other.store.add(NewPeer { keys, ..cs1_peer("orders", 1) }, NOW).unwrap();
        two
    }

    /// The answerer is PENDING, and the answer is on its way.
    fn answered(&self) -> Answer {
        self.other.answer(&self.one.propose()).unwrap()
    }

    /// The beginner is READY, and its confirmation is on its way.
    fn ready(&self) -> Confirm {
        self.one.receive(&self.answered()).unwrap()
    }
}

/// Everything about a rotation that a store keeps.
#[derive(Debug, PartialEq)]
struct Kept {
    live: Vec<(u32, [u8; 16], Option<UnixTime>)>,
    ended: Vec<(u32, Ending)>,
    agreement: Agreement,
}

impl<S: PeerStore> Side<S> {
    fn peer(&self) -> Peer {
        self.store.get(&name(self.other)).unwrap()
    }

    fn kept(&self) -> Kept {
        let peer = self.peer();
        Kept {
            live: peer.credentials.iter().map(|one| (one.number, one.uid, one.confirmed)).collect(),
            ended: peer.ended.iter().map(|one| (one.number, one.how)).collect(),
            agreement: peer.agreement,
        }
    }

    fn agree(&self, wanted: &Move) -> Result<Moved, StoreError> {
        self.store.agree(&name(self.other), wanted, NOW)
    }

    fn propose(&self) -> Propose {
        match self.agree(&proposal(1)) {
            Ok(Moved::Send(Message::Propose(propose))) => propose,
            other => panic!("{other:?}"),
        }
    }

    fn answer_of(&self, propose: &Propose, seed: u8) -> Move {
        let signer = self.peer().credentials.first().map(|one| one.uid).expect("one lives");
        let private = Zeroizing::new([seed; 32]);
        Move::Answer {
            propose: propose.clone(),
            signer,
            nonce: [seed; 32],
            private,
            grace: GRACE,
            supersede_after: 60,
        }
    }

    fn answer(&self, propose: &Propose) -> Result<Answer, StoreError> {
        match self.agree(&self.answer_of(propose, 3))? {
            Moved::Answer(answer) => Ok(answer),
            other => panic!("{other:?}"),
        }
    }

    fn receive(&self, answer: &Answer) -> Result<Confirm, StoreError> {
        match self.agree(&Move::Receive { answer: answer.clone(), grace: GRACE })? {
            Moved::Send(Message::Confirm(confirm)) => Ok(confirm),
            other => panic!("{other:?}"),
        }
    }

    fn confirm(&self, confirm: &Confirm) -> Result<Ruling, StoreError> {
        match self.agree(&Move::Confirm(confirm.clone()))? {
            Moved::Ruling(ruling) => Ok(ruling),
            other => panic!("{other:?}"),
        }
    }

    fn numbers(&self) -> Vec<u32> {
        self.peer().credentials.iter().map(|one| one.number).collect()
    }

    fn accepted(&self, now: UnixTime) -> Vec<u32> {
        self.peer().accepted(now).map(|one| one.number).collect()
    }

    fn sent(&self) -> u32 {
        self.peer().sending(NOW).first().map(|one| one.number).expect("one is sent")
    }

    fn used(&self, number: u32, direction: UseDirection) {
        let peer = self.peer();
        let uid = peer.credentials.iter().find(|one| one.number == number).expect("it lives").uid;
        self.store.note(&[Use { uid, direction, at: NOW }]).unwrap();
    }

    fn is_confirmed(&self, number: u32) -> bool {
        let peer = self.peer();
        peer.credentials.iter().any(|one| one.number == number && one.confirmed.is_some())
    }

    fn end(&self, which: Which, how: Ending) {
        self.store.end(&name(self.other), which, how, NOW).unwrap();
    }
}

fn proposal(seed: u8) -> Move {
    Move::Propose { nonce: [seed; 32], private: Zeroizing::new([seed + 1; 32]) }
}

fn why(result: Result<impl std::fmt::Debug, StoreError>) -> MoveError {
    match result {
        Err(StoreError::Rotation(why)) => why,
        other => panic!("{other:?}"),
    }
}

fn a_whole_rotation_leaves_both_with_the_new_credential<S: PeerStore>(two: &Two<S>) {
    let (one, other) = (&two.one, &two.other);
    let stands = |at_one: (&[u32], u32), at_other: (&[u32], u32)| {
        assert_eq!((one.accepted(NOW).as_slice(), one.sent()), at_one);
        assert_eq!((other.accepted(NOW).as_slice(), other.sent()), at_other);
    };
    let step = |side: &Side<S>| side.peer().step().map(|(step, _)| step);
    let r1 = one.propose();
    stands((&[1], 1), (&[1], 1));
    assert_eq!((step(one), step(other)), (Some(Step::Proposed), None));
    let r2 = other.answer(&r1).unwrap();
    stands((&[1], 1), (&[1, 2], 1));
    assert_eq!(step(other), Some(Step::Pending));
    let r3 = one.receive(&r2).unwrap();
    stands((&[1, 2], 1), (&[1, 2], 1));
    assert_eq!(step(one), Some(Step::Ready));
    let r4 = other.confirm(&r3).unwrap();
    assert_eq!(r4.outcome, Outcome::Done);
    stands((&[1, 2], 1), (&[1, 2], 2));
    assert_eq!(step(other), Some(Step::Current));
    assert!(matches!(one.agree(&Move::Conclude(r4)).unwrap(), Moved::Done(2)));
    stands((&[1, 2], 2), (&[1, 2], 2));
    assert_eq!(step(one), None);
    // RO-14: the answerer waits for a request under the new one, and then for the end of grace; the beginner does so from R4 on.
    let late = NOW.plus(50 * GRACE);
    assert_eq!((one.accepted(late), other.accepted(late)), (vec![2], vec![1, 2]));
    other.used(2, UseDirection::Inbound);
    assert_eq!(other.accepted(NOW.plus(GRACE - 1)), [1, 2]);
    assert_eq!(other.accepted(NOW.plus(GRACE)), [2]);
    assert_eq!(step(other), None);
    let fingerprints = [one, other].map(|side| side.peer().newest_fingerprint().cloned());
    assert!(fingerprints[0].is_some() && fingerprints[0] == fingerprints[1], "operators see the same digits");
}

fn what_is_repeated_is_answered_as_before_and_changes_nothing<S: PeerStore>(two: &Two<S>) {
    let (one, other) = (&two.one, &two.other);
    let r1 = one.propose();
    let again = one.agree(&proposal(9)).unwrap();
    assert!(
        matches!(again, Moved::Send(Message::Propose(again)) if again == r1),
        "RO-5: nothing is made twice"
    );
    let r2 = other.answer(&r1).unwrap();
    let kept = other.kept();
    let Moved::Answer(again) = other.agree(&other.answer_of(&r1, 9)).unwrap() else { panic!("RO-8") };
    assert_eq!(again.to_json(), r2.to_json(), "RO-8: byte for byte");
    assert_eq!(other.kept(), kept);
    let r3 = one.receive(&r2).unwrap();
    let Moved::Send(Message::Confirm(again)) = one.agree(&proposal(9)).unwrap() else { panic!("RO-10") };
    assert_eq!(again.to_json(), r3.to_json());
    let r4 = other.confirm(&r3).unwrap();
    let kept = other.kept();
    assert_eq!(other.confirm(&r3).unwrap().to_json(), r4.to_json());
    assert_eq!(other.kept(), kept);
}

fn a_move_that_fails_changes_nothing<S: PeerStore>(two: &Two<S>) {
    let (one, other) = (&two.one, &two.other);
    let wrong = Tag::from_bytes([7; 32]);
    let refused = |side: &Side<S>, wanted: &Move, error: MoveError| {
        let kept = side.kept();
        assert_eq!(why(side.agree(wanted)), error);
        assert_eq!(side.kept(), kept);
    };
    let receive = |answer: &Answer| Move::Receive { answer: answer.clone(), grace: GRACE };
    let r1 = one.propose();
    // What the answerer does not answer.
    let Move::Answer { nonce, private, grace, signer, .. } = other.answer_of(&r1, 3) else { panic!() };
    let ask = |propose: &Propose, signer| Move::Answer {
        propose: propose.clone(),
        signer,
        nonce,
        private: private.clone(),
        grace,
        supersede_after: 0,
    };
    refused(other, &ask(&r1, [9; 16]), MoveError::NotTheSigner);
    let mut swapped = r1.clone();
    std::mem::swap(&mut swapped.names.initiator, &mut swapped.names.responder);
    refused(other, &ask(&swapped, signer), MoveError::NotTheSigner);
    refused(other, &ask(&Propose { share: [0; 32], ..r1.clone() }, signer), MoveError::ZeroShare);
    refused(other, &ask(&Propose { rid: 0, ..r1.clone() }, signer), MoveError::Over { last: 0 });
    // What the beginner does not take.
    let r2 = other.answer(&r1).unwrap();
    refused(one, &receive(&Answer { proof: wrong, ..r2 }), MoveError::Proof);
    refused(one, &receive(&Answer { rid: r2.rid + 1, ..r2 }), MoveError::Unknown);
    refused(one, &receive(&Answer { share: [0; 32], ..r2 }), MoveError::ZeroShare);
    refused(other, &receive(&r2), MoveError::Unknown);
    let r3 = one.receive(&r2).unwrap();
    refused(one, &receive(&r2), MoveError::Unknown);
    // What the answerer does not rule on.
    refused(other, &Move::Confirm(Confirm { new: wrong, ..r3.clone() }), MoveError::Proof);
    refused(other, &Move::Confirm(Confirm { rid: r3.rid + 1, ..r3.clone() }), MoveError::Unknown);
    refused(one, &Move::Confirm(r3.clone()), MoveError::Unknown);
    let r4 = other.confirm(&r3).unwrap();
    refused(one, &Move::Conclude(Ruling { proof: wrong, ..r4 }), MoveError::Proof);
    refused(one, &Move::Conclude(Ruling { outcome: Outcome::Aborted, ..r4 }), MoveError::Proof);
    refused(one, &Move::Conclude(Ruling { rid: r4.rid + 1, ..r4 }), MoveError::Unknown);
    one.agree(&Move::Conclude(r4)).unwrap();
    refused(one, &Move::Conclude(r4), MoveError::Unknown);
    // RO-2: both still accept two.
    refused(one, &proposal(5), MoveError::Busy);
    refused(other, &ask(&Propose { rid: r1.rid + 1, ..r1 }, signer), MoveError::Busy);
    let nobody = one.store.agree(&name("nobody"), &Move::Want, NOW);
    assert!(matches!(nobody, Err(StoreError::NoSuchPeer(_))), "{nobody:?}");
}

/// Makes moves at once; those that were made, and why the others were not.
fn race<S: PeerStore>(side: &Side<S>, moves: &[Move]) -> (Vec<Moved>, Vec<MoveError>) {
    let outcomes: Vec<_> = std::thread::scope(|scope| {
        let running: Vec<_> = moves.iter().map(|wanted| scope.spawn(move || side.agree(wanted))).collect();
        running.into_iter().map(|one| one.join().unwrap()).collect()
    });
    let (made, not): (Vec<_>, Vec<_>) = outcomes.into_iter().partition(Result::is_ok);
    (made.into_iter().map(Result::unwrap).collect(), not.into_iter().map(why).collect())
}

fn of_racing_moves_one_is_made_and_the_others_find_it_done<S: PeerStore>(two: &Two<S>) {
    let (one, other) = (&two.one, &two.other);
    let (made, not) = race(one, &[1, 11, 21, 31].map(proposal));
    assert_eq!((made.len(), not.len()), (4, 0), "{not:?}");
    let r1 = one.propose();
    for moved in made {
        assert!(
            matches!(moved, Moved::Send(Message::Propose(propose)) if propose == r1),
            "all send the same"
        );
    }
    let (made, not) = race(other, &[1, 11, 21, 31].map(|seed| other.answer_of(&r1, seed)));
    assert_eq!((made.len(), not.len()), (4, 0), "{not:?}");
    let r2 = other.answer(&r1).unwrap();
    for moved in made {
        assert!(matches!(moved, Moved::Answer(answer) if answer.to_json() == r2.to_json()), "RO-8");
    }
    assert_eq!(other.numbers(), [1, 2]);
    let receive = Move::Receive { answer: r2, grace: GRACE };
    let (made, not) = race(one, &[(); 4].map(|()| receive.clone()));
    assert_eq!((made.len(), not), (1, vec![MoveError::Unknown; 3]));
    assert_eq!(one.numbers(), [1, 2]);
    let Some(Message::Confirm(r3)) = one.peer().outgoing() else { panic!("READY") };
    let (made, not) = race(other, &[(); 4].map(|()| Move::Confirm(r3.clone())));
    assert_eq!((made.len(), not.len()), (4, 0));
    let r4 = other.confirm(&r3).unwrap();
    let (made, not) = race(one, &[(); 4].map(|()| Move::Conclude(r4)));
    assert_eq!((made.len(), not), (1, vec![MoveError::Unknown; 3]));
}

fn who_gives_up_says_so_and_numbers_are_not_used_again<S: PeerStore>(two: &Two<S>) {
    let (one, other) = (&two.one, &two.other);
    let r1 = one.propose();
    let r2 = other.answer(&r1).unwrap();
    let r3 = one.receive(&r2).unwrap();
    let give_up = |now| other.store.agree(&name(other.other), &Move::GiveUp { after: 600 }, now).unwrap();
    let kept = other.kept();
    give_up(NOW.plus(599));
    assert_eq!(other.kept(), kept);
    give_up(NOW.plus(600));
    assert_eq!(other.numbers(), [1]);
    assert_eq!(other.kept().ended, [(2, Ending::GivenUp)]);
    // The tombstone is kept (RO-12), and says the same each time.
    let aborted = other.confirm(&r3).unwrap();
    assert_eq!(aborted.outcome, Outcome::Aborted);
    give_up(NOW.plus(5_000));
    assert_eq!(other.confirm(&r3).unwrap().to_json(), aborted.to_json());
    let last = r1.rid;
    assert_eq!(why(other.answer(&r1)), MoveError::Over { last }, "not even the same again");
    assert_eq!(why(other.confirm(&Confirm { old: r3.new, ..r3 })), MoveError::Proof);
    assert!(matches!(one.agree(&Move::Conclude(aborted)).unwrap(), Moved::Aborted));
    assert_eq!((one.numbers(), one.sent()), (vec![1], 1));
    // The next one is another one.
    let again = two.ready();
    assert!(again.rid > r1.rid);
    let done = other.confirm(&again).unwrap();
    assert!(matches!(one.agree(&Move::Conclude(done)).unwrap(), Moved::Done(3)));
}

fn if_both_begin_one_goes_on<S: PeerStore>(two: &Two<S>) {
    let (one, other) = (&two.one, &two.other);
    let (r1_of_one, r1_of_other) = (one.propose(), other.propose());
    // RO-3: the lesser key.
    let one_goes_on = key(1).expose().as_bytes() < key(101).expose().as_bytes();
    let (winner, its, loser, lost) =
        if one_goes_on { (one, r1_of_one, other, r1_of_other) } else { (other, r1_of_other, one, r1_of_one) };
    assert_eq!(why(winner.answer(&lost)), MoveError::Busy);
    let r2 = loser.answer(&its).unwrap();
    assert!(loser.peer().outgoing().is_none(), "its own proposal is forgotten");
    let r3 = winner.receive(&r2).unwrap();
    let r4 = loser.confirm(&r3).unwrap();
    assert!(matches!(winner.agree(&Move::Conclude(r4)).unwrap(), Moved::Done(2)));
}

fn a_proposal_can_be_forgotten_and_the_next_one_has_a_greater_number<S: PeerStore>(two: &Two<S>) {
    let one = &two.one;
    let first = one.propose().rid;
    one.agree(&Move::Withdraw { rid: first + 1, last: None }).unwrap();
    assert!(one.peer().outgoing().is_some(), "that was about another one");
    one.agree(&Move::Withdraw { rid: first, last: None }).unwrap();
    assert!(one.peer().outgoing().is_none());
    let second = one.propose().rid;
    assert!(second > first, "RO-1");
    one.agree(&Move::Withdraw { rid: second, last: Some(second + 10) }).unwrap();
    assert_eq!(one.propose().rid, second + 11);
    // RO-9, RO-10: a confirmation is not forgotten so.
    let confirm = two.ready();
    one.agree(&Move::Withdraw { rid: confirm.rid, last: None }).unwrap();
    assert!(matches!(one.peer().outgoing(), Some(Message::Confirm(_))));
}

fn what_ends_in_the_middle_takes_the_rotation_with_it<S: PeerStore>(make: &impl Fn() -> S) {
    // All of it, while there is a proposal.
    let two = Two::of(make);
    let answer = two.answered();
    two.one.end(Which::All, Ending::Revoked);
    assert!(two.one.peer().outgoing().is_none() && two.one.peer().step().is_none());
    assert_eq!(why(two.one.receive(&answer)), MoveError::Unknown);
    assert_eq!(why(two.one.agree(&proposal(5))), MoveError::NothingLive);
    // The new one, while the beginner has to confirm it.
    let two = Two::of(make);
    let r4 = two.other.confirm(&two.ready()).unwrap();
    two.one.end(Which::Number(2), Ending::Revoked);
    assert!(two.one.peer().outgoing().is_none());
    assert_eq!(why(two.one.agree(&Move::Conclude(r4))), MoveError::Unknown);
    assert_eq!((two.one.numbers(), two.one.sent()), (vec![1], 1));
    // Either of the two, while the answerer waits: what is left goes on alone, and who began is told which (RO-11, RO-12).
    for (number, left, outcome) in [(1, 2, Outcome::Done), (2, 1, Outcome::Aborted)] {
        let two = Two::of(make);
        let confirm = two.ready();
        two.other.end(Which::Number(number), Ending::Compromised);
        assert_eq!(two.other.confirm(&confirm).unwrap().outcome, outcome);
        assert_eq!((two.other.numbers(), two.other.sent()), (vec![left], left));
    }
}

fn a_peer_that_comes_again_knows_of_no_rotation<S: PeerStore>(two: &Two<S>) {
    two.ready();
    for side in [&two.one, &two.other] {
        side.store.remove(&name(side.other)).unwrap();
        side.store.add(cs1_peer(side.other, 5), NOW).unwrap();
        assert_eq!(side.kept().agreement, Agreement::default());
    }
}

fn a_use_of_the_new_one_shows_nothing_to_who_has_begun<S: PeerStore>(two: &Two<S>) {
    let one = &two.one;
    let confirm = two.ready();
    for direction in [UseDirection::Inbound, UseDirection::Outbound] {
        one.used(2, direction);
        assert!(!one.is_confirmed(2), "RO-10: {direction:?}");
        assert_eq!(one.sent(), 1);
    }
    let aborted = two.other.store.agree(&name("orders"), &Move::GiveUp { after: 0 }, NOW);
    assert!(matches!(aborted, Ok(Moved::Nothing)));
    let aborted = two.other.confirm(&confirm).unwrap();
    assert!(
        matches!(one.agree(&Move::Conclude(aborted)).unwrap(), Moved::Aborted),
        "it can still be called off"
    );
}

fn a_use_by_who_has_begun_confirms_and_one_by_who_answered_does_not<S: PeerStore>(two: &Two<S>) {
    let other = &two.other;
    let confirm = two.ready();
    other.used(2, UseDirection::Outbound);
    other.used(1, UseDirection::Inbound);
    assert!(!other.is_confirmed(2) && other.sent() == 1, "PENDING still");
    other.confirm(&confirm).unwrap();
    other.used(2, UseDirection::Outbound);
    assert!(!other.is_confirmed(2), "RO-14: its own use shows nothing");
    assert_eq!(other.sent(), 2);
    other.used(2, UseDirection::Inbound);
    assert!(other.is_confirmed(2));
    // RO-13: the same without R3, in the next rotation.
    let (one, next) = (&two.one, UnixTime(NOW.0 + 100 * GRACE));
    let done = other.confirm(&confirm).unwrap();
    one.agree(&Move::Conclude(done)).unwrap();
    let propose = |side: &Side<S>| side.store.agree(&name(side.other), &proposal(40), next);
    let Ok(Moved::Send(Message::Propose(r1))) = propose(one) else { panic!("the old one is over") };
    let signer = other.peer().credentials.last().map(|one| one.uid).expect("one lives");
    let private = Zeroizing::new([50; 32]);
    let answer =
        Move::Answer { propose: r1, signer, nonce: [51; 32], private, grace: GRACE, supersede_after: 0 };
    other.store.agree(&name(other.other), &answer, next).unwrap();
    assert_eq!(other.numbers(), [2, 3]);
    let uid = other.peer().credentials.last().map(|one| one.uid).expect("one lives");
    other.store.note(&[Use { uid, direction: UseDirection::Inbound, at: next }]).unwrap();
    assert!(other.is_confirmed(3), "RO-13");
    let sent = other.peer().sending(next).first().map(|one| one.number);
    assert_eq!(sent, Some(3));
    other.store.agree(&name(other.other), &Move::GiveUp { after: 0 }, next.plus(1)).unwrap();
    assert_eq!(other.numbers(), [2, 3], "it is not given up any more");
}

fn a_rotation_can_be_wanted<S: PeerStore>(two: &Two<S>) {
    assert_eq!(two.other.peer().wanted(), None);
    two.other.agree(&Move::Want).unwrap();
    assert_eq!(two.other.peer().wanted(), Some(NOW));
}

fn only_cs1_rotates_in_band(store: &impl PeerStore) {
    store.add(shared_secret_peer("billing", 1), NOW).unwrap();
    for wanted in [proposal(1), Move::Want, Move::GiveUp { after: 0 }] {
        assert_eq!(why(store.agree(&name("billing"), &wanted, NOW)), MoveError::NotCs1);
    }
}
