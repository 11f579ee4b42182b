//! A running agent and a configuration that changes under it. Needs `CAP_NET_RAW`; probes loopback alone.

use std::fs;
use std::io::{BufRead, BufReader, Lines, Read, Write};
use std::net::TcpStream;
use std::os::unix::fs::symlink;
use std::process::{Child, ChildStderr, Command, Stdio};

use rustix::process::{Pid, Signal, kill_process};

use crate::config::Folder;

#[test]
fn sighup_swaps_targets_and_those_that_stay_keep_their_counts() {
    let folder = Folder::new("sighup");
    folder.write("config.yaml", "probes: { interval: 250ms }\ntargets: [127.0.0.1, 127.0.0.2]\n");
    let mut agent = Agent::start(&folder, &[]);
    agent.wait_for("podsonar_rtt_seconds_count", "127.0.0.1", 3);
    let stays = agent.value("podsonar_rtt_seconds_count", "127.0.0.1");

    folder.write("config.yaml", "probes: { interval: 250ms }\ntargets: [127.0.0.3, 127.0.0.1]\n");
    agent.hang_up();
    assert!(agent.logged("reading the configuration again").contains("\"why\":\"SIGHUP\""));
    let line = agent.logged("configuration reloaded");
    assert!(line.contains("\"targets\":2,\"streams\":2"), "{line}");
    agent.wait_for("podsonar_rtt_seconds_count", "127.0.0.3", 1);
    assert!(agent.value("podsonar_rtt_seconds_count", "127.0.0.1") >= stays);
    assert_eq!(agent.value("podsonar_config_reloads_total", "ok"), 1);
    assert_eq!(agent.value("podsonar_targets", "fixed"), 2);
}

#[test]
fn a_wrong_configuration_changes_nothing_and_is_told() {
    let folder = Folder::new("wrong");
    folder.write("config.yaml", "targets: [127.0.0.1]\n");
    let mut agent = Agent::start(&folder, &[]);
    folder.write("config.yaml", "targets: [127.0.0.2, 0.0.0.0]\nprobes: { intervall: 1s }\n");
    agent.hang_up();
    agent.logged(
        "config.yaml:1: targets: `0.0.0.0` is the unspecified address, which no host has: write the host's own address",
    );
    agent.logged("config.yaml:2: probes.intervall: unknown; did you mean probes.interval?");
    agent.logged("\"problems\":2");
    assert_eq!(agent.value("podsonar_config_reloads_total", "failed"), 1);
    assert_eq!(agent.value("podsonar_config_last_reload_successful", ""), 0);
    agent.wait_for("podsonar_probes_total", "destination=\"127.0.0.1\",result=\"reply\"", 2);
    assert_eq!(agent.value("podsonar_targets", "fixed"), 1);
    assert!(!agent.scrape().contains("127.0.0.2"));

    fs::remove_file(folder.0.join("config.yaml")).unwrap();
    agent.logged("--config config.yaml: No such file or directory (os error 2)");
    agent.logged("\"problems\":1");
    folder.write("config.yaml", "targets: [127.0.0.1, 127.0.0.2]\n");
    assert!(agent.logged("reading the configuration again").contains("config.yaml has changed"));
    agent.logged("configuration reloaded");
    assert_eq!(agent.value("podsonar_config_last_reload_successful", ""), 1);
    assert_eq!(agent.value("podsonar_config_reloads_total", "failed"), 2);
}

#[test]
fn a_config_maps_swapped_link_and_a_changed_targets_file_are_seen() {
    let folder = Folder::new("config-map");
    for (version, target) in [("v1", "127.0.0.1"), ("v2", "127.0.0.2")] {
        fs::create_dir(folder.0.join(version)).unwrap();
        folder.write(
            &format!("{version}/config.yaml"),
            format!("targets: [{target}]\ntargets_file: more.txt\n"),
        );
    }
    symlink("v1", folder.0.join("..data")).unwrap();
    symlink("..data/config.yaml", folder.0.join("config.yaml")).unwrap();
    folder.write("more.txt", "127.0.0.9\n");
    let mut agent = Agent::start(&folder, &[]);

    // As the kubelet does: a new link under another name takes the place of the old one.
    symlink("v2", folder.0.join("..data_tmp")).unwrap();
    fs::rename(folder.0.join("..data_tmp"), folder.0.join("..data")).unwrap();
    assert!(agent.logged("reading the configuration again").contains("config.yaml has changed"));
    assert!(agent.logged("configuration reloaded").contains("\"targets\":2"));
    agent.wait_for("podsonar_probes_total", "destination=\"127.0.0.2\",result=\"reply\"", 1);

    folder.write("more.txt", "127.0.0.9\n127.0.0.10\n");
    assert!(agent.logged("reading the configuration again").contains("more.txt has changed"));
    assert!(agent.logged("configuration reloaded").contains("\"targets\":3"));
}

