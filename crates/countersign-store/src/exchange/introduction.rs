//! The first keys of a pair as text, with everything else that the other side needs to add the one that made them.

use std::fmt::Write as _;

use countersign_protocol::cs1::Binding;
use countersign_protocol::identity::{Profile, ServiceName};
use zeroize::Zeroizing;

use super::values::{Values, dashed, write_keys};
use super::{ExchangeError, MAX};
use crate::{NewKeys, Trust};

/// What every version of this form begins with.
const FORMS: &str = "countersign-peer-";
/// The version that is written and read.
const FORM: &str = "countersign-peer-1";

/// The longest URL that is written and read, in bytes.
pub const MAX_URL: usize = 1024;

/// All names, in the order in which they are written.
const NAMES: [&str; 13] = [
    "FORM",
    "PROFILE",
    "MADE_BY",
    "MADE_FOR",
    "MAKER_URL",
    "MAKER_TLS_PIN",
    "BINDING",
    "FINGERPRINT",
    "MAKER_API_KEY",
    "TAKER_API_KEY",
    "SECRET",
    "MAKER_SECRET",
    "TAKER_SECRET",
];

/// What one side has made so that the other can add it.
///
/// It has no MAC: it travels encrypted and authenticated, and whoever makes another one does not have these keys, so that
/// two operators who compare the fingerprint compare the rest with it.
#[derive(Clone, Debug)]
pub struct Introduction {
    /// The service that made it, by its own name.
    pub maker: ServiceName,
    /// The service that it is for, as the maker calls it.
    pub taker: ServiceName,
    /// Where the maker serves, if it can be called. Of visible ASCII, at most [`MAX_URL`] bytes, and not looked at beyond that.
    pub url: Option<String>,
    /// The maker's TLS key there; `None` if its certificate is to be judged by the system's authorities.
    pub pin: Option<[u8; 32]>,
    /// Under `cs1`, what sessions are bound to; the default for others.
    pub binding: Binding,
    /// The keys as the maker holds them.
    pub keys: NewKeys,
}

/// Why a text was not taken. Holds nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IntroductionError {
    /// Over [`MAX`].
    #[error("it is longer than {MAX} bytes, and so not what `countersign peer export` writes")]
    TooLong,
    /// Something else.
    #[error("it is not what `countersign peer export` writes: the line FORM={FORM} is not there")]
    Other,
    /// A version that this program does not know.
    #[error(
        "a later version of Countersign has written it (this program reads FORM={FORM}): update Countersign here, or have the other side export it with this version"
    )]
    Newer,
    /// A line of it is wrong.
    #[error(transparent)]
    Line(#[from] ExchangeError),
}

impl Introduction {
    /// The text: lines `NAME=VALUE`, and remarks that begin with `#`.
    #[must_use]
    pub fn text(&self) -> Zeroizing<String> {
        // Room for all of it at once: a growing string would leave pieces behind.
        let mut text = Zeroizing::new(String::with_capacity(MAX));
        let Self { maker, taker, url, pin, binding, keys } = self;
        // Writing to a string does not fail.
        let _ = write!(
            text,
            "# SECRET: what {taker} needs to add {maker}. With Countersign: countersign peer import FILE\n\
             # MAKER is {maker}, which made this; TAKER is {taker}.\n\
             FORM={FORM}\nPROFILE={}\nMADE_BY={maker}\nMADE_FOR={taker}\n",
            keys.profile(),
        );
        if let Some(url) = url {
            let _ = writeln!(text, "MAKER_URL={url}");
        }
        if let Some(pin) = pin {
            let _ = writeln!(text, "MAKER_TLS_PIN={}", Trust::pin_text(pin));
        }
        if keys.profile() == Profile::Cs1 {
            let _ = writeln!(text, "BINDING={}", binding.as_str());
        }
        let _ = writeln!(text, "FINGERPRINT={}", dashed(&keys.fingerprint()));
        write_keys(&mut text, keys);
        text
    }

