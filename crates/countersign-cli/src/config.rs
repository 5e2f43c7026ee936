//! `countersign.toml`. Every value is checked while it is read, so that an error points at its line.

#[path = "config/audit.rs"]
mod audit;
#[path = "config/peers.rs"]
mod peers;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/vault.rs"]
pub(crate) mod vault;

use std::collections::BTreeSet;
use std::fmt;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use countersign::ServiceName;
use countersign::client::BaseUrl;
use countersign::protocol::shared_secret::Lifetime;
use countersign::server::{ExternalUrl, Limits, Network, ProxyHeader, TrustedProxies};
use countersign::store::Quota;
use countersign_gateway::{ListenError, ListenUrl, Timeouts};
use serde::{Deserialize, Deserializer, de};
use toml::Spanned;

use peers::PeerTable;
pub(crate) use secrets::{From as SecretsFrom, Secrets};

/// The whole file.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Config {
    pub(crate) service: ServiceName,
    #[serde(default)]
    pub(crate) serve: Serve,
    #[serde(default)]
    pub(crate) tls: Tls,
    #[serde(default)]
    pub(crate) challenge: Challenge,
    #[serde(default)]
    pub(crate) token: Token,
    #[serde(default)]
    pub(crate) limits: LimitsConfig,
    #[serde(default)]
    pub(crate) timeouts: TimeoutsConfig,
    #[serde(default)]
    pub(crate) secrets: Secrets,
    #[serde(default)]
    pub(crate) audit: audit::Audit,
    #[serde(default, rename = "peer")]
    pub(crate) peers: Vec<PeerTable>,
    /// Plain HTTP on addresses that other machines reach.
    #[serde(default)]
    pub(crate) danger_plain_http: bool,
}

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
            proxy_header: None,
        }
    }
}

impl Serve {
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Challenge {
    pub(crate) lifetime_seconds: Bounded<5, 120>,
}

impl Default for Challenge {
    fn default() -> Self {
        Self { lifetime_seconds: Bounded(30) }
    }
}

impl Challenge {
    pub(crate) fn lifetime(&self) -> Lifetime {
        Lifetime::seconds(self.lifetime_seconds.0).unwrap_or_default()
    }
}

#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Token {
    pub(crate) enabled: bool,
    pub(crate) lifetime_seconds: Bounded<1, 300>,
}

impl Default for Token {
    fn default() -> Self {
        Self { enabled: true, lifetime_seconds: Bounded(300) }
    }
}

impl Token {
    pub(crate) fn lifetime(&self) -> Option<u64> {
        self.enabled.then_some(self.lifetime_seconds.0)
    }
}

/// `{ per_minute = 60, burst = 60 }`
#[derive(Clone, Copy, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Rate {
    per_minute: Bounded<1, 60_000>,
    burst: Bounded<1, 1_000_000>,
}

