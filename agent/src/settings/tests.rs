use clap::{CommandFactory, Parser};
use podsonar_core::config::setting::{self, Fallback};
use podsonar_core::config::{Downward, Fault, Listen};

use super::*;

#[test]
fn the_command_line_is_consistent() {
    Cli::command().debug_assert();
}

#[test]
fn every_flag_of_a_setting_exists_and_its_help_says_the_default() {
    let command = Cli::command();
    let run = command.find_subcommand("run").unwrap();
    for setting in setting::ALL {
        let Some(flag) = setting.flag else { continue };
        let name = flag.trim_start_matches('-');
        let argument = run.get_arguments().find(|argument| argument.get_long() == Some(name)).unwrap();
        let help = argument.get_help().unwrap().to_string();
        if let Fallback::Value(default) = setting.fallback
            && !default.is_empty()
        {
            assert!(help.ends_with(&format!("[default: {default}]")), "{flag}: {help}");
        }
    }
}

#[test]
fn the_source_is_the_flag_else_the_node_else_the_host() {
    let named = || Environment {
        downward: Downward { node_name: Some("node".into()), ..Downward::default() },
        host_name: Some("host".into()),
        ..Environment::default()
    };
    let source = |flags: &[&str], environment| resolve(flags, environment).unwrap().agent.source;
    assert_eq!(source(&["--source", "flag"], named()), "flag");
    assert_eq!(source(&[], named()), "node");
    assert_eq!(source(&[], Environment { downward: Downward::default(), ..named() }), "host");
    let problems = resolve(&[], Environment::default()).unwrap_err();
    assert!(matches!(problems.as_slice(), [Problem { fault: Fault::NoSource, .. }]));
}

#[test]
fn listening_is_everywhere_unless_the_user_chose() {
    let host = || Environment { host_name: Some("host".into()), ..Environment::default() };
    let listen = |flags: &[&str]| resolve(flags, host()).unwrap().agent.listen;
    assert_eq!(listen(&[]), Listen::Everywhere { port: 19988 });
    assert_eq!(listen(&["--listen", "127.0.0.1:0"]), Listen::At("127.0.0.1:0".parse().unwrap()));
}

fn resolve(more: &[&str], environment: Environment) -> Result<Configuration, Vec<Problem>> {
    let words = ["podsonar", "run", "--target", "127.0.0.1"];
    let Command::Run(flags) = Cli::parse_from(words.iter().chain(more)).command else {
        panic!("the command is run");
    };
    Sources { flags, environment }.read().resolve()
}
