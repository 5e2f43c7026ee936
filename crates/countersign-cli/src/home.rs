//! The data directory.

use std::fs::{DirBuilder, File, TryLockError};
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use countersign::audit::{Settings, Trail};
use countersign::client::certificate_names;
use countersign::store::declared::DeclaredStore;
use countersign::store::file;
use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::store::vault::{Connection, Transit, VaultStore};
use countersign::store::{Ending, StoreError, Which};
use countersign::{PeerStore, ServiceName, open_trail};
use countersign_gateway::TlsIdentity;

use crate::config::vault::VaultTable;
use crate::config::{Config, SecretsFrom};
use crate::external::External;
use crate::failure::{Context as _, Failure};
use crate::show;

/// Where this service keeps everything.
#[derive(Debug)]
pub(crate) struct Home(PathBuf);

/// What a command works on.
pub(crate) struct Stores {
    /// The peers.
    pub(crate) peers: Arc<dyn PeerStore>,
    /// `store.sqlite`, where the ends of the trail are in any case.
    pub(crate) local: Arc<SqliteStore>,
}

impl Stores {
    /// Ends credentials. A place that cannot be told of it does not keep them in: then they have ended on this node, and
    /// [`Ended::untold`] says what is left to do.
    pub(crate) fn end(&self, name: &ServiceName, which: Which, how: Ending) -> Result<Ended, Failure> {
        match self.peers.end(name, which, how, show::now()) {
            Err(StoreError::EndedHere { peer, numbers, why }) => {
                let untold = StoreError::EndedHere { peer, numbers: numbers.clone(), why };
                Ok(Ended { numbers, untold: Err(untold.into()) })
            }
            numbers => Ok(Ended { numbers: numbers?, untold: Ok(()) }),
        }
    }
}

/// Credentials that have ended.
pub(crate) struct Ended {
    pub(crate) numbers: Vec<u32>,
    /// Whether the place where the peers are kept knows.
    pub(crate) untold: Result<(), Failure>,
}

impl Home {
    /// `--home`, `COUNTERSIGN_HOME`, or the XDG data directory.
    pub(crate) fn locate(given: Option<PathBuf>) -> Result<Self, Failure> {
        // An empty variable counts as none.
        let found = given.filter(|path| !path.as_os_str().is_empty()).or_else(|| {
            let data = std::env::var_os("XDG_DATA_HOME").map(PathBuf::from).filter(|path| path.is_absolute());
            let fallback = || Some(PathBuf::from(std::env::var_os("HOME")?).join(".local/share"));
            Some(data.or_else(fallback)?.join("countersign"))
        });
        found.map(Self).ok_or_else(|| {
            Failure::usage("where is the data directory? Give --home DIR, or set COUNTERSIGN_HOME or HOME")
        })
    }

    /// A directory that is known.
    pub(crate) fn at(path: PathBuf) -> Self {
        Self(path)
    }

    pub(crate) fn path(&self) -> &Path {
        &self.0
    }

    pub(crate) fn config_file(&self) -> PathBuf {
        self.0.join("countersign.toml")
    }

    pub(crate) fn store_file(&self) -> PathBuf {
        self.0.join("store.sqlite")
    }

    pub(crate) fn audit_directory(&self) -> PathBuf {
        self.0.join("audit")
    }

    /// Where keys for other sides are until they have been handed over.
    pub(crate) fn exchange_directory(&self) -> PathBuf {
        self.0.join("exchange")
    }

    /// Makes it, for its owner alone.
    pub(crate) fn make_exchange_directory(&self) -> Result<PathBuf, Failure> {
        let path = self.exchange_directory();
        DirBuilder::new().recursive(true).mode(0o700).create(&path).context(|| path.display().to_string())?;
        let mode = path.metadata().context(|| path.display().to_string())?.mode();
        if mode & 0o077 != 0 {
            return Err(Failure::new(format!("others can reach {0}: `chmod 700 {0}` first", path.display())));
        }
        Ok(path)
    }

    /// Keeps other commands of this kind waiting until it is dropped: those that look at a peer's credentials and then
    /// change them.
    pub(crate) fn lock(&self) -> Result<File, Failure> {
        let directory = File::open(&self.0).context(|| self.0.display().to_string())?;
        directory.lock().context(|| format!("{} cannot be locked", self.0.display()))?;
        Ok(directory)
    }

    pub(crate) fn certificate_file(&self) -> PathBuf {
        self.0.join("tls/certificate.pem")
    }

    pub(crate) fn tls_key_file(&self) -> PathBuf {
        self.0.join("tls/key.pem")
    }

