//! The next keys of a pair as text: one side makes it, the other takes it in. A person with a shell can read it too.
//! [`introduction`] is the same for the first keys.

pub mod introduction;
mod values;

use std::fmt::Write as _;

use countersign_protocol::fingerprint::Fingerprint;
use countersign_protocol::identity::{FormError, Profile, ServiceName};
use zeroize::Zeroizing;

use self::values::{Values, dashed, write_keys};
use crate::{KeysError, NewKeys};

/// The longest text that is read, in bytes: two keys of 128, two secrets of 256, names, and the remarks.
pub const MAX: usize = 4096;

/// The first line that is not a remark.
const FORM: &str = "countersign-rotation-1";

/// The next keys of a pair, with what tells for which pair they are.
#[derive(Clone, Debug)]
pub struct Exported {
    /// The service that made them, by its own name.
    pub maker: ServiceName,
    /// The service that is to take them in, as the maker calls it.
    pub taker: ServiceName,
    /// The number that the credential has at the maker.
    pub number: u32,
    /// The fingerprint of the credential that comes before. Both sides have it, so it says which pair is meant.
    pub replaces: Fingerprint,
    /// The keys as the maker holds them.
    pub keys: NewKeys,
}

/// Why a text was not taken. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ExchangeError {
    /// Over [`MAX`].
    #[error("it is longer than {MAX} bytes, and so not what `countersign rotate` writes")]
    TooLong,
    /// Something else.
    #[error("it is not what `countersign rotate` writes: the line FORM={FORM} is not there")]
    Other,
    /// Not `NAME=VALUE`, a name that is not known, or one that comes twice.
    #[error("line {0} cannot be used: it is not NAME=VALUE, or the name is unknown, or comes twice")]
    Line(usize),
    /// A value is not there.
    #[error("{0} is not there: a part of the file is missing")]
    Missing(&'static str),
    /// A value has the wrong form.
    #[error("{name} cannot be used: {error}")]
    Value {
        /// Its name.
        name: &'static str,
        /// What is wrong with it.
        error: FormError,
    },
    /// A number, a profile or a fingerprint is none.
    #[error("{0} is not what it should be")]
    Wrong(&'static str),
    /// Names of both profiles, or one secret and two.
    #[error("{0} does not belong to this profile, or not beside the others")]
    Beside(&'static str),
    /// The keys do not make a safe pair.
    #[error(transparent)]
    Keys(#[from] KeysError),
    /// The fingerprint in it is not that of the keys.
    #[error("the keys are not those that were written: their fingerprint is another one")]
    Damaged,
}

/// All names, in the order in which they are written.
const NAMES: [&str; 12] = [
    "FORM",
    "PROFILE",
    "MADE_BY",
    "MADE_FOR",
    "CREDENTIAL",
    "REPLACES",
    "FINGERPRINT",
    "MAKER_API_KEY",
    "TAKER_API_KEY",
    "SECRET",
    "MAKER_SECRET",
    "TAKER_SECRET",
];

impl Exported {
    /// The text: lines `NAME=VALUE`, and remarks that begin with `#`.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        // Room for all of it at once: a growing string would leave pieces behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX));
        let Self { maker, taker, number, replaces, keys } = self;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# SECRET: the next keys of {maker} and {taker}. Hand them over on a confidential channel, then remove\n\
             # this file. With Countersign on the other side: countersign rotate NAME --from FILE\n\
             # MAKER is {maker}, which made this file; TAKER is {taker}.\n\
             FORM={FORM}\nPROFILE={}\nMADE_BY={maker}\nMADE_FOR={taker}\nCREDENTIAL={number}\n\
             REPLACES={}\nFINGERPRINT={}\n",
            keys.profile(),
            dashed(replaces),
            dashed(&keys.fingerprint()),
        );
        write_keys(&mut text, keys);
        text
    }

    /// The reverse of [`Exported::text`]. Line ends may be those of Windows.
    ///
    /// # Errors
    /// See [`ExchangeError`].
    pub fn parse(text: &str) -> Result<Self, ExchangeError> {
        let values = Values::read(text, FORM, &NAMES)?;
        let profile: Profile =
            values.need("PROFILE")?.parse().map_err(|_| ExchangeError::Wrong("PROFILE"))?;
        let number = values.need("CREDENTIAL")?;
        let number = number.parse().ok().filter(|read: &u32| *read > 0 && read.to_string() == number);
        let exported = Self {
            maker: values.parse("MADE_BY")?,
            taker: values.parse("MADE_FOR")?,
            number: number.ok_or(ExchangeError::Wrong("CREDENTIAL"))?,
            replaces: values.fingerprint("REPLACES")?,
            keys: values.keys(profile)?,
        };
        if values.fingerprint("FINGERPRINT")? != exported.keys.fingerprint() {
            return Err(ExchangeError::Damaged);
        }
        Ok(exported)
    }
}

#[cfg(test)]
mod tests {
    use countersign_protocol::identity::ApiKey;
    use countersign_protocol::secret::SharedSecret;

    use super::*;

    fn key(letter: &str) -> ApiKey {
        format!("csk_0123456789{}", letter.repeat(14)).parse().unwrap()
    }

    fn secret(letter: &str) -> SharedSecret {
        format!("css_0123456789{}", letter.repeat(33)).parse().unwrap()
    }

    fn exported(keys: NewKeys) -> Exported {
        Exported {
            maker: "orders".parse().unwrap(),
            taker: "billing".parse().unwrap(),
            number: 2,
            replaces: NewKeys::api_key(Some(key("z")), None).unwrap().fingerprint(),
            keys,
        }
    }

    fn shapes() -> Vec<NewKeys> {
        vec![
            NewKeys::cs1(key("a"), key("b"), secret("c")).unwrap(),
            NewKeys::shared_secret(key("a"), key("b"), secret("c"), secret("c")).unwrap(),
            NewKeys::shared_secret(key("a"), key("b"), secret("c"), secret("d")).unwrap(),
            NewKeys::api_key(Some(key("a")), Some(key("b"))).unwrap(),
            NewKeys::api_key(Some(key("a")), None).unwrap(),
            NewKeys::api_key(None, Some(key("b"))).unwrap(),
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        for keys in shapes() {
            let text = exported(keys).text();
            for given in [text.to_string(), text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
                assert_eq!(*Exported::parse(&given).unwrap().text(), *text);
            }
        }
    }

    #[test]
    fn the_longest_one_is_within_the_limit() {
        let long = |letter: &str, length: usize| format!("0123456789{}", letter.repeat(length - 10));
        let key = |letter| long(letter, 128).parse::<ApiKey>().unwrap();
        let secret = |letter| long(letter, 256).parse::<SharedSecret>().unwrap();
        let keys = NewKeys::shared_secret(key("a"), key("b"), secret("c"), secret("d")).unwrap();
        let name = |letter: &str| letter.repeat(63).parse().unwrap();
        let export = Exported { maker: name("m"), taker: name("t"), number: u32::MAX, ..exported(keys) };
        let text = export.text();
        assert!(text.len() < MAX && Exported::parse(&text).is_ok(), "{}", text.len());
    }

    #[test]
    fn a_line_that_is_missing_twice_there_changed_or_foreign_is_found_and_no_value_is_told() {
        for keys in shapes() {
            let text = exported(keys).text();
            let lines: Vec<&str> = text.lines().collect();
            for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
                let with = |new: &[&str]| {
                    let (before, after) = (&lines[..index], &lines[index + 1..]);
                    [before, new, after].concat().join("\n")
                };
                // A name says nothing that is relied on; every other value counts.
                let changed = if line.starts_with("MADE_") {
                    "MADE_BY=No Name"
                } else if *line == "PROFILE=cs1" {
                    "PROFILE=shared-secret"
                } else {
                    &line.replace(['0', '2', '-'], "y")
                };
                for wrong in
                    [with(&[]), with(&[line, line]), with(&[changed]), with(&["x"]), with(&[line, "HUH=1"])]
                {
                    let error = Exported::parse(&wrong).unwrap_err().to_string();
                    assert!(!error.contains("0123456789"), "{error}");
                }
            }
        }
    }

    #[test]
    fn something_else_is_told_as_such() {
        for text in
            ["", "\n\n", "# a remark", "API_KEY=x\nSECRET=y", "css_secret", "FORM=countersign-rotation-2\n"]
        {
            assert_eq!(Exported::parse(text).unwrap_err(), ExchangeError::Other, "{text:?}");
        }
        assert_eq!(Exported::parse(&"#".repeat(MAX + 1)).unwrap_err(), ExchangeError::TooLong);
    }
}
