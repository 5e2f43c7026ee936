//! The ticket (section 4): what a server needs to know of a session, sealed, kept by the client.

use std::fmt;

use zeroize::Zeroizing;

use super::MAX_TICKET_LIFETIME;
use super::keys::SessionKeys;
use super::scan::all;
use super::transcript::{Binding, Exporter};
use crate::aead::NONCE_LEN;
use crate::identity::{CredentialId, ServiceName};
use crate::refusal::Refusal;
use crate::sealed::{Fields, Purpose, SealingKeys};
use crate::token::TokenError;
use crate::{UnixTime, lp};

/// What every ticket begins with where it is sent. In MACs it stands without it.
pub const PREFIX: &str = "cst.";

/// `cst.` and 48 to 1020 characters of base64url (CS-7).
#[must_use]
pub fn is_ticket(text: &str) -> bool {
    text.strip_prefix(PREFIX).is_some_and(|bare| {
        (48..=1020).contains(&bare.len())
            && all(bare.as_bytes(), |byte| {
                ((byte | 0x20).wrapping_sub(b'a') < 26)
                    | (byte.wrapping_sub(b'0') < 10)
                    | (byte == b'-')
                    | (byte == b'_')
            })
    })
}

const PURPOSE: Purpose = Purpose { label: "ticket", prefix: PREFIX };

/// A session as the server finds it in a ticket.
#[derive(Clone, Debug)]
pub struct Claims {
    /// The credential that authenticated.
    pub credential: CredentialId,
    /// That credential's unique id: one that is removed and added anew has another.
    pub uid: [u8; 16],
    /// The session's keys and id.
    pub keys: SessionKeys,
    /// When it was issued.
    pub issued: UnixTime,
    /// From here on it is refused.
    pub expires: UnixTime,
    /// What its requests are bound to.
    pub binding: Binding,
}

impl Claims {
    /// The keys of requests and responses on a connection: as the binding says (CS-32).
    ///
    /// # Errors
    /// [`Refusal::WrongBinding`] if the session is bound to its TLS connection, and this one gives no exporter.
    pub fn keys_on(&self, exporter: Option<&Exporter>) -> Result<SessionKeys, Refusal> {
        match (self.binding, exporter) {
            (Binding::None, _) => Ok(self.keys.clone()),
            (Binding::TlsExporter, Some(exporter)) => Ok(self.keys.on_connection(exporter)),
            (Binding::TlsExporter, None) => Err(Refusal::WrongBinding),
        }
    }
}

/// The keys that seal and open one server's tickets: the current one, and those before whose tickets may still be good.
pub struct TicketKeys(SealingKeys);

impl TicketKeys {
    /// A first key from 40 random bytes.
    #[must_use]
    pub fn new(service: ServiceName, random: &Zeroizing<[u8; 40]>, now: UnixTime) -> Self {
        Self(SealingKeys::new(PURPOSE, service, random, now))
    }

    /// Whether the current key has served its time (CS-20).
    #[must_use]
    pub fn is_due(&self, now: UnixTime) -> bool {
        self.0.is_due(now)
    }

    /// Makes a new current key; the old one goes on opening.
    pub fn rotate(&mut self, random: &Zeroizing<[u8; 40]>, now: UnixTime) {
        self.0.rotate(random, now);
    }

    /// Erases the keys before the current one, once the last ticket that they made has expired (CS-20): forward secrecy
    /// begins with that. To be called now and then.
    pub fn tidy(&mut self, now: UnixTime) {
        self.0.erase_previous(now, u64::from(MAX_TICKET_LIFETIME));
    }

    /// The keys as bytes, to be kept sealed, so that tickets outlive a restart (CS-42). Whoever has them can compute the
    /// session keys of the tickets.
    #[must_use]
    pub fn export(&self) -> Zeroizing<Vec<u8>> {
        self.0.export()
    }

    /// The reverse of [`TicketKeys::export`]; `None` if it is not that.
    #[must_use]
    pub fn import(service: ServiceName, bytes: &[u8]) -> Option<Self> {
        SealingKeys::import(PURPOSE, service, bytes).map(Self)
    }

    /// Seals under the current key.
    #[must_use]
    pub fn seal(&self, claims: &Claims, nonce: [u8; NONCE_LEN]) -> Zeroizing<String> {
        let plaintext = Zeroizing::new(lp(&[
            claims.credential.peer.as_str().as_bytes(),
            &claims.credential.number.to_be_bytes(),
            &claims.uid,
            &claims.keys.id,
            claims.keys.client_to_server.as_slice(),
            claims.keys.server_to_client.as_slice(),
            &claims.issued.0.to_be_bytes(),
            &claims.expires.0.to_be_bytes(),
            claims.binding.as_str().as_bytes(),
        ]));
        self.0.seal(&plaintext, nonce)
    }

    /// Opens a ticket and checks its age. Whether its credential still lives is for the caller to ask (CS-19).
    ///
    /// # Errors
    /// See [`TokenError`].
    pub fn open(&self, ticket: &str, now: UnixTime) -> Result<Claims, TokenError> {
        self.open_noting(ticket, now).map(|(claims, _)| claims)
    }

    /// The same, and whether it was sealed in an earlier run of this server, whose log of used nonces may be lost (CS-43).
    ///
    /// # Errors
    /// As [`TicketKeys::open`].
    pub fn open_noting(&self, ticket: &str, now: UnixTime) -> Result<(Claims, bool), TokenError> {
        let (plaintext, of_earlier_run) = self.0.open_noting(ticket)?;
        let claims = read(&plaintext).ok_or(TokenError::Seal)?;
        let lives = claims.expires.since(claims.issued) <= u64::from(MAX_TICKET_LIFETIME);
        if now >= claims.expires || !lives {
            return Err(TokenError::Expired);
        }
        Ok((claims, of_earlier_run))
    }
}

impl fmt::Debug for TicketKeys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("TicketKeys(…)")
    }
}

fn read(bytes: &[u8]) -> Option<Claims> {
    let mut fields = Fields::of(bytes);
    let peer = fields.text()?.parse().ok()?;
    let number = u32::from_be_bytes(fields.array()?);
    let uid = fields.array()?;
    let id = fields.array()?;
    let client_to_server = Zeroizing::new(fields.array()?);
    let server_to_client = Zeroizing::new(fields.array()?);
    let issued = UnixTime(u64::from_be_bytes(fields.array()?));
    let expires = UnixTime(u64::from_be_bytes(fields.array()?));
    let binding = Binding::parse(fields.text()?)?;
    let keys = SessionKeys { client_to_server, server_to_client, id };
    let credential = CredentialId { peer, number };
    fields.is_empty().then_some(Claims { credential, uid, keys, issued, expires, binding })
}
