//! An app that speaks HTTP/2, played by a test.

use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::{Receiver, Sender, channel};
use std::time::Duration;

use bytes::Bytes;
use h2::RecvStream;
use h2::server::{self, SendResponse};
use http::{Request, Response};
use tests::stage::Stage;
use tokio::runtime::Runtime;

use crate::http2::{Client, all};

/// Maximum time for what has to happen.
const LONG: Duration = Duration::from_secs(30);
/// Path of the readiness probe.
const READY: &str = "/handoff-ready";

/// A handoff whose app speaks HTTP/2, and is this test but for the readiness probe.
pub(crate) struct App {
    pub(crate) stage: Stage,
    pub(crate) runtime: Runtime,
    arrived: Receiver<Arrived>,
    /// The next connections are the test's, byte by byte.
    pub(crate) is_raw: Arc<AtomicBool>,
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
        let options = [&[("--app-protocol", "h2c")], options].concat();
        let stage = Stage::launching(&options);
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .worker_threads(1)
            .enable_all()
            .build()
            .expect("a runtime");
        let (arrives, arrived) = channel();
        let is_raw = Arc::new(AtomicBool::new(false));
        runtime.spawn(accept(stage.apps(), arrives, Arc::clone(&is_raw)));
        let what = "the app serves";
        stage
            .site()
            .wait_until(what, |status| status.active.is_some());
        Self {
            stage,
            runtime,
            arrived,
            is_raw,
        }
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

async fn accept(listener: TcpListener, arrives: Sender<Arrived>, is_raw: Arc<AtomicBool>) {
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
        } else {
            tokio::spawn(serve(stream, number, arrives.clone()));
        }
    }
}

async fn serve(stream: tokio::net::TcpStream, connection: usize, arrives: Sender<Arrived>) {
    let Ok(mut streams) = server::handshake(stream).await else {
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
        let cut = cut.clone();
        let _ = arrives.send(Arrived::Request(Box::new(AppRequest {
            request,
            respond,
            connection,
            cut,
        })));
    }
}

pub(crate) fn ok() -> Response<()> {
    Response::new(())
}

#[track_caller]
pub(crate) fn finish(mut respond: SendResponse<Bytes>, text: &'static str) {
    let mut body = respond.send_response(ok(), false).expect("a head is sent");
    body.send_data(text.into(), true).expect("a body is sent");
}

/// A frame of HTTP/2.
pub(crate) fn frame(kind: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
    let length = u32::try_from(payload.len()).expect("a small payload");
    let mut frame = length.to_be_bytes()[1..].to_vec();
    frame.extend([kind, 0]);
    frame.extend(stream.to_be_bytes());
    frame.extend(payload);
    frame
}
