//! The program: reads the command line and runs what it asks for.

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use podsonar::settings::{Cli, Command, Environment};
use podsonar::{logging, run};

/// What was asked for makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    let Command::Run(flags) = Cli::parse().command;
    let settings = match flags.resolve(Environment::read()) {
        Ok(settings) => settings,
        Err(problems) => {
            for problem in &problems {
                complain(problem);
            }
            return ExitCode::from(USAGE);
        }
    };
    logging::start(settings.log_format, settings.log_level);
    match run::run(settings) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            complain(&error);
            ExitCode::FAILURE
        }
    }
}

/// One line for the user. If nobody reads stderr, the exit code still tells.
fn complain(error: &dyn std::error::Error) {
    let _ = writeln!(io::stderr(), "error: {error}");
}
