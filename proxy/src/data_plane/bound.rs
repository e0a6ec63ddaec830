//! Connections to the app that belong to one client's connection.
//!
//! NTLM and Negotiate authenticate a connection: all requests on it are that user's (RFC 4559,
//! section 6). From the first field of such a login on, a connection to the app serves one client's
//! connection only, and ends with it.

use std::cell::RefCell;
use std::sync::Arc;
use std::time::Duration;

use http::StatusCode;

use super::clock::SWEEP_INTERVAL;
use super::headers::ConnectionLogin;
use super::pool::Connection;
use crate::release::Generation;
use crate::router::Upstream;

/// Maximum time between two steps of a login: clients take the next one without asking anybody.
const LOGIN_PAUSE: Duration = Duration::from_secs(5);

/// The owner of the connection that carries a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Binding {
    /// Nobody: the next request may be another client's.
    Shared,
    /// The client.
    Client,
    /// The client, who is to take the next step of a login.
    Login,
}

/// A client's place for a connection of its own, between two of its requests.
#[derive(Debug, Default)]
pub(super) struct BoundSlot(RefCell<Option<Box<BoundConnection>>>);

/// A connection that waits for the next request of its client.
#[derive(Debug)]
pub(super) struct BoundConnection {
    connection: Box<Connection>,
    generation: Generation,
    /// The instance of a login under way: the next step has to reach it also after a handoff.
    login: Option<Arc<Upstream>>,
    sweeps: u32,
}

// === impl Binding ===

impl Binding {
    /// Returns the binding after a response of this status with a field of such a login.
    pub(super) fn after_response(login: ConnectionLogin, status: StatusCode) -> Self {
        let is_refusal = matches!(
            status,
            StatusCode::UNAUTHORIZED | StatusCode::PROXY_AUTHENTICATION_REQUIRED
        );
        match login {
            ConnectionLogin::Step if is_refusal => Self::Login,
            ConnectionLogin::Step | ConnectionLogin::Named => Self::Client,
        }
    }
}

// === impl BoundSlot ===

impl BoundSlot {
    /// Keeps the connection for the client's next request.
    pub(super) fn keep(&self, connection: Box<Connection>, upstream: Arc<Upstream>, of: Binding) {
        if !connection.is_reusable() {
            return;
        }
        let mut connection = connection;
        connection.renew();
        self.0.replace(Some(Box::new(BoundConnection {
            connection,
            generation: upstream.generation,
            login: (of == Binding::Login).then_some(upstream),
            sweeps: 0,
        })));
    }

    /// Returns `true` if there is none.
    pub(super) fn is_empty(&self) -> bool {
        self.0.borrow().is_none()
    }

    /// Takes the connection for a request.
    pub(super) fn take(&self) -> Option<Box<BoundConnection>> {
        self.0.take()
    }

    /// Ends a connection that the app has ended, or whose login is not continued.
    pub(super) fn sweep(&self) {
        let mut slot = self.0.borrow_mut();
        if let Some(bound) = &mut *slot {
            bound.sweeps = bound.sweeps.saturating_add(1);
            let is_overdue = bound.login.is_some() && SWEEP_INTERVAL * bound.sweeps > LOGIN_PAUSE;
            if is_overdue || !bound.connection.stream.is_quiet_per_reactor() {
                *slot = None;
            }
        }
    }

    /// Ends a connection to this generation, unless a login is under way on it.
    pub(super) fn supersede(&self, generation: Generation) {
        self.end_if(|bound| bound.generation == generation && bound.login.is_none());
    }

    /// Ends a connection to this generation.
    pub(super) fn evict(&self, generation: Generation) {
        self.end_if(|bound| bound.generation == generation);
    }

    fn end_if(&self, is_to_end: impl Fn(&BoundConnection) -> bool) {
        // Dropped after the borrow has ended.
        let _ended = self.0.borrow_mut().take_if(|bound| is_to_end(bound));
    }
}

// === impl BoundConnection ===

impl BoundConnection {
    /// Takes the instance that the next request has to reach, if a login is under way.
    pub(super) fn take_login(&mut self) -> Option<Arc<Upstream>> {
        self.login.take()
    }

    /// Returns the connection if it leads to this upstream and is open.
    pub(super) fn into_connection(self, upstream: &Upstream) -> Option<Box<Connection>> {
        let is_usable = self.generation == upstream.generation && self.connection.stream.is_quiet();
        is_usable.then_some(self.connection)
    }
}
