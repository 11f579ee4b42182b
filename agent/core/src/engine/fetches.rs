//! Fetches: when each peer is asked for its list. They follow the same law as probes: each that falls due ends once.
//!
//! A loss that waits for its confirmation asks for one before its turn. So a node in trouble is asked more often, and never
//! more often than once a second: one of the schedule that would follow too soon waits for so long.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::mem;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::{Engine, Event, Poll};
use crate::exchange::FetchResult;
use crate::hash::stable;
use crate::mesh::NodeView;
use crate::schedule::Grid;
use crate::time::Instant;

/// Who carries out fetches reports each; one that has not been reported so long after its timeout never will be.
const REPORT: Duration = Duration::from_secs(2);

/// The least time between two fetches from one node, by their beginnings.
const APART: Duration = Duration::from_secs(1);

/// While one is under way, its end is looked for so often.
const LOOK: Duration = Duration::from_millis(100);

/// A peer to be asked for its list, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct PlannedFetch {
    /// Its node: at most one is planned for each.
    pub node: Arc<str>,
    /// Its agent's addresses: one of each family at most, the first is tried first.
    pub addresses: Vec<IpAddr>,
    /// The port of its `/v1/node`.
    pub port: u16,
    /// Time between two fetches.
    pub interval: Duration,
    /// Time for the whole answer.
    pub timeout: Duration,
}

/// Names a fetch inside one engine. A removed fetch's number is not used again.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct FetchId(u64);

/// How a fetch ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fetched {
    /// The end.
    pub result: FetchResult,
    /// What the peer tells, if the end is usable: a new list, or the known one, asked for at the time of this fetch.
    pub view: Option<Arc<NodeView>>,
}

impl Fetched {
    /// An end without a list.
    pub const fn failed(result: FetchResult) -> Self {
        Self { result, view: None }
    }
}

/// All fetches.
#[derive(Debug, Default)]
pub(super) struct Fetches {
    added: u64,
    all: BTreeMap<FetchId, State>,
    by_node: HashMap<Arc<str>, FetchId>,
    /// By when they are due: of the schedule, or earlier because a loss waits.
    due: BTreeSet<(Instant, FetchId)>,
    /// Those under way, by until when an end is waited for.
    awaited: BTreeSet<(Instant, FetchId)>,
}

#[derive(Debug)]
struct State {
    planned: PlannedFetch,
    grid: Grid,
    /// `None`: removed while it was under way. It ends like the others, and is not begun again.
    due: Option<Instant>,
    /// Whether it is due because a loss waits, not by the schedule.
    early: bool,
    begun: Option<Instant>,
    awaited: Option<Instant>,
}

/// A fetch that has ended.
pub(super) struct Ended {
    pub(super) node: Arc<str>,
    pub(super) begun: Instant,
    /// Whether its node is still asked this way.
    pub(super) current: bool,
}

impl State {
    fn new(planned: PlannedFetch, source: &str, now: Instant) -> Self {
        let phase = stable(&[source.as_bytes(), planned.node.as_bytes(), b"fetch"]);
        let grid = Grid::at(phase, planned.interval);
        let due = Some(grid.at_or_after(now));
        Self { planned, grid, due, early: false, begun: None, awaited: None }
    }
}

impl Fetches {
    /// When something is to be done, given that it is `now`.
    pub(super) fn first(&self, now: Instant) -> Option<Instant> {
        let due = self.due.first().map(|(due, _)| *due);
        let ended = self.awaited.first().map(|(until, _)| (*until).min(now + LOOK));
        due.into_iter().chain(ended).min()
    }

    /// Whether a node is asked for its list at all.
    pub(super) fn asks(&self, node: &str) -> bool {
        self.by_node.contains_key(node)
    }

    /// When the fetch from a node began that is under way.
    pub(super) fn under_way(&self, node: &str) -> Option<Instant> {
        let state = self.all.get(self.by_node.get(node)?)?;
        state.begun.filter(|_| state.awaited.is_some())
    }

    /// When a fetch from a node was last begun.
    pub(super) fn begun(&self, node: &str) -> Option<Instant> {
        self.all.get(self.by_node.get(node)?)?.begun
    }

    /// Has a node asked as soon as may be, unless it is just being asked.
    pub(super) fn hasten(&mut self, node: &str, now: Instant) {
        let Some(id) = self.by_node.get(node) else { return };
        let Some(state) = self.all.get_mut(id) else { return };
        let soonest = state.begun.map_or(now, |begun| now.max(begun + APART));
        if let Some(due) = state.due.filter(|due| *due > soonest && state.awaited.is_none()) {
            self.due.remove(&(due, *id));
            self.due.insert((soonest, *id));
            (state.due, state.early) = (Some(soonest), true);
        }
    }

    /// It is no longer under way. Returns what it is, if it was.
    fn end(&mut self, id: FetchId) -> Option<Ended> {
        let state = self.all.get_mut(&id)?;
        let until = state.awaited.take()?;
        self.awaited.remove(&(until, id));
        let (node, begun) = (Arc::clone(&state.planned.node), state.begun?);
        let current = state.due.is_some();
        if !current {
            self.all.remove(&id);
        }
        Some(Ended { node, begun, current })
    }
}

