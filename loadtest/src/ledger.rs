//! The join of what clients saw with what apps wrote down. Pure.

use std::collections::BTreeMap;

use sample_app::journal::{Arrivals, Entry, Times};

use crate::generator::failure::{Failed, Failure};
use crate::generator::request::Request;

/// One request, as small as possible: a run has millions.
#[derive(Clone, Copy, Debug)]
pub struct Sample {
    pub request: Request,
    pub due_us: u64,
    pub ended_us: u64,
    pub latency_us: u64,
    pub service_us: u64,
    pub release: Option<u32>,
    /// Failure that the client saw.
    pub failed: Option<Failure>,
}

/// The result of the join.
#[derive(Debug, Default, Eq, PartialEq)]
pub struct Account {
    /// Failures by the number of the request.
    pub failed: BTreeMap<u64, Failed>,
    /// Number of idempotent requests that arrived twice, as they may.
    pub sent_again: u64,
    /// Lines of requests that were never sent.
    pub strangers: Vec<String>,
}

/// Joins both. The id of a request is its number.
pub fn settle(samples: &[Sample], journal: &[Entry]) -> Account {
    let mut arrivals = Arrivals::of(journal);
    let mut account = Account::default();
    for sample in samples {
        let seq = sample.request.seq;
        let lines = arrivals.take(&seq.to_string());
        let times = Times::of(&lines);
        account.sent_again += u64::from(times == Times::Again);
        // What the client saw comes first, but a repeated request is worse than a failed one.
        if let Some(failed) = find_failure(sample, &lines, times)
            && (sample.failed.is_none() || failed.kind == Failure::Repeated)
        {
            account.failed.insert(seq, failed);
        }
    }
    account.strangers = arrivals.rest().map(ToString::to_string).collect();
    account.strangers.sort_unstable();
    account
}

fn find_failure(sample: &Sample, lines: &[&Entry], times: Times) -> Option<Failed> {
    if times == Times::TooOften {
        let lines: Vec<String> = lines.iter().map(ToString::to_string).collect();
        let detail = format!("arrived {} times: {}", lines.len(), lines.join("; "));
        return Some(Failed::new(Failure::Repeated, detail));
    }
    let release = sample.release?;
    let Some(first) = lines.first() else {
        let detail = format!("answered by v{release}, and no app has written it down");
        return Some(Failed::new(Failure::Lost, detail));
    };
    let sent = sample.request.call.name();
    let is_other =
        |line: &&&Entry| sent.split_once(' ') != Some((line.method.as_str(), line.path.as_str()));
    if let Some(other) = lines.iter().find(is_other) {
        let detail = format!("{sent} arrived as {other}");
        return Some(Failed::new(Failure::MixedUp, detail));
    }
    let name = format!("v{release}");
    if lines.iter().all(|line| line.release != name) {
        let detail = format!("answered by {name}, taken by {first}");
        return Some(Failed::new(Failure::MixedUp, detail));
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::generator::request::{Call, Connection};

    fn sample(seq: u64, call: Call, release: Option<u32>) -> Sample {
        Sample {
            request: Request {
                seq,
                connection: Connection::Kept,
                call,
            },
            due_us: 0,
            ended_us: 1,
            latency_us: 1,
            service_us: 1,
            release,
            failed: release.is_none().then_some(Failure::Reset),
        }
    }

    fn found(sample: &Sample, lines: &[&str]) -> Option<Failure> {
        let journal: Vec<Entry> = lines.iter().map(|line| line.parse().unwrap()).collect();
        let account = settle(&[*sample], &journal);
        account.failed.get(&sample.request.seq).map(|f| f.kind)
    }

    #[test]
    fn a_request_that_arrived_once_where_its_answer_came_from_is_right() {
        let get = sample(7, Call::Version, Some(2));
        let lines = ["- GET / v1 17", "7 GET /version v2 18"];
        assert_eq!(found(&get, &lines), None);
    }

    #[test]
    fn each_kind_is_found_and_called_by_its_name() {
        let get = sample(7, Call::Version, Some(2));
        let post = sample(7, Call::Upload(9), Some(2));
        for (sample, lines, kind) in [
            (&get, &[][..], Failure::Lost),
            (&get, &["8 GET /version v2 18"], Failure::Lost),
            (&get, &["7 GET /version v1 17"], Failure::MixedUp),
            (&get, &["7 GET / v2 18"], Failure::MixedUp),
            (&get, &["7 GET /version v2 18"; 3], Failure::Repeated),
            (&post, &["7 POST /upload v2 18"; 2], Failure::Repeated),
            // Across generations, too.
            (
                &post,
                &["7 POST /upload v1 17", "7 POST /upload v2 18"],
                Failure::Repeated,
            ),
        ] {
            assert_eq!(found(sample, lines), Some(kind), "{lines:?}");
        }
    }

    #[test]
    fn what_a_client_saw_fail_may_have_arrived_or_not_but_once() {
        let failed = sample(7, Call::Upload(9), None);
        assert_eq!(found(&failed, &[]), None);
        assert_eq!(found(&failed, &["7 POST /upload v2 18"]), None);
        let twice = ["7 POST /upload v2 18"; 2];
        assert_eq!(found(&failed, &twice), Some(Failure::Repeated));
    }

    #[test]
    fn an_idempotent_request_may_be_sent_again_once() {
        let get = sample(7, Call::Version, Some(2));
        let lines = ["7 GET /version v1 17", "7 GET /version v2 18"];
        let journal = lines.map(|line| line.parse().unwrap());
        let account = settle(&[get], &journal);
        assert_eq!((account.failed.len(), account.sent_again), (0, 1));
    }

    #[test]
    fn a_line_of_no_request_is_a_strangers() {
        let journal = ["9 GET / v1 17", "- GET / v1 17"].map(|line| line.parse().unwrap());
        assert_eq!(settle(&[], &journal).strangers, ["9 GET / v1 17"]);
    }
}
