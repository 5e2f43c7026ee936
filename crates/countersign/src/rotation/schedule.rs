//! Rotates all peers when it is time.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use countersign_audit::{AuditSink, Direction, Outcome, Record};
use countersign_protocol::identity::{Profile, ServiceName};
use countersign_protocol::mac::encode_hex;
use countersign_store::agreement::Step;
use countersign_store::{Move, Peer, PeerStore, StoreError, random};
use tokio::task::JoinSet;

use super::drive::blocking;
use super::{Driver, Fault, Progress, Settings};
use crate::client::{Client, ClientError};
use crate::server::Clock;

/// How often it looks whether anything is to be done.
const TICK: Duration = Duration::from_millis(100);

/// How many rotations go on at once.
const AT_ONCE: usize = 16;

/// After a failure: doubled from the first to the second.
const BACK_OFF: (Duration, Duration) = (Duration::from_secs(1), Duration::from_secs(5 * 60));

/// How long a rotation that another process of this service has begun is left to it.
const ELSEWHERE: Duration = Duration::from_secs(5);

/// How long a peer that does not rotate in band is left alone.
const UNSUPPORTED: Duration = Duration::from_secs(60 * 60);

/// Rotates the credentials of all peers under `cs1` that can be called: when they are due, when the peer wants it, and what was left
/// open. Gives up what peers have begun and not confirmed.
#[derive(Clone)]
pub struct Scheduler {
    store: Arc<dyn PeerStore>,
    settings: Settings,
    audit: Option<Arc<dyn AuditSink>>,
    clock: Clock,
    begins: bool,
}

/// What is known of one peer beside what is stored.
struct Standing {
    peer: Peer,
    client: Option<Client>,
    next: Instant,
    asked: Option<Instant>,
    back_off: Duration,
    wanted: bool,
    running: bool,
}

/// What came of one turn.
struct Turn {
    name: ServiceName,
    client: Option<Client>,
    result: Result<Outcomes, Fault>,
}

#[derive(Default)]
struct Outcomes {
    progress: Option<Progress>,
    wanted: Option<bool>,
}

impl Scheduler {
    /// For the peers of `store`.
    #[must_use]
    pub fn new(store: Arc<dyn PeerStore>, settings: Settings) -> Self {
        Self { store, settings, audit: None, clock: Clock::start(), begins: true }
    }

    /// Whether it begins rotations, goes on with those that are open, and asks peers. If not, it only gives up what peers have begun and
    /// not confirmed. Default: yes.
    #[must_use]
    pub const fn begins(mut self, begins: bool) -> Self {
        self.begins = begins;
        self
    }

    /// Writes rotations, and the handshakes for them, to this trail. Default: none.
    #[must_use]
    pub fn audit(mut self, audit: Arc<dyn AuditSink>) -> Self {
        self.audit = Some(audit);
        self
    }

