//! What must hold for every input of every parser that meets the network or a file.
//!
//! A [`Target`] is a plain function that takes bytes and panics if something does not hold. The same function is run
//! in two ways: by libFuzzer (`cargo xtask fuzz`, for as long as one likes), and by `tests/kept_inputs.rs` on a stable
//! compiler, with every input that is kept in `corpus/` and a fixed number of mutations of each ([`mutate`]). See
//! ADR 0014.
//!
//! A target says more than "it does not panic": what was read is written again and must be the same; a reader of the
//! same language that shares no code with ours must agree; what is refused has to stay refused.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    clippy::cast_possible_truncation,
    reason = "whatever does not hold is to end the run"
)]

mod audit;
mod certificates;
mod chain;
mod challenges;
mod config;
mod cs1;
mod exchange;
mod explain;
mod gateway;
mod headers;
mod identity;
mod input;
mod master_key;
pub mod mutate;
mod nonces;
mod origin;
mod pairing;
mod probe;
mod proxies;
mod replies;
mod requests;
mod rotation;
mod store;
mod streams;
mod tokens;
mod urls;
mod vault;

/// One parser, or a few that belong together.
#[derive(Clone, Copy, Debug)]
pub struct Target {
    /// Its name, and that of its folder in `corpus/`.
    pub name: &'static str,
    /// Mutated inputs in one run of the tests: fewer where one takes long.
    pub mutations: usize,
    holds: fn(&[u8]),
}

impl Target {
    /// Runs it with one input.
    ///
    /// # Panics
    /// Something does not hold.
    pub fn run(&self, input: &[u8]) {
        (self.holds)(input);
    }
}

const fn target(name: &'static str, mutations: usize, holds: fn(&[u8])) -> Target {
    Target { name, mutations, holds }
}

const QUICK: usize = 20_000;
const MIDDLE: usize = 2_000;
const SLOW: usize = 100;

/// All targets, by name.
pub const TARGETS: [Target; 49] = [
    target("api_key", QUICK, identity::api_key),
    target("audit_chain", MIDDLE, audit::chain),
    target("audit_lines", SLOW, audit::lines),
    target("audit_recovery", SLOW, chain::recovery),
    target("authenticate_body", QUICK, requests::authenticate_body),
    target("base_url", QUICK, urls::base_url),
    target("certificate", QUICK, certificates::certificate),
    target("challenge", QUICK, challenges::form),
    target("challenge_answers", QUICK, replies::challenge_answers),
    target("config", MIDDLE, config::config),
    target("cs1_accept_signature", QUICK, nonces::accept_signature),
    target("cs1_bodies", QUICK, cs1::bodies),
    target("cs1_challenge", QUICK, cs1::challenge),
    target("cs1_nonce", QUICK, nonces::nonce),
    target("cs1_request", QUICK, cs1::request),
    target("cs1_response", QUICK, cs1::response),
    target("cs1_stream", MIDDLE, streams::stream),
    target("exchange", QUICK, exchange::exported),
    target("explain", SLOW, explain::explain),
    target("explain_signed", SLOW, explain::explain_signed),
    target("forwarded", QUICK, proxies::forwarded),
    target("gateway", SLOW, gateway::connection),
    target("introduction", QUICK, exchange::introduction),
    target("issued_challenge", QUICK, challenges::issued),
    target("listen_url", QUICK, urls::listen_url),
    target("master_key", QUICK, master_key::master_key),
    target("network", QUICK, proxies::network),
    target("origin", MIDDLE, origin::origin),
    target("pairing_code", MIDDLE, pairing::code),
    target("pairing_messages", QUICK, pairing::messages),
    target("pem", MIDDLE, certificates::pem),
    target("pin", QUICK, certificates::pin),
    target("probe", SLOW, probe::date),
    target("problem", MIDDLE, replies::problem),
    target("request_headers", QUICK, headers::presented),
    target("rotation_answers", QUICK, rotation::answers),
    target("rotation_requests", QUICK, rotation::requests),
    target("secret", QUICK, identity::secret),
    target("server_proof", QUICK, replies::server_proof),
    target("service_name", QUICK, identity::service_name),
    target("signature", QUICK, identity::signature),
    target("store_cell", SLOW, store::cell),
    target("store_file", SLOW, store::file),
    target("strip_headers", QUICK, headers::strip),
    target("token", QUICK, tokens::token),
    target("vault_document", MIDDLE, vault::document),
    target("verdict_answers", QUICK, replies::verdict_answers),
    target("verify_body", QUICK, requests::verify_body),
    target("www_authenticate", QUICK, headers::www_authenticate),
];

/// The target with this name.
#[must_use]
pub fn find(name: &str) -> Option<&'static Target> {
    TARGETS.iter().find(|target| target.name == name)
}

/// The target that the environment variable `COUNTERSIGN_FUZZ_TARGET` names.
///
/// # Panics
/// It names none.
#[must_use]
pub fn chosen() -> &'static Target {
    static CHOSEN: std::sync::LazyLock<&Target> = std::sync::LazyLock::new(|| {
        let name = std::env::var("COUNTERSIGN_FUZZ_TARGET").unwrap_or_default();
        find(&name).unwrap_or_else(|| {
            let names: Vec<_> = TARGETS.iter().map(|target| target.name).collect();
            panic!("COUNTERSIGN_FUZZ_TARGET is to be one of {}", names.join(", "))
        })
    });
    &CHOSEN
}
