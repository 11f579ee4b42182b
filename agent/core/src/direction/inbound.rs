//! The way here: echo requests of other agents, counted by sender and IP version.
//!
//! The kernel answers them; we only see copies, so what is counted here says nothing about our own speed. A request
//! counts only if it carries the epoch of a known sender and comes from an address of that sender: both are told by
//! discovery and exchange ([`Source`]), never by the packet.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use super::window::{Arrival, Place, SILENT_PERIODS, Window};
use crate::mesh::{NodeView, Peer};
use crate::target::Family;
use crate::time::Instant;
use crate::wire::payload::{Heard, Payload, SizeClass};
use crate::wire::request::{Refusal, Request};

pub use super::window::Counts;

/// How often gaps and silences are looked at.
const LOOK: Duration = Duration::from_millis(100);

/// A sender has one window for each of our addresses that it probes and each size class; others are not believed.
const MOST_WINDOWS: usize = 8;

/// A window that nothing came to for so long says nothing about our present addresses.
const STALE: Duration = Duration::from_mins(1);

/// The longest that a packet may be late by itself: a period is over only after this.
const JITTER: Duration = Duration::from_millis(200);

/// An agent that may send to us.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Source {
    /// Its node: the label `source`.
    pub node: Arc<str>,
    /// Its zone: the label `source_zone`.
    pub zone: Arc<str>,
    /// What its echo requests carry, as its `/v1/node` says; never 0.
    pub epoch: u64,
    /// Where ours to it go, and from where its own come: its agent's addresses, as discovery tells them.
    pub addresses: Vec<IpAddr>,
    /// From where its own may come as well: its node's addresses, as it tells them itself, for networks that rewrite the
    /// sender's address.
    pub also_from: Vec<IpAddr>,
}

impl Source {
    /// A peer whose list is known. Whoever is about to leave is better left out: it will fall silent.
    pub fn of(peer: &Peer, view: &NodeView) -> Self {
        let zone = if peer.zone.is_empty() { &view.zone } else { &peer.zone };
        Self {
            node: Arc::clone(&peer.node),
            zone: Arc::clone(zone),
            epoch: view.epoch,
            addresses: peer.addresses.clone(),
            also_from: view.addresses.clone(),
        }
    }
}

/// Whom is heard, by which IP version.
#[derive(Debug, Clone, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Edge {
    /// The sending node.
    pub node: Arc<str>,
    /// Its zone.
    pub zone: Arc<str>,
    /// The IP version.
    pub family: Family,
}

/// What has changed about a sender.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct News {
    /// Which.
    pub edge: Edge,
    /// What was counted since the last news of it.
    pub counts: Counts,
    /// Whether it is silent now: known, heard before, and nothing came for five of its periods.
    pub silent: bool,
    /// Whether it is no longer listened to.
    pub gone: bool,
}

/// A request that counts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Accepted {
    /// From where it came: where our own probes to its sender go.
    pub from: IpAddr,
    /// The sender's run.
    pub epoch: u64,
    /// What the sender has heard from us.
    pub heard: Heard,
}

/// What arrives from other agents.
#[derive(Debug)]
pub struct Inbound {
    epoch: u64,
    /// The IP versions by which requests are seen, by [`Family::ALL`].
    listens: [Option<Reception>; Family::ALL.len()],
    senders: BTreeMap<Arc<str>, Sender>,
    nodes: HashMap<(u64, IpAddr), Arc<str>>,
    epochs: HashSet<u64>,
    by_address: HashMap<IpAddr, Arc<str>>,
    refused: [u64; Refusal::ALL.len()],
    news: Vec<News>,
    dirty: bool,
    looked: Instant,
}

/// How well requests of an IP version are received.
#[derive(Debug, Default)]
struct Reception {
    total: Option<u64>,
    /// When packets were last dropped.
    dropped: Option<Instant>,
    emptied: bool,
}

#[derive(Debug)]
struct Sender {
    source: Source,
    /// By [`Family::ALL`]; `None` if it has no address of that version or we do not listen to it.
    sides: [Option<Side>; Family::ALL.len()],
}

