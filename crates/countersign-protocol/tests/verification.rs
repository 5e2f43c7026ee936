//! What an attempt costs, and that a proof can be had once.

#![allow(clippy::unwrap_used, reason = "tests")]

use std::cell::Cell;

use countersign_protocol::UnixTime;
use countersign_protocol::api_key::{self, server as guide2};
use countersign_protocol::identity::ApiKey;
use countersign_protocol::mac::{MacKey, Tag};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::server::{Attempt, Candidate, Effort, Holders, verify};
use countersign_protocol::shared_secret::{Challenge, Issuer, Lifetime, sign};
use countersign_testkit::memory::Burned;
use zeroize::Zeroizing;

const NOW: UnixTime = UnixTime(1_800_000_000);

/// A live credential that counts how often its key is asked for, which is once a MAC.
struct Counted<'a> {
    key: MacKey,
    asked: &'a Cell<usize>,
}

impl Candidate for Counted<'_> {
    fn mac_key(&self) -> &MacKey {
        self.asked.set(self.asked.get() + 1);
        &self.key
    }
}

struct Bench {
    issuer: Issuer,
    api_key: ApiKey,
    decoy: MacKey,
}

impl Bench {
    fn new() -> Self {
        let issuer = Issuer::new(&Zeroizing::new([1; 32]), "orders".parse().unwrap(), Lifetime::default());
        Self { issuer, api_key: ApiKey::generate(&[2; 16]), decoy: MacKey::new(&[3; 32]) }
    }

    fn challenge(&self) -> Challenge {
        self.issuer.issue(&self.api_key, NOW, [4; 7])
    }

    fn sign(&self, secret: &MacKey) -> Tag {
        sign(secret, &self.api_key, &self.challenge())
    }

    fn verify<'a, C: Candidate>(
        &self,
        challenge: &Challenge,
        signature: &Tag,
        holders: Holders<'a, C>,
        macs: usize,
    ) -> Result<&'a C, Refusal> {
        let attempt = Attempt { api_key: &self.api_key, challenge, signature };
        let unclaimed = verify(&self.issuer, attempt, holders, Effort { macs, decoy: &self.decoy }, NOW)?;
        let verified = unclaimed.claim(|_| Ok(())).map_err(|(refusal, _)| refusal)?;
        Ok(verified.holder())
    }
}

fn live(count: u8, asked: &Cell<usize>) -> Vec<Counted<'_>> {
    (0..count).map(|seed| Counted { key: MacKey::new(&[10 + seed; 32]), asked }).collect()
}

#[test]
fn every_live_credential_is_tried_once_whichever_matches_and_whatever_fails() {
    let bench = Bench::new();
    let expired = bench.issuer.issue(&bench.api_key, UnixTime(NOW.0 - 31), [4; 7]);
    for count in [1_u8, 2, 5] {
        let asked = Cell::new(0);
        let live = live(count, &asked);
        let tried = |challenge: &Challenge, signature: &Tag| {
            asked.set(0);
            let result = bench.verify(challenge, signature, Holders::Live(&live), usize::from(count));
            let tried = asked.get();
            (result.map(std::ptr::from_ref), tried)
        };
        let all = usize::from(count);
        for holder in &live {
            let signature = bench.sign(&holder.key);
            assert_eq!(tried(&bench.challenge(), &signature), (Ok(std::ptr::from_ref(holder)), all));
            assert_eq!(tried(&expired, &signature), (Err(Refusal::ChallengeExpired), all));
            let foreign = Challenge::from_bytes([7; 16]);
            assert_eq!(tried(&foreign, &signature), (Err(Refusal::ChallengeForeign), all));
        }
        let wrong = Tag::from_bytes([0; 32]);
        assert_eq!(tried(&bench.challenge(), &wrong), (Err(Refusal::WrongSignature), all));
    }
}

// How many MACs the decoy stands in for cannot be counted from outside: it is a key like any other. What can be
// seen is that it is never a way in, for fewer credentials than MACs as for none.
#[test]
fn the_decoy_opens_nothing() {
    let bench = Bench::new();
    let signature = bench.sign(&bench.decoy);
    let asked = Cell::new(0);
    for (count, macs) in [(0, 1), (0, 3), (1, 3), (2, 2)] {
        let live = live(count, &asked);
        let result = bench.verify(&bench.challenge(), &signature, Holders::Live(&live), macs);
        let expected = if count == 0 { Refusal::UnknownKey } else { Refusal::WrongSignature };
        assert_eq!(result.err(), Some(expected), "{count} of {macs}");
    }
    for why in [Refusal::UnknownKey, Refusal::OwnKey, Refusal::WrongProfile] {
        let nobody: Holders<'_, Counted<'_>> = Holders::Nobody(why);
        assert_eq!(bench.verify(&bench.challenge(), &signature, nobody, 3).err(), Some(why));
    }
}

#[test]
fn more_live_credentials_than_the_least_effort_are_all_tried() {
    let (bench, asked) = (Bench::new(), Cell::new(0));
    let live = live(4, &asked);
    let last = live.last().unwrap();
    let result = bench.verify(&bench.challenge(), &bench.sign(&last.key), Holders::Live(&live), 1);
    assert!(result.is_ok());
    assert_eq!(asked.get(), 4);
}

