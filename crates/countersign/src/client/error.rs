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
    /// Caller: the request sets a header that carries our own credentials.
    #[error("the request sets the header {0}, which carries Countersign's own credentials; leave it out")]
    HeaderTaken(http::HeaderName),
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
    /// The network or TLS says no.
    #[error("cannot reach {url}: {why}")]
    Connect {
        /// Where to.
        url: String,
        /// The chain of causes.
        why: String,
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
