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

use handoff::deployment::rollout::Rollout;
use handoff::release::Digest;
use serde::{Deserialize, Serialize};

/// Number of the schema. It changes only when a key changes its meaning.
pub const SCHEMA: u32 = 1;
/// Path of the channel's object.
pub const CHANNEL: &str = "channel.json";
/// Path of the folder of the members' objects.
pub const MEMBERS: &str = "members";
/// Path of the folder of the artifacts.
pub const ARTIFACTS: &str = "artifacts";

/// The order to all machines, and how far it has come.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Channel {
    /// Number of the schema. A member changes nothing if it does not know it.
    pub schema: u32,
    /// Number of the write. It only grows.
    pub serial: u64,
    /// Random number of the write.
    pub nonce: u64,
    /// Serial of the write that has deployed the release, or that has taken it back. The later writes
    /// of a staged roll-out keep it.
    pub since: u64,
    /// The release to run.
    pub order: Order,
    /// Signature of the order, in minisign's format.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub signature: Option<String>,
    /// Reason for which all machines return to the release before.
    pub back: Option<String>,
    /// Staged roll-out of the release, while it goes on. Its `may` names machines; it needs no
    /// `instead`, since the order names the release before.
    pub rollout: Option<Rollout>,
}

/// A release that is to run, and the one before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Order {
    /// Serial of the write that has deployed the release.
    pub serial: u64,
    /// The deployed release.
    pub release: FleetRelease,
    /// The release that all ran before.
    pub before: Option<FleetRelease>,
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
    /// `since` of the last channel that the machine has read.
    pub serial: u64,
    /// State of the release that the machine is to run.
    pub state: MemberState,
    /// Names of the releases that its sidecars run.
    pub runs: Vec<String>,
    /// Reason why the machine does not follow the channel.
    pub problem: Option<String>,
}

#[cfg(test)]
impl Member {
    /// Returns what a machine says that runs nothing yet.
    pub fn new(id: &str, serial: u64, state: MemberState) -> Self {
        Self {
            schema: SCHEMA,
            nonce: fastrand::u64(..),
            id: id.to_owned(),
            host: None,
            version: String::new(),
            serial,
            state,
            runs: Vec::new(),
            problem: None,
        }
    }
}

/// The state of the release that a machine is to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase", tag = "is", content = "reason")]
pub enum MemberState {
    /// A staged roll-out has not reached it: its sidecars run the release before.
    Waits,
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
    /// Returns the channel in which `release` is deployed instead of what `now` says: in stages, if a
    /// `policy` says how. A staged roll-out of the same release goes on.
    pub fn deploying(now: Option<&Self>, release: FleetRelease, policy: Option<Rollout>) -> Self {
        let serial = now.map_or(0, |now| now.serial) + 1;
        let same = now.filter(|now| now.order.release == release && now.back.is_none());
        let before = match same {
            Some(same) => same.order.before.clone(),
            None => now.and_then(Self::stable).cloned(),
        };
        let before = before.filter(|before| *before != release);
        let standing = same.and_then(|same| Some((same, same.rollout.as_ref()?)));
        if let (Some((same, standing)), Some(policy)) = (standing, &policy) {
            let may = standing.may.clone();
            return Self {
                serial,
                nonce: fastrand::u64(..),
                rollout: Some(Rollout {
                    may,
                    ..policy.clone()
                }),
                ..same.clone()
            };
        }
        // What all run, or what is the first, has no stages.
        let is_staged = same.is_none() && before.is_some();
        Self {
            schema: SCHEMA,
            serial,
            nonce: fastrand::u64(..),
            since: serial,
            order: Order {
                serial,
                release,
                before,
            },
            signature: None,
            back: None,
            rollout: policy.filter(|_| is_staged),
        }
    }

    /// Returns the channel in which all return to the release before; `None` if there is none, or
    /// they do so already.
    pub fn going_back(&self, reason: String) -> Option<Self> {
        self.order.before.as_ref()?;
        self.back.is_none().then(|| Self {
            serial: self.serial + 1,
            nonce: fastrand::u64(..),
            since: self.serial + 1,
            back: Some(reason),
            rollout: None,
            ..self.clone()
        })
    }

