//! One module a command.

pub(crate) mod audit;
pub(crate) mod backup;
pub(crate) mod call;
pub(crate) mod demo;
pub(crate) mod doctor;
pub(crate) mod explain;
pub(crate) mod init;
pub(crate) mod keygen;
pub(crate) mod master_key;
pub(crate) mod pair;
pub(crate) mod peer;
pub(crate) mod peer_file;
pub(crate) mod restore;
pub(crate) mod revoke;
pub(crate) mod rotate;
pub(crate) mod serve;
pub(crate) mod status;
pub(crate) mod transit;
