//! IIS with HttpPlatformHandler, simulated: what a deployment meets on its platform.
//!
//! ```text
//! client ─▶ front (IIS) ─▶ site ─▶ application (a worker's) ─▶ server process ─▶ handoff ─▶ app
//!             │             │        └ rapid fails, turns        └ port, readiness, exit probe, end
//!             │             └ web.config: read, watched; recycle
//!             └ forward: edits, output buffer, tunnels
//! ```
//! [`Home`] is the file system of a site, with the repository's own `web.config` in it. [`Iis`]
//! runs that: it starts what `web.config` names when the first request comes, and does to it what
//! the module does. What has happened is in [`Iis::events`]; time passes with [`Clock::advance`].
//!
//! The original is closed. This follows what is known of version 1.2, of its open successors, and
//! of Azure's sandbox. What is not simulated: Windows authentication, compression and static files
//! of IIS, `applicationInitialization`, Azure's cut after 230 s. On Linux a port where nobody
//! listens answers with "refused" and not, as in Azure, with error 10013; there a process without a
//! parent ends with the sidecar, job object or not.

mod activity;
mod application;
mod clock;
mod event;
mod expand;
mod forward;
mod front;
mod home;
mod host;
mod iis;
mod job;
mod launch;
mod module;
mod output;
mod rapid_fail;
mod readiness;
mod server_process;
mod share;
mod site;
mod upstream;
mod web_config;

pub use clock::Clock;
pub use event::Event;
pub use expand::{Environment, split};
pub use home::{Home, TOP_LEVEL};
pub use iis::Iis;
pub use module::Module;
pub use rapid_fail::RapidFails;
pub use readiness::Look;
pub use share::HalfWritten;
pub use web_config::{Schema, WebConfig, WebConfigError};
