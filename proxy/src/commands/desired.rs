//! `<state>/desired.json`: what commands ask of every sidecar, beside what to run.

use std::io;
use std::path::Path;

use serde_json::{Map, Value};

use crate::files;

const SCHEMA: u32 = 1;

/// Asks the sidecars to try the release with this digest also if they have refused it before.
///
/// The file is read and changed, not replaced: keys of other commands, also of newer ones, stay.
///
/// # Errors
/// What writing it said.
pub(super) fn retry(state: &Path, digest: &str) -> io::Result<()> {
    files::make_folder(state)?;
    let file = state.join("desired.json");
    let content = std::fs::read(&file).unwrap_or_default();
    // One that cannot be read says nothing that could be kept.
    let mut desired: Map<String, Value> = serde_json::from_slice(&content).unwrap_or_default();
    let serial = desired.get("serial").and_then(Value::as_u64);
    desired.insert("schema".to_owned(), SCHEMA.into());
    desired.insert("serial".to_owned(), (serial.unwrap_or(0) + 1).into());
    desired.insert("retry".to_owned(), digest.into());
    let json = serde_json::to_vec_pretty(&desired).unwrap_or_default();
    files::write_atomically(&file, &json)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_wish_has_a_higher_serial_and_leaves_the_others_alone() {
        let state = tempfile::tempdir().unwrap();
        let file = state.path().join("new/desired.json");
        let read = || -> Value { serde_json::from_slice(&std::fs::read(&file).unwrap()).unwrap() };
        retry(&state.path().join("new"), "sha256:1").unwrap();
        assert_eq!(read()["serial"], 1);
        let others = r#"{"serial":7,"pause":{"until_ms":1},"of_tomorrow":true,"retry":null}"#;
        std::fs::write(&file, others).unwrap();
        retry(&state.path().join("new"), "sha256:2").unwrap();
        let wish = read();
        assert_eq!(
            (&wish["serial"], &wish["retry"]),
            (&8.into(), &"sha256:2".into())
        );
        assert_eq!(wish["pause"]["until_ms"], 1);
        assert_eq!(wish["of_tomorrow"], true);
    }
}
