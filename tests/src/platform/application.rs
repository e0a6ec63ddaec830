//! The site in one worker process: its server processes, taking turns.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::Duration;

use parking_lot::Mutex;
use tokio::sync::watch;

use super::event::Event;
use super::host::Host;
use super::rapid_fail::RapidFails;
use super::server_process::ServerProcess;
use super::web_config::WebConfig;

#[derive(Debug)]
pub(super) struct Application {
    pub(super) config: WebConfig,
    host: Arc<Host>,
    // Whoever starts a process holds its place; everybody else waits.
    places: Vec<tokio::sync::Mutex<Option<Arc<ServerProcess>>>>,
    turn: AtomicUsize,
    fails: Arc<Mutex<RapidFails>>,
    is_unloaded: AtomicBool,
    in_flight: watch::Sender<usize>,
}

/// Why there is no process for a request.
#[derive(Debug)]
pub(super) enum Refusal {
    /// Another application takes the request.
    Unloaded,
    /// Too many failures this minute.
    Disabled,
    /// The start, and each one after it, has failed.
    Failed(String),
}

/// A request that has not been answered to its end.
#[derive(Debug)]
pub(super) struct InFlight(Arc<Application>);

// === impl Application ===

impl Application {
    pub(super) fn new(config: WebConfig, host: Arc<Host>) -> Self {
        let places = (0..config.processes_per_application)
            .map(|_| tokio::sync::Mutex::default())
            .collect();
        Self {
            config,
            host,
            places,
            turn: AtomicUsize::new(0),
            fails: Arc::default(),
            is_unloaded: AtomicBool::new(false),
            in_flight: watch::Sender::new(0),
        }
    }

    pub(super) fn begin(self: Arc<Self>) -> InFlight {
        self.in_flight.send_modify(|count| *count += 1);
        InFlight(self)
    }

    pub(super) fn in_flight(&self) -> usize {
        *self.in_flight.borrow()
    }

    /// The process whose turn it is, started if need be: all requests wait meanwhile.
    pub(super) async fn process(&self) -> Result<Arc<ServerProcess>, Refusal> {
        let turn = self.turn.fetch_add(1, Ordering::Relaxed) % self.places.len();
        let mut place = self.places[turn].lock().await;
        if self.is_unloaded.load(Ordering::SeqCst) {
            return Err(Refusal::Unloaded);
        }
        match &*place {
            Some(process) if process.is_up() => Ok(Arc::clone(process)),
            _ => {
                *place = None;
                let process = self.start().await?;
                Ok(Arc::clone(place.insert(process)))
            }
        }
    }

    async fn start(&self) -> Result<Arc<ServerProcess>, Refusal> {
        let mut last = String::new();
        for _ in 0..=self.config.startup_retry_count {
            if self.is_disabled() {
                self.host.events.push(Event::Disabled);
                return Err(Refusal::Disabled);
            }
            if self.is_unloaded.load(Ordering::SeqCst) {
                return Err(Refusal::Unloaded);
            }
            match ServerProcess::start(&self.config, &self.host, &self.fails).await {
                Ok(process) => return Ok(process),
                Err(reason) => {
                    self.fails.lock().record(self.host.clock.now());
                    self.host.events.push(Event::StartFailed(reason.clone()));
                    last = reason;
                }
            }
        }
        Err(Refusal::Failed(last))
    }

    fn is_disabled(&self) -> bool {
        let limit = self.config.rapid_fails_per_minute;
        self.fails.lock().is_exceeded(self.host.clock.now(), limit)
    }

    /// Waits until nothing is in flight, but not longer; gives how many requests are left.
    pub(super) async fn finish(&self, limit: Duration) -> usize {
        let mut in_flight = self.in_flight.subscribe();
        tokio::select! {
            // The sender lives in `self`.
            _ = in_flight.wait_for(|count| *count == 0) => 0,
            () = self.host.clock.sleep(limit) => *self.in_flight.borrow(),
        }
    }

    /// Ends its processes, and never starts one again.
    pub(super) async fn unload(&self) {
        self.is_unloaded.store(true, Ordering::SeqCst);
        for place in &self.places {
            // A start is waited for: it may have its process already.
            if let Some(process) = place.lock().await.take() {
                process.stop().await;
            }
        }
    }
}

// === impl InFlight ===

impl InFlight {
    pub(super) fn application(&self) -> &Application {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.in_flight.send_modify(|count| *count -= 1);
    }
}
