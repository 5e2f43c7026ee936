//! The command line.

#![allow(clippy::doc_markdown, reason = "these comments are the help text, where backticks only disturb")]

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::{OsStringValueParser, TypedValueParser as _};
use clap::{Args as ClapArgs, Parser, Subcommand};
use countersign::protocol::cs1::Binding;
use countersign::{ApiKey, Profile, ServiceName, Trust};
use countersign_gateway::ListenUrl;

pub(crate) use crate::commands::audit::args::AuditCommand;
use crate::commands::pair::args::PairCommand;
use crate::commands::peer_file::args::{EXPORT, PeerExportArgs, PeerImportArgs};
use crate::commands::rotate::ReadOut;
use crate::duration::{Every, Span};
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
    /// Get to know another service: one operator reads six words to the other, and both hold a fresh pair
    #[command(subcommand)]
    Pair(PairCommand),
    /// Serve: /authenticate, /verify_challenge, and protected routes forwarded to --upstream
    Serve(ServeArgs),
    /// Call a peer: curl with the handshake built in
    Call(CallArgs),
    /// Replace a peer's credential: make the next one and hand it over, take one in, see to it, end the old one
    #[command(after_help = ROTATE)]
    Rotate(Box<RotateArgs>),
    /// End a peer's credentials now: the next request is refused, tokens die
    Revoke(RevokeArgs),
    /// Show this service, its peers, and the ages and states of their credentials; exit code 1 if one is overdue
    Status(JsonArgs),
    /// Read the trail of every attempt, and find out whether anybody touched it
    #[command(subcommand)]
    Audit(AuditCommand),
    /// Write everything but the master key and the trail to one sealed file, also while the service runs
    Backup(BackupArgs),
    /// Make a data directory from a backup; say what was changed after it was made
    #[command(after_help = RESTORE)]
    Restore(RestoreArgs),
    /// Change the master key, or where it is
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
    /// Set how old a peer's credential may get before it is to be rotated [at first: 90d]
    Schedule(PeerScheduleArgs),
    /// Add a peer with keys that are made here, and write what the other side needs to an encrypted file
    #[command(after_help = EXPORT)]
    Export(Box<PeerExportArgs>),
    /// Add a peer from the file that its `peer export` wrote
    Import(Box<PeerImportArgs>),
}

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerScheduleArgs {
    #[command(flatten)]
    pub(crate) peer: PeerName,
    /// 30d, 36h, … or never
    #[arg(long, value_name = "DURATION|never")]
    pub(crate) every: Every,
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
variable (env:NAME), or, for cs1 and shared-secret, from a prompt where none of these is given; never from an
argument.

Example, on the side that generated the keys with `countersign keygen`:
  countersign peer add billing --profile cs1 --our-key csk_… --their-key csk_… --secret-file secret.txt";

#[derive(Debug, ClapArgs)]
pub(crate) struct PeerAddArgs {
    #[command(flatten)]
    pub(crate) peer: PeerName,
    /// cs1 (both sides prove themselves, then every request and response is signed), shared-secret (guide 1: one
    /// challenge, signed with a secret that never travels) or api-key (guide 2: the key is the secret, and travels)
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
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    /// Call a stranger's server even if it does not prove itself (it may then be an impostor behind broken TLS)
    #[arg(long)]
    pub(crate) danger_unproven_server: bool,
    /// cs1: what sessions are bound to, none or tls-exporter, the same on both sides [default: none]
    #[arg(long, value_name = "BINDING", value_parser = binding)]
    pub(crate) binding: Option<Binding>,
    /// cs1: take requests of this peer that are signed without a handshake (no forward secrecy)
    #[arg(long)]
    pub(crate) danger_direct: bool,
}

/// Keys that were agreed with the other side.
#[derive(Clone, Debug, ClapArgs)]
pub(crate) struct KeyArgs {
    /// cs1, shared-secret: the API key that we present to the peer
    #[arg(long, value_name = "KEY", value_parser = api_key)]
    pub(crate) our_key: Option<ApiKey>,
    /// cs1, shared-secret: the API key that the peer presents to us
    #[arg(long, value_name = "KEY", value_parser = api_key)]
    pub(crate) their_key: Option<ApiKey>,
    /// cs1, shared-secret: the one secret of the pair
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
}

impl KeyArgs {
    /// Whether there are any.
    pub(crate) const fn any(&self) -> bool {
        self.our_key.is_some()
            || self.their_key.is_some()
            || self.secret_file.is_some()
            || self.our_secret_file.is_some()
            || self.their_secret_file.is_some()
            || self.our_key_file.is_some()
            || self.their_key_file.is_some()
    }
}

pub(crate) fn binding(text: &str) -> Result<Binding, &'static str> {
    Binding::parse(text).ok_or("a binding is none or tls-exporter")
}

fn api_key(text: &str) -> Result<ApiKey, countersign::protocol::identity::FormError> {
    text.parse()
}

const ROTATE: &str = "\
The old credential stays good until the peer has used the new one and the grace period is over; no request fails.

Under cs1, with Countersign on both sides, the two services agree on the next credential by themselves, on schedule or now:
  countersign rotate billing                     at either of them

Under the other profiles, or with --by-hand:
  countersign rotate billing                     at orders: makes the keys, names the file that has them
  countersign rotate orders --from FILE          at billing, with that file
  countersign rotate billing --check             has billing used them?
  countersign rotate billing --finish            ends the old credential now, removes the file

docs/rotation.md says what to do where the other side has code of its own, and when something goes wrong.";

