//! When each stream is due. Boring on purpose: a stream's due times are a fixed grid, `phase + k × interval`, and
//! the phase is a hash of what it is, so that load spreads and a restart changes nothing.

use std::time::Duration;

use crate::hash::stable;
use crate::queue::Queue;
use crate::target::{Planned, StreamId};
use crate::time::{Instant, nanos};

/// The due times of one stream.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Grid {
    phase: u64,
    interval: u64,
}

impl Grid {
    /// The grid of a stream, as seen from the agent `source`: two agents ask the same target at different times.
    pub(crate) fn new(source: &str, planned: &Planned) -> Self {
        let target = &planned.stream.target;
        let address = target.address.to_canonical().to_string();
        let hash = stable(&[
            source.as_bytes(),
            target.destination.as_bytes(),
            address.as_bytes(),
            planned.stream.protocol.label().as_bytes(),
            planned.stream.family().label().as_bytes(),
        ]);
        Self::at(hash, planned.interval)
    }

    /// The grid of whatever has this hash.
    pub(crate) fn at(hash: u64, interval: Duration) -> Self {
        let interval = nanos(interval).max(1);
        Self { phase: hash % interval, interval }
    }

    /// The first due time at or after `at`.
    pub(crate) fn at_or_after(self, at: Instant) -> Instant {
        let into = (at.as_nanos() % self.interval + self.interval - self.phase) % self.interval;
        let wait = if into == 0 { 0 } else { self.interval - into };
        at + Duration::from_nanos(wait)
    }

    /// How many due times lie in `[from, until)`, where `from` is one of them.
    pub(crate) fn count(self, from: Instant, until: Instant) -> u64 {
        nanos(until.since(from)).div_ceil(self.interval)
    }

    /// The due time `steps` after `due`.
    pub(crate) fn advance(self, due: Instant, steps: u64) -> Instant {
        due + Duration::from_nanos(self.interval.saturating_mul(steps))
    }
}

/// All streams in the order in which they are due.
///
/// An entry may be stale (its stream was removed or moved to another time): the engine compares it with the
/// stream's own due time when it comes up.
#[derive(Debug, Default)]
pub(crate) struct Schedule {
    queue: Queue<StreamId>,
}

impl Schedule {
    pub(crate) fn add(&mut self, due: Instant, stream: StreamId) {
        self.queue.push(due, stream);
    }

    /// The earliest entry.
    pub(crate) fn first(&self) -> Option<(Instant, StreamId)> {
        self.queue.first()
    }

    /// Moves the earliest entry to its next due time, or drops it.
    pub(crate) fn replace_first(&mut self, next: Option<Instant>) {
        let first = self.queue.pop();
        if let (Some((_, stream)), Some(due)) = (first, next) {
            self.queue.push(due, stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_grid_never_drifts() {
        let grid = Grid { phase: 3, interval: 10 };
        let mut due = grid.at_or_after(at(0));
        assert_eq!(due, at(3));
        for step in 0..1000 {
            assert_eq!(due, at(3 + step * 10));
            due = grid.advance(due, 1);
        }
        assert_eq!(grid.at_or_after(at(13)), at(13));
        assert_eq!(grid.at_or_after(at(14)), at(23));
        assert_eq!(grid.count(at(13), at(13)), 0);
        assert_eq!(grid.count(at(13), at(14)), 1);
        assert_eq!(grid.count(at(13), at(23)), 1);
        assert_eq!(grid.count(at(13), at(24)), 2);
    }

    #[test]
    fn streams_come_up_in_order_and_are_moved_in_place() {
        let mut schedule = Schedule::default();
        schedule.add(at(5), StreamId(1));
        schedule.add(at(2), StreamId(2));
        assert_eq!(schedule.first(), Some((at(2), StreamId(2))));
        schedule.replace_first(Some(at(9)));
        assert_eq!(schedule.first(), Some((at(5), StreamId(1))));
        schedule.replace_first(None);
        assert_eq!(schedule.first(), Some((at(9), StreamId(2))));
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }
}
