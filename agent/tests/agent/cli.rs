//! The program as a user meets it: what it says and how it ends when something is wrong.

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};

use rustix::process::{Pid, Signal, kill_process};

#[test]
fn version_is_one_line() {
    let output = podsonar(&["--version"]);
    assert_eq!(String::from_utf8_lossy(&output.stdout), format!("podsonar {}\n", env!("CARGO_PKG_VERSION")));
    assert_eq!(output.status.code(), Some(0));
}

#[test]
fn no_targets_is_an_error_with_an_example() {
    refused(
        &["run"],
        "error: nothing to probe: name a target, for example --target 192.0.2.1 or --target 192.0.2.1:443\n",
    );
}

#[test]
fn all_problems_are_told_at_once() {
    let file = scratch("targets", "# ours\n10.0.0.1\n\n10.0.0.1:99999 # typo\n-example.org\n");
    let name = file.display();
    refused(
        &[
            "run",
            "--target",
            "0.0.0.0",
            "--targets-file",
            &name.to_string(),
            "--interval",
            "100ms",
            "--timeout",
            "1s",
            "--target",
            "127.0.0.1:80",
            "--listen",
            "9988",
            "--size",
            "1",
        ],
        &format!(
            "error: --target: `0.0.0.0` is the unspecified address, which no host has: write the host's own address\n\
             error: --interval 100ms: must be at least 250ms for tcp and connect, at most 4 SYN/s to a target; raise \
             it, or use the protocol icmp\n\
             error: --timeout 1s: must be below 950ms for tcp, because targets send a SYN-ACK again after 1 s; use \
             the default 800ms, or the protocols icmp and connect\n\
             error: --listen 9988: not an address and port; write for example 127.0.0.1:19988 or [::]:19988\n\
             error: --size 1: must be a whole number from 56 to 65507\n\
             error: {name}:4: `10.0.0.1:99999` has no usable port: write a number from 1 to 65535 after the address\n\
             error: {name}:5: `-example.org` is not a name: 1 to 63 letters, digits, `-` or `_` between two dots, no \
             `-` at their ends, 253 in all\n"
        ),
    );
    fs::remove_file(file).unwrap();
}

#[test]
fn in_a_cluster_everything_that_the_manifest_leaves_out_is_told_at_once() {
    let output = program(&["run"])
        .env("KUBERNETES_SERVICE_HOST", "10.96.0.1")
        .env("KUBERNETES_SERVICE_PORT", "443")
        .env("POD_IPS", "10.0.0.2,ten")
        .output()
        .unwrap();
    let stderr = String::from_utf8_lossy(&output.stderr);
    for name in ["POD_NAME", "POD_NAMESPACE", "POD_UID", "HOST_IPS"] {
        assert!(
            stderr.contains(&format!("error: {name}: is not set, and this runs in a Kubernetes cluster")),
            "{stderr}"
        );
    }
    assert!(
        stderr.contains("error: POD_IPS=10.0.0.2,ten: must be IP addresses with commas between them"),
        "{stderr}"
    );
    assert_eq!((stderr.lines().count(), output.status.code()), (5, Some(2)), "{stderr}");
}

#[test]
fn a_missing_targets_file_is_named_once() {
    refused(
        &["run", "--targets-file", "/nonexistent/targets"],
        "error: --targets-file /nonexistent/targets: No such file or directory (os error 2)\n",
    );
}

#[test]
fn an_empty_targets_file_is_nothing_to_probe() {
    let file = scratch("empty", "\n# nobody\n");
    refused(
        &["run", "--targets-file", &file.display().to_string()],
        "error: nothing to probe: name a target, for example --target 192.0.2.1 or --target 192.0.2.1:443\n",
    );
    fs::remove_file(file).unwrap();
}

#[test]
fn an_unknown_log_level_is_refused() {
    let output = program(&["run", "--target", "127.0.0.1"]).env("PODSONAR_LOG", "loud").output().unwrap();
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: PODSONAR_LOG=loud: must be one of error, warn, info, debug, trace\n"
    );
    assert_eq!(output.status.code(), Some(2));
}

#[test]
fn unknown_flags_and_formats_are_usage_errors() {
    for arguments in [&["run", "--tarrget", "127.0.0.1"][..], &["run", "--log-format", "xml"], &["fly"], &[]]
    {
        assert_eq!(podsonar(arguments).status.code(), Some(2), "{arguments:?}");
    }
}