#[derive(Debug, ClapArgs)]
pub(crate) struct RotateArgs {
    #[command(flatten)]
    pub(crate) peer: PeerName,
    #[command(flatten)]
    pub(crate) overlap: OverlapArgs,
    /// Where to write the keys for the other side; - for standard output [default: a new file in exchange/ of the
    /// data directory]
    #[arg(long, value_name = "FILE|-", conflicts_with_all = ["from", "KeyArgs"])]
    pub(crate) out: Option<PathBuf>,
    /// cs1: make keys and hand them over, although the two services can agree on them by themselves
    #[arg(long, conflicts_with = "from")]
    pub(crate) by_hand: bool,
    /// cs1, shared-secret: the API keys stay, only the secret is new
    #[arg(long, conflicts_with_all = ["from", "our_key", "their_key"])]
    pub(crate) keep_api_keys: bool,
    /// Take in the keys that the other side's `countersign rotate` wrote
    #[arg(long, value_name = "FILE|-|env:NAME", conflicts_with = "KeyArgs")]
    pub(crate) from: Option<SecretSource>,
    /// --from: the fingerprint that the other side's operator has read out, in any groups; needed after a revocation
    #[arg(long, value_name = "DIGITS", requires = "from")]
    pub(crate) fingerprint: Option<ReadOut>,
    #[command(flatten)]
    pub(crate) keys: KeyArgs,
    #[command(flatten)]
    pub(crate) open: OpenArgs,
    /// --check: write JSON
    #[arg(long, requires = "check")]
    pub(crate) json: bool,
    /// --finish: although the peer has not used the new credential, which shuts it out until it does
    #[arg(long, requires = "finish")]
    pub(crate) danger_unconfirmed: bool,
}

/// For how long both credentials are good.
#[derive(Debug, ClapArgs)]
pub(crate) struct OverlapArgs {
    /// For how long both credentials are good at least [default: 7d; in band what [rotation] in countersign.toml says]
    #[arg(long, value_name = "DURATION")]
    pub(crate) grace: Option<Span>,
    /// End the old credential after this time even if the peer has never used the new one [default: never]
    #[arg(long, value_name = "DURATION")]
    pub(crate) deadline: Option<Span>,
}

/// What to do about the rotation that is open.
#[derive(Debug, ClapArgs)]
#[group(multiple = false, conflicts_with_all = ["OverlapArgs", "KeyArgs", "out", "from", "by_hand", "keep_api_keys"])]
pub(crate) struct OpenArgs {
    /// Show where it stands: exit code 1 as long as the peer has not used the new credential
    #[arg(long)]
    pub(crate) check: bool,
    /// End the old credential now
    #[arg(long)]
    pub(crate) finish: bool,
    /// Call it off: the new credential, which nobody has used, ends
    #[arg(long)]
    pub(crate) abandon: bool,
}

#[derive(Debug, ClapArgs)]
pub(crate) struct RevokeArgs {
    #[command(flatten)]
    pub(crate) peer: PeerName,
    /// This one only [default: all that live]
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..))]
    pub(crate) credential: Option<u32>,
    /// Somebody else may have it: whoever comes with it is an alarm on the trail. Also for one that ended earlier
    #[arg(long)]
    pub(crate) compromised: bool,
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

#[derive(Debug, ClapArgs)]
pub(crate) struct BackupArgs {
    /// The new file. It can be opened with the master key of this moment only: keep that too, in another place
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

const RESTORE: &str = "\
First put the master key of the time of the backup into the empty data directory as master.key (mode 0600), or into
COUNTERSIGN_MASTER_KEY, and beside it the directory audit/ of the service that was lost, if it still exists: its trail
knows what was revoked after the backup was made. Those keys are good again until they are revoked again.

Example:
  mkdir -m 700 new && cp -p saved/master.key new/ && cp -rp old/audit new/
  countersign --home new restore orders.backup";

#[derive(Debug, ClapArgs)]
pub(crate) struct RestoreArgs {
    /// What `countersign backup` wrote
    #[arg(value_name = "FILE")]
    pub(crate) file: PathBuf,
}

#[derive(Debug, Subcommand)]
pub(crate) enum MasterKeyCommand {
    /// Put a new master key in the place of the present one; a running server goes on undisturbed
    #[command(after_help = MASTER_KEY)]
    Rotate(MasterKeyRotateArgs),
    /// Wrap the master key with Vault's Transit engine: what stays here is worth nothing without Vault
    #[command(after_help = TRANSIT)]
    Transit(TransitArgs),
}

const MASTER_KEY: &str = "\
If the master key is in the file master.key, one run does everything: it makes a new key, and the old one does not
open the store any more. After a crash, run it again.

If it is in the environment or a systemd credential, there are two steps, and both keys open the store in between:
  openssl rand -base64 32 | (umask 077; cat > new.key)
  countersign master-key rotate --new-key-file new.key
  # put the new key where the old one is, for the service and for this shell; restart the service
  countersign master-key rotate --finish";

#[derive(Debug, ClapArgs)]
pub(crate) struct MasterKeyRotateArgs {
    /// The new key, base64 of 32 bytes [default: a random one, where it is kept in the file master.key]
    #[arg(long, value_name = "FILE|-|env:NAME")]
    pub(crate) new_key_file: Option<SecretSource>,
    /// The new key is in place: let the old one open the store no longer
    #[arg(long, conflicts_with_all = ["new_key_file", "abandon"])]
    pub(crate) finish: bool,
    /// Keep the old key: let the new one open the store no longer
    #[arg(long, conflicts_with = "new_key_file")]
    pub(crate) abandon: bool,
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
    /// Under cs1: explain the response to that request, which is here. The same as --file for what `curl -v` shows of both
    #[arg(long, value_name = "FILE|-")]
    pub(crate) response: Option<PathBuf>,
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
