//! The command line.

#![allow(clippy::doc_markdown, reason = "these comments are the help text, where backticks only disturb")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args as ClapArgs, Parser, Subcommand};
use countersign::{ApiKey, Profile, ServiceName, Trust};
use countersign_gateway::ListenUrl;

use crate::secret_input::SecretSource;

/// Two services prove to each other who they are before they exchange data.
#[derive(Debug, Parser)]
#[command(name = "countersign", version, max_term_width = 100, arg_required_else_help = true)]
pub(crate) struct Args {
    /// The data directory [default: $XDG_DATA_HOME/countersign]
    // A parser that takes an empty value: an empty variable counts as none.
    #[arg(long, global = true, value_name = "DIR", env = "COUNTERSIGN_HOME", hide_env_values = true,
        value_parser = OsStringValueParser::new().map(PathBuf::from))]
    pub(crate) home: Option<PathBuf>,
    #[command(subcommand)]
    pub(crate) command: Command,
}

#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Watch two services authenticate each other over TLS, and every kind of impostor fail
    Demo(DemoArgs),
    /// Make the data directory: master key, store, TLS key and certificate, config
    Init(InitArgs),
    /// Print a fresh API key and secret
    Keygen(KeygenArgs),
    /// Add, list, show and remove the services that this one talks to
    #[command(subcommand)]
    Peer(PeerCommand),
    /// Serve: /authenticate, /verify_challenge, and protected routes forwarded to --upstream
    Serve(ServeArgs),
    /// Call a peer: curl with the handshake built in
    Call(CallArgs),
    /// Show this service, its peers and the ages of their credentials
    Status(JsonArgs),
    /// Read the trail of every attempt
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Change where the master key is
    #[command(subcommand)]
    MasterKey(MasterKeyCommand),
    /// Look at everything that this service stands on; name the command that mends what is wrong
    Doctor(DoctorArgs),
    /// Say why a signature did not match: what was signed, and what should have been
    #[command(after_help = EXPLAIN)]
    Explain(ExplainArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct JsonArgs {
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DemoArgs {
    /// Write one JSON object a step
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct InitArgs {
    /// This service's name: a-z, 0-9 and -
    #[arg(long, value_name = "NAME")]
    pub(crate) service: ServiceName,
    /// A DNS name or address under which peers reach it, for the certificate (localhost is always in it)
    #[arg(long = "host", value_name = "DNS")]
    pub(crate) hosts: Vec<String>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct KeygenArgs {
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum PeerCommand {
    /// Add a peer with keys that were agreed out of band
    #[command(after_help = SECRETS)]
    Add(Box<PeerAddArgs>),
    /// List all peers
    List(JsonArgs),
    /// Show one peer, with the fingerprint that both operators compare
    Show(PeerShowArgs),
    /// Remove a peer: its keys and tokens are refused within a second
    Remove(PeerName),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerName {
    /// The peer's name
    #[arg(value_name = "NAME")]
    pub(crate) name: ServiceName,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerShowArgs {
    #[command(flatten)]
    pub(crate) peer: PeerName,
    #[command(flatten)]
    pub(crate) output: JsonArgs,
}

const SECRETS: &str = "\
Secrets come from a file that only you can read (mode 0600), from standard input (-), from an environment
variable (env:NAME), or, for shared-secret, from a prompt where none of these is given; never from an argument.

Example, on the side that generated the keys with `countersign keygen`:
  countersign peer add billing --profile shared-secret --our-key csk_… --their-key csk_… --secret-file secret.txt";

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerAddArgs {
    #[command(flatten)]
    pub(crate) peer: PeerName,
    /// shared-secret (guide 1: one challenge, signed with a secret that never travels) or api-key (guide 2: the
    /// key is the secret, and travels)
    #[arg(long)]
    pub(crate) profile: Profile,
    /// Where the peer serves, if this service calls it
    #[arg(long)]
    pub(crate) url: Option<String>,
    /// Trust the certificates in this PEM file for the peer's URL
    #[arg(long, value_name = "FILE", conflicts_with = "tls_pin")]
    pub(crate) tls_ca: Option<PathBuf>,
    /// Trust this public key for the peer's URL: what its `countersign init` printed
    #[arg(long, value_name = "sha256/BASE64", value_parser = Trust::parse_pin)]
    pub(crate) tls_pin: Option<Trust>,
    /// shared-secret: the API key that we present to the peer
    #[arg(long, value_name = "KEY", value_parser = api_key)]
    pub(crate) our_key: Option<ApiKey>,
    /// shared-secret: the API key that the peer presents to us
    #[arg(long, value_name = "KEY", value_parser = api_key)]
    pub(crate) their_key: Option<ApiKey>,
    /// shared-secret: the one secret of the pair
    #[arg(long, value_name = "FILE|-|env:NAME", conflicts_with_all = ["our_secret_file", "their_secret_file"])]
    pub(crate) secret_file: Option<SecretSource>,
    /// shared-secret, one secret each: what we prove ourselves with
    #[arg(long, value_name = "FILE|-|env:NAME", requires = "their_secret_file")]
    pub(crate) our_secret_file: Option<SecretSource>,
    /// shared-secret, one secret each: what the peer proves itself with
    #[arg(long, value_name = "FILE|-|env:NAME", requires = "our_secret_file")]
    pub(crate) their_secret_file: Option<SecretSource>,
    /// api-key: the key that we present to the peer
    #[arg(long, value_name = "FILE|-|env:NAME")]
    pub(crate) our_key_file: Option<SecretSource>,
    /// api-key: the key that the peer presents to us
    #[arg(long, value_name = "FILE|-|env:NAME")]
    pub(crate) their_key_file: Option<SecretSource>,
    /// Call a stranger's server even if it does not prove itself (it may then be an impostor behind broken TLS)
    #[arg(long)]
    pub(crate) danger_unproven_server: bool,
}

fn api_key(text: &str) -> Result<ApiKey, countersign::protocol::identity::FormError> {
    text.parse()
}

#[derive(Debug, ClapArgs)]
pub(crate) struct ServeArgs {
    /// Where to listen: https://ADDRESS:PORT, or http://ADDRESS:PORT on loopback; may come several times
    #[arg(long, value_name = "URL")]
    pub(crate) listen: Vec<ListenUrl>,
    /// Forward authenticated requests to this service
    #[arg(long, value_name = "URL")]
    pub(crate) upstream: Option<String>,
    /// Serve /healthz, /readyz and /metrics here, without authentication
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub(crate) admin: Option<SocketAddr>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct CallArgs {
    /// The method [default: GET, with -d POST]
    #[arg(short = 'X', long, value_name = "METHOD")]
    pub(crate) request: Option<String>,
    /// A header; may come several times
    #[arg(short = 'H', long = "header", value_name = "K: V")]
    pub(crate) headers: Vec<String>,
    /// A body; @FILE reads one from a file, @- from standard input
    #[arg(short = 'd', long, value_name = "BODY")]
    pub(crate) data: Option<String>,
    /// Tell every message on standard error, secrets left out
    #[arg(short, long)]
    pub(crate) verbose: bool,
    /// How many seconds each step may take: a message of the handshake, the head of the response, each piece of it
    #[arg(long, value_name = "SECONDS", default_value_t = 30, value_parser = clap::value_parser!(u64).range(1..=3600))]
    pub(crate) timeout: u64,
    /// The peer to call, where the URL alone does not tell
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: Option<ServiceName>,
    /// What to call: a URL below a peer's
    #[arg(value_name = "URL")]
    pub(crate) url: String,
}

#[derive(Debug, Subcommand)]
pub(crate) enum AuditCommand {
    /// Show the last attempts: a table on a terminal, JSON lines elsewhere
    Tail(AuditTailArgs),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct AuditTailArgs {
    /// How many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 20)]
    pub(crate) lines: usize,
    /// Write JSON lines
    #[arg(long)]
    pub(crate) json: bool,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MasterKeyCommand {
    /// Wrap the master key with Vault's Transit engine: what stays here is worth nothing without Vault
    #[command(after_help = TRANSIT)]
    Transit(TransitArgs),
}

const TRANSIT: &str = "\
Needs `transit_key` under [secrets.vault] in countersign.toml. The wrapped key is kept in master.key.transit, and Vault
is asked for it whenever the store is opened. Keep a copy of the master key itself elsewhere, apart from the store:
without Vault nothing else opens it (docs/secrets.md).";

#[derive(Debug, ClapArgs)]
pub(crate) struct TransitArgs {
    /// Wrap it under the newest version of the Transit key, after `bao write -f transit/keys/NAME/rotate`
    #[arg(long, conflicts_with_all = ["undo", "key_file"])]
    pub(crate) rewrap: bool,
    /// Put the master key back into the file master.key
    #[arg(long, conflicts_with = "key_file")]
    pub(crate) undo: bool,
    /// Wrap this master key, which has to open the store, and not the present one
    #[arg(long, value_name = "FILE|-|env:NAME")]
    pub(crate) key_file: Option<SecretSource>,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct DoctorArgs {
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
    /// Leave the network alone: no peer and no upstream is connected to
    #[arg(long)]
    pub(crate) offline: bool,
}

const EXPLAIN: &str = "\
The request is what the other side sent: as raw HTTP, as `curl -v` shows it, or its JSON body alone. Both directions
are understood: a request of the peer, one of our own, and a server's proof in a response. Neither secrets nor
signatures are shown, so that the output can go into a ticket. The exit code is 0 if the signature is right.

Example, for a peer whose own client gets 401:
  countersign explain --peer billing --file request.txt";

#[derive(Debug, ClapArgs)]
pub(crate) struct ExplainArgs {
    /// The peer that the request is from, or to
    #[arg(long, value_name = "NAME")]
    pub(crate) peer: ServiceName,
    /// Where the request is
    #[arg(long, value_name = "FILE|-", default_value = "-")]
    pub(crate) file: PathBuf,
    /// The challenge that was handed out: needed under api-key, whose requests do not carry it
    #[arg(long, value_name = "CHALLENGE")]
    pub(crate) challenge: Option<String>,
    /// Write JSON
    #[arg(long)]
    pub(crate) json: bool,
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    #[test]
    fn the_command_line_is_well_formed() {
        super::Args::command().debug_assert();
    }
}
