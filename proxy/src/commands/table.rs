//! The statuses of sidecars as tables for people. Pure.

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::time::Duration;

use comfy_table::{Table, presets};
use console::{Style, style};
use serde_json::Value;

use super::sidecars::Liveness;
use super::{canary, count, maintenance, upgrade};
use crate::deployment::status::{
    DataLeft, Failure, Handoff, Outcome, Phase, Settling, Status, UnansweredRequests, UnixMillis,
};
use crate::os::terminal::printable;

/// Number of lines of output shown of a failed instance.
const OUTPUT: usize = 40;

/// Returns a sidecar with its instances and its last handoffs.
pub(super) fn sidecar(
    status: &Status,
    liveness: Liveness,
    handoffs: usize,
    now: UnixMillis,
) -> String {
    let Some(status) = &printable_status(status) else {
        return "a status that cannot be shown\n".to_owned();
    };
    let is_alive = liveness.is_alive();
    let state = match (is_alive, status.phase) {
        (false, _) => style("dead").red().to_string(),
        (true, Phase::Stopping) => style("shutting down").yellow().to_string(),
        (true, Phase::Running | Phase::Unknown) => style("up").green().to_string(),
    };
    let since = if is_alive {
        format!("for {}", between(status.started_ms, now))
    } else {
        format!("for {}", between(status.heartbeat_ms, now))
    };
    let mut text = format!(
        "{} {state} {since} on {}, handoff {}, process {}\n",
        style(format!("sidecar {}", status.sidecar)).bold(),
        status.listen,
        status.version,
        status.pid
    );
    if liveness == Liveness::Silent {
        let age = between(status.heartbeat_ms, now);
        let what = style(format!("its status is {age} old")).yellow();
        let _ = writeln!(
            text,
            "  {what}: the process runs, but cannot write into the state folder (a full disk?)"
        );
    }
    let log = status.log_file.as_ref();
    let log = log.map(|file| format!("log in {}", file.display()));
    let page = status.admin.map(|page| format!("page at http://{page}/"));
    let looked_at: Vec<_> = log.into_iter().chain(page).collect();
    if !looked_at.is_empty() {
        let _ = writeln!(text, "  {}", looked_at.join(", "));
    }
    let instances = instances(status, now);
    if !instances.is_empty() {
        let _ = writeln!(text, "{}", indented(&instances));
    }
    if status.active.is_none() && is_alive {
        let _ = writeln!(text, "  {}", style("nothing is active").red());
    }
    if status.held > 0 {
        let _ = writeln!(text, "  {} held", count(status.held, "request"));
    }
    if let Some(alarm) = &status.alarm {
        let since = between(alarm.since_ms, now);
        let what = style("its live check fails").red();
        let _ = writeln!(
            text,
            "  {what}, for {since} (generation {}): {}",
            alarm.generation, alarm.reason
        );
    }
    if let Some(unanswered) = &status.unanswered {
        text += &self::unanswered(unanswered, now);
    }
    if let Some(until) = status.bakes_until_ms {
        let _ = writeln!(text, "  on trial for {} more", between(now, until));
    }
    if let Some(problem) = &status.artifact_problem {
        let what = if status.active.is_some() {
            "the newest artifact is not accepted"
        } else {
            "no artifact can be accepted"
        };
        let _ = writeln!(text, "  {what}: {problem}");
    }
    if let Some(settling) = &status.settling {
        text += &self::settling(settling, now);
    }
    if let Some(left) = &status.data_left {
        text += &data_left(left);
    }
    if let Some(problem) = &status.configuration_problem {
        let _ = writeln!(text, "  the configuration stays as it was: {problem}");
    }
    if let Some(problem) = &status.desired_problem {
        let _ = writeln!(text, "  what was asked for cannot be done: {problem}");
    }
    if let Some(paused) = &status.paused {
        let left = between(now, paused.until_ms);
        let _ = writeln!(text, "  {} for {left} more", style("paused").yellow());
    }
    if let Some(begun) = &status.maintenance {
        text += &maintenance::row(begun, &between(begun.since_ms, now));
    }
    if let (Some(staged), Some(canary)) = (&status.staged, &status.canary) {
        text += &canary::row(&staged.release, canary, &between(now, canary.until_ms));
    } else if let (Some(staged), Some(until)) = (&status.staged, status.staged_until_ms) {
        let left = between(now, until);
        let release = &staged.release;
        let _ = writeln!(text, "  {release} awaits `handoff promote` for {left} more");
    }
    text += &upgrade::row(status, |then| between(then, now));
    text += &ways_back(status, now);
    if let Some(problem) = status.last_failure.as_ref() {
        text += &failure(problem, now);
    }
    let skipped = status.handoffs.len().saturating_sub(handoffs);
    let last = status.handoffs.iter().skip(skipped);
    let last: Vec<_> = last.map(|handoff| (None, handoff)).collect();
    if !last.is_empty() {
        text += "  last handoffs\n";
        let _ = writeln!(text, "{}", indented(&self::handoffs(last, now)));
    }
    text
}

