//! Full handshakes with real servers, in network namespaces of their own (root, `ip` and `nft` are needed).

use std::future::Future;
use std::net::{SocketAddr, TcpListener};
use std::process::Command;
use std::thread;
use std::time::Duration;

use nix::sched::{CloneFlags, unshare};
use podsonar::clock;
use podsonar::probe::connect::{End, Ended, connect};
use podsonar_core::outcome::{SendError, Unreachable};
use socket2::{Domain, Socket, Type};
use tokio::runtime;

/// Long enough for any answer here.
const LONG: Duration = Duration::from_mins(1);
/// For what is never answered.
const SHORT: Duration = Duration::from_millis(50);

const HOSTS: [&str; 2] = ["127.0.0.2", "[::1]"];

#[test]
fn an_accepted_connection_is_connected_and_the_server_reads_its_end() {
    on_a_host(|| {
        for host in HOSTS {
            let listener = TcpListener::bind(format!("{host}:0")).unwrap();
            let Ended { started, ended, end } = run(connect(listener.local_addr().unwrap(), LONG));
            assert_eq!(end, End::Connected, "{host}");
            assert!(ended > started);
            let (mut connection, _) = listener.accept().unwrap();
            // An end, and no reset.
            assert_eq!(std::io::Read::read(&mut connection, &mut [0]).unwrap(), 0, "{host}");
        }
    });
}

#[test]
fn a_closed_port_refuses() {
    on_a_host(|| {
        for host in HOSTS {
            assert_eq!(run(connect(at(host, 81), LONG)).end, End::Refused, "{host}");
        }
    });
}

#[test]
fn silence_is_loss_after_the_timeout() {
    on_a_host(|| {
        firewall(&["meta l4proto tcp drop"]);
        for host in HOSTS {
            let ended = run(connect(at(host, 81), SHORT));
            assert_eq!(ended.end, End::Lost, "{host}");
            assert!(ended.ended.since(ended.started) >= SHORT);
        }
    });
}

#[test]
fn a_full_accept_queue_is_silence() {
    on_a_host(|| {
        for host in HOSTS {
            let listener = Socket::new(Domain::for_address(at(host, 0)), Type::STREAM, None).unwrap();
            listener.bind(&at(host, 0).into()).unwrap();
            // A backlog of 0 is a queue of one.
            listener.listen(0).unwrap();
            let address = listener.local_addr().unwrap().as_socket().unwrap();
            let _waiting = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(run(connect(address, SHORT)).end, End::Lost, "{host}");
        }
    });
}

#[test]
fn icmp_errors_are_told_apart_from_a_reset() {
    on_a_host(|| {
        firewall(&[
            "meta l4proto tcp th dport 81 reject with icmpx type port-unreachable",
            "meta l4proto tcp th dport 82 reject with icmpx type admin-prohibited",
            "meta l4proto tcp th dport 83 reject with icmpx type host-unreachable",
            "meta l4proto tcp th dport 84 reject with tcp reset",
        ]);
        for host in HOSTS {
            for (port, end) in [
                (81, End::Unreachable(Unreachable::Port)),
                (82, End::Unreachable(Unreachable::Prohibited)),
                (83, End::Unreachable(Unreachable::Host)),
                (84, End::Refused),
            ] {
                assert_eq!(run(connect(at(host, port), LONG)).end, end, "{host} {port}");
            }
        }
    });
}

#[test]
fn without_a_route_or_a_port_nothing_is_sent() {
    on_a_host(|| {
        for nowhere in ["192.0.2.1", "[2001:db8::1]"] {
            assert_eq!(
                run(connect(at(nowhere, 80), LONG)).end,
                End::NotSent(SendError::NoRoute),
                "{nowhere}"
            );
        }
        // One port for everybody, and it is taken.
        std::fs::write("/proc/sys/net/ipv4/ip_local_port_range", "40000 40000").unwrap();
        for host in HOSTS {
            let listener = TcpListener::bind(format!("{host}:80")).unwrap();
            let address = listener.local_addr().unwrap();
            let _only = std::net::TcpStream::connect(address).unwrap();
            assert_eq!(run(connect(address, LONG)).end, End::NotSent(SendError::NoSource), "{host}");
        }
    });
}

#[test]
fn a_starved_process_believes_the_kernel() {
    on_a_host(|| {
        for host in HOSTS {
            let listener = TcpListener::bind(format!("{host}:0")).unwrap();
            let open = listener.local_addr().unwrap();
            // The server answers at once, and this process looks long after the timeout.
            let ended = run(starved(open));
            assert_eq!(ended.end, End::Connected, "{host}");
            assert!(ended.ended.since(ended.started) <= SHORT);
            // Of a reset nobody knows when it came.
            assert_eq!(run(starved(at(host, 81))).end, End::Unclear, "{host}");
        }
    });
}

/// Connects on a thread that is kept busy until long after the timeout.
async fn starved(to: SocketAddr) -> Ended {
    let handshake = tokio::spawn(connect(to, SHORT));
    tokio::task::yield_now().await;
    let busy_until = clock::now() + 2 * SHORT;
    while clock::now() < busy_until {
        std::hint::spin_loop();
    }
    handshake.await.unwrap()
}

fn run<T>(future: impl Future<Output = T>) -> T {
    runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

fn at(host: &str, port: u16) -> SocketAddr {
    format!("{host}:{port}").parse().unwrap()
}

/// Runs a test's body on a thread with a network namespace of its own, which has only loopback.
pub(crate) fn on_a_host(body: impl FnOnce() + Send + 'static) {
    let host = thread::spawn(|| {
        unshare(CloneFlags::CLONE_NEWNET).expect("a network namespace (CAP_SYS_ADMIN) is needed");
        command("ip link set lo up");
        body();
    });
    if let Err(panic) = host.join() {
        std::panic::resume_unwind(panic);
    }
}

/// Rules for what this host receives.
fn firewall(rules: &[&str]) {
    command("nft add table inet t");
    command("nft add chain inet t c { type filter hook input priority 0 ; }");
    for rule in rules {
        command(&format!("nft add rule inet t c {rule}"));
    }
}

pub(crate) fn command(line: &str) {
    let mut words = line.split_whitespace();
    let output = Command::new(words.next().unwrap()).args(words).output().unwrap();
    assert!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
}
