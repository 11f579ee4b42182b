//! `podsonar-lab mesh`, as `make run` starts it.

use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use podsonar_lab::clock::{soon, wait_until};
use std::io::{Read, Write};
use std::net::{Ipv4Addr, SocketAddr, TcpStream};
use std::process::{Child, Command, Stdio};

#[test]
fn the_mesh_to_look_at_serves_all_its_agents_and_ends_on_a_signal() {
    // A loopback address of this test's own, so that nobody else has its ports.
    let [high, low] = (std::process::id() as u16).to_be_bytes();
    let address = Ipv4Addr::new(127, 19, high, low);
    let mut show = Shown::start(&["--address", &address.to_string(), "--port", "19988"]);
    for (port, node) in [(19988, "node-1"), (19987, "node-2"), (19986, "node-3")] {
        let sees_all = |words: &str| {
            words.contains(&format!("on {node} in zone"))
                && words.contains("agent    2 answering\n")
                && words.contains("pod      6 answering\n")
        };
        wait_until(soon(), node, || {
            // Nobody listens before all agents run.
            let words = get(SocketAddr::from((address, port))).unwrap_or_default();
            Ok(sees_all(&words).then_some(()))
        })
        .unwrap();
    }
    kill(Pid::from_raw(show.0.id().cast_signed()), Signal::SIGTERM).unwrap();
    let mut words = String::new();
    show.0.stdout.take().unwrap().read_to_string(&mut words).unwrap();
    assert!(show.0.wait().unwrap().success(), "{words}");
    assert!(words.starts_with("3 nodes are up after"), "{words}");
    assert!(words.contains(&format!("node-3 in zone-3: 10.77.0.3   http://{address}:19986/")), "{words}");
    assert!(words.ends_with("Ctrl-C ends it.\nall of it is gone\n"), "only a terminal gets lines: {words}");
}

/// The program; killed on drop, and by the kernel if this test dies before.
struct Shown(Child);

impl Shown {
    fn start(arguments: &[&str]) -> Self {
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", env!("CARGO_BIN_EXE_podsonar-lab"), "mesh"]).args(arguments);
        command.stdin(Stdio::null()).stdout(Stdio::piped());
        // The agent is looked for beside tests, where it is not beside the program.
        command.env(podsonar_lab::agent::BINARY_VARIABLE, podsonar_lab::agent::binary().unwrap());
        Self(command.spawn().unwrap())
    }
}

impl Drop for Shown {
    fn drop(&mut self) {
        // Both fail only for a process that has ended and was reaped.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn get(server: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect(server)?;
    stream.write_all(b"GET / HTTP/1.1\r\nhost: mesh\r\nconnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    Ok(text)
}