    /// Works until dropped. Call it in a task of its own.
    pub async fn run(self) {
        let mut version = None;
        let mut peers: HashMap<ServiceName, Standing> = HashMap::new();
        let mut turns: JoinSet<Turn> = JoinSet::new();
        let mut ticks = tokio::time::interval(TICK);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                _ = ticks.tick() => {}
                Some(turn) = turns.join_next(), if !turns.is_empty() => {
                    match turn {
                        Ok(turn) => self.ended(&mut peers, turn).await,
                        // It panicked: nobody waits for it any more.
                        Err(_) => peers.values_mut().for_each(|one| one.running = false),
                    }
                }
            }
            match self.look(version).await {
                Ok(Some((read, found))) => {
                    version = Some(read);
                    merge(&mut peers, found);
                }
                Ok(None) => {}
                // The server's own look at the store says so.
                Err(_) => continue,
            }
            for (name, standing) in &mut peers {
                if turns.len() < AT_ONCE && standing.is_time(self.clock.now().0, &self.settings, self.begins)
                {
                    standing.running = true;
                    let (this, name) = (self.clone(), name.clone());
                    let (peer, client) = (standing.peer.clone(), standing.client.take());
                    let ask = standing.asks(&self.settings);
                    let begin = standing.begins(self.clock.now().0);
                    turns.spawn(async move { this.turn(name, peer, client, begin, ask).await });
                }
            }
        }
    }

    /// All peers under `cs1`, if anything has changed.
    async fn look(&self, seen: Option<u64>) -> Result<Option<(u64, Vec<Peer>)>, Fault> {
        let store = Arc::clone(&self.store);
        blocking(move || {
            let version = store.version()?;
            if seen == Some(version) {
                return Ok(None);
            }
            let mut peers = store.read_all()?.peers;
            peers.retain(|peer| peer.profile == Profile::Cs1);
            Ok(Some((version, peers)))
        })
        .await
    }

    async fn turn(
        self,
        name: ServiceName,
        peer: Peer,
        client: Option<Client>,
        begin: bool,
        ask: bool,
    ) -> Turn {
        let mut made = client;
        let result = self.work(&name, &peer, &mut made, begin, ask).await;
        Turn { name, client: made, result }
    }

    async fn work(
        &self,
        name: &ServiceName,
        peer: &Peer,
        client: &mut Option<Client>,
        begin: bool,
        ask: bool,
    ) -> Result<Outcomes, Fault> {
        if matches!(peer.step(), Some((Step::Pending, _))) {
            let (store, name) = (Arc::clone(&self.store), name.clone());
            let (after, now) = (self.settings.give_up.as_secs(), self.clock.now());
            blocking(move || store.agree(&name, &Move::GiveUp { after }, now)).await?;
        }
        if peer.url.is_none() || !self.begins {
            return Ok(Outcomes::default());
        }
        let client = match client {
            Some(client) => client,
            None => client.insert(self.client(peer)?),
        };
        let driver = Driver::new(Arc::clone(&self.store), name.clone(), client.clone(), self.settings);
        if peer.outgoing().is_some() {
            return Ok(Outcomes { progress: Some(driver.go_on().await?), wanted: None });
        }
        if begin {
            return Ok(Outcomes { progress: Some(driver.rotate().await?), wanted: Some(false) });
        }
        if ask {
            return Ok(Outcomes { progress: None, wanted: Some(driver.status().await?.wanted) });
        }
        Ok(Outcomes::default())
    }

    fn client(&self, peer: &Peer) -> Result<Client, ClientError> {
        let builder = Client::builder().follow(Arc::clone(&self.store));
        let builder = match &self.audit {
            Some(audit) => builder.audit(Arc::clone(audit)),
            None => builder,
        };
        builder.build(peer)
    }

    async fn ended(&self, peers: &mut HashMap<ServiceName, Standing>, turn: Turn) {
        let Turn { name, client, result } = turn;
        if let Ok(Outcomes { progress: Some(progress), .. }) = &result {
            self.tell(&name, *progress).await;
        }
        let Some(standing) = peers.get_mut(&name) else { return };
        standing.running = false;
        standing.client = client;
        let now = Instant::now();
        match result {
            // Another one begins, and not at once: a peer that gives up again and again is not to fill our store and trail.
            Ok(Outcomes { progress: Some(Progress::Aborted), .. }) => {
                standing.next = now + jittered(standing.back_off);
                standing.back_off = (standing.back_off * 2).min(BACK_OFF.1);
            }
            Ok(outcomes) => {
                standing.back_off = BACK_OFF.0;
                standing.next = now + TICK;
                standing.wanted = outcomes.wanted.unwrap_or(standing.wanted);
                if outcomes.wanted.is_some() || outcomes.progress.is_some() {
                    standing.asked = Some(now);
                }
            }
            Err(fault) => {
                let wait = match fault {
                    // Theirs, or ours: they come from where only operators change them.
                    Fault::Unsupported | Fault::Store(StoreError::ReadOnly(_)) => UNSUPPORTED,
                    _ => jittered(standing.back_off),
                };
                standing.next = now + wait;
                standing.asked = Some(now);
                standing.back_off = (standing.back_off * 2).min(BACK_OFF.1);
                let by_hand = matches!(fault, Fault::Store(StoreError::ReadOnly(_)));
                // A peer that is only asked, and does not answer, is no news.
                if !by_hand && (standing.peer.step().is_some() || standing.begins(self.clock.now().0)) {
                    tracing::warn!(peer = %name, %fault, seconds = wait.as_secs(), "a rotation does not get on; trying again");
                }
            }
        }
    }

    async fn tell(&self, name: &ServiceName, progress: Progress) {
        let (reason, credential) = match progress {
            Progress::Done(number) => {
                tracing::info!(credential = %format!("{name}/{number}"), "rotated in band: the new credential is in use");
                ("rotated-in-band", Some(format!("{name}/{number}")))
            }
            Progress::Aborted => {
                tracing::warn!(peer = %name, "a rotation was given up by the peer before it was confirmed; the credential stays, and another one begins");
                ("rotation-aborted", None)
            }
            Progress::Idle => return,
        };
        let Some(audit) = &self.audit else { return };
        let record = Record {
            service: Some(name.to_string()),
            credential,
            profile: Some(Profile::Cs1),
            request_id: encode_hex(&random::<16>()),
            ..Record::new(Direction::Local, "rotate", Outcome::Changed, reason)
        };
        if let Err(error) = audit.submit(record).await {
            tracing::error!(%error, "a rotation is in effect, but is not on the trail");
        }
    }
}

