//! The thread that carries packets: I/O and timing. What becomes of a packet is decided in [`crate::fault`].

use super::{Counts, Way};
use crate::clock;
use crate::fault::{Fate, Faults, Injector, too_big};
use crate::packet::Packet;
use nix::poll::{PollFd, PollFlags, ppoll};
use nix::sys::eventfd::EventFd;
use nix::sys::time::TimeSpec;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::collections::binary_heap::PeekMut;
use std::fs::File;
use std::io::{Read, Write};
use std::os::fd::AsFd;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

#[derive(Debug)]
pub(super) struct Shared {
    /// What left sends is read from the first and what right sends from the second.
    pub(super) tuns: [File; 2],
    pub(super) directions: [Direction; 2],
    /// Ends the thread's waiting.
    pub(super) wake: EventFd,
    pub(super) stopping: AtomicBool,
    /// How often the thread found nothing to read and nothing on its way.
    pub(super) idle_passes: Mutex<u64>,
    pub(super) idled: Condvar,
}

#[derive(Debug)]
pub(super) struct Direction {
    pub(super) faults: Mutex<Faults>,
    pub(super) counts: Mutex<Counts>,
    pub(super) seed: u64,
}

impl Shared {
    pub(super) fn direction(&self, way: Way) -> &Direction {
        let [there, back] = &self.directions;
        match way {
            Way::There => there,
            Way::Back => back,
        }
    }

    /// Where packets of a direction come from.
    fn into(&self, way: Way) -> &File {
        let [left, right] = &self.tuns;
        match way {
            Way::There => left,
            Way::Back => right,
        }
    }

    /// Where packets of a direction go to.
    pub(super) fn out_of(&self, way: Way) -> &File {
        self.into(way.opposite())
    }
}

impl Direction {
    pub(super) fn new(seed: u64) -> Self {
        Self { faults: Mutex::default(), counts: Mutex::default(), seed }
    }

    pub(super) fn counts(&self) -> MutexGuard<'_, Counts> {
        self.counts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// A packet on its way; ordered by when it is due, then by when it came.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
struct InFlight {
    due: Instant,
    serial: u64,
    way: Way,
    bytes: Vec<u8>,
}

/// The thread's state.
pub(super) struct Forwarder<'a> {
    shared: &'a Shared,
    start: Instant,
    injectors: [(Way, Injector); 2],
    in_flight: BinaryHeap<Reverse<InFlight>>,
    serial: u64,
    /// Buffers to use again.
    spare: Vec<Vec<u8>>,
}

/// How many packets of one direction are read before the other has its turn.
const BATCH: usize = 64;
/// Timers wake a sleeping virtual CPU 30 to 80 µs late: sleep for so much less, and poll for the rest.
const WAKE_UP: Duration = Duration::from_micros(60);
/// The largest IP packet.
const LARGEST: usize = 65_536;

impl<'a> Forwarder<'a> {
    pub(super) fn new(shared: &'a Shared) -> Self {
        let injectors = [Way::There, Way::Back].map(|way| (way, Injector::new(shared.direction(way).seed)));
        let start = clock::now();
        Self { shared, start, injectors, in_flight: BinaryHeap::new(), serial: 0, spare: Vec::new() }
    }

    pub(super) fn run(mut self) {
        let mut buffer = vec![0; LARGEST];
        let mut is_idle = true;
        while !self.shared.stopping.load(Ordering::Acquire) {
            // After a full batch there may be more to read, or nothing that would ever end a wait.
            if is_idle {
                self.wait();
            }
            // Nothing to read means that it was not this event that ended the waiting.
            let _ = self.shared.wake.read();
            is_idle = true;
            for way in [Way::There, Way::Back] {
                is_idle &= self.take(way, &mut buffer) < BATCH;
                self.deliver();
            }
            if is_idle && self.in_flight.is_empty() {
                *self.shared.idle_passes.lock().unwrap_or_else(PoisonError::into_inner) += 1;
                self.shared.idled.notify_all();
            }
        }
    }

