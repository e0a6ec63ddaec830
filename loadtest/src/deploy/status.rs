//! The status that handoff publishes in `<state>/sidecars/<id>.json`.

use std::fs;
use std::io;
use std::path::Path;

use handoff::deployment::status::{Outcome, Status, UnixMillis};

use super::swap::{Phases, Swap};

/// Reads the status of the sidecar that started last; none if there is none yet.
pub fn read(folder: &Path) -> io::Result<Option<Status>> {
    let files = match fs::read_dir(folder) {
        Ok(files) => files,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let mut newest: Option<Status> = None;
    for file in files {
        let path = file?.path();
        if path.extension().is_none_or(|extension| extension != "json") {
            continue;
        }
        let status: Status = serde_json::from_slice(&fs::read(&path)?)
            .map_err(|error| io::Error::other(format!("{}: {error}", path.display())))?;
        let is_newer = |newest: &Status| newest.started_ms < status.started_ms;
        if newest.as_ref().is_none_or(is_newer) {
            newest = Some(status);
        }
    }
    Ok(newest)
}

/// Notes the known steps of each swap.
pub fn note_steps(status: &Status, swaps: &mut [Swap]) {
    for swap in swaps {
        let digest = format!("sha256:{}", swap.sha256);
        // A release that is tried again has one entry for each try; the last one counts.
        let mut entries = status.handoffs.iter();
        let Some(entry) = entries.rfind(|entry| entry.digest == digest) else {
            continue;
        };
        let since = |at: Option<UnixMillis>| Some(at?.0.saturating_sub(swap.written_ms));
        swap.phases = Phases {
            detected_ms: since(entry.detected_ms),
            copied_ms: since(entry.copied_ms),
            launched_ms: since(Some(entry.launched_ms)),
            ready_ms: since(entry.ready_ms),
            promoted_ms: since(entry.promoted_ms),
            drained_ms: since(entry.drained_ms),
            stopped_ms: since(entry.stopped_ms),
        };
        if entry.outcome == Outcome::Refused {
            let reason = entry.reason.as_deref().unwrap_or("no reason given");
            swap.refused = Some(reason.to_owned());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::release::Release;
    use super::*;

    const STATUS: &str = r#"{"schema":1,"sidecar":"k3f9x2ab","version":"0.1.0","pid":1,
        "listen":"127.0.0.1:8080","started_ms":7,"heartbeat_ms":0,"phase":"running","new_key":[1],
        "active":{"generation":2,"release":"v2","digest":"sha256:bb","since_ms":0},
        "handoffs":[
          {"release":"v1","generation":1,"digest":"sha256:aa","outcome":"promoted","launched_ms":6},
          {"release":"v2","generation":2,"digest":"sha256:bb","outcome":"promoted","detected_ms":1004,
           "copied_ms":1010,"launched_ms":1011,"ready_ms":1050,"promoted_ms":1051,"drained_ms":1600},
          {"release":"v3","generation":3,"digest":"sha256:cc","outcome":"refused","launched_ms":1999,
           "reason":"it exited"}]}"#;

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
        assert!(read(&sidecars).unwrap().is_none());
        fs::create_dir(&sidecars).unwrap();
        assert!(read(&sidecars).unwrap().is_none());
        fs::write(sidecars.join("a.json"), STATUS).unwrap();
        let older = STATUS.replace("8080", "8081").replace(":7,", ":6,");
        fs::write(sidecars.join("b.json"), older).unwrap();
        fs::write(sidecars.join("b.json.tmp"), "{").unwrap();
        let status = read(&sidecars).unwrap().unwrap();
        assert_eq!(status.listen.port(), 8080);
        assert_eq!(status.active.unwrap().digest, "sha256:bb");
        fs::write(sidecars.join("c.json"), "{").unwrap();
        let error = read(&sidecars).unwrap_err().to_string();
        assert!(error.contains("c.json"), "{error}");
    }

    #[test]
    fn swaps_are_found_by_digest_and_timed_from_their_deploy() {
        let status: Status = serde_json::from_str(STATUS).unwrap();
        let mut swaps = [swap("bb", 1000), swap("cc", 1990), swap("dd", 3000)];
        note_steps(&status, &mut swaps);
        let [second, third, unknown] = swaps;
        let phases = Phases {
            detected_ms: Some(4),
            copied_ms: Some(10),
            launched_ms: Some(11),
            ready_ms: Some(50),
            promoted_ms: Some(51),
            drained_ms: Some(600),
            stopped_ms: None,
        };
        assert_eq!(second.phases, phases);
        assert!(!second.is_over());
        assert_eq!(third.refused.as_deref(), Some("it exited"));
        assert_eq!(unknown.phases, Phases::default());
    }
}
