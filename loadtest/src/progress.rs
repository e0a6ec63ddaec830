//! The progress of a run: one live line on a terminal, or else a plain line now and then.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::tally::Tally;
use crate::units::{ms, thousands};

/// Interval of the live line.
pub const TICK: Duration = Duration::from_millis(250);

/// Interval of plain lines.
const LINE: Duration = Duration::from_secs(10);

/// Time over which rate and percentile are taken; of less they would jump.
const RECENT: Duration = Duration::from_secs(1);

/// The progress on standard error; standard output has the report alone.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    /// Release that serves at the start.
    serves: u32,
    swaps: u32,
    started: Instant,
    last_line: Instant,
    last_sample: Instant,
    sent: u64,
    rate: String,
    p99: String,
}

impl Progress {
    /// Starts with release `serves`, which `swaps` swaps follow.
    pub fn new(serves: u32, swaps: u32) -> Self {
        let now = Instant::now();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(u64::from(swaps.max(1)));
            let style = ProgressStyle::with_template("  {bar:12.cyan/240}  {wide_msg}");
            let style = style.unwrap_or_else(|_| ProgressStyle::default_bar());
            bar.set_style(style.progress_chars("━━━"));
            bar
        });
        Self {
            bar,
            serves,
            swaps,
            started: now,
            last_line: now,
            last_sample: now,
            sent: 0,
            rate: "–".to_owned(),
            p99: "–".to_owned(),
        }
    }

    /// Shows the current counts.
    pub fn show(&mut self, tally: &mut Tally) {
        self.sample(tally);
        let newest = tally.newest_seen();
        let seen = newest.saturating_sub(self.serves).min(self.swaps);
        let text = format!(
            "{seen}/{} swaps · v{newest} · {} sent · {} failed · {}/s · p99 {} ms",
            self.swaps,
            thousands(tally.sent()),
            thousands(tally.failed()),
            self.rate,
            self.p99,
        );
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(seen));
            bar.set_message(text);
        } else if self.last_line.elapsed() >= LINE {
            self.last_line = Instant::now();
            eprintln!("{:5.0} s  {text}", self.started.elapsed().as_secs_f64());
        }
    }

    /// Clears the live line.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn sample(&mut self, tally: &mut Tally) {
        let elapsed = self.last_sample.elapsed();
        if elapsed >= RECENT {
            self.last_sample = Instant::now();
            let sent = tally.sent();
            let rate = (sent - self.sent) as f64 / elapsed.as_secs_f64();
            self.rate = thousands(rate.round() as u64);
            self.sent = sent;
            self.p99 = ms(tally.take_recent().at(0.99));
        }
    }
}
