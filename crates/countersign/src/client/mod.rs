//! The client's side: [`Client`] makes the handshake by itself, checks the server's proof, and reuses its token.
//!
//! - Names are verified; trust is the system's authorities, given ones, or a pinned key ([`Trust`]). TLS 1.3 only.
//! - `http://` is refused except to loopback.
//! - Redirects are not followed, and no request is sent twice, except once more after a 401 that says that the
//!   token is not good any more (a 401 has changed nothing).
//! - Concurrent first requests share one handshake.
//! - Under `shared-secret` nothing is sent before the server has proved itself.
//!
//! ```no_run
//! # async fn example(peer: countersign::store::Peer) -> Result<(), countersign::client::ClientError> {
//! use countersign::client::Client;
//! let client = Client::new(&peer)?;
//! let request = http::Request::get("/orders/42").body(bytes::Bytes::new()).unwrap();
//! let response = client.send(request).await?;
//! # Ok(())
//! # }
//! ```

mod base;
mod connector;
mod error;
mod handshake;
mod narrate;
mod pin;
mod session;
mod trust;

pub use base::BaseUrl;
pub use connector::{HttpClient, http_client};
pub use error::ClientError;
pub use narrate::{Narration, Narrator};
pub use session::{Builder, Client};
pub use trust::{certificate_pin, tls_config};

pub use countersign_store::Trust;
