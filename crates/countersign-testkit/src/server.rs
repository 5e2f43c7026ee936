//! A server of both guides: the dispatch that the protocol text gives, over the protocol crate's state
//! machines, with its memory in plain collections. What it decides is up to those state machines.

use countersign_protocol::UnixTime;
use countersign_protocol::api_key::{self, server as guide2};
use countersign_protocol::identity::{ApiKey, CredentialId, Profile, ServiceName};
use countersign_protocol::mac::MacKey;
use countersign_protocol::problem::Problem;
use countersign_protocol::refusal::{Malformed, Refusal};
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::server::{self as guide1, Candidate, Effort, Holders};
use countersign_protocol::shared_secret::{Challenge, Issuer, Lifetime};
use countersign_protocol::token::{Claims, MAX_LIFETIME, TokenError, TokenKeys};
use countersign_protocol::wire::body::{self, AnyChallenge};
use countersign_protocol::wire::header::{self, Presented};
use countersign_protocol::wire::reply::{ChallengeReply, VerdictReply};
use countersign_protocol::wire::{self, Incoming, Outgoing, www_authenticate};
use http::{HeaderMap, HeaderValue};
use zeroize::Zeroizing;

use crate::memory::{Burned, Outstanding};
use crate::random::Random;

/// One secret of a caller that the server knows, as [`guide1::verify`] tries it.
#[derive(Debug)]
pub struct Live {
    number: u32,
    key: MacKey,
}

impl Candidate for Live {
    fn mac_key(&self) -> &MacKey {
        &self.key
    }
}

#[derive(Debug)]
struct Peer {
    name: ServiceName,
    profile: Profile,
    api_key: ApiKey,
    live: Vec<Live>,
    outstanding: Outstanding,
}

/// What a request is answered with, and what the trail would say about it.
#[derive(Debug)]
pub struct Answer {
    /// The status code.
    pub status: u16,
    /// The header fields.
    pub headers: HeaderMap,
    /// The body.
    pub body: Vec<u8>,
    /// The exact reason of a refusal.
    pub refusal: Option<Refusal>,
}

impl Answer {
    /// The answer as a client's state machine takes it.
    #[must_use]
    pub fn incoming(&self) -> Incoming<'_> {
        Incoming { status: self.status, headers: &self.headers, body: &self.body }
    }

    fn ok(headers: HeaderMap, body: Vec<u8>) -> Self {
        Self { status: 200, headers, body, refusal: None }
    }
}

/// A server in virtual time.
#[derive(Debug)]
pub struct Server {
    name: ServiceName,
    api_key: ApiKey,
    secret: MacKey,
    issuer: Issuer,
    decoy: MacKey,
    tokens: TokenKeys,
    random: Random,
    peers: Vec<Peer>,
    /// Guide 1: what was answered rightly.
    pub burned: Burned,
    /// The request id of the next problem.
    pub request_id: String,
}

impl Server {
    /// A server that proves itself with `api_key` and `secret` and knows nobody.
    #[must_use]
    pub fn new(name: &ServiceName, api_key: ApiKey, secret: &SharedSecret, now: UnixTime) -> Self {
        let mut random = Random::new(now.0);
        Self {
            name: name.clone(),
            api_key,
            secret: secret.mac_key(),
            issuer: Issuer::new(&Zeroizing::new(random.bytes()), name.clone(), Lifetime::default()),
            decoy: MacKey::new(&random.bytes::<32>()),
            tokens: TokenKeys::new(name.clone(), &Zeroizing::new(random.bytes()), now),
            random,
            peers: Vec::new(),
            burned: Burned::default(),
            request_id: "request-1".to_owned(),
        }
    }

    /// Lets a caller in under `profile`; with `shared-secret`, under each of these secrets.
    pub fn add(&mut self, name: &ServiceName, profile: Profile, api_key: ApiKey, secrets: &[&SharedSecret]) {
        let live =
            (1..).zip(secrets).map(|(number, secret)| Live { number, key: secret.mac_key() }).collect();
        let outstanding = Outstanding::default();
        self.peers.push(Peer { name: name.clone(), profile, api_key, live, outstanding });
    }

