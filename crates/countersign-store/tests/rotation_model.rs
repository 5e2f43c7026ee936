//! Every state that a rotation in band can reach, with the code that runs (`specs/rotation.md`): both sides may begin, be killed between
//! any two steps, give up and forget; each message may be lost, repeated, delayed and overtaken; old credentials end as early as they may.
//!
//! - **Nobody is locked out** (the invariant in its strict form): in each state, what either side sends, the other accepts.
//! - **Nobody is stuck**: from each state there is a way to one in which nothing is open and both have the same single credential.
//!
//! A kill needs no move of its own: what is kept is all that there is, and a message that was not sent is one that was lost.
//! The shortcuts that are known to lock out are tried as well, and each is found out.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::needless_range_loop,
    reason = "a broken fixture ends the test"
)]

use std::collections::{BTreeMap, HashMap, VecDeque};

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{ApiKey, ServiceName};
use countersign_protocol::lookup::LookupKey;
use countersign_protocol::rotation::{Answer, Confirm, Propose, Ruling};
use countersign_protocol::secret::SharedSecret;
use countersign_store::agreement::Message;
use countersign_store::lifecycle::{Ending, Which};
use countersign_store::{
    Agreement, Keys, Move, MoveError, Moved, NewKeys, NewPeer, Peer, PeerSet, StoreError, Trust, Use,
    UseDirection,
};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// All that happens in time happens now …
const NOW: UnixTime = UnixTime(1_800_000_000);
/// … and what waits for time to pass has waited long enough.
const LATER: UnixTime = UnixTime(1_900_000_000);
const GRACE: u64 = 900;

/// What somebody could have been tempted to write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Shortcut {
    None,
    /// Who gives up a rotation forgets it.
    NoTombstone,
    /// Who began drops the old credential when it has the new one.
    DropOldAtReady,
    /// Who began sends the new credential as soon as it has it.
    SendNewAtReady,
    /// Who began forgets the new credential because somebody says 401.
    ForgetOn401,
    /// Who answered counts that its own use of the new credential was accepted.
    OutboundConfirms,
}

#[derive(Clone)]
enum Content {
    R1(Propose),
    R2(Answer),
    R3(Confirm),
    R4(Ruling),
    Over { rid: u64, last: u64 },
    Unauthorized,
}

#[derive(Clone)]
struct World {
    sides: [PeerSet; 2],
    proposals: [usize; 2],
    /// How long a proposal stands before the peer's takes its place: none at all, or for ever.
    patience: u64,
    /// All that was ever sent, by whom it is for. Nothing is taken out: it may come again, and later.
    net: [BTreeMap<String, Content>; 2],
}

fn name() -> ServiceName {
    "peer".parse().unwrap()
}

fn bytes(label: &str) -> [u8; 32] {
    Sha256::digest(label).into()
}

fn short(label: &str) -> [u8; 16] {
    *bytes(label).first_chunk().unwrap()
}

fn side(keys: NewKeys) -> PeerSet {
    let mut set = PeerSet::new(LookupKey::new(&Zeroizing::new([7; 32])));
    let peer = NewPeer {
        name: name(),
        url: None,
        trust: Trust::System,
        danger_unproven_server: false,
        cs1: Default::default(),
        keys,
    };
    set.add(peer, NOW).unwrap();
    set
}

impl World {
    fn new(patience: u64) -> Self {
        let (a, b) = (ApiKey::generate(&short("a")), ApiKey::generate(&short("b")));
        let secret = SharedSecret::generate(&bytes("secret"));
        let keys = NewKeys::cs1(a, b, secret).unwrap();
        let sides = [side(keys.clone()), side(keys.exchanged())];
        let mut world = Self { sides, proposals: [0; 2], patience, net: Default::default() };
        // Anybody on the way can say that.
        (0..2).for_each(|side| world.send(side, Content::Unauthorized));
        world
    }

    fn peer(&self, side: usize) -> Peer {
        self.sides[side].get(&name()).unwrap()
    }

    fn put(&mut self, side: usize, peer: Peer) {
        let lookup = self.sides[side].lookup_key().clone();
        self.sides[side] = PeerSet::of(lookup, [peer]).unwrap();
    }

