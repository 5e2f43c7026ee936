//! Compares a captured request with what the profile says about this peer.

use countersign::protocol::lookup::LookupKey;
use countersign::protocol::{api_key, shared_secret};
use countersign::store::{Credential, Ending, Keys, Listing, Peer};
use countersign::{Profile, SharedSecret};
use zeroize::Zeroizing;

use super::capture::Captured;
use super::mistakes::{self, Material, Search};
use super::visible::Veil;

/// Who makes the signature.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Signer {
    Peer,
    Us,
}

/// What came of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Verdict {
    /// The signature is the right one.
    Right,
    /// It is not.
    Wrong,
    /// It cannot be told: something is missing.
    Incomplete,
}

/// The comparison, with nothing in it that must not be shown.
pub(super) struct Judgement {
    pub(super) verdict: Verdict,
    pub(super) signer: Option<Signer>,
    /// The credential that the API key belongs to.
    pub(super) credential: Option<String>,
    pub(super) api_key: Field,
    pub(super) challenge: Field,
    pub(super) signature: Field,
    /// What has to be signed.
    pub(super) expected: Option<Zeroizing<Vec<u8>>>,
    pub(super) search: Option<Search>,
    pub(super) causes: Vec<String>,
    pub(super) veil: Veil,
}

/// One field as it came, and as it should be.
#[derive(Default)]
pub(super) struct Field {
    pub(super) got: Option<Zeroizing<String>>,
    /// Whether what came may be shown.
    pub(super) shown: bool,
    /// What should have come, where that is public and another text.
    pub(super) expected: Option<Zeroizing<String>>,
    pub(super) remark: String,
}

/// A credential in one direction: who proves itself with what.
struct Side {
    signer: Signer,
    id: String,
    key: Option<Zeroizing<String>>,
    secret: Option<Zeroizing<String>>,
}

pub(super) struct Context<'a> {
    pub(super) peer: &'a Peer,
    pub(super) others: &'a Listing,
    pub(super) lookup: &'a LookupKey,
    pub(super) captured: &'a Captured,
    /// The challenge that was handed out, as the operator says.
    pub(super) handed_out: Option<&'a str>,
}

