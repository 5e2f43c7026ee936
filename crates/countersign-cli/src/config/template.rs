//! What `countersign init` writes.

use countersign::ServiceName;

use super::Config;

impl Config {
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
# one_of_several = false                # other nodes have the same peers and URLs
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

# [rotation]                            # of peers under cs1, in band: docs/rotation.md
# scheduled = true                      # `serve` begins what is due, and what a peer wants
# grace_seconds = 900                   # the old credential stays good; at least a ticket's life, 600
# propagation_seconds = 2               # until every process of this service knows a new credential
# give_up_seconds = 600                 # a rotation that a peer does not confirm
# status_seconds = 60                   # how often peers are asked whether they want one

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
