//! The protocol of systemd: sd_listen_fds(3) and sd_notify(3). Without a service manager no socket
//! is passed, and notifications go nowhere.

pub use os::{notify, passed_listener, watchdog_period};

/// A message to the service manager.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ServiceNotification<'a> {
    /// The port is bound.
    Ready,
    /// The configuration is being read again; [`Self::Ready`] follows.
    Reloading,
    /// The shutdown has begun.
    Stopping,
    /// The state of the service, in one line.
    Status(&'a str),
    /// A sign of life for the watchdog.
    Alive,
}

#[cfg(unix)]
mod os {
    use std::io;
    use std::net::TcpListener;
    use std::os::fd::{FromRawFd as _, OwnedFd};
    use std::sync::OnceLock;
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::thread;
    use std::time::Duration;

    use sd_notify::NotifyState;
    use socket2::{Socket, Type};

    use super::ServiceNotification;

    /// Returns the socket that the service manager passed to this process, if there is one.
    ///
    /// # Errors
    /// Something else than one TCP socket was passed.
    #[expect(unsafe_code, reason = "a descriptor is passed by its number")]
    pub fn passed_listener() -> io::Result<Option<TcpListener>> {
        let mut passed = sd_notify::listen_fds()?;
        let Some(number) = passed.next() else {
            return Ok(None);
        };
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if passed.next().is_some() {
            return wrong("there are several of them, and handoff has one port");
        }
        // SAFETY: the descriptor is open, as `listen_fds` has set its flags; by the protocol it belongs
        // to this process; this function is called once.
        let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(number) });
        let is_tcp = socket.r#type()? == Type::STREAM && socket.local_addr()?.as_socket().is_some();
        if is_tcp {
            Ok(Some(socket.into()))
        } else {
            wrong("it is no TCP socket")
        }
    }

    /// Maximum number of queued notifications; more are dropped while the service manager hangs.
    const MAX_QUEUED: usize = 16;

    #[derive(Debug)]
    enum QueuedNotification {
        Ready,
        /// Reloading since this monotonic time, which systemd compares with that of its signal.
        Reloading(NotifyState<'static>),
        Stopping,
        Status(String),
        Alive,
    }

    /// Queues a notification for the service manager. Never blocks: a thread sends it, as the queue
    /// of the manager may be full.
    pub fn notify(notification: ServiceNotification<'_>) {
        static SENDER: OnceLock<Option<SyncSender<QueuedNotification>>> = OnceLock::new();
        let queued = match notification {
            ServiceNotification::Ready => QueuedNotification::Ready,
            ServiceNotification::Reloading => match NotifyState::monotonic_usec_now() {
                Ok(now) => QueuedNotification::Reloading(now),
                Err(_) => return,
            },
            ServiceNotification::Stopping => QueuedNotification::Stopping,
            ServiceNotification::Status(line) => QueuedNotification::Status(line.to_owned()),
            ServiceNotification::Alive => QueuedNotification::Alive,
        };
        if let Some(sender) = SENDER.get_or_init(start_sender) {
            let _ = sender.try_send(queued);
        }
    }

    fn start_sender() -> Option<SyncSender<QueuedNotification>> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let (sender, queued) = sync_channel(MAX_QUEUED);
        let thread = thread::Builder::new().name("service".to_owned());
        thread.spawn(move || send_all(&queued)).ok().map(|_| sender)
    }

    fn send_all(queue: &Receiver<QueuedNotification>) {
        while let Ok(queued) = queue.recv() {
            let state = match &queued {
                QueuedNotification::Reloading(since) => {
                    log_failure(sd_notify::notify(&[NotifyState::Reloading, since.clone()]));
                    continue;
                }
                QueuedNotification::Ready => NotifyState::Ready,
                QueuedNotification::Stopping => NotifyState::Stopping,
                QueuedNotification::Status(line) => NotifyState::Status(line),
                QueuedNotification::Alive => NotifyState::Watchdog,
            };
            log_failure(sd_notify::notify(&[state]));
        }
    }

    fn log_failure(sent: io::Result<()>) {
        if let Err(error) = sent {
            tracing::warn!(
                event = "service_notification_failed",
                %error,
                "cannot notify the service manager (NOTIFY_SOCKET)"
            );
        }
    }

    /// Returns the period within which the watchdog wants a sign of life, if it is on.
    pub fn watchdog_period() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
    }
}

#[cfg(windows)]
mod os {
    use std::io;
    use std::net::TcpListener;
    use std::time::Duration;

    use super::ServiceNotification;

    /// Returns no socket: Windows has no systemd.
    pub fn passed_listener() -> io::Result<Option<TcpListener>> {
        Ok(None)
    }

    /// Does nothing: Windows has no systemd.
    pub fn notify(_: ServiceNotification<'_>) {}

    /// Returns `None`: Windows has no systemd.
    pub fn watchdog_period() -> Option<Duration> {
        None
    }
}
