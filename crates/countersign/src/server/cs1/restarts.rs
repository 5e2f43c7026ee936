//! No request is accepted twice, in whatever order a server is stopped, killed and started, and however its clock is set
//! (CS-26, CS-42, CS-43, CS-45, CS-53): a model of what travels and what is kept, in virtual time.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a broken fixture ends the test")]

use std::collections::HashSet;
use std::sync::Arc;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::nonce::NonceIssuer;
use countersign_protocol::cs1::request::{Claimed, Nonce, RequestParts, SigningAs, sign_as};
use countersign_protocol::cs1::ticket::Claims;
use countersign_protocol::cs1::{Binding, KeyName, Policy, SessionKeys};
use countersign_protocol::identity::CredentialId;
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_store::{MemoryStore, ReplayLog, StateStore, random};
use http::HeaderMap;
use proptest::prelude::*;
use zeroize::Zeroizing;

use super::tickets::Tickets;

const START: u64 = 1_700_000_000;
/// The API keys of the pair.
const PAIR: [&str; 2] = ["csk_00000000000000000000000000000001", "csk_00000000000000000000000000000002"];

#[derive(Clone, Debug)]
enum Step {
    /// A clean stop, and a start.
    Stop,
    /// A crash, and a start.
    Crash,
    /// A crash just after the start, before anything else.
    Stillborn,
    /// A handshake.
    Shake,
    /// A request of this session (the newest first), or without one; dated so much before or ahead of the server's time, and
    /// good for so long.
    Request { session: Option<usize>, dated: i64, window: u64, with_nonce: bool },
    /// One that was sent before (the newest first) is sent again.
    Replay(usize),
    /// So many seconds pass.
    Pass(u64),
    /// The machine's clock is set: for the next start.
    Set(i64),
}

struct Session {
    ticket: String,
    keys: SessionKeys,
}

struct Sent {
    /// Of which keys it is.
    session: Option<usize>,
    fields: HeaderMap,
}

struct Run {
    tickets: Tickets,
    replays: ReplayLog,
    nonces: NonceIssuer,
}

struct World {
    state: Option<Arc<MemoryStore>>,
    run: Run,
    /// The clock of the running process.
    now: u64,
    /// How far the machine's clock is from it.
    skew: i64,
    pair: SessionKeys,
    sessions: Vec<Session>,
    sent: Vec<Sent>,
    accepted: HashSet<usize>,
}

fn keys() -> SessionKeys {
    SessionKeys {
        client_to_server: Zeroizing::new(random()),
        server_to_client: Zeroizing::new(random()),
        id: random(),
    }
}

fn run(state: Option<&Arc<MemoryStore>>, now: u64) -> Run {
    let replays = ReplayLog::new(10_000);
    let state = state.map(|state| Arc::clone(state) as Arc<dyn StateStore>);
    let tickets = Tickets::open(&"orders".parse().unwrap(), state, &replays, UnixTime(now)).unwrap();
    Run { tickets, replays, nonces: NonceIssuer::new(&Zeroizing::new(random())) }
}

fn parts(fields: &HeaderMap) -> RequestParts<'_> {
    RequestParts { method: "POST", authority: "orders.example", path: "/pay", query: None, fields }
}

impl World {
    fn new() -> Self {
        let state = Some(Arc::new(MemoryStore::new()));
        let run = run(state.as_ref(), START);
        let (sessions, sent, accepted) = (Vec::new(), Vec::new(), HashSet::new());
        Self { state, run, now: START, skew: 0, pair: keys(), sessions, sent, accepted }
    }

    fn start(&mut self) {
        self.now = self.now.saturating_add_signed(self.skew);
        self.skew = 0;
        self.run = run(self.state.as_ref(), self.now);
    }

    fn stop(&mut self) {
        self.run.tickets.close(&self.run.replays, || UnixTime(self.now)).unwrap();
    }

    fn shake(&mut self) {
        let keys = keys();
        let claims = Claims {
            credential: CredentialId { peer: "billing".parse().unwrap(), number: 1 },
            uid: [1; 16],
            keys: keys.clone(),
            issued: UnixTime(self.now),
            expires: UnixTime(self.now + 600),
            binding: Binding::None,
        };
        let ticket = self.run.tickets.seal(&claims, UnixTime(self.now)).to_string();
        self.sessions.push(Session { ticket, keys });
    }

