//! What a command says while it works, on stderr: on a terminal, lines that change where they are;
//! elsewhere a line for what is new, and one every ten seconds. (Kudu ends a script that is silent for
//! a minute.)

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stderr};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread;
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

use crate::cli::output::eprint_line;

const SILENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(120);
/// How often work under way is looked at.
const LOOK: Duration = Duration::from_millis(200);
/// The line of such work among those that are shown.
const WORK: &str = "";

/// DeploymentArgs it goes.
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
    /// On this process's stderr.
    pub(super) fn new() -> Self {
        Self::to(match stderr().is_terminal() {
            true => To::Terminal(MultiProgress::new()),
            false => To::Lines,
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

    /// Nowhere.
    #[cfg(test)]
    pub(super) fn quiet() -> Self {
        Self::to(To::Memory(Vec::new()))
    }

    /// Says what stays to be read.
    pub(super) fn say(&mut self, line: &str) {
        self.last = Instant::now();
        match &mut self.to {
            To::Terminal(bars) => bars.suspend(|| eprint_line(line)),
            To::Lines => eprint_line(line),
            #[cfg(test)]
            To::Memory(said) => said.push(line.to_owned()),
        }
    }

    /// Whether what [`Progress::show`] is given can be seen.
    pub(super) fn shows(&self) -> bool {
        matches!(self.to, To::Terminal(_))
    }

    /// Whether nothing has been said for so long that somebody may think it hangs.
    pub(super) fn is_due(&self) -> bool {
        !self.shows() && self.last.elapsed() >= self.silence
    }

    /// Does something that may take long, and says so meanwhile; `what` is also told how far it is.
    pub(super) fn during<T: Send>(
        &mut self,
        mut what: impl FnMut(&mut Self),
        work: impl FnOnce() -> T + Send,
    ) -> T {
        let (done, ended) = mpsc::channel();
        thread::scope(|scope| {
            let working = scope.spawn(move || {
                let result = work();
                let _ = done.send(());
                result
            });
            while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
                what(self);
            }
            match working.join() {
                Ok(result) => result,
                Err(panicked) => std::panic::resume_unwind(panicked),
            }
        })
    }

    /// The same for what cannot say how far it is.
    pub(super) fn during_all_of<T: Send>(
        &mut self,
        what: &str,
        work: impl FnOnce() -> T + Send,
    ) -> T {
        let lines = BTreeMap::from([(WORK.to_owned(), what.to_owned())]);
        let result = self.during(
            |progress| match progress.shows() {
                true => progress.show(&lines),
                false if progress.is_due() => progress.say(&format!("  {what}")),
                false => {}
            },
            work,
        );
        self.show(&BTreeMap::new());
        result
    }

    /// So much of a copy is there.
    pub(super) fn copied(&mut self, bytes: u64, total: u64) {
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

    /// The copy has ended.
    pub(super) fn copied_all(&mut self) {
        if let Some(copy) = self.copy.take() {
            copy.finish_and_clear();
        }
    }

    /// On a terminal: these lines, by their keys, and no others.
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
                // Cut at the terminal's edge: a line that wraps would be left behind.
                bar.set_style(style_of("{spinner} {wide_msg}"));
                bar.enable_steady_tick(TICK);
                bar
            });
            if bar.message() != *line {
                bar.set_message(line.clone());
            }
        }
    }

    /// Nothing moves any more; what was shown last stays.
    pub(super) fn end(&mut self) {
        self.copied_all();
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
        assert_eq!(progress.during_all_of("reading", || 7), 7);
        assert!(said(&progress).is_empty());

        progress.silence = LOOK / 2;
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
