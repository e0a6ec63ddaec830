//! The site: which worker takes new requests, and what makes it change.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use parking_lot::Mutex;

use super::application::Application;
use super::event::Event;
use super::host::Host;
use super::launch::path_in;
use super::web_config::WebConfig;

/// IIS's `shutdownTimeLimit` of a worker process.
const WORKER_SHUTDOWN: Duration = Duration::from_secs(90);
const LOOK_AGAIN: Duration = Duration::from_millis(50);

#[derive(Debug)]
pub(super) struct Site {
    pub(super) host: Arc<Host>,
    current: Mutex<Result<Arc<Application>, String>>,
}

/// The marks by which a change of a watched file is seen.
type Stamps = Vec<Option<(SystemTime, u64)>>;

// === impl Site ===

impl Site {
    pub(super) fn new(host: Arc<Host>) -> Self {
        let current = load(&host);
        Self {
            host,
            current: Mutex::new(current),
        }
    }

    /// Returns the application for new requests, or the reason why there is none.
    pub(super) fn application(&self) -> Result<Arc<Application>, String> {
        self.current.lock().clone()
    }

    pub(super) fn in_flight(&self) -> usize {
        let application = self.application();
        application.map_or(0, |application| application.in_flight())
    }

    /// Another worker takes the new requests while the one before finishes its own.
    pub(super) async fn recycle(&self) {
        let before = self.load_again();
        self.host.events.push(Event::Recycled);
        if let Ok(before) = before {
            let cut = before.finish(WORKER_SHUTDOWN).await;
            before.unload().await;
            self.host.events.push(Event::WorkerEnded { cut });
        }
    }

    /// The configuration is read again: what runs is ended with all its requests.
    async fn reload(&self) {
        let before = self.load_again();
        self.host.events.push(Event::Reconfigured);
        if let Ok(before) = before {
            before.unload().await;
        }
    }

    /// Ends what runs; the next request starts it anew.
    pub(super) async fn unload(&self) {
        if let Ok(before) = self.load_again() {
            before.unload().await;
        }
    }

    /// Reads the configuration again for an application of its own; returns the one before.
    fn load_again(&self) -> Result<Arc<Application>, String> {
        let next = load(&self.host);
        std::mem::replace(&mut *self.current.lock(), next)
    }

    /// Looks after the files that the site depends on, for ever.
    pub(super) async fn watch(&self) {
        let mut last = self.stamps();
        loop {
            tokio::time::sleep(LOOK_AGAIN).await;
            let stamps = self.stamps();
            if stamps != last {
                self.reload().await;
                // The list of files may be another now.
                last = self.stamps();
            }
        }
    }

    fn stamps(&self) -> Stamps {
        let mut files = vec![config_file(&self.host)];
        if let Ok(application) = self.application() {
            let listed = application.config.recycle_on_file_change.iter();
            let expand = |path: &String| self.host.environment.expand(path);
            files.extend(listed.map(|path| path_in(&expand(path), &self.host.root)));
        }
        let stamp = |file: &PathBuf| {
            let known = fs::metadata(file).ok()?;
            Some((known.modified().ok()?, known.len()))
        };
        files.iter().map(stamp).collect()
    }
}

fn config_file(host: &Host) -> PathBuf {
    host.root.join("web.config")
}

fn load(host: &Arc<Host>) -> Result<Arc<Application>, String> {
    let file = config_file(host);
    let text = fs::read_to_string(&file).map_err(|error| format!("{}: {error}", file.display()))?;
    let config = WebConfig::parse(&text, host.module.schema).map_err(|error| error.to_string())?;
    Ok(Arc::new(Application::new(config, Arc::clone(host))))
}
