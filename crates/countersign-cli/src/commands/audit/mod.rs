//! `countersign audit`: reads the trail, looks whether anybody touched it, writes it out.

pub(crate) mod args;
mod export;
mod tail;
mod verify;

pub(crate) use verify::examine;

use args::AuditCommand;

use crate::failure::Failure;
use crate::home::Home;

pub(crate) fn run(home: &Home, command: &AuditCommand) -> Result<(), Failure> {
    match command {
        AuditCommand::Tail(args) => tail::run(home, args),
        AuditCommand::Verify(args) => verify::run(home, args),
        AuditCommand::Export(args) => export::run(home, args),
    }
}
