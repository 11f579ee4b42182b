//! How a target is, in one word: from what its streams have heard lately.

use podsonar_core::engine::Baseline;
use podsonar_core::outcome::ProbeResult;
use podsonar_core::target::Protocol;

/// Losses in a row after which a stream counts as silent.
const SILENT_RUN: u8 = 3;

/// What one stream heard lately.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Heard {
    /// No result yet that says anything.
    #[default]
    Nothing,
    /// The target answers, or has answered and not been silent for long.
    Answers,
    /// Three losses in a row, or ICMP errors instead of answers.
    Silence,
    /// The application does not take connections.
    Listener,
    /// It has never answered anybody.
    NeverAnswered,
    /// It answers the agent of its own node, and us never.
    NeverReachable,
}

impl From<Baseline> for Heard {
    fn from(baseline: Baseline) -> Self {
        match baseline {
            Baseline::NeverAnswered => Self::NeverAnswered,
            Baseline::NeverReachable => Self::NeverReachable,
        }
    }
}

/// A stream's latest results, as far as they make its [`Heard`].
#[derive(Debug, Clone, Copy, Default)]
pub struct Streak {
    losses: u8,
    heard: Heard,
}

impl Streak {
    /// Takes a result in; the new state if it has changed. While the agent has no `verdicts` nothing falls silent.
    pub fn note(&mut self, result: ProbeResult, verdicts: bool) -> Option<Heard> {
        let heard = match result {
            ProbeResult::Reply(_) | ProbeResult::Reset(_) => {
                self.losses = 0;
                Heard::Answers
            }
            ProbeResult::Lost | ProbeResult::Unreachable(_) => {
                self.losses = self.losses.saturating_add(1);
                if self.losses < SILENT_RUN || !verdicts || self.has_never_answered() {
                    return None;
                }
                Heard::Silence
            }
            ProbeResult::Listener if verdicts => Heard::Listener,
            ProbeResult::Listener | ProbeResult::Void(_) => return None,
        };
        self.set(heard)
    }

    /// A stream that has never answered is seen so from now on, until it does; the new state if it has changed.
    pub fn note_baseline(&mut self, baseline: Baseline) -> Option<Heard> {
        self.set(baseline.into())
    }

    fn has_never_answered(self) -> bool {
        matches!(self.heard, Heard::NeverAnswered | Heard::NeverReachable)
    }

    fn set(&mut self, heard: Heard) -> Option<Heard> {
        let changed = self.heard != heard;
        self.heard = heard;
        changed.then_some(heard)
    }
}

/// How a target is. The text form is the label `state` of `podsonar_targets`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum State {
    /// Whatever it is asked by, it answers.
    Answering,
    /// TCP is answered and ICMP is not: a filter, as a rule.
    IcmpFiltered,
    /// The network is fine, the application takes no connections.
    Listener,
    /// Nobody has ever heard it.
    NeverAnswered,
    /// The agent of its own node hears it, and this one never did.
    NeverReachable,
    /// Nothing is known yet.
    New,
    /// Nothing is answered.
    Silent,
    /// ICMP is answered and TCP is not.
    TcpFiltered,
}

impl State {
    /// Every state, in the order of the enum, which is that of the labels.
    pub const ALL: [Self; 8] = [
        Self::Answering,
        Self::IcmpFiltered,
        Self::Listener,
        Self::NeverAnswered,
        Self::NeverReachable,
        Self::New,
        Self::Silent,
        Self::TcpFiltered,
    ];

    /// The label value.
    pub const fn label(self) -> &'static str {
        match self {
            Self::New => "new",
            Self::Answering => "answering",
            Self::IcmpFiltered => "icmp_filtered",
            Self::TcpFiltered => "tcp_filtered",
            Self::Listener => "listener",
            Self::NeverAnswered => "never_answered",
            Self::NeverReachable => "never_reachable",
            Self::Silent => "silent",
        }
    }
}

impl State {
    /// How a target in this state is, in words.
    pub const fn words(self) -> &'static str {
        match self {
            Self::New => "nothing is known yet",
            Self::Answering => "answers",
            Self::IcmpFiltered => "silent, while TCP is answered: a filter, as a rule",
            Self::TcpFiltered => "silent, while ICMP is answered: a filter, as a rule",
            Self::Listener => "the application takes no connections, the network is fine",
            Self::NeverAnswered => "has never answered anybody",
            Self::NeverReachable => {
                "has answered the agent of its node for a minute or more, and this one never"
            }
            Self::Silent => "silent",
        }
    }
}

/// What the streams of one target heard, by [`Protocol::ALL`]; `None` where there is no stream.
#[derive(Debug, Clone, Copy, Default)]
pub struct Condition([Option<Heard>; Protocol::ALL.len()]);

impl Condition {
    /// A stream's news; `None`: it is no more.
    pub fn set(&mut self, protocol: Protocol, heard: Option<Heard>) {
        if let Some(place) = self.0.get_mut(protocol as usize) {
            *place = heard;
        }
    }

    /// Whether the target has any stream.
    pub fn has_streams(self) -> bool {
        self.0.iter().any(Option::is_some)
    }

