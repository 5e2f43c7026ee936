//! The explanation of a signed request, for people and for programs.

use countersign::protocol::UnixTime;
use countersign::protocol::wire::printable;
use countersign::store::Peer;
use serde_json::{Value, json};

use super::super::External;
use super::super::judge::{Signer, Verdict};
use super::super::visible::{Veil, line, pair};
use super::Case;
use super::judge::{Judgement, Line};

pub(super) fn text(case: &Case<'_>, judgement: &Judgement) -> String {
    let Case { peer, claim, found, veil, .. } = case;
    let mut text = format!("peer        {} ({})\n", peer.name, peer.profile);
    if let Some(credential) = &found.credential {
        text.push_str(&format!("credential  {}\n", printable(credential, 100)));
    }
    if let Some(signer) = found.signer {
        text.push_str(&format!(
            "signed by   {}\n",
            if signer == Signer::Peer { "the peer" } else { "this service" }
        ));
    }
    if let (Some(created), Some(expires)) = (claim.created, claim.expires) {
        text.push_str(&format!(
            "time        dated {} UTC, good for {} s\n",
            (case.moment)(UnixTime(created)),
            expires.saturating_sub(created)
        ));
    }
    text.push_str(&format!("MAC         {}\n", mac_text(case, judgement)));
    let head = if judgement.is_certain {
        "what was signed, and what a server makes of this request"
    } else {
        "what the signature covers in this request, and what it should"
    };
    text.push_str(&format!("\nSignature base: {head}\n"));
    text.push_str(&bases(veil, judgement));
    text.push_str(&format!("\n{}\n", verdict_text(judgement)));
    for one in &judgement.broken {
        text.push_str(&format!("  - {}: {}\n", one.rule, veiled(veil, &one.what)));
    }
    for cause in causes(case, judgement) {
        text.push_str(&format!("  - {}\n", veiled(veil, &cause)));
    }
    for advice in advice(case, judgement) {
        text.push_str(&format!("\n{advice}\n"));
    }
    text
}

pub(super) fn json(case: &Case<'_>, judgement: &Judgement) -> Value {
    let Case { peer, claim, found, veil, .. } = case;
    let lines = |lines: &[Line]| -> Vec<String> {
        lines.iter().map(|line| veil.visible(&shown(line)).text).collect()
    };
    let broken =
        judgement.broken.iter().map(|one| json!({"rule": one.rule, "what": veiled(veil, &one.what)}));
    json!({
        "peer": peer.name.as_str(),
        "profile": peer.profile.as_str(),
        "credential": found.credential.as_deref().map(|text| printable(text, 100)),
        "signer": found.signer.map(|signer| if signer == Signer::Peer { "peer" } else { "us" }),
        "verdict": match judgement.verdict {
            Verdict::Right => "right",
            Verdict::Wrong => "wrong",
            Verdict::Incomplete => "incomplete",
        },
        "mac": judgement.is_right.map(|right| if right { "right" } else { "wrong" }),
        "created": claim.created,
        "expires": claim.expires,
        "broken": broken.collect::<Vec<_>>(),
        "signedIsCertain": judgement.is_certain,
        "signed": lines(&judgement.signed),
        "toBeSigned": lines(&judgement.expected),
        "firstDifference": judgement.difference.map(|(line, byte)| json!({"line": line + 1, "byte": byte + 1})),
        "causes": causes(case, judgement).iter().map(|cause| veiled(veil, cause)).collect::<Vec<_>>(),
        "advice": advice(case, judgement),
    })
}

/// Fields that hold what opens doors elsewhere: how long they are is shown.
fn is_confidential(name: &str) -> bool {
    name != "idempotency-key"
        && ["auth", "cookie", "key", "token", "secret", "password"].iter().any(|part| name.contains(part))
        && !name.starts_with('@')
}

pub(super) fn shown(line: &Line) -> Vec<u8> {
    if is_confidential(&line.name) && !line.value.is_empty() {
        let Line { name, parameters, value } = line;
        return format!("\"{name}\"{parameters}: ({} bytes, not shown)", value.len()).into_bytes();
    }
    line.bytes()
}

pub(super) fn veiled(veil: &Veil, text: &str) -> String {
    // Words of ours, with pieces of the request in them.
    veil.visible(text.as_bytes()).text
}

