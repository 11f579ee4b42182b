//! The other agents, by the `EndpointSlice`s of their headless Service: the only thing that an agent knows of the whole
//! cluster.
//!
//! Up to [`Limits::watched`] agents the slices are watched. A change of one agent then costs each watcher a slice of a
//! hundred, so that above it only the names and versions of the slices are listed every [`Limits::list_every`], and
//! those are fetched that have changed. In between [`Handle::refresh`] fetches what matters now.

mod fetch;
mod index;
mod slice;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use podsonar_core::config::Identity;
use podsonar_core::mesh::Peer;
use tokio::sync::watch::Sender;
use tokio::sync::{mpsc, oneshot};
use tokio::time::{Instant as Timer, sleep_until, timeout};

pub use self::index::Index;
pub use self::slice::{Endpoint, Slice, SliceName};

use self::fetch::Fetch;
use super::api::Api;
use super::watch::{After, Event, Health, Pause, Random, Scope, Trouble, TroubleKind, Watch};
use crate::clock;

/// Refreshes that wait at the most; more are answered at once, without one.
const WAITING: usize = 16;

/// How long somebody waits for a refresh.
const PATIENCE: Duration = Duration::from_secs(3);

/// When what is done.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Up to so many peers their slices are watched; they are again when a tenth fewer are left.
    pub watched: usize,
    /// Above, what has changed is listed so often, up to a fifth sooner or later.
    pub list_every: Duration,
    /// And refreshed out of turn at most so often.
    pub refresh_every: Duration,
    /// Who stays silent is looked at once more after so long: at first its slice may not have changed yet.
    pub look_again: Duration,
}

impl Default for Limits {
    fn default() -> Self {
        Self {
            watched: 1_000,
            list_every: Duration::from_mins(5),
            refresh_every: Duration::from_secs(10),
            look_again: Duration::from_mins(1),
        }
    }
}

/// How the peers are followed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum Mode {
    /// Each change is told at once.
    #[default]
    Watch,
    /// Changes are listed every few minutes.
    List,
}

/// The other agents.
#[derive(Debug, Clone, Default)]
pub struct Peers {
    /// One for each other node, by node.
    pub peers: Arc<[Peer]>,
    /// Endpoints that are of no use: without node, address or port.
    pub useless: usize,
    /// How they are followed.
    pub mode: Mode,
    /// How current they are.
    pub health: Health,
}

/// Why a refresh is wanted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Refresh {
    /// The agent of this node has fallen silent: its slices are fetched, twice at the most until the next list.
    Silent(Arc<str>),
    /// An agent called that is not known: what has changed is fetched.
    Unknown,
}

/// Asks for a refresh.
#[derive(Debug, Clone)]
pub struct Handle(mpsc::Sender<Ask>);

/// What [`Handle`]s ask of [`follow`].
#[derive(Debug)]
pub struct Asks(mpsc::Receiver<Ask>);

#[derive(Debug)]
struct Ask {
    why: Refresh,
    done: oneshot::Sender<()>,
}

/// A handle and what it is for.
pub fn handle() -> (Handle, Asks) {
    let (sender, receiver) = mpsc::channel(WAITING);
    (Handle(sender), Asks(receiver))
}

impl Handle {
    /// Waits until the peers are as fresh as they get now, 3 s at the most: a watch is, as long as it is whole. Refreshes
    /// are limited in their rate, so that nobody who calls us can make us call the API server.
    pub async fn refresh(&self, why: Refresh) {
        let (done, wait) = oneshot::channel();
        if self.0.try_send(Ask { why, done }).is_ok() {
            // Too late, or nobody follows the peers any more: either way they are as fresh as they get.
            let _ = timeout(PATIENCE, wait).await;
        }
    }
}

/// Follows the peers for ever; `count` is told each failure. Receivers wake when the peers change, and when the watch
/// breaks or mends; its last sign of life is in the value without waking them.
pub async fn follow(
    api: Api,
    identity: &Identity,
    service: &str,
    limits: Limits,
    asks: Asks,
    publish: Sender<Peers>,
    count: impl Fn(TroubleKind) + Send,
) {
    let path = format!("/apis/discovery.k8s.io/v1/namespaces/{}/endpointslices", identity.namespace);
    let labels = format!("kubernetes.io/service-name={service}");
    let scope = Scope { what: "the agents' endpoint slices", path, fields: String::new(), labels };
    let index = Index::new(Arc::clone(&identity.node));
    let mut following =
        Following { api, scope, limits, asks, publish, count, index, random: Random::drawn() };
    loop {
        following.by_watch().await;
        following.by_list().await;
    }
}

/// The silent nodes that were looked at since the last list: how a node stays silent is not looked at all the time.
#[derive(Debug, Default)]
struct Looks {
    /// When it was looked at first.
    once: HashMap<Arc<str>, Timer>,
    twice: HashSet<Arc<str>>,
}

impl Looks {
    /// Whether a node is to be looked at now: the first time, and once more when so much time has passed.
    fn may(&mut self, node: &Arc<str>, again: Duration) -> bool {
        match self.once.get(node) {
            None => self.once.insert(Arc::clone(node), Timer::now()).is_none(),
            Some(first) => first.elapsed() >= again && self.twice.insert(Arc::clone(node)),
        }
    }
}

