//! Being asked to stop: SIGTERM and Ctrl-C, on Windows Ctrl-C and Ctrl-Break; and in other ways, if
//! it was told of them.

use std::io::{self, Read as _};
use std::thread;

use tokio::sync::mpsc;

/// Listens from its creation on, so create it before anyone can think that the app is up.
#[derive(Debug)]
pub(crate) struct StopSignals {
    signals: imp::Signals,
    asker: Asker,
    asked: mpsc::UnboundedReceiver<&'static str>,
}

/// Asks the app itself to stop.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::UnboundedSender<&'static str>);

impl StopSignals {
    pub(crate) fn listen() -> io::Result<Self> {
        let (asker, asked) = mpsc::unbounded_channel();
        Ok(Self {
            signals: imp::Signals::listen()?,
            asker: Asker(asker),
            asked,
        })
    }

    pub(crate) fn asker(&self) -> Asker {
        self.asker.clone()
    }

    /// Takes the end of standard input as a signal, too.
    pub(crate) fn hear_stdin(&self) {
        let asker = self.asker();
        // Reading blocks, and nothing would end it with the app.
        thread::spawn(move || {
            let mut stdin = io::stdin().lock();
            while let Ok(1..) = stdin.read(&mut [0; 64]) {}
            asker.ask("the end of standard input");
        });
    }

    /// Waits for the next one and names it.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            signal = self.signals.next() => signal,
            // It holds a sender itself, so the channel never ends.
            Some(asked) = self.asked.recv() => asked,
        }
    }
}

impl Asker {
    pub(crate) fn ask(&self, how: &'static str) {
        // An app that stops already listens no more.
        let _ = self.0.send(how);
    }
}

#[cfg(unix)]
mod imp {
    use std::io;

    use tokio::signal::unix::{Signal, SignalKind, signal};

    #[derive(Debug)]
    pub(super) struct Signals {
        terminate: Signal,
        interrupt: Signal,
    }

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self {
                terminate: signal(SignalKind::terminate())?,
                interrupt: signal(SignalKind::interrupt())?,
            })
        }

        pub(super) async fn next(&mut self) -> &'static str {
            tokio::select! {
                _ = self.terminate.recv() => "SIGTERM",
                _ = self.interrupt.recv() => "SIGINT",
            }
        }
    }
}

#[cfg(windows)]
mod imp {
    use std::io;

    use tokio::signal::windows::{CtrlBreak, CtrlC, ctrl_break, ctrl_c};

    #[derive(Debug)]
    pub(super) struct Signals {
        ctrl_c: CtrlC,
        ctrl_break: CtrlBreak,
    }

    impl Signals {
        pub(super) fn listen() -> io::Result<Self> {
            Ok(Self {
                ctrl_c: ctrl_c()?,
                ctrl_break: ctrl_break()?,
            })
        }

        pub(super) async fn next(&mut self) -> &'static str {
            tokio::select! {
                _ = self.ctrl_c.recv() => "Ctrl-C",
                _ = self.ctrl_break.recv() => "Ctrl-Break",
            }
        }
    }
}