    /// Certificate and key of `serve`; relative paths in the config are below the data directory.
    pub(crate) fn tls_files(&self, config: &Config) -> (PathBuf, PathBuf) {
        let inside = |path: &PathBuf| self.0.join(path);
        (
            config.tls.certificate.as_ref().map_or_else(|| self.certificate_file(), inside),
            config.tls.key.as_ref().map_or_else(|| self.tls_key_file(), inside),
        )
    }

    /// Under which URLs this service is reached: those of `external_urls`, or else the names in the certificate.
    pub(crate) fn external(&self, config: &Config) -> Vec<External> {
        let configured = &config.serve.external_urls;
        if !configured.is_empty() {
            let exactly = |url| External { url, any_port: false };
            return configured.iter().map(|url| exactly(url.0.clone())).collect();
        }
        let (certificate, key) = self.tls_files(config);
        let identity = TlsIdentity::load(&certificate, &key).ok();
        let own = identity.as_ref().and_then(|identity| identity.certificate().ok());
        let certified = own.and_then(|own| certificate_names(own).ok()).unwrap_or_default();
        let local = ["localhost", "127.0.0.1", "::1"].map(str::to_owned);
        let mut all = Vec::new();
        for listener in config.listeners() {
            let (scheme, names) = if listener.tls { ("https", &*certified) } else { ("http", &local[..]) };
            for name in names {
                let host = if name.contains(':') { format!("[{name}]") } else { name.clone() };
                let url = format!("{scheme}://{host}:{}", listener.address.port());
                // A name in a certificate that is none in a URL is nobody's.
                all.extend(url.parse().map(|url| External { url, any_port: true }));
            }
        }
        all
    }

    pub(crate) fn master_key_file(&self) -> PathBuf {
        self.0.join("master.key")
    }

    /// Where `master-key rotate` keeps the next key until it takes the place of the present one.
    pub(crate) fn next_master_key_file(&self) -> PathBuf {
        self.0.join("master.key.next")
    }

    pub(crate) fn master_key_source(&self) -> Source {
        Source::choose(&self.master_key_file(), |name| std::env::var_os(name))
    }

    pub(crate) fn master_key(&self) -> Result<MasterKey, Failure> {
        if let Source::Transit(path) = self.master_key_source() {
            return self.unwrap_master_key(&path);
        }
        Ok(MasterKey::load(&self.master_key_source(), |name| std::env::var_os(name))?)
    }

    fn unwrap_master_key(&self, path: &Path) -> Result<MasterKey, Failure> {
        let wrapped = file::read_private(path).context(|| path.display().to_string())?;
        let wrapped = String::from_utf8_lossy(&wrapped).into_owned();
        let why = || {
            format!(
                "the master key in {} cannot be had (docs/secrets.md: without Vault it has to come from elsewhere)",
                path.display()
            )
        };
        self.transit()?.unwrap(&wrapped).context(why)
    }

    /// The key in Vault that wraps the master key.
    pub(crate) fn transit(&self) -> Result<Transit, Failure> {
        let config = self.config()?;
        let vault = self.vault(&config)?;
        let missing = || {
            Failure::new(format!(
                "set `transit_key` under `[secrets.vault]` in {}",
                self.config_file().display()
            ))
        };
        let (mount, key) = vault.transit()?.ok_or_else(missing)?;
        Ok(Transit { connection: vault.connection(&self.0, config.secrets.modes())?, mount, key })
    }

    /// Makes the directory and the one for TLS, for their owner alone.
    pub(crate) fn make(&self) -> Result<(), Failure> {
        let tls = self.0.join("tls");
        DirBuilder::new()
            .recursive(true)
            .mode(0o700)
            .create(&tls)
            .context(|| format!("cannot make {}", tls.display()))
    }

    /// Refuses a directory in which everybody can put other files in place of the service's own.
    pub(crate) fn check(&self) -> Result<(), Failure> {
        let mode = self.0.metadata().context(|| self.0.display().to_string())?.mode();
        // With the sticky bit, others cannot touch what is not theirs.
        if mode & 0o002 != 0 && mode & 0o1000 == 0 {
            return Err(Failure::new(format!(
                "everybody can write to the data directory {0} (mode {1:04o}): `chmod 700 {0}`, and consider whether somebody has changed what is in it",
                self.0.display(),
                mode & 0o7777
            )));
        }
        Ok(())
    }

