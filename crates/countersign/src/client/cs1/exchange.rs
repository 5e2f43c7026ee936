//! Sends a request, and again where that is allowed (CS-35, CS-58).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
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

    /// Sends it until it is answered, and after some answers once more: with a new session, or with a nonce of the server.
    async fn exchange(
        &self,
        known: &Arc<Known>,
        prepared: &mut Prepared,
    ) -> Result<Response<Body>, ClientError> {
        let mut session = self.session(known, None).await?;
        let mut tries = Tries::new(self.inner().patience);
        let mut once = Once::new(signed(&session)?, None);
        let (mut renewed, mut asked) = (false, false);
        loop {
            let keys = signed(&session)?;
            let doubt = match self.attempt(&session, keys, prepared, &once).await {
                Ok(Taken::Proved(response)) => return Ok(response),
                Ok(Taken::TooLong) => {
                    let (url, limit) = (session.known.base.to_string(), self.inner().hold);
                    return Err(ClientError::ResponseTooLong { url, limit });
                }
                Ok(Taken::Doubted(doubt)) => doubt,
                Err(error) => {
                    let error = tries.after(error, prepared.is_repeatable(), prepared.is_there()).await?;
                    self.inner().wire(&session.known).say_again(&error);
                    if !tries.sent && session.is_over() {
                        session = self.session(known, Some(&session)).await?;
                        once = Once::new(signed(&session)?, None);
                    } else if error.may_have_run() && prepared.is_repeatable() && once.of_server.is_none() {
                        // It may run twice, so it is another one.
                        once = Once::new(keys, None);
                    }
                    continue;
                }
            };
            tries.sent = true;
            match doubt.hint.remedy(&doubt.parts, &keys.name()) {
                Some(Remedy::Session) if !renewed && prepared.is_repeatable() => {
                    renewed = true;
                    let made = self.session(known, Some(&session)).await;
                    session = match made.and_then(|made| signed(&made).map(drop).map(|()| made)) {
                        Ok(session) => session,
                        Err(error) if prepared.is_safe() => return Err(error.if_sent(true)),
                        // It has been sent once: that there is no new session is not all that is to be told.
                        Err(_) => return Err(self.doubted(&session, *doubt).await?),
                    };
                    once = Once::new(signed(&session)?, None);
                }
                Some(Remedy::Nonce(given)) if !asked && prepared.is_repeatable() => {
                    asked = true;
                    once = Once::new(keys, Some(given));
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

    /// Signs and sends it once.
    async fn attempt(
        &self,
        session: &Current,
        keys: &Session,
        prepared: &mut Prepared,
        once: &Once,
    ) -> Result<Taken, ClientError> {
        let inner = self.inner();
        let wire = inner.wire(&session.known);
        // Signed after the connection is chosen: the keys may depend on it (CS-32).
        let lane = wire.lane().await?;
        let (request, signed) = prepared.sign(keys, keys.keys_on(lane.exporter()), once)?;
        let url = request.uri().to_string();
        let progress = match request.body() {
            Sending::Streamed(upload) => Some(upload.progress()),
            Sending::Held(_) => None,
        };
        let sent = match &progress {
            None => wire.send_on(lane, request).await,
            // As long as it gets on, a stream may take any time.
            Some(progress) => tokio::select! {
                sent = wire.send_streamed_on(lane, request) => sent,
                () = progress.stalled(inner.timeout) => {
                    Err(ClientError::Timeout { url, seconds: inner.timeout.as_secs() })
                }
            },
        };
        match sent {
            Ok((response, spoil)) => {
                let holding = Holding { limit: inner.hold, patience: inner.timeout };
                let report = inner.reporter(&session.known, &session.plan);
                Ok(take(response, &signed, spoil, holding, report).await)
            }
            Err(error) => {
                if let Some(progress) = progress {
                    prepared.put_back(progress.take_back());
                }
                Err(error)
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

/// What is left to be tried for one request over all of its attempts, and what is known of those before.
struct Tries {
    again: Again,
    /// After a connection that broke.
    repeated: bool,
    /// Whether one may have run.
    sent: bool,
}

impl Tries {
    fn new(patience: Duration) -> Self {
        Self { again: Again::new(patience), repeated: false, sent: false }
    }

    /// Waits until it is time for the next attempt of a request that `may_run_twice` or not, and that `is_there` in whole still.
    ///
    /// # Errors
    /// There is none: what the caller is to be told.
    async fn after(
        &mut self,
        error: ClientError,
        may_run_twice: bool,
        is_there: bool,
    ) -> Result<ClientError, ClientError> {
        let goes_on = match &error {
            _ if !is_there => false,
            ClientError::Broken { refused: false, .. } => may_run_twice && !self.repeated,
            error => self.again.after(error).await,
        };
        if !goes_on {
            return Err(error.if_sent(self.sent));
        }
        self.repeated |= matches!(error, ClientError::Broken { refused: false, .. });
        self.sent |= error.may_have_run();
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

#[cfg(test)]
mod tests {
    use super::*;

    fn error(connect: Option<bool>, refused: bool) -> ClientError {
        let (url, why) = (String::new(), String::new());
        match connect {
            Some(passing) => ClientError::Connect { url, why, passing },
            None => ClientError::Broken { url, why, refused },
        }
    }

    #[tokio::test(start_paused = true)]
    async fn once_it_may_have_run_no_failure_to_connect_says_that_nothing_was_sent() {
        for (first, may_run_twice) in [(error(None, true), false), (error(None, false), true)] {
            let mut tries = Tries::new(Duration::from_secs(1));
            assert!(tries.after(error(Some(true), false), may_run_twice, true).await.is_ok());
            let told = tries.after(error(Some(false), false), may_run_twice, true).await.unwrap_err();
            assert!(matches!(told, ClientError::Connect { .. }), "{told}");
            assert!(tries.after(first, may_run_twice, true).await.is_ok());
            let told = tries.after(error(Some(false), false), may_run_twice, true).await.unwrap_err();
            assert!(matches!(told, ClientError::Broken { .. }), "{told}");
        }
    }

    #[tokio::test(start_paused = true)]
    async fn what_broke_goes_out_once_more_if_it_may_run_twice_and_nothing_does_that_is_not_there_any_more() {
        let mut tries = Tries::new(Duration::from_secs(1));
        assert!(tries.after(error(None, false), false, true).await.is_err());
        assert!(tries.after(error(None, false), true, false).await.is_err());
        assert!(tries.after(error(Some(true), false), true, false).await.is_err());
        assert!(tries.after(error(None, false), true, true).await.is_ok());
        assert!(tries.after(error(None, false), true, true).await.is_err());
    }
}
