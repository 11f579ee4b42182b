//! Something that answers for everybody, as service meshes do. Nothing here leaves the test's own hosts.

use std::net::TcpListener;

use podsonar_core::target::Family;
use podsonar_net::interception::{PATIENCE, intercepted_ports};
use podsonar_net::{icmp_errors_arrive, monotonic};

use crate::datagram::lose_privileges;
use crate::host::{Host, firewall, on_a_host, run, sysctl};

#[test]
fn a_redirect_as_of_a_mesh_is_found_for_the_ports_that_it_takes() {
    let (here, _router) = behind_a_router();
    here.run(|| {
        let _proxy = TcpListener::bind("127.0.0.1:15001").unwrap();
        run("nft add table ip mesh");
        run("nft add chain ip mesh output { type nat hook output priority -100 ; }");
        run("nft add rule ip mesh output tcp dport 80 redirect to :15001");
        // The proxy may be down: its RST is no SYN-ACK.
        run("nft add rule ip mesh output tcp dport 81 redirect to :15002");
        assert_eq!(intercepted_ports(&[443, 80, 81], PATIENCE).unwrap(), [80]);
    });
}

#[test]
fn a_network_that_answers_for_nobody_is_not_taken_for_one() {
    let (here, router) = behind_a_router();
    // A router whose packets expire there, and then one that is silent.
    here.run(|| assert_eq!(intercepted_ports(&[80, 443], PATIENCE).unwrap(), []));
    router.run(|| firewall("input", &["drop"]));
    here.run(|| {
        let began = monotonic();
        assert_eq!(intercepted_ports(&[80, 443], PATIENCE / 10).unwrap(), []);
        assert!(monotonic().since(began) >= PATIENCE / 10);
    });
    // No route at all.
    on_a_host(|| assert_eq!(intercepted_ports(&[80], PATIENCE).unwrap(), []));
}

#[test]
fn without_privilege_it_cannot_be_told() {
    on_a_host(|| {
        lose_privileges();
        assert!(intercepted_ports(&[80], PATIENCE).is_err());
    });
}

#[test]
fn whether_icmp_errors_arrive_is_found_out() {
    on_a_host(|| {
        for family in Family::ALL {
            assert!(icmp_errors_arrive(family, PATIENCE).unwrap(), "{family:?}");
        }
        firewall("input", &["meta l4proto { icmp, ipv6-icmp } drop"]);
        for family in Family::ALL {
            assert!(!icmp_errors_arrive(family, PATIENCE / 20).unwrap(), "{family:?}");
        }
    });
}

/// A host whose default route leads to another one that forwards.
fn behind_a_router() -> (Host, Host) {
    let (here, router) = (Host::new(), Host::new());
    here.link(&router);
    here.address("eth0", "10.0.0.1/24");
    router.address("eth0", "10.0.0.9/24");
    router.run(|| sysctl("net.ipv4.ip_forward", "1"));
    here.run(|| run("ip route add default via 10.0.0.9"));
    (here, router)
}
