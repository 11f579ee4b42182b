//! Which dropped packets may have been answers.
//!
//! The kernel's drop counter of a socket also counts IPv6 packets whose checksum is wrong: damaged on the way, or
//! sent by somebody who wants our losses to look unknown. Only a full buffer drops answers, so a drop counts only
//! if the buffer can have been full.

use crate::sys::Memory;

/// The most that a packet of ordinary size takes in a buffer: its struct and one page, rounded up. Larger messages
/// are charged twice their length on top.
const LARGEST_COST: u64 = 8 << 10;

/// Counts packets that were dropped while the buffer may have been full.
#[derive(Debug)]
pub(super) struct DropCounter {
    /// The kernel's 32-bit counter when it was last read; it wraps.
    last: u32,
    total: u64,
    /// The most that can have waited since then, in bytes.
    peak: u64,
}

impl DropCounter {
    pub(super) fn new(now: &Memory) -> Self {
        Self { last: now.dropped, total: 0, peak: 0 }
    }

    /// A drain begins: what waits now is the most since the last drain, as nobody else takes packets out.
    pub(super) fn drain_begins(&mut self, now: &Memory) {
        self.peak = self.peak.max(u64::from(now.queued));
    }

    /// The drain has taken out this many packets, of so many bytes together. Each may have come while it ran.
    pub(super) fn drained(&mut self, packets: usize, bytes: usize) {
        self.peak = self.peak.saturating_add(packets as u64 * LARGEST_COST + 2 * bytes as u64);
    }

    /// Takes the counter's next reading.
    pub(super) fn count(&mut self, now: &Memory) {
        let dropped = u64::from(now.dropped.wrapping_sub(self.last));
        if self.peak + u64::from(now.queued) >= u64::from(now.room) {
            self.total += dropped;
        }
        self.last = now.dropped;
        self.peak = u64::from(now.queued);
    }

    /// The drops so far.
    pub(super) fn total(&self) -> u64 {
        self.total
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_counter_survives_the_kernels_wrap() {
        let mut drops = DropCounter::new(&memory(0, u32::MAX - 1));
        for (dropped, total) in [(u32::MAX, 1), (3, 5), (3, 5)] {
            drops.drain_begins(&memory(ROOM, dropped));
            drops.count(&memory(0, dropped));
            assert_eq!(drops.total(), total);
        }
    }

    #[test]
    fn a_drop_with_room_to_spare_is_a_damaged_packet() {
        let mut drops = DropCounter::new(&memory(0, 0));
        drops.drain_begins(&memory(ROOM / 2, 7));
        drops.drained(2, 200);
        drops.count(&memory(0, 7));
        assert_eq!(drops.total(), 0);
    }

    #[test]
    fn a_drop_counts_if_the_buffer_can_have_been_full_before_during_or_after_the_drain() {
        for (before, packets, after) in [(ROOM, 0, 0), (0, 200, 0), (0, 0, ROOM), (ROOM / 2, 0, ROOM / 2)] {
            let mut drops = DropCounter::new(&memory(0, 0));
            drops.drain_begins(&memory(before, 0));
            drops.drained(packets, packets * 100);
            drops.count(&memory(after, 1));
            assert_eq!(drops.total(), 1, "{before} {packets} {after}");
        }
    }

    #[test]
    fn what_waits_after_one_count_belongs_to_the_next() {
        let mut drops = DropCounter::new(&memory(0, 0));
        drops.drain_begins(&memory(0, 0));
        drops.count(&memory(ROOM / 2, 0));
        drops.drain_begins(&memory(ROOM / 4, 0));
        drops.count(&memory(ROOM / 2, 1));
        assert_eq!(drops.total(), 1);
    }

    const ROOM: u32 = 1 << 20;

    fn memory(queued: u32, dropped: u32) -> Memory {
        Memory { queued, room: ROOM, dropped }
    }
}
