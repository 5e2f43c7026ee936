//! Which proxies are believed, and what follows from it for the source of a request.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr};
use std::str::FromStr;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use http::header::FORWARDED;
use http::{HeaderMap, HeaderName, HeaderValue};

use super::forwarded::{self, Unclear};

/// How many proxies in a row are followed.
const MAX_HOPS: usize = 32;
/// How often a proxy that cannot be understood is complained about.
const COMPLAIN_EVERY: Duration = Duration::from_secs(60);

/// A network of addresses: `10.0.0.0/8`, `2001:db8::/32`, or one address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Network {
    /// The first address.
    first: IpAddr,
    prefix: u32,
}

/// Why a text is not a [`Network`] that can be trusted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NetworkError {
    /// Not the form of a network.
    #[error("a network is an IP address, or ADDRESS/PREFIX as in `10.0.0.0/8` or `2001:db8::/32`")]
    Form,
    /// The address has bits beyond the prefix: it is not clear what was meant.
    #[error("the address goes on beyond the prefix; `{0}` is the network that it is in")]
    Beyond(Network),
    /// Every address.
    #[error("this is everybody: any caller could say that it is another. Name the proxies' own addresses")]
    Everybody,
}

impl Network {
    /// Whether an address is in it. An IPv4 address written as IPv6 (`::ffff:…`) is an IPv4 address.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        let address = address.to_canonical();
        address.is_ipv4() == self.first.is_ipv4() && trunc(address, self.prefix) == bits(self.first)
    }
}

/// IPv4 in the upper bits, so that prefixes mean the same for both.
fn bits(address: IpAddr) -> u128 {
    match address {
        IpAddr::V4(v4) => u128::from(v4.to_bits()) << 96,
        IpAddr::V6(v6) => v6.to_bits(),
    }
}

fn trunc(address: IpAddr, prefix: u32) -> u128 {
    bits(address) & u128::MAX.checked_shl(128 - prefix).unwrap_or(0)
}

impl FromStr for Network {
    type Err = NetworkError;

    fn from_str(text: &str) -> Result<Self, NetworkError> {
        let (address, prefix) = text.split_once('/').map_or((text, None), |(a, p)| (a, Some(p)));
        let address: IpAddr = address.parse().map_err(|_| NetworkError::Form)?;
        let most = if address.is_ipv4() { 32 } else { 128 };
        let prefix = match prefix {
            Some(digits) if digits.bytes().all(|byte| byte.is_ascii_digit()) => {
                digits.parse().ok().filter(|prefix| *prefix <= most).ok_or(NetworkError::Form)?
            }
            Some(_) => return Err(NetworkError::Form),
            None => most,
        };
        if prefix == 0 {
            return Err(NetworkError::Everybody);
        }
        // An IPv4 network written as IPv6 would never match: addresses are made canonical first.
        if let IpAddr::V6(v6) = address
            && prefix > 64
            && v6.to_ipv4_mapped().is_some()
        {
            return Err(NetworkError::Form);
        }
        let first = trunc(address, prefix);
        if first != bits(address) {
            #[allow(clippy::cast_possible_truncation, reason = "the upper 32 bits of 128")]
            let first = match address {
                IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::from_bits((first >> 96) as u32)),
                IpAddr::V6(_) => IpAddr::V6(first.into()),
            };
            return Err(NetworkError::Beyond(Self { first, prefix }));
        }
        Ok(Self { first: address, prefix })
    }
}

impl fmt::Display for Network {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.first, self.prefix)
    }
}

/// The field in which proxies say for whom they speak.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[non_exhaustive]
pub enum ProxyHeader {
    /// `X-Forwarded-For`: addresses, parted by commas; each proxy adds the one it was called from.
    #[default]
    XForwardedFor,
    /// `Forwarded`, RFC 7239: the parameter `for`.
    Forwarded,
}

impl ProxyHeader {
    fn name(self) -> HeaderName {
        match self {
            Self::XForwardedFor => HeaderName::from_static("x-forwarded-for"),
            Self::Forwarded => FORWARDED,
        }
    }
}

impl FromStr for ProxyHeader {
    type Err = ProxyHeaderError;

    fn from_str(text: &str) -> Result<Self, ProxyHeaderError> {
        match text {
            "x-forwarded-for" => Ok(Self::XForwardedFor),
            "forwarded" => Ok(Self::Forwarded),
            _ => Err(ProxyHeaderError),
        }
    }
}

