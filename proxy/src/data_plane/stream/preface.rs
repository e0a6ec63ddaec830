//! The first bytes of HTTP/2, which a client may send in pieces.

use std::io;
use std::pin::Pin;
use std::task::{Context, Poll, ready};

use bytes::Bytes;
use tokio::io::{AsyncRead as _, ReadBuf};

use super::ClientIo;
use crate::data_plane::wire;

impl ClientIo {
    /// Takes the bytes beside those `before` back, and waits for more.
    #[cold]
    pub(super) fn keep_back(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
        before: usize,
    ) -> Poll<io::Result<()>> {
        self.received = Bytes::copy_from_slice(&buffer.filled()[before..]);
        self.is_partial = true;
        buffer.set_filled(before);
        self.poll_read(cx, buffer)
    }

    /// Waits until the first bytes are all there, or are others.
    pub(super) fn poll_preface(&mut self, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        while self.is_partial {
            let mut rest = [0; wire::HTTP2_PREFACE.len()];
            let mut rest = ReadBuf::new(&mut rest[self.received.len()..]);
            let read = Pin::new(&mut self.stream).poll_read(cx, &mut rest);
            if read.is_pending() {
                self.activity.await_bytes();
            }
            ready!(read)?;
            self.activity.record_read(rest.filled().len());
            self.received = [&self.received, rest.filled()].concat().into();
            let is_end = rest.filled().is_empty();
            self.is_partial = !is_end && wire::is_part_of_preface(&self.received);
        }
        Poll::Ready(Ok(()))
    }
}
