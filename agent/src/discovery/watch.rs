//! A watch of one kind of objects, which goes on for ever: a list, then each change.
//!
//! The list is streamed where the server can (<https://kubernetes.io/docs/reference/using-api/api-concepts/#streaming-lists>),
//! else fetched. Either is served from the server's cache (`resourceVersion` of zero or of what we know), as the
//! kubelet's own are: it is indexed by node, so that neither list nor watch of one node's pods depends on all others.
//! Bookmarks tell that a quiet watch lives. What is too old to go on from (410) is listed again; a stream that ends, is
//! cut, or is silent for too long goes on from the last object seen.
//!
//! kube's own watcher is not used: it neither tells of bookmarks, without which nobody knows how current a quiet watch
//! is, nor falls back where streaming is refused.

mod health;
mod pause;
mod requests;
mod trouble;

use std::collections::VecDeque;
use std::time::Duration;

use kube::core::WatchEvent;
use serde::de::DeserializeOwned;
use tokio::time::{Instant as Timer, sleep_until};

pub use self::health::Health;
pub use self::pause::{After, Pause, Random};
pub use self::requests::Scope;
pub use self::trouble::{Trouble, TroubleKind};

pub(super) use self::requests::{in_time, no_client, no_request};

use self::requests::{Events, Told, list, next_of, open};

use super::api::Api;
use crate::clock;

/// A watch that ends sooner than this did not end because it was time.
const TOO_SOON: Duration = Duration::from_secs(5);

/// After a break that was not longer than this, what is told has just happened.
const CAUGHT_UP: Duration = Duration::from_secs(1);

/// A watch that lived for so long was a success: what fails after it fails for the first time.
const SUCCESS: Duration = Duration::from_secs(30);

/// The annotation of the bookmark after the last object of a streamed list.
const INITIAL_END: &str = "k8s.io/initial-events-end";

/// An object as far as a watch has to know it.
pub trait Watched: DeserializeOwned + Clone + Send + 'static {
    /// `metadata.resourceVersion`.
    fn version(&self) -> &str;
}

/// What a watch tells.
#[derive(Debug)]
pub enum Event<K> {
    /// A list begins; what was known stays until it is complete.
    Begin,
    /// An object of the list.
    Include(K),
    /// That was the list: what was not included is gone.
    Complete,
    /// An object is new or has changed.
    Apply(K),
    /// An object is gone; this is the last that was known of it.
    Delete(K),
    /// The watch is whole, or still there.
    Heard,
    /// It is not: [`Watch::next`] waits and tries again.
    Broken(Trouble),
}

/// A watch.
pub struct Watch<K> {
    api: Api,
    scope: Scope,
    state: State<K>,
    health: Health,
    /// Whether the server streams lists, as far as we know.
    streams: bool,
    /// Whether the next list is to be fetched even so.
    fetch_next: bool,
    /// What we know already; `0` is nothing.
    version: String,
    pause: Pause,
    random: Random,
    not_before: Option<Timer>,
    live_since: Option<Timer>,
    /// The watch was silent for so long that nobody knows whether it still lived.
    in_doubt: bool,
    /// How long the watch had been broken before it was whole again.
    gap: Duration,
    /// What is wrong, as the log says.
    said: Option<TroubleKind>,
}

impl<K> std::fmt::Debug for Watch<K> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Watch")
            .field("scope", &self.scope)
            .field("health", &self.health)
            .finish_non_exhaustive()
    }
}

enum State<K> {
    /// Nothing is known, or too little.
    Start,
    /// A fetched list is handed out.
    Listed(VecDeque<K>),
    /// Everything up to our version is known.
    Resume,
    /// A list is streamed.
    Initial(Events<K>),
    /// Changes are streamed.
    Live(Events<K>),
}

impl<K: Watched> Watch<K> {
    /// Nothing is sent before the first [`Watch::next`].
    pub fn new(api: Api, scope: Scope, mut random: Random) -> Self {
        let health = Health::new(api.patience());
        let seed = random.between(Duration::ZERO, Duration::from_hours(1)).as_nanos() as u64;
        Self {
            api,
            scope,
            state: State::Start,
            health,
            in_doubt: false,
            streams: true,
            fetch_next: false,
            version: "0".into(),
            pause: Pause::new(Random::seeded(seed)),
            random,
            not_before: None,
            live_since: None,
            gap: Duration::ZERO,
            said: None,
        }
    }

