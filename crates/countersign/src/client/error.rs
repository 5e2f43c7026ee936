use countersign_protocol::identity::Profile;
use countersign_protocol::wire::reply::ReplyError;

/// Why a request was not made or its answer not taken. No secret is part of it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ClientError {
    /// Config: the peer has no URL.
    #[error("the peer `{0}` has no URL; add it again with `--url`")]
    NoUrl(String),
    /// Config: not a URL that we call.
    #[error("`{url}` is not a URL that can be called: {why}")]
    Url {
        /// The URL, made printable.
        url: String,
        /// What is wrong.
        why: &'static str,
    },
    /// Config: plain HTTP beyond loopback.
    #[error(
        "`{0}` is plain HTTP to another machine: everything on it could be read and changed; use https://"
    )]
    PlainHttp(String),
    /// Caller: the request goes elsewhere.
    #[error("the request does not go to this peer's URL")]
    Elsewhere,
    /// Caller: the request sets a header that carries our own credentials, or what a signature rests on.
    #[error("the request sets the header {0}, which Countersign sets itself; leave it out")]
    HeaderTaken(http::HeaderName),
    /// Caller: the other side could not take this request, signed (CS-49).
    #[error("the request cannot be signed and was not sent: {0}")]
    Unsignable(String),
    /// Caller: streams belong to `cs1`.
    #[error(
        "content is streamed under the profile cs1 only, and this peer has {0}; give it to `Client::send` as a whole"
    )]
    NoStreams(Profile),
    /// Config: the peer is bound to its TLS connection, and there is none.
    #[error(
        "what is said to this peer is bound to its TLS connection (tls-exporter), and {0} gives nothing to bind to: it needs https:// and TLS 1.3 from end to end; nothing was sent"
    )]
    NothingToBindTo(String),
    /// What came is not proved to be the peer's answer to this request (CS-35): it was not handed on. Whether the request has
    /// had its effect is not known.
    #[error(
        "{url} answered {status}, but {why}{}. The request may or may not have had its effect: find out before it is repeated. (A request with an Idempotency-Key, or with a method that changes nothing, is repeated by itself where that can help.)",
        hint.as_ref().map(|hint| format!(" (it says {hint}: a hint, not to be relied on)")).unwrap_or_default()
    )]
    OutcomeUnknown {
        /// Where to.
        url: String,
        /// The status code, which anybody on the way may have written.
        status: u16,
        /// What is wrong with it.
        why: Unproved,
        /// The type of the problem that it tells, and when it wants to be tried again, made printable. Anybody on the way may
        /// have written that.
        hint: Option<String>,
    },
    /// The server signed more as one piece than is held.
    #[error(
        "{url} answered with more than {limit} bytes that are not sent as a stream: allow for more with `Builder::hold`, or have the server send a stream. The request has had its effect"
    )]
    ResponseTooLong {
        /// Where to.
        url: String,
        /// How many bytes are held.
        limit: usize,
    },
    /// Config: we have no key to present.
    #[error("no key of ours towards the peer `{0}`; add it again with `--our-key-file`")]
    NoKey(String),
    /// Config: nothing is left to prove ourselves with.
    #[error(
        "no credential for the peer `{0}` is good any more: all are revoked or over. `countersign rotate {0}` makes the next one"
    )]
    NoCredential(String),
    /// Config: the store that is followed cannot be read, or has no such peer any more.
    #[error(transparent)]
    Store(#[from] countersign_store::StoreError),
    /// Reading the store was cut short, mostly because the process ends.
    #[error("reading the store was cut short: {0}")]
    Interrupted(String),
    /// Config: the trust settings cannot be used.
    #[error("TLS trust: {0}")]
    Trust(String),
    /// The network or TLS says no: no connection took anything, and nothing was sent.
    #[error("cannot reach {url}: {why}")]
    Connect {
        /// Where to.
        url: String,
        /// The chain of causes.
        why: String,
        /// Whether it may be otherwise in a moment: the connection was refused, or closed before it was used, as by a server that is
        /// being restarted. (A certificate or a name that is wrong will be wrong again.)
        passing: bool,
    },
    /// The connection broke after something was begun on it and before the answer was there.
    #[error("the connection to {url} broke: {why}. Whether the request has had its effect is not known")]
    Broken {
        /// Where to.
        url: String,
        /// The chain of causes.
        why: String,
        /// Whether HTTP/2 said that the request was not taken. Nobody has signed that, and it is not always true.
        refused: bool,
    },
    /// Nothing came in time.
    #[error("{url} did not answer within {seconds} seconds")]
    Timeout {
        /// Where to.
        url: String,
        /// How long we waited.
        seconds: u64,
    },
    /// An answer of the handshake is too long.
    #[error("{url} answered the handshake with more than 64 KiB")]
    ReplyTooLong {
        /// Where to.
        url: String,
    },
    /// The handshake failed.
    #[error("the handshake with {url} (profile {profile}) failed: {error}")]
    Handshake {
        /// Where to.
        url: String,
        /// The peer's profile.
        profile: Profile,
        /// What came.
        error: ReplyError,
    },
    /// The trail cannot be written.
    #[error(transparent)]
    Audit(#[from] countersign_audit::AuditError),
}

impl ClientError {
    /// Whether something was sent.
    pub(super) const fn may_have_run(&self) -> bool {
        !matches!(self, Self::Connect { .. } | Self::NothingToBindTo(_))
    }

    /// Of a handshake: no request was begun.
    pub(super) fn before_any_request(self) -> Self {
        match self {
            Self::Broken { url, why, .. } => Self::Connect { url, why, passing: true },
            error => error,
        }
    }

    /// Of the last attempt, where an earlier one may have been `sent`: not to have reached the server a second time says
    /// nothing about the first.
    pub(super) fn if_sent(self, sent: bool) -> Self {
        match self {
            Self::Connect { url, why, .. } if sent => Self::Broken { url, why, refused: false },
            Self::NothingToBindTo(url) if sent => {
                let why = "the next one has nothing to be bound to".to_owned();
                Self::Broken { url, why, refused: false }
            }
            error => error,
        }
    }
}

/// Why an answer is not the peer's, as far as can be known.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Unproved {
    /// It has no signature of the profile. So are the refusals of the server's verifier (CS-34), and the answers of whoever sits
    /// in between.
    #[error("the answer is not signed")]
    Unsigned,
    /// Its signature is not the peer's, or is for another request.
    #[error("the answer's signature is not the one that the peer gives for this request")]
    Signature,
    /// The signature does not cover what it has to.
    #[error("the answer's signature does not cover {0}")]
    Uncovered(&'static str),
    /// The content is not the one that was signed.
    #[error("the answer's content is not the one that was signed")]
    Content,
    /// The content did not come to its end.
    #[error("the answer was cut off")]
    CutOff,
}

/// An error and all of its causes, in one line.
pub(super) fn chain(error: &(dyn std::error::Error + 'static)) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let next = error.to_string();
        if !text.contains(&next) {
            text.push_str(": ");
            text.push_str(&next);
        }
        cause = error.source();
    }
    countersign_protocol::wire::printable(&text, 600)
}
