//! Words that are spoken (section 2): the English list of BIP-39, 2048 words that differ in their first four letters.

use std::fmt;
use std::str::FromStr;
use std::sync::LazyLock;

use zeroize::{Zeroize as _, Zeroizing};

/// `bitcoin/bips`, BIP-39, `english.txt`; MIT (`english.LICENSE`). SHA-256 `2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda`.
const LIST: &str = include_str!("english.txt");
static WORDS: LazyLock<Vec<&'static str>> = LazyLock::new(|| LIST.lines().collect());

/// Words of an offer id.
const OFFER_WORDS: usize = 2;
/// Words of a password.
const PASSWORD_WORDS: usize = 4;
/// Words of a code.
pub const CODE_WORDS: usize = OFFER_WORDS + PASSWORD_WORDS;
/// The longest text that is read as a code, in bytes.
pub const MAX_TEXT: usize = 256;
const BITS: u32 = 11;

/// The word of a number below 2048.
fn word(number: u64) -> &'static str {
    usize::try_from(number & 0x7ff).ok().and_then(|at| WORDS.get(at)).copied().unwrap_or_default()
}

/// The number of a word, in lower case: the whole word, or its beginning from four letters on.
fn number(typed: &str) -> Option<u64> {
    let at = WORDS.partition_point(|word| *word < typed);
    let found = WORDS.get(at)?;
    let is_it = *found == typed || (typed.len() >= 4 && found.starts_with(typed));
    is_it.then(|| u64::try_from(at).ok()).flatten()
}

/// The words of a number, the most significant first.
fn spell(number: u64, count: usize) -> Zeroizing<String> {
    // Reserved at once: a growing string would leave words behind.
    let mut text = Zeroizing::new(String::with_capacity(count * 9));
    for at in (0..count).rev() {
        if !text.is_empty() {
            text.push('-');
        }
        let shift = BITS * u32::try_from(at).unwrap_or(0);
        text.push_str(word(number >> shift));
    }
    text
}

/// Which offer is meant: 22 bits as two words. Not secret, and of no use without the password.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct OfferId(u32);

impl OfferId {
    /// From three random bytes.
    #[must_use]
    pub fn generate(random: &[u8; 3]) -> Self {
        let [a, b, c] = random.map(u32::from);
        Self((a << 16 | b << 8 | c) & 0x003f_ffff)
    }

    /// Takes what [`OfferId::number`] gave.
    #[must_use]
    pub const fn from_stored(number: u32) -> Self {
        Self(number & 0x003f_ffff)
    }

    /// Its number, below 2^22.
    #[must_use]
    pub const fn number(self) -> u32 {
        self.0
    }
}

impl fmt::Display for OfferId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(&spell(u64::from(self.0), OFFER_WORDS))
    }
}

/// Not two whole words of the list, in lower case, with a hyphen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("an offer id is two words of the list in lower case, joined by a hyphen")]
pub struct OfferIdError;

impl FromStr for OfferId {
    type Err = OfferIdError;

    /// Strictly as it is displayed: on the wire there is one spelling (PA-13).
    fn from_str(text: &str) -> Result<Self, OfferIdError> {
        let (first, second) = text.split_once('-').ok_or(OfferIdError)?;
        let whole = |text: &str| number(text).filter(|number| word(*number) == text).ok_or(OfferIdError);
        let id = whole(first)? << BITS | whole(second)?;
        u32::try_from(id).map(Self).map_err(|_| OfferIdError)
    }
}

/// The secret part of a code: 44 bits as four words. Redacted, zeroised.
#[derive(Clone)]
pub struct Password(Zeroizing<u64>);

impl Password {
    /// From six random bytes, of which 44 bits are taken.
    #[must_use]
    pub fn generate(random: &Zeroizing<[u8; 6]>) -> Self {
        let number = random.iter().fold(0_u64, |number, byte| number << 8 | u64::from(*byte));
        Self(Zeroizing::new(number & 0x0fff_ffff_ffff))
    }

    /// Takes what [`Password::number`] gave.
    #[must_use]
    pub fn from_stored(number: u64) -> Self {
        Self(Zeroizing::new(number & 0x0fff_ffff_ffff))
    }

    /// For a store, which seals it.
    #[must_use]
    pub fn number(&self) -> u64 {
        *self.0
    }

    /// The four words with hyphens: `PRS` of `CPace`, and what is read out.
    #[must_use]
    pub fn spelled(&self) -> Zeroizing<String> {
        spell(*self.0, PASSWORD_WORDS)
    }
}

impl fmt::Debug for Password {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Password(…)")
    }
}

/// What one operator reads out and the other one types.
#[derive(Clone, Debug)]
pub struct Code {
    /// Its first two words.
    pub offer: OfferId,
    /// The others.
    pub password: Password,
}

impl Code {
    /// All six words with spaces.
    #[must_use]
    pub fn spoken(&self) -> Zeroizing<String> {
        let mut text = Zeroizing::new(String::with_capacity(CODE_WORDS * 9));
        text.push_str(&self.offer.to_string());
        text.push('-');
        text.push_str(&self.password.spelled());
        Zeroizing::new(text.replace('-', " "))
    }
}

/// What was typed is no code. Does not hold it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CodeError {
    /// Another number of words.
    #[error("a pairing code has six words, and these are {0}")]
    Count(usize),
    /// One is not in the list.
    #[error(
        "word {0} is not in the word list: ask for it again (the first four letters are enough); nothing was sent"
    )]
    Unknown(usize),
    /// Far too long, or other characters than letters between white space and hyphens.
    #[error("a pairing code is six words with spaces or hyphens between them, in letters from a to z")]
    Form,
}

