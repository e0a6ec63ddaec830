//! What cannot be used, and what could.

use std::borrow::Cow;
use std::time::Duration;

use crate::cli::Run;

/// Why a run cannot even start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Nothing to run is named.
    #[error(
        "nothing to run: give --artifact PATH, --pointer FILE or --watch DIR (or start in a \
         folder with _artifact.txt, releases or _target in it)"
    )]
    NoSource,
    /// Two things to run are named.
    #[error("{0} cannot be used together with {1}: choose one")]
    TwoSources(String, String),
    /// A value cannot be used.
    #[error("{key} is {value:?}: expected {expected}")]
    Value {
        /// The option, where it was given, or the variable.
        key: Cow<'static, str>,
        /// What it says.
        value: String,
        /// What it should say.
        expected: &'static str,
    },
    /// The app's variables cannot be had.
    #[error("{place}: {reason}")]
    EnvFile {
        /// The file, and the line if that is known.
        place: String,
        /// What is wrong with it.
        reason: String,
    },
    /// No place for private copies is known.
    #[error("no cache folder is known: give --cache DIR")]
    NoCache,
}

// === impl ConfigError ===

impl ConfigError {
    /// Names the option as it was given: in a file, or in the environment.
    pub(super) fn in_words_of(mut self, run: &Run) -> Self {
        if let Self::Value { key, .. } = &mut self {
            *key = run.origins.name_of(key).into();
        }
        self
    }
}

pub(super) fn at_least(
    key: &'static str,
    value: usize,
    least: usize,
) -> Result<usize, ConfigError> {
    match value < least {
        true => Err(ConfigError::Value {
            key: key.into(),
            value: value.to_string(),
            expected: "a larger number",
        }),
        false => Ok(value),
    }
}

pub(super) fn positive(key: &'static str, duration: Duration) -> Result<Duration, ConfigError> {
    match duration {
        Duration::ZERO => Err(ConfigError::Value {
            key: key.into(),
            value: "0s".to_owned(),
            expected: "a duration above zero",
        }),
        _ => Ok(duration),
    }
}
