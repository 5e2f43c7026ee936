//! Compares a signed request with what the profile asks for, in the order in which a server looks (CS-46).

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::protocol::UnixTime;
use countersign::protocol::cs1::explain::{base, is_of_hops, required, value};
use countersign::protocol::cs1::request::{Claimed, MAX_WINDOW, RequestParts};
use countersign::protocol::mac::MacKey;
use countersign::protocol::refusal::Refusal;

use super::super::External;
use super::super::judge::Verdict;
use super::super::visible::first_difference;
use super::claim::Claim;
use super::content;
use super::key::Found;
use super::message::Message;
use super::tried::{self, Target};

/// A rule that the request breaks.
pub(super) struct Broken {
    /// Stable, for programs: `form`, `ticket`, `target`, `coverage`, `mac`, `time`, `content`.
    pub(super) rule: &'static str,
    pub(super) what: String,
}

/// One line of a signature base.
#[derive(Clone, PartialEq, Eq)]
pub(super) struct Line {
    pub(super) name: String,
    /// Behind the name, as they are written; of requests none.
    pub(super) parameters: String,
    pub(super) value: Vec<u8>,
}

impl Line {
    /// The one that ends each base.
    pub(super) fn last(params: &str) -> Self {
        Self {
            name: "@signature-params".to_owned(),
            parameters: String::new(),
            value: params.as_bytes().to_vec(),
        }
    }

    pub(super) fn is_of_the_same(&self, other: &Self) -> bool {
        (&self.name, &self.parameters) == (&other.name, &other.parameters)
    }

    pub(super) fn bytes(&self) -> Vec<u8> {
        [format!("\"{}\"{}: ", self.name, self.parameters).as_bytes(), &self.value].concat()
    }
}

pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    /// Whether the MAC is right for what was signed; `None` if the key is not here.
    pub(super) is_right: Option<bool>,
    pub(super) broken: Vec<Broken>,
    /// What the signature covers, as it was signed if that could be found, else as the request says it.
    pub(super) signed: Vec<Line>,
    /// What should have been signed.
    pub(super) expected: Vec<Line>,
    /// The line and the byte in which the two differ first, both counted from 0.
    pub(super) difference: Option<(usize, usize)>,
    /// Whether what was signed is known, because the MAC is right for it.
    pub(super) is_certain: bool,
    /// What was another where it was signed.
    pub(super) changed: Vec<String>,
}

pub(super) struct Context<'a> {
    pub(super) message: &'a Message,
    pub(super) claim: &'a Claim,
    pub(super) found: &'a Found,
    pub(super) external: &'a [External],
}

