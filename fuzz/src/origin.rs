//! Where a secret comes from: its name, and what is in the file or the variable.

use std::ffi::OsString;
use std::os::unix::ffi::OsStringExt as _;
use std::os::unix::fs::PermissionsExt as _;

use countersign_store::origin::{Modes, Origin};

use crate::input;

/// As the documentation says.
fn is_origin(text: &str) -> bool {
    let is_name = |name: &str| {
        !name.is_empty() && name.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.'))
    };
    match text.split_once(':') {
        Some(("env", name)) => is_name(name),
        Some(("file", path)) => !path.is_empty(),
        Some(("credential", name)) => is_name(name) && !name.starts_with('.'),
        _ => false,
    }
}

/// What is to come out of this content: one line of text of at most 4 KiB.
fn line(content: &[u8]) -> Option<&str> {
    let text = std::str::from_utf8(content).ok()?;
    let mut line = text;
    for end in ["\r\n", "\n", "\r"] {
        if let Some(rest) = text.strip_suffix(end) {
            line = rest;
            break;
        }
    }
    (line.len() <= 4096 && !line.contains(['\r', '\n'])).then_some(line)
}

pub(crate) fn origin(input: &[u8]) {
    let (name, content) = input::two(input);
    let name = input::text(name);
    let origin = name.parse::<Origin>();
    assert_eq!(origin.is_ok(), is_origin(&name), "{name:?}");
    if let Err(error) = &origin {
        // It may be a secret in the wrong place.
        assert!(name.len() < 12 || !error.to_string().contains(&name));
    }
    // Read from a file, from a credential and from the environment.
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("secret");
    std::fs::write(&path, content).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
    let environment = |name: &str| match name {
        "CREDENTIALS_DIRECTORY" => Some(directory.path().as_os_str().to_owned()),
        "VARIABLE" => Some(OsString::from_vec(content.to_vec())),
        _ => None,
    };
    let origins = [Origin::File(path), "credential:secret".parse().unwrap(), "env:VARIABLE".parse().unwrap()];
    for origin in origins {
        match origin.read(Modes::Strict, environment) {
            Ok(value) => assert_eq!(Some(value.as_str()), line(content)),
            Err(error) => {
                assert!(line(content).is_none() && !error.is_missing());
                let shown = error.to_string();
                assert!(content.len() < 12 || !shown.contains(&*String::from_utf8_lossy(content)));
            }
        }
    }
}
