use std::fmt;

use zeroize::Zeroizing;

use super::challenge::Challenge;
use crate::LengthPrefixed;
use crate::identity::ApiKey;
use crate::mac::Tag;

/// What the handshake and the requests after it are bound to (section 6).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Binding {
    /// Nothing beside the keys.
    None,
    /// The TLS connection (RFC 9266, `tls-exporter`).
    TlsExporter,
}

impl Binding {
    /// As it is sent.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::None => "none",
            Self::TlsExporter => "tls-exporter",
        }
    }

    /// The reverse of [`Binding::as_str`].
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        [Self::None, Self::TlsExporter].into_iter().find(|binding| binding.as_str() == text)
    }
}

/// TLS 1.3's exporter value for `EXPORTER-Channel-Binding` with an empty context: 32 bytes that both ends of one
/// connection know, and nobody else (RFC 9266). Redacted: it keys the requests on its connection.
#[derive(Clone)]
pub struct Exporter(zeroize::Zeroizing<[u8; 32]>);

impl Exporter {
    /// The value that the TLS library gives.
    #[must_use]
    pub const fn new(bytes: zeroize::Zeroizing<[u8; 32]>) -> Self {
        Self(bytes)
    }

    pub(super) fn as_bytes(&self) -> &[u8] {
        self.0.as_slice()
    }
}

impl fmt::Debug for Exporter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Exporter(…)")
    }
}

/// What the client says first, and says again with its proof: the members of M1.
#[derive(Clone, Debug)]
pub struct Hello {
    /// C: who calls.
    pub client: ApiKey,
    /// S: whom it means to call.
    pub server: ApiKey,
    /// `cn`
    pub nonce: [u8; 32],
    /// `ce`, the client's ephemeral public key.
    pub share: [u8; 32],
    /// What it wants to be bound to.
    pub binding: Binding,
}

impl Hello {
    /// `LP(C) ‖ LP(S) ‖ LP(cn) ‖ LP(ce) ‖ LP(binding)` behind what is there already.
    pub(super) fn encode(&self, encoding: LengthPrefixed) -> LengthPrefixed {
        encoding
            .field(self.client.expose().as_bytes())
            .field(self.server.expose().as_bytes())
            .field(&self.nonce)
            .field(&self.share)
            .field(self.binding.as_str().as_bytes())
    }

    /// [`Transcript`]: all that was said before the client's proof. `exporter` counts only if the binding asks for it.
    pub(super) fn transcript(&self, exporter: Option<&Exporter>, challenge: &Challenge) -> Transcript {
        let exporter = match self.binding {
            Binding::None => &[][..],
            Binding::TlsExporter => exporter.map(Exporter::as_bytes).unwrap_or_default(),
        };
        let encoding = LengthPrefixed::with_capacity(640).field(b"countersign/1 cs1");
        Transcript(Zeroizing::new(
            self.encode(encoding).field(exporter).field(challenge.as_str().as_bytes()).finish(),
        ))
    }
}

/// T. The exporter can be in it, so it is redacted and zeroised.
#[derive(Clone)]
pub(super) struct Transcript(Zeroizing<Vec<u8>>);

impl Transcript {
    pub(super) fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}

impl fmt::Debug for Transcript {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Transcript(…)")
    }
}

/// `LP("CP") ‖ T`: under it the client proves itself.
pub(super) fn client_proof(transcript: &Transcript) -> [&[u8]; 2] {
    [b"\0\0\0\x02CP", transcript.as_bytes()]
}

/// `LP("SP") ‖ T ‖ LP(CP) ‖ LP(se) ‖ LP(ticket) ‖ u32be(seconds)`: under it the server does.
pub(super) fn server_proof(
    transcript: &Transcript,
    proof: &Tag,
    share: &[u8; 32],
    ticket: &str,
    seconds: u32,
) -> Vec<u8> {
    LengthPrefixed::with_capacity(transcript.as_bytes().len() + 1280)
        .field(b"SP")
        .raw(transcript.as_bytes())
        .field(proof.as_bytes())
        .field(share)
        .field(ticket.as_bytes())
        .raw(&seconds.to_be_bytes())
        .finish()
}
