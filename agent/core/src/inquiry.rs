//! What the silence of a TCP port means: the network, one flow through it, or the application behind the port.
//!
//! A stopped process with a full accept queue is silent on its port while the network is fine (`listen(2)`). So the
//! silence of a port that has answered is held. If the next SYN is answered, what is held is lost. If three in a row
//! over two flows are silent, SYNs of the same flows go to a closed port: if each is reset, the network is fine and
//! what is held is the listener's; if any is silent, all is lost.
//!
//! A flow (a source port) that is silent while others are answered is a suspect: it is asked again at once, and is
//! black-holed when five in a row are silent, with an answer on another flow after each.

use crate::outcome::{Outcome, ProbeResult};

/// Silent SYNs in a row that put the port in question.
const SILENT_RUN: u32 = 3;

/// Silent SYNs of one flow, each followed by an answer on another, that make it black-holed.
const DEAD_AFTER: u8 = 5;

/// At most so many flows are asked to the closed port at once.
const CHECKS: usize = 4;

/// More is never held: whatever keeps the question open, a silence is a loss then.
const MOST_HELD: usize = 64;

/// The open questions of one stream. It exists only while there are any.
#[derive(Debug, Default)]
pub(crate) struct Inquiry {
    /// Silent SYNs since the last answer, those sent to ask included.
    run: u32,
    /// The flow of the first of them, and whether there were others.
    first_flow: Option<u16>,
    several_flows: bool,
    held: Vec<Outcome>,
    suspects: Vec<Suspect>,
    /// SYNs sent to ask that have no result yet.
    waiting: u32,
    check: Check,
}

/// A flow that is silent while others are answered.
#[derive(Debug)]
struct Suspect {
    flow: u16,
    lost: u8,
    others_answered: bool,
    dead: bool,
}

/// What the closed port has said so far.
#[derive(Debug, Default)]
struct Check {
    silent: bool,
    unclear: bool,
}

/// What is to be asked next.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Nothing: wait for the next SYN of the schedule, or for an answer.
    Wait,
    /// A SYN of this flow to the same port.
    Ask(u16),
    /// SYNs of these flows to a closed port.
    Check(Vec<u16>),
}

/// What the closed port did with a SYN.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Checked {
    Reset,
    Silent,
    /// Nothing can be said: the clocks, or drops of our own.
    Unclear,
}

/// What an answer settles.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// What was held is lost.
    pub(crate) lost: Vec<Outcome>,
    /// The answering flow was black-holed.
    pub(crate) healed: bool,
}

impl Inquiry {
    /// A SYN of `flow` was silent. `held` is its result if it is to be held; `answering` says whether the SYN before
    /// it was answered. Returns whether the flow is black-holed from now on, which needs `verdicts`.
    pub(crate) fn silent(
        &mut self,
        flow: u16,
        held: Option<Outcome>,
        answering: bool,
        verdicts: bool,
    ) -> bool {
        self.run = self.run.saturating_add(1);
        self.several_flows |= self.first_flow.is_some_and(|first| first != flow);
        self.first_flow.get_or_insert(flow);
        self.held.extend(held);
        let Some(suspect) = self.suspects.iter_mut().find(|suspect| suspect.flow == flow) else {
            if answering {
                self.suspects.push(Suspect { flow, lost: 1, others_answered: false, dead: false });
            }
            return false;
        };
        if suspect.others_answered {
            suspect.lost = suspect.lost.saturating_add(1);
            suspect.others_answered = false;
        }
        let dies = !suspect.dead && suspect.lost >= DEAD_AFTER && verdicts;
        suspect.dead |= dies;
        dies
    }

    /// The port answered on `flow`.
    pub(crate) fn answered(&mut self, flow: u16) -> Settled {
        (self.run, self.first_flow, self.several_flows) = (0, None, false);
        let mut healed = false;
        self.suspects.retain_mut(|suspect| {
            suspect.others_answered = true;
            healed |= suspect.dead && suspect.flow == flow;
            suspect.flow != flow
        });
        Settled { lost: std::mem::take(&mut self.held), healed }
    }

