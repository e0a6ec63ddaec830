//! The sample app: the real binary, made into a release by an overlay, as its clients see it.

mod endpoints;
mod files;
mod grpc;
mod journal;
mod misbehaviour;
mod running;
mod start;
#[cfg(unix)]
mod stop;
mod websocket;
