//! What a signature says of itself, read leniently: a server takes one form only (CS-23), and says no more than that.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::protocol::cs1::request::{Claimed, DIRECT_TAG, TAG};
use countersign::protocol::wire::printable;
use http::HeaderMap;

/// A signature as it came.
#[derive(Default)]
pub(super) struct Claim {
    /// What it covers: names, as far as they can be read.
    pub(super) components: Vec<String>,
    /// What stands behind the label: the value of `@signature-params`.
    pub(super) params: String,
    /// What stands behind the list of components.
    pub(super) tail: String,
    pub(super) created: Option<u64>,
    pub(super) expires: Option<u64>,
    pub(super) nonce: Option<String>,
    pub(super) keyid: Option<String>,
    pub(super) tag: Option<String>,
    /// 32 bytes, or something else.
    pub(super) signature: Option<[u8; 32]>,
    /// What a server refuses about the form.
    pub(super) faults: Vec<String>,
}

impl Claim {
    /// `None` if the request has no signature at all.
    pub(super) fn read(fields: &HeaderMap) -> Option<Self> {
        let mut claim = Self::default();
        let (input, signature) = (claim.line(fields, "signature-input"), claim.line(fields, "signature"));
        if input.is_none() && signature.is_none() {
            return None;
        }
        match input {
            Some(input) => claim.input(&input),
            None => claim.fault("there is no header `Signature-Input`: it says what the signature covers"),
        }
        match signature {
            Some(signature) => claim.signature(&signature),
            None => claim.fault("there is no header `Signature`"),
        }
        // A server finds what is wrong with the list only when it computes the base.
        let list: Vec<String> = claim.components.iter().map(|name| format!("\"{name}\"")).collect();
        let as_written = format!("({}){}", list.join(" "), claim.tail);
        if claim.faults.is_empty() && (as_written != claim.params || Claimed::read(fields).is_err()) {
            claim.fault(
                "`Signature-Input` is not written as RFC 9651 serialises it: one space between components, none elsewhere, no escapes, numbers without leading zeros",
            );
        }
        Some(claim)
    }

    fn fault(&mut self, what: impl Into<String>) {
        self.faults.push(what.into());
    }

    /// The first line of a field.
    fn line(&mut self, fields: &HeaderMap, name: &str) -> Option<String> {
        let mut lines = fields.get_all(name).iter();
        let first = lines.next()?;
        if lines.next().is_some() {
            self.fault(format!(
                "the header `{name}` stands on more than one line: one signature, on one line each"
            ));
        }
        Some(String::from_utf8_lossy(first.as_bytes()).into_owned())
    }

    fn input(&mut self, input: &str) {
        let Some((label, params)) = input.split_once('=') else {
            return self.fault("`Signature-Input` is not `cs=(...);created=...`");
        };
        if label != "cs" {
            self.fault(format!("the signature has the label `{}`: it has to be `cs`", printable(label, 40)));
        }
        let Some((list, tail)) = params.strip_prefix('(').and_then(split_list) else {
            return self.fault("`Signature-Input` has no list of components in parentheses");
        };
        (self.params, self.tail) = (params.to_owned(), tail.to_owned());
        for component in pieces(list, ' ') {
            self.component(component.trim());
        }
        if self.components.len() > 64 {
            self.fault("more than 64 components are covered");
        }
        let mut parameters = pieces(tail, ';').into_iter();
        if parameters.next().is_some_and(|before| !before.trim().is_empty()) {
            self.fault("behind the list of components stands something other than `;`");
        }
        let mut alg = None;
        for parameter in parameters {
            let (key, value) = parameter.split_once('=').unwrap_or((parameter, ""));
            let (key, value) = (key.trim(), value.trim());
            if pieces(value, ',').len() > 1 {
                self.fault("there is more than one signature: a request has one");
            }
            let value = pieces(value, ',').first().copied().unwrap_or_default();
            let text = value.strip_prefix('"').and_then(|value| value.strip_suffix('"')).map(str::to_owned);
            let twice = match key {
                "created" | "expires" => {
                    let number = value.parse().ok();
                    if number.is_none() {
                        self.fault(format!("`{key}` is no whole number of seconds"));
                    }
                    let slot = if key == "created" { &mut self.created } else { &mut self.expires };
                    std::mem::replace(slot, number).is_some()
                }
                "nonce" | "keyid" | "tag" | "alg" => {
                    if text.is_none() {
                        self.fault(format!("`{key}` does not stand in quotes"));
                    }
                    let slot = match key {
                        "nonce" => &mut self.nonce,
                        "keyid" => &mut self.keyid,
                        "tag" => &mut self.tag,
                        _ => &mut alg,
                    };
                    std::mem::replace(slot, text).is_some()
                }
                _ => {
                    self.fault(format!(
                        "the parameter `{}` is not one of created, expires, nonce, keyid, tag, alg",
                        printable(key, 40)
                    ));
                    false
                }
            };
            if twice {
                self.fault(format!("the parameter `{key}` comes twice"));
            }
        }
        self.parameters(alg.as_deref());
    }

