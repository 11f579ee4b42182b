//! Questions to name servers: when each is asked. They follow the same law as probes: each that falls due ends once.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
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

/// So many questions fall due together, and what came of them is looked for together: a wake-up costs several times what
/// a question does.
const TOGETHER: f64 = 16.0;

/// The shortest and the longest time from one such group to the next.
const APART: (Duration, Duration) = (Duration::from_millis(50), Duration::from_millis(500));

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
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct QuestionId(u64);

/// All questions, and what the ceiling leaves.
#[derive(Debug, Default)]
pub(super) struct Questions {
    added: u64,
    all: BTreeMap<QuestionId, State>,
    /// By when they are due.
    due: BTreeSet<(Instant, QuestionId)>,
    /// Those under way, by until when an answer is waited for.
    awaited: BTreeSet<(Instant, QuestionId)>,
    /// Time from one group to the next.
    apart: Duration,
    ceiling: Ceiling,
}

/// What may be asked.
#[derive(Debug, Default)]
struct Ceiling {
    max_qps: f64,
    /// So many exchanges may be saved up for: what one question may take, or what may be asked together.
    most: f64,
    tokens: f64,
    filled: Instant,
    /// When the ceiling allows what is due and has to wait for it.
    affordable: Option<Instant>,
}

#[derive(Debug)]
struct State {
    planned: PlannedQuestion,
    grid: Grid,
    /// `None`: removed while it was under way. It ends like the others, and is not asked again.
    due: Option<Instant>,
    awaited: Option<Instant>,
    is_new: bool,
}

impl State {
    /// One that was never asked is due at once.
    fn new(planned: PlannedQuestion, source: &str, apart: Duration, now: Instant) -> Self {
        let grid = grid(&planned, source, apart);
        Self { planned, grid, due: Some(now), awaited: None, is_new: true }
    }

    /// Whether it can go on as this: all but the interval is the same.
    fn takes(&self, planned: &PlannedQuestion) -> bool {
        PlannedQuestion { interval: self.planned.interval, ..planned.clone() } == self.planned
    }

    /// Another interval is no other question: it is next asked when it would have been, or earlier.
    fn set_interval(&mut self, interval: Duration, source: &str, apart: Duration, now: Instant) {
        if self.planned.interval != interval {
            self.planned.interval = interval;
            self.grid = grid(&self.planned, source, apart);
            self.due = self.due.map(|due| due.min(now + interval));
        }
    }

    /// The due time after this one: the next on the grid, and after a first asking one that is not too close.
    fn after(&mut self, due: Instant, now: Instant) -> Instant {
        let from = if mem::take(&mut self.is_new) { now } else { due };
        self.grid.at_or_after(from + self.planned.interval / 2)
    }
}

/// The due times of a question, at the points at which groups are asked.
fn grid(planned: &PlannedQuestion, source: &str, apart: Duration) -> Grid {
    let Question { name, server, record } = &*planned.question;
    let server = server.to_string();
    let parts = [source.as_bytes(), name.as_bytes(), server.as_bytes(), record.label().as_bytes()];
    let phase = stable(&parts) % nanos(planned.interval).max(1);
    Grid::at(phase - phase % nanos(apart), planned.interval)
}

impl Questions {
    /// When something is to be done, given that it is `now`: a question is due, or gets its turn, or may have ended.
    pub(super) fn first(&self, now: Instant) -> Option<Instant> {
        let due = self
            .due
            .first()
            .map(|(due, _)| if *due <= now { self.ceiling.affordable.unwrap_or(*due) } else { *due });
        let ended = self.awaited.first().map(|(until, _)| (*until).min(now + self.apart));
        due.into_iter().chain(ended).min()
    }

