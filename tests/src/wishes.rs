//! Asking every sidecar of a deployment for something, as commands do.

use std::fs;

use crate::deployment::Running;
use crate::wait::eventually;

impl Running {
    /// Writes `desired.json`.
    pub fn ask(&self, json: &str) {
        let state = self.deployment().state();
        let new = state.join("desired.new");
        fs::write(&new, json).expect("a file of wishes");
        eventually(
            || "desired.json can be replaced".to_owned(),
            // On Windows not while somebody reads it.
            || fs::rename(&new, state.join("desired.json")).ok(),
        );
    }
}
