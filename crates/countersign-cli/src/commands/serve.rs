use std::sync::Arc;
use std::time::Duration;

use countersign::Profile;
use countersign::audit::{AuditSink, WhenFull};
use countersign::rotation::Scheduler;
use countersign::server::Authenticator;
use countersign::store::PairingStore;
use countersign_gateway::{Gateway, Metrics, Settings, TlsIdentity, Upstream};
use tokio::signal::unix::{SignalKind, signal};

use super::doctor::behind;
use super::peer::trust_in_file;
use crate::args::ServeArgs;
use crate::config::Config;
use crate::config::vault::{OPERATOR_TOKEN, has_operator_token};
use crate::failure::Failure;
use crate::home::{Home, Stores};
use crate::show;
use crate::state::State;

pub(crate) fn run(home: &Home, args: ServeArgs) -> Result<(), Failure> {
    let config = home.config()?;
    if config.secrets.vault.is_some() && has_operator_token() {
        return Err(Failure::new(format!(
            "{OPERATOR_TOKEN} is set: a service that ran with an operator's token could do what he may, and what Vault refuses it would not be what whoever manages Vault has taken back. Unset it for `serve`, which logs in as [secrets.vault] says"
        )));
    }
    log();
    let settings = settings(home, &config, args)?;
    let Stores { peers: store, local } = home.service_stores()?;
    let listing = store.read_all()?;
    for what in behind(home, Some(&listing)) {
        tracing::error!(
            "{what}: what has not ended by this clock is accepted (docs/troubleshooting.md, \"A wrong clock\")"
        );
    }
    if config.token.lifetime().is_none() && listing.peers.iter().any(|peer| peer.profile == Profile::ApiKey) {
        tracing::warn!("tokens are switched off: peers under the profile api-key reach no protected route");
    }
    let metrics = Metrics::new();
    let counted = metrics.clone();
    let trail = home.trail_with(&local, "serve", trail_settings(&config, &metrics))?;
    let scheduler = Scheduler::new(Arc::clone(&store), config.rotation.settings())
        .begins(config.rotation.scheduled)
        .audit(Arc::clone(&trail) as Arc<dyn AuditSink>);
    let builder = match State::open(home, Arc::clone(&local))? {
        Some(state) => Authenticator::builder(config.service.clone(), store).state(Arc::new(state)),
        None => {
            tracing::warn!(
                "another `serve` runs on this data directory: sessions of this one end with it, and it takes requests without a handshake only with a nonce of its own"
            );
            Authenticator::builder(config.service.clone(), store)
        }
    };
    let authenticator = builder
        .pairing(Arc::clone(&local) as Arc<dyn PairingStore>)
        .audit(trail)
        .one_of_several(config.serve.one_of_several.unwrap_or(config.secrets.vault.is_some()))
        .rotation(config.rotation.settings())
        .challenge_lifetime(config.challenge.lifetime())
        .token_lifetime(config.token.lifetime())
        .limits(config.limits.limits())
        .trusted_proxies(config.serve.trusted_proxies())
        .counter(move |outcome, reason| counted.attempt(outcome, reason))
        .build()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(async {
        let mut terminate = signal(SignalKind::terminate())?;
        let mut interrupt = signal(SignalKind::interrupt())?;
        let gateway = Gateway::bind(authenticator, metrics, settings).await?;
        for url in gateway.listening() {
            show::out(&format!("listening on {url}\n"))?;
        }
        let stopped = async {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
            tracing::info!("stopping: running requests may end");
        };
        let rotating = tokio::spawn(scheduler.run());
        let served = gateway.run(stopped).await;
        // It can be cut off at any point: what it has agreed on is in the store.
        rotating.abort();
        if served? {
            Ok(())
        } else {
            Err(Failure::new("stopped; some requests had not ended in time and were cut off"))
        }
    })
}

/// How the trail is kept; what weakens it is said.
fn trail_settings(config: &Config, metrics: &Metrics) -> countersign::audit::Settings {
    let mut settings = config.audit.settings(true);
    if settings.danger_no_sync {
        tracing::warn!("danger_no_sync: attempts are answered before their records are on the disk");
    }
    if settings.when_full == WhenFull::DangerContinue {
        tracing::warn!("when_full is danger-continue: on a full disk attempts go on without a record");
    }
    let dropped = metrics.clone();
    settings.on_dropped = Some(Arc::new(move |count| dropped.dropped_records(count)));
    settings
}

fn settings(home: &Home, config: &Config, args: ServeArgs) -> Result<Settings, Failure> {
    let listeners = if args.listen.is_empty() { config.listeners() } else { args.listen };
    if listeners.is_empty() {
        return Err(Failure::usage("where to listen? --listen URL, or `listen` in countersign.toml"));
    }
    let mut settings = Settings::new(listeners);
    settings.admin = args.admin.or(config.serve.admin.as_ref().map(|address| *address.as_ref()));
    settings.danger_plain_http = config.danger_plain_http;
    settings.external_urls = config.serve.external_urls.iter().map(|url| url.0.clone()).collect();
    settings.max_connections = usize::try_from(config.serve.max_connections.0)?;
    settings.max_connections_per_source = usize::try_from(config.serve.max_connections_per_source.0)?;
    settings.timeouts = config.timeouts.timeouts();
    if settings.listeners.iter().any(|listener| listener.tls) {
        let (certificate, key) = home.tls_files(config);
        settings.tls = Some(TlsIdentity::load(&certificate, &key)?);
    }
    if let Some(url) = args.upstream.or_else(|| config.serve.upstream.clone().map(|url| url.0)) {
        let authority = config.serve.upstream_ca.as_ref().map(|path| home.path().join(path));
        let trust = trust_in_file(authority.as_deref())?;
        let timeout = Duration::from_secs(config.serve.upstream_timeout_seconds.0);
        settings.upstream = Some(Upstream::new(&url, &trust, timeout, settings.timeouts.body)?);
    }
    Ok(settings)
}

/// The log goes to standard error; `RUST_LOG` chooses more or less of it.
fn log() {
    let filter = tracing_subscriber::EnvFilter::try_from_default_env()
        .unwrap_or_else(|_| tracing_subscriber::EnvFilter::new("info"));
    let _ = tracing_subscriber::fmt()
        .with_env_filter(filter)
        // It would be told on standard error, and with a panic: a log on a full disk must not end a request.
        .log_internal_errors(false)
        .with_writer(std::io::stderr)
        .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
        .try_init();
}
