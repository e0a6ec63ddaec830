//! A small, honest HTTP app that can be told to misbehave.
//!
//! The app itself is the binary. Its library holds only what makes a release of it: an
//! [`overlay`] appended to the executable, so that a new release, good or bad, is one copy
//! away and needs no compiler.

pub mod overlay;