impl Context<'_> {
    pub(super) fn judge(&self) -> Judgement {
        let sides = self.sides();
        let mut causes: Vec<String> = self.captured.notes.clone();
        let mut api_key = self.api_key(&sides, &mut causes);
        let challenge = self.challenge(&mut causes);
        let signature = self.signature(&mut causes);
        let meant: Vec<&Side> = self.meant(&sides);
        let side = meant.first().copied();
        let key_is_right = api_key.expected.is_none();
        if self.peer.profile == Profile::ApiKey {
            api_key.shown = false;
            api_key.expected = None;
        }
        let right = self.handed_out.or(self.captured.challenge.as_deref().map(String::as_str));
        let expected = self.expected(side, right);
        let mut judgement = Judgement {
            verdict: Verdict::Incomplete,
            signer: side.map(|side| side.signer),
            credential: side.map(|side| side.id.clone()),
            api_key,
            challenge,
            signature,
            expected,
            search: None,
            causes,
            veil: self.veil(&sides),
        };
        let (Some(right), Some(signature)) = (right, &self.captured.signature) else { return judgement };
        let mut searches: Vec<(Search, &Side)> = meant
            .iter()
            .filter_map(|side| {
                Some((mistakes::search(&self.material(side, &sides, right)?, signature), *side))
            })
            .collect();
        // The credential that explains it with the fewest mistakes; during a rotation there are two.
        searches.sort_by_key(|(search, _)| {
            search.found.as_ref().map_or(usize::MAX, |found| found.mistakes.len())
        });
        let Some((search, side)) = searches.into_iter().next() else { return judgement };
        judgement.signer = Some(side.signer);
        judgement.credential = Some(side.id.clone());
        judgement.expected = self.expected(Some(side), Some(right));
        let is_right = search.found.as_ref().is_some_and(|found| found.mistakes.is_empty())
            && key_is_right
            && judgement.challenge.expected.is_none();
        judgement.verdict = match (is_right, &self.captured.api_key) {
            (true, Some(_)) => Verdict::Right,
            // Nobody who gets this request knows whose signature it is.
            (true, None) => Verdict::Incomplete,
            (false, _) => Verdict::Wrong,
        };
        judgement.search = Some(search);
        judgement
    }

    /// All credentials of this peer that are accepted or sent, in both directions.
    fn sides(&self) -> Vec<Side> {
        let copy = |text: &str| Some(Zeroizing::new(text.to_owned()));
        let mut sides = Vec::new();
        for credential in self.peer.credentials.iter().rev() {
            let id = credential.id(&self.peer.name).to_string();
            let mut add = |signer, key, secret| sides.push(Side { signer, id: id.clone(), key, secret });
            match &credential.keys {
                // Its messages are judged in `signed`.
                Keys::Cs1 { .. } => {}
                Keys::SharedSecret { our_key, their_key, our_secret, their_secret } => {
                    add(Signer::Peer, copy(their_key.expose()), copy(their_secret.expose()));
                    add(Signer::Us, copy(our_key.expose()), copy(our_secret.expose()));
                }
                Keys::ApiKey { ours, .. } => {
                    if let Some(presented) = self.presents(credential) {
                        add(Signer::Peer, copy(presented), copy(presented));
                    }
                    if let Some(ours) = ours {
                        add(Signer::Us, copy(ours.expose()), copy(ours.expose()));
                    }
                }
            }
        }
        sides
    }

    /// The key that came, if it is the one that this credential has a hash of, but for what is written around it.
    fn presents(&self, credential: &Credential) -> Option<&str> {
        let Keys::ApiKey { theirs: Some(theirs), .. } = &credential.keys else { return None };
        let came = self.captured.api_key.as_deref()?;
        [came.as_str(), bare(came)].into_iter().find(|text| self.lookup.hash(text) == *theirs)
    }

    /// The sides that the presented key belongs to; without any, the peer's.
    fn meant<'a>(&self, sides: &'a [Side]) -> Vec<&'a Side> {
        let came = self.captured.api_key.as_deref().map(|key| bare(key).to_owned()).map(Zeroizing::new);
        let belongs = |side: &&Side| side.key.is_some() && side.key == came;
        let found: Vec<&Side> = sides.iter().filter(belongs).collect();
        if found.is_empty() {
            sides.iter().filter(|side| side.signer == Signer::Peer).collect()
        } else {
            found
        }
    }

    fn api_key(&self, sides: &[Side], causes: &mut Vec<String>) -> Field {
        let Some(came) = &self.captured.api_key else {
            causes.push("no API key came: the header X-API-Key, or the member apiKey".to_owned());
            return Field { remark: "did not come".to_owned(), ..Field::default() };
        };
        let mut field = Field { got: Some(came.clone()), ..Field::default() };
        if let Some(side) = sides.iter().find(|side| side.key.as_ref() == Some(came)) {
            field.shown = true;
            field.remark = match side.signer {
                Signer::Peer => "the one that the peer presents",
                Signer::Us => "the one that this service presents",
            }
            .to_owned();
            return field;
        }
        let near = sides
            .iter()
            .find(|side| side.key.as_ref().is_some_and(|key| bare(came).eq_ignore_ascii_case(key)));
        let wanted = near.or_else(|| sides.iter().find(|side| side.signer == Signer::Peer));
        field.shown = near.is_some();
        field.expected = wanted.and_then(|side| side.key.clone());
        field.remark = "not a key of this peer".to_owned();
        causes.push(match near {
            Some(_) => "the API key is right but for its letter case or what stands around it".to_owned(),
            None => self.whose(came, sides),
        });
        field
    }

    /// What can be said about a key that is not this peer's.
    fn whose(&self, came: &str, sides: &[Side]) -> String {
        if sides.iter().any(|side| side.secret.as_ref().is_some_and(|secret| **secret == bare(came))) {
            return format!(
                "the SECRET was sent in place of the API key: it has travelled. Exchange new keys with {}",
                self.peer.name
            );
        }
        let hash = self.lookup.hash(bare(came));
        if let Some(ended) = self.peer.ended.iter().find(|ended| ended.presented == Some(hash)) {
            let how = match ended.how {
                Ending::Retired => "was retired by a rotation",
                Ending::Abandoned | Ending::GivenUp => "belonged to a rotation that was called off",
                Ending::Revoked | Ending::Compromised => "was revoked",
            };
            return format!("the API key is that of {}/{}, which {how}", self.peer.name, ended.number);
        }
        for other in &self.others.peers {
            let has = other.credentials.iter().any(|credential| match &credential.keys {
                Keys::Cs1 { our_key, their_key, .. } | Keys::SharedSecret { our_key, their_key, .. } => {
                    [our_key, their_key].iter().any(|key| key.expose() == bare(came))
                }
                Keys::ApiKey { theirs, .. } => *theirs == Some(hash),
            });
            if has {
                return format!("the API key is that of the peer {}: see --peer {0}", other.name);
            }
        }
        "the API key is not known here: a typing mistake, an older key, or that of another service".to_owned()
    }

    fn challenge(&self, causes: &mut Vec<String>) -> Field {
        let came = self.captured.challenge.as_ref();
        let handed_out = self.handed_out.map(|text| Zeroizing::new(text.to_owned()));
        let right_form = |text: &str| match self.peer.profile {
            Profile::SharedSecret => text.parse::<shared_secret::Challenge>().is_ok(),
            _ => text.parse::<api_key::Challenge>().is_ok(),
        };
        let form = match self.peer.profile {
            Profile::SharedSecret => "16 bytes in base64: 22 characters and ==",
            _ => "ten digits, a dot, 10 to 64 of 0-9 A-Z a-z -",
        };
        let Some(judged) = came.or(handed_out.as_ref()) else {
            causes.push(match self.peer.profile {
                Profile::ApiKey => {
                    "the request does not carry the challenge: give the one that the server handed out, --challenge C"
                }
                _ => "no challenge came: the header X-Challenge, or the member challenge (or --challenge C)",
            }
            .to_owned());
            return Field { remark: "did not come".to_owned(), ..Field::default() };
        };
        let fits = right_form(judged);
        let mut field = Field { got: Some(judged.clone()), shown: judged.len() <= 200, ..Field::default() };
        field.remark = if fits { "has its form" } else { "is no challenge of this profile" }.to_owned();
        if !fits {
            causes.push(format!(
                "the challenge does not have its form ({form}); it is sent and signed as it came"
            ));
        }
        if holds_signature(judged) {
            field.shown = false;
            causes.push(
                "what came as the challenge has the form of a signature: have the two changed places?"
                    .to_owned(),
            );
        }
        if let (Some(came), Some(handed_out)) = (came, &handed_out)
            && came != handed_out
        {
            field.expected = Some(handed_out.clone());
            field.remark = "not the one that was handed out".to_owned();
            causes.push("the request answers another challenge than the one that was handed out".to_owned());
        }
        field
    }

    /// The signature itself is not shown: it may be right, and still be good.
    fn signature(&self, causes: &mut Vec<String>) -> Field {
        let Some(came) = &self.captured.signature else {
            causes
                .push("no signature came: the header X-Signature, or the member signedChallenge".to_owned());
            return Field { remark: "did not come".to_owned(), ..Field::default() };
        };
        let is_hex = came.bytes().all(|byte| byte.is_ascii_hexdigit());
        let remark = match (is_hex, came.len()) {
            (true, 64) => "64 hexadecimal digits, as it has to be",
            (true, 32) => {
                "32 hexadecimal digits: that is 16 bytes, as MD5 makes them; SHA-256 makes 64 digits"
            }
            (true, 40) => {
                "40 hexadecimal digits: that is 20 bytes, as SHA-1 makes them; SHA-256 makes 64 digits"
            }
            (true, 128) => {
                "128 hexadecimal digits: 64 bytes, as SHA-512 makes them, or hexadecimal twice; SHA-256 makes 64 digits"
            }
            (true, _) => "hexadecimal digits, but not 64",
            (false, _) => "not 64 hexadecimal digits",
        };
        if !(is_hex && came.len() == 64) {
            causes.push(format!("the signature has another form: {remark}"));
        }
        Field { got: Some(came.clone()), remark: remark.to_owned(), ..Field::default() }
    }

    fn expected(&self, side: Option<&Side>, challenge: Option<&str>) -> Option<Zeroizing<Vec<u8>>> {
        let challenge = challenge?;
        let key = match self.peer.profile {
            Profile::SharedSecret => side?.key.as_ref()?.as_str(),
            _ => "",
        };
        Some(Zeroizing::new([key, challenge].concat().into_bytes()))
    }

    fn material(&self, side: &Side, sides: &[Side], challenge: &str) -> Option<Material> {
        let mut keys = vec![(side.secret.clone()?, None)];
        let mut other_api_keys = Vec::new();
        let came = self
            .captured
            .api_key
            .iter()
            .map(|key| (key.clone(), "the API key was signed as it came, which is not as it is"));
        let own = (self.peer.profile == Profile::ApiKey).then(|| side.key.clone()).flatten();
        other_api_keys.extend(own.map(|key| (key, "")));
        other_api_keys.extend(came);
        let copy = |text: &str| Zeroizing::new(text.to_owned());
        for other in sides {
            let (key, secret) = (other.key.clone(), other.secret.clone());
            let other_way = other.signer != side.signer;
            let key_mistake = if other_way {
                "the other side's API key was signed: each side signs with its own"
            } else {
                "the API key of another credential of this peer was signed"
            };
            let secret_mistake = if other_way {
                "the other side's secret was used: each side proves itself with its own"
            } else {
                "the secret of another credential of this peer was used (before or after a rotation)"
            };
            other_api_keys.extend(key.clone().map(|key| (key, key_mistake)));
            keys.extend(secret.map(|secret| (secret, Some(secret_mistake))));
            keys.extend(key.map(|key| (key, Some("the API key was used as the secret"))));
        }
        if let Some(key) = &side.key {
            let mistake = "the API key was signed in another letter case";
            other_api_keys.push((copy(&key.to_ascii_lowercase()), mistake));
            other_api_keys.push((copy(&key.to_ascii_uppercase()), mistake));
        }
        let mut challenges = vec![(copy(challenge), None)];
        let another = "another challenge was signed: the one in the request, not the one that was handed out";
        challenges.extend(self.captured.challenge.iter().map(|text| (text.clone(), Some(another))));
        let own = "the caller's own challenge (X-Client-Challenge) was signed in place of the server's";
        challenges.extend(self.captured.client_challenge.iter().map(|text| (text.clone(), Some(own))));
        // What is the same text as an earlier one explains nothing.
        let api_key = (self.peer.profile == Profile::SharedSecret).then(|| side.key.clone()).flatten();
        distinct(&mut keys);
        distinct(&mut challenges);
        distinct(&mut other_api_keys);
        other_api_keys.retain(|(key, _)| api_key.as_ref() != Some(key));
        Some(Material { keys, api_key, other_api_keys, challenges, body: self.captured.body.clone() })
    }

    /// Everything that must never be shown: secrets, keys under api-key, the signature that came.
    fn veil(&self, sides: &[Side]) -> Veil {
        let mut hidden: Vec<(Zeroizing<String>, &'static str)> = Vec::new();
        for side in sides {
            hidden.extend(side.secret.clone().map(|secret| (secret, "secret")));
        }
        if self.peer.profile == Profile::ApiKey {
            hidden.extend(self.captured.api_key.clone().map(|key| (key, "API key")));
        }
        hidden.extend(stored(self.others));
        hidden.extend(self.captured.signature.clone().map(|signature| (signature, "signature")));
        let challenges = [
            self.captured.challenge.as_deref().map(String::as_str),
            self.captured.client_challenge.as_deref().map(String::as_str),
            self.handed_out,
        ];
        let copy = |text: &str| Zeroizing::new(text.to_owned());
        // Fields that changed places: what came as the challenge may be the right signature, and still be good.
        let signatures = challenges.into_iter().flatten().filter(|text| holds_signature(text));
        hidden.extend(signatures.map(|text| (copy(text), "signature")));
        // Of a key that is the secret there is only a hash here.
        let came =
            challenges.into_iter().flatten().chain(self.captured.api_key.as_deref().map(String::as_str));
        let keys = came.map(bare).filter(|text| self.is_secret_key(text));
        hidden.extend(keys.map(|text| (copy(text), "API key")));
        Veil::new(hidden)
    }

    /// Whether somebody authenticates to us with this text and nothing else.
    fn is_secret_key(&self, text: &str) -> bool {
        is_secret_key(self.others, self.lookup, text)
    }
}

