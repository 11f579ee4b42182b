//! Questions to name servers: when each is asked. They follow the same law as probes: each that falls due ends once.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Event, Poll};
use crate::hash::stable;
use crate::query::{QueryResult, Record};
use crate::schedule::Grid;
use crate::time::{Instant, nanos};

/// Who carries out questions reports each; one that has not been reported so long after its timeout never will be.
const REPORT: Duration = Duration::from_secs(2);

/// Questions are asked together at points so far apart: a wake-up costs several times what an exchange does.
const TOGETHER: Duration = Duration::from_millis(300);

/// What is asked of whom.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub struct Question {
    /// The name as the user wrote it.
    pub name: Arc<str>,
    /// The name server.
    pub server: SocketAddr,
    /// Which record.
    pub record: Record,
}

/// A question and its settings.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedQuestion {
    /// What is asked.
    pub question: Arc<Question>,
    /// Time between two askings.
    pub interval: Duration,
    /// Time for the whole answer, all names of the search list together.
    pub timeout: Duration,
    /// The most exchanges that it may take: each counts against the ceiling.
    pub exchanges: u32,
}

/// Names a question inside one engine. A removed question's number is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct QuestionId(u64);

/// All questions, and what the ceiling leaves.
#[derive(Debug, Default)]
pub(super) struct Questions {
    added: u64,
    all: Vec<State>,
    max_qps: f64,
    /// So many exchanges may be saved up for: those of one question, and of the time between two points.
    most: f64,
    tokens: f64,
    filled: Instant,
    /// Nothing is due before.
    next: Option<Instant>,
}

#[derive(Debug)]
struct State {
    id: QuestionId,
    planned: PlannedQuestion,
    grid: Grid,
    due: Instant,
    /// Until when an answer is waited for.
    asked_until: Option<Instant>,
}

impl Questions {
    /// When something is to be done: a question is due, or gets its turn.
    pub(super) fn first(&self) -> Option<Instant> {
        self.next
    }

    fn get(&self, id: QuestionId) -> Option<&State> {
        self.all.iter().find(|state| state.id == id)
    }

    fn plan(&mut self) {
        let times = self.all.iter().flat_map(|state| std::iter::once(state.due).chain(state.asked_until));
        self.next = times.min().map(together);
    }
}

/// The first point at or after `at` at which questions are asked.
fn together(at: Instant) -> Instant {
    let apart = nanos(TOGETHER);
    Instant::from_nanos(at.as_nanos().div_ceil(apart).saturating_mul(apart))
}

impl Engine {
    /// Replaces the questions. One that stays as it was keeps its schedule and is answered; one that goes is forgotten,
    /// and its answer too. All together take at most `max_qps` exchanges a second.
    pub fn set_questions(&mut self, now: Instant, planned: &[PlannedQuestion], max_qps: f64) {
        let source = self.identity.source.as_bytes();
        let mut before = std::mem::take(&mut self.questions);
        let mut added = before.added;
        let all = planned.iter().map(|plan| {
            if let Some(place) = before.all.iter().position(|state| state.planned == *plan) {
                return before.all.swap_remove(place);
            }
            let Question { name, server, record } = &*plan.question;
            let server = server.to_string();
            let hash = stable(&[source, name.as_bytes(), server.as_bytes(), record.label().as_bytes()]);
            let grid = Grid::at(hash, plan.interval);
            added += 1;
            let id = QuestionId(added);
            State { id, planned: plan.clone(), grid, due: grid.at_or_after(now), asked_until: None }
        });
        let all = all.collect();
        let tokens = before.tokens.min(1.0);
        let most = planned.iter().map(|plan| plan.exchanges).max().unwrap_or(1).max(1);
        let most = f64::from(most) + max_qps * TOGETHER.as_secs_f64();
        self.questions = Questions { added, all, max_qps, most, tokens, filled: now, next: None };
        self.questions.plan();
    }

    /// What a question is, while it is one.
    pub fn question(&self, id: QuestionId) -> Option<&PlannedQuestion> {
        Some(&self.questions.get(id)?.planned)
    }

    /// A question that was handed out has its answer.
    pub fn handle_queried(&mut self, id: QuestionId, result: QueryResult) {
        let Some(state) = self.questions.all.iter_mut().find(|state| state.id == id) else { return };
        if state.asked_until.take().is_some() {
            self.events.push_back(Event::Query(Arc::clone(&state.planned.question), result));
        }
    }