/// Not a field that can be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the field is `x-forwarded-for` or `forwarded`")]
pub struct ProxyHeaderError;

/// Proxies in front that are believed when they say from where a request came; none by default.
///
/// The source is the rightmost address in the field that is no trusted proxy. What stands to the left of it is
/// nobody's word but the caller's, and is never read. From anybody else the field is ignored. Where a trusted proxy
/// does not say whom it speaks for (`unknown`, `_hidden`, something that cannot be read, or more than 32 proxies in a
/// row), the source is that proxy itself, the one that the connection comes from.
#[derive(Debug, Default)]
pub struct TrustedProxies {
    networks: Vec<Network>,
    header: ProxyHeader,
    complaints: Mutex<Complaints>,
}

#[derive(Debug, Default)]
struct Complaints {
    last: Option<Instant>,
    held_back: u64,
}

impl TrustedProxies {
    /// Believes what these say in that field. They must set it themselves, or add to it at its end; one that hands it
    /// on as it came lets every caller choose its source.
    #[must_use]
    pub fn new(networks: Vec<Network>, header: ProxyHeader) -> Self {
        Self { networks, header, complaints: Mutex::default() }
    }

    /// Whether this is the address of a trusted proxy.
    #[must_use]
    pub fn contains(&self, address: IpAddr) -> bool {
        self.networks.iter().any(|network| network.contains(address))
    }

    /// Where a request with these headers came from, if `peer` is at the other end of its connection.
    #[must_use]
    pub fn source(&self, peer: IpAddr, headers: &HeaderMap) -> IpAddr {
        if !self.contains(peer) {
            return peer;
        }
        let lines = headers.get_all(self.header.name()).iter().map(HeaderValue::as_bytes);
        let followed = match self.header {
            ProxyHeader::XForwardedFor => self.follow(peer, forwarded::x_forwarded_for(lines)),
            ProxyHeader::Forwarded => self.follow(peer, forwarded::forwarded(lines)),
        };
        followed.unwrap_or_else(|why| {
            self.complain(peer, &why);
            peer
        })
    }

    /// The host that the request was sent to, if `peer` is a trusted proxy that says so: `X-Forwarded-Host`, or the parameter
    /// `host` of the last element of `Forwarded`, which it has written itself.
    pub(super) fn host(&self, peer: IpAddr, headers: &HeaderMap) -> Option<String> {
        if !self.contains(peer) {
            return None;
        }
        match self.header {
            ProxyHeader::XForwardedFor => {
                let last = headers.get_all("x-forwarded-host").iter().next_back()?.to_str().ok()?;
                last.rsplit(',').next().map(|host| host.trim().to_owned()).filter(|host| !host.is_empty())
            }
            ProxyHeader::Forwarded => {
                let lines = headers.get_all(FORWARDED).iter().map(HeaderValue::as_bytes);
                forwarded::last_host(lines)
            }
        }
    }

    fn follow(
        &self,
        peer: IpAddr,
        hops: impl Iterator<Item = Result<IpAddr, Unclear>>,
    ) -> Result<IpAddr, Unfollowed> {
        let mut source = peer;
        for (followed, hop) in hops.enumerate() {
            if followed == MAX_HOPS {
                return Err(Unfollowed::TooLong);
            }
            source = hop?;
            if !self.contains(source) {
                break;
            }
        }
        Ok(source)
    }

    /// Once a minute at most: whoever is behind the proxy may be able to cause it.
    fn complain(&self, peer: IpAddr, why: &Unfollowed) {
        let mut complaints = self.complaints.lock().unwrap_or_else(PoisonError::into_inner);
        if complaints.last.is_some_and(|last| last.elapsed() < COMPLAIN_EVERY) {
            complaints.held_back += 1;
            return;
        }
        let held_back = std::mem::take(&mut complaints.held_back);
        complaints.last = Some(Instant::now());
        tracing::warn!(
            proxy = %peer, field = %self.header.name(), %why, like_it_before = held_back,
            "a trusted proxy does not say from where a request came; it counts as the source itself"
        );
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
enum Unfollowed {
    #[error(transparent)]
    Unclear(#[from] Unclear),
    #[error("it names more than {MAX_HOPS} proxies in a row")]
    TooLong,
}
