//! The file of handoff's own program: `--upgrade-on-change`.

use std::path::PathBuf;

use tokio::time::{Duration, sleep};

use crate::control_plane::supervisor::UpgradeRequester;
use crate::deployment::Fingerprint;

/// Time between two looks at the file, and for which it has to stay the same.
const INTERVAL: Duration = Duration::from_secs(2);

/// Asks for an upgrade each time that the file has changed.
pub(super) async fn watch(program: PathBuf, upgrade: UpgradeRequester) {
    let mut known = Fingerprint::of(&program).ok();
    let mut seen = None;
    loop {
        sleep(INTERVAL).await;
        // While it is replaced, there may be none.
        let found = Fingerprint::of(&program).ok();
        if found.is_none() || found == known {
            seen = None;
        } else if found == seen {
            known = seen.take();
            upgrade.request("--upgrade-on-change");
        } else {
            seen = found;
        }
    }
}
