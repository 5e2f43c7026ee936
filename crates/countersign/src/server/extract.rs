use std::net::{IpAddr, Ipv6Addr, SocketAddr};

use axum::extract::{ConnectInfo, FromRequestParts};
use countersign_protocol::identity::{CredentialId, Profile, ServiceName};
use http::request::Parts;
use http::{Extensions, StatusCode};

/// The service that called, as the layer verified it. An axum extractor; elsewhere, take it from the request's
/// extensions.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub struct Peer {
    /// Its name here.
    pub service: ServiceName,
    /// The credential that it used.
    pub credential: CredentialId,
    /// How it proved itself.
    pub profile: Profile,
}

impl Peer {
    pub(super) fn new(credential: CredentialId, profile: Profile) -> Self {
        Self { service: credential.peer.clone(), credential, profile }
    }
}

impl<S: Sync> FromRequestParts<S> for Peer {
    type Rejection = (StatusCode, &'static str);

    /// Fails closed: a route outside of the layer has no peer.
    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Self::Rejection> {
        let missing = "this route is not behind countersign's AuthLayer";
        parts.extensions.get::<Self>().cloned().ok_or((StatusCode::INTERNAL_SERVER_ERROR, missing))
    }
}

/// Where a request came from, set as a request extension by whoever accepts connections. Goes before axum's
/// `ConnectInfo<SocketAddr>`. A handler behind the layer finds here what the limits and the trail took: with a
/// trusted proxy in front, the address that it named. (`::` if nobody set either.)
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SourceAddr(pub IpAddr);

pub(super) fn source(extensions: &Extensions) -> IpAddr {
    if let Some(SourceAddr(address)) = extensions.get() {
        return *address;
    }
    match extensions.get::<ConnectInfo<SocketAddr>>() {
        Some(ConnectInfo(address)) => address.ip(),
        None => IpAddr::V6(Ipv6Addr::UNSPECIFIED),
    }
}
