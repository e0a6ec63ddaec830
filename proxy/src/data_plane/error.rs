//! Errors of forwarding, and the one table from them to a status.

use std::io;

use http::StatusCode;

use super::exchange::ExchangeError;
use super::grpc_body::GrpcStatus;
use super::pool::CutCause;
use super::request_body::BodyError;
use crate::router::{HoldError, ResponseOutcome};

/// A request that got no response from the app.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// A request that may not be passed on.
    #[error("{0}")]
    BadRequest(&'static str),
    /// A CONNECT: handoff is no forward proxy.
    #[error("CONNECT is not supported")]
    Connect,
    /// A TRACE that may not be passed on. It is not echoed either, as it may contain secrets.
    #[error("TRACE ends here, and is not supported")]
    TraceEndsHere,
    /// No upstream was active, and the request could not wait, or not longer.
    #[error("{0}")]
    Hold(#[from] HoldError),
    /// The app did not accept a connection.
    #[error("the application cannot be reached: {0}")]
    Unreachable(io::Error),
    /// The app neither accepted nor refused a connection.
    #[error("the application did not accept a connection in time")]
    ConnectTimeout,
    /// The app sent no response, or none that can be read.
    #[error("{0}")]
    NoResponse(#[from] ExchangeError),
    /// The app's response may not be passed on.
    #[error("the application's answer cannot be passed on: {0}")]
    BadResponse(&'static str),
    /// The target is longer than is allowed.
    #[error("the request's target is too long")]
    TargetTooLong,
    /// The app switched protocols without a request for it, or to another protocol.
    #[error("the application switched to a protocol that was not asked for")]
    Upgrade,
}

// === impl ForwardError ===

impl ForwardError {
    /// Converts the error of a connection attempt.
    pub(super) fn from_connect(error: io::Error) -> Self {
        if error.kind() == io::ErrorKind::TimedOut {
            Self::ConnectTimeout
        } else {
            Self::Unreachable(error)
        }
    }

    /// Returns `AppFault` if the app is the cause, as far as handoff can tell.
    pub(super) fn outcome(&self) -> ResponseOutcome {
        match self {
            Self::NoResponse(
                ExchangeError::Cut(CutCause::TimedOut)
                | ExchangeError::NoResponse(_)
                | ExchangeError::PartialHead(_)
                | ExchangeError::Malformed(_)
                | ExchangeError::Stream(_),
            )
            | Self::Unreachable(_)
            | Self::ConnectTimeout
            | Self::BadResponse(_)
            | Self::Upgrade => ResponseOutcome::AppFault,
            Self::NoResponse(
                ExchangeError::ClientBody(_)
                | ExchangeError::Deadline
                | ExchangeError::NoWebSockets
                | ExchangeError::Cut(CutCause::Evicted | CutCause::BrokenRequest),
            )
            | Self::BadRequest(_)
            | Self::Connect
            | Self::TraceEndsHere
            | Self::Hold(_)
            | Self::TargetTooLong => ResponseOutcome::NoFault,
        }
    }

    /// Returns the status of the response.
    pub(super) fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_)
            | Self::NoResponse(
                ExchangeError::ClientBody(BodyError::Broken(_))
                | ExchangeError::Cut(CutCause::BrokenRequest),
            ) => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Connect | Self::TraceEndsHere | Self::NoResponse(ExchangeError::NoWebSockets) => {
                StatusCode::NOT_IMPLEMENTED
            }
            Self::Hold(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoResponse(ExchangeError::ClientBody(BodyError::Overdue)) => {
                StatusCode::REQUEST_TIMEOUT
            }
            Self::NoResponse(
                ExchangeError::Cut(CutCause::Evicted | CutCause::TimedOut)
                | ExchangeError::Deadline,
            )
            | Self::ConnectTimeout => StatusCode::GATEWAY_TIMEOUT,
            Self::NoResponse(
                ExchangeError::NoResponse(_)
                | ExchangeError::PartialHead(_)
                | ExchangeError::Malformed(_)
                | ExchangeError::Stream(_),
            )
            | Self::BadResponse(_)
            | Self::Unreachable(_)
            | Self::Upgrade => StatusCode::BAD_GATEWAY,
        }
    }

    /// Returns the status of a gRPC call that ends so.
    pub(super) fn grpc_status(&self) -> GrpcStatus {
        match (self, self.status()) {
            // The next call has another instance.
            (Self::NoResponse(ExchangeError::Cut(CutCause::Evicted)), _) => GrpcStatus::Unavailable,
            (
                Self::NoResponse(ExchangeError::Cut(CutCause::TimedOut) | ExchangeError::Deadline),
                _,
            ) => GrpcStatus::DeadlineExceeded,
            (_, StatusCode::BAD_REQUEST) => GrpcStatus::Internal,
            (_, StatusCode::REQUEST_TIMEOUT) => GrpcStatus::Cancelled,
            (_, StatusCode::URI_TOO_LONG) => GrpcStatus::ResourceExhausted,
            (_, StatusCode::NOT_IMPLEMENTED) => GrpcStatus::Unimplemented,
            _ => GrpcStatus::Unavailable,
        }
    }

    /// Returns `true` if the request is in doubt, and with it its end: what follows cannot be read as
    /// another request.
    pub(super) fn ends_connection(&self) -> bool {
        let status = self.status();
        matches!(self, Self::Connect)
            || status == StatusCode::BAD_REQUEST
            || status == StatusCode::REQUEST_TIMEOUT
    }
}
