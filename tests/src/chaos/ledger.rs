//! The account of a run: what clients saw, joined with what the apps wrote down.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use sample_app::journal::{Arrivals, Entry, Times};

/// Longest time between a promotion and its line in the log.
const LOG_LAG: Duration = Duration::from_secs(2);

/// All that is known of a run. Times are since its start.
#[derive(Clone, Debug, Default)]
pub struct Ledger {
    /// The outcomes that clients saw.
    pub seen: Vec<Seen>,
    /// The entries that the apps wrote.
    pub journal: Vec<Entry>,
    /// The kills.
    pub kills: Vec<Kill>,
    /// Moment at which each release got requests for the first time.
    pub promoted: BTreeMap<String, Duration>,
    /// Largest number of connections that clients had.
    pub connections: usize,
}

/// One request, as its client saw it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// Its own.
    pub id: String,
    /// Its method.
    pub method: &'static str,
    /// Moment before it was sent.
    pub began: Duration,
    /// Moment after the last byte of its answer.
    pub ended: Duration,
    /// The outcome of a request.
    pub outcome: Outcome,
}

/// The outcome of a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// A whole and right answer of this release.
    Answered(String),
    /// A visible failure: a status that says so, or no whole answer.
    Failed(String),
    /// A fault: something wrong that looks right, or nothing for ever.
    Wrong(String),
}

/// Something was killed.
#[derive(Clone, Debug)]
pub struct Kill {
    /// The process that was killed.
    pub victim: Victim,
    /// Moment before the kill.
    pub from: Duration,
    /// Moment at which it was gone, and handoff knew.
    pub to: Duration,
}

/// The process that was killed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Victim {
    /// handoff, and all that it runs.
    Handoff,
    /// One app.
    App(u32),
}

/// A violation of what has to hold.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Finding {
    /// A request failed, and nothing that was killed explains it.
    Lost {
        id: String,
        why: String,
        from: Duration,
        to: Duration,
        journal: Vec<String>,
    },
    /// A wrong answer, or one of another release than the one that took the request.
    MixedUp { id: String, how: String },
    /// An answer that no app gave.
    FromNowhere { id: String, release: String },
    /// It arrived more often than it may.
    Repeated {
        id: String,
        line: String,
        times: usize,
    },
    /// The release was never promoted, or had not been yet.
    NotPromoted { id: String, release: String },
    /// An app got a request that no client sent.
    Unknown { line: String },
    /// More requests failed than can have been in flight.
    TooMany {
        kill: String,
        failed: usize,
        most: usize,
    },
}

/// The result of a run.
#[derive(Clone, Debug, Default)]
pub struct Account {
    /// A violation of what has to hold.
    pub findings: Vec<Finding>,
    /// Requests that were answered, by release.
    pub answered: BTreeMap<String, usize>,
    /// Requests in flight at a kill, and how their clients saw it.
    pub exempt: BTreeMap<String, usize>,
    /// Idempotent requests that arrived twice.
    pub sent_again: usize,
}

// === impl Ledger ===

impl Ledger {
    /// Joins it all.
    pub fn settle(&self) -> Account {
        let mut account = Account::default();
        let mut journal = Arrivals::of(&self.journal);
        let mut failed = vec![0; self.kills.len()];
        for seen in &self.seen {
            let entries = journal.take(&seen.id);
            self.arrivals(&entries, &mut account);
            match &seen.outcome {
                Outcome::Answered(release) => {
                    self.answer(seen, release, &entries, &mut account);
                }
                Outcome::Failed(why) => match self.killed(seen, &entries) {
                    Some(kill) => {
                        failed[kill] += 1;
                        *account.exempt.entry(why.clone()).or_default() += 1;
                    }
                    None => account.finds(Finding::Lost {
                        id: seen.id.clone(),
                        why: why.clone(),
                        from: seen.began,
                        to: seen.ended,
                        journal: entries.iter().map(ToString::to_string).collect(),
                    }),
                },
                Outcome::Wrong(how) => account.finds(Finding::MixedUp {
                    id: seen.id.clone(),
                    how: how.clone(),
                }),
            }
        }
        for entry in journal.rest() {
            let line = entry.to_string();
            account.finds(Finding::Unknown { line });
        }
        for (kill, failed) in self.kills.iter().zip(failed) {
            let most = self.connections;
            if failed > most {
                let kill = format!("{kill:?}");
                account.finds(Finding::TooMany { kill, failed, most });
            }
        }
        account.findings.sort();
        account
    }

    fn arrivals(&self, entries: &[&Entry], account: &mut Account) {
        match Times::of(entries) {
            Times::Never | Times::Once => {}
            Times::Again => account.sent_again += 1,
            Times::TooOften => {
                let lines: Vec<_> = entries.iter().map(ToString::to_string).collect();
                account.finds(Finding::Repeated {
                    id: entries[0].id.clone(),
                    line: lines.join("; "),
                    times: entries.len(),
                });
            }
        }
    }

    fn answer(&self, seen: &Seen, release: &str, entries: &[&Entry], account: &mut Account) {
        *account.answered.entry(release.to_owned()).or_default() += 1;
        let id = seen.id.clone();
        if entries.is_empty() {
            let release = release.to_owned();
            return account.finds(Finding::FromNowhere { id, release });
        }
        if !entries
            .iter()
            .any(|entry| entry.release == release && entry.method == seen.method)
        {
            let entry = entries[0];
            let method = seen.method;
            let how = format!("{method} answered by {release}, taken as {entry}");
            return account.finds(Finding::MixedUp { id, how });
        }
        let promoted = self.promoted.get(release);
        if promoted.is_none_or(|promoted| seen.ended + LOG_LAG < *promoted) {
            let release = release.to_owned();
            account.finds(Finding::NotPromoted { id, release });
        }
    }

    /// Returns the kill that explains a failed request: it happened meanwhile, to whoever had it,
    /// if anybody had.
    fn killed(&self, seen: &Seen, entries: &[&Entry]) -> Option<usize> {
        self.kills.iter().position(|kill| {
            let meanwhile = seen.began <= kill.to && kill.from <= seen.ended;
            let had_it = match &kill.victim {
                Victim::Handoff => true,
                Victim::App(pid) => {
                    entries.is_empty() || entries.iter().any(|entry| entry.pid == *pid)
                }
            };
            meanwhile && had_it
        })
    }
}

// === impl Account ===

impl Account {
    fn finds(&mut self, finding: Finding) {
        self.findings.push(finding);
    }
}

impl fmt::Display for Account {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self {
            findings,
            answered,
            exempt,
            sent_again,
        } = self;
        let (all, releases) = (answered.values().sum::<usize>(), answered.len());
        let in_flight: usize = exempt.values().sum();
        writeln!(f, "answered: {all}, by {releases} releases")?;
        writeln!(f, "in flight at a kill: {in_flight} {exempt:?}")?;
        writeln!(f, "idempotent, and sent again: {sent_again}")?;
        write!(f, "findings: {}", findings.len())?;
        for finding in findings.iter().take(30) {
            write!(f, "\n  {finding:?}")?;
        }
        Ok(())
    }
}
