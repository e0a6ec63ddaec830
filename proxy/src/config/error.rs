//! Values that cannot be used, and what was expected instead.

use std::borrow::Cow;
use std::time::Duration;

use crate::cli::Run;
use crate::process::template::PlaceholderTypo;

/// A reason for which a run cannot start.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// No source of artifacts is given.
    #[error(
        "nothing to run: give --artifact PATH, --pointer FILE or --watch DIR (or start in a \
         folder with _artifact.txt, releases or _target in it)"
    )]
    NoSource,
    /// Two sources of artifacts are given.
    #[error("{0} cannot be used together with {1}: choose one")]
    TwoSources(String, String),
    /// The value of an option or a variable cannot be used.
    #[error("{key} is {value:?}: expected {expected}")]
    Value {
        /// Name of the option, in the words of its origin, or of the variable.
        key: Cow<'static, str>,
        /// The value.
        value: String,
        /// Description of the values that can be used.
        expected: &'static str,
    },
    /// The file with the app's variables cannot be used.
    #[error("{place}: {reason}")]
    EnvFile {
        /// The file, and the line if it is known.
        place: String,
        /// Description of the mistake, without any value.
        reason: String,
    },
    /// A placeholder of the command or of a log file is misspelt.
    #[error("{key}: {typo}")]
    Placeholder {
        /// Name of the option.
        key: Cow<'static, str>,
        /// The word, and the one that is meant.
        typo: PlaceholderTypo,
    },
    /// The environment names no folder for private copies.
    #[error("no cache folder is known: give --cache DIR")]
    NoCache,
}

// === impl ConfigError ===

impl ConfigError {
    /// Renames the option after its origin: the flag, the variable, or the line in the file.
    pub(super) fn named_by_origin(mut self, run: &Run) -> Self {
        if let Self::Value { key, .. } | Self::Placeholder { key, .. } = &mut self {
            *key = run.origins.name_of(key).into();
        }
        self
    }
}

/// Checks that a number is at least `least`.
pub(super) fn at_least(
    key: &'static str,
    value: usize,
    least: usize,
) -> Result<usize, ConfigError> {
    if value < least {
        return Err(ConfigError::Value {
            key: key.into(),
            value: value.to_string(),
            expected: "a larger number",
        });
    }
    Ok(value)
}

/// Checks that a duration is above zero.
pub(super) fn positive(
    key: &'static str,
    duration: humantime::Duration,
) -> Result<Duration, ConfigError> {
    if duration.is_zero() {
        return Err(ConfigError::Value {
            key: key.into(),
            value: "0s".to_owned(),
            expected: "a duration above zero",
        });
    }
    Ok(*duration)
}
