//! [`Link`]: two hosts joined by a forwarder in user space that delays, loses and changes packets.
//!
//! Each end is a TUN interface, so that the kernel hands over whole IP packets with finished checksums and takes them
//! back in one call, without Ethernet, ARP or offloads. One thread of this process carries both directions; it wakes
//! for packets and for the moment at which the next one is due.
//!
//! Packets to multicast addresses (neighbours, routers, listeners) are not carried, as by any router: so the packets
//! that the decisions are taken on are those that programs send.

mod forwarder;

use crate::clock::Deadline;
use crate::error::{Doing, LabError};
use crate::fault::{Faults, Loss};
use crate::host::Host;
use crate::lab::{End, Lab, configure, ends};
use crate::sys;
use forwarder::{Direction, Forwarder, Shared};
use nix::sys::eventfd::{EfdFlags, EventFd};
use std::fs::File;
use std::io::Write;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::sync_channel;
use std::sync::{Arc, Condvar, Mutex, PoisonError};
use std::thread::{self, JoinHandle};

/// A direction of a link.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum Way {
    /// From the left host to the right one.
    There,
    /// From the right host to the left one.
    Back,
}

impl Way {
    /// The other direction.
    #[must_use]
    pub fn opposite(self) -> Self {
        match self {
            Self::There => Self::Back,
            Self::Back => Self::There,
        }
    }
}

/// How the forwarder's thread runs, and its seed.
#[derive(Debug, Clone, Copy, Default)]
pub struct LinkOptions {
    /// Decides all chance on the link.
    pub seed: u64,
    /// The only CPU that the thread may use.
    pub cpu: Option<usize>,
    /// Whether the thread goes before all ordinary ones (`SCHED_FIFO`), so that load does not add to delays.
    pub realtime: bool,
}

/// A link. It works until it is dropped; then its interfaces vanish.
#[derive(Debug)]
pub struct Link {
    /// The end in the first host.
    pub left: End,
    /// The end in the second host.
    pub right: End,
    hosts: [Host; 2],
    shared: Arc<Shared>,
    thread: Option<JoinHandle<()>>,
}

/// What the link did in one direction, in packets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Counts {
    /// Came in, without those to multicast addresses.
    pub received: u64,
    /// Went out: once for each copy, without injected ones.
    pub forwarded: u64,
    /// Vanished by [`Faults::loss`].
    pub lost: u64,
    /// Went out twice.
    pub duplicated: u64,
    /// Were held back by [`Faults::reorder`].
    pub reordered: u64,
    /// Were changed by [`Faults::corrupt`].
    pub corrupted: u64,
    /// Vanished, as the queue of [`Faults::rate`] was full.
    pub queue_full: u64,
    /// Vanished, as they were longer than [`Faults::mtu`].
    pub too_big: u64,
    /// To multicast addresses, or not IP.
    pub ignored: u64,
    /// The kernel took them not: malformed, or the interface down.
    pub refused: u64,
}

impl Lab {
    /// Joins two hosts by a link, a perfect one until [`Link::set`]. The seed decides all chance on it.
    pub fn link(&self, left: &Host, right: &Host, seed: u64) -> Result<Link, LabError> {
        self.link_with(left, right, LinkOptions { seed, ..LinkOptions::default() })
    }

    /// Joins two hosts by a link whose thread runs as told.
    pub fn link_with(&self, left: &Host, right: &Host, options: LinkOptions) -> Result<Link, LabError> {
        Link::of_joint(self.next_joint(), left, right, options)
    }
}

impl LinkOptions {
    /// Applies itself to the calling thread.
    fn settle(&self) -> Result<(), LabError> {
        // Timers of ordinary threads may be late by 50 µs to save power (prctl(2)).
        nix::sys::prctl::set_timerslack(1).doing("ask for precise timers")?;
        if let Some(cpu) = self.cpu {
            let mut cpus = nix::sched::CpuSet::new();
            cpus.set(cpu).doing(format!("choose CPU {cpu}"))?;
            nix::sched::sched_setaffinity(nix::unistd::Pid::from_raw(0), &cpus)
                .doing(format!("use CPU {cpu}"))?;
        }
        if self.realtime {
            sys::go_first().doing("ask for real-time scheduling")?;
        }
        Ok(())
    }
}

