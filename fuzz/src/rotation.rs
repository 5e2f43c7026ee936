//! Rotation in band: what a responder is asked, taken exactly when `serde_json` finds the right members, once each; and what an
//! initiator is answered.

use countersign_protocol::rotation::{MAX_RID, Outcome};
use countersign_protocol::wire::MAX_BODY;
use countersign_protocol::wire::rotation::{Asked, Status, read, read_answer, read_ruling};
use serde_json::Value;

use crate::cs1::is_bytes;
use crate::identity::is_api_key;
use crate::input;
use crate::requests::Members;

/// The members of a body, each there once.
fn members(body: &[u8]) -> Option<Vec<(String, Value)>> {
    if body.len() > MAX_BODY {
        return None;
    }
    let Members(members) = serde_json::from_slice(body).ok()?;
    let twice = |(index, (name, _)): (usize, &(String, Value))| {
        members.iter().take(index).any(|(before, _)| before == name)
    };
    if members.iter().enumerate().any(twice) { None } else { Some(members) }
}

fn member<'a>(members: &'a [(String, Value)], name: &str) -> Option<&'a Value> {
    members.iter().find(|(found, _)| found == name).map(|(_, value)| value)
}

fn is_rid(value: &Value) -> bool {
    value.as_u64().is_some_and(|rid| (1..=MAX_RID).contains(&rid))
}

/// Whether these are all members, of their forms.
fn is_request(members: &[(String, Value)]) -> bool {
    let text = |name| member(members, name).and_then(Value::as_str);
    let [first, second] = match text("rotation") {
        Some("status") => return members.len() == 1,
        Some("propose") => ["nonce", "ephemeral"],
        Some("confirm") => ["proofOld", "proofNew"],
        _ => return false,
    };
    members.len() == 6
        && ["apiKey", "peerKey"].iter().all(|name| text(name).is_some_and(is_api_key))
        && [first, second].iter().all(|name| text(name).is_some_and(is_bytes))
        && member(members, "rid").is_some_and(is_rid)
}

pub(crate) fn requests(body: &[u8]) {
    let expected = members(body).filter(|members| is_request(members));
    let taken = match read(body) {
        Err(error) => {
            assert!(expected.is_none(), "refused: {error}");
            input::assert_printable(&error.to_string());
            return;
        }
        Ok(taken) => taken,
    };
    let expected = expected.expect("nothing else is taken");
    let again = match &taken {
        Asked::Status => Status::ask(),
        Asked::Propose(propose) => propose.to_json(),
        Asked::Confirm(confirm) => confirm.to_json(),
    };
    let written = members(&again).expect("what we write we read");
    assert_eq!(written.len(), expected.len());
    for (name, value) in &expected {
        assert_eq!(member(&written, name), Some(value), "{name} came as it is written");
    }
    assert!(read(&again).is_ok());
}

/// What an answer is to have; more is passed over.
fn answers_with(members: &[(String, Value)], rotation: &[&str], numbers: &[&str], bytes: &[&str]) -> bool {
    let text = |name: &str| member(members, name).and_then(Value::as_str);
    text("rotation").is_some_and(|found| rotation.contains(&found))
        && numbers.iter().all(|name| member(members, name).is_some_and(Value::is_u64))
        && bytes.iter().all(|name| text(name).is_some_and(is_bytes))
}

pub(crate) fn answers(body: &[u8]) {
    let (answer, ruling, status) = (read_answer(body), read_ruling(body), Status::read(body));
    let taken = [answer.is_ok(), ruling.is_ok(), status.is_ok()];
    assert!(taken.iter().filter(|taken| **taken).count() <= 1, "it says one thing");
    if body.len() > MAX_BODY {
        assert_eq!(taken, [false; 3]);
    }
    // Of a member that comes twice, other readers take one; what is unknown and comes twice is nobody's.
    if let Some(members) = members(body) {
        let wanted = member(&members, "wanted").is_some_and(Value::is_boolean);
        let expected = [
            answers_with(&members, &["answer"], &["rid"], &["nonce", "ephemeral", "proof"]),
            answers_with(&members, &["done", "aborted"], &["rid"], &["proof"]),
            answers_with(&members, &["status"], &["now", "grace"], &[]) && wanted,
        ];
        assert_eq!(taken, expected);
    } else if serde_json::from_slice::<Value>(body).is_err() {
        // `Value` refuses numbers beyond all bounds, which are passed over where nobody asks for them.
        let is_number = serde_json::from_slice::<serde::de::IgnoredAny>(body).is_ok();
        assert!(is_number || taken == [false; 3]);
    }
    if let Ok(answer) = answer {
        let again = read_answer(&answer.to_json()).expect("what we write we read");
        assert_eq!(again.to_json(), answer.to_json());
    }
    if let Ok(ruling) = ruling {
        let again = read_ruling(&ruling.to_json()).expect("what we write we read");
        assert_eq!((again.rid, again.outcome), (ruling.rid, ruling.outcome));
        assert!(matches!(again.outcome, Outcome::Done | Outcome::Aborted));
        assert_eq!(again.proof.as_bytes(), ruling.proof.as_bytes());
    }
    if let Ok(status) = status {
        assert_eq!(Status::read(&status.to_json()), Ok(status));
    }
}
