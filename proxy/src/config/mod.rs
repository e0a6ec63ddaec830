//! The settings of every part, from the options of `handoff run`.
//!
//! Past this point every value is of its final type and can be used.

use std::env;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use crate::cli::Run;
use crate::cli::run::Switch;
use crate::control_plane::artifact::StoreSettings;
use crate::control_plane::config_source::ConfigSource;
use crate::control_plane::settings::SupervisorSettings;
use crate::control_plane::watcher::WatchSettings;
use crate::data_plane;
use crate::deployment::FormerState;
use crate::observe::admin;
use crate::process::announcement::NotifyRequest;
use crate::process::template::Command;
use crate::router::HoldLimits;
use crate::telemetry::{self, sinks};
use crate::user_tokens::WindowsAuth;

mod artifacts;
mod environment;
mod error;
mod error_pages;
mod instances;
mod observing;
mod paths;
mod platform;
mod reload;
mod traffic;

pub use error::ConfigError;
use platform::Platform;

/// Settings of a run: those of each of its parts.
#[derive(Debug)]
pub struct Config {
    /// The public address.
    pub listen: SocketAddr,
    /// Folder for state that sidecars and commands share.
    pub state: PathBuf,
    /// Former default of it, from which state is taken over.
    pub former_state: Option<FormerState>,
    /// The private copies.
    pub store: StoreSettings,
    /// The source of artifacts, and their detection.
    pub watch: WatchSettings,
    /// Requests that wait while no release is active.
    pub hold: HoldLimits,
    /// Connections and requests.
    pub data_plane: data_plane::DataPlaneSettings,
    /// Maximum time for which the first launch waits for the first request.
    pub first_launch_delay: Duration,
    /// Instances.
    pub supervisor: SupervisorSettings,
    /// Treatment of users' Windows tokens.
    pub windows_auth: WindowsAuth,
    /// The admin endpoint, if there is one.
    pub admin: Option<admin::AdminSettings>,
    /// The app's output and the access log.
    pub lines: sinks::SinkSettings,
    /// Command of the event hook, if there is one.
    pub on_event: Option<String>,
    /// Request to each instance about its state, if there is one.
    pub notify: Option<NotifyRequest>,
    /// The log.
    pub log: telemetry::LogSettings,
    /// True if another content of the program's file is an upgrade of handoff.
    pub upgrade_on_change: bool,
    /// The end of handoff.
    pub shutdown: ShutdownSettings,
    /// The files that are read again when they change.
    pub files: Box<dyn ConfigSource>,
}

/// Settings of the shutdown.
#[derive(Clone, Copy, Debug)]
pub struct ShutdownSettings {
    /// Time for which handoff goes on accepting.
    pub delay: Duration,
    /// Maximum time for the whole shutdown.
    pub timeout: Duration,
}

// === impl Config ===

impl TryFrom<Run> for Config {
    type Error = ConfigError;

    fn try_from(run: Run) -> Result<Self, ConfigError> {
        let variable = |name: &str| env::var(name).ok();
        Self::of(&run, &Platform::new(&variable)).map_err(|error| error.named_by_origin(&run))
    }
}

impl Config {
    fn of(run: &Run, platform: &Platform<'_>) -> Result<Self, ConfigError> {
        let source = paths::source(run)?;
        let state = paths::state(run, &source);
        let former_state = paths::former_state(run, &source);
        let command = Command::new(run.app.command.clone());
        let checked = command.check_placeholders(&run.app.port_name);
        checked.map_err(|typo| ConfigError::Placeholder {
            key: "command".into(),
            typo,
        })?;
        observing::check_placeholders(run)?;
        Platform::check_anchor(run)?;
        let supervisor = instances::supervisor(run, &state, &command)?;
        let admin = observing::admin(run)?;
        let pages = error_pages::folder(run)?;
        let assets = artifacts::assets(run);
        Ok(Self {
            log: observing::log(run, platform, admin.as_ref(), &state),
            lines: observing::lines(run),
            on_event: run.observability.on_event.clone(),
            notify: run.observability.notify.clone(),
            admin,
            windows_auth: platform.windows_auth(run)?,
            listen: platform.listen(run)?,
            watch: artifacts::watch(run, source)?,
            hold: traffic::hold(run),
            data_plane: traffic::data_plane(run, platform, pages.as_ref(), assets.as_ref())?,
            store: artifacts::store(run, &state, command, assets)?,
            files: Box::new(reload::ConfigFiles::new(run, pages)),
            first_launch_delay: platform.first_launch_delay(run),
            upgrade_on_change: run.anchor.upgrade_on_change == Switch::On,
            shutdown: platform.shutdown(run),
            supervisor,
            former_state,
            state,
        })
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Subcommands};
    use crate::control_plane::probe::ExpectedStatus;
    use crate::deployment::source::absolute;

    fn config(args: &[&str]) -> Result<Config, ConfigError> {
        let args = ["handoff", "run", "--cache", "/c"].iter().chain(args);
        let Subcommands::Run(run) = Cli::parse_from(args).command else {
            unreachable!("nothing else was asked for");
        };
        Config::try_from(*run)
    }