impl Rate {
    fn quota(self) -> Quota {
        let small = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
        Quota::per_minute(small(self.per_minute.0), small(self.burst.0))
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct LimitsConfig {
    requests_per_source: Option<Rate>,
    requests_per_key: Option<Rate>,
    refused_per_source: Option<Rate>,
    failures_per_source: Option<Rate>,
    failures_per_key: Option<Rate>,
    capacity: Option<Bounded<4_096, 16_777_216>>,
}

impl LimitsConfig {
    pub(crate) fn limits(&self) -> Limits {
        let mut limits = Limits::default();
        if let Some(capacity) = self.capacity {
            limits.capacity = usize::try_from(capacity.0).unwrap_or(limits.capacity);
        }
        for (given, limit) in [
            (self.requests_per_source, &mut limits.per_source),
            (self.requests_per_key, &mut limits.per_key),
            (self.refused_per_source, &mut limits.refused_per_source),
            (self.failures_per_source, &mut limits.failures_per_source),
            (self.failures_per_key, &mut limits.failures_per_key),
        ] {
            if let Some(rate) = given {
                *limit = rate.quota();
            }
        }
        limits
    }
}

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct TimeoutsConfig {
    tls_handshake_seconds: Option<Bounded<1, 300>>,
    head_seconds: Option<Bounded<1, 300>>,
    body_seconds: Option<Bounded<1, 3600>>,
    write_seconds: Option<Bounded<1, 3600>>,
    drain_seconds: Option<Bounded<1, 3600>>,
}

impl TimeoutsConfig {
    pub(crate) fn timeouts(&self) -> Timeouts {
        let mut timeouts = Timeouts::default();
        for (given, timeout) in [
            (self.tls_handshake_seconds.map(|seconds| seconds.0), &mut timeouts.tls_handshake),
            (self.head_seconds.map(|seconds| seconds.0), &mut timeouts.head),
            (self.body_seconds.map(|seconds| seconds.0), &mut timeouts.body),
            (self.write_seconds.map(|seconds| seconds.0), &mut timeouts.write),
            (self.drain_seconds.map(|seconds| seconds.0), &mut timeouts.drain),
        ] {
            if let Some(seconds) = given {
                *timeout = Duration::from_secs(seconds);
            }
        }
        timeouts
    }
}

/// A whole number from `MIN` to `MAX`.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Bounded<const MIN: u64, const MAX: u64>(pub(crate) u64);

impl<'de, const MIN: u64, const MAX: u64> Deserialize<'de> for Bounded<MIN, MAX> {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        let number = i64::deserialize(from)?;
        let allowed = u64::try_from(number).ok().filter(|number| (MIN..=MAX).contains(number));
        allowed.map(Self).ok_or_else(|| de::Error::custom(format!("{number} is not between {MIN} and {MAX}")))
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

/// What is wrong in the file, and where.
#[derive(Debug)]
pub(crate) struct ConfigError(String);

impl fmt::Display for ConfigError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl std::error::Error for ConfigError {}

/// What is wrong with a value that may be a secret in the wrong place: the line is told, not shown.
#[derive(Debug)]
pub(crate) struct Fault {
    /// Bytes from the beginning of the file.
    start: usize,
    message: String,
}

impl Fault {
    fn at<T>(value: &Spanned<T>, error: impl fmt::Display) -> Self {
        Self { start: value.span().start, message: error.to_string() }
    }

    fn in_text(&self, text: &str) -> ConfigError {
        let (line, shown) = line_of(text, self.start);
        let setting = shown.split_once('=').map_or("", |(setting, _)| setting.trim());
        ConfigError(format!("line {line}, `{setting}`: {}", self.message))
    }
}

/// The number of the line with this byte, from 1, and the line.
fn line_of(text: &str, start: usize) -> (usize, &str) {
    let line = text.get(..start).unwrap_or_default().matches('\n').count();
    (line + 1, text.lines().nth(line).unwrap_or_default())
}

/// An error with the line that it is about.
fn at_line(text: &str, start: usize, error: &dyn fmt::Display) -> ConfigError {
    let (line, shown) = line_of(text, start);
    ConfigError(format!("line {line}: {error}\n  |\n{line} | {shown}\n  |"))
}

/// What the parser says, with the line that it is about, unless somebody may have written a secret there.
fn from_parser(text: &str, error: &toml::de::Error) -> ConfigError {
    let start = error.span().map(|span| span.start);
    let before = start.and_then(|start| text.get(..start)).unwrap_or_default();
    let section = before.lines().map(str::trim_start).rfind(|line| line.starts_with('[')).unwrap_or_default();
    match start.map(|start| line_of(text, start)) {
        Some((line, shown)) if section.starts_with("[[peer]]") || is_secret(section, shown) => ConfigError(
            format!("line {line}: {} (the line is not shown: a secret may be in it)", error.message()),
        ),
        _ => ConfigError(error.to_string()),
    }
}

/// Whether a login to Vault may stand in this line.
fn is_secret(section: &str, line: &str) -> bool {
    section.starts_with("[secrets") || line.trim_start().starts_with("secrets")
}

impl Config {
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| from_parser(text, &error))?;
        config.check(text)?;
        Ok(config)
    }

    /// What cannot be told while a value is read: in which element of a list the fault is, and what one value
    /// allows another.
    fn check(&self, text: &str) -> Result<(), ConfigError> {
        for listen in &self.serve.listen {
            let listener = listen.as_ref().parse();
            self.check_listener(listener).map_err(|error| at_line(text, listen.span().start, &error))?;
        }
        if let Some(admin) = &self.serve.admin {
            let listener = Ok(ListenUrl { tls: false, address: *admin.as_ref() });
            self.check_listener(listener).map_err(|error| at_line(text, admin.span().start, &error))?;
        }
        for proxy in &self.serve.trusted_proxies {
            let network: Result<Network, _> = proxy.as_ref().parse();
            network.map_err(|error| at_line(text, proxy.span().start, &error))?;
        }
        match &self.serve.proxy_header {
            Some(name) if self.serve.trusted_proxies.is_empty() => {
                let error = "this field is read from trusted proxies only: name them in `trusted_proxies`";
                return Err(at_line(text, name.span().start, &error));
            }
            _ => {}
        }
        self.audit.check(text)?;
        self.secrets.check().and_then(|()| self.check_peers()).map_err(|fault| fault.in_text(text))
    }

    fn check_peers(&self) -> Result<(), Fault> {
        let mut names = BTreeSet::new();
        for peer in &self.peers {
            let wrong = |message: String| Fault { start: peer.start(), message };
            if self.secrets.from() != SecretsFrom::Config {
                let unused = "peers are declared here only under `[secrets]` with `from = \"config\"`";
                return Err(wrong(unused.to_owned()));
            }
            if *peer.name() == self.service {
                return Err(wrong(format!("`{}` is this service itself", self.service)));
            }
            if !names.insert(peer.name()) {
                return Err(wrong(format!("`{}` is declared twice", peer.name())));
            }
            peer.check()?;
        }
        Ok(())
    }

    fn check_listener(&self, listener: Result<ListenUrl, ListenError>) -> Result<(), ListenError> {
        listener?.check(self.danger_plain_http)
    }

    /// The public listeners; that each can be read was checked with the file.
    pub(crate) fn listeners(&self) -> Vec<ListenUrl> {
        self.serve.listen.iter().filter_map(|listen| listen.as_ref().parse().ok()).collect()
    }

    /// What `countersign init` writes.
    pub(crate) fn template(service: &ServiceName) -> String {
        format!(
            r#"# Countersign. Everything but `service` has a default; docs/configuration.md explains each setting.
# Secrets are never in this file: peers are in store.sqlite, sealed under the master key.

service = "{service}"

[serve]
listen = ["https://127.0.0.1:8443"]
# upstream = "http://127.0.0.1:8080"    # where authenticated requests go
# admin = "127.0.0.1:9443"              # /healthz, /readyz, /metrics
# trusted_proxies = ["10.0.0.7"]        # balancers that end connections before they get here
# proxy_header = "x-forwarded-for"      # or "forwarded": where these say for whom they speak

# [tls]                                 # instead of the generated tls/certificate.pem and tls/key.pem
# certificate = "/etc/ssl/orders.pem"
# key = "/etc/ssl/private/orders.key"

# [secrets]                             # where peers and their secrets are: docs/secrets.md
# from = "store"                        # "config": [[peer]] tables here, secrets in files or the environment
#                                       # "vault": Vault or OpenBao, under [secrets.vault]

# [challenge]
# lifetime_seconds = 30                 # 5 to 120

# [token]
# enabled = true
# lifetime_seconds = 300                # at most 300

# [limits]                              # a burst, and then so many a minute
# requests_per_source = {{ per_minute = 30000, burst = 1000 }}
# requests_per_key    = {{ per_minute = 15000, burst = 500 }}
# refused_per_source  = {{ per_minute = 6000, burst = 400 }}
# failures_per_source = {{ per_minute = 60, burst = 60 }}
# failures_per_key    = {{ per_minute = 20, burst = 20 }}
# capacity = 262144                     # sources that are told apart; six tables of 16 bytes each

# [audit]                               # the trail of every attempt: docs/audit.md
# rotate_mib = 64                       # a fuller file is put aside
# keep_days = 90
# keep_mib = 4096                       # a writer's oldest files go when there is more
# reserve_mib = 16                      # room on the disk that is kept for the trail
# when_full = "refuse"                  # "danger-continue": attempts go on without a record
"#
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn error(text: &str) -> String {
        Config::parse(text).unwrap_err().to_string()
    }

    #[test]
    fn what_init_writes_is_a_valid_config_with_and_without_its_comments() {
        let text = Config::template(&"orders".parse().unwrap());
        assert_eq!(Config::parse(&text).unwrap().service.as_str(), "orders");
        let uncommented: String = text
            .lines()
            .filter(|line| !line.starts_with("# Countersign") && !line.starts_with("# Secrets"))
            .map(|line| format!("{}\n", line.strip_prefix("# ").unwrap_or(line)))
            .collect();
        let config = Config::parse(&uncommented).unwrap();
        assert_eq!(config.challenge.lifetime(), Lifetime::default());
        assert_eq!(format!("{:?}", config.limits.limits()), format!("{:?}", Limits::default()));
        let unset = Config::parse("service = \"orders\"").unwrap();
        for serves in [true, false] {
            let (set, unset) = (config.audit.settings(serves), unset.audit.settings(serves));
            assert_eq!(format!("{set:?}"), format!("{unset:?}"));
        }
    }

    #[test]
    fn errors_point_at_their_line() {
        let wrong = error("service = \"orders\"\n\n[challenge]\nlifetime_seconds = 3\n");
        assert!(wrong.contains("line 4") && wrong.contains("3 is not between 5 and 120"), "{wrong}");
        let wrong = error("service = \"Orders\"\n");
        assert!(wrong.contains("line 1") && wrong.contains("character 1"), "{wrong}");
        let wrong = error("service = \"orders\"\n[serve]\nlisen = []\n");
        assert!(wrong.contains("line 3") && wrong.contains("lisen"), "{wrong}");
        let wrong = error("service = \"orders\"\n[serve]\nlisten = [\"127.0.0.1\"]\n");
        assert!(wrong.contains("line 3") && wrong.contains("https://ADDRESS:PORT"), "{wrong}");
        let wrong =
            error("service = \"orders\"\n[serve]\nlisten = [\n\"https://127.0.0.1:1\",\n\"nowhere\",\n]\n");
        assert!(wrong.contains("line 5") && wrong.contains("nowhere"), "{wrong}");
        for line in ["upstream = \"notaurl\"", "upstream = \"http://example.com\"", "admin = \"0.0.0.0:9\""] {
            let wrong = error(&format!("service = \"orders\"\n[serve]\n{line}\n"));
            assert!(wrong.contains("line 3") && wrong.contains(line), "{wrong}");
        }
        let open = "service = \"orders\"\n[serve]\nlisten = [\n\"http://0.0.0.0:0\"]\n";
        let wrong = error(open);
        assert!(wrong.contains("line 4") && wrong.contains("danger_plain_http"), "{wrong}");
        assert!(Config::parse(&format!("danger_plain_http = true\n{open}")).is_ok());
        let proxies = |lines: &str| error(&format!("service = \"orders\"\n[serve]\n{lines}\n"));
        for (lines, line, said) in [
            ("trusted_proxies = [\"10.0.0.0/8\",\n\"nowhere\"]", "line 4", "ADDRESS/PREFIX"),
            ("trusted_proxies = [\"10.1.2.3/8\"]", "line 3", "`10.0.0.0/8`"),
            ("trusted_proxies = [\"0.0.0.0/0\"]", "line 3", "everybody"),
            ("trusted_proxies = [\"::1\"]\nproxy_header = \"x-real-ip\"", "line 4", "`forwarded`"),
            ("proxy_header = \"forwarded\"", "line 3", "`trusted_proxies`"),
        ] {
            let wrong = proxies(lines);
            assert!(wrong.contains(line) && wrong.contains(said), "{wrong}");
        }
        let wrong = error("service = \"orders\"\n[audit]\nrotate_mib = 64\nkeep_mib = 127\n");
        assert!(wrong.contains("line 4") && wrong.contains("two files of 64 MiB"), "{wrong}");
        let wrong = error("service = \"orders\"\n[audit]\nwhen_full = \"continue\"\n");
        assert!(wrong.contains("line 3") && wrong.contains("danger-continue"), "{wrong}");
        let wrong = error("service = \"orders\"\n[limits]\ncapacity = 1\n");
        assert!(wrong.contains("line 3") && wrong.contains("not between 4096 and"), "{wrong}");
        for (peer, line, said) in [
            ("name = \"orders\"", 4, "this service itself"),
            ("name = \"billing\"", 4, "`our_key` and `their_key`"),
            ("name = \"billing\"\nour_key = \"csk_shortshortshort\"\nsecret = \"css_0123\"", 4, "needs"),
            ("name = \"billing\"\nour_secret = css_0123", 5, "not shown"),
            ("name = \"billing\"\nsecrt = \"css_0123\"", 5, "secrt"),
            ("name = \"billing\"\nurl = \"http://example.com\"", 5, "`url`"),
            ("name = \"billing\"\ntls_pin = \"sha256/x\"", 5, "a pin is"),
            (
                "name = \"billing\"\nour_key = \"csk_0123456789012345\"\ntheir_key = \"env:A\"\nsecret = \"css_0123\"",
                7,
                "generate another one",
            ),
        ] {
            let wrong = error(&format!(
                "service = \"orders\"\nsecrets = {{ from = \"config\" }}\n[[peer]]\n{peer}\nprofile = \"shared-secret\"\n"
            ));
            assert!(wrong.contains(&format!("line {line}")) && wrong.contains(said), "{wrong}");
            assert!(!wrong.contains("css_0123"), "{wrong}");
        }
        for (vault, line, said) in [
            ("from = \"vault\"", 3, "[secrets.vault]"),
            ("[secrets.vault]\ntoken = \"env:A\"", 3, "address"),
            ("[secrets.vault]\naddress = \"http://vault.example:8200\"", 4, "danger_plain_http"),
            ("[secrets.vault]\naddress = \"http://127.0.0.1\"\nca = \"ca.pem\"", 5, "which has none"),
            ("[secrets.vault]\naddress = \"http://127.0.0.1\"\npin = \"sha256/x\"", 5, "which has none"),
            (
                "[secrets.vault]\naddress = \"https://vault\"\ndanger_plain_http = true",
                4,
                "is for an address with http://",
            ),
            ("[secrets.vault]\naddress = \"https://u:hvs_0123@vault\"", 4, "without path, user"),
            ("[secrets.vault]\naddress = \"https://vault\"", 4, "how does this service log in"),
            ("[secrets.vault]\naddress = \"https://vault\"\ntoken = \"hvs_0123\"", 5, "generate another one"),
            ("[secrets.vault]\naddress = \"https://vault\"\ntoken = hvs_0123", 5, "not shown"),
            ("[secrets.vault]\naddress = \"https://vault\"\ntokn = \"hvs_0123\"", 5, "tokn"),
            ("[secrets.vault]\naddress = \"https://vault\"\nmount = \"a b\"", 5, "segments"),
            (
                "[secrets.vault]\naddress = \"https://vault\"\nmax_stale_seconds = 2592001",
                5,
                "not between 0 and",
            ),
        ] {
            let wrong = error(&format!(
                "service = \"orders\"\n{}{vault}\n",
                if line == 3 && vault.starts_with("from") { "[secrets]\n" } else { "\n" }
            ));
            assert!(wrong.contains(&format!("line {line}")) && wrong.contains(said), "{wrong}");
            assert!(!wrong.contains("hvs_0123"), "{wrong}");
        }
        let unused = error("service = \"orders\"\n[[peer]]\nname = \"billing\"\nprofile = \"api-key\"\n");
        assert!(unused.contains("line 3") && unused.contains("[secrets]"), "{unused}");
        assert!(error("service = \n").contains("line 1"));
        assert!(error("").contains("service"));
    }
}
