//! `explain`: each mistake of a client written by hand is named, and nothing that would help anybody else is told.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "what breaks in a helper ends the test"
)]

mod support;

use std::process::Command;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::protocol::mac::{MacKey, encode_hex};
use serde_json::{Value, json};
use support::{ApiKeyPair, Done, Home, Pair, Serving, finish, left_out, new_key, new_secret};

const CHALLENGE: &str = "AAECAwQFBgcICQoLDA0ODw==";
const GUIDE_2: &str = "1700000000.0123456789abcdef0123456789abcdef";

fn hmac(key: &str, message: &str) -> String {
    MacKey::new(key.as_bytes()).mac(&[message.as_bytes()]).to_hex()
}

/// The explanation of a request of `billing`, as JSON, and the same for people. Neither holds a signature.
#[track_caller]
fn explain(home: &Home, request: &str, options: &[&str]) -> (Value, String) {
    let command = [&["explain", "--peer", "billing"][..], options].concat();
    let text = home.run_with(&command, request.as_bytes());
    let done = home.run_with(&[&command[..], &["--json"]].concat(), request.as_bytes());
    let json: Value = serde_json::from_str(&done.stdout).unwrap_or_else(|_| panic!("{done:?}"));
    assert_eq!(done.code, i32::from(json["verdict"] != "right"), "{done:?}");
    assert_eq!(text.code, done.code, "{text:?}");
    (json, text.stdout)
}

struct Guide1 {
    pair: Pair,
    key: String,
    secret: String,
}

impl Guide1 {
    fn new() -> Self {
        let pair = Pair::new();
        let right = hmac(&pair.secret, &format!("{}{CHALLENGE}", pair.billing_key));
        // Neither the right signature nor any other form of it may come out.
        pair.orders.hide(&right);
        pair.orders.hide(&right[..16]);
        pair.orders.hide(&STANDARD.encode(&right));
        let (key, secret) = (pair.billing_key.clone(), pair.secret.clone());
        Self { pair, key, secret }
    }

    /// The mistakes that are found for a signature in the body of `/verify_challenge`.
    #[track_caller]
    fn mistakes(&self, signature: &str) -> Vec<String> {
        let body = json!({"apiKey": self.key, "challenge": CHALLENGE, "signedChallenge": signature});
        let (json, text) = explain(&self.pair.orders, &body.to_string(), &[]);
        let list: Vec<String> = json["mistakes"]
            .as_array()
            .into_iter()
            .flatten()
            .map(|text| text.as_str().unwrap().to_owned())
            .collect();
        assert!(list.iter().all(|mistake| text.contains(mistake)), "{text}");
        assert_eq!(json["verdict"], "wrong", "{text}");
        list
    }

    #[track_caller]
    fn assert_mistakes(&self, signature: &str, expected: &[&str]) {
        let found = self.mistakes(signature);
        assert_eq!(found.len(), expected.len(), "{found:?}");
        for text in expected {
            assert!(found.iter().any(|mistake| mistake.contains(text)), "no {text:?} in {found:?}");
        }
    }
}

