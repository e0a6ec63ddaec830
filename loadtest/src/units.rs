//! Units of time, and numbers written for a person.

use std::time::Duration;

use indicatif::HumanCount;

/// Converts to whole milliseconds.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// Converts to whole microseconds.
pub fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

/// Rounds milliseconds to the microsecond: more digits would be noise.
pub fn rounded(ms: f64) -> f64 {
    (ms * 1000.0).round() / 1000.0
}

/// Writes milliseconds with three significant digits.
pub fn ms(value: Option<f64>) -> String {
    match value {
        None => "–".to_owned(),
        Some(ms) if ms >= 99.95 => thousands(ms.round() as u64),
        Some(ms) if ms >= 9.995 => format!("{ms:.1}"),
        Some(ms) => format!("{ms:.2}"),
    }
}

/// Writes a number with a comma at every third digit.
pub fn thousands(number: u64) -> String {
    HumanCount(number).to_string()
}

/// Writes a number of things: "1 swap", "2 swaps".
pub fn count(number: usize, noun: &str) -> String {
    let plural = if number == 1 { "" } else { "s" };
    format!("{number} {noun}{plural}")
}

/// Returns the value in the middle; the lower one of two.
pub fn median(values: impl IntoIterator<Item = f64>) -> Option<f64> {
    let mut values: Vec<f64> = values.into_iter().collect();
    values.sort_unstable_by(f64::total_cmp);
    values.get(values.len().saturating_sub(1) / 2).copied()
}

/// Returns the lowercase hex digits of `bytes`.
pub fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_short() {
        for (value, expected) in [
            (0.123, "0.12"),
            (9.99, "9.99"),
            (9.996, "10.0"),
            (99.94, "99.9"),
            (99.96, "100"),
            (12345.6, "12,346"),
        ] {
            assert_eq!(ms(Some(value)), expected);
        }
        for (number, expected) in [(0, "0"), (1000, "1,000"), (1_234_567, "1,234,567")] {
            assert_eq!(thousands(number), expected);
        }
    }

    #[test]
    fn the_median_of_two_is_the_lower() {
        assert_eq!(
            (median([]), median([3.0, 1.0, 2.0]), median([4.0, 1.0])),
            (None, Some(2.0), Some(1.0))
        );
    }
}
