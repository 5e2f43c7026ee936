//! A caller and a server that know each other, in virtual time.

use countersign_protocol::UnixTime;
use countersign_protocol::identity::{ApiKey, Profile, ServiceName};
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::client::{self as guide1, Credential};
use countersign_protocol::wire::reply::{ReplyError, Session};
use countersign_protocol::{api_key, wire::Outgoing};
use http::HeaderValue;
use http::header::AUTHORIZATION;

use crate::random::Random;
use crate::server::{Answer, Server};

/// A caller `billing` and a server `orders`. `orders` knows `billing` under `shared-secret`, with a secret for
/// each direction, and a second caller, `reports`, under `api-key`.
#[derive(Debug)]
pub struct Pair {
    /// The time at both ends. A test moves it.
    pub now: UnixTime,
    /// The random bytes of the callers and of tests.
    pub random: Random,
    /// `orders`.
    pub server: Server,
    /// What `billing` proves itself with.
    pub caller_key: ApiKey,
    /// What `billing` proves itself with.
    pub caller_secret: SharedSecret,
    /// What `orders` proves itself with.
    pub server_key: ApiKey,
    /// What `orders` proves itself with.
    pub server_secret: SharedSecret,
    /// The key of `reports`, which is its secret.
    pub reports_key: ApiKey,
}

impl Default for Pair {
    fn default() -> Self {
        Self::new()
    }
}

impl Pair {
    /// A new pair; every new pair is the same.
    #[must_use]
    pub fn new() -> Self {
        let now = UnixTime(1_800_000_000);
        let mut random = Random::new(7);
        let [caller_key, server_key, reports_key] =
            std::array::from_fn(|_| ApiKey::generate(&random.bytes()));
        let [caller_secret, server_secret] = std::array::from_fn(|_| SharedSecret::generate(&random.bytes()));
        let mut server = Server::new(&name("orders"), server_key.clone(), &server_secret, now);
        server.add(&name("billing"), Profile::SharedSecret, caller_key.clone(), &[&caller_secret]);
        server.add(&name("reports"), Profile::ApiKey, reports_key.clone(), &[]);
        Self { now, random, server, caller_key, caller_secret, server_key, server_secret, reports_key }
    }

    /// What `billing` knows.
    #[must_use]
    pub fn credential(&self) -> Credential {
        let (ours, theirs) = (self.caller_secret.mac_key(), self.server_secret.mac_key());
        Credential::new(self.caller_key.clone(), ours, self.server_key.clone(), theirs)
    }

    /// Lets time pass at both ends.
    pub fn wait(&mut self, seconds: u64) {
        self.now = self.now.plus(seconds);
    }

    /// Sends a request to an endpoint.
    pub fn post(&mut self, request: &Outgoing) -> Answer {
        self.server.post(request, self.now)
    }

    /// Guide 1 on the endpoints. With `mutual` the roles are reversed as well: the server has to prove itself.
    ///
    /// # Errors
    /// What the caller's state machine says.
    pub fn on_the_endpoints(&mut self, credential: &Credential, mutual: bool) -> Result<Session, ReplyError> {
        let client_challenge = mutual.then(|| self.random.bytes());
        let (request, waiting) = guide1::start(credential, client_challenge);
        let (request, waiting) = waiting.receive(&self.post(&request).incoming())?;
        waiting.receive(&self.post(&request).incoming())
    }

    /// Guide 1 on a protected route: knock, answer the 401, and what came of it.
    ///
    /// # Errors
    /// What the caller's state machine says.
    pub fn on_a_protected_route(&mut self, credential: &Credential) -> Result<Answer, ReplyError> {
        let knocked = self.server.protected(&guide1::knock(credential), self.now);
        let headers = guide1::answer(credential, &knocked.incoming())?;
        Ok(self.server.protected(&headers, self.now))
    }

    /// Guide 2.
    ///
    /// # Errors
    /// What the caller's state machine says.
    pub fn with_an_api_key(&mut self, key: &ApiKey) -> Result<Session, ReplyError> {
        let (request, waiting) = api_key::client::start(key);
        let (request, waiting) = waiting.receive(&self.post(&request).incoming())?;
        waiting.receive(&self.post(&request).incoming())
    }

    /// A request to a protected route with the token of a session.
    ///
    /// # Panics
    /// The session has none.
    pub fn with_the_token(&mut self, session: &Session) -> Answer {
        let token = session.token.as_ref().expect("this server gives tokens");
        let bearer = HeaderValue::from_str(&format!("Bearer {}", token.expose())).expect("visible ASCII");
        self.server.protected(&[(AUTHORIZATION, bearer)].into_iter().collect(), self.now)
    }
}

fn name(text: &str) -> ServiceName {
    text.parse().expect("a service name")
}
