//! The explanation, for people and for programs.

use countersign::Profile;
use countersign::protocol::mac::encode_hex;
use countersign::store::Peer;
use serde_json::{Value, json};

use super::capture::Captured;
use super::judge::{Field, Judgement, Signer, Verdict};
use super::visible::{Veil, first_difference, line, pair};

const NOT_SHOWN: &str = "(not shown)";

pub(super) fn text(peer: &Peer, captured: &Captured, judgement: &Judgement) -> String {
    let veil = &judgement.veil;
    let mut text = format!("peer        {} ({})\n", peer.name, peer.profile);
    if let Some(credential) = &judgement.credential {
        text.push_str(&format!("credential  {credential}\n"));
    }
    if let Some(signer) = judgement.signer {
        text.push_str(&format!("signed by   {}\n", signer_text(signer)));
    }
    if let Some(refused) = &captured.refused {
        text.push_str(&format!("form        a server answers 400: {refused}\n"));
    }
    text.push('\n');
    for (name, field) in fields(judgement) {
        text.push_str(&format!("{name:<10}  {}\n", field.remark));
        text.push_str(&field_text(veil, field));
    }
    text.push_str(&format!("\nThe rule: {}\n", rule(peer.profile)));
    text.push_str(&signed_text(judgement));
    text.push_str(&format!("\n{}\n", verdict_text(peer, judgement)));
    for cause in causes(judgement) {
        text.push_str(&format!("  - {cause}\n"));
    }
    for line in advice(peer, judgement) {
        text.push_str(&format!("\n{line}\n"));
    }
    text
}

pub(super) fn json(peer: &Peer, captured: &Captured, judgement: &Judgement) -> Value {
    let veil = &judgement.veil;
    let field = |field: &Field| {
        let visible = |text: &String| veil.visible(text.as_bytes()).text;
        json!({
            "bytes": field.got.as_ref().map(|text| text.len()),
            "text": field.got.as_deref().filter(|_| field.shown).map(visible),
            "expected": field.expected.as_deref().map(visible),
            "firstDifference": difference(field).map(|index| index + 1),
            "remark": field.remark,
        })
    };
    let found = judgement.search.as_ref().and_then(|search| search.found.as_ref());
    let signed = found.map(|found| message_json(veil, &found.message));
    let expected = judgement.expected.as_ref().map(|message| message_json(veil, message));
    let first = found.zip(judgement.expected.as_ref());
    let first = first.and_then(|(found, expected)| first_difference(&found.message, expected));
    json!({
        "peer": peer.name.as_str(),
        "profile": peer.profile.as_str(),
        "credential": judgement.credential,
        "signer": judgement.signer.map(|signer| if signer == Signer::Peer { "peer" } else { "us" }),
        "verdict": match judgement.verdict {
            Verdict::Right => "right",
            Verdict::Wrong => "wrong",
            Verdict::Incomplete => "incomplete",
        },
        "refusedForm": captured.refused,
        "apiKey": field(&judgement.api_key),
        "challenge": field(&judgement.challenge),
        "signature": field(&judgement.signature),
        "rule": rule(peer.profile),
        "signed": signed,
        "toBeSigned": expected,
        "firstDifference": first.map(|index| index + 1),
        "mistakes": found.map(|found| &found.mistakes),
        "tried": judgement.search.as_ref().map(|search| search.tried),
        "causes": causes(judgement),
        "advice": advice(peer, judgement),
    })
}

fn message_json(veil: &Veil, message: &[u8]) -> Value {
    json!({"bytes": message.len(), "text": veil.visible(message).text})
}

fn fields(judgement: &Judgement) -> [(&'static str, &Field); 3] {
    [
        ("API key", &judgement.api_key),
        ("challenge", &judgement.challenge),
        ("signature", &judgement.signature),
    ]
}

fn difference(field: &Field) -> Option<usize> {
    first_difference(field.got.as_ref()?.as_bytes(), field.expected.as_ref()?.as_bytes())
}

/// What came, and what should have, one below the other.
fn field_text(veil: &Veil, field: &Field) -> String {
    let Some(got) = &field.got else { return String::new() };
    if !field.shown {
        let differs = difference(field).map(|index| format!(", other than expected from byte {}", index + 1));
        return format!(
            "    came        {:>4} bytes{} {NOT_SHOWN}\n",
            got.len(),
            differs.unwrap_or_default()
        );
    }
    match &field.expected {
        None => line("came", got.as_bytes(), veil),
        Some(expected) => pair(("came", got.as_bytes()), ("expected", expected.as_bytes()), veil),
    }
}

fn signed_text(judgement: &Judgement) -> String {
    let veil = &judgement.veil;
    let found = judgement.search.as_ref().and_then(|search| search.found.as_ref());
    match (found, &judgement.expected) {
        (Some(found), Some(expected)) => {
            pair(("was signed", &found.message), ("to be signed", expected), veil)
        }
        (None, Some(expected)) => {
            let hash = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, expected);
            format!(
                "{}    its SHA-256             {}\n",
                line("to be signed", expected, veil),
                encode_hex(hash.as_ref())
            )
        }
        _ => String::new(),
    }
}

fn rule(profile: Profile) -> &'static str {
    match profile {
        Profile::SharedSecret => {
            "signature = hex(HMAC-SHA256(key = text of the signer's secret, message = the signer's API key, then the challenge))"
        }
        _ => "signature = hex(HMAC-SHA256(key = text of the API key, message = the challenge))",
    }
}

fn signer_text(signer: Signer) -> &'static str {
    match signer {
        Signer::Peer => "the peer, with its key and its secret",
        Signer::Us => "this service, with our key and our secret",
    }
}

fn verdict_text(peer: &Peer, judgement: &Judgement) -> String {
    match (judgement.verdict, &judgement.search) {
        (Verdict::Right, _) => "The signature is right.".to_owned(),
        (Verdict::Incomplete, _) => "The signature cannot be judged:".to_owned(),
        (Verdict::Wrong, Some(search)) if search.found.is_some() => {
            "The signature is wrong, and this is exactly how it was made:".to_owned()
        }
        (Verdict::Wrong, search) => format!(
            "The signature is wrong. None of {} known mistakes makes it: most likely it was made with another secret than the one that is stored for {}, or over another challenge.",
            search.as_ref().map_or(0, |search| search.tried),
            peer.name
        ),
    }
}

fn causes(judgement: &Judgement) -> Vec<String> {
    let found = judgement.search.as_ref().and_then(|search| search.found.as_ref());
    let mistakes = found.into_iter().flat_map(|found| found.mistakes.iter().map(|text| (*text).to_owned()));
    mistakes.chain(judgement.causes.iter().cloned()).collect()
}

fn advice(peer: &Peer, judgement: &Judgement) -> Vec<String> {
    let name = &peer.name;
    let mut advice = Vec::new();
    match judgement.verdict {
        Verdict::Right => advice.push(
            "If it was refused all the same, the challenge was used, too old, or made before a restart: `countersign audit tail` shows the reason.".to_owned(),
        ),
        Verdict::Wrong if judgement.search.as_ref().is_some_and(|search| search.found.is_none()) => advice.push(format!(
            "Compare the fingerprint that `countersign peer show {name}` prints with the other side's. Then have the client print the length and the SHA-256 of what it passes to HMAC as message, and compare them with those above. vectors/ has worked examples."
        )),
        _ => {}
    }
    advice
}