    /// Returns the channel with this staged roll-out, or without one.
    pub fn with_rollout(&self, rollout: Option<Rollout>) -> Self {
        Self {
            serial: self.serial + 1,
            nonce: fastrand::u64(..),
            rollout,
            ..self.clone()
        }
    }

    /// Returns true if the channel has an order for this machine that is not to wait for its turn.
    pub fn is_named(&self, id: &str) -> bool {
        let rollout = self.rollout.as_ref();
        rollout.is_none_or(|rollout| rollout.may.contains(id))
    }

    /// Returns the release that this machine is to run.
    pub fn goal(&self, id: &str) -> &FleetRelease {
        let before = self.order.before.as_ref();
        let before = before.filter(|_| self.back.is_some() || !self.is_named(id));
        before.unwrap_or(&self.order.release)
    }

    /// Returns the release that all run, or ran before one that has not reached them all.
    pub fn stable(&self) -> Option<&FleetRelease> {
        if self.back.is_some() || self.rollout.is_some() {
            self.order.before.as_ref()
        } else {
            Some(&self.order.release)
        }
    }
}

// === impl FleetRelease ===

impl FleetRelease {
    /// Returns the path of the artifact in the store.
    pub fn path(&self) -> String {
        format!("{ARTIFACTS}/{}/{}", self.sha256, self.name)
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
pub mod tests {
    use super::*;

    pub fn release(name: &str) -> FleetRelease {
        FleetRelease {
            name: name.to_owned(),
            sha256: "ab".repeat(32),
            size: 3,
        }
    }

    #[test]
    fn the_serial_grows_and_the_release_before_is_kept() {
        let one = Channel::deploying(None, release("one"), None);
        let two = Channel::deploying(Some(&one), release("two"), None);
        let again = Channel::deploying(Some(&two), release("two"), None);
        assert_eq!((one.serial, two.serial, again.serial), (1, 2, 3));
        assert_eq!(one.order.before, None);
        assert_eq!(two.order.before, Some(release("one")));
        assert_eq!(
            again.order.before, two.order.before,
            "the same release again is not the one before"
        );
        assert!(again.since > two.since, "refused ones try it again");
        assert_ne!(again.nonce, two.nonce);
    }

    #[test]
    fn what_was_taken_back_or_has_not_reached_all_is_not_the_release_before() {
        let one = Channel::deploying(None, release("one"), None);
        assert_eq!(one.going_back(String::new()), None);
        let two = Channel::deploying(Some(&one), release("two"), Some(Rollout::default()));
        let back = two.going_back("refused".to_owned()).unwrap();
        assert_eq!(back.goal("a"), &release("one"));
        assert_eq!(back.going_back(String::new()), None);
        for now in [&two, &back] {
            let three = Channel::deploying(Some(now), release("three"), None);
            assert_eq!(three.order.before, Some(release("one")));
            let one = Channel::deploying(Some(now), release("one"), Some(Rollout::default()));
            assert_eq!((one.order.before, one.rollout), (None, None));
        }
    }

    #[test]
    fn in_stages_those_named_run_it_and_all_others_what_was_before() {
        let policy = || Some(Rollout::default());
        let one = Channel::deploying(None, release("one"), policy());
        assert_eq!(one.rollout, None, "the first one has nothing to return to");
        let mut two = Channel::deploying(Some(&one), release("two"), policy());
        two.rollout.as_mut().unwrap().may.insert("a".to_owned());
        assert_eq!(two.goal("a"), &release("two"));
        assert_eq!(two.goal("b"), &release("one"));
        let goes_on = Channel::deploying(Some(&two), release("two"), policy());
        assert_eq!(goes_on.goal("a"), &release("two"));
        assert_eq!((goes_on.since, goes_on.serial), (two.since, 3));
        let all = Channel::deploying(Some(&two), release("two"), None);
        assert_eq!(all.goal("b"), &release("two"));
        let complete = goes_on.with_rollout(None);
        assert_eq!(complete.goal("b"), &release("two"));
        assert_eq!(complete.since, two.since, "nobody starts anything again");
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