    fn send(&mut self, to: usize, content: Content) {
        let key = match &content {
            Content::R1(one) => format!("R1 {}", String::from_utf8(one.to_json()).unwrap()),
            Content::R2(one) => format!("R2 {}", String::from_utf8(one.to_json()).unwrap()),
            Content::R3(one) => format!("R3 {}", String::from_utf8(one.to_json()).unwrap()),
            Content::R4(one) => format!("R4 {}", String::from_utf8(one.to_json()).unwrap()),
            Content::Over { rid, last } => format!("over {rid} {last}"),
            Content::Unauthorized => "401".to_owned(),
        };
        self.net[to].insert(key, content);
    }

    fn agree(&mut self, side: usize, wanted: &Move, now: UnixTime) -> Result<Moved, MoveError> {
        let moved = self.sides[side].agree(&name(), wanted, now).map_err(|error| match error {
            StoreError::Rotation(error) => error,
            other => panic!("{other}"),
        })?;
        if let Moved::Send(message) = &moved {
            let content = match message.clone() {
                Message::Propose(propose) => Content::R1(propose),
                Message::Confirm(confirm) => Content::R3(confirm),
            };
            self.send(1 - side, content);
        }
        Ok(moved)
    }

    /// What a side sends, by fingerprint.
    fn sends(&self, side: usize, shortcut: Shortcut) -> String {
        let peer = self.peer(side);
        let ready = peer.step().is_some_and(|(step, _)| step.as_str() == "ready");
        let chosen = if shortcut == Shortcut::SendNewAtReady && ready {
            peer.credentials.last().unwrap().clone()
        } else {
            peer.sending(NOW)[0].clone()
        };
        chosen.fingerprint.as_str().to_owned()
    }

    fn accepts(&self, side: usize, fingerprint: &str) -> Option<[u8; 16]> {
        let peer = self.peer(side);
        peer.accepted(NOW).find(|one| one.fingerprint.as_str() == fingerprint).map(|one| one.uid)
    }

    /// What tells one state from another: credentials by their fingerprints, not by their random ids and times.
    fn key(&self) -> String {
        let mut key = String::new();
        for side in 0..2 {
            let peer = self.peer(side);
            for one in &peer.credentials {
                let (confirmed, overlap) = (one.confirmed.is_some(), one.overlap.is_some());
                key += &format!("{} {confirmed} {overlap}; ", one.fingerprint.as_str());
            }
            let mut agreement = serde_json::to_string(&peer.agreement).unwrap();
            for one in &peer.credentials {
                let uid = serde_json::to_string(&one.uid).unwrap();
                agreement = agreement.replace(&uid, one.fingerprint.as_str());
            }
            key += &format!("{agreement} {} | ", self.proposals[side]);
        }
        for net in &self.net {
            key += &format!("{:?}", net.keys().collect::<Vec<_>>());
        }
        key
    }

    fn is_at_rest(&self) -> bool {
        let [a, b] = [self.peer(0), self.peer(1)];
        let single = |peer: &Peer| peer.credentials.len() == 1 && peer.step().is_none();
        single(&a) && single(&b) && a.credentials[0].fingerprint == b.credentials[0].fingerprint
    }

