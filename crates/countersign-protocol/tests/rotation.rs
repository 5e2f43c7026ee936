//! Rotation in band (`specs/rotation.md`): both roles, byte for byte, against a generator that shares no code, and what either side
//! refuses. What is kept at which step is tested where it is kept (`countersign-store`).

#![allow(clippy::unwrap_used, clippy::panic, clippy::indexing_slicing, reason = "tests")]

use countersign_protocol::UnixTime;
use countersign_protocol::identity::ApiKey;
use countersign_protocol::mac::Tag;
use countersign_protocol::rotation::responder::{Answered, answer, shows_new, shows_old};
use countersign_protocol::rotation::{
    Answer, Confirm, MAX_RID, Names, NextPair, NotAgreed, Outcome, Proposal, Propose, Rights,
};
use countersign_protocol::secret::SharedSecret;
use countersign_protocol::wire::MAX_BODY;
use countersign_protocol::wire::rotation::{Asked, Status, read, read_answer, read_ruling};
use countersign_testkit::vectors::{Case, cases, list};
use serde_json::{Value, json};
use zeroize::Zeroizing;

/// One rotation of the vectors, with both sides' state.
struct Agreement {
    name: String,
    old: Rights,
    proposal: Proposal,
    answered: Answered,
}

fn names(case: &Case) -> Names {
    let key = |name| case.text(name).parse::<ApiKey>().unwrap();
    Names { initiator: key("initiator"), responder: key("responder") }
}

fn rights(case: &Case) -> Rights {
    let (secret, names) = (case.text("secret").parse::<SharedSecret>().unwrap(), names(case));
    Rights::derive(&secret, &names.initiator, &names.responder)
}

fn proposal(case: &Case) -> Proposal {
    let private = Zeroizing::new(case.array("initiator_private_hex"));
    Proposal::new(names(case), case.number("rid"), case.array("ni_hex"), private)
}

impl Agreement {
    fn of(case: &Case) -> Self {
        let (old, proposal) = (rights(case), proposal(case));
        let private = Zeroizing::new(case.array("responder_private_hex"));
        let answered = answer(&old, &proposal.message(), case.array("nr_hex"), &private).unwrap();
        Self { name: case.name.clone(), old, proposal, answered }
    }

    fn all() -> Vec<Self> {
        cases("rotation/agreed-").iter().map(Self::of).collect()
    }

    fn first() -> Self {
        Self::of(&cases("rotation/agreed-plain")[0])
    }

    fn confirm(&self) -> Confirm {
        let pair = self.proposal.clone().receive(&self.old, &self.answered.answer).unwrap().into_pair();
        Confirm::new(self.proposal.names.clone(), self.proposal.rid, &self.old, &pair.rights())
    }
}

fn json(bytes: &[u8]) -> Value {
    serde_json::from_slice(bytes).unwrap()
}

fn same_text(case: &Case, member: &str, made: &[u8]) {
    assert_eq!(json(made), json(case.text(member).as_bytes()), "{}: {member}", case.name);
}

fn is_next(case: &Case, pair: &NextPair) {
    let texts = [pair.initiator.expose(), pair.responder.expose(), pair.secret.expose()];
    assert_eq!(texts, ["nextInitiator", "nextResponder", "nextSecret"].map(|name| case.text(name)));
}

/// Another tag than this one, by one bit.
fn flipped(tag: &Tag, bit: usize) -> Tag {
    let mut bytes = *tag.as_bytes();
    bytes[bit / 8] ^= 1 << (bit % 8);
    Tag::from_bytes(bytes)
}

