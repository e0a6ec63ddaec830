//! From what was written to final types: past this point nothing is left to be misunderstood.

use std::env;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::thread::available_parallelism;
use std::time::Duration;

use crate::cli::observing::Observing;
use crate::cli::{AutoRollback, Overlap, Run};
use crate::control_plane::artifact::{Limits, Settle, StoreSettings, Workdir};
use crate::control_plane::reread::Reread;
use crate::control_plane::supervisor;
use crate::control_plane::watcher::WatchSettings;
use crate::data_plane::{self, AppLimits, ClientLimits, RequestLimits, ShutdownRequest};
use crate::deployment::Source;
use crate::observe::admin;
use crate::process::template::Command;
use crate::router::Hold;
use crate::telemetry::sinks;
use crate::telemetry::{self, FileSettings, Tail};
use crate::user_tokens::WindowsAuth;

mod environment;
mod error;
mod probes;
mod reload;

pub use error::ConfigError;
use error::{at_least, positive};
use probes::{live, readiness};

const DEFAULT_PORT: u16 = 8080;
/// The platform's port, and the sign that there is a platform.
const PLATFORM_PORT: &str = "HTTP_PLATFORM_PORT";
/// What proves that a request is the platform's: HttpPlatformHandler's, ASP.NET Core's module's.
const PLATFORM_TOKENS: [&str; 2] = ["HTTP_PLATFORM_TOKEN", "ASPNETCORE_TOKEN"];
/// Where in the site the application is.
const PLATFORM_PATHS: [&str; 2] = ["HTTP_PLATFORM_APPL_PATH", "ASPNETCORE_APPL_PATH"];
/// The module watches the processes that it finds in its job when it sees the port open, and a later
/// end of one of them can blind it to ours. It looks every quarter of a second.
const PLATFORM_FIRST_LAUNCH: Duration = Duration::from_secs(5);
/// HttpPlatformHandler v2 and ASP.NET Core's module kill ten seconds after they asked.
const PLATFORM_SHUTDOWN: Duration = Duration::from_secs(8);
const SHUTDOWN: Duration = Duration::from_secs(40);

/// Everything that a run needs, composed of what each part of it needs.
#[derive(Debug)]
pub struct Config {
    /// The public address.
    pub listen: SocketAddr,
    /// Shared with deployers and other sidecars.
    pub state: PathBuf,
    /// The private copies.
    pub store: StoreSettings,
    /// Where artifacts come from.
    pub watch: WatchSettings,
    /// While nothing is active.
    pub hold: Hold,
    /// The way of a request.
    pub data_plane: data_plane::Settings,
    /// The first instance waits for a request, but not longer than this.
    pub first_launch_delay: Duration,
    /// The way of a release.
    pub supervisor: supervisor::Settings,
    /// What to do with what the platform leaves in this process.
    pub windows_auth: WindowsAuth,
    /// Where it can be looked at, if anywhere.
    pub admin: Option<admin::Settings>,
    /// Where what apps write goes, and a line for each request.
    pub lines: sinks::SinkSettings,
    /// What somebody wants to be told of at once, and by which command.
    pub on_event: Option<String>,
    /// What is told of it all.
    pub log: telemetry::Settings,
    /// The end.
    pub shutdown: Shutdown,
    /// The files that may change while it runs.
    pub files: Box<dyn Reread>,
}

/// How the process ends.
#[derive(Clone, Copy, Debug)]
pub struct Shutdown {
    /// Goes on accepting for so long.
    pub delay: Duration,
    /// Bounds it all.
    pub timeout: Duration,
}

// === impl Config ===

impl TryFrom<Run> for Config {
    type Error = ConfigError;

    fn try_from(run: Run) -> Result<Self, ConfigError> {
        Self::of(&run).map_err(|error| error.in_words_of(&run))
    }
}

