//! The envelope: an `age` file (C2SP age v1), for X25519 keys or a passphrase. Nothing else of that format is taken.

use std::io::{BufReader, Read as _, Write as _};

use age::armor::{ArmoredReader, ArmoredWriter, Format};
use age::secrecy::SecretString;
use age::{DecryptError, Decryptor, Encryptor, scrypt, x25519};
use countersign::store::exchange::MAX;
use zeroize::Zeroizing;

use crate::failure::{Context as _, Failure};

/// The longest file that is read, in bytes: what is in it, and a few hundred recipients.
pub(super) const MAX_FILE: u64 = 64 * 1024;

/// The work of a passphrase that is written: scrypt with N = 2^18, as `age` writes it. It takes 256 MiB.
const WORK: u8 = 18;
/// The most that a file from elsewhere may ask for: 1 GiB.
const MAX_WORK: u8 = 20;

/// Whoever has the file can try passphrases for as long as he likes.
const MIN_PASSPHRASE: usize = 16;
/// More keys in one file are nobody's.
const MAX_KEYS: usize = 64;

/// For whom a file is encrypted.
pub(super) enum Readers {
    Keys(Vec<x25519::Recipient>),
    Passphrase(SecretString),
}

impl Readers {
    /// Keys as they are given. One that cannot be used is not repeated: it may be a secret one.
    pub(super) fn keys(texts: &[String]) -> Result<Self, Failure> {
        let keys = texts.iter().enumerate().map(|(index, text)| {
            text.parse::<x25519::Recipient>().map_err(|_| {
                let which = if texts.len() > 1 { format!("--recipient, number {}", index + 1) } else { "--recipient".into() };
                Failure::usage(if text.to_ascii_uppercase().starts_with("AGE-SECRET-KEY-") {
                    format!("{which}: this is the secret part of an age key, and now in your shell's history: have another key made, and give what begins with age1 (`age-keygen -y FILE` prints it)")
                } else {
                    format!("{which}: it is not the public part of an age key, age1 and 58 characters. (SSH keys, plugins and post-quantum keys are not supported.)")
                })
            })
        });
        keys.collect::<Result<_, _>>().map(Self::Keys)
    }

    /// A passphrase to encrypt with.
    pub(super) fn passphrase(text: &Zeroizing<String>) -> Result<Self, Failure> {
        if text.chars().count() < MIN_PASSPHRASE {
            return Err(Failure::new(format!(
                "the passphrase is shorter than {MIN_PASSPHRASE} characters, and whoever gets the file can try short ones: `openssl rand -base64 18` makes one. Nothing was changed"
            )));
        }
        Ok(Self::Passphrase(SecretString::from(text.as_str())))
    }

    /// For people and the trail.
    pub(super) fn shown(&self) -> String {
        match self {
            Self::Keys(keys) if keys.len() == 1 => "for one age key".to_owned(),
            Self::Keys(keys) => format!("for {} age keys", keys.len()),
            Self::Passphrase(_) => "with a passphrase".to_owned(),
        }
    }

    /// Encrypts a text, as text.
    pub(super) fn seal(&self, text: &str) -> Result<Vec<u8>, Failure> {
        let mut sealed = Vec::new();
        let encryptor = match self {
            Self::Keys(keys) => Encryptor::with_recipients(keys.iter().map(|key| key as &dyn age::Recipient)),
            Self::Passphrase(passphrase) => {
                let mut recipient = scrypt::Recipient::new(passphrase.clone());
                recipient.set_work_factor(WORK);
                Encryptor::with_recipients(std::iter::once(&recipient as &dyn age::Recipient))
            }
        };
        let write = || -> std::io::Result<()> {
            let encryptor = encryptor.map_err(std::io::Error::other)?;
            let armored = ArmoredWriter::wrap_output(&mut sealed, Format::AsciiArmor)?;
            let mut writer = encryptor.wrap_output(armored)?;
            writer.write_all(text.as_bytes())?;
            writer.finish()?.finish().map(drop)
        };
        write().context(|| "it cannot be encrypted; nothing was changed".to_owned())?;
        Ok(sealed)
    }
}

/// What opens a file.
pub(super) enum Opener {
    Keys(Vec<x25519::Identity>),
    Passphrase(SecretString),
}

