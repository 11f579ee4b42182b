//! How current what a watch told is: pure state.

use std::time::Duration;

use podsonar_core::time::Instant;

use crate::discovery::api::Patience;

/// What is known of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Health {
    /// For how long a whole watch may be silent.
    silence: Duration,
    /// Whether there was ever a whole list.
    listed: bool,
    /// When something was last heard that says that nothing was missed.
    heard: Instant,
    /// Whether the watch is not whole now.
    broken: bool,
}

impl Default for Health {
    fn default() -> Self {
        Self::new(Patience::default())
    }
}

impl Health {
    /// Nothing is known. A watch is whole if it was heard within the time in which a silent one is begun anew: 90 s.
    pub fn new(patience: Patience) -> Self {
        Self {
            silence: patience.silence + patience.answer,
            listed: false,
            heard: Instant::default(),
            broken: false,
        }
    }

    /// What somebody wrote: it is as it is, and never ages.
    pub fn lasting(now: Instant) -> Self {
        Self { silence: Duration::MAX, listed: true, heard: now, broken: false }
    }

    /// The same knowledge, which is made fresh only so often.
    #[must_use]
    pub(in crate::discovery) fn refreshed_every(self, longest: Duration) -> Self {
        Self { silence: longest, ..self }
    }

    /// How old the knowledge is: zero while the watch is whole and was heard lately, else the time since it
    /// broke or was last heard; `None` before the first list.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let silent = now.since(self.heard);
        let current = !self.broken && silent <= self.silence;
        self.listed.then_some(if current { Duration::ZERO } else { silent })
    }

    /// Whether there was ever a whole list.
    pub fn is_listed(&self) -> bool {
        self.listed
    }

    /// Whether the watch stands, as far as is known.
    pub fn is_whole(&self) -> bool {
        self.listed && !self.broken
    }

    /// What is not watched was fetched now.
    pub(in crate::discovery) fn refreshed(&mut self, now: Instant) {
        self.whole(now);
    }

    /// What is not watched could not be fetched.
    pub(in crate::discovery) fn failed(&mut self) {
        self.dead();
    }

    /// Everything is known as of now.
    pub(super) fn whole(&mut self, now: Instant) {
        *self = Self { listed: true, heard: now, broken: false, ..*self };
    }

    /// Everything is known as of now, and nothing of what follows.
    pub(super) fn listed(&mut self, now: Instant) {
        *self = Self { listed: true, heard: now, broken: true, ..*self };
    }

    /// The watch said something.
    pub(super) fn heard(&mut self, now: Instant) {
        if !self.broken {
            self.heard = now;
        }
    }

    /// The watch ended, and was whole until then.
    pub(super) fn ended(&mut self, now: Instant) {
        self.heard(now);
        self.broken = true;
    }

    /// The watch turned out to be dead: nothing is known of the time since it was last heard.
    pub(super) fn dead(&mut self) {
        self.broken = true;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn before_the_first_list_there_is_no_age() {
        let mut health = Health::default();
        health.ended(at(5));
        assert_eq!(health.age(at(9)), None);
        health.whole(at(10));
        assert_eq!(health.age(at(10)), Some(Duration::ZERO));
    }

    #[test]
    fn a_broken_watch_ages_from_its_end_and_a_whole_one_does_not() {
        let mut health = Health::default();
        health.whole(at(10));
        assert_eq!(health.age(at(99)), Some(Duration::ZERO));
        health.ended(at(100));
        assert_eq!(health.age(at(103)), Some(Duration::from_secs(3)));
        health.heard(at(104));
        assert_eq!(health.age(at(105)), Some(Duration::from_secs(5)), "a broken watch hears nothing");
        health.whole(at(106));
        assert_eq!(health.age(at(190)), Some(Duration::ZERO));
    }

    #[test]
    fn what_is_fetched_now_and_then_ages_once_it_is_not_and_what_is_written_never_does() {
        let mut health = Health::default().refreshed_every(Duration::from_mins(5));
        health.refreshed(at(0));
        assert_eq!(health.age(at(300)), Some(Duration::ZERO));
        assert_eq!(health.age(at(301)), Some(Duration::from_secs(301)));
        assert_eq!(Health::lasting(at(0)).age(at(1_000_000)), Some(Duration::ZERO));
    }

    #[test]
    fn a_silent_watch_ages_from_when_it_was_last_heard() {
        let mut health = Health::default();
        health.whole(at(10));
        health.heard(at(20));
        assert_eq!(health.age(at(110)), Some(Duration::ZERO));
        assert_eq!(health.age(at(111)), Some(Duration::from_secs(91)));
        health.dead();
        assert_eq!(health.age(at(112)), Some(Duration::from_secs(92)));
    }

    fn at(seconds: u64) -> Instant {
        Instant::from_nanos(seconds * 1_000_000_000)
    }
}
