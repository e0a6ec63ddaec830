//! What is noted of a request for those who look on; nothing when nobody does.

use std::rc::Rc;

use http::{HeaderValue, Request, Response};
use http_body::Body as _;
use tokio::time::Instant;

use super::access::Access;
use super::body::ResponseBody;
use super::forward::{Client, Shared};
use super::request_id;
use crate::release::Generation;

/// One request, from its head to its answer's.
#[derive(Debug)]
pub(super) struct Followed {
    /// No clock is read that nobody looks at.
    begun: Option<Instant>,
    pub(super) access: Option<Rc<Access>>,
    id: Option<Box<HeaderValue>>,
    /// Known once it is on its way.
    served_by: Option<Generation>,
}

// === impl Followed ===

impl Followed {
    /// Notes what is wanted, and says the request's id in its head.
    pub(super) fn begin<B>(request: &mut Request<B>, shared: &Shared, client: &Client) -> Self {
        let recorder = shared.recorder.as_ref();
        let access = recorder.map(|recorder| recorder.begin(request, client.peer.address()));
        let id = shared.request_ids.as_ref().map(|ids| {
            let id = ids.of(request.headers());
            request.headers_mut().insert(&request_id::NAME, id.clone());
            if let Some(access) = &access {
                access.has_id(&id);
            }
            Box::new(id)
        });
        Self {
            begun: shared.tally.as_ref().map(|_| Instant::now()),
            access,
            id,
            served_by: None,
        }
    }

    /// It goes to this generation.
    pub(super) fn is_served_by(&mut self, generation: Generation) {
        self.served_by = Some(generation);
        if let Some(access) = &self.access {
            access.generation.set(Some(generation));
        }
    }

    /// The head of its answer is there.
    pub(super) fn answered(&self, answer: &mut Response<ResponseBody>, shared: &Shared) {
        if let (Some(tally), Some(begun)) = (&shared.tally, self.begun) {
            tally.answered(self.served_by, answer.status(), begun.elapsed());
        }
        if let Some(id) = &self.id
            && !answer.headers().contains_key(&request_id::NAME)
        {
            let id = HeaderValue::clone(id);
            answer.headers_mut().insert(&request_id::NAME, id);
        }
        if let Some(access) = &self.access {
            access.answered(answer.status());
            if let ResponseBody::Text(text) = answer.body() {
                access.sent(text.len());
                access.is_complete.set(true);
            }
            if answer.body().is_end_stream() {
                access.is_complete.set(true);
            }
        }
    }
}