/// What is the same in both once, else one below the other. What is missing stands before the last line, which names all.
pub(super) fn bases(veil: &Veil, judgement: &Judgement) -> String {
    let (signed, expected) = (&judgement.signed, &judgement.expected);
    let (Some((last, signed)), Some((right, expected))) = (signed.split_last(), expected.split_last()) else {
        return String::new();
    };
    let both = |one: &Line, other: &Line| match (shown(one), shown(other)) {
        (one, other) if one == other => line("both", &one, veil),
        (one, other) => pair(("signed", &one), ("to be signed", &other), veil),
    };
    let mut text = String::new();
    for (at, one) in signed.iter().enumerate() {
        let is_first = signed.iter().position(|known| known.is_of_the_same(one)) == Some(at);
        text.push_str(&match expected.iter().find(|other| is_first && other.is_of_the_same(one)) {
            Some(other) => both(one, other),
            None => line("signed only", &shown(one), veil),
        });
    }
    for other in expected.iter().filter(|other| signed.iter().all(|one| !one.is_of_the_same(other))) {
        text.push_str(&line("missing", &shown(other), veil));
    }
    text + &both(last, right)
}

fn mac_text(case: &Case<'_>, judgement: &Judgement) -> String {
    match (judgement.is_right, judgement.is_certain) {
        (Some(true), _) => "right".to_owned(),
        (Some(false), true) => "wrong for this request, right for the one below".to_owned(),
        (Some(false), false) => "wrong".to_owned(),
        (None, _) => {
            let why = case.found.missing.as_deref().or(case.found.refused.as_deref());
            format!("not checked: {}", why.unwrap_or("the signature cannot be read"))
        }
    }
}

fn verdict_text(judgement: &Judgement) -> &'static str {
    match (judgement.verdict, judgement.is_right) {
        (Verdict::Right, _) => "The signature is right, and everything that can be told from the request.",
        (Verdict::Incomplete, _) => {
            "Nothing is wrong as far as can be told here, but the signature itself could not be checked."
        }
        (Verdict::Wrong, _) => "The request is refused:",
    }
}

/// What may have happened, where no rule says it.
fn causes(case: &Case<'_>, judgement: &Judgement) -> Vec<String> {
    let mut causes = judgement.changed.clone();
    causes.extend(case.message.notes.iter().cloned());
    let bases_agree = judgement.difference.is_none();
    if bases_agree && judgement.is_right != Some(true) && !judgement.signed.is_empty() {
        causes.push(format!(
            "the two bases agree, so what was signed was another request, or the key was another: a proxy on the way may have rewritten the authority ({}), the path or a covered header",
            compared(case)
        ));
    }
    if case.message.body.is_none() {
        causes.push("only the head of the request is here: whether its content is the one that was signed was not looked at".to_owned());
    }
    causes
}

/// `Host`, beside the URLs under which this service is reached.
fn compared(case: &Case<'_>) -> String {
    let host = case.message.host.as_deref().map_or_else(|| "none".to_owned(), |host| printable(host, 100));
    let known =
        case.external.iter().map(|External { url, .. }| format!("{}{}", url.authority(), url.prefix()));
    let known: Vec<String> = known.collect();
    let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
    format!("`Host` is {host}, the configured external URLs are {known}")
}

fn advice(case: &Case<'_>, judgement: &Judgement) -> Vec<String> {
    let name = &case.peer.name;
    let mut advice = Vec::new();
    match judgement.verdict {
        Verdict::Right => advice.push(
            "If it was refused all the same, it came too late or too early, or was sent twice: `countersign audit tail` shows the reason.".to_owned(),
        ),
        Verdict::Wrong if judgement.is_right == Some(false) && !judgement.is_certain => advice.push(format!(
            "Have the signer print the base that it signs, and compare it line by line with the one above; if they are the same, compare the fingerprint of `countersign peer show {name}` with the other side's. vectors/cs1 has worked examples."
        )),
        _ => {}
    }
    advice
}

/// What is told where there is no signature.
pub(super) fn none(peer: &Peer) -> String {
    format!(
        "there is no signature in this request (Signature-Input and Signature): under cs1 every request to {} but those of the handshake carries one. If the handshake itself fails, compare the fingerprint of `countersign peer show {}` with the other side's",
        peer.name, peer.name
    )
}
