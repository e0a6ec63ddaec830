//! The program: parse, log, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use handoff::cli::completions::completions;
use handoff::cli::parse::ParseError;
use handoff::cli::{Cli, Run, Subcommands};
use handoff::commands::say::tell;
use handoff::config::Config;
use handoff::os::{inherit, signal, thread};
use handoff::process::command::OsLauncher;
use handoff::process::console;
use handoff::telemetry::{self, sinks};
use handoff::{app, commands, user_tokens};

/// What was asked for cannot be understood. (clap ends with the same.)
const USAGE: u8 = 2;

/// For the helper that goes into an app's console: that may never let it go, and whoever started it
/// may be gone.
const HELPER_TIME: Duration = Duration::from_secs(5);

fn main() -> ExitCode {
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(ParseError::CommandLine(error)) => error.exit(),
        Err(error) => return fail(ExitCode::from(USAGE), &error.to_string()),
    };
    match cli.command {
        Subcommands::Run(run) => self::run(*run),
        Subcommands::Check(check) => handoff::check::run(*check).into(),
        Subcommands::Deploy(deploy) => commands::deploy::run(&deploy).into(),
        Subcommands::Status(options) => commands::status::run(&options).into(),
        Subcommands::History(options) => commands::history::run(&options).into(),
        Subcommands::Logs(options) => commands::logs::run(&options).into(),
        Subcommands::Completions { shell } => print(&completions(shell)),
        Subcommands::Rollback(options) => commands::control::rollback(&options).into(),
        Subcommands::Restart(options) => commands::control::restart(&options).into(),
        Subcommands::Pause(options) => commands::control::pause(&options).into(),
        Subcommands::Resume(options) => commands::control::resume(&options).into(),
        Subcommands::SendConsoleEvent { event, pid } => {
            end_after(HELPER_TIME);
            match console::send_from_within(event, pid) {
                Ok(()) => ExitCode::SUCCESS,
                Err(error) => fail(ExitCode::FAILURE, &error.to_string()),
            }
        }
        Subcommands::Digest(options) => commands::digest::run(&options).into(),
    }
}

fn run(run: Run) -> ExitCode {
    inherit::keep_output_private();
    let mut config = match Config::try_from(run) {
        Ok(config) => config,
        Err(error) => return fail(ExitCode::from(USAGE), &error.to_string()),
    };
    let sidecar = app::random_id();
    let _log = match telemetry::init(&config.log, &sidecar) {
        Ok(log) => log,
        Err(error) => return fail(ExitCode::FAILURE, &format!("cannot log: {error}")),
    };
    let runtime = match tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
    {
        Ok(runtime) => runtime,
        Err(error) => return fail(ExitCode::FAILURE, &format!("cannot start: {error}")),
    };
    let shutdown = async {
        match signal::shutdown().await {
            Ok(reason) => reason,
            Err(error) => {
                tracing::warn!(%error, "cannot listen for signals");
                std::future::pending().await
            }
        }
    };
    let mut launcher = OsLauncher::new(&config.store.cache);
    let sinks = match sinks::open(&config.lines, config.log.tail.as_ref(), &sidecar) {
        Ok(sinks) => sinks,
        Err(error) => return fail(ExitCode::FAILURE, &format!("cannot log: {error}")),
    };
    // Until this function returns: dropping them writes what is still queued.
    let _writers = sinks.writers;
    if let Some(app_log) = sinks.app_log {
        launcher.set_app_log(app_log);
    }
    config.data_plane.access_log = sinks.access_log;
    config.data_plane.user_tokens = user_tokens::of(config.windows_auth, launcher.roots());
    let ended = runtime.block_on(app::run(config, sidecar, launcher, shutdown));
    // On Windows threads of its own read the apps' output: for as long as anything that was left
    // behind has the other end.
    runtime.shutdown_timeout(thread::LAST_WORDS);
    match ended {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(ExitCode::FAILURE, &error.to_string()),
    }
}

fn print(text: &[u8]) -> ExitCode {
    match std::io::stdout().write_all(text) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => fail(ExitCode::FAILURE, &format!("cannot write: {error}")),
    }
}

fn fail(code: ExitCode, message: &str) -> ExitCode {
    tell(format_args!("handoff: {message}"));
    code
}

fn end_after(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        // An ordinary exit would wait for what it hangs in.
        std::process::abort();
    });
}
