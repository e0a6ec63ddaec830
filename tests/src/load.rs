//! Steady load: requests at a fixed rate, whatever becomes of the ones before. `loadtest` offers it.

use std::collections::BTreeMap;
use std::fmt;
use std::net::SocketAddr;
use std::num::{NonZeroU32, NonZeroUsize};
use std::sync::Arc;
use std::sync::atomic::AtomicU32;

use loadtest::generator::mix::Mix;
use loadtest::generator::outcome::Outcome;
use loadtest::generator::request::Destination;
use loadtest::generator::{Generator, LoadPlan, Releases};
use tokio::sync::mpsc::{UnboundedReceiver, unbounded_channel};

use crate::wait::DEADLINE;

/// Number of kept connections; every other request is sent on a new one.
const CONNECTIONS: NonZeroUsize = NonZeroUsize::new(8).expect("some");

/// Load on one address, until it is ended.
#[derive(Debug)]
pub struct Load {
    generator: Generator,
    outcomes: UnboundedReceiver<Outcome>,
}

/// The outcomes that clients saw.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Requests.
    pub sent: u64,
    /// Those with a whole and right answer, by release.
    pub answered: BTreeMap<String, usize>,
    /// All others, by kind.
    pub failed: BTreeMap<String, usize>,
}

// === impl Load ===

impl Load {
    /// Offers so many requests a second, on Windows a tenth of it: Wine's server is slow.
    pub fn offer(address: SocketAddr, rate: u32) -> Self {
        let rate = if cfg!(windows) {
            rate.div_ceil(10)
        } else {
            rate
        };
        let rate = NonZeroU32::new(rate).expect("a rate");
        let (sender, outcomes) = unbounded_channel();
        let plan = LoadPlan {
            server: address,
            destination: Destination::at(address),
            rate,
            connections: CONNECTIONS,
            timeout: DEADLINE,
            deployed: Arc::new(AtomicU32::new(u32::MAX)),
            mix: Mix::plain(rate, CONNECTIONS),
            // Two sidecars of one site need not swap at the same time.
            releases: Releases::Named,
            has_journal: false,
        };
        let generator = Generator::start(plan, sender).expect("load");
        Self {
            generator,
            outcomes,
        }
    }

    /// Offers no more, and waits for every answer.
    pub fn end(mut self) -> Tally {
        self.generator.stop();
        let mut tally = Tally {
            sent: self.generator.join().expect("the end of the load"),
            ..Tally::default()
        };
        while let Some(outcome) = self.outcomes.blocking_recv() {
            let (counts, name) = match (outcome.release, outcome.failed) {
                (Some(release), None) => (&mut tally.answered, format!("v{release}")),
                (_, failed) => {
                    let failed = failed.map_or_else(
                        || "unnamed".to_owned(),
                        |failed| format!("{}: {}", failed.kind, failed.detail),
                    );
                    (&mut tally.failed, failed)
                }
            };
            *counts.entry(name).or_default() += 1;
        }
        tally
    }
}

// === impl Tally ===

impl Tally {
    /// Requests without a whole and right answer.
    pub fn lost(&self) -> usize {
        self.failed.values().sum()
    }
}

impl fmt::Display for Tally {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} requests, {} lost", self.sent, self.lost())?;
        let mut separator = ": ";
        for (kind, count) in &self.failed {
            write!(f, "{separator}{kind} {count}")?;
            separator = ", ";
        }
        Ok(())
    }
}