    /// What to ask now. `flows` are all there are; without `may_ask` only the closed port is asked.
    pub(crate) fn next(&mut self, flows: &[u16], may_ask: bool) -> Step {
        if self.waiting > 0 {
            return Step::Wait;
        }
        if self.run >= SILENT_RUN && (self.several_flows || flows.len() < 2) {
            // The whole target is silent: that says nothing about single flows.
            self.suspects.retain(|suspect| suspect.dead);
            let mut silent: Vec<u16> = Vec::new();
            for flow in self.held.iter().filter_map(|outcome| outcome.sent?.source_port) {
                if silent.len() < CHECKS && !silent.contains(&flow) {
                    silent.push(flow);
                }
            }
            if silent.is_empty() {
                return Step::Wait;
            }
            self.waiting = silent.len() as u32;
            self.check = Check::default();
            return Step::Check(silent);
        }
        let suspect = self.suspects.iter().find(|suspect| !suspect.dead);
        let flow = match suspect {
            Some(suspect) if suspect.others_answered => Some(suspect.flow),
            None if self.held.is_empty() => None,
            Some(_) | None => self.another(flows),
        };
        match flow.filter(|_| may_ask) {
            Some(flow) => {
                self.waiting = 1;
                Step::Ask(flow)
            }
            None => Step::Wait,
        }
    }

    /// A flow that is not under suspicion: the one after the flow of the first silence.
    fn another(&self, flows: &[u16]) -> Option<u16> {
        let first = flows.iter().position(|flow| Some(*flow) == self.first_flow).unwrap_or(0);
        let in_turn = flows.iter().cycle().skip(first + self.run.max(1) as usize).take(flows.len());
        let unsuspected = |flow: &&u16| self.suspects.iter().all(|suspect| suspect.flow != **flow);
        in_turn.copied().find(|flow| unsuspected(&flow)).or_else(|| flows.first().copied())
    }

    /// A SYN that was sent to ask has its result, whatever it is.
    pub(crate) fn heard(&mut self) {
        self.waiting = self.waiting.saturating_sub(1);
    }

    /// What the closed port did with one of the SYNs. When all have their results: what is held, and whether it is
    /// the listener's; otherwise lost.
    pub(crate) fn checked(&mut self, checked: Checked) -> Option<(Vec<Outcome>, bool)> {
        self.heard();
        match checked {
            Checked::Reset => {}
            Checked::Silent => self.check.silent = true,
            Checked::Unclear => self.check.unclear = true,
        }
        if self.waiting > 0 || (self.check.unclear && !self.check.silent) {
            return None;
        }
        Some((std::mem::take(&mut self.held), !self.check.silent))
    }

    /// What can be held no longer.
    pub(crate) fn overfull(&mut self) -> Vec<Outcome> {
        if self.held.len() > MOST_HELD { std::mem::take(&mut self.held) } else { Vec::new() }
    }

    /// Everything that is held.
    pub(crate) fn give_up(&mut self) -> Vec<Outcome> {
        std::mem::take(&mut self.held)
    }

    /// A flow is no longer used. Returns whether it was black-holed.
    pub(crate) fn forget_flow(&mut self, flow: u16) -> bool {
        let dead = self.suspects.iter().any(|suspect| suspect.dead && suspect.flow == flow);
        self.suspects.retain(|suspect| suspect.flow != flow);
        dead
    }

    /// Whether no question is open.
    pub(crate) fn is_over(&self) -> bool {
        self.run == 0 && self.held.is_empty() && self.suspects.is_empty() && self.waiting == 0
    }
}

