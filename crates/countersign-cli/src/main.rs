//! The command `countersign`: parses arguments, runs one command, turns its result into an exit code: 0 done,
//! 1 refused or failed, 2 usage.

mod args;
mod change;
mod commands;
mod config;
mod duration;
mod external;
mod failure;
mod home;
mod keys;
mod life;
mod secret_input;
mod show;
mod state;

use std::process::ExitCode;

use clap::Parser as _;

use args::{Args, Command};
use failure::Failure;

fn main() -> ExitCode {
    let args = match Args::try_parse() {
        Ok(args) => args,
        Err(error) => return usage(&error),
    };
    // One provider for all of TLS; ring is not even linked.
    let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
    match run(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(failure) => {
            show::err(&format!("countersign: {}\n", show::printable_lines(failure.message())));
            failure.exit_code()
        }
    }
}

/// Prints a usage error (or the help that was asked for) without passing control characters of an argument on.
fn usage(error: &clap::Error) -> ExitCode {
    if error.use_stderr() {
        show::err(&show::printable_lines(&error.render().to_string()));
        ExitCode::from(2)
    } else {
        let _ = error.print();
        ExitCode::SUCCESS
    }
}

fn run(args: Args) -> Result<(), Failure> {
    let home = args.home;
    match args.command {
        Command::Demo(demo) => commands::demo::run(&demo),
        Command::Init(init) => commands::init::run(&home::Home::locate(home)?, &init),
        Command::Keygen(keygen) => commands::keygen::run(&keygen),
        Command::Peer(peer) => commands::peer::run(&home::Home::locate(home)?, peer),
        Command::Pair(pair) => commands::pair::run(&home::Home::locate(home)?, pair),
        Command::Serve(serve) => commands::serve::run(&home::Home::locate(home)?, serve),
        Command::Call(call) => commands::call::run(&home::Home::locate(home)?, &call),
        Command::Rotate(rotate) => commands::rotate::run(&home::Home::locate(home)?, &rotate),
        Command::Revoke(revoke) => commands::revoke::run(&home::Home::locate(home)?, &revoke),
        Command::Status(status) => commands::status::run(&home::Home::locate(home)?, &status),
        Command::Audit(audit) => commands::audit::run(&home::Home::locate(home)?, &audit),
        Command::Backup(backup) => commands::backup::run(&home::Home::locate(home)?, &backup),
        Command::Restore(restore) => commands::restore::run(&home::Home::locate(home)?, &restore),
        Command::MasterKey(change) => commands::master_key::run(&home::Home::locate(home)?, &change),
        Command::Doctor(doctor) => commands::doctor::run(&home::Home::locate(home)?, &doctor),
        Command::Explain(explain) => commands::explain::run(&home::Home::locate(home)?, &explain),
    }
}
