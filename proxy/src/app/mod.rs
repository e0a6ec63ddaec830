//! The order of start-up and shutdown of both planes.

use std::io;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::pin;
use std::sync::Arc;

use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, LocalSet, spawn_local};
use tokio::time::{Instant, sleep, timeout_at};

use crate::config::{Config, ShutdownSettings};
use crate::control_plane::artifact::{Store, StoreSettings};
use crate::control_plane::desired_file::DesiredFile;
use crate::control_plane::memory::Memory;
use crate::control_plane::siblings::Siblings;
use crate::control_plane::status_file::StatusWriter;
use crate::control_plane::supervisor::{
    RestoredState, ShutdownCommand, Supervisor, UpgradeOrder, own_program,
};
use crate::control_plane::watcher::{Reloader, Watcher};
use crate::data_plane::{DataPlane, ShutdownRequest, TrafficCounters};
use crate::deployment::status::{Status, UnixMillis};
use crate::observe::admin::{self, Admin};
use crate::os::files;
use crate::os::service_manager::{ServiceNotification, notify};
use crate::os::signal::SignalRequest;
use crate::process::Launch;
use crate::release::Release;
use crate::router::Router;
use crate::signal_requests;

mod anchored;
mod error;
mod first_launch;
mod observers;
mod port;
mod program_file;
mod replacement;

pub use anchored::Anchored;
pub use error::AppError;

use first_launch::delay_first_launch;
use observers::Observers;
use replacement::{DrainLimits, Replaceable, Standstill};

/// A sidecar that serves.
struct RunningSidecar {
    router: Arc<Router>,
    data_plane: DataPlane,
    orders: mpsc::UnboundedSender<ShutdownCommand>,
    supervisor: JoinHandle<()>,
    /// Writes the last status when it is dropped.
    status_writer: StatusWriter,
    platform_request: Option<ShutdownRequest>,
    shutdown: ShutdownSettings,
    /// Present with an anchor.
    replaceable: Option<Replaceable>,
}

/// The channels of the supervisor, and of what serves it.
struct SupervisorChannels {
    shutdown: mpsc::UnboundedReceiver<ShutdownCommand>,
    signals: mpsc::UnboundedReceiver<SignalRequest>,
    /// Present with an anchor, with the end of the process before if that has crashed.
    upgrades: Option<(mpsc::UnboundedSender<UpgradeOrder>, Option<String>)>,
}

