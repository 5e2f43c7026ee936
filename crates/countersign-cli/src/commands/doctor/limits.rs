//! Settings that allow what they should not, or will not allow what they say.

use std::net::{TcpStream, ToSocketAddrs as _};
use std::time::Duration;

use countersign::Profile;
use countersign::store::Listing;
use rustix::process::{Resource, getrlimit};

use super::finding::{Findings, path};
use crate::config::Config;
use crate::home::Home;

/// What `serve` keeps for the store, the trail, listeners and standard streams; two files for each connection.
const RESERVED: u64 = 64;

pub(super) fn check(home: &Home, config: &Config, listing: Option<&Listing>, findings: &mut Findings) {
    let before = findings.count(super::finding::Level::Warn);
    let file = path(&home.config_file());
    let wanted = config.serve.max_connections.0;
    let needed = wanted.saturating_mul(2).saturating_add(RESERVED);
    if let Some(limit) = getrlimit(Resource::Nofile).maximum
        && limit < needed
    {
        let room = limit.saturating_sub(RESERVED) / 2;
        let what = format!(
            "a process started as this one may open {limit} files: `serve` takes {room} connections, not {wanted}"
        );
        findings.warn("open-files", what, format!("LimitNOFILE={needed} in the service's unit, or `ulimit -Hn {needed}` in its shell; or max_connections = {room} under [serve] in {file}"));
    }
    if config.serve.max_connections_per_source.0 > wanted {
        let what =
            "max_connections_per_source is more than max_connections: one source can take all connections";
        findings.warn("limits", what, format!("set it lower under [serve] in {file}"));
    }
    if config.danger_plain_http {
        let what = "danger_plain_http is set: tokens, and keys under api-key, can be stolen on the way";
        findings.warn("danger", what, format!("sed -i '/^danger_plain_http/d' {file}"));
    }
    let has_api_key =
        listing.is_some_and(|listing| listing.peers.iter().any(|peer| peer.profile == Profile::ApiKey));
    if config.token.lifetime().is_none() && has_api_key {
        let what = "tokens are switched off: peers under the profile api-key reach no protected route";
        findings.warn("limits", what, format!("set enabled = true under [token] in {file}"));
    }
    if findings.count(super::finding::Level::Warn) == before {
        findings.ok("limits", format!("{wanted} connections are possible"));
    }
}

/// Whether the service behind this one is there.
pub(super) fn upstream(home: &Home, config: &Config, findings: &mut Findings) {
    let Some(upstream) = &config.serve.upstream else { return };
    let Ok(url) = countersign::client::BaseUrl::parse(&upstream.0) else { return };
    let (host, port) = (url.host(), url.port());
    let connect = || {
        let mut addresses = (host.as_str(), port).to_socket_addrs()?;
        let address = addresses.next().ok_or_else(|| std::io::Error::other("the name has no address"))?;
        TcpStream::connect_timeout(&address, Duration::from_secs(5))
    };
    match connect() {
        Ok(_) => findings.ok("upstream", format!("{url} takes connections")),
        Err(error) => {
            let what = format!("{url} cannot be reached ({error}): authenticated requests get 502");
            findings.warn(
                "upstream",
                what,
                format!("start it, or correct `upstream` in {}", path(&home.config_file())),
            );
        }
    }
}
