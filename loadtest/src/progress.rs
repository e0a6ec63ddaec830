//! How the run goes, while it goes: one live line on a terminal, else a plain line now and then.

use std::io::{self, IsTerminal as _};
use std::time::{Duration, Instant};

use indicatif::{ProgressBar, ProgressStyle};

use crate::metrics::Metrics;
use crate::numbers::{ms, thousands};

/// Between two updates of the live line.
pub const TICK: Duration = Duration::from_millis(250);

/// Between two plain lines.
const LINE: Duration = Duration::from_secs(10);

/// Percentiles over less than this would jump.
const RECENT: Duration = Duration::from_secs(1);

/// Writes to standard error; the summary alone goes to standard output.
#[derive(Debug)]
pub struct Progress {
    bar: Option<ProgressBar>,
    serves: u32,
    swaps: u32,
    started: Instant,
    line: Instant,
    recent: Instant,
    sent: u64,
    rate: String,
    p99: String,
}

impl Progress {
    /// Release `serves` does so already, and `swaps` will be made.
    pub fn new(serves: u32, swaps: u32) -> Self {
        let now = Instant::now();
        let bar = io::stderr().is_terminal().then(|| {
            let bar = ProgressBar::new(u64::from(swaps.max(1)));
            let style = ProgressStyle::with_template("  {bar:12.cyan/240}  {wide_msg}");
            bar.set_style(
                style
                    .unwrap_or_else(|_| ProgressStyle::default_bar())
                    .progress_chars("━━━"),
            );
            bar
        });
        Self {
            bar,
            serves,
            swaps,
            started: now,
            line: now,
            recent: now,
            sent: 0,
            rate: "–".to_owned(),
            p99: "–".to_owned(),
        }
    }

    /// Shows how it stands.
    pub fn show(&mut self, metrics: &mut Metrics) {
        self.sample(metrics);
        let newest = metrics.newest_seen();
        let seen = newest.saturating_sub(self.serves).min(self.swaps);
        if let Some(bar) = &self.bar {
            bar.set_position(u64::from(seen));
            bar.set_message(self.text(seen, newest, metrics));
        } else if self.line.elapsed() >= LINE {
            self.line = Instant::now();
            eprintln!(
                "{:5.0} s  {}",
                self.started.elapsed().as_secs_f64(),
                self.text(seen, newest, metrics)
            );
        }
    }

    /// Clears the live line.
    pub fn finish(self) {
        if let Some(bar) = self.bar {
            bar.finish_and_clear();
        }
    }

    fn sample(&mut self, metrics: &mut Metrics) {
        let elapsed = self.recent.elapsed();
        if elapsed >= RECENT {
            self.recent = Instant::now();
            let sent = metrics.sent();
            self.rate =
                thousands(((sent - self.sent) as f64 / elapsed.as_secs_f64()).round() as u64);
            self.sent = sent;
            self.p99 = ms(metrics.take_recent().at(0.99));
        }
    }

    fn text(&self, seen: u32, newest: u32, metrics: &Metrics) -> String {
        format!(
            "{seen}/{} swaps · v{newest} · {} sent · {} failed · {}/s · p99 {} ms",
            self.swaps,
            thousands(metrics.sent()),
            thousands(metrics.failed().total()),
            self.rate,
            self.p99,
        )
    }
}
