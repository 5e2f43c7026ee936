//! The mistakes that clients written by hand make: each is tried, and the one that gives exactly the signature
//! that came is the explanation. Nothing is learnt from this by whoever cannot make that signature already.

use aws_lc_rs::constant_time::verify_slices_are_equal;
use aws_lc_rs::{digest, hmac};
use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, STANDARD_NO_PAD, URL_SAFE, URL_SAFE_NO_PAD};
use countersign::protocol::mac::{decode_hex, encode_hex};
use zeroize::Zeroizing;

/// So many mistakes at once are looked for at most.
const MOST: usize = 3;

/// Something that may have been used, and by what mistakes.
#[derive(Clone)]
pub(super) struct Variant {
    pub(super) bytes: Zeroizing<Vec<u8>>,
    pub(super) mistakes: Vec<&'static str>,
}

/// What the profile signs with what, and what is at hand beside that.
pub(super) struct Material {
    /// The right key first, then others that it could be confused with.
    pub(super) keys: Vec<(Zeroizing<String>, Option<&'static str>)>,
    /// The API key that belongs before the challenge; `None` under api-key, where nothing does.
    pub(super) api_key: Option<Zeroizing<String>>,
    /// Other texts that may have been put in its place.
    pub(super) other_api_keys: Vec<(Zeroizing<String>, &'static str)>,
    /// The right challenge first, then others.
    pub(super) challenges: Vec<(Zeroizing<String>, Option<&'static str>)>,
    /// The whole body, in case that it was signed.
    pub(super) body: Zeroizing<Vec<u8>>,
}

/// How a signature came to be.
pub(super) struct Found {
    /// Empty if the signature is right.
    pub(super) mistakes: Vec<&'static str>,
    /// The bytes that were signed.
    pub(super) message: Zeroizing<Vec<u8>>,
}

/// What has been looked for.
pub(super) struct Search {
    pub(super) found: Option<Found>,
    /// How many combinations were tried.
    pub(super) tried: usize,
}

impl Variant {
    fn new(bytes: impl Into<Vec<u8>>, mistakes: &[&'static str]) -> Self {
        Self { bytes: Zeroizing::new(bytes.into()), mistakes: mistakes.to_vec() }
    }

    /// The same with one mistake more.
    fn worse(&self, bytes: impl Into<Vec<u8>>, mistake: &'static str) -> Self {
        let mut mistakes = self.mistakes.clone();
        mistakes.push(mistake);
        Self { bytes: Zeroizing::new(bytes.into()), mistakes }
    }
}

/// Looks for the combination with the fewest mistakes that gives this signature.
pub(super) fn search(material: &Material, signature: &str) -> Search {
    let (signatures, keys, messages) = (signatures(signature), keys(material), messages(material));
    let mut search = Search { found: None, tried: 0 };
    for message in &messages {
        for key in &keys {
            for (rule, wrong) in RULES {
                let count = message.mistakes.len() + key.mistakes.len() + usize::from(wrong.is_some());
                if count > MOST {
                    continue;
                }
                search.tried += 1;
                let made = rule.apply(&key.bytes, &message.bytes);
                for given in &signatures {
                    let total = count + given.mistakes.len();
                    let better = search.found.as_ref().is_none_or(|found| total < found.mistakes.len());
                    if !better || verify_slices_are_equal(&made, &given.bytes).is_err() {
                        continue;
                    }
                    let mut mistakes = key.mistakes.clone();
                    mistakes.extend(*wrong);
                    mistakes.extend(&message.mistakes);
                    mistakes.extend(&given.mistakes);
                    search.found = Some(Found { mistakes, message: message.bytes.clone() });
                }
            }
        }
    }
    search
}

/// How key and message become bytes.
#[derive(Clone, Copy)]
enum Rule {
    Hmac(&'static hmac::Algorithm),
    /// Key and message in each other's place.
    Swapped,
    HashKeyFirst(&'static digest::Algorithm),
    HashKeyLast(&'static digest::Algorithm),
    HashAlone(&'static digest::Algorithm),
}

const RULES: &[(Rule, Option<&'static str>)] = &[
    (Rule::Hmac(&hmac::HMAC_SHA256), None),
    (Rule::Hmac(&hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY), Some("HMAC was used with SHA-1 in place of SHA-256")),
    (Rule::Hmac(&hmac::HMAC_SHA384), Some("HMAC was used with SHA-384 in place of SHA-256")),
    (Rule::Hmac(&hmac::HMAC_SHA512), Some("HMAC was used with SHA-512 in place of SHA-256")),
    (
        Rule::Swapped,
        Some("key and message of HMAC have changed places: the secret is the key, the text is the message"),
    ),
    (
        Rule::HashKeyFirst(&digest::SHA256),
        Some("SHA-256 of secret and message was taken: it has to be HMAC-SHA256"),
    ),
    (
        Rule::HashKeyLast(&digest::SHA256),
        Some("SHA-256 of message and secret was taken: it has to be HMAC-SHA256"),
    ),
    (
        Rule::HashKeyFirst(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        Some("SHA-1 of secret and message was taken: it has to be HMAC-SHA256"),
    ),
    (
        Rule::HashKeyLast(&digest::SHA1_FOR_LEGACY_USE_ONLY),
        Some("SHA-1 of message and secret was taken: it has to be HMAC-SHA256"),
    ),
    (
        Rule::HashKeyFirst(&digest::SHA512),
        Some("SHA-512 of secret and message was taken: it has to be HMAC-SHA256"),
    ),
    (
        Rule::HashKeyLast(&digest::SHA512),
        Some("SHA-512 of message and secret was taken: it has to be HMAC-SHA256"),
    ),
    (
        Rule::HashAlone(&digest::SHA256),
        Some("SHA-256 of the message was taken, without any secret: it has to be HMAC-SHA256"),
    ),
];

impl Rule {
    fn apply(self, key: &[u8], message: &[u8]) -> Vec<u8> {
        let hash = |algorithm, parts: [&[u8]; 2]| {
            let mut context = digest::Context::new(algorithm);
            parts.into_iter().for_each(|part| context.update(part));
            context.finish().as_ref().to_vec()
        };
        match self {
            Self::Hmac(algorithm) => hmac::sign(&hmac::Key::new(*algorithm, key), message).as_ref().to_vec(),
            Self::Swapped => hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, message), key).as_ref().to_vec(),
            Self::HashKeyFirst(algorithm) => hash(algorithm, [key, message]),
            Self::HashKeyLast(algorithm) => hash(algorithm, [message, key]),
            Self::HashAlone(algorithm) => hash(algorithm, [b"", message]),
        }
    }
}

/// What may have served as HMAC key.
fn keys(material: &Material) -> Vec<Variant> {
    let mut variants = Vec::new();
    for (secret, wrong) in &material.keys {
        let plain = Variant::new(secret.as_bytes(), wrong.as_slice());
        variants.push(plain.clone());
        // Two mistakes with the key at once, one of which is its choice, are looked for in the plain forms only.
        let text = secret.as_str();
        let mut add = |bytes: Vec<u8>, mistake| variants.push(plain.worse(bytes, mistake));
        add(
            format!("{text}\n").into(),
            "the secret was used with the line feed at the end of its file or variable",
        );
        add(format!("{text}\r\n").into(), "the secret was used with the CR LF at the end of its file");
        add(format!("{text} ").into(), "the secret was used with a space at its end");
        add(format!("\"{text}\"").into(), "the secret was used with the double quotes around it");
        add(format!("'{text}'").into(), "the secret was used with the single quotes around it");
        add(
            format!("b'{text}'").into(),
            "the secret was used as Python shows bytes (b'…'): use .encode(), not str()",
        );
        add(format!("SECRET={text}").into(), "the whole line SECRET=… was used as secret");
        add(text.to_ascii_lowercase().into(), "the secret was turned into lower case");
        add(text.to_ascii_uppercase().into(), "the secret was turned into upper case");
        add(encode_hex(text.as_bytes()).into(), "the secret was written in hexadecimal: its text is the key");
        add(STANDARD.encode(text).into(), "the secret was encoded in base64: its text is the key");
        let hashed = digest::digest(&digest::SHA256, text.as_bytes());
        add(hashed.as_ref().to_vec(), "the secret was hashed first: its text is the key");
        add(encode_hex(hashed.as_ref()).into(), "the secret was hashed first: its text is the key");
        if let Some(rest) = text.strip_prefix("css_").or_else(|| text.strip_prefix("csk_")) {
            add(rest.into(), "the secret was used without the four characters that it begins with");
            decoded(rest)
                .into_iter()
                .for_each(|bytes| add(bytes, "the secret was decoded: its text is the key"));
        }
        decoded(text).into_iter().for_each(|bytes| add(bytes, "the secret was decoded: its text is the key"));
    }
    let empty = "the secret was empty: a variable that is not set?";
    variants.extend(["", "None", "null", "undefined"].map(|text| Variant::new(text, &[empty])));
    variants
}

/// The bytes that a text stands for in hexadecimal or base64.
fn decoded(text: &str) -> Vec<Vec<u8>> {
    let mut found = Vec::new();
    let mut bytes = vec![0; text.len() / 2];
    if !text.is_empty() && decode_hex(text.as_bytes(), &mut bytes).is_some() {
        found.push(bytes);
    }
    let unpadded = text.trim_end_matches('=');
    found.extend(
        [&STANDARD_NO_PAD, &URL_SAFE_NO_PAD].into_iter().filter_map(|engine| engine.decode(unpadded).ok()),
    );
    found
}

/// What may have been signed.
fn messages(material: &Material) -> Vec<Variant> {
    let challenges = challenges(material);
    let mut variants = Vec::new();
    for challenge in &challenges {
        let keys = api_keys(material);
        for key in &keys {
            join(key, challenge, &mut variants);
        }
    }
    if !material.body.is_empty() {
        variants.push(Variant::new(material.body.to_vec(), &["the whole body was signed"]));
    }
    let ends: [(&[u8], &str); 4] = [
        (b"\n", "a line feed stood at the end of the message (echo without -n, or text from a file)"),
        (b"\r\n", "a CR LF stood at the end of the message"),
        (b" ", "a space stood at the end of the message"),
        (b"\0", "a zero byte stood at the end of the message"),
    ];
    let mut more = Vec::new();
    for variant in variants.iter().filter(|variant| variant.mistakes.len() < 2) {
        for (end, mistake) in ends {
            more.push(variant.worse([&variant.bytes[..], end].concat(), mistake));
        }
        let hashed = digest::digest(&digest::SHA256, &variant.bytes);
        let mistake = "the message was hashed first: it is signed as it is";
        more.push(variant.worse(hashed.as_ref(), mistake));
        more.push(variant.worse(encode_hex(hashed.as_ref()), mistake));
    }
    variants.extend(more);
    variants.retain(|variant| variant.mistakes.len() <= MOST);
    variants
}

fn challenges(material: &Material) -> Vec<Variant> {
    let mut variants = Vec::new();
    for (challenge, wrong) in &material.challenges {
        let plain = Variant::new(challenge.as_bytes(), wrong.as_slice());
        let text = challenge.as_str();
        variants.push(plain.clone());
        let mut add = |bytes: Vec<u8>, mistake| {
            if bytes != text.as_bytes() {
                variants.push(plain.worse(bytes, mistake));
            }
        };
        add(text.trim().into(), "the challenge was signed without the white space around it");
        add(format!("\"{text}\"").into(), "the challenge was signed with the quotes of JSON around it");
        add(
            format!("b'{text}'").into(),
            "the challenge was signed as Python shows bytes (b'…'): decode it to text",
        );
        add(text.trim_end_matches('=').into(), "the challenge was signed without its `=`");
        add(text.replace('+', "-").replace('/', "_").into(), "the challenge was turned into base64url");
        add(
            text.replace('+', " ").into(),
            "a `+` of the challenge became a space on the way (decoded as a form)",
        );
        let percent = text.replace('+', "%2B").replace('/', "%2F").replace('=', "%3D");
        add(percent.into(), "the challenge was percent-encoded");
        add(text.to_ascii_lowercase().into(), "the challenge was turned into lower case");
        add(text.to_ascii_uppercase().into(), "the challenge was turned into upper case");
        let time = text.split('.').next().filter(|_| text.contains('.')).unwrap_or_default();
        add(time.into(), "a part of the challenge was signed: all of it is");
        let random = text.split_once('.').map(|(_, random)| random).unwrap_or_default();
        add(random.into(), "a part of the challenge was signed: all of it is");
        for bytes in decoded(text) {
            add(
                bytes.clone(),
                "the challenge was decoded: its text is signed, not the bytes that it stands for",
            );
            add(
                encode_hex(&bytes).into(),
                "the challenge was written in hexadecimal: its text is signed as it came",
            );
        }
    }
    variants
}

/// What may have stood before the challenge.
fn api_keys(material: &Material) -> Vec<Variant> {
    let mut variants = Vec::new();
    let mut others = material.other_api_keys.iter();
    match &material.api_key {
        Some(key) => {
            variants.push(Variant::new(key.as_bytes(), &[]));
            variants
                .push(Variant::new("", &["the challenge was signed alone: the API key belongs before it"]));
            variants.push(Variant::new(
                format!("\"{}\"", key.as_str()),
                &["the API key was signed with the quotes of JSON around it"],
            ));
        }
        None => {
            variants.push(Variant::new("", &[]));
            let mistake = "the API key was signed with the challenge: under api-key the challenge alone is";
            variants.extend(others.next().map(|(key, _)| Variant::new(key.as_bytes(), &[mistake])));
        }
    }
    variants.extend(others.map(|(key, mistake)| Variant::new(key.as_bytes(), &[*mistake])));
    variants
}

/// API key and challenge, as they belong and in other ways.
fn join(key: &Variant, challenge: &Variant, to: &mut Vec<Variant>) {
    let mistakes = [&key.mistakes[..], &challenge.mistakes[..]].concat();
    let both = Variant::new([&key.bytes[..], &challenge.bytes[..]].concat(), &mistakes);
    to.push(both.clone());
    if key.bytes.is_empty() {
        return;
    }
    to.push(
        both.worse([&challenge.bytes[..], &key.bytes[..]].concat(), "the challenge stood before the API key"),
    );
    to.push(both.worse(&key.bytes[..], "the API key was signed alone: the challenge belongs after it"));
    for separator in [":", ".", "|", "\n", " ", ",", "-", "_", "&", "+", ";", "/"] {
        let joined = [&key.bytes[..], separator.as_bytes(), &challenge.bytes[..]].concat();
        to.push(both.worse(joined, "something stood between API key and challenge: nothing belongs there"));
        let joined = [&challenge.bytes[..], separator.as_bytes(), &key.bytes[..]].concat();
        let order = both.worse(joined, "the challenge stood before the API key");
        to.push(
            order.worse(
                &order.bytes[..],
                "something stood between API key and challenge: nothing belongs there",
            ),
        );
    }
    for (open, middle, close) in [
        (r#"{"apiKey":""#, r#"","challenge":""#, r#""}"#),
        (r#"{"apiKey": ""#, r#"", "challenge": ""#, r#""}"#),
    ] {
        let json =
            [open.as_bytes(), &key.bytes, middle.as_bytes(), &challenge.bytes, close.as_bytes()].concat();
        to.push(both.worse(
            json,
            "API key and challenge were signed as JSON: only their texts are, one after the other",
        ));
    }
}

/// The bytes that a signature may stand for.
fn signatures(text: &str) -> Vec<Variant> {
    let mut variants = vec![];
    let plain = Variant::new(text, &[]);
    let bare = bare(text);
    let start = if bare == text {
        plain
    } else {
        plain.worse(bare, "something stands around the signature: only 64 hexadecimal digits belong there")
    };
    let outer = unwrapped(&start);
    for variant in &outer {
        // Encoded once more: the base64 of the hexadecimal digits, for instance.
        variants.extend(unwrapped(variant));
    }
    variants.extend(outer);
    variants
}

fn unwrapped(variant: &Variant) -> Vec<Variant> {
    let Ok(text) = std::str::from_utf8(&variant.bytes) else { return Vec::new() };
    let mut found = Vec::new();
    let mut bytes = vec![0; text.len() / 2];
    if !text.is_empty() && decode_hex(text.as_bytes(), &mut bytes).is_some() {
        found.push(Variant { bytes: Zeroizing::new(bytes), mistakes: variant.mistakes.clone() });
    }
    for engine in [&STANDARD, &URL_SAFE, &STANDARD_NO_PAD, &URL_SAFE_NO_PAD] {
        let decoded = engine.decode(text).ok().filter(|bytes| bytes.len() >= 16);
        found
            .extend(decoded.map(|bytes| {
                variant.worse(bytes, "the signature is in base64: it has to be in hexadecimal")
            }));
    }
    found
}

/// Without what is often written around a signature.
fn bare(text: &str) -> &str {
    let mut bare = text.trim();
    for prefix in [
        "sha256=",
        "hmac-sha256=",
        "HMAC-SHA256 ",
        "HMAC ",
        "0x",
        "b'",
        "(stdin)= ",
        "SHA2-256(stdin)= ",
        "HMAC-SHA2-256(stdin)= ",
    ] {
        bare = bare.strip_prefix(prefix).unwrap_or(bare);
    }
    bare.trim_matches(['"', '\'', ' '])
}
