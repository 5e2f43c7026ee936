//! Carries a rotation on, from wherever it stands.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use countersign_protocol::identity::ServiceName;
use countersign_protocol::problem::TYPE_PREFIX;
use countersign_protocol::rotation::{Confirm, Propose};
use countersign_protocol::wire::rotation::{Status, read_answer, read_ruling};
use countersign_protocol::wire::{MAX_BODY, ROTATION};
use countersign_store::agreement::{Message, Step};
use countersign_store::{Move, MoveError, Moved, Peer, PeerStore, StoreError, random};
use http::header::CONTENT_TYPE;
use http::{Request, StatusCode};
use zeroize::Zeroizing;

use super::Settings;
use crate::client::{Client, ClientError, now};

/// How long one request may take, with a handshake before it and all of its answer.
const PATIENCE: Duration = Duration::from_secs(60);

/// How often another process may be faster in one rotation: it has two steps.
const OVERTAKEN: usize = 4;

/// Rotates the credential of one peer that we can call.
#[derive(Clone)]
pub struct Driver {
    store: Arc<dyn PeerStore>,
    peer: ServiceName,
    client: Client,
    settings: Settings,
}

/// How far a rotation got.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Nothing is open.
    Idle,
    /// Both have the new credential, which has this number.
    Done(u32),
    /// The peer had given it up before it was confirmed; the old credential stays.
    Aborted,
}

/// Why a rotation did not get on. What was agreed on is kept, and goes on from there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The peer cannot be reached, or nothing that came is proved to be from it.
    #[error(transparent)]
    Client(#[from] ClientError),
    /// The store says no.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Another rotation is not over at the peer, or it has begun one itself.
    #[error(
        "the peer does not want to begin now: another rotation is not over there, or it has begun one itself"
    )]
    Busy,
    /// The peer says that the number that we used is used up; the greatest that it has seen, if it tells.
    #[error("the peer says that this rotation is over already, and goes on saying so")]
    Over(Option<u64>),
    /// The peer has not answered in time, or not to the end.
    #[error("the peer did not answer to the end within {} seconds", PATIENCE.as_secs())]
    Late,
    /// The peer does not rotate in band.
    #[error("the peer does not rotate in band: its credential is rotated by hand (docs/rotation.md)")]
    Unsupported,
    /// The peer has refused a confirmation, which it has to take: it knows nothing of the rotation. Nothing is forgotten because of that.
    #[error(
        "the peer refuses to confirm the rotation (status {0}). If that goes on, it may have been restored from a backup: see docs/rotation.md, \"When it does not end\""
    )]
    Unconfirmed(u16),
    /// An answer of another form.
    #[error("the peer's answer (status {0}) is none about a rotation")]
    NoAnswer(u16),
    /// Interrupted.
    #[error("the work was cut short")]
    Interrupted,
}

impl From<MoveError> for Fault {
    fn from(error: MoveError) -> Self {
        Self::Store(error.into())
    }
}

impl Driver {
    /// For the peer of this name. `client` is one for it that follows the same store.
    #[must_use]
    pub fn new(store: Arc<dyn PeerStore>, peer: ServiceName, client: Client, settings: Settings) -> Self {
        Self { store, peer, client, settings }
    }

    /// Begins a rotation, unless one is open, and takes it to its end.
    ///
    /// # Errors
    /// [`Fault`]; what is agreed on by then is kept, and this goes on from there when it is called again.
    pub async fn rotate(&self) -> Result<Progress, Fault> {
        let propose = Move::Propose { nonce: random(), private: Zeroizing::new(random()) };
        self.agree(propose).await?;
        self.go_on().await
    }

    /// Takes what is open to its end.
    ///
    /// # Errors
    /// As [`Driver::rotate`].
    pub async fn go_on(&self) -> Result<Progress, Fault> {
        let (mut overtaken, mut begun_anew) = (0, false);
        loop {
            let peer = self.peer().await?;
            let moved = match peer.outgoing() {
                None => return Ok(Progress::Idle),
                Some(Message::Propose(propose)) => {
                    let rid = propose.rid;
                    match self.propose(propose).await {
                        // Its number was used up: one more try, with a greater one.
                        Err(Fault::Over(last)) if !begun_anew => {
                            begun_anew = true;
                            self.agree(Move::Withdraw { rid, last }).await?;
                            let (nonce, private) = (random(), Zeroizing::new(random()));
                            self.agree(Move::Propose { nonce, private }).await
                        }
                        proposed => proposed,
                    }
                }
                Some(Message::Confirm(confirm)) => {
                    self.wait_for_propagation(&peer).await;
                    self.confirm(confirm).await
                }
            };
            let moved = match moved {
                // Another process of ours has got the same answer, and was faster.
                Err(Fault::Store(StoreError::Rotation(MoveError::Unknown))) if overtaken < OVERTAKEN => {
                    overtaken += 1;
                    continue;
                }
                moved => moved?,
            };
            match moved {
                Moved::Done(number) => {
                    // RO-15. If it fails, the next ordinary request shows the same.
                    let _ = self.show().await;
                    return Ok(Progress::Done(number));
                }
                Moved::Aborted => return Ok(Progress::Aborted),
                _ => {}
            }
        }
    }

    /// An ordinary request under the new credential, so that the peer knows that it is in use.
    async fn show(&self) -> Result<Status, Fault> {
        self.client.look_again().await?;
        self.status().await
    }

