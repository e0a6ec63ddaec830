//! The content of a file of an earlier release on its way to the client.

use std::io;
use std::pin::Pin;
use std::rc::Rc;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use http_body::{Body as _, Frame, SizeHint};
use http_body_util::combinators::UnsyncBoxBody;

use super::access::AccessEntry;
use super::connections::Client;

/// The content of a file on its way to the client.
pub(super) struct FileBody {
    content: UnsyncBoxBody<Bytes, io::Error>,
    client: Rc<Client>,
    access: Option<Rc<AccessEntry>>,
}

// === impl FileBody ===

impl FileBody {
    pub(super) fn new(
        content: UnsyncBoxBody<Bytes, io::Error>,
        client: &Rc<Client>,
        access: Option<&Rc<AccessEntry>>,
    ) -> Self {
        let body = Self {
            content,
            client: Rc::clone(client),
            access: access.cloned(),
        };
        if body.is_end_stream() {
            body.finish();
        }
        body
    }

    pub(super) fn poll_frame(
        &mut self,
        cx: &mut Context<'_>,
    ) -> Poll<Option<io::Result<Frame<Bytes>>>> {
        let frame = ready!(Pin::new(&mut self.content).poll_frame(cx));
        match &frame {
            Some(Ok(frame)) => {
                if let Some(access) = &self.access {
                    access.count_bytes(frame.data_ref().map_or(0, Bytes::len));
                }
                if self.content.is_end_stream() {
                    self.finish();
                }
            }
            Some(Err(_)) => self.client.reset_on_close(),
            None => self.finish(),
        }
        Poll::Ready(frame)
    }

    pub(super) fn size_hint(&self) -> SizeHint {
        self.content.size_hint()
    }

    pub(super) fn is_end_stream(&self) -> bool {
        self.content.is_end_stream()
    }

    fn finish(&self) {
        self.client.begin_idle();
        if let Some(access) = &self.access {
            access.is_complete.set(true);
        }
    }
}
