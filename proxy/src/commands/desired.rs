//! `<state>/desired.json`: what commands ask of every sidecar, beside what to run.

use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

use serde_json::{Map, Value, json};

use crate::deployment::status::UnixMillis;
use crate::files;

const SCHEMA: u32 = 1;
const FILE: &str = "desired.json";

/// What the sidecars can be asked for.
#[derive(Clone, Copy, Debug)]
pub(super) enum Ask<'a> {
    /// Try the release with this digest also if it was refused before.
    Retry(&'a str),
    /// Go back to this release, or to the one before.
    Rollback(Option<&'a str>),
    /// A new instance of what serves.
    Restart,
    /// Hold new requests for so long.
    Pause(Duration),
    /// Hold them no longer.
    Resume,
}

/// What was asked for, as it stands in the file.
#[derive(Clone, Debug)]
pub(super) struct Asked {
    /// Sidecars that have acted on it say this number, or a higher one.
    pub(super) serial: u64,
    key: &'static str,
    value: Value,
}

/// Asks all sidecars for it.
///
/// The file is read and changed, not replaced: keys of other commands, also of newer ones, stay.
///
/// # Errors
/// What reading or writing it said.
pub(super) fn ask(state: &Path, ask: &Ask<'_>) -> io::Result<Asked> {
    files::make_folder(state)?;
    let mut desired = match std::fs::read(state.join(FILE)) {
        // What cannot be understood says nothing that could be kept.
        Ok(content) => parse(&content).unwrap_or_default(),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Map::new(),
        Err(error) => {
            let said = format!("{FILE} cannot be read: {error}");
            return Err(io::Error::new(error.kind(), said));
        }
    };
    // Sidecars may know higher ones than are in the file, if it was removed or damaged: by the time
    // it grows in any case.
    let next = |value: Option<&Value>| {
        let before = value.and_then(Value::as_u64).unwrap_or(0);
        UnixMillis::now().0.max(before.saturating_add(1))
    };
    let serial = next(desired.get("serial"));
    let (key, value) = match ask {
        Ask::Retry(digest) => ("retry", (*digest).into()),
        Ask::Rollback(to) => {
            let serial = next(desired.get("rollback").and_then(|r| r.get("serial")));
            ("rollback", json!({"to": to, "serial": serial}))
        }
        Ask::Restart => ("restart", next(desired.get("restart")).into()),
        Ask::Pause(max) => {
            let until = UnixMillis::from(SystemTime::now() + *max);
            let max = u64::try_from(max.as_millis()).unwrap_or(u64::MAX);
            ("pause", json!({"until_ms": until, "max_ms": max}))
        }
        Ask::Resume => ("pause", Value::Null),
    };
    desired.insert("schema".to_owned(), SCHEMA.into());
    desired.insert("serial".to_owned(), serial.into());
    desired.insert(key.to_owned(), value.clone());
    let json = serde_json::to_vec_pretty(&desired).unwrap_or_default();
    files::write_atomically(&state.join(FILE), &json)?;
    Ok(Asked { serial, key, value })
}

fn read(state: &Path) -> Option<Map<String, Value>> {
    parse(&std::fs::read(state.join(FILE)).ok()?)
}

fn parse(content: &[u8]) -> Option<Map<String, Value>> {
    // Editors on Windows begin a file with a byte order mark.
    let json = content.strip_prefix(b"\xef\xbb\xbf").unwrap_or(content);
    serde_json::from_slice(json).ok()
}

// === impl Asked ===

impl Asked {
    /// Whether the file still asks for it, as far as it can be read.
    pub(super) fn holds(&self, state: &Path) -> bool {
        let Some(desired) = read(state) else {
            return true;
        };
        let wanted = desired.get(self.key).unwrap_or(&Value::Null);
        // One restart more will do for both.
        let grown = wanted.as_u64().zip(self.value.as_u64());
        *wanted == self.value || grown.is_some_and(|(wanted, ours)| wanted > ours)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wish_has_a_higher_serial_and_leaves_the_others_alone() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path().join("new");
        let read = || read(&state).unwrap();
        let number = |value: &Value| value.as_u64().unwrap();
        let first = ask(&state, &Ask::Retry("sha256:1")).unwrap();
        assert_eq!(number(&read()["serial"]), first.serial);
        let high = u64::MAX / 2;
        let others = format!(
            "\u{feff}{{\"serial\":{high},\"pause\":{{\"until_ms\":1}},\"of_tomorrow\":true,\
             \"retry\":null,\"rollback\":{{\"to\":\"v1\",\"serial\":{high}}}}}"
        );
        std::fs::write(state.join(FILE), others).unwrap();
        ask(&state, &Ask::Retry("sha256:2")).unwrap();
        let wish = read();
        assert_eq!(
            (&wish["serial"], &wish["retry"]),
            (&(high + 1).into(), &"sha256:2".into())
        );
        assert_eq!(wish["pause"]["until_ms"], 1);
        assert_eq!(wish["of_tomorrow"], true);

        ask(&state, &Ask::Rollback(None)).unwrap();
        let restarted = ask(&state, &Ask::Restart).unwrap();
        assert_eq!(restarted.serial, high + 3);
        let wish = read();
        assert_eq!(wish["rollback"], json!({"to": null, "serial": high + 1}));
        assert!(number(&wish["restart"]) >= first.serial);
    }

    #[test]
    fn no_serial_falls_when_the_file_is_lost() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let file = state.join(FILE);
        let mut last = (0, 0);
        for damage in 0..3 {
            match damage {
                0 => {}
                1 => std::fs::remove_file(&file).unwrap(),
                _ => std::fs::write(&file, "").unwrap(),
            }
            while UnixMillis::now().0 <= last.0 {}
            ask(state, &Ask::Rollback(None)).unwrap();
            let asked = ask(state, &Ask::Restart).unwrap();
            let wish = read(state).unwrap();
            let now = (asked.serial, wish["rollback"]["serial"].as_u64().unwrap());
            assert!(now.0 > last.0 && now.1 > last.1, "{now:?} after {last:?}");
            last = now;
        }
    }

    #[test]
    fn a_file_that_cannot_be_read_is_not_replaced() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::create_dir(folder.path().join(FILE)).unwrap();
        let error = ask(folder.path(), &Ask::Restart).unwrap_err();
        assert!(error.to_string().contains(FILE), "{error}");
    }

    #[test]
    fn what_somebody_else_asks_for_takes_its_place_but_for_one_more_restart() {
        let folder = tempfile::tempdir().unwrap();
        let state = folder.path();
        let restarted = ask(state, &Ask::Restart).unwrap();
        let paused = ask(state, &Ask::Pause(Duration::from_secs(9))).unwrap();
        ask(state, &Ask::Restart).unwrap();
        assert!(restarted.holds(state) && paused.holds(state));
        let resumed = ask(state, &Ask::Resume).unwrap();
        assert!(resumed.holds(state) && !paused.holds(state));
        std::fs::write(state.join(FILE), "{").unwrap();
        assert!(paused.holds(state), "nobody knows");
    }
}