impl Engine {
    /// Replaces what is fetched. A fetch that stays as it was keeps its schedule; one that goes while it is under way
    /// still ends. Of two for one node the first counts.
    pub fn set_fetches(&mut self, now: Instant, planned: &[PlannedFetch]) {
        let before = mem::take(&mut self.fetches);
        let (mut added, mut all) = (before.added, before.all);
        let (mut stays, mut by_node) = (BTreeMap::new(), HashMap::with_capacity(planned.len()));
        for plan in planned {
            if by_node.contains_key(&plan.node) {
                continue;
            }
            let known = before
                .by_node
                .get(&plan.node)
                .filter(|id| all.get(id).is_some_and(|state| state.planned == *plan));
            let (id, state) = if let Some(known) = known.and_then(|id| all.remove_entry(id)) {
                known
            } else {
                added += 1;
                self.owner_replaced(&plan.node);
                (FetchId(added), State::new(plan.clone(), &self.identity.source, now))
            };
            by_node.insert(Arc::clone(&plan.node), id);
            stays.insert(id, state);
        }
        let leaving = all.into_iter().filter(|(_, state)| state.awaited.is_some());
        stays.extend(leaving.map(|(id, state)| (id, State { due: None, ..state })));
        self.fetches = Fetches {
            added,
            by_node,
            due: stays.iter().filter_map(|(id, state)| Some((state.due?, *id))).collect(),
            awaited: stays.iter().filter_map(|(id, state)| Some((state.awaited?, *id))).collect(),
            all: stays,
        };
    }

    /// What a fetch is, while it is one.
    pub fn fetch(&self, id: FetchId) -> Option<&PlannedFetch> {
        Some(&self.fetches.all.get(&id)?.planned)
    }

    /// A fetch that was handed out has ended. What it brought explains the losses that wait for it.
    pub fn handle_fetched(&mut self, id: FetchId, now: Instant, fetched: Fetched) {
        let Some(ended) = self.fetches.end(id) else { return };
        if ended.current {
            self.owner_fetched(&ended, now, &fetched);
        }
        self.events.push_back(Event::Fetched(ended.node, fetched));
    }