impl FromStr for Code {
    type Err = CodeError;

    /// Any case, any white space and hyphens; of each word four letters are enough (PA-6).
    fn from_str(text: &str) -> Result<Self, CodeError> {
        if text.len() > MAX_TEXT {
            return Err(CodeError::Form);
        }
        let text = Zeroizing::new(text.to_ascii_lowercase());
        let words = || typed_words(&text);
        match words().count() {
            CODE_WORDS => {}
            count => return Err(CodeError::Count(count)),
        }
        let mut all = Zeroizing::new([0_u64; CODE_WORDS]);
        for (at, (typed, slot)) in words().zip(all.iter_mut()).enumerate() {
            *slot = number(typed).ok_or(CodeError::Unknown(at + 1))?;
        }
        let (offer, password) = all.split_at(OFFER_WORDS);
        let join = |numbers: &[u64]| numbers.iter().fold(0, |joined, number| joined << BITS | number);
        let id = u32::try_from(join(offer)).map_err(|_| CodeError::Form)?;
        let mut joined = join(password);
        let code = Self { offer: OfferId(id), password: Password::from_stored(joined) };
        joined.zeroize();
        Ok(code)
    }
}

/// The words of a text as it was typed.
pub fn typed_words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| c.is_whitespace() || c == '-').filter(|word| !word.is_empty())
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use sha2::{Digest as _, Sha256};

    use super::*;
    use crate::mac::encode_hex;

    // PA-5
    #[test]
    fn the_list_is_the_one_of_bip_39_and_four_letters_tell_its_words_apart() {
        let hash: [u8; 32] = Sha256::digest(LIST).into();
        assert_eq!(encode_hex(&hash), "2f5eed53a4727b4bf8880d8f3f199efc90e58503646d9ff8eff3a2ed3b24dbda");
        assert_eq!(WORDS.len(), 2048);
        assert!(WORDS.is_sorted());
        let mut beginnings: Vec<_> = WORDS.iter().map(|word| &word[..word.len().min(4)]).collect();
        beginnings.dedup();
        assert_eq!(beginnings.len(), 2048);
        assert!(WORDS.iter().all(|word| word.bytes().all(|byte| byte.is_ascii_lowercase())));
    }

    // PA-6
    #[test]
    fn a_code_is_read_in_any_case_with_any_space_and_from_four_letters() {
        let code: Code = "abandon zoo able zone youth zebra".parse().unwrap();
        for same in [
            "ABANDON Zoo able zone youth zebra",
            " abandon-zoo-able-zone-youth-zebra\n",
            "aban zoo able zone yout zebr",
            "aband\u{a0}zoo\table--zone - youth\r\nzebra",
        ] {
            let read: Code = same.parse().unwrap();
            assert_eq!(
                (read.offer, read.password.number()),
                (code.offer, code.password.number()),
                "{same:?}"
            );
        }
        assert_eq!(code.offer.to_string(), "abandon-zoo");
        assert_eq!(*code.password.spelled(), "able-zone-youth-zebra");
        assert_eq!(*code.spoken(), "abandon zoo able zone youth zebra");
    }

    // PA-6
    #[test]
    fn what_is_no_code_says_which_word_is_wrong_and_does_not_repeat_it() {
        let error = |text: &str| text.parse::<Code>().unwrap_err();
        assert_eq!(error(""), CodeError::Count(0));
        assert_eq!(error("abandon zoo able zone youth"), CodeError::Count(5));
        assert_eq!(error("abandon zoo able zone youth zebra zoo"), CodeError::Count(7));
        assert_eq!(error("abandon zoo able hunter2 youth zebra"), CodeError::Unknown(4));
        // Three letters of a longer word, more letters than the word has, and letters that only look like them.
        for bad in ["aba", "abandons", "abandön", "аbandon", "aba\0don"] {
            assert_eq!(error(&format!("{bad} zoo able zone youth zebra")), CodeError::Unknown(1), "{bad}");
        }
        assert_eq!(error(&"a".repeat(MAX_TEXT + 1)), CodeError::Form);
        assert!(!format!("{:?} {}", CodeError::Unknown(4), CodeError::Unknown(4)).contains("hunter2"));
    }

    #[test]
    fn a_password_is_not_shown() {
        let code: Code = "abandon zoo able zone youth zebra".parse().unwrap();
        assert!(!format!("{code:?}").contains("able"), "{code:?}");
    }

    #[test]
    fn on_the_wire_an_offer_has_one_spelling() {
        assert!("abandon-zoo".parse::<OfferId>().is_ok());
        for bad in [
            "",
            "abandon",
            "aban-zoo",
            "Abandon-zoo",
            "abandon zoo",
            "abandon-zoo-",
            "abandon-zoo-zoo",
            "-zoo",
        ] {
            assert!(bad.parse::<OfferId>().is_err(), "{bad}");
        }
    }

    proptest! {
        #[test]
        fn every_code_comes_back_as_it_was_read_out(id: [u8; 3], words: [u8; 6]) {
            let code = Code { offer: OfferId::generate(&id), password: Password::generate(&Zeroizing::new(words)) };
            let read: Code = code.spoken().parse().unwrap();
            prop_assert_eq!(read.offer, code.offer);
            prop_assert_eq!(read.password.number(), code.password.number());
            prop_assert_eq!(code.offer.to_string().parse(), Ok(code.offer));
            prop_assert_eq!(Password::from_stored(code.password.number()).number(), code.password.number());
        }

        #[test]
        fn no_text_panics(text: String) {
            let _ = text.parse::<Code>();
            let _ = text.parse::<OfferId>();
        }
    }
}
