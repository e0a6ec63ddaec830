//! The record of a request for counters, access log and request id; empty when all three are off.

use std::rc::Rc;

use http::{HeaderMap, HeaderValue, Request, Response, StatusCode, header};
use http_body::Body as _;
use tokio::time::Instant;

use super::access::AccessEntry;
use super::activity::Ending;
use super::connections::Client;
use super::context::ForwardContext;
use super::request_id::{self, RequestIds};
use super::response_body::ResponseBody;
use crate::release::Generation;

/// A request's record, from its head to the head of its response.
#[derive(Debug)]
pub(super) struct RequestRecord {
    /// Start of the request; the clock is read only for the counters.
    begun: Option<Instant>,
    pub(super) access: Option<Rc<AccessEntry>>,
    id: Option<Box<HeaderValue>>,
    /// The generation that the request was sent to.
    generation: Option<Generation>,
}

// === impl RequestRecord ===

impl RequestRecord {
    /// Starts the record.
    pub(super) fn begin<B>(
        request: &Request<B>,
        context: &ForwardContext,
        client: &Client,
    ) -> Self {
        let recorder = context.recorder.as_ref();
        let access = recorder.map(|recorder| recorder.begin(request, client.peer.address()));
        let id = context.request_ids.as_ref().map(|ids| {
            let id = ids.get_or_create(request.headers());
            if let Some(access) = &access {
                access.set_request_id(&id);
            }
            Box::new(id)
        });
        Self {
            begun: context.counters.as_ref().map(|_| Instant::now()),
            access,
            id,
            generation: None,
        }
    }

    /// Returns the request's id; without `--request-id`, the one that came with it, or a new one.
    pub(super) fn id_or_new(&self, headers: &HeaderMap) -> HeaderValue {
        match &self.id {
            Some(id) => HeaderValue::clone(id),
            None => RequestIds::default().get_or_create(headers),
        }
    }

    /// Sets the request's id in its head, once nothing more is removed from that.
    pub(super) fn set_id(&self, headers: &mut HeaderMap) {
        if let Some(id) = &self.id {
            headers.insert(&request_id::NAME, HeaderValue::clone(id));
        }
    }

    /// Sets the generation that the request is sent to.
    pub(super) fn set_generation(&mut self, generation: Generation) {
        self.generation = Some(generation);
        if let Some(access) = &self.access {
            access.generation.set(Some(generation));
        }
    }

    /// Returns the generation that the request was sent to.
    pub(super) fn generation(&self) -> Option<Generation> {
        self.generation
    }

    /// Completes the head of the response, and records it.
    pub(super) fn finish(
        &self,
        context: &ForwardContext,
        client: &Client,
        response: &mut Response<ResponseBody>,
    ) {
        let is_last = context.router.is_leaving() || client.activity.ending() == Ending::LingerNext;
        // A 101 has its own Connection field, and ends the connection for HTTP anyway.
        if is_last && response.status() != StatusCode::SWITCHING_PROTOCOLS {
            let close = HeaderValue::from_static("close");
            response.headers_mut().insert(header::CONNECTION, close);
        }
        self.record_response(response, context);
    }

    /// Counts and records the head of the response, and sets the request's id in it.
    fn record_response(&self, response: &mut Response<ResponseBody>, context: &ForwardContext) {
        if let (Some(counters), Some(begun)) = (&context.counters, self.begun) {
            counters.count_response(self.generation, response.status(), begun.elapsed());
        }
        if let Some(id) = &self.id
            && !response.headers().contains_key(&request_id::NAME)
        {
            let id = HeaderValue::clone(id);
            response.headers_mut().insert(&request_id::NAME, id);
        }
        if let Some(access) = &self.access {
            access.record_status(response.status());
            access.record_grpc_status(response.headers());
            if let ResponseBody::Text(text) = response.body() {
                access.count_bytes(text.len());
                access.is_complete.set(true);
            }
            if response.body().is_end_stream() {
                access.is_complete.set(true);
            }
        }
    }
}
