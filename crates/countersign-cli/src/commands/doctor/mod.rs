//! `countersign doctor`: looks at everything that this service stands on, and names the command that mends what is
//! wrong. It goes on when something is broken: that is when it is needed.

mod clock;
mod cs1;
mod files;
mod finding;
mod limits;
mod rotation;
mod store;
mod tls;
mod trail;
mod vault;

use countersign::store::Listing;

pub(crate) use self::clock::behind;
use self::finding::{Findings, Level, path};
pub(crate) use self::finding::{path as shell_path, quoted};
use crate::args::DoctorArgs;
use crate::config::{Config, SecretsFrom};
use crate::failure::Failure;
use crate::home::Home;
use crate::show;

pub(crate) fn run(home: &Home, args: &DoctorArgs) -> Result<(), Failure> {
    let findings = examine(home, args.offline);
    if args.json {
        show::json(&findings.json())?;
    } else {
        show::out(&findings.text(&show::Paint::stdout()))?;
    }
    match findings.count(Level::Fail) {
        0 => Ok(()),
        1 => Err(Failure::new("something is broken; the command that mends it stands below it")),
        count => Err(Failure::new(format!(
            "{count} things are broken; the command that mends it stands below each"
        ))),
    }
}

/// The peers, where they are not in the store and can be had.
fn elsewhere(
    home: &Home,
    config: Option<&Config>,
    offline: bool,
    findings: &mut Findings,
) -> Option<Listing> {
    let mend = match config?.secrets.from() {
        SecretsFrom::Config => {
            format!("put it right, or correct the [[peer]] in {}", path(&home.config_file()))
        }
        SecretsFrom::Vault if !offline => {
            format!("countersign --home {} peer remove NAME   (then add it again)", path(home.path()))
        }
        _ => return None,
    };
    // That a store cannot be read at all is told elsewhere.
    let listing = home.store().ok()?.read_all().ok()?;
    for damaged in &listing.damaged {
        findings.fail("peers", damaged.to_string(), &*mend);
    }
    if listing.damaged.is_empty() {
        findings.ok("peers", format!("{}, and all of their keys are there", listing.peers.len()));
    }
    Some(listing)
}

fn examine(home: &Home, offline: bool) -> Findings {
    let mut findings = Findings::default();
    if !home.path().is_dir() || (!home.config_file().exists() && !home.store_file().exists()) {
        let what = format!(
            "there is no Countersign service in {}",
            show::printable_lines(&home.path().to_string_lossy())
        );
        findings.fail("home", what, format!("countersign --home {} init --service NAME", path(home.path())));
        return findings;
    }
    let config = match home.config() {
        Ok(config) => {
            findings.ok(
                "config",
                format!("{} is valid; the service is {}", home.config_file().display(), config.service),
            );
            Some(config)
        }
        Err(failure) => {
            let file = home.config_file();
            let mend = if file.exists() {
                format!("correct the line: ${{EDITOR:-vi}} {}", path(&file))
            } else {
                format!(
                    "countersign --home {} init --service NAME   (it keeps what is there)",
                    path(home.path())
                )
            };
            findings.fail("config", failure.message().trim_end(), mend);
            None
        }
    };
    files::check(home, &mut findings);
    let listing = store::check(home, config.as_ref(), &mut findings);
    let listing = elsewhere(home, config.as_ref(), offline, &mut findings).or(listing);
    trail::check(home, &mut findings);
    trail::chain(home, &mut findings);
    if let Some(config) = &config {
        trail::room(home, config, &mut findings);
        trail::budget(config, &mut findings);
    }
    clock::check(home, listing.as_ref(), &mut findings);
    if let Some(listing) = &listing {
        store::ages(home, listing, &mut findings);
        store::exported(home, listing, &mut findings);
        store::restored(home, listing, &mut findings);
        cs1::check(home, config.as_ref(), listing, &mut findings);
        rotation::check(home, config.as_ref(), listing, offline, &mut findings);
    }
    if let Some(config) = &config {
        tls::own(home, config, &mut findings);
        vault::check(home, config, offline, &mut findings);
        limits::check(home, config, listing.as_ref(), &mut findings);
        if !offline {
            limits::upstream(home, config, &mut findings);
        }
    }
    if let Some(listing) = listing.as_ref().filter(|_| !offline) {
        tls::peers(home, listing, &mut findings);
    }
    findings
}
