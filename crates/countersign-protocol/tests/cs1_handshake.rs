//! The handshake of `cs1` in virtual time: two ends, and somebody in the middle who changes what passes. Numbers in
//! names and comments are those of `specs/cs1.md`.

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use std::cell::Cell;
use std::collections::HashSet;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use countersign_protocol::UnixTime;
use countersign_protocol::cs1::client::{
    AwaitChallenge, AwaitProof, Credential, Established, Randomness, start,
};
use countersign_protocol::cs1::server::{self, Attempt, Candidate, Effort, Holders, Pair};
use countersign_protocol::cs1::ticket::{Claims, TicketKeys};
use countersign_protocol::cs1::{Binding, Ephemeral, Exporter, Issuer, PairKeys, SessionKeys};
use countersign_protocol::identity::{ApiKey, CredentialId};
use countersign_protocol::mac::MacKey;
use countersign_protocol::refusal::{Malformed, Refusal};
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::shared_secret::Lifetime;
use countersign_protocol::token::{self, TokenError, TokenKeys};
use countersign_protocol::wire::reply::ReplyError;
use countersign_protocol::wire::{Incoming, Outgoing, cs1 as wire};
use countersign_testkit::random::Random;
use http::HeaderMap;
use proptest::prelude::*;
use serde_json::{Value, json};
use zeroize::{ZeroizeOnDrop, Zeroizing};

const NOW: UnixTime = UnixTime(1_800_000_000);

/// Counts how often its key is asked for.
#[derive(Debug)]
struct Known {
    keys: PairKeys,
    binding: Binding,
    asked: Cell<usize>,
}

