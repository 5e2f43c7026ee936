//! Our certificate and key, and how the servers of peers look from here.

use std::fmt::Display;
use std::net::IpAddr;
use std::time::Duration;

use countersign::Trust;
use countersign::client::{BaseUrl, certificate_dates, certificate_is_for, certificate_pin, probe};
use countersign::protocol::wire::printable;
use countersign::store::{Listing, Peer};
use countersign_gateway::{IdentityError, TlsIdentity};
use rustls::pki_types::CertificateDer;

use super::clock;
use super::finding::{Findings, has_command, path};
use crate::config::Config;
use crate::home::Home;
use crate::show;

/// A certificate should be replaced when it has less than this to live, in seconds.
const SOON: u64 = 30 * 24 * 60 * 60;
/// How long one step with one peer may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// Our own certificate.
pub(super) fn own(home: &Home, config: &Config, findings: &mut Findings) {
    let serves_tls = config.listeners().iter().any(|listener| listener.tls);
    let (certificate, key) = home.tls_files(config);
    let identity =
        TlsIdentity::load(&certificate, &key).and_then(|identity| identity.server_config().map(|_| identity));
    let identity = match identity {
        Ok(identity) => identity,
        Err(IdentityError::Mode { path: file, mode }) => {
            let what = format!("the private key {file} can be read by others (mode {mode:04o})");
            return findings.fail(
                "certificate",
                what,
                format!("chmod 600 {}", super::finding::quoted(&file)),
            );
        }
        Err(error) => {
            let what = error.to_string();
            // A service that only calls others needs none.
            if serves_tls {
                findings.fail("certificate", what, renew(home, config));
            } else {
                findings.warn("certificate", what, renew(home, config));
            }
            return;
        }
    };
    let Ok(own) = identity.certificate() else {
        return findings.fail("certificate", "there is none", renew(home, config));
    };
    let Ok((from, to)) = certificate_dates(own) else {
        return findings.fail("certificate", "it cannot be read", renew(home, config));
    };
    let now = show::now();
    let shown = certificate.display();
    if now < from {
        findings.fail(
            "certificate",
            format!("{shown} is not valid yet, or this clock is behind"),
            "timedatectl set-ntp true",
        );
    } else if to <= now {
        findings.fail(
            "certificate",
            format!("{shown} expired {} ago", show::age(to, now)),
            renew(home, config),
        );
    } else if to.since(now) < SOON {
        findings.warn(
            "certificate",
            format!("{shown} expires in {}", show::age(now, to)),
            renew(home, config),
        );
    } else {
        findings.ok("certificate", format!("{shown} is good for {}, and its key fits", show::age(now, to)));
    }
    if serves_tls {
        outside(home, config, own, &shown, findings);
    }
    for listener in config.listeners().iter().filter(|listener| listener.tls) {
        let address = listener.address.ip();
        if !address.is_unspecified() && !certificate_is_for(own, &address.to_string()) {
            let what = format!(
                "{shown} does not name {address}, on which `serve` listens: callers that use the address refuse it"
            );
            findings.warn("certificate", what, renew_with(home, config, &format!("IP:{address}")));
        }
    }
}

/// Whether callers find the names in our certificate under which they are to call.
fn outside(
    home: &Home,
    config: &Config,
    own: &CertificateDer<'_>,
    shown: &dyn Display,
    findings: &mut Findings,
) {
    if config.serve.external_urls.is_empty() {
        return;
    }
    for url in home.external(config).iter().map(|external| &external.url).filter(|url| url.is_https()) {
        let host = url.host().trim_matches(['[', ']']);
        if !certificate_is_for(own, host) {
            let what = format!(
                "{shown} does not name {host}, under which this service is reached (external_urls): callers refuse it, unless a proxy in front has a certificate of its own for it"
            );
            let kind = if host.parse::<IpAddr>().is_ok() { "IP" } else { "DNS" };
            findings.warn("certificate", what, renew_with(home, config, &format!("{kind}:{host}")));
        }
    }
}

/// The command that makes a new certificate for the same key, so that pins stay as they are.
fn renew(home: &Home, config: &Config) -> String {
    renew_with(home, config, "")
}