    /// All that can happen next.
    fn next(&self, most: [usize; 2], shortcut: Shortcut) -> Vec<World> {
        let mut worlds = Vec::new();
        let mut with = |change: &dyn Fn(&mut World)| {
            let mut world = self.clone();
            change(&mut world);
            worlds.push(world);
        };
        for side in 0..2 {
            let other = 1 - side;
            if self.proposals[side] < most[side] && self.peer(side).outgoing().is_none() {
                with(&|world| {
                    let label = format!("proposal {side} {}", world.proposals[side]);
                    let (nonce, private) = (bytes(&label), Zeroizing::new(bytes(&format!("{label} key"))));
                    if world.agree(side, &Move::Propose { nonce, private }, NOW).is_ok() {
                        world.proposals[side] += 1;
                    }
                });
            }
            with(&|world| {
                if let Some(message) = world.peer(side).outgoing() {
                    let content = match message {
                        Message::Propose(propose) => Content::R1(propose),
                        Message::Confirm(confirm) => Content::R3(confirm),
                    };
                    world.send(other, content);
                }
            });
            with(&|world| {
                if let Some(Message::Propose(propose)) = world.peer(side).outgoing() {
                    let _ = world.agree(side, &Move::Withdraw { rid: propose.rid, last: None }, NOW);
                }
            });
            with(&|world| {
                let _ = world.agree(side, &Move::GiveUp { after: 600 }, LATER);
                if shortcut == Shortcut::NoTombstone {
                    let mut peer = world.peer(side);
                    let mut form = serde_json::to_value(&peer.agreement).unwrap();
                    if form["theirs"]["at"] == "over" {
                        form.as_object_mut().unwrap().remove("theirs");
                        peer.agreement = serde_json::from_value::<Agreement>(form).unwrap();
                        world.put(side, peer);
                    }
                }
            });
            with(&|world| {
                world.sides[side].settle(LATER);
            });
            // An ordinary request; what is noted at the sender may be lost.
            for noted in [true, false] {
                with(&|world| {
                    let sent = world.sends(side, shortcut);
                    let Some(uid) = world.accepts(other, &sent) else { return };
                    world.sides[other].note(&[Use { uid, direction: UseDirection::Inbound, at: NOW }]);
                    if noted {
                        let uid = world.accepts(side, &sent).unwrap();
                        world.sides[side].note(&[Use { uid, direction: UseDirection::Outbound, at: NOW }]);
                        if shortcut == Shortcut::OutboundConfirms {
                            let mut peer = world.peer(side);
                            let used = peer.credentials.iter_mut().find(|one| one.uid == uid).unwrap();
                            used.confirmed = Some(NOW);
                            world.put(side, peer);
                        }
                    }
                });
            }
            for content in self.net[side].values() {
                with(&|world| world.deliver(side, content, shortcut));
            }
        }
        worlds
    }