#[test]
fn each_known_mistake_under_guide_1_is_named() {
    let guide = Guide1::new();
    let (key, secret, other) = (&guide.key, &guide.secret, &guide.pair.orders_key);
    let right = format!("{key}{CHALLENGE}");
    let signature = hmac(secret, &right);
    let bytes: Vec<u8> =
        (0..64).step_by(2).map(|at| u8::from_str_radix(&signature[at..at + 2], 16).unwrap()).collect();
    let decoded =
        MacKey::new(&base64::engine::general_purpose::URL_SAFE_NO_PAD.decode(&secret[4..]).unwrap());
    let raw: Vec<u8> = (0..16).collect();
    let cases: Vec<(String, &[&str])> = vec![
        (hmac(secret, &format!("{right}\n")), &["a line feed stood at the end"]),
        (hmac(secret, &format!("{right}\r\n")), &["a CR LF stood at the end"]),
        (hmac(secret, &format!("{CHALLENGE}{key}")), &["the challenge stood before the API key"]),
        (hmac(secret, CHALLENGE), &["the challenge was signed alone"]),
        (hmac(secret, key), &["the API key was signed alone"]),
        (hmac(secret, &format!("{key}:{CHALLENGE}")), &["something stood between"]),
        (hmac(secret, &format!("{key}\"{CHALLENGE}\"")), &["with the quotes of JSON"]),
        (hmac(secret, &format!("{key}b'{CHALLENGE}'")), &["as Python shows bytes"]),
        (hmac(secret, &format!("{key}{}", CHALLENGE.trim_end_matches('='))), &["without its `=`"]),
        (hmac(secret, &format!("{other}{CHALLENGE}")), &["the other side's API key was signed"]),
        (
            hmac(secret, &right.to_lowercase()),
            &["API key was signed in another letter case", "challenge was turned into lower case"],
        ),
        (hmac(&format!("{secret}\n"), &right), &["the line feed at the end of its file"]),
        (hmac(&format!("\"{secret}\""), &right), &["the double quotes around it"]),
        (hmac(&format!("SECRET={secret}"), &right), &["the whole line SECRET="]),
        (hmac(&secret[4..], &right), &["without the four characters"]),
        (hmac("", &right), &["the secret was empty"]),
        (hmac("None", &right), &["the secret was empty"]),
        (hmac(key, &right), &["the API key was used as the secret"]),
        (hmac(&right, secret), &["have changed places"]),
        (decoded.mac(&[right.as_bytes()]).to_hex(), &["the secret was decoded"]),
        (
            MacKey::new(secret.as_bytes()).mac(&[key.as_bytes(), &raw]).to_hex(),
            &["the challenge was decoded"],
        ),
        (STANDARD.encode(&bytes), &["the signature is in base64"]),
        (STANDARD.encode(&signature), &["the signature is in base64"]),
        (format!("sha256={signature}"), &["something stands around the signature"]),
        (format!("{signature}\n"), &["something stands around the signature"]),
        (
            hmac(&format!("{secret}\n"), &format!("{CHALLENGE}{key}\n")),
            &["line feed at the end of its file", "before the API key", "a line feed stood"],
        ),
    ];
    for (signature, expected) in cases {
        guide.pair.orders.hide(&signature);
        guide.assert_mistakes(&signature, expected);
    }
}

#[test]
fn mistakes_that_python_makes_are_named() {
    if left_out("python3") {
        return;
    }
    let guide = Guide1::new();
    let python = |expression: &str| {
        let mut command = Command::new("python3");
        let program = format!(
            "import hashlib,hmac,os,base64\ns=os.environ['S'].encode();m=os.environ['M'].encode()\nprint({expression})"
        );
        command.args(["-c", &program]).env("S", &guide.secret).env("M", format!("{}{CHALLENGE}", guide.key));
        finish(command, b"").ok().trim().to_owned()
    };
    for (expression, expected) in [
        ("hmac.new(s,m,'sha1').hexdigest()", "SHA-1 in place of SHA-256"),
        ("hmac.new(s,m,'sha512').hexdigest()", "SHA-512 in place of SHA-256"),
        ("hashlib.sha256(s+m).hexdigest()", "SHA-256 of secret and message"),
        ("hashlib.sha256(m+s).hexdigest()", "SHA-256 of message and secret"),
        ("hashlib.sha1(s+m).hexdigest()", "SHA-1 of secret and message"),
        ("hashlib.sha256(m).hexdigest()", "without any secret"),
        ("hmac.new(s,hashlib.sha256(m).digest(),'sha256').hexdigest()", "the message was hashed first"),
        ("hmac.new(hashlib.sha256(s).digest(),m,'sha256').hexdigest()", "the secret was hashed first"),
        ("hmac.new(s.hex().encode(),m,'sha256').hexdigest()", "written in hexadecimal"),
        ("hmac.new(s,m,'sha256').digest()", "something stands around"),
    ] {
        let signature = python(expression);
        if signature.starts_with("b'") || signature.starts_with("b\"") {
            // Python's escapes of raw bytes are no encoding: told by the form alone.
            let body = json!({"apiKey": guide.key, "challenge": CHALLENGE, "signedChallenge": signature});
            let (json, _) = explain(&guide.pair.orders, &body.to_string(), &[]);
            assert!(json["causes"].to_string().contains("another form"), "{json}");
            continue;
        }
        guide.assert_mistakes(&signature, &[expected]);
    }
    // MD5 is told by its length: it is not even computed.
    let signature = python("hmac.new(s,m,'md5').hexdigest()");
    let body = json!({"apiKey": guide.key, "challenge": CHALLENGE, "signedChallenge": signature});
    let (json, _) = explain(&guide.pair.orders, &body.to_string(), &[]);
    assert!(json["causes"].to_string().contains("as MD5 makes them"), "{json}");
}

