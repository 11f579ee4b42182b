//! A queue by time for entries that mostly come in the order in which they go.
//!
//! The due times of streams with one interval ascend, and so do the deadlines of probes with one timeout. Such an entry
//! joins the end of one of few lanes, each in order; a heap takes what fits into none. With many thousand entries a
//! heap alone misses the processor's cache at each of its levels, which was a tenth of what a probe costs.

use std::cmp::Reverse;
use std::collections::{BinaryHeap, VecDeque};

use crate::time::Instant;

/// Intervals that are told apart: those of agents, pods, own pods, and one for back-off.
const LANES: usize = 4;

/// Entries and their times, the earliest first. Those of one time come in any order.
#[derive(Debug)]
pub(crate) struct Queue<T> {
    lanes: [VecDeque<(Instant, T)>; LANES],
    rest: BinaryHeap<Reverse<(Instant, T)>>,
}

impl<T: Ord> Default for Queue<T> {
    fn default() -> Self {
        Self { lanes: Default::default(), rest: BinaryHeap::new() }
    }
}

/// Where an entry stands.
#[derive(Debug, Clone, Copy)]
enum Place {
    Lane(usize),
    Rest,
}

impl<T: Ord + Copy> Queue<T> {
    /// Adds an entry at its time.
    pub(crate) fn push(&mut self, at: Instant, entry: T) {
        let last = |lane: &VecDeque<(Instant, T)>| lane.back().map(|(last, _)| *last);
        let fitting = self.lanes.iter_mut().filter(|lane| last(lane).is_none_or(|last| last <= at));
        // The one whose last entry is nearest, so that each interval has a lane of its own; an empty one at worst.
        match fitting.max_by_key(|lane| last(lane)) {
            Some(lane) => lane.push_back((at, entry)),
            None => self.rest.push(Reverse((at, entry))),
        }
    }

    /// The earliest entry.
    pub(crate) fn first(&self) -> Option<(Instant, T)> {
        Some(self.earliest()?.0)
    }

    /// Takes the earliest entry.
    pub(crate) fn pop(&mut self) -> Option<(Instant, T)> {
        match self.earliest()?.1 {
            Place::Lane(lane) => self.lanes.get_mut(lane)?.pop_front(),
            Place::Rest => self.rest.pop().map(|Reverse(entry)| entry),
        }
    }

    fn earliest(&self) -> Option<((Instant, T), Place)> {
        let rest = self.rest.peek().map(|Reverse(entry)| (*entry, Place::Rest));
        let fronts = self.lanes.iter().enumerate();
        let fronts = fronts.filter_map(|(lane, entries)| Some((*entries.front()?, Place::Lane(lane))));
        fronts.chain(rest).min_by_key(|((at, _), _)| *at)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn entries_go_in_order_however_they_come(steps in prop::collection::vec(prop::option::of(0_u64..500), 0..500)) {
            let mut queue = Queue::default();
            let mut sorted = Vec::new();
            for (number, step) in steps.into_iter().enumerate() {
                if let Some(time) = step {
                    queue.push(at(time), number);
                    sorted.push((at(time), number));
                    sorted.sort_unstable();
                } else {
                    let popped = queue.pop();
                    prop_assert_eq!(popped.map(|entry| entry.0), sorted.first().map(|entry| entry.0));
                    sorted.retain(|entry| Some(*entry) != popped);
                }
                prop_assert_eq!(queue.first().map(|entry| entry.0), sorted.first().map(|entry| entry.0));
            }
            while let Some(popped) = queue.pop() {
                prop_assert_eq!(popped.0, sorted[0].0);
                sorted.retain(|entry| *entry != popped);
            }
            prop_assert!(sorted.is_empty());
        }
    }

    #[test]
    fn a_few_intervals_need_no_heap() {
        let mut queue = Queue::default();
        for stream in 0..100_u64 {
            queue.push(at(stream * 7 % 100), stream);
        }
        for _ in 0..10_000 {
            let (due, stream) = queue.pop().unwrap();
            let interval = [1_000, 5_000, 10_000, 30_000][stream as usize % 4];
            queue.push(at(due.as_nanos() + interval), stream);
        }
        assert!(queue.rest.is_empty());
    }

    #[test]
    fn what_comes_together_stays_together() {
        let mut queue = Queue::default();
        for number in (0..100).rev() {
            queue.push(at(7), number);
        }
        assert!(queue.rest.is_empty());
        assert!((0..100).rev().eq(std::iter::from_fn(|| queue.pop()).map(|entry| entry.1)));
    }

    fn at(nanos: u64) -> Instant {
        Instant::from_nanos(nanos)
    }
}