/// Returns a status without control characters, as apps and forged files may have brought them there.
fn printable_status(status: &Status) -> Option<Status> {
    fn show(value: &mut Value) {
        match value {
            Value::String(text) => *text = printable(text).into_owned(),
            Value::Array(all) => all.iter_mut().for_each(show),
            Value::Object(all) => all.values_mut().for_each(show),
            Value::Null | Value::Bool(_) | Value::Number(_) => {}
        }
    }
    let mut value = serde_json::to_value(status).ok()?;
    show(&mut value);
    serde_json::from_value(value).ok()
}

/// Returns what an artifact that may still change waits for.
fn settling(settling: &Settling, now: UnixMillis) -> String {
    let artifact = &settling.artifact;
    let period = humantime::format_duration(Duration::from_millis(settling.period_ms));
    let changed = precise(settling.changed_ms, now);
    let proof = if settling.sees_writers {
        ""
    } else {
        " (it cannot be seen whether another user still writes)"
    };
    format!(
        "  waiting until {artifact} has not changed for {period}; last change {changed} ago{proof}\n"
    )
}

/// Returns the time for which the app has left requests unanswered.
fn unanswered(unanswered: &UnansweredRequests, now: UnixMillis) -> String {
    let oldest = between(unanswered.oldest_ms, now);
    let answer = match unanswered.last_answer_ms {
        Some(at) => format!("the last answer was {} ago", between(at, now)),
        None => "it has answered none so far".to_owned(),
    };
    let verdict = match unanswered.unresponsive_ms {
        Some(_) => style("; it does not respond").red().to_string(),
        None => String::new(),
    };
    format!("  the oldest unanswered request is {oldest} old, {answer}{verdict}\n")
}

/// Returns the data that the release before has left, and the remedy.
fn data_left(left: &DataLeft) -> String {
    let DataLeft {
        release,
        folder,
        files,
        count,
    } = left;
    let more = match count.saturating_sub(files.len()) {
        0 => String::new(),
        more => format!(" and {more} more"),
    };
    let files = files.join(", ");
    format!(
        "  {release} wrote data into its private copy, where no other release finds it: \
         {files}{more} in {folder}\n  (let the app keep its data in {{shared}})\n"
    )
}

