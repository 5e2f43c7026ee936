//! `countersign master-key`: another master key for the same store.
//!
//! The store opens with both keys from before the new one is put in place until after it is. A command that ends
//! anywhere in between leaves a home that opens, and can be run again. See docs/adr/0013.

use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::{Rewrap, SqliteStore};
use countersign::store::{StoreError, file};

use crate::args::{MasterKeyCommand, MasterKeyRotateArgs};
use crate::change::{self, Change};
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::secret_input::SecretSource;
use crate::show;

const STEP: &str = "master-key-rotate";

pub(crate) fn run(home: &Home, command: &MasterKeyCommand) -> Result<(), Failure> {
    match command {
        MasterKeyCommand::Rotate(args) => rotate(home, args),
        MasterKeyCommand::Transit(args) => super::transit::run(home, args),
    }
}

fn rotate(home: &Home, args: &MasterKeyRotateArgs) -> Result<(), Failure> {
    home.config()?;
    home.check()?;
    // The next key is read before anything is locked: somebody may be typing it.
    let next = args.new_key_file.as_ref().map(read_key).transpose()?;
    let _lock = home.try_lock()?;
    let change = Changing {
        home,
        store: &home.local_store()?,
        present: &home.master_key()?,
        source: &home.master_key_source(),
    };
    match (args, change.source) {
        (MasterKeyRotateArgs { finish: true, .. }, _) => change.finish(),
        (MasterKeyRotateArgs { abandon: true, .. }, _) => change.abandon(),
        (_, Source::File(path)) => change.in_file(path, &next.unwrap_or_else(MasterKey::generate)),
        (_, source) => {
            let next = next.ok_or_else(|| {
                Failure::usage(format!(
                    "the master key is in {source}, which this command cannot change. Make a new one (`openssl rand -base64 32`) and give it with --new-key-file; `countersign master-key rotate --help` shows the steps"
                ))
            })?;
            change.beside(&next)
        }
    }
}

/// What a change of the master key works on, while no other one goes on.
struct Changing<'a> {
    home: &'a Home,
    store: &'a SqliteStore,
    present: &'a MasterKey,
    source: &'a Source,
}