/// A sender by one IP version.
#[derive(Debug, Default)]
struct Side {
    windows: Vec<(IpAddr, SizeClass, Window)>,
    fresh: Counts,
    silent: bool,
    changed: bool,
}

impl Inbound {
    /// Nobody is known yet. `epoch` is our own, whose requests over loopback are passed over.
    pub fn new(epoch: u64) -> Self {
        Self {
            epoch,
            listens: Default::default(),
            senders: BTreeMap::new(),
            nodes: HashMap::new(),
            epochs: HashSet::new(),
            by_address: HashMap::new(),
            refused: [0; Refusal::ALL.len()],
            news: Vec::new(),
            dirty: false,
            looked: Instant::default(),
        }
    }

    /// Requests of this IP version are seen from now on.
    pub fn listen(&mut self, family: Family) {
        if let Some(reception) = self.listens.get_mut(family as usize) {
            reception.get_or_insert_default();
        }
    }

    /// Replaces who is known. Who stays with the same epoch is counted on; a new epoch starts anew, from its first
    /// packet.
    pub fn set_sources(&mut self, sources: &[Source]) {
        let wanted: BTreeMap<&str, &Source> = sources.iter().map(|source| (&*source.node, source)).collect();
        let mut before = std::mem::take(&mut self.senders);
        for source in wanted.into_values() {
            let kept = before.remove(&source.node).and_then(|sender| self.keep(sender, source));
            let mut sides = kept.map(|sender| sender.sides).unwrap_or_default();
            for ((family, side), listens) in Family::ALL.into_iter().zip(&mut sides).zip(&self.listens) {
                let has = source.addresses.iter().any(|address| Family::of(*address) == family);
                if !(has && listens.is_some()) {
                    if let Some(side) = side.take() {
                        self.news.push(side.end(source, family));
                    }
                } else if side.is_none() {
                    *side = Some(Side { changed: true, ..Side::default() });
                }
            }
            self.senders.insert(Arc::clone(&source.node), Sender { source: source.clone(), sides });
        }
        for sender in before.into_values() {
            self.news.extend(sender.end());
        }
        self.index();
        self.dirty = true;
    }

    /// How this tick's drain of an IP version's requests ended; before what it brought is handed over, so that gaps
    /// which our own drops explain are known for what they are. `dropped` is the socket's count so far.
    pub fn handle_drain(&mut self, now: Instant, family: Family, emptied: bool, dropped: u64) {
        let Some(Some(reception)) = self.listens.get_mut(family as usize) else { return };
        let before = reception.total.replace(dropped).unwrap_or(0);
        if dropped != before {
            reception.dropped = Some(now);
        }
        reception.emptied = emptied;
    }

    /// A request was refused before its sender was looked at.
    pub fn handle_refused(&mut self, refusal: Refusal) {
        if let Some(count) = self.refused.get_mut(refusal as usize) {
            *count += 1;
        }
    }

    /// A well-formed request came from `from`; it reached this host at `at` and is handed over `now`. Returns what its
    /// sender says if it counts.
    pub fn handle_request(
        &mut self,
        (at, now): (Instant, Instant),
        from: IpAddr,
        request: &Request,
    ) -> Option<Accepted> {
        let Request { to, payload } = request;
        if payload.epoch == 0 || payload.epoch == self.epoch {
            // Not meant for an agent, or our own.
            return None;
        }
        match self.note((at, now), from, *to, payload) {
            Ok(Place::New) if payload.class == SizeClass::Normal => {
                Some(Accepted { from, epoch: payload.epoch, heard: payload.heard })
            }
            Ok(_) => None,
            Err(refusal) => {
                self.handle_refused(refusal);
                None
            }
        }
    }

    /// Closes gaps, and tells who is silent, unless this agent is too sick to say so. A node that was last heard at a time
    /// is called silent only if `is_meant` to be heard since.
    pub fn look(
        &mut self,
        now: Instant,
        verdicts: bool,
        mut is_meant: impl FnMut(&Arc<str>, Instant) -> bool,
    ) {
        if now.since(self.looked) < LOOK {
            return;
        }
        self.looked = now;
        for (node, sender) in &mut self.senders {
            for (side, reception) in sender.sides.iter_mut().zip(&self.listens) {
                if let (Some(side), Some(reception)) = (side, reception) {
                    side.look(now, reception, verdicts, |heard| is_meant(node, heard));
                    self.dirty |= side.changed;
                }
            }
        }
    }

