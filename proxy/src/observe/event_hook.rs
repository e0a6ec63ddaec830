//! The event hook (`--on-event`): a command that gets each event as JSON on its standard input.
//!
//! One command runs at a time, for a bounded time. If too many events are queued, the newest are
//! dropped, and the log says so. Nothing else waits for it.

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

use crate::deployment::status::{Failure, Handoff, Outcome, Status, UnixMillis};
use crate::os::inherit;
use crate::process::command::keep_own_settings;
use crate::process::program::{self, SearchPath};
use crate::process::variables::Variables;
use crate::release::{Generation, ReleaseId};

/// Maximum number of queued events.
const MAX_QUEUED: usize = 16;
/// Maximum time for one run of the command, after which it is killed.
const COMMAND_TIMEOUT: Duration = Duration::from_secs(30);

/// An event, as the command gets it.
#[derive(Clone, Debug, PartialEq, Serialize)]
struct HookEvent {
    event: EventKind,
    sidecar: Arc<str>,
    at_ms: UnixMillis,
    generation: Generation,
    /// Release of the generation, if it is known.
    release: Option<ReleaseId>,
    /// Release that served before, after a promotion.
    previous: Option<ReleaseId>,
    /// Milliseconds from the first sight of the artifact, or from the launch, to the promotion.
    took_ms: Option<u64>,
    reason: String,
    /// Last lines that the app wrote, if it failed.
    output: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum EventKind {
    /// A newer instance serves.
    Promoted,
    /// A release failed while another one served, and is not tried again.
    Refused,
    /// A start failed while nothing serves. Further attempts are not reported.
    Failed,
    /// An instance that had served ended by itself.
    Crashed,
    /// A release crashed again and again: an earlier one serves, and it is tried again later.
    GaveWay,
    /// Requests went back to an earlier release.
    RolledBack,
    /// An instance serves again after a crash or an alarm.
    Recovered,
}

/// A detector of events in successive statuses, with what it has reported so far.
#[derive(Debug, Default)]
struct EventDetector {
    promoted: Option<Generation>,
    refused: BTreeSet<Generation>,
    crashed: Option<Generation>,
    gave_way: Option<Generation>,
    rolled_back_at: Option<UnixMillis>,
    is_down: bool,
}

/// Returns the program that `command` runs. A mistake in it would otherwise be found only when the
/// first event is lost.
///
/// # Errors
/// There is no such program.
pub fn program(command: &str) -> Result<String, String> {
    let (name, _) = words(command, |path| Path::new(path).is_file());
    let search_path = SearchPath {
        folders: &program::path_variable(&Variables::default()),
        workdir: Path::new(""),
    };
    match program::find(name.as_ref(), search_path) {
        Ok(_) => Ok(name.to_owned()),
        Err(missing) => Err(format!("{missing} (--on-event)")),
    }
}

/// Runs `command` for each event until the supervisor ends.
pub async fn notify(command: String, mut status: watch::Receiver<Status>) {
    let (events, queued) = mpsc::channel(MAX_QUEUED);
    tokio::task::spawn_local(run_for_each(command, queued));
    let mut detector = EventDetector::default();
    while status.changed().await.is_ok() {
        for event in detector.new_events(&status.borrow_and_update()) {
            let kind = event.event;
            if events.try_send(event).is_err() {
                tracing::warn!(
                    event = "hook_event_dropped",
                    dropped = kind.name(),
                    "--on-event is too slow: an event was dropped"
                );
            }
        }
    }
}

async fn run_for_each(command: String, mut queued: mpsc::Receiver<HookEvent>) {
    while let Some(event) = queued.recv().await {
        let name = event.event.name();
        match timeout(COMMAND_TIMEOUT, run(&command, &event)).await {
            Ok(Ok(())) => {}
            // The command is not logged: its arguments may be secrets.
            Ok(Err(error)) => tracing::warn!(
                event = "hook_failed",
                reported = name,
                %error,
                "--on-event failed"
            ),
            Err(_elapsed) => tracing::warn!(
                event = "hook_timed_out",
                reported = name,
                after = %humantime::format_duration(COMMAND_TIMEOUT),
                "--on-event was killed: it takes too long"
            ),
        }
    }
}

async fn run(command: &str, event: &HookEvent) -> io::Result<()> {
    let (program, args) = words(command, |path| Path::new(path).is_file());
    let mut command = Command::new(program);
    command
        .args(args)
        .stdin(Stdio::piped())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .kill_on_drop(true);
    keep_own_settings(&mut command);
    let mut child = inherit::with_spawn_lock(|| command.spawn())?;
    if let Some(mut stdin) = child.stdin.take() {
        let mut json = serde_json::to_vec(event)?;
        json.push(b'\n');
        // An error means that the command does not read it.
        let _ = stdin.write_all(&json).await;
    }
    let status = child.wait().await?;
    if status.success() {
        Ok(())
    } else {
        Err(io::Error::other(status.to_string()))
    }
}

/// Splits a command into its program and arguments. The path of a file may have blanks in it.
fn words(command: &str, is_file: impl Fn(&str) -> bool) -> (&str, Vec<&str>) {
    if is_file(command) {
        return (command, Vec::new());
    }
    let mut words = command.split_whitespace();
    (words.next().unwrap_or_default(), words.collect())
}

// === impl EventKind ===

impl EventKind {
    fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::GaveWay => "gave_way",
            Self::RolledBack => "rolled_back",
            Self::Recovered => "recovered",
        }
    }
}

