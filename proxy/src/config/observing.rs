//! Settings of the log, the other log files and the admin endpoint.

use std::path::{Path, PathBuf};

use super::{ConfigError, Platform};
use crate::cli::Run;
use crate::deployment::source::absolute;
use crate::observe::admin;
use crate::process::template::find_typo;
use crate::telemetry::{self, LogFileSettings, Tail, sinks};

/// Maximum size of the default log file and of its predecessor.
const LOG_COPY_SIZE: u64 = 1 << 20;

pub(super) fn log(
    run: &Run,
    platform: &Platform<'_>,
    admin: Option<&admin::AdminSettings>,
    state: &Path,
) -> telemetry::LogSettings {
    telemetry::LogSettings {
        copy: log_copy(run, platform, state),
        level: run.reloadable.log_level,
        format: run.log.log_format,
        file: log_file(run, platform),
        tail: admin.map(|admin| admin.tail.clone()),
    }
}

fn log_file(run: &Run, platform: &Platform<'_>) -> Option<LogFileSettings> {
    let path = match &run.log.log_file {
        Some(path) if path == Path::new("-") => return None,
        Some(path) => path.clone(),
        None => platform.log_file()?,
    };
    Some(file(run, path))
}

/// Returns the file for `handoff logs` that has the lines of stderr too, unless there is another log
/// file or an option says that there is none.
fn log_copy(run: &Run, platform: &Platform<'_>, state: &Path) -> Option<LogFileSettings> {
    let has_default = run.log.log_file.is_none() && platform.log_file().is_none();
    has_default.then(|| LogFileSettings {
        path: state.join("log").join("{sidecar}.log"),
        size: LOG_COPY_SIZE,
        keep: 1,
    })
}

/// Checks that `{sidecar}` is not misspelt in the path of a log file.
pub(super) fn check_placeholders(run: &Run) -> Result<(), ConfigError> {
    let known = ["sidecar".to_owned()];
    let options = &run.observability;
    let files = [
        ("--log-file", run.log.log_file.as_ref()),
        ("--app-log", Some(&options.app_log)),
        ("--access-log", options.access_log.as_ref()),
    ];
    files.into_iter().try_for_each(|(key, file)| {
        let text = file.and_then(|file| file.to_str()).unwrap_or_default();
        find_typo(text, &known).map_err(|typo| ConfigError::Placeholder {
            key: key.into(),
            typo,
        })
    })
}

pub(super) fn lines(run: &Run) -> sinks::SinkSettings {
    let options = &run.observability;
    let is = |path: &Path, word| path == Path::new(word);
    sinks::SinkSettings {
        app: match &options.app_log {
            word if is(word, "prefix") => sinks::AppSink::Log,
            word if is(word, "raw") => sinks::AppSink::Raw,
            path => sinks::AppSink::File(file(run, path.clone())),
        },
        access: options
            .access_log
            .as_ref()
            .map(|path| sinks::AccessLogSettings {
                form: options.access_log_format,
                file: (!is(path, "-")).then(|| file(run, path.clone())),
            }),
    }
}

fn file(run: &Run, path: PathBuf) -> LogFileSettings {
    LogFileSettings {
        path: absolute(path),
        size: run.log.log_file_size.0,
        keep: run.log.log_file_keep,
    }
}

/// The endpoint shows the app's log without asking for a password: it is for this machine alone.
pub(super) fn admin(run: &Run) -> Result<Option<admin::AdminSettings>, ConfigError> {
    match run.observability.admin {
        Some(address) if !address.ip().is_loopback() => Err(ConfigError::Value {
            key: "--admin".into(),
            value: address.to_string(),
            expected: "a loopback address, such as 127.0.0.1:9900 (from elsewhere: through an SSH \
                       tunnel, or a proxy that asks who it is)",
        }),
        Some(address) => Ok(Some(admin::AdminSettings {
            address,
            tail: Tail::default(),
        })),
        None => Ok(None),
    }
}

#[cfg(test)]
mod tests {
    use clap::Parser as _;

    use super::*;
    use crate::cli::{Cli, Subcommands};

    #[test]
    fn without_an_option_the_log_is_in_the_state_folder_too() {
        let path = |args: &[&str]| {
            let args = [&["handoff", "run"], args].concat();
            let Subcommands::Run(run) = Cli::parse_from(args).command else {
                unreachable!("nothing else was asked for");
            };
            let copy = log_copy(&run, &Platform::new(&|_| None), Path::new("state"));
            copy.map(|file| file.path_of("s1"))
        };
        assert_eq!(path(&[]), Some(Path::new("state/log/s1.log").into()));
        for file in ["-", "other.log"] {
            assert_eq!(path(&["--log-file", file]), None);
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
        let path = |run: &Run, known: &[&str]| {
            let variable = |name: &str| match name {
                _ if !known.contains(&name) => None,
                "HOME" => Some("/home".to_owned()),
                _ => Some("1".to_owned()),
            };
            log_file(run, &Platform::new(&variable)).map(|file| file.path)
        };
        let azure = ["HOME", "WEBSITE_SITE_NAME", "HTTP_PLATFORM_PORT"];
        let default = run(&[]);
        let shown = absolute(
            Path::new("/home")
                .join("LogFiles")
                .join("handoff-{sidecar}.log"),
        );
        assert_eq!(path(&default, &azure), Some(shown));
        assert_eq!(path(&default, &azure[..2]), None, "Kudu's console");
        let own_iis = ["HOME", "HTTP_PLATFORM_PORT"];
        assert_eq!(path(&default, &own_iis), None, "own IIS");
        assert_eq!(path(&run(&["--log-file", "-"]), &azure), None);
        let told = path(&run(&["--log-file", "/x/a.log"]), &azure);
        assert_eq!(told, Some(absolute("/x/a.log".into())));
    }
}
