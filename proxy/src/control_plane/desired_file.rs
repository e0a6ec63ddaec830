//! Reading of `<state>/desired.json` by a sidecar, each time that it changes.

use std::fs;
use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::deployment::Fingerprint;
use crate::deployment::desired::{Desired, SCHEMA};
use crate::deployment::status::UnixMillis;

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
    use std::time::SystemTime;

    use super::*;
    use crate::deployment::desired::Wish;

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
