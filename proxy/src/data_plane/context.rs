//! State that all requests of a worker share.

use std::rc::Rc;
use std::sync::Arc;

use hyper::body::Incoming;

use super::access::AccessRecorder;
use super::connections::Client;
use super::counters::WorkerCounters;
use super::headers::Forwarded;
use super::pool::Pool;
use super::request_body::{BodyDrain, RequestBody};
use super::request_id::RequestIds;
use super::settings::RequestLimits;
use super::shutdown_request::ShutdownRequest;
use super::user_token::UserTokens;
use crate::router::Router;

/// State that all requests of a worker share.
#[derive(Debug)]
pub(super) struct ForwardContext {
    pub(super) router: Arc<Router>,
    pub(super) pool: Rc<Pool>,
    pub(super) body_drain: BodyDrain,
    pub(super) limits: RequestLimits,
    pub(super) forwarded: Forwarded,
    pub(super) shutdown_request: Option<ShutdownRequest>,
    pub(super) user_tokens: Option<Arc<dyn UserTokens>>,
    pub(super) counters: Option<WorkerCounters>,
    pub(super) recorder: Option<Rc<AccessRecorder>>,
    pub(super) request_ids: Option<RequestIds>,
}

// === impl ForwardContext ===

impl ForwardContext {
    /// Returns the body of a client's request.
    pub(super) fn body_of(&self, client: &Client, body: Incoming) -> RequestBody {
        RequestBody::new(body, &client.activity, &self.body_drain)
    }
}
