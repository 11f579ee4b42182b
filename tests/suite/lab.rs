//! The lab itself: hosts, programs in them, captures, servers, quotas, and that nothing of it is ever left behind.

use nix::sys::signal::Signal;
use nix::unistd::Pid;
use podsonar_lab::capture::Captured;
use podsonar_lab::clock::{soon, unix_ns, wait_until};
use podsonar_lab::packet::{Body, Packet};
use podsonar_lab::server::{FullListener, Listener};
use podsonar_lab::wire::{Reply, Wire};
use podsonar_lab::{Cgroup, Host, Lab, LabError};
use std::collections::BTreeSet;
use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

#[test]
fn hosts_on_a_veth_reach_each_other_by_both_families() {
    let (left, right, veth) = veth_pair();
    left.run(&format!("ping -c 1 -W 10 {}", veth.right.v4)).unwrap();
    right.run(&format!("ping -c 1 -W 10 {}", veth.left.v6)).unwrap();
}

#[test]
fn labs_side_by_side_use_the_same_addresses() {
    let (first, second) = (veth_pair(), veth_pair());
    assert_eq!(first.2.right.v4, second.2.right.v4);
    for (left, _, veth) in [&first, &second] {
        left.run(&format!("ping -c 1 -W 10 {}", veth.right.v4)).unwrap();
    }
}

#[test]
fn the_machine_sees_nothing_of_a_lab() {
    let before = machine();
    let (left, _right, _veth) = veth_pair();
    left.nft("add table inet lab_test").unwrap();
    left.sysctl("net.ipv4.icmp_echo_ignore_all", "1").unwrap();
    left.route("198.51.100.0/24", Ipv4Addr::new(10, 0, 0, 2)).unwrap();
    assert_eq!(machine(), before);
}

#[test]
fn sysctls_of_the_machine_are_refused() {
    let host = Lab::new().unwrap().host("host").unwrap();
    assert!(matches!(host.sysctl("kernel.hostname", "x"), Err(LabError::Malformed { .. })));
}

#[test]
fn one_host_answers_for_many_addresses() {
    let (left, right, veth) = veth_pair();
    for (prefix, via, address) in [
        ("198.18.0.0/16", IpAddr::from(veth.right.v4), "198.18.250.3"),
        ("fd01::/64", IpAddr::from(veth.right.v6), "fd01::abcd"),
    ] {
        right.answer_for(prefix).unwrap();
        left.route(prefix, via).unwrap();
        left.run(&format!("ping -c 1 -W 10 {address}")).unwrap();
    }
}

#[test]
fn closure_runs_in_the_host() {
    let host = Lab::new().unwrap().host("host").unwrap();
    let inside = host.enter(|| fs::read_link("/proc/thread-self/ns/net").unwrap()).unwrap();
    assert_ne!(inside, fs::read_link("/proc/thread-self/ns/net").unwrap());
}

#[test]
fn failing_command_tells_its_error() {
    let host = Lab::new().unwrap().host("host").unwrap();
    let error = host.run("ip link show nothing").unwrap_err().to_string();
    assert!(error.contains("nothing") && error.contains("does not exist"), "{error}");
    let error = host.run("no-such-program").unwrap_err().to_string();
    assert!(error.contains("packages.txt"), "{error}");
}

#[test]
fn lines_are_waited_for_and_a_silent_end_is_noticed() {
    let host = Lab::new().unwrap().host("host").unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "echo one; echo two >&2; echo three"]);
    let mut process = host.spawn(command).unwrap();
    assert_eq!(process.wait_for_line(soon(), |line| line.starts_with("tw")).unwrap(), "two");
    assert!(matches!(process.wait_for_line(soon(), |line| line == "four"), Err(LabError::Deadline { .. })));
    assert!(process.wait(soon()).unwrap().success());
}

#[test]
fn dropped_process_is_dead() {
    let host = Lab::new().unwrap().host("host").unwrap();
    let process = host.spawn(sleep()).unwrap();
    let id = process.id();
    drop(process);
    assert!(!Path::new(&format!("/proc/{id}")).exists());
}

#[test]
fn cpu_time_of_a_spinning_process_grows_and_its_quota_throttles_it() {
    let host = Lab::new().unwrap().host("host").unwrap();
    let cgroup = Cgroup::with_cpu_quota(0.05).unwrap();
    let mut command = Command::new("sh");
    command.args(["-c", "while :; do :; done"]);
    let process = host.spawn(cgroup.command(&command)).unwrap();
    wait_until(soon(), "CPU time", || Ok((process.cpu_time()? > Duration::from_millis(20)).then_some(())))
        .unwrap();
    wait_until(soon(), "throttling", || Ok((cgroup.throttled()? > 1).then_some(()))).unwrap();
}

