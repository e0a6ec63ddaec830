//! Observers of the published status: the admin port, the event hook and the service manager.

pub mod admin;
pub mod event_hook;
pub mod systemd;
