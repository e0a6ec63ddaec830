//! The status that handoff publishes in `<state>/sidecars/<id>.json`.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

use super::swap::{Phases, Swap};

/// One sidecar, as far as it matters here. Times are unix milliseconds.
#[derive(Debug, Deserialize)]
pub struct Status {
    pub listen: SocketAddr,
    #[serde(default)]
    pub started_ms: u64,
    pub active: Option<Active>,
    pub last_failure: Option<LastFailure>,
    #[serde(default)]
    pub handoffs: Vec<HandoffEntry>,
}

#[derive(Debug, Deserialize)]
pub struct Active {
    pub digest: String,
}

#[derive(Debug, Deserialize)]
pub struct LastFailure {
    pub reason: String,
}

/// The way of one release, from its detection to the end of the previous one.
#[derive(Debug, Deserialize)]
pub struct HandoffEntry {
    pub digest: String,
    #[serde(default)]
    pub outcome: String,
    #[serde(flatten)]
    pub at: Phases,
    pub reason: Option<String>,
}

impl Status {
    /// Reads the status of the sidecar that started last; none if there is none yet.
    ///
    /// # Errors
    /// A file cannot be read or is no status.
    pub fn read(folder: &Path) -> io::Result<Option<Self>> {
        let files = match fs::read_dir(folder) {
            Ok(files) => files,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(error),
        };
        let mut newest: Option<Self> = None;
        for file in files {
            let path = file?.path();
            if path.extension().is_none_or(|extension| extension != "json") {
                continue;
            }
            let status: Self = serde_json::from_slice(&fs::read(&path)?)
                .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
            let is_newer = |newest: &Self| newest.started_ms < status.started_ms;
            if newest.as_ref().is_none_or(is_newer) {
                newest = Some(status);
            }
        }
        Ok(newest)
    }

    /// Notes the known steps of each swap.
    pub fn fill(&self, swaps: &mut [Swap]) {
        for swap in swaps {
            let digest = format!("sha256:{}", swap.sha256);
            // A release that is tried again has one entry for each try; the last one counts.
            let Some(entry) = self.handoffs.iter().rfind(|entry| entry.digest == digest) else {
                continue;
            };
            let since = |at: Option<u64>| Some(at?.saturating_sub(swap.written_ms));
            swap.phases = Phases {
                detected_ms: since(entry.at.detected_ms),
                copied_ms: since(entry.at.copied_ms),
                launched_ms: since(entry.at.launched_ms),
                ready_ms: since(entry.at.ready_ms),
                promoted_ms: since(entry.at.promoted_ms),
                drained_ms: since(entry.at.drained_ms),
                stopped_ms: since(entry.at.stopped_ms),
            };
            if entry.outcome == "refused" {
                let reason = entry.reason.as_deref().unwrap_or("no reason given");
                swap.refused = Some(reason.to_owned());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::release::Release;
    use super::*;

    const STATUS: &str = r#"{"schema":1,"listen":"127.0.0.1:8080","started_ms":7,"new_key":[1],
        "active":{"generation":2,"digest":"sha256:bb"},"last_failure":null,
        "handoffs":[
          {"digest":"sha256:aa","outcome":"promoted","detected_ms":5,"copied_ms":5,"reason":null},
          {"digest":"sha256:bb","outcome":"promoted","detected_ms":1004,"copied_ms":1010,
           "launched_ms":1011,"ready_ms":1050,"promoted_ms":1051,"drained_ms":1600,"stopped_ms":null},
          {"digest":"sha256:cc","outcome":"refused","detected_ms":1999,"reason":"it exited"}]}"#;

    fn swap(sha256: &str, written_ms: u64) -> Swap {
        let release = Release {
            sha256: sha256.to_owned(),
            ..Release::numbered(2)
        };
        Swap {
            written_ms,
            ..Swap::of(&release)
        }
    }

    #[test]
    fn the_newest_status_in_the_folder_is_read() {
        let folder = tempfile::tempdir().unwrap();
        let sidecars = folder.path().join("sidecars");
        assert!(Status::read(&sidecars).unwrap().is_none());
        fs::create_dir(&sidecars).unwrap();
        assert!(Status::read(&sidecars).unwrap().is_none());
        fs::write(sidecars.join("a.json"), STATUS).unwrap();
        let older = STATUS.replace("8080", "8081").replace(":7,", ":6,");
        fs::write(sidecars.join("b.json"), older).unwrap();
        fs::write(sidecars.join("b.json.tmp"), "{").unwrap();
        let status = Status::read(&sidecars).unwrap().unwrap();
        assert_eq!(status.listen.port(), 8080);
        assert_eq!(status.active.unwrap().digest, "sha256:bb");
        fs::write(sidecars.join("c.json"), "{").unwrap();
        let error = Status::read(&sidecars).unwrap_err().to_string();
        assert!(error.contains("c.json"), "{error}");
    }

    #[test]
    fn swaps_are_found_by_digest_and_timed_from_their_deploy() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let mut swaps = [swap("bb", 1000), swap("cc", 1990), swap("dd", 3000)];
        status.fill(&mut swaps);
        let [second, third, unknown] = swaps;
        assert_eq!(
            second.phases.ends(),
            [
                Some(4),
                Some(10),
                Some(11),
                Some(50),
                Some(51),
                Some(600),
                None
            ]
        );
        assert_eq!(third.refused.as_deref(), Some("it exited"));
        assert_eq!(unknown.phases, Phases::default());
    }
}
