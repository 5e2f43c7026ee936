//! The next keys of a pair, as `countersign rotate` writes them and `rotate --from` reads them; the first ones, as they are in the
//! files of `peer export`.

use std::collections::HashMap;

use countersign_store::exchange::MAX;
use countersign_store::{ExchangeError, Exported, Introduction, IntroductionError};

use crate::input;

/// The line that an error names.
const FORM: &str = "FORM=countersign-rotation-1";

/// Another reading of the same lines, which takes more.
fn values(text: &str) -> HashMap<&str, Vec<&str>> {
    let mut values: HashMap<&str, Vec<&str>> = HashMap::new();
    for line in text.split('\n').map(|line| line.strip_suffix('\r').unwrap_or(line)) {
        if let Some((name, value)) = line.split_once('=').filter(|_| !line.starts_with('#')) {
            values.entry(name).or_default().push(value);
        }
    }
    values
}

pub(crate) fn exported(input: &[u8]) {
    let text = input::text(input);
    let values = values(&text);
    match Exported::parse(&text) {
        Ok(read) => {
            let written = read.text();
            assert_eq!(*Exported::parse(&written).expect("what we write we read").text(), *written);
            for (name, value) in self::values(&written) {
                assert_eq!(values.get(name), Some(&value), "{name} came once, and as it is");
            }
            assert_eq!(values.len(), self::values(&written).len(), "nothing else came");
            let fingerprint = read.keys.fingerprint();
            assert_eq!(read.keys.exchanged().fingerprint(), fingerprint, "both sides see the same");
        }
        Err(error) => {
            assert!(text.len() <= MAX || error == ExchangeError::TooLong);
            let shown = error.to_string();
            for value in values.iter().filter(|(name, _)| name.ends_with("KEY") || name.ends_with("SECRET")) {
                tells_nothing(&shown, value.1);
            }
        }
    }
}

/// None of these values is in what is shown.
fn tells_nothing(shown: &str, values: &[&str]) {
    // Else it can be made of the error's own words.
    let own = |value: &str| FORM.contains(value) || "FORM=countersign-peer-1".contains(value);
    let tells = |value: &str| value.len() > 12 && !value.contains(' ') && !own(value);
    assert!(!values.iter().any(|value| tells(value) && shown.contains(value)), "{shown}");
}

/// The first keys, with what belongs to them.
pub(crate) fn introduction(input: &[u8]) {
    let text = input::text(input);
    let values = values(&text);
    match Introduction::parse(&text) {
        Ok(read) => {
            let written = read.text();
            assert_eq!(*Introduction::parse(&written).expect("what we write we read").text(), *written);
            for (name, value) in self::values(&written) {
                assert_eq!(values.get(name), Some(&value), "{name} came once, and as it is");
            }
            assert_eq!(values.len(), self::values(&written).len(), "nothing else came");
            assert!(read.pin.is_none() || read.url.is_some(), "a pin is of a URL");
            assert!(Exported::parse(&text).is_err(), "the two forms have nothing in common");
            let fingerprint = read.keys.fingerprint();
            assert_eq!(read.keys.exchanged().fingerprint(), fingerprint, "both sides see the same");
        }
        Err(error) => {
            assert!(text.len() <= MAX || error == IntroductionError::TooLong);
            let newer = values
                .get("FORM")
                .is_some_and(|forms| forms.iter().any(|form| form.starts_with("countersign-peer-")));
            assert!(error != IntroductionError::Newer || newer);
            for value in values.iter().filter(|(name, _)| name.ends_with("KEY") || name.ends_with("SECRET")) {
                tells_nothing(&error.to_string(), value.1);
            }
        }
    }
}
