//! The order of start-up and shutdown of both planes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use humantime::format_duration;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, sleep_until, timeout_at};

use crate::config::{Config, ShutdownSettings};
use crate::control_plane::artifact::{Store, StoreSettings};
use crate::control_plane::desired_file::DesiredFile;
use crate::control_plane::memory::Memory;
use crate::control_plane::siblings::Siblings;
use crate::control_plane::status_file;
use crate::control_plane::supervisor::{RestoredState, ShutdownCommand, Supervisor};
use crate::control_plane::watcher::{WatchEvent, Watcher};
use crate::data_plane::{DataPlane, ShutdownRequest, TrafficCounters};
use crate::deployment::status::{Status, UnixMillis};
use crate::observe::admin::{self, Admin};
use crate::observe::{announcer, event_hook, systemd};
use crate::os::files;
use crate::os::service_manager::{ServiceNotification, notify};
use crate::os::signal::SignalRequest;
use crate::os::thread::JoinOnDrop;
use crate::process::Launch;
use crate::process::anchor::Anchor;
use crate::router::Router;
use crate::signal_requests;

mod anchored;
mod port;

pub use anchored::Anchored;

/// A reason for which handoff cannot run.
#[derive(Debug, thiserror::Error)]
pub enum AppError {
    /// The public port cannot be bound.
    #[error("cannot listen on {address}: {source}{}", by.as_ref().map(|by| format!(": {by}")).unwrap_or_default())]
    Bind {
        /// `--listen`
        address: SocketAddr,
        /// Description of what keeps it from being bound, if it is known.
        by: Option<String>,
        /// The system's error.
        source: io::Error,
    },
    /// The socket that the service manager passed cannot be used.
    #[error("cannot use the socket that was passed (LISTEN_FDS): {0}")]
    Passed(io::Error),
    /// The admin port cannot be bound, now or later.
    #[error("cannot listen on {address} (--admin): {source}")]
    Admin {
        /// `--admin`
        address: SocketAddr,
        /// The system's error.
        source: io::Error,
    },
    /// A folder cannot be used.
    #[error(
        "cannot use the {what} folder {path:?}: {source}; make it writable for the user that runs \
         handoff, or choose another with --{what} DIR, outside of the folder in which the app runs"
    )]
    Folder {
        /// `state` or `cache`
        what: &'static str,
        /// Path of the folder.
        path: PathBuf,
        /// The system's error.
        source: io::Error,
    },
    /// The anchor cannot be reached.
    #[error("cannot reach the anchor (--anchor): {0}")]
    Anchor(io::Error),
    /// The system starts no thread.
    #[error("cannot start: {0}")]
    Thread(io::Error),
}

/// A sidecar that serves.
struct RunningSidecar {
    router: Arc<Router>,
    data_plane: DataPlane,
    orders: mpsc::UnboundedSender<ShutdownCommand>,
    supervisor: JoinHandle<()>,
    /// Writes the last status when it is dropped.
    status_writer: JoinOnDrop,
    platform_request: Option<ShutdownRequest>,
    shutdown: ShutdownSettings,
    anchor: Option<Anchor>,
}

/// Runs until `shutdown` completes and everything has ended.
///
/// Processes are started on the calling thread, which has to be the program's first: on Linux they
/// end with the thread that started them.
pub async fn run(
    config: Config,
    sidecar: Arc<str>,
    launcher: impl Launch + 'static,
    shutdown: impl Future<Output = &'static str>,
    requests: mpsc::UnboundedReceiver<SignalRequest>,
    anchored: Option<Anchored>,
) -> Result<(), AppError> {
    let run = async {
        let running = start(config, sidecar, launcher, requests, anchored).await?;
        let reason = running.wait_for_shutdown(shutdown).await;
        tracing::info!(event = "shutdown_started", reason, "shutting down");
        running.shut_down().await;
        tracing::info!(event = "shutdown_completed", "handoff has ended");
        Ok(())
    };
    LocalSet::new().run_until(run).await
}

/// Starts everything: the port first, then the status, then the supervisor.
async fn start(
    mut config: Config,
    sidecar: Arc<str>,
    launcher: impl Launch + 'static,
    requests: mpsc::UnboundedReceiver<SignalRequest>,
    mut anchored: Option<Anchored>,
) -> Result<RunningSidecar, AppError> {
    let status_file = make_folders(&config, &sidecar)?;
    // The process that starts handoff waits for its port, and requests are held from then on.
    let listener = port::open(config.listen, anchored.as_mut()).await?;
    let listen = listener.local_address().map_err(AppError::Thread)?;
    let router = Arc::new(Router::new(config.hold));
    let tallies = config.admin.is_some().then(TrafficCounters::default);
    config.data_plane.counters.clone_from(&tallies);
    let data_plane =
        DataPlane::start(listener, &router, &config.data_plane).map_err(AppError::Thread)?;

    let mut status = Status::new(Arc::clone(&sidecar), listen, (&config.watch.source).into());
    if let Some(anchored) = &anchored {
        anchored.show(&mut status);
    }
    let (publisher, status_writer) =
        publish_status(&mut config, status_file, status, &router, tallies)?;
    log_start(&config, &sidecar, listen);
    if let Some(anchored) = &anchored {
        anchored.begin(&sidecar).map_err(AppError::Anchor)?;
    }

    let platform_request = config.data_plane.shutdown_request.clone();
    let shutdown = config.shutdown;
    let (orders, ordered) = mpsc::unbounded_channel();
    let supervisor = start_supervisor(
        config, sidecar, launcher, &router, publisher, ordered, requests,
    )?;
    Ok(RunningSidecar {
        router,
        data_plane,
        orders,
        supervisor,
        status_writer,
        platform_request,
        shutdown,
        anchor: anchored.map(|anchored| anchored.anchor),
    })
}

