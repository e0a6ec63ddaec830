//! Options about instances of the app: their launch, checks, draining and stop.

use std::path::PathBuf;

use clap::{Args, ValueEnum};

use crate::cli::values::{Duration, StatusRange, parse_port_name, parse_share};
use crate::control_plane::readiness::OwnerCheck;
use crate::process::stop::Stop;

/// Launch of the app. Its variables are in [`ReloadableOptions`](super::ReloadableOptions).
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "App")]
pub struct AppOptions {
    /// The app's command line [default: the artifact, without arguments]
    ///
    /// It may contain {artifact} {port} {host} {dir} {release} {shared}. If it starts with `-`, it
    /// is the arguments of the artifact. A COMMAND with a slash in it is relative to {dir}, one
    /// without is looked up in PATH.
    #[arg(last = true, value_names = ["COMMAND", "ARG"])]
    pub command: Vec<String>,

    /// Name of a further port for the app; can be repeated, or separated by commas
    ///
    /// The app finds the port NAME in the variable PORT_NAME, and its command line in {port:NAME}.
    #[arg(long, value_delimiter = ',', value_parser = parse_port_name, value_name = "NAME")]
    pub port_name: Vec<String>,

    /// The app's working directory, and {dir}: `artifact` (the deployed artifact's folder), `copy`
    /// (the private copy's) or a path [default: artifact for a file, copy for a folder or an
    /// archive]
    #[arg(long, value_name = "artifact|copy|DIR")]
    pub workdir: Option<PathBuf>,

    /// Folder for data that outlives a release: {shared}, and the app's variable SHARED_DIR
    /// [default: `shared` in the --state folder]
    #[arg(long, value_name = "DIR")]
    pub shared: Option<PathBuf>,

    /// Maximum time for which the first launch waits for the first request [default: 0s, launch at
    /// once; under HttpPlatformHandler 5s]
    ///
    /// HttpPlatformHandler watches the processes that it finds when the port opens, and has to find
    /// handoff alone.
    #[arg(long)]
    pub first_launch_delay: Option<Duration>,

    /// Run the old and the new release side by side during a handoff
    #[arg(long, value_enum, default_value = "yes")]
    pub overlap: Overlap,
}

/// Checks of a new instance.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Readiness")]
pub struct ReadinessOptions {
    /// Path that health checks GET; an instance is ready once it answers with a good status
    /// (--health-status)
    #[arg(long, value_name = "PATH", default_value = "/")]
    pub health_path: String,

    /// Host field of health checks [default: the instance's own address]
    #[arg(long, value_name = "HOST")]
    pub health_host: Option<String>,

    /// Further field of health checks, warm-up requests and liveness checks, such as
    /// 'X-Forwarded-Proto: https'; can be repeated
    ///
    /// Without it, a check that is answered with a redirect to https is asked again with
    /// `X-Forwarded-Proto: https`, and that answer counts.
    #[arg(long, value_name = "NAME: VALUE")]
    pub health_header: Vec<String>,

    /// Text that the answer to a health check has to contain
    #[arg(long, value_name = "TEXT")]
    pub health_body: Option<String>,

    /// Ask for the health of a gRPC server by `grpc.health.v1.Health/Check`, of this SERVICE or of the
    /// whole server, instead of --health-path; without --live-path, also in the live check
    #[arg(long, value_name = "SERVICE", num_args = 0..=1, default_missing_value = "")]
    pub health_grpc: Option<String>,

    /// Maximum interval between health checks; the first ones follow each other faster
    #[arg(long, default_value = "250ms")]
    pub health_interval: Duration,

    /// Maximum time for one health check
    #[arg(long, default_value = "5s")]
    pub health_timeout: Duration,

    /// Status codes that count as good in health checks, such as 200 or 200-399 [default: 200-499
    /// for the path `/`, 200-399 for any other]
    ///
    /// By default, a redirect to another place is good for the path `/` only, where it is followed
    /// once on the same host; and 400 is not good while the active release answers better.
    #[arg(long, value_name = "RANGE")]
    pub health_status: Option<StatusRange>,

    /// Number of good health checks in a row that make an instance ready
    #[arg(long, default_value_t = 1)]
    pub health_rise: u32,

    /// Reaction to a program that listens on the app's port and that the app has not started
    ///
    /// If it is another user's, the app is launched again with another port, unless this is `off`.
    #[arg(long, value_enum, default_value = "warn")]
    pub health_identity: OwnerCheck,

    /// Path to GET before a ready instance receives requests, whatever the answer; can be repeated,
    /// or separated by commas
    #[arg(long, value_name = "PATH", value_delimiter = ',')]
    pub warmup: Vec<String>,

    /// Command that runs before a release starts for the first time, such as a migration of the
    /// database: any exit code but 0 refuses the release
    ///
    /// It runs once for each content, in one of the sidecars that share a --state folder; the others
    /// wait for its outcome. What has failed or was interrupted is run again when `handoff deploy`
    /// deploys that content again. It runs in the app's working directory, with the app's variables
    /// but no port, and finds the name of the release in RELEASE. Blanks separate its words, quotes
    /// keep one together. A restart, a rollback, and a crash of a release that has served do not
    /// run it.
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub before_start: Option<String>,

