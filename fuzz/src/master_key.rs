//! The text of a master key: the base64 of 32 bytes, with at most one line end behind it, and nothing else.

use std::ffi::OsString;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign_protocol::aead::AeadKey;
use countersign_protocol::secret::strip_line_end;
use countersign_store::master::{ENVIRONMENT_VARIABLE, MasterKey, Source};
use zeroize::Zeroizing;

use crate::certificates::is_base64_of_32;
use crate::input;

pub(crate) fn master_key(input: &[u8]) {
    let text = input::text(input);
    let environment = |_: &str| Some(OsString::from(&text));
    let loaded = MasterKey::load(&Source::Environment(ENVIRONMENT_VARIABLE), environment);
    let stripped = strip_line_end(&text);
    assert_eq!(loaded.is_ok(), is_base64_of_32(stripped));
    match loaded {
        Ok(key) => {
            assert_eq!(format!("{key:?}"), "MasterKey(…)");
            let bytes: [u8; 32] = STANDARD.decode(stripped).unwrap().try_into().unwrap();
            let expected = AeadKey::derive(&Zeroizing::new(bytes), "countersign wrap 1");
            let sealed = key.wrapping_key().seal([3; 12], b"place", b"value");
            assert_eq!(expected.open(b"place", &sealed).unwrap().as_slice(), b"value");
        }
        Err(error) => {
            let shown = error.to_string();
            input::assert_printable(&shown);
            // Nothing of what was there is in it: it is what is said of any other text.
            let of_another =
                MasterKey::load(&Source::Environment(ENVIRONMENT_VARIABLE), |_| Some("?".into()));
            assert_eq!(shown, of_another.unwrap_err().to_string());
        }
    }
}
