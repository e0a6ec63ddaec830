//! The contract on disk between deployers and sidecars. The folder is the API.
//!
//! ```text
//! _artifact.txt               the pointer file: a path, sha256=…, id=…   written by deployers
//! releases/NAME               an artifact in the drop folder             written by deployers
//! releases/NAME.sha256        its digest, beside it                      written by deployers
//! <state>/desired.json        commands for all sidecars                  written by deployers
//! <state>/desired.lock        locked while they write                    written by deployers
//! <state>/desired.reserve     room for a command on a full disk          kept by sidecars
//! <state>/before-start/…       the runs of --before-start                 written by sidecars
//! <state>/sidecars/ID.json    the status of one sidecar                  written by that sidecar
//! <state>/notes/NAME.txt      what keeps another program from its work   written by that program
//! <state>/status.reserve      room for a status on a full disk           kept by sidecars
//! ```
//! Deployers and sidecars reach each other in no other way, so they may run in different
//! containers, and several sidecars may share one folder. Each file is replaced in one step.

pub mod anchored;
pub mod artifact_names;
pub mod before_start;
mod busy;
pub mod canary;
pub mod checksum_file;
mod command_status;
mod control_command;
pub mod copy;
pub mod data_left;
pub mod desired;
pub mod digest;
pub mod drop_folder;
mod entries;
pub(crate) mod file_error;
pub mod fingerprint;
pub mod former_state;
mod gave_way;
mod handoff;
pub(crate) mod instance_memory;
mod maintenance;
pub mod names;
pub mod notes;
pub(crate) mod path_serde;
pub mod pending_command;
pub mod pointer;
pub mod rollout;
pub mod source;
mod source_status;
mod stage;
pub(crate) mod stated_error;
pub mod status;
mod text;
pub(crate) mod transfer;
mod unanswered;
mod unix_millis;
mod upgrade;

pub use drop_folder::DropFolder;
pub use fingerprint::Fingerprint;
pub use former_state::FormerState;
pub use names::deployment_key;
pub use pointer::Pointer;
pub use source::{Source, Target};