    fn sign(&mut self, session: Option<usize>, now: u64, window: u64, with_nonce: bool) -> usize {
        let (name, keys) = match session.and_then(|index| self.sessions.get(index)) {
            Some(session) => (KeyName::Ticket(&session.ticket), &session.keys),
            None => (KeyName::Direct { client: PAIR[0], server: PAIR[1] }, &self.pair),
        };
        let key = MacKey::new(keys.client_to_server.as_slice());
        let given = self.run.nonces.issue(UnixTime(self.now), random());
        let nonce = if with_nonce { Nonce::OfServer(&given) } else { Nonce::Random(random()) };
        let mut fields = HeaderMap::new();
        let signing = SigningAs { key: &key, name, now: UnixTime(now), window, nonce };
        let signed = sign_as(&signing, &parts(&fields)).unwrap();
        fields.insert("signature-input", signed.signature_input);
        fields.insert("signature", signed.signature);
        self.sent.push(Sent { session, fields });
        self.sent.len() - 1
    }

    /// As `head::judge` and `burn` do it.
    fn judge(&self, request: usize) -> Result<(), Refusal> {
        let Sent { session, fields } = &self.sent[request];
        let Run { tickets, replays, nonces } = &self.run;
        let now = UnixTime(self.now);
        let (keys, lost) = match session.and_then(|index| self.sessions.get(index)) {
            Some(session) => {
                let (opened, lost) = tickets.open_ticket(&session.ticket, now)?;
                (opened.claims().keys.clone(), lost)
            }
            None => (self.pair.clone(), tickets.lost()),
        };
        let policy = Policy::at(now).with_nonces(nonces);
        let policy = lost.map_or(policy, |up_to| policy.after_crash(up_to));
        let key = MacKey::new(keys.client_to_server.as_slice());
        let claimed = Claimed::read(fields)?.unwrap();
        let unclaimed = claimed.verify(&key, &parts(fields), policy)?;
        unclaimed.claim(&keys.id, |id, until| {
            replays.claim(id, until, now).map_err(|_| Refusal::RequestReplayed)?;
            if tickets.is_closed() { Err(Refusal::ReplayLogFull) } else { Ok(()) }
        })?;
        Ok(())
    }

    fn send(&mut self, request: usize) -> Result<(), Refusal> {
        let judged = self.judge(request);
        if judged.is_ok() {
            assert!(self.accepted.insert(request), "accepted twice at {}: request {request}", self.now);
        }
        judged
    }

    fn pass(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.now += 1;
            self.run.tickets.upkeep(UnixTime(self.now)).unwrap();
        }
    }

    fn go(&mut self, step: &Step) {
        let newest = |length: usize, back: usize| length.checked_sub(back + 1);
        match *step {
            Step::Stop => {
                self.stop();
                self.all_again();
                self.start();
            }
            Step::Crash => self.start(),
            Step::Stillborn => {
                self.start();
                self.start();
            }
            Step::Shake => self.shake(),
            Step::Request { session, dated, window, with_nonce } => {
                let session = session.and_then(|back| newest(self.sessions.len(), back));
                let request = self.sign(session, self.now.saturating_add_signed(dated), window, with_nonce);
                let _ = self.send(request);
            }
            Step::Replay(back) => {
                if let Some(request) = newest(self.sent.len(), back) {
                    let _ = self.send(request);
                }
            }
            Step::Pass(seconds) => self.pass(seconds),
            Step::Set(by) => self.skew += by,
        }
    }

    /// Whoever has captured everything sends all of what was accepted again.
    fn all_again(&mut self) {
        let accepted: Vec<_> = self.accepted.iter().copied().collect();
        for request in accepted {
            assert!(self.send(request).is_err());
        }
    }
}

