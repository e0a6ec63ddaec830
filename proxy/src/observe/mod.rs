//! Observers of the published status: the admin port, the event hook, the service manager, and the
//! announcement of its state to each instance.

pub mod admin;
pub mod announcer;
pub mod event_hook;
pub mod hook_command;
pub mod systemd;