/// Publishes the first status, and starts all that observes the status.
fn publish_status(
    config: &mut Config,
    status_file: PathBuf,
    mut status: Status,
    router: &Arc<Router>,
    tallies: Option<TrafficCounters>,
) -> Result<(watch::Sender<Status>, JoinOnDrop), AppError> {
    let admin = bind_admin(config.admin.take())?;
    status.command = Some(config.store.command.key());
    status.can_stage = config.supervisor.can_overlap;
    status.can_canary = config.supervisor.sessions.is_some();
    status.log_file = config.log.path_of(&status.sidecar);
    status.admin = admin.as_ref().map(Admin::address);
    let (publisher, published) = watch::channel(status);
    if let (Some(admin), Some(tallies)) = (admin, tallies) {
        spawn_local(admin.serve(published.clone(), Arc::clone(router), tallies));
    }
    if let Some(command) = config.on_event.take() {
        spawn_local(event_hook::notify(command, published.clone()));
    }
    let request = config.notify.take();
    spawn_local(announcer::announce(request, published.clone()));
    notify(ServiceNotification::Ready);
    spawn_local(systemd::report(published.clone()));
    let writer = status_file::publish(status_file, published).map_err(AppError::Thread)?;
    Ok((publisher, writer))
}

fn log_start(config: &Config, sidecar: &str, listen: SocketAddr) {
    tracing::info!(
        event = "listening",
        version = env!("CARGO_PKG_VERSION"),
        sidecar,
        %listen,
        state = %config.state.display(),
        cache = %config.store.cache.display(),
        "listening"
    );
}

/// Starts the watcher and the supervisor, which launches the first instance.
fn start_supervisor(
    config: Config,
    sidecar: Arc<str>,
    launcher: impl Launch + 'static,
    router: &Arc<Router>,
    publisher: watch::Sender<Status>,
    ordered: mpsc::UnboundedReceiver<ShutdownCommand>,
    requests: mpsc::UnboundedReceiver<SignalRequest>,
) -> Result<JoinHandle<()>, AppError> {
    let (store, past) = restore(config.store, &config.state, Arc::clone(&sidecar))?;
    let desired = DesiredFile::new(&config.state);
    let mut desired_at_start = DesiredFile::new(&config.state);
    let (finder, mut found) = mpsc::unbounded_channel();
    if !config.first_launch_delay.is_zero() {
        found = delay_first_launch(found, Arc::clone(router), config.first_launch_delay);
    }
    let watcher = Watcher::start(sidecar, config.watch, store, desired, config.files, finder)
        .map_err(AppError::Thread)?;
    spawn_local(signal_requests::serve(requests, watcher.reloader()));
    let mut supervisor = Supervisor::new(
        config.supervisor,
        launcher,
        Arc::clone(router),
        watcher,
        publisher,
        past,
    );
    supervisor.adopt(&mut desired_at_start);
    Ok(spawn_local(supervisor.run(found, ordered)))
}

/// Opens the private copies, and the memory of what ran before.
fn restore(
    settings: StoreSettings,
    state: &Path,
    sidecar: Arc<str>,
) -> Result<(Store, RestoredState), AppError> {
    let cache = settings.cache.clone();
    let command = settings.command.key();
    let error = |source| AppError::Folder {
        what: "cache",
        path: cache.clone(),
        source,
    };
    let mut store = Store::open(settings).map_err(error)?;
    let siblings = Siblings::read(state, &command, &sidecar, UnixMillis::now());
    siblings.warn_of_strangers(state);
    let memory = Memory::open(&cache, state, &command, sidecar).map_err(error)?;
    let good = memory.good_releases();
    let good = good.into_iter().filter(|release| store.adopt(release));
    let past = RestoredState {
        good: good.collect(),
        siblings: if memory.is_empty() {
            siblings
        } else {
            Siblings::default()
        },
        memory,
    };
    Ok((store, past))
}

// === impl RunningSidecar ===

