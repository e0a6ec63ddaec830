//! The failures of a probe, as sentences.

use std::time::Duration;

use http::StatusCode;

use super::protocol::OtherProtocol;
use super::question::{Asked, ExpectedStatus};

/// The failure of one probe.
#[derive(Debug, thiserror::Error)]
pub enum ProbeFailure {
    /// Nothing listens on the port.
    #[error("nothing listens on port {port}: {source}")]
    Connect {
        /// Port of the app.
        port: u16,
        /// Error of the connection. Azure's sandbox reports 10013 (forbidden), not 10061 (refused).
        source: std::io::Error,
    },
    /// The app sent no HTTP response.
    #[error("no HTTP answer to {asked}: {source}")]
    Http {
        /// Request that was sent.
        asked: Asked,
        /// Error of the HTTP client.
        source: hyper::Error,
    },
    /// The app does not answer in HTTP/2.
    #[error("no HTTP/2 answer to the gRPC health check: {source}")]
    NoGrpc {
        /// Error of the HTTP client.
        source: hyper::Error,
    },
    /// The app's health service gives another answer than SERVING.
    #[error("the gRPC health check of {} {reason} (--health-grpc)", named(service))]
    Grpc {
        /// Service that was asked for.
        service: String,
        /// Answer, as the end of a sentence.
        reason: String,
    },
    /// The app speaks another protocol.
    #[error(
        "it speaks {protocol} on its port {port}, not plain HTTP/1.1: {}", protocol.remedy()
    )]
    Protocol {
        /// Protocol that was recognised.
        protocol: OtherProtocol,
        /// Port of the app.
        port: u16,
    },
    /// The response has another status code than expected.
    #[error("{asked} answered {status}, expected {expected}")]
    Status {
        /// Request that was sent.
        asked: Asked,
        /// Status code of the response.
        status: StatusCode,
        /// Expected status codes.
        expected: ExpectedStatus,
    },
    /// The response redirects to another place, which proves nothing.
    #[error(
        "{asked} answered {status} with the Location {location}: a redirect to another place is no \
         sign of health, unless --health-status names it"
    )]
    Redirect {
        /// Request that was sent.
        asked: Asked,
        /// Status code of the response.
        status: StatusCode,
        /// Place that the response names.
        location: String,
    },
    /// The active release does better.
    #[error(
        "{asked} answered {status}, and the active release answers {active} to it: correct it, give \
         the request what it lacks (--health-host, --health-header, --health-path), or name {} in \
         --health-status", status.as_u16()
    )]
    WorseThanActive {
        /// Request that was sent.
        asked: Asked,
        /// Status code of the response.
        status: StatusCode,
        /// Status code of the active release's response.
        active: StatusCode,
    },
    /// The body lacks the text that it has to contain.
    #[error("{asked} answered {status} without {text:?} in its body (--health-body)")]
    Body {
        /// Request that was sent.
        asked: Asked,
        /// Status code of the response.
        status: StatusCode,
        /// Text that the body has to contain.
        text: String,
    },
    /// The app did not answer in time.
    #[error("{what} was not answered within {}", humantime::format_duration(*timeout))]
    Timeout {
        /// Request that was sent.
        what: String,
        /// Maximum time for one probe.
        timeout: Duration,
    },
}

fn named(service: &str) -> &str {
    if service.is_empty() {
        "the server"
    } else {
        service
    }
}
