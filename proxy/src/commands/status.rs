//! `handoff status`: shows the sidecars of a deployment.

use std::io::{self, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use console::{Term, style, truncate_str};
use serde_json::{Value, json};

use super::deployment_paths::UnknownDeployment;
use super::sidecars::{Liveness, Sidecars};
use super::{ELSEWHERE, ExitStatus, count, exit_status_of, table};
use crate::cli::queries::StatusArgs;
use crate::deployment::instance_memory::MemoryMeter;
use crate::deployment::notes::{self, Note};
use crate::deployment::status::UnixMillis;
use crate::os::terminal::{self, printable, printable_json};

const SCHEMA: u32 = 1;
/// Number of handoffs shown of a sidecar; `handoff history` shows them all.
const HANDOFFS: usize = 10;
const REDRAW: Duration = Duration::from_secs(1);
/// Number of dead sidecars shown, those that died last.
const DEAD: usize = 2;
/// Number of handoffs shown of a dead sidecar beside a live one.
const HANDOFFS_OF_DEAD: usize = 2;

/// Prints the statuses on stdout.
pub fn run(options: &StatusArgs) -> ExitStatus {
    exit_status_of(show(options))
}

fn show(options: &StatusArgs) -> Result<ExitStatus, UnknownDeployment> {
    let state = options.deployment.enter()?;
    let mut sidecars = Sidecars::of(&state);
    let mut meter = MemoryMeter::default();
    sidecars.refresh();
    sidecars.measure_memory(&mut meter);
    let shown = if options.watch {
        watch(options, &state, (&mut sidecars, meter))
    } else {
        print(&shown(options, &state, &sidecars))
    };
    // A closed stdout ends `--watch`.
    let mut all = sidecars.with_liveness();
    let is_alive = all.any(|(_, liveness)| liveness.is_alive());
    Ok(if is_alive || shown.is_err() {
        ExitStatus::Done
    } else {
        ExitStatus::Idle
    })
}

fn shown(options: &StatusArgs, state: &Path, sidecars: &Sidecars) -> String {
    if options.json {
        let json = as_json(state, sidecars).to_string();
        format!("{}\n", printable_json(&json))
    } else {
        as_text(state, sidecars)
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Prints the statuses until stdout is closed.
fn watch(
    options: &StatusArgs,
    state: &Path,
    (sidecars, mut meter): (&mut Sidecars, MemoryMeter),
) -> io::Result<()> {
    let term = Term::buffered_stdout();
    let redraws = term.is_term() && !terminal::is_dumb() && !options.json;
    if redraws {
        term.clear_screen()?;
    }
    loop {
        let text = shown(options, state, sidecars);
        if redraws {
            redraw(&term, &text)?
        } else {
            print(&text)?
        }
        sleep(REDRAW);
        sidecars.refresh();
        sidecars.measure_memory(&mut meter);
    }
}

/// Draws over the lines that are there: a screen that is cleared first flickers.
fn redraw(term: &Term, text: &str) -> io::Result<()> {
    let (rows, columns) = term.size();
    term.move_cursor_to(0, 0)?;
    for line in fitting(text, rows.into(), columns.into()) {
        term.clear_line()?;
        term.write_line(&line)?;
    }
    term.clear_to_end_of_screen()?;
    term.flush()
}

/// Returns the lines, cut where the screen ends: lines that wrap or scroll could not be drawn over.
fn fitting(text: &str, rows: usize, columns: usize) -> Vec<String> {
    let cut = |line| truncate_str(line, columns, "…").into_owned();
    let mut lines: Vec<_> = text.lines().map(cut).collect();
    // The cursor rests in the last row.
    let room = rows.saturating_sub(1).max(1);
    if lines.len() > room {
        let left = lines.len() + 1 - room;
        lines.truncate(room - 1);
        lines.push(format!(
            "… {} more: enlarge the window",
            count(left, "line")
        ));
    }
    lines
}

fn as_text(state: &Path, sidecars: &Sidecars) -> String {
    let now = UnixMillis::now();
    let mut all: Vec<_> = sidecars.with_liveness().collect();
    // Live sidecars come first, the oldest first; then dead ones, the last one first.
    all.sort_by_key(|(status, liveness)| {
        if liveness.is_alive() {
            (false, status.started_ms.0)
        } else {
            (true, u64::MAX - status.heartbeat_ms.0)
        }
    });
    let live = all
        .iter()
        .filter(|(_, liveness)| liveness.is_alive())
        .count();
    let more = all.len().saturating_sub(live + DEAD);
    all.truncate(live + DEAD);
    let mut shown: Vec<_> = all
        .into_iter()
        .map(|(status, liveness)| {
            let handoffs = if liveness.is_alive() || live == 0 {
                HANDOFFS
            } else {
                HANDOFFS_OF_DEAD
            };
            table::sidecar(status, liveness, handoffs, now)
        })
        .collect();
    if more > 0 {
        let more = count(more, "sidecar");
        shown.push(format!("{more} more died before: --json has all\n"));
    }
    if shown.is_empty() {
        shown.push(format!(
            "no sidecar has published anything in {state:?}; {ELSEWHERE}\n"
        ));
    }
    let notes = notes::read(state);
    let notes: String = notes.iter().map(|note| line_of(note, now)).collect();
    shown.join("\n") + &notes
}

/// Returns the line about another program of the deployment.
fn line_of(note: &Note, now: UnixMillis) -> String {
    let by = printable(&note.by);
    let since = table::between(note.since_ms, now);
    let what = style(format!("{by} has reported for {since}:")).yellow();
    format!("{what} {}\n", printable(&note.text))
}

fn as_json(state: &Path, sidecars: &Sidecars) -> Value {
    let sidecars: Vec<_> = sidecars
        .with_liveness()
        .map(|(status, liveness)| {
            let is_silent = liveness == Liveness::Silent;
            json!({"alive": liveness.is_alive(), "silent": is_silent, "status": status})
        })
        .collect();
    json!({"schema": SCHEMA, "state": state, "sidecars": sidecars, "notes": notes::read(state)})
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_living_come_first_and_of_the_dead_the_last_are_shown() {
        let state = tempfile::tempdir().unwrap();
        let folder = state.path().join("sidecars");
        std::fs::create_dir(&folder).unwrap();
        let now = UnixMillis::now().0;
        for (id, heartbeat) in [("d1", 1), ("d2", 2), ("d3", 3), ("d4", 4), ("up", now)] {
            let status = format!(
                r#"{{"schema":1,"sidecar":"{id}","version":"0","pid":1,"listen":"127.0.0.1:1",
                    "started_ms":{heartbeat},"heartbeat_ms":{heartbeat},"phase":"running"}}"#
            );
            std::fs::write(folder.join(format!("{id}.json")), status).unwrap();
        }
        let mut sidecars = Sidecars::of(state.path());
        sidecars.refresh();
        let text = as_text(state.path(), &sidecars);
        let text = console::strip_ansi_codes(&text);
        let at = |part: &str| text.find(part);
        let order = [
            "sidecar up ",
            "sidecar d4 ",
            "sidecar d3 ",
            "2 sidecars more died",
        ]
        .map(at);
        assert!(
            order.iter().all(Option::is_some) && order.is_sorted(),
            "{text}"
        );
        assert_eq!((at("sidecar d1"), at("sidecar d2")), (None, None), "{text}");
    }

    #[test]
    fn what_keeps_another_program_from_its_work_is_shown() {
        let state = tempfile::tempdir().unwrap();
        let text = || as_text(state.path(), &Sidecars::of(state.path()));
        assert!(!text().contains("reported"), "{}", text());
        notes::write(state.path(), "mirror", Some("no\x1b[31m answer")).unwrap();
        let shown = text();
        let line = shown.lines().last().unwrap();
        let line = console::strip_ansi_codes(line);
        assert!(line.starts_with("mirror has reported for "), "{line}");
        assert!(line.ends_with(r"no\x1b[31m answer"), "{line}");
        let json = as_json(state.path(), &Sidecars::of(state.path()));
        assert_eq!(json["notes"][0]["by"], "mirror");
    }

    #[test]
    fn what_does_not_fit_the_screen_is_cut_and_said_to_be() {
        let text = "one\ntwo and more\nthree\nfour\n";
        let lines = fitting(text, 4, 5);
        assert_eq!(
            lines,
            ["one", "two …", "… 2 lines more: enlarge the window"]
        );
        assert_eq!(fitting(text, 5, 80).len(), 4);
        let coloured = "\u{1b}[32mgreen\u{1b}[0m";
        assert_eq!(fitting(coloured, 9, 5), [coloured]);
    }
}
