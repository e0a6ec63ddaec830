//! What becomes of users' Windows tokens (`--windows-auth`): the data plane finds them, the process
//! seam knows what they are.

use std::sync::{Arc, Mutex, PoisonError};

use http::HeaderValue;

use crate::data_plane::{UserToken, UserTokens};
use crate::process::access_token::{AccessToken, Recipient};
use crate::process::command::Roots;
use crate::release::Generation;
use crate::router::Upstream;

/// What to do with a user's token.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WindowsAuth {
    /// Nothing.
    Off,
    /// Close it.
    Close,
    /// Give it to the app.
    Forward,
}

/// How users' tokens are dealt with; `None` when they are left alone.
pub fn of(windows_auth: WindowsAuth, roots: Roots) -> Option<Arc<dyn UserTokens>> {
    match windows_auth {
        WindowsAuth::Off => None,
        WindowsAuth::Close => Some(Arc::new(Close)),
        WindowsAuth::Forward => Some(Arc::new(Give(Arc::new(Apps {
            roots,
            last: Mutex::default(),
        })))),
    }
}

#[derive(Debug)]
struct Close;

/// Gives tokens to the app that a request goes to: to the process that was started, as ever.
#[derive(Debug)]
struct Give(Arc<Apps>);

#[derive(Debug)]
struct Apps {
    roots: Roots,
    last: Mutex<Option<App>>,
}

/// The app that was to get a token last.
#[derive(Clone, Debug)]
struct App {
    generation: Generation,
    /// None where it could not be opened.
    process: Option<Arc<Recipient>>,
}

struct Closed {
    _token: AccessToken,
}

struct Given {
    token: AccessToken,
    apps: Arc<Apps>,
}

// === impl Close ===

impl UserTokens for Close {
    fn take(&self, value: &HeaderValue) -> Option<Box<dyn UserToken>> {
        let token = AccessToken::take(value.as_bytes())?;
        Some(Box::new(Closed { _token: token }))
    }
}

impl UserToken for Closed {
    fn for_app(&self, _: &Upstream) -> Option<HeaderValue> {
        None
    }
}

// === impl Give ===

impl UserTokens for Give {
    fn take(&self, value: &HeaderValue) -> Option<Box<dyn UserToken>> {
        let token = AccessToken::take(value.as_bytes())?;
        let apps = Arc::clone(&self.0);
        Some(Box::new(Given { token, apps }))
    }
}

impl UserToken for Given {
    fn for_app(&self, upstream: &Upstream) -> Option<HeaderValue> {
        let app = self.apps.app_of(upstream)?;
        match self.token.give_to(&app) {
            Ok(handle) => HeaderValue::try_from(handle).ok(),
            Err(error) => {
                let generation = upstream.generation;
                tracing::debug!(%generation, %error, "the app was not given a user's token");
                None
            }
        }
    }
}

// === impl Apps ===

impl Apps {
    /// The app's process, which is opened once.
    fn app_of(&self, upstream: &Upstream) -> Option<Arc<Recipient>> {
        let mut last = self.last.lock().unwrap_or_else(PoisonError::into_inner);
        let generation = upstream.generation;
        if let Some(app) = last.as_ref().filter(|app| app.generation == generation) {
            return app.process.clone();
        }
        let process = Recipient::open(self.roots.of(generation)?).inspect_err(|error| {
            tracing::warn!(%generation, %error, "the app cannot be given users' tokens");
        });
        let process = process.ok().map(Arc::new);
        *last = Some(App {
            generation,
            process: process.clone(),
        });
        process
    }
}
