//! handoff: a reverse proxy sidecar that makes deploying an HTTP app invisible to its users.
//!
//! It keeps the public port for good, starts the app on an internal one, notices a new artifact,
//! starts that beside the old one, checks its health, moves the traffic in one step, and drains
//! and ends the old one.
//!
//! # The way of a request, and the way of a release
//!
//! ```text
//! client ─▶ listener ─▶ worker ─▶ forward ──acquire()──▶ router ──Arc<Upstream>──▶ pooled connection ─▶ app
//!                                                          ▲ promote / withdraw
//! files ─▶ watcher ─▶ artifact ─▶ lifecycle (decides) ─▶ supervisor (does) ─▶ process ─▶ readiness
//!                                      │ every change
//!                                      └─▶ status (watch channel) ─▶ status file
//! ```
//! Two planes that never name each other; the [`router`] is the hinge. Arrows point one way:
//! main → [`app`] → {[`control_plane`], [`data_plane`], [`process`]} → [`router`] → [`release`].
//! Each module owns its settings; [`config`] composes them, so nothing below imports it.
//!
//! # Vocabulary
//!
//! | word | meaning |
//! |---|---|
//! | **sidecar** | one running handoff process, with a random id |
//! | **artifact** | what is deployed: a file or a folder |
//! | **release** | one artifact accepted for running: id, digest, its private copy |
//! | **instance** | one running process tree of a release |
//! | **generation** | an instance's launch number within a sidecar: ordered, never reused |
//! | **upstream** | where one generation's requests go |
//! | **router** | the one pointer to the active upstream |
//! | **candidate, active, draining, standby, stopping** | the states of an instance |
//! | **handoff** | promote the candidate, drain the superseded one |
//! | **readiness** | the health check that gates promotion |
//! | **drain** | wait until nothing is in flight; **evict** what outlasts the grace period |
//! | **hold** | keep a request waiting while no upstream is active |
//! | **supervisor** | the only task that launches, promotes, drains and stops |
//! | **watcher** | turns file changes into "artifact detected" |
//!
//! # What holds it together
//!
//! - **In flight is ownership.** A request holds an `Arc<Upstream>` until its response body or
//!   tunnel ends. An upstream is drained when its last `Arc` drops; the drop only sends a message.
//!   Connection pools hold none and are emptied by message. Counters are for display.
//! - **One function decides, one task acts.** [`control_plane::lifecycle`] is pure; a test walks
//!   every order of events through it. The [`control_plane::supervisor`] performs its actions.
//! - **A candidate that fails never takes traffic**, and the active instance never notices. With
//!   nothing else to serve, a release is tried again with back-off, for ever.
//! - **Only a whole artifact is launched**, from a private copy, so the deployed file is never
//!   locked and may be overwritten in place.
//! - **Nothing outlives the sidecar**: process groups and parent-death signals on Linux, job
//!   objects on Windows.
//! - **A client sees an upstream's failure as a failure**: a truncated body aborts the response.
//! - **A request that never reached the app is sent again.** One that may have reached it is sent
//!   again once, on a new connection to the same generation or its successor, only if its method
//!   is idempotent, it has no body, and no byte of an answer was seen.
//!
//! # Where the design was changed on the way
//!
//! - What Unix and Windows do differently with *files* (leases, share modes, links) lives in
//!   twins of its own, [`files`]: it has nothing to do with processes. `cfg` stays in
//!   [`process`], [`files`], [`signal`], the two functions of `data_plane::listener` that set a
//!   socket option, and the default cache folder in [`config`].
//! - The windows job object is ours and not process-wrap's: that one fails where a job is
//!   refused, waits for the whole tree instead of the root, and on Unix occupies a thread for it.
//! - `data_plane::stream`: hyper owns its IO object, but an idle connection can only be checked
//!   at its socket. A shared handle with hyper's reads and writes on it costs no further system
//!   call, and no `unsafe`.
//! - The pauses between health checks grow from 10 ms to the configured interval: most apps are
//!   ready sooner than the first 250 ms.

pub mod app;
pub mod cli;
pub mod config;
pub mod control_plane;
pub mod data_plane;
pub mod files;
pub mod process;
pub mod release;
pub mod router;
pub mod signal;
pub mod telemetry;
