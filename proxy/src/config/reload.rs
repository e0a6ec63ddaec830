//! The configuration, read again when its files change.
//!
//! It happens on the watcher's thread: the files may lie on a share that takes its time.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use crate::cli::origins::{Origins, Setting};
use crate::cli::{Cli, Run};
use crate::control_plane::reread::{News, Reread};
use crate::control_plane::supervisor;
use crate::deployment::Fingerprint;
use crate::telemetry;

/// A file that has just changed may be half written; and so may the next one.
const CALM: Duration = Duration::from_millis(200);
/// One that changes all the time is read all the same.
const PATIENCE: Duration = Duration::from_secs(2);

/// What is taken over from a changed file while handoff runs; the rest needs a restart of it.
const RELOADED: [&str; 24] = [
    "env-file",
    "health-path",
    "health-host",
    "health-interval",
    "health-timeout",
    "health-status",
    "health-rise",
    "health-identity",
    "warmup",
    "start-timeout",
    "deploy-timeout",
    "drain-timeout",
    "tunnel-drain-timeout",
    "max-draining",
    "rapid-fails",
    "stop",
    "stop-timeout",
    "live-path",
    "live-interval",
    "health-fall",
    "bake",
    "bake-max-errors",
    "auto-rollback",
    "log-level",
];

/// The files, and what they said.
#[derive(Debug)]
pub(super) struct Files {
    origins: Origins,
    settings: supervisor::Settings,
    env_file: Option<PathBuf>,
    seen: Seen,
    /// They have changed since: first, last, and how.
    changing: Option<(Instant, Instant, Seen)>,
}

/// What a look at the files tells of each.
type Seen = Vec<Option<Fingerprint>>;

// === impl Files ===

impl Files {
    pub(super) fn new(run: &Run, settings: &supervisor::Settings) -> Self {
        let mut files = Self {
            origins: run.origins.clone(),
            settings: settings.clone(),
            env_file: run.files.env_file.clone(),
            seen: Seen::new(),
            changing: None,
        };
        files.seen = files.see();
        files
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let env_file = self.env_file.as_deref();
        [self.origins.file.as_path()].into_iter().chain(env_file)
    }

    fn see(&self) -> Seen {
        self.paths()
            .map(|path| Fingerprint::of(path).ok())
            .collect()
    }

    fn read(&mut self) -> Result<supervisor::Settings, String> {
        let run = Cli::read_again(&self.origins).map_err(|error| error.to_string())?;
        let run = run.ok_or_else(|| "there is nothing to run any more".to_owned())?;
        let config = Config::try_from(run.clone()).map_err(|error| error.to_string())?;
        let changed = changed(&self.origins, &run.origins);
        let (taken, left): (Vec<_>, Vec<_>) = changed
            .into_iter()
            .partition(|key| RELOADED.contains(&key.as_str()));
        telemetry::set_level(config.log.level);
        if !taken.is_empty() {
            tracing::info!(options = taken.join(", "), "the configuration has changed");
        }
        if !left.is_empty() {
            tracing::warn!(
                options = left.join(", "),
                "they have changed too, which counts only when handoff is restarted"
            );
        }
        self.origins = run.origins;
        self.env_file = run.files.env_file;
        self.settings = self.settings.reloaded(config.supervisor);
        // The other file may be another one now.
        self.seen = self.see();
        Ok(self.settings.clone())
    }
}

impl Reread for Files {
    fn look(&mut self) -> News {
        let (now, seen) = (Instant::now(), self.see());
        if seen == self.seen {
            self.changing = None;
            return News::None;
        }
        let (first, last) = match &self.changing {
            Some((first, last, before)) if *before == seen => (*first, *last),
            Some((first, ..)) => (*first, now),
            None => (now, now),
        };
        let calm = last + CALM;
        if now < calm && now < first + PATIENCE {
            self.changing = Some((first, last, seen));
            return News::Soon(calm - now);
        }
        self.changing = None;
        self.seen = seen;
        match self.read() {
            Ok(settings) => News::Settings(Box::new(settings)),
            Err(problem) => News::Problem(problem),
        }
    }

    fn folders(&self) -> Vec<PathBuf> {
        let folder = |path: &Path| path.parent().map(Path::to_owned);
        // Only where there is something to change: events for other files would be for nothing.
        let there = self
            .paths()
            .zip(&self.seen)
            .filter(|(_, seen)| seen.is_some());
        there.filter_map(|(path, _)| folder(path)).collect()
    }
}

/// The options that say something else than before, by name.
fn changed(before: &Origins, after: &Origins) -> Vec<String> {
    let says = |all: &[Setting], key: &str| {
        let setting = all.iter().find(|setting| setting.key == key);
        setting.map(|setting| setting.values.clone())
    };
    let keys = after.settings.iter().map(|setting| &setting.key);
    keys.filter(|key| says(&before.settings, key) != says(&after.settings, key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn what_is_reloaded_are_options() {
        let command = Cli::command();
        let run = command.find_subcommand("run").unwrap();
        for key in RELOADED {
            let is_option = run.get_opts().any(|option| option.get_long() == Some(key));
            assert!(is_option, "{key}");
        }
    }

    #[test]
    fn the_readme_names_what_is_reloaded() {
        let readme = std::fs::read_to_string("../README.md").unwrap();
        let (_, after) = readme
            .split_once("\n### Changing it while it runs\n")
            .unwrap();
        let (section, _) = after.split_once("\n## ").unwrap();
        for key in RELOADED {
            assert!(section.contains(&format!("`{key}`")), "{key}");
        }
    }
}