    fn deliver(&mut self, side: usize, content: &Content, shortcut: Shortcut) {
        let other = 1 - side;
        match content {
            Content::R1(propose) => {
                // The signature is verified with a credential that is accepted, or it is a 401.
                let peer = self.peer(side);
                let signer = peer.accepted(NOW).find(|one| {
                    matches!(&one.keys, Keys::Cs1 { our_key, their_key, .. }
                        if *our_key == propose.names.responder && *their_key == propose.names.initiator)
                });
                let Some(signer) = signer.map(|one| one.uid) else { return };
                let label = format!("answer {side} {}", propose.rid);
                let answer = Move::Answer {
                    propose: propose.clone(),
                    signer,
                    nonce: bytes(&label),
                    private: Zeroizing::new(bytes(&format!("{label} key"))),
                    grace: GRACE,
                    supersede_after: self.patience,
                };
                match self.agree(side, &answer, NOW) {
                    Ok(Moved::Answer(answer)) => self.send(other, Content::R2(answer)),
                    Err(MoveError::Over { last }) => {
                        self.send(other, Content::Over { rid: propose.rid, last });
                    }
                    _ => {}
                }
            }
            Content::R2(answer) => {
                let receive = Move::Receive { answer: answer.clone(), grace: GRACE };
                if self.agree(side, &receive, NOW).is_ok() && shortcut == Shortcut::DropOldAtReady {
                    let mut peer = self.peer(side);
                    peer.credentials.remove(0);
                    self.put(side, peer);
                }
            }
            Content::R3(confirm) => match self.agree(side, &Move::Confirm(confirm.clone()), NOW) {
                Ok(Moved::Ruling(ruling)) => self.send(other, Content::R4(ruling)),
                _ => self.send(other, Content::Unauthorized),
            },
            Content::R4(ruling) => {
                let _ = self.agree(side, &Move::Conclude(*ruling), NOW);
            }
            Content::Over { rid, last } => {
                let withdraw = Move::Withdraw { rid: *rid, last: Some(*last) };
                let _ = self.agree(side, &withdraw, NOW);
            }
            Content::Unauthorized if shortcut == Shortcut::ForgetOn401 => {
                let peer = self.peer(side);
                if peer.step().is_some_and(|(step, _)| step.as_str() == "ready") {
                    let new = Which::Number(peer.credentials.last().unwrap().number);
                    self.sides[side].end(&name(), new, Ending::Abandoned, NOW).unwrap();
                }
            }
            Content::Unauthorized => {}
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
enum Found {
    /// Every state is good; so many there are, and so many of them with another credential than at first.
    Good { states: usize, rotated: usize },
    /// One side sends what the other does not accept.
    LockedOut,
    /// From some state no way leads to rest.
    Stuck,
}

fn explore(most: [usize; 2], patience: u64, shortcut: Shortcut) -> Found {
    let first = World::new(patience);
    let at_first = first.sends(0, Shortcut::None);
    let mut numbers = HashMap::from([(first.key(), 0)]);
    let mut ways_back: Vec<Vec<usize>> = vec![Vec::new()];
    let (mut at_rest, mut rotated) = (vec![0], 0);
    let mut queue = VecDeque::from([(0, first)]);
    while let Some((number, world)) = queue.pop_front() {
        for next in world.next(most, shortcut) {
            let fresh = numbers.len();
            let to = *numbers.entry(next.key()).or_insert(fresh);
            if to == fresh {
                for side in 0..2 {
                    let (sent, peer) = (next.sends(side, shortcut), next.peer(side));
                    if next.accepts(1 - side, &sent).is_none() {
                        return Found::LockedOut;
                    }
                    let newest = peer.credentials.last().unwrap();
                    if peer.step().is_none() && newest.confirmed.is_some() {
                        assert_eq!(sent, newest.fingerprint.as_str(), "whoever is through sends the newest");
                    }
                }
                ways_back.push(Vec::new());
                if next.is_at_rest() {
                    at_rest.push(to);
                    rotated += usize::from(next.sends(0, Shortcut::None) != at_first);
                }
                queue.push_back((to, next));
            }
            ways_back[to].push(number);
        }
    }
    let mut leads_to_rest = vec![false; numbers.len()];
    while let Some(state) = at_rest.pop() {
        if !std::mem::replace(&mut leads_to_rest[state], true) {
            at_rest.extend(&ways_back[state]);
        }
    }
    if leads_to_rest.iter().all(|leads| *leads) {
        Found::Good { states: numbers.len(), rotated }
    } else {
        Found::Stuck
    }
}

fn good(most: [usize; 2], patience: u64) {
    match explore(most, patience, Shortcut::None) {
        Found::Good { states, rotated } => {
            println!(
                "{most:?}, {patience}: {states} states, {rotated} of them at rest with a new credential"
            );
            assert!(rotated > 0, "something was rotated");
        }
        bad => panic!("{most:?}: {bad:?}"),
    }
}

#[test]
fn ro_4_what_either_side_sends_the_other_accepts_when_one_begins_and_begins_again() {
    good([2, 0], 0);
    good([2, 0], u64::MAX);
}

#[test]
fn ro_3_what_either_side_sends_the_other_accepts_when_both_begin_at_once() {
    good([1, 1], 0);
    good([1, 1], u64::MAX);
}

#[test]
fn ro_2_what_either_side_sends_the_other_accepts_through_three_rotations_of_both() {
    good([2, 1], u64::MAX);
}

#[test]
fn ro_12_without_a_tombstone_who_began_waits_for_ever() {
    assert_eq!(explore([1, 0], 0, Shortcut::NoTombstone), Found::Stuck);
}

#[test]
fn dropping_the_old_one_when_the_new_one_is_there_locks_out() {
    assert_eq!(explore([1, 0], 0, Shortcut::DropOldAtReady), Found::LockedOut);
}

#[test]
fn ro_10_sending_the_new_one_before_it_is_confirmed_locks_out() {
    assert_eq!(explore([1, 0], 0, Shortcut::SendNewAtReady), Found::LockedOut);
}

#[test]
fn ro_10_forgetting_the_new_one_because_of_a_401_locks_out() {
    assert_eq!(explore([1, 0], 0, Shortcut::ForgetOn401), Found::LockedOut);
}

#[test]
fn ro_14_taking_ones_own_use_for_the_others_locks_out() {
    assert_eq!(explore([1, 0], 0, Shortcut::OutboundConfirms), Found::LockedOut);
}
