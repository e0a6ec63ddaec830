//! Wires the planes, and puts start-up and shutdown in order.

use std::hash::{BuildHasher as _, RandomState};
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::{mpsc, watch};
use tokio::task::LocalSet;
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{Config, Shutdown};
use crate::control_plane::artifact::Store;
use crate::control_plane::desired_file::DesiredFile;
use crate::control_plane::memory::Memory;
use crate::control_plane::siblings::Siblings;
use crate::control_plane::status_file;
use crate::control_plane::supervisor::{Order, Past, Supervisor};
use crate::control_plane::watcher::{Found, Watcher};
use crate::data_plane::{DataPlane, Listener, Tallies};
use crate::deployment::status::{Status, UnixMillis};
use crate::observe::admin::Admin;
use crate::observe::{event_hook, systemd};
use crate::os::listening::who_has;
use crate::os::service_manager::{News, passed_listener, tell};
use crate::process::Launch;
use crate::router::Router;

/// A predecessor may need a moment to let go of the port.
const BIND_FOR: Duration = Duration::from_secs(5);
const BIND_PAUSE: Duration = Duration::from_millis(100);

/// Why handoff cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The public port is not to be had.
    #[error("cannot listen on {address}: {source}{}", by.as_ref().map(|by| format!(": {by}")).unwrap_or_default())]
    Bind {
        /// `--listen`
        address: SocketAddr,
        /// Who has it, if that is known.
        by: Option<String>,
        /// What the system said.
        source: io::Error,
    },
    /// What was passed to be accepted on is of no use.
    #[error("cannot use the socket that was passed (LISTEN_FDS): {0}")]
    Passed(io::Error),
    /// The port for looking on cannot be had, now or later.
    #[error("cannot listen on {address} (--admin): {source}")]
    Admin {
        /// `--admin`
        address: SocketAddr,
        /// What the system said.
        source: io::Error,
    },
    /// A folder is not to be had.
    #[error("cannot use the {what} folder {path:?}: {source}; choose another with --{what}")]
    Folder {
        /// `state` or `cache`
        what: &'static str,
        /// Where it is.
        path: PathBuf,
        /// What the system said.
        source: io::Error,
    },
    /// The system gives us no thread.
    #[error("cannot start: {0}")]
    Thread(io::Error),
}

/// Runs until `shutdown` completes and everything has ended.
///
/// Processes are started on the calling thread, which has to be the program's first: on Linux they
/// end with the thread that started them.
///
/// # Errors
/// [`AppError`] when it cannot start.
pub async fn run(
    config: Config,
    sidecar: Arc<str>,
    launcher: impl Launch + 'static,
    shutdown: impl Future<Output = &'static str>,
) -> Result<(), AppError> {
    LocalSet::new()
        .run_until(run_all(config, sidecar, launcher, shutdown))
        .await
}