#[test]
fn both_roles_make_every_message_and_the_same_keys() {
    for case in cases("rotation/agreed-") {
        let agreement = Agreement::of(&case);
        let (old, proposal) = (&agreement.old, &agreement.proposal);
        let r1 = proposal.message();
        assert_eq!(r1.share, case.array("ei_hex"), "{}", case.name);
        same_text(&case, "r1", &r1.to_json());
        let Asked::Propose(heard) = read(case.text("r1").as_bytes()).unwrap() else {
            panic!("{}", case.name)
        };
        assert_eq!(heard, r1);

        let Answered { answer: r2, next } = &agreement.answered;
        assert_eq!(r2.share, case.array("er_hex"), "{}", case.name);
        assert_eq!(*r2.proof.as_bytes(), case.array("proof_answer_hex"), "{}", case.name);
        same_text(&case, "r2", &r2.to_json());
        is_next(&case, next);
        let heard = read_answer(case.text("r2").as_bytes()).unwrap();
        let pair = proposal.clone().receive(old, &heard).unwrap().into_pair();
        is_next(&case, &pair);

        let r3 = Confirm::new(proposal.names.clone(), proposal.rid, old, &pair.rights());
        assert_eq!(*r3.old.as_bytes(), case.array("proof_old_hex"), "{}", case.name);
        assert_eq!(*r3.new.as_bytes(), case.array("proof_new_hex"), "{}", case.name);
        same_text(&case, "r3", &r3.to_json());
        let Asked::Confirm(heard) = read(case.text("r3").as_bytes()).unwrap() else {
            panic!("{}", case.name)
        };
        assert!(shows_new(&next.rights(), &heard) && shows_old(old, &heard), "{}", case.name);
        assert_eq!(heard.names, proposal.names);

        let (done, aborted) =
            (next.rights().ruling(heard.rid, Outcome::Done), old.ruling(heard.rid, Outcome::Aborted));
        for (member, made, by, proof) in
            [("done", done, &pair.rights(), "proof_done_hex"), ("aborted", aborted, old, "proof_aborted_hex")]
        {
            assert_eq!(*made.proof.as_bytes(), case.array(proof), "{}", case.name);
            same_text(&case, member, &made.to_json());
            let heard = read_ruling(case.text(member).as_bytes()).unwrap();
            assert_eq!(heard.outcome, made.outcome);
            assert!(by.made(&heard), "{}: {member}", case.name);
        }
    }
}

#[test]
fn no_two_rotations_have_a_key_or_a_proof_in_common() {
    let mut seen = std::collections::BTreeSet::new();
    let mut count = 0;
    for case in cases("rotation/agreed-") {
        // Of the two that differ in their number alone, `old` and `aborted` differ by that.
        for name in
            ["proof_answer_hex", "proof_old_hex", "proof_new_hex", "proof_done_hex", "proof_aborted_hex"]
        {
            seen.insert(case.text(name).to_owned());
            count += 1;
        }
        for name in ["nextSecret", "nextInitiator", "nextResponder"] {
            seen.insert(case.text(name).to_owned());
            count += 1;
        }
    }
    assert_eq!(seen.len(), count);
}

#[test]
fn ro_5_a_share_of_small_order_is_refused_by_the_responder() {
    let Agreement { old, proposal, .. } = Agreement::first();
    for case in list("cs1/small-order") {
        let propose = Propose { share: case.array("share_hex"), ..proposal.message() };
        let answered = answer(&old, &propose, [1; 32], &Zeroizing::new([2; 32]));
        assert_eq!(answered.is_ok(), case.flag("accept"), "{}", case.name);
    }
}

#[test]
fn ro_5_a_share_of_small_order_is_refused_by_the_initiator_whatever_the_proof() {
    let Agreement { old, proposal, answered, .. } = Agreement::first();
    for case in list("cs1/small-order") {
        let wrong = Answer { share: case.array("share_hex"), ..answered.answer.clone() };
        let refused = proposal.clone().receive(&old, &wrong).unwrap_err();
        // An ordinary share is not the one that the proof is about.
        let why = if case.flag("accept") { NotAgreed::Proof } else { NotAgreed::ZeroShare };
        assert_eq!(refused, why, "{}", case.name);
    }
}

#[test]
fn ro_7_every_changed_bit_of_a_proof_is_found() {
    for Agreement { name, old, proposal, answered } in Agreement::all() {
        let (next, rid) = (answered.next.rights(), proposal.rid);
        let right = Confirm::new(proposal.names.clone(), rid, &old, &next);
        for bit in 0..256 {
            let wrong = Answer { proof: flipped(&answered.answer.proof, bit), ..answered.answer.clone() };
            assert_eq!(proposal.clone().receive(&old, &wrong).unwrap_err(), NotAgreed::Proof, "{name}");
            assert!(!shows_new(&next, &Confirm { new: flipped(&right.new, bit), ..right.clone() }), "{name}");
            assert!(!shows_old(&old, &Confirm { old: flipped(&right.old, bit), ..right.clone() }), "{name}");
            for (by, outcome) in [(&next, Outcome::Done), (&old, Outcome::Aborted)] {
                let mut ruling = by.ruling(rid, outcome);
                ruling.proof = flipped(&ruling.proof, bit);
                assert!(!by.made(&ruling), "{name}");
            }
        }
    }
}