impl Link {
    /// Joins two hosts by a link with the names and addresses of a joint that no other link or pair has now.
    pub(crate) fn of_joint(
        number: u16,
        left: &Host,
        right: &Host,
        options: LinkOptions,
    ) -> Result<Self, LabError> {
        let (left_end, right_end) = ends(&format!("tun{number}"), number);
        let tuns = [open_end(left, &left_end)?, open_end(right, &right_end)?];
        let flags = EfdFlags::EFD_CLOEXEC | EfdFlags::EFD_NONBLOCK;
        let wake = EventFd::from_value_and_flags(0, flags).doing("make an event")?;
        // Each direction has chance of its own.
        let directions = [0, 1].map(|which| Direction::new(options.seed.wrapping_mul(2).wrapping_add(which)));
        let shared = Arc::new(Shared {
            tuns,
            directions,
            wake,
            stopping: AtomicBool::new(false),
            idle_passes: Mutex::new(0),
            idled: Condvar::new(),
        });
        let (started, start) = sync_channel(1);
        let thread = {
            let shared = Arc::clone(&shared);
            thread::spawn(move || {
                let settled = options.settle();
                let works = settled.is_ok();
                // The receiver waits below; it cannot be gone.
                let _ = started.send(settled);
                if works {
                    Forwarder::new(&shared).run();
                }
            })
        };
        let link = Self {
            left: left_end,
            right: right_end,
            hosts: [left.clone(), right.clone()],
            shared,
            thread: Some(thread),
        };
        match start.recv() {
            Ok(settled) => settled.map(|()| link),
            Err(_) => Err(LabError::Missing { what: "a link's thread", hint: "it ended at once".into() }),
        }
    }
    /// Sets the faults of a direction. They hold for each packet sent after this call; those on the way keep theirs.
    pub fn set(&self, way: Way, faults: Faults) {
        *self.shared.direction(way).faults.lock().unwrap_or_else(PoisonError::into_inner) = faults;
    }

    /// Sets the faults of both directions.
    pub fn set_both(&self, faults: &Faults) {
        self.set(Way::There, faults.clone());
        self.set(Way::Back, faults.clone());
    }

    /// Loses everything in a direction, and keeps its other settings.
    pub fn cut(&self, way: Way) {
        self.shared.direction(way).faults.lock().unwrap_or_else(PoisonError::into_inner).loss = Loss::All;
    }

    /// What the link did so far in a direction.
    pub fn counts(&self, way: Way) -> Counts {
        *self.shared.direction(way).counts()
    }

    /// Delivers a packet of the caller's making at the end of a direction, at once and unchanged.
    ///
    /// # Errors
    /// [`LabError::Kernel`] if the kernel takes it not: it is shorter than an IP header or of no IP version.
    pub fn inject(&self, way: Way, packet: &[u8]) -> Result<(), LabError> {
        self.shared.out_of(way).write_all(packet).doing("inject a packet")
    }

    /// Waits until every packet sent before this call was delivered or dropped, and none is on its way.
    ///
    /// # Errors
    /// [`LabError::Deadline`] when time is up, as under steady traffic with a delay.
    pub fn wait_until_idle(&self, deadline: Deadline) -> Result<(), LabError> {
        let lock = || self.shared.idle_passes.lock().unwrap_or_else(PoisonError::into_inner);
        // The first pass that ends from now on may have begun before; the second has not.
        let wanted = *lock() + 2;
        let mut passes = lock();
        while *passes < wanted {
            if deadline.passed() {
                let seen = format!("{:?} there, {:?} back", self.counts(Way::There), self.counts(Way::Back));
                return Err(LabError::Deadline { waiting_for: "an idle link".into(), seen });
            }
            self.wake();
            let waited = self.shared.idled.wait_timeout(passes, deadline.left());
            passes = waited.unwrap_or_else(PoisonError::into_inner).0;
        }
        Ok(())
    }

    /// Packets that the forwarder was too slow for: the kernel's queue before it, of 20,000 packets, was full.
    pub fn overruns(&self, way: Way) -> Result<u64, LabError> {
        let [left, right] = &self.hosts;
        let (host, end) = match way {
            Way::There => (left, &self.left),
            Way::Back => (right, &self.right),
        };
        let text = host.run(&format!("ip -j -s link show {}", end.interface))?;
        let parsed: Option<serde_json::Value> = serde_json::from_str(&text).ok();
        let dropped = parsed.as_ref().and_then(|links| links.pointer("/0/stats64/tx/dropped")?.as_u64());
        dropped.ok_or(LabError::Malformed { what: "the statistics of a link", text })
    }
}

impl Link {
    fn wake(&self) {
        // Fails only when the counter is at its limit, and then the event is there already.
        let _ = self.shared.wake.write(1);
    }
}

impl Drop for Link {
    fn drop(&mut self) {
        self.shared.stopping.store(true, Ordering::Release);
        self.wake();
        if let Some(Err(panic)) = self.thread.take().map(JoinHandle::join)
            && !thread::panicking()
        {
            std::panic::resume_unwind(panic);
        }
    }
}

fn open_end(host: &Host, end: &End) -> Result<File, LabError> {
    let name = &end.interface;
    let tun = host.enter(|| sys::tun::open(name).doing(format!("make the interface {name}")))??;
    // No link-local address: it would only send multicast. The queue bridges stalls of the forwarder.
    host.run(&format!("ip link set {name} addrgenmode none txqueuelen 20000"))?;
    configure(host, end)?;
    Ok(tun)
}