/// The held outcomes with their verdict.
pub(crate) fn judged(held: Vec<Outcome>, listener: bool) -> impl Iterator<Item = Outcome> {
    let result = if listener { ProbeResult::Listener } else { ProbeResult::Lost };
    held.into_iter().map(move |outcome| Outcome { result, ..outcome })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::outcome::{Sent, StampSource};
    use crate::target::StreamId;
    use crate::time::{Instant, WallTime};

    const FLOWS: [u16; 4] = [1, 2, 3, 4];

    #[test]
    fn an_answer_after_a_silence_makes_it_a_loss_at_once() {
        let mut inquiry = Inquiry::default();
        inquiry.silent(1, Some(held(1)), true, true);
        assert_eq!(inquiry.next(&FLOWS, true), Step::Ask(2));
        inquiry.heard();
        assert_eq!(inquiry.answered(2).lost.len(), 1);
        assert_eq!(inquiry.next(&FLOWS, true), Step::Ask(1), "the flow is asked again");
        inquiry.heard();
        inquiry.answered(1);
        assert!(inquiry.is_over());
    }

    #[test]
    fn three_silences_over_two_flows_are_taken_to_the_closed_port() {
        for (checked, listener) in [
            ([Checked::Reset, Checked::Reset], Some(true)),
            ([Checked::Reset, Checked::Silent], Some(false)),
            ([Checked::Unclear, Checked::Silent], Some(false)),
            ([Checked::Unclear, Checked::Reset], None),
        ] {
            let mut inquiry = Inquiry::default();
            inquiry.silent(1, Some(held(1)), true, true);
            assert_eq!(inquiry.next(&FLOWS, true), Step::Ask(2));
            inquiry.silent(2, Some(held(2)), false, true);
            assert_eq!(inquiry.next(&FLOWS, true), Step::Wait, "one question at a time");
            inquiry.heard();
            inquiry.silent(2, None, false, true);
            assert_eq!(inquiry.next(&FLOWS, true), Step::Check(vec![1, 2]));
            assert!(inquiry.checked(checked[0]).is_none());
            let verdict = inquiry.checked(checked[1]);
            assert_eq!(verdict.as_ref().map(|(_, listener)| *listener), listener);
            assert!(verdict.is_none_or(|(held, _)| held.len() == 2));
            // Each further silence goes to the closed port by its own flow.
            inquiry.give_up();
            inquiry.silent(3, Some(held(3)), false, true);
            assert_eq!(inquiry.next(&FLOWS, true), Step::Check(vec![3]));
        }
    }

    #[test]
    fn a_flow_is_dead_after_five_losses_each_with_an_answer_beside() {
        let mut inquiry = Inquiry::default();
        assert!(!inquiry.silent(1, None, true, true));
        for lost in 2..=5 {
            inquiry.answered(2);
            assert_eq!(inquiry.next(&FLOWS, true), Step::Ask(1));
            inquiry.heard();
            assert_eq!(inquiry.silent(1, None, true, true), lost == 5, "{lost} lost");
        }
        inquiry.answered(3);
        assert_eq!((inquiry.is_over(), inquiry.next(&FLOWS, true)), (false, Step::Wait));
        assert!(inquiry.answered(1).healed);
        assert!(inquiry.is_over());
    }

    #[test]
    fn silence_of_all_flows_makes_none_dead() {
        let mut inquiry = Inquiry::default();
        inquiry.silent(1, None, true, true);
        for flow in [2, 1, 3, 1, 2, 1, 4, 1, 1, 1] {
            inquiry.next(&FLOWS, true);
            inquiry.heard();
            assert!(!inquiry.silent(flow, None, false, true));
        }
        assert!(inquiry.suspects.is_empty());
    }

    #[test]
    fn without_verdicts_no_flow_dies_and_afterwards_it_does() {
        let mut inquiry = Inquiry::default();
        inquiry.silent(1, None, true, false);
        for _ in 0..10 {
            inquiry.answered(2);
            assert!(!inquiry.silent(1, None, true, false));
        }
        inquiry.answered(2);
        assert!(inquiry.silent(1, None, true, true));
        assert!(inquiry.forget_flow(1));
    }

    fn held(flow: u16) -> Outcome {
        let sent = Sent {
            at: WallTime::default(),
            tx: StampSource::User,
            rx: None,
            cookie: 0,
            sequence: 0,
            source_port: Some(flow),
            destination_port: None,
        };
        let (stream, due) = (StreamId(1), Instant::default());
        Outcome { stream, number: 0, due, result: ProbeResult::Lost, count: 1, sent: Some(sent) }
    }
}