#[test]
fn ro_7_a_proof_is_of_its_purpose_and_its_keys() {
    let agreement = Agreement::first();
    let (old, next, rid) = (&agreement.old, agreement.answered.next.rights(), agreement.proposal.rid);
    let right = agreement.confirm();
    let swapped = Confirm { old: right.new, new: right.old, ..right.clone() };
    assert!(!shows_new(&next, &swapped) && !shows_old(old, &swapped));
    assert!(!shows_new(old, &right) && !shows_old(&next, &right));
    let (done, aborted) = (next.ruling(rid, Outcome::Done), old.ruling(rid, Outcome::Aborted));
    assert!(!old.made(&done) && !next.made(&aborted), "each under its own keys only");
    for (by, ruling, other) in [(&next, done, Outcome::Aborted), (old, aborted, Outcome::Done)] {
        let mut turned = ruling;
        turned.outcome = other;
        assert!(!by.made(&turned), "what is done is not aborted");
    }
    for tag in [right.old, right.new, done.proof, aborted.proof] {
        let wrong = Answer { proof: tag, ..agreement.answered.answer.clone() };
        let refused = agreement.proposal.clone().receive(old, &wrong);
        assert_eq!(refused.unwrap_err(), NotAgreed::Proof);
    }
}

#[test]
fn ro_1_what_was_said_of_one_number_is_nothing_under_another() {
    let agreement = Agreement::first();
    let (old, next, rid) = (&agreement.old, agreement.answered.next.rights(), agreement.proposal.rid);
    let answered = &agreement.answered.answer;
    let other = Answer { rid: rid + 1, ..answered.clone() };
    assert_eq!(agreement.proposal.clone().receive(old, &other).unwrap_err(), NotAgreed::OtherRotation);
    let later = Proposal { rid: rid + 1, ..agreement.proposal.clone() };
    assert_eq!(later.receive(old, &other).unwrap_err(), NotAgreed::Proof, "even if all else is the same");
    let confirm = Confirm { rid: rid + 1, ..agreement.confirm() };
    assert!(!shows_new(&next, &confirm) && !shows_old(old, &confirm));
    for (by, outcome) in [(&next, Outcome::Done), (old, Outcome::Aborted)] {
        let mut ruling = by.ruling(rid, outcome);
        ruling.rid += 1;
        assert!(!by.made(&ruling));
    }
}

#[test]
fn ro_5_an_answer_is_of_one_proposal_alone() {
    let Agreement { old, proposal, answered, .. } = Agreement::first();
    // As if after a restart: the same number and keys, another nonce or another key pair.
    let other_nonce = Proposal { nonce: [9; 32], ..proposal.clone() };
    let other_share = Proposal { private: Zeroizing::new([9; 32]), ..proposal.clone() };
    for other in [other_nonce, other_share] {
        assert_eq!(other.receive(&old, &answered.answer).unwrap_err(), NotAgreed::Proof);
    }
    let nonce = Answer { nonce: [9; 32], ..answered.answer };
    assert_eq!(proposal.receive(&old, &nonce).unwrap_err(), NotAgreed::Proof);
}

#[test]
fn roles_cannot_be_exchanged() {
    let [plain, reversed] =
        ["rotation/agreed-plain", "rotation/agreed-reversed"].map(|name| cases(name).remove(0));
    let (there, back) = (Agreement::of(&plain), Agreement::of(&reversed));
    assert_eq!(there.proposal.private, back.proposal.private, "they differ in their roles alone");
    assert_eq!(
        there.proposal.clone().receive(&there.old, &back.answered.answer).unwrap_err(),
        NotAgreed::Proof
    );
    // Reflected to who made it.
    assert!(
        !shows_old(&back.old, &there.confirm()) && !shows_new(&back.answered.next.rights(), &there.confirm())
    );
    // An answer made of R1 itself.
    let r1 = there.proposal.message();
    let echo = Answer { rid: r1.rid, nonce: r1.nonce, share: r1.share, proof: there.confirm().old };
    assert_eq!(there.proposal.receive(&there.old, &echo).unwrap_err(), NotAgreed::Proof);
}

#[test]
fn whoever_does_not_have_the_old_secret_agrees_on_nothing() {
    let Agreement { proposal, answered, .. } = Agreement::first();
    let stranger = SharedSecret::generate(&[5; 32]);
    let stranger = Rights::derive(&stranger, &proposal.names.initiator, &proposal.names.responder);
    let private = Zeroizing::new([3; 32]);
    let forged = answer(&stranger, &proposal.message(), [4; 32], &private).unwrap().answer;
    let old = rights(&cases("rotation/agreed-plain")[0]);
    assert_eq!(proposal.clone().receive(&old, &forged).unwrap_err(), NotAgreed::Proof);
    assert_eq!(proposal.receive(&stranger, &answered.answer).unwrap_err(), NotAgreed::Proof);
}