    /// The reverse of [`Introduction::text`]. Line ends may be those of Windows.
    ///
    /// # Errors
    /// See [`IntroductionError`].
    pub fn parse(text: &str) -> Result<Self, IntroductionError> {
        if text.len() > MAX {
            return Err(IntroductionError::TooLong);
        }
        let mut lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
        let form = lines.next().and_then(|line| line.strip_prefix("FORM="));
        match form.filter(|form| form.starts_with(FORMS)) {
            Some(FORM) => {}
            Some(_) => return Err(IntroductionError::Newer),
            None => return Err(IntroductionError::Other),
        }
        Ok(Self::read(&Values::read(text, FORM, &NAMES)?)?)
    }

    fn read(values: &Values<'_>) -> Result<Self, ExchangeError> {
        let profile: Profile =
            values.need("PROFILE")?.parse().map_err(|_| ExchangeError::Wrong("PROFILE"))?;
        let binding = match profile {
            Profile::Cs1 => Binding::parse(values.need("BINDING")?).ok_or(ExchangeError::Wrong("BINDING"))?,
            Profile::SharedSecret => {
                values.none_of(&["BINDING"])?;
                Binding::None
            }
            // Its key is the secret, and goes one way.
            _ => return Err(ExchangeError::Wrong("PROFILE")),
        };
        let url = values.find("MAKER_URL");
        if url.is_some_and(|url| {
            url.is_empty() || url.len() > MAX_URL || !url.bytes().all(|byte| byte.is_ascii_graphic())
        }) {
            return Err(ExchangeError::Wrong("MAKER_URL"));
        }
        let pin = match values.find("MAKER_TLS_PIN").map(Trust::parse_pin) {
            None => None,
            // Of nothing that could be called.
            Some(_) if url.is_none() => return Err(ExchangeError::Beside("MAKER_TLS_PIN")),
            Some(Ok(Trust::Pin(pin))) => Some(pin),
            Some(_) => return Err(ExchangeError::Wrong("MAKER_TLS_PIN")),
        };
        let read = Self {
            maker: values.parse("MADE_BY")?,
            taker: values.parse("MADE_FOR")?,
            url: url.map(str::to_owned),
            pin,
            binding,
            keys: values.keys(profile)?,
        };
        if values.fingerprint("FINGERPRINT")? != read.keys.fingerprint() {
            return Err(ExchangeError::Damaged);
        }
        Ok(read)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shapes() -> Vec<Introduction> {
        let key = |letter: &str| format!("csk_0123456789{}", letter.repeat(14)).parse().unwrap();
        let secret = |letter: &str| {
            format!("css_0123456789{}", letter.repeat(33))
                .parse::<countersign_protocol::secret::SharedSecret>()
                .unwrap()
        };
        let plain = Introduction {
            maker: "orders".parse().unwrap(),
            taker: "billing".parse().unwrap(),
            url: Some("https://orders.example/api".to_owned()),
            pin: Some([7; 32]),
            binding: Binding::None,
            keys: NewKeys::cs1(key("a"), key("b"), secret("c")).unwrap(),
        };
        let shared = |one, other| NewKeys::shared_secret(key("a"), key("b"), one, other).unwrap();
        vec![
            Introduction { binding: Binding::TlsExporter, ..plain.clone() },
            Introduction { url: None, pin: None, ..plain.clone() },
            Introduction { pin: None, keys: shared(secret("c"), secret("c")), ..plain.clone() },
            Introduction { keys: shared(secret("c"), secret("d")), ..plain },
        ]
    }

    #[test]
    fn what_is_written_is_read_again() {
        for shape in shapes() {
            let text = shape.text();
            for given in [text.to_string(), text.replace('\n', "\r\n"), text.trim_end().to_owned()] {
                assert_eq!(*Introduction::parse(&given).unwrap().text(), *text);
            }
        }
    }

    #[test]
    fn the_longest_one_is_within_the_limit() {
        let long = |letter: &str, length: usize| format!("0123456789{}", letter.repeat(length - 10));
        let key = |letter| long(letter, 128).parse().unwrap();
        let secret =
            |letter| long(letter, 256).parse::<countersign_protocol::secret::SharedSecret>().unwrap();
        let name = |letter: &str| letter.repeat(63).parse().unwrap();
        let longest = Introduction {
            maker: name("m"),
            taker: name("t"),
            url: Some("u".repeat(MAX_URL)),
            pin: Some([7; 32]),
            binding: Binding::None,
            keys: NewKeys::shared_secret(key("a"), key("b"), secret("c"), secret("d")).unwrap(),
        };
        let text = longest.text();
        assert!(text.len() < MAX && Introduction::parse(&text).is_ok(), "{}", text.len());
    }

    #[test]
    fn a_line_that_is_missing_twice_there_changed_or_foreign_is_found_and_no_value_is_told() {
        for shape in shapes() {
            let text = shape.text();
            let lines: Vec<&str> = text.lines().collect();
            for (index, line) in lines.iter().enumerate().filter(|(_, line)| !line.starts_with('#')) {
                let with = |new: &[&str]| [&lines[..index], new, &lines[index + 1..]].concat().join("\n");
                let mut all = vec![with(&[line, line]), with(&["x"]), with(&[line, "HUH=1"])];
                // Whether it can be called is the maker's to say; a URL and its pin are for the store's user to judge.
                if !line.starts_with("MAKER_URL") && !line.starts_with("MAKER_TLS_PIN") {
                    all.push(with(&[]));
                }
                all.push(match line.split_once('=').unwrap().0 {
                    name @ ("MADE_BY" | "MADE_FOR") => with(&[&format!("{name}=No Name")]),
                    "MAKER_URL" => with(&["MAKER_URL=https://a b"]),
                    "MAKER_TLS_PIN" => with(&["MAKER_TLS_PIN=sha256/AAAA"]),
                    "BINDING" => with(&["BINDING=something"]),
                    "PROFILE" => with(&["PROFILE=api-key"]),
                    name => with(&[&format!(
                        "{name}={}",
                        line.split_once('=').unwrap().1.replace(['0', '2', '-'], "y")
                    )]),
                });
                for wrong in all {
                    let error = Introduction::parse(&wrong).unwrap_err().to_string();
                    assert!(!error.contains("0123456789"), "{error}");
                }
            }
        }
    }

    #[test]
    fn what_is_something_else_or_newer_is_told_as_such() {
        for text in ["", "# a remark", "API_KEY=x", "FORM=countersign-rotation-1\n", "\nFORM=other"] {
            assert_eq!(Introduction::parse(text).unwrap_err(), IntroductionError::Other, "{text:?}");
        }
        let newer = "# a remark\nFORM=countersign-peer-2\nWHO_KNOWS=what\n";
        assert_eq!(Introduction::parse(newer).unwrap_err(), IntroductionError::Newer);
        assert_eq!(Introduction::parse(&"#".repeat(MAX + 1)).unwrap_err(), IntroductionError::TooLong);
    }

    #[test]
    fn a_pin_belongs_to_a_url_and_a_binding_to_cs1() {
        let text = shapes().remove(3).text();
        let without = text.replace("MAKER_URL=https://orders.example/api\n", "");
        let beside = IntroductionError::Line(ExchangeError::Beside("MAKER_TLS_PIN"));
        assert_eq!(Introduction::parse(&without).unwrap_err(), beside);
        let bound = text.replace("FINGERPRINT", "BINDING=none\nFINGERPRINT");
        let beside = IntroductionError::Line(ExchangeError::Beside("BINDING"));
        assert_eq!(Introduction::parse(&bound).unwrap_err(), beside);
    }

    #[test]
    fn debug_shows_no_secret() {
        for shape in shapes() {
            assert!(!format!("{shape:?}").contains("css_0123456789"), "{shape:?}");
        }
    }
}