#[test]
fn a_port_in_use_is_one_line() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    let output = podsonar(&["run", "--target", "127.0.0.1", "--listen", &address]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        format!("error: --listen {address}: the port is in use; choose another one\n")
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_record_that_cannot_be_opened_is_one_line() {
    let output = podsonar(&[
        "run",
        "--target",
        "127.0.0.1",
        "--listen",
        "127.0.0.1:0",
        "--record",
        "/nonexistent/record",
    ]);
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: --record /nonexistent/record: No such file or directory (os error 2)\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

#[test]
fn a_missing_privilege_is_one_line_with_the_remedy() {
    // setpriv(1) and unshare(1) are of util-linux, which every Linux has. The program must be where nobody can reach
    // it. A fresh network namespace has no ping group, whatever this machine has.
    let output = Command::new("unshare")
        .args(["--net", "--", "setpriv"])
        .args(["--bounding-set", "-all", "--inh-caps", "-all", "--reuid", "65534", "--clear-groups", "--"])
        .arg(env!("CARGO_BIN_EXE_podsonar"))
        .args(["run", "--target", "127.0.0.1", "--listen", "127.0.0.1:0"])
        .output()
        .expect("unshare of util-linux");
    assert_eq!(
        String::from_utf8_lossy(&output.stderr),
        "error: cannot probe by ICMP over IPv4: the capability CAP_NET_RAW is missing (run as root, or `setcap \
         cap_net_raw+ep` on the program, or add NET_RAW to the container's securityContext.capabilities); \
         without it, the sysctl net.ipv4.ping_group_range must cover one of this process's groups\n"
    );
    assert_eq!(output.status.code(), Some(1));
}

/// Needs `CAP_NET_RAW`; without it this fails and shows the agent's own words.
#[test]
fn a_signal_ends_it_in_order_with_everything_recorded() {
    for signal in [Signal::TERM, Signal::INT] {
        let record = scratch("record", "");
        let mut agent = Running::start(&record);
        let mut log = BufReader::new(agent.0.stderr.take().unwrap());
        let mut first = String::new();
        log.read_line(&mut first).unwrap();
        assert!(first.contains("\"message\":\"probing\""), "{first}");
        let address = first.split("\"http://").nth(1).and_then(|rest| rest.split('/').next()).unwrap();
        let third = "destination=\"127.0.0.1\",result=\"reply\"} 3";
        assert!((0..100_000).any(|_| get(address, "/metrics").contains(third)));
        assert!(get(address, "/readyz").starts_with("HTTP/1.1 200"));
        kill_process(Pid::from_child(&agent.0), signal).unwrap();
        assert_eq!(agent.0.wait().unwrap().code(), Some(0));
        let text = fs::read_to_string(&record).unwrap();
        assert!(text.lines().count() >= 3 && text.ends_with("}\n"), "{text}");
        fs::remove_file(record).unwrap();
        let mut shown = String::new();
        agent.0.stdout.take().unwrap().read_to_string(&mut shown).unwrap();
        assert_eq!(shown, "", "only a terminal is told what is measured");
    }
}

/// Needs `CAP_NET_RAW`.
#[test]
fn a_terminal_gets_a_line_each_second() {
    // script(1) of util-linux gives the agent a terminal and shows what it says there.
    let run = format!("exec {} run --target 127.0.0.1 --listen 127.0.0.1:0", env!("CARGO_BIN_EXE_podsonar"));
    let mut script = Command::new("script");
    script.args(["--quiet", "--return", "--command", &run, "/dev/null"]).env_remove("PODSONAR_LOG");
    let mut script = Running(script.stdout(Stdio::piped()).spawn().expect("script of util-linux"));
    let mut lines = BufReader::new(script.0.stdout.take().unwrap()).lines().map(Result::unwrap);
    let second = lines.find(|line| line.contains("     1 answered")).unwrap();
    assert!(second.contains("     0 lost     0 other   round trips 0."), "{second}");
    assert!(second.trim_end().ends_with("(least/mean/most)   1 answering"), "{second}");
    let id = script.0.id();
    let children = fs::read_to_string(format!("/proc/{id}/task/{id}/children")).unwrap();
    let agent = Pid::from_raw(children.trim().parse().unwrap()).unwrap();
    kill_process(agent, Signal::TERM).unwrap();
    assert!(lines.any(|line| line.contains("stopping")));
    assert_eq!(script.0.wait().unwrap().code(), Some(0));
}

/// An agent that is gone when its test is.
struct Running(Child);

impl Running {
    fn start(record: &Path) -> Self {
        let arguments = ["run", "--target", "127.0.0.1", "--target", "127.0.0.1:9", "--interval", "250ms"];
        let mut program = program(&arguments);
        program.args(["--listen", "127.0.0.1:0", "--log-format", "json", "--record"]).arg(record);
        Self(program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Both fail only if it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(address: &str, path: &str) -> String {
    let mut stream = TcpStream::connect(address).unwrap();
    write!(stream, "GET {path} HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    stream.read_to_string(&mut answer).unwrap();
    answer
}

/// What the user wrote is refused with exactly this.
fn refused(arguments: &[&str], stderr: &str) {
    let output = podsonar(arguments);
    assert_eq!(String::from_utf8_lossy(&output.stderr), stderr);
    assert_eq!(output.status.code(), Some(2));
    assert!(output.stdout.is_empty());
}

fn podsonar(arguments: &[&str]) -> Output {
    program(arguments).output().unwrap()
}

fn program(arguments: &[&str]) -> Command {
    let mut program = Command::new(env!("CARGO_BIN_EXE_podsonar"));
    program.args(arguments).env_remove("PODSONAR_LOG").env("NODE_NAME", "test");
    program
}

fn scratch(name: &str, text: &str) -> PathBuf {
    let file = PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(format!("cli-{name}-{}", std::process::id()));
    fs::write(&file, text).unwrap();
    file
}
