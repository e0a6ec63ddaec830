//! The program: parse, log, run, exit code.

use std::io::Write as _;
use std::process::ExitCode;
use std::time::Duration;

use handoff::app::Anchored;
use handoff::cli::completions::completions;
use handoff::cli::output::eprint_line;
use handoff::cli::parse::ParseError;
use handoff::cli::run::Switch;
use handoff::cli::{Cli, Run, Subcommands};
use handoff::config::Config;
use handoff::os::{descriptors, inherit, signal, thread};
use handoff::process::anchor;
use handoff::process::command::OsLauncher;
use handoff::process::console;
use handoff::telemetry::{self, sinks};
use handoff::{app, commands, user_tokens};

/// Exit code for a command line or a configuration file that is invalid: clap's own.
const USAGE: u8 = 2;
/// Exit code for everything else that fails.
const FAILURE: u8 = 1;

/// Maximum lifetime of the helper in an app's console: the console may never let it go, and its
/// parent may have ended.
const HELPER_LIFETIME: Duration = Duration::from_secs(5);

/// An exit code and its reason.
struct Failure(u8, String);

fn main() -> ExitCode {
    if anchor::is_anchor() {
        return keep_anchor();
    }
    let cli = match Cli::read(std::env::args_os()) {
        Ok(cli) => cli,
        Err(ParseError::CommandLine(error)) => error.exit(),
        Err(error) => return exit_code(Err(Failure(USAGE, error.to_string()))),
    };
    match cli.command {
        Subcommands::Run(run) if anchor::is_to_anchor(run.anchor.anchor == Switch::On) => {
            anchor::become_anchor();
            keep_anchor()
        }
        Subcommands::Run(run) => exit_code(self::run(*run)),
        Subcommands::Check(check) => commands::check::run(*check).into(),
        Subcommands::Deploy(deploy) => commands::deploy::run(&deploy).into(),
        Subcommands::Promote(options) => commands::control::promote(&options).into(),
        Subcommands::Abort(options) => commands::control::abort(&options).into(),
        Subcommands::Status(options) => commands::status::run(&options).into(),
        Subcommands::History(options) => commands::history::run(&options).into(),
        Subcommands::Logs(options) => commands::logs::run(&options).into(),
        Subcommands::Rollout(options) => commands::rollout::run(&options).into(),
        Subcommands::Rollback(options) => commands::control::rollback(&options).into(),
        Subcommands::Restart(options) => commands::control::restart(&options).into(),
        Subcommands::Pause(options) => commands::control::pause(&options).into(),
        Subcommands::Resume(options) => commands::control::resume(&options).into(),
        Subcommands::Maintenance(options) => {
            commands::maintenance::run_maintenance(&options).into()
        }
        Subcommands::Upgrade(options) => commands::upgrade::run(&options).into(),
        Subcommands::Digest(options) => commands::digest::run(&options).into(),
        Subcommands::Completions { shell } => exit_code(print(&completions(shell))),
        Subcommands::SendConsoleEvent { event, pid } => {
            abort_after(HELPER_LIFETIME);
            let sent = console::send_from_within(event, pid);
            exit_code(sent.map_err(|error| Failure(FAILURE, error.to_string())))
        }
    }
}

/// Runs the anchor. The process that it starts reads the configuration, and reports what is wrong
/// with it.
fn keep_anchor() -> ExitCode {
    match anchor::run() {
        Ok(code) => ExitCode::from(code),
        Err(error) => exit_code(Err(Failure(FAILURE, format!("the anchor: {error}")))),
    }
}

fn run(run: Run) -> Result<(), Failure> {
    let no_anchor = |error| Failure(FAILURE, format!("cannot reach the anchor: {error}"));
    let anchor = anchor::Anchor::open().map_err(no_anchor)?;
    let ended = serve(run, anchor.clone());
    if let (Some(anchor), Err(Failure(_, reason))) = (anchor, &ended) {
        anchor.report_unable(reason);
    }
    ended
}

fn serve(run: Run, anchor: Option<anchor::Anchor>) -> Result<(), Failure> {
    let no_log = |error| Failure(FAILURE, format!("cannot log: {error}"));
    signal::reset();
    inherit::keep_output_private();
    descriptors::raise_limit();
    let config = Config::try_from(run);
    let mut config = config.map_err(|error| Failure(USAGE, error.to_string()))?;
    let no_anchor = |error| Failure(FAILURE, format!("the anchor: {error}"));
    let inherited = anchor.as_ref().map(anchor::Anchor::say_hello).transpose();
    let mut inherited = inherited.map_err(no_anchor)?;
    let sidecar = inherited
        .as_mut()
        .and_then(|inherited| inherited.sidecar.take());
    let sidecar = sidecar.map_or_else(app::random_id, Into::into);
    let _log = telemetry::init(&config.log, &sidecar).map_err(no_log)?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .build()
        .map_err(|error| Failure(FAILURE, format!("cannot start: {error}")))?;
    let shutdown = {
        let _context = runtime.enter();
        signal::listen()
    };
    let (shutdown, requests) =
        shutdown.map_err(|error| Failure(FAILURE, format!("cannot handle signals: {error}")))?;
    let mut launcher = OsLauncher::new(&config.store.cache);
    let sinks = sinks::open(&config.lines, config.log.tail.as_ref(), &sidecar).map_err(no_log)?;
    // Until this function returns: dropping them writes what is still queued.
    let _writers = sinks.writers;
    if let Some(app_log) = sinks.app_log {
        launcher.set_app_log(app_log);
    }
    config.data_plane.access_log = sinks.access_log;
    config.data_plane.user_tokens = user_tokens::handler(config.windows_auth, launcher.roots());
    let anchored = anchor.zip(inherited).map(|(anchor, mut inherited)| {
        let anchored = Anchored {
            anchor: anchor.clone(),
            listener: inherited.listener.take(),
            admin: inherited.admin.take(),
            crash: inherited.crash.take(),
            crashes: inherited.crashes,
            upgrades: std::mem::take(&mut inherited.upgrades),
            is_upgrade: inherited.is_upgrade,
            leaving: std::mem::take(&mut inherited.leaving),
        };
        launcher.set_anchor(anchor, inherited);
        anchored
    });
    let ended = runtime.block_on(app::run(
        config, sidecar, launcher, shutdown, requests, anchored,
    ));
    // On Windows, threads of the runtime read the apps' output as long as any process that was left
    // behind has its other end.
    runtime.shutdown_timeout(thread::EXIT_GRACE);
    ended.map_err(|error| Failure(FAILURE, error.to_string()))
}

fn print(text: &[u8]) -> Result<(), Failure> {
    let printed = std::io::stdout().write_all(text);
    printed.map_err(|error| Failure(FAILURE, format!("cannot write: {error}")))
}

/// Prints the reason of a failure, and returns its exit code.
fn exit_code(result: Result<(), Failure>) -> ExitCode {
    match result {
        Ok(()) => ExitCode::SUCCESS,
        Err(Failure(code, reason)) => {
            eprint_line(format_args!("handoff: {reason}"));
            ExitCode::from(code)
        }
    }
}

fn abort_after(time: Duration) {
    std::thread::spawn(move || {
        std::thread::sleep(time);
        // An ordinary exit would wait for what hangs.
        std::process::abort();
    });
}