async fn run_all(
    mut config: Config,
    sidecar: Arc<str>,
    launcher: impl Launch + 'static,
    shutdown: impl Future<Output = &'static str>,
) -> Result<(), AppError> {
    // The port first: whoever started us waits for it, and from then on requests are held.
    let listener = match passed_listener().map_err(AppError::Passed)? {
        Some(passed) => Listener::passed(passed).map_err(AppError::Passed)?,
        None => bind(config.listen).await?,
    };
    let listen = listener.local_address().map_err(AppError::Thread)?;
    let router = Arc::new(Router::new(config.hold));
    let tallies = config.admin.is_some().then(Tallies::default);
    config.data_plane.tallies.clone_from(&tallies);
    let mut data_plane =
        DataPlane::start(listener, &router, &config.data_plane).map_err(AppError::Thread)?;

    let status_file = status_file(&config, &sidecar)?;
    let mut first = Status::new(Arc::clone(&sidecar), listen, (&config.watch.source).into());
    first.log_file = config.log.file.as_ref().map(|file| file.path_of(&sidecar));
    let admin = config.admin.map(|settings| {
        let address = settings.address;
        Admin::bind(settings).map_err(|source| AppError::Admin { address, source })
    });
    let admin = admin.transpose()?;
    first.admin = admin.as_ref().map(Admin::address);
    let (publisher, published) = watch::channel(first);
    if let (Some(admin), Some(tallies)) = (admin, tallies) {
        let status = published.clone();
        tokio::task::spawn_local(admin.serve(status, Arc::clone(&router), tallies));
    }
    if let Some(command) = config.on_event.take() {
        tokio::task::spawn_local(event_hook::tell(command, published.clone()));
    }
    tell(News::Ready);
    tokio::task::spawn_local(systemd::inform(published.clone()));
    let writer = status_file::publish(status_file, published).map_err(AppError::Thread)?;
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        %sidecar,
        %listen,
        state = ?config.state,
        cache = ?config.store.cache,
        "listening"
    );

    let cache = config.store.cache.clone();
    let store = Store::open(config.store);
    let no_cache = |source| AppError::Folder {
        what: "cache",
        path: cache.clone(),
        source,
    };
    let mut store = store.map_err(no_cache)?;
    let siblings = Siblings::look(&config.state, &sidecar, UnixMillis::now());
    let memory = Memory::open(&cache, &config.state, sidecar).map_err(no_cache)?;
    let good = memory
        .good()
        .into_iter()
        .filter(|release| store.adopt(release));
    let past = Past {
        good: good.collect(),
        siblings: match memory.is_empty() {
            true => siblings,
            false => Siblings::default(),
        },
        memory,
    };
    let desired = DesiredFile::new(&config.state);
    let (finder, found) = mpsc::unbounded_channel();
    let found = match config.first_launch_delay {
        Duration::ZERO => found,
        delay => {
            tracing::info!(or_after = ?delay, "the first request launches the app");
            after_the_first_request(found, Arc::clone(&router), Instant::now() + delay)
        }
    };
    let watcher = Watcher::start(config.watch, store, desired, config.files, finder)
        .map_err(AppError::Thread)?;
    let supervisor = Supervisor::new(
        config.supervisor,
        launcher,
        Arc::clone(&router),
        watcher,
        publisher,
        past,
    );
    let (orders, ordered) = mpsc::unbounded_channel();
    let supervising = tokio::task::spawn_local(supervisor.run(found, ordered));

    let asked_by_the_platform = async {
        match &config.data_plane.shutdown_request {
            Some(request) => request.asked().await,
            None => std::future::pending().await,
        }
    };
    let reason = tokio::select! {
        reason = shutdown => reason,
        () = asked_by_the_platform => "the platform's request",
    };
    tracing::info!(reason, "shutting down");
    tell(News::Stopping);
    let Shutdown { delay, timeout } = config.shutdown;
    let deadline = Instant::now() + timeout;
    // The supervisor lives until it has been told both.
    let _ = orders.send(Order::Shutdown(deadline));
    router.close();
    sleep(delay.min(timeout / 4)).await;
    // The rest is for the app to stop.
    let drained = timeout_at(deadline - timeout / 4, data_plane.drain()).await;
    if drained.is_err() {
        tracing::warn!("connections are cut: the shutdown timeout is over");
    }
    data_plane.cut().await;
    let _ = orders.send(Order::Closed);
    let _ = supervising.await;
    drop(writer);
    tracing::info!("ended");
    Ok(())
}

/// Passes on what is found once a request waits, or at `latest`: until then nothing is launched.
///
/// The platform starts us because there is a request, so nobody waits longer for it; and no
/// connection that only looks whether the port is open starts an app.
fn after_the_first_request(
    mut found: mpsc::UnboundedReceiver<Found>,
    router: Arc<Router>,
    latest: Instant,
) -> mpsc::UnboundedReceiver<Found> {
    let (sender, passed_on) = mpsc::unbounded_channel();
    tokio::task::spawn_local(async move {
        let mut kept = Vec::new();
        loop {
            tokio::select! {
                () = router.wanted() => break,
                () = tokio::time::sleep_until(latest) => break,
                Some(found) = found.recv() => {
                    if matches!(found, Found::Release { .. }) {
                        // Only the newest is launched.
                        let is_past = |f: &Found| {
                            matches!(f, Found::Release { .. } | Found::Problem(_))
                        };
                        kept.retain(|found| !is_past(found));
                    }
                    kept.push(found);
                }
            }
        }
        // Who receives ends with the whole.
        for found in kept {
            let _ = sender.send(found);
        }
        while let Some(found) = found.recv().await {
            let _ = sender.send(found);
        }
    });
    passed_on
}

async fn bind(address: SocketAddr) -> Result<Listener, AppError> {
    let deadline = Instant::now() + BIND_FOR;
    let mut is_told = false;
    loop {
        match Listener::bind(address) {
            Ok(listener) => return Ok(listener),
            Err(error) if Listener::is_taken(&error) && Instant::now() < deadline => {
                if !std::mem::replace(&mut is_told, true) {
                    tracing::warn!(%address, timeout = ?BIND_FOR, "in use, perhaps not for long");
                }
                sleep(BIND_PAUSE).await;
            }
            Err(source) => {
                let is_taken = Listener::is_taken(&source);
                let by = is_taken.then(|| who_has(address)).flatten();
                return Err(AppError::Bind {
                    address,
                    by,
                    source,
                });
            }
        }
    }
}

fn status_file(config: &Config, sidecar: &str) -> Result<PathBuf, AppError> {
    let folder = config.state.join("sidecars");
    let shared = &config.supervisor.shared;
    let made = std::fs::create_dir_all(&folder).and_then(|()| std::fs::create_dir_all(shared));
    made.map_err(|source| AppError::Folder {
        what: "state",
        path: config.state.clone(),
        source,
    })?;
    Ok(folder.join(format!("{sidecar}.json")))
}

/// A sidecar's id: enough to tell the sidecars of one deployment apart, and short enough to read out.
pub fn random_id() -> Arc<str> {
    // The standard library's source of randomness, without a crate for it.
    let random = RandomState::new().hash_one(std::process::id());
    format!("{:08x}", random as u32).into()
}
