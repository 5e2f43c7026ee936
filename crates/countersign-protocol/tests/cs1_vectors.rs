//! The vectors of `cs1`: both roles, byte for byte, against a generator that shares no code.

#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use base64::Engine as _;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use countersign_protocol::cs1::client::{Credential, Randomness, start};
use countersign_protocol::cs1::content::ContentRule;
use countersign_protocol::cs1::request::{self, Claimed, Nonce, RequestParts, SigningAs};
use countersign_protocol::cs1::response::{self, ResponseParts};
use countersign_protocol::cs1::server::{self, Attempt, Candidate, Effort, Holders, Pair};
use countersign_protocol::cs1::{Binding, Challenge, Ephemeral, Exporter, Issuer, KeyName, PairKeys};
use countersign_protocol::mac::MacKey;
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::Lifetime;
use countersign_protocol::wire::{Incoming, cs1 as wire};
use countersign_protocol::{UnixTime, identity::ApiKey, lp};
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
    lines(case, "fields")
}

fn lines(case: &Case, member: &str) -> HeaderMap {
    let mut fields = HeaderMap::new();
    if case.has(member) {
        for field in case.list(member) {
            let name = http::HeaderName::try_from(field.text("name")).unwrap();
            fields.append(name, field.text("value").parse().unwrap());
        }
    }
    fields
}

fn hex(text: &str) -> [u8; 16] {
    let mut bytes = [0; 16];
    countersign_protocol::mac::decode_hex(text.as_bytes(), &mut bytes).unwrap();
    bytes
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
    let content = case.bytes("content_hex");
    let trailers = case.has("bodyMac").then(|| {
        let mut trailers = lines(case, "trailers");
        trailers.insert("countersign-body-mac", case.text("bodyMac").parse().unwrap());
        trailers
    });
    assert_eq!(matches!(rule, ContentRule::Stream(_)), trailers.is_some(), "{}", case.name);
    let mut check = rule.check();
    content.chunks(100).for_each(|piece| check.update(piece));
    check.finish_with(trailers.as_ref()).unwrap();
}

/// What is behind the content of a stream, and each thing that goes into it.
fn ends_with_its_trailer(instructions: request::Instructions, case: &Case) {
    assert_eq!(instructions.stream.is_some(), case.has("bodyMac"), "{}", case.name);
    let Some(mut stream) = instructions.stream else { return };
    let content = case.bytes("content_hex");
    content.chunks(7).for_each(|piece| stream.update(piece));
    assert_eq!(stream.finish(&lines(case, "trailers")).unwrap(), case.text("bodyMac"), "{}", case.name);

    let signature: [u8; 32] = case.array("signature_hex");
    assert_eq!(format!("cs=:{}:", STANDARD.encode(signature)), case.text("signature"), "{}", case.name);
    let expanded = MacKey::new(&case.bytes("key_hex")).mac(&[&lp(&[b"body"]), &[1]]);
    assert_eq!(expanded.as_bytes(), &case.array("body_key_hex"), "{}", case.name);
    let length = u64::try_from(content.len()).unwrap().to_be_bytes();
    let behind = lp(&[&case.bytes("sha256_hex"), &case.bytes("trailer_lines_hex")]);
    let message = [&lp(&[&signature]), &length[..], &behind].concat();
    assert_eq!(message, case.bytes("body_message_hex"), "{}", case.name);
    let mac = MacKey::new(&case.bytes("body_key_hex")).mac(&[&message]);
    assert_eq!(URL_SAFE_NO_PAD.encode(mac.as_bytes()), case.text("bodyMac"), "{}", case.name);
}

