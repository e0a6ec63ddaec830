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

use crate::deployment::status::{Outcome, Status, UnixMillis};
use crate::os::inherit;
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
    /// A start failed, and nothing serves; how often it is tried again is not told.
    Failed,
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

/// The program that `command` would run, if it is there: a mistake in it would else be told of in the
/// night in which nobody is told.
///
/// # Errors
/// That it is not there.
pub fn program(command: &str) -> Result<String, String> {
    let (program, _) = words(command, |path| Path::new(path).is_file());
    let path = Path::new(program);
    let with_suffix = |path: &Path| {
        let mut name = path.as_os_str().to_owned();
        name.push(std::env::consts::EXE_SUFFIX);
        [path.to_owned(), name.into()]
    };
    let is_there = |path: &Path| with_suffix(path).iter().any(|path| path.is_file());
    let folders = std::env::var_os("PATH").unwrap_or_default();
    let is_found = match path.components().count() {
        1 => std::env::split_paths(&folders).any(|folder| is_there(&folder.join(path))),
        _ => is_there(path),
    };
    match is_found {
        true => Ok(program.to_owned()),
        false => Err(format!("there is no program {program:?} (--on-event)")),
    }
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
            // Its arguments may be secrets.
            Ok(Err(error)) => tracing::warn!(%error, "--on-event failed"),
            Err(_elapsed) => {
                tracing::warn!(after = ?TIME, "--on-event was ended: it takes too long");
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
    let mut child = inherit::alone(|| command.spawn())?;
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
        if let Some(failure) = failure
            && status.active.is_none()
            && !self.is_down
            && launch(failure.generation).is_some_and(|launch| launch.outcome == Outcome::Failed)
        {
            let release = Some(&failure.release);
            let mut failed = happened(Kind::Failed, failure.generation, release, &failure.reason);
            failed.output = output_of(failure.generation);
            news.push(failed);
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
    use std::sync::Mutex;

    use tokio::task::LocalSet;

    use super::*;
    use crate::deployment::status::{Alarm, Rollback, SourceStatus};

    /// What is logged while this lives.
    #[derive(Clone, Default)]
    struct Said(Arc<Mutex<Vec<u8>>>);

    impl Said {
        fn listen(&self) -> tracing::subscriber::DefaultGuard {
            let said = self.clone();
            let log = tracing_subscriber::fmt().with_writer(move || said.clone());
            tracing::subscriber::set_default(log.finish())
        }

        fn times(&self, part: &str) -> usize {
            let said = self.0.lock().unwrap();
            String::from_utf8_lossy(&said).matches(part).count()
        }
    }

    impl io::Write for Said {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// A sidecar which has refused so many releases.
    fn refused(releases: u64) -> Status {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut status = Status::new("a".into(), listen, SourceStatus::default());
        for generation in 1..=releases {
            let handoff = serde_json::json!({"release": "v", "digest": "", "outcome": "refused",
                "generation": generation, "launched_ms": 1});
            status
                .handoffs
                .push_back(serde_json::from_value(handoff).unwrap());
        }
        status
    }

    /// Tells of what this sidecar has refused, at once.
    async fn told(command: &str, releases: u64) {
        let (publisher, published) = watch::channel(refused(0));
        tokio::task::spawn_local(tell(command.to_owned(), published));
        tokio::task::yield_now().await;
        publisher.send_replace(refused(releases));
        tokio::task::yield_now().await;
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn too_many_events_are_dropped_and_nobody_waits() {
        let said = Said::default();
        let _listening = said.listen();
        let more = 5;
        LocalSet::new()
            .run_until(told("no-such-program-1234", WAITING as u64 + more))
            .await;
        assert_eq!(said.times("--on-event is too slow"), more as usize);
    }

    #[cfg(unix)]
    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn one_that_takes_too_long_is_ended_and_the_next_one_has_its_turn() {
        let said = Said::default();
        let _listening = said.listen();
        // The clock is the runtime's own, and goes on when nothing else does.
        let telling = async {
            told("sleep 600", 2).await;
            tokio::time::sleep(TIME * 3).await;
        };
        LocalSet::new().run_until(telling).await;
        assert_eq!(said.times("it takes too long"), 2);
    }

    #[test]
    fn a_start_that_leaves_nothing_to_serve_is_told_once_and_so_is_its_end() {
        let mut status = refused(1);
        status.handoffs[0].outcome = Outcome::Starting;
        let mut told = Told::default();
        let mut kinds = |status: &Status| -> Vec<Kind> {
            let news = told.look_at(status).into_iter();
            news.map(|happened| happened.event).collect()
        };
        assert_eq!(kinds(&status), []);
        for generation in [1, 2] {
            let failure = serde_json::json!({"release": "v", "digest": "", "at_ms": 1,
                "generation": generation, "reason": "its database is away"});
            status.last_failure = Some(serde_json::from_value(failure).unwrap());
            let mut handoff = status.handoffs[0].clone();
            handoff.generation = Generation(generation);
            handoff.outcome = Outcome::Failed;
            status.handoffs = [handoff].into();
            let expected = if generation == 1 {
                &[Kind::Failed][..]
            } else {
                &[]
            };
            assert_eq!(kinds(&status), expected);
        }
        let active = serde_json::json!({
            "generation": 3, "release": "v", "digest": "", "since_ms": 0,
        });
        status.active = Some(serde_json::from_value(active).unwrap());
        assert_eq!(kinds(&status), [Kind::Recovered]);
        assert_eq!(kinds(&status), []);
    }

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
    fn a_program_that_is_not_there_is_named() {
        let this = std::env::current_exe().unwrap().display().to_string();
        assert_eq!(program(&this), Ok(this.clone()));
        for missing in ["no-such-program --now", "./no-such-program"] {
            let error = program(missing).unwrap_err();
            assert!(error.contains("no-such-program"), "{error}");
        }
        assert!(program("").is_err());
    }

    #[test]
    fn a_command_is_a_program_and_arguments() {
        let is_file = |path: &str| path == "/opt/my tools/tell";
        assert_eq!(words("/opt/my tools/tell", is_file).0, "/opt/my tools/tell");
        let (program, args) = words("curl -s  https://x", is_file);
        assert_eq!((program, args), ("curl", vec!["-s", "https://x"]));
    }
}