#[test]
fn what_was_signed_stands_beside_what_should_have_been_with_the_first_difference_marked() {
    let guide = Guide1::new();
    let signature = hmac(&guide.secret, &format!("{}{CHALLENGE}\n", guide.key));
    let body = json!({"apiKey": guide.key, "challenge": CHALLENGE, "signedChallenge": signature}).to_string();
    let (json, text) = explain(&guide.pair.orders, &body, &[]);
    let message = format!("{}{CHALLENGE}", guide.key);
    assert_eq!(json["toBeSigned"], json!({"bytes": 50, "text": message}));
    assert_eq!(json["signed"], json!({"bytes": 51, "text": format!("{message}\\n")}));
    assert_eq!(json["firstDifference"], 51);
    let lines: Vec<&str> = text.lines().collect();
    let at = lines.iter().position(|line| line.contains("was signed")).unwrap();
    assert!(lines[at].ends_with(&format!("51 bytes  {message}\\n")), "{text}");
    assert!(lines[at + 1].ends_with(&format!("50 bytes  {message}")), "{text}");
    let mark = lines[at + 2].find('^').unwrap();
    assert_eq!(mark, lines[at].find(&message).unwrap() + message.len(), "{text}");
    assert!(lines[at + 2].ends_with("^ byte 51"), "{text}");
}

#[test]
fn a_right_signature_is_told_as_such_wherever_it_stands() {
    let guide = Guide1::new();
    let signature = hmac(&guide.secret, &format!("{}{CHALLENGE}", guide.key));
    let key = &guide.key;
    let json = json!({"apiKey": key, "challenge": CHALLENGE, "signedChallenge": signature}).to_string();
    let upper = signature.to_uppercase();
    for request in [
        json.clone(),
        format!("POST /verify_challenge HTTP/1.1\r\nHost: orders\r\n\r\n{json}"),
        format!(
            "GET / HTTP/1.1\r\nX-API-Key: {key}\r\nX-Challenge: {CHALLENGE}\r\nX-Signature: {upper}\r\n\r\n"
        ),
        format!(
            "* using TLS\n> GET / HTTP/1.1\n> x-api-key: {key}\n> X-Challenge: {CHALLENGE}\n> X-Signature: {signature}\n> \n< HTTP/1.1 401\n"
        ),
    ] {
        let (json, text) = explain(&guide.pair.orders, &request, &[]);
        assert_eq!(
            (json["verdict"].as_str(), json["signer"].as_str()),
            (Some("right"), Some("peer")),
            "{text}"
        );
        assert_eq!(json["credential"], "billing/1");
        assert!(text.contains("audit tail"), "{text}");
    }
}

