//! Judges a signed request by its head, in the order of CS-46: form, ticket, authority, coverage, MAC, time, nonce. The content comes
//! after that.

use std::sync::Arc;

use countersign_protocol::cs1::content::ContentRule;
use countersign_protocol::cs1::request::{Claimed, RequestParts, has_to_be_covered};
use countersign_protocol::cs1::{Binding, Coverage, Kept, KeyName, Policy, accept};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::Refusal;
use countersign_protocol::wire::header;
use countersign_store::random;
use http::header::CONNECTION;
use http::request::Parts;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Uri};

use super::direct::{self, Pair};
use super::{TlsExporter, burn, external};
use crate::server::attempt::Attempt;
use crate::server::authenticator::{Authenticator, Inner};
use crate::server::snapshot::Identified;
use crate::server::strip::spelled;

const SIGNATURE_INPUT: HeaderName = HeaderName::from_static("signature-input");
const SIGNATURE: HeaderName = HeaderName::from_static("signature");

/// Whether a request carries a message signature, and so is to be judged by it. One of another label beside a guide's
/// credentials is the business of the service behind.
pub(in crate::server) fn is_signed(headers: &HeaderMap) -> bool {
    let mut inputs = headers.get_all(SIGNATURE_INPUT).iter();
    if has_others(headers) {
        return inputs.any(|input| input.as_bytes().starts_with(b"cs="));
    }
    inputs.next().is_some() || headers.contains_key(SIGNATURE)
}

/// Whether a request carries a guide's credentials.
pub(super) fn has_others(headers: &HeaderMap) -> bool {
    let names = [&header::X_API_KEY, &header::X_CHALLENGE, &header::X_SIGNATURE];
    names.iter().any(|name| headers.contains_key(*name)) || !matches!(header::bearer_token(headers), Ok(None))
}

/// What a request was signed with and as what, kept for the signature of its response, which covers it (CS-33).
#[derive(Debug)]
pub(super) struct Signed {
    method: Method,
    authority: String,
    uri: Uri,
    /// With what a proxy took away in front of it; `None` if that is nothing.
    path: Option<String>,
    /// Its two signature fields.
    fields: HeaderMap,
}

impl Signed {
    pub(super) fn parts(&self) -> RequestParts<'_> {
        RequestParts {
            method: self.method.as_str(),
            authority: &self.authority,
            path: self.path.as_deref().unwrap_or_else(|| self.uri.path()),
            query: self.uri.query(),
            fields: &self.fields,
        }
    }
}

/// A request whose head is right and whose nonce is burned.
pub(super) struct Head {
    pub(super) who: Arc<Identified>,
    /// Signs the response.
    pub(super) answer: MacKey,
    pub(super) signed: Signed,
    pub(super) content: ContentRule,
    pub(super) coverage: Coverage,
    /// Whether it is keyed by the TLS connection on which it came (CS-32).
    pub(super) is_bound: bool,
}

/// Judges. `parts` has its cookies joined.
pub(super) fn judge(
    authenticator: &Authenticator,
    attempt: &mut Attempt<'_>,
    parts: &Parts,
) -> Result<Head, Refusal> {
    let inner = authenticator.inner();
    let claimed = Claimed::read(&parts.headers)?.ok_or(Refusal::SignatureForm)?;
    let (snapshot, now) = (inner.peers()?, inner.clock.now());
    let policy = Policy::at(now).with_nonces(&inner.cs1.nonces);
    let signed;
    let (who, answer, session, is_bound, unclaimed) = match claimed.key_name() {
        KeyName::Ticket(ticket) => {
            let (opened, lost) = inner.cs1.tickets.open_ticket(ticket, now)?;
            let claims = opened.claims();
            attempt.with_claimed(&claims.credential);
            let who = snapshot.live(&claims.uid, now).ok_or(Refusal::TokenOrphaned)?;
            let exporter = parts.extensions.get::<TlsExporter>().map(|exporter| &exporter.0);
            let keys = opened.keys_on(exporter)?;
            signed = target(inner, authenticator, parts)?;
            let request = RequestParts { fields: &parts.headers, ..signed.parts() };
            let policy = lost.map_or(policy, |up_to| policy.after_crash(up_to));
            let unclaimed = claimed.verify(&keys.request, &request, policy)?;
            let is_bound = claims.binding == Binding::TlsExporter;
            (Arc::clone(who), keys.response.clone(), claims.keys.id, is_bound, unclaimed)
        }
        KeyName::Direct { client, server } => {
            signed = target(inner, authenticator, parts)?;
            let request = RequestParts { fields: &parts.headers, ..signed.parts() };
            let policy = inner.cs1.lost_of_pairs().map_or(policy, |up_to| policy.after_crash(up_to));
            let pair = Pair { client, server };
            let (credential, unclaimed) =
                direct::verify(inner, attempt, &snapshot, pair, &claimed, &request, policy)?;
            let keys = credential.direct().ok_or(Refusal::DirectOff)?;
            let answer = MacKey::new(keys.server_to_client.as_slice());
            (Arc::clone(&credential.who), answer, keys.id, false, unclaimed)
        }
    };
    attempt.with_credential(&who);
    let verified = unclaimed.claim(&session, |id, until| {
        // So that nobody fills the log alone.
        inner.limiters.nonce(&who.share, now)?;
        burn(inner, id, until, now, Refusal::RequestReplayed)?;
        who.share.count(until);
        Ok(())
    })?;
    let Kept { content, coverage, .. } = verified.keep();
    let mut signed = signed;
    for name in [SIGNATURE_INPUT, SIGNATURE] {
        if let Some(value) = parts.headers.get(&name) {
            signed.fields.insert(name, value.clone());
        }
    }
    Ok(Head { who, answer, signed, content, coverage, is_bound })
}