    /// How current what it told is.
    pub fn health(&self) -> Health {
        self.health
    }

    /// Whether what it tells may have happened some time ago: it goes on after a break, and what was missed comes first.
    pub fn is_catching_up(&self) -> bool {
        self.gap > CAUGHT_UP && self.lived() < TOO_SOON
    }

    /// Lists everything again: after a change of what is made of it.
    pub fn restart(&mut self) {
        self.health.ended(clock::now());
        self.state = State::Start;
    }

    /// What it tells next. Dropping the future loses nothing.
    pub async fn next(&mut self) -> Event<K> {
        loop {
            if let Some(event) = self.step().await {
                return event;
            }
        }
    }

    async fn step(&mut self) -> Option<Event<K>> {
        let patience = self.api.patience();
        match &mut self.state {
            State::Start => self.start().await,
            State::Resume => self.resume().await,
            State::Listed(objects) => {
                let object = objects.pop_front();
                if object.is_none() {
                    self.state = State::Resume;
                }
                Some(object.map_or(Event::Complete, Event::Include))
            }
            State::Initial(events) => {
                let told = next_of(events, patience.initial).await;
                self.initial(told)
            }
            State::Live(events) => {
                let told = next_of(events, patience.silence).await;
                self.live(told)
            }
        }
    }

    async fn start(&mut self) -> Option<Event<K>> {
        self.wait().await;
        if self.streams && !self.fetch_next {
            return match open(&self.api, &self.scope, &self.version, &mut self.random, true).await {
                Ok(events) => {
                    self.state = State::Initial(events);
                    Some(Event::Begin)
                }
                Err(trouble) if trouble.kind.refuses_streams() => {
                    self.do_not_stream(&trouble);
                    None
                }
                Err(trouble) => Some(self.fail(trouble, State::Start)),
            };
        }
        self.fetch_next = false;
        match list(&self.api, &self.scope, &self.version).await {
            Ok((objects, version)) => {
                // What happens from now on is not known before the watch stands.
                self.health.listed(clock::now());
                self.version = version;
                self.state = State::Listed(objects.into());
                Some(Event::Begin)
            }
            Err(trouble) => Some(self.fail(trouble, State::Start)),
        }
    }

    async fn resume(&mut self) -> Option<Event<K>> {
        self.wait().await;
        match open(&self.api, &self.scope, &self.version, &mut self.random, false).await {
            Ok(events) => {
                self.state = State::Live(events);
                self.whole();
                Some(Event::Heard)
            }
            Err(trouble)
                if matches!(
                    trouble.kind,
                    TroubleKind::Expired | TroubleKind::Refused | TroubleKind::Missing
                ) =>
            {
                Some(self.fail(trouble, State::Start))
            }
            Err(trouble) => Some(self.fail(trouble, State::Resume)),
        }
    }

    /// A piece of a streamed list.
    fn initial(&mut self, told: Told<K>) -> Option<Event<K>> {
        let patience = self.api.patience();
        let trouble = match told {
            Told::Event(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                return Some(Event::Include(object));
            }
            Told::Event(WatchEvent::Bookmark(bookmark)) => {
                if !bookmark.metadata.annotations.contains_key(INITIAL_END) {
                    return None;
                }
                self.version = bookmark.metadata.resource_version;
                if let State::Initial(events) = std::mem::replace(&mut self.state, State::Start) {
                    self.state = State::Live(events);
                }
                self.whole();
                return Some(Event::Complete);
            }
            Told::Event(WatchEvent::Error(status)) => {
                let trouble = Trouble::of_status(&status);
                if trouble.kind.refuses_streams() {
                    self.do_not_stream(&trouble);
                    self.state = State::Start;
                    return None;
                }
                trouble
            }
            Told::Failure(trouble) => trouble,
            Told::End => Trouble::new(TroubleKind::Unreachable, "a streamed list ended before its end"),
            Told::Event(WatchEvent::Deleted(_)) => {
                // A server that takes a streamed list for a watch, or a defect: its list cannot be trusted.
                self.fetch_next = true;
                Trouble::new(TroubleKind::Garbled, "a deletion inside of a streamed list")
            }
            Told::Silence => {
                // A server that does not know streamed lists sends what there is, but never says that this was all.
                self.fetch_next = true;
                Trouble::new(
                    TroubleKind::Silent,
                    format!("a streamed list paused for {:?}", patience.initial),
                )
            }
        };
        Some(self.fail(trouble, State::Start))
    }

