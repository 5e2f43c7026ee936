//! `countersign master-key transit`: the master key wrapped by Vault, and back.
//!
//! What is to replace something is written and read back through Vault before anything is taken away. Whatever
//! interrupts it leaves a home that opens.

use std::path::PathBuf;

use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::{Rewrap, SqliteStore};
use countersign::store::vault::Transit;
use countersign::store::{StoreError, file};

use super::master_key::left_over;
use crate::args::TransitArgs;
use crate::change::{self, Change};
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::secret_input::SecretSource;
use crate::show;

const STEP: &str = "master-key-transit";

pub(crate) fn run(home: &Home, args: &TransitArgs) -> Result<(), Failure> {
    let transit = home.transit()?;
    let _lock = home.try_lock()?;
    let plain = home.path().join("master.key");
    let files = Files { home, transit, wrapped: Source::transit_file(&plain), plain };
    match args {
        TransitArgs { undo: true, .. } => files.undo(),
        TransitArgs { rewrap: true, .. } => files.rewrap(),
        TransitArgs { key_file, .. } => files.wrap(key_file.as_ref()),
    }
}

struct Files<'a> {
    home: &'a Home,
    transit: Transit,
    plain: PathBuf,
    wrapped: PathBuf,
}

impl Files<'_> {
    fn wrap(&self, given: Option<&SecretSource>) -> Result<(), Failure> {
        let master = match given {
            Some(source) => key(source)?,
            None => self.home.master_key()?,
        };
        let store = self.opens(&master)?;
        // Another key would open the store as well, in the clear.
        if store.rewrap(&master)? != Rewrap::Idle {
            return Err(StoreError::RewrapOpen.into());
        }
        self.replace(&self.transit.wrap(&master)?)?;
        let removed = self.plain.symlink_metadata().is_ok();
        let target = std::fs::read_link(&self.plain).ok();
        let plain = removed.then(|| self.plain.clone()).into_iter();
        // A file that was about to become a key is another name of it.
        for path in plain.chain(left_over(self.home.path())) {
            file::remove(&path).context(|| format!("cannot remove {}", path.display()))?;
        }
        let recorded = self.record(&store, "master-key-wrapped");
        let mut text = format!("the master key is wrapped by Vault, in {}\n", self.wrapped.display());
        if removed {
            text.push_str(&format!(
                "{} is removed; a disk, a snapshot or a backup may still have it\n",
                self.plain.display()
            ));
        }
        if let Some(target) = target {
            text.push_str(&format!("it was a link, and the key is still in {}\n", target.display()));
        }
        match self.home.master_key_source() {
            Source::Transit(_) => {}
            other => {
                text.push_str(&format!("but {other} goes before it: take that away, for the service too\n"));
            }
        }
        show::out(&show::printable_lines(&text))?;
        recorded
    }

    fn rewrap(&self) -> Result<(), Failure> {
        let present = file::read_private(&self.wrapped).context(|| self.wrapped.display().to_string())?;
        let wrapped = self.transit.rewrap(&String::from_utf8_lossy(&present))?;
        let master = self.transit.unwrap(&wrapped)?;
        let store = self.opens(&master)?;
        self.replace(&wrapped)?;
        let recorded = self.record(&store, "master-key-rewrapped");
        let version = wrapped.split(':').nth(1).unwrap_or_default();
        show::out(&show::printable_lines(&format!(
            "the master key is wrapped by version {version} of the key in Vault\n"
        )))?;
        recorded
    }

    fn undo(&self) -> Result<(), Failure> {
        let wrapped = file::read_private(&self.wrapped).context(|| self.wrapped.display().to_string())?;
        let master = self.transit.unwrap(&String::from_utf8_lossy(&wrapped))?;
        let store = self.opens(&master)?;
        if self.plain.symlink_metadata().is_err() {
            master.write_new(&self.plain).context(|| format!("cannot write {}", self.plain.display()))?;
        }
        // One that was there already has to be the same.
        let source = Source::File(self.plain.clone());
        self.opens(&MasterKey::load(&source, |_| None)?)?;
        file::remove(&self.wrapped).context(|| format!("cannot remove {}", self.wrapped.display()))?;
        let recorded = self.record(&store, "master-key-unwrapped");
        show::out(&show::printable_lines(&format!("the master key is in {} again\n", self.plain.display())))?;
        recorded
    }

    /// The store, if it opens with this key.
    fn opens(&self, master: &MasterKey) -> Result<SqliteStore, Failure> {
        self.home.check()?;
        Ok(SqliteStore::open(&self.home.store_file(), master)?)
    }

    /// Puts a wrapped key in place, after it has been read back through Vault and opened the store.
    fn replace(&self, wrapped: &str) -> Result<(), Failure> {
        self.opens(&self.transit.unwrap(wrapped)?)?;
        let next = self.wrapped.with_added_extension("next");
        if next.symlink_metadata().is_ok() {
            std::fs::remove_file(&next).context(|| format!("cannot remove {}", next.display()))?;
        }
        let failed = || format!("cannot write {} (nothing was changed)", self.wrapped.display());
        file::write_new(&next, 0o600, format!("{wrapped}\n").as_bytes()).context(failed)?;
        file::replace(&next, &self.wrapped)
            .context(|| format!("cannot put {} in place", self.wrapped.display()))
    }

    fn record(&self, store: &SqliteStore, reason: &str) -> Result<(), Failure> {
        let change = Change {
            step: STEP,
            reason,
            service: None,
            credential: None,
            profile: None,
            detail: Some(format!("the key {} in Vault", self.transit.key)),
        };
        change::record(self.home, store, change)
    }
}

fn key(source: &SecretSource) -> Result<MasterKey, Failure> {
    let text = source.read("the master key")?;
    let none = || {
        Failure::new("the master key: that is none: it is the base64 of 32 bytes (`openssl rand -base64 32`)")
    };
    MasterKey::parse(&text).ok_or_else(none)
}
