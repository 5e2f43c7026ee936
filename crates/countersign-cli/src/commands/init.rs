use countersign::store::master::{MasterKey, Source};
use countersign::store::sqlite::SqliteStore;
use countersign::{ServiceName, Trust};
use countersign_gateway::TlsIdentity;

use crate::args::InitArgs;
use crate::config::Config;
use crate::failure::{Context as _, Failure};
use crate::home::Home;
use crate::show;

pub(crate) fn run(home: &Home, args: &InitArgs) -> Result<(), Failure> {
    let pin = make(home, &args.service, &args.hosts)?;
    show::out(&show::printable_lines(&format!(
        "service    {}\nhome       {}\nmaster key {}\nTLS pin    {pin}\n\n\
         Next: `countersign peer add` on both sides (docs/key-exchange.md), then `countersign serve`.\n\
         Peers that call this service trust its TLS key with --tls-pin {pin}\n\
         or its certificate {} with --tls-ca.\n",
        args.service,
        home.path().display(),
        home.master_key_source(),
        home.certificate_file().display(),
    )))
}

/// Makes everything that is not there yet, and gives the pin of the TLS key. The config comes last, so that an
/// interrupted `init` can be run again.
pub(crate) fn make(home: &Home, service: &ServiceName, hosts: &[String]) -> Result<String, Failure> {
    let config = home.config_file();
    if config.exists() {
        return Err(Failure::new(format!(
            "there is a Countersign service in {} already; nothing was changed",
            home.path().display()
        )));
    }
    home.make()?;
    let source = home.master_key_source();
    if let Source::File(path) = &source
        && !path.exists()
    {
        if home.store_file().exists() {
            return Err(Failure::new(format!(
                "{} is there but its master key {} is not: put the key back, or move the store away",
                home.store_file().display(),
                path.display()
            )));
        }
        MasterKey::generate().write_new(path).context(|| format!("cannot write {}", path.display()))?;
    }
    let master = home.master_key()?;
    if home.store_file().exists() {
        SqliteStore::open(&home.store_file(), &master)?;
    } else {
        SqliteStore::create(&home.store_file(), &master)?;
    }
    let (certificate, key) = (home.certificate_file(), home.tls_key_file());
    if !certificate.exists() {
        // A key without its certificate is what an interrupted run leaves.
        let _ = std::fs::remove_file(&key);
        let mut names: Vec<String> = ["localhost", "127.0.0.1", "::1"].map(str::to_owned).to_vec();
        names.extend(hosts.iter().filter(|host| !host.is_empty()).cloned());
        TlsIdentity::generate(service.as_str(), &names, &certificate, &key)?;
    }
    let pin = TlsIdentity::load(&certificate, &key)?.pin()?;
    let text = Config::template(service);
    std::fs::write(&config, text).context(|| format!("cannot write {}", config.display()))?;
    Ok(Trust::pin_text(&pin))
}
