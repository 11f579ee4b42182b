//! Configurations as users write them: each broken one with its exact words, and what is in force.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use crate::scrape::compare_table;

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
    pub(crate) fn run(&self, arguments: &[&str]) -> Output {
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
    let mut found = head.to_owned();
    for Case { title, words, file, messages } in &cases {
        folder.write("config.yaml", file);
        let mut arguments = vec!["check-config"];
        if words.is_empty() || !file.trim().is_empty() {
            arguments.extend(["--config", "config.yaml"]);
        }
        arguments.extend(words);
        let output = folder.run(&arguments);
        let stderr = String::from_utf8(output.stderr).unwrap();
        let said: Vec<_> = stderr.lines().map(|line| line.strip_prefix("error: ").unwrap()).collect();
        assert_eq!(output.status.code(), Some(2), "{title}: {stderr}");
        assert!(output.stdout.is_empty(), "{title}");
        let flags = if words.is_empty() { String::new() } else { format!("$ {}\n", words.join(" ")) };
        let said_lines = said.iter().flat_map(|line| ["! ", line, "\n"]);
        found.extend(
            ["\n== ", title, "\n", &flags, file.trim_start_matches('\n')].into_iter().chain(said_lines),
        );
        if std::env::var_os("UPDATE_GOLDEN").is_none() {
            assert_eq!(&said, messages, "{title}");
        }
    }
    if std::env::var_os("UPDATE_GOLDEN").is_some() {
        fs::write(&path, found).unwrap();
    }
}

#[test]
fn a_file_that_cannot_be_read_is_told_with_what_is_wrong_elsewhere() {
    let folder = Folder::new("unreadable");
    folder.write("latin.yaml", b"zone: a\nsource: M\xfcller\n");
    folder.write("targets.txt", b"192.0.2.1\n\xff\n");
    for (arguments, stderr) in [
        (
            &["--config", "none.yaml"][..],
            "error: --config none.yaml: No such file or directory (os error 2)\n",
        ),
        (&["PODSONAR_CONFIG=none"], "error: PODSONAR_CONFIG=none: No such file or directory (os error 2)\n"),
        (&["--config", "."], "error: --config .: Is a directory (os error 21)\n"),
        (&["--config", "latin.yaml"], "error: --config latin.yaml: not text: line 2 is not UTF-8\n"),
        (
            &["--config", "/dev/zero"],
            "error: --config /dev/zero: larger than 16 MiB; is it the right file?\n",
        ),
        (
            &["--targets-file", "targets.txt", "--size", "1"],
            "error: --size 1: must be a whole number from 56 to 65507\n\
             error: --targets-file targets.txt: not text: line 2 is not UTF-8\n",
        ),
    ] {
        let output = folder.run(&[&["check-config"], arguments].concat());
        let said = String::from_utf8(output.stderr).unwrap();
        let (mut said, mut wanted): (Vec<_>, Vec<_>) = (said.lines().collect(), stderr.lines().collect());
        said.sort_unstable();
        wanted.sort_unstable();
        assert_eq!(said, wanted);
        assert_eq!(output.status.code(), Some(2));
    }
}

#[test]
fn print_config_says_where_each_value_comes_from_and_can_be_fed_back() {
    let folder = Folder::new("print");
    folder.write("list.txt", "192.0.2.9\n");
    folder.write(
        "config.yaml",
        "zone: it's\nprobes: { interval: 2s, timeout: 500ms }\ntargets_file: list.txt\n\
         targets:\n  - 192.0.2.1:443\n  - { target: 'db.example:5432', protocols: [connect], timeout: 5s }\n\
         dns:\n  names: [{ name: www.example., expect: [192.0.2.7] }, { name: a.example, protocols: [] }]\n\
         \x20 servers: [192.0.2.53]\n  search: [x.example]\nmetrics: { buckets: { rtt_seconds: [0.001, 0.1] } }\n",
    );
    let arguments = [
        "print-config",
        "PODSONAR_CONFIG=config.yaml",
        "PODSONAR_LOG=debug",
        "--interval",
        "3s",
        "--target",
        "::1",
    ];
    let first = printed(&folder, &arguments);
    for line in [
        "source: 'test'  # $NODE_NAME",
        "zone: 'it''s'  # config.yaml:1",
        "  level: 'debug'  # $PODSONAR_LOG",
        "# record:  # default: nothing is recorded",
        "  interval: '3s'  # --interval",
        "  timeout: '500ms'  # config.yaml:2",
        "  max_pps: 20000  # default",
        "  - '::1'  # --target",
        "  - '192.0.2.1:443'  # config.yaml:5",
        "  - {target: 'db.example:5432', timeout: '5s', protocols: ['connect']}  # config.yaml:6",
        "targets_file: 'list.txt'  # config.yaml:3",
        "    - {name: 'www.example.', expect: ['192.0.2.7']}  # config.yaml:8",
        "    - {name: 'a.example', protocols: []}  # config.yaml:8",
        "    rtt_seconds: [0.001, 0.1]  # config.yaml:11",
    ] {
        assert!(first.lines().any(|found| found == line), "{line} is not in\n{first}");
    }
    folder.write("printed.yaml", &first);
    let second = printed(&folder, &["print-config", "--config", "printed.yaml", "NODE_NAME="]);
    let values = |text: &str| text.lines().map(|line| line.split("  # ").next().unwrap().into()).collect();
    let (first, second): (Vec<String>, Vec<String>) = (values(&first), values(&second));
    assert_eq!(first, second);
}

fn printed(folder: &Folder, arguments: &[&str]) -> String {
    let output = folder.run(arguments);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    assert_eq!(output.status.code(), Some(0));
    String::from_utf8(output.stdout).unwrap()
}

#[test]
fn checking_needs_no_privilege() {
    let output = Command::new("setpriv")
        .args(["--bounding-set", "-all", "--inh-caps", "-all", "--reuid", "65534", "--clear-groups", "--"])
        .arg(env!("CARGO_BIN_EXE_podsonar"))
        .args(["check-config", "--target", "192.0.2.1:80", "--name", "www.example."])
        .output()
        .expect("setpriv of util-linux");
    assert_eq!(String::from_utf8_lossy(&output.stdout), "ok: 2 targets, 1 names to ask for\n");
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn the_page_of_settings_has_a_valid_example_of_every_setting_and_the_table_of_all() {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../docs/configuration.md");
    let page = fs::read_to_string(&path).unwrap();
    let (_, every_setting) = page.split_once("Here is every setting:\n\n```yaml\n").unwrap();
    let example = every_setting.split("```").next().unwrap();
    let folder = Folder::new("readme");
    folder.write("config.yaml", example);
    folder.write("targets.txt", "192.0.2.9\n");
    let output = folder.run(&["check-config", "--config", "config.yaml"]);
    assert_eq!(String::from_utf8_lossy(&output.stderr), "");
    let shown = printed(&folder, &["print-config", "--config", "config.yaml"]);
    let unset: Vec<_> = shown.lines().filter(|line| line.contains("# default")).collect();
    assert!(unset.is_empty(), "the example leaves out {unset:#?}");

    compare_table("docs/configuration.md", "settings", &podsonar_core::config::setting::markdown_table());
}
