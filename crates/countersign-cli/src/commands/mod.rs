//! One module a command.

pub(crate) mod audit;
pub(crate) mod call;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod keygen;
pub(crate) mod peer;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod transit;