    /// What a probe of this size to an agent at `to` is to say. Nothing if it is not clear which of our addresses that
    /// agent takes for ours.
    pub fn heard(&self, to: IpAddr, class: SizeClass, now: Instant) -> Heard {
        let side = self
            .by_address
            .get(&to)
            .and_then(|node| self.senders.get(node))
            .and_then(|sender| sender.sides.get(Family::of(to) as usize)?.as_ref());
        let windows = side.into_iter().flat_map(|side| &side.windows);
        let mut windows = windows.filter(|(_, of, _)| *of == class).map(|(_, _, window)| window);
        let (first, second) = (windows.next(), windows.next());
        match (first, second) {
            (Some(only), None) => only.heard(),
            (Some(one), Some(other)) if windows.next().is_none() => {
                let stale = |window: &Window| now.since(window.arrived()) >= STALE;
                match (stale(one), stale(other)) {
                    (false, true) => one.heard(),
                    (true, false) => other.heard(),
                    (true, true) | (false, false) => Heard::default(),
                }
            }
            (None, _) | (Some(_), Some(_)) => Heard::default(),
        }
    }

    /// Whether there is news.
    pub fn has_news(&self) -> bool {
        self.dirty || !self.news.is_empty()
    }

    /// What has changed since it was last asked. A sender is named for the first time with nothing counted.
    pub fn take_news(&mut self) -> Vec<News> {
        let mut news = std::mem::take(&mut self.news);
        if std::mem::take(&mut self.dirty) {
            for Sender { source, sides } in self.senders.values_mut() {
                for (family, side) in Family::ALL.into_iter().zip(sides) {
                    if let Some(side) = side.as_mut().filter(|side| side.changed) {
                        side.changed = false;
                        news.push(side.news(source, family));
                    }
                }
            }
        }
        news
    }

    /// Requests that did not count so far, in the order of [`Refusal::ALL`].
    pub fn refused(&self) -> [u64; Refusal::ALL.len()] {
        self.refused
    }

    /// The addresses of the known senders by which we listen to them.
    pub(crate) fn addresses(&self) -> impl Iterator<Item = (Edge, IpAddr)> {
        self.senders.values().flat_map(|Sender { source, sides }| {
            let listened =
                |address: &&IpAddr| sides.get(Family::of(**address) as usize).is_some_and(Option::is_some);
            source.addresses.iter().filter(listened).map(|address| {
                let Source { node, zone, .. } = source;
                let family = Family::of(*address);
                (Edge { node: Arc::clone(node), zone: Arc::clone(zone), family }, *address)
            })
        })
    }

    fn note(
        &mut self,
        (at, now): (Instant, Instant),
        from: IpAddr,
        to: IpAddr,
        payload: &Payload,
    ) -> Result<Place, Refusal> {
        let Some(node) = self.nodes.get(&(payload.epoch, from)) else {
            let known = self.epochs.contains(&payload.epoch);
            return Err(if known { Refusal::WrongAddress } else { Refusal::UnknownEpoch });
        };
        let family = Family::of(from) as usize;
        let reception = self.listens.get(family).and_then(Option::as_ref);
        let side = self.senders.get_mut(node).and_then(|sender| sender.sides.get_mut(family)?.as_mut());
        // A request by an IP version that is not listened to cannot be.
        let (Some(reception), Some(side)) = (reception, side) else { return Err(Refusal::WrongAddress) };
        let place = side.note(Arrival { at, now, dropped: reception.dropped }, to, payload);
        self.dirty |= side.changed;
        match place {
            Place::Implausible => Err(Refusal::Implausible),
            place @ (Place::New | Place::Old) => Ok(place),
        }
    }

    /// A sender of that name goes on, or it ended and another one has begun.
    fn keep(&mut self, sender: Sender, source: &Source) -> Option<Sender> {
        let same = sender.source.epoch == source.epoch && sender.source.zone == source.zone;
        if same {
            return Some(sender);
        }
        let relabelled = sender.source.zone != source.zone;
        for mut news in sender.end() {
            news.gone = relabelled;
            self.news.push(news);
        }
        None
    }

