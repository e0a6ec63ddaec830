//! Everything at once. `tests::chaos` says what is done, and what has to be true afterwards.
#![cfg(target_os = "linux")] // It kills, halts, mounts, and looks into /proc.

use std::time::Duration;

use tests::chaos;

fn assert_survived(seed: u64, time: Duration) {
    eprintln!("HANDOFF_CHAOS_SEED={seed}");
    let summary = chaos::run(seed, time);
    eprintln!("{summary}");
    assert!(summary.is_good(), "{summary}");
}

fn number(name: &str) -> Option<u64> {
    let value = std::env::var(name).ok()?;
    Some(value.parse().expect(name))
}

#[test]
fn a_round_of_everything_loses_no_request() {
    assert_survived(1, Duration::ZERO);
}

#[test]
#[ignore = "takes minutes: HANDOFF_CHAOS_SEED=1 cargo test -p tests --test it chaos:: -- --ignored --nocapture"]
fn rounds_of_everything_lose_no_request() {
    let seed = number("HANDOFF_CHAOS_SEED").unwrap_or_else(|| fastrand::u64(..1_000_000));
    let seconds = number("HANDOFF_CHAOS_SECONDS").unwrap_or(300);
    assert_survived(seed, Duration::from_secs(seconds));
}
