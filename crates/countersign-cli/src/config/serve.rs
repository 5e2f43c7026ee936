//! `[serve]`: where the service listens, and where requests go.

use std::net::SocketAddr;
use std::path::PathBuf;

use countersign::client::BaseUrl;
use countersign::server::{ExternalUrl, Network, ProxyHeader, TrustedProxies};
use countersign_gateway::{ListenError, ListenUrl};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use super::{Bounded, ConfigError, at_line};

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Serve {
    pub(crate) listen: Vec<Spanned<String>>,
    pub(crate) upstream: Option<UpstreamUrl>,
    pub(crate) upstream_ca: Option<PathBuf>,
    pub(crate) upstream_timeout_seconds: Bounded<1, 3600>,
    pub(crate) admin: Option<Spanned<SocketAddr>>,
    pub(crate) max_connections: Bounded<1, 1_000_000>,
    pub(crate) max_connections_per_source: Bounded<1, 1_000_000>,
    trusted_proxies: Vec<Spanned<String>>,
    pub(crate) external_urls: Vec<ExternalUrlText>,
    /// Unless it is set: whether peers come from a place that nodes share.
    pub(crate) one_of_several: Option<bool>,
    proxy_header: Option<Spanned<ProxyHeaderName>>,
}

impl Default for Serve {
    fn default() -> Self {
        Self {
            listen: Vec::new(),
            upstream: None,
            upstream_ca: None,
            upstream_timeout_seconds: Bounded(60),
            admin: None,
            max_connections: Bounded(4096),
            max_connections_per_source: Bounded(1024),
            trusted_proxies: Vec::new(),
            external_urls: Vec::new(),
            one_of_several: None,
            proxy_header: None,
        }
    }
}

impl Serve {
    /// What cannot be told while a value is read: in which element of a list the fault is, and what one value allows
    /// another.
    pub(super) fn check(&self, text: &str, danger_plain_http: bool) -> Result<(), ConfigError> {
        let check = |listener: Result<ListenUrl, ListenError>| listener?.check(danger_plain_http);
        for listen in &self.listen {
            let listener = listen.as_ref().parse();
            check(listener).map_err(|error| at_line(text, listen.span().start, &error))?;
        }
        if let Some(admin) = &self.admin {
            let listener = Ok(ListenUrl { tls: false, address: *admin.as_ref() });
            check(listener).map_err(|error| at_line(text, admin.span().start, &error))?;
        }
        for proxy in &self.trusted_proxies {
            let network: Result<Network, _> = proxy.as_ref().parse();
            network.map_err(|error| at_line(text, proxy.span().start, &error))?;
        }
        match &self.proxy_header {
            Some(name) if self.trusted_proxies.is_empty() => {
                let error = "this field is read from trusted proxies only: name them in `trusted_proxies`";
                return Err(at_line(text, name.span().start, &error));
            }
            _ => {}
        }
        Ok(())
    }

    /// Whether any proxy is believed.
    pub(crate) fn has_trusted_proxies(&self) -> bool {
        !self.trusted_proxies.is_empty()
    }

    /// The proxies that are believed; that each can be read was checked with the file.
    pub(crate) fn trusted_proxies(&self) -> TrustedProxies {
        let networks = self.trusted_proxies.iter().filter_map(|network| network.as_ref().parse().ok());
        let header = self.proxy_header.as_ref().map(|name| name.as_ref().0);
        TrustedProxies::new(networks.collect(), header.unwrap_or_default())
    }
}

/// Where callers reach this service.
#[derive(Clone, Debug)]
pub(crate) struct ExternalUrlText(pub(crate) ExternalUrl);

impl<'de> Deserialize<'de> for ExternalUrlText {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        String::deserialize(from)?.parse().map(Self).map_err(de::Error::custom)
    }
}

/// In which field proxies say for whom they speak.
#[derive(Clone, Copy, Debug)]
struct ProxyHeaderName(ProxyHeader);

impl<'de> Deserialize<'de> for ProxyHeaderName {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let name: ProxyHeader = String::deserialize(from)?.parse().map_err(de::Error::custom)?;
        Ok(Self(name))
    }
}

/// Where authenticated requests go.
#[derive(Clone, Debug)]
pub(crate) struct UpstreamUrl(pub(crate) String);

impl<'de> Deserialize<'de> for UpstreamUrl {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let text = String::deserialize(from)?;
        BaseUrl::parse(&text).map_err(de::Error::custom)?;
        Ok(Self(text))
    }
}