    fn index(&mut self) {
        self.nodes.clear();
        self.epochs.clear();
        self.by_address.clear();
        for Sender { source, .. } in self.senders.values() {
            self.epochs.insert(source.epoch);
            for address in &source.addresses {
                self.nodes.insert((source.epoch, *address), Arc::clone(&source.node));
                self.by_address.insert(*address, Arc::clone(&source.node));
            }
        }
        // What a peer says of itself takes nothing from another.
        for Sender { source, .. } in self.senders.values() {
            for address in &source.also_from {
                self.nodes.entry((source.epoch, *address)).or_insert_with(|| Arc::clone(&source.node));
            }
        }
    }
}

impl Sender {
    fn end(self) -> impl Iterator<Item = News> {
        let Self { source, sides } = self;
        let sides = Family::ALL.into_iter().zip(sides);
        sides.filter_map(move |(family, side)| Some(side?.end(&source, family)))
    }
}

impl Side {
    fn note(&mut self, arrival: Arrival, to: IpAddr, payload: &Payload) -> Place {
        let Payload { sequence, class, period_ms, .. } = *payload;
        if sequence == 0 {
            return Place::Implausible;
        }
        // Large packets may vanish where others pass: that is no loss of the way here.
        let mut uncounted = Counts::default();
        let counts = match class {
            SizeClass::Normal => &mut self.fresh,
            SizeClass::Large => &mut uncounted,
        };
        let known = self.windows.iter_mut().find(|(at, of, _)| (*at, *of) == (to, class));
        let place = if let Some((_, _, window)) = known {
            window.note(arrival, sequence, period_ms, counts)
        } else {
            if self.windows.len() >= MOST_WINDOWS {
                self.windows.retain(|(_, _, window)| arrival.at.since(window.arrived()) < STALE);
            }
            if self.windows.len() >= MOST_WINDOWS {
                return Place::Implausible;
            }
            counts.probes += 1;
            self.windows.push((to, class, Window::new(arrival, sequence, period_ms)));
            Place::New
        };
        if place == Place::New && class == SizeClass::Normal {
            self.silent = false;
        }
        self.changed |= place == Place::New;
        place
    }

    fn look(
        &mut self,
        now: Instant,
        reception: &Reception,
        verdicts: bool,
        is_meant: impl FnOnce(Instant) -> bool,
    ) {
        let before = self.fresh;
        let mut uncounted = Counts::default();
        for (_, class, window) in &mut self.windows {
            let counts = match class {
                SizeClass::Normal => &mut self.fresh,
                SizeClass::Large => &mut uncounted,
            };
            window.close(now, reception.dropped, counts);
        }
        let normal = self.windows.iter().filter(|(_, class, _)| *class == SizeClass::Normal);
        let last = normal.map(|(_, _, window)| window).max_by_key(|window| window.arrived());
        let mut turned_silent = false;
        if let Some(window) = last.filter(|_| verdicts && reception.emptied && !self.silent) {
            let period = window.period();
            let patience = period * SILENT_PERIODS + JITTER.max(period / 2);
            let hidden = reception.dropped.is_some_and(|dropped| now.since(dropped) <= patience);
            let heard = window.arrived();
            turned_silent = !hidden && now.since(heard) > patience && is_meant(heard);
        }
        self.silent |= turned_silent;
        self.changed |= turned_silent || self.fresh != before;
    }

    fn news(&mut self, source: &Source, family: Family) -> News {
        let Source { node, zone, .. } = source;
        News {
            edge: Edge { node: Arc::clone(node), zone: Arc::clone(zone), family },
            counts: std::mem::take(&mut self.fresh),
            silent: self.silent,
            gone: false,
        }
    }

    fn end(mut self, source: &Source, family: Family) -> News {
        for (_, class, window) in &mut self.windows {
            if *class == SizeClass::Normal {
                window.end(&mut self.fresh);
            }
        }
        self.silent = false;
        News { gone: true, ..self.news(source, family) }
    }
}

#[cfg(test)]
mod tests;
