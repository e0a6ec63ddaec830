//! The stages of a canary, `5%:10m,50%:10m`, and its state.

use std::fmt;
use std::str::FromStr;
use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::unix_millis::UnixMillis;

const EXPECTED: &str = "expected stages such as 5%:10m,50%:10m: a share of new clients above 0% and up \
                        to 100%, and a time for each";

/// The stages in which a release gets a share of new clients; one at least.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub struct CanaryPlan(Vec<CanaryStage>);

/// A stage of a canary.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct CanaryStage {
    /// Share of new clients, in percent.
    pub percent: f64,
    /// Minimum duration.
    pub time: Duration,
}

/// The state of a canary: the staged instance gets a share of new clients.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct CanaryStatus {
    /// Number of the stage, from 1.
    pub stage: usize,
    /// Number of stages.
    pub stages: usize,
    /// Share of new clients, such as `5%`.
    pub share: String,
    /// Earliest end of the stage.
    pub until_ms: UnixMillis,
    /// Number of its responses.
    pub responses: u64,
    /// Number of errors among them.
    pub errors: u64,
    /// Number of responses of the active instance since then.
    pub active_responses: u64,
    /// Number of errors among them.
    pub active_errors: u64,
    /// Number of its responses to testers, which are not among `responses`.
    #[serde(default)]
    pub tester_responses: u64,
    /// Number of errors among them.
    #[serde(default)]
    pub tester_errors: u64,
}

// === impl CanaryPlan ===

impl CanaryPlan {
    /// Returns the stages, in order.
    pub fn stages(&self) -> &[CanaryStage] {
        &self.0
    }

    /// Returns the minimum duration of all stages.
    pub fn time(&self) -> Duration {
        let times = self.0.iter().map(|stage| stage.time);
        times.fold(Duration::ZERO, Duration::saturating_add)
    }
}

// Shares are finite.
impl Eq for CanaryPlan {}

impl FromStr for CanaryPlan {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let stages = text.split(',').map(str::parse).collect::<Result<_, _>>()?;
        Ok(Self(stages))
    }
}

impl TryFrom<String> for CanaryPlan {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        text.parse()
    }
}

impl From<CanaryPlan> for String {
    fn from(plan: CanaryPlan) -> Self {
        plan.to_string()
    }
}

impl fmt::Display for CanaryPlan {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (place, stage) in self.0.iter().enumerate() {
            let comma = if place == 0 { "" } else { "," };
            let time = humantime::format_duration(stage.time).to_string();
            let time = time.replace(' ', "");
            write!(f, "{comma}{}:{time}", stage.share())?;
        }
        Ok(())
    }
}

// === impl CanaryStage ===

impl CanaryStage {
    /// Returns the share of new clients as it is written.
    pub fn share(&self) -> String {
        format!("{}%", self.percent)
    }
}

impl FromStr for CanaryStage {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let (share, time) = text.trim().split_once("%:").ok_or(EXPECTED)?;
        let percent = share.trim().parse().map_err(|_| EXPECTED)?;
        let time = humantime::parse_duration(time.trim()).map_err(|_| EXPECTED)?;
        let stage = Self { percent, time };
        let is_share = percent > 0.0 && percent <= 100.0;
        is_share.then_some(stage).ok_or(EXPECTED)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stages_are_read_as_they_are_written_and_nothing_else_is_one() {
        let plan: CanaryPlan = "5%:10m, 0.5%:1h 30s".parse().unwrap();
        assert_eq!(plan.to_string(), "5%:10m,0.5%:1h30s");
        assert_eq!(plan.to_string().parse(), Ok(plan.clone()));
        assert_eq!(plan.time(), Duration::from_secs(600 + 3630));
        let json = serde_json::to_string(&plan).unwrap();
        assert_eq!(serde_json::from_str::<CanaryPlan>(&json).unwrap(), plan);
        for bad in [
            "", "5%", "5:10m", "0%:1m", "101%:1m", "-1%:1m", "NaN%:1m", "5%:soon", "5%:1m,",
        ] {
            assert_eq!(bad.parse::<CanaryPlan>(), Err(EXPECTED), "{bad}");
        }
    }
}