impl Config {
    fn of(run: &Run) -> Result<Self, ConfigError> {
        let platform_port = env::var(PLATFORM_PORT).ok();
        let source = source(run)?;
        let state = absolute(run.state.clone().unwrap_or_else(|| source.default_state()));
        let command = Command::new(run.command.clone());
        let (shutdown_timeout, first_launch_delay) = match platform_port {
            Some(_) => (PLATFORM_SHUTDOWN, PLATFORM_FIRST_LAUNCH),
            None => (SHUTDOWN, Duration::ZERO),
        };
        let supervisor = supervisor(run, &state, &command)?;
        let admin = admin(run.log.observing.admin)?;
        Ok(Self {
            files: Box::new(reload::Files::new(run, &supervisor)),
            log: telemetry::Settings {
                level: run.log.log_level,
                format: run.log.log_format,
                file: log_file(run, platform_port.is_some(), |name| env::var(name).ok()),
                tail: admin.as_ref().map(|admin| admin.tail.clone()),
            },
            lines: lines(run),
            on_event: run.log.observing.on_event.clone(),
            admin,
            windows_auth: windows_auth(run.windows_auth, platform_port.is_some())?,
            listen: listen(run.listen, platform_port)?,
            store: StoreSettings {
                cache: absolute(
                    run.cache
                        .clone()
                        .or_else(default_cache)
                        .ok_or(ConfigError::NoCache)?,
                ),
                state: state.clone(),
                workdir: workdir(run.workdir.clone()),
                keep: run.keep,
                copying: run.artifacts.copy,
                limits: Limits {
                    bytes: run.artifacts.max_unpacked,
                    entries: run.artifacts.max_entries,
                    ratio: run.artifacts.max_ratio,
                    outside_links: run.artifacts.allow_outside_links,
                },
                command,
            },
            watch: WatchSettings {
                source,
                poll: positive("--poll", run.poll)?,
                events: !run.artifacts.no_events,
                settle: Settle {
                    file: run.settle,
                    folder: run.settle_folder,
                },
            },
            hold: Hold {
                first_timeout: run.first_hold_timeout,
                timeout: run.hold_timeout,
                max: run.max_held,
            },
            data_plane: data_plane::Settings {
                workers: run
                    .workers
                    .unwrap_or_else(|| available_parallelism().map_or(1, Into::into)),
                forwarded: run.forwarded,
                app: AppLimits {
                    connect_timeout: positive("--connect-timeout", run.connect_timeout)?,
                    response_timeout: positive("--response-timeout", run.response_timeout)?,
                    idle_timeout: run.upstream_idle_timeout,
                },
                client: ClientLimits {
                    header_timeout: positive("--header-timeout", run.header_timeout)?,
                    idle_timeout: positive("--idle-timeout", run.idle_timeout)?,
                },
                request: RequestLimits {
                    max_target: run.max_target,
                    hold_timeout: run.hold_timeout,
                },
                max_header_size: at_least("--max-header-size", run.max_header_size, 1024)?,
                max_headers: at_least("--max-headers", run.max_headers, 10)?,
                max_connections: at_least("--max-connections", run.max_connections, 1)?,
                half_close: run.half_close,
                shutdown_request: shutdown_request(|name| env::var(name).ok()),
                user_tokens: None,
                tallies: None,
                access_log: None,
                request_id: run.log.observing.request_id,
            },
            first_launch_delay: run.first_launch_delay.unwrap_or(first_launch_delay),
            shutdown: Shutdown {
                delay: run.shutdown_delay,
                timeout: run.shutdown_timeout.unwrap_or(shutdown_timeout),
            },
            supervisor,
            state,
        })
    }
}

/// How instances are started, checked and ended.
fn supervisor(
    run: &Run,
    state: &Path,
    command: &Command,
) -> Result<supervisor::Settings, ConfigError> {
    let shared = run.shared.clone().unwrap_or_else(|| state.join("shared"));
    Ok(supervisor::Settings {
        environment: environment::of(run)?,

        readiness: readiness(run)?,
        shared: absolute(shared),
        start_timeout: positive("--start-timeout", run.start_timeout)?,
        deploy_timeout: positive("--deploy-timeout", run.deploy_timeout)?,
        drain_timeout: drain_timeout(run),
        tunnel_drain_timeout: run.tunnel_drain_timeout,
        stop: run.stop.clone().unwrap_or_default(),
        stop_timeout: run.stop_timeout,
        max_draining: at_least("--max-draining", run.max_draining, 1)?,
        rapid_fails: run.rapid_fails.max(1),
        overlap: run.supervision.overlap == Overlap::Yes,
        live: live(run)?,
        bake: bake(run)?,
        bake_max_errors: bake_max_errors(run)?,
        auto_rollback: run.supervision.auto_rollback == AutoRollback::Always,
        port_names: run.supervision.port_name.clone(),
        command: command.clone(),
    })
}

/// On Azure App Service the platform's own file is one for each process, and never ends; what is in
/// this folder its log stream shows. `variable` reads the environment.
fn log_file(
    run: &Run,
    has_platform: bool,
    variable: impl Fn(&str) -> Option<String>,
) -> Option<FileSettings> {
    let on_azure = || {
        let home = variable("HOME").filter(|_| variable("WEBSITE_SITE_NAME").is_some())?;
        let file = Path::new(&home).join("LogFiles");
        has_platform.then(|| file.join("handoff-{sidecar}.log"))
    };
    let path = match &run.log.log_file {
        Some(path) if path == Path::new("-") => return None,
        Some(path) => path.clone(),
        None => on_azure()?,
    };
    Some(FileSettings {
        path: absolute(path),
        size: run.log.log_file_size,
        keep: run.log.log_file_keep,
    })
}

