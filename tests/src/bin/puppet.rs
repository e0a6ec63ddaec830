//! An app without a will of its own: what it does, a test does.
//!
//! It answers the readiness probe by itself. Every other connection of handoff's it connects to the
//! test, and passes on bytes, ends (FIN) and resets (RST), both ways: so the test is the app, byte
//! by byte, while handoff still starts, checks and stops a process.

use std::io;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

use socket2::SockRef;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// The bytes with which the readiness probe's request begins.
const PROBE: &[u8] = b"GET /handoff-ready ";
/// Few enough for a test to fill.
const BACKLOG: u32 = 128;

#[tokio::main(flavor = "current_thread")]
async fn main() -> io::Result<()> {
    let (mut port, mut test, mut ready_file) = (0, 0, None);
    let mut stops_at_stdin_end = false;
    let mut args = std::env::args().skip(1);
    while let (Some(name), Some(value)) = (args.next(), args.next()) {
        let number = value.parse().map_err(io::Error::other);
        match name.as_str() {
            "--port" => port = number?,
            "--test" => test = number?,
            // Once it is there the app is ready.
            "--ready-file" => ready_file = Some(PathBuf::from(value)),
            // By a request that Wine delivers, too; else it is killed.
            "--stop" => stops_at_stdin_end = value == "stdin",
            _ => return Err(io::Error::other(format!("unknown option {name}"))),
        }
    }
    let test = SocketAddr::from((Ipv4Addr::LOCALHOST, test));
    let socket = TcpSocket::new_v4()?;
    // Windows would share the port with others.
    #[cfg(unix)]
    socket.set_reuseaddr(true)?;
    socket.bind((Ipv4Addr::LOCALHOST, port).into())?;
    let listener = socket.listen(BACKLOG)?;
    let (stopped, stopping) = watch::channel(false);
    let mut connections = JoinSet::new();
    let asked_to_stop = stdin_end(stops_at_stdin_end);
    tokio::pin!(asked_to_stop);
    loop {
        tokio::select! {
            accepted = listener.accept() => {
                let (handoff, _) = accepted?;
                connections.spawn(serve(handoff, test, ready_file.clone(), stopping.clone()));
            }
            Some(_ended) = connections.join_next() => {}
            () = &mut asked_to_stop => break,
        }
    }
    // What handoff has sent the test shall see, all of it; it will send no more.
    stopped.send_replace(true);
    while connections.join_next().await.is_some() {}
    Ok(())
}

async fn stdin_end(is_waited_for: bool) {
    if !is_waited_for {
        std::future::pending::<()>().await;
    }
    let (end, ended) = tokio::sync::oneshot::channel();
    // Not tokio's: its runtime would wait for what is being read from there.
    std::thread::spawn(move || {
        let _ = io::copy(&mut io::stdin(), &mut io::sink());
        let _ = end.send(());
    });
    let _ = ended.await;
}

async fn serve(
    mut handoff: TcpStream,
    test: SocketAddr,
    ready_file: Option<PathBuf>,
    stopping: watch::Receiver<bool>,
) {
    if is_probe(&handoff).await {
        let status = if ready_file.is_none_or(|file| file.exists()) {
            "200 OK"
        } else {
            "503 Service Unavailable"
        };
        let answer = format!("HTTP/1.1 {status}\r\nContent-Length: 0\r\n\r\n");
        let _ = handoff.write_all(answer.as_bytes()).await;
        return;
    }
    let Ok(mut test) = TcpStream::connect(test).await else {
        return;
    };
    for stream in [&handoff, &test] {
        let _ = stream.set_nodelay(true);
    }
    if splice(&mut handoff, &mut test, stopping).await.is_err() {
        for stream in [&handoff, &test] {
            let _ = SockRef::from(stream).set_linger(Some(Duration::ZERO));
        }
    }
}

/// Looks at the first bytes and leaves them there.
async fn is_probe(stream: &TcpStream) -> bool {
    let mut start = [0; PROBE.len()];
    loop {
        match stream.peek(&mut start).await {
            Ok(0) | Err(_) => return false,
            Ok(n) if n == start.len() || start[..n] != PROBE[..n] => return start == PROBE,
            // The rest of it is on its way.
            Ok(_) => tokio::task::yield_now().await,
        }
    }
}

async fn splice(
    handoff: &mut TcpStream,
    test: &mut TcpStream,
    mut stopping: watch::Receiver<bool>,
) -> io::Result<()> {
    let (from_handoff, to_handoff) = handoff.split();
    let (from_test, to_test) = test.split();
    let stopped = async {
        let _ = stopping.wait_for(|is_stopping| *is_stopping).await;
    };
    let until_stopped = async {
        tokio::select! {
            passed = pass(from_test, to_handoff) => passed,
            () = stopped => Ok(false),
        }
    };
    let (refused, also_refused) = tokio::try_join!(pass(from_handoff, to_test), until_stopped)?;
    if refused || also_refused {
        Err(io::ErrorKind::BrokenPipe.into())
    } else {
        Ok(())
    }
}

/// Passes bytes on up to their end; an error is the sender's. Whether the receiver takes no more:
/// what it has sent before still counts, so that is not the end of the other direction.
async fn pass(
    mut from: impl AsyncRead + Unpin,
    mut to: impl AsyncWrite + Unpin,
) -> io::Result<bool> {
    let mut buffer = vec![0; 64 * 1024];
    loop {
        let read = from.read(&mut buffer).await?;
        let passed = match read {
            0 => to.shutdown().await,
            _ => to.write_all(&buffer[..read]).await,
        };
        if read == 0 || passed.is_err() {
            return Ok(passed.is_err());
        }
    }
}