/// All secrets of all peers, as far as they are kept.
pub(super) fn stored(peers: &Listing) -> Vec<(Zeroizing<String>, &'static str)> {
    let text = |secret: &SharedSecret| (Zeroizing::new(secret.expose().to_owned()), "secret of another peer");
    let mut secrets = Vec::new();
    for credential in peers.peers.iter().flat_map(|peer| &peer.credentials) {
        match &credential.keys {
            Keys::Cs1 { secret, .. } => secrets.push(text(secret)),
            Keys::SharedSecret { our_secret, their_secret, .. } => {
                secrets.extend([text(our_secret), text(their_secret)]);
            }
            Keys::ApiKey { ours, .. } => {
                let ours = ours.as_ref().map(|key| Zeroizing::new(key.expose().to_owned()));
                secrets.extend(ours.map(|key| (key, "key of another peer")));
            }
        }
    }
    secrets
}

/// Whether somebody authenticates to us with this text and nothing else.
pub(super) fn is_secret_key(peers: &Listing, lookup: &LookupKey, text: &str) -> bool {
    let hash = lookup.hash(text);
    peers.peers.iter().flat_map(|peer| &peer.credentials).any(
        |credential| matches!(&credential.keys, Keys::ApiKey { theirs: Some(theirs), .. } if *theirs == hash),
    )
}

fn distinct<T>(variants: &mut Vec<(Zeroizing<String>, T)>) {
    let mut seen: Vec<Zeroizing<String>> = Vec::new();
    variants.retain(|(text, _)| {
        let new = !seen.contains(text);
        seen.push(text.clone());
        new
    });
}

/// Whether a text has something in it that may be a signature: 64 hexadecimal digits in a row, or 32 bytes in base64.
fn holds_signature(text: &str) -> bool {
    let digits = |part: &str| part.len() >= 64;
    text.split(|c: char| !c.is_ascii_hexdigit()).any(digits) || bare(text).trim_end_matches('=').len() == 43
}

/// Without what is often written around a value.
fn bare(text: &str) -> &str {
    text.trim().trim_matches(['"', '\'']).trim()
}