#[test]
fn our_own_request_and_a_servers_proof_are_judged_with_the_keys_of_whoever_signs() {
    let guide = Guide1::new();
    let pair = &guide.pair;
    let signature = hmac(&pair.secret, &format!("{}{CHALLENGE}", pair.orders_key));
    let ours =
        json!({"apiKey": pair.orders_key, "challenge": CHALLENGE, "signedChallenge": signature}).to_string();
    let (json, text) = explain(&pair.orders, &ours, &[]);
    assert_eq!((json["verdict"].as_str(), json["signer"].as_str()), (Some("right"), Some("us")), "{text}");
    let proof = hmac(&pair.secret, &format!("{}{CHALLENGE}", pair.billing_key));
    let response =
        format!("HTTP/1.1 200 OK\r\nX-API-Key: {}\r\nX-Signature: {proof}\r\n\r\n{{}}", pair.billing_key);
    let (json, text) = explain(&pair.orders, &response, &["--challenge", CHALLENGE]);
    assert_eq!((json["verdict"].as_str(), json["signer"].as_str()), (Some("right"), Some("peer")), "{text}");
}

#[test]
fn another_secret_is_told_by_the_fingerprint_and_nothing_more() {
    let guide = Guide1::new();
    let signature = hmac(&new_secret(), &format!("{}{CHALLENGE}", guide.key));
    let body = json!({"apiKey": guide.key, "challenge": CHALLENGE, "signedChallenge": signature}).to_string();
    let (json, text) = explain(&guide.pair.orders, &body, &[]);
    assert_eq!(json["mistakes"], Value::Null);
    assert!(text.contains("another secret") && text.contains("peer show billing"), "{text}");
    // What comes out does not depend on how much of the signature is right.
    let right = hmac(&guide.secret, &format!("{}{CHALLENGE}", guide.key));
    let near = format!("{}{}", &right[..62], if right.ends_with("00") { "11" } else { "00" });
    let body = json!({"apiKey": guide.key, "challenge": CHALLENGE, "signedChallenge": near}).to_string();
    assert_eq!(explain(&guide.pair.orders, &body, &[]).1, text);
}

#[test]
fn a_wrong_key_or_challenge_is_shown_beside_the_right_one_unless_it_may_be_a_secret() {
    let guide = Guide1::new();
    let home = &guide.pair.orders;
    let signature = hmac(&guide.secret, &format!("{}{CHALLENGE}", guide.key));
    let request = |key: &str, challenge: &str| {
        json!({"apiKey": key, "challenge": challenge, "signedChallenge": signature}).to_string()
    };
    let (json, text) = explain(home, &request(&format!("{}\n", guide.key), CHALLENGE), &[]);
    assert_eq!(json["apiKey"]["text"], format!("{}\\n", guide.key));
    assert_eq!(json["apiKey"]["firstDifference"], guide.key.len() + 1, "{text}");
    assert!(text.contains("what stands around it"), "{text}");

    let stranger = new_key();
    home.hide(&stranger);
    let (json, text) = explain(home, &request(&stranger, CHALLENGE), &[]);
    assert!(json["apiKey"]["text"].is_null() && text.contains("not known here"), "{text}");

    let (_, text) = explain(home, &request(&guide.secret, CHALLENGE), &[]);
    assert!(text.contains("the SECRET was sent in place of the API key"), "{text}");

    let handed_out = "DxAREhMUFRYXGBkaGxwdHg==";
    let (json, text) = explain(home, &request(&guide.key, CHALLENGE), &["--challenge", handed_out]);
    assert_eq!(json["challenge"]["firstDifference"], 1);
    assert!(
        text.contains("answers another challenge") && text.contains("another challenge was signed"),
        "{text}"
    );

    let (_, text) = explain(home, &request(&guide.key, &format!("\"{CHALLENGE}\"")), &[]);
    assert!(text.contains("the challenge does not have its form"), "{text}");
    // A secret is left out wherever it stands.
    let (_, text) = explain(home, &request(&guide.key, &format!("x{}y", guide.secret)), &[]);
    assert!(text.contains("x<secret>y"), "{text}");
}

