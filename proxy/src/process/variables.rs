//! Environment variables of apps, whose values are never shown.

use std::ffi::{OsStr, OsString};
use std::fmt;

/// Environment variables of an app. They may hold secrets: only their names are shown.
#[derive(Clone, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Variables(Vec<(OsString, OsString)>);

// === impl Variables ===

impl Variables {
    /// Sets a variable, and removes an earlier one of that name.
    pub fn set(&mut self, name: impl Into<OsString>, value: impl Into<OsString>) {
        let name = name.into();
        self.0.retain(|(known, _)| *known != name);
        self.0.push((name, value.into()));
    }

    /// Returns the names and values in the order in which they were set.
    pub fn iter(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        let pairs = self.0.iter();
        pairs.map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }

    /// Returns the names, which may be shown.
    pub fn names(&self) -> impl Iterator<Item = &OsStr> {
        self.iter().map(|(name, _)| name)
    }
}

impl<N: Into<OsString>, V: Into<OsString>> Extend<(N, V)> for Variables {
    fn extend<I: IntoIterator<Item = (N, V)>>(&mut self, pairs: I) {
        for (name, value) in pairs {
            self.set(name, value);
        }
    }
}

impl<N: Into<OsString>, V: Into<OsString>> FromIterator<(N, V)> for Variables {
    fn from_iter<I: IntoIterator<Item = (N, V)>>(pairs: I) -> Self {
        let mut variables = Self::default();
        variables.extend(pairs);
        variables
    }
}

impl fmt::Debug for Variables {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_set().entries(self.names()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_value_counts_and_none_is_shown() {
        let mut variables: Variables = [("A", "secret"), ("B", "hidden")].into_iter().collect();
        variables.set("A", "other");
        let a = variables.iter().find(|(name, _)| *name == "A");
        assert_eq!(a, Some(("A".as_ref(), "other".as_ref())));
        assert_eq!(format!("{variables:?}"), r#"{"B", "A"}"#);
    }
}
