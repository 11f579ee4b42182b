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
    /// Whether the target has ever answered.
    pub(super) answered: bool,
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
