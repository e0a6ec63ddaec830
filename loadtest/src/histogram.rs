//! A histogram of durations.

use std::time::Duration;

use serde::de::{Deserialize, Deserializer};
use serde::ser::{Serialize, Serializer};

use crate::units::micros;

/// Upper limit of what is recorded, in microseconds: two minutes.
const LONGEST: u64 = 120_000_000;

/// Durations, each precise to a thousandth.
#[derive(Clone, Debug)]
pub struct Histogram(hdrhistogram::Histogram<u64>);

impl Default for Histogram {
    fn default() -> Self {
        let histogram = hdrhistogram::Histogram::new_with_bounds(1, LONGEST, 3);
        // The bounds are constants that the library accepts; a test makes one.
        Self(histogram.unwrap_or_else(|error| unreachable!("constant bounds: {error}")))
    }
}

impl Histogram {
    /// Records one duration.
    pub fn record(&mut self, value: Duration) {
        self.0.saturating_record(micros(value).max(1));
    }

    /// Returns the number of recorded durations.
    pub fn count(&self) -> u64 {
        self.0.len()
    }

    /// Returns the duration that this share did not exceed, in milliseconds.
    pub fn at(&self, quantile: f64) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.0.value_at_quantile(quantile).min(self.0.max())))
    }

    /// Returns the longest duration, in milliseconds.
    pub fn max(&self) -> Option<f64> {
        (self.count() > 0).then(|| millis(self.0.max()))
    }

    /// Adds all that `other` has recorded.
    pub fn merge(&mut self, other: &Self) {
        // The bounds are equal, so nothing is left out.
        let _ = self.0.add(&other.0);
    }
}

/// Written as pairs of a value in microseconds and its count.
impl Serialize for Histogram {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let values = self.0.iter_recorded();
        serializer
            .collect_seq(values.map(|value| (value.value_iterated_to(), value.count_at_value())))
    }
}

impl<'de> Deserialize<'de> for Histogram {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let mut histogram = Self::default();
        for (value, count) in Vec::<(u64, u64)>::deserialize(deserializer)? {
            histogram.0.saturating_record_n(value, count);
        }
        Ok(histogram)
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
        let mut first = Histogram::default();
        for ms in 1..=500 {
            first.record(Duration::from_millis(ms));
        }
        let json = serde_json::to_string(&first).unwrap();
        let read: Histogram = serde_json::from_str(&json).unwrap();
        assert_eq!((read.count(), read.at(0.99)), (500, first.at(0.99)));
        let mut both = read;
        both.merge(&first);
        assert_eq!((both.count(), both.at(0.5)), (1000, first.at(0.5)));
    }
}
