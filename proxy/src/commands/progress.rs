//! The progress of a command on stderr.
//!
//! On a terminal, lines change in place. Elsewhere each news is a line, and every ten seconds one
//! is repeated: Kudu ends a script that prints nothing for a minute.

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stderr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::eprint_line;
use crate::os::terminal::{self, printable};

const SILENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(120);
/// Time between two updates about work in progress.
const POLL_INTERVAL: Duration = Duration::from_millis(200);
/// The key of the line about work in progress.
const WORK: &str = "";

/// A printer of progress.
#[derive(Debug)]
pub(super) struct Progress {
    to: To,
    copy: Option<ProgressBar>,
    shown: BTreeMap<String, ProgressBar>,
    silence: Duration,
    last: Instant,
}

#[derive(Debug)]
enum To {
    Terminal(MultiProgress),
    Lines,
    #[cfg(test)]
    Memory(Vec<String>),
}

// === impl Progress ===

impl Progress {
    /// Creates a printer to stderr.
    pub(super) fn new() -> Self {
        Self::to(if stderr().is_terminal() && !terminal::is_dumb() {
            To::Terminal(MultiProgress::new())
        } else {
            To::Lines
        })
    }

    fn to(to: To) -> Self {
        Self {
            to,
            copy: None,
            shown: BTreeMap::new(),
            silence: SILENCE,
            last: Instant::now(),
        }
    }

    /// Creates a printer that keeps its lines in memory.
    #[cfg(test)]
    pub(super) fn quiet() -> Self {
        Self::to(To::Memory(Vec::new()))
    }

    /// Prints a line that stays.
    pub(super) fn say(&mut self, line: &str) {
        self.last = Instant::now();
        match &mut self.to {
            To::Terminal(bars) => bars.suspend(|| eprint_line(line)),
            To::Lines => eprint_line(line),
            #[cfg(test)]
            To::Memory(said) => said.push(line.to_owned()),
        }
    }

    /// Returns true if [`Progress::show`] has an effect.
    pub(super) fn is_terminal(&self) -> bool {
        matches!(self.to, To::Terminal(_))
    }

    /// Returns true if the last line is so old that the command may seem to hang.
    pub(super) fn is_due(&self) -> bool {
        !self.is_terminal() && self.last.elapsed() >= self.silence
    }

    /// Runs `work`, and calls `report` at intervals until it ends.
    pub(super) fn during<T: Send>(
        &mut self,
        mut report: impl FnMut(&mut Self),
        work: impl FnOnce() -> T + Send,
    ) -> T {
        let (done, ended) = mpsc::channel();
        thread::scope(|scope| {
            let working = scope.spawn(move || {
                let result = work();
                let _ = done.send(());
                result
            });
            while ended.recv_timeout(POLL_INTERVAL) == Err(RecvTimeoutError::Timeout) {
                report(self);
            }
            match working.join() {
                Ok(result) => result,
                Err(panicked) => std::panic::resume_unwind(panicked),
            }
        })
    }

    /// Runs `work`, and shows `what` until it ends.
    pub(super) fn show_during<T: Send>(
        &mut self,
        what: &str,
        work: impl FnOnce() -> T + Send,
    ) -> T {
        let lines = BTreeMap::from([(WORK.to_owned(), what.to_owned())]);
        let result = self.during(
            |progress| {
                if progress.is_terminal() {
                    progress.show(&lines);
                } else if progress.is_due() {
                    progress.say(&format!("  {what}"));
                }
            },
            work,
        );
        self.show(&BTreeMap::new());
        result
    }

    /// Shows the progress of a copy.
    pub(super) fn show_copied(&mut self, bytes: u64, total: u64) {
        if let To::Terminal(bars) = &self.to {
            let copy = self.copy.get_or_insert_with(|| {
                let style = "{bar:30} {bytes} of {total_bytes} copied";
                let bar = ProgressBar::with_draw_target(Some(total), ProgressDrawTarget::stderr());
                bars.add(bar.with_style(style_of(style)))
            });
            copy.set_position(bytes);
        } else if self.is_due() {
            let (bytes, total) = (HumanBytes(bytes), HumanBytes(total));
            self.say(&format!("  {bytes} of {total} copied"));
        }
    }

    /// Removes the progress of a copy.
    pub(super) fn end_copy(&mut self) {
        if let Some(copy) = self.copy.take() {
            copy.finish_and_clear();
        }
    }

    /// Shows these lines by their keys, and no others, on a terminal.
    pub(super) fn show(&mut self, lines: &BTreeMap<String, String>) {
        let To::Terminal(bars) = &self.to else {
            return;
        };
        self.shown.retain(|key, bar| {
            let keep = lines.contains_key(key);
            if !keep {
                bar.finish_and_clear();
            }
            keep
        });
        for (key, line) in lines {
            let bar = self.shown.entry(key.clone()).or_insert_with(|| {
                let bar = bars.add(ProgressBar::new_spinner());
                // Cut at the terminal's edge: a line that wraps could not be removed.
                bar.set_style(style_of("{spinner} {wide_msg}"));
                bar.enable_steady_tick(TICK);
                bar
            });
            let line = printable(line).replace('\n', " ");
            if bar.message() != line {
                bar.set_message(line);
            }
        }
    }

    /// Stops all motion; the lines shown last stay.
    pub(super) fn end(&mut self) {
        self.end_copy();
        let last: Vec<_> = self.shown.values().map(ProgressBar::message).collect();
        self.show(&BTreeMap::new());
        for line in last {
            self.say(&format!("  {line}"));
        }
    }
}

fn style_of(template: &str) -> ProgressStyle {
    ProgressStyle::with_template(template).unwrap_or_else(|_| ProgressStyle::default_spinner())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_takes_long_is_told_of_again_and_again_and_what_does_not_is_not() {
        let mut progress = Progress::quiet();
        let said = |progress: &Progress| match &progress.to {
            To::Memory(said) => said.clone(),
            To::Terminal(_) | To::Lines => unreachable!("it is quiet"),
        };
        assert_eq!(progress.show_during("reading", || 7), 7);
        assert!(said(&progress).is_empty());

        progress.silence = POLL_INTERVAL / 2;
        let (told, may_end) = mpsc::channel();
        let mut times = 0;
        progress
            .during(
                |progress| {
                    if progress.is_due() {
                        progress.say("reading");
                        times += 1;
                    }
                    if times == 3 {
                        let _ = told.send(());
                    }
                },
                move || may_end.recv(),
            )
            .unwrap();
        assert_eq!(said(&progress), ["reading"; 3]);
    }
}