fn step() -> impl Strategy<Value = Step> {
    let request = (prop::option::of(0..3_usize), -40..40_i64, 1..=60_u64, any::<bool>()).prop_map(
        |(session, dated, window, with_nonce)| Step::Request { session, dated, window, with_nonce },
    );
    prop_oneof![
        3 => Just(Step::Stop),
        3 => Just(Step::Crash),
        1 => Just(Step::Stillborn),
        2 => Just(Step::Shake),
        8 => request,
        4 => (0..10_usize).prop_map(Step::Replay),
        4 => (0..20_u64).prop_map(Step::Pass),
        1 => (20..100_u64).prop_map(Step::Pass),
        1 => (-150..150_i64).prop_map(Step::Set),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    #[test]
    fn nothing_is_accepted_twice_whatever_becomes_of_the_server(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        world.shake();
        for step in &steps {
            world.go(step);
            world.all_again();
        }
    }

    /// What is asked of honest callers ends: with the clock as it should be, nobody needs a nonce for long.
    #[test]
    fn a_minute_after_the_last_start_no_nonce_is_needed(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        for step in steps.iter().filter(|step| !matches!(step, Step::Set(_))) {
            world.go(step);
        }
        world.shake();
        world.pass(40);
        for session in [None, Some(world.sessions.len() - 1)] {
            let request = world.sign(session, world.now, 20, false);
            prop_assert_eq!(world.send(request), Ok(()));
        }
    }

    /// And at any time a nonce helps.
    #[test]
    fn with_a_nonce_of_the_server_a_request_is_taken_at_any_time(
        steps in proptest::collection::vec(step(), 1..60)
    ) {
        let mut world = World::new();
        for step in &steps {
            world.go(step);
            let request = world.sign(None, world.now, 20, true);
            prop_assert_eq!(world.send(request), Ok(()));
        }
    }
}

/// The way in which it was found: the second log is whole, and knows nothing of what the first one did.
#[test]
fn a_clean_stop_after_a_crash_does_not_make_up_for_what_was_lost() {
    for session in [Some(0), None] {
        let mut world = World::new();
        world.shake();
        let request = world.sign(session, world.now, 30, false);
        assert_eq!(world.send(request), Ok(()));
        world.go(&Step::Crash);
        assert_eq!(world.send(request), Err(Refusal::NonceRequired));
        for _ in 0..3 {
            world.go(&Step::Stop);
            assert_eq!(world.send(request), Err(Refusal::NonceRequired));
        }
        // What came after the crash is known, and goes on.
        world.pass(40);
        let request = world.sign(session, world.now, 20, false);
        assert_eq!(world.send(request), Ok(()));
        world.go(&Step::Stop);
        assert_eq!(world.send(request), Err(Refusal::RequestReplayed));
        let request = world.sign(session, world.now, 20, false);
        assert_eq!(world.send(request), Ok(()));
    }
}

/// Two crashes, the second with a clock that was set back before it: the first loss lies ahead, and counts still.
#[test]
fn what_was_lost_by_a_clock_that_was_ahead_stays_lost() {
    let mut world = World::new();
    world.pass(100);
    world.pass(4);
    let request = world.sign(None, world.now + 20, 9, false);
    assert_eq!(world.send(request), Ok(()));
    for step in [Step::Set(-90), Step::Crash, Step::Crash, Step::Stop, Step::Crash, Step::Stop] {
        world.go(&step);
    }
    for _ in 0..200 {
        world.pass(1);
        assert!(world.send(request).is_err());
    }
}

/// Between two notes that it is in use a run accepts what the next one may take for dated later than any of it.
#[test]
fn what_was_accepted_since_the_last_note_is_lost_by_a_clock_that_was_set_back_a_little_as_well() {
    for (session, dated, window) in [(None, 29, 1), (Some(0), 5, 60)] {
        for passed in 10..30 {
            let mut world = World::new();
            world.shake();
            world.pass(passed);
            let request = world.sign(session, world.now + dated, window, false);
            assert_eq!(world.send(request), Ok(()));
            world.go(&Step::Set(-4));
            world.go(&Step::Crash);
            for _ in 0..60 {
                assert!(world.send(request).is_err());
                world.pass(1);
            }
        }
    }
}

#[test]
fn without_state_every_request_under_the_keys_of_a_pair_needs_a_nonce() {
    let mut world = World::new();
    world.state = None;
    world.start();
    for _ in 0..5 {
        world.pass(100);
        let request = world.sign(None, world.now, 20, false);
        assert_eq!(world.send(request), Err(Refusal::NonceRequired));
        let request = world.sign(None, world.now, 20, true);
        assert_eq!(world.send(request), Ok(()));
        // Sessions are this process's own.
        world.shake();
        let request = world.sign(Some(world.sessions.len() - 1), world.now, 20, false);
        assert_eq!(world.send(request), Ok(()));
    }
}
