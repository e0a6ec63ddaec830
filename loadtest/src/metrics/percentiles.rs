//! A histogram of durations.

use std::time::Duration;

use hdrhistogram::Histogram;
use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use super::micros;

/// Longer latencies are recorded as this: two minutes, in microseconds.
const LONGEST: u64 = 120_000_000;

/// A histogram of durations, precise to a thousandth of each value.
#[derive(Debug, Clone)]
pub struct Percentiles(Histogram<u64>);

impl Percentiles {
    pub fn new() -> Self {
        let histogram = Histogram::new_with_bounds(1, LONGEST, 3);
        // The bounds are constants that hdrhistogram accepts; a test makes one.
        Self(histogram.unwrap_or_else(|error| unreachable!("constant bounds: {error}")))
    }

    pub fn record(&mut self, value: Duration) {
        self.0.saturating_record(micros(value).max(1));
    }

    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// The latency that this share of requests did not exceed, in milliseconds; none without requests.
    pub fn at(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.0.value_at_quantile(quantile).min(self.0.max())))
    }

    /// In milliseconds; none without requests.
    pub fn max(&self) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.0.max()))
    }

    /// Adds what another has counted.
    pub fn merge(&mut self, other: &Self) {
        // Their bounds are the same, so that nothing is left out.
        let _ = self.0.add(&other.0);
    }

    /// The latencies, in milliseconds, that all but ever smaller shares of requests did not exceed:
    /// each as the number of nines of the share (2 is 99 %), as far as there are requests for it.
    pub fn curve(&self) -> Vec<(f64, f64)> {
        const STEPS: u32 = 40;
        let most = (self.count().max(1) as f64).log10();
        (0..=STEPS)
            .map(|step| f64::from(step) / f64::from(STEPS) * most)
            .filter_map(|nines| Some((nines, self.at(1.0 - 10_f64.powf(-nines))?)))
            .collect()
    }
}

/// As pairs of a value in microseconds and its count.
impl Serialize for Percentiles {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(
            self.0
                .iter_recorded()
                .map(|value| (value.value_iterated_to(), value.count_at_value())),
        )
    }
}

impl<'de> Deserialize<'de> for Percentiles {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let pairs = Vec::<(u64, u64)>::deserialize(deserializer)?;
        let mut percentiles = Self::new();
        for (value, count) in pairs {
            percentiles.0.saturating_record_n(value, count);
        }
        Ok(percentiles)
    }
}

fn millis(micros: u64) -> f64 {
    micros as f64 / 1000.0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_read_and_added() {
        let mut first = Percentiles::new();
        for ms in 1..=500 {
            first.record(Duration::from_millis(ms));
        }
        let json = serde_json::to_string(&first).unwrap();
        let read: Percentiles = serde_json::from_str(&json).unwrap();
        assert_eq!((read.count(), read.at(0.99)), (500, first.at(0.99)));
        let mut both = read;
        both.merge(&first);
        assert_eq!((both.count(), both.at(0.5)), (1000, first.at(0.5)));
    }

    #[test]
    fn a_curve_ends_where_its_requests_do() {
        let mut percentiles = Percentiles::new();
        for ms in 1..=1000 {
            percentiles.record(Duration::from_millis(ms));
        }
        let curve = percentiles.curve();
        let (nines, ms) = curve[curve.len() - 1];
        assert!((nines - 3.0).abs() < 1e-9 && ms > 995.0, "{nines} {ms}");
        assert!(curve.is_sorted_by(|a, b| a.1 <= b.1));
    }
}
