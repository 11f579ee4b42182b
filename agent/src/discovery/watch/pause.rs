//! How long to wait before the API server is asked again.

use std::time::Duration;

use rustix::rand::{GetRandomFlags, getrandom};

/// The first wait, before jitter.
const FIRST: Duration = Duration::from_millis(800);

/// The longest wait, but after many refusals. It is short, so that all is caught up within 10 s once the server is back: one that is
/// away refuses connections, which costs it nothing, and one that starts will soon grant what it refuses.
const LONGEST: Duration = Duration::from_secs(6);

/// The longest wait where the server has answered [`STARTING`] times that it cannot or will not.
const LONGEST_REFUSED: Duration = Duration::from_secs(30);

/// A server that starts refuses for half a minute at most what it will soon grant: it knows no rights yet, or is busy.
const STARTING: u32 = 10;

/// What was wrong, as far as it matters for how soon to ask again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum After {
    /// Nobody answers.
    Silence,
    /// The server answers that it cannot or will not.
    Refusal,
    /// The server answers, and only what we know is of no use any more.
    Expiry,
}

/// Doubling waits with jitter, so that agents which failed together do not come back together.
///
/// Each kind of failure is counted apart. When a server is back after a long silence, its first refusals and the news that
/// all must be listed again are no reason to wait for as long as one did for the server.
#[derive(Debug, Clone)]
pub struct Pause {
    /// By [`After`].
    failures: [u32; 3],
    random: Random,
}

impl Pause {
    /// With jitter from a seed.
    pub fn new(random: Random) -> Self {
        Self { failures: [0; 3], random }
    }

    /// The wait after one more failure.
    pub fn next(&mut self, after: After) -> Duration {
        let mut before = 0;
        if let Some(count) = self.failures.get_mut(after as usize) {
            before = *count;
            *count = count.saturating_add(1);
        }
        let longest = match after {
            After::Refusal if before >= STARTING => LONGEST_REFUSED,
            After::Silence | After::Refusal | After::Expiry => LONGEST,
        };
        let whole = FIRST.saturating_mul(1 << before.min(10)).min(longest);
        self.random.between(whole / 2, whole)
    }

    /// Something went well: the next failure is the first.
    pub fn reset(&mut self) {
        self.failures = [0; 3];
    }
}

/// Numbers to spread agents in time, not secret (`SplitMix64`, Steele and others, OOPSLA 2014).
#[derive(Debug, Clone)]
pub struct Random(u64);

impl Random {
    /// From a seed: the same numbers each time.
    pub fn seeded(seed: u64) -> Self {
        Self(seed)
    }

    /// From the kernel (`getrandom(2)`); if that has none, all agents draw alike.
    pub fn drawn() -> Self {
        let mut bytes = [0; 8];
        let _ = getrandom(&mut bytes, GetRandomFlags::empty());
        Self(u64::from_ne_bytes(bytes))
    }

    /// A time from `least` to `most`, in milliseconds.
    pub fn between(&mut self, least: Duration, most: Duration) -> Duration {
        let span = most.saturating_sub(least).as_millis() as u64;
        least + Duration::from_millis(self.number() % (span + 1))
    }

    fn number(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mixed = (self.0 ^ (self.0 >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        let mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_double_with_jitter_up_to_their_bound_and_begin_anew() {
        for after in [After::Silence, After::Refusal, After::Expiry] {
            let mut pause = Pause::new(Random::seeded(1));
            for whole in [800, 1_600, 3_200, 6_000, 6_000] {
                let waited = pause.next(after).as_millis();
                assert!((whole / 2..=whole).contains(&waited), "{waited} of {whole}");
            }
            pause.reset();
            assert!(pause.next(after) <= FIRST);
        }
    }

    #[test]
    fn a_server_that_goes_on_refusing_is_left_alone_for_longer() {
        let mut pause = Pause::new(Random::seeded(1));
        let starting: Duration = (0..STARTING).map(|_| pause.next(After::Refusal)).sum();
        assert!((20..60).contains(&starting.as_secs()), "{starting:?}");
        assert!(pause.next(After::Refusal) >= LONGEST_REFUSED / 2);
        assert!(pause.next(After::Silence) <= FIRST);
    }

    #[test]
    fn after_a_long_silence_all_is_caught_up_within_ten_seconds() {
        for seed in 0..100 {
            let mut pause = Pause::new(Random::seeded(seed));
            let waited = (0..50).map(|_| pause.next(After::Silence)).max().unwrap();
            assert!(waited + pause.next(After::Expiry) < Duration::from_secs(7));
        }
    }

    #[test]
    fn agents_that_failed_together_come_back_apart() {
        let waits = (0..100).map(|seed| Pause::new(Random::seeded(seed)).next(After::Silence));
        let mut waits: Vec<_> = waits.collect();
        waits.sort_unstable();
        waits.dedup();
        assert!(waits.len() > 70, "{} different waits", waits.len());
    }

    #[test]
    fn very_many_failures_do_not_overflow() {
        let mut pause = Pause::new(Random::drawn());
        assert!((0..10_000).all(|_| pause.next(After::Silence) <= LONGEST));
    }
}
