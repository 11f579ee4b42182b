//! Runs of losses, in the order in which the probes fell due.
//!
//! Results come in another order: a loss is known only after its timeout, when later probes have long been answered.
//! What comes early waits until every probe before it has its result, which the engine's law promises.

use super::{Finding, Seen};

/// So many stretches of results may wait; then the probe that they wait for is given up as if nothing were known.
const MOST_WAITING: usize = 1_024;

/// Room that is kept when nothing waits.
const FEW: usize = 16;

/// Consecutive probes of a stream with the same result.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Span {
    pub(super) first: u64,
    pub(super) count: u64,
    pub(super) seen: Seen,
}

impl Span {
    fn end(self) -> u64 {
        self.first.saturating_add(self.count)
    }
}

/// One stream's runs.
#[derive(Debug, Default)]
pub(super) struct Runs {
    /// The first probe without a result.
    next: u64,
    /// Losses in the run that has not ended; zero if there is none.
    lost: u64,
    /// Results of later probes, in order.
    waiting: Vec<Span>,
}

impl Runs {
    /// Takes results and tells what is certain now.
    pub(super) fn note(&mut self, span: Span, tell: &mut impl FnMut(Finding)) {
        if span.first < self.next {
            return; // given up before
        }
        if span.first == self.next {
            self.settle(span, tell);
            if self.waiting.is_empty() {
                return;
            }
        } else {
            self.wait(span);
            if self.waiting.len() <= MOST_WAITING {
                return;
            }
            self.next = self.waiting.first().map_or(self.next, |first| first.first);
        }
        self.settle_waiting(tell);
    }

    fn wait(&mut self, span: Span) {
        let place = self.waiting.partition_point(|each| each.first < span.first);
        let before = place.checked_sub(1).and_then(|before| self.waiting.get_mut(before));
        match before {
            Some(before) if before.end() == span.first && before.seen == span.seen => {
                before.count = before.count.saturating_add(span.count);
            }
            _ => self.waiting.insert(place, span),
        }
    }

    fn settle_waiting(&mut self, tell: &mut impl FnMut(Finding)) {
        let mut settled = 0;
        while let Some(&span) = self.waiting.get(settled).filter(|span| span.first == self.next) {
            self.settle(span, tell);
            settled += 1;
        }
        self.waiting.drain(..settled);
        if self.waiting.is_empty() && self.waiting.capacity() > FEW {
            self.waiting = Vec::new();
        }
    }

