//! What a command says while it works, on stderr: on a terminal, lines that change where they are;
//! elsewhere a line for what is new, and one every ten seconds. (Kudu ends a script that is silent for
//! a minute.)

use std::collections::BTreeMap;
use std::io::{IsTerminal as _, stderr};
use std::time::{Duration, Instant};

use indicatif::{HumanBytes, MultiProgress, ProgressBar, ProgressDrawTarget, ProgressStyle};

const SILENCE: Duration = Duration::from_secs(10);
const TICK: Duration = Duration::from_millis(120);

/// Where it goes.
#[derive(Debug)]
pub(super) struct Progress {
    bars: Option<MultiProgress>,
    copy: Option<ProgressBar>,
    shown: BTreeMap<String, ProgressBar>,
    last: Instant,
    quiet: bool,
}

// === impl Progress ===

impl Progress {
    /// On this process's stderr.
    pub(super) fn new() -> Self {
        let bars = stderr().is_terminal().then(MultiProgress::new);
        Self {
            bars,
            copy: None,
            shown: BTreeMap::new(),
            last: Instant::now(),
            quiet: false,
        }
    }

    /// Nowhere.
    #[cfg(test)]
    pub(super) fn quiet() -> Self {
        Self {
            bars: None,
            quiet: true,
            ..Self::new()
        }
    }

    /// Says what stays to be read.
    pub(super) fn say(&mut self, line: &str) {
        self.last = Instant::now();
        match &self.bars {
            _ if self.quiet => {}
            Some(bars) => bars.suspend(|| eprintln!("{line}")),
            None => eprintln!("{line}"),
        }
    }

    /// Whether what [`Progress::show`] is given can be seen.
    pub(super) fn shows(&self) -> bool {
        self.bars.is_some()
    }

    /// Whether nothing has been said for so long that somebody may think it hangs.
    pub(super) fn is_due(&self) -> bool {
        self.bars.is_none() && self.last.elapsed() >= SILENCE
    }

    /// So much of a copy is there.
    pub(super) fn copied(&mut self, bytes: u64, total: u64) {
        if let Some(bars) = &self.bars {
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
        let Some(bars) = &self.bars else {
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
