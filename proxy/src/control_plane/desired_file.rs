//! Reads `<state>/desired.json` for a sidecar, each time that it changes.

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};

use crate::deployment::Fingerprint;
use crate::deployment::desired::{Desired, FILE_NAME, SCHEMA};
use crate::deployment::status::UnixMillis;
use crate::os::files;

/// The file, and its content at the last reading.
#[derive(Debug)]
pub struct DesiredFile {
    path: PathBuf,
    /// State of the file when it was read last.
    fingerprint: Option<Fingerprint>,
    problem: Option<String>,
    baseline: Baseline,
}

/// The commands that are older than the sidecar.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Baseline {
    /// It is not known yet.
    Unknown,
    /// Those from before this moment, at which the file could not be read or understood.
    Until(UnixMillis),
    /// Known: the file has been read, or there was none.
    Known,
}

/// A change of the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DesiredChange {
    /// It has other content than before, or was read for the first time.
    Content {
        /// The content.
        desired: Box<Desired>,
        /// True if it is older than the sidecar.
        at_start: bool,
    },
    /// The reason why it cannot be understood; `None` when that is over.
    Problem(Option<String>),
}

// === impl Baseline ===

impl Baseline {
    /// Returns the baseline after a failed reading: commands from now on are new.
    fn or_now(self) -> Self {
        match self {
            Self::Unknown => Self::Until(UnixMillis::now()),
            Self::Until(_) | Self::Known => self,
        }
    }
}

// === impl DesiredFile ===

impl DesiredFile {
    /// Creates a reader of the file in the folder `state`, which has not been read.
    pub fn new(state: &Path) -> Self {
        Self {
            path: state.join(FILE_NAME),
            fingerprint: None,
            problem: None,
            baseline: Baseline::Unknown,
        }
    }

    /// Returns the path of the file.
    pub fn path(&self) -> &Path {
        &self.path
    }

    /// Reads the file if it has changed, and returns the change.
    ///
    /// One change of the file may be several here: call this until it returns nothing.
    pub fn poll(&mut self) -> Option<DesiredChange> {
        let content = match self.read_changed() {
            Ok(content) => content?,
            Err(error) => {
                self.fingerprint = None;
                if error.kind() != ErrorKind::NotFound {
                    self.baseline = self.baseline.or_now();
                    return self.report(Some(format!("cannot read {:?}: {error}", self.path)));
                }
                // There has never been a command, unless the folder cannot be seen either.
                if self.path.parent().is_some_and(Path::is_dir) {
                    self.baseline = Baseline::Known;
                }
                return self.report(None);
            }
        };
        let desired = match self.parse(&content) {
            Ok(desired) => desired,
            Err(problem) => {
                self.baseline = self.baseline.or_now();
                return self.report(Some(problem));
            }
        };
        self.problem = None;
        let baseline = std::mem::replace(&mut self.baseline, Baseline::Known);
        let (desired, at_start) = match baseline {
            Baseline::Known => (desired, false),
            Baseline::Unknown => (desired, true),
            Baseline::Until(moment) => {
                // The next call returns what was written since.
                self.fingerprint = None;
                (desired.assumed_at(moment), true)
            }
        };
        let desired = Box::new(desired);
        Some(DesiredChange::Content { desired, at_start })
    }

    /// Returns the content, if it may have changed since it was read last.
    fn read_changed(&mut self) -> io::Result<Option<Vec<u8>>> {
        let fingerprint = Fingerprint::of(&self.path)?;
        if self.fingerprint.as_ref() == Some(&fingerprint) {
            return Ok(None);
        }
        let content = files::read_small(&self.path)?;
        self.fingerprint = Some(fingerprint);
        Ok(Some(content))
    }

    fn parse(&self, content: &[u8]) -> Result<Desired, String> {
        let path = &self.path;
        let desired = Desired::parse(content)
            .map_err(|error| format!("{path:?} cannot be understood: {error}"))?;
        if desired.schema > SCHEMA {
            return Err(format!(
                "{path:?} has the schema {}, and this handoff knows {SCHEMA}: upgrade it",
                desired.schema
            ));
        }
        Ok(desired)
    }

