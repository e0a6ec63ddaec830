//! One target in one round of a case.

use std::time::Duration;

use rustix::param::clock_ticks_per_second;
use tokio::task::spawn_blocking;
use tokio::time::{Instant, sleep};

use super::figures::Sample;
use super::load::{Load, Running};
use super::target::{Ground, Target};
use super::usage::{Cpu, rss_kib};

/// For all connections to be open.
const CONNECT: Duration = Duration::from_secs(30);

/// Between two looks at the memory.
const LOOK: Duration = Duration::from_millis(100);

/// How long each part takes.
#[derive(Debug, Clone, Copy)]
pub struct Timing {
    pub warm_up: Duration,
    pub measured: Duration,
}

/// Offers the load to the target and tells what it took.
///
/// # Errors
/// What went wrong, for a person: nothing is said of a target that lost a request.
pub async fn sample(
    target: &Target,
    load: &Load,
    timing: Timing,
    ground: &Ground,
) -> Result<Sample, String> {
    let processes = target.processes(ground);
    let running = connected(load).await?;
    sleep(timing.warm_up).await;

    running.note_latencies();
    let began = Instant::now();
    let before = (Cpu::of(&processes), running.answers());
    let mut rss = rss_kib(&processes);
    loop {
        let left = timing.measured.saturating_sub(began.elapsed());
        if left.is_zero() || running.has_failed() {
            break;
        }
        sleep(left.min(LOOK)).await;
        rss = rss.max(rss_kib(&processes));
    }
    let seconds = began.elapsed().as_secs_f64();
    // In the same order as before, so that what happens between the two cancels out.
    let after = (Cpu::of(&processes), running.answers());

    let latencies = finish(running).await?;
    let answers = after.1 - before.1;
    if answers == 0 || latencies.is_empty() {
        return Err("not one answer came".to_owned());
    }
    let spent = after.0.since(&before.0, clock_ticks_per_second());
    let ms = |quantile| latencies.value_at_quantile(quantile) as f64 / 1e6;
    Ok(Sample {
        rps: answers as f64 / seconds,
        cpu_us: spent.total_us() / answers as f64,
        cpu_user_us: spent.user_us / answers as f64,
        cpu_system_us: spent.system_us / answers as f64,
        total_p50_ms: ms(0.5),
        total_p99_ms: ms(0.99),
        rss_kib: rss,
    })
}

/// Starts the load and waits until all its connections are open.
///
/// # Errors
/// They cannot be opened.
pub async fn connected(load: &Load) -> Result<Running, String> {
    let running = load
        .start()
        .map_err(|error| format!("no thread for the load: {error}"))?;
    let deadline = Instant::now() + CONNECT;
    while !running.is_connected() {
        if running.has_failed() {
            finish(running).await?;
            return Err("the load ended by itself".to_owned());
        }
        if Instant::now() > deadline {
            return Err(format!("the connections do not open within {CONNECT:?}"));
        }
        sleep(Duration::from_millis(1)).await;
    }
    Ok(running)
}

/// Ends the load; latencies in nanoseconds.
///
/// # Errors
/// What went wrong with it.
pub async fn finish(running: Running) -> Result<hdrhistogram::Histogram<u64>, String> {
    spawn_blocking(move || running.finish())
        .await
        .map_err(|error| error.to_string())?
}
