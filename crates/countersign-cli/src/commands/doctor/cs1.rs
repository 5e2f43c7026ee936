//! What is agreed with peers under `cs1` beside the keys: whether it can work, and what it costs.

use countersign::Profile;
use countersign::protocol::cs1::Binding;
use countersign::store::{Listing, Peer};

use super::finding::{Findings, path};
use crate::config::{Config, SecretsFrom};
use crate::home::Home;

/// Requests are signed for the URL that callers use: a proxy in front may be called by another name than we are.
fn outside(home: &Home, config: &Config, findings: &mut Findings) {
    if config.serve.has_trusted_proxies() && config.serve.external_urls.is_empty() {
        let what = "requests under cs1 are signed for the URL that callers use, and a proxy is in front (trusted_proxies): which URLs those are is not set";
        let mend =
            format!("set `external_urls = [\"https://…\"]` under [serve] in {}", path(&home.config_file()));
        findings.warn("external-urls", what, mend);
    }
}

pub(super) fn check(home: &Home, config: Option<&Config>, listing: &Listing, findings: &mut Findings) {
    let command = format!("countersign --home {}", path(home.path()));
    let mut peers = listing.peers.iter().filter(|peer| peer.profile == Profile::Cs1).peekable();
    if let Some(config) = config.filter(|_| peers.peek().is_some()) {
        outside(home, config, findings);
    }
    for peer in peers {
        let again = |how: &str| match config.map(|config| config.secrets.from()) {
            Some(SecretsFrom::Config) => {
                format!("change its [[peer]] in {} ({how})", path(&home.config_file()))
            }
            _ => format!("{command} peer remove {}, and add it again {how}", peer.name),
        };
        if peer.cs1.danger_direct {
            let what = format!(
                "requests of {} are taken without a handshake, and so without forward secrecy (danger)",
                peer.name
            );
            findings.warn("danger", what, again("without --danger-direct"));
        }
        if peer.cs1.binding == Binding::TlsExporter {
            bound(peer, config, &again, findings);
        }
    }
}

/// What is bound to TLS needs TLS from one service to the other.
fn bound(peer: &Peer, config: Option<&Config>, again: &impl Fn(&str) -> String, findings: &mut Findings) {
    let name = &peer.name;
    if peer.url.as_deref().is_some_and(|url| url.starts_with("http://")) {
        let what =
            format!("{name} is bound to TLS (tls-exporter), and its URL is http://: no call can succeed");
        findings.fail("binding", what, again("with an https:// URL, or, on both sides, with --binding none"));
    }
    let listeners = config.map(Config::listeners).unwrap_or_default();
    if !listeners.is_empty() && listeners.iter().all(|listener| !listener.tls) {
        let what = format!(
            "{name} is bound to TLS (tls-exporter), and `serve` listens on plain HTTP only: {name} cannot call this service"
        );
        let how = "on both sides with --binding none; or have `serve` listen on https:// without a proxy in between";
        findings.warn("binding", what, again(how));
    }
}
