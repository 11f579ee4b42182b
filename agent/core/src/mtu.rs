//! The largest packet that a path carries, and whether larger ones vanish without a word.
//!
//! Large echo requests that may not be fragmented, as large as the route says, go out each ten seconds. Five lost in a
//! row, with small ones answered in between and none lost, are an MTU black hole (RFC 2923 §2.1): then the size that
//! passes is searched, as RFC 8899 does. An ICMP error with the size (RFC 1191, RFC 8201) is a hint that is tried out.

use std::time::Duration;

use crate::time::Instant;

/// Large probes lost in a row that make a black hole.
const LOST_IN_A_ROW: u8 = 5;

/// Probes of one size that are lost before the search believes it too large.
const TRIES: u8 = 3;

/// Time between large probes while something is to be found out.
const SOON: Duration = Duration::from_secs(1);

/// A size that an ICMP error gave is doubted after this time (RFC 1191 §6.3: ten minutes).
const DOUBT: Duration = Duration::from_mins(10);

/// The least that an ICMP error may claim, in bytes: what IPv4 hosts must be able to receive (RFC 791 §3.1).
const LEAST: u32 = 576;

/// What is known of one path's largest packet.
#[derive(Debug)]
pub(crate) struct PathMtu {
    /// What the route says.
    route: u32,
    /// What an ICMP error said, and when it is to be doubted.
    limit: Option<(u32, Instant)>,
    /// The largest packet that passed.
    passed: Option<u32>,
    lost: u8,
    small_answered: u32,
    small_lost: u32,
    search: Option<Search>,
    blackholed: bool,
}

/// The largest packet that passes lies in `low..high`.
#[derive(Debug, Clone, Copy)]
struct Search {
    low: u32,
    high: u32,
    tries: u8,
}

/// What became of a large probe.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Large {
    Answered,
    Lost,
    /// An ICMP error says what is the largest that passes, or zero.
    TooBig(u32),
    /// It says nothing.
    Void,
}

/// What is known now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PathMtuFinding {
    /// The largest packet known to pass, in bytes with its IP header; `None` while nothing is known.
    pub path_mtu: Option<u32>,
    /// Larger packets vanish without an ICMP error.
    pub blackholed: bool,
}

impl PathMtu {
    /// A path whose route carries packets of `route` bytes.
    pub(crate) fn new(route: u32) -> Self {
        Self {
            route,
            limit: None,
            passed: None,
            lost: 0,
            small_answered: 0,
            small_lost: 0,
            search: None,
            blackholed: false,
        }
    }

    /// The route says something else now: everything is open again.
    pub(crate) fn reroute(&mut self, route: u32) {
        if route != self.route {
            *self = Self::new(route);
        }
    }

    /// The size of the next large probe, in bytes with its IP header.
    pub(crate) fn size(&self, now: Instant) -> u32 {
        match (self.search, self.limit) {
            (Some(search), _) => search.low.midpoint(search.high),
            (None, Some((limit, doubted))) if now < doubted => limit,
            (None, _) => self.route,
        }
    }

    /// What is known.
    pub(crate) fn finding(&self) -> PathMtuFinding {
        PathMtuFinding { path_mtu: self.passed, blackholed: self.blackholed }
    }

    /// Whether small probes matter just now.
    pub(crate) fn doubts(&self) -> bool {
        self.lost > 0
    }

    /// A small probe of the same flow was answered or lost.
    pub(crate) fn note_small(&mut self, answered: bool) {
        if answered {
            self.small_answered += 1;
        } else {
            self.small_lost += 1;
        }
    }

    /// A large probe of `size` bytes ended; `small` bytes are known to pass. A black hole is declared only with
    /// `verdicts`. Returns when the next large probe should leave, if that is sooner than usual.
    pub(crate) fn note_large(
        &mut self,
        now: Instant,
        size: u32,
        small: u32,
        end: Large,
        verdicts: bool,
    ) -> Option<Instant> {
        if self.search.is_some() {
            return self.search_on(now, size, end);
        }
        match end {
            Large::Void => None,
            Large::Answered => {
                self.lost = 0;
                self.passed = Some(size);
                if size == self.route {
                    (self.limit, self.blackholed) = (None, false);
                }
                None
            }
            Large::TooBig(stated) => {
                self.lost = 0;
                self.blackholed = false;
                if (LEAST..size).contains(&stated) {
                    self.limit = Some((stated, now + DOUBT));
                    self.passed = None;
                } else {
                    // An error without a usable size: find it.
                    self.search = Some(Search { low: small, high: size, tries: 0 });
                }
                Some(now + SOON)
            }
            Large::Lost => {
                if self.lost == 0 {
                    (self.small_answered, self.small_lost) = (0, 0);
                }
                self.lost = self.lost.saturating_add(1);
                if self.small_lost > 0 {
                    // The path loses small ones too: plain loss.
                    self.lost = 0;
                    return None;
                }
                if self.blackholed {
                    self.lost = 0;
                    return None;
                }
                let proved =
                    self.lost >= LOST_IN_A_ROW && self.small_answered + 1 >= u32::from(LOST_IN_A_ROW);
                if proved && verdicts {
                    self.lost = 0;
                    self.blackholed = true;
                    self.passed = None;
                    self.search = Some(Search { low: small, high: size, tries: 0 });
                }
                Some(now + SOON)
            }
        }
    }

