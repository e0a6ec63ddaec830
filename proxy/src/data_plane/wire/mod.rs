//! HTTP/1.1 to the app, as bytes. Pure: no socket, no task.
//!
//! hyper serves the client's side. This module is the app's side: with one request at a time on a
//! connection that the worker drives itself, there is no task per connection, no channel between
//! two tasks, and no second copy of a head that may have to be sent again. That saves a third of
//! the instructions of a request.

use super::headers::HeaderFlags;

mod body;
mod head;
mod request;
mod version;

pub use body::{Chunked, Decoded, Decoder};
pub use head::{Head, merge_lengths, read_head};
pub use request::{Framing, read_fields, write_chunk, write_head, write_last_chunk};
pub use version::lower_request_version;

/// A response that is not HTTP/1.1, or not safe to pass on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Malformed {
    /// A status line or a field that is malformed.
    #[error("the head of its answer is not HTTP/1.1")]
    Head,
    /// A head with more bytes or fields than are allowed.
    #[error("the head of its answer is too large")]
    HeadTooLarge,
    /// A length that is no number, or two different ones (RFC 9112, section 6.3).
    #[error("its answer has no one length")]
    Length,
    /// A chunk without a size, or longer than its size.
    #[error("its answer is badly chunked")]
    Chunk,
}
