//! handoff-fleet: brings releases from an object store to the machines that run handoff.
//!
//! ```text
//! deploy ──▶ channel ◀── mirror ──▶ folder with a pointer file ◀── handoff
//!    ▲                     │
//!    └───── members ◀──────┘
//! ```
//! handoff itself knows nothing of it: its only interface is the folder. So the process that serves
//! has no credentials of the store, no TLS and no name look-ups.
//!
//! | module | job |
//! |---|---|
//! | [`store`] | reads and swaps objects; it and [`requests`] alone name the client's crate |
//! | [`requests`] | counts the requests that the client sends |
//! | [`channel`] | the two formats: what is to run, and what a machine says of itself |
//! | [`artifact`] | packs, uploads and fetches artifacts, by their digest |
//! | [`signature`] | signs orders, and checks their signatures |
//! | [`mirror`] | brings the channel to a folder, and the state of the folder's sidecars back |
//! | [`sidecars`] | reads the sidecars of the folder |
//! | [`machines`] | the machines of a channel, as those who deploy see them; pure but for the reading |
//! | [`driver`] | changes the channel, and goes from group to group until all machines run it |
//! | [`garbage`] | removes what nobody needs any more |
//! | [`trouble`] | the store's errors, each told once |
//! | `clock` | the time, which unit tests let pass at once |
//! | [`deploy`], [`rollout`], [`status`], [`check`] | the commands of those who deploy |

pub mod artifact;
pub mod channel;
pub mod check;
pub mod cli;
mod clock;
pub mod deploy;
pub mod driver;
pub mod garbage;
pub mod machines;
pub mod mirror;
pub mod requests;
pub mod rollout;
pub mod sidecars;
pub mod signature;
pub mod status;
pub mod store;
pub mod trouble;

#[cfg(test)]
mod accelerated;
#[cfg(test)]
mod simulation;