fn lines(run: &Run) -> sinks::SinkSettings {
    let file = |path: &Path| FileSettings {
        path: absolute(path.to_owned()),
        size: run.log.log_file_size,
        keep: run.log.log_file_keep,
    };
    let is = |path: &Path, word| path == Path::new(word);
    let Observing {
        app_log,
        access_log,
        access_log_format,
        ..
    } = &run.log.observing;
    sinks::SinkSettings {
        app: match app_log {
            word if is(word, "prefix") => sinks::AppSink::Log,
            word if is(word, "raw") => sinks::AppSink::Raw,
            path => sinks::AppSink::File(file(path)),
        },
        access: access_log.as_ref().map(|path| sinks::AccessLogSettings {
            form: *access_log_format,
            file: (!is(path, "-")).then(|| file(path)),
        }),
    }
}

/// The page tells what runs here and what it says: only this machine's people may see that.
fn admin(address: Option<SocketAddr>) -> Result<Option<admin::Settings>, ConfigError> {
    match address {
        Some(address) if !address.ip().is_loopback() => Err(ConfigError::Value {
            key: "--admin".into(),
            value: address.to_string(),
            expected: "a loopback address, such as 127.0.0.1:9900 (from elsewhere: through an SSH \
                       tunnel, or a proxy that asks who it is)",
        }),
        Some(address) => Ok(Some(admin::Settings {
            address,
            tail: Tail::default(),
        })),
        None => Ok(None),
    }
}

/// What can be done with tokens that do not exist is nothing.
fn windows_auth(asked: WindowsAuth, has_platform: bool) -> Result<WindowsAuth, ConfigError> {
    match (asked, cfg!(windows)) {
        (WindowsAuth::Off, _) => Ok(asked),
        (WindowsAuth::Close | WindowsAuth::Forward, false) => Err(ConfigError::Value {
            key: "--windows-auth".into(),
            value: asked.to_string(),
            expected: "off: only Windows has access tokens",
        }),
        // Nobody leaves any, and the same settings may serve for a try without IIS.
        (_, true) if !has_platform => Ok(WindowsAuth::Off),
        (_, true) => Ok(asked),
    }
}

/// `variable` reads the environment.
fn shutdown_request(variable: impl Fn(&str) -> Option<String>) -> Option<ShutdownRequest> {
    let first_of = |names: [&str; 2]| {
        let mut values = names.into_iter().filter_map(&variable);
        values.find(|value| !value.is_empty())
    };
    let token = first_of(PLATFORM_TOKENS)?;
    let path = first_of(PLATFORM_PATHS);
    Some(ShutdownRequest::new(path.as_deref().unwrap_or("/"), &token))
}

fn listen(
    listen: Option<SocketAddr>,
    platform_port: Option<String>,
) -> Result<SocketAddr, ConfigError> {
    let port = match (listen, platform_port) {
        (Some(listen), _) => return Ok(listen),
        (None, None) => DEFAULT_PORT,
        (None, Some(port)) => port.parse().map_err(|_| ConfigError::Value {
            key: PLATFORM_PORT.into(),
            value: port,
            expected: "a port number, as HttpPlatformHandler sets it",
        })?,
    };
    Ok(SocketAddr::from((Ipv4Addr::LOCALHOST, port)))
}

fn source(run: &Run) -> Result<Source, ConfigError> {
    let folder = || run.watch.clone();
    let two = |other: &str| {
        let name = |option: &str| run.origins.name_of(option);
        Err(ConfigError::TwoSources(name("--artifact"), name(other)))
    };
    match (&run.artifact, &run.pointer, folder()) {
        (Some(_), Some(_), _) => two("--pointer"),
        (Some(_), None, Some(_)) => two("--watch"),
        (Some(artifact), None, None) => Ok(Source::Artifact(absolute(artifact.clone()))),
        (None, Some(file), folder) => Ok(Source::Pointer {
            file: absolute(file.clone()),
            folder: folder.map(absolute),
        }),
        (None, None, Some(folder)) => Ok(Source::Folder(absolute(folder))),
        (None, None, None) => {
            Source::conventional(&absolute(".".into())).ok_or(ConfigError::NoSource)
        }
    }
}

fn default_cache() -> Option<PathBuf> {
    let variable = |name| env::var_os(name).filter(|value| !value.is_empty());
    if let Some(cache) = variable("CACHE_DIRECTORY") {
        return Some(cache.into());
    }
    let base = match cfg!(windows) {
        true => variable("LOCALAPPDATA")
            .or_else(|| variable("TEMP"))?
            .into(),
        false => match variable("XDG_CACHE_HOME") {
            Some(cache) => PathBuf::from(cache),
            None => Path::new(&variable("HOME")?).join(".cache"),
        },
    };
    Some(base.join("handoff"))
}