    /// Returns a problem that is new, or the end of one.
    fn report(&mut self, problem: Option<String>) -> Option<DesiredChange> {
        if self.problem == problem {
            return None;
        }
        self.problem.clone_from(&problem);
        Some(DesiredChange::Problem(problem))
    }
}

#[cfg(test)]
mod tests {
    use std::time::SystemTime;

    use std::fs;

    use super::*;
    use crate::deployment::desired::ControlCommand;

    #[test]
    fn what_cannot_be_understood_is_told_once_and_so_is_its_end() {
        let state = tempfile::tempdir().unwrap();
        let mut file = DesiredFile::new(state.path());
        assert_eq!(file.poll(), None);
        let path = state.path().join(FILE_NAME);
        fs::write(&path, "{\"serial\": ").unwrap();
        let Some(DesiredChange::Problem(Some(problem))) = file.poll() else {
            panic!("half a file is a problem");
        };
        assert!(problem.contains(FILE_NAME), "{problem}");
        assert_eq!(file.poll(), None);
        fs::write(&path, r#"{"schema":1,"serial":7,"of_tomorrow":[1]}"#).unwrap();
        let Some(DesiredChange::Content { desired, .. }) = file.poll() else {
            panic!("it is mended");
        };
        assert_eq!(desired.serial, 7);
        assert_eq!(file.poll(), None);
        fs::write(&path, r#"{"schema":2,"serial":8888}"#).unwrap();
        assert!(matches!(file.poll(), Some(DesiredChange::Problem(Some(_)))));
        fs::remove_file(&path).unwrap();
        assert_eq!(file.poll(), Some(DesiredChange::Problem(None)));
    }

    fn file() -> (tempfile::TempDir, PathBuf, DesiredFile) {
        let state = tempfile::tempdir().unwrap();
        let (path, file) = (state.path().join(FILE_NAME), DesiredFile::new(state.path()));
        (state, path, file)
    }

    /// Returns the commands that a sidecar executes.
    fn commands(file: &mut DesiredFile) -> Vec<ControlCommand> {
        let (mut before, mut commands) = (None, Vec::new());
        while let Some(change) = file.poll() {
            let DesiredChange::Content { desired, at_start } = change else {
                continue;
            };
            let known = (!at_start).then(|| before.take().unwrap_or_default());
            let now = SystemTime::now();
            let (new, _) = desired.commands_since(known.as_ref(), now);
            commands.extend(new.into_iter().map(|it| it.command));
            before = Some(*desired);
        }
        commands
    }

    #[test]
    fn what_could_not_be_understood_at_the_start_is_no_new_wish_once_it_is_mended() {
        let (_state, path, mut file) = file();
        fs::write(&path, "{\"serial\": 7, ").unwrap();
        assert!(matches!(file.poll(), Some(DesiredChange::Problem(Some(_)))));
        let digest = "ab".repeat(32);
        let old =
            format!(r#"{{"serial":7,"restart":3,"rollback":{{"serial":2}},"retry":"{digest}"}}"#);
        fs::write(&path, old).unwrap();
        assert_eq!(commands(&mut file), []);
    }

    #[test]
    fn what_a_command_asks_for_in_its_place_is_a_new_wish() {
        let (_state, path, mut file) = file();
        fs::write(&path, "").unwrap();
        assert!(matches!(file.poll(), Some(DesiredChange::Problem(Some(_)))));
        let serial = UnixMillis::now().0 + 1;
        fs::write(
            &path,
            format!(r#"{{"serial":{serial},"restart":{serial}}}"#),
        )
        .unwrap();
        assert_eq!(commands(&mut file), [ControlCommand::Restart]);
    }

    #[cfg(unix)]
    #[test]
    fn what_could_not_be_read_is_read_as_soon_as_it_can_be() {
        let (state, path, mut file) = file();
        // A folder of this name cannot be read, even by root.
        fs::create_dir(&path).unwrap();
        assert!(matches!(file.poll(), Some(DesiredChange::Problem(Some(_)))));
        assert_eq!(
            file.fingerprint, None,
            "it is read again, though it is the same"
        );
        assert_eq!(file.poll(), None, "told once");
        fs::remove_dir(&path).unwrap();
        fs::write(&path, r#"{"serial":7,"restart":3}"#).unwrap();
        assert_eq!(commands(&mut file), [], "it may have said that before");
        drop(state);
    }
}
