use std::fmt;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::str::FromStr;

/// Where to listen: `https://ADDRESS:PORT`, or `http://ADDRESS:PORT` on loopback. Port 0 takes a free one.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ListenUrl {
    /// Whether TLS is spoken.
    pub tls: bool,
    /// Address and port.
    pub address: SocketAddr,
}

/// Why a listener cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ListenError {
    /// Not a listener's form.
    #[error(
        "a listener is `https://ADDRESS:PORT`, or `http://ADDRESS:PORT` on loopback (an IP address or `localhost`)"
    )]
    Form,
    /// Plain HTTP beyond loopback.
    #[error(
        "{0} is plain HTTP that other machines can reach: what is on it could be read and changed. Use https:// or a loopback address (or set danger_plain_http)"
    )]
    PlainHttp(SocketAddr),
}

impl ListenUrl {
    /// Refuses plain HTTP beyond loopback.
    ///
    /// # Errors
    /// [`ListenError::PlainHttp`].
    pub fn check(&self, danger_plain_http: bool) -> Result<(), ListenError> {
        if self.tls || self.address.ip().is_loopback() || danger_plain_http {
            Ok(())
        } else {
            Err(ListenError::PlainHttp(self.address))
        }
    }
}

impl FromStr for ListenUrl {
    type Err = ListenError;

    fn from_str(text: &str) -> Result<Self, ListenError> {
        let text = text.strip_suffix('/').unwrap_or(text);
        let (tls, rest) = match text.split_once("://") {
            Some(("https", rest)) => (true, rest),
            Some(("http", rest)) => (false, rest),
            _ => return Err(ListenError::Form),
        };
        let address = match rest.strip_prefix("localhost:") {
            Some(port) => {
                let port = port.parse().map_err(|_| ListenError::Form)?;
                SocketAddr::new(IpAddr::V4(Ipv4Addr::LOCALHOST), port)
            }
            None => rest.parse().map_err(|_| ListenError::Form)?,
        };
        Ok(Self { tls, address })
    }
}

impl fmt::Display for ListenUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let scheme = if self.tls { "https" } else { "http" };
        write!(f, "{scheme}://{}", self.address)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn listeners_are_read_and_written() {
        for text in ["https://0.0.0.0:8443", "http://127.0.0.1:0", "https://[::]:443", "http://[::1]:80"] {
            assert_eq!(text.parse::<ListenUrl>().unwrap().to_string(), text);
        }
        assert_eq!("http://localhost:80".parse::<ListenUrl>().unwrap().to_string(), "http://127.0.0.1:80");
        for wrong in ["", "127.0.0.1:80", "ftp://127.0.0.1:80", "http://127.0.0.1", "http://example.org:80"] {
            assert_eq!(wrong.parse::<ListenUrl>(), Err(ListenError::Form), "{wrong}");
        }
    }

    #[test]
    fn plain_http_stays_on_loopback_unless_danger_is_asked_for() {
        let open: ListenUrl = "http://0.0.0.0:80".parse().unwrap();
        assert!(open.check(false).is_err());
        assert!(open.check(true).is_ok());
        assert!("https://0.0.0.0:80".parse::<ListenUrl>().unwrap().check(false).is_ok());
    }
}
