//! A message as it is signed: what the signer and the verifier agree that it is, and not what a proxy made of it.

use http::HeaderMap;

/// A message whose components are to be signed or verified.
#[derive(Clone, Copy, Debug)]
pub enum Message<'a> {
    /// A request.
    Request(Request<'a>),
    /// A response.
    Response(Response<'a>),
}

/// A request.
#[derive(Clone, Copy, Debug)]
pub struct Request<'a> {
    /// The method, as it is: methods differ by case (RFC 9110, section 9.1).
    pub method: &'a str,
    /// What it is for.
    pub target: Target<'a>,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// Its trailers, once they are there.
    pub trailers: Option<&'a HeaderMap>,
}

/// The target of a request. Behind a proxy it is what the client has asked for, as far as the verifier knows that.
#[derive(Clone, Copy, Debug)]
pub struct Target<'a> {
    /// `https` or `http`; in either case of letters.
    pub scheme: &'a str,
    /// Host and, if there is one, port. Written in lower case and without the scheme's default port when it is signed.
    pub authority: &'a str,
    /// The path, not decoded; an empty one counts as `/`.
    pub path: &'a str,
    /// What comes after the first `?`, not decoded. `None` and `Some("")` are both signed as `?`.
    pub query: Option<&'a str>,
    /// The request target as it stands in an HTTP/1.1 request line, if `@request-target` is of interest: in origin form
    /// it is the path with the query, which is what `None` stands for.
    pub request_target: Option<&'a str>,
}

/// A response.
#[derive(Clone, Copy, Debug)]
pub struct Response<'a> {
    /// The status code.
    pub status: u16,
    /// Its fields.
    pub fields: &'a HeaderMap,
    /// Its trailers, once they are there.
    pub trailers: Option<&'a HeaderMap>,
    /// The request that it answers, for components with `req`.
    pub request: Option<Request<'a>>,
}

impl<'a> Message<'a> {
    pub(crate) const fn request(&self) -> Option<&Request<'a>> {
        match self {
            Self::Request(request) => Some(request),
            Self::Response(_) => None,
        }
    }

    pub(crate) const fn fields(&self) -> (&'a HeaderMap, Option<&'a HeaderMap>) {
        match self {
            Self::Request(Request { fields, trailers, .. })
            | Self::Response(Response { fields, trailers, .. }) => (fields, *trailers),
        }
    }
}

impl<'a> Target<'a> {
    /// A target in origin form: what services ask each other for.
    #[must_use]
    pub const fn origin(scheme: &'a str, authority: &'a str, path: &'a str, query: Option<&'a str>) -> Self {
        Self { scheme, authority, path, query, request_target: None }
    }
}
