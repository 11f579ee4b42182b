//! [`List`]: what scrapes read while it changes.

use std::sync::{Arc, Mutex};

use super::state::lock;

/// Things that come and go one by one. It is copied only when it changes while somebody holds it as it was.
#[derive(Debug)]
pub(crate) struct List<T>(Mutex<Arc<Vec<Arc<T>>>>);

impl<T> Default for List<T> {
    fn default() -> Self {
        Self(Mutex::default())
    }
}

impl<T> List<T> {
    /// All there are now.
    pub(crate) fn all(&self) -> Arc<Vec<Arc<T>>> {
        Arc::clone(&lock(&self.0))
    }

    /// A further one.
    pub(crate) fn add(&self, one: Arc<T>) {
        Arc::make_mut(&mut lock(&self.0)).push(one);
    }

    /// This one no longer.
    pub(crate) fn remove(&self, gone: &Arc<T>) {
        self.retain(|one| !Arc::ptr_eq(one, gone));
    }

    /// Only those that stay.
    pub(crate) fn retain(&self, stays: impl FnMut(&Arc<T>) -> bool) {
        Arc::make_mut(&mut lock(&self.0)).retain(stays);
    }
}