impl Changing<'_> {
    /// The key is in a file of ours: everything in one run.
    fn in_file(&self, path: &Path, next: &MasterKey) -> Result<(), Failure> {
        refuse_foreign(path)?;
        let next_path = self.home.next_master_key_file();
        self.clear(&next_path)?;
        if self.store.rewrap(next).is_ok() {
            return Err(StoreError::SameMasterKey.into());
        }
        next.write_new(&next_path)
            .context(|| format!("{} cannot be written, and nothing was changed", next_path.display()))?;
        self.store.begin_rewrap(self.present, next).context(unfinished)?;
        file::replace(&next_path, path).context(unfinished)?;
        self.store.finish_rewrap(next).context(unfinished)?;
        self.done(&format!(
            "the master key in {} is a new one, and the old one does not open the store any more\n\
             A running server needs no restart. Back the new key up, apart from the store;\n\
             keep the old one as long as backups of the store need it.\n",
            path.display()
        ))
    }

    /// Removes what an interrupted change left. The present key opens the store without it.
    fn clear(&self, next_path: &Path) -> Result<(), Failure> {
        let there = next_path.symlink_metadata().is_ok();
        if self.store.rewrap(self.present)? == Rewrap::Begun {
            if !there {
                // Begun in two steps: the new key may be in use somewhere.
                return Err(StoreError::RewrapOpen.into());
            }
            self.store.abandon_rewrap(self.present)?;
        }
        for path in left_over(self.home.path()) {
            file::remove(&path).context(|| format!("cannot remove {}", path.display()))?;
        }
        Ok(())
    }

    /// The key is out of reach: let the new one open the store too, and say what is to be done.
    fn beside(&self, next: &MasterKey) -> Result<(), Failure> {
        self.store.begin_rewrap(self.present, next)?;
        let recorded = self.record("master-key-added", "two master keys open the store");
        show::out(&show::printable_lines(&format!(
            "the store opens with two master keys now: the present one and the new one\n\
             1. keep the new key safe, apart from the store\n\
             2. put it in the place of the old one in {}:\n   \
                for the service, and for whoever runs `countersign` by hand\n\
             3. restart the service, and see that it runs\n\
             4. `countersign master-key rotate --finish`, with the new key: the old one ends\n\
             Until step 4 nothing is decided. `countersign master-key rotate --abandon`, with the old key,\n\
             takes the new one away again.\n",
            self.source
        )))?;
        recorded
    }

    fn finish(&self) -> Result<(), Failure> {
        if !self.store.finish_rewrap(self.present)? {
            show::out("this master key is the only one that opens the store; there is nothing to finish\n")?;
            return self.sweep();
        }
        self.done(&format!(
            "the master key in {} is the only one that opens the store now\n\
             Keep the old one as long as backups of the store need it.\n",
            self.source
        ))
    }

    fn abandon(&self) -> Result<(), Failure> {
        let abandoned = self.store.abandon_rewrap(self.present)?;
        if let Source::File(_) = self.source {
            self.clear(&self.home.next_master_key_file())?;
        }
        if !abandoned {
            show::out(
                "this master key is the only one that opens the store; there is nothing to call off\n",
            )?;
            return self.sweep();
        }
        let recorded = self.record("master-key-kept", "");
        show::out(&show::printable_lines(&format!(
            "the master key in {} stays; the new one does not open the store any more\n",
            self.source
        )))?;
        recorded.and(self.sweep())
    }

    /// What is in effect is told whatever else fails.
    fn done(&self, text: &str) -> Result<(), Failure> {
        let recorded = self.record("master-key-changed", "");
        show::out(&show::printable_lines(text))?;
        recorded.and(self.sweep())
    }

    /// Leaves nothing behind that the key which was taken away opens.
    fn sweep(&self) -> Result<(), Failure> {
        let left = "what the other master key opens may still stand in store.sqlite-wal; `countersign master-key rotate --finish` tries again to remove it";
        match self.store.sweep() {
            Ok(true) => Ok(()),
            Ok(false) => Err(Failure::new(format!("the store is being read all the time: {left}"))),
            Err(error) => Err(error).context(|| left.to_owned()),
        }
    }

    fn record(&self, reason: &str, detail: &str) -> Result<(), Failure> {
        let place = match self.source {
            Source::File(_) => "the key is in the file master.key",
            Source::Environment(_) => "the key is in the environment",
            _ => "the key is kept outside of the data directory",
        };
        let detail = if detail.is_empty() { place.to_owned() } else { format!("{place}; {detail}") };
        let change = Change { detail: Some(detail), ..Change::here(STEP, reason) };
        change::record(self.home, self.store, change)
    }
}

/// Wherever it broke off.
fn unfinished() -> String {
    "the change of the master key is not finished (the key in place opens the store; mend this, and run `countersign master-key rotate` again)".to_owned()
}

/// What interrupted commands left of keys: the next one, and files that were about to become a key, which may be
/// another name of the one in place.
pub(super) fn left_over(home: &Path) -> Vec<PathBuf> {
    let entries = std::fs::read_dir(home).into_iter().flatten().flatten();
    let names = entries.map(|entry| entry.file_name().to_string_lossy().into_owned());
    let left = names.filter(|name| {
        let rest = name.strip_prefix("master.key.");
        rest.is_some_and(|rest| rest == "next" || rest.ends_with(".unfinished"))
    });
    left.map(|name| home.join(name)).collect()
}

/// The new file would belong to whoever runs this, and stand in the place of a link.
fn refuse_foreign(path: &Path) -> Result<(), Failure> {
    let found = path.symlink_metadata().context(|| path.display().to_string())?;
    if !found.is_file() {
        return Err(Failure::new(format!(
            "{} is a link: replace what it leads to. `countersign master-key rotate` can only replace a file of its own; give the key in COUNTERSIGN_MASTER_KEY for the two steps that `--help` shows",
            path.display()
        )));
    }
    let me = rustix::process::geteuid().as_raw();
    if found.uid() != me {
        return Err(Failure::new(format!(
            "{} belongs to user {}, and this is user {me}: the service could not read the new one. Run this as its owner: `sudo -u '#{}' countersign …`",
            path.display(),
            found.uid(),
            found.uid()
        )));
    }
    Ok(())
}

fn read_key(source: &SecretSource) -> Result<MasterKey, Failure> {
    const WHAT: &str = "the new master key";
    MasterKey::parse(&source.read(WHAT)?).ok_or_else(|| {
        Failure::new(format!(
            "{WHAT}: that is none: it is the base64 of 32 bytes (`openssl rand -base64 32`)"
        ))
    })
}
