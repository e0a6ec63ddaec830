//! The origin of each option's value.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::handoff_toml::HandoffToml;
use crate::process::variables::Variables;

/// The origins of all values.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The command line, which is read again when the file changes.
    pub args: Vec<OsString>,
    /// Path of the configuration file, which may not exist.
    pub file: PathBuf,
    /// The configuration file exists.
    pub has_file: bool,
    /// Every option, in the order of the help.
    pub settings: Vec<Setting>,
    /// The app's variables in `[env]`.
    pub variables: Variables,
    /// Lines of those variables in the file.
    pub lines: BTreeMap<String, usize>,
}

/// An option and its value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Name without leading dashes.
    pub key: String,
    /// Values, as they were written.
    pub values: Vec<String>,
    /// The option takes a list.
    pub is_list: bool,
    /// The option takes no value.
    pub is_flag: bool,
    /// Origin of the values.
    pub origin: Origin,
}

/// The place in which a value is written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// An environment variable.
    Variable(String),
    /// A line of the configuration file.
    File(PathBuf, usize),
    /// None: the option's default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Flag => f.write_str("flag"),
            Self::Variable(name) => write!(f, "environment ({name})"),
            Self::File(path, line) => write!(f, "{}:{line}", path.display()),
            Self::Default => f.write_str("default"),
        }
    }
}

// === impl Origins ===

impl Origins {
    /// Finds the origin of each option of `run`.
    pub(super) fn of(
        run: &Command,
        matches: &ArgMatches,
        toml: Option<&HandoffToml>,
        file: PathBuf,
        args: Vec<OsString>,
    ) -> Self {
        let options = toml.map_or_else(Default::default, |toml| toml.options.as_slice());
        let setting = |arg: &clap::Arg| {
            let id = arg.get_id().as_str();
            let given = options.iter().find(|given| given.id == id);
            let origin = match (matches.value_source(id), given) {
                (Some(ValueSource::CommandLine), _) => Origin::Flag,
                (Some(ValueSource::EnvVariable), _) => {
                    let name = arg.get_env().unwrap_or_default();
                    Origin::Variable(name.to_string_lossy().into_owned())
                }
                (Some(_), Some(given)) => Origin::File(file.clone(), given.line),
                (_, _) => Origin::Default,
            };
            let values = matches.get_raw(id).into_iter().flatten();
            Setting {
                key: id.replace('_', "-"),
                values: values
                    .map(|value| value.to_string_lossy().into_owned())
                    .collect(),
                is_list: matches!(arg.get_action(), clap::ArgAction::Append),
                is_flag: matches!(arg.get_action(), clap::ArgAction::SetTrue),
                origin,
            }
        };
        let own = run.get_arguments();
        let own = own.filter(|arg| !["help", "version"].contains(&arg.get_id().as_str()));
        Self {
            settings: own.map(setting).collect(),
            variables: toml.map(|toml| toml.variables.clone()).unwrap_or_default(),
            lines: toml.map(|toml| toml.lines.clone()).unwrap_or_default(),
            has_file: toml.is_some(),
            file,
            args,
        }
    }

    /// Returns the name of an option at its origin: `--poll`, `HANDOFF_POLL` or `FILE:3: poll`.
    pub fn name_of(&self, option: &str) -> String {
        let key = option.trim_start_matches('-');
        let setting = self.settings.iter().find(|setting| setting.key == key);
        match setting.map(|setting| &setting.origin) {
            Some(Origin::File(path, line)) => format!("{}:{line}: {key}", path.display()),
            Some(Origin::Variable(name)) => name.clone(),
            Some(Origin::Flag | Origin::Default) | None => option.to_owned(),
        }
    }
}
