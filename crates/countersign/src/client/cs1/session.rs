use std::fmt;
use std::time::Instant;

use countersign_protocol::UnixTime;
use countersign_protocol::cs1::client::Established;
use countersign_protocol::cs1::{Exporter, KeyName, SessionKeys};
use countersign_protocol::mac::MacKey;

/// What a handshake came to.
pub(in crate::client) struct Session {
    established: Established,
    /// When M2 had come.
    since: Instant,
    plain: Keys,
}

/// The keys of both directions on one connection.
#[derive(Clone)]
pub(super) struct Keys {
    pub(super) requests: MacKey,
    pub(super) responses: MacKey,
}

impl Keys {
    fn of(keys: &SessionKeys) -> Self {
        Self {
            requests: MacKey::new(keys.client_to_server.as_slice()),
            responses: MacKey::new(keys.server_to_client.as_slice()),
        }
    }
}

impl Session {
    pub(in crate::client) fn new(established: Established, since: Instant) -> Self {
        let plain = Keys::of(&established.keys);
        Self { established, since, plain }
    }

    /// From when on it is counted how long it is good.
    pub(in crate::client) const fn since(&self) -> Instant {
        self.since
    }

    pub(in crate::client) const fn seconds(&self) -> u32 {
        self.established.seconds
    }

    /// The server's time, as far as it is known: never ahead of it (CS-30).
    pub(super) fn now(&self) -> UnixTime {
        self.established.time.plus(self.since.elapsed().as_secs())
    }

    pub(super) fn name(&self) -> KeyName<'_> {
        KeyName::Ticket(&self.established.ticket)
    }

    /// The keys on the connection with this exporter (CS-32).
    pub(super) fn keys_on(&self, exporter: Option<&Exporter>) -> Keys {
        match exporter {
            None => self.plain.clone(),
            Some(exporter) => Keys::of(&self.established.keys.on_connection(exporter)),
        }
    }
}

impl fmt::Debug for Session {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Session").field("seconds", &self.seconds()).finish_non_exhaustive()
    }
}
