//! An app that speaks HTTP/2, played by a test.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{Builder, SendResponse};
use http::{HeaderMap, HeaderValue, Request, Response};
use tests::stage::Stage;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::runtime::Runtime;

use crate::http2::{Client, all};

/// Maximum time for what has to happen.
const LONG: Duration = Duration::from_secs(30);
/// Path of the readiness probe.
const READY: &str = "/handoff-ready";
/// Path of the health check of gRPC.
const HEALTH: &str = "/grpc.health.v1.Health/Check";

/// A handoff whose app speaks HTTP/2, and is this test but for the readiness probe.
pub(crate) struct App {
    pub(crate) stage: Stage,
    pub(crate) runtime: Runtime,
    arrived: Receiver<Arrived>,
    /// The next connections are the test's, byte by byte.
    pub(crate) is_raw: Arc<AtomicBool>,
    /// Answer to a health check of gRPC: `SERVING`, or not.
    pub(crate) is_serving: Arc<AtomicBool>,
    /// The next connections speak HTTP/1 only, and answer everything with `http1`.
    pub(crate) is_old: Arc<AtomicBool>,
    /// The next connections of HTTP/2 announce that they take WebSockets (RFC 8441).
    pub(crate) takes_websockets: Arc<AtomicBool>,
}

/// An arrival at the app.
pub(crate) enum Arrived {
    Request(Box<AppRequest>),
    Connection(std::net::TcpStream),
}

/// A request that the app has received.
pub(crate) struct AppRequest {
    pub(crate) request: Request<RecvStream>,
    pub(crate) respond: SendResponse<Bytes>,
    /// Number of its connection.
    pub(crate) connection: usize,
    /// Ends its connection without another word.
    pub(crate) cut: tokio::sync::mpsc::UnboundedSender<()>,
}

// === impl App ===

impl App {
    #[track_caller]
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    #[track_caller]
    pub(crate) fn with(options: &[(&str, &str)]) -> Self {
        let app = Self::launching(options, true);
        app.await_active();
        app
    }

    /// Starts it, and does not wait for the app, which is healthy or not.
    #[track_caller]
    pub(crate) fn launching(options: &[(&str, &str)], is_serving: bool) -> Self {
        let options = [&[("--app-protocol", "h2c")], options].concat();
        Self::launching_as(&options, is_serving, false)
    }

    /// Starts it with an app that is asked for its protocol, and speaks HTTP/1 only at first.
    #[track_caller]
    pub(crate) fn old_at_first() -> Self {
        let app = Self::launching_as(&[("--app-protocol", "auto")], true, true);
        app.await_active();
        app
    }

