//! A small, honest HTTP app that can be told to misbehave.
//!
//! The app itself is the binary. Its library holds what others need of it: an [`overlay`] appended
//! to the executable makes a release, so that a new one, good or bad, is one copy away and needs no
//! compiler; the [`journal`] of what reached it can be read; and its [`answers`] and [`grpc`] messages can be
//! checked.

pub mod answers;
pub mod grpc;
pub mod journal;
pub mod overlay;
