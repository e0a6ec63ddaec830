//! The event hook (`--on-event`): a command that gets each event as JSON on its standard input.
//!
//! One command runs at a time, for a bounded time. If too many events are queued, the newest are
//! dropped, and the log says so. Nothing else waits for it.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use serde::Serialize;
use tokio::sync::{mpsc, watch};
use tokio::time::timeout;

use super::hook_command::run;
use crate::deployment::status::{Failure, Handoff, Outcome, Status, UnixMillis, UpgradeStatus};
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
    /// Release that served before that generation.
    previous: Option<ReleaseId>,
    /// Duration that matters to the event in milliseconds, if it is known.
    took_ms: Option<u64>,
    reason: String,
    /// Last lines that the app wrote, if it failed.
    output: Vec<String>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
enum EventKind {
    /// A newer instance serves. It took the time from the first sight of the artifact, or from the
    /// launch.
    Promoted,
    /// An instance is ready, and awaits its promotion (`handoff deploy --stage`). That took the time
    /// from the first sight of the artifact.
    Staged,
    /// Another instance serves instead. It had served for that time.
    Superseded,
    /// A release failed while another one served, and is not tried again. Its launch took that time.
    Refused,
    /// A start failed while nothing serves. Further attempts are not reported.
    Failed,
    /// An instance ended by itself after it had served for that time.
    Crashed,
    /// A release crashed again and again: an earlier one serves, and it is tried again later.
    GaveWay,
    /// Requests went back to an earlier release, within that time.
    RolledBack,
    /// An instance has answered nothing for that time, and requests wait.
    Unresponsive,
    /// An instance serves again after a crash, an alarm, or a time without answers that took so long.
    Recovered,
    /// Another version of handoff goes on with the instance. It took that time to start.
    Upgraded,
}

/// A detector of events in successive statuses, with what it has reported so far.
#[derive(Debug, Default)]
struct EventDetector {
    promoted: Option<Generation>,
    staged: Option<Generation>,
    active: Option<Generation>,
    refused: BTreeSet<Generation>,
    crashed: Option<Generation>,
    gave_way: Option<Generation>,
    rolled_back_at: Option<UnixMillis>,
    unresponsive: Option<UnixMillis>,
    down_since: Option<UnixMillis>,
}