/// Signs a request and verifies it, both byte for byte.
fn goes_both_ways(case: &Case) {
    let key = MacKey::new(&case.bytes("key_hex"));
    let mut signed = fields(case);
    let now = UnixTime(case.number("created"));
    let signing = SigningAs {
        key: &key,
        name: key_name(case),
        now,
        window: case.number("expires") - now.0,
        nonce: Nonce::Random(hex(case.text("nonce"))),
    };
    let instructions = request::sign_as(&signing, &request(case, &signed)).unwrap();
    assert_eq!(instructions.signature_input, case.text("signatureInput"), "{}", case.name);
    assert_eq!(instructions.signature, case.text("signature"), "{}", case.name);
    signed.insert("signature-input", instructions.signature_input.clone());
    signed.insert("signature", instructions.signature.clone());
    ends_with_its_trailer(instructions, case);
    let claimed = Claimed::read(&signed).unwrap().unwrap();
    assert_eq!(claimed.key_name(), key_name(case), "{}", case.name);
    let verified = claimed.verify(&key, &request(case, &signed), now).unwrap();
    checks_content(verified.claim(&[0; 16], |_, _| Ok(())).unwrap().content(), case);
    let of_base = MacKey::new(&case.bytes("key_hex")).mac(&[case.text("base").as_bytes()]);
    let encoded = STANDARD.encode(of_base.as_bytes());
    assert_eq!(format!("cs=:{encoded}:"), case.text("signature"), "{}", case.name);
}

/// Signs a response and verifies it, both byte for byte.
fn answers_both_ways(case: &Case) {
    let key = MacKey::new(&case.bytes("key_hex"));
    let asked = case.object("request");
    let mut asked_fields = fields(&asked);
    asked_fields.insert("signature-input", asked.text("signatureInput").parse().unwrap());
    asked_fields.insert("signature", asked.text("signature").parse().unwrap());
    let status = u16::try_from(case.number("status")).unwrap();
    let mut signed = fields(case);
    let parts = ResponseParts { status, fields: &signed, request: request(&asked, &asked_fields) };
    let instructions = response::sign(&key, &parts, UnixTime(case.number("created"))).unwrap();
    assert_eq!(instructions.signature_input, case.text("signatureInput"), "{}", case.name);
    assert_eq!(instructions.signature, case.text("signature"), "{}", case.name);
    signed.insert("signature-input", instructions.signature_input.clone());
    signed.insert("signature", instructions.signature.clone());
    ends_with_its_trailer(instructions, case);
    let parts = ResponseParts { status, fields: &signed, request: request(&asked, &asked_fields) };
    checks_content(response::verify(&key, &parts).unwrap().content(), case);
}

fn key_name(case: &Case) -> KeyName<'_> {
    if case.has("ticket") {
        KeyName::Ticket(case.text("ticket"))
    } else {
        KeyName::Direct { client: case.text("client"), server: case.text("server") }
    }
}

fn either(prefix: &str) {
    for case in cases(prefix) {
        if case.has("request") { answers_both_ways(&case) } else { goes_both_ways(&case) }
    }
}

#[test]
fn requests_are_signed_byte_for_byte_and_verified() {
    either("cs1/request-");
}

#[test]
fn responses_are_signed_byte_for_byte_and_verified() {
    either("cs1/response-");
}

#[test]
fn streams_end_with_the_trailer_that_they_have_to_end_with() {
    either("cs1/stream-");
}

#[test]
fn messages_without_a_handshake_are_signed_under_the_keys_of_the_pair() {
    either("cs1/direct-");
    for case in cases("cs1/direct-") {
        let of_pair = if case.has("request") { case.object("request") } else { case.clone() };
        let [client, server]: [ApiKey; 2] =
            ["client", "server"].map(|member| of_pair.text(member).parse().unwrap());
        let pair = PairKeys::derive(&case.text("secret").parse().unwrap(), &client, &server);
        let (request, response) = (&pair.direct().client_to_server, &pair.direct().server_to_client);
        let own = if case.has("request") { response } else { request };
        assert_eq!(**own, case.array("key_hex"), "{}", case.name);
        assert_eq!(**response, case.array("krsp_hex"), "{}", case.name);
        assert_eq!(pair.direct().id, case.array("id_hex"), "{}", case.name);
    }
}
