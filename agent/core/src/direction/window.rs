//! One sender's sequence as it arrives here: what came, what is missing, and what a gap means.
//!
//! A sequence that is passed over is awaited for a while, since packets may overtake each other. Then it is lost; or
//! unknown, if this host dropped packets meanwhile. A long gap is an outage: were it counted as loss, the counter would
//! stand still while nothing comes and jump when it is over.

use std::collections::VecDeque;
use std::time::Duration;

use crate::time::Instant;
use crate::wire::payload::Heard;

/// A packet that is overtaken by another is awaited for so long.
const AWAITED: Duration = Duration::from_secs(2);

/// More missing packets in a row are an outage; and a packet that so many others have overtaken is lost at once.
const LONGEST_GAP: u64 = 64;

/// So many missing packets in a row are an outage if nothing at all came meanwhile: by the time they would be counted,
/// the loss is over.
const OUTAGE: u64 = 8;

/// A sender that sent nothing for so many of its periods is silent.
pub(super) const SILENT_PERIODS: u32 = 5;

/// A sequence may be ahead by so many, beyond what time explains.
const AHEAD: u64 = 8;

/// A sequence that time does not explain is believed after so many that go on from there, and nothing else.
const BELIEVED_AFTER: u32 = 4;

/// After so many packets with longer periods the shortest of these is the sender's.
const LONGER_PERIODS: u32 = 8;

/// Periods outside are taken for the nearest inside, in milliseconds: a packet can say anything.
const PERIODS: (u32, u32) = (10, 600_000);

/// What was counted of a sender.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Counts {
    /// Probes that arrived.
    pub probes: u64,
    /// Probes that did not.
    pub lost: u64,
    /// Probes that did not arrive, or that this host dropped.
    pub unknown: u64,
    /// Gaps that are too long to be counted as loss.
    pub outages: u64,
}

impl Counts {
    /// Adds what was counted elsewhere.
    pub fn add(&mut self, other: Self) {
        self.probes += other.probes;
        self.lost += other.lost;
        self.unknown += other.unknown;
        self.outages += other.outages;
    }
}

/// When a packet came.
#[derive(Debug, Clone, Copy)]
pub(super) struct Arrival {
    /// When it reached this host.
    pub(super) at: Instant,
    /// When it was handed over.
    pub(super) now: Instant,
    /// When the socket last dropped packets.
    pub(super) dropped: Option<Instant>,
}

/// What a packet is to its window.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Place {
    /// It was awaited.
    New,
    /// It came before, or was given up.
    Old,
    /// Neither time nor what came before explains its sequence.
    Implausible,
}

/// The sequence of one sender to one of our addresses.
#[derive(Debug)]
pub(super) struct Window {
    /// The first sequence that was seen: nothing before it is missing.
    first: u64,
    highest: u64,
    /// How many are known not to have come.
    gone: u64,
    /// What was passed over and is awaited, in order.
    missing: VecDeque<Missing>,
    /// When the last packet reached this host.
    arrived: Instant,
    /// When the highest sequence was handed over: drops after that may hide what is missing next.
    handed_over: Instant,
    period: Period,
    rival: Option<Rival>,
}

#[derive(Debug, Clone, Copy)]
struct Missing {
    sequence: u64,
    /// When the one before was handed over.
    since: Instant,
    /// Awaited until then.
    until: Instant,
}

/// A sequence that may be the true one.
#[derive(Debug, Clone, Copy)]
struct Rival {
    since: Instant,
    last: u64,
    seen: u32,
}

/// The sender's time between two packets. Two streams may share a sequence: the shorter period is the window's.
#[derive(Debug, Clone, Copy)]
struct Period {
    millis: u32,
    longer: u32,
    shortest_longer: u32,
}

impl Period {
    fn new(millis: u32) -> Self {
        Self { millis: millis.clamp(PERIODS.0, PERIODS.1), longer: 0, shortest_longer: u32::MAX }
    }

    fn note(&mut self, millis: u32) {
        let millis = millis.clamp(PERIODS.0, PERIODS.1);
        if millis <= self.millis {
            *self = Self::new(millis);
            return;
        }
        self.longer += 1;
        self.shortest_longer = self.shortest_longer.min(millis);
        if self.longer >= LONGER_PERIODS {
            *self = Self::new(self.shortest_longer);
        }
    }
}

impl Window {
    /// The first packet of a sender: whatever its sequence is, nothing is missing.
    pub(super) fn new(arrival: Arrival, sequence: u64, period: u32) -> Self {
        Self {
            first: sequence,
            highest: sequence,
            gone: 0,
            missing: VecDeque::new(),
            arrived: arrival.at,
            handed_over: arrival.now,
            period: Period::new(period),
            rival: None,
        }
    }

