//! The command line of `countersign pair`.

#![allow(clippy::doc_markdown, reason = "these comments are the help text, where backticks only disturb")]

use clap::{Args as ClapArgs, Subcommand};
use countersign::protocol::cs1::Binding;
use countersign::{ServiceName, Trust};

use crate::args::binding;
use crate::duration::Span;
use crate::secret_input::SecretSource;

#[derive(Debug, Subcommand)]
pub(crate) enum PairCommand {
    /// Show six words, and wait for the other side to come with them; needs a running `countersign serve`
    #[command(after_help = OFFER)]
    Offer(Box<OfferArgs>),
    /// Type the words that the other side's operator reads out
    #[command(after_help = ACCEPT)]
    Accept(Box<AcceptArgs>),
}

const OFFER: &str = "\
The words are good for one attempt and ten minutes. When somebody has tried other words with them, the next ones are
shown: read those out. After three the offer is closed. Ctrl-C withdraws it.

docs/pairing.md says what goes wrong, and what to do then.";

#[derive(Debug, ClapArgs)]
pub(crate) struct OfferArgs {
    /// The peer's name here [default: the name that it states]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<ServiceName>,
    /// What sessions are bound to, none or tls-exporter, on both sides
    #[arg(long, value_name = "BINDING", value_parser = binding, default_value = "none")]
    pub(crate) binding: Binding,
    /// Another TLS key under which this service is reached: that of a proxy in front which ends TLS; may come several
    /// times
    #[arg(long = "tls-pin", value_name = "sha256/BASE64", value_parser = Trust::parse_pin)]
    pub(crate) pins: Vec<Trust>,
    /// Judge the peer's certificate by the system's authorities when it is called, and not by the key that it states
    #[arg(long)]
    pub(crate) system_trust: bool,
    /// Close the offer after this time, at most ten minutes
    #[arg(long = "for", value_name = "DURATION", default_value = "10m")]
    pub(crate) lifetime: Span,
    /// Write one JSON object a line
    #[arg(long)]
    pub(crate) json: bool,
}

const ACCEPT: &str = "\
Without --words-file the words are asked for on the terminal: any case, spaces or hyphens, four letters a word are enough.

Examples:
  countersign pair accept https://orders.example:8443
  countersign pair accept https://orders.example:8443 --words-file words.txt --url https://billing.example:8443";

#[derive(Debug, ClapArgs)]
pub(crate) struct AcceptArgs {
    /// Where the other side serves
    #[arg(value_name = "URL")]
    pub(crate) url: String,
    /// Where the words are, if nobody is to be asked
    #[arg(long, value_name = "FILE|-|env:NAME")]
    pub(crate) words_file: Option<SecretSource>,
    /// The peer's name here [default: the name that it states]
    #[arg(long, value_name = "NAME")]
    pub(crate) name: Option<ServiceName>,
    /// Where this service serves, if the peer is to call it [default: the first of `external_urls`]
    #[arg(long = "url", value_name = "URL")]
    pub(crate) own_url: Option<String>,
    /// Judge the peer's certificate by the system's authorities from here on, and not by the key that was exchanged
    #[arg(long)]
    pub(crate) system_trust: bool,
    /// How many seconds each step may take
    #[arg(long, value_name = "SECONDS", default_value_t = 15, value_parser = clap::value_parser!(u64).range(1..=300))]
    pub(crate) timeout: u64,
    /// Write one JSON object
    #[arg(long)]
    pub(crate) json: bool,
}
