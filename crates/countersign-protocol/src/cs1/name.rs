//! Which key a signature names: that of a session, or that of a pair (section 9).

use std::fmt;

use super::ticket;
use crate::identity::is_api_key;

/// What `keyid` says. `tag` has to say the same: a name of one kind is never read as one of the other.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum KeyName<'a> {
    /// The keys of the session in this ticket, with its prefix; `tag="countersign"`.
    Ticket(&'a str),
    /// The keys of this pair, without a handshake; `tag="countersign-direct"`.
    Direct {
        /// C: who calls.
        client: &'a str,
        /// S: whom it means to call.
        server: &'a str,
    },
}

/// `tag` of messages under a session's keys.
pub const TAG: &str = "countersign";
/// `tag` of messages under the keys of a pair.
pub const DIRECT_TAG: &str = "countersign-direct";

impl<'a> KeyName<'a> {
    /// `None` if they do not go together, or it is not two API keys. Whether it is a ticket is found when it is opened.
    pub(super) fn read(tag: &str, keyid: &'a str) -> Option<Self> {
        match tag {
            TAG => keyid.starts_with(ticket::PREFIX).then_some(Self::Ticket(keyid)),
            DIRECT_TAG => {
                // No API key has a colon in it.
                let (client, server) = keyid.split_once(':')?;
                let name = Self::Direct { client, server };
                name.is_valid().then_some(name)
            }
            _ => None,
        }
    }

    /// Whether the other side could read it.
    pub(super) fn is_valid(&self) -> bool {
        match self {
            Self::Ticket(ticket) => ticket::is_ticket(ticket),
            Self::Direct { client, server } => [client, server].iter().all(|key| is_api_key(key)),
        }
    }

    pub(super) const fn is_direct(&self) -> bool {
        matches!(self, Self::Direct { .. })
    }

    /// What `tag` says, in both directions.
    #[must_use]
    pub const fn tag(&self) -> &'static str {
        if self.is_direct() { DIRECT_TAG } else { TAG }
    }
}

/// As `keyid` has it.
impl fmt::Display for KeyName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Ticket(ticket) => f.write_str(ticket),
            Self::Direct { client, server } => write!(f, "{client}:{server}"),
        }
    }
}

impl fmt::Debug for KeyName<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Under another profile an API key is a secret, and somebody may send it here.
        f.write_str(if self.is_direct() { "Direct(…)" } else { "Ticket(…)" })
    }
}
