//! Callers, replays and guesses in any order and at any time, against a model of a few lines: accepted exactly
//! when fresh, for the right key, with the right secret, and for the first time.

#![allow(clippy::indexing_slicing, clippy::unwrap_used, reason = "tests")]

use countersign_protocol::UnixTime;
use countersign_protocol::api_key::{self, server as guide2};
use countersign_protocol::identity::ApiKey;
use countersign_protocol::mac::{MacKey, Tag};
use countersign_protocol::refusal::Refusal;
use countersign_protocol::shared_secret::server::{self as guide1, Candidate, Effort, Holders};
use countersign_protocol::shared_secret::{Challenge, Issuer, Lifetime, sign};
use countersign_testkit::memory::{Burned, Outstanding};
use countersign_testkit::random::Random;
use proptest::prelude::*;
use zeroize::Zeroizing;

/// Two callers with a key each, and somebody whose key nobody knows.
const CALLERS: usize = 3;
const STRANGER: usize = 2;

#[derive(Clone, Debug)]
enum Step {
    /// A caller asks for a challenge.
    Issue(usize),
    /// Somebody answers a challenge that was given out before, under this key, with the secret of that caller.
    /// The same answer twice is a replay.
    Answer { challenge: prop::sample::Index, key: usize, secret: usize },
    /// The right caller answers rightly: so that there is something to replay.
    AnswerRightly(prop::sample::Index),
    /// Seconds pass.
    Wait(u64),
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let caller = || 0..CALLERS;
    let index = any::<prop::sample::Index>;
    let step = prop_oneof![
        3 => caller().prop_map(Step::Issue),
        3 => (index(), caller(), caller()).prop_map(|(challenge, key, secret)| Step::Answer { challenge, key, secret }),
        4 => index().prop_map(Step::AnswerRightly),
        3 => prop_oneof![4 => 1_u64..20, 1 => 25_u64..40, 1 => 200_u64..300].prop_map(Step::Wait),
    ];
    prop::collection::vec(step, 1..80)
}

/// The model of one challenge.
struct Given<C> {
    challenge: C,
    to: usize,
    at: UnixTime,
    used: bool,
}

struct Secret(MacKey);

impl Candidate for Secret {
    fn mac_key(&self) -> &MacKey {
        &self.0
    }
}

fn keys() -> Vec<ApiKey> {
    let mut random = Random::new(1);
    (0..CALLERS).map(|_| ApiKey::generate(&random.bytes())).collect()
}

/// What the model says of an answer to guide 1, in the order in which the server finds out.
fn expected_guide1(
    given: &Given<Challenge>,
    key: usize,
    secret: usize,
    now: UnixTime,
) -> Result<(), Refusal> {
    let age = now.0 - given.at.0;
    if key != given.to || age > 250 {
        Err(Refusal::ChallengeForeign)
    } else if age > 30 {
        Err(Refusal::ChallengeExpired)
    } else if key == STRANGER {
        Err(Refusal::UnknownKey)
    } else if secret != key {
        Err(Refusal::WrongSignature)
    } else if given.used {
        Err(Refusal::ChallengeUsed)
    } else {
        Ok(())
    }
}

/// The server of guide 1: what `verify` and `claim` make of an answer.
struct Guide1 {
    keys: Vec<ApiKey>,
    /// One secret a caller; the stranger has one as well, but the server does not know it.
    secrets: Vec<[Secret; 1]>,
    issuer: Issuer,
    burned: Burned,
    decoy: MacKey,
}

impl Guide1 {
    fn new() -> Self {
        let mut random = Random::new(2);
        let secrets = (0..CALLERS).map(|_| [Secret(MacKey::new(&random.bytes::<32>()))]).collect();
        let (key, name) = (Zeroizing::new(random.bytes()), "orders".parse().unwrap());
        let issuer = Issuer::new(&key, name, Lifetime::default());
        Self { keys: keys(), secrets, issuer, burned: Burned::default(), decoy: MacKey::new(&[0; 32]) }
    }

    fn signature(&self, challenge: &Challenge, key: usize, secret: usize) -> Tag {
        let [Secret(secret)] = &self.secrets[secret];
        sign(secret, &self.keys[key], challenge)
    }

