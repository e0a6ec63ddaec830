//! The real binary, made into a release by an overlay, seen through a plain TCP client.

mod client;
mod endpoints;
mod files;
mod journal;
mod misbehaviour;
mod running;
mod start;
#[cfg(unix)]
mod stop;
mod websocket;