    /// The next fetch that is due.
    pub(super) fn poll_fetch(&mut self, now: Instant) -> Option<Poll> {
        while let Some((_, id)) = self.fetches.awaited.first().copied().filter(|(until, _)| *until <= now) {
            self.handle_fetched(id, now, Fetched::failed(FetchResult::NotSent));
        }
        let Fetches { all, due: dues, awaited, .. } = &mut self.fetches;
        while let Some((due, id)) = dues.first().copied().filter(|(due, _)| *due <= now) {
            dues.pop_first();
            let state = all.get_mut(&id)?;
            let (early, interval) = (mem::take(&mut state.early), state.planned.interval);
            // What is a whole interval late is left out: a stall is not made up for. So is one whose last is still
            // under way.
            let missed = if early { 0 } else { state.grid.count(due, now).saturating_sub(1) };
            let under_way = state.awaited.is_some();
            for _ in 0..missed + u64::from(under_way) {
                let node = Arc::clone(&state.planned.node);
                self.events.push_back(Event::Fetched(node, Fetched::failed(FetchResult::NotSent)));
            }
            // One of the schedule that would follow too soon waits: none is more than an interval after the one before.
            let next = state.grid.at_or_after(now + Duration::from_nanos(1)).max(now + APART.min(interval));
            state.due = Some(next);
            dues.insert((next, id));
            if !under_way {
                let until = now + state.planned.timeout + REPORT;
                (state.begun, state.awaited) = (Some(now), Some(until));
                awaited.insert((until, id));
                self.pace.spend();
                return Some(Poll::Fetch(id));
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::testing::{at, engine, events, planned_fetch, view};

    #[test]
    fn each_peer_is_asked_each_interval_at_a_time_of_its_own() {
        let mut engine = engine();
        let nodes: Vec<String> = (0..30).map(|number| format!("node-{number}")).collect();
        let planned: Vec<_> = nodes.iter().map(|node| planned_fetch(node)).collect();
        engine.set_fetches(at(0), &planned);
        let mut asked: BTreeMap<Arc<str>, Vec<u64>> = BTreeMap::new();
        for tick in (0..30_000).step_by(10) {
            while let Some(Poll::Fetch(id)) = engine.poll_fetch(at(tick)) {
                let node = Arc::clone(&engine.fetch(id).unwrap().node);
                asked.entry(node).or_default().push(tick);
                engine.handle_fetched(id, at(tick), usable(tick));
            }
        }
        assert!(asked.len() == 30 && asked.values().all(|ticks| ticks.len() == 10));
        assert!(asked.values().all(|ticks| ticks.windows(2).all(|pair| pair[1] - pair[0] == 3_000)));
        let first: BTreeSet<u64> = asked.values().map(|ticks| ticks[0]).collect();
        assert!(first.len() > 25, "{first:?}");
        assert_eq!(events(&mut engine).len(), 300);
    }

    #[test]
    fn an_early_fetch_comes_at_once_and_no_more_than_once_a_second() {
        let mut engine = engine();
        engine.set_fetches(at(0), &[planned_fetch("a")]);
        let mut asked = Vec::new();
        for tick in (0..9_000).step_by(10) {
            if tick >= 4_000 {
                engine.fetches.hasten("a", at(tick));
            }
            while let Some(Poll::Fetch(id)) = engine.poll_fetch(at(tick)) {
                asked.push(tick);
                engine.handle_fetched(id, at(tick), usable(tick));
            }
        }
        assert!(asked.windows(2).all(|pair| pair[1] - pair[0] >= 1_000), "{asked:?}");
        assert!(asked.len() >= 6, "{asked:?}");
        assert_eq!(events(&mut engine).len(), asked.len());
    }

    #[test]
    fn after_an_early_fetch_the_next_comes_within_an_interval_all_the_same() {
        let mut engine = engine();
        engine.set_fetches(at(0), &[planned_fetch("a")]);
        let mut asked = Vec::new();
        for tick in (0..60_000).step_by(10) {
            // At any distance from the schedule.
            if tick % 4_170 == 0 {
                engine.fetches.hasten("a", at(tick));
            }
            while let Some(Poll::Fetch(id)) = engine.poll_fetch(at(tick)) {
                asked.push(tick);
                engine.handle_fetched(id, at(tick), usable(tick));
            }
        }
        assert!(asked.windows(2).all(|pair| (1_000..=3_010).contains(&(pair[1] - pair[0]))), "{asked:?}");
    }

    #[test]
    fn one_that_is_under_way_is_not_asked_for_again() {
        let mut engine = engine();
        engine.set_fetches(at(0), &[planned_fetch("a")]);
        let first = (0..3_000).find(|tick| engine.poll_fetch(at(*tick)).is_some()).unwrap();
        engine.fetches.hasten("a", at(first + 1_500));
        assert!((first..first + 3_000).all(|tick| engine.poll_fetch(at(tick)).is_none()));
        assert_eq!(engine.fetches.under_way("a"), Some(at(first)));
        // It falls due again, and is left out.
        assert_eq!(engine.poll_fetch(at(first + 3_000)), None);
        assert_eq!(ends(&mut engine), [FetchResult::NotSent]);
    }

    #[test]
    fn what_is_never_reported_and_what_a_stall_left_out_was_not_sent() {
        let mut engine = engine();
        engine.set_fetches(at(0), &[planned_fetch("a")]);
        let first = (0..3_000).find(|tick| engine.poll_fetch(at(*tick)).is_some()).unwrap();
        assert!(engine.poll_fetch(at(first + 9_100)).is_some());
        assert_eq!(ends(&mut engine), [FetchResult::NotSent; 3]);
    }

    #[test]
    fn a_fetch_that_goes_while_it_is_under_way_still_ends_once() {
        let mut engine = engine();
        engine.set_fetches(at(0), &[planned_fetch("a"), planned_fetch("b")]);
        let polls: Vec<_> = (0..3_000).filter_map(|tick| engine.poll_fetch(at(tick))).collect();
        let [Poll::Fetch(answered), Poll::Fetch(silent)] = polls[..] else { panic!("{polls:?}") };
        engine.set_fetches(at(3_000), &[]);
        engine.handle_fetched(answered, at(3_000), usable(3_000));
        engine.handle_fetched(answered, at(3_000), usable(3_000));
        assert_eq!(ends(&mut engine), [FetchResult::Ok]);
        assert_eq!(engine.poll_fetch(at(60_000)), None);
        engine.handle_fetched(silent, at(60_000), usable(60_000));
        assert_eq!(ends(&mut engine), [FetchResult::NotSent]);
        assert!(engine.fetches.all.is_empty() && engine.fetches.first(at(60_000)).is_none());
    }

    #[test]
    fn a_fetch_that_stays_keeps_its_schedule_and_at_another_address_it_is_another_one() {
        let mut engine = engine();
        engine.set_fetches(at(0), &[planned_fetch("a"), planned_fetch("b")]);
        let before = engine.fetches.due.clone();
        engine.set_fetches(at(100), &[planned_fetch("b"), planned_fetch("a"), planned_fetch("a")]);
        assert_eq!(engine.fetches.due, before);
        let moved = PlannedFetch { addresses: vec![[10, 0, 1, 2].into()], ..planned_fetch("a") };
        let known = engine.fetches.by_node["a"];
        engine.set_fetches(at(100), &[moved]);
        assert_ne!(engine.fetches.by_node["a"], known);
        assert_eq!(engine.fetches.all.len(), 1);
    }

    fn usable(tick: u64) -> Fetched {
        Fetched { result: FetchResult::Ok, view: Some(Arc::new(view(tick, &[]))) }
    }

    fn ends(engine: &mut Engine) -> Vec<FetchResult> {
        let end = |event| if let Event::Fetched(_, fetched) = event { Some(fetched.result) } else { None };
        events(engine).into_iter().filter_map(end).collect()
    }
}
