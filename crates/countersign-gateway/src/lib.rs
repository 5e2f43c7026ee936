//! Countersign as a server of its own, to stand beside a service in any language.
//!
//! ```text
//! caller ──TLS──▶ listener ──▶ /authenticate, /verify_challenge      (countersign::server::router)
//!                          └─▶ everything else ─▶ AuthLayer ─▶ upstream, or JSON that names the caller
//! ```
//!
//! Slow and oversized callers are cut off: see [`Timeouts`]. [`Gateway::run`] drains on shutdown.

mod acceptor;
mod activity;
mod admin;
mod app;
mod external;
mod files;
mod identity;
mod listen;
mod metrics;
mod proxy;
mod serve;
mod sources;

pub use identity::{IdentityError, TlsIdentity};
pub use listen::{ListenError, ListenUrl};
pub use metrics::Metrics;
pub use proxy::Upstream;
pub use serve::{BindError, Gateway, Settings, Timeouts};
