//! Sends a request, and again where that is allowed (CS-35, CS-58).

use std::sync::Arc;

use bytes::Bytes;
use countersign_protocol::cs1::nonce::ServerNonce;
use http::{Request, Response};

use super::hint::Remedy;
use super::request::{Once, Prepared};
use super::response::{Doubt, Holding, Taken, take};
use super::session::Session;
use crate::client::again::Again;
use crate::client::handshake::Handshake;
use crate::client::known::Known;
use crate::client::session::{Client, Current};
use crate::client::way::{Content, Sending};
use crate::client::{Body, ClientError};

impl Client {
    /// Sends a request whose URI is complete already.
    pub(in crate::client) async fn send_signed(
        &self,
        known: &Arc<Known>,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, ClientError> {
        let mut prepared = Prepared::whole(&known.base, request)?;
        self.exchange(known, &mut prepared).await
    }

    /// The same with content that is not held.
    pub(in crate::client) async fn send_signed_stream(
        &self,
        known: &Arc<Known>,
        request: Request<Content>,
    ) -> Result<Response<Body>, ClientError> {
        let mut prepared = Prepared::stream(&known.base, request)?;
        self.exchange(known, &mut prepared).await
    }

    /// At most three times on the way: with a new session, and with a nonce of the server.
    async fn exchange(
        &self,
        known: &Arc<Known>,
        prepared: &mut Prepared,
    ) -> Result<Response<Body>, ClientError> {
        let mut session = self.session(known, None).await?;
        let (mut renewed, mut asked, mut nonce) = (false, false, None);
        loop {
            let keys = signed(&session)?;
            let doubt = match self.attempt(&session, keys, prepared, nonce.as_ref()).await? {
                Taken::Proved(response) => return Ok(response),
                Taken::TooLong => {
                    let (url, limit) = (session.known.base.to_string(), self.inner().hold);
                    return Err(ClientError::ResponseTooLong { url, limit });
                }
                Taken::Doubted(doubt) => doubt,
            };
            match doubt.hint.remedy(&doubt.parts, &keys.name()) {
                Some(Remedy::Session) if !renewed && prepared.is_repeatable() => {
                    (renewed, nonce) = (true, None);
                    session = match self.session(known, Some(&session)).await {
                        Ok(session) => session,
                        Err(error) if prepared.is_safe() => return Err(error),
                        // It has been sent once: that the handshake failed is not all that is to be told.
                        Err(_) => return Err(self.doubted(&session, *doubt).await?),
                    };
                }
                Some(Remedy::Nonce(given)) if !asked && prepared.is_repeatable() => {
                    (asked, nonce) = (true, Some(given));
                }
                remedy => {
                    // What comes after it may as well begin with a handshake: the next answer would be the same.
                    if matches!(remedy, Some(Remedy::Session)) {
                        self.forget(&session).await;
                    }
                    return Err(self.doubted(&session, *doubt).await?);
                }
            }
        }
    }

    /// Signs it, and sends it until somebody answers.
    async fn attempt(
        &self,
        session: &Current,
        keys: &Session,
        prepared: &mut Prepared,
        nonce: Option<&ServerNonce>,
    ) -> Result<Taken, ClientError> {
        let inner = self.inner();
        let wire = inner.wire(&session.known);
        // Whatever becomes of the first connection, what goes over the next one has the same nonce and the same times: should
        // the server have taken both, it would act on one.
        let mut once = Once::new(keys, nonce);
        let (mut again, mut repeated) = (Again::new(inner.patience), false);
        loop {
            // Signed after the connection is chosen: the keys may depend on it (CS-32).
            let lane = match wire.lane().await {
                Ok(lane) => lane,
                Err(error) if again.after(&error).await => {
                    wire.say_again(&error);
                    continue;
                }
                Err(error) => return Err(error),
            };
            let (request, signed) = prepared.sign(keys, keys.keys_on(lane.exporter()), &once)?;
            let url = request.uri().to_string();
            let progress = match request.body() {
                Sending::Streamed(upload) => Some(upload.progress()),
                Sending::Held(_) => None,
            };
            let unsent = progress.clone();
            let sent = match progress {
                None => wire.send_on(lane, request).await,
                // As long as it gets on, a stream may take any time.
                Some(progress) => tokio::select! {
                    sent = wire.send_streamed_on(lane, request) => sent,
                    () = progress.stalled(inner.timeout) => {
                        return Err(ClientError::Timeout { url, seconds: inner.timeout.as_secs() });
                    }
                },
            };
            match sent {
                Ok((response, spoil)) => {
                    let holding = Holding { limit: inner.hold, patience: inner.timeout };
                    let report = inner.reporter(&session.known, &session.plan);
                    return Ok(take(response, &signed, spoil, holding, report).await);
                }
                Err(error) => {
                    let is_whole = unsent.is_none_or(|stream| prepared.put_back(stream.untouched()));
                    let may_have_run = !matches!(error, ClientError::Connect { .. });
                    let repeats = may_have_run && prepared.is_repeatable();
                    let is_broken = matches!(error, ClientError::Broken { .. });
                    let goes_on = if is_broken { repeats && !repeated } else { again.after(&error).await };
                    if !is_whole || !goes_on {
                        return Err(error);
                    }
                    wire.say_again(&error);
                    repeated |= is_broken;
                    if repeats && nonce.is_none() {
                        // It may run twice, so it is another one.
                        once = Once::new(keys, None);
                    }
                }
            }
        }
    }

    /// The error about an answer that is not to be believed, which is on the trail first.
    async fn doubted(&self, session: &Current, doubt: Doubt) -> Result<ClientError, ClientError> {
        let Doubt { parts, why, hint } = doubt;
        let error = ClientError::OutcomeUnknown {
            url: session.known.base.to_string(),
            status: parts.status.as_u16(),
            why,
            hint: hint.text(),
        };
        self.inner().record_unproved(&session.known, &session.plan, error.to_string()).await?;
        Ok(error)
    }
}

/// A session of this profile. (One peer has one profile, so it is no other.)
fn signed(session: &Current) -> Result<&Session, ClientError> {
    match &session.handshake {
        Handshake::Signed(keys) => Ok(keys),
        _ => {
            Err(ClientError::Unsignable("the peer's profile has changed meanwhile; send it again".to_owned()))
        }
    }
}