    /// Waits for a packet, for the next one to be due, or to be woken.
    fn wait(&self) {
        let [left, right] = &self.shared.tuns;
        let fds = [self.shared.wake.as_fd(), left.as_fd(), right.as_fd()];
        let mut fds = fds.map(|fd| PollFd::new(fd, PollFlags::POLLIN));
        let next = self.in_flight.peek().map(|next| next.0.due.saturating_duration_since(clock::now()));
        let sleep = next.map(|left| TimeSpec::from(left.saturating_sub(WAKE_UP)));
        // An interrupted wait is one that ended early.
        let _ = ppoll(&mut fds, sleep, None);
    }

    /// Reads at most [`BATCH`] packets of a direction and decides about each. Returns how many.
    fn take(&mut self, way: Way, buffer: &mut [u8]) -> usize {
        let shared = self.shared;
        let direction = shared.direction(way);
        // Held over the batch: whoever changed the faults knows that no later packet meets the old ones.
        let faults = direction.faults.lock().unwrap_or_else(PoisonError::into_inner);
        for number in 0..BATCH {
            let Ok(length) = shared.into(way).read(buffer) else { return number };
            let came = clock::now();
            let Some(bytes) = buffer.get(..length) else { return number };
            let mut counts = direction.counts();
            match Packet::decode(bytes) {
                Some(packet) if !packet.dst.is_multicast() => {
                    counts.received += 1;
                    let now = came - self.start;
                    let fate = self.injector(way).decide(now, &faults, &packet);
                    self.carry_out(fate, way, came, bytes, &mut counts);
                }
                _ => counts.ignored += 1,
            }
        }
        BATCH
    }

    fn carry_out(&mut self, fate: Fate, way: Way, came: Instant, bytes: &[u8], counts: &mut Counts) {
        match fate {
            Fate::Lost => counts.lost += 1,
            Fate::QueueFull => counts.queue_full += 1,
            Fate::TooBig { mtu, answer } => {
                counts.too_big += 1;
                if let Some(error) = too_big(bytes, mtu).filter(|_| answer) {
                    // It goes to the sender at once; what the kernel refuses, no sender needs.
                    let _ = self.shared.into(way).write(&error);
                }
            }
            Fate::Pass(pass) => {
                let mut copy = self.spare.pop().unwrap_or_default();
                copy.clear();
                copy.extend_from_slice(bytes);
                if let Some(flip) = pass.flip {
                    flip.apply(&mut copy);
                    counts.corrupted += 1;
                }
                counts.reordered += u64::from(pass.held);
                let due = came + pass.after;
                if pass.twice {
                    counts.duplicated += 1;
                    self.launch(due, way, copy.clone());
                }
                self.launch(due, way, copy);
            }
        }
    }

    fn launch(&mut self, due: Instant, way: Way, bytes: Vec<u8>) {
        self.serial += 1;
        self.in_flight.push(Reverse(InFlight { due, serial: self.serial, way, bytes }));
    }

    /// Hands over the packets that are due.
    fn deliver(&mut self) {
        while let Some(next) = self.in_flight.peek_mut() {
            if next.0.due > clock::now() {
                return;
            }
            let InFlight { way, bytes, .. } = PeekMut::pop(next).0;
            let taken = self.shared.out_of(way).write(&bytes);
            let mut counts = self.shared.direction(way).counts();
            match taken {
                Ok(_) => counts.forwarded += 1,
                Err(_) => counts.refused += 1,
            }
            if self.spare.len() < 4096 {
                self.spare.push(bytes);
            }
        }
    }

    fn injector(&mut self, way: Way) -> &mut Injector {
        let [(_, there), (_, back)] = &mut self.injectors;
        match way {
            Way::There => there,
            Way::Back => back,
        }
    }
}

impl std::fmt::Debug for Forwarder<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Forwarder").field("in_flight", &self.in_flight.len()).finish_non_exhaustive()
    }
}
