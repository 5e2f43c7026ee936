//! The next keys of a pair, as `countersign rotate` writes them and `rotate --from` reads them.

use std::collections::HashMap;

use countersign_store::exchange::MAX;
use countersign_store::{ExchangeError, Exported};

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
                // Else it can be made of the error's own words.
                let tells = |value: &str| value.len() > 12 && !value.contains(' ') && !FORM.contains(value);
                assert!(!value.1.iter().any(|value| tells(value) && shown.contains(value)), "{shown}");
            }
        }
    }
}