/// Returns a table of launches, in the order given, with their sidecars if there are several.
pub(super) fn handoffs<'a>(
    handoffs: impl IntoIterator<Item = (Option<&'a str>, &'a Handoff)>,
    now: UnixMillis,
) -> String {
    let mut handoffs = handoffs.into_iter().peekable();
    let has_sidecar = handoffs
        .peek()
        .is_some_and(|(sidecar, _)| sidecar.is_some());
    let header = [
        "SIDECAR",
        "WHEN",
        "GENERATION",
        "RELEASE",
        "WHY",
        "OUTCOME",
        "READY",
        "DRAINED",
        "END",
    ];
    let mut rows = Rows::new(&header[usize::from(!has_sidecar)..]);
    for (sidecar, handoff) in handoffs {
        let after = |then: Option<UnixMillis>, since: Option<UnixMillis>| {
            then.zip(since)
                .map(|(then, since)| format!("in {}", precise(since, then)))
                .unwrap_or_default()
        };
        let (outcome, style) = match handoff.outcome {
            _ if handoff.has_crashed() => ("crashed", Style::new().red()),
            Outcome::Starting => ("starting", Style::new().cyan()),
            Outcome::Promoted => ("promoted", Style::new()),
            Outcome::Refused => ("refused", Style::new().red()),
            Outcome::Failed => ("failed", Style::new().red()),
            Outcome::Abandoned => ("abandoned", Style::new().yellow()),
            Outcome::Unknown => ("?", Style::new()),
        };
        let cells = [
            format!("{} ago", between(handoff.launched_ms, now)),
            handoff.generation.to_string(),
            handoff.release.to_string(),
            handoff.cause.words().to_owned(),
            outcome.to_owned(),
            after(handoff.ready_ms, Some(handoff.launched_ms)),
            after(handoff.drained_ms, handoff.promoted_ms),
            handoff.end.clone().unwrap_or_default(),
        ];
        let sidecar = sidecar.map(str::to_owned);
        rows.add(
            style,
            sidecar.into_iter().chain(cells),
            handoff.reason.as_deref(),
        );
    }
    rows.text()
}

fn instances(status: &Status, now: UnixMillis) -> String {
    let groups = [
        ("active", Style::new().green(), status.active.as_slice()),
        (
            "candidate",
            Style::new().cyan(),
            status.candidate.as_slice(),
        ),
        ("staged", Style::new().cyan(), status.staged.as_slice()),
        ("standby", Style::new(), status.standby.as_slice()),
        ("draining", Style::new().yellow(), &status.draining),
        ("stopping", Style::new().dim(), &status.stopping),
    ];
    let mut rows = Rows::new(&["STATE", "GENERATION", "RELEASE", "FOR", "ADDRESS", ""]);
    for (state, style, instances) in groups {
        for instance in instances {
            let what = match (&instance.probe, instance.in_flight) {
                (Some(probe), _) => format!("probing: {probe}"),
                (None, 0) => String::new(),
                (None, in_flight) => {
                    let requests = count(in_flight.saturating_sub(instance.tunnels), "request");
                    format!("{requests} and {}", count(instance.tunnels, "tunnel"))
                }
            };
            let notes = [&instance.warning, &instance.note].map(Option::clone);
            let memory = instance
                .memory_bytes
                .map(|bytes| format!("{} MiB", bytes >> 20));
            let until = instance.sessions_until_ms.map(|until| between(now, until));
            let sessions = instance.sessions.zip(until).map(|(sessions, until)| {
                format!("{}, for {until} at most", count(sessions, "session"))
            });
            let parts = [sessions, Some(what), memory].into_iter();
            let parts = parts.chain(notes).flatten();
            let parts: Vec<_> = parts.filter(|part| !part.is_empty()).collect();
            let address = instance.address.map(|address| address.to_string());
            rows.add(
                style.clone(),
                [
                    state.to_owned(),
                    instance.generation.to_string(),
                    instance.release.to_string(),
                    between(instance.since_ms, now),
                    address.unwrap_or_default(),
                    parts.join("; "),
                ],
                None,
            );
        }
    }
    rows.text()
}

