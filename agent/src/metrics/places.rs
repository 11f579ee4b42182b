//! How many targets each node has, and how many of them are in trouble: what tells a node's fault from a pod's.
//! What the user wrote has no node, and takes no room here.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex};

use podsonar_core::target::{Kind, Target};

use super::state::lock;
use crate::condition::State;

/// The destinations, by name.
#[derive(Debug, Default)]
pub(crate) struct Places(Mutex<BTreeMap<Arc<str>, Place>>);

/// One destination.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Place {
    /// Its zone.
    pub(crate) zone: Arc<str>,
    /// Its targets by kind and state, in the orders of [`Kind::ALL`] and [`State::ALL`].
    pub(crate) targets: [[u32; State::ALL.len()]; Kind::ALL.len()],
}

impl Place {
    /// How many targets of the kinds are in one of the states.
    pub(crate) fn count(&self, kinds: &[Kind], states: &[State]) -> u32 {
        let of_kind = kinds.iter().filter_map(|kind| self.targets.get(*kind as usize));
        of_kind.flat_map(|counts| states.iter().filter_map(|state| counts.get(*state as usize))).sum()
    }
}

impl Places {
    /// A target's state has changed; `None`: it is not probed.
    pub(crate) fn change(&self, target: &Target, before: Option<State>, after: Option<State>) {
        match target.kind {
            Kind::Agent | Kind::Pod | Kind::Node => {}
            Kind::Name | Kind::Fixed | Kind::Control => return,
        }
        let mut places = lock(&self.0);
        let place = places.entry(Arc::clone(&target.destination)).or_default();
        place.zone.clone_from(&target.zone);
        if let Some(counts) = place.targets.get_mut(target.kind as usize) {
            if let Some(count) = before.and_then(|state| counts.get_mut(state as usize)) {
                *count = count.saturating_sub(1);
            }
            if let Some(count) = after.and_then(|state| counts.get_mut(state as usize)) {
                *count += 1;
            }
        }
        if place.count(&Kind::ALL, &State::ALL) == 0 {
            places.remove(&target.destination);
        }
    }

    /// All of them as they are now.
    pub(crate) fn all(&self) -> BTreeMap<Arc<str>, Place> {
        lock(&self.0).clone()
    }
}
