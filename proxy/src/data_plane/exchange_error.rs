//! The reasons for which an exchange has no response.

use std::io;

use super::pool::CutCause;
use super::request_body::BodyError;
use super::wire::Malformed;

/// An exchange without a response.
#[derive(Debug, thiserror::Error)]
pub(super) enum ExchangeError {
    /// handoff cut the connection.
    #[error("{}", match .0 {
        CutCause::Evicted => "the release that worked on this was replaced, and its time is over",
        CutCause::TimedOut => "the application did not answer in time",
        CutCause::BrokenRequest => "the client's request was cut off",
    })]
    Cut(CutCause),
    /// The connection ended before any byte of a response.
    #[error("the application ended the connection without an answer: {0}")]
    NoResponse(io::Error),
    /// The connection ended within the head of a response.
    #[error("the application ended the connection in the middle of an answer: {0}")]
    PartialHead(io::Error),
    /// The bytes that arrived are no HTTP response.
    #[error("the application cannot be understood: {0}")]
    Malformed(#[from] Malformed),
    /// The stream of HTTP/2 ended without a response, or with one that breaks the protocol.
    #[error("the application ended the stream without an answer: {0}")]
    Stream(h2::Error),
    /// The time has passed for which the client of a gRPC call waits.
    #[error("the call's own deadline has passed (grpc-timeout)")]
    Deadline,
    /// The app speaks HTTP/2, and takes no WebSockets over it.
    #[error(
        "the application has not announced that it takes WebSockets over HTTP/2 \
         (SETTINGS_ENABLE_CONNECT_PROTOCOL, RFC 8441)"
    )]
    NoWebSockets,
    /// The client's body did not arrive.
    #[error(transparent)]
    ClientBody(BodyError),
}