    fn settle(&mut self, span: Span, tell: &mut impl FnMut(Finding)) {
        self.next = span.end();
        match span.seen {
            Seen::Answered if self.lost > 0 => {
                tell(Finding::Burst(self.lost));
                self.lost = 0;
            }
            Seen::Lost => {
                if self.lost == 0 {
                    tell(Finding::Episode);
                }
                self.lost = self.lost.saturating_add(span.count);
            }
            Seen::Answered | Seen::Nothing => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// Results in due order (`a`nswered, `L`ost, `-` nothing), the order in which they become known (by number; the
    /// rest follows in due order), and what is told: `E` for an episode, a number for a burst.
    const TABLE: [(&str, &[u64], &str); 13] = [
        ("aaa", &[], ""),
        ("aLa", &[], "E1"),
        ("aLLLa", &[], "E3"),
        ("LLa", &[], "E2"),
        ("aLL", &[], "E"),
        ("LaLaLLa", &[], "E1E1E2"),
        ("L-La", &[], "E2"),
        ("L-a-L-", &[], "E1E"),
        ("---", &[], ""),
        ("aLLa", &[3, 0, 2, 1], "E2"),
        ("LaL", &[1, 2, 0], "E1E"),
        ("LaLaa", &[1, 3, 4], "E1E1"),
        ("LLLaaLa", &[6, 3, 4], "E3E1"),
    ];

    #[test]
    fn runs_are_those_of_the_table() {
        for (results, early, expected) in TABLE {
            let spans = spans(results);
            let rest = (0..).zip(&spans).filter(|(number, _)| !early.contains(number)).map(|(_, span)| span);
            let first = early.iter().filter_map(|number| spans.get(*number as usize));
            let mut runs = Runs::default();
            let mut told = String::new();
            for span in first.chain(rest) {
                runs.note(*span, &mut |finding| told.push_str(&word(finding)));
            }
            assert_eq!(told, expected, "{results} {early:?}");
            assert!(runs.waiting.is_empty());
        }
    }

    #[test]
    fn an_episode_counts_as_soon_as_all_before_it_is_known() {
        let mut runs = Runs::default();
        assert_eq!(note(&mut runs, 1, Seen::Answered), []);
        assert_eq!(note(&mut runs, 0, Seen::Lost), [Finding::Episode, Finding::Burst(1)]);
        assert_eq!(note(&mut runs, 2, Seen::Lost), [Finding::Episode]);
    }

    #[test]
    fn a_result_that_never_comes_is_not_waited_for_for_ever() {
        let mut runs = Runs::default();
        for number in 1..10_000 {
            let seen = if number % 2 == 0 { Seen::Lost } else { Seen::Answered };
            note(&mut runs, number, seen);
            assert!(runs.waiting.len() <= MOST_WAITING);
        }
        assert_eq!(note(&mut runs, 0, Seen::Lost), []);
        assert_eq!(note(&mut runs, 10_000, Seen::Lost), [Finding::Episode]);
    }

    #[test]
    fn stretches_of_equal_results_wait_as_one() {
        let mut runs = Runs::default();
        for number in 1..5_000 {
            note(&mut runs, number, Seen::Answered);
        }
        assert_eq!(runs.waiting, [Span { first: 1, count: 4_999, seen: Seen::Answered }]);
    }

    proptest! {
        #[test]
        fn any_order_of_results_tells_what_a_sorted_list_shows(
            results in proptest::collection::vec((0..3_u8, 1..4_u64, 0..40_u64), 0..200)
        ) {
            let mut spans = Vec::new();
            let mut number = 0;
            for (seen, count, delay) in results {
                let (seen, count) = match seen {
                    0 => (Seen::Answered, 1),
                    1 => (Seen::Lost, 1),
                    _ => (Seen::Nothing, count),
                };
                spans.push((delay, Span { first: number, count, seen }));
                number += count;
            }
            let expected = reference(spans.iter().map(|(_, span)| *span));
            spans.sort_by_key(|(delay, span)| span.first + delay);
            let mut runs = Runs::default();
            let mut told = Vec::new();
            for (_, span) in spans {
                runs.note(span, &mut |finding| told.push(finding));
            }
            prop_assert_eq!(told, expected);
            prop_assert!(runs.waiting.is_empty());
        }
    }

    /// The plain way: drop what says nothing, group what is equal.
    fn reference(spans: impl Iterator<Item = Span>) -> Vec<Finding> {
        let seen: Vec<_> = spans.map(|span| span.seen).filter(|seen| *seen != Seen::Nothing).collect();
        let groups: Vec<_> = seen.chunk_by(|left, right| left == right).collect();
        let mut told = Vec::new();
        for (place, group) in groups.iter().enumerate().filter(|(_, group)| group.contains(&Seen::Lost)) {
            told.push(Finding::Episode);
            if place + 1 < groups.len() {
                told.push(Finding::Burst(group.len() as u64));
            }
        }
        told
    }

    fn spans(results: &str) -> Vec<Span> {
        let seen = |letter| match letter {
            'a' => Seen::Answered,
            'L' => Seen::Lost,
            _ => Seen::Nothing,
        };
        (0..)
            .zip(results.chars())
            .map(|(first, letter)| Span { first, count: 1, seen: seen(letter) })
            .collect()
    }

    fn note(runs: &mut Runs, number: u64, seen: Seen) -> Vec<Finding> {
        let mut told = Vec::new();
        runs.note(Span { first: number, count: 1, seen }, &mut |finding| told.push(finding));
        told
    }

    fn word(finding: Finding) -> String {
        match finding {
            Finding::Episode => "E".into(),
            Finding::Burst(length) => length.to_string(),
            Finding::Ratio(_) => "not a run".into(),
        }
    }
}
