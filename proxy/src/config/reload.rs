//! The configuration, read again when its files change.
//!
//! The watcher's thread does this: the files may be on a slow share.

use std::path::{Path, PathBuf};
use std::time::Duration;

use tokio::time::Instant;

use super::Config;
use super::error_pages::PageFolder;
use crate::cli::origins::{Origins, Setting};
use crate::cli::run::ReloadableOptions;
use crate::cli::{Cli, Run};
use crate::control_plane::config_source::{ConfigReload, ConfigSource};
use crate::control_plane::settings::SupervisorSettings;
use crate::deployment::Fingerprint;
use crate::deployment::source::absolute;
use crate::telemetry;

/// Time without a change after which the files are read: one may be half written, and the other may
/// follow.
const CALM: Duration = Duration::from_millis(200);
/// Maximum time for which files that keep changing are left unread.
const PATIENCE: Duration = Duration::from_secs(2);

/// The configuration file and the file with the app's variables.
#[derive(Debug)]
pub(super) struct ConfigFiles {
    /// The options in effect.
    run: Run,
    read: Fingerprints,
    change: Option<Change>,
    pages: Option<PageFolder>,
}

/// A change of the files that may go on.
#[derive(Debug)]
struct Change {
    first: Instant,
    last: Instant,
    found: Fingerprints,
}

/// The state of each file; `None` if it cannot be read.
type Fingerprints = Vec<Option<Fingerprint>>;

// === impl ConfigFiles ===

impl ConfigFiles {
    /// Takes the files as read: they have led to `run`.
    pub(super) fn new(run: &Run, pages: Option<PageFolder>) -> Self {
        let mut files = Self {
            pages,
            run: run.clone(),
            read: Fingerprints::new(),
            change: None,
        };
        files.read = files.fingerprints();
        files
    }

    fn paths(&self) -> impl Iterator<Item = &Path> {
        let env_file = self.run.reloadable.env_file.as_deref();
        [self.run.origins.file.as_path()]
            .into_iter()
            .chain(env_file)
    }

    fn fingerprints(&self) -> Fingerprints {
        self.paths()
            .map(|path| Fingerprint::of(path).ok())
            .collect()
    }

    /// Reads the files, and takes over the reloadable options.
    fn read(&mut self) -> Result<SupervisorSettings, String> {
        let new = Cli::read_again(&self.run.origins).map_err(|error| error.to_string())?;
        let new = new.ok_or_else(|| "there is nothing to run any more".to_owned())?;
        // The other options have to be usable too: the next restart takes them over.
        Config::try_from(new.clone()).map_err(|error| error.to_string())?;
        let run = Run {
            reloadable: new.reloadable,
            origins: new.origins,
            ..self.run.clone()
        };
        let config = Config::try_from(run.clone()).map_err(|error| error.to_string())?;
        telemetry::set_level(config.log.level);
        log_changes(&self.run.origins, &run.origins);
        self.run = run;
        // The path of the app's variables may have changed.
        self.read = self.fingerprints();
        Ok(config.supervisor)
    }
}

impl ConfigSource for ConfigFiles {
    fn poll(&mut self) -> ConfigReload {
        if let Some(pages) = &mut self.pages {
            pages.refresh();
        }
        let (now, found) = (Instant::now(), self.fingerprints());
        if found == self.read {
            self.change = None;
            return ConfigReload::Unchanged;
        }
        let (first, last) = match &self.change {
            Some(change) if change.found == found => (change.first, change.last),
            Some(change) => (change.first, now),
            None => (now, now),
        };
        let calm = last + CALM;
        if now < calm && now < first + PATIENCE {
            self.change = Some(Change { first, last, found });
            return ConfigReload::Changing(calm - now);
        }
        self.change = None;
        self.read = found;
        match self.read() {
            Ok(settings) => ConfigReload::Settings(Box::new(settings)),
            Err(problem) => ConfigReload::Problem(problem),
        }
    }

    fn files(&self) -> Vec<PathBuf> {
        let pages = self.pages.iter().flat_map(PageFolder::paths);
        let files = self.paths().map(|path| absolute(path.to_owned()));
        files.chain(pages).collect()
    }
}

fn log_changes(before: &Origins, after: &Origins) {
    let reloadable = ReloadableOptions::keys();
    let (reloaded, other): (Vec<_>, Vec<_>) = changed(before, after)
        .into_iter()
        .partition(|key| reloadable.contains(key));
    if !reloaded.is_empty() {
        tracing::info!(
            event = "configuration_reloaded",
            options = reloaded.join(", "),
            "the configuration has changed"
        );
    }
    if !other.is_empty() {
        tracing::warn!(
            event = "configuration_needs_restart",
            options = other.join(", "),
            "options have changed that take effect only when handoff is restarted"
        );
    }
}

/// Returns the keys of the options whose values differ.
fn changed(before: &Origins, after: &Origins) -> Vec<String> {
    let values = |all: &[Setting], key: &str| {
        let setting = all.iter().find(|setting| setting.key == key);
        setting.map(|setting| setting.values.clone())
    };
    let keys = after.settings.iter().map(|setting| &setting.key);
    keys.filter(|key| values(&before.settings, key) != values(&after.settings, key))
        .cloned()
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_reloaded_is_what_instances_and_the_log_level_depend_on() {
        let expected = [
            "env-file",
            "health-path",
            "health-host",
            "health-header",
            "health-body",
            "health-grpc",
            "health-interval",
            "health-timeout",
            "health-status",
            "health-rise",
            "health-identity",
            "warmup",
            "before-start",
            "before-start-timeout",
            "verify",
            "verify-timeout",
            "start-timeout",
            "deploy-timeout",
            "live-path",
            "live-interval",
            "unresponsive-after",
            "health-fall",
            "rapid-fails",
            "bake",
            "bake-max-errors",
            "auto-rollback",
            "drain-timeout",
            "tunnel-drain-timeout",
            "max-draining",
            "stop",
            "stop-timeout",
            "log-level",
        ];
        assert_eq!(ReloadableOptions::keys(), expected);
    }
}