    fn component(&mut self, component: &str) {
        let (name, parameters) = match component.strip_prefix('"').and_then(|rest| rest.split_once('"')) {
            Some(both) => both,
            None => {
                return self.fault("a component does not stand in quotes");
            }
        };
        let shown = printable(name, 40);
        if !parameters.is_empty() {
            self.fault(format!("the component `{shown}` has parameters: in requests there are none"));
        }
        if name.bytes().any(|byte| byte.is_ascii_uppercase()) {
            self.fault(format!("the component `{shown}` is not in lower case"));
        }
        if self.components.iter().any(|known| known == name) {
            self.fault(format!("the component `{shown}` is covered twice"));
        }
        self.components.push(name.to_owned());
    }

    fn parameters(&mut self, alg: Option<&str>) {
        let there = [
            ("created", self.created.is_some()),
            ("expires", self.expires.is_some()),
            ("nonce", self.nonce.is_some()),
            ("keyid", self.keyid.is_some()),
            ("tag", self.tag.is_some()),
        ];
        for (name, _) in there.into_iter().filter(|(_, there)| !there) {
            self.fault(format!("the parameter `{name}` is missing"));
        }
        if alg.is_some_and(|alg| alg != "hmac-sha256") {
            self.fault("`alg` is not \"hmac-sha256\"");
        }
        let allowed = |byte: u8| byte.is_ascii_alphanumeric() || b"+/=_.~-".contains(&byte);
        if self
            .nonce
            .as_ref()
            .is_some_and(|nonce| !(16..=128).contains(&nonce.len()) || !nonce.bytes().all(allowed))
        {
            self.fault("`nonce` is not 16 to 128 of A-Z a-z 0-9 + / = _ . ~ -");
        }
        match (self.tag.as_deref(), self.keyid.as_deref()) {
            (Some(TAG), Some(keyid)) if !keyid.starts_with("cst.") => self.fault(
                "`keyid` is no ticket (cst.), which `tag=\"countersign\"` says it is",
            ),
            (Some(DIRECT_TAG), Some(keyid)) if !keyid.contains(':') => self.fault(
                "`keyid` is not the caller's API key, a colon and the called one's, which `tag=\"countersign-direct\"` asks for",
            ),
            (Some(TAG | DIRECT_TAG) | None, _) => {}
            (Some(other), _) => self.fault(format!(
                "`tag` is \"{}\": it has to be \"{TAG}\", or \"{DIRECT_TAG}\" without a handshake",
                printable(other, 40)
            )),
        }
    }

    fn signature(&mut self, value: &str) {
        let inside = value.split_once("=:").and_then(|(label, rest)| Some((label, rest.strip_suffix(':')?)));
        let Some((label, encoded)) = inside else {
            return self.fault("`Signature` is not `cs=:BASE64:`");
        };
        if label != "cs" {
            self.fault("`Signature` has another label than `cs`");
        }
        let bytes = STANDARD.decode(encoded).ok().and_then(|bytes| bytes.try_into().ok());
        if bytes.is_none() {
            self.fault("`Signature` is not the base64 of 32 bytes, as HMAC-SHA256 makes them");
        }
        self.signature = bytes;
    }
}

