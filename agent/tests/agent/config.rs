//! Configurations as users write them: each broken one with its exact words, and what is in force.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use podsonar_core::config::setting;

/// A folder of its own for a test, which is gone with it.
pub(crate) struct Folder(pub(crate) PathBuf);

impl Folder {
    pub(crate) fn new(name: &str) -> Self {
        let path = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("{name}-{}", std::process::id()));
        fs::create_dir_all(&path).unwrap();
        Self(path)
    }

    pub(crate) fn write(&self, name: &str, text: impl AsRef<[u8]>) {
        fs::write(self.0.join(name), text).unwrap();
    }

    /// Runs the program in this folder with a known environment.
    fn run(&self, arguments: &[&str]) -> Output {
        let mut program = Command::new(env!("CARGO_BIN_EXE_podsonar"));
        for variable in ["PODSONAR_LOG", "PODSONAR_CONFIG"] {
            program.env_remove(variable);
        }
        program.env("NODE_NAME", "test").current_dir(&self.0);
        for argument in arguments {
            match argument.split_once('=') {
                Some((variable, value)) => program.env(variable, value),
                None => program.arg(argument),
            };
        }
        program.output().unwrap()
    }
}

impl Drop for Folder {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.0);
    }
}

/// One case of the table.
struct Case<'a> {
    title: &'a str,
    words: Vec<&'a str>,
    file: String,
    messages: Vec<&'a str>,
}

impl<'a> Case<'a> {
    fn parse(text: &'a str) -> Self {
        let (title, rest) = text.split_once('\n').unwrap();
        let of = |mark: &'static str| rest.lines().filter_map(move |line| line.strip_prefix(mark));
        let file = rest.lines().filter(|line| !line.starts_with("$ ") && !line.starts_with("! "));
        let file: String = file.flat_map(|line| [line, "\n"]).collect();
        let words = of("$ ").flat_map(str::split_whitespace).collect();
        Self { title, words, file: format!("{}\n", file.trim_end()), messages: of("! ").collect() }
    }
}

/// With `UPDATE_GOLDEN=1` in the environment it writes the messages into the table.
#[test]
fn every_broken_configuration_has_its_exact_messages() {
    let folder = Folder::new("broken");
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/agent/config/broken.txt");
    let table = fs::read_to_string(&path).unwrap();
    let (head, cases) = table.split_once("\n== ").unwrap();
    let cases: Vec<_> = cases.split("\n== ").map(Case::parse).collect();
    assert!(cases.len() >= 40, "{}", cases.len());
    let mut found = format!("{head}\n");
    for Case { title, words, file, messages } in &cases {
        folder.write("config.yaml", file);
        let mut arguments = vec!["check-config", "--config", "config.yaml"];
        arguments.extend(words);
        let output = folder.run(&arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let said: Vec<_> = stderr.lines().map(|line| line.strip_prefix("error: ").unwrap()).collect();
        assert_eq!(output.status.code(), Some(2), "{title}: {stderr}");
        assert!(output.stdout.is_empty(), "{title}");
        let flags = if words.is_empty() { String::new() } else { format!("$ {}\n", words.join(" ")) };
        let said_lines: String = said.iter().map(|line| format!("! {line}\n")).collect();
        found.push_str(&format!("\n== {title}\n{flags}{}{said_lines}", file.trim_start_matches('\n')));
        if std::env::var_os("UPDATE_GOLDEN").is_none() {
            assert_eq!(&said, messages, "{title}");
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
}
