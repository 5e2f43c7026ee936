//! The trail: every attempt to authenticate, successful or not, as one JSON line.
//!
//! A record holds names, numbers and reasons, never a secret: keys appear as credential ids
//! (`billing/1`, `unknown:5f3a09c2`). Everything that came from outside is written by a JSON encoder, so that
//! no caller can break out of its line.
//!
//! Each writing process has a file of its own in the audit directory (`serve.jsonl`, `call.jsonl`) with its own
//! sequence; readers merge them by time. The form is ready to be hash-chained per writer.

mod reader;
mod record;
mod writer;

pub use reader::{Entry, tail};
pub use record::{Direction, Outcome, Record};
pub use writer::{AuditError, AuditSink, JsonLines, MemorySink};