/// Returns the past and possible rollbacks, and the refused releases.
fn ways_back(status: &Status, now: UnixMillis) -> String {
    let mut text = String::new();
    if let Some(back) = &status.last_rollback {
        let ago = between(back.at_ms, now);
        let (from, to) = (back.from, back.to);
        let _ = writeln!(
            text,
            "  requests went back from generation {from} to {to}, {ago} ago"
        );
    }
    if let Some(given) = &status.gave_way {
        let (from, to) = (&given.from, &given.to);
        let ago = between(given.at_ms, now);
        let next = if given.retry_ms > now {
            format!("is tried again in {}", between(now, given.retry_ms))
        } else {
            "is being tried again".to_owned()
        };
        let _ = writeln!(
            text,
            "  {from} gave way to {to} {ago} ago because of its crashes, and {next}; handoff \
             rollback keeps {to}"
        );
    }
    let names: Vec<_> = status
        .earlier
        .iter()
        .rev()
        .map(ToString::to_string)
        .collect();
    if !names.is_empty() {
        let _ = writeln!(text, "  a rollback can go to {}", names.join(", "));
    }
    let refused = status.refused.iter().rev();
    let names: Vec<_> = refused.map(|refused| refused.release.to_string()).collect();
    if !names.is_empty() {
        let until = "not tried again until deployed again";
        let _ = writeln!(text, "  {until}: {}", names.join(", "));
    }
    text
}

fn failure(failure: &Failure, now: UnixMillis) -> String {
    let mut text = format!(
        "  last failure, {} ago: {} (generation {}) {}\n",
        between(failure.at_ms, now),
        failure.release,
        failure.generation,
        failure.reason
    );
    if let Some(error) = &failure.error {
        let _ = writeln!(text, "    error: {}", style(error).red());
    }
    if let Some(probe) = failure
        .probe
        .as_ref()
        .filter(|p| !failure.reason.contains(*p))
    {
        let _ = writeln!(text, "    last health check: {probe}");
    }
    let skipped = failure.output.len().saturating_sub(OUTPUT);
    for line in failure.output.iter().skip(skipped) {
        let _ = writeln!(text, "    | {line}");
    }
    text
}

/// A table whose lines have colours. In a cell, colours would count as width.
struct Rows {
    table: Table,
    styles: Vec<Style>,
    /// Notes that are too long for a cell, by the lines that they follow.
    notes: BTreeMap<usize, String>,
}

impl Rows {
    fn new(header: &[&str]) -> Self {
        let mut table = Table::new();
        table.load_style(presets::NOTHING);
        table.set_header(header);
        Self {
            table,
            styles: vec![Style::new().dim()],
            notes: BTreeMap::new(),
        }
    }

    fn add(&mut self, style: Style, cells: impl IntoIterator<Item = String>, note: Option<&str>) {
        // A row is one line.
        let one_line = |cell: String| printable(&cell).lines().collect::<Vec<_>>().join(" ");
        if let Some(note) = note {
            let note = one_line(note.to_owned());
            self.notes.insert(self.styles.len(), note);
        }
        self.table.add_row(cells.into_iter().map(one_line));
        self.styles.push(style);
    }

    fn text(&self) -> String {
        if self.styles.len() == 1 {
            return String::new();
        }
        let text = self.table.to_string();
        let lines = text.lines().zip(&self.styles).enumerate();
        let lines: Vec<_> = lines
            .flat_map(|(number, (line, style))| {
                let note = self.notes.get(&number).map(|note| format!("     {note}"));
                let line = line.trim_end().to_owned();
                [line]
                    .into_iter()
                    .chain(note)
                    .map(|line| style.apply_to(line).to_string())
            })
            .collect();
        lines.join("\n")
    }
}

fn indented(text: &str) -> String {
    let indented: Vec<_> = text.lines().map(|line| format!(" {line}")).collect();
    indented.join("\n")
}

/// Returns a duration in at most two units: `3h 12m`.
pub(super) fn between(then: UnixMillis, now: UnixMillis) -> String {
    let seconds = Duration::from_millis(now.0.saturating_sub(then.0)).as_secs();
    let text = humantime::format_duration(Duration::from_secs(seconds)).to_string();
    let units: Vec<_> = text.split(' ').take(2).collect();
    units.join(" ")
}