#[test]
fn gp_16_requests_are_read_strictly() {
    for case in list("rotation/request-form") {
        let taken = read(case.text("value").as_bytes());
        assert_eq!(taken.is_ok(), case.flag("accept"), "{}: {taken:?}", case.name);
        if let Ok(asked) = taken {
            let again = match &asked {
                Asked::Propose(propose) => propose.to_json(),
                Asked::Confirm(confirm) => confirm.to_json(),
                Asked::Status => Status::ask(),
            };
            assert_eq!(json(&again), json(case.text("value").as_bytes()), "{}", case.name);
        }
    }
}

#[test]
fn requests_of_4096_bytes_are_read_and_longer_ones_are_not() {
    let mut body = Status::ask();
    body.resize(MAX_BODY, b' ');
    assert!(matches!(read(&body), Ok(Asked::Status)));
    body.push(b' ');
    assert!(read(&body).is_err());
}

#[test]
fn an_answer_that_is_none_is_refused_and_what_is_beside_it_is_passed_over() {
    let value = "A".repeat(43);
    let answer = json!({"rotation": "answer", "rid": 1, "nonce": value, "ephemeral": value, "proof": value});
    let ruling = json!({"rotation": "done", "rid": 1, "proof": value});
    let status = json!({"rotation": "status", "now": 1, "grace": 900, "wanted": true});
    let reads = |body: &Value| {
        let body = body.to_string();
        let body = body.as_bytes();
        [read_answer(body).is_ok(), read_ruling(body).is_ok(), Status::read(body).is_ok()]
    };
    for (index, body) in [answer, ruling, status].into_iter().enumerate() {
        let mut only = [false; 3];
        only[index] = true;
        assert_eq!(reads(&body), only);
        let mut more = body.clone();
        more["later"] = json!({"version": 2});
        assert_eq!(reads(&more), only, "a later version may say more");
        for name in body.as_object().unwrap().keys() {
            let mut less = body.clone();
            less.as_object_mut().unwrap().remove(name);
            assert_eq!(reads(&less), [false; 3], "no {name}");
            for wrong in [json!(null), json!([1]), json!(1.5), json!(-1), json!("A=="), json!("propose")] {
                let mut other = body.clone();
                other[name] = wrong;
                assert_eq!(reads(&other), [false; 3], "{other}");
            }
        }
        let mut long = body.to_string();
        long.push_str(&" ".repeat(5000));
        assert!(read_answer(long.as_bytes()).is_err() && Status::read(long.as_bytes()).is_err());
        assert!(read_ruling(long.as_bytes()).is_err());
    }
    for other in ["", "{}", "null", "[]", "<html>", "true"] {
        assert!(read_answer(other.as_bytes()).is_err() && read_ruling(other.as_bytes()).is_err());
        assert!(Status::read(other.as_bytes()).is_err());
    }
}

#[test]
fn a_status_comes_back_as_it_was() {
    for wanted in [true, false] {
        let status = Status { now: UnixTime(u64::MAX), grace: 900, wanted };
        assert_eq!(Status::read(&status.to_json()).unwrap(), status);
    }
}

#[test]
fn nothing_that_is_secret_is_shown() {
    let case = &cases("rotation/agreed-plain")[0];
    let agreement = Agreement::of(case);
    let pair = &agreement.answered.next;
    let shown = format!(
        "{:?} {:?} {:?} {:?} {:?}",
        agreement.proposal,
        agreement.old,
        pair.rights(),
        agreement.answered,
        agreement.proposal.clone().receive(&agreement.old, &agreement.answered.answer).unwrap(),
    );
    let bytes = |name: &str| format!("{:?}", case.bytes(name));
    for secret in [case.text("secret"), case.text("nextSecret")] {
        assert!(!shown.contains(secret), "{shown}");
    }
    for name in ["initiator_private_hex", "responder_private_hex", "krot_hex", "next_krot_hex", "z_hex"] {
        let list = bytes(name);
        assert!(!shown.contains(list.trim_matches(['[', ']'])) && !shown.contains(case.text(name)), "{name}");
    }
}

#[test]
fn the_greatest_number_is_what_every_reader_of_json_takes() {
    assert_eq!(MAX_RID, 9_007_199_254_740_991);
    assert_eq!(cases("rotation/agreed-last-number")[0].number("rid"), MAX_RID);
}
