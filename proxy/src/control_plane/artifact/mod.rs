//! From what is deployed to what runs: whether an artifact is whole, and its private copy.

mod accept_error;
mod archive;
mod patience;
mod settle;
mod staging;
mod store;

pub use accept_error::AcceptError;
pub use archive::{ArchiveError, Limits};
pub use patience::{NotYet, Patience, Problem, RETRY};
pub use settle::{Settle, Settling};
pub use store::{Copying, Store, StoreSettings, Workdir};
