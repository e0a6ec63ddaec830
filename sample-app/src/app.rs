//! The app's life: what it is told to do wrong, around a server that does its best.

use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use axum::ServiceExt;
use axum::extract::Request;
use axum::serve::ListenerExt;
use sample_app::answers;
use sample_app::journal::Journal;
use thiserror::Error;
use tokio::net::TcpListener;
use tokio::time::sleep;

use crate::args::Args;
use crate::console::{announce, remark};
use crate::routes::routes;
use crate::sessions::Sessions;
use crate::signal::{Asker, StopSignals};
use crate::state::{App, Readiness};
use crate::websocket::Stopping;

const CRASH: u8 = 1;

/// Long enough to be caught outliving the app, short enough not to litter a machine for ever.
const LEAKED_LIFE: Duration = Duration::from_secs(600);

/// Why the app could not do what it was told.
#[derive(Debug, Error)]
pub(crate) enum RunError {
    #[error("cannot listen for stop signals: {0}")]
    Signals(io::Error),
    #[error("--journal {path}: cannot open it for appending: {source}")]
    Journal { path: PathBuf, source: io::Error },
    #[error("cannot listen on {address} (--host, --port): {source}")]
    Bind {
        address: SocketAddr,
        source: io::Error,
    },
    #[error("--leak-child: cannot start the child: {0}")]
    LeakChild(io::Error),
    #[error("cannot serve: {0}")]
    Serve(io::Error),
}

/// Runs until a stop signal, a failure or the crash that was asked for.
pub(crate) async fn run(args: Args) -> Result<ExitCode, RunError> {
    let signals = StopSignals::listen().map_err(RunError::Signals)?;
    if args.stop_at_stdin_end {
        signals.hear_stdin();
    }
    let asked = signals.asker();
    let stop = stop_requested(signals, args.ignore_stop);

    // First of all: the child has the flags of its parent's overlay, --leak-child among them.
    if args.leaked_child {
        tokio::select! {
            () = stop => {}
            () = sleep(LEAKED_LIFE) => {}
        }
        return Ok(ExitCode::SUCCESS);
    }
    if let (Some(code), None) = (args.exit_code, args.crash_after) {
        remark(format_args!(
            "{} exits at once with {code}, as told by --exit-code",
            args.version
        ));
        return Ok(ExitCode::from(code));
    }
    if args.leak_child {
        let pid = leak_child(args.ignore_stop).map_err(RunError::LeakChild)?;
        remark(format_args!("{} leaks child {pid}", args.version));
    }

    let (version, crash_after) = (args.version.clone(), args.crash_after);
    let code = args.exit_code.unwrap_or(CRASH);
    let crash = async move {
        match crash_after {
            Some(after) => sleep(after).await,
            None => pending().await,
        }
    };
    tokio::select! {
        ended = live(args, asked, stop) => ended.map(|()| ExitCode::SUCCESS),
        () = crash => {
            remark(format_args!("{version} crashes with {code}, as told by --crash-after"));
            Ok(ExitCode::from(code))
        }
    }
}

async fn live(
    args: Args,
    asked: Asker,
    stop: impl Future<Output = ()> + Send + 'static,
) -> Result<(), RunError> {
    let started = Instant::now();
    let version: &'static str = args.version.leak();
    let readiness = match (args.never_ready, args.ready_after) {
        (true, _) => Readiness::Never,
        (false, None) => Readiness::Now,
        (false, Some(after)) => started
            .checked_add(after)
            .map_or(Readiness::Never, Readiness::At),
    };
    let home = answers::home(version).leak();
    let app: &'static App = Box::leak(Box::new(App {
        version,
        home,
        readiness,
        stopping: Stopping::new(),
        asked,
        sessions: Sessions::default(),
    }));
    let journal: Option<&'static Journal> = match args.journal {
        None => None,
        Some(path) => match Journal::open(&path, version) {
            Ok(journal) => Some(Box::leak(Box::new(journal))),
            Err(source) => return Err(RunError::Journal { path, source }),
        },
    };
    if args.never_bind {
        announce(format_args!("sample-app {version} never listens"));
        stop.await;
        return Ok(());
    }

    let address = SocketAddr::new(args.host, args.port);
    let unbound = |source| RunError::Bind { address, source };
    let listener = TcpListener::bind(address).await.map_err(unbound)?;
    let local = listener.local_addr().map_err(unbound)?;
    announce(format_args!("sample-app {version} listening on {local}"));

    let listener = listener.tap_io(|stream| {
        // Without it a small answer may wait for the peer's delayed acknowledgement; a socket
        // that refuses it is about to fail anyway.
        let _ = stream.set_nodelay(true);
    });
    let service = ServiceExt::<Request>::into_make_service(routes(
        app,
        args.stop_path.as_deref(),
        args.fail_every,
        journal,
    ));
    let stop = async {
        stop.await;
        app.stopping.begin();
    };
    axum::serve(listener, service)
        .with_graceful_shutdown(stop)
        .await
        .map_err(RunError::Serve)?;
    app.stopping.websockets_ended().await;
    Ok(())
}

async fn stop_requested(mut signals: StopSignals, ignore: bool) {
    loop {
        let signal = signals.next().await;
        if !ignore {
            remark(format_args!("stops on {signal}"));
            return;
        }
        remark(format_args!("ignores {signal}, as told by --ignore-stop"));
    }
}

/// The child keeps the app's output open, as real leaked children do.
fn leak_child(ignore_stop: bool) -> io::Result<u32> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--leaked-child").stdin(Stdio::null());
    if ignore_stop {
        command.arg("--ignore-stop");
    }
    Ok(command.spawn()?.id())
}
