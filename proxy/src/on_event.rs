//! Telling somebody at once: a command that gets what has happened as JSON.
//!
//! One runs at a time, for a bounded time; of too many events the newest are dropped, and the log says
//! so. Nothing else waits for it.

use std::collections::BTreeSet;
use std::io;
use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use crate::control_plane::status::{Outcome, Status, UnixMillis};
use crate::handles;
use crate::process::command::without_ours;
use crate::release::{Generation, ReleaseId};

/// So many may wait.
const WAITING: usize = 16;
/// For one run of the command; then it is ended.
const TIME: Duration = Duration::from_secs(30);

/// What has happened.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct Happened {
    event: Kind,
    sidecar: Arc<str>,
    at_ms: UnixMillis,
    generation: Generation,
    /// Whose it is, if that is known.
    release: Option<ReleaseId>,
    reason: String,
    /// The last lines that the app wrote, if it failed.
    output: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum Kind {
    /// A release failed while another one served, and is not tried again.
    Refused,
    /// An instance that had served ended by itself.
    Crashed,
    /// Requests went back to an earlier release.
    RolledBack,
    /// An instance serves again after a crash or an alarm.
    Recovered,
}

/// What has been told.
#[derive(Debug, Default)]
struct Told {
    refused: BTreeSet<Generation>,
    crashed: Option<Generation>,
    rolled_back_at: Option<UnixMillis>,
    is_down: bool,
}

/// Runs `command` for each event until the status ends.
pub async fn tell(command: String, mut status: watch::Receiver<Status>) {
    let (events, waiting) = mpsc::channel(WAITING);
    tokio::task::spawn_local(run_each(command, waiting));
    let mut told = Told::default();
    while status.changed().await.is_ok() {
        for happened in told.look_at(&status.borrow_and_update()) {
            let event = happened.event;
            if events.try_send(happened).is_err() {
                tracing::warn!(?event, "--on-event is too slow: nobody is told of this one");
            }
        }
    }
}

async fn run_each(command: String, mut waiting: mpsc::Receiver<Happened>) {
    while let Some(happened) = waiting.recv().await {
        match timeout(TIME, run(&command, &happened)).await {
            Ok(Ok(())) => {}
            Ok(Err(error)) => tracing::warn!(%command, %error, "--on-event failed"),
            Err(_elapsed) => {
                tracing::warn!(%command, after = ?TIME, "--on-event was ended: it takes too long");
            }
        }
    }
}

async fn run(command: &str, happened: &Happened) -> io::Result<()> {
    let (program, args) = words(command, |path| Path::new(path).is_file());
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    without_ours(&mut command);
    let mut child = handles::alone(|| command.spawn())?;
    if let Some(mut stdin) = child.stdin.take() {
        let mut json = serde_json::to_vec(happened)?;
        json.push(b'\n');
        // One that does not want to know closes it.
        let _ = stdin.write_all(&json).await;
    }
    let status = child.wait().await?;
    match status.success() {
        true => Ok(()),
        false => Err(io::Error::other(status.to_string())),
    }
}

/// A program and its arguments; a path with blanks in it is a program.
fn words(command: &str, is_file: impl Fn(&str) -> bool) -> (&str, Vec<&str>) {
    if is_file(command) {
        return (command, Vec::new());
    }
    let mut words = command.split_whitespace();
    (words.next().unwrap_or_default(), words.collect())
}

// === impl Told ===

impl Told {
    /// What is new.
    fn look_at(&mut self, status: &Status) -> Vec<Happened> {
        let mut news = Vec::new();
        let happened = |event, generation, release: Option<&ReleaseId>, reason: &str| Happened {
            event,
            sidecar: Arc::clone(&status.sidecar),
            at_ms: UnixMillis::now(),
            generation,
            release: release.cloned(),
            reason: reason.to_owned(),
            output: Vec::new(),
        };
        let launch = |generation| status.handoffs.iter().find(|h| h.generation == generation);
        let failure = status.last_failure.as_ref();
        let output_of = |generation| {
            let failure = failure.filter(|failure| failure.generation == generation);
            failure.map_or_else(Vec::new, |failure| failure.output.iter().cloned().collect())
        };
        for handoff in &status.handoffs {
            if handoff.outcome == Outcome::Refused && self.refused.insert(handoff.generation) {
                let reason = handoff.reason.as_deref().unwrap_or_default();
                let release = Some(&handoff.release);
                let mut refused = happened(Kind::Refused, handoff.generation, release, reason);
                refused.output = output_of(handoff.generation);
                news.push(refused);
            }
        }
        let oldest = status.handoffs.front().map(|handoff| handoff.generation);
        self.refused
            .retain(|generation| Some(*generation) >= oldest);
        if let Some(failure) = failure
            && failure.exit.is_some()
            && launch(failure.generation).is_some_and(|launch| launch.promoted_ms.is_some())
            && self.crashed.replace(failure.generation) != Some(failure.generation)
        {
            let release = Some(&failure.release);
            let mut crashed = happened(Kind::Crashed, failure.generation, release, &failure.reason);
            crashed.output = output_of(failure.generation);
            news.push(crashed);
            self.is_down = true;
        }
        if let Some(rollback) = &status.last_rollback
            && self.rolled_back_at.replace(rollback.at_ms) != Some(rollback.at_ms)
        {
            let release = launch(rollback.to).map(|launch| &launch.release);
            let reason = format!("from generation {}", rollback.from);
            news.push(happened(Kind::RolledBack, rollback.to, release, &reason));
        }
        self.is_down |= status.alarm.is_some();
        if self.is_down
            && status.alarm.is_none()
            && let Some(active) = &status.active
            && self.crashed != Some(active.generation)
        {
            self.is_down = false;
            let reason = "an instance is active and well";
            let release = Some(&active.release);
            news.push(happened(
                Kind::Recovered,
                active.generation,
                release,
                reason,
            ));
        }
        news
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use super::*;
    use crate::control_plane::status::{Alarm, Rollback, SourceStatus};

    #[test]
    fn a_return_and_a_recovery_are_told_once() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut status = Status::new("a".into(), listen, SourceStatus::default());
        let mut told = Told::default();
        let mut kinds = |status: &Status| -> Vec<Kind> {
            let news = told.look_at(status).into_iter();
            news.map(|happened| happened.event).collect()
        };
        assert_eq!(kinds(&status), []);
        status.last_rollback = Some(Rollback {
            from: Generation(2),
            to: Generation(1),
            at_ms: UnixMillis(7),
            took_us: 1,
        });
        status.alarm = Some(Alarm {
            generation: Generation(2),
            since_ms: UnixMillis(6),
            reason: "its live check fell".to_owned(),
        });
        assert_eq!(kinds(&status), [Kind::RolledBack]);
        assert_eq!(kinds(&status), []);
        status.alarm = None;
        assert_eq!(kinds(&status), [], "nothing serves yet");
        let active = serde_json::json!({
            "generation": 1, "release": "v1", "digest": "", "since_ms": 0,
        });
        status.active = Some(serde_json::from_value(active).unwrap());
        assert_eq!(kinds(&status), [Kind::Recovered]);
        assert_eq!(kinds(&status), []);
    }

    #[test]
    fn a_command_is_a_program_and_arguments() {
        let is_file = |path: &str| path == "/opt/my tools/tell";
        assert_eq!(words("/opt/my tools/tell", is_file).0, "/opt/my tools/tell");
        let (program, args) = words("curl -s  https://x", is_file);
        assert_eq!((program, args), ("curl", vec!["-s", "https://x"]));
    }
}