    /// The next question that is due and that the ceiling allows.
    pub(super) fn poll_question(&mut self, now: Instant) -> Option<Poll> {
        let questions = &mut self.questions;
        if questions.next.is_none_or(|next| next > now) {
            return None;
        }
        let elapsed = now.since(questions.filled).as_secs_f64();
        questions.filled = now;
        questions.tokens = (questions.tokens + elapsed * questions.max_qps).min(questions.most);
        for state in &mut questions.all {
            if state.asked_until.is_some_and(|until| until <= now) {
                state.asked_until = None;
                let question = Arc::clone(&state.planned.question);
                self.events.push_back(Event::Query(question, QueryResult::NotSent));
            }
        }
        // The longest overdue first, so that a tight ceiling starves none.
        let due = questions.all.iter_mut().filter(|state| state.due <= now);
        let Some(state) = due.min_by_key(|state| state.due) else {
            questions.plan();
            return None;
        };
        // What is a whole interval late is left out: a stall is not made up for.
        let missed = state.grid.count(state.due, now).saturating_sub(1);
        state.due = state.grid.advance(state.due, missed);
        let question = &state.planned.question;
        for _ in 0..missed {
            self.events.push_back(Event::Query(Arc::clone(question), QueryResult::NotSent));
        }
        let cost = f64::from(state.planned.exchanges.max(1));
        if questions.tokens < cost {
            questions.next = Some(together(now + Duration::from_nanos(1)));
            return None;
        }
        questions.tokens -= cost;
        state.due = state.grid.advance(state.due, 1);
        if state.asked_until.is_some() {
            // The one before is still on its way.
            self.events.push_back(Event::Query(Arc::clone(question), QueryResult::NotSent));
            return self.poll_question(now);
        }
        state.asked_until = Some(now + state.planned.timeout + REPORT);
        let id = state.id;
        questions.plan();
        Some(Poll::Query(id))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::{Identity, Secret};
    use crate::time::{ClockReading, WallTime};

    #[test]
    fn each_question_is_asked_each_interval_under_the_ceiling() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(100, 1), 10.0);
        let mut asked = vec![0; 101];
        for tick in 0..30_000 {
            if let Some(Poll::Query(id)) = engine.poll_question(at(tick)) {
                asked[id.0 as usize] += 1;
                engine.handle_queried(id, QueryResult::NoError);
            }
        }
        assert!(asked[1..].iter().all(|count| (2..=3).contains(count)), "{asked:?}");
        assert_eq!(results(&mut engine).len(), asked.iter().sum::<usize>());
    }

    #[test]
    fn the_ceiling_counts_exchanges() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(50, 4), 4.0);
        let asked = (0..20_000).filter(|tick| engine.poll_question(at(*tick)).is_some()).count();
        assert!((18..=21).contains(&asked), "{asked}");
    }

    #[test]
    fn what_is_never_reported_and_what_a_stall_left_out_was_not_sent() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(1, 1), 10.0);
        let first = (0..20_000).find(|tick| engine.poll_question(at(*tick)).is_some()).unwrap();
        assert!(engine.poll_question(at(first + 35_000)).is_some());
        assert_eq!(results(&mut engine), [QueryResult::NotSent; 3]);
    }

    #[test]
    fn a_question_that_stays_keeps_its_schedule_and_one_that_goes_is_forgotten() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(5, 1), 10.0);
        let polls = (0..10_000).filter_map(|tick| engine.poll_question(at(tick)));
        let asked: Vec<_> = polls.collect();
        results(&mut engine);
        let dues: Vec<_> = engine.questions.all.iter().map(|state| state.due).collect();
        engine.set_questions(at(10_000), &questions(4, 1), 10.0);
        let after: Vec<_> = engine.questions.all.iter().map(|state| state.due).collect();
        assert_eq!(dues[..4], after);
        for poll in asked {
            let Poll::Query(id) = poll else { panic!("{poll:?}") };
            engine.handle_queried(id, QueryResult::NoError);
        }
        let answered = results(&mut engine).len();
        assert!(answered <= 4 && engine.question(QuestionId(5)).is_none(), "{answered}");
    }

    fn results(engine: &mut Engine) -> Vec<QueryResult> {
        let events = std::iter::from_fn(|| engine.poll_event());
        let result = |event| if let Event::Query(_, result) = event { Some(result) } else { None };
        events.filter_map(result).collect()
    }

    fn questions(count: u32, exchanges: u32) -> Vec<PlannedQuestion> {
        let question = |number| Question {
            name: format!("name-{number}.example").into(),
            server: "10.0.0.10:53".parse().unwrap(),
            record: Record::A,
        };
        let planned = |number| PlannedQuestion {
            question: Arc::new(question(number)),
            interval: Duration::from_secs(10),
            timeout: Duration::from_secs(2),
            exchanges,
        };
        (0..count).map(planned).collect()
    }

    fn engine() -> Engine {
        let identity = Identity {
            source: "test".into(),
            epoch: 1,
            key: Secret([1; 16]),
            icmp_id: 1,
            source_ports_v4: vec![],
            source_ports_v6: vec![],
            closed_port: 1,
            size: 56,
            large_interval: None,
            max_pps: 100,
        };
        let clock = ClockReading {
            mono: at(0),
            wall: WallTime::from_nanos(0),
            suspended: Duration::ZERO,
            uncertainty: Duration::ZERO,
        };
        Engine::new(identity, clock)
    }

    fn at(millis: u64) -> Instant {
        Instant::from_nanos(millis * 1_000_000)
    }
}