    fn error(args: &[&str]) -> String {
        config(args).unwrap_err().to_string()
    }

    #[test]
    fn the_state_lies_beside_what_is_watched() {
        let state = |args| config(args).unwrap().state;
        let root = |path| absolute(PathBuf::from(path));
        let artifact = state(&["--artifact", "/site/app"]);
        assert_eq!(artifact, root("/site.handoff/app"));
        assert_eq!(state(&["--artifact", "/app/"]), root("/.handoff/app"));
        let shared = state(&["--artifact", "/site/shared"]);
        assert_eq!(shared, root("/site.handoff/shared_"));
        assert_eq!(state(&["--watch", "/site/r"]), root("/site/r.handoff"));
        assert_eq!(state(&["--watch", "/site/r/"]), root("/site/r.handoff"));
        let pointer = state(&["--pointer", "/site/p.txt", "--watch", "/site/r"]);
        assert_eq!(pointer, root("/site/p.txt.handoff"));
    }

    #[test]
    fn what_cannot_be_used_is_named_with_what_can() {
        let artifact = ["--artifact", "/a"];
        let with = |more: &[&str]| error(&[&artifact, more].concat());
        assert_eq!(
            with(&["--health-path", "health"]),
            r#"--health-path is "health": expected a path that starts with /, such as /health"#
        );
        assert_eq!(
            with(&["--poll", "0s"]),
            r#"--poll is "0s": expected a duration above zero"#
        );
        assert_eq!(
            with(&["--max-draining", "0"]),
            r#"--max-draining is "0": expected a larger number"#
        );
        assert_eq!(
            with(&["--watch", "/b"]),
            "--artifact cannot be used together with --watch: choose one"
        );
        assert!(error(&[]).starts_with("nothing to run: give --artifact"));
    }

    #[test]
    fn a_misspelt_placeholder_is_an_error_of_the_configuration() {
        let typo = error(&["--artifact", "/a", "--", "./app", "--port={prot}"]);
        assert!(
            typo.contains("{prot} is no placeholder: write {port}."),
            "{typo}"
        );
        for option in ["--log-file", "--app-log", "--access-log"] {
            let typo = error(&["--artifact", "/a", option, "/l/{sidcar}.log"]);
            assert!(typo.starts_with(option), "{typo}");
            assert!(
                typo.contains("{sidcar} is no placeholder: write {sidecar}"),
                "{typo}"
            );
        }
    }

    #[test]
    fn a_configured_health_path_has_to_succeed_and_the_root_only_to_answer() {
        let expected = |path| {
            let config = config(&["--artifact", "/a", "--health-path", path]);
            config.unwrap().supervisor.readiness.probe.expected
        };
        assert_eq!(expected("/"), ExpectedStatus::AnyOfRoot);
        assert_eq!(expected("/health"), ExpectedStatus::Good);
        let args = ["--artifact", "/a", "--health-status", "200-204"];
        let probe = config(&args).unwrap().supervisor.readiness.probe;
        assert_eq!(probe.expected, ExpectedStatus::Named(200..=204));
    }

    #[test]
    fn an_app_that_cannot_run_twice_drains_before_held_requests_give_up_and_has_no_standby() {
        let args = ["--artifact", "/a", "--overlap", "no"];
        let supervisor = config(&args).unwrap().supervisor;
        assert_eq!(supervisor.drain_timeout, Duration::from_secs(30));
        let with_bake = [&args[..], &["--bake", "5m"]].concat();
        assert!(error(&with_bake).starts_with(r#"--bake is "5m": expected nothing"#));
    }

    #[test]
    fn a_canary_needs_the_cookie_by_which_clients_keep_their_side() {
        let args = ["--artifact", "/a", "--canary", "5%:10m"];
        assert!(
            error(&args).starts_with(r#"--canary is "5%:10m": expected --sticky cookie with it"#)
        );
        let sticky = [&args[..], &["--sticky", "cookie"]].concat();
        assert!(config(&sticky).unwrap().supervisor.canary.is_some());
        let args = ["--artifact", "/a", "--canary-header", "X-Canary=team-a"];
        let wrong = error(&args);
        assert!(
            wrong.starts_with(r#"--canary-header is "x-canary=team-a": expected --sticky cookie"#),
            "{wrong}"
        );
        let sticky = [&args[..], &["--sticky", "cookie"]].concat();
        let field = config(&sticky).unwrap().data_plane.tester_field;
        assert_eq!(field.unwrap().to_string(), "x-canary=team-a");
    }

    #[test]
    fn errors_are_counted_while_a_release_is_on_trial_only() {
        let args = ["--artifact", "/a", "--bake-max-errors", "7%"];
        assert_eq!(
            error(&args),
            r#"--bake-max-errors is "7%": expected --bake with it, such as --bake 10m: errors are counted while a release is on trial"#
        );
        let with_bake = [&args[..], &["--bake", "5m"]].concat();
        let supervisor = config(&with_bake).unwrap().supervisor;
        assert_eq!(supervisor.bake_max_errors, Some(0.07));
    }
}
