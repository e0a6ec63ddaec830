//! What handoff publishes in `<state>/sidecars/<id>.json`, as far as we need it.

use std::fs;
use std::io;
use std::net::SocketAddr;
use std::path::Path;

use serde::Deserialize;

use crate::scenario::Swap;

/// One sidecar. Times are unix milliseconds; keys that are not here are ignored.
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

/// One release's way, from its detection to the end of the one before it.
#[derive(Debug, Deserialize)]
pub struct HandoffEntry {
    pub digest: String,
    #[serde(default)]
    pub outcome: String,
    pub detected_ms: Option<u64>,
    pub copied_ms: Option<u64>,
    pub launched_ms: Option<u64>,
    pub ready_ms: Option<u64>,
    pub promoted_ms: Option<u64>,
    pub drained_ms: Option<u64>,
    pub stopped_ms: Option<u64>,
    pub reason: Option<String>,
}

impl Status {
    /// The status of the sidecar that started last; none when there is none yet.
    ///
    /// # Errors
    /// A file cannot be read or is not a status.
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
            if newest
                .as_ref()
                .is_none_or(|newest| newest.started_ms < status.started_ms)
            {
                newest = Some(status);
            }
        }
        Ok(newest)
    }

    /// Notes in each swap what is known of it.
    pub fn fill(&self, swaps: &mut [Swap]) {
        for swap in swaps {
            let digest = format!("sha256:{}", swap.sha256);
            // A release that is tried again has one entry a try; the last one counts.
            let Some(entry) = self.handoffs.iter().rfind(|entry| entry.digest == digest) else {
                continue;
            };
            let since = |at: Option<u64>| Some(at?.saturating_sub(swap.written_ms));
            let phases = &mut swap.phases;
            phases.detected_ms = since(entry.detected_ms);
            phases.copied_ms = since(entry.copied_ms);
            phases.launched_ms = since(entry.launched_ms);
            phases.ready_ms = since(entry.ready_ms);
            phases.promoted_ms = since(entry.promoted_ms);
            phases.drained_ms = since(entry.drained_ms);
            phases.stopped_ms = since(entry.stopped_ms);
            if entry.outcome == "refused" {
                swap.refused = Some(
                    entry
                        .reason
                        .clone()
                        .unwrap_or_else(|| "no reason given".to_owned()),
                );
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::release::Release;

    const STATUS: &str = r#"{"schema":1,"sidecar":"k3f9x2ab","version":"0.1.0","pid":1,
        "listen":"127.0.0.1:8080","started_ms":7,"heartbeat_ms":0,"phase":"running","new_key":[1],
        "active":{"generation":2,"release":"v2-1a2b3c4d","digest":"sha256:bb","pid":12,
                  "address":"127.0.0.1:4001","since_ms":0,"in_flight":0},
        "candidate":null,"standby":null,"draining":[],"stopping":[],"held":0,"last_failure":null,
        "handoffs":[
          {"release":"v1-0","digest":"sha256:aa","generation":1,"outcome":"promoted","detected_ms":5,
           "copied_ms":5,"launched_ms":6,"ready_ms":9,"promoted_ms":9,"superseded_generation":null,
           "drained_ms":null,"stopped_ms":null,"reason":null},
          {"release":"v2-1","digest":"sha256:bb","generation":2,"outcome":"promoted","detected_ms":1004,
           "copied_ms":1010,"launched_ms":1011,"ready_ms":1050,"promoted_ms":1051,
           "superseded_generation":1,"drained_ms":1600,"stopped_ms":null,"reason":null},
          {"release":"v3-1","digest":"sha256:cc","generation":3,"outcome":"refused","detected_ms":1999,
           "reason":"it exited with 3 before it was ready"}]}"#;

    fn swap(number: u32, sha256: &str, written_ms: u64) -> Swap {
        let release = Release {
            number,
            file: "f".into(),
            sha256: sha256.to_owned(),
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
        fs::write(
            sidecars.join("b.json"),
            STATUS.replace("8080", "8081").replace(":7,", ":6,"),
        )
        .unwrap();
        fs::write(sidecars.join("b.json.tmp"), "{").unwrap();
        let status = Status::read(&sidecars).unwrap().unwrap();
        assert_eq!(status.listen.port(), 8080);
        assert_eq!(status.active.unwrap().digest, "sha256:bb");
        fs::write(sidecars.join("c.json"), "{").unwrap();
        assert!(
            Status::read(&sidecars)
                .unwrap_err()
                .to_string()
                .contains("c.json")
        );
    }

    #[test]
    fn swaps_are_found_by_digest_and_timed_from_their_deploy() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let mut swaps = [
            swap(2, "bb", 1000),
            swap(3, "cc", 2000),
            swap(4, "dd", 3000),
        ];
        status.fill(&mut swaps);
        let phases = swaps[0].phases;
        assert_eq!(
            (phases.detected_ms, phases.ready_ms, phases.promoted_ms),
            (Some(4), Some(50), Some(51))
        );
        assert_eq!((phases.drained_ms, phases.stopped_ms), (Some(600), None));
        assert_eq!(swaps[0].refused, None);
        assert_eq!(
            swaps[1].refused.as_deref(),
            Some("it exited with 3 before it was ready")
        );
        assert_eq!(
            swaps[1].phases.detected_ms,
            Some(0),
            "seen while it was written"
        );
        assert_eq!(swaps[2].phases, crate::scenario::Phases::default());
    }
}
