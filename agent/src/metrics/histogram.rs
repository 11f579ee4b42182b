//! Histograms as small as they can be: an agent holds one for each path, so their size is most of its memory.
//!
//! Values are whole nanoseconds: bounds compare exactly, and sums never lose a digit.

/// An upper bound of a classic bucket, and how it is written in `le`.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Bound {
    /// Inclusive, in nanoseconds.
    pub nanos: u64,
    /// In seconds, as text.
    pub le: &'static str,
}

/// A histogram with `N` fixed buckets and one for everything above.
#[derive(Debug, Clone)]
pub struct Classic<const N: usize> {
    /// Observations in each bucket, not cumulative.
    pub counts: [u64; N],
    /// Observations above the last bound.
    pub above: u64,
    /// Sum of all observations, in nanoseconds.
    pub sum: u64,
}

impl<const N: usize> Default for Classic<N> {
    fn default() -> Self {
        Self { counts: [0; N], above: 0, sum: 0 }
    }
}

impl<const N: usize> Classic<N> {
    /// Counts a value of `nanos`, by ascending `bounds`.
    pub fn observe(&mut self, bounds: &[Bound; N], nanos: u64) {
        let bucket = bounds.partition_point(|bound| bound.nanos < nanos);
        *self.counts.get_mut(bucket).unwrap_or(&mut self.above) += 1;
        self.sum = self.sum.saturating_add(nanos);
    }
}

/// The resolution of [`Native`]: bounds grow by 2^(1/2^3) = 1.0905 from bucket to bucket.
pub const NATIVE_SCHEMA: i32 = 3;

/// `2^(i/8)` for the upper bounds within one power of two, as fractions in (0.5, 1].
const FRACTIONS: [f64; 8] = [
    0.5,
    0.545_253_866_332_628_8,
    0.594_603_557_501_360_5,
    0.648_419_777_325_504_8,
    0.707_106_781_186_547_5,
    0.771_105_412_703_970_4,
    0.840_896_415_253_714_5,
    0.917_004_043_204_671_2,
];

/// A native histogram of positive values: only buckets that were hit take memory.
///
/// Bucket `i` holds values in seconds above `2^((i-1)/8)` up to and including `2^(i/8)`
/// (Prometheus' native histogram specification, "Schema").
#[derive(Debug, Clone, Default)]
pub struct Native {
    /// Observations of exactly zero.
    pub zero: u64,
    /// Index and observations of each bucket that was hit, by ascending index.
    pub buckets: Vec<(i16, u64)>,
}

impl Native {
    /// Counts a value of `nanos`.
    pub fn observe(&mut self, nanos: u64) {
        if nanos == 0 {
            self.zero += 1;
            return;
        }
        let index = bucket_index(nanos as f64 / 1e9);
        match self.buckets.binary_search_by_key(&index, |(index, _)| *index) {
            Ok(found) => {
                if let Some((_, count)) = self.buckets.get_mut(found) {
                    *count += 1;
                }
            }
            Err(place) => self.buckets.insert(place, (index, 1)),
        }
    }
}

/// The bucket of a positive, normal number.
fn bucket_index(value: f64) -> i16 {
    let bits = value.to_bits();
    let exponent = ((bits >> 52) & 0x7ff) as i16 - 1022;
    let fraction = f64::from_bits(bits & !(0x7ff << 52) | 1022 << 52);
    let within = FRACTIONS.iter().take_while(|bound| **bound < fraction).fold(0, |below, _| below + 1);
    within + (exponent - 1) * 8
}

#[cfg(test)]
mod tests {
    use super::*;

    const BOUNDS: [Bound; 2] = [Bound { nanos: 100, le: "0.0000001" }, Bound { nanos: 200, le: "0.0000002" }];

    #[test]
    fn a_bound_belongs_to_its_own_bucket() {
        let mut histogram = Classic::default();
        for nanos in [0, 100, 101, 200, 201, u64::MAX] {
            histogram.observe(&BOUNDS, nanos);
        }
        assert_eq!((histogram.counts, histogram.above), ([2, 2], 2));
        assert_eq!(histogram.sum, u64::MAX);
    }

    #[test]
    fn native_bounds_are_inclusive_above_and_exclusive_below() {
        assert_eq!(bucket_index(1.0), 0);
        assert_eq!(bucket_index(1.0_f64.next_up()), 1);
        assert_eq!(bucket_index(2.0), 8);
        assert_eq!(bucket_index(0.5), -8);
        assert_eq!(bucket_index(1e-9), -239);
    }

    #[test]
    fn every_value_lies_within_its_bucket() {
        for nanos in (0..60).flat_map(|power| (0..7).map(move |step| (1_u64 << power) + step * 13)) {
            let value = nanos as f64 / 1e9;
            let index = f64::from(bucket_index(value));
            assert!(value <= 2_f64.powf(index / 8.0) * (1.0 + 1e-14), "{nanos}");
            assert!(value > 2_f64.powf((index - 1.0) / 8.0) * (1.0 - 1e-14), "{nanos}");
        }
    }

    #[test]
    fn native_buckets_stay_sorted_and_zero_is_apart() {
        let mut native = Native::default();
        for nanos in [1_000_000, 0, 1_000, 1_000_000] {
            native.observe(nanos);
        }
        assert_eq!(native.zero, 1);
        assert_eq!(native.buckets, [(bucket_index(1e-6), 1), (bucket_index(1e-3), 2)]);
    }
}
