//! One part: offers the traffic while the script is played, and counts.

use std::collections::{BTreeMap, HashMap};
use std::io;
use std::num::{NonZeroU32, NonZeroUsize};
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::AtomicU32;
use std::time::Duration;

use sample_app::journal::{self, Entry, ReadError};
use tokio::sync::mpsc::unbounded_channel;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::ProveError;
use super::part::{Asked, Part, SwapPart};
use super::script::{Played, Script};
use super::startup;
use super::tally::Tally;
use crate::attack::{Attack, Plan};
use crate::interrupt::interrupted;
use crate::metrics::{WARM_UP, Windows};
use crate::numbers::{millis, thousands};
use crate::progress::{self, Progress};
use crate::release::Release;
use crate::scenario::unix_ms;
use crate::strategy::{Strategy, StrategyError};
use crate::system::System;
use crate::traffic::{Mix, Place};

/// So often the app is started by itself, before the first swap.
const STARTS: u32 = 5;

/// What a part works with.
#[derive(Debug)]
pub struct Stage<'a> {
    pub asked: &'a Asked,
    pub rate: NonZeroU32,
    pub connections: NonZeroUsize,
    /// For one request.
    pub timeout: Duration,
    /// None: as the server's address says.
    pub place: Option<Place>,
    /// The newest release that may answer before something is deployed.
    pub serves: u32,
    /// Started by itself, to see how long that takes.
    pub startup: Option<&'a Release>,
    pub swaps: &'a [Release],
    pub shams: &'a [Release],
    pub pace: Pace,
    pub system: &'a System,
    pub journal: &'a Path,
    pub log: &'a Path,
}

/// When swaps are made.
#[derive(Debug, Clone, Copy)]
pub enum Pace {
    /// Spread over the time that the requests take.
    Spread,
    /// So long after each other, and none after so long.
    Every(Duration, Option<Duration>),
}

