use std::io::ErrorKind;
use std::path::Path;

use countersign::store::master::{MasterKey, MasterKeyError, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::store::{StoreError, file};
use countersign::{ServiceName, Trust};
use countersign_gateway::{IdentityError, TlsIdentity};

use crate::args::InitArgs;
use crate::config::Config;
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show;

pub(crate) fn run(home: &Home, args: &InitArgs) -> Result<(), Failure> {
    let pin = make(home, &args.service, &args.hosts)?;
    show::out(&show::printable_lines(&format!(
        "service    {}\nhome       {}\nmaster key {}\nTLS pin    {pin}\n\n\
         Next: `countersign serve`, then `countersign pair offer` (docs/pairing.md); or, where there is no path between\n\
         the two, `countersign peer add` on both sides (docs/key-exchange.md).\n\
         Peers that call this service trust its TLS key with --tls-pin {pin}\n\
         or its certificate {} with --tls-ca.\n",
        args.service,
        home.path().display(),
        home.master_key_source(),
        home.certificate_file().display(),
    )))
}

/// Makes everything that is not there yet, and gives the pin of the TLS key. The config comes last, so that an
/// interrupted `init` can be run again. Nothing that is there is changed or removed.
pub(crate) fn make(home: &Home, service: &ServiceName, hosts: &[String]) -> Result<String, Failure> {
    let config = home.config_file();
    refuse_second(home, &config)?;
    home.make()?;
    home.check()?;
    let master = master_key(home)?;
    store(home, &master)?;
    let identity = identity(home, service, hosts)?;
    let pin = identity.pin()?;
    file::write_new(&config, 0o600, Config::template(service).as_bytes())
        .context(|| format!("cannot write {}", config.display()))?;
    Ok(Trust::pin_text(&pin))
}

fn refuse_second(home: &Home, config: &Path) -> Result<(), Failure> {
    // Not `exists`: a link that leads nowhere is also in the way.
    if config.symlink_metadata().is_err() {
        return Ok(());
    }
    let shown = config.display();
    Err(match home.config() {
        Ok(_) => Failure::new(format!(
            "there is a Countersign service in {} already; nothing was changed",
            home.path().display()
        )),
        Err(error) => Failure::new(format!(
            "{shown} is there but cannot be used ({}). If it is what an interrupted `init` left, remove {shown} and run `countersign init` again; nothing was changed",
            error.message().trim_end()
        )),
    })
}

fn master_key(home: &Home) -> Result<MasterKey, Failure> {
    let source = home.master_key_source();
    let has_store = home.store_file().exists();
    if let Source::File(path) = &source
        && !path.exists()
    {
        if has_store {
            return Err(Failure::new(format!(
                "{} is there but its master key {} is not: put the key back, or move the store away",
                home.store_file().display(),
                path.display()
            )));
        }
        MasterKey::generate().write_new(path).context(|| format!("cannot write {}", path.display()))?;
    }
    MasterKey::load(&source, |name| std::env::var_os(name)).map_err(|error| match (&source, &error) {
        // Whatever stands in it, no store has been made with it.
        (Source::File(path), MasterKeyError::Form { .. }) if !has_store => Failure::new(format!(
            "{} An interrupted `init` may have left it, and there is no store that needs it: remove {} and run `countersign init` again",
            sentence(&error),
            path.display()
        )),
        _ => error.into(),
    })
}

fn store(home: &Home, master: &MasterKey) -> Result<(), Failure> {
    let path = home.store_file();
    if !path.exists() {
        SqliteStore::create(&path, master)?;
        return Ok(());
    }
    match SqliteStore::open(&path, master) {
        Ok(_) => Ok(()),
        Err(StoreError::NoStore { .. }) => Err(Failure::new(format!(
            "{0} is there but holds no store: remove {0} and run `countersign init` again",
            path.display()
        ))),
        Err(error) => Err(error.into()),
    }
}

/// What serves under TLS. A key is never given up: peers may have its pin.
fn identity(home: &Home, service: &ServiceName, hosts: &[String]) -> Result<TlsIdentity, Failure> {
    let (certificate, key) = (home.certificate_file(), home.tls_key_file());
    if !certificate.exists() {
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        names.extend(hosts.iter().filter(|host| !host.is_empty()).cloned());
        TlsIdentity::generate(service.as_str(), &names, &certificate, &key)
            .map_err(|error| unusable(error, &certificate, &key))?;
    }
    let identity =
        TlsIdentity::load(&certificate, &key).map_err(|error| unusable(error, &certificate, &key))?;
    // A certificate of another key would only be found out by the first caller.
    identity.server_config().map_err(|error| unusable(error, &certificate, &key))?;
    Ok(identity)
}

/// Says which of the two files is in the way.
fn unusable(error: IdentityError, certificate: &Path, key: &Path) -> Failure {
    let torn = |path: &str| {
        format!(
            "{} If it is what an interrupted `init` left, remove {path} and run `countersign init` again",
            sentence(&error)
        )
    };
    match &error {
        IdentityError::Pem { path, .. } => Failure::new(torn(path)),
        IdentityError::Unusable(_) if certificate.exists() => {
            Failure::new(torn(&certificate.display().to_string()))
        }
        IdentityError::Io { path, error }
            if Path::new(path) == key && error.kind() == ErrorKind::NotFound =>
        {
            Failure::new(format!(
                "{0} is there but its key {path} is not: put the key back, or remove {0} and run `countersign init` again, which makes a new key with another pin",
                certificate.display()
            ))
        }
        _ => error.into(),
    }
}

fn sentence(error: &impl std::fmt::Display) -> String {
    format!("{}.", error.to_string().trim_end_matches('.'))
}
