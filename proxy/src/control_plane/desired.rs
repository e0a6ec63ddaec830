//! What commands ask of every sidecar, beside what to run: `<state>/desired.json`.
//!
//! Deployers write it, in one step; sidecars only read it. A wish counts when it is new: what was
//! there when the sidecar started has been fulfilled by an earlier one, or by the start itself.
//! Only a pause goes on. Keys that are not known are left to those who know them.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use serde::{Deserialize, Serialize};

use super::artifact::Fingerprint;
use super::status::UnixMillis;
use crate::release::Digest;

/// The schema's number. It changes only when a key changes its meaning.
const SCHEMA: u32 = 1;

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

/// The file, and what it said last.
#[derive(Debug)]
pub struct DesiredFile {
    path: PathBuf,
    looked_at: Option<Fingerprint>,
    problem: Option<String>,
    start: Start,
}

/// Which wishes were there before the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Start {
    /// Nobody has been able to tell yet.
    Unknown,
    /// Those that were asked for before this moment, when the file could not be read or understood.
    Until(UnixMillis),
    /// They are known.
    Known,
}

/// What a look at the file tells.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Look {
    /// It says something else than before, or for the first time.
    Says {
        /// What it says.
        desired: Desired,
        /// Whether it has been there since before the sidecar.
        at_start: bool,
    },
    /// It cannot be understood; `None` when that is over.
    Problem(Option<String>),
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
    fn at(&self, moment: UnixMillis) -> Self {
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

// === impl Start ===

impl Start {
    /// What is asked for from now on is new.
    fn at_the_latest_now(self) -> Self {
        match self {
            Self::Unknown => Self::Until(UnixMillis::now()),
            Self::Until(_) | Self::Known => self,
        }
    }
}

// === impl DesiredFile ===

impl DesiredFile {
    /// The file in the folder `state`, not yet looked at.
    pub fn new(state: &Path) -> Self {
        Self {
            path: state.join("desired.json"),
            looked_at: None,
            problem: None,
            start: Start::Unknown,
        }
    }

    /// The folder in which a change may mean a wish.
    pub fn folder(&self) -> Option<&Path> {
        self.path.parent()
    }

    /// Looks at it, and reads it if it has changed.
    pub fn look(&mut self) -> Option<Look> {
        let content = match self.changed() {
            Ok(content) => content?,
            Err(error) => {
                self.looked_at = None;
                if error.kind() != ErrorKind::NotFound {
                    self.start = self.start.at_the_latest_now();
                    return self.report(Some(format!("cannot read {:?}: {error}", self.path)));
                }
                // Nobody has ever asked for anything, unless its folder cannot be seen either.
                if self.folder().is_some_and(Path::is_dir) {
                    self.start = Start::Known;
                }
                return self.report(None);
            }
        };
        let desired = match self.parse(&content) {
            Ok(desired) => desired,
            Err(problem) => {
                self.start = self.start.at_the_latest_now();
                return self.report(Some(problem));
            }
        };
        self.problem = None;
        let start = std::mem::replace(&mut self.start, Start::Known);
        let (desired, at_start) = match start {
            Start::Known => (desired, false),
            Start::Unknown => (desired, true),
            Start::Until(moment) => {
                // The next look tells of what was asked for since.
                self.looked_at = None;
                (desired.at(moment), true)
            }
        };
        Some(Look::Says { desired, at_start })
    }

    /// Its content, if that may have changed since it was last read.
    fn changed(&mut self) -> io::Result<Option<Vec<u8>>> {
        let fingerprint = Fingerprint::of(&self.path)?;
        if self.looked_at.as_ref() == Some(&fingerprint) {
            return Ok(None);
        }
        let content = fs::read(&self.path)?;
        self.looked_at = Some(fingerprint);
        Ok(Some(content))
    }

    fn parse(&self, content: &[u8]) -> Result<Desired, String> {
        let path = &self.path;
        // Editors on Windows begin a file with a byte order mark.
        let json = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
        let desired: Desired = serde_json::from_slice(json)
            .map_err(|error| format!("{path:?} cannot be understood: {error}"))?;
        match desired.schema <= SCHEMA {
            true => Ok(desired),
            false => Err(format!(
                "{path:?} has the schema {}, and this handoff knows {SCHEMA}: upgrade it",
                desired.schema
            )),
        }
    }

    fn report(&mut self, problem: Option<String>) -> Option<Look> {
        if self.problem == problem {
            return None;
        }
        self.problem.clone_from(&problem);
        Some(Look::Problem(problem))
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

    #[test]
    fn what_cannot_be_understood_is_told_once_and_so_is_its_end() {
        let state = tempfile::tempdir().unwrap();
        let mut file = DesiredFile::new(state.path());
        assert_eq!(file.look(), None);
        let path = state.path().join("desired.json");
        fs::write(&path, "{\"serial\": ").unwrap();
        let Some(Look::Problem(Some(problem))) = file.look() else {
            panic!("half a file is a problem");
        };
        assert!(problem.contains("desired.json"), "{problem}");
        assert_eq!(file.look(), None);
        fs::write(&path, r#"{"schema":1,"serial":7,"of_tomorrow":[1]}"#).unwrap();
        let Some(Look::Says { desired, .. }) = file.look() else {
            panic!("it is mended");
        };
        assert_eq!(desired.serial, 7);
        assert_eq!(file.look(), None);
        fs::write(&path, r#"{"schema":2,"serial":8888}"#).unwrap();
        assert!(matches!(file.look(), Some(Look::Problem(Some(_)))));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.look(), Some(Look::Problem(None)));
    }

    fn file() -> (tempfile::TempDir, PathBuf, DesiredFile) {
        let state = tempfile::tempdir().unwrap();
        let (path, file) = (
            state.path().join("desired.json"),
            DesiredFile::new(state.path()),
        );
        (state, path, file)
    }

    /// What a sidecar is told to do.
    fn wishes(file: &mut DesiredFile) -> Vec<Wish> {
        let (mut before, mut wishes) = (None, Vec::new());
        while let Some(look) = file.look() {
            let Look::Says { desired, at_start } = look else {
                continue;
            };
            let known = (!at_start).then(|| before.take().unwrap_or_default());
            let now = SystemTime::now();
            wishes.extend(desired.wishes(known.as_ref(), now).0);
            before = Some(desired);
        }
        wishes
    }

    #[test]
    fn what_could_not_be_understood_at_the_start_is_no_new_wish_once_it_is_mended() {
        let (_state, path, mut file) = file();
        fs::write(&path, "{\"serial\": 7, ").unwrap();
        assert!(matches!(file.look(), Some(Look::Problem(Some(_)))));
        let digest = "ab".repeat(32);
        let old =
            format!(r#"{{"serial":7,"restart":3,"rollback":{{"serial":2}},"retry":"{digest}"}}"#);
        fs::write(&path, old).unwrap();
        assert_eq!(wishes(&mut file), []);
    }

    #[test]
    fn what_a_command_asks_for_in_its_place_is_a_new_wish() {
        let (_state, path, mut file) = file();
        fs::write(&path, "").unwrap();
        assert!(matches!(file.look(), Some(Look::Problem(Some(_)))));
        let serial = UnixMillis::now().0 + 1;
        fs::write(
            &path,
            format!(r#"{{"serial":{serial},"restart":{serial}}}"#),
        )
        .unwrap();
        assert_eq!(wishes(&mut file), [Wish::Restart]);
    }

    #[cfg(unix)]
    #[test]
    fn what_could_not_be_read_is_read_as_soon_as_it_can_be() {
        let (state, path, mut file) = file();
        // A folder of this name cannot be read, whoever asks.
        fs::create_dir(&path).unwrap();
        assert!(matches!(file.look(), Some(Look::Problem(Some(_)))));
        assert_eq!(
            file.looked_at, None,
            "it is read again, though it is the same"
        );
        assert_eq!(file.look(), None, "told once");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, r#"{"serial":7,"restart":3}"#).unwrap();
        assert_eq!(wishes(&mut file), [], "it may have said that before");
        drop(state);
    }
}
