//! Compares a signed response with what the profile asks for (CS-33, CS-35), and tells of it.

use countersign::protocol::UnixTime;
use countersign::protocol::cs1::explain::{
    base_of_response, is_of_hops, required_of_response, value_of_response,
};
use countersign::protocol::cs1::response::{self, ResponseParts};
use countersign::protocol::wire::printable;
use serde_json::{Value, json};

use super::super::judge::{Signer, Verdict};
use super::super::visible::Veil;
use super::Case;
use super::answer::{Answer, AnswerClaim};
use super::content;
use super::judge::{Broken, Judgement, Line, difference, is_mac};
use super::report::{bases, shown, veiled};
use super::tried::{self, Target};

/// A response beside the request that it answers.
pub(super) struct Answered<'a> {
    pub(super) case: &'a Case<'a>,
    pub(super) answer: &'a Answer,
    pub(super) claim: &'a AnswerClaim,
}

impl Answered<'_> {
    pub(super) fn judge(&self) -> Judgement {
        let Self { case, answer, claim } = self;
        let mut broken: Vec<Broken> = Vec::new();
        let mut breaks = |rule, what: String| broken.push(Broken { rule, what });
        claim.faults.iter().for_each(|fault| breaks("form", fault.clone()));
        if let Some(refused) = &case.found.refused {
            breaks("ticket", refused.clone());
        }
        let came = Target::as_it_came(case.message);
        let (right, _) = tried::right(case.message, case.external, case.found.signer);
        self.coverage(&right, &mut breaks);
        let covered: Vec<&str> = claim.components.iter().map(String::as_str).collect();
        let was_signed = self.was_signed(&covered, &came, &right);
        let is_right =
            case.found.answer.as_ref().and(claim.signature).map(|_| was_signed.as_ref() == Some(&right));
        if is_right == Some(false) {
            breaks("mac", match &was_signed {
                Some(_) => "the signature is right for the answer to another request than this one".to_owned(),
                None => "the signature was made with another key, for another request, or over something else than what it covers here".to_owned(),
            });
        }
        let body = answer.body.as_ref().map(|body| body.as_slice());
        let is_empty = case.message.method == "HEAD" || matches!(answer.status, 204 | 304);
        let is_covered = covered.contains(&"\"content-digest\"") && !is_empty;
        if let Some(what) = content::judge(&answer.fields, body, is_covered) {
            breaks("content", what);
        }
        // What the verifier itself says, in case that it knows better.
        if broken.is_empty()
            && let Some(key) = &case.found.answer
            && let Err(refusal) = response::verify(key, &self.parts(&right))
        {
            broken.push(Broken {
                rule: "form",
                what: format!("a client finds: {}", refusal.problem().title()),
            });
        }
        let target = was_signed.as_ref().unwrap_or(&came);
        let signed = self.lines(&covered, target, &claim.params);
        let names = self.right_components(&right);
        let params = format!("({}){}", names.join(" "), claim.tail);
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        let expected = self.lines(&names, &right, &params);
        let verdict = match (broken.is_empty(), is_right) {
            (true, Some(true)) => Verdict::Right,
            (true, _) => Verdict::Incomplete,
            (false, _) => Verdict::Wrong,
        };
        let changed = was_signed.as_ref().map(|target| target.differences(&right)).unwrap_or_default();
        Judgement {
            verdict,
            is_right,
            difference: difference(&signed, &expected),
            broken,
            signed,
            expected,
            is_certain: was_signed.is_some(),
            changed,
        }
    }

    fn parts<'a>(&'a self, target: &'a Target) -> ResponseParts<'a> {
        let Answer { status, fields, .. } = self.answer;
        ResponseParts { status: *status, fields, request: target.parts(self.case.message) }
    }

    fn coverage(&self, right: &Target, breaks: &mut impl FnMut(&'static str, String)) {
        let Self { answer, claim, .. } = self;
        let covers = |component: &str| claim.components.iter().any(|covered| covered == component);
        for component in self.required() {
            if covers(&component) {
                continue;
            }
            let what = if component.contains(";req") || component == "\"@status\"" {
                format!("`{component}` is not covered: every signature of a response covers it")
            } else if component == "\"content-digest\"" && !answer.fields.contains_key("content-digest") {
                "the response has content and no header `content-digest`, which has to be covered".to_owned()
            } else {
                format!("the response has the header {component}, and the signature does not cover it")
            };
            breaks("coverage", what);
        }
        let parts = self.parts(right);
        for (at, component) in claim.components.iter().enumerate() {
            let shown = printable(component, 60);
            if value_of_response(&parts, component).is_none() {
                breaks(
                    "coverage",
                    format!(
                        "the signature covers {shown}, which neither the response nor its request has in this form: was it taken away on the way?"
                    ),
                );
            } else if claim.components.iter().position(|known| known == component) != Some(at) {
                breaks("form", format!("the component {shown} is covered twice"));
            } else if is_of_hops(name_of(component)) && !component.contains(";req") {
                breaks(
                    "coverage",
                    format!("{shown} is covered, and a proxy may change it: signers leave it out"),
                );
            }
        }
    }

    /// What has to be covered: with content also its digest.
    fn required(&self) -> Vec<String> {
        let Answer { fields, body, .. } = self.answer;
        let mut required = required_of_response(fields);
        let has_content = body.as_ref().is_some_and(|body| !body.is_empty());
        let digest = "\"content-digest\"".to_owned();
        if has_content && !fields.contains_key("countersign-body") && !required.contains(&digest) {
            required.push(digest);
        }
        required
    }

    /// What is covered and may be, in its order, and behind that what is missing.
    fn right_components(&self, right: &Target) -> Vec<String> {
        let parts = self.parts(right);
        let mut components: Vec<String> = Vec::new();
        let may_be = |component: &String| {
            value_of_response(&parts, component).is_some()
                && (component.contains(";req") || !is_of_hops(name_of(component)))
        };
        let covered = self.claim.components.iter().filter(|component| may_be(component)).cloned();
        for component in covered.chain(self.required()) {
            if !components.contains(&component) {
                components.push(component);
            }
        }
        components
    }

    /// As the answer to which request the MAC is right: the one that is here, or one that was changed on the way.
    fn was_signed(&self, covered: &[&str], came: &Target, right: &Target) -> Option<Target> {
        let (key, signature) = (self.case.found.answer.as_ref()?, self.claim.signature?);
        let is_signed = |target: &Target| {
            is_mac(key, &base_of_response(&self.parts(target), covered, &self.claim.params), &signature)
        };
        if is_signed(right) {
            return Some(right.clone());
        }
        tried::candidates(self.case.message, came, right, self.case.external).into_iter().find(is_signed)
    }

    fn lines(&self, components: &[&str], target: &Target, params: &str) -> Vec<Line> {
        let parts = self.parts(target);
        let line = |component: &&str| {
            let name = name_of(component);
            let parameters = component.get(name.len() + 2..).unwrap_or_default().to_owned();
            let value = value_of_response(&parts, component).unwrap_or_default();
            Line { name: name.to_owned(), parameters, value }
        };
        components.iter().map(line).chain([Line::last(params)]).collect()
    }

    pub(super) fn text(&self, judgement: &Judgement) -> String {
        let Case { peer, found, veil, message, .. } = self.case;
        let mut text = format!("peer        {} ({})\n", peer.name, peer.profile);
        if let Some(credential) = &found.credential {
            text.push_str(&format!("credential  {}\n", printable(credential, 100)));
        }
        // Who signs the request does not sign its answer.
        if let Some(signer) = found.signer {
            let signer = if signer == Signer::Peer { "this service" } else { "the peer" };
            text.push_str(&format!("signed by   {signer}\n"));
        }
        text.push_str(&format!("answer      {} to {}\n", self.answer.status, printable(&message.method, 20)));
        if let Some(created) = self.claim.created {
            text.push_str(&format!("time        dated {} UTC\n", (self.case.moment)(UnixTime(created))));
        }
        text.push_str(&format!("MAC         {}\n", self.mac_text(judgement)));
        let head = if judgement.is_certain {
            "what was signed, and what a client makes of this response to this request"
        } else {
            "what the signature covers here, and what it should"
        };
        text.push_str(&format!("\nSignature base: {head}\n{}", bases(veil, judgement)));
        text.push_str(match judgement.verdict {
            Verdict::Right => "\nThe signature is right, and everything that can be told from the two.\n",
            Verdict::Incomplete => {
                "\nNothing is wrong as far as can be told here, but the signature itself could not be checked.\n"
            }
            Verdict::Wrong => "\nThe response is not to be believed:\n",
        });
        for one in &judgement.broken {
            text.push_str(&format!("  - {}: {}\n", one.rule, veiled(veil, &one.what)));
        }
        for cause in self.causes(judgement) {
            text.push_str(&format!("  - {}\n", veiled(veil, &cause)));
        }
        text
    }

    pub(super) fn json(&self, judgement: &Judgement) -> Value {
        let Case { peer, found, veil, .. } = self.case;
        let lines = |lines: &[Line]| -> Vec<String> {
            lines.iter().map(|line| veil.visible(&shown(line)).text).collect()
        };
        let broken =
            judgement.broken.iter().map(|one| json!({"rule": one.rule, "what": veiled(veil, &one.what)}));
        json!({
            "of": "response",
            "peer": peer.name.as_str(),
            "profile": peer.profile.as_str(),
            "credential": found.credential.as_deref().map(|text| printable(text, 100)),
            "signer": found.signer.map(|signer| if signer == Signer::Peer { "us" } else { "peer" }),
            "status": self.answer.status,
            "verdict": match judgement.verdict {
                Verdict::Right => "right",
                Verdict::Wrong => "wrong",
                Verdict::Incomplete => "incomplete",
            },
            "mac": judgement.is_right.map(|right| if right { "right" } else { "wrong" }),
            "created": self.claim.created,
            "broken": broken.collect::<Vec<_>>(),
            "signedIsCertain": judgement.is_certain,
            "signed": lines(&judgement.signed),
            "toBeSigned": lines(&judgement.expected),
            "firstDifference": judgement.difference.map(|(line, byte)| json!({"line": line + 1, "byte": byte + 1})),
            "causes": self.causes(judgement).iter().map(|cause| veiled(veil, cause)).collect::<Vec<_>>(),
        })
    }

    fn mac_text(&self, judgement: &Judgement) -> String {
        match (judgement.is_right, judgement.is_certain) {
            (Some(true), _) => "right".to_owned(),
            (Some(false), true) => "wrong for the answer to this request, right for the one below".to_owned(),
            (Some(false), false) => "wrong".to_owned(),
            (None, _) => {
                let why = self.case.found.missing.as_deref().or(self.case.found.refused.as_deref());
                format!("not checked: {}", why.unwrap_or("the signature cannot be read"))
            }
        }
    }

    fn causes(&self, judgement: &Judgement) -> Vec<String> {
        let mut causes = judgement.changed.clone();
        causes.extend(self.case.message.notes.iter().chain(&self.answer.notes).cloned());
        if judgement.difference.is_none() && judgement.is_right == Some(false) {
            causes.push("the two bases agree, so what was signed was another response or the answer to another request, or the key was another: a proxy on the way may have rewritten the status or a covered header, or answered from a cache".to_owned());
        }
        if self.answer.body.is_none() {
            causes.push("only the head of the response is here: whether its content is the one that was signed was not looked at".to_owned());
        }
        causes
    }
}

/// The name in a component as it is written.
fn name_of(component: &str) -> &str {
    component.strip_prefix('"').and_then(|rest| rest.split('"').next()).unwrap_or(component)
}

/// What is told where the response has no signature.
pub(super) fn none(veil: &Veil, answer: &Answer) -> String {
    let kind = answer.fields.get("content-type").map(|kind| veil.visible(kind.as_bytes()).text);
    format!(
        "there is no signature in this response ({}{}): the refusals of a verifier are not signed (CS-34), nor is what a proxy in between answers. Give the request alone to see why it was refused",
        answer.status,
        kind.map(|kind| format!(", {kind}")).unwrap_or_default()
    )
}
