//! Lists from others, of which only so much is kept.

use std::fmt;
use std::marker::PhantomData;

use serde::de::{Deserialize, Deserializer, IgnoredAny, SeqAccess, Visitor};

/// The first `MOST` entries of a list. The others are read past, so that they cost no memory, and counted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capped<T, const MOST: usize> {
    pub(crate) kept: Vec<T>,
    pub(crate) beyond: usize,
}

impl<T, const MOST: usize> Default for Capped<T, MOST> {
    fn default() -> Self {
        Self { kept: Vec::new(), beyond: 0 }
    }
}

impl<'de, T: Deserialize<'de>, const MOST: usize> Deserialize<'de> for Capped<T, MOST> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        deserializer.deserialize_seq(Reader(PhantomData))
    }
}

struct Reader<T, const MOST: usize>(PhantomData<T>);

impl<'de, T: Deserialize<'de>, const MOST: usize> Visitor<'de> for Reader<T, MOST> {
    type Value = Capped<T, MOST>;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a list")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
        let mut capped = Capped::default();
        while capped.kept.len() < MOST {
            match list.next_element()? {
                Some(entry) => capped.kept.push(entry),
                None => return Ok(capped),
            }
        }
        while list.next_element::<IgnoredAny>()?.is_some() {
            capped.beyond += 1;
        }
        Ok(capped)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_are_kept_and_the_others_counted() {
        let read = |text| serde_json::from_str::<Capped<u8, 2>>(text).unwrap();
        assert_eq!(read("[]"), Capped::default());
        assert_eq!(read("[1,2]"), Capped { kept: vec![1, 2], beyond: 0 });
        // What is beyond is not even looked at.
        assert_eq!(read("[1,2,\"x\",{}]"), Capped { kept: vec![1, 2], beyond: 2 });
        assert!(serde_json::from_str::<Capped<u8, 2>>("[1,\"x\"]").is_err());
    }
}
