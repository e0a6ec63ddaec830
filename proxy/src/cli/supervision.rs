//! What `handoff run` is told of checks, of the time after the handoff, and of going back.

use std::ops::RangeInclusive;
use std::str::FromStr;
use std::time::Duration;

use clap::{Args, ValueEnum};
use humantime::parse_duration;

use crate::control_plane::readiness::OwnerCheck;

/// See [`super::Run`].
#[derive(Args, Clone, Debug)]
pub struct Supervision {
    /// The status codes that a health check takes for good, such as 200 or 200-399 [default: `/`
    /// below 500, another path 200 to 399]
    #[arg(
        long,
        env = "HANDOFF_HEALTH_STATUS",
        value_name = "RANGE",
        help_heading = "Readiness"
    )]
    pub health_status: Option<StatusRange>,

    /// So many good health checks in a row
    #[arg(
        long,
        env = "HANDOFF_HEALTH_RISE",
        value_name = "N",
        default_value_t = 1,
        help_heading = "Readiness"
    )]
    pub health_rise: u32,

    /// GET this, whatever it answers, before the release gets requests; several are asked for in
    /// their order
    #[arg(
        long,
        env = "HANDOFF_WARMUP",
        value_name = "PATH",
        value_delimiter = ',',
        help_heading = "Readiness"
    )]
    pub warmup: Vec<String>,

    /// When another program than the app listens on the app's port: not ready, a warning, or not
    /// even looked at
    #[arg(
        long,
        env = "HANDOFF_HEALTH_IDENTITY",
        value_enum,
        default_value = "warn",
        help_heading = "Readiness"
    )]
    pub health_identity: OwnerCheck,

    /// Watch the active release with GET of this too; by default only an exit or refused
    /// connections count against it
    #[arg(
        long,
        env = "HANDOFF_LIVE_PATH",
        value_name = "PATH",
        help_heading = "After the handoff"
    )]
    pub live_path: Option<String>,

    /// From one look at the active release to the next
    #[arg(long, env = "HANDOFF_LIVE_INTERVAL", value_name = "DURATION", default_value = "10s", value_parser = parse_duration, help_heading = "After the handoff")]
    pub live_interval: Duration,

    /// So many failed looks in a row, and a second instance is started, to take over if it is better
    #[arg(
        long,
        env = "HANDOFF_HEALTH_FALL",
        value_name = "N",
        default_value_t = 3,
        help_heading = "After the handoff"
    )]
    pub health_fall: u32,

    /// Keep the superseded release on standby for so long: when the new one crashes, or its live
    /// check fails, requests go back at once
    #[arg(long, env = "HANDOFF_BAKE", value_name = "DURATION", default_value = "0s", value_parser = parse_duration, help_heading = "After the handoff")]
    pub bake: Duration,

    /// With --bake: go back also when the share of its answers with a status of 500 or more is
    /// higher than the old one's by this much, such as 5%
    #[arg(long, env = "HANDOFF_BAKE_MAX_ERRORS", value_name = "PERCENT", value_parser = share, help_heading = "After the handoff")]
    pub bake_max_errors: Option<f64>,

    /// Whether to go back to another release unasked, when the new one crashes again and again or
    /// does not bake well
    #[arg(
        long,
        env = "HANDOFF_AUTO_ROLLBACK",
        value_enum,
        default_value = "always",
        help_heading = "After the handoff"
    )]
    pub auto_rollback: AutoRollback,

    /// Whether the old and the new release may run side by side. `no`: hold requests, stop the old,
    /// start the new
    #[arg(
        long,
        env = "HANDOFF_OVERLAP",
        value_enum,
        default_value = "yes",
        help_heading = "Handoff"
    )]
    pub overlap: Overlap,

    /// A further port for the app: `admin` is {port:admin} and PORT_ADMIN
    #[arg(
        long,
        env = "HANDOFF_PORT_NAME",
        value_name = "NAME",
        value_delimiter = ',',
        value_parser = port_name,
        help_heading = "What to run"
    )]
    pub port_name: Vec<String>,
}

/// Whether two releases may run side by side.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overlap {
    /// The new one starts beside the old one.
    Yes,
    /// The old one ends before the new one starts.
    No,
}

/// Whether to go back to another release unasked.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AutoRollback {
    /// By the rules.
    Always,
    /// Only when somebody asks: for those whose data the old release could not read any more.
    Never,
}

/// Status codes, from one to another.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StatusRange(pub RangeInclusive<u16>);

// === impl StatusRange ===

impl FromStr for StatusRange {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (first, last) = text.split_once('-').unwrap_or((text, text));
        let code = |text: &str| {
            text.trim()
                .parse()
                .ok()
                .filter(|code| (100..=599).contains(code))
        };
        match (code(first), code(last)) {
            (Some(first), Some(last)) if first <= last => Ok(Self(first..=last)),
            _ => Err("expected status codes, such as 200 or 200-399"),
        }
    }
}

fn share(text: &str) -> Result<f64, &'static str> {
    let number = text.strip_suffix('%').unwrap_or(text).trim();
    let percent: Option<f64> = number.parse().ok();
    percent
        .filter(|percent| (0.0..=100.0).contains(percent))
        .map(|percent| percent / 100.0)
        .ok_or("expected a percentage, such as 5%")
}

/// It becomes part of a variable's name.
fn port_name(text: &str) -> Result<String, &'static str> {
    let is_name = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    match !text.is_empty() && text.chars().all(is_name) {
        true => Ok(text.to_owned()),
        false => Err("expected letters and digits, such as admin"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn status_codes_are_one_or_a_range() {
        let range = |text: &str| text.parse().map(|StatusRange(range)| range);
        assert_eq!(range("204"), Ok(204..=204));
        assert_eq!(range("200-399"), Ok(200..=399));
        for bad in ["", "ok", "399-200", "200-", "99", "200-600"] {
            assert!(range(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn errors_are_told_in_percent() {
        assert_eq!(share("5%"), Ok(0.05));
        assert_eq!(share("0.5"), Ok(0.005));
        assert!(share("101%").is_err() && share("much").is_err());
    }

    #[test]
    fn a_port_has_a_name_that_a_variable_may_have() {
        assert_eq!(port_name("admin-2"), Ok("admin-2".to_owned()));
        assert!(port_name("").is_err() && port_name("a b").is_err());
    }
}