/// Runs `command` for each event until the supervisor ends. This process may go on in place of another
/// one, by this upgrade.
pub async fn notify(
    command: String,
    mut status: watch::Receiver<Status>,
    mut upgrade: Option<UpgradeStatus>,
) {
    let (events, queued) = mpsc::channel(MAX_QUEUED);
    tokio::task::spawn_local(run_for_each(command, queued));
    let mut detector = EventDetector::default();
    // An earlier process of this sidecar has reported what it left.
    let anchored = status.borrow().anchored.clone();
    let mut is_reported = anchored.is_some_and(|it| it.crashes + it.upgrades > 0);
    while status.changed().await.is_ok() {
        let mut found = detector.new_events(&status.borrow_and_update());
        if std::mem::take(&mut is_reported) {
            found.clear();
            let upgrade = upgrade.take();
            found.extend(upgrade.map(|it| HookEvent::of_upgrade(&status.borrow(), &it)));
        }
        for event in found {
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

// === impl EventKind ===

impl EventKind {
    fn name(self) -> &'static str {
        match self {
            Self::Promoted => "promoted",
            Self::Staged => "staged",
            Self::Superseded => "superseded",
            Self::Refused => "refused",
            Self::Failed => "failed",
            Self::Crashed => "crashed",
            Self::GaveWay => "gave_way",
            Self::RolledBack => "rolled_back",
            Self::Unresponsive => "unresponsive",
            Self::Recovered => "recovered",
            Self::Upgraded => "upgraded",
        }
    }
}

// === impl HookEvent ===

impl HookEvent {
    fn new(kind: EventKind, status: &Status, generation: Generation, reason: &str) -> Self {
        let handoff = handoff_of(status, generation);
        let superseded = handoff.and_then(|handoff| handoff.superseded_generation);
        let mut earlier = status.handoffs.iter().rev();
        let previous = match superseded {
            Some(superseded) => handoff_of(status, superseded),
            None => earlier.find(|it| it.generation < generation && it.promoted_ms.is_some()),
        };
        Self {
            event: kind,
            sidecar: Arc::clone(&status.sidecar),
            at_ms: UnixMillis::now(),
            generation,
            release: handoff.map(|handoff| handoff.release.clone()),
            previous: previous.map(|handoff| handoff.release.clone()),
            took_ms: None,
            reason: reason.to_owned(),
            output: Vec::new(),
        }
    }

    fn of_failure(kind: EventKind, status: &Status, failure: &Failure) -> Self {
        let handoff = handoff_of(status, failure.generation);
        let since = handoff.map(|handoff| handoff.promoted_ms.unwrap_or(handoff.launched_ms));
        Self {
            release: Some(failure.release.clone()),
            output: failure.output.iter().cloned().collect(),
            ..Self::new(kind, status, failure.generation, &failure.reason)
        }
        .taking(since, Some(failure.at_ms))
    }

    fn of_upgrade(status: &Status, upgrade: &UpgradeStatus) -> Self {
        let UpgradeStatus {
            from,
            to,
            in_flight,
            ..
        } = upgrade;
        let reason = format!("handoff {to} goes on in place of {from}, {in_flight} in flight");
        let active = status.active.as_ref().map(|active| active.generation);
        let generation = active.unwrap_or(Generation(0));
        Self {
            took_ms: Some(upgrade.took_ms),
            ..Self::new(EventKind::Upgraded, status, generation, &reason)
        }
    }

    /// Sets the duration of what began and ended then.
    fn taking(mut self, from: Option<UnixMillis>, to: Option<UnixMillis>) -> Self {
        let times = from.zip(to);
        self.took_ms = times.and_then(|(from, to)| to.0.checked_sub(from.0));
        self
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
        events.extend(self.superseded(status));
        events.extend(self.stage(status));
        events.extend(self.promotion(status));
        events.extend(self.crash(status));
        events.extend(self.failed_start(status));
        events.extend(self.gave_way(status));
        events.extend(self.rollback(status));
        events.extend(self.unresponsive(status));
        events.extend(self.recovery(status));
        events
    }

    fn stage(&mut self, status: &Status) -> Option<HookEvent> {
        let staged = status.staged.as_ref()?;
        let generation = staged.generation;
        if self.staged.replace(generation) == Some(generation) {
            return None;
        }
        let handoff = handoff_of(status, generation);
        let since = handoff.map(|handoff| handoff.detected_ms.unwrap_or(handoff.launched_ms));
        let reason = "it is ready, and awaits `handoff promote`";
        let event = HookEvent {
            release: Some(staged.release.clone()),
            ..HookEvent::new(EventKind::Staged, status, generation, reason)
        };
        Some(event.taking(since, handoff.and_then(|handoff| handoff.ready_ms)))
    }

    fn promotion(&mut self, status: &Status) -> Option<HookEvent> {
        let active = status.active.as_ref()?;
        // One that was staged may be older than the instance that it supersedes.
        let was_staged = self.staged.take_if(|staged| *staged == active.generation);
        if self.promoted >= Some(active.generation) && was_staged.is_none() {
            return None;
        }
        self.promoted = self.promoted.max(Some(active.generation));
        let handoff = handoff_of(status, active.generation);
        let since = handoff.map(|handoff| handoff.detected_ms.unwrap_or(handoff.launched_ms));
        let kind = EventKind::Promoted;
        let reason = match handoff.map_or("", |handoff| handoff.cause.words()) {
            "" => "its health check succeeded".to_owned(),
            cause => format!("its health check succeeded; launched for: {cause}"),
        };
        let event = HookEvent {
            release: Some(active.release.clone()),
            ..HookEvent::new(kind, status, active.generation, &reason)
        };
        Some(event.taking(since, handoff.and_then(|handoff| handoff.promoted_ms)))
    }

    /// Detects the end of an instance's service that another one has brought about.
    fn superseded(&mut self, status: &Status) -> Option<HookEvent> {
        let active = status.active.as_ref()?;
        let before = self.active.replace(active.generation)?;
        let handoff = handoff_of(status, before)?;
        if before == active.generation || handoff.has_crashed() {
            return None;
        }
        let reason = format!("{} serves instead", active.release);
        let event = HookEvent::new(EventKind::Superseded, status, before, &reason);
        Some(event.taking(handoff.promoted_ms, Some(active.since_ms)))
    }

    fn refusals(&mut self, status: &Status) -> Vec<HookEvent> {
        let mut events = Vec::new();
        for handoff in &status.handoffs {
            if handoff.outcome == Outcome::Refused && self.refused.insert(handoff.generation) {
                let generation = handoff.generation;
                let reason = handoff.reason.as_deref().unwrap_or_default();
                let mut event = HookEvent::new(EventKind::Refused, status, generation, reason);
                event = event.taking(Some(handoff.launched_ms), Some(UnixMillis::now()));
                let failure = status.last_failure.as_ref();
                if let Some(failure) = failure.filter(|last| last.generation == generation) {
                    event = event.taking(Some(handoff.launched_ms), Some(failure.at_ms));
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
        self.down_since.get_or_insert(failure.at_ms);
        Some(HookEvent::of_failure(EventKind::Crashed, status, failure))
    }

    fn failed_start(&mut self, status: &Status) -> Option<HookEvent> {
        let failure = status.last_failure.as_ref()?;
        let handoff = handoff_of(status, failure.generation)?;
        if status.active.is_some()
            || self.down_since.is_some()
            || handoff.outcome != Outcome::Failed
        {
            return None;
        }
        self.down_since = Some(failure.at_ms);
        Some(HookEvent::of_failure(EventKind::Failed, status, failure))
    }

    fn gave_way(&mut self, status: &Status) -> Option<HookEvent> {
        let given = status.gave_way.as_ref()?;
        if self.gave_way.replace(given.generation) == Some(given.generation) {
            return None;
        }
        let reason = format!("it crashed too often, {} serves instead", given.to);
        let event = HookEvent::new(EventKind::GaveWay, status, given.generation, &reason);
        let handoff = handoff_of(status, given.generation);
        Some(event.taking(
            handoff.and_then(|handoff| handoff.promoted_ms),
            Some(given.at_ms),
        ))
    }

    fn rollback(&mut self, status: &Status) -> Option<HookEvent> {
        let rollback = status.last_rollback.as_ref()?;
        if self.rolled_back_at.replace(rollback.at_ms) == Some(rollback.at_ms) {
            return None;
        }
        let reason = format!("from generation {}", rollback.from);
        let left = handoff_of(status, rollback.from);
        let kind = EventKind::RolledBack;
        Some(HookEvent {
            previous: left.map(|handoff| handoff.release.clone()),
            took_ms: Some(rollback.took_us / 1_000),
            ..HookEvent::new(kind, status, rollback.to, &reason)
        })
    }

    fn unresponsive(&mut self, status: &Status) -> Option<HookEvent> {
        let unanswered = status.unanswered.as_ref();
        let unanswered = unanswered.filter(|found| found.unresponsive_ms.is_some());
        let since = unanswered.and_then(|found| found.unresponsive_ms);
        if std::mem::replace(&mut self.unresponsive, since) == since {
            return None;
        }
        let found = unanswered?;
        self.down_since.get_or_insert(found.oldest_ms);
        let reason = "requests wait, and none has been answered for --unresponsive-after";
        let event = HookEvent::new(EventKind::Unresponsive, status, found.generation, reason);
        Some(event.taking(Some(found.oldest_ms), since))
    }

    fn recovery(&mut self, status: &Status) -> Option<HookEvent> {
        if let Some(alarm) = &status.alarm {
            self.down_since.get_or_insert(alarm.since_ms);
        }
        let active = status.active.as_ref()?;
        let is_ill = status.alarm.is_some() || self.unresponsive.is_some();
        if is_ill || self.crashed == Some(active.generation) {
            return None;
        }
        let down_since = self.down_since.take()?;
        let reason = "an instance is active and well";
        let event = HookEvent {
            release: Some(active.release.clone()),
            ..HookEvent::new(EventKind::Recovered, status, active.generation, reason)
        };
        Some(event.taking(Some(down_since), Some(UnixMillis::now())))
    }
}

#[cfg(test)]
mod tests {
    use std::io;
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

    #[test]
    fn a_staged_instance_is_reported_once_and_so_is_its_promotion() {
        let instance = |generation: u64| {
            let json = serde_json::json!({"generation": generation, "release": "v", "digest": "",
                "since_ms": 1});
            serde_json::from_value(json).ok()
        };
        let mut detector = EventDetector::default();
        let mut seen = |active, staged| {
            let mut status = refused(0);
            status.active = instance(active);
            status.staged = instance(staged);
            status.staged.take_if(|staged| staged.generation.0 == 0);
            let events = detector.new_events(&status).into_iter();
            events.map(|event| event.event.name()).collect::<Vec<_>>()
        };
        assert_eq!(seen(1, 0), ["promoted"]);
        assert_eq!(seen(1, 2), ["staged"]);
        assert_eq!(seen(1, 2), [""; 0]);
        // What serves is launched again meanwhile.
        assert_eq!(seen(3, 2), ["promoted"]);
        assert_eq!(seen(2, 0), ["promoted"]);
        assert_eq!(seen(2, 0), [""; 0]);
    }

    /// Starts the hook, and refuses this number of releases at once.
    async fn refuse(command: &str, releases: u64) {
        let (publisher, published) = watch::channel(refused(0));
        tokio::task::spawn_local(notify(command.to_owned(), published, None));
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
    fn each_event_says_who_served_before_and_how_long_it_took() {
        let mut status = refused(3);
        status.handoffs[2].outcome = Outcome::Starting;
        let mut detector = EventDetector::default();
        let mut serve = |status: &mut Status, generation: u64, since: u64| {
            let handoff = &mut status.handoffs[generation as usize - 1];
            handoff.release = ReleaseId::new(format!("v{generation}"));
            handoff.outcome = Outcome::Promoted;
            handoff.promoted_ms = Some(UnixMillis(since));
            let active = serde_json::json!({"generation": generation, "digest": "",
                "release": format!("v{generation}"), "since_ms": since});
            status.active = Some(serde_json::from_value(active).unwrap());
            serde_json::to_value(detector.new_events(status)).unwrap()
        };
        serve(&mut status, 1, 31);
        let events = serve(&mut status, 2, 131);
        let superseded = &events[0];
        for (key, value) in [
            ("event", "superseded"),
            ("release", "v1"),
            ("reason", "v2 serves instead"),
        ] {
            assert_eq!(superseded[key], value, "{events}");
        }
        assert_eq!(superseded["took_ms"], 100, "{events}");
        assert_eq!(
            (&events[1]["event"], &events[1]["previous"]),
            (&"promoted".into(), &"v1".into())
        );

        let unanswered =
            serde_json::json!({"generation": 2, "oldest_ms": 200, "unresponsive_ms": 230});
        status.unanswered = Some(serde_json::from_value(unanswered).unwrap());
        let events = serve(&mut status, 2, 131);
        assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
        assert_eq!(events[0]["event"], "unresponsive");
        assert_eq!(
            (&events[0]["took_ms"], &events[0]["previous"]),
            (&30.into(), &"v1".into())
        );
        assert_eq!(serve(&mut status, 2, 131), serde_json::json!([]));
        status.unanswered = None;
        let events = serve(&mut status, 2, 131);
        assert_eq!(events[0]["event"], "recovered", "{events}");

        // One that has crashed was not superseded.
        status.handoffs[1].crashes = 1;
        let events = serve(&mut status, 3, 331);
        assert_eq!(events.as_array().unwrap().len(), 1, "{events}");
        assert_eq!(events[0]["event"], "promoted", "{events}");
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
}