    fn search_on(&mut self, now: Instant, size: u32, end: Large) -> Option<Instant> {
        let mut search = self.search?;
        match end {
            Large::Void => {}
            Large::Answered => (search.low, search.tries) = (size.max(search.low), 0),
            Large::TooBig(_) => (search.high, search.tries) = (size.min(search.high), 0),
            Large::Lost => {
                search.tries += 1;
                if search.tries >= TRIES {
                    (search.high, search.tries) = (size.min(search.high), 0);
                }
            }
        }
        if search.high.saturating_sub(search.low) > 1 {
            self.search = Some(search);
            return Some(now);
        }
        self.search = None;
        self.passed = Some(search.low);
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_black_hole_is_found_and_measured_and_heals() {
        let mut mtu = PathMtu::new(1_500);
        run(&mut mtu, 40, 1_372, false);
        assert_eq!(mtu.finding(), PathMtuFinding { path_mtu: Some(1_372), blackholed: true });
        run(&mut mtu, 1, 1_500, false);
        assert_eq!(mtu.finding(), PathMtuFinding { path_mtu: Some(1_500), blackholed: false });
    }

    #[test]
    fn an_icmp_error_with_the_size_is_no_black_hole() {
        let mut mtu = PathMtu::new(1_500);
        run(&mut mtu, 3, 1_372, true);
        assert_eq!(mtu.finding(), PathMtuFinding { path_mtu: Some(1_372), blackholed: false });
    }

    #[test]
    fn an_icmp_error_without_a_size_or_with_a_lie_leads_to_a_search() {
        for stated in [0, 68, 1_500, u32::MAX] {
            let mut mtu = PathMtu::new(1_500);
            mtu.note_large(at(1), 1_500, 84, Large::TooBig(stated), true);
            for second in 2..40 {
                let size = mtu.size(at(second));
                let end = if size > 1_400 { Large::TooBig(stated) } else { Large::Answered };
                mtu.note_large(at(second), size, 84, end, true);
            }
            assert_eq!(
                mtu.finding(),
                PathMtuFinding { path_mtu: Some(1_400), blackholed: false },
                "{stated}"
            );
        }
    }

    #[test]
    fn large_losses_among_small_losses_are_plain_loss() {
        let mut mtu = PathMtu::new(1_500);
        for second in 0..600 {
            mtu.note_small(second % 3 != 0);
            mtu.note_large(at(second), 1_500, 84, Large::Lost, true);
        }
        assert!(!mtu.finding().blackholed);
    }

    #[test]
    fn large_losses_without_small_answers_prove_nothing() {
        let mut mtu = PathMtu::new(1_500);
        for second in 0..60 {
            mtu.note_large(at(second), 1_500, 84, Large::Lost, true);
        }
        assert!(!mtu.finding().blackholed);
    }

    #[test]
    fn a_sick_agent_declares_no_black_hole() {
        let mut mtu = PathMtu::new(1_500);
        for second in 0..60 {
            mtu.note_small(true);
            mtu.note_large(at(second), 1_500, 84, Large::Lost, false);
        }
        assert!(!mtu.finding().blackholed);
    }

    /// Sends large probes over a path that carries `path` bytes, with a small one answered after each.
    fn run(mtu: &mut PathMtu, probes: u64, path: u32, told: bool) {
        for second in 0..probes {
            let size = mtu.size(at(second));
            let end = match (size <= path, told) {
                (true, _) => Large::Answered,
                (false, true) => Large::TooBig(path),
                (false, false) => Large::Lost,
            };
            mtu.note_large(at(second), size, 84, end, true);
            mtu.note_small(true);
        }
    }

    fn at(second: u64) -> Instant {
        Instant::from_nanos(second * 1_000_000_000)
    }
}
