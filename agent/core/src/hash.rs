//! Hashing for the engine's own tables, and the keyed hash behind cookies, phases and flow labels.

use std::collections::HashMap;
use std::fmt;
use std::hash::{BuildHasherDefault, Hasher};

use siphasher::sip::SipHasher13;

/// A map whose keys are our own numbers or secret ones, so that nobody can choose them to collide.
pub(crate) type NumberMap<K, V> = HashMap<K, V, BuildHasherDefault<Multiply>>;

/// Multiplies by 2^64 divided by the golden ratio (Knuth, TAOCP 6.4): spreads counters and keeps secret keys spread.
#[derive(Default)]
pub(crate) struct Multiply(u64);

impl Hasher for Multiply {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, bytes: &[u8]) {
        for byte in bytes {
            self.write_u64(u64::from(*byte));
        }
    }

    fn write_u64(&mut self, number: u64) {
        self.0 = (self.0 ^ number).wrapping_mul(0x9e37_79b9_7f4a_7c15);
    }
}

/// A key that must not show up in a log.
#[derive(Clone, Copy, PartialEq, Eq)]
pub struct Secret(pub [u8; 16]);

impl fmt::Debug for Secret {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Secret")
    }
}

/// A pseudo-random function of this agent: nobody without its key can predict what it returns.
#[derive(Clone)]
pub(crate) struct Keyed(SipHasher13);

impl fmt::Debug for Keyed {
    /// Without the key: whoever knows it can forge answers.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Keyed")
    }
}

impl Keyed {
    pub(crate) fn new(key: Secret) -> Self {
        Self(SipHasher13::new_with_key(&key.0))
    }

    /// The value for a number in one of several uses.
    pub(crate) fn number(&self, domain: Domain, number: u64) -> u64 {
        let mut hasher = self.0;
        hasher.write_u8(domain as u8);
        hasher.write_u64(number);
        hasher.finish()
    }
}

/// What a keyed value is for; the same number gives unrelated values in different domains.
#[derive(Clone, Copy)]
pub(crate) enum Domain {
    Cookie,
    FlowLabel,
}

/// A hash that is the same on every platform and in every version: who is probed when must not depend on either.
pub(crate) fn stable(parts: &[&[u8]]) -> u64 {
    let mut hasher = SipHasher13::new_with_key(b"podsonar phase 1");
    for part in parts {
        hasher.write(&(part.len() as u64).to_le_bytes());
        hasher.write(part);
    }
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_stable_hash_is_pinned() {
        assert_eq!(stable(&[b"node-a", b"10.0.0.1"]), stable(&[b"node-a", b"10.0.0.1"]));
        assert_ne!(stable(&[b"node-a", b"10.0.0.1"]), stable(&[b"node-a1", b"0.0.0.1"]));
        assert_eq!(stable(&[b"a"]), 18_266_311_990_362_322_495);
    }

    #[test]
    fn domains_and_keys_give_unrelated_values() {
        let (one, other) = (Keyed::new(Secret([1; 16])), Keyed::new(Secret([2; 16])));
        assert_ne!(one.number(Domain::Cookie, 7), one.number(Domain::FlowLabel, 7));
        assert_ne!(one.number(Domain::Cookie, 7), other.number(Domain::Cookie, 7));
    }
}
