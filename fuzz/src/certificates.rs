//! Certificates, PEM files and pins.

use std::io::Write as _;
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use countersign::Trust;
use countersign::client::{certificate_pin, tls_config};
use countersign_gateway::TlsIdentity;
use rustls_pki_types::CertificateDer;
use sha2::{Digest as _, Sha256};
use x509_cert::Certificate;
use x509_cert::der::{Decode as _, Encode as _};

use crate::input;

/// A certificate's pin is the SHA-256 of the key that another reader finds in it.
pub(crate) fn certificate(input: &[u8]) {
    let ours = certificate_pin(&CertificateDer::from(input));
    if let Err(error) = &ours {
        input::assert_printable(&error.to_string());
    }
    let theirs = Certificate::from_der(input)
        .and_then(|certificate| certificate.tbs_certificate().subject_public_key_info().to_der());
    if let (Ok(pin), Ok(key)) = (ours, theirs) {
        assert_eq!(pin, <[u8; 32]>::from(Sha256::digest(key)));
    }
}

/// Canonical base64 of 32 bytes.
pub(crate) fn is_base64_of_32(text: &str) -> bool {
    match text.as_bytes() {
        [start @ .., last, b'='] => {
            start.len() == 42
                && start.iter().all(|c| c.is_ascii_alphanumeric() || matches!(c, b'+' | b'/'))
                && b"AEIMQUYcgkosw048".contains(last)
        }
        _ => false,
    }
}

pub(crate) fn pin(input: &[u8]) {
    let text = input::text(input);
    let form = text.strip_prefix("sha256/").is_some_and(is_base64_of_32);
    match Trust::parse_pin(&text) {
        Ok(Trust::Pin(pin)) => {
            assert!(form);
            assert_eq!(Trust::pin_text(&pin), text);
            assert_eq!(STANDARD.encode(pin), text["sha256/".len()..]);
        }
        Ok(other) => panic!("a pin is not {other:?}"),
        Err(_) => assert!(!form),
    }
}

fn write_private(path: &Path, bytes: &[u8]) {
    let mut options = std::fs::OpenOptions::new();
    options.write(true).create(true).truncate(true).mode(0o600);
    options.open(path).unwrap().write_all(bytes).unwrap();
}

/// A certificate file and a key file, with a zero byte between them: as authorities, and as our own identity.
pub(crate) fn pem(input: &[u8]) {
    let (certificates, key) = input::two(input);
    let text = input::text(certificates);
    let there = text.contains("-----BEGIN CERTIFICATE-----");
    match tls_config(&Trust::Ca(text)) {
        Ok(_) => assert!(there),
        Err(error) => input::assert_printable(&error.to_string()),
    }
    let directory = tempfile::tempdir().unwrap();
    let (certificate_file, key_file) = (directory.path().join("c.pem"), directory.path().join("k.pem"));
    write_private(&certificate_file, certificates);
    write_private(&key_file, key);
    match TlsIdentity::load(&certificate_file, &key_file) {
        Ok(identity) => {
            assert!(certificates.windows(16).any(|window| window == b"BEGIN CERTIFICAT"));
            // With a key that is not its own it does not serve.
            if identity.server_config().is_ok() {
                assert!(identity.pin().is_ok());
            }
        }
        Err(error) => {
            let shown = error.to_string();
            input::assert_printable(&shown);
            let lines = key.split(|byte| *byte == b'\n').filter(|line| line.len() > 40);
            for line in lines.filter_map(|line| std::str::from_utf8(line).ok()) {
                assert!(!shown.contains(line), "a line of the key in {shown}");
            }
        }
    }
}
