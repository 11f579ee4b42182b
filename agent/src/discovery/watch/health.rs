//! How current what a watch told is: pure state.

use std::time::Duration;

use podsonar_core::time::Instant;

/// Servers send a bookmark each minute or so; a watch that is silent for longer may be dead.
pub const SILENCE: Duration = Duration::from_secs(90);

/// What is known of a watch.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Health {
    /// Whether there was ever a whole list.
    listed: bool,
    /// When something was last heard that says that nothing was missed.
    heard: Instant,
    /// Whether the watch is not whole now.
    broken: bool,
}

impl Health {
    /// How old the knowledge is: zero while the watch is whole and was heard within [`SILENCE`], else the time since it
    /// broke or was last heard; `None` before the first list.
    pub fn age(&self, now: Instant) -> Option<Duration> {
        let silent = now.since(self.heard);
        let current = !self.broken && silent <= SILENCE;
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
        *self = Self { listed: true, heard: now, broken: false };
    }

    /// Everything is known as of now, and nothing of what follows.
    pub(super) fn listed(&mut self, now: Instant) {
        *self = Self { listed: true, heard: now, broken: true };
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