impl Candidate for Known {
    fn mac_key(&self) -> &MacKey {
        self.asked.set(self.asked.get() + 1);
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

/// `billing` with the key `ours`, calling `orders` with the key `theirs`.
struct World {
    random: Random,
    secret: SharedSecret,
    ours: ApiKey,
    theirs: ApiKey,
    issuer: Issuer,
    tickets: TicketKeys,
    burned: HashSet<u128>,
    known: Vec<Known>,
    macs: usize,
    exporter: Option<Exporter>,
    now: UnixTime,
}

fn exporter(byte: u8) -> Exporter {
    Exporter::new(Zeroizing::new([byte; 32]))
}

fn orders_tickets(seed: u8) -> TicketKeys {
    TicketKeys::new("orders".parse().unwrap(), &Zeroizing::new([seed; 40]), NOW)
}

impl World {
    fn new(binding: Binding) -> Self {
        let mut random = Random::new(11);
        let (ours, theirs) = (ApiKey::generate(&random.bytes()), ApiKey::generate(&random.bytes()));
        let secret = SharedSecret::generate(&random.bytes());
        let keys = PairKeys::derive(&secret, &ours, &theirs);
        let known = vec![Known { keys, binding, asked: Cell::new(0) }];
        let issuer = Issuer::new(&Zeroizing::new(random.bytes()), Lifetime::default());
        let burned = HashSet::new();
        let tickets = orders_tickets(5);
        Self {
            random,
            secret,
            ours,
            theirs,
            issuer,
            tickets,
            burned,
            known,
            macs: 1,
            exporter: None,
            now: NOW,
        }
    }

    fn credential(&self) -> Credential {
        Credential::new(&self.secret, self.ours.clone(), self.theirs.clone())
    }

    fn randomness(&mut self) -> Randomness {
        Randomness { nonce: self.random.bytes(), ephemeral: Zeroizing::new(self.random.bytes()) }
    }

    /// `orders` answers M1.
    fn m2(&mut self, m1: &[u8]) -> Result<Vec<u8>, Refusal> {
        let hello = wire::read_hello(m1)?;
        let challenge = self.issuer.issue(&hello, self.now, self.random.bytes()).unwrap();
        Ok(json!({"challenge": challenge.as_str(), "expiresIn": 30}).to_string().into_bytes())
    }

    /// `orders` answers M3.
    fn m4(&mut self, m3: &[u8]) -> Result<Vec<u8>, Refusal> {
        let proof = wire::read_proof(m3)?;
        let hello = &proof.hello;
        let right = hello.client == self.ours && hello.server == self.theirs;
        let holders = if right { Holders::Live(&self.known) } else { Holders::Nobody(Refusal::UnknownKey) };
        let decoy = MacKey::new(&[9; 32]);
        let effort = Effort { macs: self.macs, decoy: &decoy };
        let exporter = self.exporter.as_ref();
        let attempt = Attempt { hello, challenge: &proof.challenge, proof: &proof.proof, exporter };
        let unclaimed = server::verify(&self.issuer, attempt, holders, effort, self.now)?;
        let burned = &mut self.burned;
        let verified = unclaimed
            .claim(|claim| if burned.insert(claim.id) { Ok(()) } else { Err(Refusal::ChallengeUsed) })
            .map_err(|(refusal, _)| refusal)?;
        let (now, tickets) = (self.now, &self.tickets);
        let accepted = verified.accept(&Zeroizing::new(self.random.bytes()), 600, |keys, _| {
            let credential = CredentialId { peer: "billing".parse().unwrap(), number: 1 };
            let expires = now.plus(600);
            let claims =
                Claims { credential, uid: [3; 16], keys, issued: now, expires, binding: hello.binding };
            tickets.seal(&claims, [4; 12])
        })?;
        Ok(wire::write_accepted(&accepted))
    }

    /// A handshake in which somebody in the middle may change each message.
    fn shake(&mut self, mut middle: impl FnMut(u8, &mut Value)) -> Result<Established, String> {
        let credential = self.credential();
        let binding = self.known[0].binding;
        let randomness = self.randomness();
        let (m1, waiting) = start(&credential, binding, &randomness);
        let m2 = self.m2(&changed(1, &m1.body, &mut middle)).map_err(|refusal| refusal.code().to_owned())?;
        let m2 = changed(2, &m2, &mut middle);
        let own = self.exporter.clone();
        let (m3, waiting) = answered(waiting, &m2, own.as_ref()).map_err(|error| format!("{error:?}"))?;
        let m4 = self.m4(&changed(3, &m3.body, &mut middle)).map_err(|refusal| refusal.code().to_owned())?;
        ended(waiting, &changed(4, &m4, &mut middle)).map_err(|error| format!("{error:?}"))
    }
}

fn changed(number: u8, message: &[u8], middle: &mut impl FnMut(u8, &mut Value)) -> Vec<u8> {
    let mut value: Value = serde_json::from_slice(message).unwrap();
    middle(number, &mut value);
    serde_json::to_vec(&value).unwrap()
}

fn answered<'a>(
    waiting: AwaitChallenge<'a>,
    body: &[u8],
    exporter: Option<&Exporter>,
) -> Result<(Outgoing, AwaitProof<'a>), ReplyError> {
    waiting.receive(&Incoming { status: 200, headers: &HeaderMap::new(), body }, exporter)
}

fn ended(waiting: AwaitProof<'_>, body: &[u8]) -> Result<Established, ReplyError> {
    waiting.receive(&Incoming { status: 200, headers: &HeaderMap::new(), body })
}

fn b64(bytes: &[u8]) -> Value {
    Value::String(URL_SAFE_NO_PAD.encode(bytes))
}

#[test]
fn a_handshake_gives_both_sides_the_same_keys_and_the_server_all_of_it_in_the_ticket() {
    let mut world = World::new(Binding::None);
    let established = world.shake(|_, _| {}).unwrap();
    assert_eq!((established.seconds, established.time), (600, NOW));
    let claims = world.tickets.open(&established.ticket, NOW).unwrap();
    assert_eq!(claims.keys.id, established.keys.id);
    assert_eq!(claims.keys.client_to_server, established.keys.client_to_server);
    assert_eq!(claims.keys.server_to_client, established.keys.server_to_client);
    assert_ne!(established.keys.client_to_server, established.keys.server_to_client);
    assert_eq!(claims.credential.to_string(), "billing/1");
}

#[test]
fn two_handshakes_of_one_pair_have_nothing_in_common() {
    let mut world = World::new(Binding::None);
    let (one, other) = (world.shake(|_, _| {}).unwrap(), world.shake(|_, _| {}).unwrap());
    assert_ne!(one.keys.id, other.keys.id);
    assert_ne!(one.keys.client_to_server, other.keys.client_to_server);
    assert_ne!(one.keys.server_to_client, other.keys.server_to_client);
}

/// CS-9 and CS-17: a private key is gone with the one agreement that it makes (it moves into [`Ephemeral::agree`]), and what comes
/// of it is erased when it is dropped.
#[test]
fn what_is_agreed_is_erased_when_it_is_dropped() {
    fn is_erased<T: ZeroizeOnDrop>(_: &T) {}
    let agree = |ours: Ephemeral, theirs: &[u8; 32]| ours.agree(theirs);
    let share = Ephemeral::new(&Zeroizing::new([1; 32])).share();
    is_erased(&agree(Ephemeral::new(&Zeroizing::new([2; 32])), &share).unwrap());
    let keys = World::new(Binding::None).shake(|_, _| {}).unwrap().keys;
    is_erased(&keys.client_to_server);
    is_erased(&keys.server_to_client);
}

/// CS-13 and the challenge's MAC: whatever is changed in M1 or in what M3 repeats of it.
#[test]
fn no_member_can_be_changed_on_the_way_to_the_server() {
    let other_key = Value::from("csk_AAAAAAAAAAAAAAAAAAAAAA");
    let changes: [(&str, Value); 5] = [
        ("apiKey", other_key.clone()),
        ("peerKey", other_key),
        ("nonce", b64(&[1; 32])),
        ("ephemeral", b64(&[9; 32])),
        ("binding", "tls-exporter".into()),
    ];
    for (member, value) in &changes {
        let in_m1 = World::new(Binding::None).shake(|number, message| {
            if number == 1 {
                message[*member] = value.clone();
            }
        });
        assert_eq!(in_m1.unwrap_err(), "challenge-foreign", "{member} in M1");
        let in_m3 = World::new(Binding::None).shake(|number, message| {
            if number == 3 {
                message[*member] = value.clone();
            }
        });
        assert_eq!(in_m3.unwrap_err(), "challenge-foreign", "{member} in M3");
        // In both: then the challenge is for what was changed, and the client has proved something else.
        let in_both = World::new(Binding::None).shake(|number, message| {
            if number == 1 || number == 3 {
                message[*member] = value.clone();
            }
        });
        let expected = if member.ends_with("Key") { "unknown-key" } else { "wrong-signature" };
        assert_eq!(in_both.unwrap_err(), expected, "{member} in M1 and M3");
    }
}

#[test]
fn no_member_can_be_changed_on_the_way_to_the_client() {
    let fresh = format!("1800000000.{}", "A".repeat(64));
    let challenge = World::new(Binding::None).shake(|number, message| {
        if number == 2 {
            message["challenge"] = fresh.as_str().into();
        }
    });
    assert_eq!(challenge.unwrap_err(), "challenge-foreign");
    let time = World::new(Binding::None).shake(|number, message| {
        if number == 2 {
            let text = message["challenge"].as_str().unwrap().replacen("1800000000", "1800000001", 1);
            message["challenge"] = text.into();
        }
    });
    assert_eq!(time.unwrap_err(), "challenge-foreign", "the client's clock is what the server said");
    let changes: [(&str, Value, &str); 6] = [
        ("ephemeral", b64(&[9; 32]), "ServerImpostor"),
        ("ticket", format!("cst.{}", "A".repeat(64)).into(), "ServerImpostor"),
        ("expiresIn", 599.into(), "ServerImpostor"),
        ("serverProof", b64(&[0; 32]), "ServerImpostor"),
        ("serverProof", Value::Null, "ServerUnproven"),
        ("authenticated", false.into(), "NotAuthenticated"),
    ];
    for (member, value, expected) in changes {
        let refused = World::new(Binding::None).shake(|number, message| {
            if number == 4 {
                message[member] = value.clone();
            }
        });
        assert_eq!(refused.unwrap_err(), expected, "{member}");
    }
    let forms: [(&str, Value, &str); 7] = [
        ("ticket", "cst.AAAA".into(), "TokenForm"),
        ("ticket", "csb.AAAA".into(), "TokenForm"),
        ("ticket", "cst.\n".into(), "TokenForm"),
        ("ticket", "cst.A".repeat(300).into(), "TokenForm"),
        ("expiresIn", 0.into(), "TokenForm"),
        ("expiresIn", 601.into(), "TokenForm"),
        ("ephemeral", b64(&[9; 31]), "NotJson"),
    ];
    for (member, value, expected) in forms {
        let refused = World::new(Binding::None).shake(|number, message| {
            if number == 4 {
                message[member] = value.clone();
            }
        });
        assert_eq!(refused.unwrap_err(), expected, "{member}");
    }
}

/// CS-18: somebody who does not hold the secret gets a challenge and nothing else.
#[test]
fn a_client_without_the_secret_is_refused_and_told_nothing() {
    let mut world = World::new(Binding::None);
    let secret = SharedSecret::generate(&world.random.bytes());
    let wrong = Credential::new(&secret, world.ours.clone(), world.theirs.clone());
    let randomness = world.randomness();
    let (m1, waiting) = start(&wrong, Binding::None, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    let (m3, _) = answered(waiting, &m2, None).unwrap();
    assert_eq!(world.m4(&m3.body), Err(Refusal::WrongSignature));
    assert!(world.burned.is_empty(), "a wrong proof burns nothing");
}

#[test]
fn a_server_without_the_secret_is_refused() {
    let mut world = World::new(Binding::None);
    let secret = SharedSecret::generate(&world.random.bytes());
    let keys = PairKeys::derive(&secret, &world.ours, &world.theirs);
    // It lets everybody in, and answers as well as it can.
    let credential = world.credential();
    let randomness = world.randomness();
    let (m1, waiting) = start(&credential, Binding::None, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    let (_, waiting) = answered(waiting, &m2, None).unwrap();
    let impostor = Credential::new(&secret, world.ours.clone(), world.theirs.clone());
    let (m1, other) = start(&impostor, Binding::None, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    let (m3, _) = answered(other, &m2, None).unwrap();
    world.known = vec![Known { keys, binding: Binding::None, asked: Cell::new(0) }];
    let m4 = world.m4(&m3.body).unwrap();
    assert_eq!(ended(waiting, &m4).unwrap_err(), ReplyError::ServerImpostor);
}

/// The answer to one handshake is none to another one of the same pair.
#[test]
fn an_answer_to_another_handshake_is_refused() {
    let mut world = World::new(Binding::None);
    let mut earlier = None;
    world
        .shake(|number, message| {
            if number == 4 {
                earlier = Some(message.clone());
            }
        })
        .unwrap();
    let replayed = world.shake(|number, message| {
        if number == 4 {
            *message = earlier.clone().unwrap();
        }
    });
    assert_eq!(replayed.unwrap_err(), "ServerImpostor");
}

/// CS-4: what `billing` says to `orders` is nothing that `orders` could say to `billing`.
#[test]
fn a_message_reflected_to_its_sender_is_refused() {
    let mut world = World::new(Binding::None);
    // `billing` as a server knows `orders` with the keys exchanged.
    let reversed = PairKeys::derive(&world.secret, &world.theirs, &world.ours);
    let credential = world.credential();
    let randomness = world.randomness();
    let (m1, waiting) = start(&credential, Binding::None, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    let (m3, _) = answered(waiting, &m2, None).unwrap();
    world.known = vec![Known { keys: reversed, binding: Binding::None, asked: Cell::new(0) }];
    assert_eq!(world.m4(&m3.body), Err(Refusal::WrongSignature));
}

/// CS-15.
#[test]
fn a_challenge_is_answered_once_and_remembered_until_it_is_too_old() {
    let mut world = World::new(Binding::None);
    let mut sent = None;
    world
        .shake(|number, message| {
            if number == 3 {
                sent = Some(message.to_string());
            }
        })
        .unwrap();
    let m3 = sent.unwrap();
    assert_eq!(world.m4(m3.as_bytes()), Err(Refusal::ChallengeUsed));
    world.now = NOW.plus(31);
    assert_eq!(world.m4(m3.as_bytes()), Err(Refusal::ChallengeExpired));
    let issued = NOW;
    assert!(world.issuer.burned_until(issued) >= NOW.plus(35));
}

/// CS-13.
#[test]
fn a_challenge_is_good_from_five_seconds_before_its_time_to_thirty_after() {
    for (passed, expected) in [(0, None), (30, None), (31, Some("challenge-expired"))] {
        let mut world = World::new(Binding::None);
        let credential = world.credential();
        let randomness = world.randomness();
        let (m1, waiting) = start(&credential, Binding::None, &randomness);
        let m2 = world.m2(&m1.body).unwrap();
        let (m3, _) = answered(waiting, &m2, None).unwrap();
        world.now = NOW.plus(passed);
        assert_eq!(world.m4(&m3.body).err().map(|refusal| refusal.code()), expected, "after {passed} s");
    }
    for (back, expected) in [(5, None), (6, Some("challenge-foreign"))] {
        let mut world = World::new(Binding::None);
        let credential = world.credential();
        let randomness = world.randomness();
        let (m1, waiting) = start(&credential, Binding::None, &randomness);
        let m2 = world.m2(&m1.body).unwrap();
        let (m3, _) = answered(waiting, &m2, None).unwrap();
        world.now = UnixTime(NOW.0 - back);
        assert_eq!(world.m4(&m3.body).err().map(|refusal| refusal.code()), expected, "{back} s before");
    }
}

/// CS-12.
#[test]
fn a_challenge_of_another_process_is_refused() {
    let mut world = World::new(Binding::None);
    let restarted = Issuer::new(&Zeroizing::new(world.random.bytes()), Lifetime::default());
    let credential = world.credential();
    let randomness = world.randomness();
    let (m1, waiting) = start(&credential, Binding::None, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    let (m3, _) = answered(waiting, &m2, None).unwrap();
    world.issuer = restarted;
    assert_eq!(world.m4(&m3.body), Err(Refusal::ChallengeForeign));
}

/// CS-11.
#[test]
fn a_hello_gets_a_challenge_of_one_length_whether_or_not_anybody_knows_its_keys() {
    let mut world = World::new(Binding::None);
    let known = world.credential();
    let stranger = Credential::new(
        &SharedSecret::generate(&world.random.bytes()),
        ApiKey::generate(&world.random.bytes()),
        ApiKey::generate(&world.random.bytes()),
    );
    let lengths = [known, stranger].map(|credential| {
        let randomness = world.randomness();
        let (m1, _) = start(&credential, Binding::None, &randomness);
        world.m2(&m1.body).unwrap().len()
    });
    assert_eq!(lengths[0], lengths[1]);
}

/// CS-14.
#[test]
fn every_attempt_costs_the_same_macs_and_every_live_credential_is_tried() {
    let mut world = World::new(Binding::None);
    let extra = |world: &mut World| {
        let secret = SharedSecret::generate(&world.random.bytes());
        let keys = PairKeys::derive(&secret, &world.ours, &world.theirs);
        Known { keys, binding: Binding::None, asked: Cell::new(0) }
    };
    // A rotation in which only the secret changes: the new credential has the same keys.
    let newer = extra(&mut world);
    world.known.push(newer);
    world.macs = 4;
    world.shake(|_, _| {}).unwrap();
    let asked: Vec<_> = world.known.iter().map(|known| known.asked.get()).collect();
    assert_eq!(asked, [1, 1], "no early exit");
    world.known.reverse();
    world.shake(|_, _| {}).unwrap();
}

/// CS-16, CS-8.
#[test]
fn a_share_of_small_order_is_refused_by_either_side() {
    let mut world = World::new(Binding::None);
    // A client that holds the secret and cheats itself: only it could, for CP covers the share.
    let credential = world.credential();
    let randomness = world.randomness();
    let (m1, _) = start(&credential, Binding::None, &randomness);
    let mut m1: Value = serde_json::from_slice(&m1.body).unwrap();
    m1["ephemeral"] = b64(&[0; 32]);
    let m2: Value = serde_json::from_slice(&world.m2(m1.to_string().as_bytes()).unwrap()).unwrap();
    let challenge = m2["challenge"].as_str().unwrap();
    let proof = client_proof_of(&world, &m1, challenge);
    let mut m3 = m1;
    m3["challenge"] = challenge.into();
    m3["signedChallenge"] = b64(&proof);
    assert_eq!(world.m4(m3.to_string().as_bytes()), Err(Refusal::ZeroShare));
    assert_eq!(world.burned.len(), 1, "the challenge stays burned");
}

/// CP computed from the text of the specification, with nothing of the code under test but HMAC and LP.
fn client_proof_of(world: &World, m1: &Value, challenge: &str) -> [u8; 32] {
    use countersign_protocol::lp;
    let expand = |key: &[u8], info: &[u8]| *MacKey::new(key).mac(&[info, &[1]]).as_bytes();
    let prk = *MacKey::new(b"countersign/1").mac(&[world.secret.expose().as_bytes()]).as_bytes();
    let (client, server) = (world.ours.expose().as_bytes(), world.theirs.expose().as_bytes());
    let kd = expand(&prk, &lp(&[b"dir", client, server]));
    let kcp = expand(&kd, &lp(&[b"cp"]));
    let bytes = |name: &str| URL_SAFE_NO_PAD.decode(m1[name].as_str().unwrap()).unwrap();
    let (nonce, share) = (bytes("nonce"), bytes("ephemeral"));
    let transcript =
        lp(&[b"countersign/1 cs1", client, server, &nonce, &share, b"none", b"", challenge.as_bytes()]);
    *MacKey::new(&kcp).mac(&[&lp(&[b"CP"]), &transcript]).as_bytes()
}

/// CS-31.
#[test]
fn a_handshake_that_is_bound_to_tls_does_not_pass_through_another_connection() {
    let mut world = World::new(Binding::TlsExporter);
    world.exporter = Some(exporter(1));
    world.shake(|_, _| {}).unwrap();

    // A relay has a connection with each side.
    let credential = world.credential();
    let randomness = world.randomness();
    let (m1, waiting) = start(&credential, Binding::TlsExporter, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    let (m3, _) = answered(waiting, &m2, Some(&exporter(2))).unwrap();
    assert_eq!(world.m4(&m3.body), Err(Refusal::WrongSignature));

    // A proxy that ends TLS: the server has nothing to bind to.
    world.exporter = None;
    let (m1, waiting) = start(&credential, Binding::TlsExporter, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    let (m3, _) = answered(waiting, &m2, Some(&exporter(1))).unwrap();
    assert_eq!(world.m4(&m3.body), Err(Refusal::WrongSignature));
    let (m1, waiting) = start(&credential, Binding::TlsExporter, &randomness);
    let m2 = world.m2(&m1.body).unwrap();
    assert_eq!(answered(waiting, &m2, None).unwrap_err(), ReplyError::NoExporter);
}

/// CS-31: what is configured counts, not what the client asks for, also for a client that holds the secret.
#[test]
fn a_binding_that_is_not_the_configured_one_is_refused() {
    for (configured, asked) in [(Binding::TlsExporter, Binding::None), (Binding::None, Binding::TlsExporter)]
    {
        let mut world = World::new(configured);
        world.exporter = Some(exporter(1));
        let credential = world.credential();
        let randomness = world.randomness();
        let (m1, waiting) = start(&credential, asked, &randomness);
        let m2 = world.m2(&m1.body).unwrap();
        let (m3, _) = answered(waiting, &m2, Some(&exporter(1))).unwrap();
        assert_eq!(world.m4(&m3.body), Err(Refusal::WrongBinding), "{asked:?}");
    }
}

/// CS-32.
#[test]
fn keys_on_one_connection_are_none_on_another() {
    let mut world = World::new(Binding::TlsExporter);
    world.exporter = Some(exporter(1));
    let keys = world.shake(|_, _| {}).unwrap().keys;
    let on = |byte| keys.on_connection(&exporter(byte));
    assert_eq!(on(1).client_to_server, on(1).client_to_server);
    assert_ne!(on(1).client_to_server, on(2).client_to_server);
    assert_ne!(on(1).server_to_client, on(2).server_to_client);
    assert_ne!(on(1).client_to_server, keys.client_to_server);
    assert_ne!(on(1).client_to_server, on(1).server_to_client);
    assert_eq!(on(1).id, keys.id);
}

/// CS-1, CS-10.
#[test]
fn a_hello_of_another_form_is_refused_by_name() {
    let world = World::new(Binding::None);
    let good = json!({
        "protocol": "cs1", "apiKey": world.ours.expose(), "peerKey": world.theirs.expose(),
        "nonce": URL_SAFE_NO_PAD.encode([1; 32]), "ephemeral": URL_SAFE_NO_PAD.encode([2; 32]), "binding": "none",
    });
    assert!(wire::read_hello(good.to_string().as_bytes()).is_ok());
    let canonical = URL_SAFE_NO_PAD.encode([1; 32]);
    let unused_bits = format!("{}F", &canonical[..42]);
    for (member, value, expected) in [
        ("protocol", json!("cs2"), Refusal::UnsupportedProtocol),
        ("apiKey", json!("short"), Malformed::Member("apiKey").into()),
        ("peerKey", json!("with space padding"), Malformed::Member("peerKey").into()),
        ("nonce", json!(format!("{canonical}=")), Malformed::Member("nonce").into()),
        ("nonce", json!(unused_bits), Malformed::Member("nonce").into()),
        ("nonce", b64(&[1; 31]), Malformed::Member("nonce").into()),
        ("nonce", b64(&[1; 33]), Malformed::Member("nonce").into()),
        ("ephemeral", json!("+".repeat(43)), Malformed::Member("ephemeral").into()),
        ("ephemeral", json!(""), Malformed::Member("ephemeral").into()),
        ("binding", json!("tls-unique"), Malformed::Member("binding").into()),
        ("binding", json!("NONE"), Malformed::Member("binding").into()),
    ] {
        let mut wrong = good.clone();
        wrong[member] = value;
        assert_eq!(wire::read_hello(wrong.to_string().as_bytes()).unwrap_err(), expected, "{member}");
    }
    for member in ["protocol", "apiKey", "peerKey", "nonce", "ephemeral", "binding"] {
        let mut lacking = good.clone();
        lacking.as_object_mut().unwrap().remove(member);
        assert!(wire::read_hello(lacking.to_string().as_bytes()).is_err(), "{member}");
    }
    let mut more = good.clone();
    more["more"] = 1.into();
    assert!(wire::read_hello(more.to_string().as_bytes()).is_err());
    assert!(wire::read_hello(b"[]").is_err());
    // M3 is not M1, and the reverse.
    assert!(wire::read_proof(good.to_string().as_bytes()).is_err());
}

fn some_claims(keys: SessionKeys) -> Claims {
    let credential = CredentialId { peer: "billing".parse().unwrap(), number: 2 };
    Claims { credential, uid: [1; 16], keys, issued: NOW, expires: NOW.plus(600), binding: Binding::None }
}

fn some_keys() -> SessionKeys {
    SessionKeys {
        client_to_server: Zeroizing::new([1; 32]),
        server_to_client: Zeroizing::new([2; 32]),
        id: [3; 16],
    }
}

/// CS-21.
#[test]
fn a_ticket_is_no_token_and_a_token_is_no_ticket() {
    let tickets = orders_tickets(1);
    let tokens = TokenKeys::new("orders".parse().unwrap(), &Zeroizing::new([1; 40]), NOW);
    let ticket = tickets.seal(&some_claims(some_keys()), [7; 12]);
    let credential = CredentialId { peer: "billing".parse().unwrap(), number: 2 };
    let claims = token::Claims { credential, uid: [1; 16], issued: NOW, expires: NOW.plus(300) };
    let token = tokens.seal(&claims, [7; 12]);
    assert_eq!(tokens.open(&ticket, NOW), Err(TokenError::Form));
    assert_eq!(tickets.open(&token, NOW).unwrap_err(), TokenError::Form);
    // With the prefix exchanged, and even under one root key with one key id:
    let disguised = ticket.replacen("cst.", "csb.", 1);
    assert_eq!(tokens.open(&disguised, NOW), Err(TokenError::Seal));
    let disguised = token.replacen("csb.", "cst.", 1);
    assert_eq!(tickets.open(&disguised, NOW).unwrap_err(), TokenError::Seal);
}

/// CS-19, CS-20.
#[test]
fn a_ticket_is_refused_when_it_is_old_changed_or_of_another_server_or_generation() {
    let mut tickets = orders_tickets(1);
    let ticket = tickets.seal(&some_claims(some_keys()), [7; 12]);
    assert!(tickets.open(&ticket, NOW.plus(599)).is_ok());
    assert_eq!(tickets.open(&ticket, NOW.plus(600)).unwrap_err(), TokenError::Expired);
    let billing = TicketKeys::new("billing".parse().unwrap(), &Zeroizing::new([1; 40]), NOW);
    assert_eq!(billing.open(&ticket, NOW).unwrap_err(), TokenError::Seal);
    assert_eq!(orders_tickets(2).open(&ticket, NOW).unwrap_err(), TokenError::Key);
    for index in 0..ticket.len() {
        let mut bytes = ticket.as_bytes().to_vec();
        bytes[index] = if bytes[index] == b'A' { b'B' } else { b'A' };
        assert!(tickets.open(std::str::from_utf8(&bytes).unwrap(), NOW).is_err(), "character {index}");
        assert!(tickets.open(&ticket[..index], NOW).is_err(), "cut at {index}");
    }
    tickets.rotate(&Zeroizing::new([8; 40]), NOW);
    assert!(tickets.open(&ticket, NOW).is_ok(), "the key before still opens");
    tickets.rotate(&Zeroizing::new([9; 40]), NOW.plus(300));
    tickets.tidy(NOW.plus(599));
    assert!(tickets.open(&ticket, NOW.plus(599)).is_ok(), "no ticket ends before its time (CS-20)");
    tickets.tidy(NOW.plus(600));
    assert_eq!(tickets.open(&ticket, NOW).unwrap_err(), TokenError::Key, "its key is erased");
}

#[test]
fn nothing_secret_is_shown() {
    let mut world = World::new(Binding::TlsExporter);
    world.exporter = Some(exporter(0x5a));
    let established = world.shake(|_, _| {}).unwrap();
    let credential = world.credential();
    let randomness = world.randomness();
    let (_, waiting) = start(&credential, Binding::None, &randomness);
    let shown = format!(
        "{established:?} {credential:?} {waiting:?} {:?} {:?} {:?}",
        world.known[0].keys, world.exporter, world.tickets
    );
    let secrets = [
        world.secret.expose().to_owned(),
        format!("{:?}", established.keys.client_to_server.as_slice()),
        format!("{:?}", established.keys.server_to_client.as_slice()),
        format!("{:?}", randomness.ephemeral.as_slice()),
        "90, 90, 90".to_owned(),
    ];
    for secret in secrets {
        assert!(!shown.contains(&secret), "{secret} in {shown}");
    }
}

proptest! {
    /// Whatever single byte of whatever message is changed, no two ends believe in different sessions.
    #[test]
    fn nobody_in_the_middle_gets_a_session_by_changing_text(
        at in 1..=4u8,
        place in any::<prop::sample::Index>(),
        with in prop::sample::select(&b"Aa0_-.Z"[..]),
    ) {
        let mut world = World::new(Binding::None);
        let mut touched = false;
        let result = world.shake(|number, message| {
            if number == at {
                let members: Vec<String> = message.as_object().unwrap().keys().cloned().collect();
                let member = &members[place.index(members.len())];
                if let Some(text) = message[member].as_str() {
                    let mut bytes = text.as_bytes().to_vec();
                    let index = place.index(bytes.len());
                    touched = bytes[index] != with;
                    bytes[index] = with;
                    message[member] = String::from_utf8(bytes).unwrap().into();
                }
            }
        });
        prop_assert_eq!(result.is_err(), touched, "{:?}", result);
    }

    #[test]
    fn no_body_makes_a_reader_panic(body in "[ -~]{0,60}|\\{(\"[a-zA-Z]{1,16}\":\"[!-~]{0,50}\",?){0,8}\\}") {
        let _ = wire::read_hello(body.as_bytes());
        let _ = wire::read_proof(body.as_bytes());
    }
}