impl Opener {
    /// Secret keys as `age-keygen` writes them: one a line, remarks begin with `#`.
    pub(super) fn keys(text: &str) -> Result<Self, Failure> {
        let mut keys = Vec::new();
        for (index, line) in text.lines().enumerate() {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                continue;
            }
            keys.push(line.parse::<x25519::Identity>().map_err(|_| {
                Failure::new(format!(
                    "--identity: line {} is not the secret part of an age key (AGE-SECRET-KEY-1…), as `age-keygen` writes it. (SSH keys, plugins, post-quantum keys and encrypted key files are not supported.)",
                    index + 1
                ))
            })?);
        }
        match keys.len() {
            0 => Err(Failure::new("--identity: there is no key in it (AGE-SECRET-KEY-1…)")),
            1..=MAX_KEYS => Ok(Self::Keys(keys)),
            _ => Err(Failure::new(format!("--identity: there are more than {MAX_KEYS} keys in it"))),
        }
    }

    pub(super) fn passphrase(text: &Zeroizing<String>) -> Self {
        Self::Passphrase(SecretString::from(text.as_str()))
    }
}

/// A file whose head was read, and not yet opened.
pub(super) struct Sealed<'a>(Decryptor<ArmoredReader<BufReader<&'a [u8]>>>);

impl<'a> Sealed<'a> {
    /// Reads the head of it, armored or not.
    pub(super) fn read(file: &'a [u8]) -> Result<Self, Failure> {
        if file.len() as u64 > MAX_FILE {
            return Err(Failure::new(format!(
                "it is longer than {MAX_FILE} bytes, and so not what `countersign peer export` writes"
            )));
        }
        Decryptor::new_buffered(ArmoredReader::new(file)).map(Self).map_err(|error| failed(&error))
    }

    /// Whether a passphrase opens it, and no key.
    pub(super) fn wants_passphrase(&self) -> bool {
        self.0.is_scrypt()
    }

    /// The text in it.
    pub(super) fn open(self, with: &Opener) -> Result<Zeroizing<String>, Failure> {
        let reader = match with {
            Opener::Keys(keys) => self.0.decrypt(keys.iter().map(|key| key as &dyn age::Identity)),
            Opener::Passphrase(passphrase) => {
                let mut identity = scrypt::Identity::new(passphrase.clone());
                identity.set_max_work_factor(MAX_WORK);
                self.0.decrypt(std::iter::once(&identity as &dyn age::Identity))
            }
        };
        let reader = reader.map_err(|error| failed(&error))?;
        // Room for all of it at once: a growing vector would leave pieces behind. To its end and beyond: only there is
        // told that nothing was cut off.
        let mut text = Zeroizing::new(String::with_capacity(MAX + 2));
        reader
            .take(MAX as u64 + 1)
            .read_to_string(&mut text)
            .map_err(|_| Failure::new("it was damaged, cut off or changed on the way: have it sent again"))?;
        Ok(text)
    }
}