    #[track_caller]
    fn launching_as(options: &[(&str, &str)], is_serving: bool, is_old: bool) -> Self {
        let stage = Stage::launching(options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (arrives, arrived) = channel();
        let is_raw = Arc::new(AtomicBool::new(false));
        let is_serving = Arc::new(AtomicBool::new(is_serving));
        let is_old = Arc::new(AtomicBool::new(is_old));
        let takes_websockets = Arc::new(AtomicBool::new(false));
        let states = [&is_raw, &is_serving, &is_old, &takes_websockets].map(Arc::clone);
        runtime.spawn(accept(stage.apps(), arrives, states));
        Self {
            stage,
            runtime,
            arrived,
            is_raw,
            is_serving,
            is_old,
            takes_websockets,
        }
    }

    #[track_caller]
    pub(crate) fn await_active(&self) {
        let site = self.stage.site();
        site.wait_until("the app serves", |status| status.active.is_some());
    }

    #[track_caller]
    pub(crate) fn request(&self) -> AppRequest {
        match self.arrived.recv_timeout(LONG).expect("a request") {
            Arrived::Request(request) => *request,
            Arrived::Connection(_) => panic!("a connection instead of a request"),
        }
    }

    #[track_caller]
    pub(crate) fn connection(&self) -> std::net::TcpStream {
        match self.arrived.recv_timeout(LONG).expect("a connection") {
            Arrived::Connection(stream) => stream,
            Arrived::Request(_) => panic!("a request instead of a connection"),
        }
    }

    pub(crate) fn client(&self) -> Client {
        Client::connect(self.stage.site().address())
    }

    #[track_caller]
    pub(crate) fn wait<T>(&self, wanted: impl Future<Output = T>) -> T {
        let waited = async { tokio::time::timeout(LONG, wanted).await };
        self.runtime.block_on(waited).expect("in time")
    }

    #[track_caller]
    pub(crate) fn body_of(&self, request: AppRequest) -> (String, SendResponse<Bytes>) {
        let AppRequest {
            request, respond, ..
        } = request;
        let bytes = self.wait(all(request.into_body())).expect("a whole body");
        (String::from_utf8(bytes).expect("a text"), respond)
    }
}

async fn accept(
    listener: TcpListener,
    arrives: Sender<Arrived>,
    [is_raw, is_serving, is_old, takes_websockets]: [Arc<AtomicBool>; 4],
) {
    listener.set_nonblocking(true).expect("a listener");
    let listener = tokio::net::TcpListener::from_std(listener).expect("a listener");
    for number in 0.. {
        let Ok((stream, _)) = listener.accept().await else {
            return;
        };
        if is_raw.load(Ordering::SeqCst) {
            let stream = stream.into_std().expect("a socket");
            stream.set_nonblocking(false).expect("a socket");
            let _ = arrives.send(Arrived::Connection(stream));
        } else if is_old.load(Ordering::SeqCst) {
            tokio::spawn(serve_http1(stream));
        } else {
            let is_serving = Arc::clone(&is_serving);
            let mut server = Builder::new();
            if takes_websockets.load(Ordering::SeqCst) {
                server.enable_connect_protocol();
            }
            tokio::spawn(serve(server, stream, number, arrives.clone(), is_serving));
        }
    }
}

async fn serve(
    server: Builder,
    stream: tokio::net::TcpStream,
    connection: usize,
    arrives: Sender<Arrived>,
    is_serving: Arc<AtomicBool>,
) {
    let Ok(mut streams) = server.handshake(stream).await else {
        return;
    };
    let (cut, mut is_cut) = tokio::sync::mpsc::unbounded_channel();
    loop {
        let accepted = tokio::select! {
            accepted = streams.accept() => accepted,
            _ = is_cut.recv() => return,
        };
        let Some(Ok((request, mut respond))) = accepted else {
            return;
        };
        if request.uri().path() == READY {
            let _ = respond.send_response(Response::new(()), true);
            continue;
        }
        if request.uri().path() == HEALTH {
            answer_health(respond, is_serving.load(Ordering::SeqCst));
            continue;
        }
        let cut = cut.clone();
        let _ = arrives.send(Arrived::Request(Box::new(AppRequest {
            request,
            respond,
            connection,
            cut,
        })));
    }
}

/// Answers each request of HTTP/1, and none of HTTP/2.
async fn serve_http1(mut stream: tokio::net::TcpStream) -> std::io::Result<()> {
    let mut received = Vec::new();
    loop {
        if stream.read_buf(&mut received).await? == 0 {
            return Ok(());
        }
        if received.starts_with(b"PRI ") {
            return stream.write_all(b"HTTP/1.1 400 Bad Request\r\n\r\n").await;
        }
        if received.ends_with(b"\r\n\r\n") {
            received.clear();
            let answer = b"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhttp1";
            stream.write_all(answer).await?;
        }
    }
}

/// Answers a health check of gRPC.
fn answer_health(mut respond: SendResponse<Bytes>, is_serving: bool) {
    let head = Response::builder().header("content-type", "application/grpc");
    let head = head.body(()).expect("a head");
    let status = if is_serving { 1 } else { 2 };
    let sent = respond.send_response(head, false).and_then(|mut body| {
        body.send_data(vec![0, 0, 0, 0, 2, 8, status].into(), false)?;
        let mut trailers = HeaderMap::new();
        trailers.insert("grpc-status", HeaderValue::from_static("0"));
        body.send_trailers(trailers)
    });
    sent.expect("an answer is sent");
}

pub(crate) fn ok() -> Response<()> {
    Response::new(())
}

#[track_caller]
pub(crate) fn finish(mut respond: SendResponse<Bytes>, text: &'static str) {
    let mut body = respond.send_response(ok(), false).expect("a head is sent");
    body.send_data(text.into(), true).expect("a body is sent");
}
