//! Accepts deployed artifacts: makes sure that one is whole, and makes its private copy.

mod accept;
mod accept_error;
mod archive;
mod assets;
mod compare;
mod prepared;
mod retry_policy;
mod settle;
mod staging;
mod store;
mod ways_back;
mod written;

pub use accept_error::AcceptError;
pub use archive::{ArchiveError, Limits};
pub use assets::{AssetFolder, AssetSettings};
pub use retry_policy::{ArtifactProblem, Postponed, RETRY_DELAY, RetryPolicy};
pub use settle::{SettlePeriods, SettleProgress, SettleTracker, can_see_writers};
pub use staging::StagingFolder;
pub use store::{Copying, Store, StoreSettings, Workdir};