    pub(crate) fn config(&self) -> Result<Config, Failure> {
        let path = self.config_file();
        match std::fs::read_to_string(&path) {
            Ok(text) => {
                Config::parse(&text).map_err(|error| Failure::new(format!("{}: {error}", path.display())))
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Err(Failure::new(format!(
                "there is no Countersign service in {}: `countersign init --service NAME` makes one, --home DIR names another place",
                self.0.display()
            ))),
            Err(error) => Err(Failure::new(format!("{}: {error}", path.display()))),
        }
    }

    /// The peers, wherever they are.
    pub(crate) fn store(&self) -> Result<Arc<dyn PeerStore>, Failure> {
        Ok(self.stores()?.peers)
    }

    /// The peers, wherever they are, and what is kept here in any case.
    pub(crate) fn stores(&self) -> Result<Stores, Failure> {
        self.stores_for(false)
    }

    /// The same for the running service.
    pub(crate) fn service_stores(&self) -> Result<Stores, Failure> {
        self.stores_for(true)
    }

    fn stores_for(&self, is_service: bool) -> Result<Stores, Failure> {
        let config = self.config()?;
        let local = Arc::new(self.local_store()?);
        let peers: Arc<dyn PeerStore> = match config.secrets.from() {
            SecretsFrom::Store => Arc::<SqliteStore>::clone(&local),
            SecretsFrom::Config => {
                let declared =
                    config.peers.iter().map(|peer| peer.declared(&self.0)).collect::<Result<_, _>>()?;
                Arc::new(DeclaredStore::new(declared, config.secrets.modes(), Arc::clone(&local)))
            }
            SecretsFrom::Vault => Arc::new(self.vault_store(&config, Arc::clone(&local), is_service)?),
        };
        if let Some(stale) = peers.stale() {
            show::warn_of_copy(&stale);
        }
        Ok(Stores { peers, local })
    }

    /// The peers, where they can be changed; if not, `elsewhere` says what is to be done there.
    pub(crate) fn changeable(&self, elsewhere: &str) -> Result<Stores, Failure> {
        if self.config()?.secrets.from() == SecretsFrom::Config {
            return Err(Failure::new(format!(
                "the peers are declared in {} and cannot be changed here: {elsewhere} (docs/secrets.md)",
                self.config_file().display()
            )));
        }
        self.stores()
    }

    fn vault_store(
        &self,
        config: &Config,
        local: Arc<SqliteStore>,
        is_service: bool,
    ) -> Result<VaultStore, Failure> {
        let vault = self.vault(config)?;
        let connection = vault.connection(&self.0, config.secrets.modes())?;
        let connection = Connection { is_service, ..connection };
        Ok(VaultStore::open(connection, vault.place(&config.service)?, local)?)
    }

    /// `[secrets.vault]`
    pub(crate) fn vault<'a>(&self, config: &'a Config) -> Result<&'a VaultTable, Failure> {
        let missing = || {
            Failure::new(format!("there is no table `[secrets.vault]` in {}", self.config_file().display()))
        };
        config.secrets.vault.as_ref().ok_or_else(missing)
    }

    /// `store.sqlite`: the peers, or what is kept of them here while they are elsewhere.
    pub(crate) fn local_store(&self) -> Result<SqliteStore, Failure> {
        // The config is looked at first, so that a wrong directory is told as such.
        self.config()?;
        self.check()?;
        match SqliteStore::open(&self.store_file(), &self.master_key()?) {
            // The key may just have been changed, between the two.
            Err(StoreError::WrongMasterKey) => {
                Ok(SqliteStore::open(&self.store_file(), &self.master_key()?)?)
            }
            opened => Ok(opened?),
        }
    }

    /// The same lock as [`Home::lock`], for commands that replace files of the data directory: they do not wait for
    /// others. Leaves no file behind.
    pub(crate) fn try_lock(&self) -> Result<File, Failure> {
        let shown = || self.0.display().to_string();
        let directory = File::open(&self.0).context(shown)?;
        match directory.try_lock() {
            Ok(()) => Ok(directory),
            Err(TryLockError::WouldBlock) => Err(Failure::new(format!(
                "another command is changing files in {}: try again when it has ended",
                self.0.display()
            ))),
            Err(TryLockError::Error(error)) => Err(error).context(shown),
        }
    }

    /// The trail of one kind of process, as the config says.
    pub(crate) fn trail(&self, store: &SqliteStore, writer: &str) -> Result<Arc<Trail>, Failure> {
        self.trail_with(store, writer, self.config()?.audit.settings(writer == "serve"))
    }

    /// The trail of one kind of process.
    pub(crate) fn trail_with(
        &self,
        store: &SqliteStore,
        writer: &str,
        settings: Settings,
    ) -> Result<Arc<Trail>, Failure> {
        Ok(Arc::new(open_trail(store, &self.audit_directory(), writer, settings)?))
    }
}
