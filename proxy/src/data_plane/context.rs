//! State that all requests of a worker share.

use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;

use super::access::AccessRecorder;
use super::connections::Client;
use super::counters::WorkerCounters;
use super::error_log::ErrorLog;
use super::error_pages::ErrorPages;
use super::headers::{Forwarded, TrustedProxies};
use super::own_paths::OwnPaths;
use super::pool::Pool;
use super::request_body::{BodyDrain, RequestBody};
use super::request_id::RequestIds;
use super::session_cookie::SessionCookie;
use super::settings::{ClientLimits, RequestLimits};
use super::tester_field::TesterField;
use super::user_token::UserTokens;
use crate::router::Router;

/// State that all requests of a worker share.
#[derive(Debug)]
pub(super) struct ForwardContext {
    pub(super) router: Arc<Router>,
    pub(super) pool: Rc<Pool>,
    pub(super) body_drain: BodyDrain,
    pub(super) limits: RequestLimits,
    pub(super) client_limits: ClientLimits,
    pub(super) forwarded: Forwarded,
    pub(super) trusted_proxies: TrustedProxies,
    pub(super) own_paths: Option<Box<OwnPaths>>,
    pub(super) error_pages: Option<Arc<ErrorPages>>,
    pub(super) error_log: ErrorLog,
    pub(super) user_tokens: Option<Arc<dyn UserTokens>>,
    pub(super) websocket_close_code: u16,
    pub(super) session_cookie: Option<SessionCookie>,
    pub(super) tester_field: Option<TesterField>,
    pub(super) counters: Option<WorkerCounters>,
    pub(super) recorder: Option<Rc<AccessRecorder>>,
    pub(super) request_ids: Option<RequestIds>,
}

// === impl ForwardContext ===

impl ForwardContext {
    /// Returns the body of a client's request.
    pub(super) fn body_of(&self, client: &Client, body: Incoming) -> RequestBody {
        let stream = || {
            let stream = client.open.stream()?;
            Some((Rc::clone(stream), self.client_limits))
        };
        RequestBody::new(body, &client.activity, &self.body_drain, stream)
    }
}