    /// How the target is.
    pub fn state(self) -> State {
        let any = |wanted: Heard| self.0.iter().flatten().any(|heard| *heard == wanted);
        let silent =
            |heard: Heard| matches!(heard, Heard::Silence | Heard::NeverAnswered | Heard::NeverReachable);
        let any_silent = self.0.into_iter().flatten().any(silent);
        let icmp_silent = self.of(Protocol::Icmp).is_some_and(silent);
        match (any(Heard::Answers), any_silent) {
            _ if any(Heard::Listener) => State::Listener,
            (true, true) if icmp_silent => State::IcmpFiltered,
            (true, true) => State::TcpFiltered,
            (true, false) => State::Answering,
            (false, true) if any(Heard::Silence) => State::Silent,
            (false, true) if any(Heard::NeverReachable) => State::NeverReachable,
            (false, true) => State::NeverAnswered,
            (false, false) => State::New,
        }
    }

    /// The protocols by which the target is in trouble.
    pub fn in_trouble(self) -> impl Iterator<Item = Protocol> {
        let trouble = move |protocol: &Protocol| {
            let heard = self.of(*protocol);
            matches!(heard, Some(Heard::Silence | Heard::Listener | Heard::NeverReachable))
        };
        Protocol::ALL.into_iter().filter(trouble)
    }

    fn of(self, protocol: Protocol) -> Option<Heard> {
        self.0.get(protocol as usize).copied().flatten()
    }
}

#[cfg(test)]
mod tests {
    use podsonar_core::outcome::{Rtt, Void};

    use super::*;

    const REPLY: ProbeResult = ProbeResult::Reply(Rtt::Unmeasured);

    #[test]
    fn three_losses_in_a_row_are_silence_and_one_answer_ends_it() {
        let mut streak = Streak::default();
        assert_eq!(streak.note(REPLY, true), Some(Heard::Answers));
        for result in [ProbeResult::Lost, ProbeResult::Lost, ProbeResult::Void(Void::Unknown)] {
            assert_eq!(streak.note(result, true), None);
        }
        assert_eq!(streak.note(ProbeResult::Lost, true), Some(Heard::Silence));
        assert_eq!(streak.note(ProbeResult::Lost, true), None);
        assert_eq!(streak.note(REPLY, true), Some(Heard::Answers));
    }

    #[test]
    fn a_sick_agent_finds_nobody_silent() {
        let mut streak = Streak::default();
        for result in [ProbeResult::Lost, ProbeResult::Listener] {
            assert!((0..10).all(|_| streak.note(result, false).is_none()));
        }
        assert_eq!(streak.note(ProbeResult::Lost, true), Some(Heard::Silence));
    }

    #[test]
    fn what_never_answered_is_not_silent_and_one_answer_makes_it_like_any_other() {
        let mut streak = Streak::default();
        assert_eq!(streak.note_baseline(Baseline::NeverAnswered), Some(Heard::NeverAnswered));
        assert_eq!(streak.note_baseline(Baseline::NeverReachable), Some(Heard::NeverReachable));
        assert!((0..10).all(|_| streak.note(ProbeResult::Lost, true).is_none()));
        assert_eq!(streak.note(REPLY, true), Some(Heard::Answers));
        let heard: Vec<_> = (0..3).map(|_| streak.note(ProbeResult::Lost, true)).collect();
        assert_eq!(heard, [None, None, Some(Heard::Silence)]);
    }

    #[test]
    fn states_are_listed_in_their_own_order() {
        assert!(State::ALL.iter().enumerate().all(|(place, state)| *state as usize == place));
        assert!(State::ALL.is_sorted_by_key(|state| state.label()));
    }

    #[test]
    fn a_targets_state_tells_filter_application_and_network_apart() {
        use Heard::{Answers, Listener, NeverAnswered, NeverReachable, Nothing, Silence};
        for (icmp, tcp, state) in [
            (Some(Nothing), Some(Nothing), State::New),
            (Some(Answers), Some(Nothing), State::Answering),
            (Some(Answers), Some(Answers), State::Answering),
            (Some(Silence), Some(Answers), State::IcmpFiltered),
            (Some(Answers), Some(Silence), State::TcpFiltered),
            (Some(Answers), Some(Listener), State::Listener),
            (Some(Silence), Some(Silence), State::Silent),
            (Some(Silence), None, State::Silent),
            (None, Some(Silence), State::Silent),
            (Some(NeverAnswered), None, State::NeverAnswered),
            (Some(NeverAnswered), Some(Answers), State::IcmpFiltered),
            (Some(Answers), Some(NeverReachable), State::TcpFiltered),
            (Some(NeverAnswered), Some(NeverReachable), State::NeverReachable),
            (Some(NeverAnswered), Some(Silence), State::Silent),
            (Some(NeverAnswered), Some(Nothing), State::NeverAnswered),
        ] {
            let mut condition = Condition::default();
            condition.set(Protocol::Icmp, icmp);
            condition.set(Protocol::Tcp, tcp);
            assert_eq!(condition.state(), state, "{icmp:?} {tcp:?}");
        }
    }
}
