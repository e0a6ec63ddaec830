//! The resulting configuration, and the origin of each value.

use std::fmt;

use humantime::format_duration;
use serde::Serialize;

use crate::cli::origins::{Origin, Origins, Setting};
use crate::config::Config;
use crate::deployment::Source;

/// All options, and the names of the app's variables.
#[derive(Debug, Serialize)]
pub(super) struct PrintedConfig {
    options: Vec<OptionLine>,
    env: Vec<VariableLine>,
}

/// An option.
#[derive(Debug, Serialize)]
struct OptionLine {
    key: String,
    /// The value as the file would contain it.
    value: Option<String>,
    origin: String,
}

/// A variable of the app.
#[derive(Debug, Serialize)]
struct VariableLine {
    name: String,
    origin: String,
}

// === impl PrintedConfig ===

impl PrintedConfig {
    pub(super) fn of(config: &Config, origins: &Origins) -> Self {
        let line = |setting: &Setting| OptionLine {
            value: written(setting).or_else(|| found(config, &setting.key)),
            key: setting.key.clone(),
            origin: setting.origin.to_string(),
        };
        let env_file = origins.settings.iter().find(|s| s.key == "env-file");
        let env_file = env_file.and_then(|setting| setting.values.first());
        let name = |name: &std::ffi::OsStr| {
            let name = name.to_string_lossy().into_owned();
            let origin = match (origins.lines.get(&name), env_file) {
                (Some(line), _) => Origin::File(origins.file.clone(), *line).to_string(),
                (None, file) => file.cloned().unwrap_or_default(),
            };
            VariableLine { name, origin }
        };
        Self {
            options: origins.settings.iter().map(line).collect(),
            env: config.supervisor.environment.names().map(name).collect(),
        }
    }
}

impl fmt::Display for PrintedConfig {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let written = |line: &OptionLine| match &line.value {
            Some(value) => format!("{} = {value}", line.key),
            None => format!("# {}", line.key),
        };
        let lines: Vec<_> = self.options.iter().map(written).collect();
        let width = lines.iter().map(|line| line.chars().count()).max();
        let width = width.unwrap_or(0).min(50);
        for (line, option) in lines.iter().zip(&self.options) {
            writeln!(f, "{line:width$}  # {}", option.origin)?;
        }
        if !self.env.is_empty() {
            writeln!(f, "\n# [env], without the values")?;
        }
        for VariableLine { name, origin } in &self.env {
            let name = format!("# {name}");
            writeln!(f, "{name:width$}  # {origin}")?;
        }
        Ok(())
    }
}

/// Returns a given value, as the file takes it.
fn written(setting: &Setting) -> Option<String> {
    let quoted = |value: &String| toml::Value::from(value.as_str()).to_string();
    if setting.key == "on-event" {
        // Its arguments may be secrets.
        let program = setting.values.first()?.split_whitespace().next()?;
        return Some(quoted(&format!("{program} …")));
    }
    if setting.is_flag {
        return setting.values.first().cloned();
    }
    match (setting.values.as_slice(), setting.is_list) {
        ([], _) => None,
        ([value], false) => Some(match value.parse::<u64>() {
            Ok(number) => number.to_string(),
            Err(_) => quoted(value),
        }),
        (values, _) => {
            let values: Vec<_> = values.iter().map(quoted).collect();
            Some(format!("[{}]", values.join(", ")))
        }
    }
}

/// Returns a value that was neither given nor is constant.
fn found(config: &Config, key: &str) -> Option<String> {
    let quoted = |value: &dyn ToString| toml::Value::from(value.to_string()).to_string();
    let path = |path: &std::path::Path| quoted(&path.display());
    let source = |wanted: &str| match (&config.watch.source, wanted) {
        (Source::Pointer { file, .. }, "pointer") => Some(path(file)),
        (Source::Pointer { folder, .. }, "watch") => folder.as_deref().map(path),
        (Source::Folder(folder), "watch") => Some(path(folder)),
        _ => None,
    };
    match key {
        "listen" => Some(quoted(&config.listen)),
        "pointer" | "watch" => source(key),
        "state" => Some(path(&config.state)),
        "cache" => Some(path(&config.store.cache)),
        "shared" => Some(path(&config.supervisor.shared)),
        "workers" => Some(config.data_plane.workers.to_string()),
        "log-file" => config.log.file.as_ref().map(|file| path(&file.path)),
        "first-launch-delay" => Some(quoted(&format_duration(config.first_launch_delay))),
        "shutdown-timeout" => Some(quoted(&format_duration(config.shutdown.timeout))),
        _ => None,
    }
}
