//! For tests only: both ends of both guide profiles in virtual time, the vectors of `vectors/`, and a small disk.
//!
//! Nothing here reads a clock or a random source. [`pair::Pair::now`] is the time and moves only when a test
//! sets it; [`random::Random`] gives the same bytes in every run. A failed test fails again.
//!
//! | module | holds |
//! |---|---|
//! | [`pair`] | a caller and a server that know each other, and whole flows between them |
//! | [`server`] | a server of both guides over the protocol crate's state machines |
//! | [`memory`] | what a server has to remember: burned challenges, outstanding challenges |
//! | [`small_disk`] | a file system that is really full |
//! | [`random`] | bytes that can be repeated |
//! | [`vectors`] | the folders of `vectors/` |

#![allow(clippy::expect_used, clippy::panic, reason = "a broken fixture ends the test that uses it")]

pub mod memory;
pub mod pair;
pub mod random;
pub mod server;
pub mod small_disk;
pub mod vectors;