struct Following<C> {
    api: Api,
    scope: Scope,
    limits: Limits,
    asks: Asks,
    publish: Sender<Peers>,
    count: C,
    index: Index,
    random: Random,
}

impl<C: Fn(TroubleKind) + Send> Following<C> {
    /// Watches until there are too many.
    async fn by_watch(&mut self) {
        let mut watch: Watch<Slice> = Watch::new(self.api.clone(), self.scope.clone(), self.random.clone());
        // What was listed before is as good as it was until the watch knows all.
        let listed = self.publish.borrow().health;
        loop {
            let event = tokio::select! {
                event = watch.next() => event,
                Some(ask) = self.asks.0.recv() => {
                    // Whoever asks need not wait: a whole watch knows, and a broken one is being mended.
                    let _ = ask.done.send(());
                    continue;
                }
            };
            let changed = match event {
                Event::Begin => {
                    self.index.begin();
                    false
                }
                Event::Include(slice) => {
                    self.index.include(&slice);
                    false
                }
                Event::Complete => {
                    self.index.complete();
                    true
                }
                Event::Apply(slice) => {
                    self.index.apply(&slice);
                    true
                }
                Event::Delete(slice) => {
                    self.index.delete(slice.name());
                    true
                }
                Event::Heard => false,
                Event::Broken(trouble) => {
                    (self.count)(trouble.kind);
                    false
                }
            };
            let health = if watch.health().is_listed() { watch.health() } else { listed };
            let peers = self.tell(Mode::Watch, health, changed);
            if peers > self.limits.watched && watch.health().is_whole() {
                tracing::info!(peers, "so many agents are listed instead of watched");
                return;
            }
        }
    }

    /// Lists what has changed every few minutes, until there are few enough to be watched.
    async fn by_list(&mut self) {
        let fetch = Fetch::new(self.api.clone(), self.scope.clone());
        let mut pause = Pause::new(self.random.clone());
        let spread = self.limits.list_every / 5;
        let (least, most) = (self.limits.list_every.saturating_sub(spread), self.limits.list_every + spread);
        let mut health = self.publish.borrow().health.refreshed_every(most + self.api.patience().answer);
        let mut next = Timer::now() + self.random.between(least, most);
        let mut refreshed: Option<Timer> = None;
        let mut looks = Looks::default();
        self.tell(Mode::List, health, false);
        loop {
            let ask = tokio::select! {
                () = sleep_until(next) => None,
                Some(ask) = self.asks.0.recv() => Some(ask),
            };
            if ask.is_some() && refreshed.is_some_and(|moment| moment.elapsed() < self.limits.refresh_every) {
                continue;
            }
            match &ask {
                Some(Ask { why: Refresh::Silent(node), .. }) if !looks.may(node, self.limits.look_again) => {
                    continue;
                }
                None => looks = Looks::default(),
                Some(_) => {}
            }
            let result = match &ask {
                Some(Ask { why: Refresh::Silent(node), .. }) => fetch.node(&mut self.index, node).await,
                Some(Ask { why: Refresh::Unknown, .. }) | None => fetch.changes(&mut self.index).await,
            };
            let done = result.is_ok();
            match result {
                Ok(()) => health.refreshed(clock::now()),
                Err(trouble) => self.failed(&trouble, &mut health),
            }
            if ask.is_some() {
                refreshed = Some(Timer::now());
            } else if done {
                pause.reset();
                next = Timer::now() + self.random.between(least, most);
            } else {
                next = Timer::now() + pause.next(After::Refusal);
            }
            let peers = self.tell(Mode::List, health, true);
            if let Some(ask) = ask {
                // Whoever asked may have lost patience.
                let _ = ask.done.send(());
            }
            if peers < self.limits.watched - self.limits.watched / 10 {
                tracing::info!(peers, "so few agents are watched again");
                return;
            }
        }
    }

    fn failed(&self, trouble: &Trouble, health: &mut Health) {
        (self.count)(trouble.kind);
        if trouble.kind.wants_new_client() {
            self.api.renew();
        }
        health.failed();
        tracing::warn!(what = self.scope.what, %trouble, "cannot list; what was known stays in force");
    }

    /// Publishes what is known, and returns how many peers there are.
    fn tell(&self, mode: Mode, health: Health, changed: bool) -> usize {
        let mut count = 0;
        self.publish.send_if_modified(|known| {
            let mut news = known.health.is_whole() != health.is_whole() || known.mode != mode;
            (known.health, known.mode) = (health, mode);
            if changed {
                let peers = self.index.peers();
                news |= *known.peers != *peers || known.useless != self.index.useless();
                known.useless = self.index.useless();
                if *known.peers != *peers {
                    known.peers = peers.into();
                }
            }
            count = known.peers.len();
            news
        });
        count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn who_stays_silent_is_looked_at_twice_until_the_next_list() {
        let (mut looks, again) = (Looks::default(), Limits::default().look_again);
        let (one, other) = ("one".into(), "other".into());
        let mut looked = Vec::new();
        for second in (0..300).step_by(3) {
            if looks.may(&one, again) {
                looked.push(second);
            }
            if second == 30 {
                assert!(looks.may(&other, again), "each for itself");
            }
            tokio::time::advance(Duration::from_secs(3)).await;
        }
        assert_eq!(looked, [0, 60]);
    }
}
