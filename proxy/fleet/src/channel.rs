//! Objects in the store: the channel, written by those who deploy, and one object for each
//! member, written by its machine.
//!
//! ```text
//! <url>/channel.json              what is to run
//! <url>/members/<id>.json         what a machine says of itself
//! <url>/artifacts/<sha256>/<name>
//! ```
//! Both contain a random number, so that no two writes are alike: a writer that lost the answer
//! recognizes its own write, and a store that makes tags from contents never gives one twice.

use std::fmt;

use handoff::release::Digest;
use serde::{Deserialize, Serialize};

/// Number of the schema. It changes only when a key changes its meaning.
pub const SCHEMA: u32 = 1;
/// Path of the channel's object.
pub const CHANNEL: &str = "channel.json";
/// Path of the folder of the members' objects.
pub const MEMBERS: &str = "members";

/// Release that is to run, and the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Number of the schema. A member changes nothing if it does not know it.
    pub schema: u32,
    /// Number of the write. It only grows.
    pub serial: u64,
    /// Random number of the write.
    pub nonce: u64,
    /// The deployed release.
    pub release: FleetRelease,
    /// The release that was deployed before.
    pub before: Option<FleetRelease>,
    /// Reason for which the channel returned to it.
    pub reason: Option<String>,
}

/// A release in the store.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FleetRelease {
    /// File name of the artifact.
    pub name: String,
    /// SHA-256 of the artifact, as 64 hexadecimal digits.
    pub sha256: String,
    /// Length of the artifact in bytes.
    pub size: u64,
}

/// Report of a machine about itself.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Member {
    /// Number of the schema.
    pub schema: u32,
    /// Random number of the write.
    pub nonce: u64,
    /// Random id of the machine.
    pub id: String,
    /// Name of the machine, for people.
    pub host: Option<String>,
    /// Version of handoff-fleet.
    pub version: String,
    /// Serial of the last channel that the machine has read.
    pub serial: u64,
    /// State of that channel's release on the machine.
    pub state: MemberState,
    /// Names of the releases that its sidecars run.
    pub runs: Vec<String>,
    /// Reason why the machine does not follow the channel.
    pub problem: Option<String>,
}

/// The state of the deployed release on a machine.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is", content = "reason")]
pub enum MemberState {
    /// It is fetched, started or checked; with the last failure, if there was one.
    Going(Option<String>),
    /// All sidecars run it.
    Runs,
    /// A sidecar has refused it, for this reason.
    Refused(String),
    /// No sidecar lives.
    Idle,
}

// === impl Channel ===

impl Channel {
    /// Returns the channel in which `release` is deployed instead of what `now` says.
    pub fn after(now: Option<&Self>, release: FleetRelease, reason: Option<String>) -> Self {
        let before = match now {
            Some(now) if now.release == release => now.before.clone(),
            Some(now) => Some(now.release.clone()),
            None => None,
        };
        Self {
            schema: SCHEMA,
            serial: now.map_or(0, |now| now.serial) + 1,
            nonce: fastrand::u64(..),
            release,
            before,
            reason,
        }
    }
}

// === impl FleetRelease ===

impl FleetRelease {
    /// Returns the path of the artifact in the store.
    pub fn path(&self) -> String {
        format!("artifacts/{}/{}", self.sha256, self.name)
    }

    /// Returns the digest, and checks that the name is that of a file: it becomes one.
    ///
    /// # Errors
    /// The reason for which a member must not fetch it.
    pub fn check(&self) -> Result<Digest, String> {
        let is_file_name = !self.name.is_empty()
            && !self.name.starts_with('.')
            && !self
                .name
                .contains(|c: char| c.is_control() || "/\\:\"'%".contains(c));
        if !is_file_name {
            return Err(format!(
                "the channel names the artifact {:?}, which is no file name",
                self.name
            ));
        }
        Digest::parse(&self.sha256).map_err(|error| error.to_string())
    }
}

impl fmt::Display for FleetRelease {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "{} ({})",
            self.name,
            self.sha256.get(..8).unwrap_or(&self.sha256)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn release(name: &str) -> FleetRelease {
        FleetRelease {
            name: name.to_owned(),
            sha256: "ab".repeat(32),
            size: 3,
        }
    }

    #[test]
    fn the_serial_grows_and_the_release_before_is_kept() {
        let one = Channel::after(None, release("one"), None);
        let two = Channel::after(Some(&one), release("two"), None);
        let again = Channel::after(Some(&two), release("two"), None);
        assert_eq!((one.serial, two.serial, again.serial), (1, 2, 3));
        assert_eq!((one.before, &two.before), (None, &Some(release("one"))));
        assert_eq!(
            again.before, two.before,
            "the same release again is not the one before"
        );
        assert_ne!(again.nonce, two.nonce);
    }

    #[test]
    fn a_name_that_leads_out_of_the_folder_is_no_file_name() {
        assert!(release("app-1.2.tar.gz").check().is_ok());
        for name in [
            "", ".", "..", "a/b", "../x", "a\\b", "c:x", "a\nid=b", "%TEMP%", "\"a\"",
        ] {
            assert!(release(name).check().is_err(), "{name:?}");
        }
        let no_digest = FleetRelease {
            sha256: "ab".to_owned(),
            ..release("app")
        };
        assert!(no_digest.check().is_err());
    }
}