impl Standing {
    /// Whether a turn is due.
    fn is_time(&self, now: u64, settings: &Settings, begins: bool) -> bool {
        if self.running || Instant::now() < self.next {
            return false;
        }
        let given_up = matches!(self.peer.step(),
            Some((Step::Pending, since))
                if now.checked_sub(since.0).is_none_or(|age| age >= settings.give_up.as_secs()));
        given_up
            || begins
                && self.peer.url.is_some()
                && (self.peer.outgoing().is_some() || self.begins(now) || self.asks(settings))
    }

    /// Whether a rotation is to begin: it is due, or somebody wants one.
    fn begins(&self, now: u64) -> bool {
        if self.peer.credentials.len() != 1 || self.peer.url.is_none() || self.peer.step().is_some() {
            return false;
        }
        let due = self.peer.due_in_band().is_some_and(|due| due.0 <= now);
        due || self.wanted || self.peer.wanted().is_some()
    }

    fn asks(&self, settings: &Settings) -> bool {
        !self.peer.credentials.is_empty()
            && self.asked.is_none_or(|asked| asked.elapsed() >= settings.status_every)
    }
}

/// Takes over what the store has now.
fn merge(peers: &mut HashMap<ServiceName, Standing>, found: Vec<Peer>) {
    peers.retain(|name, _| found.iter().any(|peer| peer.name == *name));
    for peer in found {
        match peers.get_mut(&peer.name) {
            Some(standing) => {
                // Another step, or other credentials: what was waited for may be there.
                let is_news = standing.peer.step() != peer.step()
                    || standing.peer.credentials.len() != peer.credentials.len();
                if is_news && !standing.running {
                    // What another process of ours has begun a moment ago, it most likely takes to its end.
                    let at_it = peer.outgoing().is_some();
                    standing.next = Instant::now() + if at_it { ELSEWHERE } else { Duration::ZERO };
                }
                standing.peer = peer;
            }
            None => {
                let standing = Standing {
                    client: None,
                    next: Instant::now(),
                    asked: None,
                    back_off: BACK_OFF.0,
                    wanted: false,
                    running: false,
                    peer,
                };
                peers.insert(standing.peer.name.clone(), standing);
            }
        }
    }
}

/// Between the half and the whole of it, so that two sides do not meet again and again.
fn jittered(wait: Duration) -> Duration {
    let [byte] = random::<1>();
    wait / 2 + wait.mul_f64(f64::from(byte) / 512.0)
}
