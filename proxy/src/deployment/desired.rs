//! What commands ask of every sidecar, beside what to run: `<state>/desired.json`.
//!
//! Deployers write it, in one step; sidecars only read it. A wish counts when it is new: what was
//! there when the sidecar started has been fulfilled by an earlier one, or by the start itself.
//! Only a pause goes on. Keys that are not known are left to those who know them.

use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::status::UnixMillis;
use crate::release::Digest;

/// The schema's number. It changes only when a key changes its meaning.
pub(crate) const SCHEMA: u32 = 1;

/// The content of the file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Desired {
    /// The schema's number.
    pub schema: u32,
    /// Grows with each change of the file.
    pub serial: u64,
    /// The digest of a refused release that shall be tried again.
    pub retry: Option<String>,
    /// Go back to another release.
    pub rollback: Option<Rollback>,
    /// Grows each time that somebody wants a new instance of the release that serves.
    pub restart: Option<u64>,
    /// Hold new requests.
    pub pause: Option<Pause>,
}

/// A wish to go back.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Rollback {
    /// The release's name; the one before when there is none.
    pub to: Option<String>,
    /// Grows with each such wish.
    pub serial: u64,
}

/// How long to hold new requests.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Pause {
    /// By the clock of whoever asked.
    pub until_ms: u64,
    /// From when the sidecar sees it, whatever the clocks say.
    pub max_ms: u64,
}

/// One wish, new.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Wish {
    /// Try this content again.
    Retry(Digest),
    /// Go back to this release, or to the one before.
    Rollback(Option<String>),
    /// A new instance.
    Restart,
    /// Hold new requests for so long.
    Pause(Duration),
    /// Hold them no longer.
    Resume,
}

// === impl Desired ===

impl Desired {
    /// What is wanted now and was not `before`; with nothing before, at the start of a sidecar,
    /// only what goes on.
    ///
    /// # Errors
    /// A digest that is none, as a person reads it; the other wishes count all the same.
    pub fn wishes(&self, before: Option<&Self>, now: SystemTime) -> (Vec<Wish>, Option<String>) {
        let mut wishes = Vec::new();
        let mut problem = None;
        if self.pause != before.and_then(|before| before.pause) {
            let remaining = self.pause.and_then(|pause| pause.remaining(now));
            wishes.push(remaining.map_or(Wish::Resume, Wish::Pause));
        }
        let Some(before) = before else {
            return (wishes, None);
        };
        if let Some(retry) = self.retry.as_deref()
            && self.retries(before)
        {
            match Digest::parse(retry) {
                Ok(digest) => wishes.push(Wish::Retry(digest)),
                Err(error) => problem = Some(format!("retry: {error}")),
            }
        }
        if let Some(rollback) = &self.rollback
            && rollback.serial > before.rollback.as_ref().map_or(0, |before| before.serial)
        {
            wishes.push(Wish::Rollback(rollback.to.clone()));
        }
        if self.restart.unwrap_or(0) > before.restart.unwrap_or(0) {
            wishes.push(Wish::Restart);
        }
        (wishes, problem)
    }

    /// What a file that says this now may have said at `moment`, when nobody could tell.
    pub(crate) fn at(&self, moment: UnixMillis) -> Self {
        let is_older = self.serial <= moment.0;
        Self {
            schema: SCHEMA,
            serial: moment.0,
            // Commands count in milliseconds, so that what they asked for since is seen to be new.
            rollback: Some(Rollback {
                to: None,
                serial: moment.0,
            }),
            restart: Some(moment.0),
            retry: self.retry.clone().filter(|_| is_older),
            pause: None,
        }
    }

    /// The same release may be tried again twice: then nothing changes but the serial.
    fn retries(&self, before: &Self) -> bool {
        let rest = |desired: &Self| (desired.rollback.clone(), desired.restart, desired.pause);
        self.retry != before.retry || self.serial > before.serial && rest(self) == rest(before)
    }
}

// === impl Pause ===

impl Pause {
    /// Nothing when it is over.
    fn remaining(self, now: SystemTime) -> Option<Duration> {
        let until = self.until_ms.saturating_sub(UnixMillis::from(now).0);
        let remaining = Duration::from_millis(until.min(self.max_ms));
        (!remaining.is_zero()).then_some(remaining)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(json: &str) -> Desired {
        serde_json::from_str(json).unwrap()
    }

    fn new_wishes(before: &str, after: &str) -> Vec<Wish> {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let (wishes, problem) = parse(after).wishes(Some(&parse(before)), now);
        assert_eq!(problem, None);
        wishes
    }

    #[test]
    fn only_what_is_new_counts() {
        let before = r#"{"serial":3,"restart":2,"rollback":{"to":null,"serial":1}}"#;
        assert_eq!(new_wishes(before, before), []);
        let after = r#"{"serial":4,"restart":3,"rollback":{"to":"v1","serial":2}}"#;
        assert_eq!(
            new_wishes(before, after),
            [Wish::Rollback(Some("v1".into())), Wish::Restart]
        );
        assert_eq!(new_wishes(after, before), []);
        let digest = format!("sha256:{}", "ab".repeat(32));
        let retry = format!(r#"{{"serial":4,"retry":"{digest}"}}"#);
        let again = format!(r#"{{"serial":5,"retry":"{digest}"}}"#);
        let other = format!(r#"{{"serial":6,"retry":"{digest}","restart":1}}"#);
        let digest = Digest::parse(&digest).unwrap();
        assert_eq!(new_wishes("{}", &retry), [Wish::Retry(digest)]);
        assert_eq!(new_wishes(&retry, &again), [Wish::Retry(digest)]);
        assert_eq!(new_wishes(&again, &other), [Wish::Restart]);
    }

    #[test]
    fn what_a_sidecar_finds_at_its_start_was_meant_for_another_but_a_pause_goes_on() {
        let now = SystemTime::UNIX_EPOCH + Duration::from_secs(100);
        let found = r#"{"serial":3,"restart":2,"pause":{"until_ms":160000,"max_ms":30000}}"#;
        let (wishes, _) = parse(found).wishes(None, now);
        assert_eq!(wishes, [Wish::Pause(Duration::from_secs(30))]);
    }

    #[test]
    fn a_pause_ends_by_either_clock() {
        let pause = |until_ms, max_ms| {
            let json = format!(r#"{{"pause":{{"until_ms":{until_ms},"max_ms":{max_ms}}}}}"#);
            new_wishes("{}", &json)
        };
        let seconds = Duration::from_secs;
        assert_eq!(pause(110_000, 60_000), [Wish::Pause(seconds(10))]);
        assert_eq!(pause(900_000, 60_000), [Wish::Pause(seconds(60))]);
        assert_eq!(pause(99_999, 60_000), [Wish::Resume]);
        let json = r#"{"pause":{"until_ms":110000,"max_ms":1}}"#;
        assert_eq!(new_wishes(json, r#"{"pause":null}"#), [Wish::Resume]);
    }
}