    /// A change.
    fn live(&mut self, told: Told<K>) -> Option<Event<K>> {
        let trouble = match told {
            Told::Event(WatchEvent::Added(object) | WatchEvent::Modified(object)) => {
                self.hear(object.version().to_owned());
                return Some(Event::Apply(object));
            }
            Told::Event(WatchEvent::Deleted(object)) => {
                self.hear(object.version().to_owned());
                return Some(Event::Delete(object));
            }
            Told::Event(WatchEvent::Bookmark(bookmark)) => {
                self.hear(bookmark.metadata.resource_version);
                return Some(Event::Heard);
            }
            Told::Event(WatchEvent::Error(status)) => Trouble::of_status(&status),
            Told::Failure(trouble) => trouble,
            Told::End if self.lived() < TOO_SOON => {
                Trouble::new(TroubleKind::Unreachable, "the watch ended at once")
            }
            Told::End => {
                self.settle();
                self.health.ended(clock::now());
                self.state = State::Resume;
                return None;
            }
            Told::Silence => {
                // Quiet or dead: a new watch tells, and has all that this one may have missed.
                self.in_doubt = true;
                self.state = State::Resume;
                return None;
            }
        };
        let again = match trouble.kind {
            TroubleKind::Expired | TroubleKind::Garbled => State::Start,
            _ => State::Resume,
        };
        Some(self.fail(trouble, again))
    }

    /// The server has refused to stream a list.
    fn do_not_stream(&mut self, trouble: &Trouble) {
        tracing::info!(what = self.scope.what, %trouble, "lists are not streamed; they are fetched");
        self.streams = false;
    }

    fn hear(&mut self, version: String) {
        if !version.is_empty() {
            self.version = version;
        }
        self.health.heard(clock::now());
    }

    fn whole(&mut self) {
        self.live_since = Some(Timer::now());
        self.in_doubt = false;
        let now = clock::now();
        self.gap = self.health.age(now).unwrap_or_default();
        self.health.whole(now);
        if self.said.take().is_some() {
            tracing::info!(what = self.scope.what, "the API server answers again");
        }
    }

    fn lived(&self) -> Duration {
        self.live_since.map_or(Duration::ZERO, |since| since.elapsed())
    }

    /// A watch ended: was it a success?
    fn settle(&mut self) {
        if self.lived() >= SUCCESS {
            self.pause.reset();
        }
        self.live_since = None;
    }

    fn fail(&mut self, trouble: Trouble, again: State<K>) -> Event<K> {
        self.settle();
        if self.in_doubt {
            self.health.dead();
        } else {
            self.health.ended(clock::now());
        }
        if trouble.kind.wants_new_client() {
            self.api.renew();
        }
        if matches!(again, State::Start) {
            // A server whose data were restored from a backup never gets to what we know.
            self.version = "0".into();
        }
        self.state = again;
        let wait = self.pause.next(trouble.kind.after());
        self.not_before = Some(Timer::now() + wait);
        if self.said.replace(trouble.kind) == Some(trouble.kind) {
            tracing::debug!(what = self.scope.what, %trouble, "still");
        } else {
            tracing::warn!(what = self.scope.what, %trouble, "cannot watch; what was known stays in force");
        }
        Event::Broken(trouble)
    }

    async fn wait(&mut self) {
        if let Some(moment) = self.not_before {
            sleep_until(moment).await;
            self.not_before = None;
        }
    }
}

#[cfg(test)]
mod tests;
