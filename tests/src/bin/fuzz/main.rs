//! Random input for the pure parts of handoff: no input may panic, and what each has to hold is
//! asserted.
//!
//!     cargo run --release -p tests --bin fuzz -- --seconds 60
//!     cargo run --release -p tests --bin fuzz -- --seconds 60 --target headers --seed 7
//!
//! Each target runs for so many seconds from the same seed, which is printed: the same seed gives
//! the same inputs. A finding is shrunk, shown, and ends this with 1. cargo-fuzz would look for new
//! paths by itself, but needs a nightly compiler, which neither this project nor its CI uses; the
//! generators here know the shapes instead.

use std::num::NonZeroUsize;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use proptest::prelude::*;
use proptest::test_runner::{Config, RngAlgorithm, TestCaseError, TestError, TestRng, TestRunner};

mod frames;
mod headers;
mod pointer;
mod wire;

/// Number of inputs between two looks at the clock.
const BATCH: u32 = 500;
const USAGE: &str = "usage: fuzz [--seconds N] [--seed N] [--target NAME]";

/// A part under test.
struct Target {
    name: &'static str,
    run: fn(&mut TestRunner) -> Result<(), String>,
}

const TARGETS: [Target; 6] = [
    Target {
        name: "headers-to-app",
        run: |runner| check(runner, headers::request(), headers::to_app),
    },
    Target {
        name: "headers-to-client",
        run: |runner| check(runner, headers::answer(), headers::to_client),
    },
    Target {
        name: "answer-head",
        run: |runner| check(runner, wire::head(), wire::read_head),
    },
    Target {
        name: "answer-body",
        run: |runner| check(runner, wire::body(), wire::decode),
    },
    Target {
        name: "websocket-frames",
        run: |runner| check(runner, frames::stream(), frames::advance),
    },
    Target {
        name: "pointer",
        run: |runner| check(runner, pointer::content(), pointer::parse),
    },
];

fn main() -> ExitCode {
    let (mut seconds, mut seed, mut only) = (10, 1, None);
    let mut args = std::env::args().skip(1);
    while let Some(name) = args.next() {
        let value = args.next();
        let number = value.as_ref().and_then(|value| value.parse::<u64>().ok());
        match (name.as_str(), number, value) {
            ("--seconds", Some(number), _) => seconds = number,
            ("--seed", Some(number), _) => seed = number,
            ("--target", _, Some(value)) => only = Some(value),
            _ => {
                eprintln!("{name:?} is not understood\n{USAGE}");
                return ExitCode::from(2);
            }
        }
    }
    let is_meant = |target: &&Target| only.as_ref().is_none_or(|only| target.name.contains(only));
    let targets: Vec<_> = TARGETS.iter().filter(is_meant).collect();
    if targets.is_empty() {
        let names = TARGETS.map(|target| target.name).join(", ");
        eprintln!("no such target: there are {names}");
        return ExitCode::from(2);
    }
    println!("seed {seed}, {seconds} s each");
    // A panic is a finding like any other, and shown as one.
    std::panic::set_hook(Box::new(|_| {}));
    let time = Duration::from_secs(seconds);
    let mut total = 0;
    // A processor each.
    let at_once = thread::available_parallelism().map_or(1, NonZeroUsize::get);
    for targets in targets.chunks(at_once) {
        let found: Vec<_> = thread::scope(|scope| {
            let fuzz = |target| scope.spawn(move || fuzz(target, time, seed));
            let fuzzing: Vec<_> = targets.iter().map(|target| fuzz(*target)).collect();
            fuzzing
                .into_iter()
                .map(thread::ScopedJoinHandle::join)
                .collect()
        });
        for (target, found) in targets.iter().zip(found) {
            match found.unwrap_or_else(|_| Err("a panic in the fuzzer itself".to_owned())) {
                Ok(inputs) => total += inputs,
                Err(finding) => {
                    println!("{}: {finding}", target.name);
                    return ExitCode::FAILURE;
                }
            }
        }
    }
    println!("{total} inputs, no finding");
    ExitCode::SUCCESS
}

fn fuzz(target: &Target, time: Duration, seed: u64) -> Result<u64, String> {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(&seed.to_le_bytes());
    let config = Config {
        cases: BATCH,
        failure_persistence: None,
        ..Config::default()
    };
    let rng = TestRng::from_seed(RngAlgorithm::ChaCha, &bytes);
    let mut runner = TestRunner::new_with_rng(config, rng);
    let since = Instant::now();
    let mut inputs = 0;
    while since.elapsed() < time {
        (target.run)(&mut runner)?;
        inputs += u64::from(BATCH);
    }
    let rate = inputs as f64 / since.elapsed().as_secs_f64();
    println!("{:17} {inputs:>9} inputs {rate:>8.0}/s", target.name);
    Ok(inputs)
}

/// One batch.
fn check<S: Strategy>(
    runner: &mut TestRunner,
    inputs: S,
    holds: fn(S::Value) -> Result<(), TestCaseError>,
) -> Result<(), String> {
    for _ in 0..BATCH {
        let tree = inputs.new_tree(runner).map_err(|why| why.to_string())?;
        match runner.run_one(tree, holds) {
            Err(TestError::Fail(why, input)) => {
                return Err(format!("{why}\nminimal input: {input:#?}"));
            }
            Err(TestError::Abort(why)) => return Err(why.to_string()),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Any bytes, but often those that mean something.
fn soup(words: &'static [&'static str], most: usize) -> impl Strategy<Value = Vec<u8>> {
    let word = proptest::sample::select(words).prop_map(|word| word.as_bytes().to_vec());
    let bytes = proptest::collection::vec(any::<u8>(), 0..4);
    let part = prop_oneof![4 => word, 1 => bytes];
    proptest::collection::vec(part, 0..most).prop_map(|parts| parts.concat())
}
