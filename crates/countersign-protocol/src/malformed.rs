/// What is wrong with the form of a request. Never repeats bytes of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// A header that may come once came more often.
    #[error("the header {0} may come only once")]
    RepeatedHeader(&'static str),
    /// A header's value has the wrong length or alphabet.
    #[error("the header {0} does not have the form that the protocol gives it")]
    HeaderValue(&'static str),
    /// A body over the limit.
    #[error("the body is longer than 4096 bytes")]
    BodyTooLarge,
    /// The body did not arrive in time or was cut off.
    #[error("the body did not arrive in full and in time")]
    BodyIncomplete,
    /// Not UTF-8 (RFC 8259, section 8.1).
    #[error("the body is not UTF-8")]
    BodyNotUtf8,
    /// Not a JSON object.
    #[error("the body is not a JSON object")]
    BodyNotAnObject,
    /// Not JSON.
    #[error("the body is not JSON: line {line}, column {column}")]
    BodySyntax {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// JSON, with an unknown, missing, repeated or wrongly typed member.
    #[error(
        "the body has an unknown, missing, repeated or wrongly typed member: line {line}, column {column}"
    )]
    BodyMembers {
        /// From 1.
        line: usize,
        /// From 1.
        column: usize,
    },
    /// A member's value has the wrong length or alphabet.
    #[error("the member {0} does not have the form that the protocol gives it")]
    Member(&'static str),
    /// No Host, several, or one that is no host (RFC 9112, section 3.2).
    #[error("an HTTP/1.1 request has exactly one Host header, which is a host with or without a port")]
    Host,
    /// A path with dot segments, or none at all.
    #[error("the request's target is not a path without dot segments")]
    Path,
    /// The body comes with a query or transfer that the endpoints do not take.
    #[error("no API key: send it as the header X-API-Key or as the member apiKey")]
    NoKey,
}