#[test]
fn capture_tells_directions_and_stamps_between_the_clock_readings_around_it() {
    let (left, right, veth) = veth_pair();
    let captures =
        [left.capture(&veth.left.interface).unwrap(), right.capture(&veth.right.interface).unwrap()];
    let before = unix_ns();
    left.run(&format!("ping -c 20 -i 0.002 -W 10 {}", veth.right.v4)).unwrap();
    let after = unix_ns();
    let [near, far] = captures.map(|capture| capture.stop().unwrap());
    for (packets, sends) in [(near, true), (far, false)] {
        let echoes = packets.iter().filter_map(|one| Some((one, one.packet()?.body)));
        let requests: Vec<_> = echoes.filter(|(_, body)| matches!(body, Body::EchoRequest(_))).collect();
        assert_eq!(requests.len(), 20);
        for (captured, _) in requests {
            assert_eq!(captured.outgoing, sends);
            assert!((before..=after).contains(&captured.time_ns));
        }
    }
}

#[test]
fn capture_stopped_at_once_has_every_packet_sent_before() {
    let (left, _right, veth) = veth_pair();
    for _ in 0..20 {
        let capture = left.capture(&veth.left.interface).unwrap();
        let target = SocketAddr::from((veth.right.v4, 9));
        left.enter(|| UdpSocket::bind("0.0.0.0:0").unwrap().send_to(b"last", target).unwrap()).unwrap();
        let packets = capture.stop().unwrap();
        let is_ours =
            |packet: Packet<'_>| matches!(packet.body, Body::Other(bytes) if bytes.ends_with(b"last"));
        assert!(packets.iter().filter_map(Captured::packet).any(is_ours));
    }
}

#[test]
fn wire_pairs_each_ping_with_its_reply_by_both_families() {
    let (left, _right, veth) = veth_pair();
    let capture = left.capture(&veth.left.interface).unwrap();
    for address in [IpAddr::from(veth.right.v4), IpAddr::from(veth.right.v6)] {
        left.run(&format!("ping -c 10 -i 0.002 -W 10 {address}")).unwrap();
    }
    let wire = Wire::new(&capture.stop().unwrap());
    assert_eq!(wire.probes().len(), 20);
    for probe in wire.probes() {
        assert_eq!((probe.sent, probe.replies), (1, 1));
        assert!(probe.is_answered_within(Duration::from_secs(10)));
    }
}

#[test]
fn listener_counts_what_its_application_accepts() {
    let (left, right, veth) = veth_pair();
    let listener = Listener::start(&right, SocketAddr::from((veth.right.v4, 0))).unwrap();
    let mut text = String::new();
    let mut stream = left.enter(|| TcpStream::connect(listener.address)).unwrap().unwrap();
    stream.write_all(b"GET / HTTP/1.1\r\n\r\n").unwrap();
    stream.read_to_string(&mut text).unwrap();
    assert!(text.starts_with("HTTP/1.1 200 OK"), "{text}");
    assert_eq!(listener.accepted(), 1);
}

#[test]
fn full_listener_is_silent_while_a_closed_port_resets() {
    let (left, right, veth) = veth_pair();
    let full = FullListener::start(&right, SocketAddr::from((veth.right.v4, 0))).unwrap();
    let closed = SocketAddr::from((veth.right.v4, 9));
    let capture = left.capture(&veth.left.interface).unwrap();
    let connect =
        |target| left.enter(|| TcpStream::connect_timeout(&target, Duration::from_millis(300))).unwrap();
    assert_eq!(connect(full.address).unwrap_err().kind(), std::io::ErrorKind::TimedOut);
    assert_eq!(connect(closed).unwrap_err().kind(), std::io::ErrorKind::ConnectionRefused);
    let wire = Wire::new(&capture.stop().unwrap());
    let replies: Vec<_> =
        wire.probes().iter().map(|probe| probe.first_reply.map(|(_, reply)| reply)).collect();
    assert_eq!(replies, [None, Some(Reply::Reset)]);
}

