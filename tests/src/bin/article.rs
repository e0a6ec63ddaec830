//! An app in the manner of the article of 2015 on Go apps in Azure Websites: it deploys itself.
//!
//! `article launch …` is the article's launcher, which is what `web.config` names: it runs what
//! `_artifact.txt` in its folder names, with the same arguments. The app itself watches `_target`.
//! At the first file that appears there it closes its listener, finishes its connections and ends;
//! the next request makes the platform start the launcher, and that the new app.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::Path;
use std::process::{Command, ExitCode, Stdio};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use notify::event::{ModifyKind, RenameMode};
use notify::{EventKind, RecursiveMode, Watcher as _};
use sample_app::{answers, overlay};
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio::task::JoinSet;

fn main() -> ExitCode {
    let mut args: Vec<String> = std::env::args().skip(1).collect();
    let done = match args.first().map(String::as_str) {
        Some("launch") => {
            args.remove(0);
            launch(&args)
        }
        _ => serve(&args),
    };
    match done {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("article: {error}");
            ExitCode::FAILURE
        }
    }
}

fn launch(args: &[String]) -> io::Result<()> {
    let artifact = std::fs::read_to_string("_artifact.txt")?;
    let program = Path::new("_target").join(artifact.trim());
    let mut command = Command::new(std::path::absolute(program)?);
    command.args(args).stdin(Stdio::null());
    command.status().map(drop)
}

#[tokio::main(flavor = "current_thread")]
async fn serve(args: &[String]) -> io::Result<()> {
    let port = match args {
        [option, port] if option == "-port" => port.parse().map_err(io::Error::other)?,
        _ => return Err(io::Error::other("expected -port N")),
    };
    let own = overlay::read(&std::env::current_exe()?)?;
    let version: &'static str = own.unwrap_or_default().version.leak();

    let (appear, mut appeared) = watch::channel(false);
    let mut watcher = notify::recommended_watcher(move |event: notify::Result<notify::Event>| {
        // To what the article used, a file that is moved here is a new one.
        let moved = EventKind::Modify(ModifyKind::Name(RenameMode::To));
        let is_new = |kind| matches!(kind, EventKind::Create(_)) || kind == moved;
        if event.is_ok_and(|event| is_new(event.kind)) {
            appear.send_replace(true);
        }
    })
    .map_err(io::Error::other)?;
    let watched = watcher.watch(Path::new("_target"), RecursiveMode::NonRecursive);
    watched.map_err(io::Error::other)?;

    let address = SocketAddr::from((Ipv4Addr::LOCALHOST, port));
    let listener = TcpListener::bind(address).await?;
    let mut connections = JoinSet::new();
    let ending = appeared.clone();
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (stream, _) = accepted?;
                connections.spawn(connection(TokioIo::new(stream), version, ending.clone()));
            }
            Some(_ended) = connections.join_next() => {}
            _ = appeared.wait_for(|new| *new) => break,
        }
    }
    drop(listener);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn connection(
    stream: TokioIo<tokio::net::TcpStream>,
    version: &'static str,
    mut ending: watch::Receiver<bool>,
) {
    let service = service_fn(move |request| answer(request, version));
    let served = http1::Builder::new().serve_connection(stream, service);
    tokio::pin!(served);
    // How a connection ends is its other side's business.
    tokio::select! {
        _ = &mut served => return,
        _ = ending.wait_for(|new| *new) => {}
    }
    served.as_mut().graceful_shutdown();
    let _ = served.await;
}

/// Answers those requests of `sample-app` that the load sends.
async fn answer(
    request: Request<Incoming>,
    version: &'static str,
) -> Result<Response<Full<Bytes>>, hyper::Error> {
    let number = |name: &str| {
        let query = request.uri().query().unwrap_or_default();
        let mut pairs = query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find_map(|(key, value)| (key == name).then(|| value.parse().ok())?)
    };
    let body = match request.uri().path() {
        "/slow" => {
            tokio::time::sleep(Duration::from_millis(number("ms").unwrap_or(0))).await;
            match number("bytes").map(usize::try_from) {
                Some(length) => vec![b'x'; length.unwrap_or(0)].into(),
                None => answers::home(version).into(),
            }
        }
        "/echo" => request.into_body().collect().await?.to_bytes(),
        "/version" => Bytes::from_static(version.as_bytes()),
        _ => answers::home(version).into(),
    };
    let mut response = Response::new(Full::new(body));
    if let Ok(version) = version.parse() {
        response.headers_mut().insert("x-release", version);
    }
    Ok(response)
}