    /// Answers a request to one of the two endpoints.
    pub fn post(&mut self, request: &Outgoing, now: UnixTime) -> Answer {
        let answer = match request.path {
            wire::AUTHENTICATE => self.authenticate(request, now),
            wire::VERIFY_CHALLENGE => self.verify_challenge(request, now),
            other => panic!("a client asked for {other}"),
        };
        answer.unwrap_or_else(|refusal| self.refuse(refusal, None, now))
    }

    /// Answers a request to a protected route. The body of a 200 is the name under which the caller is known.
    pub fn protected(&mut self, headers: &HeaderMap, now: UnixTime) -> Answer {
        let presented = match header::presented(headers) {
            Ok(presented) => presented,
            Err(refusal) => return self.refuse(refusal, None, now),
        };
        match presented {
            Presented::Nothing => self.refuse(Refusal::NoCredentials, None, now),
            Presented::Token(token) => match self.tokens.open(token, now) {
                Ok(claims) => Answer::ok(HeaderMap::new(), claims.credential.peer.to_string().into()),
                Err(error) => self.refuse(Refusal::Token(error), None, now),
            },
            Presented::Key { api_key, missing } => {
                let refusal = missing.map_or(Refusal::ChallengeSent, Refusal::MissingHeader);
                self.refuse(refusal, Some(&api_key), now)
            }
            Presented::Signed { api_key, challenge, signature, client_challenge } => {
                let attempt =
                    guide1::Attempt { api_key: &api_key, challenge: &challenge, signature: &signature };
                match self.guide1(attempt, client_challenge.as_ref(), now) {
                    Ok((caller, headers)) => Answer::ok(headers, caller.peer.to_string().into()),
                    Err(refusal) => self.refuse(refusal, Some(&api_key), now),
                }
            }
        }
    }

    fn authenticate(&mut self, request: &Outgoing, now: UnixTime) -> Result<Answer, Refusal> {
        let api_key = match (body::read_authenticate(&request.body)?, key_in(&request.headers)?) {
            (Some(_), Some(_)) => return Err(Refusal::TwoMethods),
            (None, None) => return Err(Malformed::NoKey.into()),
            (Some(key), None) | (None, Some(key)) => key,
        };
        let random = self.random.bytes();
        let peer = self.peers.iter_mut().find(|peer| peer.api_key == api_key).ok_or(Refusal::UnknownKey)?;
        let challenge = match peer.profile {
            Profile::ApiKey => {
                let challenge = api_key::Challenge::generate(now, &random);
                peer.outstanding.add(challenge.clone(), now)?;
                challenge.to_string()
            }
            _ => self.issuer.issue(&api_key, now, self.random.bytes()).to_string(),
        };
        let reply = ChallengeReply { challenge: &challenge, expires_in: Outstanding::LIFETIME };
        Ok(Answer::ok(HeaderMap::new(), serde_json::to_vec(&reply).expect("JSON")))
    }

    fn verify_challenge(&mut self, request: &Outgoing, now: UnixTime) -> Result<Answer, Refusal> {
        let verify = body::read_verify(&request.body)?;
        let client_challenge = header::client_challenge(&request.headers)?;
        // The shape of the request decides on the guide, so that the way it takes says nothing about the key.
        let (caller, headers) = match &verify.challenge {
            Some(AnyChallenge::SharedSecret(challenge)) => {
                let (api_key, signature) = (&verify.api_key, &verify.signature);
                self.guide1(
                    guide1::Attempt { api_key, challenge, signature },
                    client_challenge.as_ref(),
                    now,
                )?
            }
            Some(AnyChallenge::ApiKey(echo)) => {
                (self.guide2(&verify, Some(echo.as_str()), now)?, HeaderMap::new())
            }
            None => (self.guide2(&verify, None, now)?, HeaderMap::new()),
        };
        let claims =
            Claims { credential: caller, uid: [0; 16], issued: now, expires: now.plus(MAX_LIFETIME) };
        let token = self.tokens.seal(&claims, self.random.bytes());
        let reply = VerdictReply {
            authenticated: true,
            service: &claims.credential.peer,
            token: Some(&token),
            expires_in: Some(MAX_LIFETIME),
        };
        Ok(Answer::ok(headers, serde_json::to_vec(&reply).expect("JSON")))
    }