#[test]
fn a_key_of_another_peer_and_one_that_has_ended_are_named() {
    let guide = Guide1::new();
    let home = &guide.pair.orders;
    let (ours, theirs) = (new_key(), new_key());
    let file = home.secret_file("other", &new_secret());
    let keys = ["--our-key", &ours, "--their-key", &theirs, "--secret-file", &file];
    home.run(&[&["peer", "add", "shipping", "--profile", "shared-secret"][..], &keys].concat()).ok();
    let body = json!({"apiKey": theirs, "challenge": CHALLENGE, "signedChallenge": "00"}).to_string();
    let (_, text) = explain(home, &body, &[]);
    assert!(text.contains("that of the peer shipping") && text.contains("not 64"), "{text}");
}

#[test]
fn odd_names_and_missing_fields_are_named() {
    let guide = Guide1::new();
    let home = &guide.pair.orders;
    let signature = hmac(&guide.secret, &format!("{}{CHALLENGE}", guide.key));
    let body = json!({"api_key": guide.key, "challenge": CHALLENGE, "signature": signature}).to_string();
    let (json, text) = explain(home, &body, &[]);
    assert!(
        text.contains("`api_key`; its name is `apiKey`") && text.contains("a server answers 400"),
        "{text}"
    );
    assert_eq!(json["verdict"], "right", "the signature itself is: {text}");
    let (json, text) = explain(home, &json!({"apiKey": guide.key, "challenge": CHALLENGE}).to_string(), &[]);
    assert_eq!(json["verdict"], "incomplete");
    assert!(text.contains("no signature came"), "{text}");
    home.run_with(&["explain", "--peer", "billing"], b"GET / HTTP/1.1\n\n")
        .refused(1, &["no API key, no challenge"]);
    home.run_with(&["explain", "--peer", "nobody"], b"{}").refused(1, &["no peer named `nobody`"]);
    home.run(&["explain", "--peer", "billing", "--file", "nowhere"]).refused(1, &["nowhere"]);
    home.run_with(&["explain", "--peer", "billing"], &[b' '; 70_000]).refused(1, &["64 KiB"]);
}

#[test]
fn under_guide_2_the_key_is_never_shown_and_the_challenge_comes_from_the_operator() {
    let pair = ApiKeyPair::new();
    let home = &pair.orders;
    home.hide(&pair.key);
    let right = hmac(&pair.key, GUIDE_2);
    home.hide(&right);
    let body = |signature: &str| json!({"apiKey": pair.key, "signedChallenge": signature}).to_string();
    let (json, text) = explain(home, &body(&right), &[]);
    assert_eq!(json["verdict"], "incomplete");
    assert!(text.contains("--challenge C"), "{text}");
    let options = ["--challenge", GUIDE_2];
    assert_eq!(explain(home, &body(&right), &options).0["verdict"], "right");
    for (signature, expected) in [
        (hmac(&pair.key, &format!("{GUIDE_2}\n")), "a line feed stood at the end"),
        (hmac(&format!("{}\n", pair.key), GUIDE_2), "the line feed at the end of its file"),
        (hmac(&pair.key, &format!("{}{GUIDE_2}", pair.key)), "the challenge alone is"),
        (hmac(&pair.key, &GUIDE_2[11..]), "a part of the challenge was signed"),
        (hmac(GUIDE_2, &pair.key), "have changed places"),
    ] {
        let (json, text) = explain(home, &body(&signature), &options);
        assert!(
            json["mistakes"][0].as_str().is_some_and(|found| found.contains(expected)),
            "{expected}: {text}"
        );
    }
    // A key that is not this peer's: nothing can be computed with it, for only a hash of the right one is kept.
    let other = new_key();
    home.hide(&other);
    let body = json!({"apiKey": other, "signedChallenge": right}).to_string();
    let (json, text) = explain(home, &body, &options);
    assert_eq!(json["verdict"], "incomplete");
    assert!(text.contains("not known here"), "{text}");
    // With quotes around it, it is this peer's all the same.
    let body = json!({"apiKey": format!("\"{}\"", pair.key), "signedChallenge": right}).to_string();
    let (json, text) = explain(home, &body, &options);
    assert!(json["verdict"] == "wrong" && text.contains("what stands around it"), "{text}");
}

