//! What a service manager passes to this process and wants to hear from it: systemd's protocol,
//! sd_listen_fds(3) and sd_notify(3). Where there is none, nothing is passed and nobody listens.

pub use os::{passed_listener, tell, watchdog};

/// What it can be told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News<'a> {
    /// The port is bound.
    Ready,
    /// The end has begun.
    Stopping,
    /// What goes on, in one line.
    Status(&'a str),
    /// This process is alive.
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

    use super::News;

    /// The socket that was passed to this process to accept connections on, if one was.
    ///
    /// # Errors
    /// When what was passed is not one listening TCP socket.
    #[expect(unsafe_code, reason = "a descriptor is told by its number")]
    pub fn passed_listener() -> io::Result<Option<TcpListener>> {
        let mut passed = sd_notify::listen_fds()?;
        let Some(number) = passed.next() else {
            return Ok(None);
        };
        let wrong = |what| Err(io::Error::new(io::ErrorKind::InvalidInput, what));
        if passed.next().is_some() {
            return wrong("there are several of them, and handoff has one port");
        }
        // SAFETY: it is open, as setting its flags has shown, and by the protocol this process's own;
        // this is called once.
        let socket = Socket::from(unsafe { OwnedFd::from_raw_fd(number) });
        let is_tcp = socket.r#type()? == Type::STREAM && socket.local_addr()?.as_socket().is_some();
        match is_tcp {
            true => Ok(Some(socket.into())),
            false => wrong("it is no TCP socket"),
        }
    }

    /// So much may wait to be told; a service manager that hangs is told no more.
    const WAITING: usize = 16;

    #[derive(Debug)]
    enum Said {
        Ready,
        Stopping,
        Status(String),
        Alive,
    }

    /// Tells it, if somebody listens. Never waits: the manager's queue may be full.
    pub fn tell(news: News<'_>) {
        static TELLER: OnceLock<Option<SyncSender<Said>>> = OnceLock::new();
        let said = match news {
            News::Ready => Said::Ready,
            News::Stopping => Said::Stopping,
            News::Status(line) => Said::Status(line.to_owned()),
            News::Alive => Said::Alive,
        };
        if let Some(teller) = TELLER.get_or_init(teller) {
            let _ = teller.try_send(said);
        }
    }

    fn teller() -> Option<SyncSender<Said>> {
        std::env::var_os("NOTIFY_SOCKET")?;
        let (teller, said) = sync_channel(WAITING);
        let thread = thread::Builder::new().name("service".to_owned());
        thread.spawn(move || tell_all(&said)).ok().map(|_| teller)
    }

    fn tell_all(all: &Receiver<Said>) {
        while let Ok(said) = all.recv() {
            let state = match &said {
                Said::Ready => NotifyState::Ready,
                Said::Stopping => NotifyState::Stopping,
                Said::Status(line) => NotifyState::Status(line),
                Said::Alive => NotifyState::Watchdog,
            };
            if let Err(error) = sd_notify::notify(&[state]) {
                tracing::warn!(%error, "the service manager cannot be told");
            }
        }
    }

    /// How often it wants to hear that this process is alive.
    pub fn watchdog() -> Option<Duration> {
        sd_notify::watchdog_enabled().filter(|period| !period.is_zero())
    }
}

#[cfg(windows)]
mod os {
    use std::io;
    use std::net::TcpListener;
    use std::time::Duration;

    use super::News;

    /// Nothing is.
    ///
    /// # Errors
    /// None.
    pub fn passed_listener() -> io::Result<Option<TcpListener>> {
        Ok(None)
    }

    /// Nobody listens.
    pub fn tell(_: News<'_>) {}

    /// Nobody wants to hear.
    pub fn watchdog() -> Option<Duration> {
        None
    }
}