    fn guide1(
        &mut self,
        attempt: guide1::Attempt<'_>,
        client_challenge: Option<&Challenge>,
        now: UnixTime,
    ) -> Result<(CredentialId, HeaderMap), Refusal> {
        let macs = self.peers.iter().map(|peer| peer.live.len()).max().unwrap_or(0).max(1);
        let peer = self.peers.iter().find(|peer| peer.api_key == *attempt.api_key);
        let holders = match peer {
            Some(peer) if peer.profile == Profile::SharedSecret => Holders::Live(peer.live.as_slice()),
            Some(_) => Holders::Nobody(Refusal::WrongProfile),
            None if self.api_key == *attempt.api_key => Holders::Nobody(Refusal::OwnKey),
            None => Holders::Nobody(Refusal::UnknownKey),
        };
        let verified =
            guide1::verify(&self.issuer, attempt, holders, Effort { macs, decoy: &self.decoy }, now)?
                .claim(|claim| self.burned.claim(claim, now))
                .map_err(|(refusal, _)| refusal)?;
        let mut headers = HeaderMap::new();
        if let Some(challenge) = client_challenge {
            let proof = verified.prove(&self.api_key, &self.secret, challenge);
            headers.insert(header::X_API_KEY, value(self.api_key.expose()));
            headers.insert(header::X_SIGNATURE, value(&proof.to_hex()));
        }
        let peer = peer.map(|peer| peer.name.clone()).ok_or(Refusal::UnknownKey)?;
        Ok((CredentialId { peer, number: verified.holder().number }, headers))
    }

    fn guide2(
        &mut self,
        verify: &body::Verify,
        echo: Option<&str>,
        now: UnixTime,
    ) -> Result<CredentialId, Refusal> {
        let attempt = guide2::Attempt { api_key: &verify.api_key, signature: &verify.signature, echo };
        let peer = self.peers.iter_mut().find(|peer| peer.api_key == verify.api_key);
        let peer = peer.filter(|peer| peer.profile == Profile::ApiKey);
        let live = peer.as_ref().map(|peer| peer.outstanding.live(now)).unwrap_or_default();
        let unclaimed = guide2::verify(attempt, &live)?;
        let peer = peer.ok_or(Refusal::UnknownKey)?;
        unclaimed.claim(|challenge| peer.outstanding.take(challenge))?;
        Ok(CredentialId { peer: peer.name.clone(), number: 1 })
    }

    /// With `challenge_for` (a protected route) the refusal brings a fresh challenge, whoever the key belongs to.
    fn refuse(&mut self, refusal: Refusal, challenge_for: Option<&ApiKey>, now: UnixTime) -> Answer {
        let problem: Problem = refusal.problem();
        let lifetime = self.issuer.lifetime();
        let challenge = challenge_for.map(|key| self.issuer.issue(key, now, self.random.bytes()));
        let in_body = challenge.as_ref().map(|challenge| (challenge.as_str(), lifetime.as_secs()));
        let body = problem.body(&self.request_id, in_body);
        let mut headers = HeaderMap::new();
        if problem.status() == 401 {
            let challenge = challenge.as_ref().map(|challenge| (challenge, lifetime));
            let text = www_authenticate::write(&self.name, challenge);
            headers.insert(http::header::WWW_AUTHENTICATE, value(&text));
        }
        Answer { status: problem.status(), headers, body, refusal: Some(refusal) }
    }

    /// Opens one of this server's tokens.
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(&self, token: &str, now: UnixTime) -> Result<Claims, TokenError> {
        self.tokens.open(token, now)
    }
}

fn key_in(headers: &HeaderMap) -> Result<Option<ApiKey>, Refusal> {
    let key = header::single(headers, &header::X_API_KEY)?;
    Ok(key.map(|key| key.parse().map_err(|_| Malformed::HeaderValue("X-API-Key"))).transpose()?)
}

fn value(text: &str) -> HeaderValue {
    HeaderValue::from_str(text).expect("visible ASCII")
}
