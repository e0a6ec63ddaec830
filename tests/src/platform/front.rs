//! The public side: IIS accepts for ever, whatever happens behind it.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;

use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};

use super::forward::{forward, page};
use super::site::Site;

pub(super) async fn serve(listener: TcpListener, site: Arc<Site>) {
    loop {
        // One that is gone before it is accepted is no reason to end.
        if let Ok((stream, peer)) = listener.accept().await {
            tokio::spawn(connection(stream, peer, Arc::clone(&site)));
        }
    }
}

async fn connection(stream: TcpStream, peer: SocketAddr, site: Arc<Site>) {
    // It fails on a connection that is gone already.
    let _ = stream.set_nodelay(true);
    let service = service_fn(move |request| {
        // A task of its own: the module does not notice when a client leaves.
        let answer = tokio::spawn(forward(request, peer, Arc::clone(&site)));
        async move {
            let answer = answer.await;
            Ok::<_, Infallible>(answer.unwrap_or_else(|error| page("502.3", &error.to_string())))
        }
    });
    let served = http1::Builder::new()
        .preserve_header_case(true)
        .serve_connection(TokioIo::new(stream), service)
        .with_upgrades();
    // How a client leaves is its own business.
    let _ = served.await;
}
