//! The options of `peer export` and `peer import`.

#![allow(clippy::doc_markdown, reason = "these comments are the help text, where backticks only disturb")]

use std::path::PathBuf;

use clap::Args as ClapArgs;
use countersign::protocol::cs1::Binding;
use countersign::{Profile, ServiceName, Trust};

use crate::args::{PeerName, binding};
use crate::commands::rotate::ReadOut;
use crate::secret_input::SecretSource;

pub(crate) const EXPORT: &str = "\
The other side makes an age key (`age-keygen -o age.key`, which prints what begins with age1) and sends you the public
part; or the two of you agree on a passphrase by phone.

Example:
  countersign peer export billing --recipient age1… --url https://orders.example --out billing.age
and at billing:
  countersign peer import billing.age --identity age.key";

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerExportArgs {
    #[command(flatten)]
    pub(crate) peer: PeerName,
    /// Encrypt for whoever has the secret part of this age key; may come several times
    #[arg(long = "recipient", value_name = "age1…", conflicts_with = "passphrase_file")]
    pub(crate) recipients: Vec<String>,
    /// Encrypt with a passphrase, which has to reach the other side on another way [default: ask on the terminal]
    #[arg(long, value_name = "FILE|-|env:NAME")]
    pub(crate) passphrase_file: Option<SecretSource>,
    /// Where to write the file; - for standard output [default: a new file in exchange/ of the data directory]
    #[arg(long, value_name = "FILE|-")]
    pub(crate) out: Option<PathBuf>,
    /// cs1, or shared-secret
    #[arg(long, default_value = "cs1")]
    pub(crate) profile: Profile,
    /// cs1: what sessions are bound to, none or tls-exporter; the other side is told [default: none]
    #[arg(long, value_name = "BINDING", value_parser = binding)]
    pub(crate) binding: Option<Binding>,
    /// Where the other side calls this service [default: the first of `external_urls` in the configuration]
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// The other side is to judge our certificate by its system's authorities, and not by the key that we have now
    #[arg(long)]
    pub(crate) no_tls_pin: bool,
    /// Where the peer serves, if this service calls it
    #[arg(long, value_name = "URL")]
    pub(crate) their_url: Option<String>,
    /// Trust the certificates in this PEM file for the peer's URL
    #[arg(long, value_name = "FILE", conflicts_with = "tls_pin", requires = "their_url")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Trust this public key for the peer's URL: what its `countersign init` printed
    #[arg(long, value_name = "sha256/BASE64", value_parser = Trust::parse_pin, requires = "their_url")]
    pub(crate) tls_pin: Option<Trust>,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerImportArgs {
    /// What the other side's `countersign peer export` wrote; - for standard input
    #[arg(value_name = "FILE|-")]
    pub(crate) file: PathBuf,
    /// The secret part of the age key that it is encrypted for: what `age-keygen` wrote
    #[arg(long, value_name = "FILE|-|env:NAME", conflicts_with = "passphrase_file")]
    pub(crate) identity: Option<SecretSource>,
    /// The passphrase that it is encrypted with [default: ask on the terminal]
    #[arg(long, value_name = "FILE|-|env:NAME")]
    pub(crate) passphrase_file: Option<SecretSource>,
    /// What the peer is to be called here [default: as it calls itself]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<ServiceName>,
    /// The fingerprint that the other side's operator has read out, in any groups
    #[arg(long, value_name = "DIGITS")]
    pub(crate) fingerprint: Option<ReadOut>,
    /// Where the peer serves [default: as the file says]
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Trust the certificates in this PEM file for the peer's URL, whatever the file says
    #[arg(long, value_name = "FILE", conflicts_with = "tls_pin")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Trust this public key for the peer's URL, whatever the file says
    #[arg(long, value_name = "sha256/BASE64", value_parser = Trust::parse_pin)]
    pub(crate) tls_pin: Option<Trust>,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}
