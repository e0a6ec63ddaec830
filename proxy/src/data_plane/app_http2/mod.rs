//! Requests to an app over HTTP/2: each is a stream of a connection that many share.
//!
//! An eviction or a time limit sees a handle of a stream, as of a connection of HTTP/1. The
//! path of HTTP/1 does not pass through here: a generation that speaks HTTP/2 has no idle connections
//! of that kind, and the branch is where a new one would be opened.

mod connection;
pub(super) mod connections;
mod deadline;
pub(super) mod exchange;
pub(super) mod forward;
mod head;
pub(super) mod reader;
mod tunnel;
mod upload;
mod websocket;