// === impl HookEvent ===

impl HookEvent {
    fn new(kind: EventKind, status: &Status, generation: Generation, reason: &str) -> Self {
        let handoff = handoff_of(status, generation);
        Self {
            event: kind,
            sidecar: Arc::clone(&status.sidecar),
            at_ms: UnixMillis::now(),
            generation,
            release: handoff.map(|handoff| handoff.release.clone()),
            previous: None,
            took_ms: None,
            reason: reason.to_owned(),
            output: Vec::new(),
        }
    }

    fn of_failure(kind: EventKind, status: &Status, failure: &Failure) -> Self {
        Self {
            release: Some(failure.release.clone()),
            output: failure.output.iter().cloned().collect(),
            ..Self::new(kind, status, failure.generation, &failure.reason)
        }
    }
}

fn handoff_of(status: &Status, generation: Generation) -> Option<&Handoff> {
    let mut handoffs = status.handoffs.iter();
    handoffs.find(|handoff| handoff.generation == generation)
}

// === impl EventDetector ===

impl EventDetector {
    /// Returns the events that this status shows and that have not been returned yet.
    fn new_events(&mut self, status: &Status) -> Vec<HookEvent> {
        let mut events = self.refusals(status);
        events.extend(self.promotion(status));
        events.extend(self.crash(status));
        events.extend(self.failed_start(status));
        events.extend(self.gave_way(status));
        events.extend(self.rollback(status));
        events.extend(self.recovery(status));
        events
    }

    fn promotion(&mut self, status: &Status) -> Option<HookEvent> {
        let active = status.active.as_ref()?;
        if self.promoted >= Some(active.generation) {
            return None;
        }
        self.promoted = Some(active.generation);
        let handoff = handoff_of(status, active.generation);
        let superseded = handoff.and_then(|handoff| handoff.superseded_generation);
        let previous = superseded.and_then(|generation| handoff_of(status, generation));
        let kind = EventKind::Promoted;
        let reason = "its health check succeeded";
        Some(HookEvent {
            release: Some(active.release.clone()),
            previous: previous.map(|handoff| handoff.release.clone()),
            took_ms: handoff.and_then(|handoff| {
                let since = handoff.detected_ms.unwrap_or(handoff.launched_ms);
                handoff.promoted_ms?.0.checked_sub(since.0)
            }),
            ..HookEvent::new(kind, status, active.generation, reason)
        })
    }