/// What stands before the `)` that ends the list, and what after it.
pub(super) fn split_list(text: &str) -> Option<(&str, &str)> {
    let mut quoted = false;
    let end = text.find(|c| {
        quoted ^= c == '"';
        c == ')' && !quoted
    })?;
    Some((text.get(..end)?, text.get(end + 1..)?))
}

/// The pieces between separators that do not stand in quotes; none that are empty but the first.
pub(super) fn pieces(text: &str, separator: char) -> Vec<&str> {
    let mut quoted = false;
    let pieces = text.split(|c| {
        quoted ^= c == '"';
        c == separator && !quoted
    });
    pieces
        .enumerate()
        .filter(|(index, piece)| *index == 0 && separator != ' ' || !piece.is_empty())
        .map(|(_, piece)| piece)
        .collect()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use http::HeaderValue;

    use super::*;

    const GOOD: &str = "cs=(\"@method\" \"@path\");created=1800000000;expires=1800000020;nonce=\"0123456789abcdef\";keyid=\"csk_AAAAAAAAAAAAAAAAAAAAAA:csk_BBBBBBBBBBBBBBBBBBBBBB\";tag=\"countersign-direct\"";

    fn read(input: &str, signature: &str) -> Claim {
        let mut fields = HeaderMap::new();
        fields.insert("signature-input", HeaderValue::from_str(input).unwrap());
        fields.insert("signature", HeaderValue::from_str(signature).unwrap());
        Claim::read(&fields).unwrap()
    }

    fn mac() -> String {
        format!("cs=:{}:", STANDARD.encode([7; 32]))
    }

    #[test]
    fn a_signature_is_read_as_it_is() {
        let claim = read(GOOD, &mac());
        assert_eq!(claim.faults, [""; 0]);
        assert_eq!(claim.components, ["@method", "@path"]);
        assert_eq!((claim.created, claim.expires), (Some(1_800_000_000), Some(1_800_000_020)));
        assert_eq!(claim.signature, Some([7; 32]));
        assert!(claim.params.starts_with("(\"@method\"") && claim.tail.starts_with(";created="));
        assert!(Claim::read(&HeaderMap::new()).is_none());
    }

    #[test]
    fn what_is_wrong_with_its_form_is_named() {
        for (from, to, said) in [
            ("cs=(", "sig1=(", "label `sig1`"),
            ("\"@path\"", "\"@path\";req", "has parameters"),
            ("\"@path\"", "\"@Path\"", "lower case"),
            ("\"@path\"", "\"@method\"", "covered twice"),
            ("\"@path\"", "@path", "in quotes"),
            ("(\"@method\" \"@path\")", "\"@method\"", "no list"),
            (";created=1800000000", "", "`created` is missing"),
            ("created=1800000000", "created=\"soon\"", "no whole number"),
            (";tag=", ";alg=\"rsa-pss-sha512\";tag=", "`alg`"),
            (";tag=", ";x=1;tag=", "`x` is not one of"),
            (";tag=", ";created=1;tag=", "comes twice"),
            ("nonce=\"0123456789abcdef\"", "nonce=\"short\"", "16 to 128"),
            ("nonce=\"0123456789abcdef\"", "nonce=0123456789abcdef", "in quotes"),
            ("countersign-direct", "countersign", "no ticket"),
            ("countersign-direct", "other", "it has to be \"countersign\""),
            ("\"countersign-direct\"", "\"countersign-direct\", sig2=(\"@path\")", "more than one signature"),
            ("\"@method\" ", "\"@method\"  ", "RFC 9651"),
            (";created", "; created", "RFC 9651"),
        ] {
            let claim = read(&GOOD.replacen(from, to, 1), &mac());
            assert!(claim.faults.iter().any(|fault| fault.contains(said)), "{said}: {:?}", claim.faults);
        }
        for wrong in ["cs=AAAA", "cs=::", "cs=:AAAA:", "sig=:AAAA:", "", ":"] {
            assert!(!read(GOOD, wrong).faults.is_empty(), "{wrong}");
        }
        assert!(!read("", &mac()).faults.is_empty());
    }
}