/// Makes one part of the proof on what serves already, and ends that.
///
/// # Errors
/// There is no result, as the part could not be made.
pub async fn part(stage: &Stage<'_>, mut strategy: impl Strategy) -> Result<Part, ProveError> {
    let asked = stage.asked;
    let deployed = Arc::new(AtomicU32::new(stage.serves));
    let (sender, mut outcomes) = unbounded_channel();
    let server = strategy.server();
    let plan = Plan {
        server,
        place: stage.place.clone().unwrap_or_else(|| Place::at(server)),
        rate: stage.rate,
        connections: stage.connections,
        timeout: stage.timeout,
        deployed: Arc::clone(&deployed),
        mix: Mix::Classes,
        names_releases: true,
        journaled: true,
    };
    // Ids begin at 0 each time: an earlier run's lines would be taken for this one's.
    let earlier = entries(stage.journal)?;
    let attack = Attack::launch(plan, sender).map_err(ProveError::Attack)?;
    let started = attack.started();
    let started_ms = unix_ms() - millis(started.elapsed());

    let (see, seen) = watch::channel(0);
    let mut tally = Tally::new();
    let mut played = Played::default();
    let mut startup_ms = Vec::new();
    let mut progress = Progress::new(stage.serves, asked.swaps);
    let script = async {
        tokio::time::sleep(WARM_UP).await;
        if let Some(first) = stage.startup {
            for _ in 0..STARTS {
                startup_ms.push(startup::measure(first, stage.system, stage.log).await?);
            }
        }
        let whole = asked.requests as f64 / f64::from(asked.rate);
        let rest = Duration::from_secs_f64(whole).saturating_sub(started.elapsed());
        let (every, until) = match stage.pace {
            Pace::Spread => (rest / asked.swaps.max(1), None),
            Pace::Every(every, most) => (every, most.map(|most| (started + most).into())),
        };
        let mut script = Script {
            swaps: stage.swaps,
            shams: stage.shams,
            warm_up: Duration::ZERO,
            every,
            until,
            deployed: &deployed,
            seen,
        };
        script.play(&mut strategy, &mut played).await
    };
    let ended = {
        let mut script = pin!(script);
        let mut interrupt = pin!(interrupted());
        let mut tick = interval(progress::TICK);
        tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
        let mut batch = Vec::new();
        let mut counting = true;
        let mut result: Option<Result<(), StrategyError>> = None;
        loop {
            let enough = tally.metrics.sent() >= asked.requests;
            match &result {
                Some(Ok(())) if enough || !counting => break Some(Ok(())),
                Some(Err(_)) => break result,
                Some(Ok(())) | None => {}
            }
            tokio::select! {
                played = &mut script, if result.is_none() => result = Some(played),
                () = &mut interrupt => break None,
                _ = tick.tick() => progress.show(&mut tally.metrics),
                count = outcomes.recv_many(&mut batch, 1024), if counting => {
                    counting = count > 0;
                    batch.drain(..).for_each(|outcome| tally.add(&outcome));
                    see.send_if_modified(|seen| {
                        let newest = tally.metrics.newest_seen();
                        std::mem::replace(seen, newest) != newest
                    });
                }
            }
        }
    };
    progress.finish();
    attack.stop();
    let duration = started.elapsed();
    while let Some(outcome) = outcomes.recv().await {
        tally.add(&outcome);
    }
    let offered = attack.join().map_err(ProveError::Attack)?;
    let stopped = strategy.stop().await;
    let Some(ended) = ended else {
        return Err(ProveError::Interrupted);
    };

    let mut problems = std::mem::take(&mut played.problems);
    // What ended by itself cannot be stopped: that would be no news.
    problems.extend(
        ended
            .and(stopped)
            .err()
            .map(|error| format!("failed to {error}")),
    );
    if offered != tally.metrics.sent() {
        problems.push(format!(
            "{} requests were offered, {} are accounted for",
            thousands(offered),
            thousands(tally.metrics.sent())
        ));
    }
    let metrics = &tally.metrics;
    let swap = |swap: &crate::scenario::Swap| {
        let seen = metrics.seen(swap.number);
        SwapPart::of(swap, started_ms, seen.map(|seen| started_ms + millis(seen)))
    };
    let swaps: Vec<SwapPart> = played.swaps.iter().map(swap).collect();
    let shams: Vec<SwapPart> = played.shams.iter().map(swap).collect();
    let (sent, reopened) = (metrics.sent(), metrics.reopened());
    let lateness = metrics.lateness().clone();
    let entries = without(entries(stage.journal)?, earlier);
    let counted = tally.count(&entries, &windows(&swaps), &windows(&shams));
    if let Some(first) = counted.strangers.first() {
        problems.push(format!(
            "apps wrote down {} requests that nobody sent; the first is: {first}",
            thousands(counted.strangers.len() as u64)
        ));
    }
    Ok(Part {
        asked: asked.clone(),
        started_ms,
        duration_s: duration.as_secs_f64(),
        sent,
        sent_again: counted.sent_again,
        reopened,
        failed: BTreeMap::from_iter(counted.failed),
        examples: counted.examples,
        lateness,
        classes: counted.classes,
        moments: counted.moments,
        swaps,
        shams,
        startup_ms,
        problems,
    })
}

/// None while nothing that writes the journal was reached.
fn entries(journal: &Path) -> Result<Vec<Entry>, ReadError> {
    match journal::read(journal) {
        Err(ReadError::Io(_, error)) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        read => read,
    }
}

fn without(mut entries: Vec<Entry>, earlier: Vec<Entry>) -> Vec<Entry> {
    let mut counts: HashMap<Entry, usize> = HashMap::new();
    for entry in earlier {
        *counts.entry(entry).or_default() += 1;
    }
    entries.retain(|entry| match counts.get_mut(entry) {
        Some(count @ 1..) => {
            *count -= 1;
            false
        }
        Some(0) | None => true,
    });
    entries
}

fn windows(swaps: &[SwapPart]) -> Windows {
    let window = |swap: &SwapPart| {
        let (from, to) = swap.window_s()?;
        Some((Duration::from_secs_f64(from), Duration::from_secs_f64(to)))
    };
    Windows::merge(swaps.iter().filter_map(window).collect())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_an_earlier_run_are_left_out_once_each() {
        let entries = |lines: &[&str]| -> Vec<Entry> {
            lines.iter().map(|line| line.parse().unwrap()).collect()
        };
        let (old, new) = ("0 POST /upload v1 17", "1 GET / v1 17");
        let left = without(entries(&[old, new, old]), entries(&[old]));
        assert_eq!(left, entries(&[new, old]));
    }
}