fn renew_with(home: &Home, config: &Config, name: &str) -> String {
    let (certificate, key) = home.tls_files(config);
    if config.tls.certificate.is_some() {
        return format!(
            "replace {} and {} by ones of their authority, and restart `serve`",
            path(&certificate),
            path(&key)
        );
    }
    if !key.exists() {
        return format!(
            "put {} back; or move tls/ and countersign.toml away and run `countersign --home {} init` again, which makes a key with another pin",
            path(&key),
            path(home.path())
        );
    }
    let mut names = "DNS:localhost,IP:127.0.0.1,IP:::1".to_owned();
    names.push_str(if name.is_empty() { "" } else { "," });
    names.push_str(name);
    format!(
        "openssl req -x509 -key {} -days 3650 -subj /CN={} -addext subjectAltName={names} -out {}   (add your host names as DNS:…; the pin stays, who trusts the certificate itself needs the new one; then restart `serve`)",
        path(&key),
        config.service,
        path(&certificate)
    )
}

/// Connects to every peer that has a URL, all at once.
pub(super) fn peers(home: &Home, listing: &Listing, findings: &mut Findings) {
    let looked: Vec<Findings> = std::thread::scope(|scope| {
        let with_url = listing.peers.iter().filter_map(|peer| Some((peer, peer.url.as_deref()?)));
        let threads: Vec<_> = with_url
            .map(|(peer, url)| {
                scope.spawn(move || {
                    let mut findings = Findings::default();
                    one(home, peer, url, &mut findings);
                    findings
                })
            })
            .collect();
        threads.into_iter().filter_map(|thread| thread.join().ok()).collect()
    });
    looked.into_iter().for_each(|found| findings.append(found));
}

fn one(home: &Home, peer: &Peer, url: &str, findings: &mut Findings) {
    let (name, shown) = (&peer.name, printable(url, 200));
    let base = match BaseUrl::parse(url) {
        Ok(base) => base,
        Err(error) => return findings.fail("peer", format!("{name}: {error}"), set(home, peer, "--url URL")),
    };
    let seen = probe(&base, &peer.trust, PATIENCE);
    let pin = seen.certificate.as_ref().and_then(|certificate| certificate_pin(certificate).ok());
    if let Err(error) = &seen.reached {
        let (what, mend) = match (&peer.trust, pin) {
            (Trust::Pin(expected), Some(pin)) if *expected != pin => (
                format!(
                    "{name}: {shown} shows another key than the pinned one ({} in place of {}): it was replaced, or somebody stands in between",
                    Trust::pin_text(&pin),
                    Trust::pin_text(expected)
                ),
                format!(
                    "ask its operator for the pin; if it is this one: {}",
                    set(home, peer, &format!("--tls-pin {}", Trust::pin_text(&pin)))
                ),
            ),
            (_, Some(pin)) => (
                format!("{name}: the certificate of {shown} is not trusted: {error}"),
                format!(
                    "give --tls-ca FILE, or, once its operator has confirmed the pin: {}",
                    set(home, peer, &format!("--tls-pin {}", Trust::pin_text(&pin)))
                ),
            ),
            _ => (format!("{name}: {error}"), format!("curl -v {}", super::finding::quoted(url))),
        };
        return findings.fail("peer", what, mend);
    }
    findings.ok("peer", format!("{name}: {shown} answers, and is trusted"));
    let dates = seen.certificate.as_ref().and_then(|certificate| certificate_dates(certificate).ok());
    if let Some((_, to)) = dates {
        let now = show::now();
        // A pin looks at no date.
        if !matches!(peer.trust, Trust::Pin(_)) && to.since(now) < SOON {
            let what = format!("{name}: the certificate of {shown} expires in {}", show::age(now, to));
            findings.warn("peer", what, "ask its operator to renew it");
        }
    }
    if let Some(date) = &seen.date {
        clock::compare(name.as_str(), date, findings);
    }
}

fn set(home: &Home, peer: &Peer, option: &str) -> String {
    let (home, name) = (path(home.path()), &peer.name);
    if has_command(&["peer", "set"]) {
        format!("countersign --home {home} peer set {name} {option}")
    } else {
        format!("countersign --home {home} peer remove {name}, and add it again with {option}")
    }
}