fn failed(error: &DecryptError) -> Failure {
    Failure::new(match error {
        DecryptError::NoMatchingKeys => {
            "this key does not open it: it is encrypted for another one. `age-keygen -y FILE` prints the public part of yours; have the other side export it again, for that".to_owned()
        }
        DecryptError::DecryptionFailed | DecryptError::KeyDecryptionFailed => {
            "it does not open: the passphrase is another one, or the file was damaged or changed on the way".to_owned()
        }
        DecryptError::InvalidMac => {
            "it was damaged or changed on the way: have it sent again".to_owned()
        }
        DecryptError::ExcessiveWork { .. } => format!(
            "its passphrase asks for more work than is done for a file from elsewhere (scrypt with N = 2^{MAX_WORK}, 1 GiB): have the other side write it with `countersign peer export`"
        ),
        DecryptError::UnknownFormat => {
            "it is a file of a later version of age, which this program does not know".to_owned()
        }
        _ => "it is not an age file, or was damaged or cut off on the way: have it sent again".to_owned(),
    })
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a broken fixture ends the test")]

    use proptest::prelude::*;

    use super::*;

    fn key() -> (Readers, Opener) {
        let key = x25519::Identity::generate();
        (Readers::Keys(vec![key.to_public()]), Opener::Keys(vec![key]))
    }

    fn opened(file: &[u8], with: &Opener) -> Result<String, Failure> {
        Sealed::read(file)?.open(with).map(|text| text.to_string())
    }

    #[test]
    fn what_is_sealed_is_opened_by_each_of_its_keys_and_by_no_other() {
        let (one, other, third) = (x25519::Identity::generate(), x25519::Identity::generate(), key().1);
        let readers = Readers::Keys(vec![one.to_public(), other.to_public()]);
        let file = readers.seal("text").unwrap();
        assert!(file.starts_with(b"-----BEGIN AGE ENCRYPTED FILE-----"));
        for with in [Opener::Keys(vec![one]), Opener::Keys(vec![x25519::Identity::generate(), other])] {
            assert_eq!(opened(&file, &with).unwrap(), "text");
        }
        assert!(opened(&file, &third).unwrap_err().message().contains("another one"));
    }

    #[test]
    fn every_file_that_was_cut_off_or_changed_is_refused() {
        let (readers, opener) = key();
        let file = readers.seal("FORM=what is in it\n").unwrap();
        for length in 0..file.trim_ascii_end().len() {
            assert!(opened(file.get(..length).unwrap(), &opener).is_err(), "cut off at {length}");
        }
        for index in 0..file.trim_ascii_end().len() {
            let mut changed = file.clone();
            if let Some(byte) = changed.get_mut(index) {
                *byte ^= 1;
            }
            assert!(opened(&changed, &opener).is_err(), "changed at {index}");
        }
    }

    #[test]
    fn a_file_that_asks_for_too_much_work_or_is_too_long_is_refused_before_it_is_done() {
        let passphrase = Zeroizing::new("correct horse battery".to_owned());
        let mut recipient = scrypt::Recipient::new(SecretString::from(passphrase.as_str()));
        recipient.set_work_factor(1);
        let file = age::encrypt(&recipient, b"text").unwrap();
        let opener = Opener::passphrase(&passphrase);
        assert_eq!(opened(&file, &opener).unwrap(), "text");
        let asks = |work: &str| {
            let line = file.iter().position(|byte| *byte == b'\n').unwrap() + 1;
            let end = line + file.iter().skip(line).position(|byte| *byte == b'\n').unwrap();
            let (head, rest) = file.split_at(end);
            [head.strip_suffix(b"1").unwrap(), work.as_bytes(), rest].concat()
        };
        for work in ["21", "30", "63", "64", "99"] {
            assert!(opened(&asks(work), &opener).unwrap_err().message().contains("more work"), "{work}");
        }
        let long = vec![b'a'; usize::try_from(MAX_FILE).unwrap() + 1];
        assert!(opened(&long, &opener).unwrap_err().message().contains("longer than 65536"));
        let (readers, opener) = key();
        let file = readers.seal(&"x".repeat(MAX + 100)).unwrap();
        assert_eq!(opened(&file, &opener).unwrap().len(), MAX + 1, "no more is read; the parser refuses it");
    }

    #[test]
    fn keys_that_cannot_be_used_are_told_without_being_repeated() {
        let secret = "AGE-SECRET-KEY-1GFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPYYSJZGFPQ4EGAEX";
        for text in [secret, &secret.to_lowercase(), "age1tooshort", "ssh-ed25519 AAAA", ""] {
            let failure = Readers::keys(&[text.to_owned()]).err().unwrap();
            assert!(text.is_empty() || !failure.message().contains(text), "{}", failure.message());
        }
        for text in ["", "# only a remark\n", "css_something", "AGE-SECRET-KEY-1XXX"] {
            let failure = Opener::keys(text).err().unwrap();
            assert!(text.is_empty() || !failure.message().contains(text), "{}", failure.message());
        }
        assert!(Readers::passphrase(&Zeroizing::new("fifteen letters".to_owned())).is_err());
    }

    proptest! {
        #[test]
        fn no_file_from_elsewhere_ends_in_a_panic(file: Vec<u8>, at: proptest::sample::Index, byte: u8) {
            let (_, opener) = key();
            prop_assert!(opened(&file, &opener).is_err());
            let mut binary = age::encrypt(&x25519::Identity::generate().to_public(), b"text").unwrap();
            let at = at.index(binary.len());
            binary.splice(at..=at, [byte, byte]);
            prop_assert!(opened(&binary, &opener).is_err());
        }
    }
}