#[test]
fn of_two_requests_with_one_answer_one_is_verified() {
    let (bench, asked) = (Bench::new(), Cell::new(0));
    let live = live(1, &asked);
    let (challenge, signature) = (bench.challenge(), bench.sign(&live.first().unwrap().key));
    let attempt = Attempt { api_key: &bench.api_key, challenge: &challenge, signature: &signature };
    let both = || {
        let effort = Effort { macs: 1, decoy: &bench.decoy };
        verify(&bench.issuer, attempt, Holders::Live(&live), effort, NOW).unwrap()
    };
    // Both signatures are verified before either challenge is claimed.
    let (first, second) = (both(), both());
    let mut burned = Burned::default();
    assert!(second.claim(|claim| burned.claim(claim, NOW)).is_ok());
    let refused = first.claim(|claim| burned.claim(claim, NOW));
    assert_eq!(refused.map(drop).map_err(|(refusal, _)| refusal), Err(Refusal::ChallengeUsed));
}

#[test]
fn a_claim_lives_until_its_challenge_cannot_be_accepted_any_more() {
    for seconds in [5, 30, 120] {
        let (bench, asked) = (Bench::new(), Cell::new(0));
        let lifetime = Lifetime::seconds(seconds).unwrap();
        let issuer = Issuer::new(&Zeroizing::new([1; 32]), "orders".parse().unwrap(), lifetime);
        let (challenge, live) = (bench.challenge(), live(1, &asked));
        let signature = bench.sign(&live.first().unwrap().key);
        let attempt = Attempt { api_key: &bench.api_key, challenge: &challenge, signature: &signature };
        let at = |now| {
            let effort = Effort { macs: 1, decoy: &bench.decoy };
            verify(&issuer, attempt, Holders::Live(&live), effort, now)
        };
        let mut expires = None;
        let _ = at(NOW).unwrap().claim(|claim| {
            expires = Some(claim.expires);
            Ok(())
        });
        let expires = expires.unwrap();
        assert!(at(UnixTime(expires.0 - 1)).is_ok(), "{seconds}");
        assert_eq!(at(expires).map(drop).unwrap_err(), Refusal::ChallengeExpired, "{seconds}");
    }
}

#[test]
fn a_replay_log_that_cannot_take_a_claim_lets_nobody_in() {
    let (bench, asked) = (Bench::new(), Cell::new(0));
    let live = live(1, &asked);
    let signature = bench.sign(&live.first().unwrap().key);
    let attempt = Attempt { api_key: &bench.api_key, challenge: &bench.challenge(), signature: &signature };
    let effort = Effort { macs: 1, decoy: &bench.decoy };
    let unclaimed = verify(&bench.issuer, attempt, Holders::Live(&live), effort, NOW).unwrap();
    let refused = unclaimed.claim(|_| Err(Refusal::ReplayLogFull));
    assert_eq!(refused.map(drop).map_err(|(refusal, _)| refusal), Err(Refusal::ReplayLogFull));
}

#[test]
fn guide_2_finds_the_answered_challenge_wherever_it_stands_and_gives_it_to_one() {
    let key = ApiKey::generate(&[5; 16]);
    let outstanding: Vec<api_key::Challenge> =
        (0..64).map(|seed| api_key::Challenge::generate(NOW, &[seed; 16])).collect();
    for challenge in &outstanding {
        let signature = api_key::sign(&key, challenge);
        let attempt = guide2::Attempt { api_key: &key, signature: &signature, echo: None };
        let mut taken = None;
        let verified = guide2::verify(attempt, &outstanding).unwrap().claim(|found| {
            taken = Some(found.clone());
            Ok(())
        });
        assert!(verified.is_ok());
        assert_eq!(taken.as_ref(), Some(challenge));
        let slower = guide2::verify(attempt, &outstanding).unwrap();
        let refused = slower.claim(|_| Err(Refusal::ChallengeUsed));
        assert_eq!(refused.map(drop), Err(Refusal::ChallengeUsed));
    }
}

#[test]
fn guide_2_gives_the_same_refusal_for_an_unknown_key_and_for_a_wrong_signature() {
    let (key, other) = (ApiKey::generate(&[5; 16]), ApiKey::generate(&[6; 16]));
    let outstanding = [api_key::Challenge::generate(NOW, &[7; 16])];
    let signature = api_key::sign(&other, outstanding.first().unwrap());
    let attempt = guide2::Attempt { api_key: &key, signature: &signature, echo: None };
    // Nothing is outstanding for an unknown key, not even the text that is hashed in place of a challenge.
    let decoy = api_key::sign(&key, &"0000000000.0000000000".parse().unwrap());
    let with_decoy =
        guide2::Attempt { api_key: &key, signature: &decoy, echo: Some("0000000000.0000000000") };
    for result in
        [guide2::verify(attempt, &outstanding), guide2::verify(attempt, &[]), guide2::verify(with_decoy, &[])]
    {
        assert_eq!(result.map(drop), Err(Refusal::WrongSignature));
    }
}