impl RunningSidecar {
    /// Waits for `shutdown` or the platform's request, and returns the reason.
    async fn wait_for_shutdown(
        &self,
        shutdown: impl Future<Output = &'static str>,
    ) -> &'static str {
        let platform_request = async {
            match &self.platform_request {
                Some(request) => request.wait().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = shutdown => reason,
            () = platform_request => "the platform's request",
        }
    }

    /// Goes on accepting for a while, closes the port, drains the connections, and stops the app.
    async fn shut_down(mut self) {
        notify(ServiceNotification::Stopping);
        let ShutdownSettings { delay, timeout } = self.shutdown;
        let deadline = Instant::now() + timeout;
        // The supervisor ends only after both of its orders: there is a receiver.
        let _ = self.orders.send(ShutdownCommand::Begin(deadline));
        self.router.close();
        sleep(delay.min(timeout / 4)).await;
        if let Some(anchor) = &self.anchor {
            // Otherwise the port would stay open. Without its anchor, this process is about to end.
            let _ = anchor.release_listener();
        }
        // The last quarter of the time is the app's, to stop.
        let drained = timeout_at(deadline - timeout / 4, self.data_plane.drain()).await;
        if drained.is_err() {
            tracing::warn!(
                event = "connections_cut",
                "connections are cut: the shutdown timeout is over"
            );
        }
        self.data_plane.cut().await;
        let _ = self.orders.send(ShutdownCommand::PortClosed);
        let _ = self.supervisor.await;
        drop(self.status_writer);
    }
}

/// Forwards events once a request waits, or after `delay`: until then nothing is launched.
///
/// The platform starts handoff because of a request, so that no client waits longer for it, while a
/// connection that only tests the port launches no app.
fn delay_first_launch(
    mut found: mpsc::UnboundedReceiver<WatchEvent>,
    router: Arc<Router>,
    delay: Duration,
) -> mpsc::UnboundedReceiver<WatchEvent> {
    tracing::info!(
        event = "first_launch_delayed",
        delay = %format_duration(delay),
        "the first request launches the app, or the end of the delay"
    );
    let latest = Instant::now() + delay;
    let (sender, forwarded) = mpsc::unbounded_channel();
    spawn_local(async move {
        let mut kept = Vec::new();
        loop {
            tokio::select! {
                () = router.wait_for_request() => break,
                () = sleep_until(latest) => break,
                Some(found) = found.recv() => keep(&mut kept, found),
            }
        }
        // The receiver ends only with the whole process.
        for found in kept {
            let _ = sender.send(found);
        }
        while let Some(found) = found.recv().await {
            let _ = sender.send(found);
        }
    });
    forwarded
}

/// Keeps an event for later: only the newest release is launched.
fn keep(kept: &mut Vec<WatchEvent>, found: WatchEvent) {
    if matches!(found, WatchEvent::Release { .. }) {
        kept.retain(|earlier| {
            !matches!(earlier, WatchEvent::Release { .. } | WatchEvent::Problem(_))
        });
    }
    kept.push(found);
}

fn bind_admin(settings: Option<admin::AdminSettings>) -> Result<Option<Admin>, AppError> {
    let bind = |settings: admin::AdminSettings| {
        let address = settings.address;
        Admin::bind(settings).map_err(|source| AppError::Admin { address, source })
    };
    settings.map(bind).transpose()
}

/// Makes the shared folders, and returns the path of this sidecar's status file.
fn make_folders(config: &Config, sidecar: &str) -> Result<PathBuf, AppError> {
    take_over_former_state(config);
    let folder = config.state.join("sidecars");
    let shared = &config.supervisor.shared;
    let made = files::make_folders(&config.state)
        .and_then(|()| files::make_folders(&folder))
        .and_then(|()| files::make_folders(shared))
        .and_then(|()| tempfile::tempfile_in(&folder).map(drop));
    match made {
        // A full disk ends, a missing right does not.
        Err(source) if source.kind() != io::ErrorKind::StorageFull => Err(AppError::Folder {
            what: "state",
            path: config.state.clone(),
            source,
        }),
        _ => Ok(folder.join(format!("{sidecar}.json"))),
    }
}

/// Takes over the state of version 0.1. Without it, handoff starts as if nothing had served before.
fn take_over_former_state(config: &Config) {
    let Some(former) = &config.former_state else {
        return;
    };
    let command = config.store.command.key();
    match Memory::take_over(former, &config.store.cache, &config.state, &command) {
        Ok(false) => {}
        Ok(true) => tracing::info!(
            event = "state_taken_over",
            from = %former.folder.display(),
            state = %config.state.display(),
            "the state of an earlier version was taken over"
        ),
        Err(error) => tracing::warn!(
            event = "state_not_taken_over",
            from = %former.folder.display(),
            state = %config.state.display(),
            %error,
            "the state of an earlier version cannot be taken over"
        ),
    }
}

/// Returns the id of a sidecar: distinct among those of a deployment, and short enough to read out.
pub fn random_id() -> Arc<str> {
    format!("{:08x}", fastrand::u32(..)).into()
}
