//! The client's side of the profile `cs1` (`specs/cs1.md`): every request is signed, and only what the peer signed for it is
//! handed on.
//!
//! | module | does |
//! |---|---|
//! | `session` | ticket, keys and time of a session |
//! | `request` | makes a request ready, and signs it |
//! | `exchange` | sends it, and again where that is allowed |
//! | `response` | what of an answer is proved |
//! | `hint` | what an answer says that is not |
//! | `upload`, `download` | streams |

mod download;
mod exchange;
mod hint;
mod request;
mod response;
mod session;
mod upload;

pub(super) use download::Download;
pub(super) use session::Session;
pub(super) use upload::Upload;