    /// It is no longer under way. Returns what it is, if it was.
    fn end(&mut self, id: QuestionId) -> Option<Arc<Question>> {
        let state = self.all.get_mut(&id)?;
        let until = state.awaited.take()?;
        self.awaited.remove(&(until, id));
        let question = Arc::clone(&state.planned.question);
        if state.due.is_none() {
            self.all.remove(&id);
        }
        Some(question)
    }
}

impl Ceiling {
    /// Takes what a question may cost, if there is so much.
    fn pays(&mut self, exchanges: u32, now: Instant) -> bool {
        let elapsed = now.since(self.filled).as_secs_f64();
        self.filled = now;
        self.tokens = (self.tokens + elapsed * self.max_qps).min(self.most);
        let lacking = f64::from(exchanges.max(1)) - self.tokens;
        let pays = lacking <= 0.0;
        if pays {
            self.tokens = -lacking;
        }
        let wait = || now + Duration::from_secs_f64(lacking / self.max_qps.max(1e-3));
        self.affordable = (!pays).then(wait);
        pays
    }
}

impl Engine {
    /// Replaces the questions. One that stays as it was keeps its schedule; a new one is asked as soon as the ceiling
    /// allows; one that goes while it is under way still ends. All together take at most `max_qps` exchanges a second.
    pub fn set_questions(&mut self, now: Instant, planned: &[PlannedQuestion], max_qps: f64) {
        let before = mem::take(&mut self.questions);
        let (mut added, mut all) = (before.added, before.all);
        let known: HashMap<_, _> = all
            .iter()
            .filter(|(_, state)| state.due.is_some())
            .map(|(id, state)| (Arc::clone(&state.planned.question), *id))
            .collect();
        let rate: f64 = planned.iter().map(|plan| plan.interval.as_secs_f64().recip()).sum();
        let apart = Duration::try_from_secs_f64(TOGETHER / rate).unwrap_or(APART.1).clamp(APART.0, APART.1);
        let mut stays = BTreeMap::new();
        for plan in planned {
            let known =
                known.get(&plan.question).filter(|id| all.get(id).is_some_and(|state| state.takes(plan)));
            if let Some((id, mut state)) = known.and_then(|id| all.remove_entry(id)) {
                state.set_interval(plan.interval, &self.identity.source, apart, now);
                stays.insert(id, state);
            } else {
                added += 1;
                stays.insert(QuestionId(added), State::new(plan.clone(), &self.identity.source, apart, now));
            }
        }
        let leaving = all.into_iter().filter(|(_, state)| state.awaited.is_some());
        stays.extend(leaving.map(|(id, state)| (id, State { due: None, ..state })));
        let most = planned.iter().map(|plan| plan.exchanges).max().unwrap_or(1).max(1);
        let most = f64::from(most).max(max_qps * apart.as_secs_f64());
        let tokens = before.ceiling.tokens.min(1.0);
        self.questions = Questions {
            added,
            due: stays.iter().filter_map(|(id, state)| Some((state.due?, *id))).collect(),
            awaited: stays.iter().filter_map(|(id, state)| Some((state.awaited?, *id))).collect(),
            all: stays,
            apart,
            ceiling: Ceiling { max_qps, most, tokens, filled: now, affordable: None },
        };
    }

    /// What a question is, while it is one.
    pub fn question(&self, id: QuestionId) -> Option<&PlannedQuestion> {
        Some(&self.questions.all.get(&id)?.planned)
    }

    /// A question that was handed out has its answer.
    pub fn handle_queried(&mut self, id: QuestionId, result: QueryResult) {
        let question = self.questions.end(id);
        self.events.extend(question.map(|question| Event::Query(question, result)));
    }

