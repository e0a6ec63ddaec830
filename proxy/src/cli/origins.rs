//! Where the value of each option came from.

use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt;
use std::path::PathBuf;

use clap::parser::ValueSource;
use clap::{ArgMatches, Command};

use super::handoff_toml::HandoffToml;
use crate::process::variables::Variables;

/// Where everything came from.
#[derive(Clone, Debug, Default)]
pub struct Origins {
    /// The command line, to be read again.
    pub args: Vec<OsString>,
    /// The configuration file, if there is one; else where it would be.
    pub file: PathBuf,
    /// Whether there is one.
    pub has_file: bool,
    /// Every option, in the order of the help.
    pub settings: Vec<Setting>,
    /// `[env]`
    pub variables: Variables,
    /// In which line of the file each of those is.
    pub lines: BTreeMap<String, usize>,
}

/// One option.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Its name, without dashes before it.
    pub key: String,
    /// What it says, if anything.
    pub values: Vec<String>,
    /// Whether it takes a list.
    pub is_list: bool,
    /// Whether it is only on or off.
    pub is_flag: bool,
    /// Who said so.
    pub origin: Origin,
}

/// Who said what an option is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// The command line.
    Flag,
    /// This environment variable.
    Variable(String),
    /// The configuration file, in this line.
    File(PathBuf, usize),
    /// Nobody.
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

    /// How an option is called where it was given: `--poll`, `HANDOFF_POLL` or `FILE:3: poll`.
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
