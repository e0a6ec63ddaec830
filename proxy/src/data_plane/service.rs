//! Forwarding as the service that hyper drives.

use std::convert::Infallible;
use std::task::{Context, Poll};

use http::{Request, Response};
use hyper::body::Incoming;

use super::forward::{Forward, ResponseFuture};
use super::response_body::ResponseBody;

impl tower::Service<Request<Incoming>> for Forward {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        // Always ready: a request waits for an upstream itself.
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<Incoming>) -> ResponseFuture {
        self.respond(request)
    }
}

/// The same as [`tower::Service`], without an adapter's clone and future for each request.
impl hyper::service::Service<Request<Incoming>> for Forward {
    type Response = Response<ResponseBody>;
    type Error = Infallible;
    type Future = ResponseFuture;

    fn call(&self, request: Request<Incoming>) -> ResponseFuture {
        self.respond(request)
    }
}
