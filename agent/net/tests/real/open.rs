//! What opening needs, and what it says when it is missing.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use podsonar_core::wire::Channel;
use podsonar_net::{Batch, OpenError, ProbeSockets};
use rustix::thread::{CapabilitySet, capabilities, set_capabilities};

use crate::host::{Host, on_a_host};
use crate::traffic::*;

#[test]
fn without_the_capability_the_error_names_it_and_the_channel() {
    for channel in Channel::ALL {
        on_a_host(move || {
            give_up(CapabilitySet::NET_RAW);
            let mut sockets = ProbeSockets::open(&settings(&[channel]));
            let error = sockets.take_error(channel).expect("no socket");
            assert!(matches!(error, OpenError::NoPermission { channel: of } if of == channel), "{error}");
        });
    }
}

#[test]
fn raw_access_alone_is_enough_and_the_granted_buffer_is_told() {
    on_a_host(|| {
        give_up(CapabilitySet::all() - CapabilitySet::NET_RAW);
        let mut sockets = open(&Channel::ALL);
        for channel in Channel::ALL {
            let limit = std::fs::read_to_string("/proc/sys/net/core/rmem_max").unwrap();
            let limit: usize = limit.trim().parse().unwrap();
            assert_eq!(sockets.granted_buffer(channel), (4 << 20).min(limit * 2), "{channel:?}");
            warm_up(&mut sockets, channel);
        }
    });
}

#[test]
fn what_arrived_before_the_filter_is_never_seen() {
    let host = Host::new();
    let enough = Arc::new(AtomicBool::new(false));
    host.run(move || {
        let stop = Arc::clone(&enough);
        let other = std::thread::spawn(move || {
            let mut other_settings = settings(&[ICMP4]);
            other_settings.icmp_id = ID + 1;
            let mut sockets = ProbeSockets::open(&other_settings);
            let mut batch = Batch::default();
            for cookie in 0..64 {
                echo_with_id(&mut batch, "127.0.0.1", cookie, ID + 1);
            }
            for _ in 0..100_000 {
                if stop.load(Ordering::Relaxed) {
                    break;
                }
                send(&mut sockets, ICMP4, &batch);
                drain(&mut sockets, ICMP4);
            }
        });
        for _ in 0..100 {
            assert_eq!(drain(&mut open(&[ICMP4]), ICMP4), []);
        }
        enough.store(true, Ordering::Relaxed);
        other.join().unwrap();
    });
}

/// Takes capabilities off this thread, and no other.
pub(crate) fn give_up(unwanted: CapabilitySet) {
    let mut sets = capabilities(None).expect("capabilities of this thread");
    sets.effective -= unwanted;
    sets.permitted -= unwanted;
    set_capabilities(None, sets).expect("giving up capabilities");
}