#[test]
fn killed_lab_takes_its_daemons_namespaces_and_cgroups_with_it() {
    // A program that starts another which leaves its session and is orphaned, as daemons do.
    let script = "(setsid sleep 1000 >/dev/null 2>&1 &); echo up; exec sleep 1000";
    let mut holder = Holder::start(&["--cpu", "0.5", "--", "sh", "-c", script]);
    let mut up = String::new();
    let output = holder.0.stdout.take().expect("captured");
    BufReader::new(output).read_line(&mut up).unwrap();
    assert_eq!(up, "up\n");
    let namespaces = namespaces_below(holder.0.id());
    assert!(namespaces.len() >= 5, "a process-id and two network and mount namespaces: {namespaces:?}");
    let cgroups = cgroups_of(holder.0.id());
    assert_eq!(cgroups.len(), 1, "{cgroups:?}");

    nix::sys::signal::kill(Pid::from_raw(holder.0.id().cast_signed()), Signal::SIGKILL).unwrap();
    holder.0.wait().unwrap();
    wait_until(soon(), "the lab's namespaces to vanish", || {
        Ok(namespaces_in_use().is_disjoint(&namespaces).then_some(()))
    })
    .unwrap();
    Lab::new().unwrap();
    assert_eq!(cgroups_of(holder.0.id()), BTreeSet::new(), "the next lab sweeps them");
}

#[test]
fn demo_publishes_a_port_of_its_host_and_ends_on_a_signal() {
    let port = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).unwrap().local_addr().unwrap().port();
    let mut holder = Holder::start(&["--publish", &port.to_string(), "--", "sleep", "1000"]);
    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    wait_until(soon(), "the published port", || Ok(TcpStream::connect(address).ok().map(drop))).unwrap();
    nix::sys::signal::kill(Pid::from_raw(holder.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    holder.0.wait().unwrap();
}

fn veth_pair() -> (Host, Host, podsonar_lab::lab::Veth) {
    let lab = Lab::new().expect("a lab");
    let (left, right) = (lab.host("left").expect("a host"), lab.host("right").expect("a host"));
    let veth = lab.veth(&left, &right).expect("a veth pair");
    (left, right, veth)
}

fn sleep() -> Command {
    let mut command = Command::new("sleep");
    command.arg("1000");
    command
}

/// What the machine itself shows to its programs.
fn machine() -> Vec<String> {
    let commands = [
        "ip -o link",
        "ip route show table all",
        "ip -6 route show table all",
        "ip netns list",
        "nft list ruleset",
        "cat /proc/sys/net/ipv4/icmp_echo_ignore_all",
    ];
    let show = |line: &str| {
        let mut words = line.split(' ');
        let output = Command::new(words.next().expect("a program")).args(words).output().expect("installed");
        String::from_utf8_lossy(&output.stdout).into_owned()
    };
    commands.into_iter().map(show).collect()
}

/// `podsonar-lab demo`, a process that holds a lab; killed on drop.
struct Holder(Child);

impl Holder {
    fn start(arguments: &[&str]) -> Self {
        // Killed by the kernel if this test dies before it drops the holder.
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_podsonar-lab"), "demo"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        Self(command.spawn().expect("setpriv is installed"))
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Namespaces that processes below one are in or hold by descriptors, without this process's own.
fn namespaces_below(ancestor: u32) -> BTreeSet<String> {
    let mut found: BTreeSet<String> = processes()
        .filter(|&process| process == ancestor || parent(process) == Some(ancestor))
        .flat_map(namespaces_of)
        .collect();
    for own in namespaces_of(std::process::id()) {
        found.remove(&own);
    }
    found
}

fn namespaces_in_use() -> BTreeSet<String> {
    processes().filter(|&process| process != std::process::id()).flat_map(namespaces_of).collect()
}

/// Names such as `net:[4026531840]` of what a process is in and of what it holds open. One that ends meanwhile has none.
fn namespaces_of(process: u32) -> Vec<String> {
    let links = |folder: &str| {
        let entries = fs::read_dir(format!("/proc/{process}/{folder}")).into_iter().flatten();
        entries
            .filter_map(|entry| fs::read_link(entry.ok()?.path()).ok()?.into_os_string().into_string().ok())
    };
    let is_namespace = |name: &String| ["net:[", "pid:[", "mnt:["].iter().any(|kind| name.starts_with(kind));
    links("ns").chain(links("fd")).filter(is_namespace).collect()
}

fn processes() -> impl Iterator<Item = u32> {
    let entries = fs::read_dir("/proc").expect("/proc");
    entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok())
}

fn parent(process: u32) -> Option<u32> {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).ok()?;
    stat.rsplit(')').next()?.split_whitespace().nth(1)?.parse().ok()
}

/// The lab's cgroups that this process owns.
fn cgroups_of(owner: u32) -> BTreeSet<String> {
    let roots = ["/sys/fs/cgroup/cpu", "/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup"];
    let entries = roots.iter().filter_map(|root| fs::read_dir(root).ok()).flatten();
    let names = entries.filter_map(|entry| entry.ok()?.file_name().into_string().ok());
    names.filter(|name| name.starts_with(&format!("podsonar-lab-{owner}-"))).collect()
}
