//! HTTP/1.1 towards the app, as bytes. Pure: no socket, no task.
//!
//! The client's side is hyper's. The app's side is ours: one request at a time on a connection that
//! the worker drives itself needs no task of its own, no channel between two tasks, and no second
//! copy of a head that may have to be sent again. That is a third of the instructions of a request.

mod body;
mod head;
mod request;

pub use body::{Chunked, Decoded, Decoder};
pub use head::{Head, read_head};
pub use request::{write_chunk, write_head, write_last_chunk};

/// What an app sent is not HTTP/1.1, or not safe to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// No status line, or a field that is none.
    #[error("the head of its answer is not HTTP/1.1")]
    Head,
    /// More bytes or fields than an answer may have.
    #[error("the head of its answer is too large")]
    HeadTooLarge,
    /// A length that is no number, or two different ones (RFC 9112, section 6.3).
    #[error("its answer has no one length")]
    Length,
    /// A chunk without a size, or longer than its size.
    #[error("its answer is badly chunked")]
    Chunk,
}
