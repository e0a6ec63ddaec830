//! The time for which the client of a gRPC call waits, by its own word.

use std::pin::Pin;
use std::time::Duration;

use http::HeaderMap;
use tokio::time::{Instant, timeout_at};

use super::exchange::{StreamEffect, StreamFailure};
use crate::data_plane::exchange::ExchangeError;

/// The end of the time for which the client of a call waits, if it has said so.
///
/// An app that knows it, too, resets the stream then, and may do so a moment before its client gives
/// up: that is no fault of the app.
#[derive(Clone, Copy, Debug)]
pub(super) struct Deadline(Option<Instant>);

// === impl Deadline ===

impl Deadline {
    /// Returns the deadline of a request that begins now.
    pub(super) fn of(headers: &HeaderMap) -> Self {
        let timeout = headers.get("grpc-timeout");
        let timeout = timeout.and_then(|value| parse_timeout(value.to_str().ok()?));
        Self(timeout.and_then(|timeout| Instant::now().checked_add(timeout)))
    }

    /// Returns the outcome of an exchange, which ends at the deadline. It is pinned, as this would have room
    /// for several of it.
    pub(super) async fn limit<T>(
        self,
        exchange: Pin<&mut impl Future<Output = Result<T, StreamFailure>>>,
    ) -> Result<T, StreamFailure> {
        let Some(at) = self.0 else {
            return exchange.await;
        };
        match timeout_at(at, exchange).await {
            Ok(Err(failure)) if Instant::now() < at => Err(failure),
            Ok(Ok(response)) => Ok(response),
            Ok(Err(_)) | Err(_) => Err(StreamFailure {
                error: ExchangeError::Deadline,
                effect: StreamEffect::Any,
            }),
        }
    }
}

/// Returns a time as gRPC has it: at most eight digits and a unit.
fn parse_timeout(value: &str) -> Option<Duration> {
    let (digits, unit) = value.split_at_checked(value.len().checked_sub(1)?)?;
    let is_number = digits.len() <= 8 && digits.bytes().all(|byte| byte.is_ascii_digit());
    let number: u64 = digits.parse().ok().filter(|_| is_number)?;
    Some(match unit {
        "H" => Duration::from_secs(number * 3600),
        "M" => Duration::from_secs(number * 60),
        "S" => Duration::from_secs(number),
        "m" => Duration::from_millis(number),
        "u" => Duration::from_micros(number),
        "n" => Duration::from_nanos(number),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_timeout_has_digits_and_a_unit() {
        for (value, millis) in [
            ("1H", Some(3_600_000)),
            ("2M", Some(120_000)),
            ("3S", Some(3_000)),
            ("99999999m", Some(99_999_999)),
            ("5000u", Some(5)),
            ("6000000n", Some(6)),
            ("999999999m", None),
            ("+1S", None),
            ("1", None),
            ("S", None),
            ("", None),
            ("1\u{e9}", None),
        ] {
            let parsed = parse_timeout(value);
            assert_eq!(parsed, millis.map(Duration::from_millis), "{value}");
        }
    }
}
