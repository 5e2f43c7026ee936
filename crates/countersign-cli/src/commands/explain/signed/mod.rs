//! A signed request of the profile `cs1`, or a response beside it: the base of its signature beside the one that should have been signed, and which rule
//! it breaks. The MAC that would have been right is never shown, nor computed for anything but to be compared.

mod answer;
mod answered;
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

use self::answer::{Answer, AnswerClaim};
use self::answered::Answered;
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

/// Explains a captured request, or if it is given, the response to it.
///
/// # Errors
/// It is none, or has no signature; in words.
pub(super) fn explain(
    here: &Here<'_>,
    captured: &[u8],
    response: Option<&[u8]>,
) -> Result<Explained, String> {
    let message = Message::read(captured).map_err(str::to_owned)?;
    let claim = Claim::read(&message.fields).ok_or_else(|| report::none(here.peer))?;
    let found = key::find(&claim, here.peer, here.service, here.state);
    let external = here.external;
    let answer = response.map(Answer::read).transpose().map_err(str::to_owned)?;
    let veil = veil(here, &message, &claim, answer.as_ref());
    let case = Case {
        peer: here.peer,
        message: &message,
        claim: &claim,
        found: &found,
        external,
        moment: here.moment,
        veil,
    };
    if let Some(answer) = &answer {
        let claim =
            AnswerClaim::read(&answer.fields, &claim).ok_or_else(|| answered::none(&case.veil, answer))?;
        let answered = Answered { case: &case, answer, claim: &claim };
        let judgement = answered.judge();
        let (text, json) = (answered.text(&judgement), answered.json(&judgement));
        return Ok(Explained { verdict: judgement.verdict, text, json });
    }
    let context = Context { message: &message, claim: &claim, found: &found, external };
    let judgement: Judgement = context.judge();
    Ok(Explained {
        verdict: judgement.verdict,
        text: report::text(&case, &judgement),
        json: report::json(&case, &judgement),
    })
}

/// Secrets, keys that are secrets, the ticket, and the signatures: they may be right, and still be good.
fn veil(here: &Here<'_>, message: &Message, claim: &Claim, answer: Option<&Answer>) -> Veil {
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
    let of_answer = answer.into_iter().flat_map(|answer| answer.fields.iter());
    for (name, value) in of_answer.filter_map(|(name, value)| Some((name, value.to_str().ok()?))) {
        if name == "signature" {
            let macs = value.split(':').filter(|piece| piece.len() >= 16);
            hidden.extend(macs.map(|mac| (copy(mac), "signature")));
        }
        texts.extend(pieces(value));
    }
    texts.extend(pieces(&message.path));
    texts.extend(message.query.as_deref().map(pieces).unwrap_or_default());
    texts.retain(|text| text.len() >= 16 && is_secret_key(here.others, here.lookup, text));
    hidden.extend(texts.iter().map(|text| (copy(text), "API key")));
    Veil::new(hidden).keeping_spaces()
}
