//! The paths that are handoff's own on the public port.

use std::sync::Arc;

use bytes::Bytes;
use http::{HeaderValue, Method, Request, Response, StatusCode, header};

use super::error::ForwardError;
use super::old_assets::AssetRequest;
use super::response_body::ResponseBody;
use super::session_cookie::SessionCookie;
use super::settings::{DataPlaneSettings, OldAssets};
use super::shutdown_request::ShutdownRequest;
use crate::router::Router;

/// The paths that are handoff's own on the public port.
#[derive(Debug)]
pub(super) struct OwnPaths {
    shutdown_request: Option<ShutdownRequest>,
    /// `--public-health`
    public_health: Option<String>,
    /// `--keep-assets`
    old_assets: Option<Arc<OldAssets>>,
    /// `--sticky`
    has_sessions: bool,
}

/// A request that is not simply forwarded. Boxed are those that are rare: others move it, too.
pub(super) enum SpecialRequest {
    /// One that handoff answers itself.
    Own(Box<Response<ResponseBody>>),
    /// One that may not be passed on.
    Refused(ForwardError),
    /// One for an asset, which the active release perhaps no longer has.
    Asset(Box<AssetRequest>),
    /// One that may belong to a session.
    InSession,
}

// === impl OwnPaths ===

impl OwnPaths {
    /// Returns the paths; `None` if there are none.
    pub(super) fn new(settings: &DataPlaneSettings) -> Option<Self> {
        let paths = Self {
            shutdown_request: settings.shutdown_request.clone(),
            public_health: settings.public_health.clone(),
            old_assets: settings.old_assets.clone(),
            has_sessions: settings.session_cookie.is_some(),
        };
        let has_any = paths.shutdown_request.is_some()
            || paths.public_health.is_some()
            || paths.old_assets.is_some()
            || paths.has_sessions;
        has_any.then_some(paths)
    }

    /// Returns the request's treatment, if its path is one of these.
    pub(super) fn find<B>(&self, request: &Request<B>, router: &Router) -> Option<SpecialRequest> {
        if let Some(shutdown) = &self.shutdown_request
            && shutdown.matches(request)
        {
            shutdown.notify();
            // The status that the platform expects.
            return Some(SpecialRequest::Own(Box::new(empty(StatusCode::ACCEPTED))));
        }
        if let Some(path) = &self.public_health
            && [Method::GET, Method::HEAD].contains(request.method())
            && request.uri().path() == path
        {
            return Some(SpecialRequest::Own(Box::new(health(router))));
        }
        let asset = self
            .old_assets
            .as_ref()
            .and_then(|it| it.request_for(request));
        if let Some(asset) = asset {
            return Some(SpecialRequest::Asset(Box::new(asset)));
        }
        let is_in_session = self.has_sessions && SessionCookie::concerns(request);
        is_in_session.then_some(SpecialRequest::InSession)
    }
}

/// Returns the health of this sidecar for a load balancer: it can serve, or it cannot.
///
/// A maintenance is healthy: a balancer without a healthy server has its own page in place of the
/// operator's.
fn health(router: &Router) -> Response<ResponseBody> {
    let is_served = router.routed().is_some() || router.maintenance().is_some();
    let (status, text) = if is_served && !router.is_closing() {
        (StatusCode::OK, "ok\n")
    } else {
        (StatusCode::SERVICE_UNAVAILABLE, "unavailable\n")
    };
    let mut response = Response::new(ResponseBody::Text(Bytes::from_static(text.as_bytes())));
    *response.status_mut() = status;
    let plain = HeaderValue::from_static("text/plain; charset=utf-8");
    let not_kept = HeaderValue::from_static("no-store");
    response.headers_mut().insert(header::CONTENT_TYPE, plain);
    response
        .headers_mut()
        .insert(header::CACHE_CONTROL, not_kept);
    response
}

/// Returns a response of this status without a body.
pub(super) fn empty(status: StatusCode) -> Response<ResponseBody> {
    let mut response = Response::new(ResponseBody::Empty);
    *response.status_mut() = status;
    response
}
