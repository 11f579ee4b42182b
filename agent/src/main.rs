//! The program: reads the command line and runs what it asks for.

use std::fmt::Display;
use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;
use podsonar::settings::{Ask, Cli, Command, Environment, Flags, Settings, Sources};
use podsonar::{logging, preflight, run, status};
use podsonar_core::wire::Channel;

/// What was asked for makes no sense.
const USAGE: u8 = 2;

fn main() -> ExitCode {
    podsonar_net::return_large_memory();
    match Cli::parse().command {
        Command::Run(flags) => with(flags, |settings| {
            let agent = &settings.configuration.agent;
            logging::start(agent.log_format, agent.log_level);
            match run::run(settings) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => {
                    complain(&error);
                    ExitCode::FAILURE
                }
            }
        }),
        Command::CheckConfig(flags) => with(flags, |settings| {
            let probing = &settings.configuration.probing;
            let (targets, names) = (probing.targets(), probing.dns.names.len());
            say(&format!("ok: {targets} targets, {names} names to ask for\n"))
        }),
        Command::Status(Ask { json, address }) => {
            let local = || {
                let sources = Sources { flags: Flags::default(), environment: Environment::read() };
                sources.read().local_address()
            };
            match status::ask(address.unwrap_or_else(local), json) {
                Ok(text) => say(&text),
                Err(error) => {
                    complain(&error);
                    ExitCode::FAILURE
                }
            }
        }
        Command::Preflight => {
            let findings = preflight::report(&Channel::ALL, run::MIN_BUFFER);
            let lines: Vec<String> = findings.iter().map(ToString::to_string).collect();
            let told = say(&(lines.join("\n") + "\n"));
            let fine = findings.iter().all(|finding| finding.verdict == preflight::Verdict::Fine);
            if fine { told } else { ExitCode::FAILURE }
        }
        Command::PrintConfig(flags) => with(flags, |settings| say(&settings.print())),
    }
}

/// Does something with valid settings, or tells everything that is wrong with them.
fn with(flags: Flags, then: impl FnOnce(Settings) -> ExitCode) -> ExitCode {
    match Settings::load(Sources { flags, environment: Environment::read() }) {
        Ok(settings) => then(settings),
        Err(problems) => {
            for problem in &problems {
                complain(problem);
            }
            ExitCode::from(USAGE)
        }
    }
}

/// What was asked for. If it cannot be written, the exit code tells.
fn say(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Ok(()) => ExitCode::SUCCESS,
        Err(_) => ExitCode::FAILURE,
    }
}

/// One line for the user. If nobody reads stderr, the exit code still tells.
fn complain(error: &dyn Display) {
    let _ = writeln!(io::stderr(), "error: {error}");
}