#[test]
fn what_needs_a_restart_stays_and_is_named() {
    let folder = Folder::new("restart");
    folder.write("config.yaml", "targets: [127.0.0.1]\n");
    let mut agent = Agent::start(&folder, &["--zone", "a"]);
    folder.write(
        "config.yaml",
        "zone: b\nprobes: { size: 100, interval: 500ms }\ntargets: [127.0.0.1, '::1', 'web.test:80']\ndns: { servers: [127.0.0.1] }\nseries: { max: 500 }\n",
    );
    agent.hang_up();
    let line = agent.logged("needs a restart to change");
    assert!(line.contains("\"setting\":\"probes.size\""), "{line}");
    let line = agent.logged("needs a restart to change");
    assert!(line.contains("\"setting\":\"series.max\""), "{line}");
    let line = agent.logged("the first such targets need a restart");
    assert!(line.contains("\"protocol\":\"icmp\",\"family\":\"6\""), "{line}");
    let line = agent.logged("the first such targets need a restart");
    assert!(line.contains("\"protocol\":\"tcp\",\"family\":\"4\""), "{line}");
    agent.logged("configuration reloaded");
    assert_eq!(agent.value("podsonar_build_info", "source=\"flag\",source_zone=\"a\""), 1);
}

/// An agent that is gone when its test is.
pub(crate) struct Agent {
    child: Child,
    log: Lines<BufReader<ChildStderr>>,
    pub(crate) address: String,
}

impl Agent {
    /// Starts it in a folder with `config.yaml`.
    pub(crate) fn start(folder: &Folder, more: &[&str]) -> Self {
        let mut child = Command::new(env!("CARGO_BIN_EXE_podsonar"))
            .args(["run", "--config", "config.yaml", "--listen", "127.0.0.1:0", "--log-format", "json"])
            .args(["--source", "flag"])
            .args(more)
            .env_remove("PODSONAR_LOG")
            .current_dir(&folder.0)
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let first = log.next().unwrap().unwrap();
        let address = first.split("\"http://").nth(1).and_then(|rest| rest.split('/').next());
        let address = address.unwrap_or_else(|| panic!("{first}")).to_owned();
        Self { child, log, address }
    }

    fn hang_up(&self) {
        kill_process(Pid::from_child(&self.child), Signal::HUP).unwrap();
    }

    /// The next line of the log that contains `text`.
    fn logged(&mut self, text: &str) -> String {
        let mut passed = Vec::new();
        for line in self.log.by_ref().map(Result::unwrap) {
            if line.contains(text) {
                return line;
            }
            passed.push(line);
        }
        panic!("the log ended without {text}: {passed:#?}");
    }

    fn scrape(&self) -> String {
        let mut stream = TcpStream::connect(&self.address).unwrap();
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
        let mut answer = String::new();
        stream.read_to_string(&mut answer).unwrap();
        answer
    }

    /// The sum of a metric's samples whose labels contain `part`.
    fn value(&self, name: &str, part: &str) -> u64 {
        let scrape = self.scrape();
        let samples = scrape.lines().filter(|line| line.starts_with(name) && line.contains(part));
        samples.map(|line| line.rsplit(' ').next().unwrap().parse::<u64>().unwrap()).sum()
    }

    pub(crate) fn wait_for(&self, name: &str, part: &str, least: u64) {
        assert!((0..100_000).any(|_| self.value(name, part) >= least), "{name} {part}: {}", self.scrape());
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}