impl Context<'_> {
    pub(super) fn judge(&self) -> Judgement {
        let Self { message, claim, found, external } = *self;
        let mut broken: Vec<Broken> = Vec::new();
        let mut breaks = |rule, what: String| broken.push(Broken { rule, what });
        claim.faults.iter().for_each(|fault| breaks("form", fault.clone()));
        if let Some(refused) = &found.refused {
            breaks("ticket", refused.clone());
        }
        let came = Target::as_it_came(message);
        let (right, told) = tried::right(message, external, found.signer);
        if let Some(told) = told {
            breaks("target", told);
        }
        self.coverage(&mut breaks);
        let covered: Vec<&str> = claim.components.iter().map(String::as_str).collect();
        let was_signed = self.was_signed(&covered, &came, &right);
        let (target, changed) = was_signed.clone().unwrap_or_else(|| (came.clone(), Vec::new()));
        // The MAC is right for what a server makes of the request, or it is not.
        let is_right = found
            .key
            .as_ref()
            .and(claim.signature)
            .map(|_| was_signed.as_ref().is_some_and(|(target, _)| *target == right));
        if is_right == Some(false) {
            breaks("mac", match &was_signed {
                Some(_) => "the signature is right for another request than the one that came".to_owned(),
                None => "the signature was made with another key, or over something else than what it covers here".to_owned(),
            });
        }
        self.time(&mut breaks);
        let body = message.body.as_ref().map(|body| body.as_slice());
        if let Some(what) = content::judge(&message.fields, body, covered.contains(&"content-digest")) {
            breaks("content", what);
        }
        if let Some(what) = self.refused(&right).filter(|_| broken.is_empty()) {
            broken.push(Broken { rule: "form", what });
        }
        let signed = self.lines(&covered, &target, &claim.params);
        let names = self.right_components();
        let list: Vec<String> = names.iter().map(|name| format!("\"{name}\"")).collect();
        let params = format!("({}){}", list.join(" "), claim.tail);
        let expected = self.lines(&names, &right, &params);
        let difference = difference(&signed, &expected);
        let verdict = match (broken.is_empty(), is_right) {
            (true, Some(true)) => Verdict::Right,
            (true, _) => Verdict::Incomplete,
            (false, _) => Verdict::Wrong,
        };
        let is_certain = was_signed.is_some();
        Judgement { verdict, is_right, broken, signed, expected, difference, is_certain, changed }
    }

    /// What the verifier itself says, in case that it knows better. About the time it is not asked.
    fn refused(&self, right: &Target) -> Option<String> {
        let key = self.found.key.as_ref()?;
        let claimed = Claimed::read(&self.message.fields).ok()??;
        let now = UnixTime(self.claim.created?);
        let refusal = claimed.verify(key, &right.parts(self.message), now).err()?;
        if matches!(refusal, Refusal::ClockSkew | Refusal::NonceRequired) {
            return None;
        }
        let problem = refusal.problem();
        Some(format!("a server answers {}: {}", problem.name(), problem.title()))
    }

    fn coverage(&self, breaks: &mut impl FnMut(&'static str, String)) {
        let Self { message, claim, .. } = *self;
        let covers = |name: &str| claim.components.iter().any(|covered| covered == name);
        for name in self.required() {
            if !covers(name) {
                let what = if name.starts_with('@') {
                    format!("`{name}` is not covered: every signature covers it")
                } else if name == "content-digest" && !message.fields.contains_key(name) {
                    "the request has content and no header `content-digest`, which has to be covered"
                        .to_owned()
                } else {
                    format!("the request has the header `{name}`, and the signature does not cover it")
                };
                breaks("coverage", what);
            }
        }
        let parts = message.parts("", &message.path);
        for name in &claim.components {
            let shown = countersign::protocol::wire::printable(name, 40);
            if name.starts_with('@') && value(&parts, name).is_none() {
                breaks(
                    "form",
                    format!("the component `{shown}` is not one of @method, @authority, @path, @query"),
                );
            } else if value(&parts, name).is_none() {
                let is_there = message.fields.contains_key(name.as_str());
                breaks(
                    "coverage",
                    if is_there {
                        format!(
                            "the header `{shown}` is covered, and stands on several lines, or holds bytes outside of ASCII"
                        )
                    } else {
                        format!(
                            "the signature covers the header `{shown}`, which the request does not have: was it taken away on the way?"
                        )
                    },
                );
            } else if is_of_hops(name) {
                // A verifier takes it, and the next proxy breaks it.
                breaks(
                    "coverage",
                    format!(
                        "the header `{shown}` is covered, and a proxy may change it: signers leave it out"
                    ),
                );
            }
        }
    }

    /// What has to be covered: with content also its digest.
    fn required(&self) -> Vec<&'static str> {
        let mut names = required(&self.message.fields);
        let has_content = self.message.body.as_ref().is_some_and(|body| !body.is_empty());
        let is_stream = self.message.fields.contains_key("countersign-body");
        if has_content && !is_stream && !names.contains(&"content-digest") {
            names.push("content-digest");
        }
        names
    }

    /// What is covered and may be, in its order, and behind that what is missing.
    fn right_components(&self) -> Vec<&str> {
        let parts = self.message.parts("", &self.message.path);
        let mut names: Vec<&str> = Vec::new();
        for name in &self.claim.components {
            if value(&parts, name).is_some() && !is_of_hops(name) && !names.contains(&name.as_str()) {
                names.push(name);
            }
        }
        for name in self.required() {
            if !names.contains(&name) {
                names.push(name);
            }
        }
        names
    }

    fn time(&self, breaks: &mut impl FnMut(&'static str, String)) {
        let (Some(created), Some(expires)) = (self.claim.created, self.claim.expires) else { return };
        if expires <= created {
            breaks("time", "`expires` is not after `created`".to_owned());
        } else if expires - created > MAX_WINDOW {
            let seconds = expires - created;
            breaks("time", format!("it is good for {seconds} s: at most {MAX_WINDOW} s are allowed"));
        }
        let Some((issued, ends)) = self.found.lives else { return };
        if created >= ends {
            let late = created - ends;
            breaks(
                "ticket",
                format!(
                    "it is dated {late} s after its ticket has expired: the caller needs a new handshake"
                ),
            );
        } else if created + 5 < issued {
            let early = issued - created;
            breaks(
                "time",
                format!(
                    "it is dated {early} s before its ticket was issued: the caller signs by its own clock, and not by the time of the handshake"
                ),
            );
        }
    }

    /// For which request the MAC is right: the one that came, the one that a server makes of it, or one that was changed on
    /// the way; with what was changed. Nothing is learnt from this by whoever cannot make that signature already.
    fn was_signed(&self, covered: &[&str], came: &Target, right: &Target) -> Option<(Target, Vec<String>)> {
        let (key, signature) = (self.found.key.as_ref()?, self.claim.signature?);
        let is_signed = |target: &Target| {
            let parts = target.parts(self.message);
            is_mac(key, &base(&parts, covered, &self.claim.params), &signature)
        };
        if is_signed(right) {
            return Some((right.clone(), Vec::new()));
        }
        let candidates = tried::candidates(self.message, came, right, self.external);
        let target = candidates.into_iter().find(is_signed)?;
        let changed = target.differences(right);
        Some((target, changed))
    }

    fn lines(&self, names: &[&str], target: &Target, params: &str) -> Vec<Line> {
        let parts: RequestParts<'_> = target.parts(self.message);
        let line = |name: &&str| Line {
            name: (*name).to_owned(),
            parameters: String::new(),
            value: value(&parts, name).unwrap_or_default(),
        };
        names.iter().map(line).chain([Line::last(params)]).collect()
    }
}

pub(super) fn is_mac(key: &MacKey, base: &[u8], signature: &[u8; 32]) -> bool {
    let mac = key.mac(&[base]);
    aws_lc_rs::constant_time::verify_slices_are_equal(mac.as_bytes(), signature).is_ok()
}

pub(super) fn difference(one: &[Line], other: &[Line]) -> Option<(usize, usize)> {
    let lines = one.len().max(other.len());
    let bytes = |lines: &[Line], at: usize| lines.get(at).map(Line::bytes).unwrap_or_default();
    (0..lines).find_map(|at| Some((at, first_difference(&bytes(one, at), &bytes(other, at))?)))
}

/// The text of a digest, as `content-digest` has it.
pub(super) fn digest_text(content: &[u8]) -> String {
    let digest = aws_lc_rs::digest::digest(&aws_lc_rs::digest::SHA256, content);
    format!("sha-256=:{}:", STANDARD.encode(digest.as_ref()))
}