    /// A further packet of the sender.
    pub(super) fn note(
        &mut self,
        arrival: Arrival,
        sequence: u64,
        period: u32,
        counts: &mut Counts,
    ) -> Place {
        let place = if sequence > self.highest {
            self.advance(arrival, sequence, counts)
        } else {
            self.fill(sequence)
        };
        let place = match place {
            Place::Implausible if self.believes_rival(arrival, sequence) => {
                self.begin_again(arrival, sequence, counts);
                Place::New
            }
            place => place,
        };
        if place == Place::New {
            counts.probes += 1;
            self.period.note(period);
            self.arrived = self.arrived.max(arrival.at);
            self.rival = None;
        }
        place
    }

    /// Gives up what was awaited long enough.
    pub(super) fn close(&mut self, now: Instant, dropped: Option<Instant>, counts: &mut Counts) {
        while let Some(missing) = self.missing.front().copied()
            && (missing.until <= now || self.highest - missing.sequence > LONGEST_GAP)
        {
            self.missing.pop_front();
            if hidden(missing.since, dropped) {
                counts.unknown += 1;
            } else {
                counts.lost += 1;
                self.gone += 1;
            }
        }
    }

    /// The window ends: nobody will know what became of what is still awaited.
    pub(super) fn end(&mut self, counts: &mut Counts) {
        counts.unknown += self.missing.drain(..).len() as u64;
    }

    /// When the last packet reached this host.
    pub(super) fn arrived(&self) -> Instant {
        self.arrived
    }

    /// The sender's time between two packets.
    pub(super) fn period(&self) -> Duration {
        Duration::from_millis(u64::from(self.period.millis))
    }

    /// What the sender is told: up to which sequence nothing is awaited any more, and how many of these came. What this
    /// host may have dropped is taken to have come, since that is far more likely than that it was lost just then.
    pub(super) fn heard(&self) -> Heard {
        let highest = self.missing.front().map_or(self.highest, |missing| missing.sequence.saturating_sub(1));
        let all = highest.saturating_sub(self.first).saturating_add(1);
        Heard { highest, count: all.saturating_sub(self.gone) }
    }

    fn advance(&mut self, arrival: Arrival, sequence: u64, counts: &mut Counts) -> Place {
        let missing = sequence - self.highest - 1;
        let silence = arrival.at.since(self.arrived);
        let periods = u64::try_from(silence.as_millis()).unwrap_or(u64::MAX) / u64::from(self.period.millis);
        if missing > AHEAD.saturating_add(periods.saturating_mul(2)) {
            return Place::Implausible;
        }
        let silent = periods >= u64::from(SILENT_PERIODS);
        let outage = missing > LONGEST_GAP || (missing >= OUTAGE && silent);
        if outage {
            self.close(arrival.now + AWAITED, arrival.dropped, counts);
            if hidden(self.handed_over, arrival.dropped) {
                counts.unknown = counts.unknown.saturating_add(missing);
            } else {
                counts.outages += 1;
                self.gone = self.gone.saturating_add(missing);
            }
        } else {
            let (since, until) = (self.handed_over, arrival.now + AWAITED);
            let passed_over = self.highest + 1..sequence;
            self.missing.extend(passed_over.map(|sequence| Missing { sequence, since, until }));
        }
        self.highest = sequence;
        self.handed_over = arrival.now;
        self.close(arrival.now, arrival.dropped, counts);
        Place::New
    }

    /// A packet that others have overtaken, or one that is not new.
    fn fill(&mut self, sequence: u64) -> Place {
        if let Ok(place) = self.missing.binary_search_by_key(&sequence, |missing| missing.sequence) {
            self.missing.remove(place);
            return Place::New;
        }
        if self.highest - sequence <= LONGEST_GAP { Place::Old } else { Place::Implausible }
    }

    /// Whether an implausible sequence has gone on for so long, alone, that it is the true one: a forged packet or a
    /// sender's surprise must not make us deaf.
    fn believes_rival(&mut self, arrival: Arrival, sequence: u64) -> bool {
        let enough = self.period() * (BELIEVED_AFTER - 1) / 2;
        match &mut self.rival {
            Some(rival) if sequence > rival.last && sequence - rival.last <= AHEAD => {
                rival.last = sequence;
                rival.seen = rival.seen.saturating_add(1);
                rival.seen >= BELIEVED_AFTER && arrival.at.since(rival.since) >= enough
            }
            _ => {
                self.rival = Some(Rival { since: arrival.at, last: sequence, seen: 1 });
                false
            }
        }
    }

    fn begin_again(&mut self, arrival: Arrival, sequence: u64, counts: &mut Counts) {
        self.end(counts);
        counts.outages += 1;
        let period = self.period;
        *self = Self { period, ..Self::new(arrival, sequence, period.millis) };
    }
}

/// Whether packets that came after `since` may have been dropped by this host.
fn hidden(since: Instant, dropped: Option<Instant>) -> bool {
    dropped.is_some_and(|dropped| dropped >= since)
}

#[cfg(test)]
mod tests;
