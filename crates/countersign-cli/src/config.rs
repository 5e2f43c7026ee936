//! `countersign.toml`. Every value is checked while it is read, so that an error points at its line.

#[path = "config/audit.rs"]
mod audit;
#[path = "config/fault.rs"]
mod fault;
#[path = "config/lifetimes.rs"]
mod lifetimes;
#[path = "config/limits.rs"]
mod limits;
#[path = "config/peers.rs"]
mod peers;
#[path = "config/rotation.rs"]
mod rotation;
#[path = "config/secrets.rs"]
mod secrets;
#[path = "config/serve.rs"]
mod serve;
#[path = "config/template.rs"]
mod template;
#[path = "config/timeouts.rs"]
mod timeouts;
#[path = "config/vault.rs"]
pub(crate) mod vault;

use std::collections::BTreeSet;
use std::path::PathBuf;

use countersign::ServiceName;
use countersign_gateway::ListenUrl;
use serde::{Deserialize, Deserializer, de};

use fault::{ConfigError, Fault, at_line, from_parser};
use lifetimes::{Challenge, Token};
use limits::LimitsConfig;
use peers::PeerTable;
pub(crate) use secrets::{From as SecretsFrom, Secrets};
use serve::Serve;
use timeouts::TimeoutsConfig;

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
    pub(crate) rotation: rotation::Rotation,
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

#[derive(Debug, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Tls {
    pub(crate) certificate: Option<PathBuf>,
    pub(crate) key: Option<PathBuf>,
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

impl Config {
    pub(crate) fn parse(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(|error| from_parser(text, &error))?;
        config.check(text)?;
        Ok(config)
    }

    /// What cannot be told while a value is read: what one allows another.
    fn check(&self, text: &str) -> Result<(), ConfigError> {
        self.serve.check(text, self.danger_plain_http)?;
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

    /// The public listeners; that each can be read was checked with the file.
    pub(crate) fn listeners(&self) -> Vec<ListenUrl> {
        self.serve.listen.iter().filter_map(|listen| listen.as_ref().parse().ok()).collect()
    }
}

#[cfg(test)]
mod tests {
    use countersign::protocol::shared_secret::Lifetime;
    use countersign::server::Limits;

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
