//! `handoff status`: what the sidecars of a deployment do.

use std::io::{self, Write as _};
use std::path::Path;
use std::thread::sleep;
use std::time::Duration;

use clap::Args;
use console::{Term, truncate_str};
use serde_json::{Value, json};

use super::place::{PlaceError, Where};
use super::sidecars::Sidecars;
use super::{ELSEWHERE, Ending, count, table, told};
use crate::deployment::status::UnixMillis;

const SCHEMA: u32 = 1;
/// So many handoffs of each sidecar are shown; `handoff history` has them all.
const HANDOFFS: usize = 10;
const REDRAW: Duration = Duration::from_secs(1);
/// So many of the dead are shown, those that lived last.
const DEAD: usize = 2;
/// So many handoffs of each, beside one that lives.
const HANDOFFS_OF_DEAD: usize = 2;

const EXIT_CODES: &str = "\
Exit codes:
  0  a sidecar lives
  2  the command line makes no sense
  4  none does";

/// Show what the sidecars run, since when, what drains, and why the last one failed.
#[derive(Args, Clone, Debug)]
#[command(after_help = EXIT_CODES)]
pub struct ShowStatus {
    #[command(flatten)]
    place: Where,

    /// Go on showing it (until Ctrl-C)
    #[arg(long)]
    watch: bool,

    /// Print what they publish, as JSON
    #[arg(long)]
    json: bool,
}

/// Shows it on stdout.
pub fn run(options: &ShowStatus) -> Ending {
    told(show(options))
}

fn show(options: &ShowStatus) -> Result<Ending, PlaceError> {
    let state = options.place.state()?;
    let mut sidecars = Sidecars::of(&state);
    sidecars.look();
    let shown = match options.watch {
        false => print(&shown(options, &state, &sidecars)),
        true => watch(options, &state, &mut sidecars),
    };
    // Who reads it no more has seen enough.
    let lives = sidecars.all_with_life().any(|(_, lives)| lives);
    Ok(match lives || shown.is_err() {
        true => Ending::Done,
        false => Ending::Idle,
    })
}

fn shown(options: &ShowStatus, state: &Path, sidecars: &Sidecars) -> String {
    match options.json {
        true => format!("{}\n", as_json(state, sidecars)),
        false => as_text(state, sidecars),
    }
}

fn print(text: &str) -> io::Result<()> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    stdout.flush()
}

/// Until nobody reads it any more.
fn watch(options: &ShowStatus, state: &Path, sidecars: &mut Sidecars) -> io::Result<()> {
    let term = Term::buffered_stdout();
    let redraws = term.is_term() && !options.json;
    if redraws {
        term.clear_screen()?;
    }
    loop {
        let text = shown(options, state, sidecars);
        match redraws {
            true => redraw(&term, &text)?,
            false => print(&text)?,
        }
        sleep(REDRAW);
        sidecars.look();
    }
}

/// Line by line over what was there: a screen that is cleared first flickers.
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

/// The lines, cut where the screen ends: what wraps or scrolls could not be drawn over.
fn fitting(text: &str, rows: usize, columns: usize) -> Vec<String> {
    let cut = |line| truncate_str(line, columns, "…").into_owned();
    let mut lines: Vec<_> = text.lines().map(cut).collect();
    // The last row is where the cursor rests.
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
    let mut all: Vec<_> = sidecars.all_with_life().collect();
    // The living first, and of those the oldest; then the dead, and of those the last.
    all.sort_by_key(|(status, lives)| match lives {
        true => (false, status.started_ms.0),
        false => (true, u64::MAX - status.heartbeat_ms.0),
    });
    let live = all.iter().filter(|(_, lives)| *lives).count();
    let more = all.len().saturating_sub(live + DEAD);
    all.truncate(live + DEAD);
    let mut shown: Vec<_> = all
        .into_iter()
        .map(|(status, lives)| {
            let handoffs = match lives || live == 0 {
                true => HANDOFFS,
                false => HANDOFFS_OF_DEAD,
            };
            table::sidecar(status, lives, handoffs, now)
        })
        .collect();
    if more > 0 {
        let more = count(more, "sidecar");
        shown.push(format!("{more} more died before: --json has all\n"));
    }
    match shown.is_empty() {
        true => format!("no sidecar has published anything in {state:?}; {ELSEWHERE}\n"),
        false => shown.join("\n"),
    }
}

fn as_json(state: &Path, sidecars: &Sidecars) -> Value {
    let sidecars: Vec<_> = sidecars
        .all_with_life()
        .map(|(status, lives)| json!({"alive": lives, "status": status}))
        .collect();
    json!({"schema": SCHEMA, "state": state, "sidecars": sidecars})
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
        sidecars.look();
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
