//! Requests under the profiles of the guides: with a token, or signed one by one.

use std::sync::Arc;

use bytes::Bytes;
use countersign_protocol::token;
use countersign_protocol::wire::header::{X_API_KEY, X_CHALLENGE, X_SIGNATURE};
use countersign_protocol::wire::reply::{ReplyError, Session};
use countersign_protocol::wire::www_authenticate::SCHEME;
use http::header::{AUTHORIZATION, WWW_AUTHENTICATE};
use http::{HeaderName, Request, Response, StatusCode};
use hyper::body::Incoming;

use super::handshake::{Failure, Handshake, Proof, bearer};
use super::known::Known;
use super::session::{Client, Current, Inner};
use super::trail::explain;
use super::{Body, ClientError};

/// What a caller's request must not have: they carry our own credentials.
const TAKEN: [HeaderName; 4] = [AUTHORIZATION, X_API_KEY, X_CHALLENGE, X_SIGNATURE];

impl Client {
    /// Sends a request whose URI is complete already.
    pub(super) async fn send_by_guide(
        &self,
        known: &Arc<Known>,
        request: Request<Bytes>,
    ) -> Result<Response<Body>, ClientError> {
        let inner = self.inner();
        if let Some(name) = TAKEN.iter().find(|name| request.headers().contains_key(*name)) {
            return Err(ClientError::HeaderTaken(name.clone()));
        }
        let again = request.method().is_idempotent();
        let session = self.session(known, None).await?;
        let response = inner.dispatch(&session, request.clone()).await?;
        if response.status() != StatusCode::UNAUTHORIZED
            || !may_be_stale(&session.handshake, &response, again)
        {
            return Ok(response.map(Body::plain));
        }
        // The token was good a moment ago: the server restarted, or revoked it. A 401 has changed nothing, so
        // the request may go out once more, after one new handshake.
        let answered = async {
            let session = self.session(known, Some(&session)).await?;
            inner.dispatch(&session, request).await
        };
        answered.await.map(|response| response.map(Body::plain)).map_err(|error| error.if_sent(true))
    }
}

impl Inner {
    async fn dispatch(
        &self,
        session: &Current,
        mut request: Request<Bytes>,
    ) -> Result<Response<Incoming>, ClientError> {
        let wire = self.wire(&session.known);
        if matches!(session.handshake, Handshake::PerRequest) {
            return self.signed(&session.known, request).await;
        }
        let token = match &session.handshake {
            Handshake::Session(Session { token: Some(token), .. }) => bearer(token.expose()),
            _ => None,
        };
        if let Some(token) = token {
            request.headers_mut().insert(AUTHORIZATION, token);
            return wire.send(request).await;
        }
        // No token: the request goes without credentials, as the guides have it. A server of guide 1 that then
        // asks for a challenge to be signed on the route gets that; it has proved itself already.
        let response = wire.send(request.clone()).await?;
        match &session.plan.proof {
            Proof::SharedSecret { .. } if response.status() == StatusCode::UNAUTHORIZED => {
                self.signed(&session.known, request).await.map_err(|error| error.if_sent(true))
            }
            _ => Ok(response),
        }
    }

    /// Guide 1 on the route itself; once more if all that was known is refused, and something else is known now.
    async fn signed(
        &self,
        known: &Arc<Known>,
        request: Request<Bytes>,
    ) -> Result<Response<Incoming>, ClientError> {
        let (response, again) = self.signed_as(known, &request).await?;
        if again && let Some(newer) = self.newer(known).await? {
            let (response, _) =
                self.signed_as(&newer, &request).await.map_err(|error| error.if_sent(true))?;
            return Ok(response);
        }
        Ok(response)
    }

    /// Guide 1 on the route itself, with the first of our credentials that the peer takes; whether it may go out again
    /// if it took none. A 401 that does not ask for a proof of ours may come from the service behind: only an
    /// idempotent request then goes out again.
    async fn signed_as(
        &self,
        known: &Arc<Known>,
        request: &Request<Bytes>,
    ) -> Result<(Response<Incoming>, bool), ClientError> {
        let mut plans = self.refused.order(&known.plans).into_iter().peekable();
        let mut sent = false;
        while let Some(plan) = plans.next() {
            let Proof::SharedSecret { credential, .. } = &plan.proof else { continue };
            let result = self.wire(known).per_request(credential, request.clone()).await;
            let refused = match &result {
                Ok(response) if response.status() == StatusCode::UNAUTHORIZED => {
                    let status = response.status().as_u16();
                    Some(&Failure::Protocol(ReplyError::Status { status, title: None }))
                }
                Ok(_) => None,
                Err(failure) => Some(failure),
            };
            self.record("request", known, &plan, refused).await?;
            let response = result.map_err(|failure| explain(known, &plan, failure).if_sent(sent))?;
            sent = true;
            if response.status() != StatusCode::UNAUTHORIZED {
                self.taken(&plan).await;
                return Ok((response, false));
            }
            self.refused.set(&plan, true);
            let unprocessed = asks_for_us(&response).unwrap_or_else(|| request.method().is_idempotent());
            if plans.peek().is_none() || !unprocessed {
                return Ok((response, unprocessed));
            }
        }
        let peer = known.plans.first().map(|plan| plan.id.peer.to_string());
        Err(ClientError::NoCredential(peer.unwrap_or_default()))
    }
}

/// Whether a 401 can mean that the session ended: a token was sent, and the answer asks for our scheme or, as
/// strangers' servers do, for none at all. One that asks for another scheme comes from the service behind, and so
/// does one that asks for none where the token is of our kind: our own server always names the scheme. Where none
/// is named, nothing says that the request has changed nothing, so only an idempotent one may go out `again`.
fn may_be_stale(handshake: &Handshake, response: &Response<Incoming>, again: bool) -> bool {
    let Handshake::Session(Session { token: Some(token), .. }) = handshake else { return false };
    asks_for_us(response).unwrap_or_else(|| again && !token.expose().starts_with(token::PREFIX))
}

/// Whether a 401 asks for our scheme; `None` if it asks for none at all.
fn asks_for_us(response: &Response<Incoming>) -> Option<bool> {
    let mut asked = response.headers().get_all(WWW_AUTHENTICATE).iter().peekable();
    asked.peek()?;
    let ours = |value: &http::HeaderValue| {
        value
            .as_bytes()
            .get(..SCHEME.len())
            .is_some_and(|start| start.eq_ignore_ascii_case(SCHEME.as_bytes()))
    };
    Some(asked.any(ours))
}