    fn answer(
        &mut self,
        challenge: &Challenge,
        key: usize,
        secret: usize,
        now: UnixTime,
    ) -> Result<(), Refusal> {
        let signature = self.signature(challenge, key, secret);
        let attempt = guide1::Attempt { api_key: &self.keys[key], challenge, signature: &signature };
        let holders = match key {
            STRANGER => Holders::Nobody(Refusal::UnknownKey),
            known => Holders::Live(self.secrets[known].as_slice()),
        };
        let effort = Effort { macs: 1, decoy: &self.decoy };
        guide1::verify(&self.issuer, attempt, holders, effort, now)?
            .claim(|claim| self.burned.claim(claim, now))
            .map(drop)
            .map_err(|(refusal, _)| refusal)
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(1_000))]

    #[test]
    fn guide_1_accepts_an_answer_exactly_when_it_is_fresh_right_and_the_first(
        steps in steps(),
        start in prop_oneof![Just(1_800_000_000_u64), 300_u64..2_000],
    ) {
        let (mut server, mut random, mut now) = (Guide1::new(), Random::new(3), UnixTime(start));
        let mut given: Vec<Given<Challenge>> = Vec::new();
        for step in steps {
            let (challenge, answer) = match step {
                Step::Wait(seconds) => {
                    now = now.plus(seconds);
                    continue;
                }
                Step::Issue(to) => {
                    let challenge = server.issuer.issue(&server.keys[to], now, random.bytes());
                    given.push(Given { challenge, to, at: now, used: false });
                    continue;
                }
                Step::Answer { challenge, key, secret } => (challenge, Some((key, secret))),
                Step::AnswerRightly(challenge) => (challenge, None),
            };
            if given.is_empty() {
                continue;
            }
            let index = challenge.index(given.len());
            let asked = &mut given[index];
            let (key, secret) = answer.unwrap_or((asked.to, asked.to));
            let expected = expected_guide1(asked, key, secret, now);
            prop_assert_eq!(server.answer(&asked.challenge, key, secret, now), expected, "challenge {}", index);
            asked.used |= expected.is_ok();
        }
    }

    #[test]
    fn guide_2_accepts_an_answer_exactly_when_it_is_fresh_right_and_the_first(steps in steps(), start in 300_u64..2_000) {
        let (keys, mut random, mut now) = (keys(), Random::new(4), UnixTime(start));
        let mut server: Vec<Outstanding> = (0..STRANGER).map(|_| Outstanding::default()).collect();
        let mut given: Vec<Given<api_key::Challenge>> = Vec::new();
        for step in steps {
            let (challenge, answer) = match step {
                Step::Wait(seconds) => {
                    now = now.plus(seconds);
                    continue;
                }
                Step::Issue(to) => {
                    let challenge = api_key::Challenge::generate(now, &random.bytes());
                    // An unknown key creates no state; the stranger makes a challenge up.
                    let noted = server.get_mut(to).map(|outstanding| outstanding.add(challenge.clone(), now));
                    let live = given.iter().filter(|given| given.to == to && !given.used && now.0 - given.at.0 <= 30);
                    let full = to != STRANGER && live.count() >= api_key::MAX_OUTSTANDING;
                    prop_assert_eq!(matches!(noted, Some(Err(_))), full);
                    if !full {
                        given.push(Given { challenge, to, at: now, used: false });
                    }
                    continue;
                }
                Step::Answer { challenge, key, secret } => (challenge, Some((key, secret))),
                Step::AnswerRightly(challenge) => (challenge, None),
            };
            if given.is_empty() {
                continue;
            }
            let index = challenge.index(given.len());
            let asked = &mut given[index];
            let (key, secret) = answer.unwrap_or((asked.to, asked.to));
            let fresh = now.0 - asked.at.0 <= 30;
            let right = key == asked.to && key != STRANGER && secret == key && fresh && !asked.used;
            let signature = api_key::sign(&keys[secret], &asked.challenge);
            let attempt = guide2::Attempt { api_key: &keys[key], signature: &signature, echo: None };
            let live = server.get(key).map(|outstanding| outstanding.live(now)).unwrap_or_default();
            let accepted = guide2::verify(attempt, &live).and_then(|unclaimed| {
                unclaimed.claim(|challenge| match server.get_mut(key) {
                    Some(outstanding) => outstanding.take(challenge),
                    None => Err(Refusal::UnknownKey),
                })
            });
            prop_assert_eq!(accepted.map(drop), if right { Ok(()) } else { Err(Refusal::WrongSignature) });
            asked.used |= right;
        }
    }
}
