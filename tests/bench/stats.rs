//! Medians and quantiles of measured values.

use std::fmt;

/// The value below which a share `q` of the values lies (nearest rank); not a number if there are none.
pub(crate) fn quantile(values: &[f64], q: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let rank = (q * sorted.len() as f64).ceil() as usize;
    sorted.get(rank.saturating_sub(1)).copied().unwrap_or(f64::NAN)
}

/// The middle value.
pub(crate) fn median(values: &[f64]) -> f64 {
    let upper = quantile(values, 0.5 + 0.5 / values.len().max(1) as f64);
    f64::midpoint(
        quantile(values, 0.5),
        if values.len().is_multiple_of(2) { upper } else { quantile(values, 0.5) },
    )
}

/// The ratio of two series, run by run, as neighbours in time share the machine's mood: the median of the ratios.
pub(crate) fn paired_ratio(ours: &[f64], theirs: &[f64]) -> f64 {
    let ratios: Vec<f64> = ours.iter().zip(theirs).map(|(ours, theirs)| ours / theirs).collect();
    median(&ratios)
}

/// A distribution, in words.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) count: usize,
    pub(crate) p50: f64,
    pub(crate) p99: f64,
    pub(crate) max: f64,
}

impl Spread {
    pub(crate) fn of(values: &[f64]) -> Self {
        let count = values.len();
        Self { count, p50: quantile(values, 0.5), p99: quantile(values, 0.99), max: quantile(values, 1.0) }
    }

    /// The columns p50, p99 and max.
    pub(crate) fn cells(&self) -> [String; 3] {
        [self.p50, self.p99, self.max].map(|value| Figure(value).to_string())
    }
}

/// A number with three significant digits, or a dash where there is none.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Figure(pub(crate) f64);

impl fmt::Display for Figure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            value if value.is_nan() => write!(f, "–"),
            value if value.abs() >= 99.95 => write!(f, "{value:.0}"),
            value if value.abs() >= 9.995 => write!(f, "{value:.1}"),
            value if value.abs() >= 0.01 || value == 0.0 => write!(f, "{value:.2}"),
            value => write!(f, "{value:.5}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn quantiles_are_values_that_occurred() {
        let values: Vec<f64> = (1..=100).rev().map(f64::from).collect();
        for (q, value) in [(0.5, 50.0), (0.99, 99.0), (1.0, 100.0)] {
            assert_same(quantile(&values, q), value);
        }
        assert!(quantile(&[], 0.5).is_nan());
    }

    #[test]
    fn the_median_of_an_even_number_lies_between_the_middle_two() {
        assert_same(median(&[3.0, 1.0, 2.0]), 2.0);
        assert_same(median(&[4.0, 1.0, 3.0, 2.0]), 2.5);
    }

    #[test]
    fn ratios_are_taken_pair_by_pair() {
        assert_same(paired_ratio(&[2.0, 20.0, 9.0], &[1.0, 10.0, 3.0]), 2.0);
    }

    fn assert_same(one: f64, other: f64) {
        assert!((one - other).abs() < 1e-9, "{one} is not {other}");
    }
}