/// The reason for which a sidecar that serves does something else.
enum EndCause {
    /// It is to shut down.
    Shutdown(&'static str),
    /// Another process is about to take its place.
    Replacement,
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
    let tasks = LocalSet::new();
    let mut shutdown = pin!(shutdown);
    let start = start(config, sidecar, launcher, requests, anchored);
    let mut running = tasks.run_until(start).await?;
    loop {
        match tasks
            .run_until(running.wait_for_end(shutdown.as_mut()))
            .await
        {
            EndCause::Shutdown(reason) => {
                tracing::info!(event = "shutdown_started", reason, "shutting down");
                tasks.run_until(running.shut_down()).await;
                tracing::info!(event = "shutdown_completed", "handoff has ended");
                return Ok(());
            }
            // No task of the control plane runs meanwhile.
            EndCause::Replacement => {
                if running.stand_still().await == Standstill::Replaced {
                    // Their drops would end the app.
                    std::mem::forget(tasks);
                    running.leave(shutdown.as_mut()).await;
                    return Ok(());
                }
            }
        }
    }
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
    if let Some(anchored) = &mut anchored {
        anchored.show(&mut status);
    }
    let admin = bind_admin(config.admin.take(), anchored.as_mut())?;
    let (publisher, observed) = first_status(&config, status, admin.as_ref());
    let observers = Observers {
        admin: admin.zip(tallies),
        on_event: config.on_event.take(),
        announcement: config.notify.take(),
        upgrade: anchored.as_ref().and_then(Anchored::upgrade),
    };
    log_start(&config, &sidecar, listen);

    let platform_request = config.data_plane.shutdown_request.clone();
    let shutdown = config.shutdown;
    let drain = DrainLimits::from(&config.supervisor);
    let published = publisher.subscribe();
    let (orders, ordered) = mpsc::unbounded_channel();
    let (upgrades, requested) = mpsc::unbounded_channel();
    let channels = SupervisorChannels {
        shutdown: ordered,
        signals: requests,
        upgrades: anchored.as_ref().map(|it| (upgrades, it.crash_before())),
    };
    let (supervisor, watcher) = start_supervisor(
        config,
        Arc::clone(&sidecar),
        launcher,
        &router,
        publisher,
        channels,
    )?;
    let begin = |anchored: Anchored| {
        anchored.begin(&sidecar)?;
        let (anchor, leaving) = anchored.hold_active(&router);
        Ok(Replaceable {
            anchor,
            requested,
            published,
            watcher,
            drain,
            leaving,
            under_way: None,
        })
    };
    let replaceable = anchored.map(begin).transpose().map_err(AppError::Anchor)?;
    // Not before the anchor has made this process the one that serves.
    let status_writer = observers.start(status_file, observed, &router)?;
    Ok(RunningSidecar {
        router,
        data_plane,
        orders,
        supervisor,
        status_writer,
        platform_request,
        shutdown,
        replaceable,
    })
}

/// Completes the first status, and returns a publisher and a receiver of it.
fn first_status(
    config: &Config,
    mut status: Status,
    admin: Option<&Admin>,
) -> (watch::Sender<Status>, watch::Receiver<Status>) {
    status.command = Some(config.store.command.key());
    status.can_stage = config.supervisor.can_overlap;
    status.can_canary = config.supervisor.sessions.is_some();
    status.log_file = config.log.path_of(&status.sidecar);
    status.source.poll_ms = u64::try_from(config.watch.poll.as_millis()).ok();
    status.admin = admin.map(Admin::address);
    watch::channel(status)
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
    channels: SupervisorChannels,
) -> Result<(JoinHandle<()>, Reloader), AppError> {
    let upgrade_on_change = config.upgrade_on_change;
    let (store, past) = restore(config.store, &config.state, Arc::clone(&sidecar))?;
    let desired = DesiredFile::new(&config.state);
    let mut desired_at_start = DesiredFile::new(&config.state);
    let (finder, mut found) = mpsc::unbounded_channel();
    if !config.first_launch_delay.is_zero() {
        found = delay_first_launch(found, Arc::clone(router), config.first_launch_delay);
    }
    let watcher = Watcher::start(sidecar, config.watch, store, desired, config.files, finder)
        .map_err(AppError::Thread)?;
    let reloader = watcher.reloader();
    let mut supervisor = Supervisor::new(
        config.supervisor,
        launcher,
        Arc::clone(router),
        watcher,
        publisher,
        past,
    );
    if let Some((upgrades, crash)) = channels.upgrades {
        supervisor.set_upgrades(upgrades, crash);
    }
    let requester = supervisor.upgrade_requester();
    if upgrade_on_change {
        spawn_local(program_file::watch(own_program(), requester.clone()));
    }
    let signals = channels.signals;
    spawn_local(signal_requests::serve(signals, reloader.clone(), requester));
    supervisor.adopt(&mut desired_at_start);
    let running = spawn_local(supervisor.run(found, channels.shutdown));
    Ok((running, reloader))
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
    let mut adopt = |releases: Vec<Release>| {
        let releases = releases.into_iter();
        releases.filter(|release| store.adopt(release)).collect()
    };
    let past = RestoredState {
        good: adopt(memory.good_releases()),
        former: adopt(memory.former_releases()),
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
    /// Waits for `shutdown`, the platform's request, or another process that is about to take the place
    /// of this one.
    async fn wait_for_end(&mut self, shutdown: impl Future<Output = &'static str>) -> EndCause {
        let platform_request = async {
            match &self.platform_request {
                Some(request) => request.wait().await,
                None => std::future::pending().await,
            }
        };
        let replacement = async {
            match &mut self.replaceable {
                Some(replaceable) => replaceable.wait_for_next().await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            reason = shutdown => EndCause::Shutdown(reason),
            () = platform_request => EndCause::Shutdown("the platform's request"),
            () = replacement => EndCause::Replacement,
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
        let leaving = self.replaceable.as_mut().and_then(Replaceable::release);
        let drain = async {
            self.data_plane.drain().await;
            if let Some(leaving) = leaving {
                // Until they have ended, the app serves their requests.
                let _ = leaving.await;
            }
        };
        // The last quarter of the time is the app's, to stop.
        let drained = timeout_at(deadline - timeout / 4, drain).await;
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

/// Binds the admin port, or takes over what the anchor has kept.
fn bind_admin(
    settings: Option<admin::AdminSettings>,
    anchored: Option<&mut Anchored>,
) -> Result<Option<Admin>, AppError> {
    let Some(settings) = settings else {
        return Ok(None);
    };
    let address = settings.address;
    let kept = anchored
        .as_ref()
        .and_then(|anchored| anchored.admin.as_ref());
    let bound =
        Admin::bind(settings, kept).map_err(|source| AppError::Admin { address, source })?;
    if let (Some(anchored), Some(socket)) = (anchored, bound.socket()) {
        anchored
            .anchor
            .keep_admin(socket)
            .map_err(AppError::Anchor)?;
    }
    Ok(Some(bound))
}

/// Makes the shared folders, and returns the path of this sidecar's status file.
fn make_folders(config: &Config, sidecar: &str) -> Result<PathBuf, AppError> {
    take_over_former_state(config);
    let folder = config.state.join("sidecars");
    let shared = &config.supervisor.shared;
    let made = files::check_names(&config.state)
        .and_then(|()| files::make_folders(&config.state))
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
