//! The vectors of `cs1`: both roles, byte for byte, against a generator that shares no code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use countersign_protocol::cs1::client::{Credential, Randomness, start};
use countersign_protocol::cs1::content::ContentRule;
use countersign_protocol::cs1::request::{self, Claimed, RequestParts, Signing};
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::cs1::server::{self, Attempt, Candidate, Effort, Holders, Pair};
use countersign_protocol::cs1::{Binding, Challenge, Ephemeral, Exporter, Issuer, PairKeys};
use countersign_protocol::mac::MacKey;
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::Lifetime;
use countersign_protocol::wire::{Incoming, cs1 as wire};
use countersign_protocol::{UnixTime, identity::ApiKey};
use countersign_testkit::vectors::{Case, cases, list};
use http::HeaderMap;
use serde_json::Value;
use zeroize::Zeroizing;

#[derive(Debug)]
struct Known {
    keys: PairKeys,
    binding: Binding,
}

impl Candidate for Known {
    fn mac_key(&self) -> &MacKey {
        self.keys.mac_key()
    }
}

impl Pair for Known {
    fn keys(&self) -> &PairKeys {
        &self.keys
    }

    fn binding(&self) -> Binding {
        self.binding
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn incoming<'a>(headers: &'a HeaderMap, body: &'a str) -> Incoming<'a> {
    Incoming { status: 200, headers, body: body.as_bytes() }
}

#[test]
fn both_roles_make_every_message_of_a_handshake_and_the_same_keys() {
    for case in cases("cs1/handshake-") {
        let secret: SharedSecret = case.text("secret").parse().unwrap();
        let (client, server): (ApiKey, ApiKey) =
            (case.text("client").parse().unwrap(), case.text("server").parse().unwrap());
        let binding = Binding::parse(case.text("binding")).unwrap();
        let exporter = (binding == Binding::TlsExporter)
            .then(|| Exporter::new(Zeroizing::new(case.array("exporter_hex"))));
        let credential = Credential::new(&secret, client.clone(), server.clone());
        let random = Randomness {
            nonce: case.array("cn_hex"),
            ephemeral: Zeroizing::new(case.array("client_private_hex")),
        };
        let headers = HeaderMap::new();

        // M1 and M2.
        let (m1, waiting) = start(&credential, binding, &random);
        assert_eq!(json(&m1.body), json(case.text("m1").as_bytes()), "{}", case.name);
        let hello = wire::read_hello(&m1.body).unwrap();
        let issuer = Issuer::new(&Zeroizing::new(case.array("kchal_hex")), Lifetime::default());
        let now = UnixTime(case.number("t"));
        let challenge = issuer.issue(&hello, now, case.array("ns_hex")).unwrap();
        assert_eq!(challenge.as_str(), case.text("challenge"), "{}", case.name);

        // M3.
        let (m3, waiting) = waiting.receive(&incoming(&headers, case.text("m2")), exporter.as_ref()).unwrap();
        assert_eq!(json(&m3.body), json(case.text("m3").as_bytes()), "{}", case.name);
        let proof = wire::read_proof(&m3.body).unwrap();
        let known = [Known { keys: PairKeys::derive(&secret, &client, &server), binding }];
        let decoy = MacKey::new(&[0; 32]);
        let attempt = Attempt {
            hello: &proof.hello,
            challenge: &proof.challenge,
            proof: &proof.proof,
            exporter: exporter.as_ref(),
        };
        let effort = Effort { macs: 1, decoy: &decoy };
        let unclaimed = server::verify(&issuer, attempt, Holders::Live(&known), effort, now).unwrap();
        let verified = unclaimed.claim(|_| Ok(())).unwrap();

        // M4.
        let mut sealed = None;
        let seconds = u32::try_from(case.number("expiresIn")).unwrap();
        let accepted = verified
            .accept(&Zeroizing::new(case.array("server_private_hex")), seconds, |keys, _| {
                sealed = Some(keys);
                Zeroizing::new(format!("cst.{}", case.text("ticket")))
            })
            .unwrap();
        assert_eq!(json(&wire::write_accepted(&accepted)), json(case.text("m4").as_bytes()), "{}", case.name);
        let established = waiting.receive(&incoming(&headers, case.text("m4"))).unwrap();
        assert_eq!((established.seconds, established.time), (seconds, now));
        for keys in [&established.keys, &sealed.unwrap()] {
            assert_eq!(*keys.client_to_server, case.array("c2s_hex"), "{}", case.name);
            assert_eq!(*keys.server_to_client, case.array("s2c_hex"), "{}", case.name);
            assert_eq!(keys.id, case.array("sid_hex"), "{}", case.name);
            let connection = Exporter::new(Zeroizing::new(case.array("connection_hex")));
            let bound = keys.on_connection(&connection);
            assert_eq!(*bound.client_to_server, case.array("connection_c2s_hex"), "{}", case.name);
            assert_eq!(*bound.server_to_client, case.array("connection_s2c_hex"), "{}", case.name);
        }
        agrees_with_its_intermediates(&case);
    }
}

/// What goes into each MAC, byte for byte, as the vector says it.
fn agrees_with_its_intermediates(case: &Case) {
    let transcript = case.bytes("transcript_hex");
    let mac = |key: &str, parts: &[&[u8]]| MacKey::new(&case.bytes(key)).mac(parts);
    let cp = mac("kcp_hex", &[b"\0\0\0\x02CP", &transcript]);
    assert_eq!(cp.as_bytes(), &case.array("cp_hex"), "{}", case.name);
    let sp = mac("ksp_hex", &[&case.bytes("sp_message_hex")]);
    assert_eq!(sp.as_bytes(), &case.array("sp_hex"), "{}", case.name);
    let es = mac("kdh_hex", &[&case.bytes("z_hex")]);
    assert_eq!(es.as_bytes(), &case.array("es_hex"), "{}", case.name);
}

#[test]
fn exchanged_roles_share_no_key() {
    let of = |name: &str| cases(name).remove(0);
    let (one, other) = (of("cs1/handshake-plain"), of("cs1/handshake-reversed"));
    assert_eq!((one.text("secret"), one.text("client")), (other.text("secret"), other.text("server")));
    for key in ["kcp_hex", "ksp_hex", "kdh_hex", "kreq_hex", "krsp_hex", "krot_hex", "c2s_hex", "s2c_hex"] {
        for of_other in ["kcp_hex", "ksp_hex", "kdh_hex", "kreq_hex", "krsp_hex", "krot_hex"] {
            assert_ne!(one.text(key), other.text(of_other), "{key} {of_other}");
        }
    }
}

#[test]
fn only_what_has_the_form_of_a_challenge_is_answered() {
    for case in list("cs1/challenge-form") {
        let taken = case.text("value").parse::<Challenge>();
        assert_eq!(taken.is_ok(), case.flag("accept"), "{}", case.name);
        if let Ok(challenge) = taken {
            assert_eq!(challenge.as_str(), case.text("value"));
        }
    }
}

#[test]
fn shares_of_small_order_give_no_key() {
    for case in list("cs1/small-order") {
        let agreed = Ephemeral::new(&Zeroizing::new([7; 32])).agree(&case.array("share_hex"));
        assert_eq!(agreed.is_ok(), case.flag("accept"), "{}", case.name);
    }
}

fn fields(case: &Case) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if case.has("fields") {
        for field in case.list("fields") {
            let name = http::HeaderName::try_from(field.text("name")).unwrap();
            fields.append(name, field.text("value").parse().unwrap());
        }
    }
    fields
}

fn request<'a>(case: &'a Case, fields: &'a HeaderMap) -> RequestParts<'a> {
    RequestParts {
        method: case.text("method"),
        authority: case.text("authority"),
        path: case.text("path"),
        query: case.has("query").then(|| case.text("query")),
        fields,
    }
}

fn checks_content(rule: &ContentRule, case: &Case) {
    let mut check = rule.check();
    check.update(&case.bytes("content_hex"));
    check.finish().unwrap();
}

#[test]
fn requests_are_signed_byte_for_byte_and_verified() {
    for case in cases("cs1/request-") {
        let key = MacKey::new(&case.bytes("key_hex"));
        let mut signed = fields(&case);
        let mut nonce = [0; 16];
        countersign_protocol::mac::decode_hex(case.text("nonce").as_bytes(), &mut nonce).unwrap();
        let now = UnixTime(case.number("created"));
        let signing = Signing { key: &key, ticket: case.text("ticket"), now, window: 60, nonce };
        let instructions = request::sign(&signing, &request(&case, &signed)).unwrap();
        assert_eq!(instructions.signature_input, case.text("signatureInput"), "{}", case.name);
        assert_eq!(instructions.signature, case.text("signature"), "{}", case.name);
        signed.insert("signature-input", instructions.signature_input);
        signed.insert("signature", instructions.signature);
        let claimed = Claimed::read(&signed).unwrap().unwrap();
        let verified = claimed.verify(&key, &request(&case, &signed), now).unwrap();
        checks_content(verified.claim(&[0; 16], |_, _| Ok(())).unwrap().content(), &case);
        let of_base = MacKey::new(&case.bytes("key_hex")).mac(&[case.text("base").as_bytes()]);
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(of_base.as_bytes());
        assert_eq!(format!("cs=:{encoded}:"), case.text("signature"), "{}", case.name);
    }
}

#[test]
fn responses_are_signed_byte_for_byte_and_verified() {
    for case in cases("cs1/response-") {
        let key = MacKey::new(&case.bytes("key_hex"));
        let asked = case.object("request");
        let mut asked_fields = fields(&asked);
        asked_fields.insert("signature-input", asked.text("signatureInput").parse().unwrap());
        asked_fields.insert("signature", asked.text("signature").parse().unwrap());
        let status = u16::try_from(case.number("status")).unwrap();
        let mut signed = fields(&case);
        let parts = ResponseParts { status, fields: &signed, request: request(&asked, &asked_fields) };
        let instructions = response::sign(&key, &parts, UnixTime(case.number("created"))).unwrap();
        assert_eq!(instructions.signature_input, case.text("signatureInput"), "{}", case.name);
        assert_eq!(instructions.signature, case.text("signature"), "{}", case.name);
        signed.insert("signature-input", instructions.signature_input);
        signed.insert("signature", instructions.signature);
        let parts = ResponseParts { status, fields: &signed, request: request(&asked, &asked_fields) };
        checks_content(response::verify(&key, &parts).unwrap().content(), &case);
    }
}
