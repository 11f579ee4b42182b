//! How many connections each caller may have, so that nobody keeps the others out.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections of one address. An agent has one at a time, two while a loss is confirmed; some may share an address.
const EACH: usize = 8;

/// Connections of all callers that are not known: they are told so, and no more.
const STRANGERS: usize = 16;

/// Who is connected.
#[derive(Debug, Default)]
pub(super) struct Guests(Mutex<Book>);

#[derive(Debug, Default)]
struct Book {
    each: HashMap<IpAddr, usize>,
    strangers: usize,
}

/// One connection; dropping it makes room for another.
#[derive(Debug)]
pub(super) struct Guest {
    guests: Arc<Guests>,
    address: IpAddr,
    stranger: bool,
}

impl Guests {
    /// Lets a caller in, unless it or all strangers have enough connections already.
    pub(super) fn enter(self: &Arc<Self>, address: IpAddr, stranger: bool) -> Option<Guest> {
        let mut book = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let here = book.each.get(&address).copied().unwrap_or_default();
        if here >= EACH || (stranger && book.strangers >= STRANGERS) {
            return None;
        }
        book.each.insert(address, here + 1);
        book.strangers += usize::from(stranger);
        drop(book);
        Some(Guest { guests: Arc::clone(self), address, stranger })
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        let mut book = self.guests.0.lock().unwrap_or_else(PoisonError::into_inner);
        book.strangers -= usize::from(self.stranger);
        match book.each.get_mut(&self.address) {
            Some(here) if *here > 1 => *here -= 1,
            _ => {
                book.each.remove(&self.address);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_address_and_all_strangers_have_their_share_and_give_it_back() {
        let guests = Arc::new(Guests::default());
        let address = |last| IpAddr::from([192, 0, 2, last]);
        let greedy: Vec<_> = (0..20).filter_map(|_| guests.enter(address(1), false)).collect();
        assert_eq!(greedy.len(), EACH);
        let strangers: Vec<_> = (10..100).filter_map(|last| guests.enter(address(last), true)).collect();
        assert_eq!(strangers.len(), STRANGERS);
        assert!(guests.enter(address(2), false).is_some());
        drop((greedy, strangers));
        assert!(guests.enter(address(1), true).is_some());
        assert!(guests.0.lock().unwrap().each.is_empty());
    }
}