    fn refusals(&mut self, status: &Status) -> Vec<HookEvent> {
        let mut events = Vec::new();
        for handoff in &status.handoffs {
            if handoff.outcome == Outcome::Refused && self.refused.insert(handoff.generation) {
                let generation = handoff.generation;
                let reason = handoff.reason.as_deref().unwrap_or_default();
                let mut event = HookEvent::new(EventKind::Refused, status, generation, reason);
                let failure = status.last_failure.as_ref();
                if let Some(failure) = failure.filter(|last| last.generation == generation) {
                    event.output = failure.output.iter().cloned().collect();
                }
                events.push(event);
            }
        }
        let oldest = status.handoffs.front().map(|handoff| handoff.generation);
        self.refused
            .retain(|generation| Some(*generation) >= oldest);
        events
    }

    fn crash(&mut self, status: &Status) -> Option<HookEvent> {
        let failure = status.last_failure.as_ref()?;
        let handoff = handoff_of(status, failure.generation)?;
        if failure.exit.is_none()
            || handoff.promoted_ms.is_none()
            || self.crashed.replace(failure.generation) == Some(failure.generation)
        {
            return None;
        }
        self.is_down = true;
        Some(HookEvent::of_failure(EventKind::Crashed, status, failure))
    }

    fn failed_start(&mut self, status: &Status) -> Option<HookEvent> {
        let failure = status.last_failure.as_ref()?;
        let handoff = handoff_of(status, failure.generation)?;
        if status.active.is_some() || self.is_down || handoff.outcome != Outcome::Failed {
            return None;
        }
        self.is_down = true;
        Some(HookEvent::of_failure(EventKind::Failed, status, failure))
    }

    fn gave_way(&mut self, status: &Status) -> Option<HookEvent> {
        let given = status.gave_way.as_ref()?;
        if self.gave_way.replace(given.generation) == Some(given.generation) {
            return None;
        }
        let reason = format!("it crashed too often, {} serves instead", given.to);
        let kind = EventKind::GaveWay;
        Some(HookEvent::new(kind, status, given.generation, &reason))
    }

    fn rollback(&mut self, status: &Status) -> Option<HookEvent> {
        let rollback = status.last_rollback.as_ref()?;
        if self.rolled_back_at.replace(rollback.at_ms) == Some(rollback.at_ms) {
            return None;
        }
        let reason = format!("from generation {}", rollback.from);
        let kind = EventKind::RolledBack;
        Some(HookEvent::new(kind, status, rollback.to, &reason))
    }

    fn recovery(&mut self, status: &Status) -> Option<HookEvent> {
        self.is_down |= status.alarm.is_some();
        let active = status.active.as_ref()?;
        if !self.is_down || status.alarm.is_some() || self.crashed == Some(active.generation) {
            return None;
        }
        self.is_down = false;
        let reason = "an instance is active and well";
        Some(HookEvent {
            release: Some(active.release.clone()),
            ..HookEvent::new(EventKind::Recovered, status, active.generation, reason)
        })
    }
}

#[cfg(test)]
mod tests {
    use std::net::{Ipv4Addr, SocketAddr};

    use parking_lot::Mutex;
    use tokio::task::LocalSet;

    use super::*;
    use crate::deployment::status::{Alarm, Rollback, SourceStatus};

    /// The log of this thread while its guard lives.
    #[derive(Clone, Default)]
    struct LogCapture(Arc<Mutex<Vec<u8>>>);

    impl LogCapture {
        fn start(&self) -> tracing::subscriber::DefaultGuard {
            let captured = self.clone();
            let log = tracing_subscriber::fmt().with_writer(move || captured.clone());
            tracing::subscriber::set_default(log.finish())
        }

        fn count(&self, part: &str) -> usize {
            let text = self.0.lock();
            String::from_utf8_lossy(&text).matches(part).count()
        }
    }

