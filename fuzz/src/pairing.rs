//! Pairing: typed words, and the bodies of P1 to P4.

use countersign_protocol::pairing::message::{Conclusion, Message, Share};
use countersign_protocol::pairing::words::{MAX_TEXT, typed_words};
use countersign_protocol::pairing::{Code, CodeError, OfferId};
use countersign_protocol::wire::MAX_BODY;

use crate::input;
use crate::requests::{member, strings};

const LIST: &str = include_str!("../../crates/countersign-protocol/src/pairing/english.txt");

/// The one word of the list that somebody means who types this, looked for from the first to the last.
fn meant(typed: &str) -> Option<&'static str> {
    let typed = typed.to_ascii_lowercase();
    let words = || LIST.lines().filter(|word| word.as_bytes().first() == typed.as_bytes().first());
    words()
        .find(|word| *word == typed)
        .or_else(|| words().find(|word| typed.len() >= 4 && word.starts_with(&typed)))
}

/// Taken exactly when there are six words that are in the list; what is read out again is the same.
pub(crate) fn code(input: &[u8]) {
    let text = input::text(input);
    let words: Vec<Option<&str>> = typed_words(&text).map(meant).collect();
    let read = text.parse::<Code>();
    let wanted: Option<Vec<&str>> = words.iter().copied().collect();
    match (&read, wanted.filter(|words| words.len() == 6 && text.len() <= MAX_TEXT)) {
        (Ok(code), Some(words)) => {
            assert_eq!(*code.spoken(), words.join(" "));
            assert_eq!(code.offer.to_string().parse::<OfferId>(), Ok(code.offer));
            assert!(!format!("{code:?}").contains(&*code.password.spelled()));
        }
        (Err(CodeError::Unknown(at)), None) => {
            assert!(words[*at - 1].is_none() && words[..*at - 1].iter().all(Option::is_some));
        }
        (Err(CodeError::Count(count)), None) => assert!(*count != 6 && *count == words.len()),
        (Err(CodeError::Form), None) => assert!(text.len() > MAX_TEXT),
        (read, wanted) => panic!("{read:?} for {wanted:?}"),
    }
    let id = text.parse::<OfferId>();
    let two = text
        .split_once('-')
        .is_some_and(|(one, two)| [one, two].iter().all(|word| LIST.lines().any(|known| known == *word)));
    assert_eq!(id.is_ok(), two);
}

/// What is read is written again and read as the same; what has other members, or one twice, is refused.
pub(crate) fn messages(input: &[u8]) {
    if let Ok(message) = Message::read(input) {
        assert!(input.len() <= MAX_BODY);
        let written = message.write();
        assert_eq!(Message::read(&written).unwrap().write(), written);
        let names = match &message {
            Message::Start(_) => ["step", "offer", "url", "session", "share"],
            Message::Confirm(_) => ["step", "offer", "session", "sealed", "confirm"],
        };
        let members = strings(input, &names).expect("these members, once each");
        let again = strings(&written, &names).expect("the same");
        for name in names {
            assert_eq!(member(&members, name), member(&again, name), "{name}");
        }
    }
    if let Ok(share) = Share::read(input) {
        assert_eq!(Share::read(&share.write()).unwrap(), share);
        assert_ne!(share.share, [0; 32]);
    }
    if let Ok(conclusion) = Conclusion::read(input) {
        let written = conclusion.write();
        assert_eq!(Conclusion::read(&written).unwrap().write(), written);
    }
}