/// A fresh nonce for a request that was refused because it needs one: the value of `Accept-Signature` (CS-43).
pub(super) fn ask(inner: &Inner, headers: &HeaderMap) -> Option<HeaderValue> {
    let claimed = Claimed::read(headers).ok()??;
    let nonce = inner.cs1.nonces.issue(inner.clock.now(), random());
    accept::ask(&claimed, &nonce).ok()
}

/// What was signed of the request line and the host (CS-28).
fn target(inner: &Inner, authenticator: &Authenticator, parts: &Parts) -> Result<Signed, Refusal> {
    let urls = inner.cs1.external.load();
    let by_proxy = authenticator.host_by_proxy(parts);
    let url = match &by_proxy {
        Some(host) => external::named(&urls, host),
        None => external::find(&urls, &parts.uri, &parts.headers),
    };
    let url = url.ok_or(Refusal::Misdirected)?;
    let path = (!url.prefix().is_empty()).then(|| format!("{}{}", url.prefix(), parts.uri.path()));
    Ok(Signed {
        method: parts.method.clone(),
        authority: url.authority().to_owned(),
        // The text is shared, not copied.
        uri: parts.uri.clone(),
        path,
        fields: HeaderMap::new(),
    })
}

/// Takes out of a verified request what must not travel on: the signature, which is nobody else's business; what would send
/// the handler elsewhere than what was signed (CS-47); and what some readers take for a field that has to be covered, since they
/// read every mark in a name alike (`x_http_method_override`, see [`crate::server::strip_credentials`]).
pub(super) fn clean(headers: &mut HeaderMap, coverage: &Coverage) {
    headers.remove(SIGNATURE_INPUT);
    headers.remove(SIGNATURE);
    let misleads = |name: &&HeaderName| {
        let spelled = spelled(name);
        let known = ["x-original-url", "x-rewrite-url"].contains(&&*spelled) || has_to_be_covered(&spelled);
        known && !coverage.covers(name)
    };
    let doomed: Vec<HeaderName> = headers.keys().filter(misleads).cloned().collect();
    for name in doomed {
        headers.remove(name);
    }
    keep_covered(headers, coverage);
}

/// `Connection` is covered by nothing, and a proxy takes out what it names (RFC 9110, section 7.6.1): anybody on the way could
/// have what was signed taken out behind us, such as `If-Match`.
fn keep_covered(headers: &mut HeaderMap, coverage: &Coverage) {
    let lines = headers.get_all(CONNECTION).iter().filter_map(|line| line.to_str().ok());
    let is_covered = |option: &&str| option.parse::<HeaderName>().is_ok_and(|name| coverage.covers(&name));
    let options = lines.flat_map(|line| line.split(',')).map(str::trim);
    let left = options.filter(|option| !is_covered(option)).collect::<Vec<_>>().join(", ");
    if headers.remove(CONNECTION).is_some()
        && !left.is_empty()
        && let Ok(left) = HeaderValue::from_str(&left)
    {
        headers.insert(CONNECTION, left);
    }
}