fn workdir(workdir: Option<PathBuf>) -> Workdir {
    match workdir {
        None => Workdir::Auto,
        Some(word) if word == Path::new("artifact") => Workdir::Artifact,
        Some(word) if word == Path::new("copy") => Workdir::Copy,
        Some(dir) => Workdir::Fixed(absolute(dir)),
    }
}

/// While an app that cannot run twice drains, new requests wait: it has to be over, and the next one
/// ready, before they give up.
fn drain_timeout(run: &Run) -> Duration {
    match run.supervision.overlap {
        Overlap::Yes => run.drain_timeout,
        Overlap::No => run.drain_timeout.min(run.hold_timeout / 2),
    }
}

fn bake(run: &Run) -> Result<Duration, ConfigError> {
    match (run.supervision.overlap, run.supervision.bake) {
        (Overlap::No, bake) if !bake.is_zero() => Err(ConfigError::Value {
            key: "--bake".into(),
            value: humantime::format_duration(bake).to_string(),
            expected: "nothing with --overlap no: a standby would run beside the new release",
        }),
        (_, bake) => Ok(bake),
    }
}

fn bake_max_errors(run: &Run) -> Result<Option<f64>, ConfigError> {
    match run.supervision.bake_max_errors {
        Some(share) if run.supervision.bake.is_zero() => Err(ConfigError::Value {
            key: "--bake-max-errors".into(),
            value: format!("{}%", (share * 10_000.0).round() / 100.0),
            expected: "--bake with it, such as --bake 10m: errors are counted while a release is \
                       on trial",
        }),
        share => Ok(share),
    }
}

/// The app runs in another folder than we do.
fn absolute(path: PathBuf) -> PathBuf {
    let path = std::path::absolute(&path).unwrap_or(path);
    // Without a slash at its end: a suffix is put to it.
    path.components().collect()
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Subcommands};

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
        assert_eq!(state(&["--artifact", "/site/app"]), root("/site.handoff"));
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
    fn the_platforms_shutdown_request_is_what_its_variables_say() {
        let expected = |variables: &[(&str, &str)]| {
            let find = |name: &str| variables.iter().find(|(known, _)| *known == name);
            shutdown_request(|name| find(name).map(|(_, value)| (*value).to_owned()))
                .map(|request| format!("{request:?}"))
        };
        assert_eq!(expected(&[]), None);
        assert_eq!(expected(&[("ASPNETCORE_TOKEN", "")]), None);
        for token in ["ASPNETCORE_TOKEN", "HTTP_PLATFORM_TOKEN"] {
            let request = expected(&[(token, "t")]).unwrap();
            assert!(request.contains("\"/iisintegration\""), "{request}");
            let below = [(token, "t"), ("HTTP_PLATFORM_APPL_PATH", "/shop")];
            let request = expected(&below).unwrap();
            assert!(request.contains("\"/shop/iisintegration\""), "{request}");
        }
    }

    #[test]
    fn the_log_goes_to_a_file_where_azure_shows_it_or_where_it_is_told_to() {
        let run = |args: &[&str]| {
            let args = [&["handoff", "run"], args].concat();
            let Subcommands::Run(run) = Cli::parse_from(args).command else {
                unreachable!("nothing else was asked for");
            };
            *run
        };
        let azure = |name: &str| match name {
            "HOME" => Some("/home".to_owned()),
            "WEBSITE_SITE_NAME" => Some("shop".to_owned()),
            _ => None,
        };
        let elsewhere = |name: &str| azure(name).filter(|_| name == "HOME");
        let path = |run: &Run, on_platform, variable: &dyn Fn(&str) -> Option<String>| {
            log_file(run, on_platform, variable).map(|file| file.path)
        };
        let default = run(&[]);
        let shown = absolute(
            Path::new("/home")
                .join("LogFiles")
                .join("handoff-{sidecar}.log"),
        );
        assert_eq!(path(&default, true, &azure), Some(shown));
        assert_eq!(path(&default, false, &azure), None, "Kudu's console");
        assert_eq!(path(&default, true, &elsewhere), None, "own IIS");
        assert_eq!(path(&run(&["--log-file", "-"]), true, &azure), None);
        let told = path(&run(&["--log-file", "/x/a.log"]), true, &azure);
        assert_eq!(told, Some(absolute("/x/a.log".into())));
    }

    #[test]
    fn a_configured_health_path_has_to_succeed_and_the_root_only_to_answer() {
        let expected = |path| {
            let config = config(&["--artifact", "/a", "--health-path", path]);
            config.unwrap().supervisor.readiness.probe.expected
        };
        assert_eq!(expected("/"), 200..=499);
        assert_eq!(expected("/health"), 200..=399);
        let args = ["--artifact", "/a", "--health-status", "200-204"];
        let probe = config(&args).unwrap().supervisor.readiness.probe;
        assert_eq!(probe.expected, 200..=204);
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
