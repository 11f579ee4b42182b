//! Which way our own probes to a peer's agent were lost: what the peer has heard from us, against what we got back.
//!
//! Between two reports of the peer lie so many of our sequences, of which it received so many: the others were lost on
//! the way there. Of our losses among these sequences the rest was lost on the way back. Nothing is said of sequences
//! that no two reports enclose: while the peer is silent, or after it began anew.

use std::collections::VecDeque;

use crate::outcome::ProbeResult;
use crate::wire::payload::Heard;

/// Results are kept of so many sequences.
const KEPT: usize = 1_024;

/// Reports that wait for results. Those between the first and the last may go: what counts is their difference.
const WAITING: usize = 8;

/// A sequence without a result is not waited for when so many after it have one. A loss may be held for ten seconds
/// before it is one.
const OVERTAKEN: u64 = 512;

/// How many losses in a row are all there is: the path is down, one way or the other.
const ALL_LOST: u64 = 5;

/// What is known of our probes to one address of an agent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Ways {
    /// Probes that left and have a result, or say nothing.
    pub sent: u64,
    /// Lost, whichever way: silence, or an ICMP error.
    pub lost: u64,
    /// Of these, how many the peer's reports say something about.
    pub covered: u64,
    /// Lost on the way there.
    pub there: u64,
    /// Lost on the way back.
    pub back: u64,
    /// Lost in a row just now.
    pub losing: u64,
}

/// Where an agent is at fault when nothing that we send to it is answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// It is heard, so it lives and can send: what it receives is lost.
    In,
    /// It is silent: what it sends is lost, or it is down.
    OutOrDown,
}

impl Ways {
    /// Losses of which it is not known which way they were lost.
    pub fn unattributed(&self) -> u64 {
        self.lost.saturating_sub(self.there + self.back)
    }

    /// What it means that nothing is answered; `None` while something is. `silent` is whether the peer's own probes
    /// cease to come.
    pub fn verdict(&self, silent: bool) -> Option<Verdict> {
        match (self.losing >= ALL_LOST, silent) {
            (false, _) => None,
            (true, false) => Some(Verdict::In),
            (true, true) => Some(Verdict::OutOrDown),
        }
    }
}

/// What became of one probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Lost,
    /// It says nothing.
    Void,
}

/// Results by sequence, and the reports that are to be held against them.
#[derive(Debug, Default)]
pub(crate) struct Book {
    /// The sequence of the first fate; 0 before there is any.
    first: u64,
    fates: VecDeque<Option<Fate>>,
    /// The peer's run, and its last report that was used.
    base: Option<(u64, Heard)>,
    waiting: VecDeque<Heard>,
    ways: Ways,
}

impl Book {
    /// What is known so far.
    pub(crate) fn ways(&self) -> &Ways {
        &self.ways
    }

    /// The probe of this sequence has its result.
    pub(crate) fn note(&mut self, sequence: u64, result: ProbeResult) {
        let fate = match result {
            ProbeResult::Reply(_) | ProbeResult::Reset(_) => Fate::Answered,
            ProbeResult::Lost | ProbeResult::Unreachable(_) => Fate::Lost,
            ProbeResult::Listener | ProbeResult::Void(_) => Fate::Void,
        };
        self.ways.sent += 1;
        match fate {
            Fate::Answered => self.ways.losing = 0,
            Fate::Lost => {
                self.ways.lost += 1;
                self.ways.losing += 1;
            }
            Fate::Void => {}
        }
        // Losses are known later than the replies of later probes.
        let begins = sequence.saturating_sub(OVERTAKEN / 2).max(1);
        if self.first == 0 || sequence >= self.first + 2 * KEPT as u64 {
            self.fates.clear();
            self.first = begins;
        }
        let Some(place) = sequence.checked_sub(self.first) else { return };
        let place = place as usize;
        if self.fates.len() <= place {
            self.fates.resize(place + 1, None);
        }
        if let Some(known) = self.fates.get_mut(place) {
            *known = Some(fate);
        }
        while self.fates.len() > KEPT {
            self.fates.pop_front();
            self.first += 1;
        }
        self.settle();
    }

    /// The peer, in its run `epoch`, has heard so much. `taken` is the last sequence that we sent.
    pub(crate) fn report(&mut self, epoch: u64, heard: Heard, taken: u64) {
        if heard.highest == 0 || heard.highest > taken {
            return;
        }
        let Some((_, before)) = self.base.filter(|(of, _)| *of == epoch) else {
            return self.begin(epoch, heard);
        };
        let last = self.waiting.back().copied().unwrap_or(before);
        let Some(more) = heard.highest.checked_sub(last.highest) else { return };
        if heard.count.checked_sub(last.count).is_none_or(|received| received > more) {
            // It counts anew.
            return self.begin(epoch, heard);
        }
        if more == 0 {
            return;
        }
        if self.waiting.len() >= WAITING {
            self.waiting.pop_back();
        }
        self.waiting.push_back(heard);
        self.settle();
    }

    fn begin(&mut self, epoch: u64, heard: Heard) {
        self.base = Some((epoch, heard));
        self.waiting.clear();
        self.forget_until(heard.highest);
    }

    /// Uses the reports about sequences that all have a result.
    fn settle(&mut self) {
        while let (Some((epoch, from)), Some(to)) = (self.base, self.waiting.front().copied()) {
            let Some((lost, void)) = self.fates_between(from.highest, to.highest) else { return };
            self.waiting.pop_front();
            self.base = Some((epoch, to));
            self.forget_until(to.highest);
            let all = to.highest - from.highest;
            let not_received = all - (to.count - from.count);
            // More than we miss cannot be missing there: it counts anew, and hides it.
            if not_received <= lost + void {
                self.ways.covered += all - void;
                self.ways.there += not_received.saturating_sub(void).min(lost);
                self.ways.back += lost.saturating_sub(not_received);
            }
        }
    }

    /// How many after `from` up to `to` were lost, and of how many nothing is known; `None` while a result is to come.
    fn fates_between(&self, from: u64, to: u64) -> Option<(u64, u64)> {
        let end = self.first + self.fates.len() as u64;
        if to >= end {
            return None;
        }
        let forgotten = self.first.saturating_sub(from + 1).min(to - from);
        let (mut lost, mut void) = (0, forgotten);
        for sequence in (from + 1).max(self.first)..=to {
            match self.fates.get((sequence - self.first) as usize).copied().flatten() {
                Some(Fate::Answered) => {}
                Some(Fate::Lost) => lost += 1,
                Some(Fate::Void) => void += 1,
                None if end - sequence > OVERTAKEN => void += 1,
                None => return None,
            }
        }
        Some((lost, void))
    }

    fn forget_until(&mut self, sequence: u64) {
        let first = self.first.max(sequence + 1);
        let known = ((first - self.first) as usize).min(self.fates.len());
        self.fates.drain(..known);
        self.first = first;
    }
}

#[cfg(test)]
mod tests;
