//! A signed request of the profile `cs1`: the base of its signature beside the one that should have been signed, and which rule
//! it breaks. The MAC that would have been right is never shown, nor computed for anything but to be compared.

mod claim;
mod content;
mod judge;
mod key;
mod message;
mod report;
mod tried;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::ServiceName;
use countersign::protocol::UnixTime;
use countersign::protocol::lookup::LookupKey;
use countersign::store::{Listing, Peer, StateStore};
use serde_json::Value;
use zeroize::Zeroizing;

use self::claim::Claim;
use self::judge::{Context, Judgement};
use self::key::Found;
use self::message::Message;
use super::External;
use super::judge::{Verdict, is_secret_key, stored};
use super::visible::Veil;

/// What this service knows, with which a request is compared.
pub(super) struct Here<'a> {
    pub(super) service: &'a ServiceName,
    pub(super) peer: &'a Peer,
    pub(super) others: &'a Listing,
    pub(super) lookup: &'a LookupKey,
    /// Where the server of this service writes its ticket keys down.
    pub(super) state: &'a dyn StateStore,
    /// Under which URLs this service is reached.
    pub(super) external: &'a [External],
    /// How a moment is shown.
    pub(super) moment: fn(UnixTime) -> String,
}

/// Everything that is told of, with what must not be shown.
struct Case<'a> {
    peer: &'a Peer,
    message: &'a Message,
    claim: &'a Claim,
    found: &'a Found,
    external: &'a [External],
    moment: fn(UnixTime) -> String,
    veil: Veil,
}

/// The explanation.
pub(super) struct Explained {
    pub(super) verdict: Verdict,
    pub(super) text: String,
    pub(super) json: Value,
}

/// Explains a captured request.
///
/// # Errors
/// It is none, or has no signature; in words.
pub(super) fn explain(here: &Here<'_>, captured: &[u8]) -> Result<Explained, String> {
    let message = Message::read(captured).map_err(str::to_owned)?;
    let claim = Claim::read(&message.fields).ok_or_else(|| report::none(here.peer))?;
    let found = key::find(&claim, here.peer, here.service, here.state);
    let external = here.external;
    let context = Context { message: &message, claim: &claim, found: &found, external };
    let judgement: Judgement = context.judge();
    let veil = veil(here, &message, &claim);
    let case = Case {
        peer: here.peer,
        message: &message,
        claim: &claim,
        found: &found,
        external,
        moment: here.moment,
        veil,
    };
    Ok(Explained {
        verdict: judgement.verdict,
        text: report::text(&case, &judgement),
        json: report::json(&case, &judgement),
    })
}

/// Secrets, keys that are secrets, the ticket, and the signature: it may be right, and still be good.
fn veil(here: &Here<'_>, message: &Message, claim: &Claim) -> Veil {
    let copy = |text: &str| Zeroizing::new(text.to_owned());
    let mut hidden = stored(here.others);
    hidden.extend(claim.signature.map(|bytes| (copy(&STANDARD.encode(bytes)), "signature")));
    hidden.extend(
        claim.keyid.as_deref().filter(|keyid| keyid.starts_with("cst.")).map(|keyid| (copy(keyid), "ticket")),
    );
    let pieces = |text: &str| -> Vec<String> {
        text.split([' ', '"', ':', ';', '=', ',', '&', '/', '?']).map(str::to_owned).collect()
    };
    let mut texts: Vec<String> =
        message.fields.values().filter_map(|value| value.to_str().ok()).flat_map(pieces).collect();
    texts.extend(pieces(&message.path));
    texts.extend(message.query.as_deref().map(pieces).unwrap_or_default());
    texts.retain(|text| text.len() >= 16 && is_secret_key(here.others, here.lookup, text));
    hidden.extend(texts.iter().map(|text| (copy(text), "API key")));
    Veil::new(hidden).keeping_spaces()
}
