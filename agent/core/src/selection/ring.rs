//! A ring: nodes in the order of a hash, closed to a circle.

/// Nodes by their numbers, in an order that has nothing to do with where they are.
#[derive(Debug, Default)]
pub(super) struct Ring(Vec<usize>);

impl Ring {
    /// The ring of these nodes, each with its place in the order.
    pub(super) fn new(mut nodes: Vec<(u64, usize)>) -> Self {
        nodes.sort_unstable();
        Self(nodes.into_iter().map(|(_, node)| node).collect())
    }

    /// The nodes in order.
    pub(super) fn nodes(&self) -> &[usize] {
        &self.0
    }

    /// Who is `distance` (at least one) steps away: two nodes, one where the ring is even and this is its far end, none
    /// beyond it.
    pub(super) fn around(&self, place: usize, distance: usize) -> impl Iterator<Item = usize> {
        let length = self.0.len();
        let ahead = (2 * distance <= length).then(|| (place + distance) % length);
        let behind = (2 * distance < length).then(|| (place + length - distance) % length);
        ahead.into_iter().chain(behind).filter_map(|place| self.0.get(place).copied())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn around(length: usize, place: usize, distance: usize) -> Vec<usize> {
        Ring((0..length).collect()).around(place, distance).collect()
    }

    #[test]
    fn each_other_node_is_met_once() {
        assert_eq!(around(5, 0, 1), [1, 4]);
        assert_eq!(around(5, 4, 2), [1, 2]);
        assert_eq!(around(5, 4, 3), []);
        assert_eq!(around(4, 1, 2), [3]);
        assert_eq!(around(2, 0, 1), [1]);
        assert_eq!(around(1, 0, 1), []);
        assert_eq!(around(0, 0, 1), []);
    }
}
