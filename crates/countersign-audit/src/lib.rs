//! The trail: every attempt to authenticate, successful or not, and every change to who may, as one JSON line.
//!
//! A record holds names, numbers and reasons, never a secret: keys appear as credential ids
//! (`billing/1`, `unknown:5f3a09c2`). Everything that came from outside is written by a JSON encoder, so that
//! no caller can break out of its line.
//!
//! Each kind of process is a *writer* (`serve`, `call`, `admin`) with a file and a sequence of its own; readers
//! merge them by time. A writer's lines are a chain: each carries the MAC of the one before and its own, under a
//! key of the writer, and where the chain ends is kept elsewhere ([`Heads`]). So a line that is changed, removed,
//! moved, put in or cut off can be found by whoever has the key, and cannot be made good by whoever has not.
//!
//! | module | holds |
//! |---|---|
//! | `record`, `line` | a record; its line, with MACs |
//! | `sink` | [`AuditSink`] and [`Ticket`]: where records go, and waiting until they are there |
//! | `trail` | [`Trail`]: the queue, and the thread that writes groups of records |
//! | `chain`, `find`, `rotate`, `retain`, `disk` | one writer's files: append, find the end again, put aside, remove, the reserve |
//! | `head`, `files` | where chains begin and end; the names of files |
//! | `source`, `lines`, `reader` | a writer's files at one moment; reading lines and records |
//! | `verify` | [`verify`]: whether anybody touched the trail |

mod chain;
mod disk;
mod files;
mod find;
mod head;
mod key;
mod line;
mod lines;
mod reader;
mod record;
mod retain;
mod rotate;
mod settings;
mod sink;
mod source;
mod trail;
mod verify;

pub use head::{Heads, HeadsError, MemoryHeads, StoredHead};
pub use key::AuditKey;
pub use line::Entry;
pub use reader::{Follow, Records, Written, tail};
pub use record::{Direction, Outcome, Record, now};
pub use settings::{Settings, WhenFull};
pub use sink::{AuditError, AuditSink, MemorySink, Promise, Ticket};
pub use trail::Trail;
pub use verify::{
    Anchor, AnchorError, Fault, FaultKind, Notice, NoticeKind, Report, Verify, WriterReport, verify,
};
