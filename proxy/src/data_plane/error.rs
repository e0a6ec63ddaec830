//! Why a request got no answer from the app, and the one table from that to a status.

use std::io;

use bytes::Bytes;
use http::{HeaderValue, Response, StatusCode, header};

use super::body::ResponseBody;
use super::exchange::Failure;
use super::pool::Cut;
use crate::router::HoldError;

/// Why a request got no answer from the app.
#[derive(Debug, thiserror::Error)]
pub(super) enum ForwardError {
    /// The client's request is not one that may be passed on.
    #[error("{0}")]
    BadRequest(&'static str),
    /// This is no forward proxy.
    #[error("CONNECT is not supported")]
    Connect,
    /// It may not be passed on, and nothing here shows its sender what came: there may be secrets in
    /// it.
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
    /// The app gave no answer that could be passed on.
    #[error("{0}")]
    NoAnswer(#[from] Failure),
    /// The app's answer is not one that may be passed on.
    #[error("the application's answer cannot be passed on: {0}")]
    BadAnswer(&'static str),
    /// The target is longer than is allowed.
    #[error("the request's target is too long")]
    TargetTooLong,
    /// The app switched protocols without being asked, or to another one.
    #[error("the application switched to a protocol that was not asked for")]
    Upgrade,
}

// === impl ForwardError ===

impl ForwardError {
    /// Why a connection to the app was not made.
    pub(super) fn of_connect(error: io::Error) -> Self {
        match error.kind() == io::ErrorKind::TimedOut {
            true => Self::ConnectTimeout,
            false => Self::Unreachable(error),
        }
    }

    /// Whether the app is to blame, as far as anybody can tell.
    pub(super) fn is_apps(&self) -> bool {
        match self {
            Self::NoAnswer(failure) => match failure {
                Failure::Client(_) | Failure::Cut(Cut::Evicted | Cut::Stalled) => false,
                Failure::Cut(Cut::TimedOut)
                | Failure::Silent(_)
                | Failure::Broken(_)
                | Failure::Malformed(_) => true,
            },
            Self::Unreachable(_) | Self::ConnectTimeout | Self::BadAnswer(_) | Self::Upgrade => {
                true
            }
            Self::BadRequest(_)
            | Self::Connect
            | Self::TraceEndsHere
            | Self::Hold(_)
            | Self::TargetTooLong => false,
        }
    }

    fn status(&self) -> StatusCode {
        match self {
            Self::BadRequest(_) | Self::NoAnswer(Failure::Client(_)) => StatusCode::BAD_REQUEST,
            Self::TargetTooLong => StatusCode::URI_TOO_LONG,
            Self::Connect | Self::TraceEndsHere => StatusCode::NOT_IMPLEMENTED,
            Self::Hold(_) => StatusCode::SERVICE_UNAVAILABLE,
            Self::NoAnswer(Failure::Cut(Cut::Stalled)) => StatusCode::REQUEST_TIMEOUT,
            Self::NoAnswer(Failure::Cut(Cut::Evicted | Cut::TimedOut)) | Self::ConnectTimeout => {
                StatusCode::GATEWAY_TIMEOUT
            }
            Self::NoAnswer(Failure::Silent(_) | Failure::Broken(_) | Failure::Malformed(_))
            | Self::BadAnswer(_)
            | Self::Unreachable(_)
            | Self::Upgrade => StatusCode::BAD_GATEWAY,
        }
    }

    /// What the client gets.
    pub(super) fn into_response(self) -> Response<ResponseBody> {
        let status = self.status();
        tracing::debug!(%status, reason = %self, "answered for the application");
        let text = Bytes::from(format!("{status}: {self}\n"));
        let mut response = Response::new(ResponseBody::Text(text));
        *response.status_mut() = status;
        let headers = response.headers_mut();
        let plain = HeaderValue::from_static("text/plain; charset=utf-8");
        headers.insert(header::CONTENT_TYPE, plain);
        if status == StatusCode::SERVICE_UNAVAILABLE {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(
            status,
            StatusCode::BAD_REQUEST | StatusCode::REQUEST_TIMEOUT
        ) {
            // Where a request is in doubt, so is where it ends: nothing behind it is one.
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}