    impl io::Write for LogCapture {
        fn write(&mut self, text: &[u8]) -> io::Result<usize> {
            self.0.lock().extend_from_slice(text);
            Ok(text.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    /// Returns the status of a sidecar that has refused this number of releases.
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

    /// Starts the hook, and refuses this number of releases at once.
    async fn refuse(command: &str, releases: u64) {
        let (publisher, published) = watch::channel(refused(0));
        tokio::task::spawn_local(notify(command.to_owned(), published));
        tokio::task::yield_now().await;
        publisher.send_replace(refused(releases));
        tokio::task::yield_now().await;
    }

    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn too_many_events_are_dropped_and_nobody_waits() {
        let log = LogCapture::default();
        let _guard = log.start();
        let more = 5;
        LocalSet::new()
            .run_until(refuse("no-such-program-1234", MAX_QUEUED as u64 + more))
            .await;
        assert_eq!(log.count("--on-event is too slow"), more as usize);
    }

    #[cfg(unix)]
    #[tokio::test(flavor = "current_thread", start_paused = true)]
    async fn one_that_takes_too_long_is_ended_and_the_next_one_has_its_turn() {
        let log = LogCapture::default();
        let _guard = log.start();
        // The clock is paused: it advances when all tasks are idle.
        let hook = async {
            refuse("sleep 600", 2).await;
            tokio::time::sleep(COMMAND_TIMEOUT * 3).await;
        };
        LocalSet::new().run_until(hook).await;
        assert_eq!(log.count("it takes too long"), 2);
    }

    #[test]
    fn a_start_that_leaves_nothing_to_serve_is_told_once_and_so_is_its_end() {
        let mut status = refused(1);
        status.handoffs[0].outcome = Outcome::Starting;
        let mut detector = EventDetector::default();
        let mut kinds = |status: &Status| -> Vec<EventKind> {
            let events = detector.new_events(status).into_iter();
            events.map(|event| event.event).collect()
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
                &[EventKind::Failed][..]
            } else {
                &[]
            };
            assert_eq!(kinds(&status), expected);
        }
        let active = serde_json::json!({
            "generation": 3, "release": "v", "digest": "", "since_ms": 0,
        });
        status.active = Some(serde_json::from_value(active).unwrap());
        assert_eq!(kinds(&status), [EventKind::Promoted, EventKind::Recovered]);
        assert_eq!(kinds(&status), []);
    }

    #[test]
    fn a_promotion_names_the_release_before_and_is_told_once() {
        let mut status = refused(2);
        let mut detector = EventDetector::default();
        detector.new_events(&status);
        for (generation, name) in [(1, "v1"), (2, "v2")] {
            let handoff = &mut status.handoffs[generation - 1];
            handoff.release = serde_json::from_value(name.into()).unwrap();
            handoff.outcome = Outcome::Promoted;
            handoff.promoted_ms = Some(UnixMillis(31));
        }
        status.handoffs[1].superseded_generation = Some(Generation(1));
        let active = serde_json::json!({
            "generation": 2, "release": "v2", "digest": "", "since_ms": 0,
        });
        status.active = Some(serde_json::from_value(active).unwrap());
        let events = detector.new_events(&status);
        let json = serde_json::to_value(&events).unwrap();
        assert_eq!(json.as_array().unwrap().len(), 1, "{json}");
        for (key, value) in [("event", "promoted"), ("release", "v2"), ("previous", "v1")] {
            assert_eq!(json[0][key], value, "{json}");
        }
        assert_eq!(json[0]["took_ms"], 30, "{json}");
        assert_eq!(detector.new_events(&status), []);
    }

    #[test]
    fn a_return_and_a_recovery_are_told_once() {
        let listen = SocketAddr::from((Ipv4Addr::LOCALHOST, 80));
        let mut status = Status::new("a".into(), listen, SourceStatus::default());
        let mut detector = EventDetector::default();
        let mut kinds = |status: &Status| -> Vec<EventKind> {
            let events = detector.new_events(status).into_iter();
            events.map(|event| event.event).collect()
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
        assert_eq!(kinds(&status), [EventKind::RolledBack]);
        assert_eq!(kinds(&status), []);
        status.alarm = None;
        assert_eq!(kinds(&status), [], "nothing serves yet");
        let active = serde_json::json!({
            "generation": 1, "release": "v1", "digest": "", "since_ms": 0,
        });
        status.active = Some(serde_json::from_value(active).unwrap());
        assert_eq!(kinds(&status), [EventKind::Promoted, EventKind::Recovered]);
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
