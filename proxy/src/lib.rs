//! handoff: a reverse proxy sidecar that makes deploying an HTTP app invisible to its users.
//!
//! It owns the public port for good and starts the app on an internal one. A new artifact is started
//! beside the active release, checked, and promoted in one step; the superseded instance drains and
//! is stopped. The [manual](docs) is part of this documentation; this page is the map of the source.
//!
//! # The path of a request, and the path of a release
//!
//! ```text
//! client ─▶ accept ─▶ worker ─▶ forward ──acquire()──▶ router ──Arc<Upstream>──▶ pooled connection ─▶ app
//!                                                        ▲ promote / withdraw
//! files ─▶ watcher ─▶ artifact ─▶ lifecycle (decides) ─▶ supervisor (acts) ─▶ process ─▶ readiness
//!                                    │ every change
//!                                    └─▶ status (watch channel) ─▶ status file, commands, metrics, page
//! ```
//!
//! # Parts
//!
//! Two planes that never name each other: the [`data_plane`] serves requests, the [`control_plane`]
//! runs releases. The [`router`] is the only thing that both know. Arrows point one way:
//! main → [`app`] → planes → [`router`] → [`release`].
//!
//! | module | job |
//! |---|---|
//! | [`app`] | starts the parts, connects them, and ends them |
//! | [`cli`], [`config`] | command line, environment and file become the settings of each part |
//! | [`commands`] | `deploy`, `status`, `rollback` and others: another process, which meets sidecars in files only |
//! | [`deployment`] | the contract on disk between the two: pointer, digests, desired state, status |
//! | [`control_plane::lifecycle`] | decides; pure, without clock, I/O or runtime |
//! | [`control_plane::supervisor`] | acts: launches, promotes, drains and stops |
//! | [`process`] | process trees, for Unix and for Windows |
//! | [`os`] | other facts of the operating system: files, inheritance, signals |
//! | [`observe`] | status page, metrics, event hook, systemd: readers of the published status |
//! | [`telemetry`] | logs, written by threads of their own |
//!
//! # Invariants
//!
//! - **In flight is ownership.** A request holds an `Arc<Upstream>` until its response body or tunnel
//!   ends. An upstream is drained when its last `Arc` drops; the drop only sends a message.
//!   Connection pools hold none. Counters are for display.
//! - **One function decides, one task acts.** A test walks every order of events through the
//!   lifecycle.
//! - **A candidate that fails never takes traffic**, and the active instance is not affected. With
//!   nothing else to serve, a release is tried again with back-off, without end.
//! - **Only a whole artifact is launched**, from a private copy: what is launched is what was hashed.
//! - **Nothing outlives the sidecar.** What still escapes is ended at the next start.
//! - **A client sees the failure of an upstream as a failure.** A truncated body aborts the response.
//! - **A request that never reached the app is sent again.** One that may have reached it, once, and
//!   only if it is idempotent, has no body, and no byte of a response was seen; never one whose
//!   instance died by itself.
//! - **Each sidecar writes only its own files**, and only commands write the desired state.
//!
//! [`docs::architecture`] says more, [`docs::glossary`] defines the words, and [`docs::decisions`] gives
//! the reasons.

pub mod app;
pub mod cli;
pub mod commands;
pub mod config;
pub mod control_plane;
pub mod data_plane;
pub mod deployment;
pub mod docs;
pub mod observe;
pub mod os;
pub mod process;
pub mod release;
pub mod router;
pub mod signal_requests;
pub mod telemetry;
pub mod user_tokens;