    /// The next question that is due and that the ceiling allows.
    pub(super) fn poll_question(&mut self, now: Instant) -> Option<Poll> {
        while let Some((_, id)) = self.questions.awaited.first().copied().filter(|(until, _)| *until <= now) {
            self.handle_queried(id, QueryResult::NotSent);
        }
        let Questions { all, due: dues, awaited, ceiling, .. } = &mut self.questions;
        // The longest overdue first, so that a tight ceiling starves none.
        while let Some((due, id)) = dues.first().copied().filter(|(due, _)| *due <= now) {
            dues.pop_first();
            let state = all.get_mut(&id)?;
            let question = &state.planned.question;
            // What is a whole interval late is left out: a stall is not made up for. So is one whose last asking is
            // still under way.
            let missed = state.grid.count(due, now).saturating_sub(1);
            let under_way = state.awaited.is_some();
            for _ in 0..missed + u64::from(under_way) {
                self.events.push_back(Event::Query(Arc::clone(question), QueryResult::NotSent));
            }
            let due = state.grid.advance(due, missed);
            let may_ask = !under_way && ceiling.pays(state.planned.exchanges, now);
            let next = if may_ask || under_way { state.after(due, now) } else { due };
            state.due = Some(next);
            dues.insert((next, id));
            if may_ask {
                let until = now + state.planned.timeout + REPORT;
                state.awaited = Some(until);
                awaited.insert((until, id));
                return Some(Poll::Query(id));
            }
            if !under_way {
                break;
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{at, engine};

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
        assert!(asked[1..].iter().all(|count| (2..=4).contains(count)), "{asked:?}");
        assert_eq!(results(&mut engine).len(), asked.iter().sum::<usize>());
        assert!((290..=301).contains(&asked.iter().sum::<usize>()), "{asked:?}");
    }

    #[test]
    fn a_new_question_is_asked_at_once_and_then_on_its_grid() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(1, 1), 10.0);
        let mut asked = Vec::new();
        for tick in 0..60_000 {
            if let Some(Poll::Query(id)) = engine.poll_question(at(tick)) {
                asked.push(tick);
                engine.handle_queried(id, QueryResult::NoError);
            }
        }
        assert!(asked[0] <= 100 && (5_000..=15_100).contains(&asked[1]), "{asked:?}");
        assert!(asked[1..].windows(2).all(|pair| pair[1] - pair[0] == 10_000), "{asked:?}");
    }