/// Returns a short duration: `820ms`, `3.2s`.
fn precise(then: UnixMillis, now: UnixMillis) -> String {
    match now.0.saturating_sub(then.0) {
        millis @ 0..1_000 => format!("{millis}ms"),
        millis @ 1_000..60_000 => format!("{}.{}s", millis / 1000, millis % 1000 / 100),
        _ => between(then, now),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations_are_as_exact_as_a_person_wants_them() {
        let of = |millis| between(UnixMillis(0), UnixMillis(millis));
        assert_eq!(of(0), "0s");
        assert_eq!(of(3_700_500), "1h 1m");
        let of = |millis| precise(UnixMillis(5), UnixMillis(5_u64 + millis));
        assert_eq!([of(999), of(3_250), of(61_000)], ["999ms", "3.2s", "1m 1s"]);
    }

    #[test]
    fn a_sidecar_is_shown_with_all_that_it_runs() {
        let instance = serde_json::json!({"generation": 2, "release": "v2", "digest": "d",
            "since_ms": 1_000, "address": "127.0.0.1:40001", "in_flight": 3, "tunnels": 1});
        let status = serde_json::json!({
            "schema": 1, "sidecar": "abc", "version": "0.1.0", "pid": 7, "listen": "127.0.0.1:80",
            "started_ms": 1_000, "heartbeat_ms": 60_000, "phase": "running",
            "active": instance, "draining": [instance], "held": 1,
            "handoffs": [{"release": "v2", "digest": "d", "generation": 2, "outcome": "promoted",
                "launched_ms": 1_000, "ready_ms": 1_250}],
        });
        let status = serde_json::from_value(status).unwrap();
        let text = sidecar(&status, Liveness::Live, 10, UnixMillis(61_000));
        let text = console::strip_ansi_codes(&text);
        for part in [
            "sidecar abc up for 1m on 127.0.0.1:80, handoff 0.1.0, process 7",
            "active",
            "draining",
            "2 requests and 1 tunnel",
            "1 request held",
            "in 250ms",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
        assert!(
            !text.contains("live check") && !text.contains("rollback"),
            "{text}"
        );
        let dead = sidecar(&status, Liveness::Dead, 10, UnixMillis(61_000));
        let dead = console::strip_ansi_codes(&dead).into_owned();
        assert!(dead.contains("dead for 1s"), "{dead}");
    }

    #[test]
    fn what_is_not_as_it_should_be_is_shown() {
        let instance = serde_json::json!({"generation": 2, "release": "v2", "digest": "d",
            "since_ms": 1_000, "warning": "it listens on 0.0.0.0:40001"});
        let status = serde_json::json!({
            "schema": 1, "sidecar": "abc", "version": "0.1.0", "pid": 7, "listen": "127.0.0.1:80",
            "started_ms": 1_000, "heartbeat_ms": 60_000, "phase": "running", "active": instance,
            "log_file": "/var/log/handoff.log", "admin": "127.0.0.1:9900",
            "alarm": {"generation": 2, "since_ms": 31_000, "reason": "answered 500"},
            "bakes_until_ms": 121_000, "earlier": ["v0", "v1"],
            "last_rollback": {"from": 3, "to": 2, "at_ms": 51_000, "took_us": 5},
            "refused": [{"digest": "e", "release": "v3", "at_ms": 1_000, "reason": "it crashed"}],
        });
        let status = serde_json::from_value(status).unwrap();
        let text = sidecar(&status, Liveness::Live, 10, UnixMillis(61_000));
        let text = console::strip_ansi_codes(&text);
        for part in [
            "it listens on 0.0.0.0:40001",
            "its live check fails, for 30s (generation 2): answered 500",
            "on trial for 1m more",
            "requests went back from generation 3 to 2, 10s ago",
            "a rollback can go to v1, v0",
            "not tried again until deployed again: v3",
            "log in /var/log/handoff.log, page at http://127.0.0.1:9900/",
        ] {
            assert!(text.contains(part), "{part:?} in\n{text}");
        }
    }
}