    /// Asks the peer how it stands.
    ///
    /// # Errors
    /// [`Fault::Client`], [`Fault::Unsupported`].
    pub async fn status(&self) -> Result<Status, Fault> {
        let (status, body) = self.ask(Status::ask(), "status").await?;
        if status != StatusCode::OK {
            return Err(unsupported(status));
        }
        Status::read(&body).map_err(|_| Fault::Unsupported)
    }

    async fn peer(&self) -> Result<Peer, Fault> {
        let (store, name) = (Arc::clone(&self.store), self.peer.clone());
        blocking(move || store.get(&name)).await
    }

    async fn agree(&self, wanted: Move) -> Result<Moved, Fault> {
        let (store, name) = (Arc::clone(&self.store), self.peer.clone());
        blocking(move || store.agree(&name, &wanted, now())).await
    }

    /// R1 and R2.
    async fn propose(&self, propose: Propose) -> Result<Moved, Fault> {
        let rid = propose.rid;
        let (status, body) = self.ask(propose.to_json(), &format!("rotation-{rid}")).await?;
        if status == StatusCode::OK {
            let answer = read_answer(&body).map_err(|_| Fault::NoAnswer(status.as_u16()))?;
            return self.agree(Move::Receive { answer, grace: self.settings.grace.as_secs() }).await;
        }
        let refused = Refused::read(&body);
        // Signed by the peer: it may be forgotten, and the peer's own can go on (RO-9).
        let last = refused.as_ref().and_then(|refused| refused.last_rid);
        match (status, refused.as_ref().map(Refused::name)) {
            (StatusCode::CONFLICT, Some("rotation-over")) => Err(Fault::Over(last)),
            (StatusCode::CONFLICT, Some("rotation-busy")) => {
                self.agree(Move::Withdraw { rid, last }).await?;
                Err(Fault::Busy)
            }
            (StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED, _) => {
                self.agree(Move::Withdraw { rid, last }).await?;
                Err(Fault::Unsupported)
            }
            _ => Err(Fault::NoAnswer(status.as_u16())),
        }
    }

    /// R3 and R4. Not signed: what comes back proves itself, or says nothing (RO-10).
    async fn confirm(&self, confirm: Confirm) -> Result<Moved, Fault> {
        let answer = self.client.post_unsigned(ROTATION, confirm.to_json());
        let (status, body) = tokio::time::timeout(PATIENCE, answer).await.map_err(|_| Fault::Late)??;
        if status != StatusCode::OK {
            return Err(Fault::Unconfirmed(status.as_u16()));
        }
        let ruling = read_ruling(&body).map_err(|_| Fault::NoAnswer(status.as_u16()))?;
        self.agree(Move::Conclude(ruling)).await
    }

    /// Until each process of ours accepts the new credential: the peer sends with it as soon as it has R3.
    async fn wait_for_propagation(&self, peer: &Peer) {
        let Some((Step::Ready, since)) = peer.step() else { return };
        let wait = self.settings.propagation;
        // It may have been stored by another process long ago. In whole seconds, the present one is not over.
        if now().0.saturating_sub(since.0) <= wait.as_secs() {
            tokio::time::sleep(wait).await;
        }
    }

    /// A signed request, and its verified response. It can be repeated: `key` says so.
    async fn ask(&self, body: Vec<u8>, key: &str) -> Result<(StatusCode, Bytes), Fault> {
        let request = Request::post(ROTATION)
            .header(CONTENT_TYPE, "application/json")
            .header("idempotency-key", key)
            .body(Bytes::from(body))
            .map_err(|_| Fault::Interrupted)?;
        let answer = async {
            let response = self.client.send(request).await?;
            let status = response.status();
            let body = response.into_body().whole(MAX_BODY).await;
            Ok((status, body.map_err(|_| Fault::NoAnswer(status.as_u16()))?))
        };
        // A peer that lets its answer drip does not hold the others up.
        tokio::time::timeout(PATIENCE, answer).await.unwrap_or(Err(Fault::Late))
    }
}

/// What a signed refusal says.
#[derive(serde::Deserialize)]
struct Refused {
    r#type: String,
    #[serde(rename = "lastRid")]
    last_rid: Option<u64>,
}

impl Refused {
    fn read(body: &[u8]) -> Option<Self> {
        serde_json::from_slice(body).ok()
    }

    fn name(&self) -> &str {
        self.r#type.strip_prefix(TYPE_PREFIX).unwrap_or_default()
    }
}

fn unsupported(status: StatusCode) -> Fault {
    match status {
        StatusCode::NOT_FOUND | StatusCode::METHOD_NOT_ALLOWED | StatusCode::NOT_IMPLEMENTED => {
            Fault::Unsupported
        }
        other => Fault::NoAnswer(other.as_u16()),
    }
}

/// Off the runtime's threads: the store is a file, or a network.
pub(super) async fn blocking<T: Send + 'static>(
    work: impl FnOnce() -> Result<T, StoreError> + Send + 'static,
) -> Result<T, Fault> {
    Ok(tokio::task::spawn_blocking(work).await.map_err(|_| Fault::Interrupted)??)
}

impl fmt::Debug for Driver {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Driver").field("peer", &self.peer).finish_non_exhaustive()
    }
}