    #[test]
    fn many_questions_fall_due_together_and_none_is_left_out() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(333, 1), 50.0);
        let mut asked = Vec::new();
        // The driver's longest tick.
        for tick in (0..60_000).step_by(50) {
            while let Some(Poll::Query(id)) = engine.poll_question(at(tick)) {
                asked.push(tick);
                engine.handle_queried(id, QueryResult::NoError);
            }
        }
        assert!(results(&mut engine).iter().all(|result| *result == QueryResult::NoError));
        let in_a_round: Vec<_> = asked.into_iter().filter(|tick| (40_000..50_000).contains(tick)).collect();
        let times: BTreeSet<_> = in_a_round.iter().collect();
        assert!(in_a_round.len() == 333 && times.len() < 25, "{} {}", in_a_round.len(), times.len());
    }

    #[test]
    fn while_the_ceiling_is_waited_for_nothing_wakes_the_driver() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(2, 4), 4.0);
        assert_eq!(engine.poll_question(at(0)), None);
        assert_eq!(engine.questions.first(at(1)), Some(at(1_000)));
        let Some(Poll::Query(id)) = engine.poll_question(at(1_000)) else { panic!("it is due") };
        assert_eq!(engine.poll_question(at(1_000)), None);
        assert_eq!(engine.questions.first(at(1_001)), Some(at(1_501)), "it may have ended");
        engine.handle_queried(id, QueryResult::NoError);
        assert_eq!(engine.questions.first(at(1_001)), Some(at(2_000)));
    }

    #[test]
    fn a_question_that_goes_while_it_is_under_way_still_ends_once() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(2, 1), 10.0);
        let ids: Vec<_> = (0..1_000).filter_map(|tick| engine.poll_question(at(tick))).collect();
        let [Poll::Query(answered), Poll::Query(silent)] = ids[..] else { panic!("{ids:?}") };
        engine.set_questions(at(1_000), &[], 10.0);
        engine.handle_queried(answered, QueryResult::NoError);
        engine.handle_queried(answered, QueryResult::NoError);
        assert_eq!(results(&mut engine), [QueryResult::NoError]);
        assert_eq!(engine.poll_question(at(60_000)), None);
        engine.handle_queried(silent, QueryResult::NoError);
        assert_eq!(results(&mut engine), [QueryResult::NotSent]);
        assert!(engine.questions.all.is_empty() && engine.questions.first(at(60_000)).is_none());
    }

    #[test]
    fn with_another_interval_a_question_is_the_same_and_neither_asked_at_once_nor_later_than_before() {
        let mut engine = engine();
        let every = |seconds| {
            let planned = questions(1, 1).into_iter();
            let interval = Duration::from_secs(seconds);
            planned.map(|planned| PlannedQuestion { interval, ..planned }).collect::<Vec<_>>()
        };
        let asked = |engine: &mut Engine, from: u64, until: u64| {
            let mut asked = Vec::new();
            for tick in from..until {
                if let Some(Poll::Query(id)) = engine.poll_question(at(tick)) {
                    asked.push(tick);
                    engine.handle_queried(id, QueryResult::NoError);
                }
            }
            asked
        };
        engine.set_questions(at(0), &every(10), 10.0);
        assert_eq!(asked(&mut engine, 0, 1_000).len(), 1);
        let due = engine.questions.due.first().unwrap().0;
        // However often it changes: it is asked when it was to be asked.
        for tick in 1_000..4_000 {
            engine.set_questions(at(tick), &every(10 + tick % 2), 10.0);
            assert_eq!(engine.poll_question(at(tick)), None);
        }
        assert!(engine.questions.due.first().unwrap().0 <= due);
        assert_eq!(asked(&mut engine, 4_000, 16_000).len(), 1);
        engine.set_questions(at(16_000), &every(3_600), 10.0);
        engine.set_questions(at(16_001), &every(1), 10.0);
        let quick = asked(&mut engine, 16_001, 27_000);
        assert!((10..=12).contains(&quick.len()), "{quick:?}");
        assert!(results(&mut engine).iter().all(|result| *result == QueryResult::NoError));
    }

    #[test]
    fn with_other_settings_a_question_is_another_one() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(1, 1), 10.0);
        let first = (0..1_000).find_map(|tick| engine.poll_question(at(tick))).unwrap();
        engine.set_questions(at(1_000), &questions(1, 2), 10.0);
        let second = (1_000..2_000).find_map(|tick| engine.poll_question(at(tick))).unwrap();
        assert_ne!(first, second);
        for poll in [first, second] {
            let Poll::Query(id) = poll else { panic!("{poll:?}") };
            engine.handle_queried(id, QueryResult::NoError);
        }
        assert_eq!(results(&mut engine).len(), 2);
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
    fn a_question_that_stays_keeps_its_schedule_and_one_that_goes_is_not_asked_again() {
        let mut engine = engine();
        engine.set_questions(at(0), &questions(5, 1), 10.0);
        let polls = (0..10_000).filter_map(|tick| engine.poll_question(at(tick)));
        let asked: Vec<_> = polls.collect();
        results(&mut engine);
        let dues: Vec<_> = engine.questions.all.values().map(|state| state.due).collect();
        engine.set_questions(at(10_000), &questions(4, 1), 10.0);
        let after: Vec<_> = engine.questions.all.values().map(|state| state.due).collect();
        assert_eq!(dues[..4], after);
        for poll in asked {
            let Poll::Query(id) = poll else { panic!("{poll:?}") };
            engine.handle_queried(id, QueryResult::NoError);
        }
        assert!(engine.question(QuestionId(4)).is_some() && engine.question(QuestionId(5)).is_none());
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
}