#[test]
fn what_a_running_server_refuses_is_explained() {
    let pair = Pair::new();
    let serving = Serving::http(&pair.orders);
    let challenge = pair.challenge(serving.address());
    let wrong = hmac(&pair.secret, &format!("{challenge}{}", pair.billing_key));
    let body = json!({"apiKey": pair.billing_key, "challenge": challenge, "signedChallenge": wrong});
    let reply = support::raw::post(serving.address(), "/verify_challenge", &[], &body);
    assert_eq!(reply.status, 401);
    let file = pair.orders.file("request", 0o600, body.to_string().as_bytes());
    let done: Done = pair.orders.run(&["explain", "--peer", "billing", "--file", &file]);
    assert_eq!(done.code, 1);
    assert!(done.stdout.contains("the challenge stood before the API key"), "{done:?}");
    assert!(done.stderr.contains("not the right one"), "{done:?}");
}

#[test]
fn fields_that_changed_places_give_no_signature_away() {
    let case = Guide1::new();
    let request = |challenge: &str, signature: &str| {
        format!(
            "GET / HTTP/1.1\r\nX-API-Key: {}\r\nX-Challenge: {challenge}\r\nX-Signature: {signature}\r\n\r\n",
            case.key
        )
    };
    let right = case.pair.sign(CHALLENGE);
    for came in [right.clone(), right.to_uppercase(), format!("\"{right}\""), format!("sha256={right}")] {
        for options in [&["--challenge", CHALLENGE][..], &[]] {
            let (told, text) = explain(&case.pair.orders, &request(&came, CHALLENGE), options);
            for shown in [told.to_string(), text] {
                assert!(!shown.to_lowercase().contains(&right), "{shown}");
                assert!(shown.contains("have the two changed places?"), "{shown}");
            }
        }
    }
    // Nor a secret that lost its first characters, or was encoded.
    let cut = &case.secret["css_".len()..];
    let hexadecimal = encode_hex(case.secret.as_bytes());
    for came in [cut.to_owned(), cut.to_lowercase(), hexadecimal, STANDARD.encode(&case.secret)] {
        let (told, text) = explain(&case.pair.orders, &request(&came, &right), &[]);
        for shown in [told.to_string(), text] {
            assert!(!shown.contains(&came) && !shown.contains(&right), "{shown}");
        }
    }
}

#[test]
fn the_body_of_a_signed_request_is_not_taken_for_the_answer_to_a_challenge() {
    let case = Guide1::new();
    let body = r#"{"amount":5,"signature":"of the customer"}"#;
    let request = format!(
        "POST /pay HTTP/1.1\r\nX-API-Key: {}\r\nX-Challenge: {CHALLENGE}\r\nX-Signature: {}\r\n\r\n{body}",
        case.key,
        case.pair.sign(CHALLENGE)
    );
    let (told, _) = explain(&case.pair.orders, &request, &[]);
    assert_eq!((&told["verdict"], &told["refusedForm"]), (&json!("right"), &Value::Null), "{told}");
}

#[test]
fn under_guide_2_a_key_in_the_challenges_place_is_not_shown() {
    let pair = ApiKeyPair::new();
    pair.orders.hide(&pair.key);
    for request in [
        json!({"challenge": pair.key, "signedChallenge": "0".repeat(64)}),
        json!({"apiKey": new_key(), "challenge": format!("\"{}\"", pair.key)}),
    ] {
        let (told, _) = explain(&pair.orders, &request.to_string(), &[]);
        assert!(told["challenge"]["text"].as_str().unwrap().contains("<API key>"), "{told}");
    }
}

#[test]
fn a_right_signature_without_an_api_key_is_not_called_right() {
    let case = Guide1::new();
    let request = json!({"challenge": CHALLENGE, "signedChallenge": case.pair.sign(CHALLENGE)});
    let (told, text) = explain(&case.pair.orders, &request.to_string(), &[]);
    assert_eq!(told["verdict"], "incomplete", "{text}");
    assert!(text.contains("no API key came") && text.contains("cannot be judged"), "{text}");
}
