//! What streams knew that left lately. An agent that goes takes its pods along for a while; when they come back, they are
//! no strangers.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use super::streams::StreamState;
use crate::target::Stream;
use crate::time::Instant;

/// What left is remembered so long.
const REMEMBER: Duration = Duration::from_mins(2);

/// So many are remembered at most; the latest count.
const MOST: usize = 4_096;

/// Streams that left, and what they knew.
#[derive(Debug, Default)]
pub(super) struct Departed {
    known: HashMap<Stream, (Instant, Knowledge)>,
    order: VecDeque<(Instant, Stream)>,
}

/// What a stream knows of its target beside its schedule.
#[derive(Debug, Clone, Copy, Default)]
pub(super) struct Knowledge {
    /// When the latest probe was sent that the target answered, if it ever answered.
    pub(super) heard: Option<Instant>,
    /// Since when the target is known to answer its owner.
    pub(super) answers_owner: Option<Instant>,
    /// Whether its last SYN was answered at all, and by a listener.
    pub(super) answering: bool,
    pub(super) listening: bool,
    pub(super) losses_in_a_row: u32,
    /// When its last probe fell due.
    pub(super) last_due: Instant,
}

impl Departed {
    /// A stream leaves.
    pub(super) fn remember(&mut self, state: &StreamState, now: Instant) {
        if self.order.len() >= MOST {
            self.forget_first();
        }
        let stream = &state.planned.stream;
        self.known.insert(stream.clone(), (now, state.knowledge()));
        self.order.push_back((now, stream.clone()));
    }

    /// What a stream knew that comes back.
    pub(super) fn recall(&mut self, stream: &Stream, now: Instant) -> Option<Knowledge> {
        while self.order.front().is_some_and(|(left, _)| now.since(*left) > REMEMBER) {
            self.forget_first();
        }
        self.known.remove(stream).map(|(_, known)| known)
    }

    fn forget_first(&mut self) {
        let Some((at, stream)) = self.order.pop_front() else { return };
        // It may have come back and left again since.
        if self.known.get(&stream).is_some_and(|(left, _)| *left == at) {
            self.known.remove(&stream);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::Engine;
    use crate::engine::testing::{at, engine, events, pod_stream, set};
    use crate::target::{Planned, Protocol, StreamId};

    #[test]
    fn who_comes_back_within_two_minutes_is_no_stranger() {
        for (gone_for, remembered) in [(119_000, true), (121_000, false)] {
            let (mut engine, stream) = one();
            engine.note_answer(stream, at(1_000));
            engine.streams.get(stream).unwrap().losses_in_a_row = 3;
            set(&mut engine, 5_000, &[]);
            let back = set(&mut engine, 5_000 + gone_for, &[planned()])[0];
            let state = engine.streams.get(back).unwrap();
            assert_eq!((state.heard.is_some(), state.backed_off()), (remembered, remembered));
        }
    }

    #[test]
    fn who_was_backed_off_stays_so() {
        let (mut engine, stream) = one();
        engine.streams.get(stream).unwrap().losses_in_a_row = 3;
        set(&mut engine, 5_000, &[]);
        let back = set(&mut engine, 10_000, &[planned()])[0];
        assert!(engine.streams.get(back).unwrap().due >= at(30_000));
    }

    #[test]
    fn who_comes_back_and_answers_is_not_due_before_it_came() {
        let (mut engine, stream) = one();
        engine.streams.get(stream).unwrap().losses_in_a_row = 3;
        set(&mut engine, 5_000, &[]);
        // The clock was read last at the start: answers are heard before it is read again.
        let back = set(&mut engine, 60_000, &[planned()])[0];
        engine.count_answer(back);
        let due = engine.streams.get(back).unwrap().due;
        assert!(due >= at(60_000) && due < at(61_000), "{due:?}");
    }

    #[test]
    fn another_pod_at_its_address_is_a_stranger() {
        let (mut engine, stream) = one();
        engine.note_answer(stream, at(1_000));
        set(&mut engine, 5_000, &[]);
        let other = pod_stream(2, Protocol::Tcp).stream.target.pod.clone();
        let mut planned = planned();
        let target = crate::target::Target { pod: other, ..(*planned.stream.target).clone() };
        planned.stream.target = std::sync::Arc::new(target);
        let back = set(&mut engine, 6_000, &[planned])[0];
        assert!(engine.streams.get(back).unwrap().heard.is_none());
    }

    #[test]
    fn no_more_is_remembered_than_there_is_room_for() {
        let (mut engine, stream) = one();
        for _ in 0..=MOST {
            let state = engine.streams.get(stream).unwrap();
            engine.departed.remember(state, at(1_000));
        }
        assert_eq!((engine.departed.order.len(), engine.departed.known.len()), (MOST, 1));
        assert!(engine.departed.recall(&planned().stream, at(121_001)).is_none());
        assert!(engine.departed.order.is_empty() && events(&mut engine).is_empty());
    }

    fn one() -> (Engine, StreamId) {
        let mut engine = engine();
        let stream = set(&mut engine, 0, &[planned()])[0];
        (engine, stream)
    }

    fn planned() -> Planned {
        pod_stream(1, Protocol::Tcp)
    }
}
