//! Being asked to stop: SIGTERM and Ctrl-C, on Windows Ctrl-C and Ctrl-Break; and in other ways, if
//! it was told of them.

use std::io::{self, Read as _};
use std::thread;

use tokio::sync::mpsc;

/// Listens from its creation on, so create it before anyone can think that the app is up.
#[derive(Debug)]
pub(crate) struct StopSignals {
    asker: Asker,
    asked: mpsc::UnboundedReceiver<&'static str>,
}

/// Asks the app itself to stop.
#[derive(Clone, Debug)]
pub(crate) struct Asker(mpsc::UnboundedSender<&'static str>);

impl StopSignals {
    pub(crate) fn listen() -> io::Result<Self> {
        let (asker, asked) = mpsc::unbounded_channel();
        let asker = Asker(asker);
        hear_signals(&asker)?;
        Ok(Self { asker, asked })
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
        // It holds a sender itself, so the channel never ends.
        self.asked.recv().await.unwrap_or_default()
    }
}

impl Asker {
    pub(crate) fn ask(&self, how: &'static str) {
        // An app that stops already listens no more.
        let _ = self.0.send(how);
    }
}

#[cfg(unix)]
fn hear_signals(asker: &Asker) -> io::Result<()> {
    use tokio::signal::unix::{SignalKind, signal};

    for (kind, name) in [
        (SignalKind::terminate(), "SIGTERM"),
        (SignalKind::interrupt(), "SIGINT"),
    ] {
        let (mut signal, asker) = (signal(kind)?, asker.clone());
        tokio::spawn(async move {
            while signal.recv().await.is_some() {
                asker.ask(name);
            }
        });
    }
    Ok(())
}

#[cfg(windows)]
fn hear_signals(asker: &Asker) -> io::Result<()> {
    use tokio::signal::windows::{ctrl_break, ctrl_c};

    let (mut ctrl_c, mut ctrl_break, asker) = (ctrl_c()?, ctrl_break()?, asker.clone());
    tokio::spawn(async move {
        loop {
            tokio::select! {
                _ = ctrl_c.recv() => asker.ask("Ctrl-C"),
                _ = ctrl_break.recv() => asker.ask("Ctrl-Break"),
            }
        }
    });
    Ok(())
}