    /// Maximum time for --before-start; then it is killed, and the release is refused
    #[arg(long, default_value = "10m")]
    pub before_start_timeout: Duration,

    /// Command that checks a release before it receives requests: any exit code but 0 refuses it
    ///
    /// It runs after the health checks and --warmup, in the app's working directory and with the
    /// app's variables, and finds the new instance in HANDOFF_URL, the active one in
    /// HANDOFF_PREVIOUS_URL and the name of the release in RELEASE. Blanks separate its words,
    /// quotes keep one together; placeholders are those of COMMAND. It does not run for a rollback,
    /// nor for a release that has served before while nothing serves.
    #[arg(long, value_name = "COMMAND", allow_hyphen_values = true)]
    pub verify: Option<String>,

    /// Maximum time for --verify; then it is killed, and the release is refused
    #[arg(long, default_value = "2m")]
    pub verify_timeout: Duration,

    /// Maximum time from a launch to readiness while no release has served yet
    #[arg(long, default_value = "120s")]
    pub start_timeout: Duration,

    /// Maximum time from a launch to readiness once a release has served
    #[arg(long, default_value = "120s")]
    pub deploy_timeout: Duration,
}

/// Checks of the active instance, and ways back.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Liveness and rollback")]
pub struct LivenessOptions {
    /// Path that liveness checks of the active instance GET [default: none; only an exit or refused
    /// connections count]
    #[arg(long, value_name = "PATH")]
    pub live_path: Option<String>,

    /// Interval between liveness checks of the active instance
    #[arg(long, default_value = "10s")]
    pub live_interval: Duration,

    /// Time for which requests wait for the active instance, without an answer to any other, after
    /// which it is reported as unresponsive; 0s is never
    ///
    /// The report is a line in the log (event="app_unresponsive"), in the status, in the metrics and
    /// to the event hook. Nothing is restarted: only --live-path does that.
    #[arg(long, default_value = "30s")]
    pub unresponsive_after: Duration,

    /// Number of failed liveness checks in a row after which a second instance is launched, which
    /// takes over if it becomes ready
    #[arg(long, default_value_t = 3)]
    pub health_fall: u32,

    /// Number of crashes in a row, each within a minute of service, after which the previous release
    /// takes over
    ///
    /// The newest release is tried again after 30 s, then after longer pauses, until `handoff
    /// rollback` keeps the previous one.
    #[arg(long, default_value_t = 5)]
    pub rapid_fails: u32,

    /// Time after a handoff for which the superseded instance stays on standby
    ///
    /// If the new release crashes or fails its liveness checks meanwhile, requests go back to the
    /// standby at once.
    #[arg(long, default_value = "0s")]
    pub bake: Duration,

    /// Maximum increase of the share of answers with a status of 500 or more during --bake, such as
    /// 5% [default: none]
    ///
    /// Above it, requests go back to the standby.
    #[arg(long, value_name = "PERCENT", value_parser = parse_share)]
    pub bake_max_errors: Option<f64>,

    /// Return to another release without a command, when the new one crashes repeatedly or fails
    /// during --bake
    #[arg(long, value_enum, default_value = "always")]
    pub auto_rollback: AutoRollback,
}

/// End of a superseded instance.
#[derive(Args, Clone, Debug)]
#[command(next_help_heading = "Draining and stopping")]
pub struct DrainOptions {
    /// Maximum time for requests in flight to a superseded instance; those that take longer are cut
    #[arg(long, default_value = "5m")]
    pub drain_timeout: Duration,

    /// Maximum time for WebSockets, other upgraded connections and event streams of a superseded
    /// instance; those that take longer are cut
    #[arg(long, default_value = "60s")]
    pub tunnel_drain_timeout: Duration,

    /// Maximum number of superseded instances that drain side by side; with more, the oldest one is
    /// cut
    #[arg(long, default_value_t = 2)]
    pub max_draining: usize,

    /// Way to request an instance's stop: term (SIGTERM), ctrl-break (Windows), ctrl-c,
    /// http:METHOD:/PATH (a request to the app), stdin (close it) or kill (no request) [default:
    /// term; on Windows ctrl-break]
    #[arg(long, value_name = "WAY")]
    pub stop: Option<Stop>,

    /// Maximum time from the request to stop (--stop) to the exit; then the instance is killed
    #[arg(long, default_value = "30s")]
    pub stop_timeout: Duration,
}

/// Number of releases that may run at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Overlap {
    /// Start the new release beside the old one
    Yes,
    /// Hold requests, stop the old release, then start the new one
    No,
}

/// Automatic return to another release.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum AutoRollback {
    /// Return automatically
    Always,
    /// Return only by command: for data that the old release cannot read any more
    Never,
}
